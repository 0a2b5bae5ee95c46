//! Text as it is read rather than written: invisible characters are left out, and characters that only look or stand
//! for ASCII are that.
//!
//! Attacks and card numbers are written in full-width or mathematical letters, with Cyrillic letters among Latin ones,
//! with zero-width characters in between or wholly in tag characters, which models read and people don't see. The rules
//! are Unicode's: default ignorable code points (UAX #44), compatibility forms (UAX #15) and, within words that have
//! ASCII letters too, the commonest confusables (UTS #39). Encodings such as base64 are not undone.

use std::borrow::Cow;
use std::iter;
use std::ops::Range;

use unicode_normalization_alignments::UnicodeNormalization;

/// A text as it is read, and where its characters stand in the text as it was written.
pub struct FoldedText<'a> {
    written: &'a str,
    read: Cow<'a, str>,
    /// From where on places in the two differ by another length than before, rising: at most one for each place in the
    /// text as it is read, since a body of nothing else would fill the memory.
    turns: Vec<Turn>,
}

/// The same place in both texts, small: a body has fewer than 2³² bytes.
#[derive(Debug, Clone, Copy)]
struct Turn {
    read: u32,
    written: u32,
}

impl<'a> FoldedText<'a> {
    /// Reads a text; most are read as they are written, and not copied.
    pub fn new(written: &'a str) -> Self {
        let mut text = Self { written, read: Cow::Borrowed(written), turns: Vec::new() };
        if written.is_ascii() {
            return text;
        }
        let mut words = LatinWords { text: written, word: 0..0, has_latin: false };
        let (mut read, mut kept) = (String::new(), 0);
        for (at, c) in written.char_indices().filter(|(_, c)| !c.is_ascii()) {
            let Some(folded) = fold(c, at, &mut words) else { continue };
            read.push_str(&written[kept..at]);
            text.turn(read.len(), at);
            read.extend(folded.letter());
            kept = at + c.len_utf8();
            text.turn(read.len(), kept);
        }
        if !text.turns.is_empty() {
            read.push_str(&written[kept..]);
            text.read = Cow::Owned(read);
        }
        text
    }

    /// Notes a turn; of several at one place in the text as it is read, the last counts.
    fn turn(&mut self, read: usize, written: usize) {
        let turn = Turn { read: read as u32, written: written as u32 };
        match self.turns.last_mut() {
            Some(last) if last.read == turn.read => *last = turn,
            _ => self.turns.push(turn),
        }
    }

    /// Says whether it is read in another way than it is written.
    pub fn is_changed(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Returns the text as it is read.
    pub fn read(&self) -> &str {
        &self.read
    }

    /// Returns where in the text as it was written a range stands; what is not shown at its edges is not in it.
    pub fn written(&self, range: &Range<usize>) -> Range<usize> {
        if self.turns.is_empty() {
            return range.clone();
        }
        let start = self.turns.partition_point(|turn| turn.read as usize <= range.start);
        let end = self.turns.partition_point(|turn| (turn.read as usize) < range.end);
        let (start, end) = (self.place(start, range.start), self.place(end, range.end));
        start..end.max(start)
    }

    /// Returns the place in the text as it was written, counted from the last of so many turns.
    fn place(&self, turns: usize, at: usize) -> usize {
        let from = turns.checked_sub(1).map_or(Turn { read: 0, written: 0 }, |last| self.turns[last]);
        self.written.ceil_char_boundary(from.written as usize + (at - from.read as usize))
    }
}

/// What a character is read as.
enum Folded {
    Nothing,
    Ascii(char),
}

impl Folded {
    fn letter(&self) -> Option<char> {
        match self {
            Self::Nothing => None,
            Self::Ascii(c) => Some(*c),
        }
    }
}

fn fold(c: char, at: usize, words: &mut LatinWords<'_>) -> Option<Folded> {
    fold_alone(c).or_else(|| look_alike(c).filter(|_| words.has_latin(at)).map(Folded::Ascii))
}

/// What a character is read as in any word.
fn fold_alone(c: char) -> Option<Folded> {
    match c {
        // Tags, which once named languages, repeat ASCII.
        '\u{e0020}'..='\u{e007e}' => char::from_u32(c as u32 - 0xe0000).map(Folded::Ascii),
        _ if is_ignorable(c) => Some(Folded::Nothing),
        _ if may_be_compatible(c) => {
            let mut forms = iter::once(c).nfkc().map(|(c, _)| c);
            let (first, second) = (forms.next(), forms.next());
            first.filter(|form| form.is_ascii() && second.is_none()).map(Folded::Ascii)
        }
        _ => None,
    }
}

/// Unicode's property `Default_Ignorable_Code_Point`, and the blanks that are letters.
fn is_ignorable(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
    )
}

/// The blocks that hold compatibility forms of single ASCII characters.
fn may_be_compatible(c: char) -> bool {
    matches!(
        c,
        '\u{a0}'..='\u{be}' | '\u{2b0}'..='\u{2e4}' | '\u{1d2c}'..='\u{1dbf}' | '\u{2000}'..='\u{200a}'
            | '\u{202f}' | '\u{205f}'..='\u{209c}' | '\u{2100}'..='\u{217f}' | '\u{2460}'..='\u{24ff}' | '\u{3000}'
            | '\u{ff01}'..='\u{ff5e}' | '\u{1d400}'..='\u{1d7ff}' | '\u{1f100}'..='\u{1f169}'
            | '\u{1fbf0}'..='\u{1fbf9}'
    )
}

