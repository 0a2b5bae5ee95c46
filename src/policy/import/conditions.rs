//! Owns the conditions that a source can name, by kind and name, and the trees that its decisions build of them. Refuses to
//! know how each kind of signal is read.

use std::collections::HashMap;

use super::draft::PolicyDraft;
use super::source_node::SourceNode;
use super::yaml_writer::{YamlMapping, YamlValue};

/// The classes of vSR's domain classifier, which are those of the built-in one.
pub(super) const DOMAINS: [&str; 14] = [
    "biology",
    "business",
    "chemistry",
    "computer science",
    "economics",
    "engineering",
    "health",
    "history",
    "law",
    "math",
    "other",
    "philosophy",
    "physics",
    "psychology",
];

/// How deep a tree of conditions is read.
const MAX_DEPTH: usize = 24;

/// What a condition has become.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Condition {
    /// The prompt is about one of these domains.
    Domains(Vec<String>),
    /// Anything else that a policy can express.
    Is(YamlValue),
    /// It holds for every request.
    Always,
    /// It never held in the original, for this reason.
    Never(String),
    /// A policy cannot express it, for this reason.
    Unsupported(String),
}

impl Condition {
    pub(super) fn signal(name: String) -> Self {
        Self::Is(YamlValue::Text(name))
    }

    /// Holds when any of several does.
    pub(super) fn any(parts: Vec<Self>) -> Self {
        let mut domains = Vec::new();
        let (mut rest, mut lost) = (Vec::new(), None);
        for part in parts {
            match part {
                Self::Domains(more) => domains.extend(more),
                Self::Is(out) => rest.push(out),
                Self::Always => return Self::Always,
                Self::Never(_) | Self::Unsupported(_) => {
                    lost.get_or_insert(part);
                }
            }
        }
        domains.dedup();
        if rest.is_empty() && !domains.is_empty() {
            return Self::Domains(domains);
        }
        if !domains.is_empty() {
            rest.insert(0, domain(domains));
        }
        match rest.len() {
            0 => lost.unwrap_or_else(|| Self::Never("there is nothing of which any could hold".to_owned())),
            1 => rest.pop().map_or(Self::Always, Self::Is),
            _ => Self::Is(YamlValue::of("any", rest)),
        }
    }

    /// Holds when all of several do.
    pub(super) fn all(parts: Vec<Self>) -> Self {
        let mut rest = Vec::new();
        let mut domains = Vec::new();
        for part in parts {
            match part {
                Self::Domains(more) => domains.push(more),
                Self::Is(out) => rest.push(out),
                Self::Always => {}
                Self::Never(_) | Self::Unsupported(_) => return part,
            }
        }
        if rest.is_empty() && domains.len() == 1 {
            return domains.pop().map_or(Self::Always, Self::Domains);
        }
        let mut parts: Vec<YamlValue> = domains.into_iter().map(domain).collect();
        parts.extend(rest);
        match parts.len() {
            0 => Self::Always,
            1 => parts.pop().map_or(Self::Always, Self::Is),
            _ => Self::Is(YamlValue::of("all", parts)),
        }
    }

    /// Holds when another does not.
    pub(super) fn not(self) -> Self {
        match self {
            Self::Domains(domains) => Self::Is(YamlValue::of("not", domain(domains))),
            Self::Is(out) => Self::Is(YamlValue::of("not", out)),
            Self::Always => Self::Never("what always holds is negated".to_owned()),
            Self::Never(_) => Self::Always,
            unsupported @ Self::Unsupported(_) => unsupported,
        }
    }

    /// Adds the condition to a decision.
    pub(super) fn put(self, decision: &mut YamlMapping) {
        match self {
            Self::Domains(domains) => decision.put("domains", domains),
            Self::Is(out) => decision.put("when", out),
            Self::Always | Self::Never(_) | Self::Unsupported(_) => decision,
        };
    }
}

fn domain(mut domains: Vec<String>) -> YamlValue {
    match (domains.pop(), domains.is_empty()) {
        (Some(only), true) => YamlValue::of("domain", only),
        (last, _) => {
            domains.extend(last);
            YamlValue::of("domain", domains)
        }
    }
}

/// What the decisions of one list can name.
#[derive(Debug, Clone, Default)]
pub(super) struct Conditions {
    known: HashMap<(String, String), Condition>,
    /// Whether a rule without conditions holds always, as it does in the canonical dialect, or never.
    pub(super) empty_holds: bool,
}

