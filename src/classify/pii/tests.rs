//! How labels become entities, across windows and beside patterns, for any Unicode.

use proptest::prelude::*;

use super::*;

const LABELS: [&str; 7] =
    ["O", "B-PERSON", "I-PERSON", "B-GPE", "I-GPE", "B-EMAIL_ADDRESS", "I-EMAIL_ADDRESS"];

fn labels() -> Vec<Arc<str>> {
    LABELS.map(Arc::from).to_vec()
}

/// A window of tokens, each with its label and probability; every token is the next place where its text stands.
#[derive(Debug)]
struct Tokens {
    bytes: Vec<Range<usize>>,
    found: Vec<(u16, f32)>,
}

impl Tokens {
    fn new(text: &str, from: usize, tokens: &[(&str, &str, f32)]) -> Self {
        let mut at = from;
        let mut window = Self { bytes: Vec::new(), found: Vec::new() };
        for (token, label, probability) in tokens {
            let start = at + text[at..].find(token).expect("the token stands in the text");
            at = start + token.len();
            let label = LABELS.iter().position(|known| known == label).expect("a known label");
            window.bytes.push(start..at);
            window.found.push((u16::try_from(label).unwrap(), *probability));
        }
        window
    }

    fn window(&self) -> PiiWindow<'_> {
        PiiWindow { bytes: self.bytes.clone(), labels: &self.found }
    }
}

fn found<'a>(text: &'a str, windows: &[Tokens], threshold: f32) -> Vec<(String, &'a str)> {
    let windows: Vec<PiiWindow<'_>> = windows.iter().map(Tokens::window).collect();
    let entities = entities(text, &windows, &labels(), threshold);
    entities.into_iter().map(|entity| (entity.kind.to_string(), &text[entity.bytes])).collect()
}

fn person(name: &str) -> (String, &str) {
    ("PERSON".to_owned(), name)
}

fn gpe(name: &str) -> (String, &str) {
    ("GPE".to_owned(), name)
}

#[test]
fn entities_begin_at_b_and_go_on_with_i() {
    let text = "Ann Lee met Bob Ray in Rome";
    let window = Tokens::new(
        text,
        0,
        &[
            ("Ann", "B-PERSON", 0.9),
            ("Lee", "I-PERSON", 0.9),
            ("met", "O", 0.9),
            ("Bob", "B-PERSON", 0.9),
            ("Ray", "B-PERSON", 0.9),
            ("in", "O", 0.9),
            ("Rome", "B-GPE", 0.9),
        ],
    );
    assert_eq!(found(text, &[window], 0.5), [person("Ann Lee"), person("Bob"), person("Ray"), gpe("Rome")]);
}

#[test]
fn an_i_without_a_b_or_of_another_kind_begins_an_entity() {
    let text = "to Ann Rome";
    let window = Tokens::new(text, 0, &[("to", "O", 0.9), ("Ann", "I-PERSON", 0.9), ("Rome", "I-GPE", 0.9)]);
    assert_eq!(found(text, &[window], 0.5), [person("Ann"), gpe("Rome")]);
}

#[test]
fn the_tokens_of_a_word_have_one_label_by_their_weight() {
    let text = "Schwarzenegger, (Jon";
    let window = Tokens::new(
        text,
        0,
        &[
            ("Sch", "B-PERSON", 0.9),
            ("war", "B-GPE", 0.4),
            ("zen", "I-PERSON", 0.8),
            ("egger", "O", 0.6),
            (",", "I-PERSON", 0.5),
            ("(", "I-PERSON", 0.5),
            ("Jon", "I-PERSON", 0.9),
        ],
    );
    // (0.9 + 0.8) / 4 for the first word.
    let one = [window];
    assert_eq!(found(text, &one, 0.5), [person("Schwarzenegger, (Jon")]);
    assert_eq!(found(text, &one, 0.7), []);
}

