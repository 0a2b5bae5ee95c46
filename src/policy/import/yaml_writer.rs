//! Owns a tree to YAML text that people read: short things on one line, remarks above what they are about. Refuses to
//! know which keys a policy has.

use std::fmt::Write;

/// The widest line that is written on purpose.
const WIDTH: usize = 110;

/// A value of the text that is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum YamlValue {
    /// A number, a truth value or a duration, written as it is.
    Plain(String),
    /// A text that means itself: its dollar signs are doubled.
    Text(String),
    /// A text whose `${VAR:-default}` is meant.
    Expanded(String),
    List(Vec<YamlValue>),
    Map(YamlMapping),
}

/// The keys of a mapping, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct YamlMapping(Vec<MappingEntry>);

#[derive(Debug, Clone, PartialEq)]
struct MappingEntry {
    key: String,
    value: YamlValue,
    remark: Option<String>,
}

impl YamlMapping {
    pub(super) fn put(&mut self, key: &str, value: impl Into<YamlValue>) -> &mut Self {
        self.0.push(MappingEntry { key: key.to_owned(), value: value.into(), remark: None });
        self
    }

    /// Adds a key where there is a value for it.
    pub(super) fn maybe(&mut self, key: &str, value: Option<impl Into<YamlValue>>) -> &mut Self {
        if let Some(value) = value {
            self.put(key, value);
        }
        self
    }

    /// Says something about the key that was added last.
    pub(super) fn remark(&mut self, remark: impl Into<String>) -> &mut Self {
        if let Some(last) = self.0.last_mut() {
            last.remark = Some(remark.into());
        }
        self
    }

    /// Adds a key with a mapping that has anything in it.
    pub(super) fn filled(&mut self, key: &str, value: YamlMapping) -> &mut Self {
        if !value.is_empty() {
            self.put(key, value);
        }
        self
    }

    /// Adds a key to the mapping at another key, which is new where there was none.
    pub(super) fn put_in(&mut self, outer: &str, key: &str, value: impl Into<YamlValue>) {
        let known = self.0.iter_mut().find(|pair| pair.key == outer).map(|pair| &mut pair.value);
        match known {
            Some(YamlValue::Map(mapping)) => mapping.put(key, value),
            _ => self.put(outer, YamlValue::of(key, value)),
        };
    }

    /// Says whether there is no key at all.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Says whether a key is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.0.iter().any(|pair| pair.key == key)
    }

    /// Adds what another mapping has and this one has not.
    pub(super) fn merge(&mut self, other: YamlMapping) {
        for pair in other.0 {
            if !self.has(&pair.key) {
                self.0.push(pair);
            }
        }
    }

    /// Writes the document, with a head of remarks.
    pub(super) fn document(&self, head: &[String]) -> String {
        let mut text = String::new();
        for line in head {
            remark(&mut text, line, 0);
        }
        for (index, pair) in self.0.iter().enumerate() {
            let is_long = matches!(&pair.value, YamlValue::Map(_)) || flow(&pair.value).is_none();
            if is_long || (index == 0 && !head.is_empty()) {
                text.push('\n');
            }
            write_pair(&mut text, pair, 0, 0);
        }
        text
    }
}

impl YamlValue {
    /// Makes a mapping of one key.
    pub(super) fn of(key: &str, value: impl Into<YamlValue>) -> Self {
        let mut mapping = YamlMapping::default();
        mapping.put(key, value);
        Self::Map(mapping)
    }
}

impl From<YamlMapping> for YamlValue {
    fn from(mapping: YamlMapping) -> Self {
        Self::Map(mapping)
    }
}

impl From<&str> for YamlValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for YamlValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for YamlValue {
    fn from(flag: bool) -> Self {
        Self::Plain(flag.to_string())
    }
}

impl From<u64> for YamlValue {
    fn from(number: u64) -> Self {
        Self::Plain(number.to_string())
    }
}

impl From<i64> for YamlValue {
    fn from(number: i64) -> Self {
        Self::Plain(number.to_string())
    }
}

impl From<f64> for YamlValue {
    fn from(number: f64) -> Self {
        // Four digits are all that a score has; more would only show how fractions are stored.
        Self::Plain(((number * 10_000.0).round() / 10_000.0).to_string())
    }
}

impl From<Vec<String>> for YamlValue {
    fn from(texts: Vec<String>) -> Self {
        Self::List(texts.into_iter().map(Self::Text).collect())
    }
}

impl From<Vec<YamlValue>> for YamlValue {
    fn from(items: Vec<YamlValue>) -> Self {
        Self::List(items)
    }
}

fn remark(text: &mut String, remark: &str, indent: usize) {
    let room = WIDTH.saturating_sub(indent + 2).max(40);
    for paragraph in remark.lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            if !line.is_empty() && line.chars().count() + word.chars().count() + 1 > room {
                let _ = writeln!(text, "{:indent$}# {line}", "");
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        let _ = writeln!(text, "{:indent$}# {line}", "");
    }
}

/// Writes a key and its value; a key directly under the root has a line of its own.
fn write_pair(text: &mut String, pair: &MappingEntry, indent: usize, level: usize) {
    if let Some(said) = &pair.remark {
        remark(text, said, indent);
    }
    let _ = write!(text, "{:indent$}{}:", "", scalar(&pair.key));
    write_value(text, &pair.value, indent, level, pair.key.len() + 2);
}

