//! The format of the built-in model: one BERT encoder and the heads that `config.json` lists.
//!
//! Knows nothing of where the files lie or how windows are made.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use xxhash_rust::xxh3::xxh3_128;

use super::encoder::bert::{Bert, BertShape, PositionScheme, TensorNaming};
use super::encoder::{Encoder, EncoderDimensions};
use super::heads::{DenseLayer, HeadInput, HeadNetwork, OutputActivation};
use super::layer_builder::LayerBuilder;
use super::load_error::LoadError;
use super::model_parts::{HeadThresholds, LoadedHead, ModelParts};
use super::ops::{Activation, Pooling};
use super::paraphrase::{LENGTHS, ParaphraseMember, ParaphraseNetwork, QuestionLayout};
use super::spans::SpanGrid;
use super::{ClassifyHead, ClassifyHeads};

/// `config.json`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BuiltinConfig {
    #[serde(rename = "trunk")]
    encoder: BuiltinEncoderConfig,
    #[serde(default)]
    heads: BuiltinHeadsConfig,
    /// The languages that it reads, by ISO 639-1; every one where it says nothing.
    pub(super) languages: Option<Vec<String>>,
    /// The one head of the first models of this format.
    domain: Option<BuiltinHeadConfig>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BuiltinEncoderConfig {
    layers: usize,
    width: usize,
    heads: usize,
    intermediate: usize,
    vocabulary: usize,
    positions: usize,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct BuiltinHeadsConfig {
    domain: Option<BuiltinHeadConfig>,
    jailbreak: Option<BuiltinHeadConfig>,
    pii: Option<BuiltinHeadConfig>,
    embedding: Option<BuiltinEmbeddingConfig>,
    paraphrase: Option<BuiltinParaphraseConfig>,
}

/// What compares two questions, whose weights are in a file of their own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BuiltinParaphraseConfig {
    states: Vec<usize>,
    /// How many numbers a token's row has of each state.
    width: usize,
    /// How many of them are compared one by one.
    compared: Vec<usize>,
    hidden: usize,
    joined: usize,
    members: usize,
    threshold: f32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BuiltinHeadConfig {
    labels: Vec<String>,
    /// Layers whose states the head reads; 0 is the embedding.
    states: Vec<usize>,
    /// Pools a text's states to one row; heads for tokens have none.
    pooling: Option<BuiltinPooling>,
    /// Neighbours on either side that a head for tokens reads too.
    #[serde(default)]
    context: usize,
    hidden: usize,
    /// Divides the logits (temperature scaling), so that a confidence is a share of right answers.
    temperature: f32,
    /// Added to the last label's logit after that.
    #[serde(default)]
    bias: f32,
    threshold: Option<f32>,
    /// Where what is overlooked costs more than a false alarm; lower than `threshold`.
    strict_threshold: Option<f32>,
    /// Judges spans of a text beside the whole.
    spans: Option<BuiltinSpansConfig>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct BuiltinSpansConfig {
    sizes: Vec<usize>,
    sentence_ends: Vec<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BuiltinEmbeddingConfig {
    state: usize,
    pooling: BuiltinPooling,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum BuiltinPooling {
    Mean,
    Max,
    MeanMax,
    Cls,
}

impl BuiltinConfig {
    fn head(&self, kind: ClassifyHead) -> Option<&BuiltinHeadConfig> {
        match kind {
            ClassifyHead::Domain => self.heads.domain.as_ref().or(self.domain.as_ref()),
            ClassifyHead::Jailbreak => self.heads.jailbreak.as_ref(),
            ClassifyHead::Pii => self.heads.pii.as_ref(),
            ClassifyHead::Embedding | ClassifyHead::Hallucination | ClassifyHead::Paraphrase => None,
        }
    }

    /// Returns the heads that have labels.
    pub(super) fn labelled_heads(&self) -> ClassifyHeads {
        ClassifyHead::ALL.into_iter().filter(|kind| self.head(*kind).is_some()).collect()
    }

    /// Returns the labels of a head, none where there is none.
    pub(super) fn labels(&self, kind: ClassifyHead) -> Vec<Arc<str>> {
        self.head(kind).map(BuiltinHeadConfig::label_names).unwrap_or_default()
    }

    pub(super) fn thresholds(&self, kind: ClassifyHead) -> HeadThresholds {
        self.head(kind).map(BuiltinHeadConfig::thresholds).unwrap_or_default()
    }

    /// Reads the encoder and the wanted heads.
    pub(super) fn load(
        self,
        path: &Path,
        builder: &LayerBuilder<'_>,
        of_questions: Option<&LayerBuilder<'_>>,
        wanted: ClassifyHeads,
    ) -> Result<ModelParts, LoadError> {
        let unsupported =
            |reason: &str| LoadError::Unsupported { path: path.to_owned(), reason: reason.to_owned() };
        let encoder = self.encoder;
        let dimensions = EncoderDimensions {
            layers: encoder.layers,
            width: encoder.width,
            heads: encoder.heads,
            intermediate: encoder.intermediate,
            vocabulary: encoder.vocabulary,
            positions: encoder.positions,
        };
        dimensions.check().map_err(|reason| unsupported(&reason))?;
        let shape = BertShape {
            layers: encoder.layers,
            width: encoder.width,
            heads: encoder.heads,
            intermediate: encoder.intermediate,
            vocabulary: encoder.vocabulary,
            positions: encoder.positions,
            position_scheme: PositionScheme::FromZero,
            epsilon: 1e-12,
            activation: Activation::Gelu,
            naming: TensorNaming::Bert,
        };
        let config_digest = xxh3_128(format!("{shape:?}").as_bytes());
        let encoder = Encoder::Bert(Box::new(Bert::load(builder, shape)?));
        let weights_digest = builder.weights.digest();
        let mut heads = Vec::new();
        let configs = [
            (ClassifyHead::Domain, self.heads.domain.or(self.domain)),
            (ClassifyHead::Jailbreak, self.heads.jailbreak),
            (ClassifyHead::Pii, self.heads.pii),
        ];
        for (kind, config) in configs {
            let Some(config) = config.filter(|_| wanted.has(kind)) else { continue };
            if let Some(fault) = config.fault(kind, &encoder) {
                return Err(unsupported(&format!("heads.{}: {fault}", kind.as_str())));
            }
            let is_for_tokens = kind == ClassifyHead::Pii;
            let network =
                config.load(&builder.under(&format!("{}.", kind.as_str())), &encoder, is_for_tokens)?;
            heads.push(LoadedHead {
                kind,
                network,
                positive: vec![config.labels.len() - 1],
                labels: config.label_names(),
                thresholds: config.thresholds(),
                paraphrase: None,
            });
        }
        if let (Some(config), Some(builder)) =
            (self.heads.paraphrase.filter(|_| wanted.paraphrase), of_questions)
        {
            if let Some(fault) = config.fault(&encoder) {
                return Err(unsupported(&format!("heads.paraphrase: {fault}")));
            }
            heads.push(config.load(&builder.under("paraphrase."), &encoder)?);
        }
        if let Some(config) = self.heads.embedding.filter(|_| wanted.embedding) {
            if config.state > encoder.layers() {
                return Err(unsupported("heads.embedding: reads a state that is not there"));
            }
            heads.push(LoadedHead::embedding(HeadNetwork {
                states: vec![config.state],
                input: HeadInput::Text(config.pooling.poolings()),
                layers: Vec::new(),
                output: OutputActivation::None,
            }));
        }
        Ok(ModelParts { family: "bert", encoder, config_digest, weights_digest, heads })
    }
}

impl BuiltinHeadConfig {
    fn label_names(&self) -> Vec<Arc<str>> {
        self.labels.iter().map(|label| label.as_str().into()).collect()
    }

    fn thresholds(&self) -> HeadThresholds {
        HeadThresholds { balanced: self.threshold, strict: self.strict_threshold }
    }

    /// Says what is inconsistent, if anything is.
    fn fault(&self, kind: ClassifyHead, encoder: &Encoder) -> Option<&'static str> {
        let is_for_tokens = kind == ClassifyHead::Pii;
        if self.labels.is_empty() || self.states.is_empty() {
            return Some("no labels or no states");
        }
        if self.states.iter().any(|state| *state > encoder.layers()) {
            return Some("reads a state that is not there");
        }
        if self.temperature.is_nan() || self.temperature <= 0.0 {
            return Some("the temperature is not above zero");
        }
        if is_for_tokens && self.pooling.is_some() {
            return Some("tokens are not pooled");
        }
        if !is_for_tokens && self.context > 0 {
            return Some("a text has no neighbours");
        }
        let is_pooled = matches!(
            self.pooling,
            None | Some(BuiltinPooling::Mean | BuiltinPooling::Max | BuiltinPooling::MeanMax)
        );
        match &self.spans {
            Some(_) if kind != ClassifyHead::Jailbreak => Some("only attacks are looked for in spans"),
            Some(_) if !is_pooled => Some("spans have means and maxima alone"),
            Some(spans) => spans.grid().fault(),
            None => None,
        }
    }

    fn load(
        &self,
        builder: &LayerBuilder<'_>,
        encoder: &Encoder,
        is_for_tokens: bool,
    ) -> Result<HeadNetwork, LoadError> {
        let row = self.states.len().saturating_mul(encoder.width());
        let (input, inputs) = if is_for_tokens {
            let neighbourhood = self.context.saturating_mul(2).saturating_add(1);
            (HeadInput::Tokens { context: self.context }, row.saturating_mul(neighbourhood))
        } else {
            let poolings = self.pooling.unwrap_or(BuiltinPooling::Mean).poolings();
            let inputs = row * poolings.len();
            let input = match &self.spans {
                Some(spans) => HeadInput::Spans { poolings, grid: spans.grid() },
                None => HeadInput::Text(poolings),
            };
            (input, inputs)
        };
        let mut bias = vec![0.0; self.labels.len()];
        if let Some(last) = bias.last_mut() {
            *last = self.bias;
        }
        let hidden = builder.linear("hidden", inputs, self.hidden)?;
        let output = builder.linear("output", self.hidden, self.labels.len())?;
        Ok(HeadNetwork {
            states: self.states.clone(),
            input,
            layers: vec![
                DenseLayer { linear: hidden, activation: Activation::Gelu, norm: None },
                DenseLayer { linear: output, activation: Activation::Identity, norm: None },
            ],
            output: OutputActivation::Softmax { temperature: self.temperature, bias },
        })
    }
}

impl BuiltinParaphraseConfig {
    /// Says what is inconsistent, if anything is.
    fn fault(&self, encoder: &Encoder) -> Option<&'static str> {
        if self.states.iter().any(|state| *state > encoder.layers()) {
            return Some("reads a state that is not there");
        }
        if self.states.is_empty() || self.members == 0 || self.width == 0 {
            return Some("no states, no width or no members");
        }
        // The main axes of a state are at most as many as its numbers.
        if self.width > encoder.width() {
            return Some("more numbers of a state than it has");
        }
        let is_whole = self.compared.len() == self.states.len();
        let is_within = self.compared.iter().all(|count| *count <= self.width);
        (!is_whole || !is_within).then_some("`compared` has a number for each state, at most its width")
    }

    fn load(&self, builder: &LayerBuilder<'_>, encoder: &Encoder) -> Result<LoadedHead, LoadError> {
        let layout = QuestionLayout { width: self.width, compared: self.compared.clone() };
        let row = self.states.len().saturating_mul(encoder.width());
        let project = builder.linear("project", row, layout.row())?;
        let joined = self.hidden.saturating_mul(4).saturating_add(self.states.len() + LENGTHS);
        let members = (0..self.members).map(|member| {
            let of = builder.under(&format!("{member}."));
            Ok(ParaphraseMember {
                hidden: of.packed("hidden", layout.inputs(), self.hidden)?,
                gate: of.packed("gate", self.hidden, 1)?,
                join: of.packed("join", joined, self.joined)?,
                output: of.packed("output", self.joined, 1)?,
            })
        });
        let members = members.collect::<Result<_, LoadError>>()?;
        let network = HeadNetwork {
            states: self.states.clone(),
            input: HeadInput::Tokens { context: 0 },
            layers: vec![DenseLayer { linear: project, activation: Activation::Identity, norm: None }],
            output: OutputActivation::None,
        };
        let paraphrase = ParaphraseNetwork { layout, members, threshold: self.threshold };
        Ok(LoadedHead::of_questions(network, paraphrase))
    }
}

impl BuiltinSpansConfig {
    fn grid(&self) -> SpanGrid {
        SpanGrid { sizes: self.sizes.clone(), sentence_ends: self.sentence_ends.clone() }
    }
}

impl BuiltinPooling {
    fn poolings(self) -> Vec<Pooling> {
        match self {
            Self::Mean => vec![Pooling::Mean],
            Self::Max => vec![Pooling::Max],
            Self::MeanMax => vec![Pooling::Mean, Pooling::Max],
            Self::Cls => vec![Pooling::First],
        }
    }
}
