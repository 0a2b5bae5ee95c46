//! Keywords and phrases in texts: all of a policy's lists at once, in one walk over the words.
//!
//! A keyword is found as whole words: where it begins or ends with a letter, no letter may stand beside it, except in
//! scripts without spaces. White space between its words is any white space, and there must be none where it has none.
//! Each character is looked at once and each word costs at most as many steps as the longest phrase has words.
//!
//! Words that may differ in a few letters are looked for in the first [`MAX_NEAR`] bytes of all texts together; beyond
//! they must be equal.

mod near;
mod words;

use std::collections::HashMap;

use xxhash_rust::xxh3::Xxh3DefaultBuilder;

use self::near::Near;
use self::words::{Word, each_word};
use super::reading::{Reading, Why};
use crate::policy::{Case, Keywords, Need, Scope, SignalId};

/// How much of a request is searched for words that differ, in bytes.
pub(super) const MAX_NEAR: usize = 16 * 1024;

type Hash = Xxh3DefaultBuilder;

/// The keyword lists of a policy that are read in one way, as one machine over words.
#[derive(Debug)]
pub(super) struct Lexicon {
    case: Case,
    max_edits: u8,
    vocabulary: HashMap<Box<str>, u32, Hash>,
    near: Near,
    /// From a place by a word, which may stand apart or not, to the next place.
    steps: HashMap<(u32, u32, bool), u32, Hash>,
    /// The keywords that end at each place.
    ends: Vec<Vec<u32>>,
    lists: Vec<List>,
    keywords: u32,
}

/// One signal's keywords.
#[derive(Debug)]
struct List {
    signal: SignalId,
    first: u32,
    count: u32,
    need: Need,
    scope: Scope,
}

/// What was found of a lexicon in some texts.
#[derive(Debug)]
pub(super) struct Hits {
    /// A bit for each keyword.
    bits: Vec<u64>,
    /// How many bytes may still be searched for words that differ.
    near_left: usize,
    /// How many steps were tried, which is the work that was done.
    #[cfg(test)]
    steps: usize,
}

impl Lexicon {
    /// Puts the lists of a policy together that are read in the same way.
    pub(super) fn all<'p>(lists: impl Iterator<Item = (SignalId, &'p Keywords)>) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for (signal, keywords) in lists {
            let same = |known: &Self| known.case == keywords.case && known.max_edits == keywords.max_edits;
            let place = all.iter().position(same).unwrap_or_else(|| {
                all.push(Self::new(keywords.case, keywords.max_edits));
                all.len() - 1
            });
            all[place].add(signal, keywords);
        }
        all
    }

    fn new(case: Case, max_edits: u8) -> Self {
        Self {
            case,
            max_edits,
            vocabulary: HashMap::default(),
            near: Near::default(),
            steps: HashMap::default(),
            ends: vec![Vec::new()],
            lists: Vec::new(),
            keywords: 0,
        }
    }

    fn add(&mut self, signal: SignalId, keywords: &Keywords) {
        let first = self.keywords;
        for keyword in &keywords.words {
            let place = self.place_of(keyword);
            self.ends[place as usize].push(self.keywords);
            self.keywords += 1;
        }
        let (need, scope, count) = (keywords.need, keywords.scope, self.keywords - first);
        self.lists.push(List { signal, first, count, need, scope });
    }

    /// Lays a keyword's words one after the other; returns where they end.
    fn place_of(&mut self, keyword: &str) -> u32 {
        let mut place = 0;
        let (vocabulary, near) = (&mut self.vocabulary, &mut self.near);
        let (steps, ends, max_edits) = (&mut self.steps, &mut self.ends, self.max_edits);
        each_word(keyword, self.case, |Word { spelling, is_apart, .. }| {
            let next_id = vocabulary.len() as u32;
            let id = *vocabulary.entry(spelling.into()).or_insert_with(|| {
                near.add(spelling, max_edits, next_id);
                next_id
            });
            // Whatever stands before the first word is for the words themselves to say.
            place = *steps.entry((place, id, is_apart && place != 0)).or_insert_with(|| {
                ends.push(Vec::new());
                ends.len() as u32 - 1
            });
        });
        place
    }

    /// Returns the signals of its lists, each with its scope.
    pub(super) fn signals(&self) -> impl Iterator<Item = (SignalId, Scope)> {
        self.lists.iter().map(|list| (list.signal, list.scope))
    }

    /// Starts with nothing found.
    pub(super) fn nothing(&self) -> Hits {
        Hits {
            bits: vec![0; (self.keywords as usize).div_ceil(64)],
            near_left: MAX_NEAR,
            #[cfg(test)]
            steps: 0,
        }
    }

    /// Looks for the keywords in one more text.
    pub(super) fn search(&self, text: &str, hits: &mut Hits) {
        let mut near = text.floor_char_boundary(hits.near_left.min(text.len()));
        if self.max_edits == 0 {
            near = 0;
        }
        hits.near_left -= near;
        let mut walk = Walk { lexicon: self, hits, places: Vec::new(), next: Vec::new() };
        if near > 0 {
            walk.both(text, near);
        } else {
            each_word(text, self.case, |word| {
                let known = self.vocabulary.get(word.spelling).copied();
                walk.step(known.as_slice(), word.is_apart);
            });
        }
    }

    /// Reads the wanted signals of one scope from what was found.
    pub(super) fn read(
        &self,
        scope: Scope,
        hits: &Hits,
        wanted: impl Fn(SignalId) -> bool,
    ) -> impl Iterator<Item = (SignalId, Reading)> {
        let lists = self.lists.iter().filter(move |list| list.scope == scope && wanted(list.signal));
        lists.map(|list| (list.signal, list.reading(hits)))
    }
}

