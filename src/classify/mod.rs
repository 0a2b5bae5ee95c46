//! What a text is about and what is in it: the only door to candle and tokenizers.
//!
//! A [`Classifier`] holds models and the threads that run them, behind a bounded queue. Whole texts are read, in
//! windows; one forward answers every question, for windows of many texts at once; windows that were seen before are
//! not computed again. Being late or busy is an answer ([`Unknown`]), not an error. Knows nothing of requests or of
//! what follows from a finding.

mod answer;
mod batch;
mod builtin;
mod cache;
mod checkpoint;
mod claim;
mod device;
mod files;
mod findings;
mod frame;
#[cfg(test)]
mod golden;
mod heads;
mod hub;
mod load_error;
mod merge;
mod model;
mod ops;
mod patterns;
mod pii;
mod reader;
mod reading;
mod spec;
#[cfg(test)]
mod tests;
mod trunk;
mod waiting;
mod weights;
mod window;

use std::sync::Arc;
use std::time::Instant;

pub use batch::Forwards;
pub use claim::Claim;
pub use findings::{Cost, Doubt, Entity, EntitySource, Findings, Label, Question, Questions, Risk, Unknown};
pub use hub::HubError;
pub use load_error::LoadError;
pub use pii::masked;
pub use spec::{DeviceChoice, HubSpec, ModelInfo, Precision, Source, Spec, Thresholds};

use answer::Encoder;
use batch::Queue;
use model::{Model, Options};
use reading::Library;

/// Loaded models and the threads that run them, which end when it is dropped.
pub struct Classifier {
    models: Vec<ModelInfo>,
    queue: Queue,
}

impl Classifier {
    /// Loads the models and starts the threads; blocks for some hundred milliseconds, for longer if models must be
    /// fetched first.
    pub fn load(spec: &Spec) -> Result<Self, LoadError> {
        let device = spec.device.open(spec.precision);
        let rest = Questions::ALL.without(spec.models.keys().copied().collect());
        let default = (!rest.is_empty()).then_some((rest, None, &spec.model));
        let others = spec.models.iter().map(|(question, source)| {
            let only = std::iter::once(*question).collect();
            (only, Some(*question), source)
        });
        let load = |(questions, placed, source): (Questions, Option<Question>, &Source)| {
            let options = Options { questions, placed, device: &device, hub: &spec.hub };
            Model::load(source, &options)
        };
        let models = default.into_iter().chain(others).map(load).collect::<Result<Vec<_>, _>>()?;
        let models = Model::share(models);
        let infos = models.iter().map(|model| model.info().clone()).collect();
        Self::start(
            spec,
            models.into_iter().map(|model| Arc::new(model) as Arc<dyn Encoder>).collect(),
            infos,
        )
    }

    fn start(spec: &Spec, models: Vec<Arc<dyn Encoder>>, infos: Vec<ModelInfo>) -> Result<Self, LoadError> {
        let library = Library::new(spec, models);
        let queue = Queue::start(threads(spec.threads), library).map_err(LoadError::Thread)?;
        Ok(Self { models: infos, queue })
    }

    /// Answers questions about a text as far as that is possible by `deadline`; dropping the future takes the text
    /// out of the queue.
    pub async fn classify(&self, text: &str, questions: Questions, deadline: Instant) -> Findings {
        match self.at_once(text, questions) {
            Some(findings) => findings,
            None => match self.queue.submit([(text, questions)], deadline).pop() {
                Some(ticket) => ticket.findings().await,
                None => Findings::unknown(questions, Unknown::Failed, Cost::default()),
            },
        }
    }

    /// Says which parts of an answer nothing bears out that its model was told, or why that is unknown by `deadline`;
    /// dropping the future takes it out of the queue.
    pub async fn verify(&self, claim: Claim<'_>, deadline: Instant) -> Findings {
        let unknown = |reason| Findings::unknown(Questions::HALLUCINATION, reason, Cost::default());
        if !self.queue.library().questions().hallucination {
            return unknown(Unknown::Unsupported);
        }
        if claim.context.trim().is_empty() || claim.answer.trim().is_empty() {
            return unknown(Unknown::Empty);
        }
        match self.queue.submit_claim(claim, deadline) {
            Some(ticket) => ticket.findings().await,
            None => unknown(Unknown::TooLong),
        }
    }

