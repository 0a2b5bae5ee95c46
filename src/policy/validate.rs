//! Owns the meeting of a tree and a JSON Schema: everything of the wrong kind is named, and what is right comes
//! out as JSON. Refuses to know any key of ours, and to say what a value expanded to.

use std::collections::HashMap;

use serde_json::{Map, Number, Value};

use super::duration::duration_error;
use super::issue::{Issue, MAX_ISSUES, Position, YamlPath, near_miss};
use super::size::{SIZE, SIZE_EXPECTED, parse_size};
use super::yaml::{Scalar, Style, YamlEntry, YamlKind, YamlNode};

/// How the message about a key starts that the schema doesn't have.
pub(super) const UNKNOWN_KEY: &str = "unknown key";

/// The JSON of a tree without its faulty parts, and the faults.
pub(super) fn validate(root: &YamlNode, schema: &Value) -> (Option<Value>, Vec<Issue>) {
    let mut validator = Validator { root: schema, issues: Vec::new() };
    let value = validator.node(root, root.mark, schema, &YamlPath::default());
    (value, validator.issues)
}

struct Validator<'a> {
    root: &'a Value,
    issues: Vec<Issue>,
}

impl<'a> Validator<'a> {
    fn issue(&mut self, path: &YamlPath, mark: Position, message: String, suggestion: Option<String>) {
        if self.issues.len() >= MAX_ISSUES {
            return;
        }
        let (line, column) = (mark.line, mark.column);
        self.issues.push(Issue { path: path.to_string(), line, column, message, suggestion, excerpt: None });
    }

    /// Gives a node's JSON, or nothing where it is of no use; the issue is recorded then.
    fn node(&mut self, node: &YamlNode, mark: Position, schema: &'a Value, path: &YamlPath) -> Option<Value> {
        let shapes = self.shapes(schema);
        match &node.kind {
            YamlKind::Map(entries) => {
                if let Some(shape) = shapes.iter().find(|shape| accepts(shape, "object")) {
                    return self.map(entries, mark, shape, path);
                }
            }
            YamlKind::List(items) => {
                if let Some(shape) = shapes.iter().find(|shape| accepts(shape, "array")) {
                    return Some(self.list(items, mark, shape, path));
                }
            }
            YamlKind::Scalar(scalar) => return self.scalar(scalar, node.mark, &shapes, path),
        }
        let found = if matches!(node.kind, YamlKind::Map(_)) { "a mapping" } else { "a list" };
        self.issue(path, mark, format!("expected {}, found {found}", expected(&shapes)), None);
        None
    }

