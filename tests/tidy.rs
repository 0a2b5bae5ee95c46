//! Holds the code to the architecture: layers, doors, sizes and words. Each rule is also run on a sample that breaks
//! it, so that a rule that sees nothing is noticed.

use std::path::Path;

/// The most lines of a file outside its tests.
const MOST_LINES: usize = 450;

/// Crates that only these files may name; a folder ends with a slash.
const DOORS: &[(&str, &[&str])] = &[
    ("pingora", &["src/proxy/", "src/control/probe.rs", "src/server.rs", "src/server/"]),
    ("pingora_*", &["src/proxy/", "src/control/probe.rs", "src/server.rs", "src/server/"]),
    ("candle_*", &["src/classify/"]),
    ("tokenizers", &["src/classify/"]),
    ("safetensors", &["src/classify/"]),
    ("rayon", &["src/classify/"]),
    ("saphyr_parser", &["src/policy/yaml.rs"]),
    ("notify", &["src/control/watch.rs"]),
    ("prometheus", &["src/metrics.rs"]),
    ("arc_swap", &["src/snapshot.rs"]),
    ("axum", &["src/sim/", "src/control/admin.rs"]),
    ("hyper", &["src/sim/", "src/control/admin.rs"]),
    ("hyper_util", &["src/sim/", "src/control/admin.rs"]),
    ("rcgen", &["src/sim/tls.rs"]),
    ("clap", &["src/main.rs", "src/cli.rs", "src/cli/"]),
];

/// Modules that only these modules may use, whatever the layers say.
const ONLY_FOR: &[(&str, &[&str])] = &[("sim", &["cli"]), ("cli", &[])];

/// Names that say nothing about what a module owns.
const EMPTY_NAMES: &[&str] = &["common", "helper", "helpers", "misc", "shared", "types", "util", "utils"];

/// One file of the repository.
struct File {
    path: String,
    text: String,
    /// Whether it is a module that only tests have.
    is_test: bool,
}

impl File {
    fn sample(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), is_test: false }
    }

    fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|extension| extension == "rs")
    }

    /// The code outside tests, without comments and what stands in quotes; lines stay where they are.
    fn production(&self) -> String {
        if self.is_test { String::new() } else { without_tests(&bare(&self.text)) }
    }

    /// The module at the top of the crate that this file belongs to.
    fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let first = inside.split('/').next()?;
        Some(first.strip_suffix(".rs").unwrap_or(first))
    }

    /// How many modules deep the file stands: 1 for those that `lib.rs` names.
    fn depth(&self) -> usize {
        let slashes = self.path.matches('/').count();
        if self.path.ends_with("/mod.rs") { slashes - 1 } else { slashes }
    }
}

/// All text files of the repository that are written by hand.
fn repository() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let relative = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let skipped = [
                "target",
                "models",
                ".git",
                ".venv",
                "fuzz/target",
                "fuzz/corpus",
                "fuzz/artifacts",
                "shared",
            ];
            if skipped.contains(&relative.as_str()) || relative.ends_with("__pycache__") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                files.push(File { path: relative, text, is_test: false });
            }
        }
    }
    assert!(files.iter().filter(|file| file.is_rust()).count() > 50, "the sources were not found");
    let tests: Vec<String> = files.iter().filter(|file| file.is_rust()).flat_map(test_modules).collect();
    for file in &mut files {
        file.is_test = tests.contains(&file.path);
    }
    files
}

/// The files of the modules that a file has for its tests alone.
fn test_modules(file: &File) -> Vec<String> {
    let folder = match file.path.strip_suffix("/mod.rs") {
        Some(folder) => folder,
        None => file.path.strip_suffix(".rs").unwrap_or(&file.path),
    };
    let code = bare(&file.text);
    let marked = code.split("#[cfg(test)]").skip(1);
    let names = marked.filter_map(|rest| rest.trim_start().strip_prefix("mod ")?.split_once(';'));
    let names = names.map(|(name, _)| name).filter(|name| !name.contains('{'));
    names.map(|name| format!("{folder}/{name}.rs")).collect()
}

