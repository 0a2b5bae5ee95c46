//! Numbers by which states know people and firms, each with the check that its law or register gives it.
//!
//! One check digit in ten or twenty comes about by chance: where a number has no form of its own, a word beside it must
//! say what it is.

use std::ops::Range;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use regex::Regex;

use super::{PatternHit, REACH, is_isolated, near};

/// A kind of number.
struct NationalNumber {
    kind: &'static str,
    pattern: LazyLock<Regex>,
    /// Words that say what it is.
    words: &'static [&'static str],
    /// Whether a match is written as nothing else is.
    is_telling: fn(&str) -> bool,
    /// Whether its letters and digits, in upper case, hold together.
    is_checked: fn(&[u8]) -> bool,
}

macro_rules! pattern {
    ($pattern:literal) => {
        LazyLock::new(|| Regex::new($pattern).expect("the pattern is valid"))
    };
}

static NUMBERS: [NationalNumber; 10] = [
    NationalNumber {
        kind: "UK_NHS",
        pattern: pattern!("[0-9]{3}[ -]?[0-9]{3}[ -]?[0-9]{4}"),
        words: &["nhs", "national health service"],
        is_telling: |_| false,
        is_checked: nhs,
    },
    NationalNumber {
        kind: "IN_AADHAAR",
        pattern: pattern!("[2-9][0-9]{3}[ -]?[0-9]{4}[ -]?[0-9]{4}"),
        words: &["aadhaar", "aadhar", "uidai", "आधार"],
        is_telling: |_| false,
        is_checked: verhoeff,
    },
    NationalNumber {
        kind: "ES_NIF",
        pattern: pattern!(r"[0-9]{2}\.?[0-9]{3}\.?[0-9]{3}[ -]?[A-HJ-NP-TV-Za-hj-np-tv-z]"),
        words: &["dni", "nif", "documento nacional de identidad"],
        is_telling: |number| number.contains('-'),
        is_checked: nif,
    },
    NationalNumber {
        kind: "ES_NIE",
        pattern: pattern!("[XYZxyz][ -]?[0-9]{7}[ -]?[A-HJ-NP-TV-Za-hj-np-tv-z]"),
        words: &["nie", "número de identidad de extranjero"],
        is_telling: |number| number.starts_with(['X', 'Y', 'Z']),
        is_checked: nie,
    },
    NationalNumber {
        kind: "DE_TAX_ID",
        pattern: pattern!("[1-9][0-9] ?[0-9]{3} ?[0-9]{3} ?[0-9]{3}"),
        words: &[
            "steuer-id",
            "steuerid",
            "steuer id",
            "steuer-idnr",
            "idnr",
            "identifikationsnummer",
            "steueridentifikationsnummer",
            "steuer-identifikationsnummer",
            "tax id",
            "tin",
        ],
        is_telling: |_| false,
        is_checked: tax_id,
    },
    NationalNumber {
        kind: "BR_CPF",
        pattern: pattern!(r"[0-9]{3}\.?[0-9]{3}\.?[0-9]{3}-?[0-9]{2}"),
        words: &["cpf"],
        is_telling: |number| number.contains('.') && number.contains('-'),
        is_checked: |number| has_check_digits(number, 9, 11),
    },
    NationalNumber {
        kind: "BR_CNPJ",
        // Letters are given out since July 2026.
        pattern: pattern!(r"[0-9A-Z]{2}\.?[0-9A-Z]{3}\.?[0-9A-Z]{3}/?[0-9A-Z]{4}-?[0-9]{2}"),
        words: &["cnpj"],
        is_telling: |number| number.contains('/') && number.contains('-'),
        is_checked: |number| has_check_digits(number, 12, 9),
    },
    NationalNumber {
        kind: "FR_NIR",
        pattern: pattern!(
            "[12378] ?[0-9]{2} ?(?:0[1-9]|1[0-2]|[2-9][0-9]) ?(?:[0-9]{2}|2[AB]) ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}"
        ),
        words: &["nir", "sécurité sociale", "securite sociale", "sécu", "insee", "numéro de sécurité"],
        is_telling: |number| number.matches(' ').count() >= 5,
        is_checked: nir,
    },
    NationalNumber {
        kind: "US_PASSPORT",
        pattern: pattern!("[A-Za-z]?[0-9]{8,9}"),
        words: &["passport", "passport no", "passport number"],
        is_telling: |_| false,
        is_checked: |number| (9..=10).contains(&number.len()) || number[0].is_ascii_alphabetic(),
    },
    NationalNumber {
        kind: "VAT_NUMBER",
        pattern: pattern!(
            "ATU[0-9]{8}|BE[01][0-9]{9}|BG[0-9]{9,10}|CY[0-9]{8}[A-Z]|CZ[0-9]{8,10}|DE[0-9]{9}|DK[0-9]{8}|EE[0-9]{9}|\
             EL[0-9]{9}|ES[A-Z0-9][0-9]{7}[A-Z0-9]|FI[0-9]{8}|FR[A-Z0-9]{2}[0-9]{9}|(?:GB|XI)[0-9]{9}|HR[0-9]{11}|\
             HU[0-9]{8}|IE[0-9][A-Z0-9][0-9]{5}[A-Z]{1,2}|IT[0-9]{11}|LT[0-9]{12}|LT[0-9]{9}|LU[0-9]{8}|LV[0-9]{11}|\
             MT[0-9]{8}|NL[0-9]{9}B[0-9]{2}|PL[0-9]{10}|PT[0-9]{9}|RO[0-9]{6,10}|SE[0-9]{12}|SI[0-9]{8}|SK[0-9]{10}"
        ),
        words: &[
            "vat",
            "vat no",
            "vat id",
            "ust-id",
            "ust-idnr",
            "ustid",
            "umsatzsteuer",
            "tva",
            "iva",
            "p.iva",
            "partita iva",
            "btw",
            "mwst",
            "moms",
            "nip",
            "uid",
        ],
        is_telling: |_| false,
        is_checked: |_| true,
    },
];

