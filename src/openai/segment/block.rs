//! Blocks of neighbouring segments: what is judged as one text, and where its parts are in the request.
//!
//! The strings of one message's own text are one block, whatever else stands between them; so are the short strings
//! beside it. JSON in a string is read as the strings in it, and long runs of white space are left out. Nothing is dropped:
//! every other byte of the segments is in a block. Refuses to judge.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use super::super::ChatRequest;
use super::super::json::string::{EncodedCursor, decode};
use super::embedded::{EmbeddedText, embedded_texts};
use super::{Segment, SegmentKind};

/// How long a block of strings beside messages' own texts grows, in bytes.
const BESIDE: usize = 1024;

/// From how many blocks on short ones are joined, whichever message they belong to.
const MANY: usize = 2048;

/// How long joined ones are then, in bytes, unless there is too much text for [`MANY`] of them.
const JOINED: usize = 256;

/// From how many bytes on a text is searched for white space to leave out.
const LONG_TEXT: usize = 16 * 1024;

/// How many bytes of white space are left out.
const LONG_RUN: usize = 64;

/// A text to be judged as one.
#[derive(Debug)]
pub struct TextBlock<'a> {
    /// Its pieces, joined by line ends.
    pub text: Cow<'a, str>,
    /// Where they are, in the order of the text.
    pub pieces: Vec<TextPiece>,
}

/// A part of a block that is a part of one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextPiece {
    /// The segment's place among [`ChatRequest::segments`].
    pub segment: usize,
    /// Where it starts in the block's text.
    start: usize,
    /// How long it is there.
    length: usize,
    /// Where it is in the segment's text.
    within: Range<usize>,
    form: PieceForm,
}

/// How a piece stands in its segment's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PieceForm {
    /// As it is.
    Plain,
    /// As the insides of a string with escapes.
    Escaped,
    /// As a number.
    Number,
}

/// A place in the text of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentPlace<'a> {
    /// The segment's place among [`ChatRequest::segments`].
    pub segment: usize,
    /// The bytes of its text.
    pub range: Range<usize>,
    /// What stands there, without the escapes of JSON in the text.
    pub words: Cow<'a, str>,
    /// Whether it is a number, so that words in its place need quotes.
    pub is_number: bool,
}

impl TextPiece {
    fn end(&self) -> usize {
        self.start + self.length
    }
}

impl ChatRequest {
    /// Returns the blocks of the segments for which `key` gives one, each of segments with an equal key, in the order
    /// of the request; `key` is also told whether a segment is no older than the prompt.
    pub fn text_blocks<K: PartialEq + Copy>(
        &self,
        key: impl Fn(&Segment<'_>, bool) -> Option<K>,
    ) -> Vec<(K, TextBlock<'_>)> {
        let first_of_prompt = self.first_of_prompt();
        let mut blocks: Vec<(K, TextBlock<'_>)> = Vec::new();
        // The block of each message's own text, and the last one beside them.
        let mut own: HashMap<Option<usize>, usize> = HashMap::new();
        let mut beside: Option<(Option<usize>, usize)> = None;
        for (at, segment) in self.segments().enumerate() {
            let Some(key) = key(&segment, at >= first_of_prompt) else { continue };
            let last = if segment.in_message_text {
                own.get(&segment.message).copied()
            } else {
                beside.filter(|(message, _)| *message == segment.message).map(|(_, block)| block)
            };
            let has_room = |block: &TextBlock<'_>| {
                segment.in_message_text || block.text.len() + segment.span().len() < BESIDE
            };
            let fitting = last.filter(|last| blocks[*last].0 == key && has_room(&blocks[*last].1));
            let block = fitting.unwrap_or(blocks.len());
            if fitting.is_none() {
                blocks.push((key, TextBlock { text: Cow::Borrowed(""), pieces: Vec::new() }));
            }
            if segment.in_message_text {
                own.insert(segment.message, block);
            } else {
                beside = Some((segment.message, block));
            }
            blocks[block].1.add(at, &segment);
        }
        if blocks.len() > MANY { joined(blocks) } else { blocks }
    }

    /// Finds where some bytes of a block are, given in its order; what spans several pieces is in each of them.
    pub fn segment_places<'a>(
        &'a self,
        pieces: &[TextPiece],
        ranges: impl Iterator<Item = Range<usize>>,
    ) -> Vec<Vec<SegmentPlace<'a>>> {
        let mut first = 0;
        let mut cursor = PieceCursor { piece: usize::MAX, text: "", encoded: EncodedCursor::new(b"") };
        let mut each = |range: Range<usize>| -> Vec<SegmentPlace<'a>> {
            first += pieces[first..].iter().take_while(|piece| piece.end() <= range.start).count();
            let touched = pieces[first..].iter().take_while(|piece| piece.start < range.end);
            let places = touched.enumerate().filter(|(_, piece)| piece.length > 0);
            let places =
                places.map(|(after, piece)| cursor.at(first + after, self, piece).place(piece, &range));
            places.filter(|place| !place.words.trim().is_empty()).collect()
        };
        ranges.map(&mut each).collect()
    }

    /// Finds what occurs in the pieces, each by itself; numbers are left out.
    pub fn occurrences<'a>(
        &'a self,
        pieces: &[TextPiece],
        find: impl Fn(&str) -> Vec<Range<usize>>,
    ) -> Vec<SegmentPlace<'a>> {
        let mut ranges = Vec::new();
        for piece in pieces.iter().filter(|piece| piece.form != PieceForm::Number) {
            let text = &self.nth_segment(piece.segment).text()[piece.within.clone()];
            let words = match piece.form {
                PieceForm::Escaped => decode(text.as_bytes(), usize::MAX),
                PieceForm::Plain | PieceForm::Number => Cow::Borrowed(text),
            };
            let found = find(&words).into_iter();
            ranges.extend(found.map(|range| piece.start + range.start..piece.start + range.end));
        }
        self.segment_places(pieces, ranges.into_iter()).into_iter().flatten().collect()
    }
}

