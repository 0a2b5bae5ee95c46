//! From a request to what is known about it: signals of the request itself while the classifier works, the learned ones
//! from what it found.
//!
//! All questions about the prompt are one, and go together with those about the other texts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::detectors::Detectors;
use super::findings::ClassifierFindings;
use super::kind::SignalDetector;
use super::request::RequestView;
use super::requirements::Requirements;
use super::texts::SignalTexts;
use super::value::{SignalResult, Signals};
use crate::classify::{Classifier, ClassifyCost, ClassifyLimits, Findings, Label, Unknown};
use crate::openai::ChatRequest;
use crate::policy::{Principal, Scope, SignalId};

/// A request to evaluate.
#[derive(Debug, Clone, Copy)]
pub struct SignalQuery<'a> {
    /// The request.
    pub request: &'a ChatRequest,
    /// The verified client, if there is one.
    pub principal: Option<&'a Principal>,
    /// The signals and findings that are needed.
    pub requirements: &'a Requirements,
    /// When the classifier must have answered, and how much depends on it.
    pub limits: ClassifyLimits,
}

/// What is known about a request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SignalEvaluation {
    /// The values of the required signals.
    pub signals: Signals,
    /// What the classifier found in the prompt, if it was asked.
    pub prompt: Option<Findings>,
    /// The prompt's place among [`ChatRequest::message_texts`]; nothing where they were not read or none is the prompt.
    pub prompt_at: Option<usize>,
    /// What it found in other texts, each by its place among [`ChatRequest::message_texts`].
    pub others: Vec<(usize, Findings)>,
    /// What the classifier's answers cost: sums of what was read, and the longest of the times.
    pub cost: ClassifyCost,
    /// How long whoever asks next would wait for the classifier, where that left something unknown.
    pub wait: Duration,
}

impl Detectors {
    /// Evaluates the required signals of a request, and puts the required questions to the classifier; without any it
    /// is not called.
    pub async fn evaluate(&self, query: SignalQuery<'_>, classifier: &Classifier) -> SignalEvaluation {
        let texts = SignalTexts::read(query.request, &query.requirements.inputs);
        if query.requirements.inputs.prompt.is_empty() {
            let signals = self.evaluate_request(query, &texts, classifier);
            return SignalEvaluation { signals, prompt_at: texts.prompt_at(), ..SignalEvaluation::default() };
        }
        // Boxed: what is decided without the classifier, which is the quick way, carries none of its state.
        Box::pin(self.evaluate_with_classifier(query, &texts, classifier)).await
    }

    async fn evaluate_with_classifier(
        &self,
        query: SignalQuery<'_>,
        texts: &SignalTexts<'_>,
        classifier: &Classifier,
    ) -> SignalEvaluation {
        let inputs = &query.requirements.inputs;
        let places: Vec<usize> = texts.asked(inputs).map(|asked| asked.place).collect();
        let others = texts.asked(inputs).map(|asked| (asked.text, asked.questions));
        let questions: Vec<_> = std::iter::once((texts.prompt(), inputs.prompt)).chain(others).collect();
        // The classifier has its questions before anything is evaluated here.
        let found = classifier.classify_each(&questions, query.limits);
        let of_request = async { self.evaluate_request(query, texts, classifier) };
        let (found, mut signals) = futures::future::join(found, of_request).await;
        let mut found = found.into_iter();
        let prompt = found.next();
        let others: Vec<_> = places.into_iter().zip(found).collect();
        if let Some(prompt) = &prompt {
            let (earlier, follows_answer) = (texts.earlier(), texts.follows_an_answer());
            let found = ClassifierFindings { prompt, others: &others, earlier, follows_answer };
            self.evaluate_learned(query.requirements, &found, &mut signals);
        }
        let cost = total(prompt.iter().chain(others.iter().map(|(_, found)| found)));
        let is_known = |found: &Findings| found.unknowns().next().is_none();
        let is_known = prompt.iter().chain(others.iter().map(|(_, found)| found)).all(is_known);
        let wait = if is_known { Duration::ZERO } else { classifier.expected_wait() };
        SignalEvaluation { signals, prompt, prompt_at: texts.prompt_at(), others, cost, wait }
    }

    /// Returns the required signals with their detectors.
    fn required(&self, requirements: &Requirements) -> impl Iterator<Item = (SignalId, &SignalDetector)> {
        requirements.signals().filter_map(move |id| Some((id, self.each.get(id.0)?)))
    }

    fn evaluate_request(
        &self,
        query: SignalQuery<'_>,
        texts: &SignalTexts<'_>,
        classifier: &Classifier,
    ) -> Signals {
        let mut signals = Signals::empty(self.each.len());
        self.evaluate_keywords(query.requirements, texts, &mut signals);
        let request = RequestView::new(query.request, query.principal, texts, classifier);
        for (id, detector) in self.required(query.requirements) {
            if let SignalDetector::Request(detector) = detector {
                let began = Instant::now();
                let value = detector.evaluate(&request);
                signals.insert(id, SignalResult { value, took: began.elapsed() });
            }
        }
        signals
    }

    fn evaluate_keywords(&self, requirements: &Requirements, texts: &SignalTexts<'_>, signals: &mut Signals) {
        for matcher in &self.keywords {
            let is_required = |id| requirements.has(id);
            let count = matcher.signals().filter(|(id, _)| is_required(*id)).count();
            if count == 0 {
                continue;
            }
            let began = Instant::now();
            let mut hits = matcher.no_hits();
            matcher.search(texts.prompt(), &mut hits);
            let mut values: Vec<_> = matcher.values(Scope::Prompt, &hits, is_required).collect();
            if matcher.signals().any(|(id, scope)| scope == Scope::Conversation && is_required(id)) {
                texts.others().for_each(|(_, text)| matcher.search(text, &mut hits));
                values.extend(matcher.values(Scope::Conversation, &hits, is_required));
            }
            let took = began.elapsed() / count as u32;
            for (id, value) in values {
                signals.insert(id, SignalResult { value: Ok(value), took });
            }
        }
    }

    fn evaluate_learned(
        &self,
        requirements: &Requirements,
        found: &ClassifierFindings<'_>,
        signals: &mut Signals,
    ) {
        for (id, detector) in self.required(requirements) {
            if let SignalDetector::Learned(detector) = detector {
                let began = Instant::now();
                let value = detector.evaluate(found);
                signals.insert(id, SignalResult { value, took: began.elapsed() });
            }
        }
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

    /// Returns the prompt's embedding, where it is known.
    pub fn embedding(&self) -> Option<&Arc<[f32]>> {
        self.prompt.as_ref()?.embedding.as_ref()?.as_ref().ok()
    }

    /// Returns everything that the classifier found, the prompt first.
    pub fn findings(&self) -> impl Iterator<Item = &Findings> {
        self.prompt.iter().chain(self.others.iter().map(|(_, findings)| findings))
    }
}
