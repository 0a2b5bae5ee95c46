//! Owns the words that are known: those that say nothing, those that say the same, and those that say the opposite.
//! Refuses to know how a text is read. English alone; words of other languages stand for themselves.

use std::collections::HashMap;
use std::sync::LazyLock;

/// What a known word stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WordMeaning {
    /// Nothing that an answer depends on.
    Nothing,
    /// The same as the other words of its class.
    Class(u16),
    /// A negation.
    Not,
    /// A number.
    Number(u64),
}

/// Words that say nothing that an answer depends on, where they stand in a sentence.
const FILLERS: &str = "a an the is are am be been being do does doing was were did had have has having can could \
    would will shall should may might must ought i me my mine myself we us our ours you your yours yourself it its \
    this that these those there here of in on at for to from into onto by with about as than if and but so what \
    which how please kindly just really very quite actually simply basically exactly some any way ways explain \
    describe also too etc e.g i.e eg ie hence thus whether upon via";

/// Words that say the same.
const SYNONYMS: &[&str] = &[
    "why reason cause",
    "who whom",
    "fix repair mend",
    "change modify alter edit",
    "choose select pick",
    "find locate",
    "make create build",
    "big large huge",
    "small little tiny",
    "movie film",
    "picture image photo photograph",
    "car automobile",
    "phone telephone cellphone smartphone",
    "doctor physician",
    "child kid children",
    "buy purchase bought",
    "get obtain",
    "need require",
    "use utilize utilise using",
    "error fault bug",
    "directory folder",
    "function method",
    "info information",
    "app application",
    "email mail",
    "website site webpage",
    "job occupation",
    "shop store",
    "trip journey",
    "fast quick quickly rapid rapidly",
    "begin commence",
    "answer reply",
    "purpose aim",
    "inhabitant resident",
    "cost price",
    "color colour",
    "gray grey",
    "center centre",
    "km kilometer kilometre",
    "m meter metre",
    "cm centimeter centimetre",
    "mm millimeter millimetre",
    "kg kilogram kilo",
    "g gram gramme",
    "lb lbs pound",
    "oz ounce",
    "l liter litre",
    "ml milliliter millilitre",
    "mi mile",
    "ft foot feet",
    "min minute",
    "h hr hrs hour",
    "s sec second",
    "ms millisecond",
    "gb gigabyte",
    "mb megabyte",
    "kb kilobyte",
    "usd dollar",
    "eur euro",
    "percent percentage",
    "celsius centigrade",
    "usa america",
    "uk britain",
    "js javascript",
    "ts typescript",
    "postgres postgresql",
    "k8s kubernetes",
    "db database",
    "pwd password",
    "2fa mfa",
    "january jan",
    "february feb",
    "august aug",
    "september sept",
    "october oct",
    "november nov",
    "december dec",
    "define definition",
    "meaning mean matching",
    "difference differ different",
    "compare comparison",
    "all every each",
    "or either",
    "great good",
    "man men",
    "woman women",
    "person people persons",
];

