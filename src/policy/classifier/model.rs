//! Owns where a model of the classifier comes from, and how operators write that. Refuses to fetch it.

use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::checker::Checker;
use crate::issue::YamlPath;

const BUILTIN: &str = "builtin";
const MULTILINGUAL: &str = "multilingual";
/// How a model of the hub is written.
const HUB: &str = "hf://";
const DEFAULT_REVISION: &str = "main";
/// The longest name of an owner, a repository or a part of a revision; the hub's own bound is the same.
const MAX_NAME_BYTES: usize = 96;

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum ModelSource {
    /// The model inside this binary.
    Builtin,
    /// The one inside this binary that reads many languages, for domains and attacks.
    Multilingual,
    /// A folder with `config.json`, `tokenizer.json` and the weights.
    Folder(PathBuf),
    /// A repository of the hub.
    Hub {
        /// Its owner and name, as in `owner/name`.
        repo: String,
        /// The branch, tag or commit.
        revision: String,
    },
}

impl ModelSource {
    /// Whether it has to be fetched.
    pub(super) fn is_fetched(&self) -> bool {
        matches!(self, Self::Hub { .. })
    }

    /// Checks the text that was read, and resolves a folder.
    pub(super) fn check(&mut self, path: &YamlPath, checker: &mut Checker<'_>) {
        let text = checker.text(path).unwrap_or_default();
        match self {
            Self::Hub { repo, .. } if !is_repo(repo) => {
                checker.issue(path, format!("`{text}` names no repository; write `{HUB}owner/name`"));
            }
            Self::Hub { revision, .. } if !revision.split('/').all(is_revision_part) => {
                checker.issue(
                    path,
                    format!("`{text}` has no revision behind its `@`: a branch, a tag or a commit"),
                );
            }
            Self::Builtin | Self::Multilingual | Self::Hub { .. } => {}
            Self::Folder(folder) => {
                if text.starts_with("hf:") || text.contains("://") {
                    let message = format!(
                        "`{text}` is neither `builtin` nor a folder; a model of the hub is `{HUB}owner/name`"
                    );
                    checker.issue(path, message);
                } else if !text.contains(['/', '\\', '.']) {
                    checker.issue(path, format!("`{text}` is not `builtin`; write `./{text}` for a folder"));
                }
                *folder = checker.resolve(&folder);
            }
        }
    }
}

impl From<String> for ModelSource {
    fn from(text: String) -> Self {
        if text == BUILTIN {
            return Self::Builtin;
        }
        if text == MULTILINGUAL {
            return Self::Multilingual;
        }
        let Some(name) = text.strip_prefix(HUB) else { return Self::Folder(text.into()) };
        let (repo, revision) = name.split_once('@').unwrap_or((name, DEFAULT_REVISION));
        Self::Hub { repo: repo.to_owned(), revision: revision.to_owned() }
    }
}

impl From<ModelSource> for String {
    fn from(source: ModelSource) -> Self {
        source.to_string()
    }
}

impl std::fmt::Display for ModelSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Builtin => f.write_str(BUILTIN),
            Self::Multilingual => f.write_str(MULTILINGUAL),
            Self::Folder(folder) => write!(f, "{}", folder.display()),
            Self::Hub { repo, revision } => write!(f, "{HUB}{repo}@{revision}"),
        }
    }
}

impl JsonSchema for ModelSource {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ModelSource".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "minLength": 1})
    }
}

/// Models that answer one question each, in the forms of `model`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClassifierModels {
    /// The one that finds out what a text is about.
    pub domain: Option<ModelSource>,
    /// The one that finds out whether a text tries to turn a model against its instructions.
    pub jailbreak: Option<ModelSource>,
    /// The one that finds personal data.
    pub pii: Option<ModelSource>,
    /// The one that gives a text's meaning as a vector.
    pub embedding: Option<ModelSource>,
    /// The one that finds what an answer makes up: a token classifier over pairs of context and answer. None when
    /// absent, whatever `model` is.
    pub hallucination: Option<ModelSource>,
}

impl ClassifierModels {
    /// Gives those that are there.
    pub(super) fn iter(&self) -> impl Iterator<Item = &ModelSource> {
        [&self.domain, &self.jailbreak, &self.pii, &self.embedding, &self.hallucination].into_iter().flatten()
    }

    pub(super) fn check(&mut self, path: &YamlPath, checker: &mut Checker<'_>) {
        if matches!(self.hallucination, Some(ModelSource::Builtin | ModelSource::Multilingual)) {
            checker.issue(
                &path.key("hallucination"),
                "no detector is built in; write a folder or `hf://owner/name`",
            );
        }
        let models = [
            ("domain", &mut self.domain),
            ("jailbreak", &mut self.jailbreak),
            ("pii", &mut self.pii),
            ("embedding", &mut self.embedding),
            ("hallucination", &mut self.hallucination),
        ];
        for (question, model) in models {
            if let Some(model) = model {
                model.check(&path.key(question), checker);
            }
        }
    }
}

/// Whether a text is an owner and a name, as the hub allows them.
fn is_repo(text: &str) -> bool {
    let fits = |part: &str| {
        is_revision_part(part)
            && !part.ends_with(['-', '.'])
            && !part.contains("--")
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    text.split_once('/').is_some_and(|(owner, name)| fits(owner) && fits(name))
}

/// Whether a text is a part of a branch's, a tag's or a commit's name that is safe in a path and in an address.
fn is_revision_part(text: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&text.len())
        && !text.starts_with(['-', '.'])
        && !text.contains("..")
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_has_an_owner_and_a_name() {
        for repo in ["owner/name", "a/b", "llm-semantic-router/mmbert32k.v1_x"] {
            assert!(is_repo(repo), "{repo}");
        }
        for repo in
            ["name", "/name", "owner/", "a/b/c", "../b", "a/..", "a b/c", "a/b?x", "-a/b", "a/b--c", "a/é"]
        {
            assert!(!is_repo(repo), "{repo}");
        }
    }
}
