//! From a request to what is known about it: cheap signals while the classifier works, the others from what it found.
//!
//! All questions about the prompt are one, and go together with those about the other texts.

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::build::{Detail, Detectors};
use super::examples::Judgement;
use super::learned::{self, Heard};
use super::length::Length;
use super::reading::{self, Reading, Signals, Told};
use super::wanted::Wanted;
use super::{facts, language, structure};
use crate::classify::{Classifier, ClassifyCost, ClassifyHeads, Findings, Label, Unknown};
use crate::openai::{ChatRequest, MessageCounts, MessageText, Role};
use crate::policy::{BasisPoints, Person, Scope, SignalId, SignalKind};

/// A request of which something is to be known.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The request.
    pub request: &'a ChatRequest,
    /// Who asks, where that is known.
    pub person: Option<&'a Person>,
    /// What is to be known.
    pub wanted: &'a Wanted,
    /// By when.
    pub deadline: Instant,
}

/// What is known about a request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Known {
    /// What the signals say that were wanted.
    pub signals: Signals,
    /// What the classifier found in the prompt, if it was asked.
    pub prompt: Option<Findings>,
    /// The prompt's place among [`ChatRequest::message_texts`]; nothing where they were not read or none is the prompt.
    pub prompt_at: Option<usize>,
    /// What it found in other texts, each by its place among [`ChatRequest::message_texts`].
    pub others: Vec<(usize, Findings)>,
    /// What the classifier's answers cost: sums of what was read, and the longest of the times.
    pub cost: ClassifyCost,
}

/// The texts of a request, as far as they are needed.
struct Texts<'a> {
    all: Vec<MessageText<'a>>,
    prompt: std::borrow::Cow<'a, str>,
    prompt_at: Option<usize>,
    /// The places of the user's messages before the prompt, the latest first.
    earlier: Vec<usize>,
}

impl<'a> Texts<'a> {
    fn of(request: &'a ChatRequest, wanted: &Wanted) -> Self {
        if !wanted.reads_all {
            let prompt = request.prompt_text();
            return Self { all: Vec::new(), prompt, prompt_at: None, earlier: Vec::new() };
        }
        let all = request.message_texts();
        let prompt_at = all.iter().position(|said| said.is_prompt);
        let before = all[..prompt_at.unwrap_or(0)].iter().enumerate().rev();
        let by_user = before.filter(|(_, said)| said.role == Role::User).map(|(place, _)| place);
        let earlier = by_user.take(usize::from(wanted.lookback)).collect();
        Self { prompt: std::borrow::Cow::Borrowed(""), prompt_at, earlier, all }
    }

    fn prompt(&self) -> &str {
        self.prompt_at.map_or(&*self.prompt, |at| &*self.all[at].text)
    }

    /// The texts beside the prompt with their places, the latest first.
    fn others(&self) -> impl Iterator<Item = (usize, &str)> {
        let all = self.all.iter().enumerate().rev();
        all.filter(|(at, _)| Some(*at) != self.prompt_at).map(|(at, said)| (at, &*said.text))
    }

    /// What is asked of which other texts.
    fn asked(&self, wanted: &Wanted) -> impl Iterator<Item = (usize, &str, ClassifyHeads)> {
        let of_all = wanted.others();
        let asked = self.others().map(move |(at, text)| {
            let embedding = self.earlier.contains(&at);
            (at, text, of_all.or(ClassifyHeads { embedding, ..ClassifyHeads::NONE }))
        });
        asked.filter(|(_, _, questions)| !questions.is_empty())
    }

    /// Says whether the model has answered before the prompt.
    fn follows_an_answer(&self) -> bool {
        self.all[..self.prompt_at.unwrap_or(0)].iter().any(|said| said.role == Role::Assistant)
    }
}

