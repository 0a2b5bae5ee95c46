//! The regular expressions of `tokenizer.json` as they are run: each search with a bounded number of steps back, and all of
//! one text within a time.
//!
//! The tokenizer library runs them as long as they take, and where its engine gives up it leaves the rest of the text uncut
//! without a word. Here that is an error: the text stays unjudged. Refuses to know what the pieces become.

use std::cell::Cell;
use std::time::{Duration, Instant};

use fancy_regex::{Regex, RegexBuilder};
use serde::Deserialize;
use serde::de::Error as _;
use serde_json::Value;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pattern::{Invert, Pattern};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::tokenizer::TokenizerImpl;
use tokenizers::{
    DecoderWrapper, Encoding, ModelWrapper, NormalizedString, Normalizer, Offsets, PostProcessorWrapper,
    PreTokenizedString, PreTokenizer, Result, SplitDelimiterBehavior,
};

/// How often one search may step back: a pattern of a real tokenizer does so once for each character of a run of blanks.
const MAX_STEPS_BACK: usize = 200_000;

/// How long the searches of one text may take. The longest texts take some ten milliseconds.
const MAX_TIME: Duration = Duration::from_secs(1);

/// A tokenizer whose own patterns are bounded.
pub(super) type TimedTokenizer =
    TokenizerImpl<ModelWrapper, TimedNormalizer, TimedPreTokenizer, PostProcessorWrapper, DecoderWrapper>;

thread_local! {
    /// A normalizer has failed on the present text: the library goes on without it.
    static HAS_FAILED: Cell<bool> = const { Cell::new(false) };
}

/// Tokenizes a text without special tokens; fails where a pattern does.
pub(super) fn encode(tokenizer: &TimedTokenizer, text: &str) -> Result<Encoding> {
    HAS_FAILED.set(false);
    let encoding = tokenizer.encode(text, false)?;
    if HAS_FAILED.get() {
        Err("the tokenizer's normalizer gives up on the text".into())
    } else {
        Ok(encoding)
    }
}

/// A pattern out of the file.
pub(super) struct TimedPattern(Regex);

/// A pattern, for one text.
struct TimedSearch<'a> {
    regex: &'a Regex,
    began: Instant,
}

/// The file's normalizer.
#[derive(Deserialize)]
#[serde(try_from = "Value")]
pub(super) enum TimedNormalizer {
    Library(NormalizerWrapper),
    Replace { pattern: TimedPattern, content: String },
    Sequence(Vec<Self>),
}

/// The file's pre-tokenizer.
#[derive(Deserialize)]
#[serde(try_from = "Value")]
pub(super) enum TimedPreTokenizer {
    Library(PreTokenizerWrapper),
    Split { pattern: TimedPattern, behavior: SplitDelimiterBehavior, invert: bool },
    Sequence(Vec<Self>),
}

impl TimedPattern {
    /// Reads the pattern of a part; none where it has a plain string.
    fn of(part: &Value) -> serde_json::Result<Option<Self>> {
        let Some(pattern) = part["pattern"]["Regex"].as_str() else { return Ok(None) };
        let regex = RegexBuilder::new(pattern).backtrack_limit(MAX_STEPS_BACK).build();
        regex.map(|regex| Some(Self(regex))).map_err(serde_json::Error::custom)
    }

    /// Begins with a text.
    fn search(&self) -> TimedSearch<'_> {
        TimedSearch { regex: &self.0, began: Instant::now() }
    }
}

impl Pattern for &TimedSearch<'_> {
    fn find_matches(&self, inside: &str) -> Result<Vec<(Offsets, bool)>> {
        if inside.is_empty() {
            return Ok(vec![((0, 0), false)]);
        }
        let mut pieces = Vec::new();
        let mut end = 0;
        for found in self.regex.find_iter(inside) {
            let found = found?;
            if self.began.elapsed() > MAX_TIME {
                return Err("a pattern of the tokenizer takes too long".into());
            }
            if end != found.start() {
                pieces.push(((end, found.start()), false));
            }
            pieces.push(((found.start(), found.end()), true));
            end = found.end();
        }
        if end != inside.len() {
            pieces.push(((end, inside.len()), false));
        }
        Ok(pieces)
    }
}

/// Reads the parts of a sequence; none where it is no sequence.
fn parts<T: TryFrom<Value, Error = serde_json::Error>>(
    part: &mut Value,
    kind: &str,
) -> serde_json::Result<Option<Vec<T>>> {
    if part["type"] != "Sequence" {
        return Ok(None);
    }
    let Some(Value::Array(parts)) = part.get_mut(kind).map(Value::take) else {
        return Err(serde_json::Error::missing_field("the parts of a sequence"));
    };
    parts.into_iter().map(T::try_from).collect::<serde_json::Result<_>>().map(Some)
}

impl TryFrom<Value> for TimedNormalizer {
    type Error = serde_json::Error;

    fn try_from(mut part: Value) -> serde_json::Result<Self> {
        if let Some(parts) = parts(&mut part, "normalizers")? {
            return Ok(Self::Sequence(parts));
        }
        match TimedPattern::of(&part)? {
            Some(pattern) if part["type"] == "Replace" => {
                let content = String::deserialize(&part["content"])?;
                Ok(Self::Replace { pattern, content })
            }
            _ => NormalizerWrapper::deserialize(part).map(Self::Library),
        }
    }
}

impl TryFrom<Value> for TimedPreTokenizer {
    type Error = serde_json::Error;