    /// Gives a mapping without its faulty optional keys, or nothing where what is left makes no whole.
    fn map(
        &mut self,
        entries: &[YamlEntry],
        mark: Position,
        schema: &'a Value,
        path: &YamlPath,
    ) -> Option<Value> {
        let properties = schema.get("properties").and_then(Value::as_object);
        let others = schema.get("additionalProperties").filter(|others| others.is_object());
        let mut map = Map::new();
        let mut seen: HashMap<&str, Position> = HashMap::new();
        let mut whole = true;
        for entry in entries {
            let path = path.key(&entry.key);
            let name = properties.and_then(|known| present_name(known, &entry.key)).unwrap_or(&entry.key);
            if let Some(first) = seen.get(name) {
                let message = format!("the key stands twice; it is first on line {}", first.line);
                self.issue(&path, entry.mark, message, None);
                continue;
            }
            seen.insert(name, entry.mark);
            if entry.key == "<<" {
                self.issue(
                    &path,
                    entry.mark,
                    "merge keys are not supported; alias whole values".to_owned(),
                    None,
                );
                continue;
            }
            let known = properties.and_then(|known| known.get(name));
            let Some(schema) = known.or(others) else {
                let known = properties.into_iter().flat_map(|known| known.keys().map(String::as_str));
                self.issue(&path, entry.mark, unknown_key(&entry.key, known), None);
                continue;
            };
            match self.node(&entry.value, entry.mark, schema, &path) {
                Some(value) => {
                    map.insert(name.to_owned(), value);
                }
                // A name that others refer to must not be left out.
                None => whole &= known.is_some(),
            }
        }
        for key in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
            let key = key.as_str().unwrap_or_default();
            whole &= map.contains_key(key);
            if !seen.contains_key(key) {
                self.issue(path, mark, format!("the key `{key}` is missing"), None);
            }
        }
        if takes_one_key(schema) {
            return self.single(map, entries.len(), mark, schema, path);
        }
        self.count(entries.len(), ["minProperties", "maxProperties"], mark, schema, path);
        whole.then_some(Value::Object(map))
    }

    /// Gives the mapping of an enum, in which exactly one key has a value.
    fn single(
        &mut self,
        mut map: Map<String, Value>,
        written: usize,
        mark: Position,
        schema: &Value,
        path: &YamlPath,
    ) -> Option<Value> {
        if map.len() < written {
            return None; // One of its keys has an issue already.
        }
        map.retain(|_, value| !value.is_null());
        if map.len() == 1 {
            return Some(Value::Object(map));
        }
        let keys = schema.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::keys);
        let keys: Vec<String> = keys.map(|key| format!("`{key}`")).collect();
        self.issue(path, mark, format!("needs exactly one of {}", keys.join(" and ")), None);
        None
    }

    /// Gives a list up to its first faulty item, so that each item keeps its index.
    fn list(&mut self, items: &[YamlNode], mark: Position, schema: &'a Value, path: &YamlPath) -> Value {
        self.count(items.len(), ["minItems", "maxItems"], mark, schema, path);
        let limit = schema.get("maxItems").and_then(Value::as_u64).map_or(usize::MAX, |limit| limit as usize);
        let Some(schema) = schema.get("items") else { return Value::Array(Vec::new()) };
        let items = items.iter().take(limit).enumerate();
        let values: Vec<Option<Value>> =
            items.map(|(index, item)| self.node(item, item.mark, schema, &path.index(index))).collect();
        Value::Array(values.into_iter().map_while(|value| value).collect())
    }

    fn count(&mut self, count: usize, bounds: [&str; 2], mark: Position, schema: &Value, path: &YamlPath) {
        let [least, most] = bounds.map(|bound| schema.get(bound).and_then(Value::as_u64));
        if let Some(least) = least.filter(|least| (count as u64) < *least) {
            let message =
                if least == 1 { "must not be empty".to_owned() } else { format!("needs at least {least}") };
            self.issue(path, mark, message, None);
        }
        if let Some(most) = most.filter(|most| count as u64 > *most) {
            self.issue(path, mark, format!("at most {most} are allowed, found {count}"), None);
        }
    }

    fn scalar(
        &mut self,
        scalar: &Scalar,
        mark: Position,
        shapes: &[&Value],
        path: &YamlPath,
    ) -> Option<Value> {
        let candidates = match parse_size(&scalar.text) {
            Some(bytes) if shapes.iter().any(|shape| format(shape) == Some(SIZE)) => vec![Value::from(bytes)],
            _ => candidates(scalar),
        };
        let fitting = candidates.iter().find_map(|value| {
            let shape = shapes.iter().find(|shape| !is_choice(shape) && accepts(shape, kind(value)))?;
            Some((value, *shape))
        });
        if let Some((value, shape)) = fitting {
            let Some(message) = fault(value, shape) else { return Some(value.clone()) };
            self.issue(path, mark, message, None);
            return within(value, shape);
        }
        let choices = choices(shapes);
        if let Some(choice) = candidates.iter().find(|value| choices.contains(value)) {
            return Some(choice.clone());
        }
        self.mismatch(scalar, mark, shapes, path);
        None
    }

    fn mismatch(&mut self, scalar: &Scalar, mark: Position, shapes: &[&Value], path: &YamlPath) {
        let choices = choices(shapes);
        let words = || choices.iter().filter_map(Value::as_str);
        // What a variable expanded to may be a secret, so it is never repeated.
        if choices.is_empty() || scalar.style == Style::Expanded {
            let plain = scalar.style == Style::Plain;
            let literal = if plain { core(&scalar.text) } else { Value::String(String::new()) };
            let takes_text = |shape: &&Value| accepts(shape, "string") && format(shape).is_none();
            let quotable = (literal.is_number() || literal.is_boolean()) && shapes.iter().any(takes_text);
            let suggestion = quotable.then(|| format!("\"{}\"", scalar.text));
            let message = format!("expected {}, found {}", expected(shapes), article(kind(&literal)));
            return self.issue(path, mark, message, suggestion);
        }
        let listed: Vec<String> = words().map(|word| format!("`{word}`")).collect();
        let shown: String = scalar.text.chars().take(64).collect();
        let message = format!("`{shown}` is not one of {}", listed.join(", "));
        let suggestion = words()
            .find(|word| scalar.style == Style::Plain && *word == scalar.text)
            .map(|word| format!("\"{word}\""))
            .or_else(|| near_miss(&scalar.text, words()));
        self.issue(path, mark, message, suggestion);
    }

    /// Gives the alternatives of a schema, each without references.
    fn shapes(&self, schema: &'a Value) -> Vec<&'a Value> {
        let mut shapes = Vec::new();
        let mut open = vec![schema];
        while let Some(schema) = open.pop() {
            let reference = schema.get("$ref").and_then(Value::as_str);
            let alternatives = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array);
            if let Some(reference) = reference {
                open.extend(self.root.pointer(reference.trim_start_matches('#')));
            } else if let Some(alternatives) = alternatives {
                open.extend(alternatives.iter().rev());
            } else {
                shapes.push(schema);
            }
        }
        shapes
    }
}

