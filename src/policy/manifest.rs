//! Owns Kubernetes manifests as data: each document of a text as JSON, whatever it says. Refuses to know kinds.

use serde_json::{Map, Value};

use super::issue::Issue;
use super::validate::core;
use super::yaml::{self, Style, YamlKind, YamlNode};

/// Reads every document of a text; the items of a `List` stand for themselves. Of a key that stands twice the last holds.
pub fn manifests(text: &str) -> Result<Vec<Value>, Issue> {
    let documents = parsed(text)?;
    let mut objects = Vec::new();
    for document in &documents {
        match value(document) {
            Value::Null => {}
            Value::Object(mut list) if list.get("kind").is_some_and(|kind| kind == "List") => {
                if let Some(Value::Array(items)) = list.remove("items") {
                    objects.extend(items);
                }
            }
            object => objects.push(object),
        }
    }
    Ok(objects)
}

/// How many brackets are moved.
const MAX_MOVED: usize = 256;

/// Parses a text as Kubernetes' own reader does, which takes the bracket that closes a list or a mapping at any indentation,
/// where YAML wants it deeper than its key.
fn parsed(text: &str) -> Result<Vec<YamlNode>, Issue> {
    let first = match yaml::parse_all(text) {
        Ok(documents) => return Ok(documents),
        Err(issue) => issue,
    };
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    let mut line = first.line;
    for _moved in 0..MAX_MOVED {
        let closes = |text: &&mut String| text.trim_start().starts_with([']', '}']);
        let Some(closing) = line.checked_sub(1).and_then(|at| lines.get_mut(at)).filter(closes) else {
            break;
        };
        closing.insert_str(0, "                ");
        match yaml::parse_all(&lines.concat()) {
            Ok(documents) => return Ok(documents),
            // The same again: it is not the bracket.
            Err(issue) if issue.line <= line => break,
            Err(issue) => line = issue.line,
        }
    }
    Err(first)
}

fn value(node: &YamlNode) -> Value {
    match &node.kind {
        YamlKind::Scalar(scalar) if scalar.style == Style::Plain => core(&scalar.text),
        YamlKind::Scalar(scalar) => scalar.text.clone().into(),
        YamlKind::List(items) => items.iter().map(value).collect(),
        YamlKind::Map(entries) => {
            let pairs = entries.iter().map(|entry| (entry.key.clone(), value(&entry.value)));
            Value::Object(pairs.collect::<Map<_, _>>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn documents_and_lists_are_objects_with_typed_scalars() {
        let text = "kind: A\nport: 80\non: true\ntext: '80'\nnone: ~\n---\n# nothing\n---\nkind: List\nitems: [{kind: B}, {kind: C}]\n";
        let objects = manifests(text).unwrap();
        assert_eq!(objects[0], json!({"kind": "A", "port": 80, "on": true, "text": "80", "none": null}));
        let kinds: Vec<_> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["A", "B", "C"]);
        assert!(manifests("a: [").is_err());
    }

    #[test]
    fn a_bracket_may_close_where_kubectl_lets_it() {
        let text = "kind: A\nspec:\n  args: [\n    x\n  ]\n  more: {\n    y: 1\n  }\nlast: 1\n";
        let expected = json!([{"kind": "A", "spec": {"args": ["x"], "more": {"y": 1}}, "last": 1}]);
        assert_eq!(json!(manifests(text).unwrap()), expected);
        assert_eq!(
            manifests("a:\n  b: [\n  ]]\n").unwrap_err().line,
            3,
            "what is wrong is said of the text as it is"
        );
    }
}