fn sources(files: &[File]) -> impl Iterator<Item = &File> {
    files.iter().filter(|file| file.is_rust() && file.path.starts_with("src/"))
}

/// Blanks comments and the insides of quotes.
fn bare(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let (length, keep) = match next {
            '/' if rest.starts_with("//") => (rest.find('\n').unwrap_or(rest.len()), false),
            '/' if rest.starts_with("/*") => (rest.find("*/").map_or(rest.len(), |at| at + 2), false),
            '"' => (quoted(rest), false),
            'r' if is_raw(rest) && !ends_in_word(&out) => (raw(rest), false),
            '\'' => match character(rest) {
                Some(length) => (length, false),
                None => (1, true),
            },
            other => (other.len_utf8(), true),
        };
        let piece = &rest[..length];
        if keep {
            out.push_str(piece);
        } else {
            out.extend(piece.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        }
        rest = &rest[length..];
    }
    out
}

fn ends_in_word(text: &str) -> bool {
    text.ends_with(|c: char| c.is_alphanumeric() || c == '_') && !text.ends_with('b')
}

fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn is_raw(text: &str) -> bool {
    text[1..].trim_start_matches('#').starts_with('"')
}

fn raw(text: &str) -> usize {
    let hashes = text[1..].len() - text[1..].trim_start_matches('#').len();
    let start = hashes + 2;
    let end = format!("\"{}", "#".repeat(hashes));
    text[start..].find(&end).map_or(text.len(), |at| start + at + end.len())
}

/// The length of a character in quotes; `None` for a lifetime.
fn character(text: &str) -> Option<usize> {
    let inside = &text[1..];
    let first = inside.chars().next()?;
    if first == '\\' {
        return inside[2..].find('\'').map(|at| at + 4);
    }
    inside[first.len_utf8()..].starts_with('\'').then(|| first.len_utf8() + 2)
}

/// Blanks every item behind `#[cfg(test)]`; wants bare text.
fn without_tests(text: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(MARK) {
        out.push_str(&rest[..at]);
        let item = &rest[at..];
        let end = item_end(item);
        out.push_str(&"\n".repeat(item[..end].matches('\n').count()));
        rest = &item[end..];
    }
    out + rest
}

fn item_end(item: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in item.char_indices() {
        match c {
            '{' => depth += 1,
            ';' if depth == 0 => return at + 1,
            '}' if depth == 1 => return at + 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    item.len()
}

/// The words of a line with where each starts.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + text[at..].find(is_word)?;
        let end = text[start..].find(|c| !is_word(c)).map_or(text.len(), |length| start + length);
        at = end;
        Some((start, &text[start..end]))
    })
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// The groups of `lib.rs`, ground first.
fn layers(lib: &str) -> Vec<Vec<&str>> {
    let mut groups = vec![Vec::new()];
    for line in lib.lines() {
        match line.strip_prefix("pub mod ").and_then(|rest| rest.strip_suffix(';')) {
            Some(module) => groups.last_mut().unwrap().push(module),
            None if line.trim().is_empty() => groups.push(Vec::new()),
            None => {}
        }
    }
    groups.retain(|group| !group.is_empty());
    groups
}

/// The modules at the top of the crate that a file names, each with its line.
fn used(file: &File) -> Vec<(usize, String)> {
    let code = file.production();
    let to_root = "super::".repeat(file.depth());
    let mut found = Vec::new();
    for prefix in ["crate::", to_root.as_str()] {
        for (at, _) in code.match_indices(prefix) {
            if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let line = line_of(&code, at);
            let rest = &code[at + prefix.len()..];
            found.extend(heads(rest).into_iter().map(|head| (line, head)));
        }
    }
    found
}

/// What a path begins with: one name, or those of the group in braces.
fn heads(path: &str) -> Vec<String> {
    let Some(group) = path.strip_prefix('{') else {
        return words(path)
            .next()
            .filter(|(at, _)| *at == 0)
            .map(|(_, word)| word.to_owned())
            .into_iter()
            .collect();
    };
    let mut depth = 0_usize;
    let mut heads = Vec::new();
    let mut fresh = true;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            c if c.is_whitespace() => {}
            _ if fresh => {
                fresh = false;
                heads.extend(words(&group[at..]).next().map(|(_, word)| word.to_owned()));
            }
            _ => {}
        }
    }
    heads
}

