//! Owns what keeps a conversation on the model it has. Refuses to know which one that is.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::BasisPoints;
use crate::checker::Checker;
use crate::context::PolicyContext;
use crate::duration::DurationText;
use crate::issue::YamlPath;
use crate::plugins::header_name;
use crate::schema::exactly_one_key;

/// What keeps a conversation on the model it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sticky {
    /// What the requests of a conversation have in common.
    #[schemars(extend("x-formerly" = "on"))]
    pub key: StickyOn,
    /// How long a conversation without requests is remembered.
    #[serde(default = "half_an_hour", with = "DurationText")]
    pub ttl: Duration,
    /// By how much another model must be better, from 0 to 1, for `by: cost`, `latency` and `score`.
    #[serde(default = "tenth")]
    pub margin: BasisPoints,
}

fn half_an_hour() -> Duration {
    Duration::from_secs(1800)
}

fn tenth() -> BasisPoints {
    Sticky::MARGIN
}

/// What the requests of a conversation have in common: `conversation`, `identity`, or a mapping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(transform = exactly_one_key)]
pub enum StickyOn {
    /// The system prompt and the first message of the user.
    Conversation,
    /// The user that `identity` has verified.
    Identity,
    /// A request header.
    Header(String),
    /// A string at the top level of the body.
    Field(String),
}

impl Sticky {
    /// By how much another model must be better where the policy does not say.
    pub const MARGIN: BasisPoints = BasisPoints(1000);

    /// Checks what conversations are known by, and puts a header's name in lower case.
    pub(super) fn check(&mut self, path: &YamlPath, context: &PolicyContext<'_>, checker: &mut Checker<'_>) {
        let path = path.key("key");
        match &mut self.key {
            StickyOn::Identity if !context.has_identity => {
                checker.issue(&path, "without `identity` nobody is known");
            }
            StickyOn::Header(header) => *header = header_name(header, &path.key("header"), checker),
            StickyOn::Conversation | StickyOn::Identity | StickyOn::Field(_) => {}
        }
    }
}
