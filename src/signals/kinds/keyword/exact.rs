//! Exact keywords: an Aho–Corasick automaton finds where a phrase may begin, word boundaries and the rest of the phrase
//! are checked there.
//!
//! The automaton knows only what a phrase has before its first white space, its head, so that white space of any kind
//! and length may follow. Of all heads that begin at one place it finds the longest; the others begin that one.

use aho_corasick::packed;
use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind, Span};
use memchr::memmem;

use super::KeywordHits;
use super::phrases::PhraseTrie;
use super::words::splits_word;

/// Up to how many heads a vectorised search is the quickest (measured: from 20 on it is slower than an automaton).
const MAX_PACKED: usize = 16;

/// Up to how many bytes of all heads together the automaton is a full table, which is four times as quick as a compact
/// one, and takes about 200 bytes for each.
const MAX_TABLE_BYTES: usize = 32 * 1024;

/// From how many bytes on a head is looked for by its first three: by two, every other word looks like one.
const LONG_HEAD: usize = 3;

/// A search for exact phrases.
#[derive(Debug)]
pub(super) struct ExactSearch {
    /// Of long heads and of short ones, where the one would be slowed down by the other.
    groups: Vec<HeadGroup>,
    phrases: PhraseTrie,
}

/// Heads that one pass over a text finds.
#[derive(Debug)]
struct HeadGroup {
    finder: Finder,
    /// By the finder's number.
    heads: Vec<PhraseHead>,
}

#[derive(Debug)]
enum Finder {
    /// A single head, for which two bytes of it are looked for at a time.
    Single(Box<memmem::Finder<'static>>),
    Packed(packed::Searcher),
    Automaton(AhoCorasick),
}

#[derive(Debug)]
struct PhraseHead {
    length: usize,
    node: u32,
    /// The longest other head that this one begins with.
    shorter: Option<usize>,
}

impl ExactSearch {
    pub(super) fn new(phrases: PhraseTrie) -> Result<Self, aho_corasick::BuildError> {
        let mut texts: Vec<(&str, u32)> = phrases.heads().collect();
        texts.sort_unstable();
        let is_packed = texts.len() <= MAX_PACKED;
        let (long, short): (Vec<_>, Vec<_>) =
            texts.iter().partition(|(text, _)| !is_packed || text.len() >= LONG_HEAD);
        let groups = [long, short].into_iter().filter(|texts| !texts.is_empty());
        let groups = groups.map(|texts| HeadGroup::new(&texts)).collect::<Result<_, _>>()?;
        Ok(Self { groups, phrases })
    }

    /// Searches a text in the phrases' case.
    pub(super) fn search(&self, text: &str, hits: &mut KeywordHits) {
        self.groups.iter().for_each(|group| group.search(text, &self.phrases, hits));
    }
}

impl HeadGroup {
    /// Takes heads in their order, each with its node.
    fn new(texts: &[(&str, u32)]) -> Result<Self, aho_corasick::BuildError> {
        let place = |text: &str| texts.binary_search_by_key(&text, |(text, _)| text).ok();
        let heads = texts.iter().map(|(text, node)| {
            let mut beginnings = text.char_indices().rev().map(|(at, _)| &text[..at]);
            PhraseHead { length: text.len(), node: *node, shorter: beginnings.find_map(place) }
        });
        let heads = heads.collect();
        let finder = Finder::new(texts.iter().map(|(text, _)| *text).collect())?;
        Ok(Self { finder, heads })
    }

    fn search(&self, text: &str, phrases: &PhraseTrie, hits: &mut KeywordHits) {
        let mut from = 0;
        while let Some((start, longest)) = self.finder.find(text, from) {
            // Another head may begin within this one.
            from = start + 1;
            if splits_word(text, start) {
                continue;
            }
            let mut next = Some(longest);
            while let Some(head) = next.map(|at| &self.heads[at]) {
                let end = start + head.length;
                if !splits_word(text, end) {
                    phrases.follow(head.node, &text[end..], hits);
                }
                next = head.shorter;
            }
        }
    }
}

impl Finder {
    fn new(heads: Vec<&str>) -> Result<Self, aho_corasick::BuildError> {
        if let [head] = *heads {
            return Ok(Self::Single(Box::new(memmem::Finder::new(head).into_owned())));
        }
        if heads.len() <= MAX_PACKED {
            let mut config = packed::Config::new();
            config.match_kind(packed::MatchKind::LeftmostLongest);
            // There is none on processors without vector instructions.
            if let Some(searcher) = config.builder().extend(&heads).build() {
                return Ok(Self::Packed(searcher));
            }
        }
        let bytes: usize = heads.iter().map(|head| head.len()).sum();
        let kind =
            if bytes <= MAX_TABLE_BYTES { AhoCorasickKind::DFA } else { AhoCorasickKind::ContiguousNFA };
        let mut builder = AhoCorasick::builder();
        // The crate's own choice of a prefilter is the slower way for short and many words.
        builder.match_kind(MatchKind::LeftmostLongest).kind(Some(kind)).prefilter(false);
        builder.build(heads).map(Self::Automaton)
    }

    /// Finds the first place from `from` on where heads begin, and the longest of them.
    fn find(&self, text: &str, from: usize) -> Option<(usize, usize)> {
        let found = match self {
            Self::Single(finder) => {
                return finder.find(&text.as_bytes()[from..]).map(|start| (from + start, 0));
            }
            Self::Packed(searcher) => searcher.find_in(text, Span::from(from..text.len())),
            Self::Automaton(automaton) => automaton.find(Input::new(text).range(from..)),
        };
        found.map(|found| (found.start(), found.pattern().as_usize()))
    }
}
