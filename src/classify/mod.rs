//! What a text is about: the only door to candle and tokenizers.
//!
//! A [`Classifier`] holds one model and the threads that run it, behind a bounded queue. Being late or busy is
//! an answer ([`Unknown`]), not an error. Knows nothing of requests, policies or what follows from a label.

mod answer;
mod builtin;
mod checkpoint;
mod device;
mod files;
mod findings;
#[cfg(test)]
mod golden;
mod heads;
mod hub;
mod kernels;
mod load_error;
mod model;
mod ops;
mod queue;
mod reader;
mod spec;
mod trunk;
mod weights;

use std::sync::Arc;
use std::time::Instant;

pub use findings::{Cost, Entity, EntitySource, Findings, Label, Question, Questions, Risk, Unknown};
pub use hub::HubError;
pub use load_error::LoadError;
pub use spec::{DeviceChoice, HubSpec, ModelInfo, Source, Spec, Thresholds};

use answer::Encoder;
use model::{Model, Options};
use queue::{Compute, Queue};

/// A loaded model and the threads that run it, which end when it is dropped.
pub struct Classifier {
    spec: Spec,
    labels: Vec<Arc<str>>,
    queue: Queue,
}

impl Classifier {
    /// Loads a model and starts its threads; blocks for some hundred milliseconds.
    pub fn load(spec: &Spec) -> Result<Self, LoadError> {
        let device = spec.device.open();
        let options = Options { questions: Questions::DOMAIN, placed: None, device: &device, hub: &spec.hub };
        let model = Model::load(&spec.model, &options)?;
        let (labels, max_tokens) = (model.labels(Question::Domain), model.room().min(spec.max_tokens));
        let compute: Arc<Compute> = Arc::new(move |text: &str| {
            let tokens = model.tokens(text).ok()?.ids;
            let window = &tokens[..tokens.len().min(max_tokens)];
            best(model.run(&[window], Questions::DOMAIN).ok()?.first()?.domain.as_deref()?)
        });
        let queue = Queue::start(threads(spec.threads), spec.queue, &compute).map_err(LoadError::Thread)?;
        Ok(Self { spec: spec.clone(), labels, queue })
    }

    /// Returns the labels that the model knows.
    pub fn labels(&self) -> &[Arc<str>] {
        &self.labels
    }

    /// Says what a text is about, or why that is unknown by `deadline`; dropping the future cancels the work.
    pub async fn domain(&self, text: &str, deadline: Instant) -> Result<Label, Unknown> {
        let text = text.trim();
        if text.is_empty() {
            return Err(Unknown::Empty);
        }
        let found = self.queue.ask(text.to_owned(), deadline).await?;
        let name = self.labels.get(found.index).ok_or(Unknown::Failed)?;
        Ok(Label {
            name: Arc::clone(name),
            confidence: found.confidence,
            probabilities: Arc::default(),
            coverage: 1.0,
            latency: found.latency,
        })
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
