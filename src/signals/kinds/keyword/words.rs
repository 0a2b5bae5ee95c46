//! Words of a text: runs of letters, digits and marks, and every other visible character by itself.
//!
//! Scripts that put no spaces between words (Han, Kana, Thai and their like) come character by character, as only a
//! dictionary knows where a word ends; so does Hangul, which puts particles to a word's end. Refuses to know keywords.

use std::borrow::Cow;
use std::sync::LazyLock;

use unicode_normalization_alignments::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// A word of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TextWord<'t> {
    pub(super) spelling: &'t str,
    /// Whether white space, or nothing, stands before it.
    pub(super) is_apart: bool,
    /// Where it ends, in bytes of the text.
    pub(super) end: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CharClass {
    Space,
    /// Part of a longer word.
    Letter,
    /// A word by itself.
    Single,
}

/// Returns the words of a text, in their order.
pub(super) fn words(text: &str) -> impl Iterator<Item = TextWord<'_>> {
    let mut rest = text.char_indices().peekable();
    std::iter::from_fn(move || {
        let mut is_apart = rest.peek().is_some_and(|(at, _)| *at == 0);
        while let Some((start, first)) = rest.next() {
            let class = class(first);
            if class == CharClass::Space {
                is_apart = true;
                continue;
            }
            let mut end = start + first.len_utf8();
            if class == CharClass::Letter {
                while let Some((at, next)) = rest.next_if(|(_, next)| self::class(*next) == CharClass::Letter)
                {
                    end = at + next.len_utf8();
                }
            }
            return Some(TextWord { spelling: &text[start..end], is_apart, end });
        }
        None
    })
}

/// Says whether a place in a text, between two characters, is inside a word.
pub(super) fn splits_word(text: &str, at: usize) -> bool {
    let is_letter = |c: Option<char>| c.is_some_and(|c| class(c) == CharClass::Letter);
    is_letter(text[..at].chars().next_back()) && is_letter(text[at..].chars().next())
}

/// Puts together what may be written as a letter and its marks, or as one character (Unicode's NFC): `é`, `ü`, Hangul.
pub(super) fn composed(text: &str) -> Cow<'_, str> {
    if text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.nfc().map(|(c, _offset)| c).collect())
}

/// Brings a text into one case: what differs in case alone becomes the same, `ß` and `ss` too.
///
/// The classes of its characters stay, so that it has the same words.
pub(super) fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    let mut rest = text;
    loop {
        let (ascii, other) = rest.split_at(ascii_prefix(rest.as_bytes()));
        let start = folded.len();
        folded.push_str(ascii);
        folded[start..].make_ascii_lowercase();
        let Some(c) = other.chars().next() else { return folded };
        match FOLDED.get(c as usize) {
            Some(Some(one)) => folded.push(*one),
            _ if is_unspaced(c) => folded.push(c),
            _ => folded.extend(fold_char(c)),
        }
        rest = &other[c.len_utf8()..];
    }
}

/// Counts the ASCII characters that a text begins with; all of it, or whole chunks, are tested with vector instructions.
fn ascii_prefix(text: &[u8]) -> usize {
    if text.is_ascii() {
        return text.len();
    }
    let chunks = text.chunks(32).take_while(|chunk| chunk.is_ascii());
    let whole: usize = chunks.map(<[u8]>::len).sum();
    whole + text[whole..].iter().take_while(|byte| byte.is_ascii()).count()
}

/// The letters of the alphabets up to Armenian, folded; nothing where one becomes several.
static FOLDED: LazyLock<Vec<Option<char>>> = LazyLock::new(|| {
    let fold = |c: char| {
        let mut folded = fold_char(c);
        folded.next().filter(|_| folded.next().is_none())
    };
    ('\0'..='\u{58f}').map(fold).collect()
});

/// Down first, as some capitals have no longer form of their own; then through the capitals, which join variants.
fn fold_char(c: char) -> impl Iterator<Item = char> {
    c.to_lowercase().flat_map(char::to_uppercase).flat_map(char::to_lowercase)
}

fn class(c: char) -> CharClass {
    if c.is_ascii() {
        return match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' => CharClass::Letter,
            _ if c.is_ascii_whitespace() || c == '\u{b}' => CharClass::Space,
            _ => CharClass::Single,
        };
    }
    if c.is_whitespace() {
        CharClass::Space
    } else if (c.is_alphanumeric() || joins(c)) && !is_unspaced(c) {
        CharClass::Letter
    } else {
        CharClass::Single
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

/// Says whether a letter is of a script that puts no spaces between words, or none before what it adds to them.
fn is_unspaced(c: char) -> bool {
    matches!(u32::from(c),
        0x0e00..=0x0eff | 0x0f00..=0x109f | 0x1100..=0x11ff | 0x1780..=0x17ff | 0x3040..=0x30ff | 0x3130..=0x318f | 0x31f0..=0x31ff
        | 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xa960..=0xa97f | 0xac00..=0xd7ff | 0xf900..=0xfaff | 0xff66..=0xffdc | 0x20000..=0x3ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(text: &str) -> Vec<String> {
        let spelled =
            |word: TextWord<'_>| format!("{}{}", if word.is_apart { " " } else { "" }, word.spelling);
        words(text).map(spelled).collect()
    }

    #[test]
    fn letters_come_together_and_everything_else_by_itself() {
        assert_eq!(spelled("Use  C++, now_1!"), [" Use", " C", "+", "+", ",", " now_1", "!"]);
        assert_eq!(spelled("cafe\u{301} क्या 我要"), [" cafe\u{301}", " क्या", " 我", "要"]);
        assert_eq!(spelled(" \n\u{2003} "), [""; 0]);
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
            assert_eq!(fold(one), fold(other), "{one} {other}");
            assert_ne!(one, other);
        }
        assert_eq!(fold("Eine große STRASSE, ÉTÉ"), "eine grosse strasse, été");
    }

    #[test]
    fn folding_changes_no_words() {
        for c in '\0'..=char::MAX {
            let folded = fold(c.encode_utf8(&mut [0; 4]));
            assert!(folded.chars().eq(fold_char(c)), "{c} {folded}");
            assert!(folded.chars().all(|f| class(f) == class(c)), "{c} {folded}");
            assert!(class(c) == CharClass::Letter || folded.chars().count() == 1, "{c} {folded}");
        }
    }
}
