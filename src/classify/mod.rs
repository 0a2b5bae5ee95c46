//! What a text is about and what is in it: the only door to candle and tokenizers.
//!
//! A [`Classifier`] holds models and the threads that run them, behind a bounded queue. Whole texts are read, in
//! windows; one forward of the encoder serves every head, for windows of many texts at once; windows that were seen
//! before are not computed again. Being late or busy is an answer ([`Unknown`]), not an error; what patterns recognise is
//! found then too (`pattern_search`). Knows nothing of requests or of what follows from a finding.
//!
//! A text's way: `folding` reads it as it is shown; `readers` says which models read its language; `batch` admits it to the queue; `task` tokenizes what `excerpt` leaves
//! of it and lays windows (`window`) over the tokens; `window_cache` has the outputs of those that were seen before, `scheduler` orders the others;
//! `batch`'s threads compute them with a `backend`, which is a `model` (`window_tokenizer`, `encoder` and `heads` over
//! `ops`, judging `spans` where a head does); `merge` makes findings of the outputs, with `pii` for spans and `groundedness` for pairs.
//!
//! A model's way: `model_files` finds its files, on disk or by `hub`, `adapter` those of an adapter's base; `builtin` or `checkpoint` reads what it is;
//! `layer_builder` makes layers of its `weights` for a `device`.

#![forbid(unsafe_code)]

mod adapter;
mod backend;
mod batch;
mod builtin;
mod checkpoint;
mod deferred;
mod device;
mod encoder;
mod excerpt;
mod findings;
mod folding;
mod forward_totals;
mod groundedness;
mod heads;
mod hub;
mod lanes;
mod layer_builder;
mod load_error;
mod long_reading;
mod merge;
mod model;
mod model_files;
mod model_info;
mod model_parts;
mod model_set;
mod ops;
mod paraphrase;
mod pattern_search;
mod patterns;
mod pii;
mod readers;
mod scheduler;
mod spans;
mod special_tokens;
mod task;
#[cfg(test)]
mod tests;
mod timed_pattern;
mod token_estimate;
mod token_time;
mod tokenizer_patterns;
mod weights;
mod window;
mod window_cache;
mod window_tokenizer;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use findings::{
    ClassifyCost, ClassifyHead, ClassifyHeads, Entity, EntitySource, Findings, Label, PiiFindings, Risk,
    Unknown, UnsupportedSpan,
};
pub use folding::FoldedText;
pub use forward_totals::ForwardTotals;
pub use groundedness::GroundednessInput;
pub use hub::HubError;
pub use load_error::LoadError;
pub use long_reading::read_beside;
pub use model_info::{ModelInfo, pii_kinds};
pub use paraphrase::{ParaphraseScore, QuestionTokens};

use backend::ModelBackend;
use batch::BatchQueue;
use deferred::DeferredModel;
use device::ComputeDevice;
use model::{LoadOptions, LoadedModel};
use model_parts::HeadSelection;
use model_set::ModelSet;
use paraphrase::MAX_QUESTION_BYTES;
use pattern_search::PatternSearch;

use signalbox_policy::{
    AttackThreshold, ClassifierSpec, HubSpec, ModelFacts, ModelFault, ModelSource, OperatingPoint,
};

/// Loaded models and the threads that run them, which end when it is dropped.
pub struct Classifier {
    models: Vec<ModelInfo>,
    /// The model for other languages, where it is beside the built-in one.
    multilingual: Option<Arc<DeferredModel>>,
    queue: BatchQueue,
    patterns: PatternSearch,
}

/// How much depends on an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Whoever asks can't go on without, as a guard that must judge. Has most of the threads' time where there is too
    /// little of it.
    Required,
    /// There is a way without.
    BestEffort,
}

/// By when texts must be answered, and how much depends on it.
#[derive(Debug, Clone, Copy)]
pub struct ClassifyLimits {
    /// When whoever asks stops waiting.
    pub deadline: Instant,
    /// In which of the queues the texts wait.
    pub priority: Priority,
}

impl From<Instant> for ClassifyLimits {
    fn from(deadline: Instant) -> Self {
        Self { deadline, priority: Priority::BestEffort }
    }
}

