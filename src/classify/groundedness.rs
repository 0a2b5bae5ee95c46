//! Groundedness: how an answer and its context are cut into pairs that a detector can read, and how its judgements of
//! the pairs become the spans of the answer that the context does not support.
//!
//! Knows nothing of threads, nor of how a pair is judged.

use std::ops::Range;

use super::UnsupportedSpan;
use super::window::WindowGrid;

/// The most tokens of a pair, whatever a model could read: detectors are trained on pairs no longer than this.
const MAX_PAIR_TOKENS: usize = 4096;

/// An answer, and the context that must support it.
#[derive(Debug, Clone, Copy)]
pub struct GroundednessInput<'a> {
    /// What the model knew: results of tools, documents.
    pub context: &'a str,
    /// What the user wanted to know; may be empty.
    pub question: &'a str,
    /// The model's answer.
    pub answer: &'a str,
}

impl GroundednessInput<'_> {
    /// Returns the question as detectors are trained to see it behind the context.
    pub(super) fn question_suffix(&self) -> String {
        if self.question.trim().is_empty() {
            return String::new();
        }
        format!(" Question: {}", self.question.trim())
    }
}

#[derive(Debug, Default)]
pub(super) struct GroundednessTokens {
    pub(super) context: Vec<u32>,
    pub(super) question: Vec<u32>,
    pub(super) answer: Vec<u32>,
}

/// One pair: a range of the context's tokens beside a range of the answer's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PairWindow {
    pub(super) context: Range<usize>,
    pub(super) answer: Range<usize>,
}

impl GroundednessTokens {
    pub(super) fn len(&self) -> usize {
        self.context.len() + self.question.len() + self.answer.len()
    }

    /// Cuts the input into pairs of at most `max_tokens` tokens, so that every part of the answer is beside every part of
    /// the context in one of them, each time with the question. A question of more than a quarter of that counts as
    /// context too, and only its end is repeated.
    pub(super) fn pair_windows(&mut self, max_tokens: usize, overlap: usize) -> Vec<PairWindow> {
        let room = max_tokens.clamp(4, MAX_PAIR_TOKENS);
        if self.len() <= room {
            let (context, answer) = (0..self.context.len(), 0..self.answer.len());
            return vec![PairWindow { context, answer }];
        }
        if self.question.len() > room / 4 {
            self.context.extend(&self.question);
            self.question.drain(..self.question.len() - room / 4);
        }
        let answers = WindowGrid::new(room / 2, overlap, room / 2).lay(0..self.answer.len());
        let longest = answers.iter().map(|window| window.tokens.len()).max().unwrap_or(0);
        let left = room - longest - self.question.len();
        let contexts = WindowGrid::new(left, overlap, left).lay(0..self.context.len());
        let pair = |answer: &Range<usize>| {
            let answer = answer.clone();
            contexts
                .iter()
                .map(move |context| PairWindow { context: context.tokens.clone(), answer: answer.clone() })
        };
        answers.iter().flat_map(|answer| pair(&answer.tokens)).collect()
    }

    /// Returns both texts of a pair, one behind the other, and where the second starts.
    pub(super) fn pair_ids(&self, pair: &PairWindow) -> (Vec<u32>, usize) {
        let (context, answer) = (&self.context[pair.context.clone()], &self.answer[pair.answer.clone()]);
        let mut ids = Vec::with_capacity(context.len() + self.question.len() + answer.len());
        ids.extend(context);
        ids.extend(&self.question);
        let second = ids.len();
        ids.extend(answer);
        (ids, second)
    }
}

/// Joins the pairs' probabilities, each of the answer's tokens from one on: a token that one part of the context
/// supports is supported.
pub(super) fn lowest_of_pairs<'a>(
    tokens: usize,
    pairs: impl Iterator<Item = (usize, &'a [f32])>,
) -> Vec<f32> {
    let mut lowest = vec![f32::INFINITY; tokens];
    for (start, probabilities) in pairs {
        for (low, probability) in lowest.iter_mut().skip(start).zip(probabilities) {
            *low = low.min(*probability);
        }
    }
    // A token that no pair holds was not judged.
    lowest.into_iter().map(|low| if low.is_finite() { low } else { 0.0 }).collect()
}

