//! What counts as a keyword's occurrence, against a naive reader too, and how much work it is.

use proptest::prelude::*;

use super::*;

fn keywords(words: &[&str]) -> Keywords {
    Keywords {
        words: words.iter().map(|word| (*word).to_owned()).collect(),
        need: Need::Any,
        case: Case::Ignored,
        max_edits: 0,
        scope: Scope::Prompt,
    }
}

fn matchers<'p>(lists: impl IntoIterator<Item = &'p Keywords>) -> Vec<KeywordMatcher> {
    KeywordMatcher::all(lists.into_iter().enumerate().map(|(id, list)| (SignalId(id), list))).unwrap()
}

fn hits(matcher: &KeywordMatcher, text: &str) -> KeywordHits {
    let mut hits = matcher.no_hits();
    matcher.search(text, &mut hits);
    hits
}

fn read(list: &Keywords, text: &str) -> SignalValue {
    let matcher = &matchers([list])[0];
    matcher.values(list.scope, &hits(matcher, text), |_| true).next().unwrap().1
}

fn finds(keyword: &str, text: &str) -> bool {
    read(&keywords(&[keyword]), text).matches
}

#[test]
fn a_keyword_is_found_as_a_whole_word() {
    for (keyword, text) in [
        ("think", "Think!"),
        ("think", "do you (think) so"),
        ("step by step", "Step  by\n\tSTEP."),
        ("c++", "in C++?"),
        ("c++", "c++11"),
        (".net", "asp.net"),
        ("don't", "I DON'T"),
        ("é", "É"),
        ("straße", "STRASSE"),
        ("退款", "我要退款谢谢"),
        ("คืนเงิน", "ขอคืนเงินครับ"),
        ("クレジット カード", "クレジット　カード"),
        ("Python", "Python으로 짜 줘"),
        ("환불", "환불을 원해요"),
        ("환불", "\u{1112}\u{116a}\u{11ab}\u{1107}\u{116e}\u{11af}\u{110b}\u{1173}\u{11af}"),
        ("Zürich", "in Zu\u{308}rich"),
        ("cafe\u{301}", "CAFÉ au lait"),
        ("が", "\u{304b}\u{3099}"),
        ("a b", "x a b"),
        ("a b c", "a b a b c"),
    ] {
        assert!(finds(keyword, text), "{keyword} in {text}");
    }
    for (keyword, text) in [
        ("think", "rethink thinking think_1"),
        ("step by step", "step by steps"),
        ("c++", "objc++"),
        ("c++", "c ++"),
        ("a b", "ab a.b"),
        ("ab", "a b"),
        ("cafe", "cafe\u{301}"),
        ("x", ""),
    ] {
        assert!(!finds(keyword, text), "{keyword} in {text}");
    }
}

#[test]
fn any_all_and_none_have_their_scores() {
    let with = |need, text| {
        let reading = read(&Keywords { need, ..keywords(&["a", "b c", "d", "e"]) }, text);
        (reading.matches, reading.score, reading.reason.to_string())
    };
    assert_eq!(with(Need::Any, "a a"), (true, 0.625, "1 of 4".to_owned()));
    assert_eq!(with(Need::Any, "z"), (false, 0.0, "0 of 4".to_owned()));
    assert_eq!(with(Need::All, "e d b c a"), (true, 1.0, "4 of 4".to_owned()));
    assert_eq!(with(Need::All, "e d b c"), (false, 0.0, "3 of 4".to_owned()));
    assert_eq!(with(Need::None, "z"), (true, 1.0, "0 of 4".to_owned()));
    assert_eq!(with(Need::None, "d"), (false, 0.0, "1 of 4".to_owned()));
}

#[test]
fn case_matters_where_the_list_says_so() {
    let list = Keywords { case: Case::Sensitive, ..keywords(&["US"]) };
    assert!(read(&list, "the US.").matches && !read(&list, "tell us").matches);
}

