//! Owns where words, numbers, names of code and signs begin and end in a text.
//! Refuses to know what a word means.

/// A piece of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A word, folded; a contraction is two words.
    Word(String),
    /// A word all in capitals, in a text that is not, folded.
    Capitals(String),
    /// A word whose owner's mark was taken off.
    Owner(String),
    /// A number as digits.
    Number(String),
    /// What is compared letter by letter.
    Exact(String),
    /// The end of a sentence.
    Break,
}

/// What a quotation that begins so ends with.
const QUOTES: &[(char, char)] = &[('"', '"'), ('“', '”'), ('„', '“'), ('«', '»'), ('`', '`'), ('「', '」')];

/// Words whose `'s` is a verb.
const WITH_VERB: &[&str] = &[
    "what", "who", "how", "where", "when", "why", "which", "that", "it", "there", "here", "he", "she",
    "this", "let",
];

/// What may follow digits without a space and stays a word of its own.
const SUFFIXES: &[&str] = &[
    "km", "m", "cm", "mm", "mi", "ft", "kg", "g", "mg", "lb", "lbs", "oz", "l", "ml", "gb", "mb", "kb", "tb",
    "ghz", "mhz", "hz", "s", "ms", "min", "h", "hr", "hrs", "am", "pm", "k", "bn", "px", "mph", "kmh", "kw",
    "w", "v", "c", "f", "x", "usd", "eur",
];

/// Splits a text.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let shouts = !text.chars().any(char::is_lowercase);
    let mut out = Vec::new();
    let mut rest = text;
    let mut after_space = true;
    while let Some(first) = rest.chars().next() {
        let quote = QUOTES.iter().find(|(open, _)| *open == first);
        let length = if let Some((_, close)) = quote {
            quotation(rest, first, *close, &mut out)
        } else if starts_chunk(rest, after_space) {
            let length = chunk_length(rest);
            chunk(&rest[..length], shouts, &mut out);
            length
        } else {
            sign(rest, first, after_space, &mut out);
            first.len_utf8()
        };
        after_space = rest[..length].ends_with(char::is_whitespace) || matches!(first, '(' | '[' | '{');
        rest = &rest[length..];
    }
    out
}

/// Takes a quotation as it is; a quote without an end is passed over.
fn quotation(rest: &str, open: char, close: char, out: &mut Vec<Token>) -> usize {
    let fence = if rest.starts_with("```") { "```" } else { &rest[..open.len_utf8()] };
    let inside = &rest[fence.len()..];
    let end = if fence == "```" { inside.find(fence) } else { inside.find(close) };
    let Some(end) = end else { return fence.len() };
    let quoted = inside[..end].trim();
    if !quoted.is_empty() {
        out.push(Token::Exact(quoted.to_owned()));
    }
    let closing = if fence == "```" { 3 } else { close.len_utf8() };
    fence.len() + end + closing
}

/// Tells whether a word, number or name begins here.
fn starts_chunk(rest: &str, after_space: bool) -> bool {
    let mut chars = rest.chars();
    let (first, second) = (chars.next().unwrap_or(' '), chars.next().unwrap_or(' '));
    let leads = matches!(first, '/' | '\\' | '@' | '#' | '.' | '~' | '_' | '-' | '+' | '<');
    is_inner(first) || leads && after_space && (is_inner(second) || matches!(second, '-' | '/' | '.' | '_'))
}

