//! The heads of `transformers`' classifiers: which tensors they are, in which order, for each family.
//!
//! Knows nothing of encoders' insides.

use super::family::activation;
use super::{CheckpointConfig, EncoderFamily, labels};
use crate::ClassifyHead;
use crate::encoder::Encoder;
use crate::heads::{DenseLayer, HeadInput, HeadNetwork, OutputActivation};
use crate::layer_builder::LayerBuilder;
use crate::load_error::LoadError;
use crate::model_parts::LoadedHead;
use crate::ops::{Activation, Pooling};

/// What a checkpoint was trained for, in the hub's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CheckpointTask {
    SequenceClassification,
    TokenClassification,
    FeatureExtraction,
}

impl CheckpointTask {
    /// Reads the task off the architecture's name; none where the file names no architecture.
    pub(super) fn named(config: &CheckpointConfig) -> Option<Self> {
        let name = config.architectures.as_ref()?.first()?;
        if name.ends_with("ForSequenceClassification") {
            Some(Self::SequenceClassification)
        } else if name.ends_with("ForTokenClassification") {
            Some(Self::TokenClassification)
        } else {
            Some(Self::FeatureExtraction)
        }
    }

    /// Tells the task by the architecture's name, else by the tensors. As an embedding model, any checkpoint gives its
    /// states.
    pub(super) fn of(
        config: &CheckpointConfig,
        family: EncoderFamily,
        builder: &LayerBuilder<'_>,
        assigned: Option<ClassifyHead>,
    ) -> Self {
        if assigned == Some(ClassifyHead::Embedding) {
            return Self::FeatureExtraction;
        }
        Self::named(config).unwrap_or_else(|| {
            let has_head = ["classifier.weight", "classifier.out_proj.weight", "score.weight"]
                .into_iter()
                .any(|name| builder.has(name));
            let is_for_tokens = matches!(assigned, Some(ClassifyHead::Pii | ClassifyHead::Hallucination))
                || (has_head
                    && matches!(
                        family,
                        EncoderFamily::Roberta | EncoderFamily::Electra | EncoderFamily::Mpnet
                    )
                    && builder.has("classifier.weight"));
            match (has_head, is_for_tokens) {
                (false, _) => Self::FeatureExtraction,
                (true, true) => Self::TokenClassification,
                (true, false) => Self::SequenceClassification,
            }
        })
    }

    /// Says what such a checkpoint gives, for errors.
    pub(super) fn gives(self) -> &'static str {
        match self {
            Self::SequenceClassification => "it classifies whole texts",
            Self::TokenClassification => "it classifies tokens",
            Self::FeatureExtraction => "it has no classifier",
        }
    }
}

/// Where the head of a classifier is read from.
pub(super) struct HeadCheckpoint<'a> {
    pub(super) config: &'a CheckpointConfig,
    pub(super) family: EncoderFamily,
    pub(super) task: CheckpointTask,
    pub(super) builder: &'a LayerBuilder<'a>,
    /// What the names of the encoder's tensors begin with.
    pub(super) encoder_prefix: &'a str,
}