impl Classifier {
    /// Loads the models and starts the threads; blocks for some hundred milliseconds, for longer if models must be
    /// fetched first. The model for other languages is read when a text needs it, or by [`Self::load_all`].
    pub fn load(spec: &ClassifierSpec) -> Result<Self, LoadError> {
        let device = ComputeDevice::open(spec.device, spec.precision);
        let rest = ClassifyHeads::ALL.without(assigned(spec).map(|(head, _)| head).collect());
        let default_heads = HeadSelection::any(rest.or(ClassifyHeads::PARAPHRASE));
        let default = (!rest.is_empty()).then_some((default_heads, &spec.model));
        let others = assigned(spec).map(|(head, source)| (HeadSelection::only(head), source));
        let load = |(heads, source): (HeadSelection, &ModelSource)| {
            LoadedModel::load(source, &LoadOptions { heads, device: &device, hub: &spec.hub })
        };
        let is_beside = spec.multilingual && spec.model == ModelSource::Builtin;
        let judged = rest.and(ClassifyHeads { domain: true, jailbreak: true, ..ClassifyHeads::NONE });
        let beside = (is_beside && !judged.is_empty()).then_some(judged);
        // Where a policy names it too, one encoder serves both.
        let is_named = assigned(spec).any(|(_, source)| *source == ModelSource::Multilingual);
        let now =
            beside.filter(|_| is_named).map(|heads| (HeadSelection::any(heads), &ModelSource::Multilingual));
        let models = default.into_iter().chain(others).chain(now).map(load).collect::<Result<Vec<_>, _>>()?;
        check_strict_threshold(spec, &models)?;
        let models = LoadedModel::share_encoders(models);
        let multilingual = beside
            .filter(|_| !is_named)
            .map(|heads| DeferredModel::new(ModelSource::Multilingual, heads, &device))
            .transpose()?
            .map(Arc::new);
        let infos = models.iter().map(|model| model.info().clone()).collect();
        let models = models.into_iter().map(|model| Arc::new(model) as Arc<dyn ModelBackend>);
        // The last: it is asked about what those before it do not read.
        let last = multilingual.clone().map(|model| model as Arc<dyn ModelBackend>);
        let started = Self::start(spec, models.chain(last).collect(), infos)?;
        Ok(Self { multilingual, ..started })
    }

    /// Reads what was put off, so that no text waits for it.
    pub fn load_all(&self) -> Result<(), LoadError> {
        self.multilingual.as_ref().map_or(Ok(()), |model| model.load().map(|_| ()))
    }

    fn start(
        spec: &ClassifierSpec,
        models: Vec<Arc<dyn ModelBackend>>,
        infos: Vec<ModelInfo>,
    ) -> Result<Self, LoadError> {
        let model_set = ModelSet::new(spec, models);
        let patterns = PatternSearch::new(model_set.labels(ClassifyHead::Pii));
        let queue = BatchQueue::start(threads(spec.threads), model_set).map_err(LoadError::Thread)?;
        Ok(Self { models: infos, multilingual: None, queue, patterns })
    }

    /// Computes heads for a text as far as that is possible by the deadline; dropping the future takes the text out of the
    /// queue.
    pub async fn classify(
        &self,
        text: &str,
        heads: ClassifyHeads,
        limits: impl Into<ClassifyLimits>,
    ) -> Findings {
        let found = self.classify_each(&[(text, heads)], limits).await.pop();
        found.unwrap_or_else(|| Findings::unknown(heads, Unknown::Failed, ClassifyCost::default()))
    }

    /// Finds the spans of an answer that its context does not support, or says why they are unknown by the deadline;
    /// dropping the future takes it out of the queue.
    pub async fn verify(&self, input: GroundednessInput<'_>, limits: impl Into<ClassifyLimits>) -> Findings {
        let unknown =
            |reason| Findings::unknown(ClassifyHeads::HALLUCINATION, reason, ClassifyCost::default());
        if !self.queue.model_set().heads().hallucination {
            return unknown(Unknown::Unsupported);
        }
        if input.context.trim().is_empty() || input.answer.trim().is_empty() {
            return unknown(Unknown::Empty);
        }
        match self.queue.submit_pair(input, limits.into()) {
            Ok(ticket) => ticket.findings().await,
            Err(reason) => unknown(reason),
        }
    }

    /// Says whether questions are compared at all; where no model does, every comparison is unsupported.
    pub fn compares_questions(&self) -> bool {
        self.queue.model_set().heads().paraphrase
    }

    /// Tells for each of several questions whether an answer to it answers this one too: of up to 64 tokens and 512 bytes, in
    /// English. Questions that were read before come from the cache of windows.
    pub async fn compare(
        &self,
        question: &str,
        others: &[&str],
        limits: impl Into<ClassifyLimits>,
    ) -> Vec<Result<ParaphraseScore, Unknown>> {
        let is_short = |text: &&str| text.len() <= MAX_QUESTION_BYTES;
        if !is_short(&question) {
            return others.iter().map(|_| Err(Unknown::TooLong)).collect();
        }
        let short = others.iter().copied().filter(is_short);
        let asked: Vec<_> =
            std::iter::once(question).chain(short).map(|text| (text, ClassifyHeads::PARAPHRASE)).collect();
        let read = self.classify_each(&asked, limits).await;
        let mut read = read.into_iter().map(|found| found.question.unwrap_or(Err(Unknown::Unsupported)));
        let own = read.next().unwrap_or(Err(Unknown::Failed));
        let models = &self.queue.model_set().models;
        let mut judge = |other: &&str| {
            let other = if is_short(other) { read.next() } else { Some(Err(Unknown::TooLong)) };
            let (own, other) =
                (own.as_ref().map_err(|reason| *reason)?, other.unwrap_or(Err(Unknown::Failed))?);
            let score = models.iter().find_map(|model| model.compare(own, &other));
            score.ok_or(Unknown::Unsupported)
        };
        // Half a millisecond each.
        long_reading::beside(|| others.iter().map(&mut judge).collect())
    }