#[test]
fn a_hyphen_between_letters_parts_no_word() {
    let text = "Ann Parker-Jones, 5-7";
    let window = Tokens::new(
        text,
        0,
        &[
            ("Ann", "B-PERSON", 0.9),
            ("Parker", "I-PERSON", 0.9),
            ("-", "O", 0.5),
            ("Jones", "B-GPE", 0.6),
            (",", "O", 0.9),
            ("5", "B-GPE", 0.9),
            ("-", "B-PERSON", 0.9),
            ("7", "O", 0.9),
        ],
    );
    assert_eq!(found(text, &[window], 0.5), [person("Ann Parker-Jones"), gpe("5")]);
}

#[test]
fn labels_without_letters_and_other_letters_are_read_too() {
    let labels = ["NO_PII", "PERSON", "E-PERSON", "S-GPE", "B-NO_PII"].map(Arc::from);
    let text = "x Ann Lee Rome Bonn y";
    let bytes = [0..1, 2..5, 6..9, 10..14, 15..19, 20..21];
    let found = [(0, 0.9), (1, 0.9), (2, 0.9), (3, 0.9), (3, 0.9), (4, 0.9)];
    let entities = entities(text, &[PiiWindow { bytes: bytes.to_vec(), labels: &found }], &labels, 0.5);
    let parts: Vec<_> = entities.iter().map(|entity| (&*entity.kind, &text[entity.bytes.clone()])).collect();
    assert_eq!(parts, [("PERSON", "Ann Lee"), ("GPE", "Rome"), ("GPE", "Bonn")]);
}

#[test]
fn scripts_without_spaces_are_not_read_as_one_word() {
    let text = "我叫张伟";
    let tokens = [("我", "O", 0.9), ("叫", "O", 0.9), ("张", "B-PERSON", 0.9), ("伟", "I-PERSON", 0.9)];
    assert_eq!(found(text, &[Tokens::new(text, 0, &tokens)], 0.5), [person("张伟")]);
}

#[test]
fn marks_around_an_entity_are_left_out() {
    let text = "\"Ann Lee\"), (Bonn) [x";
    let window = Tokens::new(
        text,
        0,
        &[
            ("\"Ann", "B-PERSON", 0.9),
            ("Lee\"),", "I-PERSON", 0.9),
            ("(Bonn)", "B-GPE", 0.9),
            ("[x", "B-GPE", 0.9),
        ],
    );
    assert_eq!(found(text, &[window], 0.5), [person("Ann Lee"), gpe("(Bonn)"), gpe("x")]);
}

#[test]
fn windows_are_joined_where_they_saw_the_same_entity() {
    let text = "we met Ann Marie Lee there";
    let first = [("we", "O", 0.9), ("met", "O", 0.9), ("Ann", "B-PERSON", 0.8), ("Marie", "I-PERSON", 0.8)];
    let second = [("Marie", "I-PERSON", 0.7), ("Lee", "I-PERSON", 0.7), ("there", "O", 0.9)];
    let windows = [Tokens::new(text, 11, &second), Tokens::new(text, 0, &first)];
    assert_eq!(found(text, &windows, 0.5), [person("Ann Marie Lee")]);
}

#[test]
fn where_windows_overlap_the_one_with_more_around_decides() {
    let text = "a1 b2 c3 d4 Rome e5 f6 g7 h8";
    let o = |token| (token, "O", 0.9);
    let wrong = ("Rome", "B-GPE", 0.9);
    // To the second window `Rome` is the first word, to the first one it is not.
    let first =
        Tokens::new(text, 0, &[o("a1"), o("b2"), o("c3"), o("d4"), o("Rome"), o("e5"), o("f6"), o("g7")]);
    let second = Tokens::new(text, 12, &[wrong, o("e5"), o("f6"), o("g7"), o("h8")]);
    assert_eq!(found(text, &[first, second], 0.5), []);
}

