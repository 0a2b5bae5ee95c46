//! The `model` of answers, written anew as they pass: in a document, and in the data of events.
//!
//! Owns where an answer names its model: at the top, or in the `response` or `message` that an event holds. Holds nothing:
//! what it has to know of earlier bytes is where it is in them. Refuses to check JSON.

use bytes::Bytes;
use memchr::{memchr, memchr3};

use super::Format;
use crate::json::quoted;

/// The members of the top level that name a model too.
const PARENTS: [&[u8]; 2] = [b"response", b"message"];

/// As much of a key is kept as tells whether it is one of those.
const MAX_KEY: usize = 16;

const DATA: &[u8] = b"data:";

/// Replaces the model's name in an answer.
#[derive(Debug)]
pub struct ModelRenamer {
    /// The name as JSON.
    name: Vec<u8>,
    is_stream: bool,
    line: EventLine,
    json: JsonPlace,
    /// The next byte, of a string, is escaped.
    is_escaped: bool,
}

/// What the line of a stream is, as far as it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EventLine {
    /// So many bytes are those of a line of data.
    Start(usize),
    Data,
    Other,
}

/// Where in a JSON text it is.
#[derive(Debug, Default)]
struct JsonPlace {
    /// How many brackets are open.
    depth: usize,
    /// Whether the outermost bracket is that of an object.
    is_object: bool,
    /// Whether the second bracket is that of one that can name a model.
    is_parent: bool,
    string: Option<JsonString>,
    /// Whether a value comes next, and not a key.
    is_value: bool,
    /// The last key of an object that can name a model, as it is written.
    key: Vec<u8>,
}

/// What a string is that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JsonString {
    Key,
    /// The name that is replaced.
    Model,
    Other,
}

impl ModelRenamer {
    /// Starts an answer that is to name this model.
    pub fn new(format: Format, name: &str) -> Self {
        let is_stream = format == Format::EventStream;
        let line = if is_stream { EventLine::Start(0) } else { EventLine::Data };
        Self { name: quoted(name), is_stream, line, json: JsonPlace::default(), is_escaped: false }
    }

    /// Takes the next bytes and gives what goes out for them: the same ones where no name is in them.
    pub fn pass(&mut self, chunk: Bytes) -> Bytes {
        let mut out = Vec::new();
        // What comes before has gone out, or is the name that was replaced.
        let mut from = if self.is_replacing() { chunk.len() } else { 0 };
        let mut is_changed = from > 0;
        let mut at = 0;
        while at < chunk.len() {
            if self.line == EventLine::Data {
                let was_replacing = self.is_replacing();
                let end = self.read_json(&chunk, at);
                if !was_replacing && self.is_replacing() {
                    // The quote is the last byte read.
                    out.reserve(chunk.len() + self.name.len());
                    out.extend_from_slice(&chunk[from..end - 1]);
                    out.extend_from_slice(&self.name);
                    (from, is_changed) = (chunk.len(), true);
                } else if was_replacing && !self.is_replacing() {
                    from = end;
                }
                at = end;
            } else {
                at = self.read_line(&chunk, at);
            }
        }
        if !is_changed {
            return chunk;
        }
        out.extend_from_slice(&chunk[from..]);
        out.into()
    }

    fn is_replacing(&self) -> bool {
        self.json.string == Some(JsonString::Model)
    }

    /// Reads a line up to its end, or to where its data begins.
    fn read_line(&mut self, chunk: &[u8], at: usize) -> usize {
        match self.line {
            EventLine::Start(known) if chunk[at] == DATA[known] => {
                let is_data = known + 1 == DATA.len();
                self.line = if is_data { EventLine::Data } else { EventLine::Start(known + 1) };
                at + 1
            }
            EventLine::Start(known) => {
                if known == 0 && chunk[at] == b'\n' {
                    // The event is over.
                    self.json = JsonPlace::default();
                    return at + 1;
                }
                // An event that begins with a carriage return ends here too, which its next brace makes good.
                self.line = EventLine::Other;
                at
            }
            EventLine::Other | EventLine::Data => match memchr(b'\n', &chunk[at..]) {
                Some(length) => {
                    self.line = EventLine::Start(0);
                    at + length + 1
                }
                None => chunk.len(),
            },
        }
    }

    /// Reads JSON up to the next place that matters; gives where that is.
    fn read_json(&mut self, chunk: &[u8], at: usize) -> usize {
        if self.json.string.is_some() {
            return self.read_string(chunk, at);
        }
        let (json, byte) = (&mut self.json, chunk[at]);
        match byte {
            b'\n' if self.is_stream => self.line = EventLine::Start(0),
            b'"' if json.depth > 0 => json.open_string(),
            b'{' | b'[' => json.open(byte == b'{'),
            b'}' | b']' => json.close(),
            b':' => json.is_value = true,
            b',' => json.is_value = false,
            _ => {}
        }
        at + 1
    }