    /// Computes the same heads for several texts, in their order; they are queued together, as many at a time as half the
    /// queue takes.
    pub async fn classify_all(
        &self,
        texts: &[String],
        heads: ClassifyHeads,
        limits: impl Into<ClassifyLimits>,
    ) -> Vec<Findings> {
        let texts: Vec<_> = texts.iter().map(|text| (text.as_str(), heads)).collect();
        self.classify_each(&texts, limits).await
    }

    /// Computes each text's own heads; otherwise like [`Self::classify_all`]. What patterns recognise is found in every text
    /// of which personal data is asked, whatever becomes of the rest; where nothing else is asked, nothing waits in the queue.
    pub async fn classify_each(
        &self,
        texts: &[(&str, ClassifyHeads)],
        limits: impl Into<ClassifyLimits>,
    ) -> Vec<Findings> {
        let bytes = texts.iter().map(|(text, _)| text.len()).sum();
        let folded: Vec<_> =
            read_beside(bytes, || texts.iter().map(|(text, _)| FoldedText::new(text)).collect());
        let texts: Vec<_> =
            folded.iter().zip(texts).map(|(text, (_, heads))| (text.read(), *heads)).collect();
        let limits = limits.into();
        let early = |(text, heads): &(&str, ClassifyHeads)| self.without_queue(text, *heads);
        let mut all: Vec<Option<Findings>> = texts.iter().map(early).collect();
        let places: Vec<usize> = (0..texts.len()).filter(|at| all[*at].is_none()).collect();
        let of_models = |at: &usize| (texts[*at].0, texts[*at].1.without(ClassifyHeads::PATTERNS));
        let queued: Vec<(&str, ClassifyHeads)> = places.iter().map(of_models).collect();
        for (place, findings) in places.into_iter().zip(self.compute(&queued, limits).await) {
            all[place] = Some(findings);
        }
        let mut all: Vec<Findings> = all.into_iter().flatten().collect();
        self.patterns.complete(&texts, &mut all).await;
        for (findings, text) in all.iter_mut().zip(&folded) {
            let entities = findings.pii.iter_mut().flat_map(|found| &mut found.entities);
            entities.for_each(|entity| entity.bytes = text.written(&entity.bytes));
            if let Some(Ok(risk)) = &mut findings.jailbreak {
                risk.at = text.written(&risk.at);
            }
        }
        all
    }

    /// Computes texts in groups; once one is refused, so is the rest of what is asked together.
    async fn compute(&self, texts: &[(&str, ClassifyHeads)], limits: ClassifyLimits) -> Vec<Findings> {
        let mut all = Vec::with_capacity(texts.len());
        let group = (self.spec().queue / 2).max(1);
        let bytes = texts.iter().map(|(text, _)| text.len()).sum();
        let texts = read_beside(bytes, || self.queue.estimate(texts));
        while all.len() < texts.len() {
            let rest = &texts[all.len()..];
            match self.queue.submit(rest, group.min(rest.len()), limits) {
                Ok(tickets) => {
                    let findings = tickets.into_iter().map(batch::Ticket::findings);
                    all.extend(futures::future::join_all(findings).await);
                }
                Err(reason) => {
                    let refused = |text: &batch::TextEstimate<'_>| {
                        Findings::unknown(text.readers.heads, reason, ClassifyCost::default())
                    };
                    all.extend(rest.iter().map(refused));
                }
            }
        }
        all
    }

    /// Returns how long a guard that asks now would wait for what was asked before.
    pub fn expected_wait(&self) -> Duration {
        self.queue.expected_wait()
    }

    /// Counts the tokens of a text by the first model's tokenizer, or estimates them where its vocabulary makes too few of it;
    /// none if that fails. It takes some microseconds for each token, on the calling thread: the caller bounds the text.
    pub fn count_tokens(&self, text: &str) -> Option<usize> {
        let model = self.queue.model_set().models.first()?;
        let tokens = batch::catch_panic(|| model.tokenize(text)).ok()?;
        Some(tokens.ids.len().max(token_estimate::least_tokens(text)))
    }

    /// Returns the domain head's labels.
    pub fn labels(&self) -> &[Arc<str>] {
        self.queue.model_set().labels(ClassifyHead::Domain)
    }

    /// Describes the loaded models.
    pub fn models(&self) -> Vec<ModelInfo> {
        let multilingual = self.multilingual.as_ref().and_then(|model| model.info());
        self.models.iter().chain(multilingual).cloned().collect()
    }

    /// Returns what the classifier was loaded from.
    pub fn spec(&self) -> &ClassifierSpec {
        &self.queue.model_set().spec
    }

    /// Counts the texts that wait for a thread.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Sums up what was computed since the models were loaded.
    pub fn forwards(&self) -> ForwardTotals {
        self.queue.forwards()
    }

    /// Answers for an empty text, and for heads that no model has.
    fn without_queue(&self, text: &str, heads: ClassifyHeads) -> Option<Findings> {
        if text.trim_start().is_empty() {
            return Some(Findings::unknown(heads, Unknown::Empty, ClassifyCost::default()));
        }
        // That head judges pairs, not texts.
        let heads_here = self.queue.model_set().heads().and(heads).without(ClassifyHeads::HALLUCINATION);
        heads_here.is_empty().then(|| Findings::unknown(heads, Unknown::Unsupported, ClassifyCost::default()))
    }
}

