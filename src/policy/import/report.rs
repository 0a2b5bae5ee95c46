//! Owns what became of every key of the sources, so that nothing goes unmentioned. Refuses to know what keys mean.

use std::cell::RefCell;
use std::collections::HashSet;

use indexmap::IndexMap;
use serde::Serialize;

use super::super::issue::{Mark, Path, Segment};
use super::super::yaml::{Kind, Node};

/// What became of one key of a source, with everything under it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The path in the file; that of a Kubernetes object starts with its kind and name.
    pub path: String,
    /// What became of it.
    #[serde(flatten)]
    pub fate: Fate,
}

/// What became of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "fate", rename_all = "snake_case")]
pub enum Fate {
    /// It says the same in the policy.
    Mapped {
        /// Where.
        to: String,
    },
    /// It is not needed.
    Ignored {
        /// Why not.
        why: String,
    },
    /// It did not do in the original what it says.
    Broken {
        /// What was wrong.
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

impl Fate {
    /// Gives the one word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Mapped { .. } => "mapped",
            Self::Ignored { .. } => "ignored",
            Self::Broken { .. } => "broken",
            Self::Unsupported { .. } => "unsupported",
        }
    }

    /// Says it in words.
    pub fn reason(&self) -> String {
        match self {
            Self::Mapped { to } => to.clone(),
            Self::Ignored { why } | Self::Unsupported { why } => why.clone(),
            Self::Broken { wrong, done } => format!("{wrong}; {done}"),
        }
    }

    /// Orders fates by how much they say; of two for the same key the greater stays.
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
pub(super) struct Document {
    pub(super) source: usize,
    /// What paths start with; empty for a configuration, kind and name for a Kubernetes object.
    pub(super) label: String,
    pub(super) root: Node,
}

/// A note and where it stands.
#[derive(Debug)]
struct Entry {
    path: Path,
    mark: Mark,
    fate: Fate,
}

/// What is known so far of the keys of all documents.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    notes: RefCell<IndexMap<(usize, String), Entry>>,
    /// Every place above a note: what stands there was read in part.
    above: RefCell<HashSet<(usize, String)>>,
}

impl Ledger {
    /// Records what became of a key.
    pub(super) fn record(&self, document: usize, path: &Path, mark: Mark, fate: Fate) {
        let mut notes = self.notes.borrow_mut();
        let entry = || Entry { path: path.clone(), mark, fate: fate.clone() };
        let known = notes.entry((document, path.to_string())).or_insert_with(entry);
        if known.fate.weight() < fate.weight() {
            known.fate = fate;
        }
        self.above.borrow_mut().extend(ancestors(path).map(|place| (document, place.to_string())));
    }

    /// Gives every note in the order of the sources; `unread` says why a key was passed over that has none yet.
    pub(super) fn finish(
        self,
        sources: &[&str],
        documents: &[Document],
        unread: &dyn Fn(usize, &[Segment]) -> Option<Fate>,
    ) -> Vec<Note> {
        for (index, document) in documents.iter().enumerate() {
            let mut rest = Rest { ledger: &self, document: index, unread };
            rest.walk(&document.root, &Path::default(), document.root.mark);
        }
        let notes = self.notes.into_inner();
        // What was said of a whole holds for its parts, but for what is wrong with one of them.
        let is_said = |document: usize, entry: &Entry| {
            entry.fate.weight() < 2
                && ancestors(&entry.path).any(|place| notes.contains_key(&(document, place.to_string())))
        };
        let mut kept: Vec<_> =
            notes.iter().filter(|((document, _), entry)| !is_said(*document, entry)).collect();
        let place = |document: usize| documents.get(document).map(|document| document.source);
        kept.sort_by_key(|((document, _), entry)| (place(*document), entry.mark.line, entry.mark.column));
        kept.into_iter()
            .map(|((document, path), Entry { mark, fate, .. })| {
                let (document, path, fate) = (*document, path.clone(), fate.clone());
                let label = documents.get(document).map_or("", |document| document.label.as_str());
                let file =
                    place(document).and_then(|source| sources.get(source)).copied().unwrap_or_default();
                let path = match (label.is_empty(), path.is_empty()) {
                    (false, false) => format!("{label} {path}"),
                    (false, true) => label.to_owned(),
                    (true, _) => path,
                };
                Note { file: file.to_owned(), line: mark.line, path, fate }
            })
            .collect()
    }
}

/// Gives the places above a path, the root first.
fn ancestors(path: &Path) -> impl Iterator<Item = Path> {
    path.segments().iter().scan(Path::default(), |place, segment| {
        let next = match segment {
            Segment::Key(key) => place.key(key),
            Segment::Index(index) => place.index(*index),
        };
        Some(std::mem::replace(place, next))
    })
}

/// The walk over what has no note yet.
struct Rest<'a> {
    ledger: &'a Ledger,
    document: usize,
    unread: &'a dyn Fn(usize, &[Segment]) -> Option<Fate>,
}

impl Rest<'_> {
    fn walk(&mut self, node: &Node, path: &Path, mark: Mark) {
        let place = (self.document, path.to_string());
        if self.ledger.notes.borrow().contains_key(&place) {
            return;
        }
        // What was read in part is told part by part.
        let is_whole = !self.ledger.above.borrow().contains(&place);
        if let Some(fate) = (self.unread)(self.document, path.segments()).filter(|_| is_whole) {
            self.ledger.record(self.document, path, mark, fate);
            return;
        }
        match &node.kind {
            Kind::Map(entries) if !entries.is_empty() => {
                for entry in entries {
                    self.walk(&entry.value, &path.key(&entry.key), entry.mark);
                }
            }
            Kind::List(items) if items.iter().any(|item| !matches!(item.kind, Kind::Scalar(_))) => {
                for (index, item) in items.iter().enumerate() {
                    self.walk(item, &path.index(index), item.mark);
                }
            }
            _ => {
                let why = UNKNOWN.to_owned();
                self.ledger.record(self.document, path, mark, Fate::Ignored { why });
            }
        }
    }
}

/// Why a key is passed over that nobody knows.
pub(super) const UNKNOWN: &str = "unknown key: vSR reads no such key here either, and says nothing of it";
