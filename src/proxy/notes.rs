//! Owns what is noted of a request before it sets out: who asks, why it goes where it goes, and what that cost.
//!
//! Decides nothing.

use super::exchange::Exchange;
use crate::classify::ClassifyCost;
use crate::policy::{Person, Reasoning};
use crate::record::{Beside, Matched, millis};
use crate::route::{Notice, Story};
use crate::signals::Signals;
use http::HeaderMap;
use std::time::Duration;

impl Exchange {
    /// Notes who asks.
    pub(super) fn note_person(&mut self, person: Option<&Person>) {
        if let Some(person) = person {
            let beside = self.record.chosen.beside();
            beside.user = Some(person.user.clone());
            beside.tenant.clone_from(&person.tenant);
        }
    }

    /// The headers that decisions keep conversations on their models by, as this client sent them.
    pub(super) fn sent_headers(&self, headers: &HeaderMap) -> Vec<(String, String)> {
        let sent = self.live.sticky_headers.iter().filter_map(|name| {
            let value = headers.get(name.as_str())?.to_str().ok()?;
            Some((name.clone(), value.to_owned()))
        });
        sent.collect()
    }

    /// Notes why the request goes where it goes.
    pub(super) fn note_story(&mut self, story: Story) {
        let chosen = &mut self.record.chosen;
        chosen.model = story.model(&self.live.policy).map(|model| model.name.clone());
        chosen.reason = Some(story.reason.as_str());
        if let Some(label) = &story.label {
            chosen.category = Some(label.name.to_string());
            chosen.confidence = Some(label.confidence);
            chosen.coverage = Some(label.coverage);
        }
        if story.decision.is_some() || !story.notices.is_empty() {
            let beside = chosen.beside();
            beside.recipe = story.recipe;
            beside.score = story.score;
            (beside.algorithm, beside.algorithm_reason) = story.chosen.unzip();
            beside.reasoning = story.reasoning.map(|reasoning| match reasoning {
                Reasoning::Off => "off",
                Reasoning::On(effort) => effort.as_str(),
            });
            beside.system_prompt = story.system_prompt.then_some(true);
            story.notices.into_iter().for_each(|notice| note_notice(beside, notice));
        }
        chosen.decision = story.decision;
    }

    /// Notes which signals matched.
    pub(super) fn note_signals(&mut self, signals: &Signals) {
        let policy = &self.live.policy;
        let matching = signals.iter().filter_map(|(id, told)| {
            let reading = told.reading.as_ref().ok().filter(|reading| reading.matches)?;
            let signal = &policy[id];
            Some(Matched { name: signal.name.clone(), kind: signal.kind.as_str(), score: reading.score })
        });
        let matching: Vec<Matched> = matching.collect();
        if !matching.is_empty() {
            self.record.chosen.beside().signals = matching;
        }
    }

    /// Notes what reading the request cost the classifier.
    pub(super) fn note_cost(&mut self, cost: ClassifyCost, took: Duration) {
        let chosen = &mut self.record.chosen;
        chosen.classify_ms = Some(millis(took));
        chosen.classify_queued_ms = Some(millis(cost.queued));
        chosen.classify_tokens = Some(cost.tokens);
        chosen.classify_windows = Some(cost.windows);
        chosen.classify_cached = Some(cost.cached);
    }
}

fn note_notice(beside: &mut Beside, notice: Notice) {
    match notice {
        Notice::Jailbreak { score } => beside.jailbreak = Some(score),
        Notice::Pii { kinds } => beside.pii = kinds,
        Notice::Unjudged { guard, reason } => beside.unjudged.push((guard, reason.as_str())),
    }
}
