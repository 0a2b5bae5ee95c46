//! What is compiled and embedded once for a policy, so that a request pays for nothing that does not depend on it.
//!
//! Refuses to know requests.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use super::examples::{ExampleBank, Judgement};
use super::keyword::KeywordMatcher;
use super::learned::{HardEasyExamples, Vector};
use super::structure::Patterns;
use crate::classify::{Classifier, ClassifyHead, ClassifyHeads, Unknown};
use crate::policy::{
    ComplexitySignal, Policy, Signal, SignalId, SignalKind, SimilaritySignal, StructureSignal, ToolSpec,
    Tools,
};

/// How long all examples of a policy may take.
const MOST: Duration = Duration::from_secs(300);

/// How many examples are put to the classifier at once: requests want their turn.
const AT_ONCE: usize = 32;

/// How long to wait where requests take all the room.
const PAUSE: Duration = Duration::from_millis(20);

/// What the signals of a policy are read with: patterns, keyword machines, meanings of examples and tools.
#[derive(Debug)]
pub struct Detectors {
    pub(super) signals: Vec<Signal>,
    /// What each signal needs beside its own values.
    pub(super) details: Vec<SignalDetail>,
    pub(super) keywords: Vec<KeywordMatcher>,
    pub(super) banks: BTreeMap<Judgement, ExampleBank>,
    tools: HashMap<Box<str>, Vector>,
}

/// What a signal needs beside its own values.
#[derive(Debug)]
pub(super) enum SignalDetail {
    /// Nothing.
    Plain,
    /// Patterns.
    Patterns(Patterns),
    /// Meanings of examples.
    Examples(Vec<Vector>),
    /// Meanings of examples of two sides.
    HardEasyExamples(HardEasyExamples),
}

/// Why a policy's signals cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DetectorError {
    /// A pattern does not compile.
    #[error("signal {signal}: {source}")]
    Pattern {
        /// The signal.
        signal: String,
        /// Why not.
        source: regex::Error,
    },
    /// The keywords are too many for an automaton.
    #[error("the keywords of the signals: {0}")]
    Keywords(#[from] aho_corasick::BuildError),
    /// The meaning of an example is not known.
    #[error("{user}: an example has no embedding ({}): {example:?}", reason.as_str())]
    Example {
        /// What needs it.
        user: String,
        /// The example.
        example: String,
        /// Why not.
        reason: Unknown,
    },
    /// The classifier could not be asked.
    #[error("the classifier cannot be asked: {0}")]
    Thread(#[from] std::io::Error),
}

impl Detectors {
    /// Compiles the patterns and keywords of a policy and embeds its examples; blocks for about as long as the
    /// classifier takes for them, and is called where that holds nobody up.
    pub fn build(policy: &Policy, classifier: &Classifier) -> Result<Self, DetectorError> {
        let meanings = ExampleEmbeddings::of(policy, classifier)?;
        let details = policy.signals.iter().map(|signal| detail(signal, &meanings));
        let details = details.collect::<Result<_, _>>()?;
        let lists = policy.signals.iter().enumerate().filter_map(|(id, signal)| match &signal.kind {
            SignalKind::Keyword(keywords) => Some((SignalId(id), keywords)),
            _ => None,
        });
        let tools = tools(policy).map(|spec| (meant(spec).into(), meanings.get(meant(spec))));
        let tools = tools.collect();
        let bank = |judgement| (judgement, ExampleBank::new(judgement, |example| meanings.get(example)));
        Ok(Self {
            signals: policy.signals.clone(),
            details,
            keywords: KeywordMatcher::all(lists)?,
            banks: judgements(policy).into_iter().map(bank).collect(),
            tools,
        })
    }

    /// Says whether these are what [`Self::build`] would make of a policy with the same classifier.
    pub fn fit(&self, policy: &Policy) -> bool {
        let wanted: HashSet<&str> = tools(policy).map(meant).collect();
        let has_all = wanted.iter().all(|text| self.tools.contains_key(*text));
        self.signals == policy.signals && has_all && wanted.len() == self.tools.len()
    }

    /// Returns the meaning of what a tool of the policy is for, as a vector of unit length.
    pub fn tool_embedding(&self, spec: &ToolSpec) -> Option<&[f32]> {
        self.tools.get(meant(spec)).map(AsRef::as_ref)
    }
}

/// Gives what the policy's signals have judged by the examples that come with the code.
fn judgements(policy: &Policy) -> BTreeSet<Judgement> {
    policy.signals.iter().filter_map(|signal| Judgement::of(&signal.kind)).collect()
}

/// Gives the tools that are picked by what they are for.
fn tools(policy: &Policy) -> impl Iterator<Item = &ToolSpec> {
    let lists = policy.decisions().filter_map(|decision| match &decision.plugins.tools {
        Some(Tools::Select(_, list) | Tools::Add(_, list)) => Some(list),
        Some(Tools::None | Tools::Filter { .. } | Tools::Rank(_)) | None => None,
    });
    lists.flatten()
}

/// Returns what says what a tool is for.
fn meant(spec: &ToolSpec) -> &str {
    if spec.description.trim().is_empty() { &spec.name } else { &spec.description }
}

fn detail(signal: &Signal, meanings: &ExampleEmbeddings<'_>) -> Result<SignalDetail, DetectorError> {
    let all = |examples: &[String]| examples.iter().map(|example| meanings.get(example)).collect();
    Ok(match &signal.kind {
        SignalKind::Structure(StructureSignal { measure, .. }) => {
            let failed = |source| DetectorError::Pattern { signal: signal.name.clone(), source };
            SignalDetail::Patterns(Patterns::of(measure).map_err(failed)?)
        }
        SignalKind::Similarity(SimilaritySignal { to, .. }) => SignalDetail::Examples(all(to)),
        SignalKind::Complexity(ComplexitySignal { hard, easy, .. }) => {
            SignalDetail::HardEasyExamples(HardEasyExamples { hard: all(hard), easy: all(easy) })
        }
        _ => SignalDetail::Plain,
    })
}

/// An example, and what needs it.
type Example<'p> = (Cow<'p, str>, &'p str);

/// The meanings of all examples of a policy.
struct ExampleEmbeddings<'p>(HashMap<Cow<'p, str>, Vector>);