#[test]
fn a_few_letters_may_differ_in_words_that_are_long_enough() {
    let near =
        |words: &[&str], max_edits, text| read(&Keywords { max_edits, ..keywords(words) }, text).matches;
    assert!(near(&["refund"], 1, "I want a REFNUD or a refnd"));
    assert!(!near(&["refund"], 1, "I want a refnud"));
    assert!(near(&["refund"], 2, "I want a refnud"));
    assert!(near(&["step by step"], 1, "stepp by stap"));
    assert!(!near(&["to do"], 3, "ti da"), "short words must be equal");
    assert!(near(&["to do"], 3, "to do"));
    let far = format!("{} refnd", "x ".repeat(fuzzy::MAX_BYTES / 2));
    assert!(!near(&["refund"], 1, &far) && near(&["refund"], 1, &format!("{far} refund")));
}

#[test]
fn lists_that_are_read_alike_share_one_walk() {
    let (a, b) = (keywords(&["a", "b"]), Keywords { need: Need::All, ..keywords(&["b", "c"]) });
    let all = Keywords { scope: Scope::Conversation, ..keywords(&["c"]) };
    let exact = Keywords { case: Case::Sensitive, ..keywords(&["A"]) };
    let lists = [&a, &b, &all, &exact];
    let matchers = matchers(lists);
    assert_eq!(matchers.len(), 2);
    let hits = hits(&matchers[0], "b c");
    let of = |scope| {
        let values = matchers[0].values(scope, &hits, |_| true);
        values.map(|(id, value)| (id.0, value.score)).collect::<Vec<_>>()
    };
    assert_eq!(of(Scope::Prompt), [(0, 0.75), (1, 1.0)]);
    assert_eq!(of(Scope::Conversation), [(2, 1.0)]);
}

#[test]
fn long_lists_beside_each_other_keep_their_hits() {
    let list = |name: &str, count: usize| {
        let words = (0..count).map(|at| format!("{name}{at}")).collect();
        Keywords { words, ..keywords(&[]) }
    };
    let lists = [list("a", 3), list("b", 200), list("c", 61), list("d", 64), list("e", 1)];
    let matcher = &matchers(&lists)[0];
    let hits = hits(matcher, "a0 a2 b0 b60 b61 b124 b125 b199 c0 c60 d0 d63 e0");
    let values = matcher.values(Scope::Prompt, &hits, |id| id.0 != 2);
    let found: Vec<String> = values.map(|(id, value)| format!("{} {}", id.0, value.reason)).collect();
    assert_eq!(found, ["0 2 of 3", "1 6 of 200", "3 2 of 64", "4 1 of 1"]);
}

#[test]
fn work_grows_with_the_text_and_not_with_the_lists() {
    let steps = |words: usize, repeat: usize| {
        let words: Vec<String> = (0..words).map(|at| format!("word{at} and {at}")).collect();
        let list = Keywords { words, ..keywords(&[]) };
        hits(&matchers([&list])[0], &"word1 and word2 and 2 ".repeat(repeat)).steps
    };
    assert_eq!(steps(10, 1000), steps(5000, 1000));
    let (once, twice) = (steps(10, 1000), steps(10, 2000));
    assert!(once > 1000 && twice <= 2 * once + 10, "{once} {twice}");
    // However a text repeats the start of a phrase, each word costs at most as many steps as the phrase has words.
    let phrase = ["a"; 100].join(" ");
    let hits = hits(&matchers([&keywords(&[&phrase])])[0], &"a ".repeat(5000));
    assert!(hits.steps <= 5000 * 101, "{}", hits.steps);
}

