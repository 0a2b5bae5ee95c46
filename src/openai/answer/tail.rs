//! The end of a JSON answer, in which `usage` is looked for once the answer is complete.
//!
//! Owns the bounded tail and the search in it. Refuses to check the answer and to hold more of it.

/// How much of an answer's end is kept, in bytes. Servers write `usage` behind the choices.
const KEPT: usize = 256 * 1024;

/// How many places that look like the member are tried, from the end: an answer may quote it any number of times.
const TRIES: usize = 16;

const KEY: &[u8] = b"\"usage\"";

/// Where the `g` stands in [`KEY`].
const KEY_G: usize = 4;

/// The last [`KEPT`] bytes of what was fed, however it was cut into chunks.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// At most twice [`KEPT`], so that old bytes are dropped rarely.
    bytes: Vec<u8>,
}

impl Tail {
    /// Takes the next bytes.
    pub(super) fn feed(&mut self, chunk: &[u8]) {
        let chunk = &chunk[chunk.len().saturating_sub(KEPT)..];
        if self.bytes.len() + chunk.len() > 2 * KEPT {
            let old = (self.bytes.len() + chunk.len()).saturating_sub(KEPT).min(self.bytes.len());
            self.bytes.drain(..old);
        }
        self.bytes.extend_from_slice(chunk);
    }

    /// Returns what is kept.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads the value of the top level's last `usage`; nothing if there is none, or the answer is not whole.
    ///
    /// `read` is given what stands behind the member's colon, and says where the value ends.
    pub(super) fn usage<T>(&self, read: impl Fn(&[u8]) -> Option<(T, usize)>) -> Option<T> {
        let tail = self.bytes[self.bytes.len().saturating_sub(KEPT)..].trim_ascii_end();
        // `g` is rare in what follows a usage, so that the whole key is seldom compared.
        let ends = memchr::memrchr_iter(b'g', tail).filter_map(|at| at.checked_sub(KEY_G));
        let keys = ends.filter(|at| tail[*at..].starts_with(KEY));
        keys.take(TRIES).find_map(|at| top_level_value(tail, at, &read))
    }
}

/// Reads the value of the last `usage` that `read` takes, however deep it stands.
pub(super) fn last_value<T>(bytes: &[u8], read: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
    let ends = memchr::memrchr_iter(b'g', bytes).filter_map(|at| at.checked_sub(KEY_G));
    let keys = ends.filter(|at| bytes[*at..].starts_with(KEY) && (*at == 0 || bytes[at - 1] != b'\\'));
    keys.take(TRIES).find_map(|at| {
        let after = bytes[at + KEY.len()..].trim_ascii_start().strip_prefix(b":")?;
        read(after)
    })
}

/// Reads the value of the member whose key stands at `at`, if that is a key of the top level.
///
/// A quote inside a string is escaped, so a bare `"usage"` before a colon is a key. How deep it lies is told by the
/// brackets behind it: of the whole answer only the last one may be left to close.
fn top_level_value<T>(tail: &[u8], at: usize, read: impl Fn(&[u8]) -> Option<(T, usize)>) -> Option<T> {
    if at > 0 && tail[at - 1] == b'\\' {
        return None;
    }
    let after = tail[at + KEY.len()..].trim_ascii_start().strip_prefix(b":")?;
    let (value, end) = read(after)?;
    closes_only_the_answer(&after[end..]).then_some(value)
}

fn closes_only_the_answer(rest: &[u8]) -> bool {
    let mut depth = 1_u32;
    let mut at = 0;
    while let Some(&byte) = rest.get(at) {
        match byte {
            b'"' => match string_end(rest, at) {
                Some(end) => at = end,
                None => return false,
            },
            b'{' | b'[' => depth += 1,
            b'}' if depth == 1 => return at + 1 == rest.len(),
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return false;
        }
        at += 1;
    }
    false
}

