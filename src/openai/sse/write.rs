//! Server-sent events as they are written: one line of JSON each.
//!
//! Refuses to know what the data says.

/// What ends a stream of OpenAI's older APIs.
pub(crate) const DONE: &[u8] = b"data: [DONE]\n\n";

/// Writes an event without a name.
pub(crate) fn unnamed_event(out: &mut Vec<u8>, data: &[u8]) {
    out.extend_from_slice(b"data: ");
    // A line end in JSON is white space, but in a stream it would end the data.
    out.extend(data.iter().map(|&byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
    out.extend_from_slice(b"\n\n");
}

/// Writes an event under a name, which is its data's `type` too.
pub(crate) fn named_event(out: &mut Vec<u8>, name: &str, data: &[u8]) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.push(b'\n');
    unnamed_event(out, data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_stays_on_one_line() {
        let mut out = Vec::new();
        named_event(&mut out, "x", b"{\r\n\"a\": 1\n}");
        assert_eq!(out, b"event: x\ndata: {  \"a\": 1 }\n\n");
    }
}
