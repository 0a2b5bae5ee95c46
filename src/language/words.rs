//! Owns what is a word and which rows of the table stand for it: the n-grams of its letters. Refuses to know the weights.
//!
//! `training/language/features.py` does the same; `tests/golden/language.json` holds both to it.

use super::script::Script;
use super::table::ROWS;

/// The most letters of a word; what is longer is no word.
const MAX_LETTERS: usize = 32;
/// The most rows of a word: three for each place with room for four letters, and four more.
const MAX_ROWS: usize = 3 * (MAX_LETTERS - 1) + 4;
const EDGE: u32 = 0x20;
const MIX: u32 = 0x2C1B_3C6D;
const PRIMES: [u32; 4] = [0x9E37_79B1, 0x85EB_CA77, 0xC2B2_AE3D, 0x27D4_EB2F];
const WORD_PRIME: u32 = 0x0100_0193;

/// One word in lower case, between two edges.
pub(super) struct Word {
    pub(super) script: Script,
    codes: [u32; MAX_LETTERS + 2],
    /// Of the codes, the first edge included.
    len: usize,
    is_skipped: bool,
}

impl Word {
    /// The place where one word after the other is read.
    fn none() -> Self {
        Self { script: Script::Latin, codes: [EDGE; MAX_LETTERS + 2], len: 0, is_skipped: false }
    }

    fn is_open(&self) -> bool {
        self.len > 0
    }

    fn begin(&mut self, script: Script, before: char) {
        self.script = script;
        self.len = 1;
        self.is_skipped = before.is_ascii_digit()
            || matches!(before, '_' | '/' | '\\' | '@' | '#' | '$' | '=' | '<' | '&' | '.');
    }

    fn push(&mut self, letter: char) {
        if self.len > MAX_LETTERS {
            self.is_skipped = true;
            return;
        }
        self.codes[self.len] = lower(letter);
        self.len += 1;
    }

    /// Adds letters of ASCII, most of what is ever read.
    fn push_ascii(&mut self, letters: &[u8], before: char) {
        let room = MAX_LETTERS + 1 - self.len;
        self.is_skipped |= letters.len() > room;
        let letters = &letters[..letters.len().min(room)];
        // A capital within a word makes it an identifier.
        let mut was_small = self.len > 1 && before.is_ascii_lowercase();
        for (code, letter) in self.codes[self.len..].iter_mut().zip(letters) {
            let is_small = letter & 0x20 != 0;
            self.is_skipped |= was_small && !is_small;
            was_small = is_small;
            *code = u32::from(letter | 0x20);
        }
        self.len += letters.len();
    }

    /// Ends the word; says whether it is one: not what touches a digit, nor a part of an identifier, a call, a path, an address
    /// or markup.
    fn end(&mut self, after: char) -> bool {
        let touches = matches!(after, '_' | '/' | '\\' | '@' | '=' | '(' | '+') || after.is_ascii_digit();
        let is_word = self.is_open() && !self.is_skipped && !touches;
        if is_word {
            self.codes[self.len] = EDGE;
            self.len += 1;
        }
        is_word
    }

    /// How many letters the word has.
    pub(super) fn letters(&self) -> u16 {
        (self.len - 2) as u16
    }

    /// The row of each n-gram of two, three and four letters, edges included, and of the whole word.
    pub(super) fn rows<'a>(&self, rows: &'a mut [u16; MAX_ROWS]) -> &'a [u16] {
        let codes = &self.codes[..self.len];
        let places = self.len.saturating_sub(3);
        for (rows, four) in rows.as_chunks_mut::<3>().0.iter_mut().zip(codes.windows(4)) {
            let two = term(four, 0).wrapping_add(term(four, 1));
            let three = two.wrapping_add(term(four, 2));
            *rows = [gram(two, 2), gram(three, 3), gram(three.wrapping_add(term(four, 3)), 4)];
        }
        // The last two places have no room for four; a word of one letter between its edges has but these.
        let last = &codes[self.len - 3..];
        let two = term(last, 0).wrapping_add(term(last, 1));
        let letters = &codes[1..self.len - 1];
        let whole =
            letters.iter().fold(0, |whole: u32, code| whole.wrapping_mul(WORD_PRIME).wrapping_add(*code));
        rows[3 * places..][..4].copy_from_slice(&[
            gram(two, 2),
            gram(two.wrapping_add(term(last, 2)), 3),
            gram(term(&last[1..], 0).wrapping_add(term(&last[1..], 1)), 2),
            row(whole),
        ]);
        &rows[..3 * places + 4]
    }

    /// Room for the rows of any word.
    pub(super) fn no_rows() -> [u16; MAX_ROWS] {
        [0; MAX_ROWS]
    }
}

