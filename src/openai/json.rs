//! A strict JSON reader that finds where things stand and leaves them there.
//!
//! Owns RFC 8259's grammar, one pass, no allocation, bounded depth. Refuses to know what any member means,
//! and never turns a number into anything: what it has accepted can be passed on byte for byte.

use std::ops::Range;

use super::unescape::spells;

/// How deep arrays and objects may nest, the outermost included.
pub(super) const MAX_DEPTH: u32 = 128;

/// Where the text stops being JSON, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flaw {
    pub(super) at: usize,
    pub(super) detail: &'static str,
}

/// One member of an object or element of an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    /// What stands between the key's quotes, escapes and all; empty in an array.
    pub(super) key: Range<usize>,
    /// The value with its quotes or brackets, without white space around it.
    pub(super) value: Range<usize>,
}

/// The items of one array or object, in order; after a flaw there is nothing more.
pub(super) struct Items<'a> {
    reader: Reader<'a>,
    place: Place,
    /// The byte that ends the items.
    close: u8,
}

#[derive(PartialEq, Eq)]
enum Place {
    Start,
    Inside,
    End,
}

/// Reads the members of the object that starts, after white space, at `at`.
pub(super) fn members(bytes: &[u8], at: usize) -> Items<'_> {
    Items { reader: Reader { bytes, at }, place: Place::Start, close: b'}' }
}

/// Reads the elements of the array that starts, after white space, at `at`.
pub(super) fn elements(bytes: &[u8], at: usize) -> Items<'_> {
    Items { reader: Reader { bytes, at }, place: Place::Start, close: b']' }
}

/// Checks that the whole text is one value of any kind.
pub(super) fn document(bytes: &[u8]) -> Result<(), Flaw> {
    let mut reader = Reader { bytes, at: 0 };
    reader.value()?;
    reader.end()
}

/// Says where the value ends that starts, after white space, at the start; nothing if there is none.
pub(super) fn value_end(bytes: &[u8]) -> Option<usize> {
    let mut reader = Reader { bytes, at: 0 };
    reader.value().ok().map(|()| reader.at)
}

/// Finds a member's value in an object; of several the last one.
pub(super) fn member<'a>(object: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let items = members(object, 0).map_while(Result::ok);
    let found = items.filter(|item| spells(&object[item.key.clone()], name)).last()?;
    Some(&object[found.value])
}

/// Says where in `whole` a part stands that was found in it.
pub(super) fn span(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr() - whole.as_ptr().addr();
    start..start + part.len()
}

/// Returns what stands between a string's quotes; nothing if the value is no string.
pub(super) fn string(value: &[u8]) -> Option<&[u8]> {
    value.strip_prefix(b"\"")?.strip_suffix(b"\"")
}

/// Returns the elements of a value, none if it is no array.
pub(super) fn array(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let items = value.starts_with(b"[").then(|| elements(value, 0));
    items.into_iter().flatten().map_while(Result::ok).map(|item| &value[item.value])
}

/// Returns keys, as written between their quotes, and values; none if it is no object.
pub(super) fn object(value: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let items = value.starts_with(b"{").then(|| members(value, 0));
    items.into_iter().flatten().map_while(Result::ok).map(|item| (&value[item.key], &value[item.value]))
}

/// Says whether a text stands in a JSON string as it is.
pub fn is_plain(text: &str) -> bool {
    plain(text.as_bytes()) == text.len()
}

/// Writes a string with its quotes.
pub(super) fn quoted(text: &str) -> Vec<u8> {
    serde_json::to_vec(text).expect("a string always serialises")
}

/// Writes a string without its quotes.
pub(super) fn escaped(text: &str) -> Vec<u8> {
    let mut inside = quoted(text);
    inside.pop();
    inside.remove(0);
    inside
}

impl Items<'_> {
    /// Where the items end, once they are over: behind the closing bracket.
    pub(super) fn at(&self) -> usize {
        self.reader.at
    }

    /// Requires that nothing but white space follows; call it when the items are over.
    pub(super) fn end(mut self) -> Result<(), Flaw> {
        self.reader.end()
    }

    #[inline]
    fn step(&mut self) -> Result<Option<Item>, Flaw> {
        let reader = &mut self.reader;
        reader.white_space();
        if self.place == Place::Start {
            // `[` and `{` stand two before their closing bytes in ASCII.
            reader.expect(self.close - 2, "expected an array or an object")?;
            reader.white_space();
            self.place = Place::Inside;
            if reader.eat(self.close) {
                return Ok(None);
            }
        } else if reader.eat(self.close) {
            return Ok(None);
        } else {
            reader.expect(b',', "expected `,` or the closing bracket")?;
            reader.white_space();
        }
        let key = if self.close == b'}' { reader.key()? } else { 0..0 };
        reader.white_space();
        let start = reader.at;
        match reader.peek() {
            Some(b'{' | b'[') => reader.value()?,
            _ => reader.scalar()?,
        }
        Ok(Some(Item { key, value: start..reader.at }))
    }
}

