//! Whether one answer serves two questions: the tokens of each are lined up with the other's by their states, and small networks
//! judge what lines up and what does not.
//!
//! Knows nothing of texts, models' files or what becomes of the answer.

use signalbox_kernels::{Activation, PackedMatrix, dot};

/// The most tokens of a question that is compared.
pub(super) const MAX_QUESTION_TOKENS: usize = 64;

/// The most bytes of such a question: longer ones are not read at all.
pub(super) const MAX_QUESTION_BYTES: usize = 8 * MAX_QUESTION_TOKENS;

/// A question as it is compared with others: its tokens, and what was read of each, in eight bits with a scale for each part.
#[derive(Debug, Clone, PartialEq)]
pub struct QuestionTokens {
    ids: Vec<u32>,
    rows: Vec<i8>,
    scales: Vec<f32>,
}

impl QuestionTokens {
    /// Says whether one of its tokens is this one.
    pub(super) fn has(&self, token: u32) -> bool {
        self.ids.contains(&token)
    }
}

/// How likely one answer serves two questions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ParaphraseScore {
    /// From 0 to 1.
    pub score: f32,
    /// From which score on the questions count as the same.
    pub threshold: f32,
}

impl ParaphraseScore {
    /// Says whether the questions count as the same.
    pub fn is_same(&self) -> bool {
        self.score >= self.threshold
    }
}

/// How a token's row is laid out: so many numbers of each of its states, of which the first ones are compared one by one.
#[derive(Debug, Clone)]
pub(super) struct QuestionLayout {
    pub(super) width: usize,
    pub(super) compared: Vec<usize>,
}

/// What is compared of two questions beside their tokens: how alike each state's mean is, and two figures of their lengths.
pub(super) const LENGTHS: usize = 2;

/// What is known of a token beside its numbers and likenesses.
const SIGNS: usize = 7;

/// Networks that judge a pair, and whose mean counts.
pub(super) struct ParaphraseNetwork {
    pub(super) layout: QuestionLayout,
    pub(super) members: Vec<ParaphraseMember>,
    pub(super) threshold: f32,
}

/// A token's row to features; their gated sum and their maxima over either question to one logit.
pub(super) struct ParaphraseMember {
    pub(super) hidden: PackedMatrix,
    pub(super) gate: PackedMatrix,
    pub(super) join: PackedMatrix,
    pub(super) output: PackedMatrix,
}

impl QuestionLayout {
    pub(super) fn row(&self) -> usize {
        self.width * self.compared.len()
    }

    /// How many numbers a member reads of each token.
    pub(super) fn inputs(&self) -> usize {
        3 * self.compared.iter().sum::<usize>() + 2 * self.compared.len() + SIGNS
    }

    /// Rounds a question's rows.
    pub(super) fn question<'a>(&self, ids: &[u32], rows: impl Iterator<Item = &'a [f32]>) -> QuestionTokens {
        let mut question = QuestionTokens { ids: ids.to_vec(), rows: Vec::new(), scales: Vec::new() };
        for part in rows.flat_map(|row| row.chunks_exact(self.width)) {
            let scale = part.iter().fold(0.0_f32, |most, x| most.max(x.abs())) / 127.0;
            question.scales.push(scale);
            question.rows.extend(part.iter().map(|x| (x / scale.max(f32::MIN_POSITIVE)).round() as i8));
        }
        question
    }

    fn expand(&self, question: &QuestionTokens) -> ExpandedQuestion {
        let parts = question.rows.chunks_exact(self.width).zip(&question.scales);
        let rows: Vec<f32> =
            parts.flat_map(|(part, scale)| part.iter().map(move |x| f32::from(*x) * scale)).collect();
        let mut mean = vec![0.0; self.row()];
        for row in rows.chunks_exact(self.row()) {
            mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        }
        ExpandedQuestion {
            ids: question.ids.clone(),
            units: self.units(&rows),
            mean: self.units(&mean),
            rows,
        }
    }

    /// Scales each part to length one.
    fn units(&self, rows: &[f32]) -> Vec<f32> {
        let scaled = rows.chunks_exact(self.width).flat_map(|part| {
            let length = dot(part, part).sqrt().max(1e-6);
            part.iter().map(move |x| x / length)
        });
        scaled.collect()
    }

    /// The first numbers of each part of a row.
    fn compared<'a>(&'a self, row: &'a [f32]) -> impl Iterator<Item = f32> + 'a {
        row.chunks_exact(self.width)
            .zip(&self.compared)
            .flat_map(|(part, count)| part[..*count].iter().copied())
    }
}

