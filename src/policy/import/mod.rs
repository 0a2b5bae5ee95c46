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
mod intelligent;
mod keywords;
mod legacy;
mod objects;
mod plugins;
mod providers;
mod report;
mod router_chart;
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
use std::collections::BTreeSet;

use super::Issue;
use super::issue::PathSegment;
use super::yaml::YamlNode;
use dialect::Recognition;
use draft::PolicyDraft;
use intelligent::RoutingObjects;
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
    /// The models and decisions are objects of Kubernetes that were not given.
    #[error(
        "{0}: `config_source: kubernetes`: its models and decisions are an IntelligentPool and an IntelligentRoute; give them too"
    )]
    NoRoutes(String),
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
    let main = the_configuration(&documents, &kinds, &names)?;
    if let Some(main) = main.filter(|main| kinds[*main].dialect == ConfigDialect::Signalbox) {
        let document = &documents[main];
        let policy = document.text.as_ref().unwrap_or(&sources[document.source].text).clone();
        let dialect = ConfigDialect::Signalbox;
        return Ok(ImportOutput { dialect, policy, notes: Vec::new(), lost: Vec::new() });
    }
    let report = ImportReport::default();
    let mut draft = build_draft(&documents, &kinds, &names, &report)?;
    if draft.models.is_empty() {
        return Err(ImportError::Nothing(sources.len()));
    }
    let dialect = main.map_or_else(|| without_configuration(&kinds), |main| kinds[main].dialect);
    let unread = |index: usize, segments: &[PathSegment]| match kinds[index].dialect {
        ConfigDialect::Manifests | ConfigDialect::RoutingObjects => {
            let kind = documents[index].label.split('/').next().unwrap_or_default();
            unread::of_object(kind, segments)
        }
        known => unread::why(known, kinds[index].wrapped_in, segments),
    };
    let lost = std::mem::take(&mut draft.routing.lost);
    Ok(ImportOutput {
        lost,
        dialect,
        policy: draft.text(),
        notes: report.finish(&names, &documents, &unread),
    })
}

/// Finds the one document that is a configuration, if any is; what stands for one in objects of Kubernetes is no second.
fn the_configuration(
    documents: &[SourceDocument],
    kinds: &[Recognition],
    names: &[&str],
) -> Result<Option<usize>, ImportError> {
    let own = |index: &usize| kinds[*index].dialect == ConfigDialect::Signalbox;
    let of_kind = |kind: &str| {
        let is_it = |index: &usize| documents[*index].label.split('/').next() == Some(kind);
        let routing =
            (0..documents.len()).filter(|index| kinds[*index].dialect == ConfigDialect::RoutingObjects);
        routing.filter(is_it).collect::<Vec<_>>()
    };
    let (pools, routes) = (of_kind("IntelligentPool"), of_kind("IntelligentRoute"));
    let is_main = |index: &usize| kinds[*index].dialect.is_semantic_router() || own(index);
    let mains: Vec<usize> = (0..documents.len()).filter(is_main).collect();
    let with_own = mains.iter().filter(|main| own(main)).chain(&pools).chain(&routes).copied().collect();
    let rivals = if mains.iter().any(own) {
        vec![mains.clone(), with_own]
    } else {
        vec![mains.clone(), pools, routes]
    };
    if let Some(several) = rivals.into_iter().find(|rivals: &Vec<usize>| rivals.len() > 1) {
        let name = |index: usize| {
            let document = &documents[index];
            format!("{} {}", names[document.source], document.label).trim_end().to_owned()
        };
        return Err(ImportError::Several(several.into_iter().map(name).collect()));
    }
    Ok(mains.first().copied())
}

/// What an import goes by where nothing is a configuration.
fn without_configuration(kinds: &[Recognition]) -> ConfigDialect {
    let known = [ConfigDialect::RoutingObjects, ConfigDialect::ProductionStack, ConfigDialect::RouterChart];
    let is_there = |dialect: &ConfigDialect| kinds.iter().any(|kind| kind.dialect == *dialect);
    known.into_iter().find(is_there).unwrap_or(ConfigDialect::Manifests)
}

/// What a text of another system is read with.
pub struct ImportContext<'a> {
    /// Objects of Kubernetes, as manifests; nothing where there are none.
    pub objects: &'a str,
    /// Reads a file that lies beside it, by its name.
    pub read: &'a dyn Fn(&str) -> Option<String>,
}