/// The two sides of an opposition; the words of a side say the same.
pub(super) const OPPOSITES: &[(&str, &str)] = &[
    ("enable activate", "disable deactivate"),
    ("on", "off"),
    ("install", "uninstall"),
    ("allow permit", "deny forbid prohibit disallow"),
    (
        "minimum min minimal minimize lowest least smallest",
        "maximum max maximal maximize highest most biggest largest",
    ),
    ("start begin began begun launch", "stop end halt finish terminate"),
    ("buy bought", "sell sold"),
    ("add", "remove delete erase"),
    ("open opening opened", "close shut"),
    ("increase raise", "decrease reduce lower"),
    ("before prior", "after following"),
    ("more greater higher bigger larger", "less fewer smaller"),
    ("with", "without"),
    ("upload", "download"),
    ("import", "export"),
    ("encrypt", "decrypt"),
    ("encode", "decode"),
    ("compress zip", "decompress unzip extract"),
    ("lock", "unlock"),
    ("block", "unblock"),
    ("mute", "unmute"),
    ("follow", "unfollow"),
    ("subscribe", "unsubscribe"),
    ("connect", "disconnect"),
    ("mount", "unmount"),
    ("bind", "unbind"),
    ("login", "logout"),
    ("register", "deregister unregister"),
    ("show visible display", "hide hidden conceal"),
    ("include", "exclude"),
    ("accept approve", "reject decline refuse"),
    ("win won", "lose lost"),
    ("gain", "loss"),
    ("profit", "deficit"),
    ("borrow", "lend lent"),
    ("send sent", "receive"),
    ("push", "pull"),
    ("give given gave", "take taken took"),
    ("hot warm", "cold cool"),
    ("old older oldest", "new newer newest"),
    ("young", "elderly"),
    ("early earlier", "late later"),
    ("first", "last"),
    ("next", "previous"),
    ("up upward", "down downward"),
    ("above over", "below under beneath"),
    ("inside", "outside"),
    ("left", "right"),
    ("north northern", "south southern"),
    ("east eastern", "west western"),
    ("good", "bad"),
    ("best", "worst"),
    ("better", "worse"),
    ("safe", "unsafe dangerous"),
    ("legal", "illegal"),
    ("possible", "impossible"),
    ("public", "private"),
    ("internal", "external"),
    ("input", "output"),
    ("read", "write wrote written"),
    ("success succeed", "failure"),
    ("true", "false"),
    ("positive", "negative"),
    ("advantage pro benefit upside", "disadvantage con drawback downside"),
    ("ascending", "descending"),
    ("horizontal", "vertical"),
    ("synchronous sync", "asynchronous async"),
    ("mutable", "immutable"),
    ("valid", "invalid"),
    ("correct", "incorrect wrong"),
    ("male", "female"),
    ("mother mom mum", "father dad"),
    ("husband", "wife"),
    ("brother", "sister"),
    ("parent", "offspring"),
    ("teacher", "student"),
    ("employer", "employee"),
    ("client", "server"),
    ("cheap inexpensive", "expensive costly"),
    ("cheapest", "dearest"),
    ("easy simple", "difficult hard"),
    ("rich", "poor"),
    ("strong", "weak"),
    ("fast quick", "slow"),
    ("accelerate", "decelerate"),
    ("long", "short"),
    ("high", "low"),
    ("wide", "narrow"),
    ("full", "empty"),
    ("wet", "dry"),
    ("love", "hate"),
    ("always", "seldom"),
    ("war", "peace"),
    ("arrive arrival", "depart departure leave"),
    ("enter entry", "exit"),
    ("create created", "destroy"),
    ("attach", "detach"),
    ("freeze", "thaw"),
    ("inhale", "exhale"),
    ("debit", "credit"),
    ("upgrade", "downgrade"),
    ("commit", "revert"),
    ("merge join", "split separate"),
    ("promote", "demote"),
    ("hire", "fire dismiss"),
    ("today", "tomorrow"),
    ("yesterday", "tonight"),
    ("morning", "evening"),
    ("winter", "summer"),
    ("spring", "autumn"),
    ("vegetarian", "carnivorous"),
    ("acid acidic", "alkaline"),
    ("multiply multiplied", "divide divided"),
    ("plus", "minus subtract"),
    ("sum", "product"),
];

/// Words that turn what they stand with into its opposite.
const NEGATIONS: &str = "not never no none nobody nothing nowhere neither nor without cannot cant dont doesnt didnt \
    isnt wont unable fail fails failed failing except excluding unless hardly barely lack lacks lacking non avoid";

const NUMBERS: &[(&str, u64)] = &[
    ("zero", 0),
    ("one", 1),
    ("two", 2),
    ("three", 3),
    ("four", 4),
    ("five", 5),
    ("six", 6),
    ("seven", 7),
    ("eight", 8),
    ("nine", 9),
    ("ten", 10),
    ("eleven", 11),
    ("twelve", 12),
    ("dozen", 12),
    ("thirteen", 13),
    ("fourteen", 14),
    ("fifteen", 15),
    ("sixteen", 16),
    ("seventeen", 17),
    ("eighteen", 18),
    ("nineteen", 19),
    ("twenty", 20),
    ("thirty", 30),
    ("forty", 40),
    ("fifty", 50),
    ("sixty", 60),
    ("seventy", 70),
    ("eighty", 80),
    ("ninety", 90),
    ("hundred", 100),
    ("thousand", 1_000),
    ("million", 1_000_000),
    ("billion", 1_000_000_000),
    ("bn", 1_000_000_000),
    ("ii", 2),
    ("iii", 3),
    ("iv", 4),
    ("vi", 6),
    ("vii", 7),
    ("viii", 8),
    ("ix", 9),
    ("xi", 11),
    ("xii", 12),
    ("third", 3),
    ("fourth", 4),
    ("fifth", 5),
    ("sixth", 6),
    ("seventh", 7),
    ("eighth", 8),
    ("ninth", 9),
    ("tenth", 10),
];

