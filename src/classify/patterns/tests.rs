//! What each pattern takes and leaves, that a scan is linear, and that hits lie on characters.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

/// What is found, as `(kind, text)`.
fn found(text: &str) -> Vec<(&str, &str)> {
    hits(text).into_iter().map(|hit| (hit.kind, &text[hit.bytes])).collect()
}

#[track_caller]
fn finds(kind: &str, whole: &str, part: &str) {
    assert_eq!(found(whole), [(kind, part)], "in {whole:?}");
}

#[track_caller]
fn finds_nothing(text: &str) {
    assert_eq!(found(text), [], "in {text:?}");
}

#[test]
fn a_card_needs_an_issuer_its_length_and_the_checksum() {
    finds("CREDIT_CARD", "Pay with 4111111111111111.", "4111111111111111");
    finds("CREDIT_CARD", "Pay with 4111 1111 1111 1111, please", "4111 1111 1111 1111");
    finds("CREDIT_CARD", "5500-0000-0000-0004", "5500-0000-0000-0004");
    finds("CREDIT_CARD", "amex 3782 822463 10005!", "3782 822463 10005");
    finds("CREDIT_CARD", "(2223003122003222)", "2223003122003222");
    finds_nothing("Pay with 4111111111111112.");
    finds_nothing("Pay with 1111111111111117, no issuer's");
    finds_nothing("411111111111111 has too few digits");
    finds_nothing("x4111111111111111 or 4111111111111111_9 or 0.4111111111111111 are parts of something");
    finds_nothing("550e8400-e29b-41d4-a716-446655440000");
}

#[test]
fn a_card_is_found_among_other_digits_only_where_it_stands_apart() {
    finds("CREDIT_CARD", "12 4111 1111 1111 1111 09 27", "4111 1111 1111 1111");
    finds_nothing("1234-4111-1111-1111-1111");
    // A row of numbers passes the checksum by chance; a word says that it did not.
    finds_nothing("4000 4111 1111 1111 1111 1111 1200");
    finds("CREDIT_CARD", "card 4111 1111 1111 1111 0927", "4111 1111 1111 1111");
}

#[test]
fn a_short_or_seldom_card_number_needs_a_word_for_it() {
    finds_nothing("order 4222222222222 is late");
    finds("CREDIT_CARD", "my visa is 4222222222222", "4222222222222");
    finds_nothing("id 6759649826438453 and so on");
    finds("CREDIT_CARD", "Maestro: 6759649826438453", "6759649826438453");
}

#[test]
fn an_account_number_has_its_countrys_length_and_the_checksum() {
    finds("IBAN_CODE", "IBAN: DE89 3704 0044 0532 0130 00.", "DE89 3704 0044 0532 0130 00");
    finds("IBAN_CODE", "to gb82west12345698765432 today", "gb82west12345698765432");
    finds("IBAN_CODE", "NO9386011117947 goes on", "NO9386011117947");
    finds_nothing("DE88 3704 0044 0532 0130 00");
    finds_nothing("DE89 3704 0044 0532 0130 001");
    finds_nothing("DE89 3704 0044 0532 0130");
    finds_nothing("XX89 3704 0044 0532 0130 00");
    finds_nothing("ADE89370400440532013000");
}

#[test]
fn a_social_security_number_was_given_out_and_is_written_like_one() {
    finds("US_SSN", "it is 536-22-1234, ok?", "536-22-1234");
    finds("US_SSN", "my SSN is 536 22 1234", "536 22 1234");
    finds("US_SSN", "Social Security no. 536221234 of hers", "536221234");
    finds_nothing("536 22 1234 or 536221234 might be anything");
    for never in ["000-12-3456", "666-12-3456", "912-12-3456", "078-05-1120", "536-00-1234", "536-22-0000"] {
        finds_nothing(never);
    }
    finds_nothing("1-536-22-1234");
    finds_nothing("536-22-1234-7");
    finds_nothing("A536-22-1234");
}

#[test]
fn a_mail_address_ends_where_the_sentence_goes_on() {
    finds("EMAIL_ADDRESS", "write to jane.doe+x@mail.example.co.uk.", "jane.doe+x@mail.example.co.uk");
    finds("EMAIL_ADDRESS", "email='o'hara_@x.org'", "o'hara_@x.org");
    finds("EMAIL_ADDRESS", "<mailto:jo@x-y.io>", "jo@x-y.io");
    finds("EMAIL_ADDRESS", "schreib an jürgen@müller.de!", "jürgen@müller.de");
    finds("EMAIL_ADDRESS", "ไปที่bob@example.com", "bob@example.com");
    finds("EMAIL_ADDRESS", "連絡先はbob@example.comです", "bob@example.com");
    finds_nothing("a@b, x@y.1, @someone, git@host, icon@2x.png, react@18.2.0.tgz");
}

#[test]
fn an_internet_address_is_no_version_and_no_part_of_more() {
    finds("IP_ADDRESS", "ping 203.0.113.7.", "203.0.113.7");
    finds("IP_ADDRESS", "10.0.1.40/27 and on", "10.0.1.40");
    finds("IP_ADDRESS", "http://198.51.100.4:8080/x", "198.51.100.4");
    finds("IP_ADDRESS", "the version of the server 198.51.100.4", "198.51.100.4");
    finds_nothing("version 1.2.3.4");
    finds_nothing("v1.2.3.4, Chrome/120.0.0.1, package==1.2.3.4, lib-1.2.3.4, 1.2.3.4.tar");
    finds_nothing("upgraded from 1.2.3.4 to 1.2.3.5");
    finds_nothing("see section 4.1.2.3");
    finds_nothing("1.2.3.4.5 and 999.1.1.1 and 01.2.3.4 and 1.2.3");
    finds_nothing("127.0.0.1 0.0.0.0 255.255.255.0");
}

