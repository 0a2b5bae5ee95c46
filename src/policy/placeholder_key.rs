//! Owns the key of the placeholders that stand for masked texts. Refuses to know how they are made of it.
//!
//! All replicas must have the same key, or one conversation has two placeholders for a text. Whoever knows the key can
//! guess which text a placeholder stands for, so that it must be unknown to the upstreams.

use std::fmt;

use ring::digest::{Context, SHA256};

use super::Secret;
use super::checker::Checker;
use super::issue::YamlPath;
use super::secret::SecretSource;
use super::yaml::{YamlKind, YamlNode};

/// The least length of a key, in bytes.
const MIN_BYTES: usize = 16;

/// The key of placeholders.
#[derive(Clone)]
pub enum PlaceholderKey {
    /// As the operator keeps it.
    Own(Secret),
    /// A digest of the policy's text, its variables expanded: the same in all replicas, another one after an edit.
    OfPolicy([u8; 32]),
}

impl PlaceholderKey {
    /// Reads the key, or derives one from the policy.
    pub(super) fn check(source: Option<&SecretSource>, path: &YamlPath, checker: &mut Checker<'_>) -> Self {
        let own = source.and_then(|source| source.check(path, checker));
        if own.as_ref().is_some_and(|key| key.len() < MIN_BYTES) {
            checker.issue(path, format!("must have at least {MIN_BYTES} characters, which nobody can guess"));
        }
        own.map_or_else(|| Self::OfPolicy(digest(checker.tree())), |key| Self::Own(Secret::new(key)))
    }

    /// Gives the key itself.
    pub fn expose(&self) -> &[u8] {
        match self {
            Self::Own(key) => key.expose().as_bytes(),
            Self::OfPolicy(digest) => digest,
        }
    }
}

impl PartialEq for PlaceholderKey {
    /// Keys that are derived from equal policies do the same.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Own(one), Self::Own(other)) => one == other,
            (Self::OfPolicy(_), Self::OfPolicy(_)) => true,
            _ => false,
        }
    }
}

impl Eq for PlaceholderKey {}

impl fmt::Debug for PlaceholderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

fn digest(tree: &YamlNode) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    add(&mut hash, tree);
    hash.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn add(hash: &mut Context, node: &YamlNode) {
    // Lengths keep what follows apart.
    let text = |hash: &mut Context, text: &str| {
        hash.update(&text.len().to_le_bytes());
        hash.update(text.as_bytes());
    };
    match &node.kind {
        YamlKind::Scalar(scalar) => {
            hash.update(b"s");
            text(hash, &scalar.text);
        }
        YamlKind::List(items) => {
            hash.update(b"l");
            hash.update(&items.len().to_le_bytes());
            for item in items {
                add(hash, item);
            }
        }
        YamlKind::Map(entries) => {
            hash.update(b"m");
            hash.update(&entries.len().to_le_bytes());
            for entry in entries {
                text(hash, &entry.key);
                add(hash, &entry.value);
            }
        }
    }
}
