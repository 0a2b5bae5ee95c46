//! Owns how a family of metrics is made and registered, under the gateway's own prefix.
//!
//! Knows nothing of what is counted.

use super::SECONDS;
use crate::telemetry::columns::MetricFamily;
use prometheus::{
    CounterVec, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

/// Makes families and registers them.
pub(super) struct Families<'registry>(pub(super) &'registry Registry);

impl Families<'_> {
    pub(super) fn counter(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        let family = IntCounterVec::new(opts(name, help), labels).expect("the family is well-formed");
        self.register(family)
    }

    pub(super) fn float_counter(&self, family: &MetricFamily) -> CounterVec {
        let MetricFamily { name, help, labels } = family;
        self.register(CounterVec::new(opts(name, help), labels).expect("the family is well-formed"))
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        let family = IntGaugeVec::new(opts(name, help), labels).expect("the family is well-formed");
        self.register(family)
    }

    pub(super) fn float_gauges(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.register(GaugeVec::new(opts(name, help), labels).expect("the family is well-formed"))
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> IntGauge {
        let family = IntGauge::with_opts(opts(name, help)).expect("the family is well-formed");
        self.register(family)
    }

    pub(super) fn plain_counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::with_opts(opts(name, help)).expect("the family is well-formed"))
    }

    pub(super) fn histogram(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        self.histogram_of(name, help, labels, SECONDS)
    }

    pub(super) fn histogram_of(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> HistogramVec {
        let opts = HistogramOpts { common_opts: opts(name, help), buckets: buckets.to_vec() };
        self.register(HistogramVec::new(opts, labels).expect("the family is well-formed"))
    }

    pub(super) fn plain_histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let opts = HistogramOpts { common_opts: opts(name, help), buckets: buckets.to_vec() };
        self.register(Histogram::with_opts(opts).expect("the family is well-formed"))
    }

    fn register<F: prometheus::core::Collector + Clone + 'static>(&self, family: F) -> F {
        self.0.register(Box::new(family.clone())).expect("no family is registered twice");
        family
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("signalbox_{name}"), help)
}
