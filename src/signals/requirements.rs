//! What the requests of a recipe require: signals, and findings of the classifier.
//!
//! Gathered once when a policy goes live, from its rules, guards and plugins. Refuses to know requests.

use std::time::Duration;

use super::inputs::SignalInputs;
use super::judged::{GuardInputs, ScopedSources};
use super::kinds::spec;
use crate::classify::ClassifyHeads;
use crate::policy::{
    AppliesTo, CacheUse, Decision, FactCheckSignal, Guards, ModelId, PiiAction, Policy, PromptAction, Recipe,
    SignalId, SignalKind, Tools,
};

/// Which requests a list of decisions is evaluated for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Audience {
    /// A request that leaves the model open.
    Open,
    /// A request that names its model.
    Named,
}

impl Audience {
    /// Says whether a decision is for such a request.
    pub fn meets(self, decision: &Decision) -> bool {
        self == Self::Open || decision.when.applies_to == AppliesTo::All
    }
}

/// Which signals are needed, and what is asked of which texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requirements {
    /// A bit for each signal.
    signals: Box<[u64]>,
    pub(super) inputs: SignalInputs,
}

impl Requirements {
    /// Requires nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// Requires every signal of a policy.
    pub fn all(policy: &Policy) -> Self {
        let ids = (0..policy.signals.len()).map(SignalId);
        ids.fold(Self::default(), |requirements, id| requirements.and_signal(policy, id))
    }

    /// Gathers what a recipe's decisions for such requests need, with the guards of every model that may answer: any
    /// of the policy's where the request names it.
    pub fn for_audience(policy: &Policy, recipe: &Recipe, audience: Audience) -> Self {
        match audience {
            Audience::Open => Self::open(policy, recipe),
            Audience::Named => (0..policy.models.len())
                .map(|model| Self::for_model(policy, recipe, ModelId(model)))
                .fold(Self::default(), |all, one| all.or(&one)),
        }
    }

    /// Gathers what the requests need that name this model.
    pub fn for_model(policy: &Policy, recipe: &Recipe, model: ModelId) -> Self {
        let mut requirements = Self::default();
        requirements.guards(policy, None, Some(model));
        for decision in recipe.decisions.iter().filter(|decision| Audience::Named.meets(decision)) {
            requirements.rule(policy, decision);
            requirements.plugins(decision);
            requirements.guards(policy, Some(&decision.plugins.guards), Some(model));
        }
        requirements
    }

    fn open(policy: &Policy, recipe: &Recipe) -> Self {
        let mut requirements = Self::default();
        requirements.guards(policy, None, recipe.default_model);
        for decision in &recipe.decisions {
            requirements.rule(policy, decision);
            requirements.plugins(decision);
            let own = Some(&decision.plugins.guards);
            let models = decision.models.iter().map(|chosen| chosen.model);
            let copies = decision.shadow.map(|shadow| shadow.model);
            for model in models.chain(decision.fallback.iter().copied()).chain(copies) {
                requirements.guards(policy, own, Some(model));
            }
            if decision.models.is_empty() {
                requirements.guards(policy, own, None);
            }
        }
        requirements
    }

    /// Requires everything that either requires.
    #[must_use]
    pub fn or(mut self, other: &Self) -> Self {
        for (place, bits) in other.signals.iter().enumerate() {
            self.grow(place + 1);
            self.signals[place] |= bits;
        }
        self.inputs = self.inputs.or(other.inputs);
        self
    }

    /// Requires this signal too.
    #[must_use]
    pub fn and_signal(mut self, policy: &Policy, id: SignalId) -> Self {
        self.signal(policy, id);
        self
    }

    /// Says whether a signal is needed.
    pub fn has(&self, SignalId(id): SignalId) -> bool {
        self.signals.get(id / 64).is_some_and(|bits| bits >> (id % 64) & 1 == 1)
    }

    /// Returns the signals that are needed.
    pub fn signals(&self) -> impl Iterator<Item = SignalId> {
        let set = |bits: u64| (0..64).filter(move |bit| bits >> bit & 1 == 1);
        let places = self.signals.iter().enumerate();
        places.flat_map(move |(place, bits)| set(*bits).map(move |bit| SignalId(place * 64 + bit)))
    }

    /// Returns what is asked of the prompt.
    pub fn prompt(&self) -> ClassifyHeads {
        self.inputs.prompt
    }

    /// Returns what is asked of every other text.
    pub fn others(&self) -> ClassifyHeads {
        self.inputs.others
    }

    /// Returns how long the request waits for the classifier where a guard decides by what that finds: as long as the
    /// guard that waits longest.
    pub fn guard_timeout(&self) -> Option<Duration> {
        self.inputs.guard_timeout
    }

