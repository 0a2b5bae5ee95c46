//! Connection strings: addresses of databases, queues and accounts with the password in them.

use std::sync::LazyLock;

use regex::Regex;

use super::{CONNECTION_STRING, PatternHit, before, is_placeholder, is_word};

/// `scheme://user:password@host`, and what belongs to the address behind it.
static URI: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r#"([A-Za-z][A-Za-z0-9+.-]{1,30})://([^\s:/@"'<>`]{0,128}):([^\s/@"'<>`]{1,256})@[^\s"'<>`,;)\]}]{1,512}"#,
    )
    .expect("the pattern is valid")
});

/// `Server=…;Password=…;`, as drivers on Windows and Azure's accounts have it: at least two assignments, one of a secret.
static ASSIGNMENTS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r#"(?i)(?:(?:server|data source|host|endpoint|defaultendpointsprotocol|accountname|database|initial catalog|user id|uid|user|sharedaccesskeyname|port)=[^;\s"'<>]{1,200};\s?){1,8}(?:password|pwd|accountkey|sharedaccesskey)=([^;\s"'<>]{4,200})(?:;[^\s"'<>]{0,300})?"#,
    )
    .expect("the pattern is valid")
});

/// Finds connection strings whose password is not a placeholder.
pub(super) fn strings(text: &str, found: &mut Vec<PatternHit>) {
    let addresses = URI.captures_iter(text).filter_map(|found| found.get(0).zip(found.get(3)));
    let assignments = ASSIGNMENTS.captures_iter(text).filter_map(|found| found.get(0).zip(found.get(1)));
    for (whole, password) in addresses.chain(assignments) {
        let touches = before(text, whole.start()).is_some_and(is_word);
        if touches || is_placeholder(password.as_str()) {
            continue;
        }
        let end = whole.start() + whole.as_str().trim_end_matches(['.', '!', '?', ':']).len();
        found.push(PatternHit { kind: CONNECTION_STRING, bytes: whole.start()..end, confidence: 0.98 });
    }
}
