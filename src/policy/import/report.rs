//! Owns the outcome of every key of the sources, so that none goes unmentioned. Refuses to know what keys mean.

use std::cell::RefCell;
use std::collections::HashSet;

use indexmap::IndexMap;
use serde::Serialize;

use super::super::issue::{PathSegment, Position, YamlPath};
use super::super::yaml::{YamlKind, YamlNode};

/// The outcome of one key of a source, with everything under it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// The name of the source.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The path in the file; that of a Kubernetes object starts with its kind and name.
    pub path: String,
    /// What the import made of it.
    #[serde(flatten)]
    pub outcome: KeyOutcome,
}

/// What the import made of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "fate", rename_all = "snake_case")]
pub enum KeyOutcome {
    /// It says the same in the policy.
    Mapped {
        /// The place in the policy.
        to: String,
    },
    /// It is not needed.
    Ignored {
        /// Why it is not needed.
        why: String,
    },
    /// It did not do in the original what it says.
    Broken {
        /// What was wrong with it in the original.
        wrong: String,
        /// What was made of it.
        done: String,
    },
    /// Signalbox cannot do it.
    Unsupported {
        /// Why, and what comes instead.
        why: String,
    },
}

impl KeyOutcome {
    /// Its name in tables.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Mapped { .. } => "mapped",
            Self::Ignored { .. } => "ignored",
            Self::Broken { .. } => "broken",
            Self::Unsupported { .. } => "unsupported",
        }
    }

    /// Where the key went, or why it went nowhere.
    pub fn reason(&self) -> String {
        match self {
            Self::Mapped { to } => to.clone(),
            Self::Ignored { why } | Self::Unsupported { why } => why.clone(),
            Self::Broken { wrong, done } => format!("{wrong}; {done}"),
        }
    }

    /// Ranks outcomes; of two for the same key the greater stays.
    fn weight(&self) -> u8 {
        match self {
            Self::Mapped { .. } => 0,
            Self::Ignored { .. } => 1,
            Self::Unsupported { .. } => 2,
            Self::Broken { .. } => 3,
        }
    }
}

/// One document of one source.
#[derive(Debug)]
pub(super) struct SourceDocument {
    pub(super) source: usize,
    /// What paths start with; empty for a configuration, kind and name for a Kubernetes object.
    pub(super) label: String,
    /// Its text, where that is not the source's.
    pub(super) text: Option<String>,
    pub(super) root: YamlNode,
}

/// A key's outcome with its place.
#[derive(Debug)]
struct ReportEntry {
    path: YamlPath,
    mark: Position,
    outcome: KeyOutcome,
}

/// The outcomes so far of the keys of all documents.
#[derive(Debug, Default)]
pub(super) struct ImportReport {
    notes: RefCell<IndexMap<(usize, String), ReportEntry>>,
    /// The parents of recorded keys: these were read in part.
    above: RefCell<HashSet<(usize, String)>>,
}

impl ImportReport {
    /// Records the outcome of a key.
    pub(super) fn record(&self, document: usize, path: &YamlPath, mark: Position, outcome: KeyOutcome) {
        let mut notes = self.notes.borrow_mut();
        let entry = || ReportEntry { path: path.clone(), mark, outcome: outcome.clone() };
        let known = notes.entry((document, path.to_string())).or_insert_with(entry);
        if known.outcome.weight() < outcome.weight() {
            known.outcome = outcome;
        }
        self.above.borrow_mut().extend(ancestors(path).map(|place| (document, place.to_string())));
    }

    /// Gives the notes in the order of the sources; `unread` explains keys that were not read.
    pub(super) fn finish(
        self,
        sources: &[&str],
        documents: &[SourceDocument],
        unread: &dyn Fn(usize, &[PathSegment]) -> Option<KeyOutcome>,
    ) -> Vec<Note> {
        for (index, document) in documents.iter().enumerate() {
            let mut rest = UnreadWalk { report: &self, document: index, unread };
            rest.walk(&document.root, &YamlPath::default(), document.root.mark);
        }
        let notes = self.notes.into_inner();
        // The outcome of a parent covers its children, but for those that are broken or unsupported.
        let is_covered = |document: usize, entry: &ReportEntry| {
            entry.outcome.weight() < 2
                && ancestors(&entry.path).any(|place| notes.contains_key(&(document, place.to_string())))
        };
        let mut shown: Vec<_> =
            notes.iter().filter(|((document, _), entry)| !is_covered(*document, entry)).collect();
        let place = |document: usize| documents.get(document).map(|document| document.source);
        shown.sort_by_key(|((document, _), entry)| (place(*document), entry.mark.line, entry.mark.column));
        shown
            .into_iter()
            .map(|((document, path), ReportEntry { mark, outcome, .. })| {
                let (document, path, outcome) = (*document, path.clone(), outcome.clone());
                let label = documents.get(document).map_or("", |document| document.label.as_str());
                let file =
                    place(document).and_then(|source| sources.get(source)).copied().unwrap_or_default();
                let path = match (label.is_empty(), path.is_empty()) {
                    (false, false) => format!("{label} {path}"),
                    (false, true) => label.to_owned(),
                    (true, _) => path,
                };
                Note { file: file.to_owned(), line: mark.line, path, outcome }
            })
            .collect()
    }
}

/// The parents of a path, the root first.
fn ancestors(path: &YamlPath) -> impl Iterator<Item = YamlPath> {
    path.segments().iter().scan(YamlPath::default(), |place, segment| {
        let next = match segment {
            PathSegment::Key(key) => place.key(key),
            PathSegment::Index(index) => place.index(*index),
        };
        Some(std::mem::replace(place, next))
    })
}

/// The walk over keys without an outcome.
struct UnreadWalk<'a> {
    report: &'a ImportReport,
    document: usize,
    unread: &'a dyn Fn(usize, &[PathSegment]) -> Option<KeyOutcome>,
}

impl UnreadWalk<'_> {
    fn walk(&mut self, node: &YamlNode, path: &YamlPath, mark: Position) {
        let place = (self.document, path.to_string());
        if self.report.notes.borrow().contains_key(&place) {
            return;
        }
        // A node that was read in part is reported child by child.
        let is_whole = !self.report.above.borrow().contains(&place);
        if let Some(outcome) = (self.unread)(self.document, path.segments()).filter(|_| is_whole) {
            self.report.record(self.document, path, mark, outcome);
            return;
        }
        match &node.kind {
            YamlKind::Map(entries) if !entries.is_empty() => {
                for entry in entries {
                    self.walk(&entry.value, &path.key(&entry.key), entry.mark);
                }
            }
            YamlKind::List(items) if items.iter().any(|item| !matches!(item.kind, YamlKind::Scalar(_))) => {
                for (index, item) in items.iter().enumerate() {
                    self.walk(item, &path.index(index), item.mark);
                }
            }
            _ => {
                let why = UNKNOWN.to_owned();
                self.report.record(self.document, path, mark, KeyOutcome::Ignored { why });
            }
        }
    }
}

/// Why an unknown key is ignored.
pub(super) const UNKNOWN: &str = "unknown key: vSR reads no such key here either, and says nothing of it";