/// Where the string that opens at `at` has its closing quote.
fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::json::value_end;

    fn found(tail: &Tail) -> String {
        let read = |after: &[u8]| value_end(after).map(|end| (after[..end].trim_ascii().to_vec(), end));
        String::from_utf8(tail.usage(read).unwrap_or_default()).unwrap()
    }

    fn usage(text: &str, size: usize) -> String {
        let mut tail = Tail::default();
        text.as_bytes().chunks(size.max(1)).for_each(|chunk| tail.feed(chunk));
        found(&tail)
    }

    #[test]
    fn only_the_top_levels_usage_is_taken() {
        for (text, expected) in [
            (r#"{"usage":{"a":[1,{"b":"}\"]"}]},"x":1}"#, r#"{"a":[1,{"b":"}\"]"}]}"#),
            (r#"{"choices":[{"usage":{"a":1}}], "usage" : {"a":2} }"#, r#"{"a":2}"#),
            (r#"{"usage":{"a":2},"z":{"usage":3},"y":[{"usage":4}],"w":"\"usage\":5"} "#, r#"{"a":2}"#),
            (r#"{"usage":1,"usage":2}"#, "2"),
            (r#"{"x":"\"usage\":{}","usagex":1,"usag":2,"usage":null}"#, "null"),
            (r#"{"a":"usage","b":{"usage":3},"c":[{"usage":4}]}"#, ""),
            (r#"[{"usage":1}]"#, ""),
            (r#"{"x":"the end is \"usage"}"#, ""),
            (r#"{"usage":{"a":1}"#, ""),
            (r#"{"usage":"#, ""),
            ("", ""),
        ] {
            for size in [1, 2, 3, 7, 1000] {
                assert_eq!(usage(text, size), expected, "{text} by {size}");
            }
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_still_holds_the_end() {
        for size in [1000, KEPT - 1, KEPT, 3 * KEPT] {
            let text = format!("{{\"data\":\"{}\",\"usage\":{{\"a\":1}}}}", "x".repeat(5 * KEPT));
            let mut tail = Tail::default();
            for chunk in text.as_bytes().chunks(size) {
                tail.feed(chunk);
                assert!(tail.bytes.len() <= 2 * KEPT);
            }
            assert_eq!(found(&tail), r#"{"a":1}"#, "{size}");
        }
    }

    #[test]
    fn many_places_that_look_like_it_cost_no_more_than_a_few() {
        let nested = format!("{{\"a\":[{}1]}}", "{\"usage\":1},".repeat(20_000));
        assert_eq!(usage(&nested, nested.len()), "");
    }

    proptest! {
        #[test]
        fn cutting_an_answer_changes_nothing(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "{", "}", "[", "]", "\"", "\\", "\"usage\":", ":", ",", "null", "1", " ", "\"a\":", "padding padding",
            ]), 0..24),
            size in 1_usize..9,
        ) {
            let text = pieces.concat();
            prop_assert_eq!(usage(&text, size), usage(&text, text.len()));
        }

        #[test]
        fn what_is_found_is_what_a_json_reader_finds(
            before in prop::collection::vec(("[a-z\"\\\\]{0,6}", "[a-z\"\\\\:{}\\[\\]]{0,12}"), 0..4),
            value in prop::option::of(0_u64..1000),
            after in prop::collection::vec(("[a-z\"\\\\]{0,6}", 0_u64..9), 0..4),
        ) {
            let mut object = serde_json::Map::new();
            for (key, text) in before {
                object.insert(key, serde_json::json!({"usage": text, "x": [text, {"usage": 1}]}));
            }
            if let Some(value) = value {
                object.insert("usage".to_owned(), serde_json::json!({"prompt_tokens": value}));
            }
            for (key, number) in after {
                object.entry(key).or_insert(serde_json::json!([number, {"usage": number}]));
            }
            let expected = object.get("usage").map(ToString::to_string).unwrap_or_default();
            let text = serde_json::Value::Object(object).to_string();
            prop_assert_eq!(usage(&text, 7), expected);
        }
    }
}