impl std::fmt::Debug for Classifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Classifier").field("spec", self.spec()).finish_non_exhaustive()
    }
}

/// Reads the domain head's labels without loading any weights; may download a file.
fn domains(spec: &ClassifierSpec) -> Result<Vec<String>, LoadError> {
    match &spec.models.domain {
        Some(source) => model::domain_labels(source, &spec.hub, Some(ClassifyHead::Domain)),
        None => model::domain_labels(&spec.model, &spec.hub, None),
    }
}

/// Says what the models that a policy names say of themselves, without loading any weights; may download files.
///
/// A model whose hub is out of reach says nothing: a policy can be checked offline, and what puts it in force loads the
/// model anyway.
pub fn inspect(spec: &ClassifierSpec) -> ModelFacts {
    // Nobody waits here for a hub that is not there.
    let spec = &ClassifierSpec { hub: HubSpec { attempts: 1, ..spec.hub.clone() }, ..spec.clone() };
    let (mut domains_of, mut faults) = (None, Vec::new());
    let mut fault = |keys, error: &LoadError| {
        if !error.is_out_of_reach() {
            faults.push(ModelFault { keys, message: error.to_string() });
        }
    };
    if let Err(error) = check_detector(spec) {
        fault(&["classifier", "models", "hallucination"], &error);
    }
    let own = spec.models.domain.is_some();
    match domains(spec) {
        Ok(names) => domains_of = Some(names),
        Err(error) if own => fault(&["classifier", "models", "domain"], &error),
        Err(error) => fault(&["classifier", "model"], &error),
    }
    ModelFacts { domains: domains_of, faults }
}

/// Checks that the configured detector of hallucinations looks like one.
fn check_detector(spec: &ClassifierSpec) -> Result<(), LoadError> {
    spec.models.hallucination.as_ref().map_or(Ok(()), |source| model::check_detector(source, &spec.hub))
}

/// Refuses a policy that wants a threshold of a model that has none.
fn check_strict_threshold(spec: &ClassifierSpec, models: &[LoadedModel]) -> Result<(), LoadError> {
    let head = ClassifyHead::Jailbreak;
    let guard = models.iter().find(|model| model.heads().has(head));
    let is_strict = spec.thresholds.jailbreak == Some(AttackThreshold::Point(OperatingPoint::Strict));
    match guard.filter(|model| is_strict && model.strict_threshold(head).is_none()) {
        None => Ok(()),
        Some(model) => Err(LoadError::Misplaced {
            model: model.info().source.clone(),
            head: head.as_str(),
            reason: "it has no `strict` threshold; give a number",
        }),
    }
}

fn threads(configured: usize) -> usize {
    match configured {
        0 => std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1)),
        threads => threads,
    }
}

/// Returns the models that a policy names for one head each.
fn assigned(spec: &ClassifierSpec) -> impl Iterator<Item = (ClassifyHead, &ModelSource)> {
    let models = &spec.models;
    let assigned = [
        (ClassifyHead::Domain, &models.domain),
        (ClassifyHead::Jailbreak, &models.jailbreak),
        (ClassifyHead::Pii, &models.pii),
        (ClassifyHead::Embedding, &models.embedding),
        (ClassifyHead::Hallucination, &models.hallucination),
    ];
    assigned.into_iter().filter_map(|(head, model)| Some((head, model.as_ref()?)))
}
