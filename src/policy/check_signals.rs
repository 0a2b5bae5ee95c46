//! Owns what the policy's signals mean together, and what of them a decision says in place. Refuses to know decisions.

use std::collections::HashMap;

use indexmap::IndexMap;

use super::check::Known;
use super::checker::Checker;
use super::issue::Path;
use super::raw_signals::{
    RawAggregate, RawContextSignal, RawConversationSignal, RawDomainSignal, RawFeature, RawFeedback,
    RawIdentitySignal, RawKeywordSignal, RawLevel, RawMetadataSignal, RawModality, RawPiiSignal, RawScope,
    RawSignal, RawStructureSignal,
};
use super::{
    Aggregate, BasisPoints, Case, Feature, Feedback, Keywords, Level, Measure, MetadataTest, Modality, Need,
    PiiKinds, Scope, Signal, SignalId, SignalKind,
};

/// The largest program that a pattern may become, in bytes.
pub const MAX_PATTERN_BYTES: usize = 1 << 20;

/// The signals of a policy, which grow by what decisions say in place.
pub(super) struct Signals {
    pub(super) all: Vec<Signal>,
    named: HashMap<String, SignalId>,
    in_place: HashMap<(Vec<String>, BasisPoints), SignalId>,
}

impl Signals {
    /// Finds a signal by its name.
    pub(super) fn named(&self, name: &str) -> Option<SignalId> {
        self.named.get(name).copied()
    }

    /// Gives the names of the signals that have one.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.named.keys().map(String::as_str)
    }

    /// Takes in what a decision says in place; equal ones are one.
    pub(super) fn domain(&mut self, any: &[String], min_score: BasisPoints) -> SignalId {
        let next = SignalId(self.all.len());
        let id = *self.in_place.entry((any.to_vec(), min_score)).or_insert(next);
        if id == next {
            let kind = SignalKind::Domain { any: any.to_vec(), min_score };
            self.all.push(Signal { name: format!("domain:{}", any.join("|")), kind });
        }
        id
    }
}

/// Turns the raw signals into the final ones.
pub(super) fn signals(
    raw: &IndexMap<String, RawSignal>,
    path: &Path,
    known: &Known<'_>,
    checker: &mut Checker<'_>,
) -> Signals {
    let mut all = Vec::with_capacity(raw.len());
    for (name, raw) in raw {
        let path = path.key(name);
        checker.name(&path, name);
        if name.contains(':') {
            checker.issue(&path, "a signal's name must not contain a colon");
        }
        let mut kinds = kinds(raw, &path, known, checker);
        if kinds.len() != 1 {
            checker.issue(&path, "a signal is of exactly one kind, such as `keyword` or `domain`");
        }
        // What is missing is an issue by now; the place in the list must stay.
        let kind = kinds.pop().unwrap_or(SignalKind::Context { min: 0, max: u64::MAX });
        all.push(Signal { name: name.clone(), kind });
    }
    let named = all.iter().enumerate().map(|(id, signal)| (signal.name.clone(), SignalId(id))).collect();
    Signals { all, named, in_place: HashMap::new() }
}

fn score(fraction: f64) -> BasisPoints {
    BasisPoints::from_fraction(fraction)
}

