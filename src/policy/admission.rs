//! Owns who goes first where a pool has too much to do, and how long the others wait. Refuses to know how busy pools are.

use std::time::Duration;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checker::Checker;
use super::context::{Objectives, priority_of};
use super::duration::DurationText;
use super::identity::Principal;
use super::issue::YamlPath;
use super::size::sized;

/// Who goes first where a pool has too much to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdmissionPolicy {
    objectives: Objectives,
    /// Priorities by tenants.
    tenants: IndexMap<String, i32>,
    /// Priorities by groups; the first that a client is in counts.
    groups: IndexMap<String, i32>,
    clients: ClientObjectives,
    /// What bounds the requests that wait.
    pub queue: QueueLimits,
}

/// What a request's priority is found by.
#[derive(Debug, Clone, Copy, Default)]
pub struct PriorityInput<'a> {
    /// The priority that its decision gives.
    pub decision: Option<i32>,
    /// The priority that its model gives.
    pub model: Option<i32>,
    /// The client, where it is verified.
    pub principal: Option<&'a Principal>,
    /// The objective that the client names, where it may.
    pub objective: Option<&'a str>,
    /// The priority of that objective where the policy does not know it, as a cluster's objects say.
    pub objective_priority: Option<i32>,
}

impl AdmissionPolicy {
    /// Gives a request's priority: its decision's, else its client's, else its model's, else 0.
    ///
    /// A client that may name an objective lowers that as it likes, and raises it up to the policy's bound.
    pub fn priority(&self, input: PriorityInput<'_>) -> i32 {
        let given =
            input.decision.or_else(|| self.of_client(input.principal?)).or(input.model).unwrap_or_default();
        let known = input.objective.and_then(|name| self.objectives.get(name)).copied();
        let named = known.or(input.objective_priority);
        named.map_or(given, |named| named.min(self.clients.max_priority.max(given)))
    }

    fn of_client(&self, principal: &Principal) -> Option<i32> {
        let tenant = principal.tenant.as_ref().and_then(|tenant| self.tenants.get(tenant));
        let is_of = |group: &&String| principal.groups.contains(group);
        let group = || self.groups.iter().find(|(group, _)| is_of(group)).map(|(_, priority)| priority);
        tenant.or_else(group).copied()
    }

    /// Whether a client may name its requests' objective and fairness id.
    pub fn may_choose(&self, is_trusted_peer: bool, is_verified: bool) -> bool {
        match self.clients.from {
            ObjectiveSource::Nobody => false,
            ObjectiveSource::TrustedPeers => is_trusted_peer,
            ObjectiveSource::Identified => is_trusted_peer || is_verified,
            ObjectiveSource::Everyone => true,
        }
    }
}

/// Which clients may say by headers what their requests are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct ClientObjectives {
    /// Who may.
    from: ObjectiveSource,
    /// The highest priority that they reach so, where the policy gives them no higher one.
    max_priority: i32,
}

impl Default for ClientObjectives {
    fn default() -> Self {
        Self { from: ObjectiveSource::Nobody, max_priority: 0 }
    }
}

/// Whose headers are believed that say what a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum ObjectiveSource {
    /// No client's.
    Nobody,
    /// Those of `identity.trusted_peers`.
    TrustedPeers,
    /// Those, and every verified client's.
    Identified,
    /// Every client's.
    Everyone,
}

/// What bounds the requests that wait for one pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QueueLimits {
    /// How long a request waits, and never longer than all of it may take; 429 after that.
    #[serde(with = "DurationText")]
    pub max_wait: Duration,
    /// The most requests that wait; 0 lets none wait. Where there are more, one of a higher priority takes the place of
    /// one of a lower, and one of a tenant with fewer that of one of the tenant with the most.
    #[schemars(range(max = 1_000_000))]
    pub max_requests: usize,
    /// The most bytes of their bodies.
    #[schemars(range(min = 1, max = 1_099_511_627_776_u64), transform = sized)]
    pub max_bytes: usize,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self { max_wait: Duration::from_secs(60), max_requests: 5000, max_bytes: 64 << 20 }
    }
}

/// Who goes first where a pool has too much to do, and how long the others wait.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Admission")]
pub(super) struct RawAdmission {
    /// What requests are for, with their priorities: higher ones go first, negative ones are refused where a pool has too
    /// much to do. Without any objective a request's priority is 0.
    #[schemars(extend("maxProperties" = 64))]
    objectives: Objectives,
    /// The objectives of tenants, by their names.
    #[schemars(extend("maxProperties" = 10_000))]
    tenants: IndexMap<String, String>,
    /// The objectives of groups; the first that a client is in counts.
    #[schemars(extend("maxProperties" = 10_000))]
    groups: IndexMap<String, String>,
    /// Which clients may name their requests' objective in `x-llm-d-inference-objective` (or
    /// `x-gateway-inference-objective`), and whom to count them with in `x-llm-d-inference-fairness-id`.
    client_objectives: ClientObjectives,
    /// What bounds the requests that wait for one pool.
    queue: QueueLimits,
}

