//! Owns other systems' configuration to a policy of our own, and the account of what became of every key. Refuses to
//! know files and folders: texts come in, a text goes out.
//!
//! Each text is told by its keys (`dialect`), read key by key (`view`) while the ledger notes what became of each, and
//! drawn up into one policy (`draft`) that is written for people to read (`out`).

mod canonical;
mod conditions;
mod decisions;
mod detector;
mod dialect;
mod draft;
mod files;
mod globals;
mod identity;
mod ledger;
mod legacy;
mod objects;
mod out;
mod plugins;
mod providers;
mod routes;
mod shapes;
mod signals;
mod stack;
mod unread;
mod view;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use super::Issue;
use super::issue::Segment;
use super::yaml::Node;
use draft::Draft;
use files::Files;
use ledger::{Document, Ledger};
use objects::Objects;
use view::View;

pub use dialect::{Dialect, recognise};
pub use ledger::{Fate, Note};

/// The most texts that one import takes.
pub const MAX_SOURCES: usize = 1000;

/// A text and what it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its name, such as a file's path.
    pub name: String,
    /// What stands in it.
    pub text: String,
}

/// What came of an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Whose configuration it was.
    pub dialect: Dialect,
    /// The policy.
    pub policy: String,
    /// What became of every key, in the order of the sources.
    pub notes: Vec<Note>,
}

/// Why there is nothing to import.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// None of the texts says which models there are.
    #[error("none of the {0} file(s) is a configuration that says which models there are")]
    Nothing(usize),
    /// Several texts are configurations, and only one can be meant.
    #[error("more than one configuration: {}; give the one that is meant", .0.join(", "))]
    Several(Vec<String>),
    /// There are more texts than one import takes.
    #[error("more than {MAX_SOURCES} files")]
    Many,
    /// A text that seems to be meant cannot be read.
    #[error("{name}: {issue}")]
    Unreadable {
        /// Its name.
        name: String,
        /// Where it stops being readable.
        issue: Issue,
    },
}

/// Turns configurations of other systems, and the Kubernetes manifests beside them, into one policy.
pub fn import(sources: &[Source]) -> Result<Imported, ImportError> {
    let documents = documents(sources)?;
    let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
    let kinds: Vec<_> = documents.iter().map(|document| dialect::of(&document.root)).collect();
    let mains: Vec<usize> = (0..documents.len())
        .filter(|index| kinds[*index].0.is_semantic_router() || kinds[*index].0 == Dialect::Signalbox)
        .collect();
    if mains.len() > 1 {
        let name = |index: &usize| names[documents[*index].source].to_owned();
        return Err(ImportError::Several(mains.iter().map(name).collect()));
    }
    let main = mains.first().copied();
    if let Some(main) = main.filter(|main| kinds[*main].0 == Dialect::Signalbox) {
        let policy = sources[documents[main].source].text.clone();
        return Ok(Imported { dialect: Dialect::Signalbox, policy, notes: Vec::new() });
    }
    let ledger = Ledger::default();
    let draft = drawn_up(&documents, &kinds, &names, &ledger);
    if draft.models.is_empty() {
        return Err(ImportError::Nothing(sources.len()));
    }
    let first =
        main.or_else(|| (0..documents.len()).find(|index| kinds[*index].0 == Dialect::ProductionStack));
    let unread = |index: usize, segments: &[Segment]| match kinds[index].0 {
        Dialect::Manifests => {
            let kind = documents[index].label.split('/').next().unwrap_or_default();
            unread::of_object(kind, segments)
        }
        known => unread::why(known, kinds[index].1, segments),
    };
    Ok(Imported {
        dialect: first.map_or(Dialect::Manifests, |index| kinds[index].0),
        policy: draft.text(),
        notes: ledger.finish(&names, &documents, &unread),
    })
}

/// Gives the policy that a text is, or becomes: one of vLLM Semantic Router's is imported, any other stays as it is.
pub fn native<'a>(name: &str, text: &'a str) -> Result<Cow<'a, str>, ImportError> {
    // What says so of itself needs no second reading.
    if text.lines().any(|line| line.trim_end() == "version: 1") || !recognise(text).is_semantic_router() {
        return Ok(Cow::Borrowed(text));
    }
    let source = Source { name: name.to_owned(), text: text.to_owned() };
    import(&[source]).map(|imported| Cow::Owned(imported.policy))
}

/// Parses the sources into their documents.
fn documents(sources: &[Source]) -> Result<Vec<Document>, ImportError> {
    if sources.len() > MAX_SOURCES {
        return Err(ImportError::Many);
    }
    let mut documents = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        let roots = dialect::parse(&source.text)
            .map_err(|issue| ImportError::Unreadable { name: source.name.clone(), issue })?;
        documents.extend(roots.into_iter().map(|root| Document { source: index, label: label(&root), root }));
    }
    Ok(documents)
}

/// Names a Kubernetes object by its kind and name.
fn label(root: &Node) -> String {
    if dialect::of(root).0 != Dialect::Manifests {
        return String::new();
    }
    let text = |keys: &[&str]| {
        let path = keys.iter().fold(super::issue::Path::default(), |path, key| path.key(key));
        root.scalar(&path).map(|scalar| scalar.text.clone()).unwrap_or_default()
    };
    format!("{}/{}", text(&["kind"]), text(&["metadata", "name"]))
}

/// Reads every document into one draft: the configuration first, since it names the models.
fn drawn_up(
    documents: &[Document],
    kinds: &[(Dialect, Option<&'static str>)],
    names: &[&str],
    ledger: &Ledger,
) -> Draft {
    let of =
        |wanted: Dialect| documents.iter().enumerate().filter(move |(index, _)| kinds[*index].0 == wanted);
    let tools = of(Dialect::Tools).map(|(_, document)| names[document.source]).collect();
    let files = Files { tools };
    let mut draft = Draft::default();
    for (index, document) in documents.iter().enumerate() {
        let (dialect, wrapped) = kinds[index];
        let root = View::root(index, document, ledger);
        let Some(root) = wrapped.map_or(Some(root.clone()), |key| root.get(key)) else { continue };
        match dialect {
            Dialect::Categories | Dialect::Decisions => legacy::read(&root, &files, &mut draft),
            Dialect::CommandLine | Dialect::Canonical => canonical::read(&root, &files, &mut draft),
            _ => continue,
        }
        let name = names[document.source];
        draft.head.insert(0, format!("Imported from {name} (vLLM Semantic Router: {dialect})."));
        if let Some(version) = root.get("version") {
            version.mapped("version: 1");
        }
    }
    for (index, document) in of(Dialect::ProductionStack) {
        stack::read(&View::root(index, document, ledger), &mut draft);
    }
    let mut objects = Objects::default();
    for (index, document) in of(Dialect::Manifests) {
        objects::collect(&View::root(index, document, ledger), &mut objects);
    }
    routes::read(&objects, &mut draft);
    if draft.head.is_empty() {
        draft.head.push(
            "Imported from manifests alone: clients name their model, and nothing chooses one.".to_owned(),
        );
    }
    draft.head.push("`signalbox import --explain` tells what became of every key.".to_owned());
    draft
}
