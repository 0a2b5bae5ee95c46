//! Owns the signal `pii`. Refuses to know how personal data is found.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Scope, SignalFields};
use crate::BasisPoints;
use crate::checker::Checker;
use crate::context::PolicyContext;
use crate::issue::YamlPath;

/// The kinds of personal data that the built-in model alone finds.
pub const MODEL_PII_KINDS: [&str; 9] = [
    "AGE",
    "DATE_TIME",
    "GPE",
    "NRP",
    "ORGANIZATION",
    "PERSON",
    "STREET_ADDRESS",
    "US_DRIVER_LICENSE",
    "ZIP_CODE",
];

/// The kinds of personal data and secrets that patterns find, whatever the model.
pub const PATTERN_PII_KINDS: [&str; 24] = [
    "ACCESS_TOKEN",
    "BR_CNPJ",
    "BR_CPF",
    "CLOUD_KEY",
    "CONNECTION_STRING",
    "CREDIT_CARD",
    "CRYPTO",
    "DE_TAX_ID",
    "DOMAIN_NAME",
    "EMAIL_ADDRESS",
    "ES_NIE",
    "ES_NIF",
    "FR_NIR",
    "IBAN_CODE",
    "IN_AADHAAR",
    "IP_ADDRESS",
    "MAC_ADDRESS",
    "PASSWORD",
    "PHONE_NUMBER",
    "PRIVATE_KEY",
    "UK_NHS",
    "US_PASSPORT",
    "US_SSN",
    "VAT_NUMBER",
];

/// The kinds of personal data and secrets that the built-in model and the patterns distinguish.
pub(crate) fn known_pii_kinds() -> impl Iterator<Item = &'static str> {
    MODEL_PII_KINDS.into_iter().chain(PATTERN_PII_KINDS)
}

/// Personal data.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct PiiSignal {
    /// Which kinds count.
    #[serde(flatten)]
    pub kinds: PiiKinds,
    /// The least probability; the classifier's threshold when absent.
    pub min_score: Option<BasisPoints>,
    /// Which texts are looked at.
    pub scope: Scope,
}

/// Which kinds of personal data count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PiiKinds {
    /// The kinds that count, such as `EMAIL_ADDRESS`; all when empty.
    #[schemars(length(max = 100))]
    pub only: Vec<String>,
    /// The kinds that do not count.
    #[schemars(length(max = 100))]
    pub except: Vec<String>,
}

impl PiiKinds {
    /// Says whether a kind counts.
    pub fn holds(&self, kind: &str) -> bool {
        let is = |other: &String| other == kind;
        (self.only.is_empty() || self.only.iter().any(is)) && !self.except.iter().any(is)
    }
}

impl SignalFields for PiiSignal {
    type Raw = Self;

    fn check(
        raw: Self::Raw,
        path: &YamlPath,
        context: &PolicyContext<'_>,
        checker: &mut Checker<'_>,
    ) -> Self {
        context.check_pii(&raw.kinds.only, &path.key("only"), checker);
        context.check_pii(&raw.kinds.except, &path.key("except"), checker);
        raw
    }
}
