//! What a model says that has to call a tool, or to answer in JSON: the least that its schema takes.
//! It refuses to know how a completion is scheduled and written.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::error::SimApiError;

/// How deep a schema is followed.
const MAX_DEPTH: usize = 16;

/// The most properties of an object that are filled in.
const MAX_PROPERTIES: usize = 64;

/// What a completion has to be.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum OutputForm {
    /// Whatever comes.
    Text,
    /// This document.
    Json(String),
    /// A call of this function.
    Call(ForcedCall),
}

/// A call of a function.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ForcedCall {
    pub(super) name: String,
    /// A JSON text.
    pub(super) arguments: String,
    /// The client has named it; vLLM ends such a completion with `stop`.
    pub(super) is_named: bool,
}

/// The members of a chat that say what its completion has to be.
#[derive(Debug, Default, Deserialize)]
pub(super) struct FormBody {
    tools: Option<Vec<Value>>,
    tool_choice: Option<Value>,
    response_format: Option<Value>,
}

impl FormBody {
    pub(super) fn form(&self) -> Result<OutputForm, SimApiError> {
        let tools = self.tools.as_deref().unwrap_or_default();
        let choice = self.tool_choice.as_ref().unwrap_or(&Value::Null);
        let named = choice["function"]["name"].as_str();
        if named.is_some() || choice == "required" {
            let is_it = |tool: &&Value| named.is_none_or(|name| tool["function"]["name"] == name);
            let Some(tool) = tools.iter().find(is_it) else {
                let message =
                    "The tool specified in `tool_choice` does not match any of the specified `tools`";
                return Err(SimApiError::invalid(message, Some("tool_choice")));
            };
            let name = tool["function"]["name"].as_str().unwrap_or_default().to_owned();
            let arguments = example(&tool["function"]["parameters"], MAX_DEPTH).to_string();
            return Ok(OutputForm::Call(ForcedCall { name, arguments, is_named: named.is_some() }));
        }
        let format = self.response_format.as_ref().unwrap_or(&Value::Null);
        Ok(match format["type"].as_str() {
            Some("json_object") => OutputForm::Json(json!({"answer": "signal"}).to_string()),
            Some("json_schema") => {
                OutputForm::Json(example(&format["json_schema"]["schema"], MAX_DEPTH).to_string())
            }
            _ => OutputForm::Text,
        })
    }
}

/// The least value that a JSON Schema takes.
fn example(schema: &Value, depth: usize) -> Value {
    if depth == 0 {
        return Value::Null;
    }
    if let Some(value) = schema.get("const").or_else(|| schema["enum"].get(0)) {
        return value.clone();
    }
    if let Some(one) = ["anyOf", "oneOf", "allOf"].iter().find_map(|name| schema[*name].get(0)) {
        return example(one, depth - 1);
    }
    let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str());
    let is_object = schema.get("properties").is_some();
    match kind {
        Some("string") => json!("signal"),
        Some("integer") => json!(schema["minimum"].as_i64().unwrap_or(1)),
        Some("number") => json!(schema["minimum"].as_f64().unwrap_or(0.5)),
        Some("boolean") => json!(true),
        Some("array") => {
            let least = schema["minItems"].as_u64().unwrap_or(0).min(MAX_PROPERTIES as u64);
            json!((0..least).map(|_| example(&schema["items"], depth - 1)).collect::<Vec<_>>())
        }
        Some("null") => Value::Null,
        Some("object") | None if is_object || kind.is_some() => {
            let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
            let names = required.iter().filter_map(Value::as_str).take(MAX_PROPERTIES);
            let members =
                names.map(|name| (name.to_owned(), example(&schema["properties"][name], depth - 1)));
            Value::Object(members.collect::<Map<_, _>>())
        }
        _ => json!({}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(body: &Value) -> Result<OutputForm, SimApiError> {
        serde_json::from_value::<FormBody>(body.clone()).unwrap().form()
    }

    #[test]
    fn a_tool_is_called_where_the_choice_says_so_with_what_its_schema_requires() {
        let schema = json!({"type": "object", "required": ["path", "line", "mode", "tags", "inner"], "properties": {
            "path": {"type": "string"}, "line": {"type": "integer", "minimum": 3}, "mode": {"enum": ["r", "w"]},
            "tags": {"type": "array", "minItems": 1, "items": {"type": "boolean"}}, "more": {"type": "string"},
            "inner": {"properties": {"x": {"anyOf": [{"type": "number"}]}}, "required": ["x"]}}});
        let tools = json!([{"type": "function", "function": {"name": "a"}},
            {"type": "function", "function": {"name": "Read", "parameters": schema}}]);
        let named = json!({"type": "function", "function": {"name": "Read"}});
        let Ok(OutputForm::Call(call)) = form(&json!({"tools": tools, "tool_choice": named})) else {
            panic!()
        };
        assert_eq!((call.name.as_str(), call.is_named), ("Read", true));
        let arguments: Value = serde_json::from_str(&call.arguments).unwrap();
        assert_eq!(
            arguments,
            json!({"path": "signal", "line": 3, "mode": "r", "tags": [true], "inner": {"x": 0.5}})
        );
        let Ok(OutputForm::Call(call)) = form(&json!({"tools": tools, "tool_choice": "required"})) else {
            panic!()
        };
        assert_eq!((call.name.as_str(), call.arguments.as_str(), call.is_named), ("a", "{}", false));
        for choice in [json!("auto"), json!("none"), Value::Null] {
            assert_eq!(form(&json!({"tools": tools, "tool_choice": choice})).unwrap(), OutputForm::Text);
        }
        assert!(form(&json!({"tools": [], "tool_choice": named})).is_err());
    }

    #[test]
    fn an_answer_is_json_where_that_is_asked_for() {
        let schema = json!({"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]});
        let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
        assert_eq!(
            form(&json!({"response_format": format})).unwrap(),
            OutputForm::Json("{\"ok\":true}".to_owned())
        );
        assert!(matches!(
            form(&json!({"response_format": {"type": "json_object"}})),
            Ok(OutputForm::Json(_))
        ));
        assert_eq!(form(&json!({"response_format": {"type": "text"}})).unwrap(), OutputForm::Text);
    }
}
