//! A whole model: its files, its tokenizer, its trunk and its head; text in, probabilities out.
//!
//! Knows nothing of threads, queues or deadlines.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{Device, Tensor};
use serde::Deserialize;
use tokenizers::Tokenizer;

use super::Source;
use super::encoder::{Dense, Shape, Trunk};
use super::weights::Weights;

/// A token spans fewer bytes than this on average, so that longer texts are cut before they are tokenised.
const BYTES_A_TOKEN: usize = 8;

/// A model could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file of the model's folder cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// `config.json` is not what this version understands.
    #[error("config.json: {0}")]
    Config(#[from] serde_json::Error),
    /// `tokenizer.json` is not a tokenizer.
    #[error("tokenizer.json: {0}")]
    Tokenizer(#[source] tokenizers::Error),
    /// `model.safetensors` lacks a tensor or has one of another shape.
    #[error("model.safetensors: {0}")]
    Weights(#[from] candle_core::Error),
    /// `config.json` contradicts itself.
    #[error("config.json: {0}")]
    Contradiction(&'static str),
    /// The operating system gave no thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    trunk: Shape,
    domain: HeadConfig,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadConfig {
    labels: Vec<String>,
    /// Which mean-pooled states the head reads; 0 is the embedding.
    states: Vec<usize>,
    hidden: usize,
    /// Divides the logits, so that confidence means accuracy.
    temperature: f32,
}

/// The loaded model.
pub(super) struct Model {
    tokenizer: Tokenizer,
    trunk: Trunk,
    head: Head,
    max_tokens: usize,
}

struct Head {
    config: HeadConfig,
    hidden: Dense,
    output: Dense,
}

/// The three files of a model, wherever they are.
struct Files {
    config: Cow<'static, [u8]>,
    tokenizer: Cow<'static, [u8]>,
    weights: Cow<'static, [u8]>,
}

impl Model {
    pub(super) fn load(source: &Source, max_tokens: usize) -> Result<Self, LoadError> {
        let files = Files::read(source)?;
        let config: Config = serde_json::from_slice(&files.config)?;
        let tokenizer = Tokenizer::from_bytes(&files.tokenizer).map_err(LoadError::Tokenizer)?;
        let weights = Weights::new(&files.weights)?;
        let trunk = Trunk::load(&weights, &config.trunk)?;
        let max_tokens = max_tokens.clamp(3, config.trunk.positions.max(3));
        let head = Head::load(&weights, config.domain, &config.trunk)?;
        Ok(Self { tokenizer, trunk, head, max_tokens })
    }

    pub(super) fn labels(&self) -> Vec<Arc<str>> {
        self.head.config.labels.iter().map(|label| Arc::from(label.as_str())).collect()
    }

    /// Returns how many tokens of a text are read.
    pub(super) fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Returns the probability of each label, in `labels` order, for a text that `cut` has shortened.
    pub(super) fn probabilities(&self, text: &str) -> Result<Vec<f32>, candle_core::Error> {
        let ids = self.tokens(text)?;
        self.head.forward(&self.trunk.mean_states(&ids)?)
    }

    /// Returns token ids from `[CLS]` to `[SEP]`; what does not fit is left out before the `[SEP]`.
    fn tokens(&self, text: &str) -> Result<Vec<u32>, candle_core::Error> {
        let encoding = self.tokenizer.encode_fast(text, true).map_err(candle_core::Error::msg)?;
        let mut ids = encoding.get_ids().to_vec();
        if ids.len() > self.max_tokens {
            let last = ids[ids.len() - 1];
            ids.truncate(self.max_tokens - 1);
            ids.push(last);
        }
        Ok(ids)
    }
}

impl Head {
    fn load(weights: &Weights<'_>, config: HeadConfig, trunk: &Shape) -> Result<Self, LoadError> {
        if config.labels.is_empty() || config.states.iter().any(|state| *state > trunk.layers) {
            return Err(LoadError::Contradiction(
                "the head has no labels or reads a state that is not there",
            ));
        }
        if config.temperature.is_nan() || config.temperature <= 0.0 {
            return Err(LoadError::Contradiction("the temperature is not above zero"));
        }
        let inputs = config.states.len() * trunk.width;
        let hidden = Dense::load(weights, &["domain.hidden".to_owned()], (config.hidden, inputs))?;
        let output =
            Dense::load(weights, &["domain.output".to_owned()], (config.labels.len(), config.hidden))?;
        Ok(Self { config, hidden, output })
    }

    fn forward(&self, states: &[Vec<f32>]) -> Result<Vec<f32>, candle_core::Error> {
        let input: Vec<f32> = self.config.states.iter().flat_map(|state| &states[*state]).copied().collect();
        let input = Tensor::from_slice(&input, (1, input.len()), &Device::Cpu)?;
        let logits = self.output.forward(&self.hidden.forward_gelu(&input)?)?;
        Ok(softmax(logits.get(0)?.to_vec1()?, self.config.temperature))
    }
}

impl Files {
    fn read(source: &Source) -> Result<Self, LoadError> {
        match source {
            Source::Builtin => Ok(Self {
                config: Cow::Borrowed(include_bytes!("../../models/builtin/config.json")),
                tokenizer: Cow::Borrowed(include_bytes!("../../models/builtin/tokenizer.json")),
                weights: Cow::Borrowed(include_bytes!("../../models/builtin/model.safetensors")),
            }),
            Source::Folder(folder) => Ok(Self {
                config: read(folder, "config.json")?,
                tokenizer: read(folder, "tokenizer.json")?,
                weights: read(folder, "model.safetensors")?,
            }),
        }
    }
}

fn read(folder: &Path, name: &str) -> Result<Cow<'static, [u8]>, LoadError> {
    let path = folder.join(name);
    std::fs::read(&path).map(Cow::Owned).map_err(|source| LoadError::Read { path, source })
}

/// Cuts a text, without the white space around it, to what `max_tokens` tokens can span.
pub(super) fn cut(text: &str, max_tokens: usize) -> &str {
    let text = text.trim();
    &text[..text.floor_char_boundary(max_tokens.saturating_mul(BYTES_A_TOKEN))]
}

fn softmax(mut logits: Vec<f32>, temperature: f32) -> Vec<f32> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for x in &mut logits {
        *x = ((*x - max) / temperature).exp();
    }
    let sum: f32 = logits.iter().sum();
    for x in &mut logits {
        *x /= sum;
    }
    logits
}
