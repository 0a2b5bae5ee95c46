//! Text to speech.

use super::dialect::{Dialect, RequestDialect};

pub(super) const DIALECT: Dialect =
    Dialect { name: "speech", paths: &["/v1/audio/speech"], request: RequestDialect::of_prompt("input") };
