//! Owns the limits that follow from how many files the process may have open.
//!
//! Knows nothing of what is done with them.

use crate::policy::ClientLimits;
use crate::server_state::ConnectionLimits;

/// Files that are none of a connection's: logs, listeners, timers, the policy's own.
const OWN_FILES: usize = 64;

/// More connections than these need a decision of the operator's, for their memory.
const MOST_CONNECTIONS: usize = 16_384;

/// The most idle connections that are kept to upstreams.
const MOST_IDLE_UPSTREAMS: usize = 1024;

/// What is assumed where the system does not say.
const USUAL_FILES: usize = 1024;

/// The connections that clients may have; each may need another one to an upstream.
pub(super) fn connections(limits: &ClientLimits) -> ConnectionLimits {
    derive(limits, open_files())
}

/// How many idle connections to upstreams are kept: a quarter of what is there for them.
pub(super) fn idle_upstreams() -> usize {
    (open_files().saturating_sub(OWN_FILES) / 8).clamp(1, MOST_IDLE_UPSTREAMS)
}

fn derive(limits: &ClientLimits, open_files: usize) -> ConnectionLimits {
    let derived = (open_files.saturating_sub(OWN_FILES) / 2).clamp(1, MOST_CONNECTIONS);
    let most = limits.max_connections.unwrap_or(derived);
    // One address may be a load balancer's, but never everybody's.
    let share = (most - most / 4).max(1);
    ConnectionLimits { most, most_of_one_peer: limits.max_connections_per_address.unwrap_or(share).min(most) }
}

/// How many files the process may have open.
fn open_files() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    soft_limit(&limits).unwrap_or(USUAL_FILES)
}

fn soft_limit(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(usize::MAX),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_on_connections_leaves_room_for_upstreams_and_for_others() {
        let limits = ClientLimits::default();
        let of = |files| {
            let derived = derive(&limits, files);
            (derived.most, derived.most_of_one_peer)
        };
        assert_eq!(of(256), (96, 72));
        assert_eq!(of(10), (1, 1));
        assert_eq!(of(usize::MAX), (16_384, 12_288));
        let said = ClientLimits { max_connections: Some(8), max_connections_per_address: Some(9), ..limits };
        assert_eq!(derive(&said, 256), ConnectionLimits { most: 8, most_of_one_peer: 8 });
    }

    #[test]
    fn the_systems_limit_is_read() {
        let text = "Limit   Soft Limit   Hard Limit   Units\nMax open files            256                  4096                 files\n";
        assert_eq!(soft_limit(text), Some(256));
        assert_eq!(soft_limit("Max open files  unlimited  unlimited  files"), Some(usize::MAX));
        assert_eq!(soft_limit(""), None);
        assert!(open_files() > 0);
    }
}
