//! Rules about names: a public type's name stands for one type, and retired names do not come back.

use super::source::{File, line_of, sources, words};
use super::{found, holds};

/// Names of types and functions that the field's own terms replaced.
const RETIRED: &[&str] = &[
    "Ask",
    "Asked",
    "Asking",
    "Beside",
    "Conversations",
    "Cutter",
    "Desk",
    "Doubt",
    "Entrant",
    "Extras",
    "Farewell",
    "Fate",
    "Filing",
    "Heard",
    "Known",
    "Ledger",
    "Meeting",
    "Odds",
    "Outflow",
    "PaceReading",
    "Passed",
    "Reading",
    "Roster",
    "Seeking",
    "Sheet",
    "Shelf",
    "Sought",
    "Spoken",
    "Story",
    "Tally",
    "Told",
    "Turns",
    "Utterance",
    "Vitals",
    "Wanted",
    "Wardrobe",
    "Watching",
    "equip",
    "set_out",
    "take_seat",
    "turn_to",
];

/// A type or function as it is declared.
struct Declaration<'a> {
    file: &'a File,
    line: usize,
    keyword: String,
    name: String,
    is_public: bool,
}

impl Declaration<'_> {
    fn is_type(&self) -> bool {
        self.keyword != "fn"
    }
}

/// The types and functions of production code; associated types are left out.
fn declarations(files: &[File]) -> Vec<Declaration<'_>> {
    let mut declarations = Vec::new();
    for file in sources(files) {
        let code = file.production();
        for (at, keyword) in words(code) {
            let before = &code[code[..at].rfind('\n').map_or(0, |newline| newline + 1)..at];
            let declares = match keyword {
                "struct" | "enum" | "trait" | "union" | "fn" => true,
                "type" => !before.starts_with(' '),
                _ => false,
            };
            let rest = &code[at + keyword.len()..];
            let name = words(rest).next().filter(|(start, _)| rest[..*start].trim().is_empty());
            let Some((_, name)) = name.filter(|_| declares) else { continue };
            declarations.push(Declaration {
                file,
                line: line_of(code, at),
                keyword: keyword.to_owned(),
                name: name.to_owned(),
                is_public: before.trim_start().starts_with("pub"),
            });
        }
    }
    declarations
}

fn shared_names(files: &[File]) -> Vec<String> {
    let declarations = declarations(files);
    let mut faults = Vec::new();
    for one in declarations.iter().filter(|one| one.is_type()) {
        let same = || declarations.iter().filter(|other| other.is_type() && other.name == one.name);
        if same().count() > 1 && same().any(|other| other.is_public) {
            faults.push(format!("{}:{}: `{}` names another type too", one.file.path, one.line, one.name));
        }
    }
    faults
}

fn retired_names(files: &[File]) -> Vec<String> {
    let declarations = declarations(files);
    let retired = declarations.iter().filter(|one| RETIRED.contains(&one.name.as_str()));
    retired.map(|one| format!("{}:{}: `{}` is a retired name", one.file.path, one.line, one.name)).collect()
}

#[test]
fn a_public_types_name_is_unique() {
    holds(shared_names);
}

#[test]
fn a_public_type_that_shares_its_name_is_noticed() {
    for text in [
        "pub struct Twice;\nmod inner { struct Twice; }",
        "pub(super) enum Twice {}\nmod inner { pub(crate) trait Twice {} }",
        "pub type Twice = u8;\nmod inner { pub struct Twice(u8); }",
    ] {
        assert_eq!(found(shared_names, "src/low.rs", text).len(), 2, "{text}");
    }
    for text in [
        "enum Local {}\nmod inner { enum Local {} }",
        "pub struct Once;\nimpl Trait for Once {\n    type Once = u8;\n}",
        "pub struct Once;\n#[cfg(test)]\nmod tests { struct Once; }",
        "pub struct Once;\nfn Once() {}",
    ] {
        assert_eq!(found(shared_names, "src/low.rs", text), [""; 0], "{text}");
    }
}

#[test]
fn no_retired_name_comes_back() {
    holds(retired_names);
    for text in ["pub struct Outflow;", "enum Told {}", "type Story = u8;", "fn set_out() {}"] {
        assert_eq!(found(retired_names, "src/low.rs", text).len(), 1, "{text}");
    }
    for text in ["enum State { Known }", "struct SimRequest;", "#[cfg(test)]\nmod tests { struct Told; }"] {
        assert_eq!(found(retired_names, "src/low.rs", text), [""; 0], "{text}");
    }
}
