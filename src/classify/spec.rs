//! Which models a classifier loads and how it reads texts; and what it says of the models it loaded.
//!
//! Values alone; refuses to know where they were written.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::{ClassifyHead, ClassifyHeads};
use crate::policy::Secret;

/// Which models a classifier runs, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// The model with the heads that `models` does not name.
    pub model: Source,
    /// Models that have one head each instead.
    pub models: BTreeMap<ClassifyHead, Source>,
    /// Where they run.
    pub device: DeviceChoice,
    /// In which precision they compute on a GPU.
    pub precision: Precision,
    /// From which probability on something counts as found.
    pub thresholds: Thresholds,
    /// How many threads compute; 0 stands for half the cores, at least one.
    pub threads: usize,
    /// How many texts may wait; one more is [`Unknown::Busy`](super::Unknown::Busy).
    pub queue: usize,
    /// How many tokens of a text are read, in all.
    pub max_tokens: usize,
    /// From how many of them the domain is judged: half from the start, half from the end.
    pub domain_tokens: usize,
    /// How many tokens a window holds; at most what the model can read at once.
    pub window: usize,
    /// How many tokens a window shares with the one before.
    pub overlap: usize,
    /// How many tokens one forward takes at most; a single window may be longer.
    pub batch_tokens: usize,
    /// For how many windows the answers are kept.
    pub cache: usize,
    /// Where models with a name come from.
    pub hub: HubSpec,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            model: Source::Builtin,
            models: BTreeMap::new(),
            device: DeviceChoice::Cpu,
            precision: Precision::Auto,
            thresholds: Thresholds::default(),
            threads: 0,
            queue: 256,
            max_tokens: 8192,
            domain_tokens: 1024,
            window: 256,
            overlap: 32,
            batch_tokens: 4096,
            cache: 4096,
            hub: HubSpec::default(),
        }
    }
}

/// From which probability on something counts as found; the model's own where there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Thresholds {
    /// For an attempt to turn a model against its instructions.
    pub jailbreak: Option<f32>,
    /// For a piece of personal data.
    pub pii: Option<f32>,
    /// For a token of an answer that its context does not support.
    pub hallucination: Option<f32>,
}

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The model inside this binary.
    Builtin,
    /// A folder with `config.json`, `tokenizer.json` and the weights.
    Folder(PathBuf),
    /// A repository of the hub.
    Hub {
        /// Its owner and name, as in `owner/name`.
        repo: String,
        /// The branch, tag or commit.
        revision: String,
    },
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Builtin => f.write_str("builtin"),
            Self::Folder(folder) => write!(f, "{}", folder.display()),
            Self::Hub { repo, revision } => write!(f, "hf://{repo}@{revision}"),
        }
    }
}

/// Where a policy wants its models to run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The processor.
    #[default]
    Cpu,
    /// The first CUDA device; the processor, with a warning, where there is none.
    Cuda,
    /// The first CUDA device where there is one.
    Auto,
}

/// In which precision a policy wants its models to compute on a GPU; the processor computes in single precision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precision {
    /// The best of the others that the device is quick with.
    #[default]
    Auto,
    /// Single precision.
    F32,
    /// Half precision.
    F16,
    /// Half the bits with the range of single precision.
    Bf16,
}

/// Where models with a name come from, and where they are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubSpec {
    /// The hub's address.
    pub endpoint: String,
    /// The folder of files fetched before; the hub's own clients' when there is none.
    pub cache: Option<PathBuf>,
    /// What opens repositories that are not public.
    pub token: Option<Secret>,
}

impl Default for HubSpec {
    fn default() -> Self {
        Self { endpoint: "https://huggingface.co".to_owned(), cache: None, token: None }
    }
}

/// What is known of a loaded model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelInfo {
    /// Where it came from, as policies write it.
    pub source: String,
    /// Its architecture, as in `bert`.
    pub family: &'static str,
    /// The heads that are used.
    pub heads: ClassifyHeads,
    /// The labels of each of its heads that has any.
    pub labels: Vec<(ClassifyHead, Vec<String>)>,
    /// How many numbers its weights are.
    pub parameters: usize,
    /// How much memory they take.
    pub bytes: usize,
    /// How many tokens it can read at once, special ones included.
    pub max_tokens: usize,
    /// The length of its embeddings.
    pub width: usize,
    /// Where it runs.
    pub device: String,
    /// In which precision it computes.
    pub dtype: &'static str,
    /// How long it took to load.
    pub load_time: Duration,
}
