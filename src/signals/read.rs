//! From a request to what is known about it: cheap signals while the classifier works, the others from what it found.
//!
//! All questions about the prompt are one, and go together with those about the other texts.

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::build::{Detectors, SignalDetail};
use super::examples::Judgement;
use super::learned::{self, ClassifierFindings};
use super::length::TokenCount;
use super::requirements::Requirements;
use super::value::{self, SignalResult, SignalValue, Signals};
use super::{facts, language, structure};
use crate::classify::{Classifier, ClassifyCost, ClassifyHeads, Findings, Label, Unknown};
use crate::openai::{ChatRequest, MessageCounts, MessageText, Role};
use crate::policy::{
    BasisPoints, ComplexitySignal, ContextSignal, ConversationSignal, DomainSignal, IdentitySignal,
    JailbreakSignal, LanguageSignal, MetadataSignal, PiiSignal, Principal, ReaskSignal, Scope, SignalId,
    SignalKind, SimilaritySignal, StructureSignal,
};

/// A request of which something is to be known.
#[derive(Debug, Clone, Copy)]
pub struct SignalQuery<'a> {
    /// The request.
    pub request: &'a ChatRequest,
    /// Who asks, where that is known.
    pub principal: Option<&'a Principal>,
    /// What is to be known.
    pub requirements: &'a Requirements,
    /// By when.
    pub deadline: Instant,
}

/// What is known about a request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SignalEvaluation {
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
struct RequestTexts<'a> {
    all: Vec<MessageText<'a>>,
    prompt: std::borrow::Cow<'a, str>,
    prompt_at: Option<usize>,
    /// The places of the user's messages before the prompt, the latest first.
    earlier: Vec<usize>,
}

