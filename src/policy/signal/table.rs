//! Owns the list of a policy's signals while it grows: those with a name, then those that conditions define in place.

use std::collections::HashMap;

use super::{DomainSignal, Signal, SignalId, SignalKind};

/// The signals of a policy.
pub(crate) struct SignalTable {
    signals: Vec<Signal>,
    named: HashMap<String, SignalId>,
    in_place: HashMap<DomainSignal, SignalId>,
}

impl SignalTable {
    pub(super) fn new(signals: Vec<Signal>) -> Self {
        let named =
            signals.iter().enumerate().map(|(id, signal)| (signal.name.clone(), SignalId(id))).collect();
        Self { signals, named, in_place: HashMap::new() }
    }

    /// Finds a signal by its name.
    pub(crate) fn named(&self, name: &str) -> Option<SignalId> {
        self.named.get(name).copied()
    }

    /// Gives the names of the signals that have one.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.named.keys().map(String::as_str)
    }

    /// Adds what a condition defines in place; equal ones are one.
    pub(crate) fn domain(&mut self, domain: DomainSignal) -> SignalId {
        let next = SignalId(self.signals.len());
        let id = *self.in_place.entry(domain.clone()).or_insert(next);
        if id == next {
            let name = format!("domain:{}", domain.any.join("|"));
            self.signals.push(Signal { name, kind: SignalKind::Domain(domain) });
        }
        id
    }

    /// Gives the finished list.
    pub(crate) fn into_signals(self) -> Vec<Signal> {
        self.signals
    }
}
