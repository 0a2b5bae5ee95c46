//! Rules about shapes: what belongs together is a struct with a name, and a struct holds no more than that.

use super::source::{File, line_of, sources, words};
use super::{found, holds};

/// The most fields of a struct.
const MOST_FIELDS: usize = 12;

/// Cuts a list at the commas outside all brackets.
fn items(list: &str) -> Vec<&str> {
    let mut items = Vec::new();
    let (mut depth, mut start) = (0_i32, 0);
    let mut before = ' ';
    for (at, c) in list.char_indices() {
        match c {
            '(' | '[' | '{' | '<' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            // The arrow of a function's type closes nothing.
            '>' if before != '-' && before != '=' => depth -= 1,
            ',' if depth == 0 => {
                items.push(list[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
        before = c;
    }
    items.push(list[start..].trim());
    items.retain(|item| !item.is_empty());
    items
}

/// What stands between a bracket and the one that closes it; wants text that starts with the bracket.
fn inside(text: &str) -> &str {
    let mut depth = 0_i32;
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[1..at];
        }
    }
    &text[1..]
}

fn large_structs(files: &[File]) -> Vec<String> {
    let mut faults = Vec::new();
    for file in sources(files) {
        let code = file.production();
        for (at, _) in words(code).filter(|(_, word)| *word == "struct") {
            let rest = &code[at..];
            // Fields stand in braces before any semicolon; the generics of a struct have neither.
            let Some(open) = rest.find(['{', ';']).filter(|open| rest[*open..].starts_with('{')) else {
                continue;
            };
            let name = words(rest).nth(1).map_or("", |(_, name)| name);
            let fields = items(inside(&rest[open..])).len();
            if fields > MOST_FIELDS {
                faults.push(format!("{}:{}: `{name}` has {fields} fields", file.path, line_of(code, at)));
            }
        }
    }
    faults
}

fn tuple_arguments(files: &[File]) -> Vec<String> {
    let mut faults = Vec::new();
    for file in sources(files) {
        let code = file.production();
        for (at, _) in words(code).filter(|(_, word)| *word == "fn") {
            let rest = &code[at + 2..];
            let Some((start, name)) = words(rest).next().filter(|(start, _)| *start == 1) else { continue };
            let Some(arguments) = arguments(&rest[start + name.len()..]) else { continue };
            if items(arguments).into_iter().any(is_tuple) {
                faults.push(format!("{}:{}: `{name}` takes a tuple", file.path, line_of(code, at)));
            }
        }
    }
    faults
}

/// The arguments of a function; wants what follows its name.
fn arguments(text: &str) -> Option<&str> {
    let mut depth = 0_i32;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            '>' if before != '-' => depth -= 1,
            '(' if depth == 0 => return Some(inside(&text[at..])),
            ';' | '{' if depth == 0 => return None,
            _ => {}
        }
        before = c;
    }
    None
}

/// Whether an argument's type is a tuple, or a reference to one; `()` and a type in parentheses are not.
fn is_tuple(argument: &str) -> bool {
    let pattern = if argument.starts_with('(') { inside(argument).len() + 2 } else { 0 };
    let Some((_, of)) = argument[pattern..].split_once(':') else { return false };
    let of = of.trim().trim_start_matches('&');
    let of = of.strip_prefix("mut ").unwrap_or(of);
    of.starts_with('(') && items(inside(of)).len() > 1
}

#[test]
fn no_struct_has_too_many_fields() {
    holds(large_structs);
    let of = |count: usize| {
        let fields: Vec<String> = (0..count).map(|at| format!("    pub f{at}: [u8; 2],\n")).collect();
        format!("pub struct Many<T: Fn(u8) -> u8> {{\n{}}}\n", fields.concat())
    };
    assert_eq!(found(large_structs, "src/low.rs", &of(MOST_FIELDS + 1)).len(), 1);
    assert_eq!(found(large_structs, "src/low.rs", &of(MOST_FIELDS)), [""; 0]);
    let generic = "struct Few {\n    #[serde(a, b)]\n    map: HashMap<u8, (u8, u8)>,\n    call: Box<dyn Fn(u8, u8) -> u8>,\n}";
    assert_eq!(found(large_structs, "src/low.rs", generic), [""; 0]);
}

#[test]
fn no_function_takes_a_tuple() {
    holds(tuple_arguments);
    for text in [
        "fn f((a, b): (u8, u8)) {}",
        "fn f(&self, pair: (u8, &str), more: u8) {}",
        "pub(super) async fn f<T: Fn(u8) -> u8>(call: T, pair: &mut (u8, T)) {}",
        "fn f(\n    first: Vec<(u8, u8)>,\n    (a, b): (&[u8], Option<u8>),\n) {}",
    ] {
        assert_eq!(found(tuple_arguments, "src/low.rs", text).len(), 1, "{text}");
    }
    for text in [
        "fn f(pairs: &[(u8, u8)]) -> (u8, u8) { pairs[0] }",
        "fn f(unit: (), call: impl Fn(u8, u8) -> u8, list: HashMap<u8, (u8, u8)>) {}",
        "fn f() { let call = |(a, b): (u8, u8)| a + b; }",
        "fn f(Pair { a, b }: Pair, [c, d]: [u8; 2], e: (impl Fn(u8)),) {}",
    ] {
        assert_eq!(found(tuple_arguments, "src/low.rs", text), [""; 0], "{text}");
    }
}
