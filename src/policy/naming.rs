//! Owns which models virtual names stand for where no prompt decides, and which name answers give. Refuses to know requests.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ModelId;
use super::checker::Checker;
use super::context::PolicyContext;
use super::issue::YamlPath;

/// Which name of its model an answer gives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnswerModel {
    /// The policy's.
    #[default]
    Public,
    /// The one that its upstream gives.
    Upstream,
}

/// What one model does for all requests, whatever they are about: vectors, scores and tokens of two models do not compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FixedUse {
    /// Texts as vectors.
    Embeddings,
    /// Documents in the order of a query.
    Rerank,
    /// Pairs of texts.
    Score,
    /// Texts into classes.
    Classify,
    /// What a model gives beside text.
    Pooling,
    /// Texts into tokens, and back.
    Tokenize,
    /// Texts into sound.
    Speech,
    /// Sound into texts.
    Transcription,
    /// Texts into what is wrong with them.
    Moderation,
}

/// The models that virtual names stand for where requests are not about anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ModelNaming {
    pub(super) answer_model: AnswerModel,
    /// Each use at most once.
    pub(super) fixed: Vec<(FixedUse, ModelId)>,
}

/// Which model `auto` and the like stand for where no decision is made: one for each use; `default_model` when absent.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "DefaultFor", deny_unknown_fields)]
pub(super) struct RawDefaultFor {
    /// `/v1/embeddings`.
    embeddings: Option<String>,
    /// `/v1/rerank` and its other paths.
    rerank: Option<String>,
    /// `/v1/score` and `/score`.
    score: Option<String>,
    /// `/classify`.
    classify: Option<String>,
    /// `/pooling`.
    pooling: Option<String>,
    /// `/tokenize` and `/detokenize`.
    tokenize: Option<String>,
    /// `/v1/audio/speech`.
    speech: Option<String>,
    /// `/v1/audio/transcriptions` and `/v1/audio/translations`.
    transcription: Option<String>,
    /// `/v1/moderations`, also where the request names no model.
    moderation: Option<String>,
}

impl RawDefaultFor {
    pub(super) fn check(
        self,
        path: &YamlPath,
        context: &PolicyContext<'_>,
        checker: &mut Checker<'_>,
    ) -> Vec<(FixedUse, ModelId)> {
        let named = [
            ("embeddings", FixedUse::Embeddings, self.embeddings),
            ("rerank", FixedUse::Rerank, self.rerank),
            ("score", FixedUse::Score, self.score),
            ("classify", FixedUse::Classify, self.classify),
            ("pooling", FixedUse::Pooling, self.pooling),
            ("tokenize", FixedUse::Tokenize, self.tokenize),
            ("speech", FixedUse::Speech, self.speech),
            ("transcription", FixedUse::Transcription, self.transcription),
            ("moderation", FixedUse::Moderation, self.moderation),
        ];
        let mut find = |(key, purpose, name): (&str, FixedUse, Option<String>)| {
            Some((purpose, context.model(&name?, &path.key(key), checker)?))
        };
        named.into_iter().filter_map(&mut find).collect()
    }
}
