//! The text of a JSON string: its escapes decoded, bounded, and never a failure.
//!
//! Refuses to check the escapes; callers have scanned the string with `json`.

use std::borrow::Cow;

/// Says whether a string with these insides decodes to `name`, which escapes can hide.
pub(crate) fn decodes_to(inside: &[u8], name: &str) -> bool {
    // An escape is longer than what it stands for.
    inside == name.as_bytes()
        || (inside.len() > name.len() && inside.contains(&b'\\') && decode(inside, usize::MAX) == name)
}

/// Decodes the bytes between a string's quotes, at most `limit` bytes of it; a lone surrogate becomes
/// U+FFFD.
pub(crate) fn decode(inside: &[u8], limit: usize) -> Cow<'_, str> {
    // Most strings are names and words, which stay as they are.
    if inside.len() <= limit
        && memchr::memchr(b'\\', inside).is_none()
        && let Ok(text) = std::str::from_utf8(inside)
    {
        return Cow::Borrowed(text);
    }
    // An escape takes at most six bytes for one, and the character at the limit is to be seen whole.
    let enough = limit.saturating_mul(6).saturating_add(12);
    let written = String::from_utf8_lossy(&inside[..inside.len().min(enough)]);
    if !written.contains('\\') {
        return bounded(written, limit);
    }
    let mut text = String::with_capacity(written.len().min(limit.saturating_add(4)));
    let mut rest = &*written;
    while text.len() < limit {
        let Some(escape) = memchr::memchr(b'\\', rest.as_bytes()) else {
            text.push_str(rest);
            break;
        };
        text.push_str(&rest[..escape]);
        let (c, used) = unescape(&rest.as_bytes()[escape..]);
        text.push(c);
        rest = rest.get(escape + used..).unwrap_or_default();
    }
    bounded(Cow::Owned(text), limit)
}

/// Finds places in a string's insides by those in its text, from its start to its end; the insides are UTF-8.
pub(crate) struct EncodedCursor<'a> {
    inside: &'a [u8],
    /// The same place in the insides and in their text.
    written: usize,
    text: usize,
}

impl<'a> EncodedCursor<'a> {
    pub(crate) fn new(inside: &'a [u8]) -> Self {
        Self { inside, written: 0, text: 0 }
    }

    /// Returns where the character starts that is at byte `at` of the text, or the end; no place comes before one
    /// that was asked for earlier.
    pub(crate) fn advance(&mut self, at: usize) -> usize {
        while self.text < at && self.written < self.inside.len() {
            let rest = &self.inside[self.written..];
            // Searched no further than needed, so that all steps together are one pass.
            let near = &rest[..rest.len().min(at - self.text)];
            let plain = memchr::memchr(b'\\', near).unwrap_or(near.len());
            (self.written, self.text) = (self.written + plain, self.text + plain);
            if plain < rest.len() && self.text < at {
                let (c, used) = unescape(&rest[plain..]);
                (self.written, self.text) = (self.written + used, self.text + c.len_utf8());
            }
        }
        self.written.min(self.inside.len())
    }
}

/// Cuts at the last character that ends within `limit` bytes.
fn bounded(text: Cow<'_, str>, limit: usize) -> Cow<'_, str> {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[..end]),
        Cow::Owned(mut text) => {
            text.truncate(end);
            Cow::Owned(text)
        }
    }
}

/// Decodes the escape at the start of `bytes`; returns the character and the length of the escape.
fn unescape(bytes: &[u8]) -> (char, usize) {
    let c = match bytes.get(1) {
        Some(b'n') => '\n',
        Some(b't') => '\t',
        Some(b'r') => '\r',
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'u') => return unescape_unicode(bytes),
        Some(&other) => char::from(other),
        None => return (char::REPLACEMENT_CHARACTER, 1),
    };
    (c, 2)
}

/// Decodes `\uXXXX`, or a pair of them that makes one character beyond the basic plane.
fn unescape_unicode(bytes: &[u8]) -> (char, usize) {
    let unit = |from: usize| -> Option<u32> {
        let digits = bytes.get(from..from + 6)?.strip_prefix(b"\\u")?;
        digits.iter().try_fold(0, |value, &digit| Some(value << 4 | u32::from(hex(digit)?)))
    };
    match (unit(0), unit(6)) {
        (Some(high @ 0xd800..0xdc00), Some(low @ 0xdc00..0xe000)) => {
            let code = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
            (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 12)
        }
        (Some(code), _) => (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 6),
        (None, _) => (char::REPLACEMENT_CHARACTER, bytes.len().min(6)),
    }
}

/// Reads one hexadecimal digit.
pub(crate) fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_are_decoded_and_lone_surrogates_replaced() {
        let decode = |inside: &'static str| decode(inside.as_bytes(), usize::MAX);
        assert_eq!(decode(r#"a\"\\\/\b\f\n\r\té"#), "a\"\\/\u{8}\u{c}\n\r\té");
        assert_eq!(decode(r"\u0041\ud83d\ude00\ud83dx\ude00\ud83d\u0041"), "A😀\u{fffd}x\u{fffd}\u{fffd}A");
        assert!(decodes_to(br"mod\u0065l", "model") && !decodes_to(br"mod\u0066l", "model"));
    }

    #[test]
    fn decoded_text_is_cut_at_a_character() {
        assert_eq!(decode("aéé".as_bytes(), 4), "aé");
        assert_eq!(decode("a\\u00e9é".as_bytes(), 4), "aé");
        assert_eq!(decode("\\n\\n\\n".as_bytes(), 2), "\n\n");
    }

    /// One or two characters of a string, escaped or not.
    fn piece() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-zé😀]{1,2}",
            prop::sample::select(vec![
                r"\n",
                r#"\""#,
                r"\\",
                r"\u00e9",
                r"\ud83d\ude00",
                r"\ud83d",
                r"\ude00"
            ])
            .prop_map(str::to_owned),
        ]
    }

    proptest! {
        #[test]
        fn any_string_comes_back(text in ".{0,40}", limit in 0_usize..40) {
            let json = serde_json::to_string(&text).unwrap();
            let inside = &json.as_bytes()[1..json.len() - 1];
            prop_assert_eq!(decode(inside, usize::MAX), text.as_str());
            let cut = decode(inside, limit);
            prop_assert!(text.starts_with(&*cut) && cut.len() <= limit && cut.len() + 4 > limit.min(text.len()));
        }

        #[test]
        fn every_character_has_its_place(pieces in prop::collection::vec(piece(), 0..8)) {
            let inside = pieces.concat();
            let text = decode(inside.as_bytes(), usize::MAX);
            let mut cursor = EncodedCursor::new(inside.as_bytes());
            for (at, _) in text.char_indices().chain([(text.len(), ' ')]) {
                let (before, after) = inside.as_bytes().split_at(cursor.advance(at));
                prop_assert_eq!(decode(before, usize::MAX), &text[..at]);
                prop_assert_eq!(decode(after, usize::MAX), &text[at..]);
            }
        }

        #[test]
        fn nothing_breaks_it(inside in prop::collection::vec(any::<u8>(), 0..24), limit in 0_usize..24) {
            prop_assert!(decode(&inside, limit).len() <= limit);
        }
    }
}
