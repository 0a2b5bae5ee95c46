//! Pairs of texts that an embedding sees as near, some of which ask for the same.

use super::is_same_question;
use super::tables::OPPOSITES;
use proptest::prelude::*;

/// Pairs that differ in what an answer depends on.
const DIFFERENT: &[(&str, &str)] = &[
    ("How do I enable 2FA?", "How do I disable 2FA?"),
    ("How do I role on 2FA?", "How do I role 2FA off?"),
    ("Turn the lights on", "Turn the lights off"),
    ("how to install docker", "how to uninstall docker"),
    ("How do I log in?", "How do I log out?"),
    ("Is it safe to eat raw eggs?", "Is it not safe to eat raw eggs?"),
    ("Why does my code compile?", "Why doesn't my code compile?"),
    ("Should I ever reboot it?", "Should I never reboot it?"),
    ("coffee with milk recipe", "coffee without milk recipe"),
    ("What foods contain gluten?", "What foods contain no gluten?"),
    ("What is 15% of 200?", "What is 15% of 300?"),
    ("What is 15% of 200?", "What is 200% of 15?"),
    ("list three uses of baking soda", "list five uses of baking soda"),
    ("Who won the 2018 world cup?", "Who won the 2022 world cup?"),
    ("What happened on 2024-01-05?", "What happened on 2024-05-01?"),
    ("What changed in Python 3.1?", "What changed in Python 3.10?"),
    ("Convert 5 km to miles", "Convert 5 miles to km"),
    ("Convert 5 km to miles", "Convert 5 kg to pounds"),
    ("convert json to yaml", "convert yaml to json"),
    ("Flights from Paris to London", "Flights from London to Paris"),
    ("Translate from English to French", "Translate from French to English"),
    ("What's the capital of France?", "What's the capital of Germany?"),
    ("capital of france", "capital of spain"),
    ("Is Alice taller than Bob?", "Is Bob taller than Alice?"),
    ("dog bites man", "man bites dog"),
    ("Does a cat chase a dog?", "Does a dog chase a cat?"),
    ("products for more than $50", "products for less than $50"),
    ("products for at least $50", "products for at most $50"),
    ("items costing $50", "items costing €50"),
    ("What is the minimum age to drive?", "What is the maximum age to drive?"),
    ("How do I increase swap space?", "How do I decrease swap space?"),
    ("What should I eat before a run?", "What should I eat after a run?"),
    ("Should I buy Tesla stock?", "Should I sell Tesla stock?"),
    ("How do I add a user?", "How do I remove a user?"),
    ("How do I allow port 80?", "How do I deny port 80?"),
    ("How do I open a ticket?", "How do I close a ticket?"),
    ("How do I start nginx?", "How do I stop nginx?"),
    ("how does `foo()` work", "how does `bar()` work"),
    ("What is in /etc/hosts?", "What is in /etc/passwd?"),
    ("Explain main.rs", "Explain lib.rs"),
    ("Summarise https://a.example/x", "Summarise https://a.example/y"),
    ("What does \"hola\" mean?", "What does \"adios\" mean?"),
    ("How do I sort a list in C?", "How do I sort a list in C++?"),
    ("How do I sort a list in C++?", "How do I sort a list in C#?"),
    ("Who is the president of the US?", "Who was the president of the US?"),
    ("When was the bridge built?", "When will the bridge be built?"),
    ("When did the war start?", "Where did the war start?"),
    ("When did the war start?", "Why did the war start?"),
    ("What is my name?", "What is your name?"),
    ("Who are you?", "Who am I?"),
    ("Can I freeze bread?", "How can I freeze bread?"),
    ("Can I freeze bread?", "Should I freeze bread?"),
    ("How much does it cost?", "How long does it take?"),
    ("best pizza in Rome", "best vegan pizza in Rome"),
    ("average salary of a nurse", "average salary of a nurse in Texas"),
    ("Is this legal?", "Is this illegal?"),
    ("sort ascending in SQL", "sort descending in SQL"),
    ("tell me about the US", "tell me about us"),
    ("5 + 3", "5 - 3"),
    ("Is x > y?", "Is x < y?"),
    ("30 seconds", "32"),
    ("What is the advantage of REST?", "What is the disadvantage of REST?"),
    ("email to my boss about my ill mother", "email to my boss about my ill father"),
    ("Wie aktiviere ich das nicht?", "Wie aktiviere ich das?"),
    ("谁是法国总统", "谁是德国总统"),
    ("three apples and five pears", "three pears and five apples"),
    ("unlock my phone", "lock my phone"),
    ("Who is Anna's doctor?", "Who is the doctor's Anna?"),
    ("Who directed Alien?", "Who directed Aliens?"),
    ("Who owns the newspaper?", "Who owned the newspaper?"),
    ("Which cells carry oxygen to tissue?", "Which cells carry oxygen from tissue?"),
];