/// The words of all numbers, found at once, and whose they are.
static WORDS: LazyLock<(AhoCorasick, Vec<usize>)> = LazyLock::new(|| {
    let each = NUMBERS.iter().enumerate();
    let words: Vec<_> =
        each.flat_map(|(at, number)| number.words.iter().map(move |word| (*word, at))).collect();
    let search = AhoCorasick::builder()
        .kind(Some(AhoCorasickKind::DFA))
        .ascii_case_insensitive(true)
        .build(words.iter().map(|(word, _)| word));
    (search.expect("the words are few"), words.into_iter().map(|(_, at)| at).collect())
});

/// The forms that need no word: DNI with its hyphen, NIE, CPF and CNPJ with all of their signs, NIR in its groups.
static TELLING: LazyLock<Regex> = pattern!(
    r"[0-9]{2}\.?[0-9]{3}\.?[0-9]{3}-[A-HJ-NP-TV-Z]|[XYZ]-?[0-9]{7}-?[A-HJ-NP-TV-Z]|[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}|[0-9A-Z]{2}\.[0-9A-Z]{3}\.[0-9A-Z]{3}/[0-9A-Z]{4}-[0-9]{2}|[12378] [0-9]{2} [0-9]{2} [0-9][0-9AB] [0-9]{3} [0-9]{3} [0-9]{2}"
);

/// The most bytes of a number as it is written.
const LONGEST: usize = 24;

