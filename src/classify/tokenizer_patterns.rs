//! The regular expressions in `tokenizer.json`, held to a size before they are compiled.
//!
//! The tokenizer library compiles whatever the file has, and a short pattern with nested counts takes all memory or all
//! time. Patterns of real tokenizers are some hundred bytes and count up to 3. Refuses to know what they match.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::load_error::LoadError;

/// The longest pattern, in bytes.
const MAX_PATTERN: usize = 4 << 10;

/// The most patterns.
const MAX_PATTERNS: usize = 64;

/// The greatest product of all counts of a pattern: compiled, it grows by as much at most.
const MAX_REPEATS: usize = 1000;

/// The parts of the file that hold patterns.
#[derive(Deserialize)]
struct PatternedParts {
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    decoder: Option<Value>,
}

/// Refuses a file with more, longer or more deeply counted patterns than a tokenizer has.
pub(super) fn check_patterns(path: &Path, file: &[u8]) -> Result<(), LoadError> {
    let config = |source| LoadError::Config { path: path.to_owned(), source };
    let parts: PatternedParts = serde_json::from_slice(file).map_err(config)?;
    let mut patterns = Vec::new();
    let parts = [parts.normalizer, parts.pre_tokenizer, parts.decoder];
    parts.iter().flatten().for_each(|part| collect(part, &mut patterns));
    let unsupported = |reason| LoadError::Unsupported { path: path.to_owned(), reason };
    if patterns.len() > MAX_PATTERNS {
        return Err(unsupported(format!("has {} patterns; the most are {MAX_PATTERNS}", patterns.len())));
    }
    patterns.into_iter().try_for_each(check).map_err(unsupported)
}

/// Collects the patterns in a part, whose depth the JSON parser has bounded.
fn collect<'a>(part: &'a Value, patterns: &mut Vec<&'a str>) {
    match part {
        Value::Object(members) => members.iter().for_each(|(name, value)| match value {
            Value::String(pattern) if matches!(name.as_str(), "Regex" | "String") => patterns.push(pattern),
            value => collect(value, patterns),
        }),
        Value::Array(items) => items.iter().for_each(|item| collect(item, patterns)),
        _ => {}
    }
}

fn check(pattern: &str) -> Result<(), String> {
    if pattern.len() > MAX_PATTERN {
        return Err(format!("a pattern has {} bytes; the most are {MAX_PATTERN}", pattern.len()));
    }
    let repeats = counts(pattern).fold(1_usize, |product, count| product.saturating_mul(count.max(1)));
    if repeats > MAX_REPEATS {
        return Err(format!("a pattern repeats a part up to {repeats} times; the most are {MAX_REPEATS}"));
    }
    Ok(())
}

/// Returns the greater number of each `{n}`, `{n,}` and `{n,m}`, also of those that are escaped.
fn counts(pattern: &str) -> impl Iterator<Item = usize> {
    pattern.split('{').skip(1).filter_map(|after| {
        let numbers = after.split_once('}')?.0;
        let is_count = numbers.bytes().all(|byte| byte.is_ascii_digit() || b", ".contains(&byte));
        let number = |digits: &str| match digits.trim() {
            "" => 0,
            digits => digits.parse().unwrap_or(usize::MAX),
        };
        is_count.then(|| numbers.split(',').map(number).max().unwrap_or(0))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fault_of(file: &Value) -> Option<String> {
        let file = serde_json::to_vec(file).unwrap();
        check_patterns(Path::new("tokenizer.json"), &file).err().map(|fault| fault.to_string())
    }

    fn fault(pattern: &str) -> Option<String> {
        let split =
            json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
        fault_of(&json!({"model": {}, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split]}}))
    }

    #[test]
    fn patterns_of_real_tokenizers_pass() {
        for pattern in [
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
            " {2,}",
            r"\x{4e00}{",
        ] {
            assert_eq!(fault(pattern), None, "{pattern}");
        }
    }

    #[test]
    fn patterns_that_would_grow_without_bound_are_refused() {
        let is_refused = |fault: Option<String>, why: &str| fault.is_some_and(|fault| fault.contains(why));
        for pattern in
            ["(?:(?=a)a{1000}){1000}", "((a{100}){100}){100}", "a{1001}", "a{99999999999999999999,}"]
        {
            assert!(is_refused(fault(pattern), "repeats a part"), "{pattern}");
        }
        assert!(is_refused(fault(&"a".repeat(MAX_PATTERN + 1)), "4097 bytes"));
        let many: Vec<_> = (0..=MAX_PATTERNS).map(|_| json!({"pattern": {"String": "a"}})).collect();
        assert!(is_refused(fault_of(&json!({"normalizer": many})), "65 patterns"));
        // Of two members of one name, the library takes the last.
        let doubled = br#"{"normalizer":null,"normalizer":null}"#;
        let fault = check_patterns(Path::new("tokenizer.json"), doubled).unwrap_err();
        assert!(fault.to_string().contains("duplicate field"), "{fault}");
    }
}
