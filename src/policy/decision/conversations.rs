//! Owns whether a conversation goes on with the decision that it has, and what it is known by. Refuses to know which
//! decision that is.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::checker::Checker;
use crate::duration::DurationText;
use crate::issue::YamlPath;
use crate::plugins::header_name;

/// What becomes of a conversation's message that matches no decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KeptConversations {
    /// Whether it gets the decision and the model that the conversation has, instead of the default model.
    pub keep: bool,
    /// Headers that name a conversation together; where a request has none of them, it is known by what its user has written
    /// and by the response that it goes on from.
    #[schemars(length(max = 8))]
    pub headers: Vec<String>,
    /// How long a conversation without requests is remembered.
    #[serde(with = "DurationText")]
    pub ttl: Duration,
}

impl Default for KeptConversations {
    fn default() -> Self {
        let headers = ["x-claude-code-session-id", "x-claude-code-agent-id"].map(str::to_owned).to_vec();
        Self { keep: true, headers, ttl: Duration::from_secs(1800) }
    }
}

impl KeptConversations {
    /// Checks the names of the headers, and puts them in lower case.
    pub(super) fn check(mut self, path: &YamlPath, checker: &mut Checker<'_>) -> Self {
        let path = path.key("headers");
        for (index, header) in self.headers.iter_mut().enumerate() {
            *header = header_name(header, &path.index(index), checker);
        }
        self
    }
}