/// Finds national numbers: beside their words, and where their form tells.
pub(super) fn numbers(text: &str, found: &mut Vec<PatternHit>) {
    let (words, owners) = &*WORDS;
    // What was looked at, so that a word that stands often costs no more.
    let mut done = [0; NUMBERS.len()];
    for word in words.find_overlapping_iter(text) {
        let at = owners[word.pattern().as_usize()];
        let from = text.floor_char_boundary(word.start().saturating_sub(REACH / 2 + LONGEST).max(done[at]));
        let to = text.ceil_char_boundary((word.end() + REACH + LONGEST).min(text.len()));
        if from < to {
            NUMBERS[at].look_in(text, from..to, found);
            // A number that the end cuts is looked at again.
            done[at] = to.saturating_sub(LONGEST);
        }
    }
    for form in TELLING.find_iter(text) {
        for number in NUMBERS.iter().filter(|number| (number.is_telling)(form.as_str())) {
            number.look_in(text, form.range(), found);
        }
    }
}

impl NationalNumber {
    /// Looks for the number in a part of a text.
    fn look_in(&self, text: &str, part: Range<usize>, found: &mut Vec<PatternHit>) {
        let matches = self.pattern.find_iter(&text[part.clone()]);
        let matches = matches.map(|found| part.start + found.start()..part.start + found.end());
        let right = matches.filter(|bytes| self.is_here(text, bytes));
        found.extend(right.map(|bytes| PatternHit { kind: self.kind, bytes, confidence: 0.97 }));
    }

    fn is_here(&self, text: &str, bytes: &Range<usize>) -> bool {
        let written = &text[bytes.clone()];
        let signs = written.bytes().filter(u8::is_ascii_alphanumeric);
        let signs: Vec<u8> = signs.map(|sign| sign.to_ascii_uppercase()).collect();
        is_isolated(text, bytes)
            && (self.is_checked)(&signs)
            && ((self.is_telling)(written) || near(text, bytes, self.words))
    }
}

fn digit(sign: u8) -> u32 {
    u32::from(sign.wrapping_sub(b'0'))
}

fn value(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |value, sign| value * 10 + u64::from(digit(*sign)))
}

fn is_one_digit_only(number: &[u8]) -> bool {
    number.iter().all(|sign| *sign == number[0])
}

/// Weights 10 to 2 modulo 11; <https://www.datadictionary.nhs.uk/attributes/nhs_number.html>.
fn nhs(number: &[u8]) -> bool {
    let sum: u32 = number.iter().zip((2..=10).rev()).map(|(sign, weight)| digit(*sign) * weight).sum();
    let check = (11 - sum % 11) % 11;
    !is_one_digit_only(number) && check == digit(number[9])
}

