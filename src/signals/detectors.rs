//! What is compiled and embedded once for a policy, so that a request pays for nothing that does not depend on it.
//!
//! Refuses to know requests.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::embeddings::{Example, ExampleEmbeddings};
use super::error::DetectorError;
use super::findings::UnitVector;
use super::kind::SignalDetector;
use super::kinds::keyword::KeywordMatcher;
use super::kinds::spec;
use crate::classify::Classifier;
use crate::policy::{Policy, Signal, SignalId, SignalKind, ToolSpec, Tools};

/// What evaluates the signals of a policy: patterns, keyword automata, embeddings of examples and tools.
#[derive(Debug)]
pub struct Detectors {
    signals: Vec<Signal>,
    /// By [`SignalId`].
    pub(super) each: Vec<SignalDetector>,
    pub(super) keywords: Vec<KeywordMatcher>,
    tools: HashMap<Box<str>, UnitVector>,
}

impl Detectors {
    /// Compiles the patterns and keywords of a policy and embeds its examples; blocks for about as long as the
    /// classifier takes for them, and must not be called on a request's thread.
    pub fn build(policy: &Policy, classifier: &Classifier) -> Result<Self, DetectorError> {
        let embeddings = ExampleEmbeddings::embed(examples(policy), classifier)?;
        let detector = |signal: &Signal| {
            let failed = |source| DetectorError::Pattern { signal: signal.name.clone(), source };
            spec(&signal.kind).detector(&embeddings).map_err(failed)
        };
        let keywords = policy.signals.iter().enumerate().filter_map(|(id, signal)| match &signal.kind {
            SignalKind::Keyword(keywords) => Some((SignalId(id), keywords)),
            _ => None,
        });
        let tools = tools(policy).map(|tool| (tool_text(tool).into(), embeddings.get(tool_text(tool))));
        Ok(Self {
            signals: policy.signals.clone(),
            each: policy.signals.iter().map(detector).collect::<Result<_, _>>()?,
            keywords: KeywordMatcher::all(keywords)?,
            tools: tools.collect(),
        })
    }

    /// Says whether these are what [`Self::build`] would make of a policy with the same classifier.
    pub fn fit(&self, policy: &Policy) -> bool {
        let needed: HashSet<&str> = tools(policy).map(tool_text).collect();
        let has_all = needed.iter().all(|text| self.tools.contains_key(*text));
        self.signals == policy.signals && has_all && needed.len() == self.tools.len()
    }

    /// Returns the embedding of what a tool of the policy is for, as a vector of unit length.
    pub fn tool_embedding(&self, tool: &ToolSpec) -> Option<&[f32]> {
        self.tools.get(tool_text(tool)).map(AsRef::as_ref)
    }
}

/// Gives the tools that are picked by what they are for.
fn tools(policy: &Policy) -> impl Iterator<Item = &ToolSpec> {
    let lists = policy.decisions().filter_map(|decision| match &decision.plugins.tools {
        Some(Tools::Select(_, list) | Tools::Add(_, list)) => Some(list),
        Some(Tools::None | Tools::Filter { .. } | Tools::Rank(_)) | None => None,
    });
    lists.flatten()
}

/// Returns the text that a tool is compared by.
fn tool_text(tool: &ToolSpec) -> &str {
    if tool.description.trim().is_empty() { &tool.name } else { &tool.description }
}

fn examples(policy: &Policy) -> Vec<Example<'_>> {
    let of_tools =
        tools(policy).map(|tool| Example { text: Cow::Borrowed(tool_text(tool)), user: &tool.name });
    policy.signals.iter().flat_map(signal_examples).chain(of_tools).collect()
}

fn signal_examples(signal: &Signal) -> impl Iterator<Item = Example<'_>> {
    spec(&signal.kind).examples().into_iter().map(|text| Example { text, user: &signal.name })
}
