//! What a checkpoint of `transformers` is: its family, its encoder's dimensions, its labels, and which head it has.
//!
//! Knows nothing of how states are computed, nor of where the files lie.

mod deberta;
mod family;
mod heads;
mod labels;
mod qwen3;
mod sentence;

use serde::Deserialize;
use xxhash_rust::xxh3::xxh3_128;

use super::ClassifyHead;
use super::layer_builder::LayerBuilder;
use super::load_error::LoadError;
use super::model_files::ModelFiles;
use super::model_parts::{HeadSelection, LoadedHead, ModelParts};

pub(super) use family::EncoderFamily;
use heads::{CheckpointTask, HeadCheckpoint};
pub(super) use sentence::{SentenceModules, max_sequence_length};

/// `config.json` as far as it matters here; the families read their own part.
#[derive(Deserialize)]
pub(super) struct CheckpointConfig {
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

impl CheckpointConfig {
    /// Returns the domains that it would tell apart, without the weights; none if it has another head.
    pub(super) fn domains(&self, assigned: Option<ClassifyHead>) -> Vec<String> {
        let is_classifier = CheckpointTask::named(self) == Some(CheckpointTask::SequenceClassification);
        let labels = labels::of(self, self.num_labels.unwrap_or(2));
        let is_domain = labels::head_of_texts(&labels, assigned) == ClassifyHead::Domain;
        if is_classifier && is_domain { labels } else { Vec::new() }
    }

    /// Returns the padding token of a decoder that classifies texts: it is judged by the last token before padding, even where
    /// its tokenizer ends texts with that.
    pub(super) fn unread_end(&self) -> Option<u32> {
        let is_decoder = EncoderFamily::of(&self.model_type) == Some(EncoderFamily::Qwen3);
        let is_of_texts = CheckpointTask::named(self) == Some(CheckpointTask::SequenceClassification);
        let padding = self.rest.get("pad_token_id")?.as_u64()?;
        u32::try_from(padding).ok().filter(|_| is_decoder && is_of_texts)
    }

    /// Says whether it looks like a detector of hallucinations, without the weights.
    pub(super) fn check_detector(&self, files: &ModelFiles) -> Result<(), LoadError> {
        let task = CheckpointTask::named(self).filter(|task| *task != CheckpointTask::TokenClassification);
        if let Some(task) = task {
            return Err(misplaced(files, ClassifyHead::Hallucination, task));
        }
        let labels = labels::of(self, self.num_labels.unwrap_or(2));
        if labels::unsupported(&labels).is_empty() {
            let reason = format!("none of the labels {labels:?} is known to stand for what is made up");
            return Err(LoadError::Unsupported { path: files.path("config.json"), reason });
        }
        Ok(())
    }

    /// Reads the encoder and the one head.
    pub(super) fn load(
        self,
        files: &ModelFiles,
        modules: Option<&SentenceModules>,
        builder: &LayerBuilder<'_>,
        selection: HeadSelection,
    ) -> Result<ModelParts, LoadError> {
        let path = files.path("config.json");
        let unsupported = |reason: String| LoadError::Unsupported { path: path.clone(), reason };
        let family = EncoderFamily::of(&self.model_type).ok_or_else(|| {
            unsupported(format!("model_type `{}`; {} are known", self.model_type, EncoderFamily::KNOWN))
        })?;
        let rest = serde_json::Value::Object(self.rest.clone());
        let shape = family
            .shape(rest)
            .map_err(|source| LoadError::Config { path: path.clone(), source })?
            .map_err(unsupported)?;
        let config_digest = xxh3_128(format!("{shape:?}").as_bytes());
        let prefix = family.prefix(builder.weights).ok_or_else(|| LoadError::Missing {
            path: builder.weights.path().to_owned(),
            tensor: family.word_embeddings().to_owned(),
        })?;
        let encoder = shape.load(&builder.under(&prefix))?;
        let weights_digest = builder.weights.digest();
        let task = CheckpointTask::of(&self, family, builder, selection.assigned);
        let mut heads: Vec<LoadedHead> = Vec::new();
        if task == CheckpointTask::FeatureExtraction {
            heads.push(sentence::embedding(files, modules, &encoder, builder.device)?);
        } else {
            let checkpoint = HeadCheckpoint { config: &self, family, task, builder, encoder_prefix: &prefix };
            heads.push(checkpoint.load(&encoder, selection.assigned)?);
        }
        heads.retain(|head| selection.allowed.has(head.kind));
        if let Some(assigned) =
            selection.assigned.filter(|assigned| !heads.iter().any(|head| head.kind == *assigned))
        {
            return Err(misplaced(files, assigned, task));
        }
        Ok(ModelParts { family: family.name(), encoder, config_digest, weights_digest, heads })
    }
}

fn misplaced(files: &ModelFiles, head: ClassifyHead, task: CheckpointTask) -> LoadError {
    let model = files.path("").display().to_string();
    LoadError::Misplaced { model, head: head.as_str(), reason: task.gives() }
}
