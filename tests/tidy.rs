//! Holds the code to the architecture: layers, doors, sizes and words. Each rule is also run on a sample that breaks
//! it, so that a rule that sees nothing is noticed.

#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/naming.rs"]
mod naming;
#[path = "tidy/shapes.rs"]
mod shapes;
#[path = "tidy/source.rs"]
mod source;

use source::{
    File, bare, line_of, member_crates, repository, sources, test_modules, top_module, without_tests, words,
};

/// The most lines of a file outside its tests.
const MOST_LINES: usize = 450;

/// Where Pingora is named: what proxies, what asks endpoints, and what assembles the server.
const PINGORA_DOORS: &[&str] = &[
    "src/proxy/",
    "src/control/endpoint_client.rs",
    "src/control/probe.rs",
    "src/control/kv_events/sources.rs",
    "src/control/scrape/",
    "src/control/sources/",
    "src/server.rs",
    "src/server/",
];

/// Crates that only these files may name; a folder ends with a slash.
const DOORS: &[(&str, &[&str])] = &[
    ("pingora", PINGORA_DOORS),
    ("pingora_*", PINGORA_DOORS),
    ("candle_*", &["src/classify/"]),
    ("tokenizers", &["src/classify/"]),
    ("safetensors", &["src/classify/"]),
    ("rayon", &["src/classify/"]),
    ("hf_hub", &["src/classify/hub.rs"]),
    ("ureq", &["src/classify/hub/", "src/cli/explain/replicas.rs"]),
    ("saphyr_parser", &["src/policy/yaml.rs"]),
    ("k8s_openapi", &[]),
    ("kube", &["src/control/sources/"]),
    ("notify", &["src/control/watch.rs"]),
    ("prometheus", &["src/telemetry/metrics.rs", "src/telemetry/metrics/"]),
    ("arc_swap", &["src/snapshot.rs"]),
    (
        "axum",
        &["src/sim/", "src/control/admin.rs", "src/control/classify_api.rs", "src/control/classify_api/"],
    ),
    ("hyper", &["src/sim/", "src/control/admin.rs"]),
    ("hyper_util", &["src/sim/", "src/control/admin.rs", "src/proxy/ext_proc/connector.rs"]),
    ("prost", &["src/proxy/ext_proc/"]),
    ("prost_types", &["src/proxy/ext_proc/"]),
    ("rustls_native_certs", &["src/proxy/ext_proc/connector.rs"]),
    ("tonic", &["src/proxy/ext_proc/"]),
    ("tower", &["src/proxy/ext_proc/connector.rs"]),
    ("rcgen", &["src/sim/tls.rs"]),
    ("redis", &["src/cache/"]),
    ("flate2", &["src/proxy/content_coding.rs"]),
    ("brotli", &["src/proxy/content_coding.rs"]),
    ("zstd", &["src/proxy/content_coding.rs"]),
    ("clap", &["src/main.rs", "src/cli.rs", "src/cli/"]),
    ("indicatif", &["src/cli/", "src/classify/hub/client.rs"]),
];

/// Modules that only these modules may use, whatever the layers say.
const ONLY_FOR: &[(&str, &[&str])] = &[("sim", &["cli"]), ("cli", &[])];

/// Names that say nothing about what a module owns.
const EMPTY_NAMES: &[&str] = &["common", "helper", "helpers", "misc", "shared", "types", "util", "utils"];

/// The groups of `lib.rs`, ground first.
fn layers(lib: &str) -> Vec<Vec<&str>> {
    let mut groups = vec![Vec::new()];
    for line in lib.lines() {
        let module = line.strip_prefix("pub mod ").and_then(|rest| rest.strip_suffix(';'));
        let member = || line.strip_prefix("pub use signalbox_")?.split_once(" as ")?.1.strip_suffix(';');
        match module.or_else(member) {
            Some(module) => groups.last_mut().expect("there is a first group").push(module),
            None if line.trim().is_empty() => groups.push(Vec::new()),
            None => {}
        }
    }
    groups.retain(|group| !group.is_empty());
    groups
}

