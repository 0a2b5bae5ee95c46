//! What is needed to be known about the requests of a recipe: signals, and questions for the classifier.
//!
//! Made once when a policy goes live, from its rules, guards and plugins. Refuses to know requests.

use crate::classify::ClassifyHeads;
use crate::policy::{
    AppliesTo, CacheUse, Decision, FactCheckSignal, Guards, JailbreakSignal, ModelId, PiiAction, PiiSignal,
    Policy, PromptAction, ReaskSignal, Recipe, Scope, SignalId, SignalKind, Tools,
};

/// Whom a list of decisions is asked for.
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
    prompt: ClassifyHeads,
    others: ClassifyHeads,
    /// How many earlier messages of the user need an embedding.
    pub(super) lookback: u8,
    /// Whether other texts than the prompt are read.
    pub(super) reads_all: bool,
}

/// What a signal or a guard asks of the classifier.
const DOMAIN: ClassifyHeads = ClassifyHeads::DOMAIN;
const JAILBREAK: ClassifyHeads = ClassifyHeads { jailbreak: true, ..ClassifyHeads::NONE };
const PII: ClassifyHeads = ClassifyHeads { pii: true, ..ClassifyHeads::NONE };
const EMBEDDING: ClassifyHeads = ClassifyHeads { embedding: true, ..ClassifyHeads::NONE };

impl Requirements {
    /// Wants nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// Wants every signal of a policy.
    pub fn all(policy: &Policy) -> Self {
        let ids = (0..policy.signals.len()).map(SignalId);
        ids.fold(Self::default(), |wanted, id| wanted.and_signal(policy, id))
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
        let mut wanted = Self::default();
        wanted.guards(policy, None, Some(model));
        for decision in recipe.decisions.iter().filter(|decision| Audience::Named.meets(decision)) {
            wanted.rule(policy, decision);
            wanted.guards(policy, Some(&decision.plugins.guards), Some(model));
        }
        wanted
    }

    fn open(policy: &Policy, recipe: &Recipe) -> Self {
        let mut wanted = Self::default();
        wanted.guards(policy, None, recipe.default_model);
        for decision in &recipe.decisions {
            wanted.rule(policy, decision);
            wanted.plugins(decision);
            let own = Some(&decision.plugins.guards);
            let models = decision.models.iter().map(|chosen| chosen.model);
            for model in models.chain(decision.fallback.iter().copied()) {
                wanted.guards(policy, own, Some(model));
            }
            if decision.models.is_empty() {
                wanted.guards(policy, own, None);
            }
        }
        wanted
    }

    /// Wants everything that either wants.
    #[must_use]
    pub fn or(mut self, other: &Self) -> Self {
        for (place, bits) in other.signals.iter().enumerate() {
            self.grow(place + 1);
            self.signals[place] |= bits;
        }
        self.prompt = self.prompt.or(other.prompt);
        self.others = self.others.or(other.others);
        self.lookback = self.lookback.max(other.lookback);
        self.reads_all |= other.reads_all;
        self
    }

    /// Wants this signal too.
    #[must_use]
    pub fn and_signal(mut self, policy: &Policy, id: SignalId) -> Self {
        self.signal(policy, id);
        self
    }

    /// Wants these questions too: of the prompt, or of every text.
    #[must_use]
    pub fn and_questions(mut self, questions: ClassifyHeads, scope: Scope) -> Self {
        self.ask(questions, scope);
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
        self.prompt
    }

    /// Returns what is asked of every other text.
    pub fn others(&self) -> ClassifyHeads {
        self.others
    }

    /// Says whether nothing is needed at all.
    pub fn is_empty(&self) -> bool {
        self.prompt.is_empty() && self.others.is_empty() && self.signals.iter().all(|bits| *bits == 0)
    }

    fn grow(&mut self, places: usize) {
        if self.signals.len() < places {
            let mut bits = std::mem::take(&mut self.signals).into_vec();
            bits.resize(places, 0);
            self.signals = bits.into();
        }
    }

    fn ask(&mut self, questions: ClassifyHeads, scope: Scope) {
        self.prompt = self.prompt.or(questions);
        if scope == Scope::Conversation {
            self.others = self.others.or(questions);
            self.reads_all |= !questions.is_empty();
        }
        // Whoever masks needs the prompt's place among the texts.
        self.reads_all |= questions.pii;
    }

