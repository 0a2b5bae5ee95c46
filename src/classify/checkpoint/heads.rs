//! The heads of `transformers`' classifiers: which tensors they are, in which order, for each family.
//!
//! Knows nothing of trunks' insides.

use super::family::activation;
use super::{Config, Family, labels};
use crate::classify::findings::Question;
use crate::classify::heads::{Dense, Head, Reads, Scores};
use crate::classify::load_error::LoadError;
use crate::classify::model::Asked;
use crate::classify::ops::{Pooling, Then};
use crate::classify::reader::Reader;
use crate::classify::trunk::Trunk;

/// What a checkpoint's head is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Classes of a text.
    Text,
    /// Classes of each token.
    Tokens,
    /// Nothing: the states themselves.
    States,
}

impl Kind {
    /// Reads the kind off the architecture's name.
    pub(super) fn named(config: &Config) -> Option<Self> {
        let name = config.architectures.as_ref()?.first()?;
        if name.ends_with("ForSequenceClassification") {
            Some(Self::Text)
        } else if name.ends_with("ForTokenClassification") {
            Some(Self::Tokens)
        } else {
            Some(Self::States)
        }
    }

    /// Tells the kind by the architecture's name, else by the tensors; what is asked for its states gives those.
    pub(super) fn of(config: &Config, family: Family, reader: &Reader<'_>, placed: Option<Question>) -> Self {
        if placed == Some(Question::Embedding) {
            return Self::States;
        }
        Self::named(config).unwrap_or_else(|| {
            let has_head = reader.has("classifier.weight") || reader.has("classifier.out_proj.weight");
            let is_for_tokens = matches!(placed, Some(Question::Pii | Question::Hallucination))
                || (has_head && family == Family::Roberta && reader.has("classifier.weight"));
            match (has_head, is_for_tokens) {
                (false, _) => Self::States,
                (true, true) => Self::Tokens,
                (true, false) => Self::Text,
            }
        })
    }

    /// Says what such a checkpoint gives, for errors.
    pub(super) fn gives(self) -> &'static str {
        match self {
            Self::Text => "it classifies whole texts",
            Self::Tokens => "it classifies tokens",
            Self::States => "it has no classifier",
        }
    }
}

/// Reads the head of a classifier.
pub(super) fn load(
    config: &Config,
    family: Family,
    (reader, prefix): (&Reader<'_>, &str),
    kind: Kind,
    trunk: &Trunk,
    placed: Option<Question>,
) -> Result<Asked, LoadError> {
    let unsupported =
        |reason: String| LoadError::Unsupported { path: reader.weights.path().to_owned(), reason };
    let output =
        if family == Family::Roberta && kind == Kind::Text { "classifier.out_proj" } else { "classifier" };
    let missing =
        || LoadError::Missing { path: reader.weights.path().to_owned(), tensor: format!("{output}.weight") };
    let classes = reader.rows(&format!("{output}.weight")).ok_or_else(missing)?;
    let names = labels::of(config, classes);
    if names.len() != classes {
        return Err(unsupported(format!("{classes} classes, config.json names {} labels", names.len())));
    }
    let width = trunk.width();
    let mut layers = Vec::new();
    let mut dense = |reader: &Reader<'_>, name: &str, then: Then| -> Result<(), LoadError> {
        layers.push(Dense { linear: reader.linear(name, (width, width))?, then, norm: None });
        Ok(())
    };
    match (family, kind) {
        (Family::Bert, Kind::Text) => dense(&reader.under(prefix), "pooler.dense", Then::Tanh)?,
        (Family::DistilBert, Kind::Text) => dense(reader, "pre_classifier", Then::Relu)?,
        (Family::Roberta, Kind::Text) => dense(reader, "classifier.dense", Then::Tanh)?,
        (Family::ModernBert, _) => {
            let then =
                activation(config.classifier_activation.as_deref().unwrap_or("gelu")).map_err(unsupported)?;
            dense(reader, "head.dense", then)?;
            let epsilon = config.rest.get("norm_eps").and_then(serde_json::Value::as_f64).unwrap_or(1e-5);
            let norm = reader.norm("head.norm", width, epsilon as f32)?;
            if let Some(last) = layers.last_mut() {
                last.norm = Some(norm);
            }
        }
        (_, Kind::Tokens | Kind::States) => {}
    }
    layers.push(Dense { linear: reader.linear(output, (classes, width))?, then: Then::Nothing, norm: None });
    let reads = match (kind, family, config.classifier_pooling.as_deref()) {
        (Kind::Tokens, ..) => Reads::Tokens { context: 0 },
        (_, Family::ModernBert, Some("mean")) => Reads::Text(vec![Pooling::Mean]),
        (_, Family::ModernBert, Some(other)) if other != "cls" => {
            return Err(unsupported(format!("classifier_pooling `{other}`; cls and mean are known")));
        }
        _ => Reads::Text(vec![Pooling::First]),
    };
    let scores = match config.problem_type.as_deref() {
        Some("regression") => {
            return Err(unsupported("problem_type `regression` is no classifier".to_owned()));
        }
        Some("multi_label_classification") => Scores::Each { temperature: 1.0 },
        _ if classes == 1 && kind == Kind::Text => Scores::Each { temperature: 1.0 },
        _ => Scores::OneOf { temperature: 1.0, bias: Vec::new() },
    };
    let head = Head { states: vec![trunk.layers()], reads, layers, scores };
    let question = match kind {
        Kind::Tokens if placed == Some(Question::Hallucination) => Question::Hallucination,
        Kind::Tokens => Question::Pii,
        // A head for texts answers nothing else, whatever it is placed under.
        _ => labels::question(
            &names,
            placed.filter(|placed| matches!(placed, Question::Domain | Question::Jailbreak)),
        ),
    };
    let (positive, sought) = match question {
        Question::Jailbreak => (labels::positive(&names), "an attack"),
        Question::Hallucination => (labels::made_up(&names), "what is made up"),
        _ => (Vec::new(), ""),
    };
    if positive.is_empty() && !sought.is_empty() {
        return Err(unsupported(format!("none of the labels {names:?} is known to stand for {sought}")));
    }
    let labels = names.iter().map(|name| name.as_str().into()).collect();
    Ok(Asked { question, head, labels, positive, threshold: None })
}
