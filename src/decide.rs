//! Owns the choice of a decision: the operator's rules evaluated by a request's signals, pure and total.
//!
//! Knows nothing of how a signal came about, nor of what becomes of the decision.

use crate::classify::Unknown;
use crate::policy::{
    BasisPoints, Decision, DecisionStrategy, OnUnknownSignal, Policy, Recipe, Rule, SignalId, SignalKind,
};
use crate::signals::{Audience, Signals};
use std::fmt;

/// What came of a rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RuleOutcome {
    /// It holds, with this score: a signal's own, the mean of all, the greatest of any, 1 for not.
    Holds(f32),
    /// It does not hold.
    Fails,
    /// A signal that matters has no answer, for this reason.
    Unknown(Unknown),
}

/// What came of a list of decisions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum DecisionOutcome<'policy> {
    /// This one matches, with this score.
    Decision(&'policy Decision, f32),
    /// None; where one could not be result, the first reason why.
    Nothing(Option<Unknown>),
    /// This one could not be result, and wants the request refused then.
    Refused(&'policy Decision, Unknown),
}

/// Chooses the decision for a request: of the lowest tier with one that holds the first, or the one with the highest
/// score, as the recipe says.
pub fn decide<'policy>(
    recipe: &'policy Recipe,
    audience: Audience,
    signals: &Signals,
) -> DecisionOutcome<'policy> {
    let mut best: Option<(&Decision, f32)> = None;
    let mut unknown = None;
    for decision in recipe.decisions.iter().filter(|decision| audience.meets(decision)) {
        if best.is_some_and(|(best, _)| {
            best.tier < decision.tier || recipe.strategy == DecisionStrategy::Priority
        }) {
            break;
        }
        match evaluate_decision(decision, signals) {
            DecisionMatch::Yes(score) if best.is_none_or(|(_, best)| best < score) => {
                best = Some((decision, score));
            }
            DecisionMatch::Refuses(reason) if best.is_none() => {
                return DecisionOutcome::Refused(decision, reason);
            }
            DecisionMatch::Yes(_) | DecisionMatch::Refuses(_) | DecisionMatch::No => {}
            DecisionMatch::Unknown(reason) => {
                unknown.get_or_insert(reason);
            }
        }
    }
    best.map_or(DecisionOutcome::Nothing(unknown), |(decision, score)| {
        DecisionOutcome::Decision(decision, score)
    })
}

/// Whether a decision matches.
enum DecisionMatch {
    Yes(f32),
    No,
    Unknown(Unknown),
    Refuses(Unknown),
}

fn evaluate_decision(decision: &Decision, signals: &Signals) -> DecisionMatch {
    match (evaluate(&decision.when.rule, signals), decision.when.on_unknown) {
        (RuleOutcome::Holds(score), _) => DecisionMatch::Yes(score),
        (RuleOutcome::Fails, _) => DecisionMatch::No,
        (RuleOutcome::Unknown(reason), OnUnknownSignal::Skip) => DecisionMatch::Unknown(reason),
        (RuleOutcome::Unknown(_), OnUnknownSignal::Match) => DecisionMatch::Yes(0.0),
        (RuleOutcome::Unknown(reason), OnUnknownSignal::Reject) => DecisionMatch::Refuses(reason),
    }
}

/// Evaluates a rule: what is unknown only matters where it could turn the result.
pub fn evaluate(rule: &Rule, signals: &Signals) -> RuleOutcome {
    match rule {
        Rule::Signal { id, min_score } => signal(*id, *min_score, signals),
        Rule::Not(part) => match evaluate(part, signals) {
            RuleOutcome::Holds(_) => RuleOutcome::Fails,
            RuleOutcome::Fails => RuleOutcome::Holds(1.0),
            unknown @ RuleOutcome::Unknown(_) => unknown,
        },
        Rule::All(parts) => all(parts, signals),
        Rule::Any(parts) => any(parts, signals),
    }
}

fn signal(id: SignalId, min_score: Option<BasisPoints>, signals: &Signals) -> RuleOutcome {
    let Some(result) = signals.get(id) else { return RuleOutcome::Unknown(Unknown::Unsupported) };
    match &result.value {
        Err(unknown) => RuleOutcome::Unknown(*unknown),
        Ok(value) => {
            let holds = min_score.map_or(value.matches, |least| value.score >= least.fraction());
            if holds { RuleOutcome::Holds(value.score) } else { RuleOutcome::Fails }
        }
    }
}

/// Of no parts, holds with the score 0: a rule without a condition yields to every other.
fn all(parts: &[Rule], signals: &Signals) -> RuleOutcome {
    let (mut sum, mut unknown) = (0.0, None);
    for part in parts {
        match evaluate(part, signals) {
            RuleOutcome::Holds(score) => sum += score,
            RuleOutcome::Fails => return RuleOutcome::Fails,
            RuleOutcome::Unknown(reason) => {
                unknown.get_or_insert(reason);
            }
        }
    }
    unknown.map_or(RuleOutcome::Holds(sum / parts.len().max(1) as f32), RuleOutcome::Unknown)
}