    fn rule(&mut self, policy: &Policy, decision: &Decision) {
        decision.when.rule.signals(&mut |id| self.signal(policy, id));
    }

    fn signal(&mut self, policy: &Policy, id: SignalId) {
        self.grow(id.0 / 64 + 1);
        self.signals[id.0 / 64] |= 1 << (id.0 % 64);
        match &policy[id].kind {
            SignalKind::Domain(_) => self.ask(DOMAIN, Scope::Prompt),
            SignalKind::Jailbreak(JailbreakSignal { scope, .. }) => self.ask(JAILBREAK, *scope),
            SignalKind::Pii(PiiSignal { scope, .. }) => self.ask(PII, *scope),
            SignalKind::Similarity(_)
            | SignalKind::Complexity(_)
            | SignalKind::FactCheck(_)
            | SignalKind::Modality(_) => self.ask(EMBEDDING, Scope::Prompt),
            SignalKind::Feedback(_) => {
                self.ask(EMBEDDING, Scope::Prompt);
                self.reads_all = true;
            }
            SignalKind::Reask(ReaskSignal { lookback, .. }) => {
                self.ask(EMBEDDING, Scope::Prompt);
                self.lookback = self.lookback.max(*lookback);
                self.reads_all = true;
            }
            SignalKind::Keyword(keywords) => self.reads_all |= keywords.scope == Scope::Conversation,
            SignalKind::Context(_) => self.reads_all = true,
            SignalKind::Language(_)
            | SignalKind::Structure(_)
            | SignalKind::Conversation(_)
            | SignalKind::Metadata(_)
            | SignalKind::Identity(_) => {}
        }
    }

    fn plugins(&mut self, decision: &Decision) {
        let is_semantic = |cache: &CacheUse| cache.min_score.is_some();
        let tools = decision.plugins.tools.as_ref();
        let picks = matches!(tools, Some(Tools::Rank(_) | Tools::Select(..) | Tools::Add(..)));
        if picks || decision.plugins.cache.as_ref().is_some_and(is_semantic) {
            self.ask(EMBEDDING, Scope::Prompt);
        }
    }

    /// Wants what tells whether answers need facts.
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
            if let Some(guard) = pii.filter(|guard| guard.action != PiiAction::Off) {
                self.ask(PII, guard.scope);
            }
            let prompt = of().find_map(|guards| guards.prompt);
            let Some(guard) = prompt.filter(|guard| guard.action != PromptAction::Off) else { return };
            self.ask(JAILBREAK, guard.scope);
            let PromptAction::Route(other) = guard.action else { return };
            model = Some(other);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::policy::{Fixed, load};

    fn policy(rest: &str) -> Policy {
        let text = format!(
            "version: 1\nvirtual_models: [auto]\ndefault_model: m\npools: {{p: {{endpoints: [\"127.0.0.1:1\"]}}}}\n{rest}"
        );
        load(&text, Path::new("."), &Fixed::default(), None).unwrap()
    }

    fn wanted(rest: &str, audience: Audience) -> Requirements {
        let policy = policy(rest);
        Requirements::for_audience(&policy, &policy.recipes[0], audience)
    }

    const PLAIN: &str = "models: {m: {pools: [p]}, n: {pools: [p]}}\n";

    #[test]
    fn only_signals_of_decisions_for_the_audience_are_wanted() {
        let rest = format!(
            "{PLAIN}signals: {{words: {{keyword: {{any: [x]}}}}, unused: {{reask: {{}}}}, long: {{context: {{min_tokens: 9}}}}}}\n\
             decisions:\n- {{name: a, when: {{any: [words, {{domain: math}}]}}, model: n}}\n\
             - {{name: b, when: long, plugins: {{respond: {{text: no}}}}}}\n"
        );
        let open = wanted(&rest, Audience::Open);
        assert_eq!(open.signals().collect::<Vec<_>>(), [SignalId(0), SignalId(2), SignalId(3)]);
        assert_eq!((open.prompt(), open.others()), (ClassifyHeads::DOMAIN, ClassifyHeads::NONE));
        let named = wanted(&rest, Audience::Named);
        assert_eq!(named.signals().collect::<Vec<_>>(), [SignalId(2)]);
        assert!(named.prompt().is_empty() && named.has(SignalId(2)) && !named.has(SignalId(99)));
        assert!(wanted(PLAIN, Audience::Named).is_empty() && Requirements::none().is_empty());
    }

