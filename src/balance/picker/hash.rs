//! Owns the choice by key: the same key goes to the same endpoint while it is available.
//! Refuses to know what a key stands for.

use super::candidates::{Candidates, PickRequest};
use super::power_of_two::PowerOfTwo;
use crate::balance::endpoint::PoolMember;
use crate::balance::rendezvous::{HashEntry, rendezvous};
use rand::Rng;

/// Rendezvous hashing over a pool; requests without a key go by least request.
#[derive(Debug)]
pub(in crate::balance) struct RendezvousHash {
    entries: Vec<HashEntry>,
    without_key: PowerOfTwo,
}

impl RendezvousHash {
    pub(super) fn new(members: &[PoolMember]) -> Self {
        let entry =
            |member: &PoolMember| HashEntry { identity: member.endpoint.identity(), weight: member.weight };
        Self { entries: members.iter().map(entry).collect(), without_key: PowerOfTwo::new(members) }
    }

    pub(super) fn pick(
        &self,
        request: &PickRequest<'_>,
        candidates: &Candidates<'_>,
        rng: &mut impl Rng,
    ) -> Option<usize> {
        match request.key {
            Some(key) => rendezvous(key, &self.entries, |place| candidates.contains(place)),
            None => self.without_key.pick(candidates, rng),
        }
    }
}
