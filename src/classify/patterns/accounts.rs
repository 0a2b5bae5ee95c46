//! Addresses of machines and of cryptographic money: MAC addresses, Bitcoin's and Ethereum's.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;
use ring::digest::{SHA256, digest};

use super::{PatternHit, after, before, is_word};

/// Six bytes in hexadecimal, tied by one sign, or three groups of four as Cisco writes them.
static HARDWARE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        "(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}|(?:[0-9A-Fa-f]{2}-){5}[0-9A-Fa-f]{2}|[0-9A-Fa-f]{4}\\.[0-9A-Fa-f]{4}\\.[0-9A-Fa-f]{4}",
    )
    .expect("the pattern is valid")
});

/// Finds the addresses that stand alone.
pub(super) fn addresses(text: &str, found: &mut Vec<PatternHit>) {
    let hardware = HARDWARE.find_iter(text).filter(|found| is_hardware(found.as_str()));
    let hardware = hardware.map(|found| ("MAC_ADDRESS", found.range()));
    let money = long_words(text).filter(|word| is_money(&text[word.clone()])).map(|word| ("CRYPTO", word));
    for (kind, bytes) in hardware.chain(money) {
        let is_sign = |c: char| c == ':' || c == '-';
        let ties = |c: char| is_word(c) || is_sign(c);
        // A sign behind it may be the sentence's.
        let goes_on = after(text, bytes.end)
            .is_some_and(|c| is_word(c) || (is_sign(c) && after(text, bytes.end + 1).is_some_and(is_word)));
        if !before(text, bytes.start).is_some_and(ties) && !goes_on {
            found.push(PatternHit { kind, bytes, confidence: 0.97 });
        }
    }
}

/// Nobody's: all bytes alike, as the broadcast address and the one that is not set.
fn is_hardware(address: &str) -> bool {
    let mut digits = address.bytes().filter(u8::is_ascii_alphanumeric);
    let first = digits.next();
    let has_letter = address.bytes().any(|byte| byte.is_ascii_alphabetic());
    // Groups of four digits with points are numbers of other kinds.
    !digits.all(|digit| Some(digit) == first) && (has_letter || !address.contains('.'))
}

/// Words of ASCII letters and digits that are as long as an address.
fn long_words(text: &str) -> impl Iterator<Item = Range<usize>> {
    let bytes = text.as_bytes();
    let words =
        bytes.split(|byte| !byte.is_ascii_alphanumeric()).filter(|word| (26..=90).contains(&word.len()));
    words.map(move |word| {
        let start = word.as_ptr().addr() - bytes.as_ptr().addr();
        start..start + word.len()
    })
}

/// Ethereum's form; Bitcoin's checks: base 58 with the versions 0 and 5, or Bech32 (BIP 173, BIP 350).
fn is_money(address: &str) -> bool {
    if let Some(digits) = address.strip_prefix("0x") {
        return digits.len() == 40 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    }
    if let Some(data) = address.strip_prefix("bc1") {
        return is_bech32(data);
    }
    if !address.starts_with(['1', '3']) {
        return false;
    }
    // Version, 20 bytes and the first four of their digest's digest.
    let Some(bytes) = base58(address) else { return false };
    let (payload, check) = bytes.split_at(21);
    digest(&SHA256, digest(&SHA256, payload).as_ref()).as_ref().starts_with(check)
}

/// Reads 25 bytes in base 58; nothing if they do not fit.
fn base58(text: &str) -> Option<[u8; 25]> {
    const DIGITS: &[u8] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let mut bytes = [0_u8; 25];
    for sign in text.bytes() {
        let mut carry = DIGITS.iter().position(|digit| *digit == sign)?;
        for byte in bytes.iter_mut().rev() {
            carry += usize::from(*byte) * 58;
            *byte = carry as u8;
            carry >>= 8;
        }
        if carry > 0 {
            return None;
        }
    }
    Some(bytes)
}

/// Whether the checksum behind `bc1` holds, by either constant.
fn is_bech32(data: &str) -> bool {
    const SIGNS: &[u8] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    // What `bc` before the separator contributes: its high bits, a zero, its low bits.
    let prefix = [3, 3, 0, 2, 3];
    let values = data.bytes().filter_map(|sign| SIGNS.iter().position(|known| *known == sign));
    if data.bytes().any(|sign| !SIGNS.contains(&sign)) {
        return false;
    }
    let check = prefix.into_iter().chain(values).fold(1_u32, |check, value| {
        let top = check >> 25;
        let next = (check & 0x1ff_ffff) << 5 ^ value as u32;
        GENERATOR.iter().enumerate().fold(
            next,
            |next, (bit, term)| {
                if top >> bit & 1 == 1 { next ^ term } else { next }
            },
        )
    });
    matches!(check, 1 | 0x2bc8_30a3)
}

#[cfg(test)]
mod tests {
    use super::super::hits;

    #[test]
    fn an_address_has_its_checksum_or_its_form() {
        for (kind, address) in [
            ("CRYPTO", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"),
            ("CRYPTO", "3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy"),
            ("CRYPTO", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"),
            ("CRYPTO", "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0"),
            ("CRYPTO", "0x742d35Cc6634C0532925a3b844Bc454e4438f44e"),
            ("MAC_ADDRESS", "00:1b:44:11:3a:b7"),
            ("MAC_ADDRESS", "00-1B-44-11-3A-B7"),
            ("MAC_ADDRESS", "001b.4411.3ab7"),
        ] {
            let text = format!("it is {address}.");
            let found: Vec<_> = hits(&text).into_iter().map(|hit| (hit.kind, &text[hit.bytes])).collect();
            assert_eq!(found, [(kind, address)]);
        }
        for text in [
            "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb",
            "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5",
            "0x742d35Cc6634C0532925a3b844Bc454e4438f44e9",
            "ff:ff:ff:ff:ff:ff and 00:00:00:00:00:00",
            "a:00:1b:44:11:3a:b7",
            "1234.5678.9012",
        ] {
            assert_eq!(hits(text).iter().map(|hit| hit.kind).collect::<Vec<_>>(), [""; 0], "{text}");
        }
    }
}
