//! Owns the placeholders that stand for personal data in what goes upstream.
//!
//! A placeholder is the kind and a keyed digest of the words: the same words have the same one in every request, every
//! turn and every replica with that key, and different words different ones. Knows nothing of guards.

use super::plan::MaskedValues;
use crate::openai::{ChatRequest, Rejection, Replacement, SegmentPlace, TextPiece};
use aho_corasick::{AhoCorasick, MatchKind};
use ring::hmac;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

/// How long a digest is written, in characters of five bits: of a million words two have the same one in a request with a
/// probability of one half, and are told apart there by longer ones.
const DIGEST: usize = 8;

/// The letters and digits of digests: none that are mistaken for each other.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// The fewest characters of words that are masked wherever they occur again, whether or not they were found there.
const MIN_REPEATED: usize = 3;

/// The most different words of which that is done.
const MAX_REPEATED: usize = 4096;

/// One place with personal data.
pub(super) struct PiiPlace<'a> {
    pub(super) kind: &'a str,
    pub(super) place: SegmentPlace<'a>,
    /// Whether the model found it, which can miss the same words elsewhere; patterns don't.
    pub(super) by_model: bool,
}

/// A request without its personal data.
pub(super) struct MaskedRequest {
    pub(super) request: ChatRequest,
    /// What may be put back into the answer: not what stands for words that the client itself wrote like a placeholder.
    pub(super) values: MaskedValues,
}

/// The kind that a placeholder names.
pub(super) fn kind_of(token: &str) -> Option<&str> {
    token.strip_prefix('[')?.rsplit_once('_').map(|(kind, _)| kind)
}

/// Whether words are a placeholder of an earlier turn, with or without its brackets.
pub(super) fn is_placeholder(words: &str) -> bool {
    let inside = words.trim_start_matches('[').trim_end_matches(']');
    inside.rsplit_once('_').is_some_and(|(kind, digest)| {
        let is_kind =
            kind.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
        is_kind && digest.len() >= DIGEST && digest.bytes().all(|byte| ALPHABET.contains(&byte))
    })
}

/// Masks what was found, and the same words in all of `pieces`.
pub(super) fn mask<'a>(
    request: &'a ChatRequest,
    key: &[u8],
    mut found: Vec<PiiPlace<'a>>,
    pieces: &[&'a [TextPiece]],
) -> Result<MaskedRequest, Rejection> {
    found.sort_by_key(|one| (one.place.segment, one.place.range.start));
    add_repeated(request, &mut found, pieces);
    let mut placeholders = Placeholders::new(key);
    let tokens = found.iter().map(|one| {
        let token = placeholders.of(one.kind, &one.place.words);
        if one.place.is_number { format!("\"{token}\"") } else { token }
    });
    let tokens: Vec<String> = tokens.collect();
    let replacements = found.iter().zip(&tokens).map(|(one, token)| Replacement {
        segment: one.place.segment,
        range: one.place.range.clone(),
        with: token,
    });
    let masked = request.redacted(&replacements.collect::<Vec<_>>())?;
    Ok(MaskedRequest { request: masked, values: placeholders.values_not_in(request) })
}

/// Adds the places where words that the model found occur again, as whole words.
fn add_repeated<'a>(request: &'a ChatRequest, found: &mut Vec<PiiPlace<'a>>, pieces: &[&'a [TextPiece]]) {
    let mut kinds: BTreeMap<&str, &'a str> = BTreeMap::new();
    for one in found.iter().filter(|one| one.by_model && !one.place.is_number) {
        let words: &str = &one.place.words;
        if kinds.len() < MAX_REPEATED && words.chars().count() >= MIN_REPEATED {
            kinds.entry(words).or_insert(one.kind);
        }
    }
    let words: Vec<&str> = kinds.keys().copied().collect();
    let matcher = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&words);
    let Some(matcher) = matcher.ok().filter(|_| !words.is_empty()) else { return };
    let taken: BTreeMap<(usize, usize), usize> =
        found.iter().map(|one| ((one.place.segment, one.place.range.start), one.place.range.end)).collect();
    let is_free = |place: &SegmentPlace<'_>| {
        let (segment, Range { start, end }) = (place.segment, &place.range);
        let before = taken.range((segment, 0)..(segment, *end)).next_back();
        before.is_none_or(|(_, taken_to)| taken_to <= start)
    };
    let mut repeated = Vec::new();
    for pieces in pieces {
        let repeats = |text: &str| -> Vec<Range<usize>> {
            let all = matcher.find_iter(text).map(|hit| hit.range());
            all.filter(|range| is_whole_word(text, range)).collect()
        };
        let places = request.occurrences(pieces, repeats).into_iter().filter(&is_free);
        repeated.extend(places.filter_map(|place| {
            let kind = *kinds.get(&*place.words)?;
            Some(PiiPlace { kind, place, by_model: true })
        }));
    }
    found.extend(repeated);
}

fn is_whole_word(text: &str, range: &Range<usize>) -> bool {
    let ends = |c: Option<char>| !c.is_some_and(char::is_alphanumeric);
    ends(text[..range.start].chars().next_back()) && ends(text[range.end..].chars().next())
}