    /// Says whether nothing is needed at all.
    pub fn is_empty(&self) -> bool {
        self.inputs.prompt.is_empty()
            && self.inputs.others.is_empty()
            && self.inputs.judged == GuardInputs::NONE
            && self.signals.iter().all(|bits| *bits == 0)
    }

    /// Says whether the classifier is asked what a text is about, or whether it is an attack.
    pub fn asks_for_judgement(&self) -> bool {
        let asked = self.inputs.prompt.or(self.inputs.others);
        asked.domain || asked.jailbreak || !self.inputs.judged.attacks.is_empty()
    }

    fn grow(&mut self, places: usize) {
        if self.signals.len() < places {
            let mut bits = std::mem::take(&mut self.signals).into_vec();
            bits.resize(places, 0);
            self.signals = bits.into();
        }
    }

    fn add(&mut self, inputs: SignalInputs) {
        self.inputs = self.inputs.or(inputs);
    }

    fn judge(&mut self, judged: GuardInputs) {
        self.add(SignalInputs { judged, ..SignalInputs::NONE });
    }

    fn rule(&mut self, policy: &Policy, decision: &Decision) {
        decision.when.rule.signals(&mut |id| self.signal(policy, id));
    }

    fn signal(&mut self, policy: &Policy, id: SignalId) {
        self.grow(id.0 / 64 + 1);
        self.signals[id.0 / 64] |= 1 << (id.0 % 64);
        self.add(spec(&policy[id].kind).inputs());
    }

    fn plugins(&mut self, decision: &Decision) {
        let is_semantic = |cache: &CacheUse| cache.min_score.is_some();
        let tools = decision.plugins.tools.as_ref();
        let picks = matches!(tools, Some(Tools::Rank(_) | Tools::Select(..) | Tools::Add(..)));
        if picks || decision.plugins.cache.as_ref().is_some_and(is_semantic) {
            self.add(SignalInputs::EMBEDDING);
        }
    }

    /// Requires the signals of whether an answer needs facts.
    fn fact_checks(&mut self, policy: &Policy) {
        for (id, signal) in policy.signals.iter().enumerate() {
            if matches!(signal.kind, SignalKind::FactCheck(FactCheckSignal { needed: true, .. })) {
                self.signal(policy, SignalId(id));
            }
        }
    }

