//! The format of the built-in model: one BERT trunk and the heads that `config.json` lists.
//!
//! Knows nothing of where the files lie or how windows are made.

use std::path::Path;

use serde::Deserialize;

use super::findings::{Question, Questions};
use super::heads::{Dense, Head, Reads, Scores};
use super::load_error::LoadError;
use super::model::{Asked, Parts};
use super::ops::{Pooling, Then};
use super::reader::Reader;
use super::trunk::Trunk;
use super::trunk::bert::{Bert, Counting, Naming, Shape};

/// `config.json`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    trunk: TrunkConfig,
    #[serde(default)]
    heads: HeadsConfig,
    /// The one head of the first models of this format.
    domain: Option<HeadConfig>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TrunkConfig {
    layers: usize,
    width: usize,
    heads: usize,
    intermediate: usize,
    vocabulary: usize,
    positions: usize,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadsConfig {
    domain: Option<HeadConfig>,
    jailbreak: Option<HeadConfig>,
    pii: Option<HeadConfig>,
    embedding: Option<EmbeddingConfig>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadConfig {
    labels: Vec<String>,
    /// Which states the head reads; 0 is the embedding.
    states: Vec<usize>,
    /// How a text's states become one row; tokens' heads have none.
    pooling: Option<PoolingConfig>,
    /// How many neighbours on either side a token's head reads too.
    #[serde(default)]
    context: usize,
    hidden: usize,
    /// Divides the logits, so that confidence means accuracy.
    temperature: f32,
    /// Added to the last label's logit after that.
    #[serde(default)]
    bias: f32,
    threshold: Option<f32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EmbeddingConfig {
    state: usize,
    pooling: PoolingConfig,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PoolingConfig {
    Mean,
    Max,
    MeanMax,
    Cls,
}

impl Config {
    /// Returns the labels of the domain head, none where there is none.
    pub(super) fn domains(&self) -> Vec<String> {
        let head = self.heads.domain.as_ref().or(self.domain.as_ref());
        head.map(|head| head.labels.clone()).unwrap_or_default()
    }

    /// Reads the trunk and the heads.
    pub(super) fn load(
        self,
        path: &Path,
        reader: &Reader<'_>,
        wanted: Questions,
    ) -> Result<Parts, LoadError> {
        let unsupported =
            |reason: &str| LoadError::Unsupported { path: path.to_owned(), reason: reason.to_owned() };
        let trunk = self.trunk;
        if trunk.heads == 0 || !trunk.width.is_multiple_of(trunk.heads) {
            return Err(unsupported("the width does not divide into the heads"));
        }
        let shape = Shape {
            layers: trunk.layers,
            width: trunk.width,
            heads: trunk.heads,
            intermediate: trunk.intermediate,
            vocabulary: trunk.vocabulary,
            positions: trunk.positions,
            counting: Counting::FromZero,
            epsilon: 1e-12,
            activation: Then::Gelu,
            naming: Naming::Bert,
        };
        let manners = format!("{shape:?}");
        let trunk = Trunk::Bert(Box::new(Bert::load(reader, shape)?));
        let digest = reader.weights.digest();
        let mut answers = Vec::new();
        let heads = [
            (Question::Domain, self.heads.domain.or(self.domain)),
            (Question::Jailbreak, self.heads.jailbreak),
            (Question::Pii, self.heads.pii),
        ];
        for (question, config) in heads {
            let Some(config) = config.filter(|_| wanted.has(question)) else { continue };
            let is_for_tokens = question == Question::Pii;
            if let Some(fault) = config.fault(&trunk, is_for_tokens) {
                return Err(unsupported(&format!("heads.{}: {fault}", question.as_str())));
            }
            let head =
                config.load(&reader.under(&format!("{}.", question.as_str())), &trunk, is_for_tokens)?;
            answers.push(Asked {
                question,
                head,
                positive: vec![config.labels.len() - 1],
                labels: config.labels.iter().map(|label| label.as_str().into()).collect(),
                threshold: config.threshold,
            });
        }
        if let Some(config) = self.heads.embedding.filter(|_| wanted.embedding) {
            if config.state > trunk.layers() {
                return Err(unsupported("heads.embedding: reads a state that is not there"));
            }
            let reads = Reads::Text(config.pooling.poolings());
            let head = Head { states: vec![config.state], reads, layers: Vec::new(), scores: Scores::Raw };
            answers.push(Asked {
                question: Question::Embedding,
                head,
                labels: Vec::new(),
                positive: Vec::new(),
                threshold: None,
            });
        }
        Ok(Parts { family: "bert", trunk, manners, digest, answers })
    }
}

impl HeadConfig {
    /// Says what contradicts itself.
    fn fault(&self, trunk: &Trunk, is_for_tokens: bool) -> Option<&'static str> {
        if self.labels.is_empty() || self.states.is_empty() {
            return Some("no labels or no states");
        }
        if self.states.iter().any(|state| *state > trunk.layers()) {
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
        None
    }

    fn load(&self, reader: &Reader<'_>, trunk: &Trunk, is_for_tokens: bool) -> Result<Head, LoadError> {
        let row = self.states.len() * trunk.width();
        let (reads, inputs) = if is_for_tokens {
            (Reads::Tokens { context: self.context }, row * (2 * self.context + 1))
        } else {
            let poolings = self.pooling.unwrap_or(PoolingConfig::Mean).poolings();
            let inputs = row * poolings.len();
            (Reads::Text(poolings), inputs)
        };
        let mut bias = vec![0.0; self.labels.len()];
        if let Some(last) = bias.last_mut() {
            *last = self.bias;
        }
        let hidden = reader.linear("hidden", (self.hidden, inputs))?;
        let output = reader.linear("output", (self.labels.len(), self.hidden))?;
        Ok(Head {
            states: self.states.clone(),
            reads,
            layers: vec![
                Dense { linear: hidden, then: Then::Gelu, norm: None },
                Dense { linear: output, then: Then::Nothing, norm: None },
            ],
            scores: Scores::OneOf { temperature: self.temperature, bias },
        })
    }
}

impl PoolingConfig {
    fn poolings(self) -> Vec<Pooling> {
        match self {
            Self::Mean => vec![Pooling::Mean],
            Self::Max => vec![Pooling::Max],
            Self::MeanMax => vec![Pooling::Mean, Pooling::Max],
            Self::Cls => vec![Pooling::First],
        }
    }
}
