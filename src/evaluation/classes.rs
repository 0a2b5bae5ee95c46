//! Owns what is counted class by class: precision, recall, F1 and the confusion matrix.

use serde::Serialize;

/// How often a class was found, missed and claimed without being there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Found, and there.
    pub hits: usize,
    /// Found, but not there.
    pub false_alarms: usize,
    /// There, but not found.
    pub misses: usize,
}

impl Counts {
    /// The share of what was found that is there; 0 where nothing was found.
    pub fn precision(self) -> f64 {
        share(self.hits, self.hits + self.false_alarms)
    }

    /// The share of what is there that was found; 0 where nothing is there.
    pub fn recall(self) -> f64 {
        share(self.hits, self.hits + self.misses)
    }

    /// The harmonic mean of both.
    pub fn f1(self) -> f64 {
        share(2 * self.hits, 2 * self.hits + self.false_alarms + self.misses)
    }

    /// Says whether the class is anywhere, in the labels or in the answers.
    pub fn is_seen(self) -> bool {
        self != Self::default()
    }

    /// Both counts together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            hits: self.hits + other.hits,
            false_alarms: self.false_alarms + other.false_alarms,
            misses: self.misses + other.misses,
        }
    }
}

fn share(part: usize, of: usize) -> f64 {
    if of == 0 { 0.0 } else { part as f64 / of as f64 }
}

/// One class's figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassScore {
    /// The class.
    pub label: String,
    /// How many texts or spans have it.
    pub support: usize,
    /// The share of what was found that is there.
    pub precision: f64,
    /// The share of what is there that was found.
    pub recall: f64,
    /// The harmonic mean of both.
    pub f1: f64,
}

impl ClassScore {
    /// A class's figures from its counts.
    pub fn new(label: impl Into<String>, counts: Counts) -> Self {
        Self {
            label: label.into(),
            support: counts.hits + counts.misses,
            precision: counts.precision(),
            recall: counts.recall(),
            f1: counts.f1(),
        }
    }
}

/// The mean F1 of classes, each counting alike; 0 for no class.
pub(super) fn macro_f1(classes: &[ClassScore]) -> f64 {
    if classes.is_empty() {
        return 0.0;
    }
    classes.iter().map(|class| class.f1).sum::<f64>() / classes.len() as f64
}

/// What was answered to texts of each class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Confusion {
    /// The classes, in the order of rows and columns.
    pub labels: Vec<String>,
    /// For each true class how often each class was answered; the last column counts the texts without an answer.
    pub rows: Vec<Vec<usize>>,
}

impl Confusion {
    /// Starts with nothing counted.
    pub fn new(labels: Vec<String>) -> Self {
        let rows = vec![vec![0; labels.len() + 1]; labels.len()];
        Self { labels, rows }
    }

    /// Counts a text of class `truth` that was answered with `answer`.
    pub fn add(&mut self, truth: usize, answer: Option<usize>) {
        self.rows[truth][answer.unwrap_or(self.labels.len())] += 1;
    }

    /// How many texts were answered rightly.
    pub fn hits(&self) -> usize {
        self.rows.iter().enumerate().map(|(class, row)| row[class]).sum()
    }

    /// The counts of one class.
    pub fn counts(&self, class: usize) -> Counts {
        let hits = self.rows[class][class];
        Counts {
            hits,
            false_alarms: self.rows.iter().map(|row| row[class]).sum::<usize>() - hits,
            misses: self.rows[class].iter().sum::<usize>() - hits,
        }
    }

    /// The figures of each class that some text or some answer has.
    pub fn classes(&self) -> Vec<ClassScore> {
        let seen = (0..self.labels.len()).map(|class| (class, self.counts(class)));
        let seen = seen.filter(|(_, counts)| counts.is_seen());
        seen.map(|(class, counts)| ClassScore::new(&self.labels[class], counts)).collect()
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these are computed exactly")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(count: usize) -> Vec<String> {
        (0..count).map(|label| format!("c{label}")).collect()
    }

    #[test]
    fn figures_are_those_computed_by_hand() {
        let mut confusion = Confusion::new(labels(3));
        for (truth, answer) in
            [(0, Some(0)), (0, Some(0)), (0, Some(1)), (1, Some(1)), (1, None), (1, Some(0))]
        {
            confusion.add(truth, answer);
        }
        assert_eq!(confusion.rows, [[2, 1, 0, 0], [1, 1, 0, 1], [0, 0, 0, 0]]);
        assert_eq!(confusion.hits(), 3);
        let classes = confusion.classes();
        // The third is nowhere: neither in a label nor in an answer.
        assert_eq!(classes.len(), 2);
        let first = &classes[0];
        assert_eq!((first.support, first.precision, first.recall, first.f1), (3, 2. / 3., 2. / 3., 4. / 6.));
        let second = &classes[1];
        assert_eq!((second.support, second.precision, second.recall, second.f1), (3, 0.5, 1. / 3., 0.4));
        assert!((macro_f1(&classes) - f64::midpoint(2. / 3., 0.4)).abs() < 1e-12);
    }

    #[test]
    fn a_class_that_is_only_claimed_counts_as_nothing_right() {
        let mut confusion = Confusion::new(labels(2));
        confusion.add(0, Some(1));
        let classes = confusion.classes();
        assert_eq!((classes[1].support, classes[1].precision, classes[1].f1), (0, 0.0, 0.0));
        assert_eq!(macro_f1(&[]), 0.0);
    }

    proptest! {
        #[test]
        fn f1_is_the_harmonic_mean_and_supports_add_up(
            answers in prop::collection::vec((0_usize..4, prop::option::of(0_usize..4)), 1..100)
        ) {
            let mut confusion = Confusion::new(labels(4));
            for &(truth, answer) in &answers {
                confusion.add(truth, answer);
            }
            let classes = confusion.classes();
            prop_assert_eq!(classes.iter().map(|class| class.support).sum::<usize>(), answers.len());
            for class in classes {
                let (p, r) = (class.precision, class.recall);
                let harmonic = if p + r == 0.0 { 0.0 } else { 2.0 * p * r / (p + r) };
                prop_assert!((class.f1 - harmonic).abs() < 1e-9);
            }
        }
    }
}