fn term(codes: &[u32], place: usize) -> u32 {
    codes[place].wrapping_mul(PRIMES[place])
}

/// The row of so many letters, by the sum of their terms.
fn gram(sum: u32, length: u32) -> u16 {
    row(sum.wrapping_add(MIX.wrapping_mul(length)))
}

/// Spreads a sum of letters over the table's rows.
fn row(sum: u32) -> u16 {
    let mixed = (sum ^ (sum >> 15)).wrapping_mul(MIX);
    (mixed >> (u32::BITS - ROWS.ilog2())) as u16
}

/// One letter for one: of what becomes two in lower case, the first.
fn lower(letter: char) -> u32 {
    if letter.is_ascii() {
        return u32::from(letter.to_ascii_lowercase());
    }
    letter.to_lowercase().next().map_or(0, u32::from)
}

/// Marks on letters that are passed over: combining accents, Arabic vowels, joiners, soft hyphens.
fn is_mark(letter: char) -> bool {
    !letter.is_ascii()
        && matches!(u32::from(letter), 0x300..=0x36F | 0x64B..=0x65F | 0x670 | 0x640 | 0x200C | 0x200D | 0xAD)
}

/// Reads a text: calls `word` with each word of a script of the table, and `letter` with each letter of the others.
pub(super) fn read(text: &str, mut word: impl FnMut(&Word), mut letter: impl FnMut(Script, char)) {
    // Filled again and again: a word is too large to be moved for each.
    let mut current = Word::none();
    let mut before = ' ';
    let mut rest = text;
    while let Some(char) = rest.chars().next() {
        let run = ascii_letters(rest);
        let script = if run.is_empty() { Script::of(char) } else { Some(Script::Latin) };
        let goes_on =
            current.is_open() && script.map_or_else(|| is_mark(char), |script| current.script == script);
        if !goes_on {
            if current.end(char) {
                word(&current);
            }
            current.len = 0;
            match script {
                Some(script) if script.is_in_table() => current.begin(script, before),
                Some(script) => letter(script, char),
                None => {}
            }
        }
        if let Some(last) = run.last() {
            current.push_ascii(run, before);
            before = char::from(*last);
            rest = &rest[run.len()..];
            continue;
        }
        // A mark is passed over, as if it were not there.
        if !(goes_on && script.is_none()) {
            if current.is_open() {
                current.push(char);
            }
            before = char;
        }
        rest = &rest[char.len_utf8()..];
    }
    if current.end(' ') {
        word(&current);
    }
}

/// The letters of ASCII that a text begins with.
fn ascii_letters(text: &str) -> &[u8] {
    let len = text.bytes().take_while(u8::is_ascii_alphabetic).count();
    &text.as_bytes()[..len]
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Golden {
        text: String,
        rows: Vec<u16>,
    }

    #[test]
    fn words_have_the_rows_that_the_table_was_made_with() {
        let all: Vec<Golden> =
            serde_json::from_str(include_str!("../../tests/golden/language.json")).unwrap();
        for Golden { text, rows } in all {
            let mut found = Vec::new();
            read(&text, |word| found.extend_from_slice(word.rows(&mut Word::no_rows())), |_, _| {});
            found.sort_unstable();
            assert_eq!(found, rows, "{text}");
        }
    }

    #[test]
    fn parts_of_identifiers_calls_and_addresses_are_no_words() {
        let mut letters = 0;
        read(
            "foo_bar print(x2) C3PO iPhone https://a/b user@host $name C++",
            |word| letters += word.letters(),
            |_, _| {},
        );
        assert_eq!(letters, "https".len() as u16);
    }
}
