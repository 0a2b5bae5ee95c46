//! The elements of an array together with what is in them.
//!
//! Owns that each byte is scanned once for both. Works on bytes that are known to be JSON.

use super::{Scanner, members};

/// One element of an array.
pub(crate) struct ArrayElement<'a> {
    /// As it is written.
    pub(crate) value: &'a [u8],
    /// Its keys, as written between their quotes, and values; none if it is no object.
    pub(crate) members: Vec<(&'a [u8], &'a [u8])>,
}

/// Returns the elements of an array with their members, which are scanned once for both.
pub(crate) fn elements_with_members(value: &[u8]) -> impl Iterator<Item = ArrayElement<'_>> {
    let mut scanner = Scanner::new(value, 0);
    scanner.white_space();
    let mut goes_on = scanner.eat(b'[');
    std::iter::from_fn(move || {
        scanner.white_space();
        if !goes_on || scanner.peek() == Some(b']') {
            return None;
        }
        let start = scanner.at;
        let mut all = Vec::new();
        if scanner.peek() == Some(b'{') {
            let mut items = members(value, start);
            let found = items.by_ref().map_while(Result::ok);
            all.extend(found.map(|item| (&value[item.key], &value[item.value])));
            scanner.at = items.at();
        } else {
            scanner.value().ok()?;
        }
        let element = ArrayElement { value: &value[start..scanner.at], members: all };
        scanner.white_space();
        goes_on = scanner.eat(b',');
        Some(element)
    })
}

#[cfg(test)]
mod tests {
    use super::super::{array, object};
    use super::*;

    #[test]
    fn elements_come_with_the_members_of_those_that_are_objects() {
        for text in [
            r#"[ {"a" : [1, {}], "b":"]"} , "c", [{"d":1}],{ } ,2]"#,
            "[]",
            "[ ]",
            "[[ ]]",
            r#"{"a":1}"#,
            r#""[1]""#,
        ] {
            let both = elements_with_members(text.as_bytes()).map(|element| (element.value, element.members));
            let apart = array(text.as_bytes()).map(|element| (element, object(element).collect::<Vec<_>>()));
            assert_eq!(both.collect::<Vec<_>>(), apart.collect::<Vec<_>>(), "{text}");
        }
    }
}
