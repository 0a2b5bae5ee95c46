//! A request of Chat Completions as one of Responses.
//!
//! Refuses to know what messages hold.

use crate::json;
use crate::json::object::{Object, array, elements, entries, non_null_member, string_member};
use crate::translate::UpstreamKind;
use crate::translate::refusal::untranslatable;
use crate::{ChatRequest, Rejection};

use super::items::items;

/// What an answer is asked to hold beside its text.
const LOG_PROBABILITIES: &[u8] = b"[\"message.output_text.logprobs\"]";

/// Writes a request of Responses.
pub(super) fn response(request: &ChatRequest, upstream: UpstreamKind) -> Result<Vec<u8>, Rejection> {
    let mut written = Object::default();
    let (mut text, mut has_text) = (Object::default(), false);
    let mut stores = false;
    let limits = ["max_completion_tokens", "max_tokens"];
    let limit = limits.iter().find_map(|name| request.member(name).filter(|value| *value != b"null"));
    for (key, value) in request.non_null_members() {
        written = match &*key {
            "messages" => written.raw("input", &items(value, upstream)?),
            "stream" if request.stream() => written.raw("stream", value),
            "tools" => written.raw("tools", &tools(value)?),
            "tool_choice" => written.raw("tool_choice", &tool_choice(value)?),
            "reasoning_effort" => written.raw("reasoning", &Object::default().raw("effort", value).end()),
            "verbosity" => {
                (text, has_text) = (text.raw("verbosity", value), true);
                written
            }
            "response_format" => {
                (text, has_text) = (text.raw("format", &format(value)?), true);
                written
            }
            "logprobs" if value == b"true" => written.raw("include", LOG_PROBABILITIES),
            "store" => {
                stores = true;
                written.raw("store", value)
            }
            "n" if value == b"1" => written,
            "frequency_penalty" | "presence_penalty" if matches!(value, b"0" | b"0.0") => written,
            "logit_bias" if value == b"{}" => written,
            "n" | "stop" | "frequency_penalty" | "presence_penalty" | "logit_bias" | "seed" | "audio"
            | "modalities" | "prediction" | "functions" | "function_call" | "web_search_options" => {
                return Err(untranslatable(key, "Responses have nothing for it"));
            }
            "max_completion_tokens" | "max_tokens" | "stream" | "stream_options" | "logprobs" => written,
            // What both have, and what engines have beside: the upstream says what it does not know.
            other => written.raw(other, value),
        };
    }
    written = written.all(limit.map(|limit| ("max_output_tokens", limit)));
    if has_text {
        written = written.raw("text", &text.end());
    }
    if !stores {
        // A chat is not kept unless that is asked for.
        written = written.raw("store", b"false");
    }
    Ok(written.end())
}

fn tools(tools: &[u8]) -> Result<Vec<u8>, Rejection> {
    let mut written = Vec::new();
    for (at, tool) in elements_of(tools).enumerate() {
        let kind = string_member(tool, "type").unwrap_or_default();
        let Some(inner) = non_null_member(tool, &kind).filter(|_| matches!(&*kind, "function" | "custom"))
        else {
            return Err(untranslatable(
                format!("tools.{at}.type"),
                "it is neither a function nor a custom tool",
            ));
        };
        let mut own = Object::default().text("type", &kind);
        for (key, value) in entries(inner).filter(|(_, value)| *value != b"null") {
            own = match (&*kind, &*key) {
                ("custom", "format") => own.raw("format", &custom_format(value)),
                _ => own.raw(&key, value),
            };
        }
        if kind == "function" && non_null_member(inner, "strict").is_none() {
            // Where that is not said, chats are lenient and Responses strict.
            own = own.raw("strict", b"false");
        }
        written.push(own.end());
    }
    Ok(array(&written))
}

/// A grammar lies one level deeper in a chat.
fn custom_format(format: &[u8]) -> Vec<u8> {
    let Some(grammar) = non_null_member(format, "grammar") else { return format.to_vec() };
    let members =
        ["syntax", "definition"].iter().filter_map(|name| Some((*name, json::member(grammar, name)?)));
    Object::default().text("type", "grammar").all(members).end()
}

fn tool_choice(choice: &[u8]) -> Result<Vec<u8>, Rejection> {
    if choice.starts_with(b"\"") {
        return Ok(choice.to_vec());
    }
    if let Some(allowed) = non_null_member(choice, "allowed_tools") {
        let tools: Result<Vec<_>, _> =
            non_null_member(allowed, "tools").into_iter().flat_map(elements_of).map(named).collect();
        let mode = non_null_member(allowed, "mode").unwrap_or(b"\"auto\"");
        let written = Object::default().text("type", "allowed_tools").raw("mode", mode);
        return Ok(written.raw("tools", &array(tools?)).end());
    }
    named(choice)
}

/// A tool by its kind and its name.
fn named(tool: &[u8]) -> Result<Vec<u8>, Rejection> {
    let kind = string_member(tool, "type").unwrap_or_default();
    let name = non_null_member(tool, &kind).and_then(|inner| non_null_member(inner, "name"));
    let name =
        name.ok_or_else(|| untranslatable("tool_choice", "it names neither a function nor a custom tool"))?;
    Ok(Object::default().text("type", &kind).raw("name", name).end())
}

/// The form of the answer's text: a schema's members lie one level deeper in a chat.
fn format(format: &[u8]) -> Result<Vec<u8>, Rejection> {
    match string_member(format, "type").as_deref() {
        Some("text" | "json_object") => Ok(format.to_vec()),
        Some("json_schema") => {
            let schema = non_null_member(format, "json_schema").unwrap_or(b"{}");
            let own = entries(schema).filter(|(_, value)| *value != b"null");
            let written = Object::default().text("type", "json_schema");
            Ok(own.fold(written, |written, (key, value)| written.raw(&key, value)).end())
        }
        _ => Err(untranslatable("response_format.type", "it is none of text, json_object and json_schema")),
    }
}

fn elements_of(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    elements(if value.starts_with(b"[") { value } else { b"[]" })
}
