//! Owns what the process reports of its requests: the record of each, the access log, the response headers and the
//! metrics.
//!
//! `facts.rs` is the table: it says for each fact of a request its log key, its header and the metrics that count it.
//! A new fact is a line there and a line where the fact is known. Knows nothing of sockets.

mod access_record;
mod admission_record;
mod columns;
mod facts;
mod headers;
mod line;
mod log;
mod metrics;
mod output;
mod prompt_counters;
mod upstream_record;
mod values;

pub use facts::{
    AccessRecord, CacheRecord, ClassifierRecord, CostRecord, DecisionRecord, GuardRecord, IdentityRecord,
    PrefillRecord, RecordDetails, RequestRecord, ResponseRecord, RoutingRecord,
};
pub use headers::write_headers;
pub use log::AccessLog;
pub use metrics::{Metrics, ProcessGauges, SourceGauges};
pub use output::{FlushGuard, ProcessLog};
pub use upstream_record::{EndpointMarginRecord, UpstreamRecord};
pub use values::{MatchedSignal, ResponsePath};

use std::time::Duration;

/// What the process prints while it serves.
#[derive(Clone)]
pub struct LogStreams {
    /// One line for each request.
    pub access: AccessLog,
    /// What happens to the process.
    pub process: ProcessLog,
}

/// A duration in milliseconds, to the microsecond.
pub fn millis(duration: Duration) -> f64 {
    (duration.as_micros() as f64) / 1000.0
}

/// A text cut at 256 bytes, on a character boundary, as it may be logged.
pub fn bounded(text: &str) -> String {
    /// The most of a client's own text that a log line carries.
    const LIMIT: usize = 256;
    text[..text.floor_char_boundary(LIMIT)].to_owned()
}