impl RawAdmission {
    /// The objectives by their names, which decisions and models refer to.
    pub(super) fn objectives(&self) -> &Objectives {
        &self.objectives
    }

    pub(super) fn check(
        self,
        path: &YamlPath,
        has_identity: bool,
        checker: &mut Checker<'_>,
    ) -> AdmissionPolicy {
        let objectives = self.objectives;
        for name in objectives.keys() {
            checker.name(&path.key("objectives").key(name), name);
        }
        for (key, map) in [("tenants", &self.tenants), ("groups", &self.groups)] {
            if !map.is_empty() && !has_identity {
                checker.issue(&path.key(key), "has no effect: `identity` verifies no client");
            }
        }
        if matches!(self.client_objectives.from, ObjectiveSource::TrustedPeers | ObjectiveSource::Identified)
            && !has_identity
        {
            checker.issue(
                &path.key("client_objectives").key("from"),
                "has no effect: `identity` verifies no client",
            );
        }
        let mut priorities = |key: &str, map: IndexMap<String, String>| {
            let path = path.key(key);
            let of = map.into_iter().filter_map(|(who, objective)| {
                let priority = priority_of(&objective, &objectives, &path.key(&who), checker)?;
                Some((who, priority))
            });
            of.collect()
        };
        AdmissionPolicy {
            tenants: priorities("tenants", self.tenants),
            groups: priorities("groups", self.groups),
            clients: self.client_objectives,
            queue: self.queue,
            objectives,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fixed, load};
    use std::path::Path;

    fn admission(text: &str) -> AdmissionPolicy {
        let text = format!(
            "version: 1\nidentity: {{trusted_peers: [10.0.0.0/8]}}\nadmission:\n  objectives: {{chat: 10, plain: 0, batch: -5}}\n{text}\n\
             models: {{m: {{pools: [p]}}}}\npools: {{p: {{endpoints: [\"127.0.0.1:1\"]}}}}\n"
        );
        load(&text, Path::new("."), &Fixed::default(), None).unwrap().admission.unwrap()
    }

    fn principal(tenant: &str, groups: &[&str]) -> Principal {
        Principal {
            user: "u".to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            tenant: Some(tenant.to_owned()),
        }
    }

    #[test]
    fn a_decision_comes_before_a_client_and_that_before_a_model() {
        let admission = admission("  tenants: {acme: chat}\n  groups: {crawlers: batch, staff: chat}");
        let [acme, crawler] = [principal("acme", &["crawlers"]), principal("other", &["staff", "crawlers"])];
        let of = |decision, principal, model| {
            admission.priority(PriorityInput { decision, model, principal, ..PriorityInput::default() })
        };
        assert_eq!(of(Some(-5), Some(&acme), Some(10)), -5);
        assert_eq!(of(None, Some(&acme), Some(-5)), 10, "a tenant's own before its groups'");
        assert_eq!(of(None, Some(&crawler), Some(10)), -5, "the first in the policy's order");
        assert_eq!((of(None, None, Some(-5)), of(None, None, None)), (-5, 0));
    }

    #[test]
    fn a_client_lowers_its_priority_as_it_likes_and_raises_it_no_further_than_the_policy_allows() {
        let of = |text: &str, given, objective| {
            let input =
                PriorityInput { decision: given, objective: Some(objective), ..PriorityInput::default() };
            admission(text).priority(input)
        };
        assert_eq!(of("", None, "batch"), -5);
        assert_eq!(of("", None, "chat"), 0);
        assert_eq!(of("", Some(-5), "chat"), 0, "0 is what everyone may have by default");
        assert_eq!(of("", Some(10), "chat"), 10, "it has that anyway");
        assert_eq!(of("  client_objectives: {from: everyone, max_priority: 7}", None, "chat"), 7);
        assert_eq!(of("  client_objectives: {max_priority: -5}", Some(-5), "chat"), -5);
        assert_eq!(of("", Some(-5), "unknown"), -5);
    }

    #[test]
    fn only_whom_the_policy_names_may_choose() {
        let may = |from: &str| {
            let admission = admission(&format!("  client_objectives: {{from: {from}}}"));
            [(false, false), (false, true), (true, false)]
                .map(|(peer, known)| admission.may_choose(peer, known))
        };
        assert_eq!(may("nobody"), [false; 3]);
        assert_eq!(may("trusted_peers"), [false, false, true]);
        assert_eq!(may("identified"), [false, true, true]);
        assert_eq!(may("everyone"), [true; 3]);
    }
}
