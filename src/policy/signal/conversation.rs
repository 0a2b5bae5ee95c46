//! Owns the signal `conversation`. Refuses to know requests.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CountRange, SignalFields};
use crate::checker::Checker;
use crate::context::PolicyContext;
use crate::issue::YamlPath;

/// A feature of the list of messages and its bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationSignal {
    /// What is counted.
    pub feature: Feature,
    /// At least.
    pub min: u64,
    /// At most.
    pub max: u64,
}

/// What is counted in a list of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// Messages of any role.
    Messages,
    /// The user's messages.
    UserMessages,
    /// The model's messages.
    AssistantMessages,
    /// System and developer messages.
    SystemMessages,
    /// Results of tools.
    ToolMessages,
    /// Calls of tools.
    ToolCalls,
    /// Tools that the client offers.
    Tools,
    /// Images.
    Images,
    /// Audio, video and files.
    Media,
    /// Turns of the user.
    Turns,
}

/// A feature of the list of messages and its bounds.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ConversationSignal")]
pub(super) struct RawConversationSignal {
    /// What is counted.
    feature: Feature,
    /// At least so many; 1 without either bound.
    #[serde(default)]
    min: Option<u64>,
    /// At most so many.
    #[serde(default)]
    max: Option<u64>,
}

impl SignalFields for ConversationSignal {
    type Raw = RawConversationSignal;

    fn check(raw: Self::Raw, path: &YamlPath, _: &PolicyContext<'_>, checker: &mut Checker<'_>) -> Self {
        let CountRange { min, max } = CountRange::check(raw.min, raw.max, 1, path, checker);
        Self { feature: raw.feature, min, max }
    }
}
