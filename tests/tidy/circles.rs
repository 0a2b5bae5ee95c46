//! The rule that files of a module do not use each other in a circle. A file and the modules inside it may use each
//! other: a parent declares its children and re-exports from them.

use super::source::{File, member_crates, sources};
use super::{found_in, holds};
use std::collections::{BTreeMap, BTreeSet};

/// The path of a module in the crate, such as `["sim", "api"]`.
type Module = Vec<String>;

fn module_of(path: &str) -> Module {
    let inside = path.strip_prefix("src/").unwrap_or(path);
    let inside = inside.strip_suffix("/mod.rs").or_else(|| inside.strip_suffix(".rs")).unwrap_or(inside);
    inside.split('/').filter(|part| !["lib", "main"].contains(part)).map(str::to_owned).collect()
}

/// The paths that code names, `crate`, `super` and `self` resolved against its own module and its crate's root.
fn paths(code: &str, own: &[String], root: &[String]) -> Vec<Module> {
    let mut found = Vec::new();
    for head in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(head) {
            if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let mut base = if head == "crate::" { root.to_vec() } else { own.to_vec() };
            if head == "super::" {
                base.pop();
            }
            let mut rest = &code[at + head.len()..];
            while let Some(further) = rest.strip_prefix("super::") {
                base.pop();
                rest = further;
            }
            expand(rest, &base, &mut found);
        }
    }
    found
}

/// Adds every path of a tree such as `a::{b, c::{d, e}}` and gives its length.
fn expand(tree: &str, base: &[String], found: &mut Vec<Module>) -> usize {
    let mut path = base.to_vec();
    let mut at = 0;
    loop {
        let rest = &tree[at..];
        if rest.starts_with('{') {
            at += 1;
            while !tree[at..].starts_with('}') && at < tree.len() {
                let skip = tree[at..].find(|c: char| !c.is_whitespace() && c != ',').unwrap_or(0);
                at += skip;
                let length = expand(&tree[at..], &path, found);
                // What is no path, such as the end of a text that is no Rust, is skipped.
                at += if length == 0 && !tree[at..].starts_with('}') { 1 } else { length };
            }
            return (at + 1).min(tree.len());
        }
        let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        if length == 0 {
            break;
        }
        path.push(rest[..length].to_owned());
        at += length;
        match tree[at..].strip_prefix("::") {
            Some(_) => at += 2,
            None => break,
        }
    }
    found.push(path);
    at
}

fn circles(files: &[File]) -> Vec<String> {
    let modules: BTreeMap<Module, &File> = sources(files)
        .filter(|file| !file.production().trim().is_empty())
        .map(|file| (module_of(&file.path), file))
        .collect();
    let mut uses: BTreeMap<&Module, BTreeSet<&Module>> = BTreeMap::new();
    let members = member_crates(files);
    for (own, file) in &modules {
        let root = file.member(&members).map(module_of).unwrap_or_default();
        for path in paths(file.production(), own, &root) {
            let target = (1..=path.len()).rev().find_map(|length| modules.get_key_value(&path[..length]));
            let target = target.map(|(module, _)| module);
            uses.entry(own).or_default().extend(
                target.filter(|module| {
                    !module.starts_with(own.as_slice()) && !own.starts_with(module.as_slice())
                }),
            );
        }
    }
    let reached = |from: &Module| {
        let mut reached = BTreeSet::new();
        let mut open: Vec<&Module> = uses.get(from).into_iter().flatten().copied().collect();
        while let Some(next) = open.pop() {
            if reached.insert(next) {
                open.extend(uses.get(next).into_iter().flatten());
            }
        }
        reached
    };
    let reached: BTreeMap<&Module, BTreeSet<&Module>> =
        modules.keys().map(|module| (module, reached(module))).collect();
    let mut faults = Vec::new();
    for (module, others) in &reached {
        let circle: Vec<&&Module> = others
            .iter()
            .filter(|other| reached.get(*other).is_some_and(|back| back.contains(module)))
            .collect();
        // Each circle is reported once, by the first of its files.
        if circle.first().is_some_and(|first| **first == *module) {
            let names: Vec<&str> = circle.iter().map(|module| modules[**module].path.as_str()).collect();
            faults.push(format!("{}: a circle", names.join(" ↔ ")));
        }
    }
    faults
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    holds(circles);
}

#[test]
fn a_circle_of_files_is_noticed() {
    const THIRD: (&str, &str) = ("src/low/c.rs", "use super::a::A;");
    for (a, b) in [
        ("use super::b::B;", "use super::a;"),
        ("use crate::low::b::B;", "fn f() { crate::low::a::go() }"),
        ("use super::{b::B, d};", "use super::c::{self, C};"),
        ("use super::{d, deep::{x::X, y}, b};", "use crate::{low::{d, c::C}, high};"),
    ] {
        let files = [("src/low/mod.rs", "mod a;"), ("src/low/a.rs", a), ("src/low/b.rs", b), THIRD];
        let faults = found_in(circles, &files);
        assert_eq!(faults.len(), 1, "{a} {b}: {faults:?}");
    }
    let of_a_crate =
        [("src/low/Cargo.toml", ""), ("src/low/a.rs", "use crate::b::B;"), ("src/low/b.rs", "use crate::a;")];
    assert_eq!(found_in(circles, &of_a_crate).len(), 1);
    for (a, b) in [
        ("use super::b::B;", "use super::Parent;"),
        ("use super::b::B;", "#[cfg(test)]\nmod tests { use super::super::a::A; }"),
        ("use super::b::B;", "// super::a::A\nuse super::d;"),
        ("mod inner;\nuse inner::I;", ""),
    ] {
        let files =
            [("src/low/mod.rs", "mod a;\nuse a::A;"), ("src/low/a.rs", a), ("src/low/b.rs", b), THIRD];
        assert_eq!(found_in(circles, &files), [""; 0], "{a} {b}");
    }
}
