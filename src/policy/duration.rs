//! Owns durations as the operator writes them: `300ms`, `5s`, `2m`, `1h`. Refuses to know what they bound.

use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The longest duration: a day.
const MAX_SECONDS: u64 = 24 * 60 * 60;

/// Why a text is no duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum DurationFault {
    #[error("not a duration; write a whole number and `ms`, `s`, `m` or `h`, such as `300ms` or `5s`")]
    Form,
    #[error("longer than 24h")]
    Long,
}

/// A duration in a raw type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct RawDuration(pub(super) Duration);

impl TryFrom<String> for RawDuration {
    type Error = DurationFault;

    fn try_from(text: String) -> Result<Self, DurationFault> {
        parse_duration(&text).map(Self)
    }
}

impl From<RawDuration> for String {
    fn from(RawDuration(duration): RawDuration) -> Self {
        let millis = duration.as_millis();
        if millis % 1000 == 0 { format!("{}s", millis / 1000) } else { format!("{millis}ms") }
    }
}

impl JsonSchema for RawDuration {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A whole number and `ms`, `s`, `m` or `h`, such as `300ms` or `5s`; at most 24h.",
            "pattern": "^[0-9]+(ms|s|m|h)$",
            "x-format": "duration",
            "x-expected": "a duration such as `300ms` or `5s`",
        })
    }
}

/// Reads a whole number with its unit.
pub(super) fn parse_duration(text: &str) -> Result<Duration, DurationFault> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let millis_per_unit = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(DurationFault::Form),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(DurationFault::Form);
    }
    let millis = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(millis_per_unit));
    match millis {
        Some(millis) if millis <= MAX_SECONDS * 1000 => Ok(Duration::from_millis(millis)),
        _ => Err(DurationFault::Long),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_with_a_unit_are_durations() {
        assert_eq!(parse_duration("300ms"), Ok(Duration::from_millis(300)));
        assert_eq!(parse_duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("24h"), Ok(Duration::from_secs(86_400)));
        for text in ["", "5", "s", "1.5s", "-5s", "5 s", "5S", "5sec", "٥s"] {
            assert_eq!(parse_duration(text), Err(DurationFault::Form), "{text}");
        }
        assert_eq!(parse_duration("25h"), Err(DurationFault::Long));
        assert_eq!(parse_duration("99999999999999999999h"), Err(DurationFault::Long));
    }

    #[test]
    fn a_duration_is_written_as_it_is_read() {
        assert_eq!(String::from(RawDuration(Duration::from_millis(500))), "500ms");
        assert_eq!(String::from(RawDuration(Duration::from_secs(120))), "120s");
    }
}
