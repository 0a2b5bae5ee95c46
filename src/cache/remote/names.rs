//! Owns the names of the server's keys. Refuses to know what stands below them.

use std::fmt::Write as _;

use crate::cache::entry::Key;

/// The names below one prefix.
#[derive(Debug)]
pub(super) struct Names {
    prefix: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    pub(super) fn answer(&self, key: &Key) -> String {
        format!("{}a:{}:{}", self.prefix, hex(&key.scope), hex(&key.exact))
    }

    pub(super) fn stream(&self, scope: &[u8; 32]) -> String {
        format!("{}s:{}", self.prefix, hex(scope))
    }

    /// Returns the pattern of all answers.
    pub(super) fn all_answers(&self) -> String {
        format!("{}a:*", self.escaped())
    }

    /// Returns the pattern of all streams.
    pub(super) fn all_streams(&self) -> String {
        format!("{}s:*", self.escaped())
    }

    /// Returns the pattern of a scope's answers.
    pub(super) fn answers_of(&self, scope: &[u8; 32]) -> String {
        format!("{}a:{}:*", self.escaped(), hex(scope))
    }

    /// The prefix with what a pattern would read as more than itself.
    fn escaped(&self) -> String {
        let mut escaped = String::with_capacity(self.prefix.len());
        for c in self.prefix.chars() {
            if matches!(c, '*' | '?' | '[' | ']' | '\\' | '^' | '-') {
                escaped.push('\\');
            }
            escaped.push(c);
        }
        escaped
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        // Writing into a string does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_no_pattern() {
        let names = Names::new("a*[b]:");
        assert_eq!(names.all_answers(), r"a\*\[b\]:a:*");
        assert!(names.answer(&Key { scope: [0xab; 32], exact: [1; 32] }).starts_with("a*[b]:a:abab"));
    }
}
