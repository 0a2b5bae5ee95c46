//! Owns the load reports that engines put into their answers' headers: when one is asked for, and what it says.
//! Refuses to know what is made of it.
//!
//! Sources: Open Request Cost Aggregation (ORCA) as Envoy reads it in headers, and as vLLM and Triton write it.

use crate::balance::LoadReport;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

/// Asks an engine for a load report. A client's own goes nowhere.
pub(super) const LOAD_REPORT_FORMAT: HeaderName = HeaderName::from_static("endpoint-load-metrics-format");

/// Carries a load report, for proxies alone.
pub(super) const LOAD_REPORT: HeaderName = HeaderName::from_static("endpoint-load-metrics");

/// The form that is asked for.
pub(super) const JSON: HeaderValue = HeaderValue::from_static("JSON");

/// One request in so many asks for a report: each costs vLLM a copy of all its metrics and a line in its log.
const ASK_ONE_IN: u32 = 16;

/// Whether the next request is to ask for a report.
pub(super) fn is_sampled() -> bool {
    rand::random::<u32>().is_multiple_of(ASK_ONE_IN)
}

/// Reads the report in an answer's headers; nothing where it says nothing that is known.
pub(super) fn load_report(headers: &HeaderMap) -> Option<LoadReport> {
    let text = headers.get(LOAD_REPORT)?.to_str().ok()?.trim();
    let (format, report) = text.split_once(' ')?;
    let report = if format.eq_ignore_ascii_case("json") {
        let report: Value = serde_json::from_str(report).ok()?;
        of_figures(|name| report["named_metrics"][name].as_f64())
    } else if format.eq_ignore_ascii_case("text") {
        of_figures(|name| named_metric(report, name))
    } else {
        return None;
    };
    (report.waiting.is_some() || report.kv_usage.is_some()).then_some(report)
}

/// The figures that are known; one that is negative, no number or beyond reason is not.
fn of_figures(figure: impl Fn(&str) -> Option<f64>) -> LoadReport {
    let within =
        |most: f64| move |known: f64| if (0.0..=most).contains(&known) { Some(known as f32) } else { None };
    let usage = figure("kv_cache_usage_perc").or_else(|| figure("kv_cache_utilization"));
    LoadReport {
        waiting: figure("num_requests_waiting").and_then(within(1e9)),
        kv_usage: usage.and_then(within(1.0)),
    }
}

/// A figure of a report in text: `named_metrics.NAME=VALUE`, with commas between them.
fn named_metric(report: &str, name: &str) -> Option<f64> {
    let mut pairs = report.split(',').filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(known, _)| known.trim().strip_prefix("named_metrics.") == Some(name))?;
    value.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Option<LoadReport> {
        let value = HeaderValue::from_str(value).unwrap();
        load_report(&HeaderMap::from_iter([(LOAD_REPORT, value)]))
    }

    #[test]
    fn both_forms_are_read() {
        let both = Some(LoadReport { waiting: Some(3.0), kv_usage: Some(0.5) });
        for text in [
            "TEXT named_metrics.kv_cache_usage_perc=0.5, named_metrics.num_requests_waiting=3.0",
            "text cpu_utilization=0.3,named_metrics.num_requests_waiting = 3,named_metrics.kv_cache_usage_perc=0.5",
            r#"JSON {"named_metrics": {"kv_cache_usage_perc": 0.5, "num_requests_waiting": 3}}"#,
            r#"JSON {"cpu_utilization": 1, "named_metrics": {"kv_cache_utilization": 0.5, "num_requests_waiting": 3.0}}"#,
        ] {
            assert_eq!(read(text), both, "{text}");
        }
    }

    #[test]
    fn what_is_no_report_or_no_figure_is_unknown() {
        for text in [
            "",
            "TEXT",
            "TEXT named_metrics.kv_cache_usage_perc=NaN",
            "TEXT named_metrics.kv_cache_usage_perc=-1, named_metrics.num_requests_waiting=many",
            "JSON {\"named_metrics\": [1]}",
            "JSON {\"named_metrics\": {\"num_requests_waiting\": -1}}",
            "JSON {",
            "BIN Zm9v",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        let half = read("TEXT named_metrics.kv_cache_usage_perc=7, named_metrics.num_requests_waiting=2");
        assert_eq!(half, Some(LoadReport { waiting: Some(2.0), kv_usage: None }));
    }
}
