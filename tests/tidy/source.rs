//! The repository's files as the rules see them: which there are, and what of a text is code.
//! Knows no rule.

use std::path::Path;
use std::sync::{LazyLock, OnceLock};

/// One file of the repository.
pub(crate) struct File {
    /// From the repository's root.
    pub(crate) path: String,
    pub(crate) text: String,
    /// Whether it is a module that only tests have.
    is_test: bool,
    production: OnceLock<String>,
}

impl File {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), is_test: false, production: OnceLock::new() }
    }

    pub(crate) fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|extension| extension == "rs")
    }

    /// The code outside tests, without comments and what stands in quotes; lines stay where they are.
    pub(crate) fn production(&self) -> &str {
        let read = || if self.is_test { String::new() } else { without_tests(&bare(&self.text)) };
        self.production.get_or_init(read)
    }

    /// The module of `lib.rs` that this file belongs to.
    pub(crate) fn module(&self) -> Option<&str> {
        top_module(&self.path)
    }

    /// The folder of the crate beside the main one that this file belongs to.
    pub(crate) fn member<'a>(&self, members: &[&'a str]) -> Option<&'a str> {
        let around = members
            .iter()
            .filter(|member| self.path.strip_prefix(**member).is_some_and(|inside| inside.starts_with('/')));
        around.max_by_key(|member| member.len()).copied()
    }

    /// How many modules deep the file stands: 1 for those that `lib.rs` names.
    pub(crate) fn depth(&self) -> usize {
        let slashes = self.path.matches('/').count();
        if self.path.ends_with("/mod.rs") { slashes - 1 } else { slashes }
    }
}

/// All text files of the repository that are written by hand, read once.
pub(crate) fn repository() -> &'static [File] {
    static FILES: LazyLock<Vec<File>> = LazyLock::new(read);
    &FILES
}

fn read() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("the folder is readable") {
            let path = entry.expect("the folder is readable").path();
            let relative = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
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
                files.push(File::new(&relative, &text));
            }
        }
    }
    assert!(files.iter().filter(|file| file.is_rust()).count() > 50, "the sources were not found");
    let tests: Vec<String> = files.iter().filter(|file| file.is_rust()).flat_map(test_modules).collect();
    for file in &mut files {
        let is_of = |module: &String| {
            let rooms = module.strip_suffix(".rs").and_then(|folder| file.path.strip_prefix(folder));
            file.path == *module || rooms.is_some_and(|room| room.starts_with('/'))
        };
        file.is_test = tests.iter().any(is_of);
    }
    files
}

/// The files of the modules that a file has for its tests alone.
pub(crate) fn test_modules(file: &File) -> Vec<String> {
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

/// The module of `lib.rs` that a path in `src` belongs to.
pub(crate) fn top_module(path: &str) -> Option<&str> {
    let first = path.strip_prefix("src/")?.split('/').next()?;
    Some(first.strip_suffix(".rs").unwrap_or(first))
}

/// The folders of the crates beside the main one.
pub(crate) fn member_crates(files: &[File]) -> Vec<&str> {
    let folders = files.iter().filter_map(|file| file.path.strip_suffix("/Cargo.toml"));
    folders.filter(|folder| folder.starts_with("src/")).collect()
}

pub(crate) fn sources(files: &[File]) -> impl Iterator<Item = &File> {
    files.iter().filter(|file| file.is_rust() && file.path.starts_with("src/"))
}

/// Blanks comments and the insides of quotes.
pub(crate) fn bare(text: &str) -> String {
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
pub(crate) fn without_tests(text: &str) -> String {
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
pub(crate) fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + text[at..].find(is_word)?;
        let end = text[start..].find(|c| !is_word(c)).map_or(text.len(), |length| start + length);
        at = end;
        Some((start, &text[start..end]))
    })
}

pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}