/// Verhoeff's scheme over the dihedral group of ten elements.
fn verhoeff(number: &[u8]) -> bool {
    const PERMUTATION: [u32; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
    let product = |a: u32, b: u32| match (a, b) {
        (0..=4, 0..=4) => (a + b) % 5,
        (0..=4, _) => 5 + (a + b - 5) % 5,
        (_, 0..=4) => 5 + (a - 5 + 5 - b) % 5,
        _ => (a + 5 - b) % 5,
    };
    let permuted =
        |digit: u32, times: usize| (0..times % 8).fold(digit, |digit, _| PERMUTATION[digit as usize]);
    let each = number.iter().rev().enumerate();
    !is_one_digit_only(number)
        && each.fold(0, |check, (at, sign)| product(check, permuted(digit(*sign), at))) == 0
}

/// The letter that belongs to a Spanish number: its remainder by 23.
fn spanish_letter(number: u64) -> u8 {
    b"TRWAGMYFPDXBNJZSQVHLCKE"[(number % 23) as usize]
}

fn nif(number: &[u8]) -> bool {
    spanish_letter(value(&number[..8])) == number[8]
}

fn nie(number: &[u8]) -> bool {
    let first = u64::from(number[0] - b'X');
    spanish_letter(first * 10_000_000 + value(&number[1..8])) == number[8]
}

/// ISO 7064 (MOD 11,10), and one digit of the first ten twice or three times, no other so.
fn tax_id(number: &[u8]) -> bool {
    let mut counts = [0_u8; 10];
    for sign in &number[..10] {
        counts[digit(*sign) as usize] += 1;
    }
    let is_spread =
        counts.iter().filter(|count| **count > 1).count() == 1 && counts.iter().all(|count| *count <= 3);
    let product = number[..10].iter().fold(10, |product, sign| {
        let sum = (digit(*sign) + product) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    is_spread && (11 - product) % 10 == digit(number[10])
}

/// Brazil's two check digits modulo 11 behind so many signs, with weights from 2 on up to a greatest one and again.
fn has_check_digits(number: &[u8], signs: usize, most_weight: u32) -> bool {
    let check = |front: &[u8]| {
        let weights = (2..=most_weight).cycle();
        let sum: u32 = front.iter().rev().zip(weights).map(|(sign, weight)| digit(*sign) * weight).sum();
        if sum % 11 < 2 { 0 } else { 11 - sum % 11 }
    };
    let fits = |at: usize| check(&number[..at]) == digit(number[at]);
    !is_one_digit_only(number) && fits(signs) && fits(signs + 1)
}

/// The key is 97 less the remainder by 97; Corsica's 2A and 2B count as 19 and 18.
fn nir(number: &[u8]) -> bool {
    let mut number = number.to_vec();
    if let letter @ (b'A' | b'B') = number[6] {
        number[5] = b'1';
        number[6] = if letter == b'A' { b'9' } else { b'8' };
    }
    97 - value(&number[..13]) % 97 == value(&number[13..])
}

#[cfg(test)]
mod tests {
    use super::super::hits;

    #[track_caller]
    fn finds(kind: &str, text: &str, number: &str) {
        let found: Vec<_> = hits(text).into_iter().map(|hit| (hit.kind, &text[hit.bytes])).collect();
        assert_eq!(found, [(kind, number)], "in {text:?}");
    }

    #[test]
    fn a_number_counts_with_its_check_and_its_word_or_form() {
        for (kind, text, number, wrong) in [
            ("UK_NHS", "NHS number 943 476 5919", "943 476 5919", "943 476 5918"),
            ("IN_AADHAAR", "Aadhaar: 2363 9042 8914", "2363 9042 8914", "2363 9042 8917"),
            ("ES_NIF", "mi DNI es 12345678Z", "12345678Z", "12345678A"),
            ("ES_NIF", "12345678-Z", "12345678-Z", "12345678-A"),
            ("ES_NIE", "X1234567L", "X1234567L", "X1234567M"),
            ("DE_TAX_ID", "Steuer-ID 86 095 742 719", "86 095 742 719", "86 095 742 718"),
            ("BR_CPF", "529.982.247-25", "529.982.247-25", "529.982.247-26"),
            ("BR_CPF", "CPF 52998224725", "52998224725", "52998224726"),
            ("BR_CNPJ", "11.222.333/0001-81", "11.222.333/0001-81", "11.222.333/0001-82"),
            ("BR_CNPJ", "12.ABC.345/01DE-35", "12.ABC.345/01DE-35", "12.ABC.345/01DE-36"),
            ("FR_NIR", "2 55 08 14 168 025 38", "2 55 08 14 168 025 38", "2 55 08 14 168 025 39"),
            ("FR_NIR", "NIR 255081416802538", "255081416802538", "255081416802539"),
        ] {
            finds(kind, text, number);
            let text = text.replace(number, wrong);
            assert!(hits(&text).iter().all(|hit| hit.kind != kind), "{text}");
        }
        finds("US_PASSPORT", "passport no. C01234567", "C01234567");
        finds("VAT_NUMBER", "VAT: DE136695976", "DE136695976");
    }

    #[test]
    fn a_number_without_its_word_or_form_is_any_number() {
        for text in ["943 476 5919", "2363 9042 8914", "12345678Z", "86095742719", "52998224725", "C01234567"]
        {
            let kinds: Vec<_> = hits(text).into_iter().map(|hit| hit.kind).collect();
            assert_eq!(kinds, [""; 0], "{text}");
        }
    }
}