fn kinds(raw: &RawSignal, path: &Path, known: &Known<'_>, checker: &mut Checker<'_>) -> Vec<SignalKind> {
    let mut found = Vec::with_capacity(1);
    found.extend(raw.domain.as_ref().map(|raw| domain(raw, &path.key("domain"), known, checker)));
    found.extend(
        raw.jailbreak.as_ref().map(|raw| SignalKind::Jailbreak {
            min_score: raw.min_score.map(score),
            scope: scope(raw.scope),
        }),
    );
    found.extend(raw.pii.as_ref().map(|raw| pii(raw, &path.key("pii"), known, checker)));
    found.extend(raw.keyword.as_ref().map(|raw| keyword(raw, &path.key("keyword"), checker)));
    found.extend(raw.similarity.as_ref().map(|raw| SignalKind::Similarity {
        to: raw.to.clone(),
        aggregate: match raw.aggregate {
            RawAggregate::Max => Aggregate::Max,
            RawAggregate::Mean => Aggregate::Mean,
            RawAggregate::Any => Aggregate::Any,
        },
        min_score: score(raw.min_score),
    }));
    found.extend(raw.complexity.as_ref().map(|raw| SignalKind::Complexity {
        hard: raw.hard.clone(),
        easy: raw.easy.clone(),
        margin: score(raw.margin),
        level: match raw.level {
            RawLevel::Hard => Level::Hard,
            RawLevel::Medium => Level::Medium,
            RawLevel::Easy => Level::Easy,
        },
    }));
    found.extend(raw.language.as_ref().map(|raw| SignalKind::Language {
        any: raw.any.iter().map(|code| code.to_lowercase()).collect(),
        min_score: score(raw.min_score),
    }));
    found.extend(raw.context.as_ref().map(|raw| context(raw, &path.key("context"), checker)));
    found.extend(raw.structure.as_ref().map(|raw| structure(raw, &path.key("structure"), checker)));
    found.extend(raw.conversation.as_ref().map(|raw| conversation(raw, &path.key("conversation"), checker)));
    found.extend(
        raw.fact_check
            .as_ref()
            .map(|raw| SignalKind::FactCheck { needed: raw.needed, min_score: score(raw.min_score) }),
    );
    found.extend(raw.feedback.as_ref().map(|raw| SignalKind::Feedback {
        any: raw.any.iter().copied().map(feedback).collect(),
        min_score: score(raw.min_score),
    }));
    found.extend(
        raw.reask
            .as_ref()
            .map(|raw| SignalKind::Reask { min_score: score(raw.min_score), lookback: raw.lookback }),
    );
    found.extend(raw.modality.as_ref().map(|raw| SignalKind::Modality {
        any: raw.any.iter().copied().map(modality).collect(),
        min_score: score(raw.min_score),
    }));
    found.extend(raw.metadata.as_ref().map(|raw| metadata(raw, &path.key("metadata"), checker)));
    found.extend(raw.identity.as_ref().map(|raw| identity(raw, &path.key("identity"), checker)));
    found
}

fn domain(raw: &RawDomainSignal, path: &Path, known: &Known<'_>, checker: &mut Checker<'_>) -> SignalKind {
    known.check_domains(&raw.any, &path.key("any"), checker);
    let min_score = raw.min_score.map_or(known.min_confidence, score);
    SignalKind::Domain { any: raw.any.clone(), min_score }
}

fn pii(raw: &RawPiiSignal, path: &Path, known: &Known<'_>, checker: &mut Checker<'_>) -> SignalKind {
    known.check_pii(&raw.only, &path.key("only"), checker);
    known.check_pii(&raw.except, &path.key("except"), checker);
    SignalKind::Pii {
        kinds: PiiKinds { only: raw.only.clone(), except: raw.except.clone() },
        min_score: raw.min_score.map(score),
        scope: scope(raw.scope),
    }
}

fn keyword(raw: &RawKeywordSignal, path: &Path, checker: &mut Checker<'_>) -> SignalKind {
    let lists = [(Need::Any, &raw.any), (Need::All, &raw.all), (Need::None, &raw.none)];
    let mut given = lists.into_iter().filter(|(_, words)| !words.is_empty());
    let first = given.next();
    if first.is_none() || given.next().is_some() {
        checker.issue(path, "needs exactly one of `any`, `all` and `none`");
    }
    let (need, words) = first.unwrap_or((Need::Any, &raw.any));
    if let Some(blank) = words.iter().position(|word| word.trim().is_empty()) {
        checker.issue(&path.index(blank), "a keyword must not be blank");
    }
    let case = if raw.case_sensitive { Case::Sensitive } else { Case::Ignored };
    let (words, scope) = (words.clone(), scope(raw.scope));
    SignalKind::Keyword(Keywords { words, need, case, max_edits: raw.max_edits, scope })
}

fn context(raw: &RawContextSignal, path: &Path, checker: &mut Checker<'_>) -> SignalKind {
    if raw.min_tokens.is_none() && raw.max_tokens.is_none() {
        checker.issue(path, "needs `min_tokens`, `max_tokens` or both");
    }
    let (min, max) = bounds((raw.min_tokens, raw.max_tokens), 0, path, checker);
    SignalKind::Context { min, max }
}

/// Gives a range whose ends may be missing; without either it starts at `least`.
fn bounds(
    (min, max): (Option<u64>, Option<u64>),
    least: u64,
    path: &Path,
    checker: &mut Checker<'_>,
) -> (u64, u64) {
    let (min, max) = match (min, max) {
        (None, None) => (least, u64::MAX),
        (min, max) => (min.unwrap_or(0), max.unwrap_or(u64::MAX)),
    };
    if min > max {
        checker.issue(path, format!("nothing lies between {min} and {max}"));
    }
    (min, max)
}