    /// Takes in the guards that hold for a decision's requests to a model, and for those it sends on to another.
    fn guards(&mut self, policy: &Policy, decision: Option<&Guards>, model: Option<ModelId>) {
        let mut model = model;
        let timeout = policy.classifier.guard_timeout;
        // A guard sends a request on once.
        for _ in 0..2 {
            let own = model.map(|model| &policy[model].guards);
            let all = [decision, own, Some(&policy.guards)];
            let of = || all.into_iter().flatten();
            let answer = of().find_map(|guards| guards.answer.as_ref());
            if answer.is_some_and(|guard| guard.hallucination.unverified) {
                self.fact_checks(policy);
            }
            let pii = of().find_map(|guards| guards.pii.as_ref());
            let secrets = of().find_map(|guards| guards.secrets.as_ref());
            let written = pii.into_iter().chain(secrets);
            for guard in written.filter(|guard| guard.action != PiiAction::Off) {
                let texts = ScopedSources::new(guard.scope, guard.of);
                if policy.classifier.spec.finds_by_patterns(&guard.kinds) {
                    self.judge(GuardInputs { patterns: texts, ..GuardInputs::NONE });
                    continue;
                }
                self.judge(GuardInputs { pii: texts, ..GuardInputs::NONE });
                if guard.action.holds_up() {
                    self.add(SignalInputs::awaited(guard.timeout.unwrap_or(timeout)));
                }
            }
            let prompt = of().find_map(|guards| guards.prompt);
            let Some(guard) = prompt.filter(|guard| guard.action != PromptAction::Off) else { return };
            let attacks = ScopedSources::new(guard.scope, guard.of);
            self.judge(GuardInputs { attacks, ..GuardInputs::NONE });
            if guard.action.holds_up() {
                self.add(SignalInputs::awaited(guard.timeout.unwrap_or(timeout)));
            }
            let PromptAction::Route(other) = guard.action else { return };
            model = Some(other);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::policy::{Fixed, Scope, load};

    const EMBEDDING: ClassifyHeads = ClassifyHeads { embedding: true, ..ClassifyHeads::NONE };
    const JAILBREAK: ClassifyHeads = ClassifyHeads { jailbreak: true, ..ClassifyHeads::NONE };
    const PII: ClassifyHeads = ClassifyHeads { pii: true, ..ClassifyHeads::NONE };

    /// Whether texts are judged: for attacks, for personal data.
    fn judges(requirements: &Requirements) -> (bool, bool) {
        let GuardInputs { attacks, pii, .. } = requirements.inputs.judged;
        (attacks != ScopedSources::default(), pii != ScopedSources::default())
    }

    fn policy(rest: &str) -> Policy {
        let text = format!(
            "version: 1\nvirtual_models: [auto]\ndefault_model: m\npools: {{p: {{endpoints: [\"127.0.0.1:1\"]}}}}\n{rest}"
        );
        load(&text, Path::new("."), &Fixed::default(), None).unwrap()
    }

    fn required(rest: &str, audience: Audience) -> Requirements {
        let policy = policy(rest);
        Requirements::for_audience(&policy, &policy.recipes[0], audience)
    }

    const PLAIN: &str = "models: {m: {pools: [p]}, n: {pools: [p]}}\n";

    #[test]
    fn only_signals_of_decisions_for_the_audience_are_required() {
        let rest = format!(
            "{PLAIN}signals: {{words: {{keyword: {{any: [x]}}}}, unused: {{reask: {{}}}}, long: {{context: {{min_tokens: 9}}}}}}\n\
             decisions:\n- {{name: a, when: {{any: [words, {{domain: math}}]}}, model: n}}\n\
             - {{name: b, when: long, plugins: {{respond: {{text: no}}}}}}\n"
        );
        let open = required(&rest, Audience::Open);
        assert_eq!(open.signals().collect::<Vec<_>>(), [SignalId(0), SignalId(2), SignalId(3)]);
        assert_eq!((open.prompt(), open.others()), (ClassifyHeads::DOMAIN, ClassifyHeads::NONE));
        let named = required(&rest, Audience::Named);
        assert_eq!(named.signals().collect::<Vec<_>>(), [SignalId(2)]);
        assert!(named.prompt().is_empty() && named.has(SignalId(2)) && !named.has(SignalId(99)));
        assert!(required(PLAIN, Audience::Named).is_empty() && Requirements::none().is_empty());
        assert!(open.asks_for_judgement() && !named.asks_for_judgement());
    }

    #[test]
    fn guards_are_those_of_the_decision_then_the_model_then_the_policy() {
        let guards = "guards: {prompt: {action: block, scope: conversation}}\n";
        let base = required(&format!("{PLAIN}{guards}"), Audience::Named);
        assert_eq!(
            (base.prompt(), judges(&base), base.is_empty()),
            (ClassifyHeads::NONE, (true, false), false)
        );
        assert!(base.asks_for_judgement());
        let off = "decisions: [{name: a, model: m, plugins: {prompt: {action: off}}}]\n";
        let model = "models: {m: {pools: [p], guards: {prompt: {action: off}}}, n: {pools: [p], guards: {pii: {action: mask}}}}\n";
        let policy = policy(&format!("{model}{guards}{off}"));
        let of = |model| judges(&Requirements::for_model(&policy, &policy.recipes[0], ModelId(model)));
        assert_eq!((of(0), of(1)), ((false, false), (true, true)));
        let of = |audience| judges(&Requirements::for_audience(&policy, &policy.recipes[0], audience));
        assert_eq!((of(Audience::Open), of(Audience::Named)), ((false, false), (true, true)));
    }

    #[test]
    fn a_request_waits_as_long_as_the_guard_that_waits_longest_and_decides_about_it() {
        let of = |guards: &str| {
            let guards = format!("{PLAIN}classifier: {{guard_timeout: 3s}}\nguards: {{{guards}}}\n");
            required(&guards, Audience::Named).guard_timeout().map(|timeout| timeout.as_secs())
        };
        for (guards, timeout) in [
            ("prompt: {action: block}", Some(3)),
            ("prompt: {action: block, timeout: 1s}", Some(1)),
            ("prompt: {action: block, timeout: 1s}, pii: {action: mask, timeout: 9s}", Some(9)),
            ("prompt: {action: block, timeout: 1s}, pii: {action: report, timeout: 9s}", Some(1)),
            ("pii: {action: report}", None),
        ] {
            assert_eq!(of(guards), timeout, "{guards}");
        }
    }

    #[test]
    fn what_patterns_find_is_not_asked_of_the_model_and_not_waited_for() {
        let with = |rest: &str| required(&format!("{PLAIN}{rest}"), Audience::Named);
        let model_kinds =
            "AGE, DATE_TIME, GPE, NRP, ORGANIZATION, PERSON, STREET_ADDRESS, US_DRIVER_LICENSE, ZIP_CODE";
        let pii = |more: &str| format!("guards: {{pii: {{action: block, allow: [{model_kinds}{more}]}}}}\n");
        let all = pii(", DOMAIN_NAME, PHONE_NUMBER");
        for (rest, by_model) in [
            ("guards: {secrets: {action: block}}\n", false),
            (&all, false),
            (&pii(", DOMAIN_NAME"), true),
            // Another model may find other kinds.
            (&format!("classifier: {{models: {{pii: /m}}}}\n{all}"), true),
        ] {
            let guard = with(rest);
            assert_eq!((judges(&guard).1, guard.guard_timeout().is_some()), (by_model, by_model), "{rest}");
            assert!(!guard.is_empty());
        }
        for (signal, heads) in [
            ("secrets: {except: [PASSWORD]}", ClassifyHeads::PATTERNS),
            ("pii: {only: [IBAN_CODE, CREDIT_CARD]}", ClassifyHeads::PATTERNS),
            ("pii: {only: [IBAN_CODE, PERSON], except: [PERSON]}", ClassifyHeads::PATTERNS),
            ("pii: {only: [IBAN_CODE, PHONE_NUMBER]}", PII),
            ("pii: {except: [PERSON]}", PII),
        ] {
            let rest = format!(
                "signals: {{a: {{{signal}}}}}\ndecisions: [{{name: a, when: a, applies_to: all, model: n}}]\n"
            );
            assert_eq!(with(&rest).prompt(), heads, "{signal}");
        }
    }

    #[test]
    fn a_guard_that_tells_of_unverified_answers_wants_to_know_which_need_facts() {
        let signals =
            "signals: {a: {fact_check: {needed: false}}, b: {fact_check: {}}, c: {domain: {any: [law]}}}\n";
        let guards = |unverified: bool| {
            format!("{PLAIN}{signals}guards: {{answer: {{hallucination: {{unverified: {unverified}}}}}}}\n")
        };
        let named = required(&guards(true), Audience::Named);
        assert_eq!((named.signals().collect::<Vec<_>>(), named.prompt()), (vec![SignalId(1)], EMBEDDING));
        assert!(required(&guards(false), Audience::Named).is_empty());
    }

    #[test]
    fn models_that_a_guard_or_a_failure_leads_to_bring_their_guards() {
        let models = "models: {m: {pools: [p]}, n: {pools: [p], guards: {pii: {action: block}}}}\n";
        let by_guard = format!("{models}guards: {{prompt: {{action: route, model: n}}}}\n");
        assert_eq!(judges(&required(&by_guard, Audience::Open)), (true, true));
        let by_failure = format!("{models}decisions: [{{name: a, model: m, fallback: [n]}}]\n");
        assert_eq!(judges(&required(&by_failure, Audience::Open)), (false, true));
        let by_copy =
            format!("{models}decisions: [{{name: a, model: m, shadow: {{model: n, share: 0.1}}}}]\n");
        assert_eq!(judges(&required(&by_copy, Audience::Open)), (false, true));
    }

    #[test]
    fn a_semantic_cache_wants_a_meaning_for_all_that_its_decision_is_for() {
        let rest = |with: &str| {
            format!(
                "{PLAIN}cache: {{store: memory}}\ndecisions: [{{name: a, applies_to: all, model: m, plugins: {{cache: {{{with}}}}}}}]\n"
            )
        };
        let semantic = rest("match: semantic, min_score: 0.9");
        assert_eq!(required(&semantic, Audience::Open).prompt(), EMBEDDING);
        assert_eq!(required(&semantic, Audience::Named).prompt(), EMBEDDING);
        assert!(required(&semantic.replace("applies_to: all, ", ""), Audience::Named).is_empty());
        assert!(required(&rest("match: exact"), Audience::Open).is_empty());
    }

    #[test]
    fn what_is_required_can_be_joined() {
        let policy = policy(&format!(
            "{PLAIN}signals: {{a: {{reask: {{lookback: 2}}}}, b: {{jailbreak: {{scope: conversation}}}}}}\n"
        ));
        let a = Requirements::none().and_signal(&policy, SignalId(0));
        let mut b = Requirements::none().and_signal(&policy, SignalId(1));
        b.add(SignalInputs::asked(PII, Scope::Prompt));
        let both = a.clone().or(&b);
        assert_eq!(both, b.or(&a));
        assert_eq!(
            (both.prompt(), both.others(), both.inputs.lookback),
            (JAILBREAK.or(PII).or(EMBEDDING), JAILBREAK, 2)
        );
        assert_eq!(Requirements::all(&policy).signals().count(), 2);
    }
}
