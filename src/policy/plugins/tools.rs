//! Owns which tools the model is offered. Refuses to know how tools are picked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::BasisPoints;
use crate::checker::Checker;
use crate::issue::YamlPath;

/// How many tools a file may hold.
const MAX_TOOLS: usize = 10_000;

/// Which tools the model is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tools {
    /// None.
    None,
    /// Those of the client that these lists leave.
    Filter {
        /// The names that stay; all when empty.
        allow: Vec<String>,
        /// The names that go.
        block: Vec<String>,
    },
    /// Those of the client that fit the prompt.
    Rank(ToolPick),
    /// Those of a file that fit the prompt, instead of the client's.
    Select(ToolPick, Vec<ToolSpec>),
    /// Those of a file that fit the prompt, beside the client's.
    Add(ToolPick, Vec<ToolSpec>),
}

/// How many tools are picked, and how like the prompt they must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToolPick {
    /// The most.
    pub top_k: u32,
    /// The least cosine.
    pub min_score: BasisPoints,
}

/// A tool of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolSpec {
    /// Its name.
    pub name: String,
    /// What it is for, as it is held against prompts.
    pub description: String,
    /// What models are given, as JSON: `{"type": "function", "function": {…}}`.
    pub json: String,
}

/// Which tools the model is offered.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Tools")]
pub(super) struct RawTools {
    /// What becomes of the client's tools.
    mode: RawToolsMode,
    /// For `filter`: the names that stay; all but `block` when empty.
    #[serde(default)]
    #[schemars(length(max = 1000))]
    allow: Vec<String>,
    /// For `filter`: the names that go.
    #[serde(default)]
    #[schemars(length(max = 1000))]
    block: Vec<String>,
    /// For `select` and `add`: a JSON file with a list of tools.
    #[serde(default)]
    file: Option<String>,
    /// The most tools that are picked by likeness to the prompt.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 128))]
    top_k: u32,
    /// The least likeness of a tool's description to the prompt, from 0 to 1.
    #[serde(default = "fifth")]
    min_score: BasisPoints,
}

fn three() -> u32 {
    3
}

fn fifth() -> BasisPoints {
    BasisPoints(2000)
}

/// What becomes of the client's tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ToolsMode")]
enum RawToolsMode {
    /// They stay.
    Keep,
    /// They go.
    None,
    /// Those that `allow` and `block` leave stay.
    Filter,
    /// Those of `file` that fit the prompt take their place, where the client lets the model choose.
    Select,
    /// Those of `file` that fit the prompt join them.
    Add,
    /// Of the client's own, those that fit the prompt stay.
    Rank,
}

impl RawTools {
    pub(super) fn check(self, path: &YamlPath, checker: &mut Checker<'_>) -> Option<Tools> {
        let lists = !self.allow.is_empty() || !self.block.is_empty();
        if lists && self.mode != RawToolsMode::Filter {
            checker.issue(path, "`allow` and `block` are for `mode: filter`");
        }
        let takes_file = matches!(self.mode, RawToolsMode::Select | RawToolsMode::Add);
        if takes_file != self.file.is_some() {
            let message =
                if takes_file { "the key `file` is missing" } else { "`file` is for `select` and `add`" };
            checker.issue(path, message);
        }
        let pick = ToolPick { top_k: self.top_k, min_score: self.min_score };
        let mut file = || {
            self.file.as_ref().map(|file| tools_file(file, &path.key("file"), checker)).unwrap_or_default()
        };
        match self.mode {
            RawToolsMode::Keep => None,
            RawToolsMode::None => Some(Tools::None),
            RawToolsMode::Filter => Some(Tools::Filter { allow: self.allow, block: self.block }),
            RawToolsMode::Rank => Some(Tools::Rank(pick)),
            RawToolsMode::Select => Some(Tools::Select(pick, file())),
            RawToolsMode::Add => Some(Tools::Add(pick, file())),
        }
    }
}

/// Reads a list of tools: each is what OpenAI's API takes, or holds that in `tool` beside a description for the choice.
fn tools_file(file: &str, path: &YamlPath, checker: &mut Checker<'_>) -> Vec<ToolSpec> {
    let text = match checker.read(file) {
        Ok(text) => text,
        Err(error) => {
            checker.issue(path, format!("cannot read `{file}`: {error}"));
            return Vec::new();
        }
    };
    let items = match serde_json::from_slice::<Vec<Value>>(&text) {
        Ok(items) if items.len() <= MAX_TOOLS => items,
        Ok(items) => {
            checker.issue(
                path,
                format!("`{file}` holds {} tools; at most {MAX_TOOLS} are allowed", items.len()),
            );
            return Vec::new();
        }
        Err(error) => {
            checker.issue(path, format!("`{file}` is no JSON list of tools: {error}"));
            return Vec::new();
        }
    };
    let mut tools = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        match tool(item) {
            Some(tool) => tools.push(tool),
            None => checker.issue(path, format!("`{file}`: item {index} has no `function` with a `name`")),
        }
    }
    tools
}

fn tool(item: &Value) -> Option<ToolSpec> {
    let definition = item.get("tool").unwrap_or(item);
    let function = definition.get("function")?;
    let name = function.get("name")?.as_str().filter(|name| !name.is_empty())?;
    let description = item
        .get("description")
        .filter(|_| item.get("tool").is_some())
        .or_else(|| function.get("description"));
    let description = description.and_then(Value::as_str).unwrap_or_default();
    let words = item.get("tags").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let words: Vec<&str> =
        std::iter::once(description).chain(words).filter(|words| !words.is_empty()).collect();
    let description = if words.is_empty() { name.replace(['_', '-'], " ") } else { words.join(" ") };
    Some(ToolSpec { name: name.to_owned(), description, json: definition.to_string() })
}