#[test]
fn an_internet_address_of_version_6_is_no_path_or_time() {
    finds("IP_ADDRESS", "[2001:db8::1]:443", "2001:db8::1");
    finds("IP_ADDRESS", "at fe80::1ff:fe23:4567:890a.", "fe80::1ff:fe23:4567:890a");
    finds("IP_ADDRESS", "494f:55e5:18c8:c587:65ea:ce73:32cc:a6a7", "494f:55e5:18c8:c587:65ea:ce73:32cc:a6a7");
    finds_nothing("std::vec, a::b, dead::beef, ::1, 12:34:56");
    finds_nothing("02:00:5e:10:00:00:00:01 or 12:34");
}

#[test]
fn a_domain_stands_in_a_link_or_ends_as_hardly_anything_else() {
    finds("DOMAIN_NAME", "see https://turner.com/?", "https://turner.com/");
    finds("DOMAIN_NAME", "see https://turner.co.uk/a/b?c", "https://turner.co.uk");
    finds("DOMAIN_NAME", "ramirez-smith.com was first", "ramirez-smith.com");
    finds("DOMAIN_NAME", "go to www.example.org.", "www.example.org");
    finds_nothing("main.rs, console.info(x), ASP.NET, http://localhost:80, e.g.this, os.path.join, a.com");
    finds_nothing("foo.com(1) and my_app.org_x");
}

#[test]
fn a_telephone_number_has_a_code_a_form_or_a_label() {
    finds("PHONE_NUMBER", "call +49 (0)30 1234567!", "+49 (0)30 1234567");
    finds("PHONE_NUMBER", "(415) 555-0132x99 is hers", "(415) 555-0132x99");
    finds("PHONE_NUMBER", "001-535-555-0140", "001-535-555-0140");
    finds("PHONE_NUMBER", "202.555.1754", "202.555.1754");
    finds("PHONE_NUMBER", "Tel.: 030 123 45 67", "030 123 45 67");
    finds("PHONE_NUMBER", "my phone number is 5636729234", "5636729234");
    finds_nothing("5636729234, 415 555 0132, 1 + 12345678, 2021-05-06, 12.345.678-90, +5, 100-200-3000-1");
}

#[test]
fn the_surer_pattern_takes_what_several_claim() {
    assert_eq!(
        found("bob@example.com, http://203.0.113.9/ and https://a.example.net/x"),
        [
            ("EMAIL_ADDRESS", "bob@example.com"),
            ("IP_ADDRESS", "203.0.113.9"),
            ("DOMAIN_NAME", "https://a.example.net"),
        ]
    );
}

#[test]
fn the_time_grows_with_the_text_alone() {
    let bait = [
        "1 ",
        "4111 ",
        "4111-",
        "a.",
        "a@",
        "a@b.cc.1",
        "+1 ",
        "(1",
        "1.",
        "ab:",
        "DE89 ",
        "::",
        "http://a.",
        "_",
        "eyJ",
        "sk-",
        "x://a:",
        "password: ",
        "secret_",
        "-----BEGIN PRIVATE KEY-----",
        "Server=a;",
        "00:1b:",
    ];
    for bait in bait {
        let text = bait.repeat((1 << 16) / bait.len());
        let start = Instant::now();
        hits(&text);
        assert!(start.elapsed() < Duration::from_secs(10), "{bait:?} took {:?}", start.elapsed());
    }
}

#[test]
fn every_kind_that_a_policy_may_name_is_found_and_no_other() {
    let key = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8";
    let text = format!(
        "ghp_{key} AIza{}; 11.222.333/0001-81; 529.982.247-25; redis://:p4ss0rd9@mq/0 ; 4111111111111111; \
         1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa; Steuer-ID 86095742719; https://turner.com/x; jo@example.org; X1234567L; \
         12345678-Z; 2 55 08 14 168 025 38; DE89370400440532013000; Aadhaar 2363 9042 8914; 10.0.1.40; \
         00:1b:44:11:3a:b7; password: hunter2!; +49 30 1234567; -----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE \
         KEY-----; NHS 943 476 5919; passport C01234567; 536-22-1234; VAT DE136695976",
        &key[..35]
    );
    let kinds: BTreeSet<&str> = hits(&text).into_iter().map(|hit| hit.kind).collect();
    assert_eq!(kinds, BTreeSet::from(signalbox_policy::PATTERN_PII_KINDS));
}

proptest! {
    #[test]
    fn hits_lie_on_characters_in_order_and_apart(
        text in r"([0-9]{1,4}|[ .:@/+()-]|[a-z]{1,5}|4111 1111 1111 1111|jo@x\.org|10\.1\.2\.3|[äß字ไé😀\u{a0}]){0,40}",
    ) {
        let mut end = 0;
        for hit in hits(&text) {
            prop_assert!(end <= hit.bytes.start && hit.bytes.start < hit.bytes.end);
            prop_assert!(text.get(hit.bytes.clone()).is_some());
            end = hit.bytes.end;
        }
    }

    #[test]
    fn no_text_at_all_upsets_the_patterns(text in any::<String>()) {
        hits(&text);
    }
}
