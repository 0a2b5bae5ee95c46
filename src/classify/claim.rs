//! A claim: an answer beside what its model was told, how the two are cut into pairs that a detector can read, and what
//! its judgements of the pairs amount to.
//!
//! Knows nothing of threads, nor of how a pair is judged.

use std::ops::Range;

use super::Doubt;
use super::window::Grid;

/// The most tokens of a pair, whatever a model could read: detectors are trained on pairs no longer than this.
const LONGEST: usize = 4096;

/// An answer, and what it is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// What the model was told: results of tools, documents.
    pub context: &'a str,
    /// What it was asked.
    pub question: &'a str,
    /// What it said.
    pub answer: &'a str,
}

impl Claim<'_> {
    /// Returns the question as it follows the context.
    pub(super) fn asked(&self) -> String {
        if self.question.trim().is_empty() {
            return String::new();
        }
        format!(" Question: {}", self.question.trim())
    }
}

/// The tokens of a claim.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    pub(super) context: Vec<u32>,
    pub(super) question: Vec<u32>,
    pub(super) answer: Vec<u32>,
}

/// One pair: which tokens of the context, and of the answer, meet in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Meeting {
    pub(super) context: Range<usize>,
    pub(super) answer: Range<usize>,
}

impl Tokens {
    pub(super) fn len(&self) -> usize {
        self.context.len() + self.question.len() + self.answer.len()
    }

    /// Cuts the claim into pairs of at most `room` tokens, so that every part of the answer meets every part of the
    /// context, each time with the question. A question of more than a quarter of the room counts as context too, and
    /// only its end goes along.
    pub(super) fn meetings(&mut self, room: usize, overlap: usize) -> Vec<Meeting> {
        let room = room.clamp(4, LONGEST);
        if self.len() <= room {
            let (context, answer) = (0..self.context.len(), 0..self.answer.len());
            return vec![Meeting { context, answer }];
        }
        if self.question.len() > room / 4 {
            self.context.extend(&self.question);
            self.question.drain(..self.question.len() - room / 4);
        }
        let answers = Grid::new(room / 2, overlap, room / 2).lay(0..self.answer.len());
        let longest = answers.iter().map(|window| window.tokens.len()).max().unwrap_or(0);
        let left = room - longest - self.question.len();
        let contexts = Grid::new(left, overlap, left).lay(0..self.context.len());
        let meet = |answer: &Range<usize>| {
            let answer = answer.clone();
            contexts
                .iter()
                .map(move |context| Meeting { context: context.tokens.clone(), answer: answer.clone() })
        };
        answers.iter().flat_map(|answer| meet(&answer.tokens)).collect()
    }

    /// Returns both texts of a pair, one behind the other, and where the second starts.
    pub(super) fn pair(&self, meeting: &Meeting) -> (Vec<u32>, usize) {
        let (context, answer) =
            (&self.context[meeting.context.clone()], &self.answer[meeting.answer.clone()]);
        let mut ids = Vec::with_capacity(context.len() + self.question.len() + answer.len());
        ids.extend(context);
        ids.extend(&self.question);
        let second = ids.len();
        ids.extend(answer);
        (ids, second)
    }
}

/// Joins what was said of the pairs, each the probabilities of the answer's tokens from one on that they are made up:
/// what one pair bears out is borne out.
pub(super) fn least<'a>(tokens: usize, pairs: impl Iterator<Item = (usize, &'a [f32])>) -> Vec<f32> {
    let mut least = vec![f32::INFINITY; tokens];
    for (start, found) in pairs {
        for (known, found) in least.iter_mut().skip(start).zip(found) {
            *known = known.min(*found);
        }
    }
    // What no pair holds is not doubted.
    least.into_iter().map(|known| if known.is_finite() { known } else { 0.0 }).collect()
}

