//! Owns what a conversation is known by, and the decision and the model that it has had, so that a message which matches
//! no decision goes on with them.
//!
//! Knows nothing of how a decision is reached.
//!
//! Two requests belong to one conversation if the later one has the user's messages of the earlier one and more; if it goes
//! on from its response. Where headers name conversations, they alone tell. What the user has written is the same in every client, where
//! the model's answers come back shortened and rewritten.

use super::PlanInput;
use super::decision::{RequestedModel, RoutingDecision};
use super::plan::{ConversationKey, Plan};
use super::trace::RoutingReason;
use crate::balance::hash_key;
use crate::openai::Role;
use crate::policy::{Principal, Recipe};
use crate::snapshot::{HeldRoute, Snapshot};
use std::time::{Duration, Instant};

/// For how long a request that goes on from a response finds the conversation that it belongs to.
const RESPONSE_TTL: Duration = Duration::from_secs(3600);

/// One request as part of a conversation.
pub(super) struct Conversation<'a> {
    snapshot: &'a Snapshot,
    recipe: &'a Recipe,
    key: ConversationKey,
    /// What it was known by one message of the user before; nothing where this is the first.
    before: Option<u64>,
    /// What it is known by instead, where headers name it.
    named: Option<u64>,
    now: Instant,
}

impl<'a> Conversation<'a> {
    /// Reads what a request is known by; nothing where its recipe keeps no conversations.
    pub(super) fn of(
        snapshot: &'a Snapshot,
        requested: RequestedModel<'a>,
        input: PlanInput<'_>,
    ) -> Option<Self> {
        let RequestedModel::Virtual(recipe) = requested else { return None };
        if !recipe.keeps_conversations() {
            return None;
        }
        let now = Instant::now();
        let scope = scope(recipe, input.principal);
        let responses = &snapshot.models.response_conversations;
        let previous = input.request.previous_response();
        let mut before = previous.and_then(|id| responses.get(response_key(scope, id.as_bytes()), now));
        let (mut history, mut message) = (before.unwrap_or(scope), None);
        for segment in input.request.segments().filter(|one| one.in_message_text && one.role == Role::User) {
            if message.is_some() && message != segment.message {
                before = Some(history);
            }
            message = segment.message;
            history = chained(history, segment.bytes());
        }
        let sent = input.sent.iter().filter(|(name, _)| recipe.conversations.headers.contains(name));
        let named = sent.fold(None, |key: Option<u64>, (name, value)| {
            Some(chained(key.unwrap_or(scope), format!("{name}\0{value}").as_bytes()))
        });
        Some(Self { snapshot, recipe, key: ConversationKey { scope, history }, before, named, now })
    }

    /// Lets a request that matches no decision go on with the one that its conversation has.
    pub(super) fn go_on(&self, routing: &mut RoutingDecision<'a>) {
        if routing.decision.is_some() {
            return;
        }
        let held = |key| self.snapshot.models.conversations.get(key, self.now);
        let held = match self.named {
            Some(named) => held(named),
            None => held(self.key.history).or_else(|| held(self.before?)),
        };
        if let Some(held) = held {
            routing.keep(&self.snapshot.policy, self.recipe, &held);
        }
    }

    /// Notes the decision and the model that the conversation has from now on.
    pub(super) fn note(&self, plan: &mut Plan, routing: &RoutingDecision<'_>) {
        plan.conversation = Some(self.key);
        let is_decided = matches!(routing.trace.reason, RoutingReason::Decided | RoutingReason::Kept);
        let (Some(decision), Some(model)) = (routing.routing.filter(|_| is_decided), routing.trace.model)
        else {
            return;
        };
        let model = self.snapshot.policy[model].name.as_str();
        let held = HeldRoute { decision: decision.name.as_str().into(), model: model.into() };
        let (key, ttl) = (self.named.unwrap_or(self.key.history), self.recipe.conversations.ttl);
        self.snapshot.models.conversations.insert(key, held, self.now, ttl);
    }
}

impl ConversationKey {
    /// Notes that a response belongs to the conversation.
    pub fn note_response(self, snapshot: &Snapshot, id: &[u8], now: Instant) {
        let responses = &snapshot.models.response_conversations;
        responses.insert(response_key(self.scope, id), self.history, now, RESPONSE_TTL);
    }
}

/// What sets the conversations of one recipe and one identity apart from all others. An identity is all that decisions go by:
/// who has lost a group keeps nothing that the group had decided.
fn scope(recipe: &Recipe, principal: Option<&Principal>) -> u64 {
    let identity = principal.map(|Principal { user, groups, tenant }| (user, groups, tenant));
    hash_key(format!("{:?}", (&recipe.name, identity)).as_bytes())
}

fn response_key(scope: u64, id: &[u8]) -> u64 {
    hash_key(id) ^ scope
}

fn chained(before: u64, text: &[u8]) -> u64 {
    // The product keeps a text from undoing the one before it.
    hash_key(text) ^ before.rotate_left(23).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
