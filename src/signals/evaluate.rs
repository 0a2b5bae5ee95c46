//! From a request to what is known about it: signals of the request itself while the classifier works, the learned ones
//! from what it found.
//!
//! All questions about the prompt are one, and go together with those about the other texts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::detectors::Detectors;
use super::findings::ClassifierFindings;
use super::judged::{JudgedFindings, JudgedText};
use super::kind::SignalDetector;
use super::request::RequestView;
use super::requirements::Requirements;
use super::texts::SignalTexts;
use super::value::{SignalResult, Signals};
use crate::classify::{
    Classifier, ClassifyCost, ClassifyHeads, ClassifyLimits, Findings, Label, Unknown, read_beside,
};
use crate::openai::ChatRequest;
use crate::policy::{Principal, Scope, SignalId, TextSources};

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
    /// What the classifier found in the prompt, if a signal or a plugin asked.
    pub prompt: Option<Findings>,
    /// What it found in other texts, each by its place among [`ChatRequest::message_texts`].
    pub others: Vec<(usize, Findings)>,
    /// The texts that guards judge.
    judged: Vec<JudgedText>,
    /// Everything that the classifier found; texts that are equal are asked about once.
    answers: Vec<Findings>,
    /// What the classifier's answers cost: sums of what was read, and the longest of the times.
    pub cost: ClassifyCost,
    /// How long whoever asks next would wait for the classifier, where that left something unknown.
    pub wait: Duration,
}

impl Detectors {
    /// Evaluates the required signals of a request, and puts the required questions to the classifier; without any it
    /// is not called.
    pub async fn evaluate(&self, query: SignalQuery<'_>, classifier: &Classifier) -> SignalEvaluation {
        let inputs = &query.requirements.inputs;
        let bytes = query.request.body().len();
        let texts = read_beside(bytes, || SignalTexts::read(query.request, inputs));
        if inputs.prompt.is_empty() && texts.judged.is_empty() {
            let signals = read_beside(bytes, || self.evaluate_request(query, &texts, classifier));
            return SignalEvaluation { signals, ..SignalEvaluation::default() };
        }
        // Boxed: what is decided without the classifier, which is the quick way, carries none of its state.
        Box::pin(self.evaluate_with_classifier(query, texts, classifier)).await
    }

    async fn evaluate_with_classifier(
        &self,
        query: SignalQuery<'_>,
        mut texts: SignalTexts<'_>,
        classifier: &Classifier,
    ) -> SignalEvaluation {
        let inputs = &query.requirements.inputs;
        let blocks = std::mem::take(&mut texts.judged);
        let mut questions = TextQuestions::default();
        let prompt = (!inputs.prompt.is_empty()).then(|| questions.ask(texts.prompt(), inputs.prompt));
        // The latest first, as far as time allows.
        let judged = blocks.iter().rev().map(|judged| questions.ask(&judged.block.text, judged.heads));
        let judged: Vec<usize> = judged.collect();
        let others =
            texts.asked(inputs).map(|asked| (asked.place, questions.ask(asked.text, asked.questions)));
        let others: Vec<(usize, usize)> = others.collect();
        // The classifier has its questions before anything is evaluated here.
        let found = classifier.classify_each(&questions.asked, query.limits);
        let bytes = query.request.body().len();
        let of_request = async { read_beside(bytes, || self.evaluate_request(query, &texts, classifier)) };
        let (answers, mut signals) = futures::future::join(found, of_request).await;
        let prompt = prompt.and_then(|at| answers.get(at)).cloned();
        let others = others.into_iter().filter_map(|(place, at)| Some((place, answers.get(at)?.clone())));
        let others: Vec<(usize, Findings)> = others.collect();
        if let Some(prompt) = &prompt {
            let (earlier, follows_answer) = (texts.earlier(), texts.follows_an_answer());
            let found = ClassifierFindings { prompt, others: &others, earlier, follows_answer };
            self.evaluate_learned(query.requirements, &found, &mut signals);
        }
        let judged = blocks.into_iter().rev().zip(judged).map(|(block, at)| block.judged(at)).rev().collect();
        let cost = total(answers.iter());
        let is_known = |found: &Findings| found.unknowns().next().is_none();
        let wait = if answers.iter().all(is_known) { Duration::ZERO } else { classifier.expected_wait() };
        SignalEvaluation { signals, prompt, others, judged, answers, cost, wait }
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

/// What the classifier is asked: one question for each text, with everything that is asked of it.
#[derive(Default)]
struct TextQuestions<'t> {
    asked: Vec<(&'t str, ClassifyHeads)>,
    places: HashMap<&'t str, usize>,
}

impl<'t> TextQuestions<'t> {
    /// Asks about a text; returns the place of the answer.
    fn ask(&mut self, text: &'t str, heads: ClassifyHeads) -> usize {
        let at = *self.places.entry(text).or_insert(self.asked.len());
        match self.asked.get_mut(at) {
            Some((_, known)) => *known = known.or(heads),
            None => self.asked.push((text, heads)),
        }
        at
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

    /// Returns everything that the classifier found, each text once, the prompt first if it was asked about.
    pub fn findings(&self) -> impl Iterator<Item = &Findings> {
        self.answers.iter()
    }

    /// Returns what was found in the texts of a request that a guard judges, in its order.
    pub fn judged(
        &self,
        request: &ChatRequest,
        scope: Scope,
        of: TextSources,
    ) -> impl Iterator<Item = JudgedFindings<'_>> {
        let judged = self.judged.iter().filter(move |text| text.is_in(scope) && text.is_from(request, of));
        judged.filter_map(|text| {
            let findings = self.answers.get(text.answer)?;
            Some(JudgedFindings { pieces: &text.pieces, findings })
        })
    }
}
