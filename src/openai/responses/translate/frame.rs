//! The parts that responses have whole and as streams: the settings that they repeat, items, calls, ends and usage.
//!
//! Refuses to know how a response is put together.

use std::borrow::Cow;

use crate::ChatRequest;
use crate::json::object::{Object, array, is_object, string_member};
use crate::json::quoted;
use crate::translate::TranslatedAnswer;
use crate::translate::chat::{ChatToolCall, ChatUsage};

use super::names::ToolNames;
use super::tools::INPUT;

/// What a response says beside its output: whose it is, and the settings of its request.
#[derive(Debug)]
pub(super) struct ResponseFrame {
    now: u64,
    /// What the response's id ends with, where that is not the upstream's.
    kept_as: Option<String>,
    names: ToolNames,
    /// The members that repeat the request, as JSON behind what differs.
    settings: Vec<(&'static str, Vec<u8>)>,
}

/// What a response repeats of its request, and what it says where that has none.
const SETTINGS: [(&str, &[u8]); 19] = [
    ("background", b"false"),
    ("instructions", b"null"),
    ("max_output_tokens", b"null"),
    ("max_tool_calls", b"null"),
    ("metadata", b"{}"),
    ("parallel_tool_calls", b"true"),
    ("previous_response_id", b"null"),
    ("prompt_cache_key", b"null"),
    ("reasoning", b"{\"effort\":null,\"summary\":null}"),
    ("safety_identifier", b"null"),
    ("service_tier", b"\"default\""),
    ("temperature", b"null"),
    ("text", b"{\"format\":{\"type\":\"text\"}}"),
    ("tool_choice", b"\"auto\""),
    ("tools", b"[]"),
    ("top_logprobs", b"0"),
    ("top_p", b"null"),
    ("truncation", b"\"disabled\""),
    ("user", b"null"),
];

/// How a response ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResponseEnd {
    Completed,
    /// Cut, for this reason.
    Incomplete(&'static str),
}

impl ResponseEnd {
    /// The end of a chat that has ended for this reason.
    pub(super) fn of(finish_reason: &str) -> Self {
        match finish_reason {
            "length" => Self::Incomplete("max_output_tokens"),
            "content_filter" => Self::Incomplete("content_filter"),
            _ => Self::Completed,
        }
    }

    /// The response's status.
    pub(super) fn status(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Incomplete(_) => "incomplete",
        }
    }
}

/// A call of a tool as the client knows it.
#[derive(Debug)]
pub(super) struct ToolCall {
    pub(super) item_id: String,
    call_id: String,
    pub(super) name: String,
    namespace: Option<String>,
    pub(super) is_custom: bool,
    pub(super) arguments: String,
}

impl ToolCall {
    /// The item; without arguments as it begins.
    pub(super) fn item(&self, arguments: Option<&str>, status: &str) -> Vec<u8> {
        let kind = if self.is_custom { "custom_tool_call" } else { "function_call" };
        let mut item = Object::default()
            .text("type", kind)
            .text("id", &self.item_id)
            .text("status", status)
            .text("call_id", &self.call_id)
            .text("name", &self.name);
        if let Some(namespace) = &self.namespace {
            item = item.text("namespace", namespace);
        }
        if self.is_custom {
            return item.text(INPUT, &arguments.map(custom_input).unwrap_or_default()).end();
        }
        item.text("arguments", arguments.unwrap_or_default()).end()
    }
}

/// The input of a custom tool out of the arguments of the function that stands for it.
pub(super) fn custom_input(arguments: &str) -> String {
    let is_whole = is_object(arguments.as_bytes());
    let input = is_whole.then(|| string_member(arguments.as_bytes(), INPUT)).flatten();
    input.map_or_else(|| arguments.to_owned(), Cow::into_owned)
}

/// A response under construction.
#[derive(Debug)]
pub(super) struct ResponseHead<'a> {
    id: &'a str,
    created: u64,
    frame: &'a ResponseFrame,
}

impl ResponseFrame {
    /// Takes over what a response repeats of its request.
    pub(super) fn of(request: &ChatRequest, answer: TranslatedAnswer<'_>) -> Self {
        let mut settings = vec![("model", quoted(answer.model))];
        for (name, otherwise) in SETTINGS {
            let own = request.member(name).filter(|value| *value != b"null");
            let resumed = request.resumed_from().filter(|_| name == "previous_response_id").map(quoted);
            if let Some(resumed) = resumed {
                settings.push((name, resumed));
                continue;
            }
            settings.push((name, own.unwrap_or(otherwise).to_vec()));
        }
        // Whatever the request says.
        settings.push(("store", answer.kept_as.is_some().to_string().into_bytes()));
        let names = ToolNames::of(request.member("tools").unwrap_or(b"[]"));
        Self { now: answer.now, kept_as: answer.kept_as.map(str::to_owned), names, settings }
    }

