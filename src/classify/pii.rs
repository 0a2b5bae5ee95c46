//! From a model's labels for tokens to personal data in a text: decoding, and joining windows.
//!
//! Labels mark where an entity begins and continues (BIO and its kin); words are kept whole, windows are joined, and
//! validated patterns overrule the model. Knows nothing of how the labels are computed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::patterns;
use super::{Entity, EntitySource};

/// The model's labels for one window.
pub(super) struct PiiWindow<'a> {
    /// The bytes of the text that each token spans.
    pub(super) bytes: Vec<Range<usize>>,
    /// Each token's label, as an index into the labels, and its probability.
    pub(super) labels: &'a [(u16, f32)],
}

/// Finds the personal data in a text, in its order; no two share a byte.
///
/// What the model found counts from the mean probability `threshold` on, what a pattern found always.
pub(super) fn entities(
    text: &str,
    windows: &[PiiWindow<'_>],
    labels: &[Arc<str>],
    threshold: f32,
) -> Vec<Entity> {
    let tags = BioTags::of(labels);
    let mut kept = AcceptedSpans::default();
    for hit in patterns::hits(text) {
        kept.put(
            PiiSpan { bytes: hit.bytes, kind: Arc::from(hit.kind), confidence: hit.confidence },
            EntitySource::Pattern,
        );
    }
    let mut spans = joined(spans(text, windows, &tags, threshold));
    spans.sort_by(|a, b| b.confidence.total_cmp(&a.confidence).then(a.bytes.start.cmp(&b.bytes.start)));
    for span in spans.into_iter().filter(|span| !patterns::is_refuted(&span.kind, &text[span.bytes.clone()]))
    {
        for part in kept.free_parts(text, &span) {
            kept.put(PiiSpan { bytes: part, ..span.clone() }, EntitySource::Model);
        }
    }
    kept.into_entities(text)
}

/// Returns the kinds of personal data that labels for tokens stand for.
pub(super) fn kinds(labels: &[Arc<str>]) -> Vec<Arc<str>> {
    BioTags::of(labels).kinds
}

#[derive(Clone, Copy)]
struct BioTag {
    /// An index into the kinds; none for a token outside of any entity.
    kind: Option<usize>,
    /// Whether an entity begins with the token, whatever came before.
    begins: bool,
}

struct BioTags {
    tags: Vec<BioTag>,
    kinds: Vec<Arc<str>>,
}

impl BioTags {
    /// Reads labels such as `O`, `B-PERSON` and `I-PERSON`; the letters of BIOES and BILOU are known, and a name
    /// without a letter goes on with what came before.
    fn of(labels: &[Arc<str>]) -> Self {
        let mut kinds: Vec<Arc<str>> = Vec::new();
        let tags = labels.iter().map(|label| {
            let (letter, name) = match label.split_once(['-', '_']) {
                Some((letter @ ("B" | "I" | "E" | "S" | "L" | "U"), name)) => (letter, name),
                _ => ("I", &**label),
            };
            if matches!(name, "" | "O" | "NO_PII") {
                return BioTag { kind: None, begins: false };
            }
            let kind = kinds.iter().position(|kind| **kind == *name).unwrap_or_else(|| {
                kinds.push(Arc::from(name));
                kinds.len() - 1
            });
            BioTag { kind: Some(kind), begins: matches!(letter, "B" | "S" | "U") }
        });
        Self { tags: tags.collect(), kinds }
    }

    fn tag(&self, label: u16) -> BioTag {
        self.tags.get(usize::from(label)).copied().unwrap_or(BioTag { kind: None, begins: false })
    }
}

#[derive(Clone)]
struct PiiSpan<K = Arc<str>> {
    bytes: Range<usize>,
    kind: K,
    confidence: f32,
}

/// The tokens of one word, with the tag of most of their weight.
struct TaggedWord {
    bytes: Range<usize>,
    tag: BioTag,
    confidence: f32,
}

/// Decodes every window, each for the part of the text where it has the most context.
fn spans(text: &str, windows: &[PiiWindow<'_>], tags: &BioTags, threshold: f32) -> Vec<PiiSpan> {
    let mut words: Vec<Vec<TaggedWord>> =
        windows.iter().map(|window| self::words(text, window, tags)).collect();
    words.retain(|words| !words.is_empty());
    words.sort_by_key(|words| words[0].bytes.start);
    let mut spans = Vec::new();
    for (at, own) in words.iter().enumerate() {
        let first = own[0].bytes.start;
        let last = own[own.len() - 1].bytes.end;
        // Where two windows overlap, each half belongs to the window whose edge is farther away.
        let middle = |edge: usize, other: usize| if edge < other { edge.midpoint(other) } else { other };
        let from = match at.checked_sub(1).map(|before| &words[before]) {
            Some(before) => middle(first, before[before.len() - 1].bytes.end.max(first)),
            None => 0,
        };
        let to = match words.get(at + 1) {
            Some(next) => middle(next[0].bytes.start.min(last), last),
            None => usize::MAX,
        };
        let decoded = decode(own, threshold).into_iter();
        let own = decoded.filter(|span| span.bytes.end > from && span.bytes.start < to);
        spans.extend(own.map(|span| PiiSpan {
            bytes: trimmed(text, whole_words(text, span.bytes)),
            kind: Arc::clone(&tags.kinds[span.kind]),
            confidence: span.confidence,
        }));
    }
    spans.retain(|span| !span.bytes.is_empty());
    spans
}

/// Puts a window's tokens together to words, each with one tag.
fn words(text: &str, window: &PiiWindow<'_>, tags: &BioTags) -> Vec<TaggedWord> {
    let mut words: Vec<TaggedWord> = Vec::new();
    let mut votes: Vec<(BioTag, f32)> = Vec::new();
    for (bytes, (label, probability)) in window.bytes.iter().zip(window.labels) {
        let bytes = within(text, bytes);
        if bytes.is_empty() {
            continue;
        }
        // A number that is no probability weighs nothing.
        let vote =
            (tags.tag(*label), if probability.is_finite() { probability.clamp(0.0, 1.0) } else { 0.0 });
        match words.last_mut() {
            Some(word) if is_one_word(text, word.bytes.end, bytes.start) => {
                word.bytes.end = word.bytes.end.max(bytes.end);
                votes.push(vote);
            }
            _ => {
                settle(words.last_mut(), &mut votes);
                words.push(TaggedWord { bytes, tag: vote.0, confidence: 0.0 });
                votes.push(vote);
            }
        }
    }
    settle(words.last_mut(), &mut votes);
    words
}

/// Snaps a token to whole characters of the text and leaves out the white space around it.
fn within(text: &str, bytes: &Range<usize>) -> Range<usize> {
    let start = text.floor_char_boundary(bytes.start);
    let end = text.ceil_char_boundary(bytes.end.max(start));
    let token = &text[start..end];
    let start = start + (token.len() - token.trim_start().len());
    start..start + token.trim().len()
}

/// Whether a token that starts there goes on with the word that ended there.
fn is_one_word(text: &str, end: usize, start: usize) -> bool {
    start < end || (start == end && (is_within_word(text, end) || is_beside_hyphen(text, end)))
}

/// Whether a place lies beside a hyphen that ties two letters.
fn is_beside_hyphen(text: &str, at: usize) -> bool {
    let (mut left, mut right) = (text[..at].chars().rev(), text[at..].chars());
    let is_letter = |c: Option<char>| c.is_some_and(char::is_alphabetic);
    match (left.next(), right.next()) {
        (Some('-'), next) => is_letter(next) && is_letter(left.next()),
        (next, Some('-')) => is_letter(next) && is_letter(right.next()),
        _ => false,
    }
}

/// Whether a place lies between two letters or digits of a script that separates its words.
fn is_within_word(text: &str, at: usize) -> bool {
    let joins = |c: char| {
        let is_spaced = matches!(c, ..'\u{e00}' | '\u{10a0}'..='\u{10ff}' | '\u{1e00}'..='\u{1fff}');
        is_spaced && c.is_alphanumeric()
    };
    text[..at].chars().next_back().is_some_and(joins) && text[at..].chars().next().is_some_and(joins)
}

/// Gives a word the kind that has the most weight among its tokens.
fn settle(word: Option<&mut TaggedWord>, votes: &mut Vec<(BioTag, f32)>) {
    let mut weights: BTreeMap<Option<usize>, f32> = BTreeMap::new();
    for (tag, probability) in votes.iter() {
        *weights.entry(tag.kind).or_default() += probability;
    }
    let weighed = votes.iter().map(|(tag, _)| (*tag, weights[&tag.kind]));
    // The first of equals wins, and a word begins an entity if its first token of that kind does.
    let best = weighed.reduce(|best, other| if other.1 > best.1 { other } else { best });
    if let (Some(word), Some((tag, weight))) = (word, best) {
        word.tag = tag;
        word.confidence = weight / votes.len() as f32;
    }
    votes.clear();
}

/// Joins words to entities: one begins at a `B`, or wherever the kind changes.
fn decode(words: &[TaggedWord], threshold: f32) -> Vec<PiiSpan<usize>> {
    let goes_on = |before: &TaggedWord, word: &TaggedWord| {
        // A `B` without white space before it is mostly an error of the model.
        before.tag.kind == word.tag.kind && (!word.tag.begins || before.bytes.end == word.bytes.start)
    };
    let mut spans = Vec::new();
    for run in words.chunk_by(goes_on) {
        let (first, last) = (&run[0], &run[run.len() - 1]);
        let Some(kind) = first.tag.kind else { continue };
        // Measured: the mean separates right from wrong better than the first word's or the least probability.
        let confidence = run.iter().map(|word| word.confidence).sum::<f32>() / run.len() as f32;
        if confidence >= threshold {
            spans.push(PiiSpan { bytes: first.bytes.start..last.bytes.end, kind, confidence });
        }
    }
    spans
}

/// Takes in the rest of a word that a window's edge cut; of an endless word only the next 64 characters.
fn whole_words(text: &str, bytes: Range<usize>) -> Range<usize> {
    let Range { mut start, mut end } = bytes;
    for c in text[..start].chars().rev().take(64) {
        if !is_within_word(text, start) {
            break;
        }
        start -= c.len_utf8();
    }
    for c in text[end..].chars().take(64) {
        if !is_within_word(text, end) {
            break;
        }
        end += c.len_utf8();
    }
    start..end
}

/// Leaves out the marks around an entity: white space, quotes, commas, and brackets that have no partner within.
fn trimmed(text: &str, bytes: Range<usize>) -> Range<usize> {
    const MARKS: &str = ",;:!?\"'`“”‘’«»…|*=\\–—";
    let whole = &text[bytes.clone()];
    let is_paired = |open: char, close: char| whole.contains(open) && whole.contains(close);
    let pairs = [('(', ')'), ('[', ']'), ('{', '}'), ('<', '>')];
    let lone = pairs.map(|(open, close)| if is_paired(open, close) { [' '; 2] } else { [open, close] });
    let is_loose = |c: char| c.is_whitespace() || MARKS.contains(c) || lone.as_flattened().contains(&c);
    // A point may end an abbreviation and a slash an address of the web, but neither begins anything.
    let start = bytes.end - whole.trim_start_matches(|c| is_loose(c) || "./-".contains(c)).len();
    start..start + text[start..bytes.end].trim_end_matches(|c| is_loose(c) || c == '-').len()
}

/// Joins overlapping spans of the same kind, which several windows found.
fn joined(mut spans: Vec<PiiSpan>) -> Vec<PiiSpan> {
    spans.sort_by(|a, b| a.kind.cmp(&b.kind).then(a.bytes.start.cmp(&b.bytes.start)));
    let mut joined: Vec<PiiSpan> = Vec::with_capacity(spans.len());
    for span in spans {
        match joined.last_mut() {
            Some(last) if last.kind == span.kind && span.bytes.start < last.bytes.end => {
                last.bytes.end = last.bytes.end.max(span.bytes.end);
                last.confidence = last.confidence.max(span.confidence);
            }
            _ => joined.push(span),
        }
    }
    joined
}

/// Spans that overlap no other, by where they start.
#[derive(Default)]
struct AcceptedSpans(BTreeMap<usize, (PiiSpan, EntitySource)>);

impl AcceptedSpans {
    fn put(&mut self, span: PiiSpan, by: EntitySource) {
        self.0.insert(span.bytes.start, (span, by));
    }

    /// Returns the parts of a span that no accepted span has: all of it, or the pieces beside spans of other kinds that have
    /// more than two letters or digits.
    fn free_parts(&self, text: &str, span: &PiiSpan) -> Vec<Range<usize>> {
        let first = self.0.range(..=span.bytes.start).next_back().map_or(0, |(start, _)| *start);
        let others = self.0.range(first..span.bytes.end).map(|(_, (other, _))| other);
        let others: Vec<&PiiSpan> = others.filter(|other| other.bytes.end > span.bytes.start).collect();
        if others.is_empty() {
            return vec![span.bytes.clone()];
        }
        if others.iter().any(|other| other.kind == span.kind) {
            return Vec::new();
        }
        let ends = others.iter().map(|other| other.bytes.end);
        let starts = others.iter().map(|other| other.bytes.start).chain([span.bytes.end]);
        let gaps = [span.bytes.start].into_iter().chain(ends).zip(starts).filter(|(start, end)| start < end);
        let parts = gaps.map(|(start, end)| trimmed(text, start..end));
        parts.filter(|part| text[part.clone()].chars().filter(|c| c.is_alphanumeric()).count() > 2).collect()
    }

    /// Numbers the characters in one pass.
    fn into_entities(self, text: &str) -> Vec<Entity> {
        let (mut byte, mut char) = (0, 0);
        let mut to = |at: usize| {
            char += text[byte..at].chars().count();
            byte = at;
            char
        };
        let kept = self.0.into_values();
        kept.map(|(span, by)| Entity {
            chars: to(span.bytes.start)..to(span.bytes.end),
            kind: span.kind,
            bytes: span.bytes,
            confidence: span.confidence,
            by,
        })
        .collect()
    }
}

#[cfg(test)]
mod tests;
