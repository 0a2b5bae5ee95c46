//! The classifier over a model made for tests: what is computed, when, together with what, and what comes out.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::backend::{HeadOutputs, JudgedSpan, ModelBackend, ModelError, TokenizedText, WindowPair};
use super::*;
use signalbox_policy::{DeviceChoice, HubSpec, Precision, WindowSpec};

/// A model whose tokens are words; holds every forward until it is opened, and remembers them.
///
/// As a detector it finds each word unsupported that the first text of a pair does not hold.
///
/// Words that start with `m` are maths, the others are not; `attack` is an attack; `@…` is a person; `fail`,
/// `panic` and `nan` do what they say.
struct Words {
    answers: ClassifyHeads,
    at_once: usize,
    max_batch_tokens: usize,
    /// How many tokens fit into memory.
    memory: usize,
    /// How long each token takes.
    token_time: Duration,
    known: Mutex<Vec<String>>,
    forwards: Mutex<Vec<(Vec<usize>, ClassifyHeads)>>,
    entered: AtomicUsize,
    left: AtomicUsize,
    busiest: AtomicUsize,
    open: Mutex<bool>,
    opened: Condvar,
}

impl Words {
    fn new(answers: ClassifyHeads) -> Arc<Self> {
        Arc::new(Self {
            answers,
            at_once: usize::MAX,
            max_batch_tokens: usize::MAX,
            memory: usize::MAX,
            token_time: Duration::ZERO,
            known: Mutex::default(),
            forwards: Mutex::default(),
            entered: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
            busiest: AtomicUsize::new(0),
            open: Mutex::new(true),
            opened: Condvar::new(),
        })
    }

    fn shut(&self) {
        *self.open.lock().unwrap() = false;
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    async fn entered(&self, times: usize) {
        until(|| self.entered.load(Ordering::SeqCst) >= times).await;
    }

    /// The lengths of the windows of each forward so far.
    fn batches(&self) -> Vec<Vec<usize>> {
        self.forwards.lock().unwrap().iter().map(|(lengths, _)| lengths.clone()).collect()
    }

    fn answer(&self, window: &[u32], wanted: ClassifyHeads) -> Result<HeadOutputs, ModelError> {
        let words = self.known.lock().unwrap().clone();
        let words: Vec<&str> = window.iter().map(|id| words[*id as usize].as_str()).collect();
        assert!(!words.contains(&"panic"), "as asked");
        if words.contains(&"fail") {
            return Err("as asked".into());
        }
        let maths = words.iter().filter(|word| word.starts_with('m')).count() as f32 / words.len() as f32;
        let maths = if words.contains(&"nan") { f32::NAN } else { maths };
        let risk = match words.iter().position(|word| *word == "attack") {
            Some(at) => JudgedSpan { score: 0.95, tokens: at..words.len() },
            None => JudgedSpan { score: 0.05, tokens: 0..words.len() },
        };
        let person = |word: &&str| (u16::from(word.starts_with('@')), 0.9);
        Ok(HeadOutputs {
            domain: wanted.domain.then(|| vec![maths, 1.0 - maths]),
            jailbreak: wanted.jailbreak.then_some(risk),
            pii: wanted.pii.then(|| words.iter().map(person).collect()),
            embedding: wanted.embedding.then(|| vec![3.0 * maths, 4.0 * maths]),
            hallucination: None,
        })
    }
}

impl ModelBackend for Words {
    fn heads(&self) -> ClassifyHeads {
        self.answers
    }

    fn labels(&self, head: ClassifyHead) -> Vec<Arc<str>> {
        let labels: &[&str] = match head {
            ClassifyHead::Domain => &["maths", "other"],
            ClassifyHead::Pii => &["O", "B-PERSON"],
            ClassifyHead::Jailbreak | ClassifyHead::Embedding | ClassifyHead::Hallucination => &[],
        };
        labels.iter().copied().map(Arc::from).collect()
    }

    fn threshold(&self, _: ClassifyHead) -> f32 {
        0.5
    }

    fn max_input_tokens(&self) -> usize {
        64
    }

    fn max_concurrent_forwards(&self) -> usize {
        self.at_once
    }

    fn max_batch_tokens(&self) -> usize {
        self.max_batch_tokens
    }

    fn tokenize(&self, text: &str) -> Result<TokenizedText, ModelError> {
        assert!(!text.contains("unreadable"), "as asked");
        let mut words = self.known.lock().unwrap();
        let mut tokens = TokenizedText::default();
        for word in text.split_whitespace() {
            let start = word.as_ptr() as usize - text.as_ptr() as usize;
            let known = words.iter().position(|known| known == word);
            tokens.ids.push(known.unwrap_or(words.len()) as u32);
            if known.is_none() {
                words.push(word.to_owned());
            }
            tokens.bytes.push(start..start + word.len());
        }
        Ok(tokens)
    }

    fn run(&self, windows: &[&[u32]], wanted: ClassifyHeads) -> Result<Vec<HeadOutputs>, ModelError> {
        let lengths = windows.iter().map(|window| window.len()).collect();
        self.forwards.lock().unwrap().push((lengths, wanted));
        let entered = self.entered.fetch_add(1, Ordering::SeqCst) + 1;
        self.busiest.fetch_max(entered - self.left.load(Ordering::SeqCst), Ordering::SeqCst);
        drop(self.opened.wait_while(self.open.lock().unwrap(), |open| !*open).unwrap());
        self.left.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(self.token_time * windows.iter().map(|window| window.len() as u32).sum::<u32>());
        if windows.iter().map(|window| window.len()).sum::<usize>() > self.memory {
            return Err("out of memory".into());
        }
        windows.iter().map(|window| self.answer(window, wanted)).collect()
    }