/// Gives what a scalar may mean, the likeliest first.
fn candidates(scalar: &Scalar) -> Vec<Value> {
    let string = || Value::String(scalar.text.clone());
    match scalar.style {
        Style::Quoted => vec![string()],
        Style::Plain => vec![core(&scalar.text)],
        Style::Expanded if scalar.text.is_empty() => vec![Value::Null, string()],
        Style::Expanded => vec![string(), core(&scalar.text)],
    }
}

/// Types a plain scalar by the YAML 1.2 core schema; what JSON cannot hold stays a string.
pub(super) fn core(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    let radix =
        |prefix, radix| text.strip_prefix(prefix).and_then(|digits| i64::from_str_radix(digits, radix).ok());
    if let Some(integer) = unsigned.parse().ok().or_else(|| radix("0x", 16)).or_else(|| radix("0o", 8)) {
        return Value::from(integer);
    }
    let looks_numeric = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
        && text.contains(|c: char| c.is_ascii_digit());
    let float = text.parse().ok().filter(|_| looks_numeric).and_then(Number::from_f64);
    float.map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Whether a schema's `type` allows a kind; an integer is a number too.
fn accepts(schema: &Value, kind: &str) -> bool {
    let is = |name: &Value| name == kind || (name == "number" && kind == "integer");
    match schema.get("type") {
        Some(Value::Array(names)) => names.iter().any(is),
        Some(name) => is(name),
        None => false,
    }
}

/// Finds the present name of a key that once had another: one that tools which read YAML 1.1 take for a boolean.
fn present_name<'a>(known: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    if known.contains_key(key) {
        return None;
    }
    let was = |property: &Value| property.get("x-formerly").and_then(Value::as_str) == Some(key);
    known.iter().find(|(_, property)| was(property)).map(|(name, _)| name.as_str())
}

/// Says which keys there are instead of an unknown one, the likely one first.
fn unknown_key<'k>(key: &str, known: impl Iterator<Item = &'k str>) -> String {
    let mut known: Vec<&str> = known.collect();
    known.sort_unstable();
    let list = known.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
    match near_miss(key, known) {
        Some(likely) => format!("{UNKNOWN_KEY}; did you mean `{likely}`? There are {list}"),
        None if list.is_empty() => format!("{UNKNOWN_KEY}; there are none here"),
        None => format!("{UNKNOWN_KEY}; there are {list}"),
    }
}

/// Whether a schema is that of an enum whose variants are keys.
fn takes_one_key(schema: &Value) -> bool {
    schema.get("properties").is_some() && schema.get("maxProperties").is_some_and(|most| most == 1)
}

fn is_choice(schema: &Value) -> bool {
    schema.get("const").is_some() || schema.get("enum").is_some()
}

fn choices(shapes: &[&Value]) -> Vec<Value> {
    let listed = |shape: &&Value| match (shape.get("const"), shape.get("enum")) {
        (Some(value), _) => vec![value.clone()],
        (None, Some(Value::Array(values))) => values.clone(),
        _ => Vec::new(),
    };
    shapes.iter().flat_map(listed).collect()
}

/// Names the alternatives for a reader, or takes the schema's own words in `x-expected`.
fn expected(shapes: &[&Value]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for shape in shapes {
        if let Some(words) = shape.get("x-expected").and_then(Value::as_str) {
            names.push(words);
            continue;
        }
        for name in ["string", "integer", "number", "boolean", "array", "object"] {
            let by_integer = name == "integer" && accepts(shape, "number");
            if accepts(shape, name) && !by_integer && !names.contains(&article(name)) {
                names.push(article(name));
            }
        }
    }
    names.join(" or ")
}

fn article(kind: &str) -> &'static str {
    match kind {
        "null" => "nothing",
        "boolean" => "true or false",
        "number" => "a number",
        "integer" => "a whole number",
        "string" => "a string",
        "array" => "a list",
        _ => "a mapping",
    }
}

/// The format of a text that the JSON Schema can't say all of.
fn format(schema: &Value) -> Option<&str> {
    schema.get("x-format").and_then(Value::as_str)
}

