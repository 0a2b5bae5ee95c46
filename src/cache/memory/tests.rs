//! What the memory keeps and what goes first.

use super::*;
use crate::cache::entry::AnswerOrigin;
use bytes::Bytes;
use proptest::prelude::*;
use std::time::Duration;

const NOW: UnixMillis = UnixMillis(1_000);

fn key(number: u8) -> CacheKey {
    CacheKey { scope: [number % 3; 32], exact: [number; 32] }
}

fn entry(number: u8, answer: usize) -> CacheEntry {
    let mut embedding = vec![0.0; 64];
    embedding[usize::from(number) % 64] = 1.0;
    CacheEntry {
        key: key(number),
        text: "text".into(),
        embedding: Some(embedding.into()),
        answer: Bytes::from(vec![number; answer]),
        origin: AnswerOrigin::default(),
        stored: NOW,
        expires: NOW.after(Duration::from_secs(u64::from(number))),
        used: AtomicU64::new(0),
    }
}

fn store(max_entries: usize, max_bytes: usize) -> MemoryStore {
    MemoryStore::new(max_entries, max_bytes, Arc::default())
}

fn held(memory: &MemoryStore) -> Vec<u8> {
    memory.entries().iter().map(|entry| entry.key.exact[0]).collect()
}

#[test]
fn the_least_recently_used_goes_first() {
    let memory = store(3, usize::MAX);
    for number in [10, 11, 12] {
        assert!(memory.insert(entry(number, 1)));
    }
    for number in [10, 11, 10] {
        let found = memory.get(&key(number), NOW).unwrap();
        memory.touch(&found);
    }
    memory.insert(entry(13, 1));
    assert_eq!(held(&memory), [11, 10, 13]);
    memory.insert(entry(14, 1));
    assert_eq!(held(&memory), [10, 13, 14]);
    assert_eq!(memory.counters.read().evicted, 2);
}

#[test]
fn many_small_ones_make_room_for_a_large_one() {
    let memory = store(100, 10_000);
    for number in 0..5 {
        memory.insert(entry(number + 10, 1_000));
    }
    assert!(memory.insert(entry(90, 7_000)));
    assert_eq!(held(&memory), [14, 90]);
    assert!(!memory.insert(entry(91, 10_000)));
    assert_eq!(held(&memory), [14, 90]);
}

#[test]
fn an_entry_ends_with_its_time() {
    let memory = store(9, usize::MAX);
    memory.insert(entry(5, 1));
    memory.insert(entry(8, 1));
    assert!(memory.get(&key(5), UnixMillis(5_999)).is_some());
    assert!(memory.get(&key(5), UnixMillis(6_000)).is_none());
    let embedding = entry(8, 1).embedding.unwrap();
    let near = |now| memory.near(&key(8).scope, &embedding, 0.9, now).len();
    assert_eq!((near(UnixMillis(8_999)), near(UnixMillis(9_000))), (1, 0));
    assert_eq!((memory.size(), memory.counters.read().expired), ((0, 0), 2));
}

#[test]
fn a_scope_is_not_searched_for_another() {
    let memory = store(9, usize::MAX);
    memory.insert(entry(3, 1));
    let embedding = entry(3, 1).embedding.unwrap();
    assert_eq!(memory.near(&[0; 32], &embedding, 0.9, NOW).len(), 1);
    assert!(memory.near(&[1; 32], &embedding, 0.9, NOW).is_empty());
}

#[test]
fn a_search_sees_the_nearest_of_several_blocks_first() {
    let memory = store(5_000, usize::MAX);
    for number in 0..2_000_u32 {
        let angle = (number as f32 / 2_000.0) * std::f32::consts::FRAC_PI_2;
        let mut exact = [0; 32];
        exact[..4].copy_from_slice(&number.to_le_bytes());
        let mut embedding = vec![0.0; 32];
        (embedding[0], embedding[1]) = (angle.cos(), angle.sin());
        let key = CacheKey { scope: [0; 32], exact };
        memory.insert(CacheEntry { key, embedding: Some(embedding.into()), ..entry(200, 1) });
    }
    let mut wanted = vec![0.0; 32];
    wanted[1] = 1.0;
    let found = memory.near(&[0; 32], &wanted, 0.9, NOW);
    assert!(found.is_sorted_by(|a, b| a.0 >= b.0) && found.len() > 8);
    assert!(found[0].0 > 0.999, "{}", found[0].0);
}

proptest! {
    /// Whatever happens, the bounds hold and every row is where its entry says.
    #[test]
    fn bounds_and_rows_hold(steps in prop::collection::vec((0_u8..40, 0_u8..4, 0_usize..900), 1..200)) {
        let memory = store(12, 12_000);
        for (number, step, size) in steps {
            match step {
                0 | 1 => { memory.insert(entry(number, size)); }
                2 => memory.remove(&key(number)),
                _ => if let Some(found) = memory.get(&key(number), NOW) { memory.touch(&found); },
            }
            let state = memory.read();
            let weight: usize = state.held.values().map(|held| held.entry.weight()).sum();
            prop_assert!(state.held.len() <= 12 && weight <= 12_000 && weight == state.bytes);
            prop_assert_eq!(state.order.len(), state.held.len());
            let rows: usize = state.scopes.values().flat_map(Rows::blocks).map(|block| block.len()).sum();
            prop_assert_eq!(rows, state.held.len());
        }
        for found in memory.entries() {
            let near = memory.near(&found.key.scope, found.embedding.as_ref().unwrap(), 0.99, UnixMillis(0));
            prop_assert!(near.iter().any(|(_, entry)| entry.key == found.key));
        }
    }
}