impl Detectors {
    /// Reads the wanted signals of a request, and puts the wanted questions to the classifier; without any it is not
    /// called.
    pub async fn read(&self, asked: Asked<'_>, classifier: &Classifier) -> Known {
        let texts = Texts::of(asked.request, asked.wanted);
        let of_prompt = asked.wanted.prompt();
        let places: Vec<usize> = texts.asked(asked.wanted).map(|(at, ..)| at).collect();
        let prompt = (!of_prompt.is_empty()).then(|| (texts.prompt(), of_prompt));
        let others = texts.asked(asked.wanted).map(|(_, text, questions)| (text, questions));
        let questions: Vec<_> = prompt.into_iter().chain(others).collect();
        // The classifier has its questions before anything is read here.
        let found = classifier.classify_each(&questions, asked.deadline);
        let cheap = async { self.cheap(asked, &texts, classifier) };
        let (found, mut signals) = futures::future::join(found, cheap).await;
        let mut found = found.into_iter();
        let prompt = if of_prompt.is_empty() { None } else { found.next() };
        let others: Vec<_> = places.into_iter().zip(found).collect();
        self.learned(asked.wanted, &texts, (prompt.as_ref(), &others), &mut signals);
        let cost = total(prompt.iter().chain(others.iter().map(|(_, found)| found)));
        Known { signals, prompt, prompt_at: texts.prompt_at, others, cost }
    }

    /// Reads the signals that need no classifier.
    fn cheap(&self, asked: Asked<'_>, texts: &Texts<'_>, classifier: &Classifier) -> Signals {
        let mut signals = Signals::none(self.signals.len());
        self.keywords(asked.wanted, texts, &mut signals);
        let source = Source { asked, texts, classifier, length: OnceCell::new(), holds: OnceCell::new() };
        for id in asked.wanted.signals().filter(|SignalId(id)| *id < self.signals.len()) {
            let began = Instant::now();
            if let Some(reading) = source.read(&self.signals[id.0].kind, &self.details[id.0]) {
                signals.tell(id, Told { reading, took: began.elapsed() });
            }
        }
        signals
    }

    fn keywords(&self, wanted: &Wanted, texts: &Texts<'_>, signals: &mut Signals) {
        for lexicon in &self.lexicons {
            let count = lexicon.signals().filter(|(id, _)| wanted.has(*id)).count();
            if count == 0 {
                continue;
            }
            let began = Instant::now();
            let mut hits = lexicon.nothing();
            lexicon.search(texts.prompt(), &mut hits);
            let is_wanted = |id| wanted.has(id);
            let mut read: Vec<_> = lexicon.read(Scope::Prompt, &hits, is_wanted).collect();
            if lexicon.signals().any(|(id, scope)| scope == Scope::Conversation && wanted.has(id)) {
                texts.others().for_each(|(_, text)| lexicon.search(text, &mut hits));
                read.extend(lexicon.read(Scope::Conversation, &hits, is_wanted));
            }
            let took = began.elapsed() / count as u32;
            for (id, reading) in read {
                signals.tell(id, Told { reading: Ok(reading), took });
            }
        }
    }

    /// Reads the signals that are told from what the classifier found.
    fn learned(
        &self,
        wanted: &Wanted,
        texts: &Texts<'_>,
        (prompt, others): (Option<&Findings>, &[(usize, Findings)]),
        signals: &mut Signals,
    ) {
        let Some(prompt) = prompt else { return };
        let follows_answer = texts.follows_an_answer();
        let heard = Heard { prompt, others, earlier: &texts.earlier, follows_answer };
        for id in wanted.signals().filter(|SignalId(id)| *id < self.signals.len()) {
            if signals.get(id).is_none() {
                let began = Instant::now();
                let reading = self.told(id, heard);
                signals.tell(id, Told { reading, took: began.elapsed() });
            }
        }
    }

