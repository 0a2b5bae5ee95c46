//! The names of a request's fields: each once in its object, and those that are read in their own letters.
//!
//! Of two fields of one name, and of a name in other letters, two parsers could take different ones: what one of them
//! judges, the other would not have seen. Costs no pass of its own: the scanner that checks the body tells of each key.
//! Refuses to know what the fields mean.

use std::borrow::Cow;
use std::ops::Range;

use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64;

use super::Rejection;
use super::json::JsonObserver;
use super::json::string::decode;

/// Fields of the top level that decide about a request or hold texts.
const REQUEST_FIELDS: [&str; 22] = [
    "model",
    "stream",
    "stream_options",
    "messages",
    "prompt",
    "input",
    "query",
    "queries",
    "text_1",
    "text_2",
    "documents",
    "instructions",
    "system",
    "tools",
    "functions",
    "tool_choice",
    "response_format",
    "text",
    "suffix",
    "prediction",
    "chat_template",
    "previous_response_id",
];

/// Fields of messages, items and the parts of their contents that are read.
const MESSAGE_FIELDS: [&str; 15] = [
    "role",
    "type",
    "content",
    "text",
    "output",
    "refusal",
    "thinking",
    "name",
    "input",
    "arguments",
    "function",
    "tool_calls",
    "function_call",
    "reasoning_content",
    "source",
];

/// The fields of the top level whose arrays hold objects with [`MESSAGE_FIELDS`].
const LISTS: [&str; 5] = ["messages", "input", "prompt", "system", "instructions"];

/// Up to so many keys of one object are compared with each other; of more, sorted neighbours are.
const FEW: usize = 16;

/// How deep lists of objects in lists of objects are messages and their parts.
const MAX_PARTS_DEPTH: usize = 7;

/// How much of a name is repeated to its client, in bytes.
const MAX_NAME: usize = 64;

/// Watches the keys of a body.
#[derive(Default)]
pub(super) struct FieldNames {
    /// The keys so far of all objects that are open, the outermost first.
    keys: SmallVec<[SeenKey; FEW]>,
    /// For each array or object that is open, where in `keys` its own begin.
    open: SmallVec<[u32; 16]>,
    /// A bit for each that is open, the innermost lowest, set for an object.
    objects: u128,
    /// Whether the member of the top level is one of the [`LISTS`].
    in_list: bool,
    fault: Option<Rejection>,
}

#[derive(Clone, Copy)]
struct SeenKey {
    /// Of the decoded key.
    hash: u64,
    /// Where it is, between its quotes.
    start: u32,
    length: u32,
}

impl FieldNames {
    /// Returns what was wrong first, if anything was.
    pub(super) fn check(self) -> Result<(), Rejection> {
        self.fault.map_or(Ok(()), Err)
    }

    /// Which names the innermost object's keys must not differ from in their letters alone.
    fn read_here(&self) -> &'static [&'static str] {
        let depth = self.open.len();
        // Objects in lists of objects: a message in `messages`, a part in its `content`.
        let alternates = || {
            let mask = (1_u128 << depth) - 1;
            self.objects & mask == (u128::MAX / 3) & mask
        };
        match depth {
            1 => &REQUEST_FIELDS,
            3..=MAX_PARTS_DEPTH if self.in_list && alternates() => &MESSAGE_FIELDS,
            _ => &[],
        }
    }

    #[cold]
    fn doubled(&mut self, name: &str) {
        self.fault.get_or_insert_with(|| Rejection::DuplicateField { name: bounded(name) });
    }
}

impl JsonObserver for FieldNames {
    fn open(&mut self, is_object: bool) {
        self.open.push(self.keys.len() as u32);
        self.objects = self.objects << 1 | u128::from(is_object);
    }

    fn key(&mut self, bytes: &[u8], key: Range<usize>) {
        let raw = &bytes[key.clone()];
        // Most keys are short, and of nothing else.
        let is_usual = raw.iter().all(|byte| USUAL[usize::from(*byte)]);
        let is_plain = is_usual || memchr::memchr(b'\\', raw).is_none();
        let name = if is_plain { Cow::Borrowed(raw) } else { decoded(raw) };
        if self.open.len() == 1 {
            self.in_list = LISTS.iter().any(|list| list.as_bytes() == &*name);
        }
        let hash = digest(&name);
        let own = &self.keys[self.open.last().map_or(0, |first| *first as usize)..];
        if own.len() < FEW && own.iter().any(|seen| seen.hash == hash) {
            self.doubled(&String::from_utf8_lossy(&name));
        }
        self.keys.push(SeenKey { hash, start: key.start as u32, length: key.len() as u32 });
        if !is_usual && name.iter().any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii()) {
            let name = String::from_utf8_lossy(&name);
            let folded = || name.chars().map(folded);
            if let Some(field) = self.read_here().iter().copied().find(|field| folded().eq(field.chars())) {
                self.fault.get_or_insert_with(|| Rejection::MiscasedField { name: bounded(&name), field });
            }
        }
    }

    fn close(&mut self, bytes: &[u8]) {
        let first = self.open.pop().map_or(0, |first| first as usize);
        self.objects >>= 1;
        let own = &mut self.keys[first..];
        if own.len() > FEW {
            own.sort_unstable_by_key(|seen| seen.hash);
            let again = own.windows(2).find(|pair| pair[0].hash == pair[1].hash).map(|pair| pair[0]);
            if let Some(SeenKey { start, length, .. }) = again {
                self.doubled(&decode(&bytes[start as usize..(start + length) as usize], MAX_NAME));
            }
        }
        self.keys.truncate(first);
    }
}

