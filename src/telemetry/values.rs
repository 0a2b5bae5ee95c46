//! Owns the values of facts that are more than a number or a text.
//!
//! Knows nothing of where they are reported.

use serde::Serialize;

/// A signal that matched.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MatchedSignal {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: &'static str,
    /// Its score, from 0 to 1.
    pub score: f32,
}

/// Where an answer came from.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum ResponsePath {
    /// There was none: the client left.
    #[default]
    None,
    /// An upstream's answer.
    Upstream,
    /// The gateway's own answer that is no error, such as the list of models.
    Local,
    /// The response cache.
    Cache,
    /// The operator's fixed answer.
    Fixed,
    /// A refusal by a guard.
    Blocked,
    /// A rejection.
    Error,
}

impl ResponsePath {
    /// Its word in the log and in `x-vsr-response-path`.
    pub fn as_str(self) -> &'static str {
        match self {
            ResponsePath::None => "",
            ResponsePath::Upstream => "upstream",
            ResponsePath::Local => "local",
            ResponsePath::Cache => "cache",
            ResponsePath::Fixed => "fast_response",
            ResponsePath::Blocked => "blocked",
            ResponsePath::Error => "error",
        }
    }
}
