//! Owns which parts of a text are looked at, and what is counted in them. Refuses to know how a language is named to users.

use super::script::{IN_TABLE, SCRIPTS, Script};
use super::table::Scores;
use super::words::{self, Word};

/// How much is read at one place, in bytes.
const WINDOW: usize = 80;
/// Where a long text is read, in eighths of its length, in this order: requests stand at either end.
const PLACES: [usize; 8] = [0, 8, 4, 2, 6, 1, 3, 5];
/// The letters that make a language sure; reading ends at the first place where there are as many.
const ENOUGH: u16 = 110;
/// The fewest letters that say anything.
const FEWEST: u16 = 2;
/// The share of letters with which a script other than Latin decides.
const LEAST_SHARE: f32 = 0.3;
/// How likely a language is that has its script for itself.
const SURE: f32 = 0.99;
/// One kana in so many characters makes a text Japanese; a Chinese one may quote some.
const KANA_IN: u16 = 12;

/// What was found in the parts of a text that were read.
pub(super) struct TextSample {
    /// By script, as many letters of an alphabet as they are worth.
    letters: [u16; SCRIPTS],
    kana: u16,
    /// Signs that Yiddish has, less those that only Hebrew with vowels has.
    yiddish: i16,
    /// Of each script of the table.
    scores: [Scores; IN_TABLE],
}

impl TextSample {
    pub(super) fn of(text: &str) -> Self {
        let scores = [const { Scores::new() }; IN_TABLE];
        let mut sample = Self { letters: [0; SCRIPTS], kana: 0, yiddish: 0, scores };
        if text.len() <= WINDOW * 3 {
            sample.read(text);
            return sample;
        }
        for eighth in PLACES {
            let start = text.floor_char_boundary((text.len() - WINDOW) / 8 * eighth);
            sample.read(&text[start..text.floor_char_boundary(start + WINDOW)]);
            if sample.letters.iter().sum::<u16>() >= ENOUGH {
                break;
            }
        }
        sample
    }

    fn read(&mut self, text: &str) {
        let Self { letters, kana, yiddish, scores } = self;
        let mut read_letter = |script: Script, letter: char| {
            letters[script as usize] += script.weight();
            match letter {
                '\u{3041}'..='\u{30FF}' => *kana += 1,
                // Ligatures, and the two vowels that Yiddish writes.
                '\u{5F0}'..='\u{5F2}' | '\u{5B7}' | '\u{5B8}' => *yiddish += 1,
                '\u{5B0}'..='\u{5B6}' | '\u{5BB}' => *yiddish -= 1,
                _ => {}
            }
        };
        let (mut word_letters, mut rows) = ([0; IN_TABLE], Word::no_rows());
        let read_word = |word: &Word| {
            word_letters[word.script as usize] += word.letters();
            scores[word.script as usize].add(word.rows(&mut rows));
        };
        words::read(text, read_word, &mut read_letter);
        for (sum, more) in letters.iter_mut().zip(word_letters) {
            *sum += more;
        }
    }

    /// The script that says which language it is, and how likely it does.
    ///
    /// Any script but Latin does with a third of the letters: terms and names are Latin in every language.
    pub(super) fn main_script(&self) -> Option<(Script, f32)> {
        let all: u16 = self.letters.iter().sum();
        let share = |script: Script| f32::from(self.letters[script as usize]) / f32::from(all);
        let other = Script::ALL.into_iter().skip(1).max_by_key(|script| self.letters[*script as usize])?;
        let main = if share(other) >= LEAST_SHARE { other } else { Script::Latin };
        let is_enough = self.letters[main as usize] >= FEWEST;
        is_enough
            .then(|| (main, if main == Script::Latin { share(main) } else { (share(main) * 3.0).min(1.0) }))
    }

    /// The most likely language in a script, and how likely it is.
    pub(super) fn language(&mut self, script: Script) -> Option<(&'static str, f32)> {
        let letters = self.letters[script as usize];
        match script {
            Script::Han => Some(self.chinese_or_japanese(letters / script.weight())),
            Script::Hebrew if self.yiddish > 0 => Some(("yi", 0.9)),
            _ if script.is_in_table() => self.scores[script as usize].best(script),
            _ => Some((script.language()?, SURE)),
        }
    }

    /// Japanese has kana; a few characters without any may be of either.
    fn chinese_or_japanese(&self, characters: u16) -> (&'static str, f32) {
        match (self.kana * KANA_IN, characters) {
            (kana, _) if kana >= characters => ("ja", SURE),
            (_, ..=6) => ("zh", 0.75),
            _ => ("zh", SURE),
        }
    }
}
