//! Owns reading a document key by key, which records the outcome of each key. Refuses to know what keys mean.

use std::rc::Rc;

use super::super::issue::{Position, YamlPath};
use super::super::yaml::{Style, YamlEntry, YamlKind, YamlNode};
use super::report::{ImportReport, KeyOutcome, SourceDocument};

/// One node of a document with its place.
#[derive(Clone)]
pub(super) struct SourceNode<'a> {
    node: &'a YamlNode,
    mark: Position,
    path: YamlPath,
    document: usize,
    report: &'a ImportReport,
    /// Replaces `decisions[]` in the report.
    within: Option<Rc<str>>,
    /// Whether keys are spelled in camelCase, as in the objects of Kubernetes.
    is_camel: bool,
}

impl<'a> SourceNode<'a> {
    /// Starts at the root of a document.
    pub(super) fn root(index: usize, document: &'a SourceDocument, report: &'a ImportReport) -> Self {
        let (node, path) = (&document.root, YamlPath::default());
        Self { node, mark: node.mark, path, document: index, report, within: None, is_camel: false }
    }

    /// Has `snake_case` keys found as `snakeCase` from here on.
    pub(super) fn in_camel_case(mut self) -> Self {
        self.is_camel = true;
        self
    }

    /// Names the decision in outcomes from here on.
    pub(super) fn within(mut self, name: &str) -> Self {
        self.within = Some(format!("decisions.{name}").into());
        self
    }

    fn child(&self, node: &'a YamlNode, mark: Position, path: YamlPath) -> Self {
        let (document, report) = (self.document, self.report);
        let (within, is_camel) = (self.within.clone(), self.is_camel);
        Self { node, mark, path, document, report, within, is_camel }
    }