static MEANINGS: LazyLock<HashMap<String, WordMeaning>> = LazyLock::new(|| {
    let mut meanings = HashMap::new();
    let mut class = 0;
    let mut side = |words: &str, meanings: &mut HashMap<String, WordMeaning>| {
        let known = words.split_whitespace().find_map(|word| meanings.get(&stem(word)).copied());
        let meaning = known.unwrap_or_else(|| {
            class += 1;
            WordMeaning::Class(class)
        });
        for word in words.split_whitespace() {
            // The first meaning stays, or two classes would become one.
            meanings.entry(word.to_owned()).or_insert(meaning);
            meanings.entry(stem(word)).or_insert(meaning);
        }
    };
    for (one, other) in OPPOSITES {
        side(one, &mut meanings);
        side(other, &mut meanings);
    }
    for words in SYNONYMS {
        side(words, &mut meanings);
    }
    meanings.extend(NUMBERS.iter().map(|(word, value)| ((*word).to_owned(), WordMeaning::Number(*value))));
    meanings.extend(NEGATIONS.split_whitespace().map(|word| (word.to_owned(), WordMeaning::Not)));
    meanings.extend(FILLERS.split_whitespace().map(|word| (word.to_owned(), WordMeaning::Nothing)));
    meanings
});

/// The classes of either side of each opposition.
pub(super) static OPPOSED_CLASSES: LazyLock<Vec<(u16, u16)>> = LazyLock::new(|| {
    let class = |side: &str| match side.split_whitespace().next().and_then(meaning) {
        Some(WordMeaning::Class(class)) => Some(class),
        _ => None,
    };
    OPPOSITES.iter().filter_map(|(one, other)| Some((class(one)?, class(other)?))).collect()
});

/// Returns what a folded word stands for, if it is known.
pub(super) fn meaning(word: &str) -> Option<WordMeaning> {
    MEANINGS.get(word).or_else(|| MEANINGS.get(&stem(word))).copied()
}

/// Takes a plain English ending off, but not that of what is past. Words that differ in more stay apart: what is lost is a hit,
/// not the truth.
pub(super) fn stem(word: &str) -> String {
    let word = singular(word);
    let cut = word.strip_suffix("ing");
    let Some(base) = cut.filter(|base| base.len() >= 3 && base.contains(['a', 'e', 'i', 'o', 'u', 'y']))
    else {
        // Words as short as "plan" and "plane" are different ones.
        return word.strip_suffix('e').filter(|base| base.len() >= 5).unwrap_or(&word).to_owned();
    };
    let letters: Vec<char> = base.chars().collect();
    let vowel = |at: usize| "aeiou".contains(letters[at]);
    let end = letters.len() - 1;
    if end >= 3 && letters[end] == letters[end - 1] && !"sl".contains(letters[end]) {
        return letters[..end].iter().collect();
    }
    let wants_e = !vowel(end) && vowel(end - 1) && !vowel(end - 2) && (end == 2 || end == 3 && !vowel(0));
    if wants_e { format!("{base}e") } else { base.to_owned() }
}

fn singular(word: &str) -> String {
    if word == "news" || word.len() < 4 {
        return word.to_owned();
    }
    if let Some(base) = word.strip_suffix("ies").filter(|base| base.len() >= 3) {
        return format!("{base}y");
    }
    let takes_es = ["ches", "shes", "sses", "xes", "zes"].iter().any(|ending| word.ends_with(ending));
    if takes_es {
        return word[..word.len() - 2].to_owned();
    }
    match word.strip_suffix('s') {
        Some(base) if !base.ends_with(['s', 'u', 'i']) => base.to_owned(),
        _ => word.to_owned(),
    }
}
