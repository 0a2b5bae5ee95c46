//! Owns whether a request is translated on its way to a pool, and the bytes that go there.
//!
//! Refuses to know what the APIs are like.

use super::plan::PlanTarget;
use super::plugins::body_for;
use crate::openai::{Api, Change, ChatRequest, Rejection, Translation, UpstreamKind, UsageRequest};
use crate::policy::{Policy, PoolSpec, Provider, SpokenApi, StreamUsageMode};
use crate::snapshot::Snapshot;
use bytes::Bytes;

/// The way from a client's API to one that a pool speaks; nothing where it speaks the client's.
pub fn translation(spec: &PoolSpec, client: Api) -> Result<Option<Translation>, Rejection> {
    let speaks = |api| spec.api.speaks.contains(&api);
    let is_spoken = match client {
        Api::Chat => speaks(SpokenApi::Chat),
        Api::Messages | Api::CountTokens => speaks(SpokenApi::Messages),
        Api::Responses | Api::Compact | Api::StoredResponse => speaks(SpokenApi::Responses),
        // Engines count by their tokenizer alone.
        Api::InputTokens => speaks(SpokenApi::Responses) && spec.api.provider != Provider::Engines,
        _ => true,
    };
    if is_spoken {
        return Ok(None);
    }
    let way = Translation::between(client, |api| match api {
        Api::Messages => speaks(SpokenApi::Messages),
        Api::Responses => speaks(SpokenApi::Responses),
        Api::Chat => speaks(SpokenApi::Chat),
        // The tokenizer is the engine's, whatever it speaks.
        _ => true,
    });
    way.map(Some).ok_or_else(|| Rejection::Untranslatable {
        place: "model".to_owned(),
        why: "there is no way from this one to what it speaks".to_owned(),
    })
}

/// What becomes of an answer, beside that its client gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerUse {
    /// Nothing.
    Passed,
    /// It may be kept for others, who may ask what it cost.
    Stored,
}

/// Whether an upstream is asked what a stream costs though its client has not asked; nothing if not, else how often it is
/// to say so.
pub fn added_usage(
    policy: &Policy,
    target: &PlanTarget,
    request: &ChatRequest,
    answer: AnswerUse,
) -> Option<UsageRequest> {
    let is_needed = || policy[target.model].price.is_some() || answer == AnswerUse::Stored;
    let asked = match policy[target.pool(policy)].api.stream_usage {
        StreamUsageMode::Never => None,
        StreamUsageMode::Needed => is_needed().then_some(UsageRequest::AtTheEnd),
        StreamUsageMode::Always => Some(UsageRequest::AtTheEnd),
        StreamUsageMode::Continuous => Some(UsageRequest::InEveryChunk),
    };
    asked.filter(|_| request.leaves_usage_out())
}

/// The bytes that go to one target: in an API that its pool speaks, with the name its upstream knows, told to reason as its
/// family wants it. Fails where the pool's API has nothing for a part of the request.
pub fn upstream_body(
    snapshot: &Snapshot,
    target: &PlanTarget,
    request: &ChatRequest,
    answer: AnswerUse,
) -> Result<Bytes, Rejection> {
    let policy = &snapshot.policy;
    if request.api() == Api::StoredResponse {
        return Ok(Bytes::new());
    }
    let spec = snapshot.pool_spec(target.pool(policy));
    let Some(translation) = translation(spec, request.api())? else {
        if let Some(asked) = added_usage(policy, target, request, answer) {
            let asking = request.changed(request.api(), &Change::IncludeUsage(asked))?;
            return body_for(policy, target, request.api(), &asking);
        }
        return body_for(policy, target, request.api(), request);
    };
    let upstream = match spec.api.provider {
        Provider::Engines => UpstreamKind::Engine,
        Provider::OpenAi => UpstreamKind::OpenAi,
        Provider::Other => UpstreamKind::Other,
    };
    let translated = translation.request(request, upstream)?;
    body_for(policy, target, translated.api(), &translated)
}
