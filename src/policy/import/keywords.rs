//! Owns the keyword rules of vLLM Semantic Router, in every dialect: words as they stand, and regular expressions. Refuses
//! to know decisions.

use super::conditions::Condition;
use super::signals::{SignalBuilder, note_text};
use super::source_node::SourceNode;
use super::yaml_writer::{YamlMapping, YamlValue};

/// The longest pattern of a policy, in characters.
const MAX_PATTERN: usize = 4096;

/// How many of a rule's words and patterns must occur.
#[derive(Clone, Copy)]
enum KeywordNeed {
    Any,
    All,
    None,
}

/// Reads keyword rules; `category` where `name` is meant was shipped in one of vSR's own configurations.
pub(super) fn keywords(list: &[SourceNode<'_>], builder: &mut SignalBuilder<'_>) {
    for item in list {
        let Some(name) = named(item) else { continue };
        note_text(item);
        let words = item.take_list("keywords", "signals.*.keyword");
        let words: Vec<String> = words.into_iter().filter(|word| !word.trim().is_empty()).collect();
        if words.is_empty() {
            builder.conditions.add("keyword", &name, Condition::Never("it has no keywords".to_owned()));
            continue;
        }
        let operator = item.take("operator", "signals.*.keyword").unwrap_or_default().to_uppercase();
        let need = match operator.as_str() {
            "" | "OR" => KeywordNeed::Any,
            "AND" => KeywordNeed::All,
            "NOR" => KeywordNeed::None,
            other => {
                let why = format!("the operator `{other}` is none of AND, OR and NOR");
                if let Some(node) = item.get("operator") {
                    node.unsupported(&why);
                }
                builder.refuse("keyword", &name, &why);
                continue;
            }
        };
        let is_sensitive = item.flag("case_sensitive", "signals.*.keyword.case_sensitive") == Some(true);
        let edits = edits(item);
        methods(item);
        let rule = KeywordRule { name: &name, need, is_sensitive, edits };
        if item.peek("method") == Some("regex") {
            rule.add_patterns(words, item, builder);
        } else {
            rule.add_words(words, builder);
        }
    }
}

/// What a rule says beside its words.
struct KeywordRule<'a> {
    name: &'a str,
    need: KeywordNeed,
    is_sensitive: bool,
    edits: Option<u64>,
}

impl KeywordRule<'_> {
    /// Adds the signal of words; gives its name.
    fn add_words(&self, words: Vec<String>, builder: &mut SignalBuilder<'_>) -> String {
        let need = match self.need {
            KeywordNeed::Any => "any",
            KeywordNeed::All => "all",
            KeywordNeed::None => "none",
        };
        let mut keyword = YamlMapping::default();
        keyword.put(need, words);
        if self.is_sensitive {
            keyword.put("case_sensitive", true);
        }
        keyword.maybe("max_edits", self.edits);
        builder.add("keyword", self.name, YamlValue::of("keyword", keyword))
    }

    /// Adds what a rule of regular expressions becomes: words stay a signal of words, the others are patterns.
    fn add_patterns(&self, words: Vec<String>, item: &SourceNode<'_>, builder: &mut SignalBuilder<'_>) {
        let (mut plain, mut patterns) = (Vec::new(), Vec::new());
        for word in words {
            let pattern = if self.is_sensitive { word.clone() } else { format!("(?i){word}") };
            if !is_pattern(&word) {
                plain.push(word);
            } else if pattern.len() > MAX_PATTERN || regex::Regex::new(&pattern).is_err() {
                if let Some(node) = item.get("keywords") {
                    node.unsupported("not all are regular expressions that can be read here");
                }
                return builder.refuse("keyword", self.name, "one of its regular expressions cannot be read");
            } else {
                patterns.push(pattern);
            }
        }
        if patterns.is_empty() {
            self.add_words(plain, builder);
            return;
        }
        let mut parts = Vec::new();
        if !plain.is_empty() {
            // Negated as a whole below.
            let need = if matches!(self.need, KeywordNeed::None) { KeywordNeed::Any } else { self.need };
            parts.push(KeywordRule { need, ..*self }.add_words(plain, builder));
        }
        let texts = if matches!(self.need, KeywordNeed::All) { patterns } else { joined(patterns) };
        for text in texts {
            let signal = YamlValue::of("structure", YamlValue::of("count", text));
            parts.push(builder.add("keyword", self.name, signal));
        }
        let parts = parts.into_iter().map(Condition::signal).collect();
        let condition = match self.need {
            KeywordNeed::Any => Condition::any(parts),
            KeywordNeed::All => Condition::all(parts),
            KeywordNeed::None => Condition::any(parts).not(),
        };
        builder.conditions.add("keyword", self.name, condition);
    }
}

/// Whether a regular expression says more than a word that stands for itself.
fn is_pattern(word: &str) -> bool {
    word.contains(|c| "\\()[]{}*+?|^$".contains(c))
}

/// Joins patterns of which any may match, as far as they are short enough together.
fn joined(patterns: Vec<String>) -> Vec<String> {
    let mut joined: Vec<String> = Vec::new();
    for pattern in patterns {
        match joined.last_mut() {
            Some(last) if last.len() + pattern.len() < MAX_PATTERN / 2 => {
                last.push('|');
                last.push_str(&pattern);
            }
            _ => joined.push(pattern),
        }
    }
    joined
}

fn named(item: &SourceNode<'_>) -> Option<String> {
    if let Some(name) = item.take("name", "signals") {
        return Some(name);
    }
    let alias = item.get("category")?;
    alias.broken(
        "`category` is no key of a keyword rule, so it has no name and nothing can refer to it; `name` is meant",
        "read as `name`",
    );
    alias.text().map(str::to_owned)
}

fn edits(item: &SourceNode<'_>) -> Option<u64> {
    let is_fuzzy = item.flag("fuzzy_match", "signals.*.keyword.max_edits") == Some(true)
        || item.peek("method") == Some("fuzzy");
    let threshold = item.whole("fuzzy_threshold", "signals.*.keyword.max_edits");
    if threshold.is_some_and(|edits| edits > 3)
        && let Some(node) = item.get("fuzzy_threshold")
    {
        node.broken("a count of letters this large makes everything match", "max_edits: 2, vSR's default");
    }
    is_fuzzy.then(|| threshold.filter(|edits| *edits <= 3).unwrap_or(2))
}

fn methods(item: &SourceNode<'_>) {
    if let Some(method) = item.get("method") {
        match method.text() {
            Some("bm25" | "ngram") => {
                method.unsupported("words are matched as they stand, not ranked by BM25 or n-grams");
            }
            _ => method.mapped("signals.*.keyword"),
        }
    }
    for key in ["bm25_threshold", "ngram_threshold", "ngram_arity"] {
        if let Some(node) = item.get(key) {
            node.unsupported("words are matched as they stand, not ranked by BM25 or n-grams");
        }
    }
}