    /// Starts a response with an id and the time when it was made.
    pub(super) fn response<'a>(&'a self, id: &'a str, created: u64) -> ResponseHead<'a> {
        ResponseHead { id, created, frame: self }
    }

    pub(super) fn now(&self) -> u64 {
        self.now
    }

    /// Begins a call; its arguments are those that have come with it.
    pub(super) fn call(&self, call: &ChatToolCall<'_>, id: &str, at: u32) -> ToolCall {
        let flat = call.name().unwrap_or_default();
        let known = self.names.find(flat);
        let is_custom = known.is_some_and(|tool| tool.is_custom);
        let own = call.id.as_deref().filter(|id| !id.is_empty());
        ToolCall {
            item_id: format!("{}_{id}_{at}", if is_custom { "ctc" } else { "fc" }),
            call_id: own.map_or_else(|| format!("call_{id}_{at}"), str::to_owned),
            name: known.map_or(flat, |tool| &tool.name).to_owned(),
            namespace: known.and_then(|tool| tool.namespace.clone()),
            is_custom,
            arguments: call.arguments().to_owned(),
        }
    }
}

impl ResponseHead<'_> {
    /// Writes the response; without an end as it is in progress.
    pub(super) fn end(&self, end: Option<ResponseEnd>, output: &[Vec<u8>], usage: Option<&[u8]>) -> Vec<u8> {
        let details = match end {
            Some(ResponseEnd::Incomplete(reason)) => Object::default().text("reason", reason).end(),
            _ => b"null".to_vec(),
        };
        Object::default()
            .text("id", &format!("resp_{}", self.frame.kept_as.as_deref().unwrap_or(self.id)))
            .text("object", "response")
            .number("created_at", self.created)
            .text("status", end.map_or("in_progress", ResponseEnd::status))
            .raw("error", b"null")
            .raw("incomplete_details", &details)
            .all(self.frame.settings.iter().map(|(name, value)| (*name, value)))
            .raw("output", &array(output))
            .raw("usage", usage.unwrap_or(b"null"))
            .end()
    }
}

/// An item of what the model thought; without it as it begins.
pub(super) fn reasoning_item(id: &str, text: Option<&str>) -> Vec<u8> {
    let content = text.map(|text| text_part("reasoning_text", text));
    let status = if text.is_some() { "completed" } else { "in_progress" };
    Object::default()
        .text("type", "reasoning")
        .text("id", id)
        .raw("summary", b"[]")
        .raw("content", &array(content))
        .text("status", status)
        .end()
}

/// An item of what the model said.
pub(super) fn message_item(id: &str, parts: &[Vec<u8>], status: &str) -> Vec<u8> {
    Object::default()
        .text("type", "message")
        .text("id", id)
        .text("status", status)
        .text("role", "assistant")
        .raw("content", &array(parts))
        .end()
}

/// A part of an item.
pub(super) fn text_part(kind: &str, text: &str) -> Vec<u8> {
    logged_part(kind, text, "")
}

/// The same with how probable its tokens were: the inside of a list, as JSON.
pub(super) fn logged_part(kind: &str, text: &str, logprobs: &str) -> Vec<u8> {
    let part = Object::default().text("type", kind);
    match kind {
        "refusal" => part.text("refusal", text).end(),
        "output_text" => {
            let logged = format!("[{logprobs}]");
            part.text("text", text).raw("annotations", b"[]").raw("logprobs", logged.as_bytes()).end()
        }
        _ => part.text("text", text).end(),
    }
}

/// What it cost, in classes of which the whole includes each.
pub(super) fn usage(usage: ChatUsage) -> Vec<u8> {
    let completion = usage.completion_tokens.unwrap_or(0);
    let reasoning = usage.completion_tokens_details.and_then(|details| details.reasoning_tokens).unwrap_or(0);
    let mut input = Object::default().number("cached_tokens", usage.cached().unwrap_or(0));
    if let Some(created) = usage.created() {
        input = input.number("cache_write_tokens", created);
    }
    let output = Object::default().number("reasoning_tokens", reasoning).end();
    Object::default()
        .number("input_tokens", usage.prompt_tokens)
        .raw("input_tokens_details", &input.end())
        .number("output_tokens", completion)
        .raw("output_tokens_details", &output)
        .number("total_tokens", usage.prompt_tokens.saturating_add(completion))
        .end()
}
