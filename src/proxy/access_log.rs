//! Owns the one line that is written for each request.
//!
//! Lines go through a bounded queue to a thread of their own; when it is full they are dropped and counted, since
//! a request must not wait for a terminal.

use crate::record::Record;
use serde::Serialize;
use std::io::Write;
use std::time::SystemTime;
use tracing_appender::non_blocking::NonBlocking;

/// Where the lines go.
#[derive(Clone)]
pub enum AccessLog {
    /// To a writer that never blocks.
    Lines(NonBlocking),
    /// Nowhere, as the operator wanted.
    Off,
}

#[derive(Serialize)]
struct Line<'a> {
    ts: &'a str,
    #[serde(flatten)]
    record: &'a Record,
}

impl AccessLog {
    /// Writes one request's line.
    pub fn write(&self, record: &Record) {
        let AccessLog::Lines(writer) = self else { return };
        let ts = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let mut line = Vec::with_capacity(1024);
        let entry = Line { ts: &ts, record };
        if serde_json::to_writer(&mut line, &entry).is_ok() {
            line.push(b'\n');
            // The writer only fails when its thread has ended, and then there is nobody to tell.
            let _ = writer.clone().write_all(&line);
        }
    }
}
