//! A request of Chat Completions as one of Messages.
//!
//! Refuses to know what messages hold.

use std::borrow::Cow;

use crate::json;
use crate::json::object::{Object, array, elements, non_null_member, string_member};
use crate::translate::refusal::untranslatable;
use crate::{ChatRequest, Rejection};

use super::messages::MessageTurns;

/// How many tokens an answer may have where the client sets no limit, since Anthropic's API wants one: as many as each of
/// its models gives.
const MAX_TOKENS: &[u8] = b"4096";

/// Writes a request of Messages.
pub(super) fn messages(request: &ChatRequest) -> Result<Vec<u8>, Rejection> {
    let mut written = Object::default();
    let mut config = Object::default();
    let mut has_config = false;
    let limits = ["max_completion_tokens", "max_tokens"];
    let limit = limits.iter().find_map(|name| request.member(name).filter(|value| *value != b"null"));
    written = written.raw("max_tokens", limit.unwrap_or(MAX_TOKENS));
    let one_at_a_time = request.member("parallel_tool_calls") == Some(b"false");
    let choice = request.member("tool_choice").filter(|choice| choice.starts_with(b"{"));
    // What may not be called is left out.
    let allowed =
        choice.and_then(|choice| non_null_member(choice, "allowed_tools")).map(|_| request.chosen_tools());
    let has_tools = request.member("tools").is_some_and(|tools| elements_of(tools).next().is_some());
    for (key, value) in request.non_null_members() {
        written = match &*key {
            "model" | "temperature" | "top_p" | "top_k" => written.raw(&key, value),
            "stream" if request.stream() => written.raw("stream", value),
            "messages" => {
                let conversation = MessageTurns::read(value)?;
                let (system, messages) = conversation.end();
                let written = if system == b"[]" { written } else { written.raw("system", &system) };
                written.raw("messages", &messages)
            }
            "stop" if value.starts_with(b"\"") => written.raw("stop_sequences", &array([value])),
            "stop" => written.raw("stop_sequences", value),
            "tools" if has_tools => written.raw("tools", &tools(value, allowed.as_deref())?),
            "tool_choice" if has_tools => written.raw("tool_choice", &tool_choice(value, one_at_a_time)?),
            "reasoning_effort" => {
                (config, has_config) = (effort(config, value)?, true);
                written
            }
            "response_format" => match response_format(value)? {
                Some(format) => {
                    (config, has_config) = (config.raw("format", &format), true);
                    written
                }
                None => written,
            },
            "user" => written.raw("metadata", &Object::default().raw("user_id", value).end()),
            "n" if value == b"1" => written,
            "logprobs" if value == b"false" => written,
            "top_logprobs" if value == b"0" => written,
            "frequency_penalty" | "presence_penalty" if matches!(value, b"0" | b"0.0") => written,
            "logit_bias" if value == b"{}" => written,
            "n" | "logprobs" | "top_logprobs" | "frequency_penalty" | "presence_penalty" | "logit_bias"
            | "seed" | "audio" | "modalities" | "prediction" | "functions" | "function_call"
            | "web_search_options" => {
                return Err(untranslatable(key, "Anthropic's has nothing for it"));
            }
            // What was read above, what OpenAI keeps, counts, bills and caches by, and what engines have beside.
            _ => written,
        };
    }
    if one_at_a_time && has_tools && request.member("tool_choice").is_none() {
        written = written.raw("tool_choice", &tool_choice(b"\"auto\"", true)?);
    }
    if has_config {
        written = written.raw("output_config", &config.end());
    }
    Ok(written.end())
}

fn tools(tools: &[u8], allowed: Option<&[Cow<'_, str>]>) -> Result<Vec<u8>, Rejection> {
    let mut written = Vec::new();
    for (at, tool) in elements_of(tools).enumerate() {
        if string_member(tool, "type").as_deref() != Some("function") {
            return Err(untranslatable(format!("tools.{at}.type"), "Anthropic's takes functions alone"));
        }
        let function = non_null_member(tool, "function").unwrap_or(b"{}");
        let name = string_member(function, "name").unwrap_or_default();
        if allowed.is_some_and(|allowed| !allowed.contains(&name)) {
            continue;
        }
        let schema = non_null_member(function, "parameters").unwrap_or(b"{\"type\":\"object\"}");
        let mut own = Object::default().raw("name", json::member(function, "name").unwrap_or(b"\"\""));
        if let Some(description) = non_null_member(function, "description") {
            own = own.raw("description", description);
        }
        own = own.raw("input_schema", schema);
        if json::member(function, "strict") == Some(b"true") {
            own = own.raw("strict", b"true");
        }
        written.push(own.end());
    }
    Ok(array(&written))
}

fn tool_choice(choice: &[u8], one_at_a_time: bool) -> Result<Vec<u8>, Rejection> {
    let written = match choice {
        b"\"auto\"" => Object::default().text("type", "auto"),
        b"\"required\"" => Object::default().text("type", "any"),
        // There is nothing to be parallel.
        b"\"none\"" => return Ok(Object::default().text("type", "none").end()),
        choice if non_null_member(choice, "allowed_tools").is_some() => {
            let allowed = non_null_member(choice, "allowed_tools").unwrap_or(b"{}");
            let is_required = json::member(allowed, "mode") == Some(b"\"required\"");
            Object::default().text("type", if is_required { "any" } else { "auto" })
        }
        choice => {
            let name =
                non_null_member(choice, "function").and_then(|function| json::member(function, "name"));
            let name = name.ok_or_else(|| untranslatable("tool_choice", "it names no function"))?;
            Object::default().text("type", "tool").raw("name", name)
        }
    };
    let written = if one_at_a_time { written.raw("disable_parallel_tool_use", b"true") } else { written };
    Ok(written.end())
}

fn effort(config: Object, effort: &[u8]) -> Result<Object, Rejection> {
    match effort {
        b"\"none\"" | b"\"minimal\"" => Ok(config.text("effort", "low")),
        effort if effort.starts_with(b"\"") => Ok(config.raw("effort", effort)),
        _ => Err(untranslatable("reasoning_effort", "it is not a text")),
    }
}

fn response_format(format: &[u8]) -> Result<Option<Vec<u8>>, Rejection> {
    match string_member(format, "type").as_deref() {
        Some("text") => Ok(None),
        Some("json_schema") => {
            let schema =
                non_null_member(format, "json_schema").and_then(|named| non_null_member(named, "schema"));
            let schema = schema.unwrap_or(b"{\"type\":\"object\"}");
            Ok(Some(Object::default().text("type", "json_schema").raw("schema", schema).end()))
        }
        _ => Err(untranslatable("response_format.type", "Anthropic's knows text and json_schema alone")),
    }
}

fn elements_of(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    elements(if value.starts_with(b"[") { value } else { b"[]" })
}
