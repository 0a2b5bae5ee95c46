//! What a model takes for a kind that has a check, and the check refutes.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{digits, iban, mail};

/// Says whether a text cannot be of a kind; of kinds without a check nothing can be said.
pub(in super::super) fn is_refuted(kind: &str, text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    match kind {
        "CREDIT_CARD" => !(12..=19).contains(&digits.len()) || !digits::luhn(&digits),
        "US_SSN" => !digits::was_given_out(&digits),
        "IBAN_CODE" => !iban::is_account(text),
        "IP_ADDRESS" => !is_address(text),
        "EMAIL_ADDRESS" => !mail::holds_address(text),
        "PHONE_NUMBER" => digits.len() < 5 || digits.len() > 20 || is_time(text),
        _ => false,
    }
}

/// An address of either version, perhaps with a port or a prefix's length.
fn is_address(text: &str) -> bool {
    let text = text.trim_matches(['[', ']', '(', ')']);
    let front = text.split(['/', ']', '%']).next().unwrap_or_default();
    let without_port = front.split(':').next().unwrap_or_default();
    front.parse::<Ipv6Addr>().is_ok() || without_port.parse::<Ipv4Addr>().is_ok()
}

/// Seconds or milliseconds since 1970, from 2001 to 2033: nowhere do telephone numbers of that length begin so, written
/// without a sign.
fn is_time(text: &str) -> bool {
    matches!(text.len(), 10 | 13) && text.starts_with('1') && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_its_check_is_refuted() {
        for (kind, text) in [
            ("IP_ADDRESS", "5"),
            ("IP_ADDRESS", "1.2.3"),
            ("CREDIT_CARD", "4111 1111 1111 1112"),
            ("CREDIT_CARD", "1234"),
            ("US_SSN", "078-05-1120"),
            ("US_SSN", "000-12-3456"),
            ("US_SSN", "1234"),
            ("IBAN_CODE", "DE88 3704 0044 0532 0130 00"),
            ("EMAIL_ADDRESS", "foo@2x.png"),
            ("EMAIL_ADDRESS", "jo at example"),
            ("PHONE_NUMBER", "1716239022"),
            ("PHONE_NUMBER", "42"),
        ] {
            assert!(is_refuted(kind, text), "{kind} {text}");
        }
        for (kind, text) in [
            ("IP_ADDRESS", "10.0.1.40/27"),
            ("IP_ADDRESS", "198.51.100.4:8080"),
            ("IP_ADDRESS", "[2001:db8::1]"),
            ("CREDIT_CARD", "4111-1111-1111-1111"),
            ("US_SSN", "536-22-1234"),
            ("IBAN_CODE", "DE89 3704 0044 0532 0130 00"),
            ("EMAIL_ADDRESS", "jo@example.org"),
            ("PHONE_NUMBER", "4155550132"),
            ("PHONE_NUMBER", "030 12345"),
            ("PERSON", "5"),
        ] {
            assert!(!is_refuted(kind, text), "{kind} {text}");
        }
    }
}
