//! A strict JSON scanner that finds where values are and leaves them there.
//!
//! Owns RFC 8259's grammar, one pass, no allocation, bounded depth. Refuses to know what any member means,
//! and never turns a number into anything: what it has accepted can be passed on byte for byte.

pub(crate) mod canonical;
mod elements;
pub(crate) mod object;
mod observer;
mod plain;
pub(crate) mod string;

use std::ops::Range;

pub(crate) use elements::{ArrayElement, elements_with_members};
pub(crate) use observer::JsonObserver;
use plain::plain;
use string::decodes_to;

/// How deep arrays and objects may nest, the outermost included.
pub(crate) const MAX_DEPTH: u32 = 128;

/// Where the text stops being JSON, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct JsonError {
    pub(crate) at: usize,
    pub(crate) detail: &'static str,
}

/// One member of an object or element of an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ItemSpan {
    /// The bytes between the key's quotes, escapes and all; empty in an array.
    pub(crate) key: Range<usize>,
    /// The value with its quotes or brackets, without white space around it.
    pub(crate) value: Range<usize>,
}

/// The items of one array or object, in order; after an error there is nothing more.
pub(crate) struct Items<'a, O = ()> {
    scanner: Scanner<'a>,
    state: ItemsState,
    /// The byte that ends the items.
    close: u8,
    pub(crate) observer: O,
}

#[derive(PartialEq, Eq)]
enum ItemsState {
    Start,
    Inside,
    End,
}

/// Reads the members of the object that starts, after white space, at `at`.
pub(crate) fn members(bytes: &[u8], at: usize) -> Items<'_> {
    Items { scanner: Scanner::new(bytes, at), state: ItemsState::Start, close: b'}', observer: () }
}

/// Reads the members of the object that the text is, and tells `observer` of it and of all that is nested in it.
pub(crate) fn observed_members<O: JsonObserver>(bytes: &[u8], observer: O) -> Items<'_, O> {
    Items { scanner: Scanner::new(bytes, 0), state: ItemsState::Start, close: b'}', observer }
}

/// Reads the elements of the array that starts, after white space, at `at`.
pub(crate) fn elements(bytes: &[u8], at: usize) -> Items<'_> {
    Items { scanner: Scanner::new(bytes, at), state: ItemsState::Start, close: b']', observer: () }
}

/// Checks that the whole text is one value of any kind.
pub(crate) fn document(bytes: &[u8]) -> Result<(), JsonError> {
    let mut scanner = Scanner::new(bytes, 0);
    scanner.value()?;
    scanner.end()
}

/// Says where the value ends that starts, after white space, at the start; nothing if there is none.
pub(crate) fn value_end(bytes: &[u8]) -> Option<usize> {
    let mut scanner = Scanner::new(bytes, 0);
    scanner.value().ok().map(|()| scanner.at)
}

/// Finds a member's value in an object; of several the last one.
pub(crate) fn member<'a>(object: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let items = members(object, 0).map_while(Result::ok);
    let found = items.filter(|item| decodes_to(&object[item.key.clone()], name)).last()?;
    Some(&object[found.value])
}

/// Returns where in `whole` a part is that was found in it.
pub(crate) fn span(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr() - whole.as_ptr().addr();
    start..start + part.len()
}

/// Returns the bytes between a string's quotes; nothing if the value is no string.
pub(crate) fn string(value: &[u8]) -> Option<&[u8]> {
    value.strip_prefix(b"\"")?.strip_suffix(b"\"")
}

/// Returns the elements of a value, none if it is no array.
pub(crate) fn array(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let items = value.starts_with(b"[").then(|| elements(value, 0));
    items.into_iter().flatten().map_while(Result::ok).map(|item| &value[item.value])
}

/// Returns keys, as written between their quotes, and values; none if it is no object.
pub(crate) fn object(value: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let items = value.starts_with(b"{").then(|| members(value, 0));
    items.into_iter().flatten().map_while(Result::ok).map(|item| (&value[item.key], &value[item.value]))
}

/// Says whether a text needs no escapes in a JSON string.
pub fn is_plain(text: &str) -> bool {
    plain(text.as_bytes()) == text.len()
}

/// Writes a string with its quotes.
pub(crate) fn quoted(text: &str) -> Vec<u8> {
    serde_json::to_vec(text).expect("a string always serialises")
}

/// Writes a string without its quotes.
pub(crate) fn escaped(text: &str) -> Vec<u8> {
    let mut inside = quoted(text);
    inside.pop();
    inside.remove(0);
    inside
}

impl<O: JsonObserver> Items<'_, O> {
    /// Where the items end, once they are over: behind the closing bracket.
    pub(crate) fn at(&self) -> usize {
        self.scanner.at
    }

    /// Whether any string that was passed has an escape, keys included.
    pub(crate) fn has_escapes(&self) -> bool {
        self.scanner.has_escapes
    }

    /// Requires that nothing but white space follows; call it when the items are over.
    pub(crate) fn end(mut self) -> Result<O, JsonError> {
        self.scanner.end()?;
        Ok(self.observer)
    }

    #[inline]
    fn step(&mut self) -> Result<Option<ItemSpan>, JsonError> {
        let Self { scanner, observer, .. } = self;
        scanner.white_space();
        if self.state == ItemsState::Start {
            // `[` and `{` are two before their closing bytes in ASCII.
            scanner.expect(self.close - 2, "expected an array or an object")?;
            observer.open(self.close == b'}');
            scanner.white_space();
            self.state = ItemsState::Inside;
            if scanner.eat(self.close) {
                observer.close(scanner.bytes);
                return Ok(None);
            }
        } else if scanner.eat(self.close) {
            observer.close(scanner.bytes);
            return Ok(None);
        } else {
            scanner.expect(b',', "expected `,` or the closing bracket")?;
            scanner.white_space();
        }
        let key = if self.close == b'}' { scanner.key(observer)? } else { 0..0 };
        scanner.white_space();
        let start = scanner.at;
        match scanner.peek() {
            Some(b'{' | b'[') => scanner.observed_value(observer)?,
            _ => scanner.scalar()?,
        }
        Ok(Some(ItemSpan { key, value: start..scanner.at }))
    }
}

