//! A request of Messages as one of Chat Completions, or of an engine's tokenizer.
//!
//! Refuses to know what messages hold.

use crate::json::object::{Object, non_null_member, string_member};
use crate::json::{self};
use crate::translate::UpstreamKind;
use crate::translate::refusal::untranslatable;
use crate::{ChatRequest, Rejection};

use super::content::ChatMessages;
use super::tools::tools;

/// Members that ask an engine how to read a chat, in every API that takes one.
const TEMPLATE_MEMBERS: [&str; 4] =
    ["chat_template", "chat_template_kwargs", "add_special_tokens", "mm_processor_kwargs"];

/// Writes a request of Chat.
pub(super) fn chat(request: &ChatRequest, upstream: UpstreamKind) -> Result<Vec<u8>, Rejection> {
    let mut written = Object::default();
    let mut messages = ChatMessages::new(upstream);
    if let Some(system) = request.member("system") {
        messages.system(system)?;
    }
    let is_stream = request.stream();
    for (key, value) in request.non_null_members() {
        written = match &*key {
            "messages" => {
                messages.messages(value)?;
                written
            }
            "max_tokens" => written.raw(upstream.token_limit(), value),
            "stop_sequences" => written.raw("stop", value),
            "tool_choice" => tool_choice(written, value)?,
            "thinking" => thinking(written, value, upstream),
            "output_config" => output_config(written, value)?,
            "output_format" => written.raw("response_format", &response_format(value, "output_format")?),
            "stream" if is_stream => {
                let continuous = upstream == UpstreamKind::Engine;
                // So that the first event can say what the prompt has.
                let more = if continuous { b",\"continuous_usage_stats\":true}".as_slice() } else { b"}" };
                let options = [b"{\"include_usage\":true", more].concat();
                written.raw("stream", value).raw("stream_options", &options)
            }
            // What is written apart, and what Anthropic keeps, counts, bills and caches by.
            "system" | "tools" | "stream" | "cache_control" | "metadata" | "service_tier" | "speed"
            | "diagnostics" | "context_management" | "user_profile_id" | "workspace_id" | "betas" => written,
            "container" | "mcp_servers" => {
                return Err(untranslatable(key, "what Anthropic runs beside its models is not there"));
            }
            "inference_geo" => return Err(untranslatable(key, "where the upstream computes is not known")),
            // Sampling, and what engines have beside: the upstream says what it does not know.
            other => written.raw(other, value),
        };
    }
    if messages.ends_with_assistant() {
        if upstream != UpstreamKind::Engine {
            return Err(untranslatable(
                "messages",
                "the upstream cannot go on with a message of the assistant",
            ));
        }
        written = written.raw("add_generation_prompt", b"false").raw("continue_final_message", b"true");
    }
    if let Some(tools) = tools(request)? {
        written = written.raw("tools", &tools);
    }
    Ok(written.raw("messages", &messages.end()).end())
}

/// Writes a request of an engine's tokenizer.
pub(super) fn tokenize(request: &ChatRequest, upstream: UpstreamKind) -> Result<Vec<u8>, Rejection> {
    let mut written = Object::default();
    let mut messages = ChatMessages::new(upstream);
    for name in ["model"].iter().chain(&TEMPLATE_MEMBERS) {
        written = request.member(name).into_iter().fold(written, |written, value| written.raw(name, value));
    }
    if let Some(system) = request.member("system") {
        messages.system(system)?;
    }
    messages.messages(request.member("messages").unwrap_or(b"[]"))?;
    if let Some(tools) = tools(request)? {
        written = written.raw("tools", &tools);
    }
    Ok(written.raw("messages", &messages.end()).end())
}

fn tool_choice(written: Object, choice: &[u8]) -> Result<Object, Rejection> {
    let kind = string_member(choice, "type").unwrap_or_default();
    let written = match &*kind {
        "auto" => written.text("tool_choice", "auto"),
        "any" => written.text("tool_choice", "required"),
        "none" => written.text("tool_choice", "none"),
        "tool" => {
            let name = json::member(choice, "name").unwrap_or(b"\"\"");
            let function = Object::default().raw("name", name).end();
            let named = Object::default().text("type", "function").raw("function", &function).end();
            written.raw("tool_choice", &named)
        }
        _ => return Err(untranslatable("tool_choice.type", "it is none of auto, any, tool and none")),
    };
    let one_at_a_time = json::member(choice, "disable_parallel_tool_use") == Some(b"true");
    Ok(if one_at_a_time { written.raw("parallel_tool_calls", b"false") } else { written })
}

/// How much a model thinks is a hint, which what is no engine gets only by `output_config`.
fn thinking(written: Object, thinking: &[u8], upstream: UpstreamKind) -> Object {
    if upstream != UpstreamKind::Engine {
        return written;
    }
    match string_member(thinking, "type").as_deref() {
        Some("disabled") => written.text("reasoning_effort", "none"),
        Some("enabled") => match non_null_member(thinking, "budget_tokens") {
            Some(budget) => written.raw("thinking_token_budget", budget),
            None => written,
        },
        _ => written,
    }
}

fn output_config(mut written: Object, config: &[u8]) -> Result<Object, Rejection> {
    if let Some(effort) = string_member(config, "effort") {
        // Efforts beyond the highest that all know.
        let effort = if matches!(&*effort, "xhigh" | "max") { "high" } else { &effort };
        written = written.text("reasoning_effort", effort);
    }
    if let Some(format) = non_null_member(config, "format") {
        written = written.raw("response_format", &response_format(format, "output_config.format")?);
    }
    Ok(written)
}

fn response_format(format: &[u8], place: &'static str) -> Result<Vec<u8>, Rejection> {
    if string_member(format, "type").as_deref() != Some("json_schema") {
        return Err(untranslatable(place, "its type is not json_schema"));
    }
    let schema = non_null_member(format, "schema").unwrap_or(b"{}");
    let named = Object::default().text("name", "output").raw("schema", schema).raw("strict", b"true").end();
    Ok(Object::default().text("type", "json_schema").raw("json_schema", &named).end())
}