/// Tries a keyword at every place of a text, character by character.
fn naive(keyword: &str, text: &str) -> bool {
    let is_letter = |c: &char| c.is_ascii_alphanumeric() || *c == '_' || *c == 'é' || *c == 'É';
    let fold = |text: &str| text.to_lowercase().chars().collect::<Vec<char>>();
    let (keyword, text) = (fold(keyword.trim()), fold(text));
    let fits = |start: usize| {
        let (mut at, mut k) = (start, 0);
        while k < keyword.len() {
            if keyword[k].is_whitespace() {
                let spaces = |chars: &[char], from: usize| {
                    chars[from..].iter().take_while(|c| c.is_whitespace()).count()
                };
                let there = spaces(&text, at);
                if there == 0 {
                    return false;
                }
                (at, k) = (at + there, k + spaces(&keyword, k));
                continue;
            }
            if text.get(at) != Some(&keyword[k]) {
                return false;
            }
            (at, k) = (at + 1, k + 1);
        }
        let beside = |inner: Option<&char>, outer: Option<&char>| {
            inner.is_some_and(is_letter) && outer.is_some_and(is_letter)
        };
        let before = start.checked_sub(1).and_then(|before| text.get(before));
        !beside(keyword.first(), before) && !beside(keyword.last(), text.get(at))
    };
    (0..text.len()).any(fits)
}

proptest! {
    #[test]
    fn keywords_are_found_where_a_naive_reader_finds_them(
        list in prop::collection::vec("[aAbÉé+ ]{0,3}[ab+.][ \tab+é]{0,3}", 1..6),
        text in "[aAbBéÉ+. \n]{0,24}",
    ) {
        let words: Vec<&str> = list.iter().map(String::as_str).collect();
        let reading = read(&keywords(&words), &text);
        let expected = words.iter().filter(|word| naive(word, &text)).count();
        prop_assert_eq!(reading.reason, SignalReason::Hits { hits: expected, of: words.len() });
    }

    #[test]
    fn no_text_and_no_keyword_breaks_the_walk(
        words in prop::collection::vec("\\PC{1,12}", 1..5), text in "\\PC{0,80}", max_edits in 0..4_u8,
    ) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let list = Keywords { max_edits, ..keywords(&words) };
        let found = read(&list, &text);
        prop_assert!((0.0..=1.0).contains(&found.score));
        // Whatever a keyword is, it occurs in itself.
        for word in words.iter().filter(|word| !word.trim().is_empty()) {
            prop_assert!(read(&list, word).matches, "{:?}", word);
        }
    }
    /// The walk over all words is the plain way, which the automaton must agree with.
    #[test]
    fn the_automaton_finds_what_a_walk_over_all_words_finds(
        list in prop::collection::vec("[a-cABß'é+ -]{0,5}[abß+退ก.][ \tab+é退-]{0,4}", 1..30),
        text in "[a-cABßẞéÉ'+. \n\u{2003}退款กา-]{0,60}",
        case in prop::sample::select(vec![Case::Ignored, Case::Sensitive]),
    ) {
        let words: Vec<&str> = list.iter().map(String::as_str).collect();
        let list = Keywords { case, ..keywords(&words) };
        let matcher = &matchers([&list])[0];
        let mut phrases = PhraseTrie::default();
        for (keyword, word) in (0..).zip(&words) {
            phrases.insert(&comparable(word, case), keyword);
        }
        let mut walked = matcher.no_hits();
        FuzzySearch::new(phrases, 0).search(&comparable(&text, case), &mut walked);
        prop_assert_eq!(hits(matcher, &text).bits, walked.bits, "{:?} in {:?}", words, text);
    }

    /// What is written in another case or another kind of white space is the same text.
    #[test]
    fn any_text_holds_what_it_is_made_of(
        words in prop::collection::vec("\\PC{1,6}", 1..24), separator in "[ \n,]{1,3}",
    ) {
        let list: Vec<&str> = words.iter().map(|word| word.trim()).filter(|word| !word.is_empty()).collect();
        prop_assume!(!list.is_empty());
        let text = list.join(&separator);
        let found = hits(&matchers([&keywords(&list)])[0], &text.to_uppercase()).bits[0].count_ones();
        prop_assert!(found >= list.len() as u32, "{:?}", text);
    }
}
