//! Owns whether a request is translated on its way to a pool, and the bytes that go there.
//!
//! Refuses to know what the APIs are like.

use super::plan::PlanTarget;
use super::plugins::body_for;
use crate::openai::{Api, Change, ChatRequest, Rejection, Translation, UpstreamKind};
use crate::policy::{Policy, PoolSpec, Provider, SpokenApi};
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

/// Whether an upstream is asked what a stream costs though its client has not asked: the model has a price.
pub fn adds_usage(policy: &Policy, target: &PlanTarget, request: &ChatRequest) -> bool {
    policy[target.model].price.is_some() && request.leaves_usage_out()
}

/// The bytes that go to one target: in an API that its pool speaks, with the name its upstream knows, told to reason as its
/// family wants it. Fails where the pool's API has nothing for a part of the request.
pub fn upstream_body(
    snapshot: &Snapshot,
    target: &PlanTarget,
    request: &ChatRequest,
) -> Result<Bytes, Rejection> {
    let policy = &snapshot.policy;
    if request.api() == Api::StoredResponse {
        return Ok(Bytes::new());
    }
    let spec = snapshot.pool_spec(target.pool(policy));
    let Some(translation) = translation(spec, request.api())? else {
        if adds_usage(policy, target, request) {
            let asking = request.changed(request.api(), &Change::IncludeUsage)?;
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
