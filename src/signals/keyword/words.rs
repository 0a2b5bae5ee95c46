//! Words of a text: runs of letters, digits and marks, and every other visible character by itself.
//!
//! Scripts that put no spaces between words (Han, Kana, Thai and their like) come character by character, as nobody
//! can say there where a word ends. Refuses to know keywords.

use crate::policy::Case;

/// The longest word that is told from others, in bytes as folded; keywords are shorter.
const MAX_WORD: usize = 4096;

/// A word of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word<'t> {
    /// How it is spelled, in one case where case does not matter; a word that is too long has no spelling.
    pub(super) spelling: &'t str,
    /// Whether white space, or nothing, stands before it.
    pub(super) is_apart: bool,
    /// Where it ends, in bytes of the text.
    pub(super) end: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Space,
    /// Part of a longer word.
    Letter,
    /// A word by itself.
    Single,
}

/// Calls `each` with the words of a text, in their order; every character is looked at once.
pub(super) fn each_word(text: &str, case: Case, mut each: impl FnMut(Word<'_>)) {
    let mut folded = String::new();
    let mut is_apart = true;
    let mut rest = text.char_indices().peekable();
    while let Some((start, first)) = rest.next() {
        let kind = kind(first);
        if kind == Kind::Space {
            is_apart = true;
            continue;
        }
        let mut end = start + first.len_utf8();
        if kind == Kind::Letter {
            while let Some((at, next)) = rest.next_if(|(_, next)| self::kind(*next) == Kind::Letter) {
                end = at + next.len_utf8();
            }
        }
        let written = &text[start..end];
        let spelling = match case {
            _ if written.len() > MAX_WORD => "",
            Case::Sensitive => written,
            Case::Ignored => {
                folded.clear();
                fold(written, &mut folded);
                &folded
            }
        };
        each(Word { spelling, is_apart, end });
        is_apart = false;
    }
}

/// Brings a word into one case: what differs in case alone becomes the same, `ß` and `ss` too.
fn fold(word: &str, folded: &mut String) {
    if word.is_ascii() {
        folded.extend(word.bytes().map(|byte| char::from(byte.to_ascii_lowercase())));
        return;
    }
    // Down first, as some capitals have no longer form of their own; then through the capitals, which join variants.
    let lower = word.chars().flat_map(char::to_lowercase);
    folded.extend(lower.flat_map(char::to_uppercase).flat_map(char::to_lowercase));
}

fn kind(c: char) -> Kind {
    if c.is_ascii() {
        return match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' => Kind::Letter,
            _ if c.is_ascii_whitespace() || c == '\u{b}' => Kind::Space,
            _ => Kind::Single,
        };
    }
    if c.is_whitespace() {
        Kind::Space
    } else if (c.is_alphanumeric() || joins(c)) && !is_unspaced(c) {
        Kind::Letter
    } else {
        Kind::Single
    }
}

/// Says whether a character that is no letter belongs to the letter before: accents, vowel signs and joiners.
fn joins(c: char) -> bool {
    matches!(u32::from(c),
        0x0300..=0x036f | 0x0483..=0x0489 | 0x0591..=0x05bd | 0x0610..=0x061a | 0x064b..=0x065f
        | 0x093c..=0x094d | 0x09bc..=0x09cd | 0x0a3c..=0x0a4d | 0x0abc..=0x0acd | 0x0b3c..=0x0b4d
        | 0x0bcd | 0x0c4d | 0x0ccd | 0x0d4d | 0x0dca | 0x1ab0..=0x1aff | 0x1dc0..=0x1dff
        | 0x200c | 0x200d | 0x20d0..=0x20ff | 0xfe20..=0xfe2f)
}

/// Says whether a letter is of a script that puts no spaces between words.
fn is_unspaced(c: char) -> bool {
    matches!(u32::from(c),
        0x0e00..=0x0eff | 0x0f00..=0x109f | 0x1780..=0x17ff | 0x3040..=0x30ff | 0x31f0..=0x31ff
        | 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xf900..=0xfaff | 0xff66..=0xff9f | 0x20000..=0x3ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str, case: Case) -> Vec<String> {
        let mut words = Vec::new();
        each_word(text, case, |word| {
            words.push(format!("{}{}", if word.is_apart { " " } else { "" }, word.spelling));
        });
        words
    }

    #[test]
    fn letters_come_together_and_everything_else_by_itself() {
        assert_eq!(words("Use  C++, now_1!", Case::Sensitive), [" Use", " C", "+", "+", ",", " now_1", "!"]);
        assert_eq!(words("cafe\u{301} क्या 我要", Case::Sensitive), [" cafe\u{301}", " क्या", " 我", "要"]);
        assert_eq!(words(" \n\u{2003} ", Case::Ignored), [""; 0]);
    }

    #[test]
    fn what_differs_in_case_alone_is_the_same() {
        for (one, other) in [
            ("STRASSE", "Straße"),
            ("ΣΊΣΥΦΟΣ", "σίσυφος"),
            ("İ", "i\u{307}"),
            ("ẞ", "ss"),
            ("ſ", "S"),
            ("É", "é"),
        ] {
            assert_eq!(words(one, Case::Ignored), words(other, Case::Ignored), "{one} {other}");
            assert_ne!(words(one, Case::Sensitive), words(other, Case::Sensitive));
        }
    }

    #[test]
    fn a_word_without_end_has_no_spelling() {
        assert_eq!(words(&"a".repeat(MAX_WORD + 1), Case::Ignored), [" "]);
        assert_eq!(words(&"a".repeat(MAX_WORD), Case::Ignored)[0].len(), MAX_WORD + 1);
    }
}
