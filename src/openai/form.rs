//! Uploads: forms of several parts, of which one names the model and others are files.
//!
//! Owns the reading of `multipart/form-data` as RFC 7578 has it, strictly, so that no two readers differ. What stands beside the
//! files is read as the JSON that other requests have; the bytes stay the client's, but for the model's name. Refuses to read
//! files.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use memchr::memmem;
use serde_json::{Map, Value};

use crate::splice;
use crate::{Api, ChatRequest, Edit, Rejection};

/// The most parts of a form.
const MAX_PARTS: usize = 256;

/// The longest boundary (RFC 2046, 5.1.1).
const MAX_BOUNDARY: usize = 70;

/// The longest header of a part, in bytes.
const MAX_PART_HEADER: usize = 4096;

/// The longest text beside the files, in bytes.
const MAX_TEXT: usize = 1 << 20;

/// What goes upstream where that is not the JSON that was read.
#[derive(Debug, Clone)]
pub(super) struct OuterBody(Arc<Outer>);

#[derive(Debug)]
struct Outer {
    bytes: Bytes,
    /// Where the model is named; nothing where it is not.
    model: Option<Range<usize>>,
    /// The JSON that stands for it.
    read: Bytes,
}

impl OuterBody {
    /// The bytes with another model's name; fails where what was read of them has been changed, which they cannot follow.
    pub(super) fn with_model(&self, read: &Bytes, model: &str) -> Result<Bytes, Rejection> {
        let outer = &self.0;
        if *read != outer.read {
            return Err(Rejection::FormUnchangeable);
        }
        let edit = outer.model.clone().map(|span| Edit { span, with: model.as_bytes().to_vec() });
        Ok(splice(&outer.bytes, edit.as_slice()))
    }

    pub(super) fn len(&self) -> usize {
        self.0.bytes.len()
    }
}

/// One part of a form.
struct FormPart<'a> {
    name: &'a str,
    filename: Option<&'a str>,
    value: Range<usize>,
}

impl ChatRequest {
    /// Reads a form whose `content-type` this is.
    pub fn of_form(api: Api, body: Bytes, content_type: &str) -> Result<Self, Rejection> {
        let boundary =
            boundary(content_type).ok_or(Rejection::BadForm { detail: "it has no usable boundary" })?;
        let (mut fields, mut model) = (Map::new(), None);
        for part in parts(&body, boundary)? {
            let FormPart { name, filename, value } = part;
            let text = match filename {
                // A file is not read: only that it is there.
                Some(filename) => Value::String(filename.to_owned()),
                None => Value::String(text(&body[value.clone()])?.to_owned()),
            };
            if name == "model" && (filename.is_some() || model.replace(value).is_some()) {
                return Err(Rejection::DuplicateField { name: name.to_owned() });
            }
            let text = if name == "stream" && text == "true" { Value::Bool(true) } else { text };
            match fields.get_mut(name) {
                None => {
                    fields.insert(name.to_owned(), text);
                }
                Some(Value::Array(known)) => known.push(text),
                Some(known) => *known = Value::Array(vec![known.take(), text]),
            }
        }
        let read: Bytes = Value::Object(fields).to_string().into();
        let request = Self::of(api, read.clone())?;
        Ok(request.with_outer(Outer { bytes: body, model, read }))
    }

    /// Makes a request of bytes that are not read, for a model that they do not name.
    pub fn unread_body(api: Api, body: Bytes, model: &str) -> Result<Self, Rejection> {
        let read: Bytes = serde_json::json!({ "model": model }).to_string().into();
        Ok(Self::of(api, read.clone())?.with_outer(Outer { bytes: body, model: None, read }))
    }

    fn with_outer(mut self, outer: Outer) -> Self {
        self.outer = Some(OuterBody(Arc::new(outer)));
        self
    }
}

fn text(value: &[u8]) -> Result<&str, Rejection> {
    let text =
        std::str::from_utf8(value).map_err(|_binary| Rejection::BadForm { detail: "a text is not UTF-8" })?;
    if text.len() > MAX_TEXT { Err(Rejection::BadForm { detail: "a text is too long" }) } else { Ok(text) }
}

/// The boundary that a `content-type` names.
fn boundary(content_type: &str) -> Option<&str> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let mut found = parameters.split(';').filter_map(|one| one.split_once('='));
    let (_, value) = found.find(|(name, _)| name.trim().eq_ignore_ascii_case("boundary"))?;
    let value = value.trim();
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    let is_usable = |c: char| c.is_ascii_alphanumeric() || "'()+_,-./:=? ".contains(c);
    let fits = (1..=MAX_BOUNDARY).contains(&value.len()) && value.chars().all(is_usable);
    (fits && !value.ends_with(' ')).then_some(value)
}

