//! Owns how `classifier.thresholds.jailbreak` is written. Refuses to know what the points are worth: each model says.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::BasisPoints;

/// From which probability on a text counts as an attack: a number, or a point that the model's makers measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a number from 0 to 1, `balanced` or `strict` is needed")]
pub enum AttackThreshold {
    /// A probability.
    Score(BasisPoints),
    /// One of the model's own.
    Point(OperatingPoint),
}

/// A threshold by what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperatingPoint {
    /// Few false alarms.
    Balanced,
    /// More attacks are found, and more false alarms raised.
    Strict,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_a_number_or_a_named_point() {
        let read = serde_json::from_str::<AttackThreshold>;
        assert_eq!(read("0.9").unwrap(), AttackThreshold::Score(BasisPoints(9000)));
        for (text, point) in
            [("\"balanced\"", OperatingPoint::Balanced), ("\"strict\"", OperatingPoint::Strict)]
        {
            assert_eq!(read(text).unwrap(), AttackThreshold::Point(point));
            assert_eq!(serde_json::to_string(&AttackThreshold::Point(point)).unwrap(), text);
        }
        let error = read("\"lenient\"").unwrap_err().to_string();
        assert!(error.starts_with("a number from 0 to 1, `balanced` or `strict` is needed"), "{error}");
    }
}
