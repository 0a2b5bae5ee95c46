//! Owns where the texts of a request come from, as guards are told which they judge. Refuses to know requests.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a text of a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TextSource {
    /// The operator of the application: messages of `system` and `developer`, `system`, `instructions`.
    System,
    /// The user: messages, prompts, inputs and queries, also of unknown roles.
    User,
    /// The model: its earlier answers, and those that the client predicts.
    Assistant,
    /// What the model thought.
    Reasoning,
    /// The names and arguments of calls that the model made.
    ToolCalls,
    /// What tools returned.
    ToolResults,
    /// The names, descriptions and schemas of tools, and the schemas of answers.
    Tools,
    /// Documents, and other texts to search, rank or compare.
    Documents,
    /// Chat templates and the values for them, and the variables of stored prompts.
    Templates,
    /// What no model is shown: whom the request is for (`user`, `metadata`, …), and what ends its answer (`stop`, …).
    Metadata,
    /// Everything else: names of authors and files, identifiers, members that no API is known to have.
    Other,
}

/// Some sources of texts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct TextSources(u16);

impl TextSources {
    /// None.
    pub const NONE: Self = Self(0);
    /// Every one.
    pub const ALL: Self = Self(u16::MAX);

    /// Returns the sources of a list.
    pub fn of(list: &[TextSource]) -> Self {
        list.iter().fold(Self::NONE, |all, source| Self(all.0 | source.bit()))
    }

    /// Says whether a source is among them.
    pub fn has(self, source: TextSource) -> bool {
        self.0 & source.bit() != 0
    }

    /// Returns those that are in either.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns those that are not in `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl TextSource {
    /// Returns the source as policies name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Reasoning => "reasoning",
            Self::ToolCalls => "tool_calls",
            Self::ToolResults => "tool_results",
            Self::Tools => "tools",
            Self::Documents => "documents",
            Self::Templates => "templates",
            Self::Metadata => "metadata",
            Self::Other => "other",
        }
    }

    fn bit(self) -> u16 {
        1 << self as u16
    }
}
