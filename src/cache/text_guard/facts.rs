//! Owns what of a text must agree: its terms in order, what stands behind prepositions, negations, time and person.
//! Refuses to know the other text.

use super::phrases::phrase;
use super::tables::{WordMeaning, meaning, stem};
use super::tokens::{Token, tokens};

/// The most words between a verb and its particle, as in "turn the lights off".
const PARTICLE_REACH: usize = 4;

/// A thing that a text speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Term {
    /// A word without its ending.
    Word(String),
    /// Any word of a class.
    Class(u16),
    /// A number, by its digits.
    Number(String),
    /// What is compared letter by letter.
    Exact(String),
}

/// What a term is to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TermRole {
    /// Behind a preposition, by its place in [`PREPOSITIONS`].
    Behind(usize),
    /// Behind a negation.
    Negated,
}

impl TermRole {
    /// Tells whether what has this role in one text can't be the same with the other role.
    pub(super) fn is_opposed(self, other: Self) -> bool {
        let (Self::Behind(one), Self::Behind(two)) = (self, other) else { return false };
        let words = (PREPOSITIONS[one], PREPOSITIONS[two]);
        OPPOSED.iter().any(|pair| *pair == words || *pair == (words.1, words.0))
    }
}

/// Words that tell what the next thing is to the others; an owner is what "of" would tell.
const PREPOSITIONS: &[&str] = &[
    "of", "from", "to", "into", "than", "before", "after", "by", "about", "over", "under", "in", "on", "at",
    "for", "with", "against", "above", "below", "minus", "as", "via", "onto", "behind", "instead",
];

/// Prepositions that say the opposite of each other.
const OPPOSED: &[(&str, &str)] =
    &[("from", "to"), ("from", "into"), ("from", "onto"), ("over", "under"), ("above", "below")];

const ASKING: &[&str] =
    &["what", "which", "how", "who", "whom", "whose", "when", "where", "why", "explain", "describe", "tell"];

/// What a sentence that is answered by yes or no begins with, by what it asks for.
const CLOSED: &[(&str, u8)] = &[
    ("is are was were am do does did has have had isnt arent", 1),
    ("can could may might", 2),
    ("should must ought shall", 4),
    ("will would", 8),
];

/// What "can you" asks for as a favour.
const FAVOURS: &[&str] = &[
    "please",
    "kindly",
    "help",
    "tell",
    "explain",
    "show",
    "give",
    "describe",
    "list",
    "write",
    "name",
    "provide",
    "suggest",
    "recommend",
    "make",
    "create",
    "generate",
    "summarize",
    "summarise",
    "translate",
    "convert",
    "compute",
    "calculate",
    "find",
    "solve",
    "fix",
    "define",
    "compare",
    "teach",
    "walk",
    "outline",
    "draft",
];

const GREETINGS: &[&str] = &["hi", "hello", "hey", "dear", "ok", "okay", "thanks", "cheers", "greetings"];

/// Who is spoken of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct GrammaticalPerson {
    pub(super) mine: bool,
    yours: bool,
}

impl GrammaticalPerson {
    /// Tells whether the one speaks of the asker alone and the other of the asked alone.
    pub(super) fn is_opposed(self, other: Self) -> bool {
        self.mine != self.yours && other.mine != other.yours && self.mine != other.mine
    }
}

/// What of a text must agree with another's.
#[derive(Debug, Default)]
pub(super) struct TextFacts {
    /// Each once, numbers each time.
    pub(super) terms: Vec<Term>,
    /// Terms by their place, with what they are to the others.
    pub(super) roles: Vec<(TermRole, usize)>,
    pub(super) negations: usize,
    /// Bits: past, future.
    pub(super) tense: u8,
    /// Bits by what yes or no is asked of; none where more than that is asked.
    pub(super) closed: u8,
    pub(super) person: GrammaticalPerson,
}

