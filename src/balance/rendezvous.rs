//! Owns weighted rendezvous hashing: the same key goes to the same entry while it is available.
//! Refuses to know what a key or an entry stands for.

use std::borrow::Borrow;
use std::net::{IpAddr, SocketAddr};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Hashes what requests are kept together by; the same in every process and on every machine.
pub fn hash_key(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// Hashes an address into its [`HashEntry::identity`].
pub(super) fn address_identity(addr: SocketAddr) -> u64 {
    let ip = match addr.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    xxh3_64_with_seed(&ip.octets(), addr.port().into())
}

/// One alternative, such as an endpoint or a model, as the choice by key sees it.
#[derive(Clone, Copy, Debug)]
pub struct HashEntry {
    /// The hash of its name or address, the same in every process and on every machine; see [`hash_key`].
    pub identity: u64,
    /// Its share of the keys relative to the others'; 0 gets none.
    pub weight: u32,
}

/// Chooses by weighted rendezvous hashing (Thaler and Ravishankar's highest random weight, weighted by
/// Schindelhauer and Schomaker's logarithmic method): the least of `-ln(1 - u) / weight`, with `u` in [0, 1)
/// from key and identity.
///
/// Entries get shares of the keys by weight. An entry that leaves moves its own keys only, each to its next
/// best; one that comes takes its share evenly from all. The cost is linear in the entries, a hash each: `u`
/// bounds the logarithm from below, so that few have to be taken.
pub fn rendezvous(
    key: u64,
    entries: impl IntoIterator<Item = impl Borrow<HashEntry>>,
    is_available: impl Fn(usize) -> bool,
) -> Option<usize> {
    let (mut least, mut chosen) = (f64::INFINITY, None);
    for (place, entry) in entries.into_iter().enumerate() {
        let HashEntry { identity, weight } = *entry.borrow();
        let weight = f64::from(weight);
        let u = unit(mixed(key ^ identity));
        if u > least * weight || weight == 0.0 {
            continue;
        }
        let distance = -(-u).ln_1p() / weight;
        if distance < least && is_available(place) {
            (least, chosen) = (distance, Some(place));
        }
    }
    chosen
}

/// Makes every bit of the result depend on every bit of `hash`: the finalizer of `MurmurHash3`.
pub(super) fn mixed(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// The top 53 bits as a fraction in [0, 1).
fn unit(hash: u64) -> f64 {
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entries(weights: &[u32]) -> Vec<HashEntry> {
        let port = |index| 8_000 + u16::try_from(index).expect("few");
        let made = weights.iter().enumerate().map(|(index, weight)| HashEntry {
            identity: address_identity(([10, 0, 0, 1], port(index)).into()),
            weight: *weight,
        });
        made.collect()
    }

    fn keys(count: u64) -> impl Iterator<Item = u64> {
        (0..count).map(|number| hash_key(format!("session-{number}").as_bytes()))
    }

    #[test]
    fn hashes_are_the_same_in_every_process() {
        assert_eq!(hash_key(b""), 0x2d06_8005_38d3_94c2);
        let (four, mapped) = (
            address_identity("10.0.0.1:80".parse().unwrap()),
            address_identity("[::ffff:10.0.0.1]:80".parse().unwrap()),
        );
        assert_eq!(four, mapped);
        assert_ne!(four, address_identity("10.0.0.1:81".parse().unwrap()));
    }

    #[test]
    fn keys_are_shared_by_weight() {
        let weights = [1, 2, 3, 4];
        let (members, mut counts) = (entries(&weights), [0_i64; 4]);
        keys(20_000).for_each(|key| counts[rendezvous(key, &members, |_| true).expect("all are free")] += 1);
        for (count, weight) in counts.iter().zip(weights) {
            let fair = i64::from(weight) * 2_000;
            assert!((count - fair).abs() < fair / 10 + 100, "{count} for weight {weight}");
        }
    }

    #[test]
    fn a_heavier_member_only_gains_keys() {
        let (before, after) = (entries(&[1, 1, 1]), entries(&[1, 2, 1]));
        let gained = keys(2_000).filter(|key| {
            let (old, new) = (rendezvous(*key, &before, |_| true), rendezvous(*key, &after, |_| true));
            assert!(old == new || new == Some(1));
            old != new
        });
        assert!((200..480).contains(&gained.count()));
    }

    proptest! {
        #[test]
        fn a_member_that_leaves_moves_only_its_own_keys(
            weights in prop::collection::vec(1_u32..50, 2..24), gone in any::<prop::sample::Index>(),
        ) {
            let (members, gone) = (entries(&weights), gone.index(weights.len()));
            for key in keys(300) {
                let before = rendezvous(key, &members, |_| true).expect("all are free");
                let after = rendezvous(key, &members, |index| index != gone).expect("others are free");
                prop_assert!(after != gone && (before == gone || before == after));
                let mut fewer = members.clone();
                fewer.remove(gone);
                let kept = rendezvous(key, &fewer, |_| true).expect("others are free");
                prop_assert_eq!(after, kept + usize::from(kept >= gone));
            }
        }

        #[test]
        fn skipping_logarithms_changes_no_choice(
            key in any::<u64>(),
         members in prop::collection::vec((any::<u64>(), 0_u32..9, any::<bool>()), 0..40),
        ) {
            let distance = |(identity, weight, _): &(u64, u32, bool)| {
                -(-unit(mixed(key ^ identity))).ln_1p() / f64::from(*weight)
            };
            let best = members.iter().enumerate().filter(|(_, (_, weight, free))| *weight > 0 && *free);
            let best = best.min_by(|one, other| distance(one.1).total_cmp(&distance(other.1)));
            let seen = |&(identity, weight, _): &(u64, u32, bool)| HashEntry { identity, weight };
         let seen: Vec<_> = members.iter().map(seen).collect();
            let chosen = rendezvous(key, &seen, |index| members[index].2);
         prop_assert_eq!(chosen, best.map(|(index, _)| index));
        }
    }
}
