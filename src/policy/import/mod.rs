//! Owns turning other systems' configuration into a policy, and the report on every key. Refuses to know files and
//! folders: texts come in, a text goes out.
//!
//! Each text is recognised by its keys (`dialect`) and read key by key (`source_node`), which records the outcome of
//! each key (`report`); all of them build one policy (`draft`), written for people to read (`yaml_writer`).

mod canonical;
mod conditions;
mod config_map;
mod decision_defaults;
mod decisions;
mod detector;
mod dialect;
mod draft;
mod globals;
mod identity;
mod keywords;
mod legacy;
mod objects;
mod plugins;
mod providers;
mod report;
mod routes;
mod shapes;
mod signals;
mod source_node;
mod stack;
mod tool_files;
mod unread;
mod yaml_writer;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use super::Issue;
use super::issue::PathSegment;
use super::yaml::YamlNode;
use dialect::Recognition;
use draft::PolicyDraft;
use objects::KubernetesObjects;
use report::{ImportReport, SourceDocument};
use source_node::SourceNode;
use tool_files::ToolFiles;

pub use dialect::{ConfigDialect, recognise};
pub use draft::LostDecisions;
pub use report::{KeyOutcome, Note};

/// The most texts that one import takes.
pub const MAX_SOURCES: usize = 1000;

/// A configuration to import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportSource {
    /// Its name in notes, such as a file's path.
    pub name: String,
    /// Its content.
    pub text: String,
}

/// An imported policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportOutput {
    /// The dialect of the configuration.
    pub dialect: ConfigDialect,
    /// The policy as YAML.
    pub policy: String,
    /// The outcome of every key, in the order of the sources.
    pub notes: Vec<Note>,
    /// The lists of decisions of which none could be taken over: the policy is not what was meant.
    pub lost: Vec<LostDecisions>,
}

/// Why there is nothing to import.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// None of the texts says which models there are.
    #[error("none of the {0} file(s) is a configuration that says which models there are")]
    Nothing(usize),
    /// Several texts are configurations of a router.
    #[error("more than one configuration: {}; give the one that is meant", .0.join(", "))]
    Several(Vec<String>),
    /// There are more texts than one import takes.
    #[error("more than {MAX_SOURCES} files")]
    Many,
    /// Of a list of decisions none can be taken over.
    #[error(
        "{name}: none of its decisions can be taken over: {lost}; `signalbox import --explain` tells why"
    )]
    Lost {
        /// The text's name.
        name: String,
        /// The decisions.
        lost: LostDecisions,
    },
    /// A text that seems to be meant cannot be read.
    #[error("{name}: {issue}")]
    Unreadable {
        /// Its name.
        name: String,
        /// Where it stops being readable.
        issue: Box<Issue>,
    },
}

/// Turns configurations of other systems, and the Kubernetes manifests beside them, into one policy.
pub fn import(sources: &[ImportSource]) -> Result<ImportOutput, ImportError> {
    let documents = documents(sources)?;
    let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
    let kinds: Vec<_> = documents.iter().map(|document| dialect::of(&document.root)).collect();
    let mains: Vec<usize> = (0..documents.len())
        .filter(|index| {
            kinds[*index].dialect.is_semantic_router() || kinds[*index].dialect == ConfigDialect::Signalbox
        })
        .collect();
    if mains.len() > 1 {
        let name = |index: &usize| names[documents[*index].source].to_owned();
        return Err(ImportError::Several(mains.iter().map(name).collect()));
    }
    let main = mains.first().copied();
    if let Some(main) = main.filter(|main| kinds[*main].dialect == ConfigDialect::Signalbox) {
        let document = &documents[main];
        let policy = document.text.as_ref().unwrap_or(&sources[document.source].text).clone();
        let dialect = ConfigDialect::Signalbox;
        return Ok(ImportOutput { dialect, policy, notes: Vec::new(), lost: Vec::new() });
    }
    let report = ImportReport::default();
    let mut draft = build_draft(&documents, &kinds, &names, &report);
    if draft.models.is_empty() {
        return Err(ImportError::Nothing(sources.len()));
    }
    let first = main.or_else(|| {
        (0..documents.len()).find(|index| kinds[*index].dialect == ConfigDialect::ProductionStack)
    });
    let unread = |index: usize, segments: &[PathSegment]| match kinds[index].dialect {
        ConfigDialect::Manifests => {
            let kind = documents[index].label.split('/').next().unwrap_or_default();
            unread::of_object(kind, segments)
        }
        known => unread::why(known, kinds[index].wrapped_in, segments),
    };
    let lost = std::mem::take(&mut draft.routing.lost);
    Ok(ImportOutput {
        lost,
        dialect: first.map_or(ConfigDialect::Manifests, |index| kinds[index].dialect),
        policy: draft.text(),
        notes: report.finish(&names, &documents, &unread),
    })
}