    #[test]
    fn guards_are_those_of_the_decision_then_the_model_then_the_policy() {
        let guards = "guards: {prompt: {action: block, scope: conversation}}\n";
        let base = wanted(&format!("{PLAIN}{guards}"), Audience::Named);
        assert_eq!((base.prompt(), base.others()), (JAILBREAK, JAILBREAK));
        let off = "decisions: [{name: a, model: m, plugins: {prompt: {action: off}}}]\n";
        let model = "models: {m: {pools: [p], guards: {prompt: {action: off}}}, n: {pools: [p], guards: {pii: {action: mask}}}}\n";
        let policy = policy(&format!("{model}{guards}{off}"));
        let of = |model| Requirements::for_model(&policy, &policy.recipes[0], ModelId(model)).prompt();
        assert_eq!(of(0), ClassifyHeads::NONE);
        assert_eq!(of(1), JAILBREAK.or(PII));
        assert_eq!(
            Requirements::for_audience(&policy, &policy.recipes[0], Audience::Open).prompt(),
            ClassifyHeads::NONE
        );
        assert_eq!(
            Requirements::for_audience(&policy, &policy.recipes[0], Audience::Named).prompt(),
            JAILBREAK.or(PII)
        );
    }

    #[test]
    fn a_guard_that_tells_of_unverified_answers_wants_to_know_which_need_facts() {
        let signals =
            "signals: {a: {fact_check: {needed: false}}, b: {fact_check: {}}, c: {domain: {any: [law]}}}\n";
        let guards = |unverified: bool| {
            format!("{PLAIN}{signals}guards: {{answer: {{hallucination: {{unverified: {unverified}}}}}}}\n")
        };
        let named = wanted(&guards(true), Audience::Named);
        assert_eq!((named.signals().collect::<Vec<_>>(), named.prompt()), (vec![SignalId(1)], EMBEDDING));
        assert!(wanted(&guards(false), Audience::Named).is_empty());
    }

    #[test]
    fn models_that_a_guard_or_a_failure_leads_to_bring_their_guards() {
        let models = "models: {m: {pools: [p]}, n: {pools: [p], guards: {pii: {action: block}}}}\n";
        let by_guard = format!("{models}guards: {{prompt: {{action: route, model: n}}}}\n");
        assert_eq!(wanted(&by_guard, Audience::Open).prompt(), JAILBREAK.or(PII));
        let by_failure = format!("{models}decisions: [{{name: a, model: m, fallback: [n]}}]\n");
        assert_eq!(wanted(&by_failure, Audience::Open).prompt(), PII);
    }

    #[test]
    fn a_semantic_cache_wants_a_meaning_where_the_model_is_open() {
        let rest = |with: &str| {
            format!(
                "{PLAIN}cache: {{store: memory}}\ndecisions: [{{name: a, applies_to: all, model: m, plugins: {{cache: {{{with}}}}}}}]\n"
            )
        };
        let semantic = rest("match: semantic, min_score: 0.9");
        assert_eq!(wanted(&semantic, Audience::Open).prompt(), EMBEDDING);
        assert!(wanted(&semantic, Audience::Named).is_empty());
        assert!(wanted(&rest("match: exact"), Audience::Open).is_empty());
    }

    #[test]
    fn what_is_wanted_can_be_joined() {
        let policy = policy(&format!(
            "{PLAIN}signals: {{a: {{reask: {{lookback: 2}}}}, b: {{jailbreak: {{scope: conversation}}}}}}\n"
        ));
        let a = Requirements::none().and_signal(&policy, SignalId(0));
        let b = Requirements::none().and_signal(&policy, SignalId(1)).and_questions(PII, Scope::Prompt);
        let both = a.clone().or(&b);
        assert_eq!(both, b.or(&a));
        assert_eq!(
            (both.prompt(), both.others(), both.lookback),
            (JAILBREAK.or(PII).or(EMBEDDING), JAILBREAK, 2)
        );
        assert_eq!(Requirements::all(&policy).signals().count(), 2);
    }
}
