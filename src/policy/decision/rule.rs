//! Owns when a decision holds: conditions become trees of signals. Refuses to know what signals are about.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::BasisPoints;
use crate::checker::Checker;
use crate::context::PolicyContext;
use crate::issue::YamlPath;
use crate::signal::{DomainSignal, SignalId, SignalTable};

/// The most parts that one condition may have, and how deep they may nest.
const MAX_PARTS: usize = 1000;
const MAX_DEPTH: usize = 32;

/// A condition over signals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// All of these hold; without any it always does.
    All(Vec<Rule>),
    /// One of these holds.
    Any(Vec<Rule>),
    /// This does not hold.
    Not(Box<Rule>),
    /// A signal matches, or reaches this score.
    Signal {
        /// The signal.
        id: SignalId,
        /// The least score; the signal's own where there is none.
        min_score: Option<BasisPoints>,
    },
}

impl Rule {
    /// Whether it holds for every request.
    pub fn holds_always(&self) -> bool {
        matches!(self, Self::All(parts) if parts.iter().all(Self::holds_always))
    }

    /// Whether the other rule holds wherever this one does, as far as their forms tell.
    pub fn implies(&self, other: &Self) -> bool {
        if self == other || other.holds_always() {
            return true;
        }
        let by_other = matches!(other, Self::Any(parts) if parts.iter().any(|part| self.implies(part)));
        by_other || matches!(self, Self::All(parts) if parts.iter().any(|part| part.implies(other)))
    }

    /// Calls `each` with every signal that the rule names.
    pub fn signals(&self, each: &mut impl FnMut(SignalId)) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.signals(each)),
            Self::Not(part) => part.signals(each),
            Self::Signal { id, .. } => each(*id),
        }
    }
}

/// A condition: a signal's name, or exactly one of `signal`, `domain`, `any`, `all` and `not`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Condition")]
pub(super) enum RawCondition {
    /// The signal of this name matches.
    Name(String),
    /// One of the forms of a condition.
    Node(Box<RawConditionNode>),
}

/// A condition with parts or with a threshold of its own.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Node")]
pub(super) struct RawConditionNode {
    /// The signal of this name matches, or reaches `min_score`.
    signal: Option<String>,
    /// The prompt is about this domain, or about one of these.
    #[schemars(with = "RawDomains")]
    domain: Option<RawDomains>,
    /// The least score, for `signal` and `domain`.
    min_score: Option<BasisPoints>,
    /// One of these holds.
    #[schemars(length(max = 1000))]
    any: Option<Vec<RawCondition>>,
    /// All of these hold; none of them, and it always does.
    #[schemars(length(max = 1000))]
    all: Option<Vec<RawCondition>>,
    /// This does not hold.
    #[schemars(with = "RawCondition")]
    not: Option<RawCondition>,
}

/// A name, or a list of names.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "OneOrMore")]
enum RawDomains {
    /// One.
    One(String),
    /// Several.
    More(Vec<String>),
}

/// Turns conditions into rules.
pub(super) struct RuleBuilder<'a> {
    pub(super) context: &'a PolicyContext<'a>,
    pub(super) signals: &'a mut SignalTable,
}

impl RuleBuilder<'_> {
    /// Gives the rule of a whole condition.
    pub(super) fn rule(&mut self, raw: RawCondition, path: &YamlPath, checker: &mut Checker<'_>) -> Rule {
        let mut parts = 0;
        self.part(raw, path, ConditionSize { depth: 0, parts: &mut parts }, checker)
    }

    /// Gives the rule that one of these domains is the prompt's.
    pub(super) fn domains(
        &mut self,
        any: Vec<String>,
        min_score: Option<BasisPoints>,
        path: &YamlPath,
        checker: &mut Checker<'_>,
    ) -> Rule {
        self.context.check_domains(&any, path, checker);
        let min_score = min_score.unwrap_or(self.context.min_confidence);
        Rule::Signal { id: self.signals.domain(DomainSignal { any, min_score }), min_score: None }
    }

    fn part(
        &mut self,
        raw: RawCondition,
        path: &YamlPath,
        mut size: ConditionSize<'_>,
        checker: &mut Checker<'_>,
    ) -> Rule {
        *size.parts += 1;
        if *size.parts == MAX_PARTS + 1 {
            checker.issue(path, format!("a condition has at most {MAX_PARTS} parts"));
        }
        if size.depth == MAX_DEPTH {
            checker.issue(path, format!("a condition nests at most {MAX_DEPTH} deep"));
        }
        if *size.parts > MAX_PARTS || size.depth >= MAX_DEPTH {
            return Rule::All(Vec::new());
        }
        let node = match raw {
            RawCondition::Name(name) => return self.signal(&name, None, path, checker),
            RawCondition::Node(node) => *node,
        };
        node.check(path, checker);
        if let Some(name) = node.signal {
            return self.signal(&name, node.min_score, &path.key("signal"), checker);
        }
        if let Some(domains) = node.domain {
            let path = path.key("domain");
            let domains = match domains {
                RawDomains::One(domain) => vec![domain],
                RawDomains::More(domains) => domains,
            };
            if domains.is_empty() {
                checker.issue(&path, "must not be empty");
            }
            return self.domains(domains, node.min_score, &path, checker);
        }
        if let Some(not) = node.not {
            return Rule::Not(Box::new(self.part(not, &path.key("not"), size.deeper(), checker)));
        }
        if let Some(any) = node.any {
            return Rule::Any(self.parts(any, &path.key("any"), size, checker));
        }
        Rule::All(self.parts(node.all.unwrap_or_default(), &path.key("all"), size, checker))
    }

    fn parts(
        &mut self,
        raw: Vec<RawCondition>,
        path: &YamlPath,
        mut size: ConditionSize<'_>,
        checker: &mut Checker<'_>,
    ) -> Vec<Rule> {
        let mut rules = Vec::with_capacity(raw.len());
        for (index, part) in raw.into_iter().enumerate() {
            rules.push(self.part(part, &path.index(index), size.deeper(), checker));
        }
        rules
    }

    fn signal(
        &self,
        name: &str,
        min_score: Option<BasisPoints>,
        path: &YamlPath,
        checker: &mut Checker<'_>,
    ) -> Rule {
        let Some(id) = self.signals.named(name) else {
            checker.unknown(path, "signal", name, self.signals.names());
            return Rule::All(Vec::new());
        };
        Rule::Signal { id, min_score }
    }
}

/// How far a condition has grown.
struct ConditionSize<'a> {
    depth: usize,
    parts: &'a mut usize,
}

impl ConditionSize<'_> {
    fn deeper(&mut self) -> ConditionSize<'_> {
        ConditionSize { depth: self.depth + 1, parts: &mut *self.parts }
    }
}

impl RawConditionNode {
    fn check(&self, path: &YamlPath, checker: &mut Checker<'_>) {
        let given = [
            self.signal.is_some(),
            self.domain.is_some(),
            self.any.is_some(),
            self.all.is_some(),
            self.not.is_some(),
        ];
        if given.iter().filter(|given| **given).count() != 1 {
            checker.issue(path, "needs exactly one of `signal`, `domain`, `any`, `all` and `not`");
        }
        if self.min_score.is_some() && self.signal.is_none() && self.domain.is_none() {
            checker.issue(&path.key("min_score"), "only with `signal` or `domain`");
        }
        if self.any.as_ref().is_some_and(Vec::is_empty) {
            checker.issue(&path.key("any"), "must not be empty: it would never hold");
        }
    }
}