/// Joins neighbouring tokens that are doubted to parts of the answer, whole characters and without white space around.
pub(super) fn doubts(
    answer: &str,
    bytes: &[Range<usize>],
    probabilities: &[f32],
    threshold: f32,
) -> Vec<Doubt> {
    let mut doubts: Vec<Doubt> = Vec::new();
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
        match doubts.last_mut() {
            // A character whose bytes are several tokens.
            Some(before) if before.bytes.end > bytes.start => {
                before.bytes.end = before.bytes.end.max(bytes.end);
                before.confidence = before.confidence.max(confidence);
            }
            _ if bytes.is_empty() => {}
            _ => doubts.push(Doubt { bytes, confidence }),
        }
    }
    doubts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens(context: usize, question: usize, answer: usize) -> Tokens {
        let ids = |from: u32, count: usize| (0..count as u32).map(|at| from + at).collect();
        Tokens { context: ids(0, context), question: ids(10_000, question), answer: ids(20_000, answer) }
    }

    #[test]
    fn a_short_claim_is_one_pair_with_the_question_behind_the_context() {
        let mut tokens = tokens(3, 2, 2);
        let meetings = tokens.meetings(7, 1);
        assert_eq!(meetings, [Meeting { context: 0..3, answer: 0..2 }]);
        assert_eq!(tokens.pair(&meetings[0]), (vec![0, 1, 2, 10_000, 10_001, 20_000, 20_001], 5));
    }

    #[test]
    fn a_long_context_is_cut_where_answer_and_question_leave_room() {
        let meetings = tokens(20, 2, 4).meetings(16, 2);
        let contexts: Vec<_> = meetings.iter().map(|meeting| meeting.context.clone()).collect();
        assert_eq!(contexts, [0..10, 8..18, 16..20]);
        assert!(meetings.iter().all(|meeting| meeting.answer == (0..4)));
    }

    #[test]
    fn a_long_question_is_context_too_and_its_end_goes_along() {
        let mut tokens = tokens(2, 10, 4);
        let meetings = tokens.meetings(12, 0);
        assert_eq!((tokens.context.len(), tokens.question.clone()), (12, vec![10_007, 10_008, 10_009]));
        assert_eq!(meetings.len(), 3);
    }

    #[test]
    fn a_token_counts_as_made_up_only_if_every_pair_says_so() {
        let pairs: [(usize, &[f32]); 3] = [(0, &[0.9, 0.9, 0.1]), (0, &[0.8, 0.2, 0.9]), (2, &[0.7, 0.6])];
        assert_eq!(least(5, pairs.into_iter()), [0.8, 0.2, 0.1, 0.6, 0.0]);
    }

    #[test]
    fn neighbours_are_one_doubt_of_whole_characters_without_white_space() {
        let answer = "Zürich has 🦀 of 9 km.";
        let at = |part: &str| answer.find(part).map(|start| start..start + part.len()).unwrap();
        let crab = at("🦀");
        // The crab's bytes are two tokens, of which one is doubted; a space belongs to the word behind it.
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
            let doubts = doubts(answer, &bytes, probabilities, 0.5);
            doubts.iter().map(|doubt| (&answer[doubt.bytes.clone()], doubt.confidence)).collect()
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
        fn every_part_of_the_answer_meets_every_part_of_the_context(
            context in 1..300_usize, question in 0..100_usize, answer in 1..200_usize, room in 4..128_usize, overlap in 0..64_usize,
        ) {
            let mut tokens = tokens(context, question, answer);
            let meetings = tokens.meetings(room, overlap);
            let mut met = vec![vec![false; tokens.context.len()]; answer];
            for meeting in &meetings {
                let (ids, second) = tokens.pair(meeting);
                prop_assert!(ids.len() <= room, "{} in {room}", ids.len());
                prop_assert_eq!(ids.len() - second, meeting.answer.len());
                for row in &mut met[meeting.answer.clone()] {
                    row[meeting.context.clone()].fill(true);
                }
            }
            prop_assert!(met.iter().flatten().all(|met| *met));
        }

        #[test]
        fn doubts_are_in_order_and_never_split_a_character(
            answer in "\\PC{0,20}", cuts in prop::collection::vec(0..80_usize, 0..12), probabilities in prop::collection::vec(0.0..1.0_f32, 12),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (answer.len() + 1)).collect();
            cuts.sort_unstable();
            let bytes: Vec<_> = cuts.windows(2).map(|pair| pair[0]..pair[1]).collect();
            let mut end = 0;
            for doubt in doubts(&answer, &bytes, &probabilities, 0.5) {
                prop_assert!(doubt.bytes.start >= end && answer.get(doubt.bytes.clone()).is_some());
                end = doubt.bytes.end;
            }
        }
    }
}
