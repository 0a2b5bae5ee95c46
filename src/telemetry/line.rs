//! Owns how a record becomes a line of the access log, and the macro that declares a group of facts.
//!
//! Knows no fact: which there are stands in the table.

use super::values::ResponsePath;
use crate::openai::is_plain;
use http::Method;
use serde::Serialize;
use std::cell::Cell;
use std::io::Write;
use std::net::SocketAddr;
use std::time::SystemTime;

/// Declares a struct whose fields are members of the log line, under their names or the keys given after `as`. A field
/// may be a group of its own, whose members stand in its place.
macro_rules! facts {
    (
        $(#[$meta:meta])*
        pub struct $group:ident {
            $($(#[$field_meta:meta])* $field:ident $(as $key:literal)?: $type:ty,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Default, Clone)]
        pub struct $group {
            $($(#[$field_meta])* pub $field: $type,)*
        }

        impl $crate::telemetry::line::LogValue for $group {
            #[inline]
            fn member(&self, _key: &str, line: &mut Vec<u8>) -> std::io::Result<()> {
                $(self.$field.member($crate::telemetry::line::log_key!($field $($key)?), line)?;)*
                Ok(())
            }
        }
    };
}

/// A key as it stands in a line, behind the comma.
macro_rules! log_key {
    ($field:ident) => {
        concat!(",\"", stringify!($field), "\":")
    };
    ($field:ident $key:literal) => {
        concat!(",\"", $key, "\":")
    };
}

pub(super) use {facts, log_key};

/// Writes a request's line: one JSON object.
///
/// Not by a serialiser: it would escape each key anew, byte by byte, and every request pays for its line.
pub(super) fn write_line(
    line: &mut Vec<u8>,
    ended: SystemTime,
    record: &impl LogValue,
) -> std::io::Result<()> {
    line.extend_from_slice(b"{\"ts\":\"");
    timestamp(ended, line);
    line.push(b'"');
    record.member("", line)?;
    line.extend_from_slice(b"}\n");
    Ok(())
}

thread_local! {
    /// The last second that was written, by the clock and as text.
    static SECOND: Cell<(u64, [u8; 19])> = const { Cell::new((0, *b"1970-01-01T00:00:00")) };
}

/// Writes the time as RFC 3339 has it, in milliseconds.
fn timestamp(now: SystemTime, line: &mut Vec<u8>) {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (mut second, mut text) = SECOND.get();
    if second != since.as_secs() {
        second = since.as_secs();
        let whole = humantime::format_rfc3339_seconds(now).to_string();
        text.copy_from_slice(&whole.as_bytes()[..19]);
        SECOND.set((second, text));
    }
    line.extend_from_slice(&text);
    let millis = since.subsec_millis();
    let digit = |value: u32| b'0' + (value % 10) as u8;
    line.extend_from_slice(&[b'.', digit(millis / 100), digit(millis / 10), digit(millis), b'Z']);
}

/// A value that a log line can hold.
pub(super) trait LogValue {
    /// Writes the member; `key` has a comma before it, its quotes and its colon.
    fn member(&self, key: &str, line: &mut Vec<u8>) -> std::io::Result<()>;
}

impl<T: LogValue> LogValue for Option<T> {
    #[inline]
    fn member(&self, key: &str, line: &mut Vec<u8>) -> std::io::Result<()> {
        match self {
            Some(value) => value.member(key, line),
            None => Ok(()),
        }
    }
}

/// Writes a member whose text needs no escapes. Not inlined, like the other writers: a line has many members, and one
/// copy of the code stays in the instruction cache.
#[inline(never)]
fn text(key: &str, value: &str, line: &mut Vec<u8>) {
    line.extend_from_slice(key.as_bytes());
    line.push(b'"');
    line.extend_from_slice(value.as_bytes());
    line.push(b'"');
}

/// A word of the code's own, in which nothing is to be escaped.
impl LogValue for &'static str {
    fn member(&self, key: &str, line: &mut Vec<u8>) -> std::io::Result<()> {
        text(key, self, line);
        Ok(())
    }
}

impl LogValue for String {
    #[inline(never)]
    fn member(&self, key: &str, line: &mut Vec<u8>) -> std::io::Result<()> {
        if is_plain(self) {
            text(key, self, line);
            return Ok(());
        }
        line.extend_from_slice(key.as_bytes());
        Ok(serde_json::to_writer(line, self)?)
    }
}

/// A token, in which nothing is to be escaped.
impl LogValue for Method {
    fn member(&self, key: &str, line: &mut Vec<u8>) -> std::io::Result<()> {
        text(key, self.as_str(), line);
        Ok(())
    }
}

impl LogValue for SocketAddr {
    #[inline(never)]
    fn member(&self, key: &str, line: &mut Vec<u8>) -> std::io::Result<()> {
        line.extend_from_slice(key.as_bytes());
        let SocketAddr::V4(address) = self else { return write!(line, "\"{self}\"") };
        for (octet, before) in address.ip().octets().into_iter().zip(*b"\"...") {
            line.push(before);
            for scale in [100, 10] {
                if octet >= scale {
                    line.push(b'0' + octet / scale % 10);
                }
            }
            line.push(b'0' + octet % 10);
        }
        line.push(b':');
        serde_json::to_writer(&mut *line, &address.port())?;
        line.push(b'"');
        Ok(())
    }
}

impl<T: LogValue> LogValue for Box<T> {
    #[inline]
    fn member(&self, key: &str, line: &mut Vec<u8>) -> std::io::Result<()> {
        (**self).member(key, line)
    }
}

impl LogValue for ResponsePath {
    fn member(&self, key: &str, line: &mut Vec<u8>) -> std::io::Result<()> {
        text(key, self.as_str(), line);
        Ok(())
    }
}

/// Left out when it is empty.
impl<T: Serialize> LogValue for Vec<T> {
    fn member(&self, key: &str, line: &mut Vec<u8>) -> std::io::Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        line.extend_from_slice(key.as_bytes());
        Ok(serde_json::to_writer(line, self)?)
    }
}

macro_rules! json_values {
    ($($type:ty),*) => {$(
        impl LogValue for $type {
            #[inline(never)]
            fn member(&self, key: &str, line: &mut Vec<u8>) -> std::io::Result<()> {
                line.extend_from_slice(key.as_bytes());
                Ok(serde_json::to_writer(line, self)?)
            }
        }
    )*};
}

json_values!(bool, i32, u16, u32, u64, usize, f32, f64);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::AccessRecord;
    use std::time::Duration;

    #[test]
    fn a_line_is_json_whatever_the_record_holds() {
        let mut record =
            AccessRecord { request_id: "a\"b\\c\nd\u{1f}\u{7f}é".to_owned(), ..AccessRecord::default() };
        record.client = Some("[2001:db8::1]:80".parse().unwrap());
        record.request.path = "/v1/\t".to_owned();
        record.upstream.endpoint = Some("192.0.2.17:8000".parse().unwrap());
        record.routing.confidence = Some(0.25);
        record.details();
        record.response.duration_ms = 1.0625;
        let read = |record: &AccessRecord| -> serde_json::Value {
            let mut text = Vec::new();
            write_line(&mut text, SystemTime::UNIX_EPOCH, record).unwrap();
            serde_json::from_slice(&text).unwrap()
        };
        let mut expected = serde_json::json!({
            "ts": "1970-01-01T00:00:00.000Z", "request_id": record.request_id, "client": "[2001:db8::1]:80",
            "method": "GET", "path": "/v1/\t", "stream": false, "request_bytes": 0, "confidence": 0.25,
            "endpoint": "192.0.2.17:8000", "tries": 0, "status": 0, "response_path": "", "response_bytes": 0,
            "duration_ms": 1.0625,
        });
        assert_eq!(read(&record), expected);
        record.details().guards.pii = vec!["PERSON".to_owned()];
        expected["pii"] = serde_json::json!(["PERSON"]);
        assert_eq!(read(&record), expected);
    }

    #[test]
    fn a_time_is_written_as_rfc_3339_has_it() {
        for millis in [0, 1, 999, 1_000, 951_782_399_999, 951_782_400_000, 1_795_286_400_123, 999] {
            let now = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
            let mut text = Vec::new();
            timestamp(now, &mut text);
            assert_eq!(String::from_utf8(text).unwrap(), humantime::format_rfc3339_millis(now).to_string());
        }
    }
}
