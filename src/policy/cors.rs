//! Owns which pages in browsers may ask the server. Refuses to know headers.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checker::Checker;
use super::duration::DurationText;
use super::issue::YamlPath;

/// Which pages in browsers may ask, by their origins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cors {
    /// The origins, such as `https://chat.example`; `*` stands for all of them.
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 300)))]
    pub origins: Vec<String>,
    /// For how long a browser may remember what it may ask.
    #[serde(default = "ten_minutes", with = "DurationText")]
    pub max_age: Duration,
}

fn ten_minutes() -> Duration {
    Duration::from_secs(600)
}

impl Cors {
    /// Whether a page of this origin may ask.
    pub fn allows(&self, origin: &str) -> bool {
        self.origins.iter().any(|own| own == "*" || own.eq_ignore_ascii_case(origin))
    }

    pub(super) fn check(&self, path: &YamlPath, checker: &mut Checker<'_>) {
        for (index, origin) in self.origins.iter().enumerate() {
            let host = origin.split_once("://");
            let is_origin = host.is_some_and(|(scheme, host)| {
                matches!(scheme, "http" | "https")
                    && !host.is_empty()
                    && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._:[]".contains(c))
            });
            if origin != "*" && !is_origin {
                let told = "is no origin, such as `https://chat.example`, without a path, nor `*`";
                checker.issue(&path.key("origins").index(index), told);
            }
        }
    }
}
