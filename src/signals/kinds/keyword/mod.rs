//! The `keyword` signal: words and phrases in the texts of its scope.
//!
//! A keyword is found as whole words: where it begins or ends with a letter, no letter may stand beside it, except in
//! scripts without spaces, and in Hangul, whose particles follow a word at once. White space between its words is any white space, and there must be none where it has none.
//!
//! All lists of a policy that read a text in the same way share one matcher and one pass over the text: exact keywords
//! an Aho–Corasick automaton ([`exact`]), those that tolerate a few wrong letters a walk over the words ([`fuzzy`]).

mod exact;
mod fuzzy;
mod phrases;
mod words;

use std::borrow::Cow;

use self::exact::ExactSearch;
use self::fuzzy::FuzzySearch;
use self::phrases::PhraseTrie;
use self::words::{composed, fold};
use crate::policy::{Case, Keywords, Need, Scope, SignalId};
use crate::signals::embeddings::ExampleEmbeddings;
use crate::signals::inputs::SignalInputs;
use crate::signals::kind::{SignalDetector, SignalSpec};
use crate::signals::value::{SignalReason, SignalValue};

impl SignalSpec for Keywords {
    fn inputs(&self) -> SignalInputs {
        SignalInputs { all_texts: self.scope == Scope::Conversation, ..SignalInputs::NONE }
    }

    fn detector(&self, _: &ExampleEmbeddings<'_>) -> Result<SignalDetector, regex::Error> {
        Ok(SignalDetector::Keyword)
    }
}

/// The keyword lists of a policy that read a text in the same way.
#[derive(Debug)]
pub(in crate::signals) struct KeywordMatcher {
    case: Case,
    search: Search,
    lists: Vec<KeywordList>,
    keywords: u32,
}

#[derive(Debug)]
enum Search {
    Exact(ExactSearch),
    Fuzzy(FuzzySearch),
}

/// One signal's keywords, which are numbered within their matcher from `first` on.
#[derive(Debug)]
struct KeywordList {
    signal: SignalId,
    first: u32,
    count: u32,
    need: Need,
    scope: Scope,
}

/// What a matcher found in some texts.
#[derive(Debug)]
pub(in crate::signals) struct KeywordHits {
    /// A bit for each keyword.
    bits: Vec<u64>,
    /// How many bytes may still be searched for misspelled words.
    fuzzy_bytes_left: usize,
    /// How many steps of phrases were tried, which is the work that depends on the keywords.
    #[cfg(test)]
    steps: usize,
}

impl KeywordMatcher {
    /// Builds the matchers for the keyword lists of a policy.
    pub(in crate::signals) fn all<'p>(
        lists: impl Iterator<Item = (SignalId, &'p Keywords)>,
    ) -> Result<Vec<Self>, aho_corasick::BuildError> {
        let mut groups: Vec<Vec<(SignalId, &Keywords)>> = Vec::new();
        for list in lists {
            let is_read_alike =
                |other: &Keywords| (other.case, other.max_edits) == (list.1.case, list.1.max_edits);
            match groups.iter_mut().find(|group| is_read_alike(group[0].1)) {
                Some(group) => group.push(list),
                None => groups.push(vec![list]),
            }
        }
        groups.iter().map(|group| Self::new(group)).collect()
    }

    /// Builds the matcher of lists with the same case and number of edits; there is at least one.
    fn new(group: &[(SignalId, &Keywords)]) -> Result<Self, aho_corasick::BuildError> {
        let (case, max_edits) = (group[0].1.case, group[0].1.max_edits);
        let (mut phrases, mut lists, mut keywords) = (PhraseTrie::default(), Vec::new(), 0);
        for (signal, list) in group {
            let first = keywords;
            for word in &list.words {
                phrases.insert(&comparable(word, case), keywords);
                keywords += 1;
            }
            let (need, scope, count) = (list.need, list.scope, keywords - first);
            lists.push(KeywordList { signal: *signal, first, count, need, scope });
        }
        let search = match max_edits {
            0 => Search::Exact(ExactSearch::new(phrases)?),
            _ => Search::Fuzzy(FuzzySearch::new(phrases, max_edits)),
        };
        Ok(Self { case, search, lists, keywords })
    }

    /// Returns the signals of its lists, each with its scope.
    pub(in crate::signals) fn signals(&self) -> impl Iterator<Item = (SignalId, Scope)> {
        self.lists.iter().map(|list| (list.signal, list.scope))
    }

    pub(in crate::signals) fn no_hits(&self) -> KeywordHits {
        KeywordHits {
            bits: vec![0; (self.keywords as usize).div_ceil(64)],
            fuzzy_bytes_left: fuzzy::MAX_BYTES,
            #[cfg(test)]
            steps: 0,
        }
    }

    /// Searches one more text.
    pub(in crate::signals) fn search(&self, text: &str, hits: &mut KeywordHits) {
        let text = &comparable(text, self.case);
        match &self.search {
            Search::Exact(search) => search.search(text, hits),
            Search::Fuzzy(search) => search.search(text, hits),
        }
    }

    /// Gives the values of the required signals of one scope.
    pub(in crate::signals) fn values(
        &self,
        scope: Scope,
        hits: &KeywordHits,
        is_required: impl Fn(SignalId) -> bool,
    ) -> impl Iterator<Item = (SignalId, SignalValue)> {
        let lists = self.lists.iter().filter(move |list| list.scope == scope && is_required(list.signal));
        lists.map(|list| (list.signal, list.value(hits)))
    }
}

/// Gives a text in the form in which equal ones are equal: in one case where that is ignored, letters with their marks
/// put together after that, since the other case may take them apart.
fn comparable(text: &str, case: Case) -> Cow<'_, str> {
    match case {
        Case::Sensitive => composed(text),
        // Most texts, of which it is found out fast.
        Case::Ignored if text.is_ascii() => Cow::Owned(text.to_ascii_lowercase()),
        Case::Ignored => Cow::Owned(composed(&fold(text)).into_owned()),
    }
}

impl KeywordHits {
    fn insert(&mut self, keywords: &[u32]) {
        for keyword in keywords {
            self.bits[*keyword as usize / 64] |= 1 << (keyword % 64);
        }
    }

    fn count(&self, list: &KeywordList) -> usize {
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

impl KeywordList {
    fn value(&self, hits: &KeywordHits) -> SignalValue {
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
        let reason = SignalReason::Hits { hits, of };
        SignalValue { score: if matches { score } else { 0.0 }, matches, reason }
    }
}

#[cfg(test)]
mod tests;
