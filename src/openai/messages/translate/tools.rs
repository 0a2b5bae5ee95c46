//! The tools of a request as functions of a chat: those of its list, as blocks in its system messages change it.
//!
//! Refuses to know the other blocks of messages.

use std::borrow::Cow;

use crate::json::object::{Object, array, elements, entries, non_null_member, string_member};
use crate::translate::refusal::untranslatable;
use crate::{ChatRequest, Rejection};

use super::content::{is_tool_change, list};

/// A tool of Messages', and where it stands in the request.
struct PlacedTool<'a> {
    name: Cow<'a, str>,
    tool: &'a [u8],
    place: String,
}

impl<'a> PlacedTool<'a> {
    fn new(tool: &'a [u8], place: String) -> Self {
        Self { name: string_member(tool, "name").unwrap_or_default(), tool, place }
    }
}

/// Writes the tools that there are at the conversation's end: a chat has one list of them. Nothing where there is none.
pub(super) fn tools(request: &ChatRequest) -> Result<Option<Vec<u8>>, Rejection> {
    let own = request.member("tools").filter(|tools| tools.starts_with(b"["));
    let own_tools = elements(own.unwrap_or(b"[]")).enumerate();
    let mut tools: Vec<_> =
        own_tools.map(|(at, tool)| PlacedTool::new(tool, format!("tools.{at}"))).collect();
    let has_changed = change(&mut tools, request.member("messages").unwrap_or(b"[]"))?;
    if tools.is_empty() && (own.is_none() || has_changed) {
        return Ok(None);
    }
    let written: Result<Vec<_>, _> = tools.iter().map(function).collect();
    Ok(Some(array(written?)))
}

/// Adds and removes what the messages say; whether they say anything.
fn change<'a>(tools: &mut Vec<PlacedTool<'a>>, messages: &'a [u8]) -> Result<bool, Rejection> {
    let mut removed: Vec<Cow<'_, str>> = Vec::new();
    let mut has_changed = false;
    for (at, message) in list(messages).enumerate() {
        if string_member(message, "role").as_deref() != Some("system") {
            continue;
        }
        for (number, block) in list(non_null_member(message, "content").unwrap_or(b"[]")).enumerate() {
            let Some(kind) = string_member(block, "type").filter(|kind| is_tool_change(kind)) else {
                continue;
            };
            let named = non_null_member(block, "tool").unwrap_or(b"{}");
            let defined = non_null_member(named, "definition").filter(|_| kind == "tool_addition");
            let place = format!("messages.{at}.content.{number}.tool");
            let tool = PlacedTool::new(defined.unwrap_or(named), place);
            removed.retain(|removed| *removed != tool.name);
            if kind == "tool_removal" {
                removed.push(tool.name.clone());
            }
            match (tools.iter_mut().find(|known| known.name == tool.name), defined) {
                (Some(known), Some(_)) => *known = tool,
                (None, Some(_)) => tools.push(tool),
                (Some(_), None) => {}
                (None, None) => return Err(untranslatable(tool.place, "it names no tool of the request")),
            }
            has_changed = true;
        }
    }
    tools.retain(|tool| !removed.contains(&tool.name));
    Ok(has_changed)
}

fn function(PlacedTool { tool, place, .. }: &PlacedTool<'_>) -> Result<Vec<u8>, Rejection> {
    if string_member(tool, "type").is_some_and(|kind| kind != "custom") {
        let place = format!("{place}.type");
        return Err(untranslatable(place, "tools that Anthropic defines or runs need its own models"));
    }
    let mut function = Object::default();
    for (key, value) in entries(tool) {
        function = match &*key {
            "name" | "description" | "strict" => function.raw(&key, value),
            "input_schema" => function.raw("parameters", value),
            _ => function,
        };
    }
    Ok(Object::default().text("type", "function").raw("function", &function.end()).end())
}