/// Which bytes nearly all keys are of.
static USUAL: [bool; 256] = {
    let mut usual = [false; 256];
    let mut byte = b'a';
    while byte <= b'z' {
        usual[byte as usize] = true;
        byte += 1;
    }
    usual[b'_' as usize] = true;
    usual
};

/// Tells names apart: short ones by their bytes behind a 1, others by a hash.
fn digest(name: &[u8]) -> u64 {
    if name.len() > 7 {
        return xxh3_64(name);
    }
    name.iter().fold(1, |packed, byte| packed << 8 | u64::from(*byte))
}

#[cold]
fn decoded(raw: &[u8]) -> Cow<'_, [u8]> {
    Cow::Owned(decode(raw, usize::MAX).into_owned().into_bytes())
}

/// A letter as readers have it that do not mind case: some take the long s and the sign of Kelvin for letters too.
fn folded(letter: char) -> char {
    match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        _ => letter.to_ascii_lowercase(),
    }
}

fn bounded(name: &str) -> String {
    name[..name.floor_char_boundary(MAX_NAME)].to_owned()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::super::ChatRequest;
    use super::*;

    fn fault(body: &str) -> Option<Rejection> {
        ChatRequest::parse(Bytes::copy_from_slice(body.as_bytes())).err()
    }

    #[test]
    fn a_field_twice_in_any_object_is_refused_by_its_name() {
        let many = (0..40).map(|at| format!("\"k{at}\":0,")).collect::<Vec<_>>().concat();
        for (body, name) in [
            (r#"{"model":"m","x":1,"x":2}"#.to_owned(), "x"),
            (
                r#"{"model":"m","messages":[{"role":"user","content":"a","content":"b"}]}"#.to_owned(),
                "content",
            ),
            (r#"{"model":"m","messages":[{"content":[{"text":"a","t\u0065xt":"b"}]}]}"#.to_owned(), "text"),
            (r#"{"model":"m","tools":[{"function":{"parameters":{"é":1,"\u00e9":2}}}]}"#.to_owned(), "é"),
            (format!("{{\"model\":\"m\",\"deep\":{{{many}\"k\\u0033\":1}}}}"), "k3"),
        ] {
            assert_eq!(fault(&body), Some(Rejection::DuplicateField { name: name.to_owned() }), "{body}");
        }
        let apart = r#"{"model":"m","messages":[{"content":"a"},{"content":{"content":"b","x":[{"content":1}]}}],"content":1}"#;
        assert_eq!(fault(apart), None);
        assert_eq!(
            fault(&format!("{{\"model\":\"m\",\"a\":{{{many}\"b\":1}},\"c\":{{{many}\"d\":1}}}}")),
            None
        );
    }

    #[test]
    fn a_field_that_is_read_is_refused_in_other_letters_and_names_of_clients_are_not() {
        for (body, name, field) in [
            (r#"{"Model":"m"}"#, "Model", "model"),
            (r#"{"model":"m","Messages":[]}"#, "Messages", "messages"),
            ("{\"model\":\"m\",\"me\u{17f}sages\":[]}", "me\u{17f}sages", "messages"),
            (r#"{"model":"m","messages":[{"role":"user","Content":"a"}]}"#, "Content", "content"),
            (r#"{"model":"m","messages":[{"R\u006fle":"user"}]}"#, "Role", "role"),
            (r#"{"model":"m","input":[{"content":[{"type":"input_text","TEXT":"a"}]}]}"#, "TEXT", "text"),
        ] {
            let refused = Rejection::MiscasedField { name: name.to_owned(), field };
            assert_eq!(fault(body), Some(refused), "{body}");
        }
        for body in [
            r#"{"model":"m","metadata":{"Model":1},"X-Custom":2}"#,
            r#"{"model":"m","documents":[{"Title":"a","Text":"b"}]}"#,
            r#"{"model":"m","tools":[{"function":{"parameters":{"properties":{"Name":{"Type":"string"}}}}}]}"#,
            r#"{"model":"m","messages":[{"content":[{"type":"tool_use","input":{"Content":"a","Text":[{"Name":1}]}}]}]}"#,
        ] {
            assert_eq!(fault(body), None, "{body}");
        }
    }

    proptest! {
        #[test]
        fn an_object_is_refused_exactly_where_a_key_stands_twice(
            keys in prop::collection::vec("[a-f]{1,2}", 0..24), depth in 0_usize..4,
        ) {
            let members = keys.iter().map(|key| format!("\"{key}\":[{{\"{key}\":1}}]")).collect::<Vec<_>>().join(",");
            let nested = format!("{}{{{members}}}{}", "[{\"a\":".repeat(depth), "}]".repeat(depth));
            let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
            let found = fault(&format!("{{\"model\":\"m\",\"x\":{nested}}}"));
            prop_assert_eq!(found.is_some(), distinct.len() < keys.len());
        }
    }
}