fn write_value(text: &mut String, value: &YamlValue, indent: usize, level: usize, used: usize) {
    let is_open = level == 0 && matches!(value, YamlValue::Map(mapping) if !mapping.is_empty());
    let is_scalar = !matches!(value, YamlValue::Map(_) | YamlValue::List(_));
    if let Some(line) = flow(value).filter(|line| {
        is_scalar || (!is_open && !is_list_of_maps(value, level) && indent + used + line.len() <= WIDTH)
    }) {
        let _ = writeln!(text, " {line}");
        return;
    }
    text.push('\n');
    match value {
        YamlValue::Map(mapping) => {
            for pair in &mapping.0 {
                write_pair(text, pair, indent + 2, level + 1);
            }
        }
        YamlValue::List(items) => items.iter().for_each(|item| write_item(text, item, indent + 2, level + 1)),
        YamlValue::Plain(_) | YamlValue::Text(_) | YamlValue::Expanded(_) => {}
    }
}

/// Decisions are read one below the other, however short.
fn is_list_of_maps(value: &YamlValue, level: usize) -> bool {
    level <= 2
        && matches!(value, YamlValue::List(items) if items.iter().any(|item| matches!(item, YamlValue::Map(map) if map.has("name"))))
}

fn write_item(text: &mut String, item: &YamlValue, indent: usize, level: usize) {
    let has_name = matches!(item, YamlValue::Map(map) if map.has("name"));
    match (item, flow(item)) {
        (_, Some(line)) if !has_name && indent + line.len() <= WIDTH => {
            let _ = writeln!(text, "{:indent$}- {line}", "");
        }
        (YamlValue::Map(mapping), _) => {
            let mut body = String::new();
            for (index, pair) in mapping.0.iter().enumerate() {
                if index == 0 {
                    if let Some(said) = &pair.remark {
                        remark(text, said, indent);
                    }
                    write_pair(
                        &mut body,
                        &MappingEntry { remark: None, ..pair.clone() },
                        indent + 2,
                        level + 1,
                    );
                } else {
                    write_pair(&mut body, pair, indent + 2, level + 1);
                }
            }
            let _ = write!(text, "{:indent$}- {}", "", body.trim_start());
        }
        (YamlValue::List(items), _) => {
            let _ = writeln!(text, "{:indent$}-", "");
            for item in items {
                write_item(text, item, indent + 2, level + 1);
            }
        }
        (_, line) => {
            let _ = writeln!(text, "{:indent$}- {}", "", line.unwrap_or_default());
        }
    }
}

/// Writes a value on one line, unless it has a remark inside.
fn flow(value: &YamlValue) -> Option<String> {
    Some(match value {
        YamlValue::Plain(text) => text.clone(),
        YamlValue::Text(text) => scalar(&text.replace('$', "$$")),
        YamlValue::Expanded(text) => quoted(text),
        YamlValue::List(items) => {
            format!("[{}]", items.iter().map(flow).collect::<Option<Vec<_>>>()?.join(", "))
        }
        YamlValue::Map(mapping) => {
            let pairs = mapping.0.iter().map(|pair| {
                pair.remark.is_none().then_some(())?;
                Some(format!("{}: {}", scalar(&pair.key), flow(&pair.value)?))
            });
            format!("{{{}}}", pairs.collect::<Option<Vec<_>>>()?.join(", "))
        }
    })
}

/// Writes a text plainly where no reader of YAML could take it for anything else.
fn scalar(text: &str) -> String {
    const WORDS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && !text.ends_with(' ')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || " _-./@".contains(c))
        && text.len() <= 80
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
        && text.parse::<f64>().is_err();
    if is_plain { text.to_owned() } else { quoted(text) }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::yaml::{self, YamlKind};
    use super::*;

    #[test]
    fn short_things_share_a_line_and_remarks_stand_above() {
        let mut inner = YamlMapping::default();
        inner.put("any", vec!["a b".to_owned(), "on".to_owned(), "5".to_owned(), "$x".to_owned()]);
        let mut decision = YamlMapping::default();
        decision.put("name", "math").remark("why").put("priority", 10_i64).put("when", inner.clone());
        let mut root = YamlMapping::default();
        root.put("version", 1_u64).put("signals", YamlValue::of("s", inner));
        root.put("decisions", vec![YamlValue::Map(decision)]);
        let text = root.document(&["head".to_owned()]);
        let expected = "# head\n\nversion: 1\n\nsignals:\n  s: {any: [a b, \"on\", \"5\", \"$$x\"]}\n\ndecisions:\n  # why\n  \
                        - name: math\n    priority: 10\n    when: {any: [a b, \"on\", \"5\", \"$$x\"]}\n";
        assert_eq!(text, expected);
    }

    proptest! {
        #[test]
        fn every_text_comes_back_as_it_was(key in "\\PC{1,20}", text in "\\PC{0,120}") {
            let mut root = YamlMapping::default();
            root.put(&key, YamlValue::List(vec![YamlValue::Text(text.clone())]));
            let written = root.document(&[]);
            let tree = yaml::parse(&written).map_err(|issue| TestCaseError::fail(format!("{issue}: {written}")))?;
            let YamlKind::Map(entries) = tree.kind else { return Err(TestCaseError::fail(written)) };
            prop_assert_eq!(&entries[0].key, &key);
            let YamlKind::List(items) = &entries[0].value.kind else { return Err(TestCaseError::fail(written)) };
            let YamlKind::Scalar(scalar) = &items[0].kind else { return Err(TestCaseError::fail(written)) };
            prop_assert_eq!(&scalar.text, &text.replace('$', "$$"));
        }
    }
}