/// The piece whose places are being found, in one pass over it.
struct PieceCursor<'a> {
    piece: usize,
    /// The segment's text, which is not found anew for each place.
    text: &'a str,
    encoded: EncodedCursor<'a>,
}

impl<'a> PieceCursor<'a> {
    /// Moves to a piece, if it is not there already.
    fn at(&mut self, at: usize, request: &'a ChatRequest, piece: &TextPiece) -> &mut Self {
        if self.piece != at {
            let text = request.nth_segment(piece.segment).text();
            let encoded = EncodedCursor::new(&text.as_bytes()[piece.within.clone()]);
            *self = Self { piece: at, text, encoded };
        }
        self
    }

    /// Finds the part of the piece that is in a range of the block.
    fn place(&mut self, piece: &TextPiece, range: &Range<usize>) -> SegmentPlace<'a> {
        let is_number = piece.form == PieceForm::Number;
        let start = range.start.saturating_sub(piece.start);
        let end = (range.end - piece.start).min(piece.length);
        let within = match piece.form {
            PieceForm::Plain => piece.within.start + start..piece.within.start + end,
            PieceForm::Number => piece.within.clone(),
            PieceForm::Escaped => {
                let start = piece.within.start + self.encoded.advance(start);
                start..piece.within.start + self.encoded.advance(end)
            }
        };
        let words = match piece.form {
            PieceForm::Escaped => decode(&self.text.as_bytes()[within.clone()], usize::MAX),
            PieceForm::Plain | PieceForm::Number => Cow::Borrowed(&self.text[within.clone()]),
        };
        SegmentPlace { segment: piece.segment, range: within, words, is_number }
    }
}

impl<'a> TextBlock<'a> {
    fn add(&mut self, at: usize, segment: &Segment<'a>) {
        let text = segment.text();
        if segment.is_number {
            return self.push(at, 0..text.len(), PieceForm::Number, Cow::Borrowed(text));
        }
        let embedded = match segment.kind {
            SegmentKind::ToolCall | SegmentKind::ToolResult => embedded_texts(text),
            _ => None,
        };
        match embedded {
            Some(all) => {
                for EmbeddedText { range, is_number, .. } in all {
                    let form = if is_number { PieceForm::Number } else { PieceForm::Escaped };
                    let words = decode(&text.as_bytes()[range.clone()], usize::MAX);
                    if !words.is_empty() {
                        self.push(at, range, form, words);
                    }
                }
            }
            None => {
                for range in without_long_runs(text) {
                    self.push(at, range.clone(), PieceForm::Plain, Cow::Borrowed(&text[range]));
                }
            }
        }
    }

    fn push(&mut self, segment: usize, within: Range<usize>, form: PieceForm, words: Cow<'a, str>) {
        let (start, length);
        if self.text.is_empty() {
            (start, length) = (0, words.len());
            self.text = words;
        } else {
            let text = self.text.to_mut();
            text.push('\n');
            (start, length) = (text.len(), words.len());
            text.push_str(&words);
        }
        // No word of the text is in an empty one.
        if length > 0 {
            self.pieces.push(TextPiece { segment, start, length, within, form });
        }
    }
}

/// Splits a long text at its long runs of white space, which say nothing and can push what follows out of sight.
fn without_long_runs(text: &str) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    if text.len() < LONG_TEXT {
        parts.push(0..text.len());
        return parts;
    }
    // Where the part begins, and where its last character that is no white space ends.
    let (mut start, mut end) = (0, 0);
    for (at, c) in text.char_indices() {
        if c.is_whitespace() {
            continue;
        }
        if at - end >= LONG_RUN {
            parts.push(start..end);
            start = at;
        }
        end = at + c.len_utf8();
    }
    parts.push(start..end);
    parts.retain(|part| !part.is_empty());
    parts
}