/// Imports a text of another system that says which models there are; any other is returned as it is.
pub fn native<'a>(
    name: &str,
    text: &'a str,
    context: &ImportContext<'_>,
) -> Result<Cow<'a, str>, ImportError> {
    // A policy of our own is not parsed twice.
    if text.lines().any(|line| line.trim_end() == "version: 1") || !recognise(text).is_foreign() {
        return Ok(Cow::Borrowed(text));
    }
    let source = |name: &str, text: &str| ImportSource { name: name.to_owned(), text: text.to_owned() };
    let mut sources = vec![source(name, text)];
    if leaves_routing(text) && !context.objects.is_empty() {
        sources.push(source("the API server", context.objects));
    }
    // A ConfigMap holds the list of tools beside the configuration, which names it by another folder.
    let mut tools = BTreeSet::new();
    documents(&sources)?.iter().for_each(|document| tool_files::named(&document.root, &mut tools));
    let found = tools.iter().filter_map(|file| Some(source(file, &(context.read)(file)?)));
    sources.extend(found.filter(|source| recognise(&source.text) == ConfigDialect::Tools));
    let imported = import(&sources)?;
    match imported.lost.into_iter().next() {
        Some(lost) => Err(ImportError::Lost { name: name.to_owned(), lost }),
        None => Ok(Cow::Owned(imported.policy)),
    }
}

/// Whether a text leaves its models and decisions to objects of Kubernetes, which are to be read with it.
pub fn leaves_routing(text: &str) -> bool {
    if !text.contains("config_source") {
        return false;
    }
    let source = ImportSource { name: String::new(), text: text.to_owned() };
    let report = ImportReport::default();
    let leaves = |document: &SourceDocument| {
        let Recognition { dialect, wrapped_in } = dialect::of(&document.root);
        let root = SourceNode::root(0, document, &report);
        let root = wrapped_in.map_or(Some(root.clone()), |key| root.get(key));
        dialect.is_semantic_router() && root.is_some_and(|root| intelligent::leaves_routing(&root))
    };
    documents(&[source]).unwrap_or_default().iter().any(leaves)
}

/// An object of Kubernetes that holds a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyObject {
    /// Its kind and name, and where in it the policy is.
    pub label: String,
    /// Whose policy it is.
    pub dialect: ConfigDialect,
}

/// The policies that manifests hold.
pub fn policies_in(text: &str) -> Vec<PolicyObject> {
    let source = ImportSource { name: String::new(), text: text.to_owned() };
    let object = |document: SourceDocument| {
        let dialect = dialect::of(&document.root).dialect;
        let is_policy = dialect.is_foreign() && dialect != ConfigDialect::Manifests
            || dialect == ConfigDialect::Signalbox;
        let label = document.label.replacen('/', " ", 1);
        (is_policy && !label.is_empty()).then_some(PolicyObject { label, dialect })
    };
    documents(&[source]).unwrap_or_default().into_iter().filter_map(object).collect()
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
        for root in roots.into_iter().flat_map(dialect::items) {
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
    if !matches!(dialect::of(root).dialect, ConfigDialect::Manifests | ConfigDialect::RoutingObjects) {
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
) -> Result<PolicyDraft, ImportError> {
    let of = |dialect: ConfigDialect| {
        documents.iter().enumerate().filter(move |(index, _)| kinds[*index].dialect == dialect)
    };
    let tools = of(ConfigDialect::Tools).map(|(_, document)| names[document.source]).collect();
    let files = ToolFiles { tools };
    let mut draft = PolicyDraft::default();
    let mut routing = RoutingObjects::default();
    for (index, document) in of(ConfigDialect::RoutingObjects) {
        routing.add(SourceNode::root(index, document, report));
    }
    for (index, document) in documents.iter().enumerate() {
        let Recognition { dialect, wrapped_in } = kinds[index];
        let root = SourceNode::root(index, document, report);
        let Some(root) = wrapped_in.map_or(Some(root.clone()), |key| root.get(key)) else { continue };
        let name = names[document.source];
        if dialect.is_semantic_router() {
            if intelligent::leaves_routing(&root) && routing.root().is_none() {
                return Err(ImportError::NoRoutes(name.to_owned()));
            }
            routing = routing.beside(&root);
        }
        match dialect {
            ConfigDialect::Categories | ConfigDialect::Decisions => {
                legacy::read(&root, &routing, &files, &mut draft);
            }
            ConfigDialect::CommandLine | ConfigDialect::Canonical => {
                canonical::read(&root, &routing, &files, &mut draft);
            }
            _ => continue,
        }
        draft.head.insert(0, format!("Imported from {name} (vLLM Semantic Router: {dialect})."));
        if let Some(version) = root.get("version") {
            version.mapped("version: 1");
        }
    }
    if let Some(root) = routing.root().filter(|_| draft.head.is_empty()) {
        canonical::read(&root, &routing, &files, &mut draft);
        draft
            .head
            .insert(0, format!("Imported from {} of vLLM Semantic Router.", ConfigDialect::RoutingObjects));
    }
    for (index, document) in of(ConfigDialect::ProductionStack) {
        stack::read(&SourceNode::root(index, document, report), &mut draft);
    }
    for (index, document) in of(ConfigDialect::RouterChart) {
        router_chart::read(&SourceNode::root(index, document, report), &mut draft);
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
    if draft.routing.default_model.is_none() {
        let from = without_configuration(kinds);
        draft
            .head
            .push(format!("Imported from {from} alone: clients name their model, and nothing chooses one."));
    }
    draft.head.push("`signalbox import --explain` tells what became of every key.".to_owned());
    Ok(draft)
}
