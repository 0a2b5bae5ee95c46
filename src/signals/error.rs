//! Why a policy's signals cannot be evaluated.

use crate::classify::Unknown;

/// Why the detectors of a policy cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum DetectorError {
    /// A pattern does not compile.
    #[error("signal {signal}: {source}")]
    Pattern {
        /// The signal's name.
        signal: String,
        /// The regex crate's reason.
        source: regex::Error,
    },
    /// The keywords are too many for an automaton.
    #[error("the keywords of the signals: {0}")]
    Keywords(#[from] aho_corasick::BuildError),
    /// An example has no embedding.
    #[error("{user}: an example has no embedding ({}): {example:?}", reason.as_str())]
    Example {
        /// The name of the signal or tool.
        user: String,
        /// Its text.
        example: String,
        /// The classifier's reason.
        reason: Unknown,
    },
    /// There is no thread or runtime to ask the classifier on.
    #[error("the classifier cannot be asked: {0}")]
    Thread(#[from] std::io::Error),
}
