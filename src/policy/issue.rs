//! Owns how something wrong in a configuration is named: where, what, and the likely correction. Refuses to
//! know what can be wrong.

use std::fmt;

use super::excerpt::excerpt;

/// How many issues each step of loading records at most.
pub(super) const MAX_ISSUES: usize = 1000;

/// The longest word for which another spelling is suggested.
const MAX_WORD_BYTES: usize = 256;

/// One thing wrong in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// The YAML path, such as `pools.llama.endpoints[0].weight`; empty for the document itself.
    pub path: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// The likely correction.
    pub suggestion: Option<String>,
    /// Its line of the text and a caret below its column, two lines; none where it may hold a secret.
    pub excerpt: Option<String>,
}

impl Issue {
    /// Makes an issue of the document as such.
    pub(super) fn of_document(Position { line, column }: Position, message: String) -> Self {
        Self { path: String::new(), line, column, message, suggestion: None, excerpt: None }
    }
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            write!(f, "line {}, column {}: {}", self.line, self.column, self.message)?;
        } else {
            write!(f, "{} (line {}): {}", self.path, self.line, self.message)?;
        }
        match &self.suggestion {
            Some(suggestion) => write!(f, "; did you mean `{suggestion}`?"),
            None => Ok(()),
        }
    }
}

/// Everything wrong in a configuration, in the order of its lines; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issues(pub Vec<Issue>);

impl Issues {
    /// Sorts issues by line and column, drops repetitions, and shows each in its text.
    pub(super) fn sorted(mut issues: Vec<Issue>, text: &str) -> Self {
        issues.sort_by(|a, b| (a.line, a.column, &a.path).cmp(&(b.line, b.column, &b.path)));
        issues.dedup();
        let lines: Vec<&str> = text.lines().collect();
        for issue in &mut issues {
            issue.excerpt = excerpt(&lines, issue.line, issue.column, &issue.path);
        }
        Self(issues)
    }

    /// Gives every issue with its place in the text below it.
    pub fn with_excerpts(&self) -> impl fmt::Display {
        let shown = |issue: &Issue| match &issue.excerpt {
            Some(excerpt) => format!("{issue}\n{excerpt}"),
            None => issue.to_string(),
        };
        self.0.iter().map(shown).collect::<Vec<_>>().join("\n")
    }
}

impl fmt::Display for Issues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, issue) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{issue}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Issues {}

/// A place in a line-based text, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// The way from the document's root to a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct YamlPath(Vec<PathSegment>);

/// One step of a [`YamlPath`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PathSegment {
    Key(String),
    Index(usize),
}

impl YamlPath {
    /// Gives the path of a key in the mapping at this path.
    pub(super) fn key(&self, key: &str) -> Self {
        self.joined(PathSegment::Key(key.to_owned()))
    }

    /// Gives the path of an item in the list at this path.
    pub(super) fn index(&self, index: usize) -> Self {
        self.joined(PathSegment::Index(index))
    }

    /// Gives the steps from the root.
    pub(super) fn segments(&self) -> &[PathSegment] {
        &self.0
    }

    fn joined(&self, segment: PathSegment) -> Self {
        let mut segments = self.0.clone();
        segments.push(segment);
        Self(segments)
    }
}

impl fmt::Display for YamlPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                PathSegment::Index(index) => write!(f, "[{index}]")?,
                PathSegment::Key(key) if !is_bare(key) => write!(f, "[{key:?}]")?,
                PathSegment::Key(key) if position == 0 => f.write_str(key)?,
                PathSegment::Key(key) => write!(f, ".{key}")?,
            }
        }
        Ok(())
    }
}

fn is_bare(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// Words that look alike or stand beside each other and mean different things: the one is no misspelling of the other.
const DIFFERENT: [[&str; 2]; 8] = [
    ["and", "any"],
    ["min", "max"],
    ["least", "most"],
    ["allow", "block"],
    ["allow", "deny"],
    ["include", "exclude"],
    ["enable", "disable"],
    ["request", "response"],
];

/// What other systems call the thing.
const SYNONYMS: [[&str; 2]; 3] = [["and", "all"], ["or", "any"], ["nor", "not"]];

/// Finds the candidate that is closest to a misspelt word, if any is close.
pub(super) fn near_miss<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    // Nobody mistypes a word as long as that, and each comparison takes the product of both lengths.
    if word.len() > MAX_WORD_BYTES {
        return None;
    }
    let folded = word.to_lowercase();
    let candidates: Vec<&str> = candidates.into_iter().collect();
    let synonym = SYNONYMS.iter().find(|[theirs, ours]| *theirs == folded && candidates.contains(ours));
    if let Some([_, ours]) = synonym {
        return Some((*ours).to_owned());
    }
    let limit = (word.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .filter(|candidate| !means_another(&folded, candidate))
        .map(|candidate| {
            let candidate_folded = candidate.to_lowercase();
            let starts = folded.len() >= 4 && candidate_folded.starts_with(&folded);
            let is_close = folded.len().abs_diff(candidate_folded.len()) <= 4 * limit;
            // The start of a candidate is as good as the last acceptable spelling of it.
            let distance =
                if is_close { strsim::osa_distance(&folded, &candidate_folded) } else { usize::MAX };
            (if starts { distance.min(limit) } else { distance }, candidate)
        })
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate.to_owned())
}

/// Whether one of the words in `word` has its counterpart in `candidate`, as `min_tokens` has in `max_tokens`.
fn means_another(word: &str, candidate: &str) -> bool {
    let has = |text: &str, part: &str| text.split(['_', '-', '.']).any(|word| word == part);
    DIFFERENT.iter().any(|[one, other]| {
        (has(word, one) && !has(candidate, one) && has(candidate, other))
            || (has(word, other) && !has(candidate, other) && has(candidate, one))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issue_reads_as_one_line() {
        let path = YamlPath::default().key("pools").key("llama").key("endpoints").index(0).key("wieght");
        let issue = Issue {
            path: path.to_string(),
            line: 12,
            column: 3,
            message: "unknown key".to_owned(),
            suggestion: near_miss("wieght", ["address", "weight"]),
            excerpt: None,
        };
        assert_eq!(
            issue.to_string(),
            "pools.llama.endpoints[0].wieght (line 12): unknown key; did you mean `weight`?"
        );
    }

    #[test]
    fn a_key_with_slashes_is_quoted_in_a_path() {
        let path = YamlPath::default().key("models").key("a/b.c").key("pools").index(1);
        assert_eq!(path.to_string(), "models[\"a/b.c\"].pools[1]");
    }

    #[test]
    fn only_a_near_miss_is_suggested() {
        assert_eq!(near_miss("Math", ["law", "math"]).as_deref(), Some("math"));
        assert_eq!(near_miss("astrology", ["law", "math"]), None);
        assert_eq!(near_miss("ab", ["xy"]), None);
        assert_eq!(near_miss("and", ["any", "all", "not"]).as_deref(), Some("all"));
        assert_eq!(near_miss("and", ["any", "signal"]), None);
        assert_eq!(near_miss("min_tokens", ["max_tokens", "min_score"]), None);
        assert_eq!(near_miss("max_tokns", ["max_tokens"]).as_deref(), Some("max_tokens"));
        assert_eq!(near_miss(&"a".repeat(1000), ["a".repeat(1000).as_str()]), None);
        assert_eq!(near_miss("upstream", ["pool", "upstream_model"]).as_deref(), Some("upstream_model"));
    }
}