    fn told(&self, SignalId(id): SignalId, heard: Heard<'_>) -> Result<Reading, Unknown> {
        match (&self.signals[id].kind, &self.details[id]) {
            (SignalKind::Domain { any, min_score }, _) => {
                let domain = heard.prompt.domain.as_ref().ok_or(Unknown::Unsupported)?;
                let label = domain.as_ref().map_err(|unknown| *unknown)?;
                Ok(reading::about(any, min_score.fraction(), label))
            }
            (SignalKind::Jailbreak { min_score, scope }, _) => {
                learned::jailbreak(heard, *scope, min_score.map(BasisPoints::fraction))
            }
            (SignalKind::Pii { kinds, min_score, scope }, _) => {
                learned::pii(heard, kinds, *scope, min_score.map(BasisPoints::fraction))
            }
            (SignalKind::Similarity { aggregate, min_score, .. }, Detail::Examples(examples)) => {
                Ok(learned::similarity(heard.meaning()?, examples, *aggregate, min_score.fraction()))
            }
            (SignalKind::Complexity { margin, level, .. }, Detail::Sides(sides)) => {
                Ok(learned::complexity(heard.meaning()?, sides, margin.fraction(), *level))
            }
            (SignalKind::Reask { min_score, lookback }, _) => {
                learned::reask(heard, min_score.fraction(), *lookback)
            }
            (kind, _) => {
                let bank = Judgement::of(kind).and_then(|judgement| self.banks.get(&judgement));
                learned::judged(heard, bank.ok_or(Unknown::Unsupported)?, kind)
            }
        }
    }
}

/// Where cheap signals are read from; what several of them need is found out once.
struct Source<'a> {
    asked: Asked<'a>,
    texts: &'a Texts<'a>,
    classifier: &'a Classifier,
    length: OnceCell<Length<'a>>,
    holds: OnceCell<MessageCounts>,
}

impl Source<'_> {
    /// Reads a signal; nothing if it needs the classifier, or is a keyword's, which are read together.
    fn read(&self, kind: &SignalKind, detail: &Detail) -> Option<Result<Reading, Unknown>> {
        let prompt = self.texts.prompt();
        Some(match (kind, detail) {
            (SignalKind::Language { any, min_score }, _) => {
                Ok(language::read(prompt, any, min_score.fraction()))
            }
            (SignalKind::Context { min, max }, _) => {
                let all = || Length::of(self.texts.all.iter().map(|said| &*said.text));
                let length = self.length.get_or_init(all);
                length.read((*min, *max), |text| self.classifier.count_tokens(text))
            }
            (SignalKind::Structure { min_milli, max_milli, .. }, Detail::Patterns(patterns)) => {
                let deadline = Instant::now() + structure::BUDGET;
                patterns.read(prompt, (*min_milli, *max_milli), deadline)
            }
            (SignalKind::Conversation { feature, min, max }, _) => {
                let holds = self.holds.get_or_init(|| self.asked.request.message_counts());
                Ok(facts::conversation(holds, *feature, (*min, *max)))
            }
            (SignalKind::Metadata { key, test }, _) => Ok(facts::metadata(self.asked.request, key, test)),
            (SignalKind::Identity { users, groups, tenants }, _) => {
                Ok(facts::identity(self.asked.person, users, groups, tenants))
            }
            _ => return None,
        })
    }
}

fn total<'f>(findings: impl Iterator<Item = &'f Findings>) -> ClassifyCost {
    findings.fold(ClassifyCost::default(), |sum, found| {
        let longest = |a: Duration, b: Duration| a.max(b);
        ClassifyCost {
            queued: longest(sum.queued, found.cost.queued),
            tokenize: longest(sum.tokenize, found.cost.tokenize),
            compute: longest(sum.compute, found.cost.compute),
            tokens: sum.tokens + found.cost.tokens,
            windows: sum.windows + found.cost.windows,
            cached: sum.cached + found.cost.cached,
            batch: sum.batch.max(found.cost.batch),
        }
    })
}

impl Known {
    /// Returns what the prompt is about, if that was asked.
    pub fn label(&self) -> Option<&Result<Label, Unknown>> {
        self.prompt.as_ref()?.domain.as_ref()
    }

    /// Returns what the prompt means, where that is known.
    pub fn embedding(&self) -> Option<&Arc<[f32]>> {
        self.prompt.as_ref()?.embedding.as_ref()?.as_ref().ok()
    }

    /// Returns everything that the classifier found, the prompt first.
    pub fn findings(&self) -> impl Iterator<Item = &Findings> {
        self.prompt.iter().chain(self.others.iter().map(|(_, findings)| findings))
    }
}
