//! Owns Kubernetes manifests as data: each document of a text as JSON, whatever it says. Refuses to know kinds.

use serde_json::{Map, Value};

use super::issue::Issue;
use super::validate::core;
use super::yaml::{self, Style, YamlKind, YamlNode};

/// Reads every document of a text; the items of a `List` stand for themselves. Of a key that stands twice the last holds.
pub fn manifests(text: &str) -> Result<Vec<Value>, Issue> {
    let documents = yaml::parse_all(text)?;
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
}
