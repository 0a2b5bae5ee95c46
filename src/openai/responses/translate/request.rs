//! A request of Responses as one of Chat Completions.
//!
//! Refuses to know what items hold.

use crate::json;
use crate::json::object::{Object, entries, non_null_member, string_member};
use crate::translate::UpstreamKind;
use crate::translate::refusal::untranslatable;
use crate::{ChatRequest, Rejection};

use super::items::ChatTurns;
use super::tools::{AllowedTools, tool_choice, tools};

/// Writes a request of Chat.
pub(super) fn chat(request: &ChatRequest, upstream: UpstreamKind) -> Result<Vec<u8>, Rejection> {
    let mut written = Object::default();
    let mut messages = ChatTurns::new(upstream);
    if let Some(instructions) = request.member("instructions").filter(|value| *value != b"null") {
        messages.instructions(instructions)?;
    }
    let is_stream = request.stream();
    let allowed = request.member("tool_choice").and_then(AllowedTools::of);
    if wants_logprobs(request) {
        written = written.raw("logprobs", b"true");
    }
    for (key, value) in request.non_null_members() {
        written = match &*key {
            "input" => {
                messages.input(value)?;
                written
            }
            "max_output_tokens" => written.raw(upstream.token_limit(), value),
            "tools" => match tools(value, allowed.as_ref())?.as_slice() {
                b"[]" => written,
                functions => written.raw("tools", functions),
            },
            "tool_choice" => written.raw("tool_choice", &tool_choice(value)?),
            "reasoning" => match string_member(value, "effort") {
                Some(effort) => written.text("reasoning_effort", known_effort(&effort, upstream)),
                None => written,
            },
            "text" => text(written, value, upstream)?,
            "stream" if is_stream => {
                written.raw("stream", value).raw("stream_options", b"{\"include_usage\":true}")
            }
            "previous_response_id" => {
                let id = request.previous_response().unwrap_or_default().into_owned();
                return Err(Rejection::PreviousResponseUnknown { id });
            }
            "conversation" => return Err(untranslatable(key, "no conversations are kept for it")),
            "background" if value == b"true" => {
                return Err(untranslatable(key, "it answers while the client waits"));
            }
            "prompt" => return Err(untranslatable(key, "it keeps no prompts")),
            "context_management" => return Err(untranslatable(key, "it compacts nothing")),
            "top_logprobs" if value != b"0" => written.raw("top_logprobs", value),
            // What OpenAI keeps, counts, bills and caches by, and what is asked of an answer that it does not have.
            "instructions"
            | "stream"
            | "stream_options"
            | "store"
            | "include"
            | "metadata"
            | "background"
            | "max_tool_calls"
            | "prompt_cache_key"
            | "prompt_cache_options"
            | "prompt_cache_retention"
            | "safety_identifier"
            | "service_tier"
            | "truncation"
            | "top_logprobs"
            | "client_metadata" => written,
            // Sampling, and what engines have beside: the upstream says what it does not know.
            other => written.raw(other, value),
        };
    }
    Ok(written.raw("messages", &messages.end()).end())
}

/// Writes a request of an engine's tokenizer.
pub(super) fn tokenize(request: &ChatRequest, upstream: UpstreamKind) -> Result<Vec<u8>, Rejection> {
    if let Some(id) = request.field("previous_response_id") {
        return Err(Rejection::PreviousResponseUnknown { id: id.into_owned() });
    }
    let mut written = request
        .member("model")
        .into_iter()
        .fold(Object::default(), |written, model| written.raw("model", model));
    let mut messages = ChatTurns::new(upstream);
    if let Some(instructions) = request.member("instructions").filter(|value| *value != b"null") {
        messages.instructions(instructions)?;
    }
    messages.input(request.member("input").unwrap_or(b"[]"))?;
    if let Some(own) = request.member("tools").filter(|value| value.starts_with(b"[")) {
        written = written.raw("tools", &tools(own, None)?);
    }
    Ok(written.raw("messages", &messages.end()).end())
}

/// Whether the answer is to say how probable its tokens were.
fn wants_logprobs(request: &ChatRequest) -> bool {
    let included = request.member("include").into_iter().flat_map(json::array);
    let mut included = included.filter_map(json::string);
    request.member("top_logprobs").is_some_and(|most| !matches!(most, b"0" | b"null"))
        || included.any(|name| name == b"message.output_text.logprobs")
}

/// An effort that engines know too.
fn known_effort(effort: &str, upstream: UpstreamKind) -> &str {
    match effort {
        _ if upstream == UpstreamKind::OpenAi => effort,
        "minimal" => "low",
        "xhigh" | "max" => "high",
        effort => effort,
    }
}

/// The form of the answer's text: a schema's members lie one level deeper in a chat.
fn text(mut written: Object, text: &[u8], upstream: UpstreamKind) -> Result<Object, Rejection> {
    if let Some(verbosity) = non_null_member(text, "verbosity").filter(|_| upstream == UpstreamKind::OpenAi) {
        written = written.raw("verbosity", verbosity);
    }
    let Some(format) = non_null_member(text, "format") else { return Ok(written) };
    match string_member(format, "type").as_deref() {
        Some("text") => Ok(written),
        Some("json_object") => Ok(written.raw("response_format", b"{\"type\":\"json_object\"}")),
        Some("json_schema") => {
            let own = entries(format).filter(|(key, value)| key != "type" && *value != b"null");
            let schema = own.fold(Object::default(), |schema, (key, value)| schema.raw(&key, value)).end();
            let format = Object::default().text("type", "json_schema").raw("json_schema", &schema).end();
            Ok(written.raw("response_format", &format))
        }
        _ => Err(untranslatable("text.format", "its type is none of text, json_object and json_schema")),
    }
}
