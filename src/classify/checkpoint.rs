//! What a checkpoint of `transformers` is: its family, its trunk's dimensions, its labels, and which question it
//! answers.
//!
//! Knows nothing of how states are computed, nor of where the files lie.

mod family;
mod heads;
mod labels;
mod sentence;

use serde::Deserialize;

use super::files::Files;
use super::findings::{Question, Questions};
use super::load_error::LoadError;
use super::model::{Asked, Parts};
use super::reader::Reader;

pub(super) use family::Family;
use heads::Kind;
pub(super) use sentence::{Modules, longest};

/// `config.json` as far as it matters here; the families read their own part.
#[derive(Deserialize)]
pub(super) struct Config {
    model_type: String,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    id2label: Option<std::collections::BTreeMap<String, String>>,
    #[serde(default)]
    label2id: Option<std::collections::BTreeMap<String, usize>>,
    #[serde(default)]
    num_labels: Option<usize>,
    #[serde(default)]
    problem_type: Option<String>,
    #[serde(default)]
    classifier_pooling: Option<String>,
    #[serde(default)]
    classifier_activation: Option<String>,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

/// Which of a checkpoint's answers are wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// The questions that this model may answer.
    pub(super) questions: Questions,
    /// The one question that it was placed under by name.
    pub(super) placed: Option<Question>,
}

impl Config {
    /// Returns the labels of the domain that it would tell apart, without the weights.
    pub(super) fn domains(&self, wanted: Wanted) -> Vec<String> {
        let is_classifier = Kind::named(self) == Some(Kind::Text);
        let labels = labels::of(self, self.num_labels.unwrap_or(2));
        let is_domain = labels::question(&labels, wanted.placed) == Question::Domain;
        if is_classifier && is_domain { labels } else { Vec::new() }
    }

    /// Says whether it looks like a classifier of tokens that tells what is made up, without the weights.
    pub(super) fn check_detector(&self, files: &Files) -> Result<(), LoadError> {
        let kind = Kind::named(self).filter(|kind| *kind != Kind::Tokens);
        if let Some(kind) = kind {
            return Err(misplaced(files, Question::Hallucination, kind));
        }
        let labels = labels::of(self, self.num_labels.unwrap_or(2));
        if labels::made_up(&labels).is_empty() {
            let reason = format!("none of the labels {labels:?} is known to stand for what is made up");
            return Err(LoadError::Unsupported { path: files.path("config.json"), reason });
        }
        Ok(())
    }

    /// Reads the trunk and the one head.
    pub(super) fn load(
        self,
        files: &Files,
        modules: Option<&Modules>,
        reader: &Reader<'_>,
        wanted: Wanted,
    ) -> Result<Parts, LoadError> {
        let path = files.path("config.json");
        let unsupported = |reason: String| LoadError::Unsupported { path: path.clone(), reason };
        let family = Family::of(&self.model_type).ok_or_else(|| {
            unsupported(format!(
                "model_type `{}`; bert, distilbert, roberta, xlm-roberta, camembert and modernbert are known",
                self.model_type
            ))
        })?;
        let rest = serde_json::Value::Object(self.rest.clone());
        let plan = family
            .plan(rest)
            .map_err(|source| LoadError::Config { path: path.clone(), source })?
            .map_err(unsupported)?;
        let manners = format!("{plan:?}");
        let prefix = family.prefix(reader.weights).ok_or_else(|| LoadError::Missing {
            path: reader.weights.path().to_owned(),
            tensor: family.words().to_owned(),
        })?;
        let trunk = plan.load(&reader.under(&prefix))?;
        let digest = reader.weights.digest();
        let kind = Kind::of(&self, family, reader, wanted.placed);
        let mut answers: Vec<Asked> = Vec::new();
        if kind == Kind::States {
            answers.push(sentence::embedding(files, modules, &trunk, reader.place)?);
        } else {
            answers.push(heads::load(&self, family, (reader, &prefix), kind, &trunk, wanted.placed)?);
        }
        answers.retain(|asked| wanted.questions.has(asked.question));
        if let Some(question) =
            wanted.placed.filter(|question| !answers.iter().any(|asked| asked.question == *question))
        {
            return Err(misplaced(files, question, kind));
        }
        Ok(Parts { family: family.name(), trunk, manners, digest, answers })
    }
}

fn misplaced(files: &Files, question: Question, kind: Kind) -> LoadError {
    let model = files.path("").display().to_string();
    LoadError::Misplaced { model, question: question.as_str(), reason: kind.gives() }
}
