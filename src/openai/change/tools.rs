//! Which tools the model is offered.
//!
//! Owns what else names a removed tool. Refuses to choose the tools.

use std::borrow::Cow;
use std::collections::HashSet;

use super::super::json::string::{decode, decodes_to};
use super::super::{Api, ChatRequest, Edit, Tool, json};
use super::list::List;
use super::member::{remove, set};

/// The members about tools; `functions` and `function_call` are how it was before `tools`.
const TOOL_MEMBERS: [&str; 5] = ["tools", "tool_choice", "parallel_tool_calls", "functions", "function_call"];

/// How much of a chosen tool's name is read, in bytes; as much as of a tool's.
const MAX_NAME: usize = 256;

/// Keeps elements of `tools` by index, and `tool_choice` only if it names none that is removed.
pub(super) fn keep(request: &ChatRequest, kept: &[usize]) -> Vec<Edit> {
    let Some(list) = List::array(request, "tools") else {
        return if kept.is_empty() { remove(request, &TOOL_MEMBERS) } else { Vec::new() };
    };
    let kept: HashSet<usize> = kept.iter().copied().collect();
    let removed: Vec<usize> = (0..list.items.len()).filter(|index| !kept.contains(index)).collect();
    if removed.len() == list.items.len() {
        return remove(request, &TOOL_MEMBERS);
    }
    let mut edits = list.remove(&removed);
    if edits.is_empty() {
        return edits;
    }
    let tools = request.tools().enumerate().filter(|(index, _)| kept.contains(index));
    let offered: HashSet<Cow<'_, str>> = tools.map(|(_, tool)| tool.name).collect();
    let names_removed = |choice| !chosen(choice).iter().all(|name| offered.contains(name));
    if request.member("tool_choice").is_some_and(names_removed) {
        edits.extend(remove(request, &["tool_choice"]));
    }
    edits
}

/// Adds tools that are not offered yet.
pub(super) fn add(request: &ChatRequest, api: Api, tools: &[Vec<u8>]) -> Vec<Edit> {
    let mut names: HashSet<Cow<'_, str>> = request.tools().map(|tool| tool.name).collect();
    let mut added = Vec::new();
    for raw in tools {
        if names.insert(Tool::read(raw).name) {
            added.push((api.dialect().request.convert_tool)(raw));
        }
    }
    if added.is_empty() {
        return Vec::new();
    }
    let added = added.join(&b","[..]);
    match List::array(request, "tools") {
        Some(list) => vec![list.append(added)],
        None => set(request, &["tools"], &[b"[", &added[..], b"]"].concat()),
    }
}

/// Returns the names of the tools in `tool_choice`.
fn chosen(choice: &[u8]) -> Vec<Cow<'_, str>> {
    let (mut kind, mut names, mut is_named) = (None, Vec::new(), false);
    for (key, value) in json::object(choice) {
        if decodes_to(key, "type") {
            kind = json::string(value);
        } else if decodes_to(key, "name") || decodes_to(key, "function") || decodes_to(key, "custom") {
            is_named = true;
            let name = json::string(value).or_else(|| json::member(value, "name").and_then(json::string));
            names.extend(name.map(|inside| decode(inside, MAX_NAME)));
        } else if decodes_to(key, "tools") || decodes_to(key, "allowed_tools") {
            is_named = true;
            let tools = if value.starts_with(b"{") { json::member(value, "tools") } else { Some(value) };
            let tools = tools.into_iter().flat_map(json::array);
            names.extend(tools.map(|tool| Tool::read(tool).name));
        }
    }
    // A server's own tool is chosen by its type; these types choose no tool of their own.
    let kind = kind.map(|inside| decode(inside, MAX_NAME)).filter(|_| !is_named);
    names.extend(kind.filter(|kind| !matches!(&**kind, "auto" | "any" | "none" | "required")));
    names
}
