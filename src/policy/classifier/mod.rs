//! Owns the policy's `classifier`: which models are loaded, how they compute, and what their answers are worth. Refuses
//! to know what the models can do: that is known once they are loaded.

mod hub;
mod model;
mod threshold;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::BasisPoints;
use super::checker::Checker;
use super::duration::DurationText;
use super::issue::YamlPath;
use super::pii_kinds::{is_checked, known_pii_kinds};
use super::signal::PiiKinds;
pub use hub::HubSpec;
use hub::RawHub;
pub use model::{ClassifierModels, ModelSource};
pub use threshold::{AttackThreshold, OperatingPoint};

/// The classifier and what its answers are worth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct ClassifierPolicy {
    /// What is loaded, and how it computes; loaded weights stay as long as this stays equal.
    #[serde(flatten)]
    pub spec: ClassifierSpec,
    /// The least confidence at which a domain counts as known, from 0 to 1.
    pub min_confidence: BasisPoints,
    /// How long a request waits for its domain before it goes on without.
    #[serde(with = "DurationText")]
    pub deadline: Duration,
    /// How long a request waits for what a guard that blocks, masks or reroutes asks; at least `deadline`.
    #[serde(with = "DurationText")]
    pub guard_timeout: Duration,
    /// What happens to a request whose domain is unknown.
    pub on_unknown: OnUnknown,
}

impl Default for ClassifierPolicy {
    fn default() -> Self {
        Self {
            spec: ClassifierSpec::default(),
            min_confidence: BasisPoints(5000),
            deadline: Duration::from_millis(500),
            guard_timeout: Duration::from_secs(5),
            on_unknown: OnUnknown::Default,
        }
    }
}

/// What the built-in model's embeddings are called; another number as soon as they are others.
pub const BUILTIN_EMBEDDER: &str = "builtin-1";

/// Which models a classifier runs, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct ClassifierSpec {
    /// `builtin`, `multilingual`, a folder with a model's weights, tokenizer and labels, or `hf://owner/name[@revision]`
    /// from the hub.
    pub model: ModelSource,
    /// Whether texts in other languages go to the multilingual model inside this binary, where `model` is `builtin`.
    pub multilingual: bool,
    /// Models that answer one question each instead of `model`.
    pub models: ClassifierModels,
    /// Where the models run.
    pub device: DeviceChoice,
    /// In which precision they compute on a GPU; on the processor it is `f32`.
    pub precision: Precision,
    /// From which probability on something counts as found.
    pub thresholds: Thresholds,
    /// Threads for classification; 0 means half of the cores, at least one.
    #[schemars(range(max = 1024))]
    pub threads: usize,
    /// How many texts may wait that are asked about for routing, and how many for guards; beyond that, and where the answer
    /// would come too late, there is none.
    #[schemars(range(min = 1, max = 65_536))]
    pub queue: usize,
    /// How texts are cut into windows.
    #[serde(flatten)]
    pub windows: WindowSpec,
    /// How many tokens of all waiting texts are computed together at most.
    #[schemars(range(min = 8, max = 1_048_576))]
    pub batch_tokens: usize,
    /// For how many windows the answers are cached; 0 turns the cache off.
    #[schemars(range(max = 1_048_576))]
    pub cache: usize,
    /// Where models with a name come from. Not read with the rest: it holds a secret.
    #[serde(skip)]
    pub hub: HubSpec,
}

impl Default for ClassifierSpec {
    fn default() -> Self {
        Self {
            model: ModelSource::Builtin,
            multilingual: true,
            models: ClassifierModels::default(),
            device: DeviceChoice::Cpu,
            precision: Precision::Auto,
            thresholds: Thresholds::default(),
            threads: 0,
            queue: 256,
            windows: WindowSpec::default(),
            batch_tokens: 4096,
            cache: 4096,
            hub: HubSpec::default(),
        }
    }
}

impl ClassifierSpec {
    /// Says whether personal data is looked for by the built-in model, whose kinds are known.
    pub(crate) fn has_builtin_pii(&self) -> bool {
        *self.models.pii.as_ref().unwrap_or(&self.model) == ModelSource::Builtin
    }

    /// Names the model that gives texts' embeddings.
    pub fn embedder(&self) -> String {
        match self.models.embedding.as_ref().unwrap_or(&self.model) {
            ModelSource::Builtin => BUILTIN_EMBEDDER.to_owned(),
            other => other.to_string(),
        }
    }