impl<'a> RequestTexts<'a> {
    fn of(request: &'a ChatRequest, requirements: &Requirements) -> Self {
        if !requirements.reads_all {
            let prompt = request.prompt_text();
            return Self { all: Vec::new(), prompt, prompt_at: None, earlier: Vec::new() };
        }
        let all = request.message_texts();
        let prompt_at = all.iter().position(|said| said.is_prompt);
        let before = all[..prompt_at.unwrap_or(0)].iter().enumerate().rev();
        let by_user = before.filter(|(_, said)| said.role == Role::User).map(|(place, _)| place);
        let earlier = by_user.take(usize::from(requirements.lookback)).collect();
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
    fn questions(&self, requirements: &Requirements) -> impl Iterator<Item = (usize, &str, ClassifyHeads)> {
        let of_all = requirements.others();
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
    pub async fn read(&self, query: SignalQuery<'_>, classifier: &Classifier) -> SignalEvaluation {
        let texts = RequestTexts::of(query.request, query.requirements);
        let of_prompt = query.requirements.prompt();
        let places: Vec<usize> = texts.questions(query.requirements).map(|(at, ..)| at).collect();
        let prompt = (!of_prompt.is_empty()).then(|| (texts.prompt(), of_prompt));
        let others = texts.questions(query.requirements).map(|(_, text, questions)| (text, questions));
        let questions: Vec<_> = prompt.into_iter().chain(others).collect();
        // The classifier has its questions before anything is read here.
        let found = classifier.classify_each(&questions, query.deadline);
        let cheap = async { self.cheap(query, &texts, classifier) };
        let (found, mut signals) = futures::future::join(found, cheap).await;
        let mut found = found.into_iter();
        let prompt = if of_prompt.is_empty() { None } else { found.next() };
        let others: Vec<_> = places.into_iter().zip(found).collect();
        self.learned(query.requirements, &texts, (prompt.as_ref(), &others), &mut signals);
        let cost = total(prompt.iter().chain(others.iter().map(|(_, found)| found)));
        SignalEvaluation { signals, prompt, prompt_at: texts.prompt_at, others, cost }
    }

    /// Reads the signals that need no classifier.
    fn cheap(&self, query: SignalQuery<'_>, texts: &RequestTexts<'_>, classifier: &Classifier) -> Signals {
        let mut signals = Signals::empty(self.signals.len());
        self.keywords(query.requirements, texts, &mut signals);
        let source =
            RequestReader { query, texts, classifier, length: OnceCell::new(), holds: OnceCell::new() };
        for id in query.requirements.signals().filter(|SignalId(id)| *id < self.signals.len()) {
            let began = Instant::now();
            if let Some(value) = source.read(&self.signals[id.0].kind, &self.details[id.0]) {
                signals.insert(id, SignalResult { value, took: began.elapsed() });
            }
        }
        signals
    }

    fn keywords(&self, requirements: &Requirements, texts: &RequestTexts<'_>, signals: &mut Signals) {
        for matcher in &self.keywords {
            let count = matcher.signals().filter(|(id, _)| requirements.has(*id)).count();
            if count == 0 {
                continue;
            }
            let began = Instant::now();
            let mut hits = matcher.no_hits();
            matcher.search(texts.prompt(), &mut hits);
            let is_wanted = |id| requirements.has(id);
            let mut read: Vec<_> = matcher.values(Scope::Prompt, &hits, is_wanted).collect();
            if matcher.signals().any(|(id, scope)| scope == Scope::Conversation && requirements.has(id)) {
                texts.others().for_each(|(_, text)| matcher.search(text, &mut hits));
                read.extend(matcher.values(Scope::Conversation, &hits, is_wanted));
            }
            let took = began.elapsed() / count as u32;
            for (id, value) in read {
                signals.insert(id, SignalResult { value: Ok(value), took });
            }
        }
    }

    /// Reads the signals that are told from what the classifier found.
    fn learned(
        &self,
        requirements: &Requirements,
        texts: &RequestTexts<'_>,
        (prompt, others): (Option<&Findings>, &[(usize, Findings)]),
        signals: &mut Signals,
    ) {
        let Some(prompt) = prompt else { return };
        let follows_answer = texts.follows_an_answer();
        let findings = ClassifierFindings { prompt, others, earlier: &texts.earlier, follows_answer };
        for id in requirements.signals().filter(|SignalId(id)| *id < self.signals.len()) {
            if signals.get(id).is_none() {
                let began = Instant::now();
                let value = self.learned_value(id, findings);
                signals.insert(id, SignalResult { value, took: began.elapsed() });
            }
        }
    }

    fn learned_value(
        &self,
        SignalId(id): SignalId,
        findings: ClassifierFindings<'_>,
    ) -> Result<SignalValue, Unknown> {
        match (&self.signals[id].kind, &self.details[id]) {
            (SignalKind::Domain(DomainSignal { any, min_score }), _) => {
                let domain = findings.prompt.domain.as_ref().ok_or(Unknown::Unsupported)?;
                let label = domain.as_ref().map_err(|unknown| *unknown)?;
                Ok(value::domain(any, min_score.fraction(), label))
            }
            (SignalKind::Jailbreak(JailbreakSignal { min_score, scope }), _) => {
                learned::jailbreak(findings, *scope, min_score.map(BasisPoints::fraction))
            }
            (SignalKind::Pii(PiiSignal { kinds, min_score, scope }), _) => {
                learned::pii(findings, kinds, *scope, min_score.map(BasisPoints::fraction))
            }
            (
                SignalKind::Similarity(SimilaritySignal { aggregate, min_score, .. }),
                SignalDetail::Examples(examples),
            ) => Ok(learned::similarity(findings.meaning()?, examples, *aggregate, min_score.fraction())),
            (
                SignalKind::Complexity(ComplexitySignal { margin, level, .. }),
                SignalDetail::HardEasyExamples(sides),
            ) => Ok(learned::complexity(findings.meaning()?, sides, margin.fraction(), *level)),
            (SignalKind::Reask(ReaskSignal { min_score, lookback }), _) => {
                learned::reask(findings, min_score.fraction(), *lookback)
            }
            (kind, _) => {
                let bank = Judgement::of(kind).and_then(|judgement| self.banks.get(&judgement));
                learned::judged(findings, bank.ok_or(Unknown::Unsupported)?, kind)
            }
        }
    }
}

/// Where cheap signals are read from; what several of them need is found out once.
struct RequestReader<'a> {
    query: SignalQuery<'a>,
    texts: &'a RequestTexts<'a>,
    classifier: &'a Classifier,
    length: OnceCell<TokenCount<'a>>,
    holds: OnceCell<MessageCounts>,
}

impl RequestReader<'_> {
    /// Reads a signal; nothing if it needs the classifier, or is a keyword's, which are read together.
    fn read(&self, kind: &SignalKind, detail: &SignalDetail) -> Option<Result<SignalValue, Unknown>> {
        let prompt = self.texts.prompt();
        Some(match (kind, detail) {
            (SignalKind::Language(LanguageSignal { any, min_score }), _) => {
                Ok(language::read(prompt, any, min_score.fraction()))
            }
            (SignalKind::Context(ContextSignal { min, max }), _) => {
                let all = || TokenCount::of(self.texts.all.iter().map(|said| &*said.text));
                let length = self.length.get_or_init(all);
                length.read((*min, *max), |text| self.classifier.count_tokens(text))
            }
            (
                SignalKind::Structure(StructureSignal { min_milli, max_milli, .. }),
                SignalDetail::Patterns(patterns),
            ) => {
                let deadline = Instant::now() + structure::BUDGET;
                patterns.read(prompt, (*min_milli, *max_milli), deadline)
            }
            (SignalKind::Conversation(ConversationSignal { feature, min, max }), _) => {
                let holds = self.holds.get_or_init(|| self.query.request.message_counts());
                Ok(facts::conversation(holds, *feature, (*min, *max)))
            }
            (SignalKind::Metadata(MetadataSignal { key, test }), _) => {
                Ok(facts::metadata(self.query.request, key, test))
            }
            (SignalKind::Identity(IdentitySignal { users, groups, tenants }), _) => {
                Ok(facts::identity(self.query.principal, users, groups, tenants))
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

impl SignalEvaluation {
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
