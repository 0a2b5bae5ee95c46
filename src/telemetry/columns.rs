//! Owns the columns of the table of facts: what a header or a counter says of a record `R`.
//!
//! Knows no fact.

use http::{HeaderName, HeaderValue};

/// A response header, and its value for a record.
pub(super) struct Header<R> {
    pub(super) name: HeaderName,
    pub(super) value: fn(&R) -> Option<HeaderValue>,
}

pub(super) const fn header<R>(name: &'static str, value: fn(&R) -> Option<HeaderValue>) -> Header<R> {
    Header { name: HeaderName::from_static(name), value }
}

/// What a family of metrics is called and what its labels are.
pub(super) struct MetricFamily {
    /// Without the prefix `signalbox_`.
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) labels: &'static [&'static str],
}

pub(super) const fn family(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
) -> MetricFamily {
    MetricFamily { name, help, labels }
}

/// Adds an amount to the series with these labels.
pub(super) type AddToSeries<'a> = &'a mut dyn FnMut(&[&str], f64);

/// A family that counts some of the finished requests.
pub(super) struct RequestCounter<R> {
    pub(super) family: MetricFamily,
    pub(super) count: fn(&R, AddToSeries<'_>),
}

pub(super) const fn counter<R>(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    count: fn(&R, AddToSeries<'_>),
) -> RequestCounter<R> {
    RequestCounter { family: family(name, help, labels), count }
}

/// A text; a name of the policy that is no header value is left out, the log still has it.
pub(super) fn text(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(text).ok()
}

/// A word of the code's own, in visible ASCII.
#[expect(clippy::unnecessary_wraps, reason = "stands where a header may be absent")]
pub(super) fn word(word: &'static str) -> Option<HeaderValue> {
    Some(HeaderValue::from_static(word))
}

/// `true`, or no header.
pub(super) fn flag(is_set: bool) -> Option<HeaderValue> {
    is_set.then(|| HeaderValue::from_static("true"))
}

pub(super) fn decimals(number: f32, places: usize) -> Option<HeaderValue> {
    text(&format!("{number:.places$}"))
}
