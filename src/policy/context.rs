//! Owns what the parts of a policy may refer to. Refuses to know the parts.

use std::collections::HashMap;

use indexmap::{IndexMap, IndexSet};

use super::checker::Checker;
use super::issue::YamlPath;
use super::pii_kinds::known_pii_kinds;
use super::{BasisPoints, Effort, ModelId, PlaceholderKey, PoolId};

/// The priorities of requests by what they are for: higher ones go first, negative ones give way.
pub(super) type Objectives = IndexMap<String, i32>;

/// What the parts of a policy are checked against.
#[allow(clippy::struct_excessive_bools, reason = "facts about the whole policy, each asked by its name")]
pub(super) struct PolicyContext<'a> {
    /// Models by their names and aliases.
    pub(super) models: &'a HashMap<String, ModelId>,
    /// The names of the pools; the place of a name is the pool's [`PoolId`].
    pub(super) pools: IndexSet<&'a str>,
    /// The classifier's domains; any are allowed while those are unknown.
    pub(super) domains: Option<&'a [String]>,
    /// The objectives of requests, where the policy says who goes first.
    pub(super) objectives: Option<&'a Objectives>,
    pub(super) min_confidence: BasisPoints,
    pub(super) default_effort: Effort,
    /// The key of the placeholders for masked texts.
    pub(super) placeholder_key: PlaceholderKey,
    /// Whether the kinds of personal data are those of the built-in model.
    pub(super) has_builtin_pii: bool,
    /// Whether clients can be verified.
    pub(super) has_identity: bool,
    /// Whether a model finds what answers make up.
    pub(super) has_detector: bool,
    /// Whether a signal finds out where facts are needed.
    pub(super) checks_facts: bool,
}

impl PolicyContext<'_> {
    /// Finds a model by a name that the operator wrote.
    pub(super) fn model(&self, name: &str, path: &YamlPath, checker: &mut Checker<'_>) -> Option<ModelId> {
        let found = self.models.get(name).copied();
        if found.is_none() {
            checker.unknown(path, "model", name, self.models.keys().map(String::as_str));
        }
        found
    }

    /// Finds a pool by a name that the operator wrote.
    pub(super) fn pool(&self, name: &str, path: &YamlPath, checker: &mut Checker<'_>) -> Option<PoolId> {
        let found = self.pools.get_index_of(name);
        if found.is_none() {
            checker.unknown(path, "pool", name, self.pools.iter().copied());
        }
        found.map(PoolId)
    }

    /// Finds the priority of an objective that the operator named.
    pub(super) fn priority(&self, name: &str, path: &YamlPath, checker: &mut Checker<'_>) -> Option<i32> {
        let Some(objectives) = self.objectives else {
            checker.issue(path, "has no effect without `admission`");
            return None;
        };
        priority_of(name, objectives, path, checker)
    }

    /// Checks names of domains, where they are known.
    pub(super) fn check_domains(&self, domains: &[String], path: &YamlPath, checker: &mut Checker<'_>) {
        for (index, domain) in domains.iter().enumerate() {
            if let Some(known) = self.domains.filter(|known| !known.contains(domain)) {
                let known = known.iter().map(String::as_str);
                checker.unknown(&path.index(index), "domain", domain, known);
            }
            if domains[..index].contains(domain) {
                checker.issue(&path.index(index), format!("`{domain}` stands twice"));
            }
        }
    }

    /// Checks kinds of personal data, where they are known.
    pub(super) fn check_pii(&self, kinds: &[String], path: &YamlPath, checker: &mut Checker<'_>) {
        for (index, kind) in kinds.iter().enumerate() {
            if self.has_builtin_pii && !known_pii_kinds().any(|known| known == kind) {
                checker.unknown(&path.index(index), "kind of personal data", kind, known_pii_kinds());
            }
        }
    }
}

/// Finds the priority of an objective that the operator named.
pub(super) fn priority_of(
    name: &str,
    objectives: &Objectives,
    path: &YamlPath,
    checker: &mut Checker<'_>,
) -> Option<i32> {
    let found = objectives.get(name).copied();
    if found.is_none() {
        checker.unknown(path, "objective", name, objectives.keys().map(String::as_str));
    }
    found
}