struct ExpandedQuestion {
    ids: Vec<u32>,
    rows: Vec<f32>,
    units: Vec<f32>,
    mean: Vec<f32>,
}

/// How alike each token of one question is to each of another, in each part, seen from the first.
struct Alignment {
    tokens: usize,
    others: usize,
    parts: usize,
    cosines: Vec<f32>,
}

impl Alignment {
    fn of(layout: &QuestionLayout, one: &ExpandedQuestion, other: &ExpandedQuestion) -> Self {
        let row = layout.row();
        let mut cosines = Vec::with_capacity(one.ids.len() * other.ids.len() * layout.compared.len());
        for own in one.units.chunks_exact(row) {
            for theirs in other.units.chunks_exact(row) {
                let parts = own.chunks_exact(layout.width).zip(theirs.chunks_exact(layout.width));
                cosines.extend(parts.map(|(a, b)| dot(a, b)));
            }
        }
        Self { tokens: one.ids.len(), others: other.ids.len(), parts: layout.compared.len(), cosines }
    }

    /// The same, seen from the other question.
    fn mirrored(&self) -> Self {
        let places = (0..self.others).flat_map(|other| (0..self.tokens).map(move |token| (token, other)));
        let cosines = places.flat_map(|(token, other)| self.at(token, other).iter().copied()).collect();
        Self { tokens: self.others, others: self.tokens, parts: self.parts, cosines }
    }

    fn at(&self, token: usize, other: usize) -> &[f32] {
        let start = (token * self.others + other) * self.parts;
        &self.cosines[start..start + self.parts]
    }

    fn likeness(&self, token: usize, other: usize) -> f32 {
        self.at(token, other).iter().sum::<f32>() / self.parts as f32
    }

    /// Each token's likest one of the other question.
    fn matches(&self) -> Vec<usize> {
        let likest = |token| first_largest((0..self.others).map(move |other| self.likeness(token, other)));
        (0..self.tokens).map(likest).collect()
    }
}

fn first_largest(values: impl Iterator<Item = f32>) -> usize {
    let largest = values.enumerate().fold((0, f32::NEG_INFINITY), |(at, largest), (next, value)| {
        if value > largest { (next, value) } else { (at, largest) }
    });
    largest.0
}

impl ParaphraseNetwork {
    /// Judges two questions; none if one of them has no token.
    pub(super) fn judge(&self, one: &QuestionTokens, other: &QuestionTokens) -> Option<ParaphraseScore> {
        if one.ids.is_empty() || other.ids.is_empty() {
            return None;
        }
        let (one, other) = (self.layout.expand(one), self.layout.expand(other));
        let alignment = Alignment::of(&self.layout, &one, &other);
        let mirrored = alignment.mirrored();
        let matches = [alignment.matches(), mirrored.matches()];
        let sides = [
            self.side(&one, &other, &alignment, [&matches[0], &matches[1]]),
            self.side(&other, &one, &mirrored, [&matches[1], &matches[0]]),
        ];
        let means = one.mean.chunks_exact(self.layout.width).zip(other.mean.chunks_exact(self.layout.width));
        let mut whole: Vec<f32> = means.map(|(a, b)| dot(a, b)).collect();
        let lengths = [one.ids.len() as f32, other.ids.len() as f32].map(f32::ln);
        whole.extend([(lengths[0] - lengths[1]).abs(), lengths[0].midpoint(lengths[1])]);
        let logits: f32 = self.members.iter().map(|member| member.logit(&sides, &whole)).sum();
        let logit = logits / self.members.len() as f32;
        Some(ParaphraseScore { score: sigmoid(logit), threshold: self.threshold })
    }

