//! Owns the comparison of marked places in texts: the kinds that occur, and the exact spans.

use super::classes::Counts;
use std::collections::{BTreeMap, BTreeSet};

/// A marked place in a text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabeledSpan {
    /// Its first character.
    pub start: usize,
    /// The character after its last.
    pub end: usize,
    /// What it is, such as `EMAIL_ADDRESS`.
    pub kind: String,
}

/// Counts by kind.
pub(super) type ByKind = BTreeMap<String, Counts>;

/// Adds what was found in one text to the counts of each kind; `kind_of` tells the kind of an item.
pub(super) fn compare<T: Ord>(
    counts: &mut ByKind,
    truth: &BTreeSet<T>,
    found: &BTreeSet<T>,
    kind_of: impl Fn(&T) -> &str,
) {
    let mut count = |item: &T, change: fn(&mut Counts)| {
        change(counts.entry(kind_of(item).to_owned()).or_default());
    };
    for item in truth.intersection(found) {
        count(item, |counts| counts.hits += 1);
    }
    for item in truth.difference(found) {
        count(item, |counts| counts.misses += 1);
    }
    for item in found.difference(truth) {
        count(item, |counts| counts.false_alarms += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: usize, end: usize, kind: &str) -> LabeledSpan {
        LabeledSpan { start, end, kind: kind.to_owned() }
    }

    #[test]
    fn only_the_same_place_and_kind_is_a_hit() {
        let truth = BTreeSet::from([span(0, 4, "PERSON"), span(8, 20, "EMAIL_ADDRESS")]);
        let found = BTreeSet::from([span(0, 4, "PERSON"), span(8, 19, "EMAIL_ADDRESS"), span(30, 34, "AGE")]);
        let mut counts = ByKind::new();
        compare(&mut counts, &truth, &found, |span| &span.kind);
        assert_eq!(counts["PERSON"], Counts { hits: 1, false_alarms: 0, misses: 0 });
        assert_eq!(counts["EMAIL_ADDRESS"], Counts { hits: 0, false_alarms: 1, misses: 1 });
        assert_eq!(counts["AGE"], Counts { hits: 0, false_alarms: 1, misses: 0 });
    }
}