impl Iterator for Items<'_> {
    type Item = Result<Item, Flaw>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.place == Place::End {
            return None;
        }
        let step = self.step();
        if !matches!(step, Ok(Some(_))) {
            self.place = Place::End;
        }
        step.transpose()
    }
}

/// A place in the text.
pub(super) struct Reader<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl Reader<'_> {
    /// Returns the byte that stands here.
    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[cold]
    fn flaw<T>(&self, detail: &'static str) -> Result<T, Flaw> {
        let detail = if self.at < self.bytes.len() { detail } else { "unexpected end" };
        Err(Flaw { at: self.at, detail })
    }

    fn end(&mut self) -> Result<(), Flaw> {
        self.white_space();
        if self.at == self.bytes.len() { Ok(()) } else { self.flaw("trailing characters") }
    }

    /// Passes this byte if it stands here, and says whether it did.
    pub(super) fn eat(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, byte: u8, detail: &'static str) -> Result<(), Flaw> {
        if self.eat(byte) { Ok(()) } else { self.flaw(detail) }
    }

    /// Passes white space.
    pub(super) fn white_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// Passes a key and its colon.
    #[inline]
    fn key(&mut self) -> Result<Range<usize>, Flaw> {
        if self.peek() != Some(b'"') {
            return self.flaw("expected a key in double quotes");
        }
        let key = self.string()?;
        self.white_space();
        self.expect(b':', "expected `:`")?;
        Ok(key)
    }

    /// Passes one value of any kind, however deep, inside an outermost array or object.
    fn value(&mut self) -> Result<(), Flaw> {
        let mut open = Open::default();
        loop {
            self.white_space();
            match self.peek() {
                Some(b'{') => {
                    if !open.push(true) {
                        return self.flaw("nested too deeply");
                    }
                    self.at += 1;
                    self.white_space();
                    if self.peek() != Some(b'}') {
                        self.key()?;
                        continue;
                    }
                }
                Some(b'[') => {
                    if !open.push(false) {
                        return self.flaw("nested too deeply");
                    }
                    self.at += 1;
                    self.white_space();
                    if self.peek() != Some(b']') {
                        continue;
                    }
                }
                _ => self.scalar()?,
            }
            if self.close(&mut open)? {
                return Ok(());
            }
        }
    }

    /// After a value: passes closing brackets up to the next value; true when nothing is open any more.
    fn close(&mut self, open: &mut Open) -> Result<bool, Flaw> {
        while let Some(object) = open.top() {
            self.white_space();
            match (self.peek(), object) {
                (Some(b','), true) => {
                    self.at += 1;
                    self.white_space();
                    self.key()?;
                    return Ok(false);
                }
                (Some(b','), false) => {
                    self.at += 1;
                    return Ok(false);
                }
                (Some(b'}'), true) | (Some(b']'), false) => {
                    self.at += 1;
                    open.pop();
                }
                _ => return self.flaw("expected `,` or the closing bracket"),
            }
        }
        Ok(true)
    }

    /// Passes a string, number, boolean or null.
    #[inline]
    pub(super) fn scalar(&mut self) -> Result<(), Flaw> {
        match self.peek() {
            Some(b'"') => self.string().map(|_| ()),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            _ => self.flaw("expected a value"),
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Flaw> {
        if self.bytes[self.at..].starts_with(word) {
            self.at += word.len();
            return Ok(());
        }
        self.flaw("expected a value")
    }

    fn number(&mut self) -> Result<(), Flaw> {
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Flaw> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { self.flaw("expected a digit") } else { Ok(()) }
    }

    /// Passes the string that starts here and returns what stands between its quotes.
    pub(super) fn string(&mut self) -> Result<Range<usize>, Flaw> {
        let start = self.at + 1;
        self.at = start;
        loop {
            self.at += plain(&self.bytes[self.at..]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(start..self.at - 1);
                }
                Some(b'\\') => self.escape()?,
                _ => return self.flaw("control character in a string"),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Flaw> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                for _ in 0..4 {
                    self.at += 1;
                    if !self.peek().is_some_and(|digit| digit.is_ascii_hexdigit()) {
                        return self.flaw("invalid \\u escape");
                    }
                }
                self.at += 1;
            }
            _ => return self.flaw("invalid escape"),
        }
        Ok(())
    }
}

/// Which brackets are open: one bit a level, set for an object.
#[derive(Default)]
struct Open {
    objects: u128,
    depth: u32,
}

impl Open {
    fn push(&mut self, object: bool) -> bool {
        self.objects = self.objects << 1 | u128::from(object);
        self.depth += 1;
        self.depth < MAX_DEPTH
    }

    fn pop(&mut self) {
        self.objects >>= 1;
        self.depth -= 1;
    }

    fn top(&self) -> Option<bool> {
        (self.depth > 0).then_some(self.objects & 1 == 1)
    }
}

