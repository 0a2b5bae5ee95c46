//! Owns what is a word and which rows of the table stand for it: the n-grams of its letters. Refuses to know the weights.
//!
//! `training/language/features.py` does the same; `tests/golden/language.json` holds both to it.

use super::script::Script;
use super::table::ROWS;

/// The most letters of a word; what is longer is no word.
const MAX_LETTERS: usize = 32;
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
    fn begin(script: Script, before: char) -> Self {
        let mut codes = [0; MAX_LETTERS + 2];
        codes[0] = EDGE;
        Self { script, codes, len: 1, is_skipped: before.is_ascii_digit() || "_/\\@#$=<&.".contains(before) }
    }

    fn push(&mut self, letter: char, before: char) {
        if self.len > MAX_LETTERS {
            self.is_skipped = true;
            return;
        }
        // A capital within a word makes it an identifier.
        self.is_skipped |= self.len > 1 && letter.is_ascii_uppercase() && before.is_ascii_lowercase();
        self.codes[self.len] = lower(letter);
        self.len += 1;
    }

    /// The word, if it is one: not what touches a digit, nor a part of an identifier, a call, a path, an address or markup.
    fn end(mut self, after: char) -> Option<Self> {
        if self.is_skipped || after.is_ascii_digit() || "_/\\@=(+".contains(after) {
            return None;
        }
        self.codes[self.len] = EDGE;
        self.len += 1;
        Some(self)
    }

    /// How many letters the word has.
    pub(super) fn letters(&self) -> u16 {
        (self.len - 2) as u16
    }

    /// Calls `visit` with the row of each n-gram of two, three and four letters, edges included, and of the whole word.
    pub(super) fn rows(&self, mut visit: impl FnMut(u16)) {
        let codes = &self.codes[..self.len];
        let term = |at: usize, place: usize| codes[at + place].wrapping_mul(PRIMES[place]);
        for at in 0..codes.len() - 1 {
            let two = term(at, 0).wrapping_add(term(at, 1));
            visit(row(two.wrapping_add(MIX.wrapping_mul(2))));
            if at + 2 < codes.len() {
                let three = two.wrapping_add(term(at, 2));
                visit(row(three.wrapping_add(MIX.wrapping_mul(3))));
                if at + 3 < codes.len() {
                    let four = three.wrapping_add(term(at, 3));
                    visit(row(four.wrapping_add(MIX.wrapping_mul(4))));
                }
            }
        }
        let letters = &codes[1..codes.len() - 1];
        visit(row(letters
            .iter()
            .fold(0, |whole: u32, code| whole.wrapping_mul(WORD_PRIME).wrapping_add(*code))));
    }
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
    matches!(u32::from(letter), 0x300..=0x36F | 0x64B..=0x65F | 0x670 | 0x640 | 0x200C | 0x200D | 0xAD)
}

/// Reads a text: calls `word` with each word of a script of the table, and `letter` with each letter of the others.
pub(super) fn read(text: &str, mut word: impl FnMut(&Word), mut letter: impl FnMut(Script, char)) {
    let mut current: Option<Word> = None;
    let mut before = ' ';
    for char in text.chars() {
        let script = Script::of(char);
        match (&mut current, script) {
            (Some(word), Some(script)) if word.script == script => word.push(char, before),
            (Some(_), None) if is_mark(char) => continue,
            _ => {
                if let Some(found) = current.take().and_then(|word| word.end(char)) {
                    word(&found);
                }
                match script {
                    Some(script) if script.is_in_table() => {
                        let mut begun = Word::begin(script, before);
                        begun.push(char, before);
                        current = Some(begun);
                    }
                    Some(script) => letter(script, char),
                    None => {}
                }
            }
        }
        before = char;
    }
    if let Some(found) = current.and_then(|word| word.end(' ')) {
        word(&found);
    }
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
            read(&text, |word| word.rows(|row| found.push(row)), |_, _| {});
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
