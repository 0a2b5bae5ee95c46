//! Why a model could not be loaded, naming the file and the tensor.
//!
//! Knows nothing of how files are read.

use std::path::PathBuf;
use std::sync::Arc;

use super::hub::HubError;

/// A model could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file of the model cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A JSON file does not have the expected form.
    #[error("{}: {source}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Where it goes wrong.
        source: serde_json::Error,
    },
    /// A configuration contradicts itself or asks for what this version does not compute.
    #[error("{}: {reason}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it asks for.
        reason: String,
    },
    /// `tokenizer.json` is not a tokenizer.
    #[error("{}: {source}", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// The tokenizer library's error.
        source: tokenizers::Error,
    },
    /// A file of weights is damaged or of an unknown format.
    #[error("{}: {reason}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The weights lack a tensor.
    #[error("{}: no tensor {tensor}", path.display())]
    Missing {
        /// The file, or the index of several.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// A tensor has another shape or type than its configuration says.
    #[error("{}: {tensor}: {wanted} is needed, the file has {found}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What the configuration says.
        wanted: String,
        /// What the file has.
        found: String,
    },
    /// A model does not have the head that it was configured for.
    #[error("{model} cannot answer `{head}`: {reason}")]
    Misplaced {
        /// Where the model comes from.
        model: String,
        /// The head's name in a policy.
        head: &'static str,
        /// What the model lacks.
        reason: &'static str,
    },
    /// The hub did not give a file.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// The device refused the weights.
    #[error("cannot place the weights on the device: {0}")]
    Device(#[from] candle_core::Error),
    /// What was put off failed when it was needed.
    #[error(transparent)]
    Deferred(#[from] Arc<LoadError>),
    /// The operating system gave no thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
}

impl LoadError {
    /// Says whether the hub could not be reached, so that nothing is known of the model.
    pub fn is_out_of_reach(&self) -> bool {
        matches!(self, Self::Hub(HubError::Failed { .. }))
    }
}