fn is_inner(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Measures up to the next space or bracket, without the punctuation at the end.
fn chunk_length(rest: &str) -> usize {
    let is_end = |c: char| c.is_whitespace() || "()[]{}\"“”„«»`,;!?|…。，、？！「」—–".contains(c);
    let first = rest.chars().next().map_or(0, char::len_utf8);
    let mut length = rest[first..].find(is_end).map_or(rest.len(), |at| first + at);
    // A comma between digits belongs to the number.
    while rest[length..].starts_with(',')
        && rest[..length].ends_with(|c: char| c.is_ascii_digit())
        && rest[length + 1..].starts_with(|c: char| c.is_ascii_digit())
    {
        let more = &rest[length + 1..];
        length += 1 + more.find(is_end).unwrap_or(more.len());
    }
    let kept = rest[..length].trim_end_matches(['.', ':', '\'', '’', '*', '-', '>', '=', '%', '€', '°']);
    kept.len().max(first)
}

fn sign(rest: &str, sign: char, after_space: bool, out: &mut Vec<Token>) {
    let name = match sign {
        '.' | '!' | '?' | ';' | '\n' | '。' | '？' | '！' => {
            out.push(Token::Break);
            return;
        }
        '$' => "dollar",
        '€' => "euro",
        '£' => "pound",
        '%' => "percent",
        '°' => "degree",
        '-' | '–' | '−' | '/' if after_space && is_operand(rest, sign, out) => "-",
        '+' | '*' | '=' | '<' | '>' | '^' | '&' | '|' | '~' | '≤' | '≥' | '≠' | '×' | '÷' | '→' | '←'
        | '@' | '#' => {
            out.push(Token::Exact(sign.to_string()));
            return;
        }
        // Signs of other kinds, emoji among them, carry meaning too.
        other if !other.is_whitespace() && !other.is_ascii() && !"’‘“”…–—，、。」»".contains(other) =>
        {
            out.push(Token::Exact(other.to_string()));
            return;
        }
        _ => return,
    };
    out.push(if name == "-" { Token::Exact(sign.to_string()) } else { Token::Word(name.to_owned()) });
}

/// Tells whether a stroke stands for a sum and not for a pause: a number or letter before it, one behind it.
fn is_operand(rest: &str, sign: char, out: &[Token]) -> bool {
    let before = match out.last() {
        Some(Token::Number(_) | Token::Exact(_)) => true,
        Some(Token::Word(word) | Token::Capitals(word)) => word.chars().count() == 1,
        _ => false,
    };
    let mut behind = rest[sign.len_utf8()..].trim_start().chars();
    let (first, second) = (behind.next().unwrap_or(' '), behind.next().unwrap_or(' '));
    before && (first.is_ascii_digit() || !second.is_alphanumeric())
}

/// Takes a chunk apart, or as it is where it is a name of code.
fn chunk(chunk: &str, shouts: bool, out: &mut Vec<Token>) {
    let plain = chunk.replace('’', "'");
    if is_number(&plain) {
        number(&plain, out);
    } else if is_code(&plain) {
        // The names of C++ and C# are words all the same.
        let is_short = plain.chars().count() <= 3;
        out.push(Token::Exact(if is_short { plain.to_lowercase() } else { plain }));
    } else {
        for part in plain.split('-').filter(|part| !part.is_empty()) {
            if is_number(part) { number(part, out) } else { word(part, shouts, out) }
        }
    }
}

/// Tells whether a chunk is of digits with points, commas, colons or strokes between them, or a sign before.
fn is_number(chunk: &str) -> bool {
    let digits = chunk.strip_prefix(['-', '+']).unwrap_or(chunk);
    digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.ends_with(|c: char| c.is_ascii_digit())
        && digits.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | ',' | ':' | '/' | '-'))
}

/// Takes commas out of thousands; parts of a date or a range become numbers each.
fn number(chunk: &str, out: &mut Vec<Token>) {
    let (sign, digits) = match chunk.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", chunk.strip_prefix('+').unwrap_or(chunk)),
    };
    for (index, part) in digits.split('-').enumerate() {
        let groups: Vec<&str> = part.split(',').collect();
        let is_thousands = groups[1..].iter().all(|group| group.split('.').next().map_or(0, str::len) == 3);
        let part = if is_thousands { groups.concat() } else { part.to_owned() };
        out.push(Token::Number(if index == 0 { format!("{sign}{part}") } else { part }));
    }
}

/// Tells whether a chunk has signs within that words have not: paths, addresses, names of files and of code.
fn is_code(chunk: &str) -> bool {
    let is_abbreviation = || chunk.split('.').all(|part| part.chars().count() <= 1);
    chunk.chars().any(|c| "/\\@_:=&%~#+<>*^$".contains(c))
        || chunk.starts_with("--")
        || chunk.trim_matches('.').contains('.') && !is_abbreviation()
        || chunk.starts_with('.')
}

fn word(part: &str, shouts: bool, out: &mut Vec<Token>) {
    let folded = part.to_lowercase();
    let digits = folded.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(folded.len());
    if digits > 0 && digits < folded.len() {
        let (digits, suffix) = folded.split_at(digits);
        if ["st", "nd", "rd", "th"].contains(&suffix) {
            return out.push(Token::Number(digits.to_owned()));
        }
        if SUFFIXES.contains(&suffix) {
            out.push(Token::Number(digits.to_owned()));
            return out.push(Token::Word(suffix.to_owned()));
        }
    }
    let Some((base, ending)) = folded.split_once('\'') else {
        let is_capitals = !shouts && part.chars().count() > 1 && part.chars().all(char::is_uppercase);
        // "Aliens" may be a name, and not more than one alien.
        let begins = out.last().is_none_or(|last| *last == Token::Break);
        let is_name = !shouts && !begins && part.starts_with(char::is_uppercase) && part.ends_with('s');
        return out.push(match (is_capitals, is_name) {
            (true, _) => Token::Capitals(folded),
            (_, true) => Token::Exact(folded),
            (false, false) => Token::Word(folded),
        });
    };
    let mut push = |word: &str| out.push(Token::Word(word.to_owned()));
    match ending {
        "t" => {
            let verb = base.strip_suffix('n').unwrap_or(base);
            push(match verb {
                "ca" => "can",
                "wo" => "will",
                "sha" => "shall",
                verb => verb,
            });
            push("not");
        }
        "s" if WITH_VERB.contains(&base) => {
            push(base);
            push("is");
        }
        "s" | "" if !base.is_empty() => out.push(Token::Owner(base.to_owned())),
        "m" | "re" | "ll" | "ve" | "d" => {
            push(base);
            push(match ending {
                "m" => "am",
                "re" => "are",
                "ll" => "will",
                "ve" => "have",
                _ => "would",
            });
        }
        _ => push(&folded),
    }
}
