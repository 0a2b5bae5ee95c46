//! JSON written in one way only: keys sorted, no white space, strings escaped as little as possible, numbers as they
//! were written.
//!
//! Refuses to know what any member means. Works on bytes that are known to be JSON; one pass.

use std::ops::Range;

use super::json::{Flaw, Reader, quoted};
use super::unescape::{spells, text as decoded};

/// Writes an object canonically, without these members of its top level and with these strings empty: what stands
/// between their quotes, in the object's bytes, in order.
pub(super) fn canonical(object: &[u8], without: &[&str], blank: &[Range<usize>]) -> Result<Vec<u8>, Flaw> {
    let reader = Reader { bytes: object, at: 0 };
    let mut writer = Writer { reader, without, blank, depth: 0, out: Vec::with_capacity(object.len()) };
    writer.value()?;
    Ok(writer.out)
}

struct Writer<'a> {
    reader: Reader<'a>,
    without: &'a [&'a str],
    blank: &'a [Range<usize>],
    depth: u32,
    out: Vec<u8>,
}

/// A member as it has been written: its key with the quotes, and all of it with the comma.
struct Written {
    key: Range<usize>,
    all: Range<usize>,
}

impl Writer<'_> {
    /// Writes the value that stands here; calls itself no deeper than the reader of requests lets arrays nest.
    fn value(&mut self) -> Result<(), Flaw> {
        self.reader.white_space();
        match self.reader.peek() {
            Some(b'{') => self.object(),
            Some(b'[') => self.array(),
            Some(b'"') => self.string(),
            _ => {
                let start = self.reader.at;
                self.reader.scalar()?;
                self.out.extend_from_slice(&self.reader.bytes[start..self.reader.at]);
                Ok(())
            }
        }
    }

    fn array(&mut self) -> Result<(), Flaw> {
        self.reader.eat(b'[');
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

    fn object(&mut self) -> Result<(), Flaw> {
        self.reader.eat(b'{');
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
        self.reader.white_space();
        self.reader.eat(b',');
        self.reader.white_space();
        self.reader.eat(close) || self.reader.peek().is_none()
    }

    fn close(&mut self, close: u8) {
        if self.out.ends_with(b",") {
            self.out.pop();
        }
        self.out.push(close);
    }

    /// Writes a member with a comma after it; nothing if it is to be left out.
    fn member(&mut self) -> Result<Option<Written>, Flaw> {
        let (start, key_at) = (self.out.len(), self.reader.at + 1);
        self.string()?;
        let key_end = self.reader.at - 1;
        let key = start..self.out.len();
        self.reader.white_space();
        self.reader.eat(b':');
        self.out.push(b':');
        self.value()?;
        self.out.push(b',');
        let name = &self.reader.bytes[key_at..key_end];
        if self.depth == 1 && self.without.iter().any(|without| spells(name, without)) {
            self.out.truncate(start);
            return Ok(None);
        }
        Ok(Some(Written { key, all: start..self.out.len() }))
    }

    /// Puts the members that have been written since `start` in the order of their keys.
    fn sort(&mut self, start: usize, mut members: Vec<Written>) {
        let key = |member: &Written| &self.out[member.key.clone()];
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

    fn string(&mut self) -> Result<(), Flaw> {
        let span = self.reader.string()?;
        let inside = &self.reader.bytes[span.clone()];
        if self.blank.binary_search_by_key(&span.start, |blank| blank.start).is_ok() {
            self.out.extend_from_slice(b"\"\"");
            return Ok(());
        }
        // Without an escape it is written as it must be. A lone surrogate says U+FFFD whichever it is, but not every
        // reader takes it so.
        let said = inside.contains(&b'\\').then(|| decoded(inside, usize::MAX));
        match said.filter(|said| !said.contains('\u{fffd}')) {
            Some(said) => self.out.extend_from_slice(&quoted(&said)),
            None => self.out.extend_from_slice(&self.reader.bytes[span.start - 1..=span.end]),
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
