//! Which tools the model is offered.
//!
//! Owns what else names a removed tool. Refuses to choose the tools.

use std::borrow::Cow;
use std::collections::HashSet;

use super::super::tools::named_tools;
use super::super::{Api, ChatRequest, Edit, Tool};
use super::list::List;
use super::member::{remove, set};

/// The members about tools; `functions` and `function_call` are how it was before `tools`.
const TOOL_MEMBERS: [&str; 5] = ["tools", "tool_choice", "parallel_tool_calls", "functions", "function_call"];

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
    let names_removed = |choice| !named_tools(choice).iter().all(|name| offered.contains(name));
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
