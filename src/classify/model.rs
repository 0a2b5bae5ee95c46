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
use super::encoder::{Shape, Trunk, linear};
use super::ops::{Linear, Then};
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
    hidden: Linear,
    output: Linear,
}

/// The three files of a model, wherever they are.
struct Files {
    config: Cow<'static, [u8]>,
    tokenizer: Cow<'static, [u8]>,
    weights: Cow<'static, [u8]>,
}

impl Source {
    /// Reads which domains a model tells apart, without its weights.
    pub fn labels(&self) -> Result<Vec<String>, LoadError> {
        let config: Config = serde_json::from_slice(&Files::config(self)?)?;
        Ok(config.domain.labels)
    }
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
        let hidden = linear(weights, &["domain.hidden".to_owned()], (config.hidden, inputs))?;
        let output = linear(weights, &["domain.output".to_owned()], (config.labels.len(), config.hidden))?;
        Ok(Self { config, hidden, output })
    }

    fn forward(&self, states: &[Vec<f32>]) -> Result<Vec<f32>, candle_core::Error> {
        let input: Vec<f32> = self.config.states.iter().flat_map(|state| &states[*state]).copied().collect();
        let input = Tensor::from_slice(&input, (1, input.len()), &Device::Cpu)?;
        let logits = self.output.forward(&self.hidden.forward_then(&input, Then::Gelu)?)?;
        Ok(softmax(logits.get(0)?.to_vec1()?, self.config.temperature))
    }
}

impl Files {
    fn config(source: &Source) -> Result<Cow<'static, [u8]>, LoadError> {
        match source {
            Source::Builtin => Ok(Cow::Borrowed(include_bytes!("../../models/builtin/config.json"))),
            Source::Folder(folder) => read(folder, "config.json"),
        }
    }

    fn read(source: &Source) -> Result<Self, LoadError> {
        let config = Self::config(source)?;
        match source {
            Source::Builtin => Ok(Self {
                config,
                tokenizer: Cow::Borrowed(include_bytes!("../../models/builtin/tokenizer.json")),
                weights: Cow::Borrowed(include_bytes!("../../models/builtin/model.safetensors")),
            }),
            Source::Folder(folder) => Ok(Self {
                config,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Golden {
        text: String,
        middle: Vec<f32>,
        last: Vec<f32>,
        probabilities: Vec<f32>,
    }

    fn builtin() -> Model {
        Model::load(&Source::Builtin, 512).unwrap()
    }

    fn assert_near(got: &[f32], want: &[f32]) {
        assert_eq!(got.len(), want.len());
        for (got, want) in got.iter().zip(want) {
            assert!((got - want).abs() < 1e-3, "{got} against {want}");
        }
    }

    #[test]
    fn states_and_probabilities_are_those_of_training() {
        let golden: Vec<Golden> =
            serde_json::from_str(include_str!("../../tests/golden/classify.json")).unwrap();
        let model = builtin();
        for case in golden {
            let text = cut(&case.text, 512);
            let states = model.trunk.mean_states(&model.tokens(text).unwrap()).unwrap();
            assert_near(&states[3], &case.middle);
            assert_near(&states[6], &case.last);
            assert_near(&model.probabilities(text).unwrap(), &case.probabilities);
        }
    }

    #[test]
    fn the_guides_prompts_are_sure_and_right() {
        let model = builtin();
        let labels = model.labels();
        for (text, want) in [
            ("Linux is said to be an open source kernel because ", "computer science"),
            ("2+2 is  ", "math"),
            ("2+2 is ", "math"),
            ("What is 2+2 * (5-1)?", "math"),
            ("What is the derivative of f(x) = x^3 + 2x^2 - 5x + 7?", "math"),
        ] {
            let probabilities = model.probabilities(cut(text, 512)).unwrap();
            let (index, confidence) = super::super::best(&probabilities).unwrap();
            assert_eq!(&*labels[index], want, "{text}");
            assert!(confidence >= 0.6, "{text}: {confidence}");
            assert!((probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        }
    }

    #[test]
    fn a_text_is_cut_at_a_character_after_its_first_white_space() {
        assert_eq!(cut("  \n\t ", 3), "");
        assert_eq!(cut("  ab  ", 3), "ab");
        let long = "é".repeat(100_000);
        assert_eq!(cut(&format!(" a{long}"), 3).len(), 23);
        assert_eq!(cut("whole", usize::MAX), "whole");
    }

    #[test]
    fn tokens_beyond_the_limit_leave_room_for_the_last_one() {
        let mut model = builtin();
        let whole = model.tokens("one two three four five six").unwrap();
        model.max_tokens = 5;
        let short = model.tokens("one two three four five six").unwrap();
        assert_eq!(short[..4], whole[..4]);
        assert_eq!(short[4], *whole.last().unwrap());
    }

    #[test]
    fn a_folder_without_a_model_is_named_in_the_error() {
        let error = Model::load(&Source::Folder("/nowhere".into()), 512).err().unwrap();
        assert_eq!(error.to_string().split(": ").next(), Some("cannot read /nowhere/config.json"));
    }

    #[test]
    fn a_broken_model_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::read(&Source::Builtin).unwrap();
        let load = |config: &[u8], tokenizer: &[u8], weights: &[u8]| {
            std::fs::write(folder.path().join("config.json"), config).unwrap();
            std::fs::write(folder.path().join("tokenizer.json"), tokenizer).unwrap();
            std::fs::write(folder.path().join("model.safetensors"), weights).unwrap();
            Model::load(&Source::Folder(folder.path().into()), 512).err().unwrap().to_string()
        };
        let half = &files.weights[..files.weights.len() / 2];
        assert!(load(&files.config, &files.tokenizer, half).starts_with("model.safetensors: "));
        assert!(load(&files.config, b"{}", &files.weights).starts_with("tokenizer.json: "));
        assert!(load(b"{}", &files.tokenizer, &files.weights).starts_with("config.json: "));
        let config = String::from_utf8(files.config.to_vec()).unwrap();
        let narrower = config.replace("\"width\": 384", "\"width\": 372");
        assert!(
            load(narrower.as_bytes(), &files.tokenizer, &files.weights).starts_with("model.safetensors: ")
        );
        let deeper = config.replace("\"layers\": 6", "\"layers\": 7");
        assert!(load(deeper.as_bytes(), &files.tokenizer, &files.weights).starts_with("model.safetensors: "));
    }

    #[test]
    fn a_folder_holds_the_same_model_as_the_binary() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/builtin");
        let here = Model::load(&Source::Folder(folder), 512).unwrap();
        let text = "the force on a charge in a magnetic field";
        assert_eq!(here.probabilities(text).unwrap(), builtin().probabilities(text).unwrap());
    }
}