    /// Says whether patterns find all that counts, so that no model has to be asked.
    pub fn finds_by_patterns(&self, kinds: &PiiKinds) -> bool {
        let by_model = known_pii_kinds().filter(|kind| !is_checked(kind));
        kinds.are_checked() || (self.has_builtin_pii() && by_model.into_iter().all(|kind| !kinds.holds(kind)))
    }
}

/// How texts are cut into the windows that a model reads at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WindowSpec {
    /// How many tokens of a text are read, in all.
    #[schemars(range(min = 8, max = 1_048_576))]
    pub max_tokens: usize,
    /// From how many of them the domain is judged, half from the start and half from the end of the text.
    #[schemars(range(min = 8, max = 1_048_576))]
    pub domain_tokens: usize,
    /// How many tokens are read at once; at most what the model can.
    #[schemars(range(min = 8, max = 32_768))]
    pub window: usize,
    /// How many tokens a window shares with the one before; at most half of `window`.
    #[schemars(range(max = 16_384))]
    pub overlap: usize,
}

impl Default for WindowSpec {
    fn default() -> Self {
        Self { max_tokens: 8192, domain_tokens: 1024, window: 256, overlap: 32 }
    }
}

/// Where the models run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Device")]
pub enum DeviceChoice {
    /// The processor.
    #[default]
    Cpu,
    /// The first CUDA device; the processor, with a warning, where there is none.
    Cuda,
    /// The first CUDA device where there is one.
    Auto,
}

/// In which precision models compute. The processor computes in single precision, but for the built-in models' layers where
/// it has AVX-512 VNNI: their int8 weights are multiplied by rows that are rounded to eight bits, unless this is `f32`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// `bf16` where a GPU has it, else `f16`, else `f32`.
    #[default]
    Auto,
    /// Single precision.
    F32,
    /// Half precision.
    F16,
    /// Half the bits with the range of `f32`; `auto`'s choice, with a warning, on devices before Ampere.
    Bf16,
}

/// From which probability on something counts as found, from 0 to 1; the model's own thresholds when absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// For an attempt to turn a model against its instructions: a number, or `balanced` or `strict` as the model's makers
    /// measured them.
    pub jailbreak: Option<AttackThreshold>,
    /// For a piece of personal data that the model finds; those that validated patterns find always count.
    pub pii: Option<BasisPoints>,
    /// For a token of an answer that nothing its model was given supports.
    pub hallucination: Option<BasisPoints>,
}

/// What happens to a request whose domain is unknown: the classifier is busy, late or broken, the text is empty, or
/// no decision is sure enough of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnUnknown {
    /// It goes to `default_model`.
    Default,
    /// It is rejected.
    Reject,
}

/// The classifier and its bounds.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Classifier", deny_unknown_fields)]
pub(super) struct RawClassifier {
    #[serde(flatten)]
    classifier: ClassifierPolicy,
    /// Where models with a name come from.
    hub: RawHub,
}

impl RawClassifier {
    pub(super) fn check(self, path: &YamlPath, checker: &mut Checker<'_>) -> ClassifierPolicy {
        let mut classifier = self.classifier;
        classifier.guard_timeout = classifier.guard_timeout.max(classifier.deadline);
        let spec = &mut classifier.spec;
        spec.model.check(&path.key("model"), checker);
        spec.models.check(&path.key("models"), checker);
        let WindowSpec { window, overlap, .. } = spec.windows;
        if overlap > window / 2 {
            let message = format!("must be at most half of `window`, {}; it is {overlap}", window / 2);
            checker.issue(&path.key("overlap"), message);
        }
        spec.windows.domain_tokens = spec.windows.domain_tokens.min(spec.windows.max_tokens);
        if spec.device == DeviceChoice::Cpu && matches!(spec.precision, Precision::F16 | Precision::Bf16) {
            checker.issue(
                &path.key("precision"),
                "`device` is `cpu`, which computes in `f32`; write that, or `device: auto`",
            );
        }
        let is_fetched = spec.models.iter().chain([&spec.model]).any(ModelSource::is_fetched);
        spec.hub = self.hub.check(is_fetched, &path.key("hub"), checker);
        classifier
    }
}