fn structure(raw: &RawStructureSignal, path: &Path, checker: &mut Checker<'_>) -> SignalKind {
    let mut measures = Vec::with_capacity(1);
    measures.extend(raw.count.clone().map(Measure::Count));
    measures.extend(raw.density.clone().map(Measure::Density));
    measures.extend((!raw.sequence.is_empty()).then(|| Measure::Sequence(raw.sequence.clone())));
    if measures.len() != 1 {
        checker.issue(path, "needs exactly one of `count`, `density` and `sequence`");
    }
    let single = [("count", &raw.count), ("density", &raw.density)];
    for (key, pattern) in single.into_iter().filter_map(|(key, pattern)| Some((key, pattern.as_ref()?))) {
        check_pattern(pattern, &path.key(key), checker);
    }
    for (index, pattern) in raw.sequence.iter().enumerate() {
        check_pattern(pattern, &path.key("sequence").index(index), checker);
    }
    let milli = |bound: f64| (bound * 1000.0).round() as u64;
    let given = (raw.min.map(milli), raw.max.map(milli));
    let (min_milli, max_milli) = bounds(given, 1000, path, checker);
    let measure = measures.pop().unwrap_or(Measure::Sequence(Vec::new()));
    SignalKind::Structure { measure, min_milli, max_milli }
}

fn check_pattern(pattern: &str, path: &Path, checker: &mut Checker<'_>) {
    if let Err(error) = regex::RegexBuilder::new(pattern).size_limit(MAX_PATTERN_BYTES).build() {
        let error = error.to_string();
        let last = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
        checker.issue(path, format!("not a regular expression: {last}"));
    }
}

fn conversation(raw: &RawConversationSignal, path: &Path, checker: &mut Checker<'_>) -> SignalKind {
    let (min, max) = bounds((raw.min, raw.max), 1, path, checker);
    let feature = match raw.feature {
        RawFeature::Messages => Feature::Messages,
        RawFeature::UserMessages => Feature::UserMessages,
        RawFeature::AssistantMessages => Feature::AssistantMessages,
        RawFeature::SystemMessages => Feature::SystemMessages,
        RawFeature::ToolMessages => Feature::ToolMessages,
        RawFeature::ToolCalls => Feature::ToolCalls,
        RawFeature::Tools => Feature::Tools,
        RawFeature::Images => Feature::Images,
        RawFeature::Turns => Feature::Turns,
    };
    SignalKind::Conversation { feature, min, max }
}

fn metadata(raw: &RawMetadataSignal, path: &Path, checker: &mut Checker<'_>) -> SignalKind {
    let test = match (raw.one_of.is_empty(), raw.exists) {
        (false, None) => MetadataTest::In(raw.one_of.clone()),
        (true, Some(false)) => MetadataTest::Absent,
        (true, Some(true)) => MetadataTest::Present,
        _ => {
            checker.issue(path, "needs exactly one of `in` and `exists`");
            MetadataTest::Present
        }
    };
    SignalKind::Metadata { key: raw.key.clone(), test }
}

fn identity(raw: &RawIdentitySignal, path: &Path, checker: &mut Checker<'_>) -> SignalKind {
    let (users, groups, tenants) = (raw.users.clone(), raw.groups.clone(), raw.tenants.clone());
    if users.is_empty() && groups.is_empty() && tenants.is_empty() {
        checker.issue(path, "needs `users`, `groups` or `tenants`");
    }
    SignalKind::Identity { users, groups, tenants }
}

/// Turns the raw scope into the final one.
pub(super) fn scope(raw: RawScope) -> Scope {
    match raw {
        RawScope::Prompt => Scope::Prompt,
        RawScope::Conversation => Scope::Conversation,
    }
}

fn feedback(raw: RawFeedback) -> Feedback {
    match raw {
        RawFeedback::Satisfied => Feedback::Satisfied,
        RawFeedback::NeedClarification => Feedback::NeedClarification,
        RawFeedback::WrongAnswer => Feedback::WrongAnswer,
        RawFeedback::WantDifferent => Feedback::WantDifferent,
    }
}

fn modality(raw: RawModality) -> Modality {
    match raw {
        RawModality::Text => Modality::Text,
        RawModality::Image => Modality::Image,
        RawModality::Both => Modality::Both,
    }
}
