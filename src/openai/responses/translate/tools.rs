//! The tools of a request as functions of a chat, and which of them is to be called.
//!
//! Refuses to know the items of calls.

use crate::Rejection;
use crate::json::object::{Object, array, elements, entries, non_null_member, string_member};
use crate::json::{self, quoted};
use crate::translate::refusal::untranslatable;

use super::names::flat_name;

/// What a custom tool's input is as a function's: one text.
pub(super) const INPUT: &str = "input";

/// The tools of which one may be called, by their names in a chat: most upstreams can be told so only by leaving out the rest.
#[derive(Debug)]
pub(super) struct AllowedTools {
    names: Vec<String>,
}

impl AllowedTools {
    /// Reads a choice; nothing if it allows every tool, or names one.
    pub(super) fn of(choice: &[u8]) -> Option<Self> {
        if !choice.starts_with(b"{") || string_member(choice, "type").as_deref() != Some("allowed_tools") {
            return None;
        }
        let tools = non_null_member(choice, "tools").into_iter().flat_map(json::array);
        let name = |tool| {
            let namespace = string_member(tool, "namespace");
            flat_name(namespace.as_deref(), &string_member(tool, "name").unwrap_or_default())
        };
        Some(Self { names: tools.map(name).collect() })
    }
}

/// Writes the client's tools as functions: those that are allowed.
pub(super) fn tools(tools: &[u8], allowed: Option<&AllowedTools>) -> Result<Vec<u8>, Rejection> {
    let mut written = Vec::new();
    write(tools, None, "tools", &mut written)?;
    written.retain(|(name, _)| allowed.is_none_or(|allowed| allowed.names.contains(name)));
    let written: Vec<_> = written.into_iter().map(|(_, tool)| tool).collect();
    Ok(array(&written))
}

fn write(
    tools: &[u8],
    namespace: Option<&str>,
    place: &str,
    written: &mut Vec<(String, Vec<u8>)>,
) -> Result<(), Rejection> {
    if !tools.starts_with(b"[") {
        return Err(untranslatable(place, "it is not a list"));
    }
    for (at, tool) in elements(tools).enumerate() {
        let place = format!("{place}.{at}");
        let name = string_member(tool, "name").unwrap_or_default();
        let flat = flat_name(namespace, &name);
        let function = match string_member(tool, "type").as_deref() {
            Some("function") | None => function(tool, &flat),
            Some("custom") => custom(tool, &flat),
            Some("namespace") if namespace.is_none() => {
                write(non_null_member(tool, "tools").unwrap_or(b"[]"), Some(&name), &place, written)?;
                continue;
            }
            Some(_) => return Err(untranslatable(place, "tools that OpenAI runs or defines are not there")),
        };
        let tool = Object::default().text("type", "function").raw("function", &function).end();
        written.push((flat, tool));
    }
    Ok(())
}

fn function(tool: &[u8], flat: &str) -> Vec<u8> {
    let mut function = Object::default().text("name", flat);
    for (key, value) in entries(tool).filter(|(_, value)| *value != b"null") {
        function = match &*key {
            "description" | "parameters" | "strict" => function.raw(&key, value),
            _ => function,
        };
    }
    function.end()
}

/// A custom tool: its grammar is told to the model, which no chat holds it to.
fn custom(tool: &[u8], flat: &str) -> Vec<u8> {
    let mut description = string_member(tool, "description").unwrap_or_default().into_owned();
    let format = non_null_member(tool, "format").unwrap_or(b"{}");
    if let Some(grammar) = string_member(format, "definition") {
        let syntax = string_member(format, "syntax").unwrap_or_default();
        description = format!("{description}\n\nThe input follows this {syntax} grammar:\n{grammar}");
    }
    let parameters = format!(
        "{{\"type\":\"object\",\"properties\":{{\"{INPUT}\":{{\"type\":\"string\"}}}},\"required\":[\"{INPUT}\"],\
         \"additionalProperties\":false}}"
    );
    let written = Object::default().text("name", flat).raw("description", &quoted(&description));
    written.raw("parameters", parameters.as_bytes()).end()
}

/// Writes which tool is to be called.
pub(super) fn tool_choice(choice: &[u8]) -> Result<Vec<u8>, Rejection> {
    if choice.starts_with(b"\"") {
        return Ok(choice.to_vec());
    }
    match string_member(choice, "type").as_deref() {
        Some("function" | "custom") => {
            let namespace = string_member(choice, "namespace");
            let name = string_member(choice, "name").unwrap_or_default();
            let function = Object::default().text("name", &flat_name(namespace.as_deref(), &name)).end();
            Ok(Object::default().text("type", "function").raw("function", &function).end())
        }
        Some("allowed_tools") => Ok(non_null_member(choice, "mode").unwrap_or(b"\"auto\"").to_vec()),
        _ => Err(untranslatable("tool_choice", "it names neither a function nor a custom tool")),
    }
}