/// The placeholders of one request.
struct Placeholders {
    key: hmac::Key,
    /// By the words that they stand for.
    tokens: HashMap<String, String>,
    taken: HashSet<String>,
}

impl Placeholders {
    fn new(key: &[u8]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key), tokens: HashMap::new(), taken: HashSet::new() }
    }

    /// Returns the placeholder for words; of words that are of several kinds the first counts.
    fn of(&mut self, kind: &str, words: &str) -> String {
        if let Some(token) = self.tokens.get(words) {
            return token.clone();
        }
        let digest = hmac::sign(&self.key, words.as_bytes());
        let mut written = base32(digest.as_ref());
        let whole = written.clone();
        written.truncate(DIGEST);
        let kind: String = kind
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
            .collect();
        while !self.taken.insert(written.clone()) && written.len() < whole.len() {
            written.push_str(&whole[written.len()..=written.len()]);
        }
        let token = format!("[{kind}_{written}]");
        self.tokens.insert(words.to_owned(), token.clone());
        token
    }

    /// Returns the placeholders with their words, without those that stand in the client's own texts.
    fn values_not_in(self, request: &ChatRequest) -> MaskedValues {
        let mut words: HashMap<String, String> =
            self.tokens.into_iter().map(|(words, token)| (token, words)).collect();
        for segment in request.segments().filter(|segment| !segment.is_number) {
            let text = segment.text();
            for (open, _) in text.match_indices('[') {
                let close = text[open..].bytes().take(MAX_TOKEN).position(|byte| byte == b']');
                close.and_then(|close| words.remove(&text[open..=open + close]));
            }
        }
        let mut values: MaskedValues = words.into_iter().collect();
        values.sort_unstable();
        values
    }
}

/// No placeholder is longer, in bytes.
const MAX_TOKEN: usize = 256;

fn base32(bytes: &[u8]) -> String {
    let bit = |at: usize| bytes[at / 8] >> (7 - at % 8) & 1;
    let letters = (0..bytes.len() * 8 / 5).map(|at| {
        let five = (0..5).fold(0, |all, more| all << 1 | bit(at * 5 + more));
        char::from(ALPHABET[usize::from(five)])
    });
    letters.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn request(body: &str) -> ChatRequest {
        ChatRequest::parse(Bytes::copy_from_slice(body.as_bytes())).unwrap()
    }

    #[test]
    fn placeholders_depend_on_the_words_and_the_key_alone() {
        let mut one = Placeholders::new(b"key");
        let (a, b) = (one.of("PERSON", "Ann"), one.of("PERSON", "Bob"));
        assert!(a.starts_with("[PERSON_") && a.len() == "[PERSON_]".len() + DIGEST && a != b);
        assert_eq!(one.of("ORGANIZATION", "Ann"), a, "one text has one placeholder");
        let mut other = Placeholders::new(b"key");
        assert_eq!((other.of("PERSON", "Bob"), other.of("PERSON", "Ann")), (b, a.clone()));
        assert_ne!(Placeholders::new(b"another key").of("PERSON", "Ann"), a);
        let mut clashing = Placeholders::new(b"key");
        clashing.taken.insert(a["[PERSON_".len()..a.len() - 1].to_owned());
        assert!(clashing.of("PERSON", "Ann").starts_with(&a[..a.len() - 1]));
        assert_eq!(clashing.of("PERSON", "Ann").len(), a.len() + 1);
        assert_eq!(base32(&[0xff; 5]), "99999999");
        assert!(is_placeholder(&a) && is_placeholder(&a[1..a.len() - 1]));
        assert!(!is_placeholder("[PERSON_1]") && !is_placeholder("Ann_Smithson"));
    }

    #[test]
    fn words_of_the_model_are_masked_wherever_they_stand_and_what_a_client_wrote_is_not_put_back() {
        let token = Placeholders::new(b"key").of("PERSON", "Jane");
        let body = format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":"I am Jane, {token}"}},{{"role":"assistant","content":"Hi Jane, not Janet"}},{{"role":"assistant","tool_calls":[{{"function":{{"arguments":"{{\"to\":\"J\u0061ne\"}}"}}}}]}}]}}"#
        );
        let request = request(&body);
        let place = SegmentPlace { segment: 0, range: 5..9, words: "Jane".into(), is_number: false };
        let blocks = request.text_blocks(|_, _| Some(()));
        let pieces: Vec<&[TextPiece]> = blocks.iter().map(|((), block)| block.pieces.as_slice()).collect();
        let found = vec![PiiPlace { kind: "PERSON", place, by_model: true }];
        let masked = mask(&request, b"key", found, &pieces).unwrap();
        let texts: Vec<_> = masked.request.segments().map(|segment| segment.text().to_owned()).collect();
        let arguments = format!("{{\"to\":\"{token}\"}}");
        assert_eq!(texts, [format!("I am {token}, {token}"), format!("Hi {token}, not Janet"), arguments]);
        assert_eq!(masked.values, MaskedValues::new());
    }
}