    fn try_from(mut part: Value) -> serde_json::Result<Self> {
        if let Some(parts) = parts(&mut part, "pretokenizers")? {
            return Ok(Self::Sequence(parts));
        }
        match TimedPattern::of(&part)? {
            Some(pattern) if part["type"] == "Split" => {
                let behavior = SplitDelimiterBehavior::deserialize(&part["behavior"])?;
                let invert = bool::deserialize(&part["invert"])?;
                Ok(Self::Split { pattern, behavior, invert })
            }
            _ => PreTokenizerWrapper::deserialize(part).map(Self::Library),
        }
    }
}

impl Normalizer for TimedNormalizer {
    fn normalize(&self, text: &mut NormalizedString) -> Result<()> {
        match self {
            Self::Library(library) => library.normalize(text),
            Self::Replace { pattern, content } => {
                text.replace(&pattern.search(), content).inspect_err(|_fault| HAS_FAILED.set(true))
            }
            Self::Sequence(parts) => parts.iter().try_for_each(|part| part.normalize(text)),
        }
    }
}

impl PreTokenizer for TimedPreTokenizer {
    fn pre_tokenize(&self, text: &mut PreTokenizedString) -> Result<()> {
        match self {
            Self::Library(library) => library.pre_tokenize(text),
            Self::Split { pattern, behavior, invert } => {
                let search = pattern.search();
                text.split(|_, piece| match invert {
                    true => piece.split(Invert(&search), *behavior),
                    false => piece.split(&search, *behavior),
                })
            }
            Self::Sequence(parts) => parts.iter().try_for_each(|part| part.pre_tokenize(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokenizers::Tokenizer;

    use super::*;

    fn file(normalizer: &Value, pre_tokenizer: &Value) -> Vec<u8> {
        let vocab = json!({"a": 0, "b": 1, "c": 2, " ": 3, "[UNK]": 4, "aa": 5, "ab": 6});
        let model = json!({
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "", "max_input_chars_per_word": 100,
            "vocab": vocab
        });
        let file = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer, "post_processor": null, "decoder": null, "model": model
        });
        file.to_string().into_bytes()
    }

    fn split(pattern: &str, behavior: &str, invert: bool) -> Value {
        json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert})
    }

    #[test]
    fn pieces_are_those_of_the_library() {
        let replace = json!({"type": "Replace", "pattern": {"Regex": "b{2,}"}, "content": "c"});
        let plain = json!({"type": "Replace", "pattern": {"String": "x"}, "content": "a"});
        let normalizer = json!({"type": "Sequence", "normalizers": [replace, plain, {"type": "Lowercase"}]});
        let gpt = r"'s|'t| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
        for split in [
            split(gpt, "Isolated", false),
            split(r"\w", "Removed", true),
            split("b", "MergedWithNext", false),
            json!({"type": "Sequence", "pretokenizers": [split(r"\s", "MergedWithPrevious", false), split("a", "Contiguous", false)]}),
            json!({"type": "Split", "pattern": {"String": " "}, "behavior": "Isolated", "invert": false}),
        ] {
            let file = file(&normalizer, &split);
            let (timed, library) =
                (TimedTokenizer::from_bytes(&file).unwrap(), Tokenizer::from_bytes(&file).unwrap());
            for text in ["", "a", "aB  abbb x", "  \n a'sb  ", "bbbb", "ä 1 ab"] {
                let of_library = library.encode(text, false).unwrap();
                let encoding = timed.encode(text, false).unwrap();
                assert_eq!(encoding.get_ids(), of_library.get_ids(), "{text:?}");
                assert_eq!(encoding.get_offsets(), of_library.get_offsets(), "{text:?}");
            }
        }
    }

    #[test]
    fn a_search_that_steps_back_without_end_is_an_error() {
        for (normalizer, pre_tokenizer) in [
            (Value::Null, split("(a|aa)+(?!b)c", "Isolated", false)),
            (json!({"type": "Replace", "pattern": {"Regex": "(a|aa)+(?!b)c"}, "content": ""}), Value::Null),
        ] {
            let tokenizer = TimedTokenizer::from_bytes(file(&normalizer, &pre_tokenizer)).unwrap();
            assert!(encode(&tokenizer, "aac").is_ok());
            let fault = encode(&tokenizer, &"a".repeat(60)).unwrap_err().to_string();
            assert!(fault.contains("backtrack") || fault.contains("gives up"), "{fault}");
            assert!(encode(&tokenizer, "aac").is_ok());
        }
    }

    #[test]
    fn searches_that_are_slow_together_end_in_time() {
        // Each looks at the rest of the text.
        let file = file(&Value::Null, &split("a(?=[ab]*c?[ab]*$)", "Isolated", false));
        let tokenizer = TimedTokenizer::from_bytes(file).unwrap();
        let began = Instant::now();
        let fault = tokenizer.encode("a".repeat(2_000_000), false).unwrap_err();
        assert!(fault.to_string().contains("too long"), "{fault}");
        assert!(began.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_long_text_takes_a_small_part_of_the_time() {
        let gpt = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
        let tokenizer =
            TimedTokenizer::from_bytes(file(&Value::Null, &split(gpt, "Isolated", false))).unwrap();
        for text in ["ab aa, abba \n", "a    b", "\n\n   "] {
            assert!(tokenizer.encode(text.repeat(20_000), false).is_ok(), "{text:?}");
        }
        assert!(tokenizer.encode(" ".repeat(100_000), false).is_ok(), "a long run of blanks");
    }
}