    fn read_string(&mut self, chunk: &[u8], mut at: usize) -> usize {
        let json = &mut self.json;
        if std::mem::take(&mut self.is_escaped) {
            json.note_key(&chunk[at..=at]);
            at += 1;
        }
        let found = memchr3(b'"', b'\\', b'\n', &chunk[at..]);
        let end = found.map_or(chunk.len(), |length| at + length);
        json.note_key(&chunk[at..end]);
        match chunk.get(end) {
            Some(b'\\') => {
                json.note_key(b"\\");
                self.is_escaped = true;
            }
            Some(b'"') => json.string = None,
            // No string goes over the end of a line.
            Some(_) if self.is_stream => {
                self.json = JsonPlace::default();
                self.line = EventLine::Other;
                return end;
            }
            _ => {}
        }
        (end + 1).min(chunk.len())
    }
}

impl JsonPlace {
    /// Whether the innermost object can name a model.
    fn is_watched(&self) -> bool {
        self.is_object && (self.depth == 1 || (self.depth == 2 && self.is_parent))
    }

    fn open_string(&mut self) {
        self.string = Some(match (self.is_watched(), self.is_value) {
            (true, false) => {
                self.key.clear();
                JsonString::Key
            }
            (true, true) if self.key == b"model" => JsonString::Model,
            _ => JsonString::Other,
        });
    }

    fn note_key(&mut self, bytes: &[u8]) {
        if self.string == Some(JsonString::Key) {
            let room = MAX_KEY.saturating_sub(self.key.len());
            self.key.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }

    fn open(&mut self, is_object: bool) {
        match self.depth {
            0 => self.is_object = is_object,
            1 => self.is_parent = is_object && PARENTS.contains(&self.key.as_slice()),
            _ => {}
        }
        self.depth += 1;
        self.is_value = false;
    }

    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.is_value = true;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn renamed(format: Format, text: &str, cuts: &[usize]) -> String {
        let mut renamer = ModelRenamer::new(format, "pu\"blic");
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let piece = |pair: &[usize]| renamer.pass(Bytes::copy_from_slice(&text.as_bytes()[pair[0]..pair[1]]));
        String::from_utf8(cuts.windows(2).flat_map(piece).collect()).unwrap()
    }

    const DOCUMENTS: [(&str, &str); 6] = [
        (r#"{"id":"a","model":"up","n":1.50}"#, r#"{"id":"a","model":"pu\"blic","n":1.50}"#),
        (r#"{ "model" : "u\"p\\" }"#, r#"{ "model" : "pu\"blic" }"#),
        (r#"{"model":null,"x":{"model":"in"},"y":["model",{"model":"in"}]}"#, ""),
        (r#"{"x":"\"model\":\"a","object":"model","choices":[{"message":{"model":"in"}}]}"#, ""),
        (
            r#"{"response":{"model":"up","x":[{"model":"in"}],"y":1}}"#,
            r#"{"response":{"model":"pu\"blic","x":[{"model":"in"}],"y":1}}"#,
        ),
        (r#"[{"model":"up"}]"#, ""),
    ];

    #[test]
    fn a_document_names_the_model_anew_and_stays_as_it_is_else() {
        for (document, expected) in DOCUMENTS {
            let expected = if expected.is_empty() { document } else { expected };
            assert_eq!(renamed(Format::Json, document, &[]), expected);
            let every: Vec<_> = (0..document.len()).collect();
            assert_eq!(renamed(Format::Json, document, &every), expected);
        }
    }

    #[test]
    fn events_name_the_model_anew() {
        let stream = ": \"model\":\"note\"\n\nevent: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"up\"}}\r\n\r\n\
            data:{\"model\":\"up\",\"choices\":[{\"delta\":{\"content\":\"{\\\"model\\\":\\\"x\\\"}\"}}]}\n\ndata: [DONE]\n\n";
        let expected = stream.replace("\"up\"", "\"pu\\\"blic\"");
        assert_eq!(renamed(Format::EventStream, stream, &[]), expected);
        let broken = "data: {\"x\":\"\n\ndata: {\"model\":\"up\"}\n\n";
        assert_eq!(renamed(Format::EventStream, broken, &[]), broken.replace("\"up\"", "\"pu\\\"blic\""));
    }

    #[test]
    fn a_chunk_without_a_name_is_not_copied() {
        let chunk = Bytes::from_static(b"data: {\"id\":\"x\"}\n\n");
        let mut renamer = ModelRenamer::new(Format::EventStream, "m");
        assert_eq!(renamer.pass(chunk.clone()).as_ptr(), chunk.as_ptr());
    }

    proptest! {
        #[test]
        fn cutting_an_answer_changes_nothing(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "data: ", "event: e", "\n", "\n\n", "\r\n", "{", "}", "[", "]", "\"model\"", ":", ",", "\"up\"", "\"message\"",
                "\"a\\\"b\"", "1", "é", "\"", "\\",
            ]), 0..32),
            cuts in prop::collection::vec(any::<usize>(), 0..8),
        ) {
            let text = pieces.concat();
            for format in [Format::Json, Format::EventStream] {
                prop_assert_eq!(renamed(format, &text, &cuts), renamed(format, &text, &[]));
            }
        }
    }
}
