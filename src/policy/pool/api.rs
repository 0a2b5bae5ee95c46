//! Owns how a pool's API differs from the clients': the prefix of its paths, and which APIs of conversations it speaks.
//! Refuses to know how one is translated into another.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::credential::Credential;
use super::endpoint::EndpointSpec;
use super::resources::ServedResource;
use super::transport::Transport;
use crate::checker::Checker;
use crate::issue::YamlPath;

/// How a pool's API differs from the clients'.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolApi {
    /// Put before each request's path; empty or with a leading and without a trailing slash.
    pub path_prefix: String,
    /// Put in place of `/v1`, with `{model}` for the model's name there; with a leading and without a trailing slash.
    pub base_path: Option<String>,
    /// The value of `api-version` in each request's query.
    pub api_version: Option<String>,
    /// What its server keeps beside models.
    pub serves: Vec<ServedResource>,
    /// Which APIs its endpoints speak; never empty.
    pub speaks: Vec<SpokenApi>,
    /// When its streams are asked what they cost though their clients have not asked.
    pub stream_usage: StreamUsageMode,
    /// What is behind it.
    pub provider: Provider,
}

/// When a pool's streams are asked what they cost though their clients have not asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "StreamUsage")]
pub enum StreamUsageMode {
    /// Where something needs it: the model has a price, or the answer may be kept.
    #[default]
    Needed,
    /// Always, so that every token is counted.
    Always,
    /// Always, and in every chunk, so that clients which leave are charged for what they got: vLLM's
    /// `continuous_usage_stats`, at which others answer 400.
    Continuous,
    /// Never: for engines that answer 400 to `stream_options`.
    Never,
}

/// An API of conversations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SpokenApi {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/messages`.
    Messages,
    /// `/v1/responses`.
    Responses,
}

/// What is behind a pool, as far as its requests go by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// Inference engines.
    Engines,
    /// OpenAI or Azure, by the names of its endpoints.
    OpenAi,
    /// Anybody else.
    Other,
}

/// How a pool's API differs from the clients'.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct RawPoolApi {
    /// A path put before each request's path, such as `/openai`.
    #[serde(default)]
    path_prefix: Option<String>,
    /// A path in place of the `/v1` that requests' paths begin with, such as `/v1beta/openai`; `{model}` stands for the model's
    /// name there, as in Azure's `/openai/deployments/{model}`.
    #[serde(default)]
    base_path: Option<String>,
    /// The `api-version` that each request's query gets, as Azure wants it.
    #[serde(default)]
    #[schemars(length(min = 1, max = 64))]
    api_version: Option<String>,
    /// What its server keeps beside models: the paths of these go to the first pool that has them.
    #[serde(default)]
    #[schemars(length(max = 12))]
    serves: Vec<ServedResource>,
    /// Which of the APIs of conversations its endpoints speak; requests of the others are translated. When absent,
    /// `[chat, responses]` for OpenAI and Azure, and all of them for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<SpokenApi>", length(min = 1, max = 3))]
    speaks: Option<Vec<SpokenApi>>,
    /// When its streams are asked what they cost though their clients have not asked; what comes of it is taken out again.
    #[serde(default)]
    stream_usage: StreamUsageMode,
}

/// What of a pool tells who is behind it.
#[derive(Clone, Copy)]
pub(super) struct PoolFacts<'a> {
    pub(super) endpoints: &'a [EndpointSpec],
    pub(super) transport: &'a Transport,
    pub(super) credential: Option<&'a Credential>,
    pub(super) reads_metrics: bool,
}

/// The names of OpenAI's and Azure's hosts, by how they end.
const OPENAI: [&str; 3] = ["api.openai.com", ".openai.azure.com", ".services.ai.azure.com"];

impl RawPoolApi {
    pub(super) fn check(self, facts: PoolFacts<'_>, path: &YamlPath, checker: &mut Checker<'_>) -> PoolApi {
        let provider = provider(facts);
        let all = vec![SpokenApi::Chat, SpokenApi::Messages, SpokenApi::Responses];
        let known =
            if provider == Provider::OpenAi { vec![SpokenApi::Chat, SpokenApi::Responses] } else { all };
        let speaks = self.speaks.unwrap_or(known);
        for (index, api) in speaks.iter().enumerate() {
            if speaks[..index].contains(api) {
                checker.issue(&path.key("speaks").index(index), "stands twice");
            }
        }
        let path_prefix = path_prefix(self.path_prefix.as_deref(), &path.key("path_prefix"), checker);
        let base_path = self.base_path.map(|raw| base_path(&raw, &path.key("base_path"), checker));
        if base_path.is_some() && !path_prefix.is_empty() {
            checker.issue(
                &path.key("base_path"),
                "has no place beside `path_prefix`: write the whole path here",
            );
        }
        let is_version =
            |version: &String| version.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
        if !self.api_version.as_ref().is_none_or(is_version) {
            checker.issue(&path.key("api_version"), "must be a version such as 2024-10-21");
        }
        PoolApi {
            path_prefix,
            base_path,
            api_version: self.api_version,
            serves: self.serves,
            speaks,
            stream_usage: self.stream_usage,
            provider,
        }
    }
}

fn provider(facts: PoolFacts<'_>) -> Provider {
    let is_openai = |endpoint: &EndpointSpec| OPENAI.iter().any(|end| endpoint.host.ends_with(end));
    if facts.endpoints.iter().any(is_openai) {
        return Provider::OpenAi;
    }
    let is_plain = matches!(facts.transport, Transport::Plain { .. }) && facts.credential.is_none();
    if is_plain || facts.reads_metrics { Provider::Engines } else { Provider::Other }
}

fn base_path(raw: &str, path: &YamlPath, checker: &mut Checker<'_>) -> String {
    let plain = raw.replace("{model}", "model");
    if plain.trim_end_matches('/').is_empty() {
        checker.issue(path, "must be a path; `path_prefix` puts one before `/v1`");
    }
    path_prefix(Some(&plain), path, checker);
    raw.trim_end_matches('/').to_owned()
}

fn path_prefix(raw: Option<&str>, path: &YamlPath, checker: &mut Checker<'_>) -> String {
    let prefix = raw.unwrap_or_default().trim_end_matches('/');
    let allowed = |c: char| c.is_ascii_graphic() && !"?#\"<>\\^`{|}".contains(c);
    let is_path = prefix.starts_with('/') && prefix.chars().all(allowed);
    if !prefix.is_empty() && !is_path {
        checker.issue(path, "must start with `/` and be a path alone");
    }
    prefix.to_owned()
}