#[test]
fn kinds_in_conflict_yield_to_the_surer_one() {
    let text = "in New York City now";
    let first = [("in", "O", 0.9), ("New", "B-PERSON", 0.6), ("York", "I-PERSON", 0.6)];
    let second = [("York", "B-GPE", 0.9), ("City", "I-GPE", 0.9), ("now", "O", 0.9)];
    let windows = [Tokens::new(text, 0, &first), Tokens::new(text, 7, &second)];
    assert_eq!(found(text, &windows, 0.5), [person("New"), gpe("York City")]);
}

#[test]
fn a_pattern_overrules_the_model_and_leaves_it_the_rest() {
    let text = "Ann Lee ann@example.com";
    let all = [("Ann", "B-PERSON", 0.9), ("Lee", "I-PERSON", 0.9), ("ann@example.com", "I-PERSON", 0.9)];
    let email = ("EMAIL_ADDRESS".to_owned(), "ann@example.com");
    assert_eq!(found(text, &[Tokens::new(text, 0, &all)], 0.5), [person("Ann Lee"), email.clone()]);
    let own = [("Lee ann@example.com", "B-EMAIL_ADDRESS", 0.9)];
    assert_eq!(found(text, &[Tokens::new(text, 0, &own)], 0.5), std::slice::from_ref(&email));
    assert_eq!(found(text, &[], 0.5), [email]);
}

#[test]
fn characters_are_counted_whatever_they_are_made_of() {
    let text = "👩‍👩‍👧 Zoë, e\u{301}é 10.1.2.3";
    let entities =
        entities(text, &[Tokens::new(text, 0, &[("Zoë", "B-PERSON", 0.9)]).window()], &labels(), 0.5);
    let chars: Vec<char> = text.chars().collect();
    let parts: Vec<String> =
        entities.iter().map(|entity| chars[entity.chars.clone()].iter().collect()).collect();
    assert_eq!(parts, ["Zoë", "10.1.2.3"]);
}

/// Any text, and windows of tokens over it whose places need not even be characters.
fn cases() -> impl Strategy<Value = (String, Vec<Tokens>)> {
    let piece = r"[a-c]{1,4}|[ .,()]|jo@x\.org|10\.1\.2\.3|[äß字ไé😀\u{a0}\u{301}]|\PC";
    let text = prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat());
    text.prop_flat_map(|text| {
        let most = text.len() + 2;
        let token = (0..most, 0..6_usize, 0..9_u16, prop_oneof![0.0..1.0_f32, Just(f32::NAN)]);
        let window = prop::collection::vec(token, 0..12).prop_map(|mut tokens| {
            tokens.sort_by_key(|(start, ..)| *start);
            Tokens {
                bytes: tokens.iter().map(|(start, length, ..)| *start..start + length).collect(),
                found: tokens.iter().map(|(_, _, label, probability)| (*label, *probability)).collect(),
            }
        });
        (Just(text), prop::collection::vec(window, 0..4))
    })
}

proptest! {
    #[test]
    fn entities_are_in_order_apart_and_on_characters((text, windows) in cases(), threshold in 0.0..1.0_f32) {
        let windows: Vec<PiiWindow<'_>> = windows.iter().map(Tokens::window).collect();
        let entities = entities(&text, &windows, &labels(), threshold);
        let mut end = 0;
        for entity in &entities {
            prop_assert!(end <= entity.bytes.start && entity.bytes.start < entity.bytes.end);
            end = entity.bytes.end;
            let part = text.get(entity.bytes.clone());
            prop_assert!(part.is_some_and(|part| part.trim() == part), "{part:?}");
            let by_chars: String = text.chars().skip(entity.chars.start).take(entity.chars.len()).collect();
            prop_assert_eq!(part, Some(by_chars.as_str()));
            prop_assert!((0.0..=1.0).contains(&entity.confidence));
            prop_assert!(entity.by == EntitySource::Pattern || entity.confidence >= threshold);
        }
    }
}