/// Pairs that one answer serves.
const SAME: &[(&str, &str)] = &[
    ("what's the capital of France", "Which city is the capital of France?"),
    ("What is the capital of France?", "what is France's capital"),
    ("What's the capital of France?", "Tell me the capital of France."),
    ("How do I enable 2FA?", "How can I role on 2FA?"),
    ("How do I enable 2FA?", "how to activate 2FA"),
    ("How do I enable two-factor authentication?", "What is the best way to enable 2FA?"),
    ("How do I disable 2FA?", "How can I role 2FA off?"),
    ("How do I reset my password?", "What's the way to reset my password?"),
    ("How can I reset my Gmail password?", "How do I reset the password for Gmail?"),
    ("Explain recursion", "What is recursion?"),
    ("Could you explain recursion?", "Please explain recursion."),
    ("Can you tell me how to boil an egg?", "How do you boil eggs?"),
    ("How do I fix a flat tire?", "How do I repair a flat tire?"),
    ("How do I delete a branch in git?", "How can I remove a git branch?"),
    ("How do I get rid of ants?", "How to remove ants"),
    ("sort a list in Python", "How do I sort a Python list?"),
    ("In Python, how do I sort a list?", "How do I sort a list in Python?"),
    ("Who won the 2018 World Cup?", "who won the world cup in 2018"),
    ("How many people live in Berlin?", "What is the number of people who live in Berlin?"),
    ("Why is the sky blue?", "What is the reason the sky is blue?"),
    ("Why is the sky blue?", "How come the sky is blue?"),
    ("I can't log in", "I am unable to log in"),
    ("I want to buy a car", "I would like to purchase a car"),
    ("How do I install Docker on Ubuntu?", "how to install docker on ubuntu"),
    ("What is 2,000 times 3?", "what is 2000 times three"),
    ("List five uses of baking soda", "list 5 uses of baking soda please"),
    ("Convert 5 km to miles", "How do I convert 5 kilometers to miles?"),
    ("Hi, how do I cancel my order?", "How can I cancel my order? Thanks"),
    ("Is it safe to eat raw eggs?", "Are raw eggs safe to eat?"),
    ("What is the difference between TCP and UDP?", "How do TCP and UDP differ?"),
    ("How do I set up a VPN?", "How to set up a VPN"),
    ("When does the store open?", "What time does the shop open?"),
    ("What’s the price of gold?", "What does the cost of gold be"),
    ("How do I speed up my computer?", "i want to speed up my computer"),
    ("give me an explanation of photosynthesis", "explain photosynthesis"),
    ("How do I change my email?", "How do I modify my email?"),
];

#[test]
fn texts_that_differ_in_a_number_a_name_or_a_side_do_not_ask_the_same() {
    let wrong: Vec<_> =
        DIFFERENT.iter().filter(|(a, b)| is_same_question(a, b) || is_same_question(b, a)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn texts_that_say_the_same_in_other_words_ask_the_same() {
    let wrong: Vec<_> =
        SAME.iter().filter(|(a, b)| !is_same_question(a, b) || !is_same_question(b, a)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_word_of_a_side_stands_for_one_of_the_other() {
    for (one, other) in OPPOSITES {
        for a in one.split(' ') {
            for b in other.split(' ') {
                let text = |word: &str| format!("how is {word} the thing");
                assert!(!is_same_question(&text(a), &text(b)) || a == b, "{a} and {b}");
            }
        }
    }
}

#[test]
fn a_text_without_content_asks_for_nothing_that_another_does() {
    for text in ["", "?", "How do you do this?", "hi"] {
        assert!(!is_same_question(text, "") && !is_same_question(text, "What is it?"), "{text}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_and_both_ways_agree(a in ".{0,60}", b in ".{0,60}") {
        prop_assert_eq!(is_same_question(&a, &b), is_same_question(&b, &a));
    }

    #[test]
    fn signs_of_code_are_read(a in "[a-c0-9 .,'`\"/$%+<>=-]{0,40}", b in "[a-c0-9 .,'`\"/$%+<>=-]{0,40}") {
        prop_assert_eq!(is_same_question(&a, &b), is_same_question(&b, &a));
    }

    #[test]
    fn another_number_is_another_question(a in 0_u32..5000, b in 0_u32..5000) {
        let text = |number| format!("How many legs do {number} spiders have?");
        prop_assert_eq!(is_same_question(&text(a), &text(b)), a == b);
    }

    #[test]
    fn a_word_more_or_less_is_another_question(words in prop::collection::vec("zq[a-z]{3,6}", 2..9), at in 0_usize..8) {
        let mut fewer = words.clone();
        let gone = fewer.remove(at % words.len());
        prop_assume!(!fewer.contains(&gone));
        prop_assert!(is_same_question(&words.join(" "), &words.join(" ")));
        prop_assert!(!is_same_question(&words.join(" "), &fewer.join(" ")));
    }
}

#[test]
fn words_leave_open_what_differs_in_words_alone() {
    use super::may_be_paraphrase;
    for (one, other) in [
        ("Boil an egg for 5 minutes", "How is an egg boiled five minutes?"),
        ("What does `grep -v` do?", "Explain the purpose of `grep -v`"),
        ("How do I reset my password?", "My password is forgotten, how do I get a new one?"),
        ("Why is the sky blue?", "What makes it blue up there"),
    ] {
        assert!(may_be_paraphrase(one, other) && may_be_paraphrase(other, one), "{one} {other}");
    }
    for (one, other) in [
        ("Boil an egg for 5 minutes", "Cook eggs for 15 minutes"),
        ("What does `grep -v` do?", "Explain the purpose of `grep -c`"),
        ("Translate \"cat\"", "Translate the word \"dog\""),
        ("Share my screen", "See another person's screen"),
        ("Which primes are below 20?", "Which primes are there?"),
        ("How do I enable logging?", "Steps for disabling the log"),
        ("Which birds can fly?", "Name birds that can't fly"),
        ("Train from Lyon to Nice", "Nice to Lyon by railway"),
        // The same terms are for the words to judge.
        ("Dog bites man", "Man bites dog"),
    ] {
        assert!(!may_be_paraphrase(one, other) && !may_be_paraphrase(other, one), "{one} {other}");
    }
}