    /// Says what a text is about, or why that is unknown by `deadline`; dropping the future takes it out of the queue.
    pub async fn domain(&self, text: &str, deadline: Instant) -> Result<Label, Unknown> {
        let findings = self.classify(text, Questions::DOMAIN, deadline).await;
        findings.domain.unwrap_or(Err(Unknown::Failed))
    }

    /// Answers the same questions about several texts, in their order; they are queued together, as many at a time
    /// as half the queue takes.
    pub async fn classify_all(
        &self,
        texts: &[String],
        questions: Questions,
        deadline: Instant,
    ) -> Vec<Findings> {
        let asked: Vec<_> = texts.iter().map(|text| (text.as_str(), questions)).collect();
        self.classify_each(&asked, deadline).await
    }

    /// Answers questions about several texts, to each its own; otherwise like [`Self::classify_all`].
    pub async fn classify_each(&self, asked: &[(&str, Questions)], deadline: Instant) -> Vec<Findings> {
        let mut all = Vec::with_capacity(asked.len());
        for group in asked.chunks((self.spec().queue / 2).max(1)) {
            let early: Vec<Option<Findings>> =
                group.iter().map(|(text, questions)| self.at_once(text, *questions)).collect();
            let open = group.iter().zip(&early).filter(|(_, early)| early.is_none());
            let tickets = self.queue.submit(open.map(|(asked, _)| *asked), deadline);
            let found = futures::future::join_all(tickets.into_iter().map(batch::Ticket::findings)).await;
            let mut found = found.into_iter();
            all.extend(early.into_iter().filter_map(|early| early.or_else(|| found.next())));
        }
        all
    }

    /// Counts the tokens of a text as the first model reads it, on the thread that asks; nothing if that fails. It
    /// takes some microseconds for each token: whoever asks bounds the text.
    pub fn count_tokens(&self, text: &str) -> Option<usize> {
        let model = self.queue.library().models.first()?;
        batch::caught(|| model.tokens(text)).ok().map(|tokens| tokens.ids.len())
    }

    /// Returns the domains that are told apart.
    pub fn labels(&self) -> &[Arc<str>] {
        self.queue.library().labels(Question::Domain)
    }

    /// Describes the loaded models.
    pub fn models(&self) -> Vec<ModelInfo> {
        self.models.clone()
    }

    /// Returns what the classifier was loaded from.
    pub fn spec(&self) -> &Spec {
        &self.queue.library().spec
    }

    /// Counts the texts that wait for a thread.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Sums up what was computed since the models were loaded.
    pub fn forwards(&self) -> Forwards {
        self.queue.forwards()
    }

    /// Answers what needs no thread: an empty text, and questions that no model answers.
    fn at_once(&self, text: &str, questions: Questions) -> Option<Findings> {
        if text.trim_start().is_empty() {
            return Some(Findings::unknown(questions, Unknown::Empty, Cost::default()));
        }
        // What is asked of claims cannot be asked of a text alone.
        let questions_here =
            self.queue.library().questions().and(questions).without(Questions::HALLUCINATION);
        questions_here.is_empty().then(|| Findings::unknown(questions, Unknown::Unsupported, Cost::default()))
    }
}

impl Spec {
    /// Reads which domains will be told apart, without loading any weights; may fetch a file.
    pub fn domains(&self) -> Result<Vec<String>, LoadError> {
        match self.models.get(&Question::Domain) {
            Some(source) => source.labels(&self.hub, Some(Question::Domain)),
            None => self.model.labels(&self.hub, None),
        }
    }

    /// Says whether what is to find made-up answers looks as if it could, without loading any weights; may fetch files.
    pub fn check_detector(&self) -> Result<(), LoadError> {
        self.models.get(&Question::Hallucination).map_or(Ok(()), |source| source.check_detector(&self.hub))
    }
}

impl std::fmt::Debug for Classifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Classifier").field("spec", self.spec()).finish_non_exhaustive()
    }
}

fn threads(wanted: usize) -> usize {
    match wanted {
        0 => std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1)),
        wanted => wanted,
    }
}