impl TextFacts {
    pub(super) fn of(text: &str) -> Self {
        let tokens = without_greetings(tokens(text));
        let mut facts = Self::default();
        for sentence in tokens.split(|token| *token == Token::Break).filter(|sentence| !sentence.is_empty()) {
            facts.closed |= closed(sentence);
            facts.person.yours |= speaks_of_the_asked(sentence);
            let tokens = particles(phrases(sentence));
            SentenceReader { facts: &mut facts, waiting: Vec::new(), sum: None }.read(&tokens);
        }
        facts
    }
}

fn without_greetings(mut tokens: Vec<Token>) -> Vec<Token> {
    let is_greeting = |token: Option<&Token>| match token {
        Some(Token::Word(word)) => GREETINGS.contains(&word.as_str()),
        _ => false,
    };
    while matches!(tokens.last(), Some(Token::Break)) {
        tokens.pop();
    }
    // A text of one word is about that word.
    if tokens.len() > 2 && is_greeting(tokens.last()) {
        tokens.pop();
    }
    if tokens.len() > 2 && is_greeting(tokens.first()) {
        tokens.remove(0);
    }
    tokens
}

fn plain(token: &Token) -> Option<&str> {
    match token {
        Token::Word(word) | Token::Capitals(word) => Some(word),
        _ => None,
    }
}

/// Returns what a sentence that wants yes or no asks for.
fn closed(sentence: &[Token]) -> u8 {
    let words: Vec<&str> = sentence.iter().filter_map(plain).collect();
    let Some(first) = words.first() else { return 0 };
    let kind = CLOSED.iter().find(|(verbs, _)| verbs.split_whitespace().any(|verb| verb == *first));
    let is_favour = words.get(1) == Some(&"you") && words.get(2).is_some_and(|word| FAVOURS.contains(word))
        || words.get(1).is_some_and(|word| *word == "you") && words.get(2) == Some(&"not")
        || words[1..].iter().take(3).any(|word| *word == "please");
    match kind {
        Some((_, bit)) if !is_favour && !words.iter().any(|word| ASKING.contains(word)) => *bit,
        _ => 0,
    }
}

/// Tells whether a sentence is about the one who is asked, as in "who are you".
fn speaks_of_the_asked(sentence: &[Token]) -> bool {
    sentence.windows(2).any(|pair| plain(&pair[0]) == Some("are") && plain(&pair[1]) == Some("you"))
}

/// Puts what a phrase stands for in its place.
fn phrases(sentence: &[Token]) -> Vec<Token> {
    let words: Vec<Option<&str>> = sentence.iter().map(plain).collect();
    let mut out = Vec::with_capacity(sentence.len());
    let mut at = 0;
    while at < sentence.len() {
        if let Some((length, instead)) = words[at].and_then(|first| phrase(first, &words[at + 1..])) {
            out.extend(instead.split_whitespace().map(|word| Token::Word(word.to_owned())));
            at += length;
        } else {
            out.push(sentence[at].clone());
            at += 1;
        }
    }
    out
}

/// Joins verbs with their particles: "turn it off" becomes "disable it".
fn particles(mut sentence: Vec<Token>) -> Vec<Token> {
    let mut at = 0;
    while at < sentence.len() {
        let is_verb = plain(&sentence[at])
            .is_some_and(|word| ["role", "switch", "power", "toggle"].contains(&stem(word).as_str()));
        if is_verb {
            let behind = sentence.iter().enumerate().skip(at + 1).take(PARTICLE_REACH);
            let particle =
                behind.filter_map(|(at, token)| Some((at, plain(token)?))).find_map(|(at, word)| {
                    let verb = match word {
                        "on" => "enable",
                        "off" => "disable",
                        "up" => "increase",
                        "down" => "decrease",
                        _ => return None,
                    };
                    Some((at, verb))
                });
            if let Some((particle, verb)) = particle {
                sentence.remove(particle);
                sentence[at] = Token::Word(verb.to_owned());
            }
        }
        at += 1;
    }
    sentence
}

