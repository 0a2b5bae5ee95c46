//! The classifier over a model made for tests: what is computed, when, together with what, and what comes out.

mod checkpoint_faults;
mod device;
mod golden;
mod heads;
mod languages;
mod long_texts;
mod overload;
mod pairs;
mod patterns;
mod questions;
mod queue;
mod tokens;

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
            question: None,
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
            _ => &[],
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
