//! What patterns recognise in texts that the model gives no answer about, or is not asked: the half of personal data that
//! needs no model.
//!
//! Short texts are searched where they are asked about, long ones on threads that may block, of which so many search at
//! once as there are cores. Knows nothing of what is done with the findings.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::{ClassifyHeads, Entity, Findings, PiiFindings, Unknown, pii};
use signalbox_policy::{MODEL_PII_KINDS, PATTERN_PII_KINDS};

/// Texts that are longer together are searched on other threads: it takes about a millisecond.
const MAX_BYTES_IN_PLACE: usize = 16 << 10;

/// How long a search waits for its turn.
const MAX_WAIT: Duration = Duration::from_secs(5);

pub(super) struct PatternSearch {
    turns: Arc<Semaphore>,
    /// The kinds that only the model finds.
    unsearched: Arc<[Arc<str>]>,
}

impl PatternSearch {
    /// Prepares for a model with these labels; none where no model finds personal data.
    pub(super) fn new(labels: &[Arc<str>]) -> Self {
        // Without a model that finds any, what is not searched for is what the built-in one finds.
        let usual = || MODEL_PII_KINDS.into_iter().map(Arc::from).collect();
        let kinds = if labels.is_empty() { usual() } else { pii::kinds(labels) };
        let is_searched = |kind: &Arc<str>| PATTERN_PII_KINDS.contains(&&**kind);
        let unsearched = kinds.into_iter().filter(|kind| !is_searched(kind)).collect();
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { turns: Arc::new(Semaphore::new(cores)), unsearched }
    }

    /// Adds what patterns recognise to findings that have no answer from the model, and to those of texts of which it is
    /// all that is asked.
    pub(super) async fn complete(&self, texts: &[(&str, ClassifyHeads)], all: &mut [Findings]) {
        let count = texts.len().min(all.len());
        let is_open = |at: &usize| {
            let ((text, heads), findings) = (texts[*at], &mut all[*at]);
            if heads.patterns && !heads.pii && !text.trim_start().is_empty() {
                // No thread searches in time, until one does.
                findings.pii = Some(PiiFindings::unknown(Unknown::Late));
                return true;
            }
            let unknown = findings.pii.as_ref().and_then(|found| found.unknown);
            unknown.is_some_and(|reason| reason != Unknown::Empty)
        };
        let open: Vec<usize> = (0..count).filter(is_open).collect();
        let bytes: usize = open.iter().map(|at| texts[*at].0.len()).sum();
        let found = if bytes <= MAX_BYTES_IN_PLACE {
            Some(open.iter().map(|at| search(texts[*at].0)).collect())
        } else {
            self.search_elsewhere(open.iter().map(|at| texts[*at].0.to_owned()).collect()).await
        };
        for (at, entities) in open.into_iter().zip(found.into_iter().flatten()) {
            let heads = texts[at].1;
            let unknown = all[at].pii.as_ref().and_then(|found| found.unknown).filter(|_| heads.pii);
            let unsearched = Arc::clone(&self.unsearched);
            all[at].pii = Some(PiiFindings { entities, unknown, unsearched });
        }
    }

    /// Searches long texts; none where that has no turn in time.
    async fn search_elsewhere(&self, texts: Vec<String>) -> Option<Vec<Vec<Entity>>> {
        let turn =
            tokio::time::timeout(MAX_WAIT, Arc::clone(&self.turns).acquire_owned()).await.ok()?.ok()?;
        let search = move || {
            let found = texts.iter().map(|text| search(text)).collect();
            drop(turn);
            found
        };
        tokio::task::spawn_blocking(search).await.ok()
    }
}

fn search(text: &str) -> Vec<Entity> {
    pii::entities(text, &[], &[], 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn patterns_complete_what_the_model_left_open_in_short_texts_and_long_ones() {
        let labels: Vec<Arc<str>> = ["O", "B-PERSON", "B-EMAIL_ADDRESS"].map(Arc::from).to_vec();
        let search = PatternSearch::new(&labels);
        let heads = ClassifyHeads { pii: true, ..ClassifyHeads::NONE };
        let long = format!("{} 4111 1111 1111 1111", "x ".repeat(MAX_BYTES_IN_PLACE));
        let texts = [("write to ada@example.org", heads), (&long, heads), ("ada@example.org", heads)];
        let mut all: Vec<Findings> = [Unknown::Busy, Unknown::TooLong, Unknown::Late]
            .map(|reason| Findings::unknown(heads, reason, super::super::ClassifyCost::default()))
            .to_vec();
        all[2].pii = Some(PiiFindings::known(Vec::new()));
        search.complete(&texts, &mut all).await;
        let kinds: Vec<Vec<&str>> = all
            .iter()
            .map(|found| found.pii.iter().flat_map(|pii| &pii.entities).map(|entity| &*entity.kind).collect())
            .collect();
        assert_eq!(kinds, [vec!["EMAIL_ADDRESS"], vec!["CREDIT_CARD"], vec![]]);
        let pii = all[0].pii.as_ref().unwrap();
        assert_eq!(pii.unknown_among(|kind| kind != "PERSON"), None);
        assert_eq!(pii.unknown_among(|kind| kind == "PERSON"), Some(Unknown::Busy));
    }
}
