//! Owns sizes as the operator writes them: `64KiB`, `32MiB`, `1GB`, or a number of bytes. Refuses to know what they
//! bound.

use schemars::Schema;
use serde_json::json;

/// The `x-format` of a number of bytes that may be written with a unit.
pub(super) const SIZE: &str = "size";

/// What a text that is no size should have been.
pub(super) const SIZE_EXPECTED: &str = "a number of bytes, or a size such as `64KiB`, `32MiB` or `1GB`";

/// Units and their bytes; as in Kubernetes, `Mi` is `MiB`, and `M` is `MB`.
const UNITS: [(&[&str], u64); 7] = [
    (&["B"], 1),
    (&["KiB", "Ki"], 1 << 10),
    (&["MiB", "Mi"], 1 << 20),
    (&["GiB", "Gi"], 1 << 30),
    (&["KB", "kB", "k"], 1_000),
    (&["MB", "M"], 1_000_000),
    (&["GB", "G"], 1_000_000_000),
];

/// Lets a number of bytes be written with a unit: `#[schemars(transform = sized)]`; what is read is the number.
pub(super) fn sized(schema: &mut Schema) {
    let units: Vec<&str> = UNITS.iter().flat_map(|(names, _)| names.iter().copied()).collect();
    schema.insert("type".to_owned(), json!(["integer", "string"]));
    schema.insert("pattern".to_owned(), json!(format!("^[0-9]+ *({})$", units.join("|"))));
    schema.insert("x-format".to_owned(), json!(SIZE));
    schema.insert("x-expected".to_owned(), json!(SIZE_EXPECTED));
}

/// Reads a whole number with its unit, in bytes.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let (number, unit) = (digits.trim_end_matches(' '), &text[digits.len()..]);
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (_, bytes) = UNITS.iter().find(|(names, _)| names.contains(&unit))?;
    number.parse::<u64>().ok()?.checked_mul(*bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_with_a_unit_are_sizes() {
        for (text, bytes) in [
            ("1B", 1),
            ("64KiB", 64 << 10),
            ("32 MiB", 32 << 20),
            ("2Gi", 2 << 30),
            ("5MB", 5_000_000),
            ("1k", 1_000),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "5", "MiB", "1.5MiB", "-5MiB", "5mib", "5 x", "99999999999GiB", "٥MiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }
}