impl HeadCheckpoint<'_> {
    pub(super) fn load(
        &self,
        encoder: &Encoder,
        assigned: Option<ClassifyHead>,
    ) -> Result<LoadedHead, LoadError> {
        let output = match (self.family, self.task) {
            (
                EncoderFamily::Roberta | EncoderFamily::Electra | EncoderFamily::Mpnet,
                CheckpointTask::SequenceClassification,
            ) => "classifier.out_proj",
            (EncoderFamily::Qwen3, _) => "score",
            _ => "classifier",
        };
        let weight = format!("{output}.weight");
        let Some(classes) = self.builder.rows(&weight) else {
            return Err(LoadError::Missing { path: self.path(), tensor: weight });
        };
        let names = labels::of(self.config, classes);
        if names.len() != classes {
            let reason = format!("{classes} classes, config.json names {} labels", names.len());
            return Err(self.unsupported(reason));
        }
        let width = encoder.width();
        let mut layers = self.hidden_layers(width)?;
        layers.push(DenseLayer {
            linear: self.builder.linear(output, width, classes)?,
            activation: Activation::Identity,
            norm: None,
        });
        let network = HeadNetwork {
            states: vec![encoder.layers()],
            input: self.input()?,
            layers,
            output: self.output_activation(classes)?,
        };
        let kind = self.kind(&names, assigned);
        let positive = self.positive(kind, &names)?;
        let labels = names.iter().map(|name| name.as_str().into()).collect();
        Ok(LoadedHead { labels, positive, ..LoadedHead::without_labels(kind, network) })
    }

    fn hidden_layers(&self, width: usize) -> Result<Vec<DenseLayer>, LoadError> {
        let dense =
            |builder: &LayerBuilder<'_>, name: &str, activation: Activation| -> Result<_, LoadError> {
                Ok(DenseLayer { linear: builder.linear(name, width, width)?, activation, norm: None })
            };
        let builder = self.builder;
        Ok(match (self.family, self.task) {
            (EncoderFamily::Bert, CheckpointTask::SequenceClassification) => {
                vec![dense(&builder.under(self.encoder_prefix), "pooler.dense", Activation::Tanh)?]
            }
            (EncoderFamily::DistilBert, CheckpointTask::SequenceClassification) => {
                vec![dense(builder, "pre_classifier", Activation::Relu)?]
            }
            (EncoderFamily::Roberta | EncoderFamily::Mpnet, CheckpointTask::SequenceClassification) => {
                vec![dense(builder, "classifier.dense", Activation::Tanh)?]
            }
            (EncoderFamily::Electra, CheckpointTask::SequenceClassification) => {
                vec![dense(builder, "classifier.dense", Activation::Gelu)?]
            }
            (EncoderFamily::Deberta, CheckpointTask::SequenceClassification) => {
                let name = self.config.rest.get("pooler_hidden_act").and_then(serde_json::Value::as_str);
                let activation =
                    activation(name.unwrap_or("gelu")).map_err(|reason| self.unsupported(reason))?;
                vec![dense(builder, "pooler.dense", activation)?]
            }
            (EncoderFamily::ModernBert, _) => {
                let name = self.config.classifier_activation.as_deref().unwrap_or("gelu");
                let activation = activation(name).map_err(|reason| self.unsupported(reason))?;
                let epsilon = self.config.rest.get("norm_eps").and_then(serde_json::Value::as_f64);
                let layer = dense(builder, "head.dense", activation)?;
                let norm = builder.norm("head.norm", width, epsilon.unwrap_or(1e-5) as f32)?;
                vec![DenseLayer { norm: Some(norm), ..layer }]
            }
            (EncoderFamily::Qwen3, _)
            | (_, CheckpointTask::TokenClassification | CheckpointTask::FeatureExtraction) => Vec::new(),
        })
    }

    fn input(&self) -> Result<HeadInput, LoadError> {
        match (self.task, self.family, self.config.classifier_pooling.as_deref()) {
            (CheckpointTask::TokenClassification, ..) => Ok(HeadInput::Tokens { context: 0 }),
            (_, EncoderFamily::ModernBert, Some("mean")) => Ok(HeadInput::Text(vec![Pooling::Mean])),
            (_, EncoderFamily::ModernBert, Some(other)) if other != "cls" => {
                Err(self.unsupported(format!("classifier_pooling `{other}`; cls and mean are known")))
            }
            // What was read last has seen all of the text.
            (_, EncoderFamily::Qwen3, _) => Ok(HeadInput::Text(vec![Pooling::Last])),
            _ => Ok(HeadInput::Text(vec![Pooling::First])),
        }
    }

    fn output_activation(&self, classes: usize) -> Result<OutputActivation, LoadError> {
        match self.config.problem_type.as_deref() {
            Some("regression") => {
                Err(self.unsupported("problem_type `regression` is no classifier".to_owned()))
            }
            Some("multi_label_classification") => Ok(OutputActivation::Sigmoid { temperature: 1.0 }),
            _ if classes == 1 && self.task == CheckpointTask::SequenceClassification => {
                Ok(OutputActivation::Sigmoid { temperature: 1.0 })
            }
            _ => Ok(OutputActivation::Softmax { temperature: 1.0, bias: Vec::new() }),
        }
    }

    fn kind(&self, labels: &[String], assigned: Option<ClassifyHead>) -> ClassifyHead {
        match (self.task, assigned) {
            (CheckpointTask::TokenClassification, Some(ClassifyHead::Hallucination)) => {
                ClassifyHead::Hallucination
            }
            (CheckpointTask::TokenClassification, _) => ClassifyHead::Pii,
            // A head for whole texts is one of these two, whatever the model is configured for.
            (_, Some(ClassifyHead::Domain | ClassifyHead::Jailbreak)) => {
                labels::head_of_texts(labels, assigned)
            }
            _ => labels::head_of_texts(labels, None),
        }
    }

    fn positive(&self, kind: ClassifyHead, names: &[String]) -> Result<Vec<usize>, LoadError> {
        let (positive, meaning) = match kind {
            ClassifyHead::Jailbreak => (labels::attacks(names), "an attack"),
            ClassifyHead::Hallucination => (labels::unsupported(names), "what is made up"),
            _ => return Ok(Vec::new()),
        };
        if positive.is_empty() {
            let reason = format!("none of the labels {names:?} is known to stand for {meaning}");
            return Err(self.unsupported(reason));
        }
        Ok(positive)
    }

    fn path(&self) -> std::path::PathBuf {
        self.builder.weights.path().to_owned()
    }

    fn unsupported(&self, reason: String) -> LoadError {
        LoadError::Unsupported { path: self.path(), reason }
    }
}
