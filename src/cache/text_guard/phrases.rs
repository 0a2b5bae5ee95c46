//! Owns the phrases that are known and what they stand for.
//! Refuses to know what stands around them. English alone.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Phrases that say nothing, or what their words alone do not; the longer of two with one beginning comes first.
const PHRASES: &[(&str, &str)] = &[
    ("which city is the capital", "capital"),
    ("what city is the capital", "capital"),
    ("i was wondering if", ""),
    ("i was wondering", ""),
    ("i am wondering", ""),
    ("i would like to know", ""),
    ("i want to know", ""),
    ("i would like to", ""),
    ("i want to", ""),
    ("i wish to", ""),
    ("i need to", ""),
    ("we want to", ""),
    ("we need to", ""),
    ("i am trying to", ""),
    ("i am looking to", ""),
    ("i need help with", ""),
    ("i need you to", ""),
    ("i would like you to", ""),
    ("i want you to", ""),
    ("help me to", ""),
    ("help me", ""),
    ("tell me", ""),
    ("show me", ""),
    ("teach me", ""),
    ("give me an explanation of", ""),
    ("let me know", ""),
    ("do you know", ""),
    ("do you happen to know", ""),
    ("are you able to", ""),
    ("am i able to", "can"),
    ("thank you", ""),
    ("thanks in advance", ""),
    ("for me", ""),
    ("in order to", "to"),
    ("the best way to", ""),
    ("the easiest way to", ""),
    ("the right way to", ""),
    ("the correct way to", ""),
    ("the proper way to", ""),
    ("a good way to", ""),
    ("a way to", ""),
    ("the steps to", ""),
    ("the steps for", ""),
    ("the process of", ""),
    ("the process for", ""),
    ("go about", ""),
    ("get rid of", "remove"),
    ("set up", "setup"),
    ("sets up", "setup"),
    ("setting up", "setup"),
    ("log in", "login"),
    ("log into", "login"),
    ("logging in", "login"),
    ("logging into", "login"),
    ("sign in", "login"),
    ("signing in", "login"),
    ("log out", "logout"),
    ("logging out", "logout"),
    ("sign out", "logout"),
    ("signing out", "logout"),
    ("log off", "logout"),
    ("sign up", "register"),
    ("signing up", "register"),
    ("speed up", "accelerate"),
    ("slow down", "decelerate"),
    ("shut down", "shutdown"),
    ("shutting down", "shutdown"),
    ("find out", "find"),
    ("how come", "why"),
    ("what is the reason", "why"),
    ("what are the reasons", "why"),
    ("for what reason", "why"),
    ("at what time", "when"),
    ("what time", "when"),
    ("on what date", "when"),
    ("what date", "when"),
    ("which person", "who"),
    ("what person", "who"),
    ("in which place", "where"),
    ("in what place", "where"),
    ("used to", "formerly"),
    ("going to", "will"),
    ("two factor authentication", "2fa"),
    ("two factor", "2fa"),
    ("at least", "minimum"),
    ("at most", "maximum"),
    ("no more than", "maximum"),
    ("no less than", "minimum"),
    ("the number of", "how many"),
    ("number of", "how many"),
    ("the amount of", "how much"),
    ("the united states of america", "usa"),
    ("united states of america", "usa"),
    ("united states", "usa"),
    ("united kingdom", "uk"),
    ("each other", "another"),
    ("people who", "people"),
    ("difference between", "difference"),
    ("differences between", "difference"),
    ("which one", "which"),
    ("this one", "this"),
    ("that one", "that"),
    ("the one", "the"),
    ("no one", "nobody"),
    ("one of", "of"),
];

/// A phrase by its words behind the first, and what it stands for.
type PhraseTail = (Vec<&'static str>, &'static str);

static BY_FIRST: LazyLock<HashMap<&'static str, Vec<PhraseTail>>> = LazyLock::new(|| {
    let mut phrases: HashMap<&str, Vec<PhraseTail>> = HashMap::new();
    for (phrase, instead) in PHRASES {
        let mut words = phrase.split(' ');
        phrases.entry(words.next().unwrap_or_default()).or_default().push((words.collect(), *instead));
    }
    phrases
});

/// Finds a phrase that begins with the first of these words; returns its length and what it stands for.
pub(super) fn phrase(first: &str, behind: &[Option<&str>]) -> Option<(usize, &'static str)> {
    let known = BY_FIRST.get(first)?;
    let fits = |words: &[&str]| {
        words.len() <= behind.len() && words.iter().zip(behind).all(|(word, other)| Some(*word) == *other)
    };
    known.iter().find(|(words, _)| fits(words)).map(|(words, instead)| (words.len() + 1, *instead))
}
