//! Owns which answers a decision has cached, and for whom. Refuses to know where they are stored.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::BasisPoints;
use crate::checker::Checker;
use crate::context::PolicyContext;
use crate::duration::DurationText;
use crate::issue::YamlPath;

/// Which answers of a decision are cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheUse {
    /// The least cosine of two prompts that count as the same by their words; without one they must be equal. In other words
    /// they may be the same from a lower cosine on, by what compares questions.
    pub min_score: Option<BasisPoints>,
    /// How long an answer is cached.
    pub ttl: Duration,
    /// Who may be given whose answer.
    pub scope: CacheScope,
}

/// Who may be given whose answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CacheScope {
    /// Only the same user; without an identity nothing is cached.
    User,
    /// Everyone of the same tenant. Who is known without one is alone; those of whom nothing is known are together.
    Tenant,
    /// Everyone.
    All,
}

/// Which answers of a decision are cached.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "CacheUse")]
pub(super) struct RawCacheUse {
    /// Which requests count as the same.
    #[serde(rename = "match")]
    by: RawCacheMatch,
    /// The least cosine of two prompts that count as the same.
    min_score: BasisPoints,
    /// How long an answer is cached.
    #[serde(with = "DurationText")]
    ttl: Duration,
    /// Who may be given whose answer.
    scope: CacheScope,
}

impl Default for RawCacheUse {
    fn default() -> Self {
        Self {
            by: RawCacheMatch::Exact,
            min_score: BasisPoints(9200),
            ttl: Duration::from_secs(3600),
            scope: CacheScope::Tenant,
        }
    }
}

/// Which requests count as the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "CacheMatch")]
enum RawCacheMatch {
    /// Those that are the same, word for word.
    Exact,
    /// Those whose last message means the same, all else being equal.
    Semantic,
}

impl RawCacheUse {
    pub(super) fn check(
        self,
        path: &YamlPath,
        context: &PolicyContext<'_>,
        checker: &mut Checker<'_>,
    ) -> CacheUse {
        if self.scope == CacheScope::User && !context.has_identity {
            checker.issue(&path.key("scope"), "without `identity` there are no users");
        }
        let is_semantic = self.by == RawCacheMatch::Semantic;
        CacheUse { min_score: is_semantic.then_some(self.min_score), ttl: self.ttl, scope: self.scope }
    }
}