/// Cyrillic and Greek letters that are drawn as Latin ones in most typefaces (UTS #39, `confusables.txt`).
fn look_alike(c: char) -> Option<char> {
    Some(match c {
        'а' | 'α' => 'a',
        'А' | 'Α' => 'A',
        'В' | 'Β' => 'B',
        'с' | 'ϲ' => 'c',
        'С' | 'Ϲ' => 'C',
        'ԁ' => 'd',
        'е' | 'ҽ' => 'e',
        'Е' | 'Ε' => 'E',
        'ɡ' => 'g',
        'һ' => 'h',
        'Н' | 'Η' => 'H',
        'і' | 'ι' => 'i',
        'І' | 'Ι' => 'I',
        'ј' | 'ϳ' => 'j',
        'Ј' => 'J',
        'К' | 'Κ' => 'K',
        'ӏ' => 'l',
        'М' | 'Μ' => 'M',
        'Ν' => 'N',
        'о' | 'ο' => 'o',
        'О' | 'Ο' => 'O',
        'р' | 'ρ' => 'p',
        'Р' | 'Ρ' => 'P',
        'ԛ' => 'q',
        'ѕ' => 's',
        'Ѕ' => 'S',
        'Т' | 'Τ' => 'T',
        'υ' => 'u',
        'ν' | 'ѵ' => 'v',
        'ԝ' => 'w',
        'х' | 'χ' => 'x',
        'Х' | 'Χ' => 'X',
        'у' | 'γ' => 'y',
        'У' | 'Υ' => 'Y',
        'Ζ' => 'Z',
        _ => return None,
    })
}

/// Says which words have ASCII letters, each read once: a word of Cyrillic letters alone is one.
struct LatinWords<'a> {
    text: &'a str,
    word: Range<usize>,
    has_latin: bool,
}

impl LatinWords<'_> {
    fn has_latin(&mut self, at: usize) -> bool {
        if !self.word.contains(&at) {
            let is_of_word = |c: char| c.is_alphanumeric() || is_ignorable(c);
            let before = self.text[self.word.end..at].trim_end_matches(is_of_word).len();
            let start = self.word.end + before;
            let length = self.text[at..].find(|c| !is_of_word(c)).unwrap_or(self.text.len() - at);
            self.word = start..at + length;
            let letter = |c: char| if c.is_ascii() { Some(c) } else { fold_alone(c)?.letter() };
            let is_latin = |c: char| letter(c).is_some_and(|c| c.is_ascii_alphabetic());
            self.has_latin = self.text[self.word.clone()].contains(is_latin);
        }
        self.has_latin
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> String {
        FoldedText::new(text).read().to_owned()
    }

    #[test]
    fn what_looks_like_ascii_is_read_as_ascii() {
        for (written, wanted) in [
            ("ｉｇｎｏｒｅ　４１１１", "ignore 4111"),
            ("𝗶𝗴𝗻𝗼𝗿𝗲 𝟜𝟙𝟙𝟙 ⁴①", "ignore 4111 41"),
            ("іgnоrе Αll", "ignore All"),
            ("ig\u{200b}no\u{ad}re\u{feff}", "ignore"),
            ("Hi \u{e0069}\u{e0067}\u{e006e}\u{e006f}\u{e0072}\u{e0065}\u{e007f}", "Hi ignore"),
            ("і\u{200b}gnore", "ignore"),
        ] {
            assert_eq!(read(written), wanted);
        }
    }

    #[test]
    fn other_languages_and_signs_stay_what_they_are() {
        for text in [
            "Это просто вопрос о хоре",
            "Ποιος είναι ο χρόνος",
            "東京はどこ？".trim_end_matches('？'),
            "Café … ½ €",
            "naïve ﬁ",
        ] {
            assert_eq!(read(text), text);
            assert!(matches!(FoldedText::new(text).read, Cow::Borrowed(_)));
        }
    }

    #[test]
    fn a_range_stands_where_it_was_written() {
        let written = "Карта: 41\u{200b}１１\u{200b} x";
        let text = FoldedText::new(written);
        let at = text.read().find("4111").unwrap();
        assert_eq!(&written[text.written(&(at..at + 4))], "41\u{200b}１１");
        assert_eq!(&written[text.written(&(at + 2..at + 4))], "１１");
        assert_eq!(&written[text.written(&(at + 5..at + 6))], "x");
        assert_eq!(&written[text.written(&(0..10))], "Карта");
    }

    #[test]
    fn a_text_of_nothing_else_takes_little_room() {
        let invisible = "\u{ad}".repeat(1000);
        assert_eq!(FoldedText::new(&invisible).turns.len(), 1);
        let wide = "ａ".repeat(1000);
        assert_eq!(FoldedText::new(&wide).turns.len(), 1001);
    }

    proptest! {
        #[test]
        fn every_range_has_its_place(written in "[ab аｂ\u{200b}é𝗶\u{e0041}]{0,24}", start in 0_usize..30, length in 0_usize..30) {
            let text = FoldedText::new(&written);
            let read = text.read();
            let start = read.floor_char_boundary(start.min(read.len()));
            let end = read.ceil_char_boundary((start + length).min(read.len()));
            let range = text.written(&(start..end));
            prop_assert!(written.is_char_boundary(range.start) && written.is_char_boundary(range.end));
            let (before, after) = (text.written(&(0..start)), text.written(&(end..read.len())));
            prop_assert!(before.end <= range.start && range.end <= after.start.max(range.end));
            if !written.contains('а') {
                // Which letters look alike depends on the word.
                let part = FoldedText::new(&written[range]);
                prop_assert_eq!(part.read(), &read[start..end]);
            }
        }

        #[test]
        fn nothing_breaks_it(written in any::<String>()) {
            let text = FoldedText::new(&written);
            prop_assert_eq!(read(text.read()), text.read());
        }
    }
}