    fn run_pairs(&self, pairs: &[WindowPair<'_>]) -> Result<Vec<HeadOutputs>, ModelError> {
        let windows: Vec<&[u32]> = pairs.iter().map(|pair| pair.second).collect();
        let mut answers = self.run(&windows, ClassifyHeads::NONE)?;
        for (answer, pair) in answers.iter_mut().zip(pairs) {
            assert!(pair.first.len() + pair.second.len() <= self.max_input_tokens());
            let judge = |id: &u32| if pair.first.contains(id) { 0.1 } else { 0.9 };
            answer.hallucination = Some(pair.second.iter().map(judge).collect());
        }
        Ok(answers)
    }
}

async fn until(met: impl Fn() -> bool) {
    let limit = soon();
    while !met() {
        assert!(Instant::now() < limit, "waited in vain");
        tokio::task::yield_now().await;
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn in_a_moment() -> Instant {
    Instant::now() + Duration::from_millis(30)
}

fn spec() -> ClassifierSpec {
    ClassifierSpec {
        threads: 1,
        queue: 8,
        windows: WindowSpec { window: 8, overlap: 2, ..WindowSpec::default() },
        ..ClassifierSpec::default()
    }
}

fn start(spec: &ClassifierSpec, models: &[&Arc<Words>]) -> Arc<Classifier> {
    let models = models.iter().map(|model| Arc::clone(model) as Arc<dyn ModelBackend>).collect();
    Arc::new(Classifier::start(spec, models, Vec::new()).unwrap())
}

fn one(spec: &ClassifierSpec) -> (Arc<Words>, Arc<Classifier>) {
    let model = Words::new(ClassifyHeads::ALL);
    let classifier = start(spec, &[&model]);
    (model, classifier)
}

fn ask(
    classifier: &Arc<Classifier>,
    text: &str,
    heads: ClassifyHeads,
    deadline: Instant,
) -> tokio::task::JoinHandle<Findings> {
    let (classifier, text) = (Arc::clone(classifier), text.to_owned());
    tokio::spawn(async move { classifier.classify(&text, heads, deadline).await })
}

/// So many different words.
fn words(from: usize, count: usize) -> String {
    (from..from + count).map(|at| format!("word{at}")).collect::<Vec<_>>().join(" ")
}

async fn domain(classifier: &Classifier, text: &str, deadline: Instant) -> Result<Label, Unknown> {
    classifier.classify(text, ClassifyHeads::DOMAIN, deadline).await.domain.unwrap()
}

fn name(found: &Findings) -> Result<&str, Unknown> {
    found.domain.as_ref().unwrap().as_ref().map(|label| &*label.name).map_err(|reason| *reason)
}

const JAILBREAK: ClassifyHeads = ClassifyHeads { jailbreak: true, ..ClassifyHeads::NONE };
const PII: ClassifyHeads = ClassifyHeads { pii: true, ..ClassifyHeads::NONE };

#[tokio::test]
async fn one_forward_computes_every_head() {
    let (model, classifier) = one(&spec());
    let found = classifier.classify(" m1 m2 über @ada m4", ClassifyHeads::ALL, soon()).await;
    let label = found.domain.as_ref().unwrap().as_ref().unwrap();
    assert_eq!((&*label.name, label.confidence, label.coverage), ("maths", 0.6, 1.0));
    assert_eq!(*label.probabilities, [0.6, 1.0 - 0.6]);
    let risk = found.jailbreak.as_ref().unwrap().as_ref().unwrap();
    assert_eq!((risk.score, risk.is_jailbreak(), risk.at.clone()), (0.05, false, 1..20));
    let entities = &found.pii.as_ref().unwrap().entities;
    assert_eq!((&*entities[0].kind, entities[0].bytes.clone()), ("PERSON", 13..17));
    assert_eq!((entities.len(), entities[0].chars.clone()), (1, 12..16));
    let embedding = found.embedding.as_ref().unwrap().as_ref().unwrap();
    assert!((embedding[0] - 0.6).abs() < 1e-6 && (embedding[1] - 0.8).abs() < 1e-6, "{embedding:?}");
    assert_eq!((found.cost.tokens, found.cost.windows, found.cost.cached, found.cost.batch), (5, 1, 0, 1));
    assert_eq!(*model.forwards.lock().unwrap(), [(vec![5], ClassifyHeads::ALL)]);
}

#[tokio::test]
async fn what_is_not_wanted_is_not_computed() {
    let (model, classifier) = one(&spec());
    let found = classifier.classify("m1", PII, soon()).await;
    assert_eq!((found.domain, found.jailbreak, found.embedding), (None, None, None));
    assert_eq!(model.forwards.lock().unwrap()[0].1, PII);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let (model, classifier) = one(&ClassifierSpec { queue: 1, ..spec() });
    model.shut();
    let first = ask(&classifier, "m1", ClassifyHeads::DOMAIN, soon());
    model.entered(1).await;
    let second = ask(&classifier, "o2", ClassifyHeads::DOMAIN, soon());
    until(|| classifier.queued() == 1).await;
    let refused = classifier.classify("o3", ClassifyHeads::ALL, soon()).await;
    assert_eq!(refused.unknowns().map(|(_, reason)| reason).collect::<Vec<_>>(), [Unknown::Busy; 4]);
    model.open();
    assert_eq!(name(&first.await.unwrap()), Ok("maths"));
    assert_eq!(name(&second.await.unwrap()), Ok("other"));
}

#[tokio::test]
async fn a_text_no_caller_waits_for_is_never_computed() {
    let (model, classifier) = one(&spec());
    model.shut();
    let first = ask(&classifier, "m1", ClassifyHeads::DOMAIN, soon());
    model.entered(1).await;
    let left = ask(&classifier, &words(0, 60), ClassifyHeads::ALL, soon());
    let last = ask(&classifier, "o3", ClassifyHeads::DOMAIN, soon());
    until(|| classifier.queued() == 2).await;
    left.abort();
    assert!(left.await.unwrap_err().is_cancelled());
    assert_eq!(classifier.queued(), 1, "it left the queue as it left");
    model.open();
    assert_eq!(name(&first.await.unwrap()), Ok("maths"));
    assert_eq!(name(&last.await.unwrap()), Ok("other"));
    assert_eq!(model.batches(), [[1], [1]]);
}

#[tokio::test]
async fn a_passed_deadline_is_late_whether_queued_or_computing() {
    let (model, classifier) = one(&spec());
    model.shut();
    let deadline = in_a_moment();
    let computing = ask(&classifier, "m1", ClassifyHeads::DOMAIN, deadline);
    model.entered(1).await;
    assert_eq!(domain(&classifier, "m2", deadline).await.err(), Some(Unknown::Late));
    assert_eq!(name(&computing.await.unwrap()), Err(Unknown::Late));
    assert_eq!(classifier.queued(), 0);
    model.open();
    assert!(domain(&classifier, "m3", soon()).await.is_ok());
    assert_eq!(model.batches(), [[1], [1]], "what was late was not computed");
}

#[tokio::test]
async fn texts_that_come_while_all_threads_are_busy_share_a_forward() {
    let (model, classifier) = one(&ClassifierSpec { queue: 64, ..spec() });
    model.shut();
    let first = ask(&classifier, "m0", ClassifyHeads::DOMAIN, soon());
    model.entered(1).await;
    let others: Vec<_> = (0..32)
        .map(|at| {
            let heads = if at % 2 == 0 { ClassifyHeads::DOMAIN } else { JAILBREAK };
            ask(&classifier, &format!("m{at} x{at}"), heads, soon())
        })
        .collect();
    until(|| classifier.queued() == 32).await;
    model.open();
    assert_eq!(first.await.unwrap().cost.batch, 1);
    for other in others {
        assert_eq!(other.await.unwrap().cost.batch, 32);
    }
    let forwards = model.forwards.lock().unwrap().clone();
    assert_eq!(forwards.len(), 2);
    assert_eq!(forwards[1], (vec![2; 32], ClassifyHeads { domain: true, ..JAILBREAK }));
    let sum = classifier.forwards();
    assert_eq!((sum.count, sum.windows, sum.tokens, sum.failed), (2, 33, 65, 0));
}

#[tokio::test]
async fn several_texts_at_once_are_answered_in_their_order() {
    let (model, classifier) = one(&spec());
    let texts: Vec<String> = ["m1", "", "o2", "m3", "fail", "o5"].map(str::to_owned).to_vec();
    let found = classifier.classify_all(&texts, ClassifyHeads::DOMAIN, soon()).await;
    let names: Vec<_> = found.iter().map(name).collect();
    let failed = Err(Unknown::Failed);
    assert_eq!(names, [Ok("maths"), Err(Unknown::Empty), Ok("other"), Ok("maths"), failed, Ok("other")]);
    assert!(model.batches().iter().any(|batch| batch.len() > 1));
}

#[tokio::test]
async fn more_texts_than_the_queue_takes_are_answered_all_the_same() {
    let (_, classifier) = one(&ClassifierSpec { queue: 4, ..spec() });
    let texts: Vec<String> = (0..33).map(|at| format!("m{at}")).collect();
    let found = classifier.classify_all(&texts, ClassifyHeads::DOMAIN, soon()).await;
    assert_eq!(found.len(), 33);
    assert!(found.iter().all(|found| name(found) == Ok("maths")));
}

#[tokio::test]
async fn a_fault_stays_with_the_text_that_has_it() {
    for fault in ["panic", "fail", "nan", "unreadable"] {
        let (model, classifier) = one(&spec());
        model.shut();
        let first = ask(&classifier, "m0", ClassifyHeads::DOMAIN, soon());
        model.entered(1).await;
        let bad = ask(&classifier, fault, ClassifyHeads::DOMAIN, soon());
        let good = ask(&classifier, "m1", ClassifyHeads::DOMAIN, soon());
        until(|| classifier.queued() == 2).await;
        model.open();
        assert_eq!(name(&first.await.unwrap()), Ok("maths"), "{fault}");
        assert_eq!(name(&bad.await.unwrap()), Err(Unknown::Failed), "{fault}");
        assert_eq!(name(&good.await.unwrap()), Ok("maths"), "{fault}");
    }
}

#[tokio::test]
async fn dropping_the_classifier_ends_its_threads() {
    let (model, classifier) = one(&ClassifierSpec { threads: 3, ..spec() });
    drop(classifier);
    until(|| Arc::strong_count(&model) == 1).await;
}

#[tokio::test]
async fn white_space_is_empty_and_a_head_without_a_model_is_unsupported() {
    let model = Words::new(ClassifyHeads::DOMAIN);
    let classifier = start(&spec(), &[&model]);
    assert_eq!(domain(&classifier, " \n\t", soon()).await.err(), Some(Unknown::Empty));
    let found = classifier.classify("m1", ClassifyHeads::ALL, soon()).await;
    assert_eq!(name(&found), Ok("maths"));
    let unknowns: Vec<_> = found.unknowns().collect();
    assert_eq!(
        unknowns,
        [ClassifyHead::Jailbreak, ClassifyHead::Pii, ClassifyHead::Embedding]
            .map(|q| (q, Unknown::Unsupported))
    );
    let found = classifier.classify("m1", PII, soon()).await;
    assert_eq!(found.pii.unwrap().unknown, Some(Unknown::Unsupported));
}

#[tokio::test]
async fn heads_of_several_models_are_computed_side_by_side() {
    let about = Words::new(ClassifyHeads { domain: true, embedding: true, ..ClassifyHeads::NONE });
    let guard = Words::new(ClassifyHeads { jailbreak: true, pii: true, ..ClassifyHeads::NONE });
    let classifier = start(&ClassifierSpec { threads: 2, ..spec() }, &[&about, &guard]);
    about.shut();
    guard.shut();
    let asked = ask(&classifier, "m1 attack", ClassifyHeads::ALL, soon());
    about.entered(1).await;
    guard.entered(1).await;
    about.open();
    guard.open();
    let found = asked.await.unwrap();
    assert_eq!(found.unknowns().count(), 0);
    assert!(found.jailbreak.unwrap().unwrap().is_jailbreak());
    assert_eq!(found.cost.windows, 2);
}

#[tokio::test]
async fn all_of_a_long_text_is_read_and_its_worst_part_counts() {
    let (model, classifier) = one(&ClassifierSpec { batch_tokens: 1, ..spec() });
    let text = format!("{} attack now", words(0, 40));
    let found = classifier.classify(&text, ClassifyHeads::ALL, soon()).await;
    let risk = found.jailbreak.unwrap().unwrap();
    assert!(risk.is_jailbreak());
    assert_eq!(&text[risk.at], "attack now");
    assert_eq!(
        (found.domain.unwrap().unwrap().coverage, found.cost.tokens, found.cost.windows),
        (1.0, 42, 7)
    );
    assert_eq!(model.batches(), [[8], [6], [8], [8], [8], [8], [8]], "the first, the last, then the rest");
}

#[tokio::test]
async fn an_entity_where_windows_overlap_is_found_once() {
    let (_, classifier) = one(&spec());
    let text = "ö ".repeat(7) + "@ada " + &words(0, 20) + " @bob";
    let found = classifier.classify(&text, PII, soon()).await.pii.unwrap().complete().unwrap();
    let spans: Vec<&str> = found.iter().map(|entity| &text[entity.bytes.clone()]).collect();
    assert_eq!(spans, ["@ada", "@bob"]);
    assert_eq!((found[0].bytes.clone(), found[0].chars.clone()), (21..25, 14..18));
}

#[tokio::test]
async fn a_follow_up_turn_computes_only_new_windows() {
    let (model, classifier) = one(&spec());
    let first = words(0, 50);
    let found = classifier.classify(&first, ClassifyHeads::ALL, soon()).await;
    assert_eq!((found.cost.windows, found.cost.cached), (8, 0));
    let before: usize = model.batches().iter().map(Vec::len).sum();
    let second = format!("{first} {}", words(100, 12));
    let found = classifier.classify(&second, ClassifyHeads::ALL, soon()).await;
    assert_eq!((found.cost.windows, found.cost.cached), (10, 8));
    let after: usize = model.batches().iter().map(Vec::len).sum();
    assert_eq!((before, after), (8, 10));
    assert_eq!((found.domain.unwrap().unwrap().coverage, found.cost.tokens), (1.0, 62));
    let again = classifier.classify(&second, ClassifyHeads::ALL, soon()).await;
    assert_eq!((again.cost.cached, again.cost.compute, again.cost.batch), (10, Duration::ZERO, 0));
}

#[tokio::test]
async fn another_question_about_a_known_text_computes_only_that() {
    let (model, classifier) = one(&spec());
    classifier.classify("m1 m2", ClassifyHeads::DOMAIN, soon()).await;
    let found = classifier.classify("m1 m2", ClassifyHeads { domain: true, ..JAILBREAK }, soon()).await;
    assert_eq!(name(&found), Ok("maths"));
    assert!(found.jailbreak.unwrap().is_ok());
    let wanted: Vec<ClassifyHeads> =
        model.forwards.lock().unwrap().iter().map(|(_, wanted)| *wanted).collect();
    assert_eq!(wanted, [ClassifyHeads::DOMAIN, JAILBREAK]);
    assert_eq!(found.cost.cached, 0);
}

#[tokio::test]
async fn no_more_windows_are_kept_than_the_cache_takes() {
    let (model, classifier) = one(&ClassifierSpec { cache: 2, ..spec() });
    for text in ["m1", "m2", "m3", "m1"] {
        domain(&classifier, text, soon()).await.unwrap();
    }
    assert_eq!(model.batches().len(), 4);
    domain(&classifier, "m3", soon()).await.unwrap();
    assert_eq!(model.batches().len(), 4);
}

/// Asks about a text of three windows, of which the first is computed and the rest is late.
async fn after_one_window(text: &str, heads: ClassifyHeads) -> Findings {
    let (model, classifier) = one(&ClassifierSpec { batch_tokens: 1, ..spec() });
    let deadline = Instant::now() + Duration::from_millis(300);
    // The first window's answer comes from the cache.
    let first: Vec<&str> = text.split_whitespace().take(8).collect();
    classifier.classify(&first.join(" "), heads, soon()).await;
    model.shut();
    let found = classifier.classify(text, heads, deadline).await;
    model.open();
    found
}

#[tokio::test]
async fn at_the_deadline_a_domain_is_judged_from_what_was_read_and_guards_are_late() {
    let text = format!("m1 m2 m3 m4 m5 m6 m7 x8 {}", words(0, 12));
    let found = after_one_window(&text, ClassifyHeads::ALL).await;
    let label = found.domain.unwrap().unwrap();
    assert_eq!((&*label.name, label.confidence, label.coverage), ("maths", 0.875, 0.4));
    assert_eq!(found.jailbreak, Some(Err(Unknown::Late)));
    assert_eq!(found.pii.unwrap().complete(), Err(Unknown::Late));
    assert_eq!(found.embedding, Some(Err(Unknown::Late)));
}

#[tokio::test]
async fn an_attack_found_in_time_is_an_answer_whatever_the_rest_says() {
    let text = format!("attack m2 m3 m4 m5 m6 m7 x8 {}", words(0, 12));
    let found = after_one_window(&text, ClassifyHeads { domain: true, ..JAILBREAK }).await;
    assert!(found.jailbreak.unwrap().unwrap().is_jailbreak());
}

#[tokio::test]
async fn what_is_longer_than_is_read_is_too_long_for_guards_alone() {
    let (_, classifier) = one(&ClassifierSpec {
        windows: WindowSpec { max_tokens: 24, domain_tokens: 24, ..spec().windows },
        ..spec()
    });
    let text = format!("{} m {}", words(0, 40), "m ".repeat(20));
    let found = classifier.classify(&text, ClassifyHeads::ALL, soon()).await;
    let label = found.domain.unwrap().unwrap();
    assert!(label.coverage < 0.5 && label.probabilities[0] > 0.3, "{label:?}");
    assert!(found.embedding.unwrap().is_ok());
    assert_eq!(found.jailbreak, Some(Err(Unknown::TooLong)));
    assert_eq!(found.pii.unwrap().complete(), Err(Unknown::TooLong));
    let text = format!("{} attack", words(0, 100));
    let found = classifier.classify(&text, JAILBREAK, soon()).await;
    assert!(found.jailbreak.unwrap().unwrap().is_jailbreak());
}

#[tokio::test]
async fn what_is_written_in_signs_that_the_model_lacks_is_unreadable_but_searched() {
    let classifier = Classifier::load(&ClassifierSpec::default()).unwrap();
    for text in ["ช่วยเขียนฟังก์ชันที่เรียงลำดับรายการตัวเลขให้หน่อย", "ဤစာကို ဘာသာပြန်ပေးပါ ကျေးဇူးပြုပြီး ah ok"]
    {
        let text = format!("{text} jo@example.org");
        let found = classifier.classify(&text, ClassifyHeads::ALL, soon()).await;
        assert_eq!(found.domain.unwrap().err(), Some(Unknown::Unreadable), "{text}");
        assert_eq!(found.jailbreak, Some(Err(Unknown::Unreadable)));
        assert_eq!(found.embedding.unwrap().err(), Some(Unknown::Unreadable));
        let pii = found.pii.unwrap();
        assert_eq!((&*pii.entities[0].kind, pii.unknown), ("EMAIL_ADDRESS", Some(Unknown::Unreadable)));
    }
    for text in [
        "👍",
        "Translate ขอบคุณ into English, and tell me how it is said by a woman",
        "Erkläre mir den Blutkreislauf",
    ] {
        let found = classifier.classify(text, ClassifyHeads::ALL, soon()).await;
        assert!(found.domain.unwrap().is_ok(), "{text}");
    }
}

#[tokio::test]
async fn the_middle_of_a_very_long_text_is_not_even_cut_into_tokens() {
    let (model, classifier) = one(&ClassifierSpec {
        windows: WindowSpec { max_tokens: 24, domain_tokens: 24, ..spec().windows },
        ..spec()
    });
    let text = format!("m1 {} m2", "x ".repeat(100_000));
    let found = classifier.classify(&text, ClassifyHeads::DOMAIN, soon()).await;
    let label = found.domain.unwrap().unwrap();
    assert!(label.coverage < 0.001, "{label:?}");
    assert!(label.probabilities[0] > 0.05, "both ends were read: {label:?}");
    assert!(model.batches().iter().flatten().sum::<usize>() < 48);
}

#[tokio::test]
async fn a_domain_is_judged_from_both_ends() {
    let (model, classifier) =
        one(&ClassifierSpec { windows: WindowSpec { domain_tokens: 16, ..spec().windows }, ..spec() });
    let text = format!("{} m1 m2 m3 m4 m5 m6 m7 m8", words(0, 192));
    let label = domain(&classifier, &text, soon()).await.unwrap();
    assert!(label.probabilities[0] > 0.3, "{label:?}");
    assert_eq!((label.coverage, model.batches().concat()), (14.0 / 200.0, vec![8, 8]));
}

#[tokio::test]
async fn threads_with_nothing_to_do_take_their_share() {
    let (model, classifier) = one(&ClassifierSpec { threads: 8, ..spec() });
    // The second thread may still be starting, or be busy with the text before.
    let limit = soon();
    for at in 0.. {
        let found = classifier.classify(&words(at * 100, 50), ClassifyHeads::DOMAIN, soon()).await;
        assert_eq!(found.cost.windows, 8);
        if model.batches().iter().any(|batch| batch.len() == 4) {
            break;
        }
        assert!(Instant::now() < limit, "{:?}", model.batches());
    }
}

/// Asks for 16 texts of 2 tokens while a first one holds up a model.
async fn sixteen_together(model: Words) -> (Arc<Words>, Arc<Classifier>, Vec<Result<String, Unknown>>) {
    let model = Arc::new(model);
    let classifier = start(&ClassifierSpec { queue: 64, ..spec() }, &[&model]);
    model.shut();
    let first = ask(&classifier, "m0", ClassifyHeads::DOMAIN, soon());
    model.entered(1).await;
    let ask = |at| ask(&classifier, &format!("m{at} m"), ClassifyHeads::DOMAIN, soon());
    let asked: Vec<_> = (1..=16).map(ask).collect();
    until(|| classifier.queued() == 16).await;
    model.open();
    let mut found = Vec::new();
    for asked in std::iter::once(first).chain(asked) {
        found.push(name(&asked.await.unwrap()).map(str::to_owned));
    }
    (model, classifier, found)
}

#[tokio::test]
async fn a_model_on_a_gpu_computes_no_more_tokens_together_than_fit() {
    let words = Arc::into_inner(Words::new(ClassifyHeads::ALL)).unwrap();
    let (model, _, found) = sixteen_together(Words { at_once: 2, max_batch_tokens: 8, ..words }).await;
    assert!(found.iter().all(|name| name.as_deref() == Ok("maths")), "{found:?}");
    assert_eq!(model.batches(), [vec![1], vec![2; 4], vec![2; 4], vec![2; 4], vec![2; 4]]);
}

#[tokio::test]
async fn what_does_not_fit_into_memory_together_is_computed_alone_or_failed_and_what_follows_is_not_harmed() {
    let words = || Arc::into_inner(Words::new(ClassifyHeads::ALL)).unwrap();
    let (model, _, found) = sixteen_together(Words { at_once: 2, memory: 2, ..words() }).await;
    assert!(found.iter().all(|name| name.as_deref() == Ok("maths")), "{found:?}");
    assert_eq!(model.batches()[1..3], [vec![2; 16], vec![2]]);
    let (_, classifier, found) = sixteen_together(Words { at_once: 2, memory: 1, ..words() }).await;
    assert_eq!(found[0].as_deref(), Ok("maths"));
    assert_eq!(found[1..], vec![Err(Unknown::Failed); 16]);
    assert_eq!(name(&classifier.classify("m17", ClassifyHeads::DOMAIN, soon()).await), Ok("maths"));
}

#[tokio::test]
async fn a_model_on_a_gpu_computes_no_more_forwards_at_once_than_it_likes() {
    let model = Arc::new(Words { at_once: 2, ..Arc::into_inner(Words::new(ClassifyHeads::ALL)).unwrap() });
    let classifier = start(&ClassifierSpec { threads: 16, queue: 64, ..spec() }, &[&model]);
    model.shut();
    let mut asked = Vec::new();
    for at in 0..2 {
        asked.push(ask(&classifier, &format!("m{at}"), ClassifyHeads::DOMAIN, soon()));
        model.entered(at + 1).await;
    }
    asked.extend((2..20).map(|at| ask(&classifier, &format!("m{at}"), ClassifyHeads::DOMAIN, soon())));
    until(|| classifier.queued() >= 6).await;
    model.open();
    for asked in asked {
        assert_eq!(name(&asked.await.unwrap()), Ok("maths"));
    }
    assert_eq!(model.busiest.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_left_behind_by_clients_that_come_go_and_are_late() {
    let (model, classifier) =
        one(&ClassifierSpec { threads: 6, queue: 16, batch_tokens: 24, cache: 8, ..spec() });
    let client = |at: u64| {
        let last = ["fail", "m", "panic", "attack"][at as usize % 4];
        let text = format!("m{at} {} {last}", words(0, (at * 7 % 50) as usize));
        let deadline = Instant::now() + Duration::from_millis(at % 23);
        let asked = ask(&classifier, &text, ClassifyHeads::ALL, deadline);
        tokio::spawn(async move {
            if at.is_multiple_of(5) {
                tokio::time::sleep(Duration::from_millis(at % 7)).await;
                asked.abort();
            }
            asked.await.ok()
        })
    };
    let clients: Vec<_> = (0..400).map(client).collect();
    for client in clients {
        if let Some(found) = client.await.unwrap() {
            let reasons = [Unknown::Busy, Unknown::Late, Unknown::Failed];
            assert!(found.unknowns().all(|(_, reason)| reasons.contains(&reason)), "{found:?}");
        }
    }
    assert_eq!(classifier.queued(), 0);
    let found = classifier.classify("m1 m2", ClassifyHeads::ALL, soon()).await;
    assert_eq!(found.unknowns().count(), 0);
    drop(classifier);
    until(|| Arc::strong_count(&model) == 1).await;
}

/// A model on which a text of eight tokens takes two milliseconds, so that 500 of them are computed in a second.
fn slow() -> (Arc<Words>, Arc<Classifier>) {
    let words = Arc::into_inner(Words::new(ClassifyHeads::ALL)).unwrap();
    let model = Arc::new(Words { token_time: Duration::from_micros(250), ..words });
    let classifier = start(&ClassifierSpec { queue: 256, cache: 0, ..spec() }, &[&model]);
    (model, classifier)
}

/// How long a text of a flood is waited for.
const PATIENCE: Duration = Duration::from_millis(80);

/// Asks for one text of so many tokens each `interval` for a while; returns how many were asked for and how many answered.
async fn flood(
    classifier: &Arc<Classifier>,
    tokens: usize,
    priority: Priority,
    interval: Duration,
    patience: Duration,
) -> (usize, usize) {
    let began = Instant::now();
    let mut asked = tokio::task::JoinSet::new();
    while began.elapsed() < Duration::from_millis(800) {
        while began.elapsed() >= interval * asked.len() as u32 {
            let classifier = Arc::clone(classifier);
            let text = words(asked.len() % 50, tokens);
            asked.spawn(async move {
                let limits = ClassifyLimits { deadline: Instant::now() + patience, priority };
                classifier.classify(&text, JAILBREAK, limits).await.outcome() == "ok"
            });
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let answers = asked.join_all().await;
    (answers.len(), answers.into_iter().filter(|is_answered| *is_answered).count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn above_its_capacity_a_classifier_answers_as_many_texts_as_it_can_compute() {
    for priority in [Priority::BestEffort, Priority::Required] {
        for factor in [2, 10] {
            let (_, classifier) = slow();
            let began = Instant::now();
            let (asked, answered) =
                flood(&classifier, 8, priority, Duration::from_micros(2000) / factor, PATIENCE).await;
            let sum = classifier.forwards();
            // What one thread computes in that time, by what its forwards took.
            let capacity = began.elapsed().as_secs_f64() * sum.windows as f64 / sum.time.as_secs_f64();
            assert!(
                answered as f64 >= 0.9 * capacity,
                "{answered} of {asked} at {factor} ×, {capacity} can be"
            );
            assert_eq!(classifier.queued(), 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_guard_asks_is_not_pushed_out_by_any_flood_of_other_texts() {
    for tokens in [8, 160] {
        let (_, classifier) = slow();
        let fourth = Duration::from_millis(8);
        let (others, guards) = tokio::join!(
            flood(&classifier, tokens, Priority::BestEffort, Duration::from_micros(300), PATIENCE),
            flood(&classifier, 8, Priority::Required, fourth, 5 * PATIENCE),
        );
        assert!(guards.1 * 10 >= guards.0 * 9, "{guards:?} beside {others:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_texts_do_not_push_out_the_short_ones_of_other_guards() {
    let (_, classifier) = slow();
    let (long, short) = tokio::join!(
        flood(&classifier, 160, Priority::Required, Duration::from_millis(4), 5 * PATIENCE),
        flood(&classifier, 8, Priority::Required, Duration::from_millis(8), 5 * PATIENCE),
    );
    assert!(short.1 * 10 >= short.0 * 9, "{short:?} beside {long:?}");
}

#[tokio::test]
async fn what_would_be_late_is_refused_at_once() {
    let (model, classifier) = slow();
    assert!(domain(&classifier, &words(0, 8), soon()).await.is_ok());
    model.shut();
    let first = ask(&classifier, &words(0, 8), ClassifyHeads::DOMAIN, soon());
    model.entered(2).await;
    let waiting: Vec<_> =
        (0..20).map(|at| ask(&classifier, &words(at, 40), ClassifyHeads::DOMAIN, soon())).collect();
    until(|| classifier.queued() == 20).await;
    assert_eq!(domain(&classifier, &words(9, 40), in_a_moment()).await.err(), Some(Unknown::Busy));
    model.open();
    assert!(name(&first.await.unwrap()).is_ok());
    for waiting in waiting {
        assert!(name(&waiting.await.unwrap()).is_ok());
    }
}

#[tokio::test]
async fn a_text_that_was_computed_before_is_not_refused_for_what_it_took_then() {
    let words_model = Arc::into_inner(Words::new(ClassifyHeads::ALL)).unwrap();
    let model = Arc::new(Words { token_time: Duration::from_micros(250), ..words_model });
    let classifier = start(&ClassifierSpec { cache: 4096, ..spec() }, &[&model]);
    let long = words(0, 1600);
    let required = |patience: Duration| ClassifyLimits {
        deadline: Instant::now() + patience,
        priority: Priority::Required,
    };
    let outcome = |found: Findings| found.jailbreak.unwrap().map(|_| ());
    let found = classifier.classify(&long, JAILBREAK, required(Duration::from_secs(20))).await;
    assert_eq!(outcome(found), Ok(()));
    model.shut();
    let entered = model.entered.load(Ordering::SeqCst);
    let first = ask(&classifier, "another", ClassifyHeads::DOMAIN, soon());
    model.entered(entered + 1).await;
    // Far less than it took, and something waits already.
    let patience = Duration::from_millis(200);
    let other = words(5000, 1600);
    assert_eq!(outcome(classifier.classify(&other, JAILBREAK, required(patience)).await), Err(Unknown::Busy));
    let asked = {
        let classifier = Arc::clone(&classifier);
        tokio::spawn(async move { classifier.classify(&long, JAILBREAK, required(patience)).await })
    };
    until(|| classifier.queued() == 1).await;
    model.open();
    assert_eq!(outcome(asked.await.unwrap()), Ok(()));
    assert!(name(&first.await.unwrap()).is_ok());
}

#[tokio::test]
async fn what_patterns_recognise_is_found_whatever_the_model_answers() {
    let text = "m1 ada@example.org 4111 1111 1111 1111";
    let kinds = |found: &Findings| -> Vec<String> {
        let pii = found.pii.as_ref().unwrap();
        pii.entities.iter().map(|entity| entity.kind.to_string()).collect()
    };
    let wanted = ["EMAIL_ADDRESS", "CREDIT_CARD"];
    let (model, classifier) = one(&ClassifierSpec { queue: 1, ..spec() });
    for (prefix, reason) in
        [("", None), ("fail ", Some(Unknown::Failed)), ("unreadable ", Some(Unknown::Failed))]
    {
        let found = classifier.classify(&format!("{prefix}{text}"), PII, soon()).await;
        assert_eq!((kinds(&found), found.pii.unwrap().unknown), (wanted.map(str::to_owned).to_vec(), reason));
    }
    let long = format!("{}{text}", words(0, 10_000));
    let found = classifier.classify(&long, PII, soon()).await;
    assert_eq!((kinds(&found).len(), found.pii.unwrap().unknown), (2, Some(Unknown::TooLong)));
    model.shut();
    let entered = model.entered.load(Ordering::SeqCst);
    let first = ask(&classifier, "m1", PII, soon());
    model.entered(entered + 1).await;
    let second = ask(&classifier, "m2", PII, soon());
    until(|| classifier.queued() == 1).await;
    let found = classifier.classify(&format!("{text} "), PII, soon()).await;
    assert_eq!((kinds(&found).len(), found.pii.unwrap().unknown), (2, Some(Unknown::Busy)));
    model.open();
    for asked in [first, second] {
        asked.await.unwrap();
    }
    let without = start(&spec(), &[&Words::new(ClassifyHeads::DOMAIN)]);
    let found = without.classify(text, PII, soon()).await;
    let pii = found.pii.as_ref().unwrap();
    assert_eq!((kinds(&found).len(), pii.unknown), (2, Some(Unknown::Unsupported)));
    assert_eq!(pii.unknown_among(|kind| kind == "CREDIT_CARD"), None);
    assert_eq!(pii.unknown_among(|kind| kind == "PERSON"), Some(Unknown::Unsupported));
}

#[tokio::test]
async fn what_patterns_alone_find_waits_for_no_model() {
    let (model, classifier) = one(&ClassifierSpec { queue: 1, ..spec() });
    model.shut();
    let first = ask(&classifier, "m1", PII, soon());
    model.entered(1).await;
    let second = ask(&classifier, "m2", PII, soon());
    until(|| classifier.queued() == 1).await;
    let text = "my card is 4111 1111 1111 1111";
    let long = format!("{}{text}", words(0, 10_000));
    let both = ClassifyHeads { domain: true, ..ClassifyHeads::PATTERNS };
    let asked = [
        (text, ClassifyHeads::PATTERNS),
        (&long, ClassifyHeads::PATTERNS),
        (" ", ClassifyHeads::PATTERNS),
        (text, both),
    ];
    // The deadline has passed: that is nothing to a search.
    let found = classifier.classify_each(&asked, Instant::now()).await;
    let pii: Vec<&PiiFindings> = found.iter().map(|found| found.pii.as_ref().unwrap()).collect();
    let kinds: Vec<usize> = pii.iter().map(|pii| pii.entities.len()).collect();
    assert_eq!((kinds, classifier.queued()), (vec![1, 1, 0, 1], 1));
    assert_eq!(pii.iter().map(|pii| pii.unknown).collect::<Vec<_>>(), [None, None, Some(Unknown::Empty), None]);
    assert!(found[0].domain.is_none() && found[3].domain.as_ref().unwrap().is_err());
    assert_eq!(pii[0].unknown_among(|kind| kind == "CREDIT_CARD"), None);
    // Whoever counts what only the model finds is told that nobody looked.
    assert_eq!(pii[0].unknown_among(|kind| kind == "PERSON"), Some(Unknown::Unsupported));
    model.open();
    for asked in [first, second] {
        asked.await.unwrap();
    }
    assert_eq!(model.entered.load(Ordering::SeqCst), 2);
}

fn texts() -> impl Strategy<Value = String> {
    proptest::collection::vec("[a-zA-Zäöß€😀 ,.@\\n\u{0301}0-9]{0,12}", 0..60)
        .prop_map(|parts| parts.concat())
}

fn builtin() -> LoadedModel {
    let (device, hub) = (ComputeDevice::open(DeviceChoice::Cpu, Precision::Auto), HubSpec::default());
    let options =
        LoadOptions { heads: HeadSelection::any(ClassifyHeads::DOMAIN), device: &device, hub: &hub };
    LoadedModel::load(&ModelSource::Builtin, &options).unwrap()
}

/// The spans of bytes that the windows of a text cover, and those of its tokens.
fn spans(text: &str, window: usize, overlap: usize) -> (Vec<Range<usize>>, Vec<Range<usize>>) {
    thread_local!(static MODEL: LoadedModel = builtin());
    let tokens = MODEL.with(|model| model.tokenize(text)).unwrap();
    let windows = window::WindowGrid::new(window, overlap, 510).lay(0..tokens.ids.len());
    let bytes = |window: window::TokenWindow| {
        tokens.bytes[window.tokens.start].start..tokens.bytes[window.tokens.end - 1].end
    };
    (windows.into_iter().map(bytes).collect(), tokens.bytes.clone())
}

fn detector(spec: &ClassifierSpec) -> (Arc<Words>, Arc<Classifier>) {
    let model = Words::new(ClassifyHeads::HALLUCINATION);
    let classifier = start(spec, &[&model]);
    (model, classifier)
}

fn unsupported<'a>(found: &Findings, answer: &'a str) -> Result<Vec<&'a str>, Unknown> {
    let spans = found.hallucination.as_ref().unwrap().as_ref().map_err(|reason| *reason)?;
    Ok(spans.iter().map(|span| &answer[span.bytes.clone()]).collect())
}

#[tokio::test]
async fn what_no_part_of_a_long_context_supports_is_found() {
    let (model, classifier) = detector(&spec());
    let context = format!("start {} end", words(0, 200));
    let answer = " start made up word70 end zürich ";
    let input = GroundednessInput { context: &context, question: "word1 where", answer };
    let found = classifier.verify(input, soon()).await;
    assert_eq!(unsupported(&found, answer), Ok(vec!["made up", "zürich"]));
    assert!(model.batches().iter().flatten().count() > 3, "it was read in parts");
    let again = classifier.verify(input, soon()).await;
    assert_eq!(
        (unsupported(&again, answer), again.cost.cached),
        (Ok(vec!["made up", "zürich"]), again.cost.windows)
    );
}

#[tokio::test]
async fn an_answer_that_cannot_be_judged_says_why() {
    let spec =
        ClassifierSpec { windows: WindowSpec { max_tokens: 50, ..spec().windows }, queue: 1, ..spec() };
    let (model, classifier) = detector(&spec);
    let verify = |context: String, answer: &'static str| {
        let classifier = Arc::clone(&classifier);
        async move {
            let input = GroundednessInput { context: &context, question: "", answer };
            unsupported(&classifier.verify(input, soon()).await, answer)
        }
    };
    assert_eq!(verify(words(0, 60), "word1").await, Err(Unknown::TooLong));
    assert_eq!(verify("x".repeat(5000), "word1").await, Err(Unknown::TooLong));
    assert_eq!(verify(" ".to_owned(), "word1").await, Err(Unknown::Empty));
    assert_eq!(verify("word1".to_owned(), " ").await, Err(Unknown::Empty));
    let elsewhere = one(&spec).1;
    let input = GroundednessInput { context: "a", question: "", answer: "a" };
    let found = elsewhere.verify(input, soon()).await;
    assert_eq!(unsupported(&found, "a"), Err(Unknown::Unsupported));
    assert_eq!(elsewhere.classify("a", ClassifyHeads::HALLUCINATION, soon()).await.outcome(), "unsupported");
    assert_eq!(classifier.classify("a", ClassifyHeads::HALLUCINATION, soon()).await.outcome(), "unsupported");
    model.shut();
    let late = classifier.verify(input, in_a_moment()).await;
    assert_eq!(unsupported(&late, "a"), Err(Unknown::Late));
    model.open();
}

#[tokio::test]
async fn an_answer_no_caller_waits_for_is_never_judged() {
    let (model, classifier) = detector(&spec());
    model.shut();
    let verify = |answer: &'static str| {
        let classifier = Arc::clone(&classifier);
        tokio::spawn(async move {
            let input = GroundednessInput { context: "a b", question: "", answer };
            unsupported(&classifier.verify(input, soon()).await, answer)
        })
    };
    let first = verify("a");
    model.entered(1).await;
    let left = verify("b c d");
    until(|| classifier.queued() == 1).await;
    left.abort();
    assert!(left.await.unwrap_err().is_cancelled());
    assert_eq!(classifier.queued(), 0);
    model.open();
    assert_eq!(first.await.unwrap(), Ok(Vec::new()));
    assert_eq!(model.batches(), [[1]]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn windows_cover_every_token_of_any_text_and_map_back_to_its_characters(
        text in texts(), window in 1..40_usize, overlap in 0..40_usize,
    ) {
        let (windows, tokens) = spans(&text, window, overlap);
        for span in windows.iter().chain(&tokens) {
            prop_assert!(text.get(span.clone()).is_some(), "{span:?} in {text:?}");
        }
        for token in &tokens {
            let inside = |window: &Range<usize>| window.start <= token.start && token.end <= window.end;
            prop_assert!(windows.iter().any(inside));
        }
    }

    #[test]
    fn an_appended_turn_leaves_earlier_windows_where_they_were(
        text in texts(), more in texts(), window in 1..40_usize, overlap in 0..40_usize,
    ) {
        let (before, tokens) = spans(&text, window, overlap);
        let (after, _) = spans(&format!("{text}\n{more}"), window, overlap);
        let full = if tokens.len() < window { 0 } else { before.len() - 1 };
        prop_assert_eq!(&before[..full], &after[..full]);
    }
}
