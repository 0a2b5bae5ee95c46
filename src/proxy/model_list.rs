//! Owns the models as clients see them: every name that they may ask for, in OpenAI's shape, and in Anthropic's for its
//! clients; and the engines behind them, without their addresses. Refuses to know sessions.

use crate::openai::{Api, query_value};
use crate::policy::{Model, ModelId, Provider};
use crate::snapshot::Snapshot;
use serde::Serialize;
use std::time::{Duration, UNIX_EPOCH};

/// Whose the names are that stand for no model of their own.
const OURS: &str = "signalbox";

/// A name that clients may ask for.
struct ModelName<'a> {
    name: &'a str,
    owner: &'a str,
    /// The model that it is an adapter of.
    parent: Option<&'a str>,
}

/// Writes the list in the shape of an API.
pub(super) fn list(live: &Snapshot, api: Api, query: Option<&str>) -> Vec<u8> {
    let names = names(live);
    if api == Api::Messages {
        return anthropic_page(live, &names, query.unwrap_or_default());
    }
    let data = names.iter().map(|name| ModelCard::of(live, name)).collect();
    json(&ModelList { object: "list", data })
}

/// Writes what is said of one name in the shape of an API; nothing of a name that nobody may ask for.
pub(super) fn card(live: &Snapshot, api: Api, name: &str) -> Option<Vec<u8>> {
    let names = names(live);
    let found = names.iter().find(|known| known.name == name)?;
    Some(match api {
        Api::Messages => json(&AnthropicCard::of(live, found)),
        _ => json(&ModelCard::of(live, found)),
    })
}

/// Writes the engines as the vLLM production stack's router lists them. Their ids are places: where an engine is, its clients
/// need not know; `/engines` on the operator's port says it.
pub(super) fn engines(live: &Snapshot) -> Vec<u8> {
    let pools = live.policy.pools.iter().zip(&live.upstreams.pools).enumerate();
    let own = pools.filter(|(_, (spec, _))| spec.api.provider == Provider::Engines);
    let engines = own.flat_map(|(pool, (spec, members))| {
        (0..members.members().len()).map(move |place| EngineCard {
            engine_id: format!("engine-{pool}-{place}"),
            serving_models: live.models_of(&spec.name).collect(),
            created: live.built_at,
        })
    });
    json(&engines.collect::<Vec<_>>())
}

/// Writes the version of this process as vLLM writes its own.
pub(super) fn version() -> Vec<u8> {
    json(&serde_json::json!({"version": env!("CARGO_PKG_VERSION")}))
}

/// Every name: those that ask for a decision, and each model with its aliases and its adapters.
fn names(live: &Snapshot) -> Vec<ModelName<'_>> {
    let policy = &live.policy;
    let own = policy.virtual_models().map(|name| ModelName { name, owner: OURS, parent: None });
    let models = policy.models.iter().enumerate();
    own.chain(models.flat_map(|(at, model)| names_of(live, ModelId(at), model))).collect()
}

fn names_of<'a>(live: &'a Snapshot, id: ModelId, model: &'a Model) -> impl Iterator<Item = ModelName<'a>> {
    let owner = model.owned_by.as_deref().unwrap_or(OURS);
    let names = std::iter::once(&model.name).chain(&model.aliases);
    // Of several models that have an adapter it is the first one's.
    let loras = model.loras.iter().filter(move |lora| live.policy.model_of_lora(lora) == Some(id));
    names.map(move |name| ModelName { name, owner, parent: None }).chain(loras.map(move |name| ModelName {
        name,
        owner,
        parent: Some(&model.name),
    }))
}

/// The names that a client of Anthropic's has asked for: after one, before one, and so many at most.
fn anthropic_page(live: &Snapshot, names: &[ModelName<'_>], query: &str) -> Vec<u8> {
    let place = |id: &str| names.iter().position(|name| name.name == id);
    let after = query_value(query, "after_id").and_then(|id| place(&id)).map_or(0, |at| at + 1);
    let before = query_value(query, "before_id").and_then(|id| place(&id)).unwrap_or(names.len());
    let limit = query_value(query, "limit").and_then(|limit| limit.parse().ok());
    let window = names.get(after..before).unwrap_or_default();
    let most = limit.filter(|most| *most > 0).unwrap_or(window.len());
    let is_backwards = query_value(query, "before_id").is_some();
    let start = if is_backwards { window.len().saturating_sub(most) } else { 0 };
    let page = &window[start..window.len().min(start + most)];
    json(&AnthropicList {
        data: page.iter().map(|name| AnthropicCard::of(live, name)).collect(),
        has_more: page.len() < window.len(),
        first_id: page.first().map(|name| name.name),
        last_id: page.last().map(|name| name.name),
    })
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("texts and numbers always serialise")
}

/// A model as OpenAI's API shows it, with what vLLM adds for adapters.
#[derive(Serialize)]
struct ModelCard<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<&'a str>,
}

impl<'a> ModelCard<'a> {
    fn of(live: &Snapshot, name: &ModelName<'a>) -> Self {
        let ModelName { name: id, owner, parent } = *name;
        Self { id, object: "model", created: live.built_at, owned_by: owner, parent }
    }
}

/// An engine as the production stack's router shows it.
#[derive(Serialize)]
struct EngineCard<'a> {
    engine_id: String,
    serving_models: Vec<&'a str>,
    created: u64,
}

#[derive(Serialize)]
struct ModelList<'a> {
    object: &'static str,
    data: Vec<ModelCard<'a>>,
}

/// A model as Anthropic's API shows it.
#[derive(Serialize)]
struct AnthropicCard<'a> {
    r#type: &'static str,
    id: &'a str,
    display_name: &'a str,
    created_at: String,
}

impl<'a> AnthropicCard<'a> {
    fn of(live: &Snapshot, name: &ModelName<'a>) -> Self {
        let created = UNIX_EPOCH + Duration::from_secs(live.built_at);
        let created_at = humantime::format_rfc3339_seconds(created).to_string();
        Self { r#type: "model", id: name.name, display_name: name.name, created_at }
    }
}

#[derive(Serialize)]
struct AnthropicList<'a> {
    data: Vec<AnthropicCard<'a>>,
    has_more: bool,
    first_id: Option<&'a str>,
    last_id: Option<&'a str>,
}
