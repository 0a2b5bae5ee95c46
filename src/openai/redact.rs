//! Replaces pieces of texts inside the strings of the body that hold them.
//!
//! Refuses to know what is masked and why, and to touch any byte outside those strings.

use std::ops::Range;

use super::json::string::encoded_offset;
use super::message_text::MAX_TEXT;
use super::{ChatRequest, Edit, json, splice};

/// A replacement for some bytes of a message text.
pub type Replacement<'a> = (Range<usize>, &'a str);

impl ChatRequest {
    /// Returns the request with pieces of one message text replaced, as [`Self::redacted_each`] does.
    #[must_use]
    pub fn redacted(&self, message_text: usize, replacements: &[Replacement<'_>]) -> Self {
        self.redacted_each(&[(message_text, replacements)])
    }

    /// Returns the request with pieces of several message texts replaced; each, by its index in
    /// [`Self::message_texts`], is in the list at most once.
    ///
    /// A piece out of several strings is replaced in the first of them and removed from the next; the line ends
    /// between the strings are in none of them and stay. Pieces that overlap become one, with the first one's
    /// replacement, and pieces that start or end inside a character take it whole.
    #[must_use]
    pub fn redacted_each(&self, replaced: &[(usize, &[Replacement<'_>])]) -> Self {
        let messages = self.text_messages();
        let mut edits = Vec::new();
        for (index, replacements) in replaced {
            let Some(message) = messages.get(*index) else {
                continue;
            };
            let pieces = pieces(replacements);
            let mut start = 0;
            for segment in self.message_segments(*message) {
                let text = segment.text();
                let text = &text[..text.floor_char_boundary(MAX_TEXT.saturating_sub(start))];
                if start == 0 && text.is_empty() {
                    // No line end comes before the first text.
                    continue;
                }
                let inside = &self.body()[segment.span()];
                if let Some(with) = rewritten(inside, text, start, &pieces) {
                    edits.push(Edit { span: segment.span(), with });
                }
                // The line end before the next string is counted too.
                start += text.len() + 1;
            }
        }
        if edits.is_empty() {
            return self.clone();
        }
        edits.sort_by_key(|edit| edit.span.start);
        edits.dedup_by(|later, earlier| later.span.start < earlier.span.end);
        self.reparse(splice(self.body(), &edits)).expect("only the insides of strings have changed")
    }
}

/// Sorts the pieces and makes those one that overlap.
fn pieces<'a>(replacements: &[Replacement<'a>]) -> Vec<Replacement<'a>> {
    let mut sorted: Vec<_> =
        replacements.iter().filter(|(range, _)| range.start <= range.end).cloned().collect();
    sorted.sort_by_key(|(range, _)| range.start);
    let mut pieces: Vec<Replacement<'a>> = Vec::with_capacity(sorted.len());
    for (range, with) in sorted {
        match pieces.last_mut() {
            Some((last, _)) if range.start < last.end => last.end = last.end.max(range.end),
            _ => pieces.push((range, with)),
        }
    }
    pieces
}

/// Writes a string's insides anew; `text` is their text, at byte `start` of the message text. Nothing if no piece
/// touches it.
fn rewritten(inside: &[u8], text: &str, start: usize, pieces: &[Replacement<'_>]) -> Option<Vec<u8>> {
    let end = start + text.len();
    // The line end after the string, which is no byte of any, belongs to it.
    let touched = |range: &Range<usize>| {
        range.start <= end && (range.end > start || (range.start == range.end && range.start >= start))
    };
    let first = pieces.partition_point(|(range, _)| range.end < start);
    let near = pieces[first..].iter().take_while(|(range, _)| range.start <= end);
    let mut pieces = near.filter(|(range, _)| touched(range)).peekable();
    pieces.peek()?;
    let mut out = Vec::with_capacity(inside.len());
    let (mut read, mut kept) = (0, 0);
    for (range, with) in pieces {
        let from = text.floor_char_boundary(range.start.saturating_sub(start)).max(read);
        let to = text.ceil_char_boundary((range.end - start).min(text.len()));
        let place_from = kept + encoded_offset(&inside[kept..], from - read);
        keep(&mut out, &inside[kept..place_from]);
        if range.start >= start {
            out.extend_from_slice(&json::escaped(with));
        }
        kept = place_from + encoded_offset(&inside[place_from..], to.max(from) - from);
        read = to.max(from);
    }
    keep(&mut out, &inside[kept..]);
    Some(out)
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

    #[test]
    fn a_piece_is_replaced_where_it_stands() {
        let body = r#"{"model":"m", "x":1.10,"messages":[{"role":"user","content":"Caf\u00e9\nJo \ud83d\ude00 Doe\/x"}]}"#;
        let request = request(body);
        let text = request.prompt_text();
        assert_eq!(text, "Café\nJo 😀 Doe/x");
        let name = text.find("Jo").unwrap()..text.find("/x").unwrap();
        let masked = request.redacted(0, &[(name, "[\"P\"]")]);
        assert_eq!(
            masked.body(),
            r#"{"model":"m", "x":1.10,"messages":[{"role":"user","content":"Caf\u00e9\n[\"P\"]\/x"}]}"#
        );
        assert_eq!(request.redacted(1, &[(0..2, "")]).body(), body);
        assert_eq!(request.redacted(0, &[]).body(), body);
    }

    #[test]
    fn a_piece_out_of_several_strings_is_replaced_in_the_first() {
        let request = request(r#"{"model":"m","prompt":["","ab","","cd" ,"ef"]}"#);
        assert_eq!(request.prompt_text(), "ab\n\ncd\nef");
        let masked = |range, with| request.redacted(0, &[(range, with)]);
        assert_eq!(masked(1..8, "X").body(), r#"{"model":"m","prompt":["","aX","","" ,"f"]}"#);
        assert_eq!(masked(0..1, "X").body(), r#"{"model":"m","prompt":["","Xb","","cd" ,"ef"]}"#);
        assert_eq!(masked(2..3, "X").body(), r#"{"model":"m","prompt":["","abX","","cd" ,"ef"]}"#);
        assert_eq!(masked(4..5, "X").body(), r#"{"model":"m","prompt":["","ab","","Xd" ,"ef"]}"#);
        assert_eq!(masked(7..99, "X").body(), r#"{"model":"m","prompt":["","ab","","cd" ,"X"]}"#);
    }

    #[test]
    fn pieces_that_overlap_or_cut_a_character_take_more_rather_than_less() {
        let request = request(r#"{"model":"m","prompt":"a\u00e9bcdef"}"#);
        let masked = |pieces: &[Replacement<'_>]| request.redacted(0, pieces).prompt_text().into_owned();
        assert_eq!(masked(&[(2..3, "X")]), "aXbcdef");
        assert_eq!(masked(&[(2..2, "X")]), "aXbcdef");
        assert_eq!(masked(&[(4..6, "Y"), (3..5, "X")]), "aéXef");
        assert_eq!(masked(&[(3..4, "X"), (4..5, "Y"), (50..60, "Z")]), "aéXYdef");
    }

    #[test]
    fn several_texts_are_masked_at_once_wherever_they_are() {
        let body = r#"{"input":[{"role":"user","content":"abc"}],"model":"m","instructions":"def"}"#;
        let masked = request(body).redacted_each(&[(0, &[(1..2, "")]), (1, &[(0..1, "Z")])]);
        assert_eq!(
            masked.body(),
            r#"{"input":[{"role":"user","content":"Zbc"}],"model":"m","instructions":"df"}"#
        );
    }

    #[test]
    fn two_halves_that_meet_make_no_new_character() {
        let masked = request(r#"{"model":"m","prompt":"\ud83dx\ude00"}"#).redacted(0, &[(3..4, "")]);
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
            let (mut expected, mut pieces) = (text.clone(), Vec::<Replacement<'_>>::new());
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
            let masked = request.redacted(0, &pieces);
            prop_assert_eq!(masked.prompt_text(), expected);
            prop_assert!(masked.body().starts_with(prefix.as_bytes()) && masked.body().ends_with(suffix.as_bytes()));
        }

        #[test]
        fn no_masked_byte_stays_whatever_the_strings(
            insides in prop::collection::vec("[a-zé]{0,4}", 1..5), start in 0_usize..20, length in 1_usize..20,
        ) {
            let list = insides.iter().map(|inside| format!("\"{inside}\"")).collect::<Vec<_>>().join(" , ");
            let request = request(&format!("{{\"model\":\"m\",\"prompt\":[{list}]}}"));
            let text = request.prompt_text().into_owned();
            if text.is_empty() {
                return Ok(());
            }
            let start = start % text.len();
            let (from, to) = (text.floor_char_boundary(start), text.ceil_char_boundary(start + length));
            let masked = request.redacted(0, &[(start..start + length, "#")]);
            let bare = |text: &str| text.replace('\n', "");
            let expected = bare(&format!("{}#{}", &text[..from], &text[to..]));
            prop_assert_eq!(bare(&masked.prompt_text()), expected);
            prop_assert_eq!(memchr::memchr_iter(b',', masked.body()).count(), insides.len());
        }

        #[test]
        fn nothing_breaks_it(inside in inside(), pieces in replacements(), message_text in 0_usize..3) {
            let request = request(&format!("{{\"model\":\"m\",\"prompt\":[\"{inside}\",\"{inside}\"]}}"));
            let pieces: Vec<_> = pieces.iter().map(|(range, with)| (range.clone(), with.as_str())).collect();
            let masked = request.redacted(message_text, &pieces);
            prop_assert_eq!(masked.model(), "m");
        }
    }
}