impl Conditions {
    /// Adds what a kind and a name stand for.
    pub(super) fn add(&mut self, kind: &str, name: &str, condition: Condition) {
        self.known.insert((kind.to_owned(), name.to_owned()), condition);
    }

    /// Adds a signal to the policy, and the condition that names it.
    pub(super) fn add_signal(
        &mut self,
        draft: &mut PolicyDraft,
        kind: &str,
        name: &str,
        signal: YamlValue,
    ) -> String {
        let own = draft.signal_name(kind, name);
        draft.routing.signals.put(&own, signal);
        self.add(kind, name, Condition::signal(own.clone()));
        own
    }

    fn find(&self, kind: &str, name: &str) -> Option<&Condition> {
        self.known.get(&(kind.to_owned(), name.to_owned()))
    }

    /// Gives what a kind and a name stand for.
    pub(super) fn get(&self, kind: &str, name: &str) -> Option<Condition> {
        self.find(kind, name).cloned()
    }

    /// Reads a tree of conditions.
    pub(super) fn read(&self, rules: &SourceNode<'_>) -> Condition {
        self.node(rules, 0)
    }

    fn node(&self, node: &SourceNode<'_>, depth: usize) -> Condition {
        if depth > MAX_DEPTH {
            node.unsupported("nested too deeply");
            return Condition::Unsupported("a condition nests too deeply".to_owned());
        }
        let operator = node.take("operator", "decisions[].when");
        if operator.is_none() && !node.has("conditions") {
            return self.leaf(node);
        }
        let children = node.list("conditions");
        let parts: Vec<Condition> = children.iter().map(|child| self.node(child, depth + 1)).collect();
        if parts.is_empty() && !self.empty_holds {
            return Condition::Never("a rule without conditions never holds in this dialect".to_owned());
        }
        match operator.unwrap_or_default().to_ascii_uppercase().as_str() {
            "OR" => Condition::any(parts),
            "NOT" if parts.len() == 1 => parts.into_iter().next().map_or(Condition::Always, Condition::not),
            "NOT" | "NOR" => Condition::any(parts).not(),
            "" | "AND" => Condition::all(parts),
            other => {
                let why = format!("the operator `{other}` is none of AND, OR, NOT and NOR");
                if let Some(node) = node.get("operator") {
                    node.unsupported(&why);
                }
                Condition::Unsupported(why)
            }
        }
    }

    fn leaf(&self, node: &SourceNode<'_>) -> Condition {
        let Some(kind) = node.take("type", "decisions[].when") else {
            return if self.empty_holds && node.entries().is_empty() {
                Condition::Always
            } else {
                node.broken("a condition without a `type` never holds", "left out");
                Condition::Never("a condition has no `type`".to_owned())
            };
        };
        let (name, node) = match (node.get("name"), node.get("rule_name")) {
            (Some(name), _) => (name.text().unwrap_or_default().to_owned(), name),
            (None, Some(alias)) => {
                let wrong = "`rule_name` is no key of a condition, so it never held; `name` is meant";
                alias.broken(wrong, "read as `name`: the decision can match now");
                (alias.text().unwrap_or_default().to_owned(), alias)
            }
            (None, None) => {
                node.broken("a condition without a `name` never holds", "left out");
                return Condition::Never("a condition has no `name`".to_owned());
            }
        };
        let condition = match self.find(&kind, &name) {
            Some(known) => known.clone(),
            None if kind == "domain" => plain_domain(&name, &node),
            None => Condition::Never(format!("there is no {kind} signal `{name}`")),
        };
        match &condition {
            Condition::Never(why) => node.broken(why, "the condition is taken as one that never holds"),
            Condition::Unsupported(why) => node.unsupported(why),
            _ => node.mapped("decisions[].when"),
        }
        condition
    }
}

/// Takes a domain that no list describes for a class of the classifier.
fn plain_domain(name: &str, node: &SourceNode<'_>) -> Condition {
    domain_class(name, node).map_or_else(
        || Condition::Never(format!("the domain classifier has no class `{name}`")),
        |class| Condition::Domains(vec![class]),
    )
}

/// Gives the class of the domain classifier that a name means.
pub(super) fn domain_class(name: &str, node: &SourceNode<'_>) -> Option<String> {
    if DOMAINS.contains(&name) {
        return Some(name.to_owned());
    }
    let folded = name.to_lowercase().replace(['_', '-'], " ");
    let class = DOMAINS.iter().find(|class| **class == folded)?;
    node.broken(
        &format!("the domain classifier has no class `{name}`, so it never held; `{class}` is meant"),
        &format!("read as `{class}`"),
    );
    Some((*class).to_owned())
}