/// The modules of `lib.rs` that a file names, each with its line. In a crate beside the main one they go by the names of
/// their own crates.
fn used(file: &File, members: &[&str]) -> Vec<(usize, String)> {
    let code = file.production();
    let mut found = Vec::new();
    for (at, word) in words(code) {
        let Some(name) = word.strip_prefix("signalbox_") else { continue };
        let Some(member) = members.iter().find(|member| member.strip_prefix("src/") == Some(name)) else {
            continue;
        };
        found.extend(top_module(member).map(|module| (line_of(code, at), module.to_owned())));
    }
    if file.member(members).is_some() {
        return found;
    }
    let to_root = "super::".repeat(file.depth());
    for prefix in ["crate::", to_root.as_str()] {
        for (at, _) in code.match_indices(prefix) {
            if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let line = line_of(code, at);
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
    let members = member_crates(files);
    let layer = |module: &str| layers.iter().position(|group| group.contains(&module));
    let mut faults = Vec::new();
    for file in sources(files).filter(|file| !["src/lib.rs", "src/main.rs"].contains(&file.path.as_str())) {
        let own = file.module().expect("a source lies in src");
        let Some(height) = layer(own) else {
            faults.push(format!("{}: lib.rs names no module `{own}`", file.path));
            continue;
        };
        for (line, other) in used(file, &members).into_iter().filter(|(_, other)| other != own) {
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
        for (at, word) in words(code) {
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
                faults.push(format!("{}:{}: `{word}` has its door elsewhere", file.path, line_of(code, at)));
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
    // Texts to learn from say what people write.
    let is_data =
        |file: &&File| std::path::Path::new(&file.path).extension().is_some_and(|ext| ext == "jsonl");
    for file in files.iter().filter(|file| !is_data(file)) {
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

/// The one file whose code the compiler does not prove: it says itself why it may be run.
const UNPROVEN: &str = "src/classify/kernels/int8.rs";

fn forbidden_words(files: &[File]) -> Vec<String> {
    let mut faults = Vec::new();
    for file in files.iter().filter(|file| file.is_rust() && file.path != UNPROVEN) {
        let code = bare(&file.text);
        let words_of = words(&code).filter(|(_, word)| *word == concat!("un", "safe"));
        faults.extend(words_of.map(|(at, word)| format!("{}:{}: {word}", file.path, line_of(&code, at))));
    }
    for file in sources(files) {
        let code = file.production();
        for call in [".unwrap()", ".unwrap_err()"] {
            let found = code.match_indices(call);
            faults.extend(found.map(|(at, _)| format!("{}:{}: {call}", file.path, line_of(code, at))));
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

/// The lock is there, names this crate, and git does not ignore it.
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
    let faults = rule(repository());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What a rule finds in a sample, which stands beside a small `lib.rs`.
fn found(rule: Rule, path: &str, text: &str) -> Vec<String> {
    found_in(rule, &[(path, text)])
}

/// The same for a sample of several files.
fn found_in(rule: Rule, sample: &[(&str, &str)]) -> Vec<String> {
    const LIB: &str =
        "//! Lib.\n\npub mod low;\npub mod beside;\n\npub mod sim;\n\npub mod high;\n\npub mod cli;\n";
    let mut files = vec![File::new("src/lib.rs", LIB)];
    files.extend(sample.iter().map(|(path, text)| File::new(path, text)));
    rule(&files)
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
    for path in ["src/beside/mod.rs", "src/beside/deep.rs"] {
        let sample =
            [("src/low/Cargo.toml", ""), ("src/beside/Cargo.toml", ""), (path, "use signalbox_low::Thing;")];
        assert_eq!(found_in(layering, &sample).len(), 1, "{path}");
        let sample = [("src/beside/Cargo.toml", ""), (path, "use crate::high;\nuse super::high;")];
        assert_eq!(found_in(layering, &sample), [""; 0], "{path}");
    }
    for (path, text) in [
        ("src/high.rs", "use signalbox_low::Thing;"),
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
    let lib = repository().iter().find(|file| file.path == "src/lib.rs").unwrap();
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
    assert_eq!(found(doors, "src/telemetry/metrics.rs", "use prometheus::Registry;"), [""; 0]);
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
    let modules = |path| test_modules(&File::new(path, text));
    assert_eq!(modules("src/low/mod.rs"), ["src/low/other.rs"]);
    assert_eq!(modules("src/low.rs"), ["src/low/other.rs"]);
}