/// A walk over the words of a text.
struct Walk<'l, 'h> {
    lexicon: &'l Lexicon,
    hits: &'h mut Hits,
    /// The places reached by the words before, without the start.
    places: Vec<u32>,
    next: Vec<u32>,
}

impl Walk<'_, '_> {
    /// Walks over a text whose first `near` bytes are searched for words that differ too.
    fn both(&mut self, text: &str, near: usize) {
        let lexicon = self.lexicon;
        // The keys are the client's, so that their hashes must not be foreseen.
        let mut like: HashMap<Box<str>, Box<[u32]>> = HashMap::new();
        each_word(text, lexicon.case, |word| {
            let known = lexicon.vocabulary.get(word.spelling).copied();
            if word.end > near {
                return self.step(known.as_slice(), word.is_apart);
            }
            if let Some(ids) = like.get(word.spelling) {
                return self.step(ids, word.is_apart);
            }
            let mut ids = Vec::from(known.as_slice());
            lexicon.near.like(word.spelling, &mut ids);
            self.step(&ids, word.is_apart);
            like.insert(word.spelling.into(), ids.into());
        });
    }

    /// Goes on by a word that counts as each of `ids`.
    fn step(&mut self, ids: &[u32], is_apart: bool) {
        self.next.clear();
        for id in ids {
            let starts = std::iter::once((0, false));
            for (place, is_apart) in starts.chain(self.places.iter().map(|place| (*place, is_apart))) {
                #[cfg(test)]
                {
                    self.hits.steps += 1;
                }
                let Some(next) = self.lexicon.steps.get(&(place, *id, is_apart)) else { continue };
                for keyword in &self.lexicon.ends[*next as usize] {
                    self.hits.bits[*keyword as usize / 64] |= 1 << (keyword % 64);
                }
                self.next.push(*next);
            }
        }
        std::mem::swap(&mut self.places, &mut self.next);
    }
}

impl Hits {
    fn count(&self, list: &List) -> usize {
        let (first, end) = (list.first as usize, (list.first + list.count) as usize);
        let within = |place: usize| {
            // The bits of this word that belong to the list.
            let (from, to) = (first.saturating_sub(place * 64), (end - place * 64).min(64));
            let above = u64::MAX.checked_shl(from as u32).unwrap_or(0);
            let below = if to == 64 { u64::MAX } else { (1 << to) - 1 };
            (self.bits[place] & above & below).count_ones() as usize
        };
        (first / 64..end.div_ceil(64)).map(within).sum()
    }
}

impl List {
    fn reading(&self, hits: &Hits) -> Reading {
        let (hits, of) = (hits.count(self), self.count as usize);
        let matches = match self.need {
            Need::Any => hits > 0,
            Need::All => hits == of,
            Need::None => hits == 0,
        };
        let share = hits as f32 / of.max(1) as f32;
        let score = match self.need {
            Need::None => 1.0,
            Need::Any | Need::All => 0.5 + 0.5 * share,
        };
        Reading { score: if matches { score } else { 0.0 }, matches, why: Why::Found { hits, of } }
    }
}

#[cfg(test)]
mod tests;