fn any(parts: &[Rule], signals: &Signals) -> RuleOutcome {
    let (mut best, mut unknown) = (None::<f32>, None);
    for part in parts {
        match evaluate(part, signals) {
            RuleOutcome::Holds(score) => best = Some(best.map_or(score, |best| best.max(score))),
            RuleOutcome::Fails => {}
            RuleOutcome::Unknown(reason) => {
                unknown.get_or_insert(reason);
            }
        }
    }
    match (best, unknown) {
        (Some(best), _) => RuleOutcome::Holds(best),
        (None, Some(reason)) => RuleOutcome::Unknown(reason),
        (None, None) => RuleOutcome::Fails,
    }
}

/// One decision as it was evaluated; displayed, it says why.
#[derive(Debug, Clone, Copy)]
pub struct TraceStep<'a> {
    policy: &'a Policy,
    signals: &'a Signals,
    /// The decision.
    pub decision: &'a Decision,
    /// What came of it.
    pub outcome: RuleOutcome,
}

impl TraceStep<'_> {
    /// Says whether the decision holds.
    pub fn matched(&self) -> bool {
        matches!(evaluate_decision(self.decision, self.signals), DecisionMatch::Yes(_))
    }
}

/// Every decision for such a request in the order in which they are tried, each as it is evaluated.
pub fn trace<'a>(
    policy: &'a Policy,
    recipe: &'a Recipe,
    audience: Audience,
    signals: &'a Signals,
) -> impl Iterator<Item = TraceStep<'a>> {
    let decisions = recipe.decisions.iter().filter(move |decision| audience.meets(decision));
    decisions.map(move |decision| TraceStep {
        policy,
        signals,
        decision,
        outcome: evaluate(&decision.when.rule, signals),
    })
}

impl fmt::Display for TraceStep<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rule(f, &self.decision.when.rule)
    }
}

