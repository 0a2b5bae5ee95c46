//! Owns how enums of one key a variant look in the JSON Schema: as the one mapping that operators write, so that
//! editors and messages know all of its keys.

use schemars::Schema;
use serde_json::{Map, Value, json};

/// Joins the alternatives that are mappings of one key into one mapping.
pub(super) fn one_mapping(schema: &mut Schema) {
    let Some(Value::Array(alternatives)) = schema.remove("oneOf") else { return };
    let mut properties = Map::new();
    let mut others = Vec::new();
    for mut alternative in alternatives {
        let Some(Value::Object(keys)) = alternative.get_mut("properties").map(Value::take) else {
            others.push(alternative);
            continue;
        };
        for (key, mut property) in keys {
            if let (Some(description), Some(property)) =
                (alternative.get("description"), property.as_object_mut())
            {
                property.insert("description".to_owned(), description.clone());
            }
            properties.insert(key, property);
        }
    }
    let mapping = json!({"type": "object", "properties": properties, "additionalProperties": false});
    if others.is_empty() {
        schema.ensure_object().extend(mapping.as_object().cloned().unwrap_or_default());
    } else {
        others.push(mapping);
        schema.insert("oneOf".to_owned(), Value::Array(others));
    }
}

/// As [`one_mapping`], for a mapping in which exactly one key has a value.
pub(super) fn exactly_one_key(schema: &mut Schema) {
    one_mapping(schema);
    let mapping = match schema.get_mut("oneOf").and_then(Value::as_array_mut).and_then(|all| all.last_mut()) {
        Some(mapping) => mapping.as_object_mut(),
        None => Some(schema.ensure_object()),
    };
    let Some(mapping) = mapping else { return };
    mapping.insert("minProperties".to_owned(), json!(1));
    mapping.insert("maxProperties".to_owned(), json!(1));
    for property in mapping.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        if let Some(kind) = property.1.get("type").cloned() {
            property.1["type"] = json!([kind, "null"]);
        }
    }
}
