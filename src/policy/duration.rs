//! Owns durations as the operator writes them: `300ms`, `5s`, `2m`, `1h`. Refuses to know what they bound.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest duration: a day.
const MAX_SECONDS: u64 = 24 * 60 * 60;
/// The `x-format` of a duration that may not be 0.
const LONGER_THAN_ZERO: &str = "duration";

/// Why a text is no duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum DurationError {
    #[error("not a duration; write a whole number and `ms`, `s`, `m` or `h`, such as `300ms` or `5s`")]
    Form,
    #[error("longer than 24h")]
    Long,
    #[error("must be longer than 0")]
    Zero,
}

/// How a [`Duration`] longer than 0 is read and written: `#[serde(with = "DurationText")]`, or around an optional one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct DurationText(pub(super) Duration);

impl DurationText {
    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        Serialize::serialize(&Self(*duration), serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text: Self = Deserialize::deserialize(deserializer)?;
        Ok(text.0)
    }
}

impl TryFrom<String> for DurationText {
    type Error = DurationError;

    fn try_from(text: String) -> Result<Self, DurationError> {
        parse_duration(&text).map(Self)
    }
}

impl From<DurationText> for String {
    fn from(DurationText(duration): DurationText) -> Self {
        let millis = duration.as_millis();
        if millis % 1000 == 0 { format!("{}s", millis / 1000) } else { format!("{millis}ms") }
    }
}

impl JsonSchema for DurationText {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schema(
            "A whole number and `ms`, `s`, `m` or `h`, such as `300ms` or `5s`; at most 24h.",
            LONGER_THAN_ZERO,
        )
    }
}

/// As [`DurationText`], but 0 is allowed.
pub(super) struct DurationOrZeroText;

impl DurationOrZeroText {
    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        DurationText::serialize(duration, serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        DurationText::deserialize(deserializer)
    }
}

impl JsonSchema for DurationOrZeroText {
    fn schema_name() -> Cow<'static, str> {
        "DurationOrZero".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schema(
            "A whole number and `ms`, `s`, `m` or `h`, such as `0s` or `5s`; at most 24h.",
            "duration-or-zero",
        )
    }
}

fn schema(description: &str, format: &str) -> Schema {
    json_schema!({
        "type": "string",
        "description": description,
        "pattern": "^[0-9]+(ms|s|m|h)$",
        "x-format": format,
        "x-expected": "a duration such as `300ms` or `5s`",
    })
}

/// Says why a text isn't a duration in one of the formats that a schema's `x-format` names.
pub(super) fn duration_error(text: &str, format: &str) -> Option<DurationError> {
    match parse_duration(text) {
        Ok(duration) if duration.is_zero() && format == LONGER_THAN_ZERO => Some(DurationError::Zero),
        parsed => parsed.err(),
    }
}

/// Reads a whole number with its unit.
fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let millis_per_unit = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(DurationError::Form),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(DurationError::Form);
    }
    let millis = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(millis_per_unit));
    match millis {
        Some(millis) if millis <= MAX_SECONDS * 1000 => Ok(Duration::from_millis(millis)),
        _ => Err(DurationError::Long),
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
            assert_eq!(parse_duration(text), Err(DurationError::Form), "{text}");
        }
        assert_eq!(parse_duration("25h"), Err(DurationError::Long));
        assert_eq!(parse_duration("99999999999999999999h"), Err(DurationError::Long));
    }

    #[test]
    fn a_duration_is_written_as_it_is_read() {
        assert_eq!(String::from(DurationText(Duration::from_millis(500))), "500ms");
        assert_eq!(String::from(DurationText(Duration::from_secs(120))), "120s");
    }
}
