//! The top level of a JSON answer, read as it passes: what `usage` holds and whether there is an `error`.
//!
//! Owns a scanner that knows only strings and brackets. Refuses to check the answer and to hold it; only the
//! value of `usage` is kept.

/// The longest `usage` that is read, in bytes.
const MAX_USAGE: usize = 64 * 1024;

/// Reads one answer, byte by byte, however it is cut into chunks.
#[derive(Debug, Default)]
pub(super) struct Answer {
    place: Place,
    depth: u32,
    /// The start of the key that is being read or was read last.
    key: Vec<u8>,
    member: Member,
    usage: Vec<u8>,
    saw_error: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    Between,
    String,
    Escape,
}

/// Where in a member of the top level the scanner stands.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Member {
    #[default]
    Other,
    /// A key may come or is being read.
    Key,
    /// After a key: a colon, white space, then a value.
    Colon,
    /// Inside the value of `usage`.
    Usage,
}

impl Answer {
    /// Takes the next bytes.
    pub(super) fn feed(&mut self, chunk: &[u8]) {
        let mut rest = chunk;
        while let Some((&byte, after)) = rest.split_first() {
            match self.place {
                Place::String => {
                    let run = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
                    self.note(&rest[..run]);
                    rest = &rest[run..];
                    if let Some((byte, after)) = rest.split_first() {
                        self.leave_string(*byte);
                        rest = after;
                    }
                    continue;
                }
                Place::Escape => {
                    self.note(&[byte]);
                    self.place = Place::String;
                }
                Place::Between if self.depth > 1 && self.member != Member::Usage => {
                    let quiet = quiet(rest);
                    rest = &rest[quiet..];
                    if let Some((byte, after)) = rest.split_first() {
                        self.between(*byte);
                        rest = after;
                    }
                    continue;
                }
                Place::Between => self.between(byte),
            }
            rest = after;
        }
    }

    /// Returns the value of the last `usage`; empty if there was none, or none that is short enough.
    pub(super) fn usage(&self) -> &[u8] {
        self.usage.trim_ascii()
    }

    /// Says whether there was an `error` other than null.
    pub(super) fn saw_error(&self) -> bool {
        self.saw_error
    }

    /// Keeps bytes that belong to a key or to `usage`.
    fn note(&mut self, bytes: &[u8]) {
        let (kept, limit) = match self.member {
            Member::Key => (&mut self.key, "usage".len() + 1),
            Member::Usage => (&mut self.usage, MAX_USAGE),
            Member::Other | Member::Colon => return,
        };
        let room = limit.saturating_sub(kept.len());
        kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn leave_string(&mut self, byte: u8) {
        if byte == b'\\' {
            self.note(b"\\");
            self.place = Place::Escape;
            return;
        }
        self.place = Place::Between;
        match self.member {
            Member::Key => self.member = Member::Colon,
            Member::Usage => self.note(b"\""),
            Member::Other | Member::Colon => {}
        }
    }

    /// Takes a byte outside strings.
    fn between(&mut self, byte: u8) {
        if self.depth == 1 {
            match byte {
                b',' => self.enter_member(),
                b':' | b' ' | b'\n' | b'\r' | b'\t' | b'}' => {}
                _ if self.member == Member::Colon => self.enter_value(byte),
                _ => {}
            }
        }
        match byte {
            b'"' => self.place = Place::String,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        match (byte, self.depth) {
            (b'{', 1) => self.enter_member(),
            (b'}' | b']', 0) => self.member = Member::Other,
            _ if self.member == Member::Usage => self.note(&[byte]),
            _ => {}
        }
    }

    fn enter_member(&mut self) {
        self.member = Member::Key;
        self.key.clear();
    }

    fn enter_value(&mut self, first: u8) {
        self.saw_error |= self.key == b"error" && first != b'n';
        self.member = Member::Other;
        if self.key == b"usage" {
            self.member = Member::Usage;
            self.usage.clear();
        }
    }
}

/// Counts the bytes before the first quote or bracket, sixteen at a time.
fn quiet(bytes: &[u8]) -> usize {
    let speaks = |byte: u8| matches!(byte, b'"' | b'{' | b'}' | b'[' | b']');
    let (blocks, _) = bytes.as_chunks::<16>();
    let is_quiet = |block: &&[u8; 16]| !block.iter().fold(false, |any, &byte| any | speaks(byte));
    let passed = blocks.iter().take_while(is_quiet).count() * 16;
    passed + bytes[passed..].iter().position(|&byte| speaks(byte)).unwrap_or(bytes.len() - passed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scan(text: &str, size: usize) -> (String, bool) {
        let mut answer = Answer::default();
        text.as_bytes().chunks(size.max(1)).for_each(|chunk| answer.feed(chunk));
        (String::from_utf8(answer.usage().to_vec()).unwrap(), answer.saw_error())
    }

    #[test]
    fn only_the_top_levels_usage_is_kept() {
        for (text, usage) in [
            (r#"{"usage":{"a":[1,{"b":"}\"]"}]},"x":1}"#, r#"{"a":[1,{"b":"}\"]"}]}"#),
            (r#"{"choices":[{"usage":{"a":1}}], "usage" : {"a":2} }"#, r#"{"a":2}"#),
            (r#"{"x":"\"usage\":{}","usagex":1,"usag":2,"usage":null}"#, "null"),
            (r#"{"a":"usage","b":{"usage":3},"c":[{"usage":4}]}"#, ""),
            (r#"[{"usage":1}]"#, ""),
            (r#"{"usage":1}{"usage":2}"#, "2"),
            ("", ""),
        ] {
            for size in [1, 2, 3, 7, 1000] {
                assert_eq!(scan(text, size), (usage.to_owned(), false), "{text} by {size}");
            }
        }
    }

    #[test]
    fn an_error_is_seen_unless_it_is_null() {
        for (text, error) in [
            (r#"{"error":{"message":"m"}}"#, true),
            (r#"{"error" : "m"}"#, true),
            (r#"{"error":null,"usage":{}}"#, false),
            (r#"{"choices":[{"error":1}],"x":"error"}"#, false),
        ] {
            assert_eq!(scan(text, 1).1, error, "{text}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let text = format!("{{\"{}\":1,\"usage\":[{}1]}}", "k".repeat(1 << 20), "1,".repeat(1 << 20));
        let mut answer = Answer::default();
        answer.feed(text.as_bytes());
        assert!(answer.usage.len() <= MAX_USAGE && answer.key.capacity() < 100);
    }

    proptest! {
        #[test]
        fn cutting_an_answer_changes_nothing(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "{", "}", "[", "]", "\"", "\\", "\"usage\":", "\"error\":", ":", ",", "null", "1", " ", "\"a\":", "padding padding",
            ]), 0..24),
            size in 1_usize..9,
        ) {
            let text = pieces.concat();
            prop_assert_eq!(scan(&text, size), scan(&text, text.len()));
        }
    }
}
