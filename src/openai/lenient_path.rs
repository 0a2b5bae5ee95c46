//! Whether a path could be read as that of an API by a server that is less strict than [`Operation::of`](super::Operation).
//!
//! Refuses to know what becomes of such a request.

use super::json::string::hex;
use super::{Api, ResourceFamily};

/// How many layers of percent-encoding are undone: a server's own, and those of the servers before it.
const MAX_LAYERS: usize = 4;

/// What follows a version in the paths of APIs, beside what [`Api`] and [`ResourceFamily`] have.
const OTHERS: [&str; 3] = ["models", "chat", "audio"];

/// Whether a path could be taken for that of an API, however it is spelt: with other letters' case, escapes, doubled or
/// turned slashes, steps, parameters, something before it or below it. Exact paths of APIs are among them.
pub fn may_name_api(path: &str) -> bool {
    let segments = segments(&decoded(path));
    let has_version = segments.windows(2).any(|pair| is_version(&pair[0]) && is_root(&pair[1]));
    // What has no version is known as a whole alone: others may have such a name below their own.
    let whole = format!("/{}", segments.join("/"));
    has_version || Api::at(&whole).is_some() || is_chat(&segments)
}

/// `/chat/completions` is an API's path with or without a version.
fn is_chat(segments: &[String]) -> bool {
    segments.windows(2).any(|pair| pair[0] == "chat" && pair[1] == "completions")
}

fn is_version(segment: &str) -> bool {
    let number = segment.strip_prefix('v').unwrap_or_default();
    number.starts_with(|first: char| first.is_ascii_digit())
}

/// Whether an API's path goes on like this after its version.
fn is_root(segment: &str) -> bool {
    let first_of =
        |path: &'static str| path.trim_start_matches("/v1/").trim_start_matches("/v2/").split('/').next();
    let is_it = |path: &'static str| first_of(path) == Some(segment);
    Api::paths().any(is_it) || ResourceFamily::all_roots().any(is_it) || OTHERS.contains(&segment)
}

/// A path without percent-encoding, in lower case.
fn decoded(path: &str) -> String {
    let mut path = path.as_bytes().to_vec();
    for _layer in 0..MAX_LAYERS {
        if !path.contains(&b'%') {
            break;
        }
        path = undo_escapes(&path);
    }
    String::from_utf8_lossy(&path).to_lowercase()
}

fn undo_escapes(path: &[u8]) -> Vec<u8> {
    let (mut undone, mut rest) = (Vec::with_capacity(path.len()), path);
    while let Some((first, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).copied().and_then(hex);
        if let (b'%', Some(high), Some(low)) = (first, digit(0), digit(1)) {
            undone.push(high << 4 | low);
            rest = &after[2..];
        } else {
            undone.push(*first);
            rest = after;
        }
    }
    undone
}

/// The segments that a path has once its steps are taken.
fn segments(path: &str) -> Vec<String> {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let mut taken: Vec<String> = Vec::new();
    for segment in path.split(['/', '\\']) {
        let named = segment.split(';').next().unwrap_or_default();
        let named: String = named.chars().filter(|letter| !letter.is_control()).collect();
        match named.trim() {
            "" | "." => {}
            ".." => {
                taken.pop();
            }
            name => taken.push(name.to_owned()),
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_apis_path_is_known_however_it_is_spelt() {
        for path in [
            "/v1/chat/completions",
            "/v1/chat/completions/",
            "//v1/chat/completions",
            "/v1//chat///completions",
            "/V1/Chat/COMPLETIONS",
            "/v1/chat/./completions",
            "/x/../v1/chat/completions",
            "/v1/chat/x/../completions",
            "/v1/%63hat/completions",
            "/v1%2Fchat%2Fcompletions",
            "/v1/%2563hat/completions",
            "/v1%252fchat/completions",
            "\\v1\\chat\\completions",
            "/v1;a=b/chat;c/completions",
            "/v1/chat/completions%3Fx",
            "/v1/chat%00/completions",
            "/v1/ chat/completions",
            "/llm/v1/chat/completions",
            "/openai/deployments/gpt/chat/completions",
            "/v1/completions/more",
            "/v2/completions",
            "/v1beta/models/gemini",
            "/v1/messages/",
            "/RERANK",
            "//tokenize",
            "/x/../pooling",
            "/%73core",
            "/v2//rerank",
            "/v1/files/x",
            "/a/v1/realtime",
        ] {
            assert!(may_name_api(path), "{path}");
        }
    }

    #[test]
    fn other_paths_are_none() {
        for path in [
            "/",
            "",
            "/v1",
            "/v1/users",
            "/api/v1/users",
            "/web/messages",
            "/models",
            "/chat",
            "/shop/score",
            "/responses",
            "/v1/chat/../users",
            "/%zz%4",
            "/vitamins/files",
            "/%ff%fe",
        ] {
            assert!(!may_name_api(path), "{path}");
        }
    }
}
