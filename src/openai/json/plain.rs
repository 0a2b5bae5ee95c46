//! How far a string goes on before a byte that matters: the scanner's innermost loop.
//!
//! Refuses to know what the byte means.

/// Counts the bytes before the first quote, backslash or control character.
pub(super) fn plain(bytes: &[u8]) -> usize {
    /// Most strings are shorter than it takes to look for their end a vector at a time.
    const NEAR: usize = 32;
    let near = plain_words(&bytes[..bytes.len().min(NEAR)]);
    if near < NEAR {
        return near;
    }
    let far = &bytes[NEAR..];
    let far = &far[..memchr::memchr2(b'"', b'\\', far).unwrap_or(far.len())];
    let least = far.iter().fold(u8::MAX, |least, byte| least.min(*byte));
    let control = if least < 0x20 { far.iter().position(|byte| *byte < 0x20) } else { None };
    NEAR + control.unwrap_or(far.len())
}

/// The same, eight at a time.
fn plain_words(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = ONES << 7;
    const QUOTES: u64 = ONES * 0x22;
    const BACKSLASHES: u64 = ONES * 0x5c;
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let quote = word ^ QUOTES;
        let backslash = word ^ BACKSLASHES;
        // A byte's high bit is set if it is zero, or here below 0x20; wrong only above a byte where it is
        // right.
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let found =
            (quote.wrapping_sub(ONES) & !quote) | (backslash.wrapping_sub(ONES) & !backslash) | control;
        let found = found & HIGHS;
        if found != 0 {
            return index * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let special = |&byte: &u8| byte == b'"' || byte == b'\\' || byte < 0x20;
    bytes.len() - rest.len() + rest.iter().position(special).unwrap_or(rest.len())
}
