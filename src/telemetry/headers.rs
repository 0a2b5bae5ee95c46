//! Owns how a record becomes response headers.
//!
//! Knows no header but those of the matched signals: the others are in the table.

use super::columns::{Header, text};
use super::facts::{AccessRecord, DETAIL_HEADERS, HEADERS};
use super::values::MatchedSignal;
use http::{HeaderMap, HeaderName};

/// Adds the headers of a record to a response's; `with_signals` adds the matched signals, which not every client may
/// see.
pub fn write_headers(record: &AccessRecord, headers: &mut HeaderMap, with_signals: bool) {
    write(&HEADERS, record, headers);
    let Some(details) = &record.details else { return };
    write(&DETAIL_HEADERS, record, headers);
    if with_signals {
        write_signals(&details.decision.signals, headers);
    }
}

fn write(table: &[Header<AccessRecord>], record: &AccessRecord, headers: &mut HeaderMap) {
    for Header { name, value } in table {
        if let Some(value) = value(record) {
            headers.insert(name, value);
        }
    }
}

/// One header for each kind of signal that matched.
fn write_signals(signals: &[MatchedSignal], headers: &mut HeaderMap) {
    let mut kinds: Vec<&'static str> = signals.iter().map(|signal| signal.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for kind in kinds {
        let matching = signals.iter().filter(|signal| signal.kind == kind);
        let names: Vec<String> =
            matching.map(|signal| format!("{}={:.4}", signal.name, signal.score)).collect();
        let name = format!("x-vsr-matched-{}", kind.replace('_', "-")).parse::<HeaderName>();
        if let (Ok(name), Some(value)) = (name, text(&names.join(","))) {
            headers.insert(name, value);
        }
    }
}
