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

fn read(list: &Keywords, text: &str) -> Reading {
    let lexicons = Lexicon::all(std::iter::once((SignalId(0), list)));
    let mut hits = lexicons[0].nothing();
    lexicons[0].search(text, &mut hits);
    lexicons[0].read(list.scope, &hits, |_| true).next().unwrap().1
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
        (reading.matches, reading.score, reading.why.to_string())
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
    let far = format!("{} refnd", "x ".repeat(MAX_NEAR / 2));
    assert!(!near(&["refund"], 1, &far) && near(&["refund"], 1, &format!("{far} refund")));
}

#[test]
fn lists_that_are_read_alike_share_one_walk() {
    let (a, b) = (keywords(&["a", "b"]), Keywords { need: Need::All, ..keywords(&["b", "c"]) });
    let all = Keywords { scope: Scope::Conversation, ..keywords(&["c"]) };
    let exact = Keywords { case: Case::Sensitive, ..keywords(&["A"]) };
    let lists = [&a, &b, &all, &exact];
    let lexicons = Lexicon::all(lists.into_iter().enumerate().map(|(id, list)| (SignalId(id), list)));
    assert_eq!(lexicons.len(), 2);
    let mut hits = lexicons[0].nothing();
    lexicons[0].search("b c", &mut hits);
    let of = |scope| {
        let read = lexicons[0].read(scope, &hits, |_| true);
        read.map(|(id, reading)| (id.0, reading.score)).collect::<Vec<_>>()
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
    let lexicons = Lexicon::all(lists.iter().enumerate().map(|(id, list)| (SignalId(id), list)));
    let mut hits = lexicons[0].nothing();
    lexicons[0].search("a0 a2 b0 b60 b61 b124 b125 b199 c0 c60 d0 d63 e0", &mut hits);
    let read = lexicons[0].read(Scope::Prompt, &hits, |id| id.0 != 2);
    let found: Vec<String> = read.map(|(id, reading)| format!("{} {}", id.0, reading.why)).collect();
    assert_eq!(found, ["0 2 of 3", "1 6 of 200", "3 2 of 64", "4 1 of 1"]);
}

#[test]
fn work_grows_with_the_text_and_not_with_the_lists() {
    let steps = |words: usize, repeat: usize| {
        let words: Vec<String> = (0..words).map(|at| format!("word{at} and {at}")).collect();
        let list = Keywords { words, ..keywords(&[]) };
        let lexicons = Lexicon::all(std::iter::once((SignalId(0), &list)));
        let mut hits = lexicons[0].nothing();
        lexicons[0].search(&"word1 and word2 and 2 ".repeat(repeat), &mut hits);
        hits.steps
    };
    assert_eq!(steps(10, 1000), steps(5000, 1000));
    let (once, twice) = (steps(10, 1000), steps(10, 2000));
    assert!(once > 1000 && twice <= 2 * once + 10, "{once} {twice}");
    // However a text repeats the start of a phrase, each word costs at most as many steps as the phrase has words.
    let phrase = ["a"; 100].join(" ");
    let lexicons = [keywords(&[&phrase])];
    let lexicons = Lexicon::all(lexicons.iter().map(|list| (SignalId(0), list)));
    let mut hits = lexicons[0].nothing();
    lexicons[0].search(&"a ".repeat(5000), &mut hits);
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
        prop_assert_eq!(reading.why, Why::Found { hits: expected, of: words.len() });
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
}
