//! Owns the kinds of personal data and secrets that are known by name. Refuses to know how they are found.

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

/// The kinds that patterns find of which the built-in model finds more, as it reads them without the form that the patterns
/// check.
const MORE_BY_MODEL: [&str; 2] = ["DOMAIN_NAME", "PHONE_NUMBER"];

/// Says whether patterns find all that there is to find of a kind: it has a check, and what fails the check is not of it.
pub(crate) fn is_checked(kind: &str) -> bool {
    PATTERN_PII_KINDS.contains(&kind) && !MORE_BY_MODEL.contains(&kind)
}

/// The kinds of personal data and secrets that the built-in model and the patterns distinguish.
pub(crate) fn known_pii_kinds() -> impl Iterator<Item = &'static str> {
    MODEL_PII_KINDS.into_iter().chain(PATTERN_PII_KINDS)
}
