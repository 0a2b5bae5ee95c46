//! JSON written in one way only: keys sorted, no white space, strings escaped as little as possible, numbers as they
//! were written.
//!
//! Refuses to know what any member means. Works on bytes that are known to be JSON; one pass.

use std::ops::Range;

use super::string::{decode, decodes_to};
use super::{JsonError, Scanner, quoted};

/// Writes an object canonically, without these members of its top level and with these strings empty: the bytes
/// between their quotes, in the object's bytes, in order.
pub(crate) fn canonical(
    object: &[u8],
    without: &[&str],
    blank: &[Range<usize>],
) -> Result<Vec<u8>, JsonError> {
    let scanner = Scanner::new(object, 0);
    let mut writer =
        CanonicalWriter { scanner, without, blank, depth: 0, out: Vec::with_capacity(object.len()) };
    writer.value()?;
    Ok(writer.out)
}

struct CanonicalWriter<'a> {
    scanner: Scanner<'a>,
    without: &'a [&'a str],
    blank: &'a [Range<usize>],
    depth: u32,
    out: Vec<u8>,
}

/// A member as it has been written: its key with the quotes, and all of it with the comma.
struct MemberSpans {
    key: Range<usize>,
    all: Range<usize>,
}

impl CanonicalWriter<'_> {
    /// Writes the value at the cursor; calls itself no deeper than the scanner of requests lets arrays nest.
    fn value(&mut self) -> Result<(), JsonError> {
        self.scanner.white_space();
        match self.scanner.peek() {
            Some(b'{') => self.object(),
            Some(b'[') => self.array(),
            Some(b'"') => self.string(),
            _ => {
                let start = self.scanner.at;
                self.scanner.scalar()?;
                self.out.extend_from_slice(&self.scanner.bytes[start..self.scanner.at]);
                Ok(())
            }
        }
    }

    fn array(&mut self) -> Result<(), JsonError> {
        self.scanner.eat(b'[');
        self.out.push(b'[');
        self.depth += 1;
        while !self.closed(b']') {
            self.value()?;
            self.out.push(b',');
        }
        self.depth -= 1;
        self.close(b']');
        Ok(())
    }

    fn object(&mut self) -> Result<(), JsonError> {
        self.scanner.eat(b'{');
        self.out.push(b'{');
        self.depth += 1;
        let start = self.out.len();
        let mut members = Vec::new();
        while !self.closed(b'}') {
            members.extend(self.member()?);
        }
        self.sort(start, members);
        self.depth -= 1;
        self.close(b'}');
        Ok(())
    }

    /// Passes white space and a comma, or the closing bracket.
    fn closed(&mut self, close: u8) -> bool {
        self.scanner.white_space();
        self.scanner.eat(b',');
        self.scanner.white_space();
        self.scanner.eat(close) || self.scanner.peek().is_none()
    }

    fn close(&mut self, close: u8) {
        if self.out.ends_with(b",") {
            self.out.pop();
        }
        self.out.push(close);
    }

    /// Writes a member with a comma after it; nothing if it is to be left out.
    fn member(&mut self) -> Result<Option<MemberSpans>, JsonError> {
        let (start, key_at) = (self.out.len(), self.scanner.at + 1);
        self.string()?;
        let key_end = self.scanner.at - 1;
        let key = start..self.out.len();
        self.scanner.white_space();
        self.scanner.eat(b':');
        self.out.push(b':');
        self.value()?;
        self.out.push(b',');
        let name = &self.scanner.bytes[key_at..key_end];
        if self.depth == 1 && self.without.iter().any(|without| decodes_to(name, without)) {
            self.out.truncate(start);
            return Ok(None);
        }
        Ok(Some(MemberSpans { key, all: start..self.out.len() }))
    }

    /// Puts the members that have been written since `start` in the order of their keys.
    fn sort(&mut self, start: usize, mut members: Vec<MemberSpans>) {
        let key = |member: &MemberSpans| &self.out[member.key.clone()];
        if members.is_sorted_by_key(key) {
            return;
        }
        members.sort_by(|a, b| key(a).cmp(key(b)));
        let mut sorted = Vec::with_capacity(self.out.len() - start);
        for member in members {
            sorted.extend_from_slice(&self.out[member.all]);
        }
        self.out.truncate(start);
        self.out.extend_from_slice(&sorted);
    }

    fn string(&mut self) -> Result<(), JsonError> {
        let span = self.scanner.string()?;
        let inside = &self.scanner.bytes[span.clone()];
        if self.blank.binary_search_by_key(&span.start, |blank| blank.start).is_ok() {
            self.out.extend_from_slice(b"\"\"");
            return Ok(());
        }
        // Without an escape it is written as it must be. Every lone surrogate decodes to U+FFFD, but not every
        // parser takes it so.
        let text = inside.contains(&b'\\').then(|| decode(inside, usize::MAX));
        match text.filter(|text| !text.contains('\u{fffd}')) {
            Some(text) => self.out.extend_from_slice(&quoted(&text)),
            None => self.out.extend_from_slice(&self.scanner.bytes[span.start - 1..=span.end]),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(json: &str) -> String {
        String::from_utf8(canonical(json.as_bytes(), &[], &[]).unwrap()).unwrap()
    }

    #[test]
    fn the_same_is_written_the_same() {
        assert_eq!(
            written(
                " { \"b\" : [ 1.0 , { } , [ ] ,null ] ,\n\"a\":{\"d\":\"\\u00e9\\/\",\"c\":-0e1} , \"\\u0061a\":true}"
            ),
            r#"{"a":{"c":-0e1,"d":"é/"},"aa":true,"b":[1.0,{},[],null]}"#
        );
        assert_eq!(written(r#"{"a":"\"\n\u0001\u007f"}"#), "{\"a\":\"\\\"\\n\\u0001\u{7f}\"}");
    }

    #[test]
    fn what_differs_stays_different() {
        assert_ne!(written(r#"{"a":1}"#), written(r#"{"a":1.0}"#));
        assert_ne!(written(r#"{"a":"\ud800"}"#), written(r#"{"a":"\ud801"}"#));
        assert_ne!(written(r#"{"a":1,"a":2}"#), written(r#"{"a":2,"a":1}"#));
        assert_ne!(written(r#"{"a":[]}"#), written(r#"{"a":{}}"#));
    }

    #[test]
    fn members_are_left_out_at_the_top_alone() {
        let json = r#"{"user":1,"a":{"user":2},"us\u0065r":3}"#;
        assert_eq!(canonical(json.as_bytes(), &["user"], &[]).unwrap(), br#"{"a":{"user":2}}"#);
        assert_eq!(canonical(b"{\"a\":1}", &["a"], &[]).unwrap(), b"{}");
    }
}
