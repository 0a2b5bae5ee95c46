//! Owns what the operator wants of the classifier, checked and final. Refuses to know how texts are classified.

use std::path::PathBuf;
use std::time::Duration;

use super::{BasisPoints, Secret};

/// The classifier and its bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassifierSpec {
    /// Which model answers.
    pub model: ClassifierModel,
    /// Which ones answer one question each instead.
    pub models: ClassifierModels,
    /// Where they run.
    pub device: ClassifierDevice,
    /// In which precision they compute on a GPU.
    pub precision: ClassifierPrecision,
    /// The least confidence at which a domain counts as known.
    pub min_confidence: BasisPoints,
    /// From which probability on something counts as found.
    pub thresholds: Thresholds,
    /// How long a request waits for its domain.
    pub deadline: Duration,
    /// Threads; 0 means half of the cores, at least one.
    pub threads: usize,
    /// How many texts may wait.
    pub queue: usize,
    /// How many tokens of a text are read, in all.
    pub max_tokens: usize,
    /// From how many of them the domain is judged.
    pub domain_tokens: usize,
    /// How many tokens are read at once.
    pub window: usize,
    /// How many tokens a window shares with the one before; at most half of `window`.
    pub overlap: usize,
    /// How many tokens of all waiting texts are computed together at most.
    pub batch_tokens: usize,
    /// For how many windows the answers are kept.
    pub cache: usize,
    /// What happens to a request whose domain is unknown.
    pub on_unknown: OnUnknown,
    /// Where models with a name come from.
    pub hub: HubSpec,
}

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClassifierModel {
    /// The one in the binary.
    Builtin,
    /// The one in a folder.
    Folder(PathBuf),
    /// One from the hub.
    Hub {
        /// Its owner and name, as in `owner/name`.
        repo: String,
        /// The branch, tag or commit.
        revision: String,
    },
}

/// The models that answer one question each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClassifierModels {
    /// What a text is about.
    pub domain: Option<ClassifierModel>,
    /// Whether it tries to turn a model against its instructions.
    pub jailbreak: Option<ClassifierModel>,
    /// Which personal data it holds.
    pub pii: Option<ClassifierModel>,
    /// Its meaning as a vector.
    pub embedding: Option<ClassifierModel>,
    /// Which parts of an answer nothing bears out that its model was told.
    pub hallucination: Option<ClassifierModel>,
}

/// Where the models run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClassifierDevice {
    /// The processor.
    Cpu,
    /// The first CUDA device; the processor, with a warning, where there is none.
    Cuda,
    /// The first CUDA device where there is one.
    Auto,
}

/// In which precision models compute on a GPU; on the processor it is single precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClassifierPrecision {
    /// The best of the others that the device is quick with.
    Auto,
    /// Single precision.
    F32,
    /// Half precision.
    F16,
    /// Half the bits with the range of single precision.
    Bf16,
}

/// From which probability on something counts as found; the model's own where there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Thresholds {
    /// For an attempt to turn a model against its instructions.
    pub jailbreak: Option<BasisPoints>,
    /// For a piece of personal data.
    pub pii: Option<BasisPoints>,
    /// For a token of an answer that nothing bears out.
    pub hallucination: Option<BasisPoints>,
}

/// What happens to a request whose domain is unknown: the classifier is busy, late or broken, the text is empty, or
/// no decision is sure enough of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnUnknown {
    /// It goes to the default model.
    Default,
    /// It is rejected.
    Reject,
}

/// Where models with a name come from, and where they are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubSpec {
    /// The hub's address, without a slash at its end.
    pub endpoint: String,
    /// The folder of fetched files; that of the hub's own clients when there is none.
    pub cache: Option<PathBuf>,
    /// What opens repositories that are not public.
    pub token: Option<Secret>,
}
