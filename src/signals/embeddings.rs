//! The embeddings of a policy's examples, computed once when the policy goes live.
//!
//! Refuses to know what the examples are of.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::error::DetectorError;
use super::findings::UnitVector;
use crate::classify::{Classifier, ClassifyHead, ClassifyHeads, ClassifyLimits, Priority, Unknown};

/// How long all examples of a policy may take.
const TIMEOUT: Duration = Duration::from_secs(300);

/// How many examples are put to the classifier at once: requests want their turn.
const AT_ONCE: usize = 32;

/// How long to wait where requests take all the room.
const PAUSE: Duration = Duration::from_millis(20);

/// A text, and the name of what needs its embedding.
#[derive(Debug, Clone)]
pub(super) struct Example<'p> {
    pub(super) text: Cow<'p, str>,
    pub(super) user: &'p str,
}

/// The embeddings of all examples of a policy.
pub(super) struct ExampleEmbeddings<'p>(HashMap<Cow<'p, str>, UnitVector>);

impl<'p> ExampleEmbeddings<'p> {
    /// Embeds each text once; blocks for about as long as the classifier takes.
    pub(super) fn embed(
        mut examples: Vec<Example<'p>>,
        classifier: &Classifier,
    ) -> Result<Self, DetectorError> {
        let mut seen = HashSet::new();
        examples.retain(|example| seen.insert(example.text.clone()));
        if examples.is_empty() {
            return Ok(Self(HashMap::new()));
        }
        // The classifier's clock needs a runtime, and the caller may be inside one that must not be blocked on.
        let embedded = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
            runtime.block_on(embed(&examples, classifier))
        };
        let joined = std::thread::scope(|scope| scope.spawn(embedded).join());
        joined.unwrap_or_else(|_| Err(std::io::Error::other("a panic").into())).map(Self)
    }

    /// Returns the embedding of an example that was embedded.
    pub(super) fn get(&self, example: &str) -> UnitVector {
        UnitVector::clone(self.0.get(example).expect("every example of the policy was embedded"))
    }

    /// Returns the embeddings of several.
    pub(super) fn all(&self, examples: &[String]) -> Vec<UnitVector> {
        examples.iter().map(|example| self.get(example)).collect()
    }
}

async fn embed<'p>(
    examples: &[Example<'p>],
    classifier: &Classifier,
) -> Result<HashMap<Cow<'p, str>, UnitVector>, DetectorError> {
    let questions: ClassifyHeads = std::iter::once(ClassifyHead::Embedding).collect();
    let deadline = Instant::now() + TIMEOUT;
    // No request can be answered by a policy that waits for its examples.
    let limits = ClassifyLimits { deadline, priority: Priority::Required };
    let mut embeddings = HashMap::with_capacity(examples.len());
    for group in examples.chunks(AT_ONCE) {
        let mut open: Vec<&Example<'p>> = group.iter().collect();
        while !open.is_empty() {
            let asked: Vec<_> = open.iter().map(|example| (&*example.text, questions)).collect();
            let found = classifier.classify_each(&asked, limits).await;
            let mut busy = Vec::new();
            for (example, findings) in open.into_iter().zip(found) {
                match findings.embedding.unwrap_or(Err(Unknown::Unsupported)) {
                    Ok(embedding) => {
                        embeddings.insert(example.text.clone(), embedding);
                    }
                    Err(Unknown::Busy) if Instant::now() < deadline => busy.push(example),
                    Err(reason) => return Err(without_embedding(example, reason)),
                }
            }
            if !busy.is_empty() {
                tokio::time::sleep(PAUSE).await;
            }
            open = busy;
        }
    }
    Ok(embeddings)
}

fn without_embedding(example: &Example<'_>, reason: Unknown) -> DetectorError {
    let (user, text) = (example.user.to_owned(), example.text.clone().into_owned());
    DetectorError::Example { user, example: text, reason }
}