    /// What is known of each token of the first question beside the second.
    fn side(
        &self,
        one: &ExpandedQuestion,
        other: &ExpandedQuestion,
        alignment: &Alignment,
        [matches, mirrored]: [&[usize]; 2],
    ) -> Vec<f32> {
        let (row, layout) = (self.layout.row(), &self.layout);
        let goes_on = |at: usize| {
            let next = matches.get(at + 1).is_some_and(|next| *next == matches[at] + 1);
            f32::from(u8::from(next))
        };
        let mut rows = Vec::with_capacity(matches.len() * layout.inputs());
        for (at, found) in matches.iter().copied().enumerate() {
            let own: Vec<f32> = layout.compared(&one.rows[at * row..(at + 1) * row]).collect();
            let theirs: Vec<f32> = layout.compared(&other.rows[found * row..(found + 1) * row]).collect();
            rows.extend(&own);
            rows.extend(own.iter().zip(&theirs).map(|(a, b)| (a - b).abs()));
            rows.extend(own.iter().zip(&theirs).map(|(a, b)| a * b));
            rows.extend(alignment.at(at, found));
            let most = |part: usize| {
                (0..alignment.others).map(move |other| alignment.at(at, other)[part]).fold(-1.0, f32::max)
            };
            rows.extend((0..alignment.parts).map(most));
            let likeness = |other| alignment.likeness(at, other);
            let second = (0..alignment.others).filter(|other| *other != found).map(likeness);
            let second = second.reduce(f32::max).unwrap_or(likeness(found));
            let place = at as f32 / alignment.tokens as f32;
            rows.extend([
                likeness(found) - second,
                f32::from(u8::from(other.ids.contains(&one.ids[at]))),
                goes_on(at),
                at.checked_sub(1).map_or(0.0, goes_on),
                (place - found as f32 / alignment.others as f32).abs(),
                f32::from(u8::from(mirrored[found] == at)),
                place,
            ]);
        }
        rows
    }
}

impl ParaphraseMember {
    fn logit(&self, sides: &[Vec<f32>; 2], whole: &[f32]) -> f32 {
        let width = self.hidden.outputs();
        let [(sum, most), (other_sum, other_most)] = sides.each_ref().map(|rows| self.pooled(rows));
        let mut joined = Vec::with_capacity(4 * width + whole.len());
        joined.extend(sum.iter().zip(&other_sum).map(|(a, b)| a + b));
        joined.extend(sum.iter().zip(&other_sum).map(|(a, b)| (a - b).abs()));
        joined.extend(most.iter().zip(&other_most).map(|(a, b)| a.max(*b)));
        joined.extend(most.iter().zip(&other_most).map(|(a, b)| a + b));
        joined.extend(whole);
        let features = product(&self.join, &joined, Activation::Gelu);
        product(&self.output, &features, Activation::Identity)[0]
    }

    /// The gated sum of the tokens' features over the root of their number, and the features' maxima.
    fn pooled(&self, rows: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let width = self.hidden.outputs();
        let features = product(&self.hidden, rows, Activation::Gelu);
        let gates = product(&self.gate, &features, Activation::Identity);
        let scale = 1.0 / (gates.len() as f32).sqrt();
        let (mut sum, mut most) = (vec![0.0; width], vec![f32::NEG_INFINITY; width]);
        for (features, gate) in features.chunks_exact(width).zip(gates) {
            let weight = sigmoid(gate) * scale;
            for ((sum, most), x) in sum.iter_mut().zip(&mut most).zip(features) {
                *sum += weight * x;
                *most = most.max(*x);
            }
        }
        (sum, most)
    }
}

fn product(weights: &PackedMatrix, rows: &[f32], activation: Activation) -> Vec<f32> {
    let mut out = vec![0.0; rows.len() / weights.inputs() * weights.outputs()];
    weights.multiply(rows, &mut out, activation);
    out
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}
