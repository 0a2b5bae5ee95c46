//! Replaces pieces of texts inside the strings of the body that hold them.
//!
//! One pass over what is replaced and one over the body, however many pieces there are. Refuses to know what is masked
//! and why, and to touch any byte outside those strings.

use std::ops::Range;

use super::json::string::EncodedCursor;
use super::{ChatRequest, Edit, Rejection, json, splice};

/// A replacement for some bytes of a segment's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement<'a> {
    /// The segment's place among [`ChatRequest::segments`].
    pub segment: usize,
    /// Which bytes of its text.
    pub range: Range<usize>,
    /// What replaces them; JSON where the segment is a number.
    pub with: &'a str,
}

impl ChatRequest {
    /// Returns the request with pieces of its segments replaced.
    ///
    /// Pieces that overlap become one, with the first one's replacement, and pieces that start or end inside a
    /// character take it whole; a number is replaced as a whole. Fails where two keys of an object become the same.
    pub fn redacted(&self, replacements: &[Replacement<'_>]) -> Result<Self, Rejection> {
        let mut sorted: Vec<&Replacement<'_>> =
            replacements.iter().filter(|piece| piece.range.start <= piece.range.end).collect();
        sorted.sort_by_key(|piece| (piece.segment, piece.range.start));
        let mut edits = Vec::new();
        for pieces in sorted.chunk_by(|one, other| one.segment == other.segment) {
            let segment = self.nth_segment(pieces[0].segment);
            let with = if segment.is_number {
                pieces[0].with.as_bytes().to_vec()
            } else {
                rewritten(&self.body()[segment.span()], segment.text(), pieces)
            };
            edits.push(Edit { span: segment.span(), with });
        }
        if edits.is_empty() {
            return Ok(self.clone());
        }
        edits.sort_by_key(|edit| edit.span.start);
        self.reparse(splice(self.body(), &edits))
    }
}

/// Writes a string's insides anew; `text` is their text, `pieces` are in its order.
fn rewritten(inside: &[u8], text: &str, pieces: &[&Replacement<'_>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(inside.len());
    let mut cursor = EncodedCursor::new(inside);
    // How far the insides are written, and the same place in the text.
    let (mut kept, mut read) = (0, 0);
    for piece in pieces {
        let from = text.floor_char_boundary(piece.range.start);
        let to = text.ceil_char_boundary(piece.range.end.min(text.len())).max(from);
        if from >= read {
            let start = cursor.advance(from);
            keep(&mut out, &inside[kept..start]);
            out.extend_from_slice(&json::escaped(piece.with));
            kept = start;
        }
        kept = kept.max(cursor.advance(to));
        read = read.max(to);
    }
    keep(&mut out, &inside[kept..]);
    out
}

/// Appends what stays. A low surrogate at its start is unpaired and decodes to U+FFFD; it is written so, lest it make a
/// character with a high one that now precedes it.
fn keep(out: &mut Vec<u8>, inside: &[u8]) {
    match inside {
        [b'\\', b'u', b'd' | b'D', b'c'..=b'f' | b'C'..=b'F', _, _, rest @ ..] if !out.is_empty() => {
            out.extend_from_slice("\u{fffd}".as_bytes());
            out.extend_from_slice(rest);
        }
        _ => out.extend_from_slice(inside),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn request(body: &str) -> ChatRequest {
        ChatRequest::parse(Bytes::copy_from_slice(body.as_bytes())).unwrap()
    }

    /// Replaces pieces of one segment.
    fn redacted(request: &ChatRequest, segment: usize, pieces: &[(Range<usize>, &str)]) -> ChatRequest {
        let pieces: Vec<_> =
            pieces.iter().map(|(range, with)| Replacement { segment, range: range.clone(), with }).collect();
        request.redacted(&pieces).unwrap()
    }

    #[test]
    fn a_piece_is_replaced_where_it_stands() {
        let body = r#"{"model":"m", "x":1.10,"messages":[{"role":"user","content":"Caf\u00e9\nJo \ud83d\ude00 Doe\/x"}]}"#;
        let request = request(body);
        let text = request.prompt_text();
        assert_eq!(text, "Café\nJo 😀 Doe/x");
        let name = text.find("Jo").unwrap()..text.find("/x").unwrap();
        assert_eq!(
            redacted(&request, 0, &[(name, "[\"P\"]")]).body(),
            r#"{"model":"m", "x":1.10,"messages":[{"role":"user","content":"Caf\u00e9\n[\"P\"]\/x"}]}"#
        );
        assert_eq!(redacted(&request, 0, &[]).body(), body);
    }

    #[test]
    fn pieces_that_overlap_or_cut_a_character_take_more_rather_than_less() {
        let request = request(r#"{"model":"m","prompt":"a\u00e9bcdef"}"#);
        let masked =
            |pieces: &[(Range<usize>, &str)]| redacted(&request, 0, pieces).prompt_text().into_owned();
        assert_eq!(masked(&[(2..3, "X")]), "aXbcdef");
        assert_eq!(masked(&[(4..6, "Y"), (3..5, "X")]), "aéXef");
        assert_eq!(masked(&[(3..4, "X"), (4..5, "Y"), (50..60, "Z")]), "aéXYdefZ");
    }

    #[test]
    fn several_texts_are_masked_at_once_wherever_they_are() {
        let body = r#"{"input":[{"role":"user","content":"abc"}],"model":"m","instructions":"def","documents":[{"n":4111111111111111}]}"#;
        let piece = |segment, range, with| Replacement { segment, range, with };
        let request = request(body);
        let number = request.segments().position(|segment| segment.is_number).unwrap();
        let masked = [piece(1, 1..2, ""), piece(0, 0..1, "Z"), piece(number, 0..16, "\"C\"")];
        assert_eq!(
            request.redacted(&masked).unwrap().body(),
            r#"{"input":[{"role":"user","content":"ac"}],"model":"m","instructions":"Zef","documents":[{"n":"C"}]}"#
        );
    }

    #[test]
    fn two_halves_that_meet_make_no_new_character() {
        let masked = redacted(&request(r#"{"model":"m","prompt":"\ud83dx\ude00"}"#), 0, &[(3..4, "")]);
        assert_eq!(masked.prompt_text(), "\u{fffd}\u{fffd}");
    }

    /// The insides of a string, escapes included.
    fn inside() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "[a-zé😀 ]{1,3}",
            prop::sample::select(vec![
                r"\n",
                r#"\""#,
                r"\\",
                r"\/",
                r"\u00e9",
                r"\uD83D\uDE00",
                r"\ud83d",
                r"\ude00"
            ])
            .prop_map(str::to_owned),
        ];
        prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }

    fn replacements() -> impl Strategy<Value = Vec<(Range<usize>, String)>> {
        let piece = (0_usize..24, 0_usize..8, "[X\"\\\\é\n]{0,3}");
        prop::collection::vec(piece.prop_map(|(start, length, with)| (start..start + length, with)), 0..4)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn what_is_said_is_the_text_with_the_pieces_replaced(inside in inside(), replaced in replacements()) {
            let (prefix, suffix) = ("{\"model\" :\"m\",\n\"messages\":[{\"content\": \"", "\" ,\"role\":\"user\"}], \"x\":1.0 }");
            let request = request(&format!("{prefix}{inside}{suffix}"));
            let text = request.prompt_text().into_owned();
            if text.is_empty() {
                return Ok(());
            }
            // The same by hand: pieces at whole characters, from the end to the start, those that overlap left out.
            let (mut expected, mut pieces) = (text.clone(), Vec::<(Range<usize>, &str)>::new());
            let mut sorted: Vec<_> = replaced.iter().filter(|(range, _)| range.end <= text.len()).collect();
            sorted.sort_by_key(|(range, _)| range.start);
            for (range, with) in sorted {
                let whole = text.is_char_boundary(range.start) && text.is_char_boundary(range.end);
                if whole && pieces.last().is_none_or(|(last, _)| last.end <= range.start) {
                    pieces.push((range.clone(), with));
                }
            }
            for (range, with) in pieces.iter().rev() {
                expected.replace_range(range.clone(), with);
            }
            let masked = redacted(&request, 0, &pieces);
            prop_assert_eq!(masked.prompt_text(), expected);
            prop_assert!(masked.body().starts_with(prefix.as_bytes()) && masked.body().ends_with(suffix.as_bytes()));
        }

        #[test]
        fn nothing_breaks_it(inside in inside(), pieces in replacements(), segment in 0_usize..2) {
            let request = request(&format!("{{\"model\":\"m\",\"prompt\":[\"{inside}\",\"{inside}\"]}}"));
            let pieces: Vec<_> = pieces.iter().map(|(range, with)| (range.clone(), with.as_str())).collect();
            let masked = redacted(&request, segment, &pieces);
            prop_assert_eq!(masked.model(), "m");
        }
    }
}
