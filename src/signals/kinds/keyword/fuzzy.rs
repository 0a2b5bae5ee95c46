//! Keywords that tolerate a few wrong letters: every word of a text is compared with those of the keywords.
//!
//! Misspelled words are looked for in the first [`MAX_BYTES`] of all texts together; beyond they must be equal.

mod near;

use std::collections::HashMap;

use self::near::NearWords;
use super::KeywordHits;
use super::phrases::{PhraseTrie, ROOT};
use super::words::{TextWord, words};

/// How much of a request is searched for misspelled words, in bytes.
pub(super) const MAX_BYTES: usize = 16 * 1024;

/// A search for phrases whose words may differ in a few letters.
#[derive(Debug)]
pub(super) struct FuzzySearch {
    phrases: PhraseTrie,
    near: NearWords,
}

impl FuzzySearch {
    pub(super) fn new(phrases: PhraseTrie, max_edits: u8) -> Self {
        let mut near = NearWords::default();
        for (word, id) in phrases.vocabulary() {
            near.add(word, max_edits, id);
        }
        Self { phrases, near }
    }

    /// Searches a text in the phrases' case.
    pub(super) fn search(&self, text: &str, hits: &mut KeywordHits) {
        let fuzzy_end = text.floor_char_boundary(hits.fuzzy_bytes_left.min(text.len()));
        hits.fuzzy_bytes_left -= fuzzy_end;
        // The keys are the client's, so that their hashes must not be foreseen.
        let mut known: HashMap<Box<str>, Box<[u32]>> = HashMap::new();
        let mut walk = Walk { phrases: &self.phrases, hits, nodes: Vec::new(), next: Vec::new() };
        for TextWord { spelling, is_apart, end } in words(text) {
            let exact = self.phrases.word_id(spelling);
            if end > fuzzy_end {
                walk.step(exact.as_slice(), is_apart);
            } else if let Some(ids) = known.get(spelling) {
                walk.step(ids, is_apart);
            } else {
                let mut ids = Vec::from(exact.as_slice());
                self.near.find(spelling, &mut ids);
                walk.step(&ids, is_apart);
                known.insert(spelling.into(), ids.into());
            }
        }
    }
}

/// A walk over the words of a text, in all phrases at once.
struct Walk<'p, 'h> {
    phrases: &'p PhraseTrie,
    hits: &'h mut KeywordHits,
    /// The nodes reached by the words before, without the root.
    nodes: Vec<u32>,
    next: Vec<u32>,
}

impl Walk<'_, '_> {
    /// Goes on by a word that counts as each of `ids`.
    fn step(&mut self, ids: &[u32], is_apart: bool) {
        self.next.clear();
        for id in ids {
            // A phrase may begin at every word, whatever stands before it.
            let starts = std::iter::once((ROOT, false));
            for (node, is_apart) in starts.chain(self.nodes.iter().map(|node| (*node, is_apart))) {
                self.next.extend(self.phrases.step(node, *id, is_apart, self.hits));
            }
        }
        std::mem::swap(&mut self.nodes, &mut self.next);
    }
}