/// Reads one sentence.
struct SentenceReader<'a> {
    facts: &'a mut TextFacts,
    /// Roles that the next term gets.
    waiting: Vec<TermRole>,
    /// A number in words that may go on.
    sum: Option<u64>,
}

impl SentenceReader<'_> {
    fn read(mut self, sentence: &[Token]) {
        for token in sentence {
            match token {
                Token::Word(word) => self.word(word),
                // "US" and "IT" are no pronouns.
                Token::Capitals(word) => match meaning(word) {
                    Some(WordMeaning::Nothing | WordMeaning::Not) => {
                        self.term(Term::Word(word.to_uppercase()));
                    }
                    _ => self.word(word),
                },
                Token::Owner(word) => {
                    self.waiting.push(TermRole::Behind(0));
                    self.word(word);
                }
                Token::Number(digits) => self.digits(digits),
                Token::Exact(exact) => self.term(Term::Exact(exact.clone())),
                Token::Break => {}
            }
        }
        self.end_number();
    }

    fn word(&mut self, word: &str) {
        self.note(word);
        let meaning = meaning(word);
        if let Some(WordMeaning::Number(value)) = meaning {
            return self.add_number(value);
        }
        self.end_number();
        if let Some(role) = PREPOSITIONS.iter().position(|preposition| *preposition == word) {
            self.waiting.push(TermRole::Behind(role));
        }
        match meaning {
            Some(WordMeaning::Nothing | WordMeaning::Number(_)) => {}
            Some(WordMeaning::Not) => {
                self.facts.negations += 1;
                self.waiting.push(TermRole::Negated);
            }
            // A preposition that is a term of its own does not stand behind itself.
            Some(WordMeaning::Class(class)) if PREPOSITIONS.contains(&word) => {
                let waiting = std::mem::take(&mut self.waiting);
                self.term(Term::Class(class));
                self.waiting = waiting;
            }
            Some(WordMeaning::Class(class)) => self.term(Term::Class(class)),
            None => self.term(Term::Word(stem(word))),
        }
    }

    /// Notes time and person.
    fn note(&mut self, word: &str) {
        match word {
            "was" | "were" | "did" | "had" | "formerly" => self.facts.tense |= 1,
            "will" | "shall" => self.facts.tense |= 2,
            "my" | "mine" | "am" | "our" | "ours" => self.facts.person.mine = true,
            "your" | "yours" | "yourself" => self.facts.person.yours = true,
            _ => {}
        }
    }

    fn term(&mut self, term: Term) {
        self.end_number();
        self.push(term);
    }

    fn push(&mut self, term: Term) {
        let known = match term {
            Term::Number(_) => None,
            _ => self.facts.terms.iter().position(|other| *other == term),
        };
        let place = known.unwrap_or_else(|| {
            self.facts.terms.push(term);
            self.facts.terms.len() - 1
        });
        self.facts.roles.extend(self.waiting.drain(..).map(|role| (role, place)));
    }

    /// Goes on with a number in words: tens and ones are added, hundreds and more multiplied.
    fn add_number(&mut self, value: u64) {
        self.sum = match self.sum {
            Some(sum) if value >= 100 => Some(sum.saturating_mul(value)),
            Some(sum) if sum % 100 >= 20 && sum % 10 == 0 && value < 10 => Some(sum + value),
            Some(sum) if sum >= 100 && sum % 100 == 0 && value < 100 => Some(sum + value),
            _ => {
                self.end_number();
                Some(value)
            }
        };
    }

    fn digits(&mut self, digits: &str) {
        self.end_number();
        match digits.parse::<u64>() {
            // "007" is not 7.
            Ok(value) if value.to_string() == digits => self.sum = Some(value),
            _ => self.push(Term::Number(digits.to_owned())),
        }
    }

    fn end_number(&mut self) {
        if let Some(value) = self.sum.take() {
            self.push(Term::Number(value.to_string()));
        }
    }
}