/// Finds the parts of a form, which begins with its first boundary and ends with its last.
fn parts<'a>(body: &'a [u8], boundary: &str) -> Result<Vec<FormPart<'a>>, Rejection> {
    let broken = |detail| Rejection::BadForm { detail };
    let opening = format!("--{boundary}\r\n");
    let delimiter = format!("\r\n--{boundary}");
    if !body.starts_with(opening.as_bytes()) {
        return Err(broken("it does not begin with its boundary"));
    }
    let mut parts = Vec::new();
    let mut at = opening.len();
    loop {
        if parts.len() == MAX_PARTS {
            return Err(broken("it has too many parts"));
        }
        let end = memmem::find(&body[at..], delimiter.as_bytes()).map(|length| at + length);
        let end = end.ok_or_else(|| broken("it ends in the middle of a part"))?;
        let near = &body[at..end.min(at + MAX_PART_HEADER)];
        let header = memmem::find(near, b"\r\n\r\n").ok_or_else(|| broken("a part's header has no end"))?;
        let (name, filename) =
            disposition(&near[..header]).ok_or_else(|| broken("a part has no name, or one with escapes"))?;
        parts.push(FormPart { name, filename, value: at + header + 4..end });
        let rest = &body[end + delimiter.len()..];
        if rest.starts_with(b"\r\n") {
            at = end + delimiter.len() + 2;
        } else if matches!(rest, b"--" | b"--\r\n") {
            return Ok(parts);
        } else {
            return Err(broken("something follows a boundary"));
        }
    }
}

/// Reads what a part's header says of it: its name, and the name of its file.
fn disposition(header: &[u8]) -> Option<(&str, Option<&str>)> {
    let header = std::str::from_utf8(header).ok()?;
    let mut lines = header.split("\r\n").filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-disposition"))?;
    let mut rest = value.trim().strip_prefix("form-data")?;
    let (mut name, mut filename) = (None, None);
    while let Some(after) = rest.trim_start().strip_prefix(';') {
        let (key, after) = after.trim_start().split_once('=')?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_at(after.find(';').unwrap_or(after.len())),
        };
        // Escapes are read in several ways.
        if value.contains('\\') {
            return None;
        }
        let place = match key.trim() {
            "name" => &mut name,
            "filename" => &mut filename,
            _ => {
                rest = after;
                continue;
            }
        };
        if place.replace(value).is_some() {
            return None;
        }
        rest = after;
    }
    rest.trim().is_empty().then_some((name?, filename))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=\"xX\"";

    fn form(parts: &[(&str, &str)]) -> String {
        let part = |(disposition, value): &(&str, &str)| {
            format!("--xX\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{value}\r\n")
        };
        parts.iter().map(part).collect::<String>() + "--xX--\r\n"
    }

    fn read(body: &str) -> Result<ChatRequest, Rejection> {
        ChatRequest::of_form(Api::Transcriptions, Bytes::copy_from_slice(body.as_bytes()), TYPE)
    }

    #[test]
    fn a_form_names_its_model_and_only_that_is_replaced() {
        let body = form(&[
            ("name=\"file\"; filename=\"a.wav\"", "RIFF\r\n--x\0name=\"model\"\r\n\r\nno"),
            ("name=\"model\"", "whisper"),
            ("name=\"prompt\"", "Names: Zo\u{eb}"),
            ("name=\"t[]\"", "word"),
            ("name=\"t[]\"", "segment"),
            ("name=stream", "true"),
        ]);
        let request = read(&body).unwrap();
        assert_eq!((request.model(), request.stream()), ("whisper", true));
        assert_eq!(request.field("prompt").as_deref(), Some("Names: Zo\u{eb}"));
        let sent = request.upstream_bytes("w-3").unwrap();
        assert_eq!(sent, body.replace("whisper", "w-3").as_bytes());
        let changed = request.reparse(Bytes::from_static(b"{\"model\":\"whisper\"}")).unwrap();
        assert_eq!(changed.upstream_bytes("w-3"), Err(Rejection::FormUnchangeable));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let model = ("name=\"model\"", "m");
        for body in [
            form(&[model, ("name=\"model\"", "other")]),
            form(&[("name=\"model\"; filename=\"x\"", "m")]),
            form(&[("name=\"a\"; name=\"model\"", "m")]),
            form(&[("name=\"mo\\del\"", "m")]),
            form(&[]),
            format!("preamble\r\n{}", form(&[model])),
            form(&[model]).replace("--xX--\r\n", "--xXmore"),
            form(&[model]).trim_end_matches("--xX--\r\n").to_owned(),
            form(&[model]).replace("\r\n\r\n", "\n\n"),
        ] {
            assert!(read(&body).is_err(), "{body}");
        }
        assert_eq!(read(&form(&[("name=\"file\"", "x")])).unwrap_err(), Rejection::MissingModel);
        for (kind, known) in [
            ("multipart/form-data; boundary=a b", Some("a b")),
            ("Multipart/Form-Data; charset=x; Boundary=ab", Some("ab")),
            ("multipart/form-data", None),
            ("multipart/mixed; boundary=a", None),
            ("multipart/form-data; boundary=\"a\u{e9}\"", None),
        ] {
            assert_eq!(boundary(kind), known, "{kind}");
        }
    }
}