/// Imports a configuration of vLLM Semantic Router; any other text is returned as it is.
pub fn native<'a>(name: &str, text: &'a str) -> Result<Cow<'a, str>, ImportError> {
    // A policy of our own is not parsed twice.
    if text.lines().any(|line| line.trim_end() == "version: 1") || !recognise(text).is_semantic_router() {
        return Ok(Cow::Borrowed(text));
    }
    let source = ImportSource { name: name.to_owned(), text: text.to_owned() };
    let imported = import(&[source])?;
    match imported.lost.into_iter().next() {
        Some(lost) => Err(ImportError::Lost { name: name.to_owned(), lost }),
        None => Ok(Cow::Owned(imported.policy)),
    }
}

/// Parses the sources into their documents.
fn documents(sources: &[ImportSource]) -> Result<Vec<SourceDocument>, ImportError> {
    if sources.len() > MAX_SOURCES {
        return Err(ImportError::Many);
    }
    let mut documents = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        let roots = dialect::parse(&source.text)
            .map_err(|issue| ImportError::Unreadable { name: source.name.clone(), issue: Box::new(issue) })?;
        for root in roots {
            let label = label(&root);
            // What a ConfigMap holds is read as the files that a pod would see.
            for file in config_map::files(&root) {
                let roots = dialect::parse(&file.text).map_err(|issue| ImportError::Unreadable {
                    name: source.name.clone(),
                    issue: Box::new(issue),
                })?;
                for mut root in roots {
                    root.move_down(file.lines_above);
                    let label = format!("{label} data.{}", file.name);
                    documents.push(SourceDocument {
                        source: index,
                        label,
                        text: Some(file.text.clone()),
                        root,
                    });
                }
            }
            documents.push(SourceDocument { source: index, label, text: None, root });
        }
    }
    Ok(documents)
}

/// Names a Kubernetes object by its kind and name.
fn label(root: &YamlNode) -> String {
    if dialect::of(root).dialect != ConfigDialect::Manifests {
        return String::new();
    }
    let text = |keys: &[&str]| {
        let path = keys.iter().fold(super::issue::YamlPath::default(), |path, key| path.key(key));
        root.scalar(&path).map(|scalar| scalar.text.clone()).unwrap_or_default()
    };
    format!("{}/{}", text(&["kind"]), text(&["metadata", "name"]))
}

/// Reads every document into one draft: the configuration first, since it names the models.
fn build_draft(
    documents: &[SourceDocument],
    kinds: &[Recognition],
    names: &[&str],
    report: &ImportReport,
) -> PolicyDraft {
    let of = |dialect: ConfigDialect| {
        documents.iter().enumerate().filter(move |(index, _)| kinds[*index].dialect == dialect)
    };
    let tools = of(ConfigDialect::Tools).map(|(_, document)| names[document.source]).collect();
    let files = ToolFiles { tools };
    let mut draft = PolicyDraft::default();
    for (index, document) in documents.iter().enumerate() {
        let Recognition { dialect, wrapped_in } = kinds[index];
        let root = SourceNode::root(index, document, report);
        let Some(root) = wrapped_in.map_or(Some(root.clone()), |key| root.get(key)) else { continue };
        match dialect {
            ConfigDialect::Categories | ConfigDialect::Decisions => legacy::read(&root, &files, &mut draft),
            ConfigDialect::CommandLine | ConfigDialect::Canonical => {
                canonical::read(&root, &files, &mut draft);
            }
            _ => continue,
        }
        let name = names[document.source];
        draft.head.insert(0, format!("Imported from {name} (vLLM Semantic Router: {dialect})."));
        if let Some(version) = root.get("version") {
            version.mapped("version: 1");
        }
    }
    for (index, document) in of(ConfigDialect::ProductionStack) {
        stack::read(&SourceNode::root(index, document, report), &mut draft);
    }
    let mut objects = KubernetesObjects::default();
    for (index, document) in of(ConfigDialect::Manifests) {
        let root = SourceNode::root(index, document, report);
        for name in config_map::names(&document.root) {
            if let Some(file) = root.at(&["data", &name]) {
                file.mapped("as the file that it is");
            }
        }
        objects::collect(&root, &mut objects);
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