/// Joins neighbouring unsupported tokens to spans of whole characters, without white space around.
pub(super) fn unsupported_spans(
    answer: &str,
    bytes: &[Range<usize>],
    probabilities: &[f32],
    threshold: f32,
) -> Vec<UnsupportedSpan> {
    let mut spans: Vec<UnsupportedSpan> = Vec::new();
    let tokens: Vec<(&Range<usize>, f32)> = bytes.iter().zip(probabilities.iter().copied()).collect();
    for run in tokens.chunk_by(|(_, a), (_, b)| (*a >= threshold) == (*b >= threshold)) {
        let confidence = run.iter().map(|(_, probability)| *probability).fold(0.0, f32::max);
        let (Some((first, probability)), Some((last, _))) = (run.first(), run.last()) else { continue };
        if *probability < threshold {
            continue;
        }
        let start = answer.floor_char_boundary(first.start);
        let end = answer.ceil_char_boundary(last.end.max(start));
        let text = &answer[start..end];
        let start = start + (text.len() - text.trim_start().len());
        let bytes = start..start + text.trim().len();
        match spans.last_mut() {
            // A character whose bytes are several tokens.
            Some(before) if before.bytes.end > bytes.start => {
                before.bytes.end = before.bytes.end.max(bytes.end);
                before.confidence = before.confidence.max(confidence);
            }
            _ if bytes.is_empty() => {}
            _ => spans.push(UnsupportedSpan { bytes, confidence }),
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens(context: usize, question: usize, answer: usize) -> GroundednessTokens {
        let ids = |from: u32, count: usize| (0..count as u32).map(|at| from + at).collect();
        GroundednessTokens {
            context: ids(0, context),
            question: ids(10_000, question),
            answer: ids(20_000, answer),
        }
    }

    #[test]
    fn a_short_input_is_one_pair_with_the_question_behind_the_context() {
        let mut tokens = tokens(3, 2, 2);
        let pair_windows = tokens.pair_windows(7, 1);
        assert_eq!(pair_windows, [PairWindow { context: 0..3, answer: 0..2 }]);
        assert_eq!(tokens.pair_ids(&pair_windows[0]), (vec![0, 1, 2, 10_000, 10_001, 20_000, 20_001], 5));
    }

    #[test]
    fn a_long_context_is_cut_where_answer_and_question_leave_room() {
        let pair_windows = tokens(20, 2, 4).pair_windows(16, 2);
        let contexts: Vec<_> = pair_windows.iter().map(|pair_window| pair_window.context.clone()).collect();
        assert_eq!(contexts, [0..10, 8..18, 16..20]);
        assert!(pair_windows.iter().all(|pair_window| pair_window.answer == (0..4)));
    }

    #[test]
    fn a_long_question_is_context_too_and_its_end_is_repeated() {
        let mut tokens = tokens(2, 10, 4);
        let pair_windows = tokens.pair_windows(12, 0);
        assert_eq!((tokens.context.len(), tokens.question.clone()), (12, vec![10_007, 10_008, 10_009]));
        assert_eq!(pair_windows.len(), 3);
    }

    #[test]
    fn a_token_is_unsupported_only_if_every_pair_says_so() {
        let pairs: [(usize, &[f32]); 3] = [(0, &[0.9, 0.9, 0.1]), (0, &[0.8, 0.2, 0.9]), (2, &[0.7, 0.6])];
        assert_eq!(lowest_of_pairs(5, pairs.into_iter()), [0.8, 0.2, 0.1, 0.6, 0.0]);
    }

    #[test]
    fn neighbours_are_one_span_of_whole_characters_without_white_space() {
        let answer = "Zürich has 🦀 of 9 km.";
        let at = |part: &str| answer.find(part).map(|start| start..start + part.len()).unwrap();
        let crab = at("🦀");
        // The crab's bytes are two tokens, of which one is unsupported; a space belongs to the word behind it.
        let bytes = [
            at("Zürich"),
            at(" has"),
            crab.start - 1..crab.start + 2,
            crab.start + 2..crab.end,
            at(" of"),
            at(" 9"),
            at(" km"),
            at("."),
        ];
        let found = |probabilities: &[f32]| -> Vec<(&str, f32)> {
            let spans = unsupported_spans(answer, &bytes, probabilities, 0.5);
            spans.iter().map(|span| (&answer[span.bytes.clone()], span.confidence)).collect()
        };
        assert_eq!(found(&[0.1, 0.2, 0.8, 0.1, 0.0, 0.5, 0.9, 0.4]), [("🦀", 0.8), ("9 km", 0.9)]);
        assert_eq!(
            found(&[0.9, 0.2, 0.0, 0.6, 0.0, 0.0, 0.0, 0.7]),
            [("Zürich", 0.9), ("🦀", 0.6), (".", 0.7)]
        );
        assert_eq!(found(&[0.9; 8]), [(answer, 0.9)]);
        assert_eq!(found(&[0.1; 8]), []);
    }

    proptest! {
        #[test]
        fn every_part_of_the_answer_is_paired_with_every_part_of_the_context(
            context in 1..300_usize, question in 0..100_usize, answer in 1..200_usize, max_tokens in 4..128_usize, overlap in 0..64_usize,
        ) {
            let mut tokens = tokens(context, question, answer);
            let pair_windows = tokens.pair_windows(max_tokens, overlap);
            let mut paired = vec![vec![false; tokens.context.len()]; answer];
            for pair_window in &pair_windows {
                let (ids, second) = tokens.pair_ids(pair_window);
                prop_assert!(ids.len() <= max_tokens, "{} in {max_tokens}", ids.len());
                prop_assert_eq!(ids.len() - second, pair_window.answer.len());
                for row in &mut paired[pair_window.answer.clone()] {
                    row[pair_window.context.clone()].fill(true);
                }
            }
            prop_assert!(paired.iter().flatten().all(|paired| *paired));
        }

        #[test]
        fn spans_are_in_order_and_never_split_a_character(
            answer in "\\PC{0,20}", cuts in prop::collection::vec(0..80_usize, 0..12), probabilities in prop::collection::vec(0.0..1.0_f32, 12),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (answer.len() + 1)).collect();
            cuts.sort_unstable();
            let bytes: Vec<_> = cuts.windows(2).map(|pair| pair[0]..pair[1]).collect();
            let mut end = 0;
            for span in unsupported_spans(&answer, &bytes, &probabilities, 0.5) {
                prop_assert!(span.bytes.start >= end && answer.get(span.bytes.clone()).is_some());
                end = span.bytes.end;
            }
        }
    }
}