fn layering(files: &[File]) -> Vec<String> {
    let lib = files.iter().find(|file| file.path == "src/lib.rs").expect("there is a lib.rs");
    let layers = layers(&lib.text);
    let layer = |module: &str| layers.iter().position(|group| group.contains(&module));
    let mut faults = Vec::new();
    for file in sources(files).filter(|file| !["src/lib.rs", "src/main.rs"].contains(&file.path.as_str())) {
        let own = file.module().unwrap();
        let Some(height) = layer(own) else {
            faults.push(format!("{}: lib.rs names no module `{own}`", file.path));
            continue;
        };
        for (line, other) in used(file).into_iter().filter(|(_, other)| other != own) {
            let barred = ONLY_FOR.iter().any(|(module, users)| *module == other && !users.contains(&own));
            match layer(&other) {
                Some(depth) if depth < height && !barred => {}
                Some(_) => faults.push(format!("{}:{line}: `{own}` may not use `{other}`", file.path)),
                None => faults.push(format!("{}:{line}: `{other}` is no module of lib.rs", file.path)),
            }
        }
    }
    faults
}

fn doors(files: &[File]) -> Vec<String> {
    let mut faults = Vec::new();
    for file in sources(files) {
        let code = file.production();
        for (at, word) in words(&code) {
            let Some((_, allowed)) = DOORS.iter().find(|(name, _)| {
                name.strip_suffix('*').map_or(word == *name, |prefix| word.starts_with(prefix))
            }) else {
                continue;
            };
            let after = &code[at + word.len()..];
            let before = code[..at].strip_suffix("::").unwrap_or(&code[..at]);
            let is_inner =
                before.len() < at && before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '>');
            let is_path = after.starts_with("::") && !is_inner;
            let is_use = before.ends_with("use ");
            let passes = allowed.iter().any(|door| {
                if door.ends_with('/') { file.path.starts_with(door) } else { file.path == *door }
            });
            if (is_path || is_use) && !passes {
                faults.push(format!("{}:{}: `{word}` has its door elsewhere", file.path, line_of(&code, at)));
            }
        }
    }
    faults
}

fn headers(files: &[File]) -> Vec<String> {
    let headless = files.iter().filter(|file| file.is_rust() && !file.text.starts_with("//! "));
    headless.map(|file| format!("{}: does not open with `//!`", file.path)).collect()
}

fn sizes(files: &[File]) -> Vec<String> {
    let lines = |file: &File| {
        // A line of comments counts as one of code; only tests do not.
        let code = file.production();
        let original: Vec<&str> = file.text.lines().collect();
        let tests =
            code.lines().zip(&original).filter(|(kept, all)| kept.is_empty() && !all.is_empty()).count();
        if code.is_empty() { 0 } else { original.len() - tests }
    };
    let long = sources(files).filter(|file| lines(file) > MOST_LINES);
    long.map(|file| format!("{}: {} lines outside its tests", file.path, lines(file))).collect()
}

fn promises(files: &[File]) -> Vec<String> {
    // In two pieces, or this file would break its own rule.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("#[ign", "ore")];
    let mut faults = Vec::new();
    for file in files {
        for (number, line) in file.text.lines().enumerate() {
            let is_mark = |mark: &str| {
                line.match_indices(mark).any(|(at, _)| {
                    let before = line[..at].chars().next_back().is_some_and(char::is_alphanumeric);
                    let after = line[at + mark.len()..].chars().next().is_some_and(char::is_alphanumeric);
                    !before && !after
                })
            };
            if let Some(mark) = marks.iter().find(|mark| is_mark(mark)) {
                faults.push(format!("{}:{}: {mark}", file.path, number + 1));
            }
        }
    }
    faults
}