/// Counts the bytes before the first quote, backslash or control character.
fn plain(bytes: &[u8]) -> usize {
    /// Most strings are shorter than it takes to look for their end a vector at a time.
    const NEAR: usize = 32;
    let near = plain_words(&bytes[..bytes.len().min(NEAR)]);
    if near < NEAR {
        return near;
    }
    let far = &bytes[NEAR..];
    let far = &far[..memchr::memchr2(b'"', b'\\', far).unwrap_or(far.len())];
    let least = far.iter().fold(u8::MAX, |least, byte| least.min(*byte));
    let control = if least < 0x20 { far.iter().position(|byte| *byte < 0x20) } else { None };
    NEAR + control.unwrap_or(far.len())
}

/// The same, eight at a time.
fn plain_words(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = ONES << 7;
    const QUOTES: u64 = ONES * 0x22;
    const BACKSLASHES: u64 = ONES * 0x5c;
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let quote = word ^ QUOTES;
        let backslash = word ^ BACKSLASHES;
        // A byte's high bit is set if it is zero, or here below 0x20; wrong only above a byte where it is
        // right.
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let found =
            (quote.wrapping_sub(ONES) & !quote) | (backslash.wrapping_sub(ONES) & !backslash) | control;
        let found = found & HIGHS;
        if found != 0 {
            return index * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let special = |&byte: &u8| byte == b'"' || byte == b'\\' || byte < 0x20;
    bytes.len() - rest.len() + rest.iter().position(special).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    /// Whether `text` is an object by this reader.
    fn accepts(text: &str) -> Result<(), Flaw> {
        let mut items = members(text.as_bytes(), 0);
        for item in items.by_ref() {
            item?;
        }
        items.end()
    }

    #[test]
    fn items_stand_where_they_stand() {
        let text = br#" { "a" : 1 , "b\"": [ {} , "]" ] , "":-0.0e+1 } "#;
        let spans: Vec<_> = members(text, 0).map(|item| item.unwrap()).collect();
        let show = |span: &Range<usize>| std::str::from_utf8(&text[span.clone()]).unwrap();
        let shown: Vec<_> = spans.iter().map(|item| (show(&item.key), show(&item.value))).collect();
        assert_eq!(shown, [("a", "1"), ("b\\\"", r#"[ {} , "]" ]"#), ("", "-0.0e+1")]);
        let inner: Vec<_> = elements(text, spans[1].value.start).map(|item| item.unwrap().value).collect();
        assert_eq!(inner.iter().map(show).collect::<Vec<_>>(), ["{}", "\"]\""]);
    }

    #[test]
    fn a_flaw_is_found_where_it_is() {
        for (text, at) in [
            ("{", 1),
            ("{,}", 1),
            ("{\"a\"}", 4),
            ("{\"a\":}", 5),
            ("{\"a\":1,}", 7),
            ("{\"a\":01}", 6),
            ("{\"a\":1.}", 7),
            ("{\"a\":tru}", 5),
            ("{\"a\":[1}", 7),
            ("{\"a\":\"\n\"}", 6),
            ("{\"a\":\"\\x\"}", 7),
            ("{\"a\":\"\\u12g4\"}", 10),
            ("{} x", 3),
            ("{\"a\":1 \"b\":2}", 7),
            ("{\"a\":NaN}", 5),
            ("{'a':1}", 1),
        ] {
            assert_eq!(accepts(text).unwrap_err().at, at, "{text}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(accepts(&nested(127)), Ok(()));
        assert_eq!(accepts(&nested(128)), Err(Flaw { at: 5 + 127, detail: "nested too deeply" }));
        assert!(accepts(&"{\"a\":".repeat(1_000_000)).is_err());
    }

    /// Text that is JSON or nearly.
    fn nearly_json() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "\"",
            "\\",
            "\"a\"",
            "\"a\":",
            "\\u00",
            "41",
            "0",
            "-1",
            "1.5",
            "e9",
            "true",
            "null",
            "fals",
            "e",
            " ",
            "\n",
            "\t",
            "é",
            "\u{1}",
            "\u{7f}",
            "{\"k\":",
            "\"long enough for a word\"",
        ]);
        prop::collection::vec(piece, 0..24).prop_map(|pieces| format!("{{\"a\":{}}}", pieces.concat()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn the_grammar_is_serde_jsons(text in nearly_json()) {
            prop_assert_eq!(accepts(&text).is_ok(), serde_json::from_str::<&RawValue>(&text).is_ok());
        }

        #[test]
        fn any_string_is_passed_whole(text in prop_oneof![".{0,40}", "[ -~]{60,90}", "[a-z]{64,128}.{0,9}"]) {
            let member = format!("{{\"{text}\":{}}}", serde_json::to_string(&text).unwrap());
            prop_assert_eq!(accepts(&member).is_ok(), serde_json::from_str::<&RawValue>(&member).is_ok());
        }
    }
}