    /// The entry of a key. What a plugin configures is spelled in one way everywhere.
    fn entry(&self, key: &str) -> Option<&'a YamlEntry> {
        let YamlKind::Map(entries) = &self.node.kind else { return None };
        let find = |key: &str| entries.iter().find(|entry| entry.key == key);
        if self.is_camel && key.contains('_') {
            find(&camel_case(key)).or_else(|| find(key))
        } else {
            find(key)
        }
    }

    /// Gives the value of a key, unless it is missing or null.
    pub(super) fn get(&self, key: &str) -> Option<Self> {
        let entry = self.entry(key)?;
        let mut view = self.child(&entry.value, entry.mark, self.path.key(&entry.key));
        view.is_camel &= key != "configuration";
        if view.is_null() {
            view.ignored("empty");
            return None;
        }
        if self.is_camel && entry.key.contains('_') && key != "on_unknown" {
            let meant = camel_case(key);
            view.broken(
                &format!("objects of this kind have no such key: `{meant}` is meant"),
                "read as that",
            );
        }
        Some(view)
    }

    /// Follows several keys.
    pub(super) fn at(&self, keys: &[&str]) -> Option<Self> {
        keys.iter().try_fold(self.clone(), |view, key| view.get(key))
    }

    /// Whether a key is there, with or without a value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    /// Gives the keys of a mapping with their values.
    pub(super) fn entries(&self) -> Vec<(&'a str, Self)> {
        let YamlKind::Map(entries) = &self.node.kind else { return Vec::new() };
        let view = |entry: &'a YamlEntry| {
            let view = self.child(&entry.value, entry.mark, self.path.key(&entry.key));
            (entry.key.as_str(), view)
        };
        entries.iter().map(view).collect()
    }

    /// Gives the items of a list.
    pub(super) fn items(&self) -> Vec<Self> {
        let YamlKind::List(items) = &self.node.kind else { return Vec::new() };
        let view = |(index, node): (usize, &'a YamlNode)| self.child(node, node.mark, self.path.index(index));
        items.iter().enumerate().map(view).collect()
    }

    /// Gives the items of the list at a key.
    pub(super) fn list(&self, key: &str) -> Vec<Self> {
        self.get(key).map(|view| view.items()).unwrap_or_default()
    }

    /// Whether this is a mapping.
    pub(super) fn is_map(&self) -> bool {
        matches!(self.node.kind, YamlKind::Map(_))
    }

    fn is_null(&self) -> bool {
        matches!(&self.node.kind, YamlKind::Scalar(scalar)
            if scalar.style == Style::Plain && ["", "~", "null", "Null", "NULL"].contains(&scalar.text.as_str()))
    }

    /// Gives the text of a scalar.
    pub(super) fn text(&self) -> Option<&'a str> {
        match &self.node.kind {
            YamlKind::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }

    /// Gives the scalar at a key without recording anything.
    pub(super) fn peek(&self, key: &str) -> Option<&'a str> {
        self.get(key)?.text()
    }

    /// Gives the texts of a list of scalars; a scalar is a list of one.
    pub(super) fn texts(&self) -> Vec<String> {
        match &self.node.kind {
            YamlKind::Scalar(scalar) => vec![scalar.text.clone()],
            _ => self.items().iter().filter_map(|item| item.text().map(str::to_owned)).collect(),
        }
    }

    /// Takes the text at a key.
    pub(super) fn take(&self, key: &str, to: &str) -> Option<String> {
        let view = self.get(key)?;
        let text = view.text().map(str::to_owned);
        view.settle(text.is_some(), to, "a text");
        text
    }

    /// Takes the texts at a key; an empty list where there are none.
    pub(super) fn take_list(&self, key: &str, to: &str) -> Vec<String> {
        let Some(view) = self.get(key) else { return Vec::new() };
        view.mapped(to);
        view.texts()
    }

    /// Takes the number at a key.
    pub(super) fn number(&self, key: &str, to: &str) -> Option<f64> {
        let view = self.get(key)?;
        let number = view.text().and_then(|text| text.trim().parse::<f64>().ok()).filter(|n| n.is_finite());
        view.settle(number.is_some(), to, "a number");
        number
    }

    /// Takes the share at a key, held between 0 and 1.
    pub(super) fn share(&self, key: &str, to: &str) -> Option<f64> {
        let number = self.number(key, to)?;
        let share = number.clamp(0.0, 1.0);
        if (share - number).abs() > f64::EPSILON
            && let Some(view) = self.get(key)
        {
            view.broken("not between 0 and 1", &format!("{share} in `{to}`"));
        }
        Some(share)
    }

    /// Takes the whole number at a key.
    pub(super) fn whole(&self, key: &str, to: &str) -> Option<u64> {
        let number = self.number(key, to)?;
        Some(number.max(0.0).round() as u64)
    }

    /// Takes the truth value at a key.
    pub(super) fn flag(&self, key: &str, to: &str) -> Option<bool> {
        let view = self.get(key)?;
        let flag = match view.text()?.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => Some(true),
            "false" | "no" | "off" => Some(false),
            _ => None,
        };
        view.settle(flag.is_some(), to, "true or false");
        flag
    }

    fn settle(&self, is_right: bool, to: &str, wanted: &str) {
        if is_right {
            self.mapped(to);
        } else {
            self.broken(&format!("not {wanted}"), "left out");
        }
    }

    /// Records that this says the same at a place of the policy.
    pub(super) fn mapped(&self, to: &str) {
        let to = match (&self.within, to.strip_prefix("decisions[]")) {
            (Some(within), Some(rest)) => format!("{within}{rest}"),
            _ => to.to_owned(),
        };
        self.record(KeyOutcome::Mapped { to });
    }

    /// Records that this is not needed.
    pub(super) fn ignored(&self, why: &str) {
        self.record(KeyOutcome::Ignored { why: why.to_owned() });
    }

    /// Records that this did not do what it says.
    pub(super) fn broken(&self, wrong: &str, done: &str) {
        self.record(KeyOutcome::Broken { wrong: wrong.to_owned(), done: done.to_owned() });
    }

    /// Records that Signalbox cannot do this.
    pub(super) fn unsupported(&self, why: &str) {
        self.record(KeyOutcome::Unsupported { why: why.to_owned() });
    }

    fn record(&self, outcome: KeyOutcome) {
        self.report.record(self.document, &self.path, self.mark, outcome);
    }
}

/// Spells a `snake_case` key in camelCase.
fn camel_case(key: &str) -> String {
    let mut parts = key.split('_');
    let mut camel = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (first, rest) = part.split_at(part.len().min(1));
        camel.push_str(&first.to_ascii_uppercase());
        camel.push_str(rest);
    }
    camel
}