fn forbidden_words(files: &[File]) -> Vec<String> {
    let mut faults = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let code = bare(&file.text);
        let words_of = words(&code).filter(|(_, word)| *word == concat!("un", "safe"));
        faults.extend(words_of.map(|(at, word)| format!("{}:{}: {word}", file.path, line_of(&code, at))));
    }
    for file in sources(files) {
        let code = file.production();
        for call in [".unwrap()", ".unwrap_err()"] {
            let found = code.match_indices(call);
            faults.extend(found.map(|(at, _)| format!("{}:{}: {call}", file.path, line_of(&code, at))));
        }
    }
    faults
}

fn names(files: &[File]) -> Vec<String> {
    let mut faults = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let parts = file.path.split('/').map(|part| part.strip_suffix(".rs").unwrap_or(part));
        let code = bare(&file.text);
        let inline = words(&code).filter(|(at, _)| code[..*at].ends_with("mod ")).map(|(_, word)| word);
        for name in parts.chain(inline).filter(|name| EMPTY_NAMES.contains(name)) {
            faults.push(format!("{}: `{name}` does not say what it owns", file.path));
        }
    }
    faults
}

/// The lock is there, names this crate, and git is not told to leave it out.
fn lock(files: &[File]) -> Vec<String> {
    let text = |path: &str| files.iter().find(|file| file.path == path).map_or("", |file| &file.text);
    let mut faults = Vec::new();
    if !text("Cargo.lock").contains("name = \"signalbox\"") {
        faults.push("Cargo.lock: missing, or another crate's".to_owned());
    }
    if text(".gitignore").lines().any(|line| line.trim().trim_start_matches('/') == "Cargo.lock") {
        faults.push(".gitignore: leaves Cargo.lock out".to_owned());
    }
    faults
}

type Rule = fn(&[File]) -> Vec<String>;

