//! Owns the signal `metadata`. Refuses to know requests.

use schemars::JsonSchema;
use serde::Deserialize;

use super::SignalFields;
use crate::checker::Checker;
use crate::context::PolicyContext;
use crate::issue::YamlPath;

/// What the body's `metadata` holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataSignal {
    /// The key.
    pub key: String,
    /// What its value must be.
    pub test: MetadataTest,
}

/// What a value of the body's `metadata` must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetadataTest {
    /// One of these.
    In(Vec<String>),
    /// Anything.
    Present,
    /// Not there.
    Absent,
}

/// What the body's `metadata` holds; exactly one of `in` and `exists`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "MetadataSignal")]
pub(super) struct RawMetadataSignal {
    /// The key.
    #[schemars(length(min = 1, max = 128))]
    key: String,
    /// The values of which one must be there.
    #[serde(default, rename = "in")]
    #[schemars(length(max = 1000))]
    one_of: Vec<String>,
    /// Whether there must be a value, or must be none.
    #[serde(default)]
    exists: Option<bool>,
}

impl SignalFields for MetadataSignal {
    type Raw = RawMetadataSignal;

    fn check(raw: Self::Raw, path: &YamlPath, _: &PolicyContext<'_>, checker: &mut Checker<'_>) -> Self {
        let test = match (raw.one_of.is_empty(), raw.exists) {
            (false, None) => MetadataTest::In(raw.one_of),
            (true, Some(false)) => MetadataTest::Absent,
            (true, Some(true)) => MetadataTest::Present,
            _ => {
                checker.issue(path, "needs exactly one of `in` and `exists`");
                MetadataTest::Present
            }
        };
        Self { key: raw.key, test }
    }
}