impl<O: JsonObserver> Iterator for Items<'_, O> {
    type Item = Result<ItemSpan, JsonError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.state == ItemsState::End {
            return None;
        }
        let step = self.step();
        if !matches!(step, Ok(Some(_))) {
            self.state = ItemsState::End;
        }
        step.transpose()
    }
}

/// A place in the text.
pub(crate) struct Scanner<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) at: usize,
    /// Whether any string that was passed has an escape.
    has_escapes: bool,
}

impl<'a> Scanner<'a> {
    /// Stands before the byte at `at`.
    pub(crate) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at, has_escapes: false }
    }

    /// Returns the byte at the cursor.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[cold]
    fn error<T>(&self, detail: &'static str) -> Result<T, JsonError> {
        let detail = if self.at < self.bytes.len() { detail } else { "unexpected end" };
        Err(JsonError { at: self.at, detail })
    }

    fn end(&mut self) -> Result<(), JsonError> {
        self.white_space();
        if self.at == self.bytes.len() { Ok(()) } else { self.error("trailing characters") }
    }

    /// Passes this byte if it is next, and says whether it did.
    pub(crate) fn eat(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, byte: u8, detail: &'static str) -> Result<(), JsonError> {
        if self.eat(byte) { Ok(()) } else { self.error(detail) }
    }

    /// Passes white space.
    pub(crate) fn white_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// Passes a key and its colon.
    #[inline]
    fn key(&mut self, observer: &mut impl JsonObserver) -> Result<Range<usize>, JsonError> {
        if self.peek() != Some(b'"') {
            return self.error("expected a key in double quotes");
        }
        let key = self.string()?;
        self.white_space();
        self.expect(b':', "expected `:`")?;
        observer.key(self.bytes, key.clone());
        Ok(key)
    }

    /// Passes one value of any kind, however deep, inside an outermost array or object.
    fn value(&mut self) -> Result<(), JsonError> {
        self.observed_value(&mut ())
    }

    /// The same, and tells `observer` of it.
    fn observed_value(&mut self, observer: &mut impl JsonObserver) -> Result<(), JsonError> {
        let mut open = OpenBrackets::default();
        loop {
            self.white_space();
            match self.peek() {
                Some(b'{') => {
                    if !open.push(true) {
                        return self.error("nested too deeply");
                    }
                    observer.open(true);
                    self.at += 1;
                    self.white_space();
                    if self.peek() != Some(b'}') {
                        self.key(observer)?;
                        continue;
                    }
                }
                Some(b'[') => {
                    if !open.push(false) {
                        return self.error("nested too deeply");
                    }
                    observer.open(false);
                    self.at += 1;
                    self.white_space();
                    if self.peek() != Some(b']') {
                        continue;
                    }
                }
                _ => self.scalar()?,
            }
            if self.close(&mut open, observer)? {
                return Ok(());
            }
        }
    }

    /// After a value: passes closing brackets up to the next value; true when nothing is open any more.
    fn close(
        &mut self,
        open: &mut OpenBrackets,
        observer: &mut impl JsonObserver,
    ) -> Result<bool, JsonError> {
        while let Some(object) = open.top() {
            self.white_space();
            match (self.peek(), object) {
                (Some(b','), true) => {
                    self.at += 1;
                    self.white_space();
                    self.key(observer)?;
                    return Ok(false);
                }
                (Some(b','), false) => {
                    self.at += 1;
                    return Ok(false);
                }
                (Some(b'}'), true) | (Some(b']'), false) => {
                    self.at += 1;
                    observer.close(self.bytes);
                    open.pop();
                }
                _ => return self.error("expected `,` or the closing bracket"),
            }
        }
        Ok(true)
    }

    /// Passes a string, number, boolean or null.
    #[inline]
    pub(crate) fn scalar(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'"') => self.string().map(|_| ()),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            _ => self.error("expected a value"),
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), JsonError> {
        if self.bytes[self.at..].starts_with(word) {
            self.at += word.len();
            return Ok(());
        }
        self.error("expected a value")
    }

    fn number(&mut self) -> Result<(), JsonError> {
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

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { self.error("expected a digit") } else { Ok(()) }
    }

    /// Passes the string that starts here and returns the bytes between its quotes.
    pub(crate) fn string(&mut self) -> Result<Range<usize>, JsonError> {
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
                _ => return self.error("control character in a string"),
            }
        }
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        self.has_escapes = true;
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                for _ in 0..4 {
                    self.at += 1;
                    if !self.peek().is_some_and(|digit| digit.is_ascii_hexdigit()) {
                        return self.error("invalid \\u escape");
                    }
                }
                self.at += 1;
            }
            _ => return self.error("invalid escape"),
        }
        Ok(())
    }
}

/// Which brackets are open: one bit a level, set for an object.
#[derive(Default)]
struct OpenBrackets {
    objects: u128,
    depth: u32,
}

impl OpenBrackets {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    /// Whether `text` is an object by this scanner.
    fn accepts(text: &str) -> Result<(), JsonError> {
        let mut items = members(text.as_bytes(), 0);
        for item in items.by_ref() {
            item?;
        }
        items.end()
    }

    #[test]
    fn items_have_their_spans() {
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
        assert_eq!(accepts(&nested(128)), Err(JsonError { at: 5 + 127, detail: "nested too deeply" }));
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