/// Says how a value of the right kind breaks the schema's bounds.
fn fault(value: &Value, schema: &Value) -> Option<String> {
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    if let Some(number) = value.as_f64() {
        let [least, most] = [bound("minimum"), bound("maximum")];
        let outside = least.is_some_and(|least| number < least) || most.is_some_and(|most| number > most);
        return outside.then(|| match (least, most) {
            (Some(least), Some(most)) if least >= most => format!("must be {most}"),
            (Some(least), Some(most)) => format!("must be between {least} and {most}"),
            (Some(least), None) => format!("must be at least {least}"),
            (_, most) => format!("must be at most {}", most.unwrap_or_default()),
        });
    }
    let text = value.as_str()?;
    match format(schema) {
        Some(SIZE) => return Some(format!("not a size; write {SIZE_EXPECTED}")),
        Some(format) => return duration_error(text, format).map(|error| error.to_string()),
        None => {}
    }
    let length = text.chars().count() as f64;
    if bound("minLength").is_some_and(|least| length < least) {
        return Some("must not be empty".to_owned());
    }
    bound("maxLength").filter(|most| length > *most).map(|most| format!("is longer than {most} characters"))
}

/// Gives the substitute for a value out of bounds, so that the rest is still checked.
fn within(value: &Value, schema: &Value) -> Option<Value> {
    if !value.is_number() {
        return format(schema).is_none().then(|| value.clone());
    }
    schema.get("minimum").or_else(|| schema.get("maximum")).cloned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::yaml::parse;
    use super::*;

    fn schema() -> Value {
        json!({
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "port": {"type": "integer", "minimum": 1, "maximum": 65535},
                "share": {"type": ["number", "null"]},
                "name": {"type": ["string", "null"], "minLength": 1},
                "on": {"type": "boolean"},
                "mode": {"$ref": "#/$defs/Mode"},
                "items": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/Item"}]}},
            },
            "$defs": {
                "Mode": {"oneOf": [{"type": "string", "const": "fast"}, {"type": "string", "enum": ["slow", "1"]}]},
                "Item": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
            },
        })
    }

    fn checked(text: &str) -> (Option<Value>, Vec<String>) {
        let (value, issues) = validate(&parse(text).unwrap(), &schema());
        (value, issues.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn scalars_take_the_type_that_is_expected() {
        let text = "port: 0x50\nshare: 1e-1\nname: \"5\"\non: TRUE\nmode: slow\nitems: [a, {x: +5}]\n";
        let json = json!({"port": 80, "share": 0.1, "name": "5", "on": true, "mode": "slow", "items": ["a", {"x": 5}]});
        assert_eq!(checked(text), (Some(json), Vec::new()));
        assert_eq!(checked("share: ~\nname:\n"), (Some(json!({"share": null, "name": null})), Vec::new()));
    }

    #[test]
    fn what_is_of_the_wrong_kind_is_named_and_left_out() {
        let (value, issues) = checked("port: \"80\"\nname: 5\non: {}\nmode: fats\nitems: {}\n");
        assert_eq!(value, Some(json!({})));
        assert_eq!(
            issues,
            [
                "port (line 1): expected a whole number, found a string",
                "name (line 2): expected a string, found a whole number; did you mean `\"5\"`?",
                "on (line 3): expected true or false, found a mapping",
                "mode (line 4): `fats` is not one of `fast`, `slow`, `1`; did you mean `fast`?",
                "items (line 5): expected a list, found a mapping",
            ]
        );
    }

    #[test]
    fn a_number_out_of_bounds_is_replaced_so_that_the_rest_is_checked() {
        let (value, issues) = checked("port: 70000\nname: \"\"\n");
        assert_eq!(value, Some(json!({"port": 1, "name": ""})));
        assert_eq!(
            issues,
            ["port (line 1): must be between 1 and 65535", "name (line 2): must not be empty"]
        );
    }

    #[test]
    fn a_list_keeps_its_indexes_up_to_the_first_fault() {
        let (value, issues) = checked("items: [a, {y: 1}, b, 5]\n");
        assert_eq!(value, Some(json!({"items": ["a"]})));
        assert_eq!(issues.len(), 3, "{issues:?}");
    }

    #[test]
    fn an_expanded_scalar_fits_what_is_expected_and_is_never_repeated() {
        let mut tree = parse("port: x\nname: x\nmode: x\n").unwrap();
        let YamlKind::Map(entries) = &mut tree.kind else { panic!("a mapping") };
        for (entry, text) in entries.iter_mut().zip(["443", "443", "sk-secret"]) {
            entry.value.kind = YamlKind::Scalar(Scalar { text: text.to_owned(), style: Style::Expanded });
        }
        let (value, issues) = validate(&tree, &schema());
        assert_eq!(value, Some(json!({"port": 443, "name": "443"})));
        assert_eq!(issues.len(), 1);
        assert!(!issues[0].to_string().contains("sk-secret"), "{}", issues[0]);
    }
}
