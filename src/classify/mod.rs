//! What a text is about: the only door to candle and tokenizers.
//!
//! A [`Classifier`] holds one model and the threads that run it, behind a bounded queue. Being late or busy is
//! an answer ([`Unknown`]), not an error. Knows nothing of requests, policies or what follows from a label.

mod encoder;
mod model;
mod ops;
#[cfg(test)]
mod oracle;
mod queue;
mod weights;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use model::LoadError;

use model::Model;
use queue::{Compute, Queue};

/// What a text is about.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    /// The most probable of the model's labels.
    pub name: Arc<str>,
    /// Its calibrated probability, from 0 to 1.
    pub confidence: f32,
    /// The time in the queue and computing.
    pub latency: Duration,
}

/// Why it is not known what a text is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// The queue is full.
    Busy,
    /// The deadline has passed.
    Late,
    /// The computation failed.
    Failed,
    /// There is nothing but white space to classify.
    Empty,
}

impl Unknown {
    /// Returns the reason as one lowercase word, for logs, headers and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Late => "late",
            Self::Failed => "failed",
            Self::Empty => "empty",
        }
    }
}

/// Which model a classifier runs, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Where the model comes from.
    pub source: Source,
    /// How many threads compute, each on its own text; 0 stands for half the cores, at least one.
    pub threads: usize,
    /// How many texts may wait; one more is [`Unknown::Busy`].
    pub queue: usize,
    /// How many tokens of a text are read, from its start; at most the model's own limit.
    pub max_tokens: usize,
}

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The model inside this binary.
    Builtin,
    /// A folder with `config.json`, `tokenizer.json` and `model.safetensors`.
    Folder(PathBuf),
}

/// A loaded model and the threads that run it, which end when it is dropped.
pub struct Classifier {
    spec: Spec,
    labels: Vec<Arc<str>>,
    max_tokens: usize,
    queue: Queue,
}

impl Classifier {
    /// Loads a model and starts its threads; blocks for some hundred milliseconds.
    pub fn load(spec: &Spec) -> Result<Self, LoadError> {
        let model = Model::load(&spec.source, spec.max_tokens)?;
        let (labels, max_tokens) = (model.labels(), model.max_tokens());
        let compute: Arc<Compute> = Arc::new(move |text: &str| best(&model.probabilities(text).ok()?));
        let queue = Queue::start(threads(spec.threads), spec.queue, &compute).map_err(LoadError::Thread)?;
        Ok(Self { spec: spec.clone(), labels, max_tokens, queue })
    }

    /// Returns the labels that the model knows.
    pub fn labels(&self) -> &[Arc<str>] {
        &self.labels
    }

    /// Says what a text is about, or why that is unknown by `deadline`; dropping the future cancels the work.
    pub async fn domain(&self, text: &str, deadline: Instant) -> Result<Label, Unknown> {
        let text = model::cut(text, self.max_tokens);
        if text.is_empty() {
            return Err(Unknown::Empty);
        }
        let found = self.queue.ask(text.to_owned(), deadline).await?;
        let name = self.labels.get(found.index).ok_or(Unknown::Failed)?;
        Ok(Label { name: Arc::clone(name), confidence: found.confidence, latency: found.latency })
    }

    /// Returns what the classifier was loaded from.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Counts the texts that wait for a thread.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }
}

impl std::fmt::Debug for Classifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Classifier").field("spec", &self.spec).finish_non_exhaustive()
    }
}

fn threads(wanted: usize) -> usize {
    match wanted {
        0 => std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1)),
        wanted => wanted,
    }
}

/// Returns the index and value of the largest probability; none where one is not a number.
fn best(probabilities: &[f32]) -> Option<(usize, f32)> {
    if probabilities.iter().any(|p| p.is_nan()) {
        return None;
    }
    probabilities.iter().copied().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b))
}