fn holds(rule: Rule) {
    let faults = rule(&repository());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What a rule finds in a sample, which stands beside a small `lib.rs`.
fn found(rule: Rule, path: &str, text: &str) -> Vec<String> {
    const LIB: &str =
        "//! Lib.\n\npub mod low;\npub mod beside;\n\npub mod sim;\n\npub mod high;\n\npub mod cli;\n";
    rule(&[File::sample("src/lib.rs", LIB), File::sample(path, text)])
}

#[test]
fn modules_use_only_the_groups_below_their_own() {
    holds(layering);
}

#[test]
fn a_module_that_uses_its_neighbour_or_a_group_above_is_noticed() {
    for (path, text) in [
        ("src/low.rs", "use crate::beside::Thing;"),
        ("src/low.rs", "use crate::high;"),
        ("src/low.rs", "fn f() { crate::high::go() }"),
        ("src/low.rs", "use super::high::Thing;"),
        ("src/low/deep.rs", "use super::super::high::Thing;"),
        ("src/low/mod.rs", "use crate::{low::deep, high::{self, Thing}};"),
        ("src/high.rs", "use crate::sim::Sim;"),
        ("src/high.rs", "use crate::nowhere;"),
        ("src/stray.rs", "fn f() {}"),
    ] {
        assert_eq!(found(layering, path, text).len(), 1, "{path}: {text}");
    }
    for (path, text) in [
        ("src/high.rs", "use crate::{low::Thing, beside};\nuse crate::high::Own;"),
        ("src/cli.rs", "use crate::sim::Sim;"),
        ("src/low/deep.rs", "use super::Thing;\nuse super::other::Thing;"),
        ("src/low.rs", "//! [`crate::high`]\n#[cfg(test)]\nmod tests { use crate::high; }\n"),
        ("src/low.rs", "const NAME: &str = \"crate::high\";"),
    ] {
        assert_eq!(found(layering, path, text), [""; 0], "{path}: {text}");
    }
}

#[test]
fn each_heavy_dependency_has_one_door() {
    holds(doors);
    let lib = repository().into_iter().find(|file| file.path == "src/lib.rs").unwrap();
    assert!(layers(&lib.text).len() >= 5, "the groups were not read");
}

#[test]
fn a_second_door_is_noticed() {
    for text in [
        "use pingora::Error;",
        "use pingora_load_balancing::Backend;",
        "use candle_core::Tensor;",
        "use rayon;",
        "fn f() -> prometheus::Registry { todo() }",
        "use hyper_util::rt;",
        "use notify::Watcher;",
        "use ::axum::Router;",
    ] {
        assert!(!found(doors, "src/low.rs", text).is_empty(), "{text}");
    }
    for text in [
        "use tokio::sync::notify::Thing;",
        "// pingora::Error\nfn notify() {}",
        "#[cfg(test)]\nmod tests {\n    use axum::Router;\n}\n",
    ] {
        assert_eq!(found(doors, "src/low.rs", text), [""; 0], "{text}");
    }
    assert_eq!(found(doors, "src/metrics.rs", "use prometheus::Registry;"), [""; 0]);
}

#[test]
fn every_file_says_first_what_it_owns() {
    holds(headers);
    assert_eq!(found(headers, "src/low.rs", "use std::fmt;\n//! Late.\n").len(), 1);
}

#[test]
fn no_file_grows_too_long() {
    holds(sizes);
    let long = "fn f() {}\n".repeat(MOST_LINES + 1);
    assert_eq!(found(sizes, "src/low.rs", &long).len(), 1);
    let tested = format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
    assert_eq!(found(sizes, "src/low.rs", &tested), [""; 0]);
}

#[test]
fn nothing_is_put_off() {
    holds(promises);
    for mark in [
        concat!("// TO", "DO: later"),
        concat!("# FIX", "ME"),
        concat!("#[ign", "ore]"),
        concat!("(XX", "X)"),
    ] {
        assert_eq!(found(promises, "docs/a.md", mark).len(), 1, "{mark}");
    }
}

#[test]
fn production_code_neither_unwraps_nor_leaves_what_the_compiler_proves() {
    holds(forbidden_words);
    assert_eq!(found(forbidden_words, "src/low.rs", "fn f() { g().unwrap(); }").len(), 1);
    assert_eq!(found(forbidden_words, "benches/a.rs", concat!("fn f() { un", "safe { g() } }")).len(), 1);
    let fine =
        "fn f() -> &'static str { \".unwrap()\" }\n#[cfg(test)]\nmod tests { fn t() { g().unwrap(); } }";
    assert_eq!(found(forbidden_words, "src/low.rs", fine), [""; 0]);
}

#[test]
fn every_module_is_named_after_what_it_owns() {
    holds(names);
    assert_eq!(found(names, "src/low/utils.rs", "fn f() {}").len(), 1);
    assert_eq!(found(names, "tests/a/main.rs", "mod common;").len(), 1);
}

#[test]
fn the_lock_file_is_committed() {
    holds(lock);
    assert_eq!(found(lock, ".gitignore", "/target\nCargo.lock\n").len(), 2);
}

#[test]
fn comments_quotes_and_tests_are_not_code() {
    let text = "let a = 'x'; let b = '\\''; let c: &'a str = r#\"cr\"ate\"#; // end\nlet d = \"\\\"//\"; /* two\nlines */ end";
    let bare = bare(text);
    assert_eq!(bare.matches('\n').count(), 2);
    for gone in ["cr", "end\nlet", "two", "//", "'x'"] {
        assert!(!bare.contains(gone), "{gone} in {bare}");
    }
    for kept in ["let a", "let b", "&'a str", "let d", "; ", " end"] {
        assert!(bare.contains(kept), "{kept} in {bare}");
    }
    let text = "a();\n#[cfg(test)]\nmod tests {\n    fn b() { {} }\n}\nc();\n#[cfg(test)]\nmod other;\nd();";
    let left = without_tests(text);
    assert_eq!(left.lines().filter(|line| !line.is_empty()).collect::<Vec<_>>(), ["a();", "c();", "d();"]);
    assert_eq!(left.matches('\n').count(), text.matches('\n').count());
    let modules = |path| test_modules(&File::sample(path, text));
    assert_eq!(modules("src/low/mod.rs"), ["src/low/other.rs"]);
    assert_eq!(modules("src/low.rs"), ["src/low/other.rs"]);
}
