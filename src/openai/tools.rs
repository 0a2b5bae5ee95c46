//! The tools that a request offers to the model.
//!
//! Owns their three shapes. Refuses to know which of them may stay.

use std::borrow::Cow;

use super::json::string::{decode, decodes_to};
use super::{ChatRequest, json};

/// How much of a tool's name is read, in bytes.
const MAX_NAME: usize = 256;

/// How much of a tool's description is read, in bytes.
const MAX_DESCRIPTION: usize = 16 * 1024;

/// One tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool<'a> {
    /// Its name, at most 256 bytes; a server's own tool, which has none, goes by its `type`.
    pub name: Cow<'a, str>,
    /// What it does, at most 16 KiB; empty if there is none.
    pub description: Cow<'a, str>,
    /// Its JSON as the client wrote it.
    pub raw: &'a [u8],
}

impl<'a> Tool<'a> {
    /// Reads a tool out of valid JSON; one of odd shape has no name.
    pub fn read(raw: &'a [u8]) -> Self {
        let shape = ToolMembers::read(raw);
        let function = shape.function.map(ToolMembers::read);
        let described = function.as_ref().unwrap_or(&shape);
        let name = described.name.or(shape.kind).unwrap_or_default();
        Self {
            name: decode(name, MAX_NAME),
            description: decode(described.description.unwrap_or_default(), MAX_DESCRIPTION),
            raw,
        }
    }
}

impl ChatRequest {
    /// Returns the elements of `tools` in their order.
    pub fn tools(&self) -> impl Iterator<Item = Tool<'_>> {
        self.member("tools").into_iter().flat_map(json::array).map(Tool::read)
    }

    /// Returns the names of the tools that the client has chosen itself in `tool_choice`.
    pub fn chosen_tools(&self) -> Vec<Cow<'_, str>> {
        self.member("tool_choice").map(named_tools).unwrap_or_default()
    }

    /// Says whether the client leaves it to the model which tool it calls, if any.
    pub fn has_free_tool_choice(&self) -> bool {
        let Some(choice) = self.member("tool_choice").filter(|choice| *choice != b"null") else {
            return true;
        };
        named_tools(choice).is_empty() && matches!(choice_kind(choice), Some(b"auto" | b"any" | b"required"))
    }

    /// Says whether the client wants some tool to be called.
    pub fn requires_tool(&self) -> bool {
        let kind = self.member("tool_choice").and_then(choice_kind);
        matches!(kind, Some(b"any" | b"required"))
    }
}

/// The word of a `tool_choice`: the text itself, or Anthropic's `type`.
fn choice_kind(choice: &[u8]) -> Option<&[u8]> {
    json::string(choice).or_else(|| {
        json::object(choice)
            .find(|(key, _)| decodes_to(key, "type"))
            .and_then(|(_, value)| json::string(value))
    })
}

/// Returns the names of the tools in `tool_choice`.
pub(super) fn named_tools(choice: &[u8]) -> Vec<Cow<'_, str>> {
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

/// The members of a tool, or of the function in it.
#[derive(Default)]
pub(super) struct ToolMembers<'a> {
    /// `type`, `name` and `description`, between their quotes.
    kind: Option<&'a [u8]>,
    pub(super) name: Option<&'a [u8]>,
    pub(super) description: Option<&'a [u8]>,
    pub(super) function: Option<&'a [u8]>,
    /// `parameters` or, as Anthropic calls it, `input_schema`.
    pub(super) parameters: Option<&'a [u8]>,
}

impl<'a> ToolMembers<'a> {
    /// Reads a tool, or the function in it.
    pub(super) fn read(raw: &'a [u8]) -> Self {
        let mut shape = Self::default();
        for (key, value) in json::object(raw) {
            if decodes_to(key, "type") {
                shape.kind = json::string(value);
            } else if decodes_to(key, "name") {
                shape.name = json::string(value);
            } else if decodes_to(key, "description") {
                shape.description = json::string(value);
            } else if decodes_to(key, "function") {
                shape.function = value.starts_with(b"{").then_some(value);
            } else if decodes_to(key, "parameters") || decodes_to(key, "input_schema") {
                shape.parameters = Some(value);
            }
        }
        shape
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::Api;
    use super::*;

    #[test]
    fn tools_are_known_in_all_their_shapes() {
        let body = r#"{"model":"m","tools":[ {"type":"function","function":{"name":"a","description":"d\u00e9"}} ,
            {"type":"function","name":"b","description":"e"},{"name":"c","input_schema":{}},{"type":"web_search"},7]}"#;
        let request = ChatRequest::parse(Bytes::from(body)).unwrap();
        let tools: Vec<_> = request.tools().collect();
        let shown: Vec<_> = tools.iter().map(|tool| (&*tool.name, &*tool.description)).collect();
        assert_eq!(shown, [("a", "dé"), ("b", "e"), ("c", ""), ("web_search", ""), ("", "")]);
        assert_eq!(tools[3].raw, br#"{"type":"web_search"}"#);
        let none = ChatRequest::parse(Bytes::from(r#"{"model":"m","tools":{"a":1}}"#)).unwrap();
        assert_eq!(none.tools().count(), 0);
    }

    #[test]
    fn a_tool_takes_the_shape_of_the_api() {
        let chat =
            br#"{"type":"function","function":{"name":"a","description":"d\u00e9","parameters":{"x":1.0}}}"#;
        let convert = |raw, api: Api| (api.dialect().request.convert_tool)(raw).into_owned();
        let shape = |api| String::from_utf8(convert(chat, api)).unwrap();
        assert_eq!(shape(Api::Chat).as_bytes(), chat);
        assert_eq!(
            shape(Api::Responses),
            r#"{"type":"function","name":"a","description":"d\u00e9","parameters":{"x":1.0}}"#
        );
        assert_eq!(shape(Api::Messages), r#"{"name":"a","description":"d\u00e9","input_schema":{"x":1.0}}"#);
        assert_eq!(
            convert(br#"{"function":{"name":"a"}}"#, Api::Messages),
            &br#"{"name":"a","input_schema":{"type":"object"}}"#[..]
        );
        assert_eq!(convert(b"{\"name\":\"b\"}", Api::Responses), &b"{\"name\":\"b\"}"[..]);
    }
}
