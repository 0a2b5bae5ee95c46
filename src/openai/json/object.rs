//! JSON objects, read and written member by member.
//!
//! Owns the putting together of values that are already JSON with texts that are to become it. Refuses to know
//! what any member means, and to turn numbers into anything.

use std::borrow::Cow;

use super::string::decode;
use super::{self as json, quoted};

/// An object under construction.
#[derive(Debug, Default)]
pub(crate) struct Object {
    inside: Vec<u8>,
}

impl Object {
    /// Adds a member whose value is JSON already.
    pub(crate) fn raw(mut self, key: &str, value: &[u8]) -> Self {
        if !self.inside.is_empty() {
            self.inside.push(b',');
        }
        self.inside.extend_from_slice(&quoted(key));
        self.inside.push(b':');
        self.inside.extend_from_slice(value);
        self
    }

    /// Adds a string.
    pub(crate) fn text(self, key: &str, value: &str) -> Self {
        self.raw(key, &quoted(value))
    }

    /// Adds a whole number.
    pub(crate) fn number(self, key: &str, value: u64) -> Self {
        self.raw(key, value.to_string().as_bytes())
    }

    /// Adds every member that is given.
    pub(crate) fn all<'a, V: AsRef<[u8]>>(self, members: impl IntoIterator<Item = (&'a str, V)>) -> Self {
        members.into_iter().fold(self, |object, (key, value)| object.raw(key, value.as_ref()))
    }

    /// Returns the object's bytes.
    pub(crate) fn end(self) -> Vec<u8> {
        [b"{", self.inside.as_slice(), b"}"].concat()
    }
}

/// Writes an array of values that are JSON already.
pub(crate) fn array<V: AsRef<[u8]>>(elements: impl IntoIterator<Item = V>) -> Vec<u8> {
    let mut written = vec![b'['];
    for element in elements {
        if written.len() > 1 {
            written.push(b',');
        }
        written.extend_from_slice(element.as_ref());
    }
    written.push(b']');
    written
}

/// Reads an object's members, keys decoded; nothing if it is none.
pub(crate) fn entries(object: &[u8]) -> impl Iterator<Item = (Cow<'_, str>, &[u8])> {
    let items = json::members(object, 0).map_while(Result::ok);
    items.map(|item| (decode(&object[item.key], usize::MAX), &object[item.value]))
}

/// Reads an array's elements; nothing if it is none.
pub(crate) fn elements(array: &[u8]) -> impl Iterator<Item = &[u8]> {
    json::elements(array, 0).map_while(Result::ok).map(|item| &array[item.value])
}

/// Returns the text of a string; nothing if the value is none.
pub(crate) fn string_value(value: &[u8]) -> Option<Cow<'_, str>> {
    let inside = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    Some(decode(inside, usize::MAX))
}

/// Returns the text of a member that is a string.
pub(crate) fn string_member<'a>(object: &'a [u8], key: &str) -> Option<Cow<'a, str>> {
    json::member(object, key).and_then(string_value)
}

/// Returns a member that is a whole number.
pub(crate) fn number_member(object: &[u8], key: &str) -> Option<u64> {
    std::str::from_utf8(json::member(object, key)?).ok()?.parse().ok()
}

/// Returns a member that is there and not null.
pub(crate) fn non_null_member<'a>(object: &'a [u8], key: &str) -> Option<&'a [u8]> {
    json::member(object, key).filter(|value| *value != b"null")
}

/// Checks that bytes are one JSON object in UTF-8.
pub(crate) fn is_object(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(b"{")
        && json::document(bytes).is_ok()
        && std::str::from_utf8(bytes).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_written_as_they_are_and_read_back() {
        let inner = array([b"1.50".as_slice(), b"null"]);
        let object = Object::default().raw("a\"", &inner).text("b", "x\n\"").number("c", 7).end();
        assert_eq!(object, br#"{"a\"":[1.50,null],"b":"x\n\"","c":7}"#);
        assert_eq!(entries(&object).map(|(key, _)| key.into_owned()).collect::<Vec<_>>(), ["a\"", "b", "c"]);
        assert_eq!(elements(&inner).count(), 2);
        assert_eq!(string_member(&object, "b").as_deref(), Some("x\n\""));
        assert_eq!((number_member(&object, "c"), number_member(&object, "b")), (Some(7), None));
        assert_eq!(Object::default().end(), b"{}");
        assert!(
            is_object(b" {} ") && !is_object(b"[]") && !is_object(b"{") && !is_object(b"{\"a\":\"\xff\"}")
        );
    }
}
