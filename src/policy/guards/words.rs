//! Owns words and phrases to be found in texts, whatever their case. Refuses to know what is done where they occur.

use std::ops::Range;
use std::sync::Arc;

use regex::{Regex, RegexBuilder};

/// Words and phrases to be found in texts; equal lists are equal.
#[derive(Debug, Clone, Default)]
pub struct Words {
    list: Arc<[String]>,
    /// All of them; none where there are no words.
    pattern: Option<Regex>,
}

impl Words {
    /// Compiles a list; whatever the case, and not inside of longer words.
    pub(super) fn new(list: &[String]) -> Result<Self, regex::Error> {
        if list.is_empty() {
            return Ok(Self::default());
        }
        let is_word = |character: Option<char>| character.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let edge = |character| if is_word(character) { r"\b" } else { "" };
        let mut longest_first: Vec<&String> = list.iter().collect();
        longest_first.sort_by_key(|word| std::cmp::Reverse(word.len()));
        let each = longest_first.iter().map(|word| {
            let (before, after) = (edge(word.chars().next()), edge(word.chars().next_back()));
            format!("{before}{}{after}", regex::escape(word))
        });
        let pattern = each.collect::<Vec<_>>().join("|");
        let pattern = RegexBuilder::new(&pattern).case_insensitive(true).build()?;
        Ok(Self { list: list.into(), pattern: Some(pattern) })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many bytes the longest has.
    pub fn longest(&self) -> usize {
        self.list.iter().map(String::len).max().unwrap_or(0)
    }

    /// Finds where they occur in a text, none overlapping another.
    pub fn find<'t>(&'t self, text: &'t str) -> impl Iterator<Item = Range<usize>> + 't {
        self.pattern.iter().flat_map(|pattern| pattern.find_iter(text)).map(|found| found.range())
    }
}

impl PartialEq for Words {
    fn eq(&self, other: &Self) -> bool {
        self.list == other.list
    }
}

impl Eq for Words {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_alone_whatever_their_case() {
        let at = |text: &str, words: &[&str]| -> Vec<Range<usize>> {
            let list: Vec<String> = words.iter().map(ToString::to_string).collect();
            Words::new(&list).unwrap().find(text).collect()
        };
        assert_eq!(at("Bluebird bluebirds BLUEBIRD", &["bluebird"]), [0..8, 19..27]);
        assert_eq!(at("C++ and c++", &["c++"]), [0..3, 8..11]);
        assert_eq!(at("a blue bird, blue sky", &["blue", "blue bird"]), [2..11, 13..17]);
        assert_eq!(at("xa b c", &["a b", "b c"]), vec![3..6]);
        assert!(at("anything", &[]).is_empty());
    }
}
