//! Owns the scripts: which letter is of which, which language a script alone decides. Refuses to know words and weights.

/// A script, named as in Unicode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Script {
    Latin,
    Cyrillic,
    Arabic,
    Devanagari,
    /// Kanji and kana included.
    Han,
    Hangul,
    Greek,
    Hebrew,
    Armenian,
    Bengali,
    Gurmukhi,
    Gujarati,
    Oriya,
    Tamil,
    Telugu,
    Kannada,
    Malayalam,
    Sinhala,
    Thai,
    Lao,
    Tibetan,
    Myanmar,
    Georgian,
    Ethiopic,
    Khmer,
}

/// How many scripts there are, and how many of them the table is for: the first ones.
pub(super) const SCRIPTS: usize = Script::Khmer as usize + 1;
pub(super) const IN_TABLE: usize = Script::Devanagari as usize + 1;

/// Blocks of letters, by their first and last, in order; digits and punctuation inside some of them are left in.
const BLOCKS: [(u32, u32, Script); 46] = [
    (0xC0, 0x2AF, Script::Latin),
    (0x370, 0x3FF, Script::Greek),
    (0x400, 0x481, Script::Cyrillic),
    (0x48A, 0x52F, Script::Cyrillic),
    (0x531, 0x587, Script::Armenian),
    (0x5B0, 0x5BB, Script::Hebrew),
    (0x5D0, 0x5F2, Script::Hebrew),
    (0x620, 0x64A, Script::Arabic),
    (0x671, 0x6D3, Script::Arabic),
    (0x6D5, 0x6D5, Script::Arabic),
    (0x6EE, 0x6EF, Script::Arabic),
    (0x6FA, 0x6FF, Script::Arabic),
    (0x750, 0x77F, Script::Arabic),
    (0x900, 0x963, Script::Devanagari),
    (0x971, 0x97F, Script::Devanagari),
    (0x980, 0x9FF, Script::Bengali),
    (0xA00, 0xA7F, Script::Gurmukhi),
    (0xA80, 0xAFF, Script::Gujarati),
    (0xB00, 0xB7F, Script::Oriya),
    (0xB80, 0xBFF, Script::Tamil),
    (0xC00, 0xC7F, Script::Telugu),
    (0xC80, 0xCFF, Script::Kannada),
    (0xD00, 0xD7F, Script::Malayalam),
    (0xD80, 0xDFF, Script::Sinhala),
    (0xE01, 0xE3A, Script::Thai),
    (0xE40, 0xE4E, Script::Thai),
    (0xE81, 0xEDF, Script::Lao),
    (0xF00, 0xFFF, Script::Tibetan),
    (0x1000, 0x109F, Script::Myanmar),
    (0x10A0, 0x10FF, Script::Georgian),
    (0x1100, 0x11FF, Script::Hangul),
    (0x1200, 0x139F, Script::Ethiopic),
    (0x1780, 0x17FF, Script::Khmer),
    (0x1C90, 0x1CBF, Script::Georgian),
    (0x1E00, 0x1EFF, Script::Latin),
    (0x1F00, 0x1FFF, Script::Greek),
    (0x2D00, 0x2D2F, Script::Georgian),
    (0x2D80, 0x2DDF, Script::Ethiopic),
    (0x3005, 0x3007, Script::Han),
    (0x3041, 0x30FF, Script::Han),
    (0x3130, 0x318F, Script::Hangul),
    (0x3400, 0x4DBF, Script::Han),
    (0x4E00, 0x9FFF, Script::Han),
    (0xAC00, 0xD7A3, Script::Hangul),
    (0xF900, 0xFAFF, Script::Han),
    (0x20000, 0x323AF, Script::Han),
];

/// The languages that no table is needed for, by ISO 639-1.
pub(super) const BY_SCRIPT: [&str; 23] = [
    "am", "bn", "bo", "el", "gu", "he", "hy", "ja", "ka", "km", "kn", "ko", "lo", "ml", "my", "or", "pa",
    "si", "ta", "te", "th", "yi", "zh",
];

impl Script {
    #[rustfmt::skip]
    pub(super) const ALL: [Self; SCRIPTS] = [
        Self::Latin, Self::Cyrillic, Self::Arabic, Self::Devanagari, Self::Han, Self::Hangul,
        Self::Greek, Self::Hebrew, Self::Armenian, Self::Bengali, Self::Gurmukhi, Self::Gujarati,
        Self::Oriya, Self::Tamil, Self::Telugu, Self::Kannada, Self::Malayalam, Self::Sinhala,
        Self::Thai, Self::Lao, Self::Tibetan, Self::Myanmar, Self::Georgian, Self::Ethiopic,
        Self::Khmer,
    ];

    /// Finds the script of a letter; what is no letter has none.
    pub(super) fn of(letter: char) -> Option<Self> {
        let code = u32::from(letter);
        if code < 0xC0 {
            return letter.is_ascii_alphabetic().then_some(Self::Latin);
        }
        let place = BLOCKS.partition_point(|(_, last, _)| *last < code);
        let (first, _, script) = BLOCKS.get(place)?;
        (*first <= code && !matches!(letter, '×' | '÷')).then_some(*script)
    }

    /// Says how many letters of an alphabet one letter of this script is worth.
    pub(super) fn weight(self) -> u16 {
        match self {
            Self::Han | Self::Hangul => 3,
            _ => 1,
        }
    }

    /// Says whether the table tells the languages of this script apart.
    pub(super) fn is_in_table(self) -> bool {
        (self as usize) < IN_TABLE
    }

    /// The language that has this script (all but) for itself, by ISO 639-1.
    pub(super) fn language(self) -> Option<&'static str> {
        Some(match self {
            Self::Latin | Self::Cyrillic | Self::Arabic | Self::Devanagari | Self::Han => return None,
            Self::Hangul => "ko",
            Self::Greek => "el",
            Self::Hebrew => "he",
            Self::Armenian => "hy",
            Self::Bengali => "bn",
            Self::Gurmukhi => "pa",
            Self::Gujarati => "gu",
            Self::Oriya => "or",
            Self::Tamil => "ta",
            Self::Telugu => "te",
            Self::Kannada => "kn",
            Self::Malayalam => "ml",
            Self::Sinhala => "si",
            Self::Thai => "th",
            Self::Lao => "lo",
            Self::Tibetan => "bo",
            Self::Myanmar => "my",
            Self::Georgian => "ka",
            Self::Ethiopic => "am",
            Self::Khmer => "km",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_in_order_and_apart() {
        assert!(BLOCKS.windows(2).all(|pair| pair[0].1 < pair[1].0));
        assert!(BLOCKS.iter().all(|(first, last, _)| first <= last));
    }

    #[test]
    fn scripts_are_listed_at_their_places() {
        assert!(Script::ALL.iter().enumerate().all(|(place, script)| *script as usize == place));
    }

    #[test]
    fn a_language_of_its_own_script_can_be_named() {
        assert!(
            Script::ALL.iter().filter_map(|script| script.language()).all(|code| BY_SCRIPT.contains(&code))
        );
    }
}