impl<'p> ExampleEmbeddings<'p> {
    fn of(policy: &'p Policy, classifier: &Classifier) -> Result<Self, DetectorError> {
        let examples = examples(policy);
        if examples.is_empty() {
            return Ok(Self(HashMap::new()));
        }
        // The classifier's clock needs a runtime, and whoever builds may stand in one that must not be blocked on.
        let asked = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
            runtime.block_on(embed(&examples, classifier))
        };
        let joined = std::thread::scope(|scope| scope.spawn(asked).join());
        joined.unwrap_or_else(|_| Err(std::io::Error::other("a panic").into())).map(Self)
    }

    /// Returns the meaning of an example of the policy.
    fn get(&self, example: &str) -> Vector {
        Vector::clone(self.0.get(example).expect("every example of the policy was embedded"))
    }
}

/// Gathers every example once.
fn examples(policy: &Policy) -> Vec<Example<'_>> {
    let mut examples: Vec<Example<'_>> = Vec::new();
    for signal in &policy.signals {
        let (first, second): (&[String], &[String]) = match &signal.kind {
            SignalKind::Similarity(SimilaritySignal { to, .. }) => (to, &[]),
            SignalKind::Complexity(ComplexitySignal { hard, easy, .. }) => (hard, easy),
            _ => continue,
        };
        let both = first.iter().chain(second);
        examples.extend(both.map(|example| (Cow::Borrowed(example.as_str()), &*signal.name)));
    }
    for judgement in judgements(policy) {
        examples.extend(judgement.examples().map(|example| (example, judgement.as_str())));
    }
    examples.extend(tools(policy).map(|spec| (Cow::Borrowed(meant(spec)), &*spec.name)));
    let mut seen = HashSet::new();
    examples.retain(|(example, _)| seen.insert(example.clone()));
    examples
}

async fn embed<'p>(
    examples: &[Example<'p>],
    classifier: &Classifier,
) -> Result<HashMap<Cow<'p, str>, Vector>, DetectorError> {
    let questions: ClassifyHeads = std::iter::once(ClassifyHead::Embedding).collect();
    let deadline = Instant::now() + MOST;
    let mut meanings = HashMap::with_capacity(examples.len());
    for group in examples.chunks(AT_ONCE) {
        let mut open: Vec<&Example<'p>> = group.iter().collect();
        while !open.is_empty() {
            let asked: Vec<_> = open.iter().map(|(example, _)| (&**example, questions)).collect();
            let found = classifier.classify_each(&asked, deadline).await;
            let mut busy = Vec::new();
            for (example, findings) in open.into_iter().zip(found) {
                match findings.embedding.unwrap_or(Err(Unknown::Unsupported)) {
                    Ok(meaning) => {
                        meanings.insert(example.0.clone(), meaning);
                    }
                    Err(Unknown::Busy) if Instant::now() < deadline => busy.push(example),
                    Err(reason) => return Err(unembedded(example, reason)),
                }
            }
            if !busy.is_empty() {
                tokio::time::sleep(PAUSE).await;
            }
            open = busy;
        }
    }
    Ok(meanings)
}

fn unembedded((example, user): &Example<'_>, reason: Unknown) -> DetectorError {
    DetectorError::Example { user: (*user).to_owned(), example: example.clone().into_owned(), reason }
}