impl TraceStep<'_> {
    fn rule(&self, f: &mut fmt::Formatter<'_>, rule: &Rule) -> fmt::Result {
        let (word, parts) = match rule {
            Rule::Signal { id, min_score } => return self.signal(f, *id, *min_score),
            Rule::Not(part) => {
                f.write_str("not (")?;
                self.rule(f, part)?;
                return f.write_str(")");
            }
            Rule::All(parts) if parts.is_empty() => return f.write_str("always"),
            Rule::All(parts) => (" and ", parts),
            Rule::Any(parts) => (" or ", parts),
        };
        f.write_str("(")?;
        for (place, part) in parts.iter().enumerate() {
            f.write_str(if place == 0 { "" } else { word })?;
            self.rule(f, part)?;
        }
        f.write_str(")")
    }

    fn signal(&self, f: &mut fmt::Formatter<'_>, id: SignalId, least: Option<BasisPoints>) -> fmt::Result {
        write!(f, "{} ", self.policy[id].name)?;
        let result = self.signals.get(id).map(|result| &result.value);
        match result {
            None => return f.write_str("was not asked"),
            Some(Err(unknown)) => return write!(f, "unknown: {}", unknown.as_str()),
            Some(Ok(value)) => {
                let holds = least.map_or(value.matches, |least| value.score >= least.fraction());
                write!(f, "{} [{}", if holds { "yes" } else { "no" }, value.reason)?;
            }
        }
        let own = match &self.policy[id].kind {
            SignalKind::Domain(domain) => Some(domain.min_score),
            _ => None,
        };
        match least.or(own) {
            Some(least) => write!(f, ", wants {}]", least.fraction()),
            None => f.write_str("]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::Label;
    use crate::policy::{Fixed, load};
    use std::path::Path;
    use std::time::Duration;

    fn policy(decisions: &str) -> Policy {
        let text = format!(
            "version: 1\nvirtual_models: [auto]\ndefault_model: m\nmodels: {{m: {{pools: [p]}}}}\n\
             pools: {{p: {{endpoints: [\"127.0.0.1:1\"]}}}}\nsignals: {{words: {{keyword: {{any: [x]}}}}}}\n\
             decisions:\n{decisions}"
        );
        load(&text, Path::new("."), &Fixed::default(), None).unwrap()
    }

    fn rules() -> Policy {
        policy(
            "- {name: sure, priority: 3, domains: [math], min_confidence: 0.9, model: m}\n\
             - {name: laws, priority: 2, domains: [law, history], model: m}\n\
             - {name: maths, priority: 1, domains: [math], model: m}\n",
        )
    }

    #[expect(clippy::unnecessary_wraps, reason = "the callers need a result that may be unknown")]
    fn about(name: &str, confidence: f32) -> Result<Label, Unknown> {
        let latency = Duration::ZERO;
        Ok(Label {
            name: name.into(),
            confidence,
            probabilities: [confidence].into(),
            coverage: 1.0,
            latency,
        })
    }

    fn chosen(policy: &Policy, domain: &Result<Label, Unknown>) -> Option<String> {
        match decide(&policy.recipes[0], Audience::Open, &Signals::from_domain(policy, domain)) {
            DecisionOutcome::Decision(decision, _) => Some(decision.name.clone()),
            DecisionOutcome::Nothing(_) => None,
            DecisionOutcome::Refused(decision, unknown) => {
                Some(format!("{} {}", decision.name, unknown.as_str()))
            }
        }
    }

    #[test]
    fn a_trace_says_of_each_decision_why_and_its_first_match_is_the_choice() {
        let policy = rules();
        let signals = Signals::from_domain(&policy, &about("math", 0.8));
        let steps: Vec<_> = trace(&policy, &policy.recipes[0], Audience::Open, &signals).collect();
        let why: Vec<_> = steps.iter().map(ToString::to_string).collect();
        assert_eq!(
            why,
            [
                "domain:math no [math 0.8000, wants 0.9]",
                "domain:law|history no [math 0.8000, wants 0.5]",
                "domain:math yes [math 0.8000, wants 0.5]"
            ]
        );
        assert_eq!(steps.iter().find(|step| step.matched()).unwrap().decision.name, "maths");
        assert_eq!(chosen(&policy, &about("math", 0.8)).as_deref(), Some("maths"));
    }

    #[test]
    fn confidence_at_the_least_is_enough() {
        let policy = rules();
        assert_eq!(chosen(&policy, &about("math", 0.9)).as_deref(), Some("sure"));
        assert_eq!(chosen(&policy, &about("history", 0.5)).as_deref(), Some("laws"));
        assert_eq!(chosen(&policy, &about("history", 0.49)), None);
        assert_eq!(chosen(&policy, &about("biology", 1.0)), None);
    }

    #[test]
    fn what_is_unknown_matters_only_where_it_could_turn_the_result() {
        let policy = policy(
            "- {name: both, when: {all: [words, {domain: math}]}, model: m}\n\
             - {name: either, when: {any: [words, {domain: math}]}, model: m}\n\
             - {name: other, when: {not: {domain: math}}, model: m}\n",
        );
        // The keyword signal is not evaluated here, so that it is unknown.
        assert_eq!(chosen(&policy, &about("math", 0.8)).as_deref(), Some("either"));
        assert_eq!(chosen(&policy, &about("law", 0.8)).as_deref(), Some("other"));
        assert_eq!(chosen(&policy, &Err(Unknown::Late)), None);
    }

    #[test]
    fn a_decision_says_what_becomes_of_it_when_it_cannot_be_evaluated() {
        let of = |word: &str| {
            policy(&format!(
                "- {{name: a, when: words, on_unknown: {word}, model: m}}\n- {{name: b, model: m}}\n"
            ))
        };
        let math = about("math", 1.0);
        assert_eq!(chosen(&of("skip"), &math).as_deref(), Some("b"));
        assert_eq!(chosen(&of("match"), &math).as_deref(), Some("a"));
        assert_eq!(chosen(&of("reject"), &math).as_deref(), Some("a unsupported"));
    }

    #[test]
    fn confidence_chooses_the_highest_score_of_the_lowest_tier() {
        let with = |tiers: [u32; 3]| {
            let [a, b, c] = tiers;
            let mut policy = policy(&format!(
                "- {{name: sum, tier: {a}, priority: 9, when: {{all: [{{domain: math}}, {{not: {{domain: law}}}}]}}, model: m}}\n\
                 - {{name: plain, tier: {b}, priority: 5, domains: [math], model: m}}\n\
                 - {{name: always, tier: {c}, model: m}}\n"
            ));
            policy.recipes[0].strategy = DecisionStrategy::Confidence;
            chosen(&policy, &about("math", 0.6))
        };
        // (0.6 + 1) / 2 = 0.8 is more than 0.6.
        assert_eq!(with([0, 0, 0]).as_deref(), Some("sum"));
        assert_eq!(with([1, 0, 0]).as_deref(), Some("plain"));
        assert_eq!(with([1, 1, 0]).as_deref(), Some("always"));
    }

    #[test]
    fn a_request_that_names_its_model_meets_only_the_decisions_for_all() {
        let policy = policy(
            "- {name: route, model: m}\n- {name: guard, plugins: {respond: {text: no}}}\n\
             - {name: masks, model: m, plugins: {pii: {action: mask}}}\n",
        );
        let signals = Signals::from_domain(&policy, &about("math", 1.0));
        let names = |audience| -> Vec<String> {
            trace(&policy, &policy.recipes[0], audience, &signals)
                .map(|step| step.decision.name.clone())
                .collect()
        };
        assert_eq!(names(Audience::Open), ["route", "guard", "masks"]);
        assert_eq!(names(Audience::Named), ["guard", "masks"]);
    }
}
