//! From token labels to personal data: BIO decoding, and one entity where windows overlap.
//!
//! Knows nothing of models and queues.

use std::ops::Range;
use std::sync::Arc;

use super::{Entity, EntitySource};

/// What the model says of one window.
pub(super) struct Window<'a> {
    /// Which bytes of the text each token spans.
    pub(super) tokens: Vec<Range<usize>>,
    /// For each token the place of its label and the label's probability.
    pub(super) labels: &'a [(u16, f32)],
}

/// Returns the entities of a text, in order, from windows in order.
pub(super) fn entities(
    text: &str,
    windows: &[Window<'_>],
    labels: &[Arc<str>],
    threshold: f32,
) -> Vec<Entity> {
    let mut found: Vec<Entity> = Vec::new();
    for window in windows {
        for (bytes, (label, confidence)) in window.tokens.iter().zip(window.labels) {
            let label = labels.get(usize::from(*label)).map_or("O", |label| &**label);
            let Some((place, kind)) = label.split_once('-').filter(|_| *confidence >= threshold) else {
                continue;
            };
            let joined = found.iter_mut().rev().find(|last| {
                *last.kind == *kind && last.bytes.start <= bytes.start && {
                    let gap = text.get(last.bytes.end..bytes.start).unwrap_or("");
                    bytes.start < last.bytes.end || (place == "I" && gap.trim().is_empty())
                }
            });
            match joined {
                Some(entity) => entity.bytes.end = entity.bytes.end.max(bytes.end),
                None => found.push(Entity {
                    kind: Arc::from(kind),
                    bytes: bytes.clone(),
                    chars: 0..0,
                    confidence: *confidence,
                    by: EntitySource::Model,
                }),
            }
        }
    }
    for entity in &mut found {
        let start = text[..entity.bytes.start].chars().count();
        entity.chars = start..start + text[entity.bytes.clone()].chars().count();
    }
    found
}