/// Joins neighbours that are short and have the same key.
fn joined<K: PartialEq>(blocks: Vec<(K, TextBlock<'_>)>) -> Vec<(K, TextBlock<'_>)> {
    let total: usize = blocks.iter().map(|(_, block)| block.text.len()).sum();
    let most = JOINED.max(2 * total / MANY);
    let mut all: Vec<(K, TextBlock<'_>)> = Vec::with_capacity(MANY);
    for (key, block) in blocks {
        match all.last_mut() {
            Some((last, into)) if *last == key && into.text.len() + block.text.len() < most => {
                let text = into.text.to_mut();
                text.push('\n');
                let shift = text.len();
                text.push_str(&block.text);
                let shifted = |piece: TextPiece| TextPiece { start: piece.start + shift, ..piece };
                into.pieces.extend(block.pieces.into_iter().map(shifted));
            }
            _ => all.push((key, block)),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn request(body: &Value) -> ChatRequest {
        ChatRequest::parse(Bytes::from(body.to_string())).unwrap()
    }

    fn texts(body: &Value) -> Vec<String> {
        let request = request(body);
        request.text_blocks(|_, _| Some(())).into_iter().map(|((), block)| block.text.into_owned()).collect()
    }

    #[test]
    fn a_messages_own_text_is_one_block_and_what_stands_beside_it_another() {
        let body = json!({"model": "m", "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b", "x": "c"}]},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "i", "function": {"name": "f",
                "arguments": "{\"to\": \"j\\u006f\", \"card\": 4111111111111111, \"n\": 1}"}}]}],
            "documents": [{"title": "t", "text": "d"}]});
        assert_eq!(texts(&body), ["a\nb", "x\nc", "i\nf\nto\njo\ncard\n4111111111111111\nn", "t\nd"]);
        let key = |segment: &Segment<'_>, is_latest: bool| {
            (segment.kind == SegmentKind::ToolCall).then_some(is_latest)
        };
        assert_eq!(request(&body).text_blocks(key).len(), 1);
    }

    #[test]
    fn only_what_is_as_new_as_the_prompt_is_latest() {
        let body = json!({"model": "m", "instructions": "s", "messages": [{"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}, {"role": "tool", "content": "d"}],
            "suffix": "e"});
        let latest: Vec<String> = request(&body)
            .text_blocks(|_, is_latest| is_latest.then_some(()))
            .into_iter()
            .map(|((), block)| block.text.into_owned())
            .collect();
        assert_eq!(latest, ["c", "d", "e"]);
    }

    #[test]
    fn white_space_does_not_count_and_many_short_texts_become_few() {
        let far = format!("x{}attack", " \n".repeat(1 << 19));
        let body = json!({"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": " ".repeat(1 << 20)},
            {"type": "text", "text": far}]}]});
        assert_eq!(texts(&body), ["x\nattack"]);
        let many: Vec<_> =
            (0..10_000).map(|at| json!({"role": "user", "content": format!("m{at}")})).collect();
        let blocks = texts(&json!({"model": "m", "messages": many}));
        assert!(blocks.len() < MANY && blocks.concat().contains("m9999"), "{}", blocks.len());
    }

    #[test]
    fn a_find_over_several_strings_is_in_each_of_them() {
        let request = request(&json!({"model": "m", "prompt": ["Jane", "Doe", "x"]}));
        let ((), block) = request.text_blocks(|_, _| Some(())).remove(0);
        let places = request.segment_places(&block.pieces, [2..7, 9..10].into_iter());
        let found: Vec<Vec<_>> = places
            .iter()
            .map(|places| {
                places.iter().map(|place| (place.segment, place.range.clone(), &*place.words)).collect()
            })
            .collect();
        assert_eq!(found, [vec![(0, 2..4, "ne"), (1, 0..2, "Do")], vec![(2, 0..1, "x")]]);
    }

    proptest! {
        #[test]
        fn every_word_of_a_block_is_found_where_it_stands(
            strings in prop::collection::vec("[a-zé\"\\\\\n ]{0,8}", 1..5), cuts in prop::collection::vec(0_usize..60, 2..8),
        ) {
            let arguments = serde_json::to_string(&strings).unwrap();
            let body = json!({"model": "m", "messages": [{"role": "user", "content": strings},
                {"role": "assistant", "tool_calls": [{"function": {"arguments": arguments}}]}]});
            let request = request(&body);
            for ((), block) in request.text_blocks(|_, _| Some(())) {
                let mut cuts: Vec<_> = cuts.iter().map(|cut| block.text.floor_char_boundary(*cut)).collect();
                cuts.sort_unstable();
                let ranges: Vec<_> = cuts.windows(2).map(|pair| pair[0]..pair[1]).filter(|range| !range.is_empty()).collect();
                let places = request.segment_places(&block.pieces, ranges.iter().cloned());
                for (range, places) in ranges.iter().zip(places) {
                    let bare = |text: &str| text.split_whitespace().collect::<String>();
                    let words: String = places.iter().map(|place| &*place.words).collect();
                    prop_assert_eq!(bare(&words), bare(&block.text[range.clone()]));
                }
            }
        }
    }
}
