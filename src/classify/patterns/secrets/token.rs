//! Tokens that are known by their structure: signed claims, and keys that have a fixed part in their middle.

use std::sync::LazyLock;

use regex::Regex;

use super::{ACCESS_TOKEN, CLOUD_KEY, PatternHit, after, before, entropy};

/// A JSON Web Token (RFC 7519): header and claims are JSON objects in base64url, which begin like this.
static SIGNED_CLAIMS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"eyJ[A-Za-z0-9_-]{8,2048}\.eyJ[A-Za-z0-9_-]{8,8192}\.[A-Za-z0-9_-]{16,1024}")
        .expect("the pattern is valid")
});

/// A Telegram bot's: its number and 35 characters.
static BOT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[0-9]{8,10}:AA[A-Za-z0-9_-]{33}").expect("the pattern is valid"));

/// An Azure application's secret: its version stands at the fourth place.
static APPLICATION: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"[A-Za-z0-9_~.-]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}").expect("the pattern is valid")
});

/// A Slack web hook, whose path is the secret.
static HOOK: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"https://hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9_/+-]{20,120}")
        .expect("the pattern is valid")
});

/// Finds tokens by their structure.
pub(super) fn tokens(text: &str, found: &mut Vec<PatternHit>) {
    let kinds = [
        (&SIGNED_CLAIMS, "eyJ", ACCESS_TOKEN),
        (&BOT, ":AA", ACCESS_TOKEN),
        (&APPLICATION, "Q~", CLOUD_KEY),
        (&HOOK, "hooks.slack.com", ACCESS_TOKEN),
    ];
    for (pattern, sign, kind) in kinds {
        // The sign is looked for much faster than the pattern.
        if !text.contains(sign) {
            continue;
        }
        let stands_alone = |bytes: &std::ops::Range<usize>| {
            let touches = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
            !touches(before(text, bytes.start)) && !touches(after(text, bytes.end))
        };
        let tokens = pattern.find_iter(text).map(|token| token.range()).filter(stands_alone);
        let tokens = tokens.filter(|bytes| entropy(&text.as_bytes()[bytes.clone()]) >= 3.0);
        found.extend(tokens.map(|bytes| PatternHit { kind, bytes, confidence: 0.99 }));
    }
}
