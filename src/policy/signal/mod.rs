//! Owns the policy's `signals`: what is to be known about requests, a file a kind. Refuses to know how it is found out.
//!
//! A new kind is a file with its fields and their checks, and one line in `signal_kinds!` below.

mod complexity;
mod context;
mod conversation;
mod domain;
mod fact_check;
mod feedback;
mod identity;
mod jailbreak;
mod keyword;
mod language;
mod metadata;
mod modality;
mod pii;
mod reask;
mod secrets;
mod similarity;
mod structure;
mod table;

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::checker::Checker;
use super::context::PolicyContext;
use super::issue::YamlPath;
use super::schema::one_mapping;
pub use complexity::{ComplexitySignal, Level};
pub use context::ContextSignal;
pub use conversation::{ConversationSignal, Feature};
pub use domain::DomainSignal;
pub use fact_check::FactCheckSignal;
pub use feedback::{Feedback, FeedbackSignal};
pub use identity::IdentitySignal;
pub use jailbreak::JailbreakSignal;
pub use keyword::{Case, Keywords, Need};
pub(super) use language::named as language_named;
pub use language::{LANGUAGES, LanguageSignal};
pub use metadata::{MetadataSignal, MetadataTest};
pub use modality::{Modality, ModalitySignal};
pub use pii::{PiiKinds, PiiSignal};
pub use reask::ReaskSignal;
pub(super) use secrets::secret_kinds;
pub use secrets::{SecretKind, SecretsSignal, is_secret};
pub use similarity::{Aggregate, SimilaritySignal};
pub use structure::{MAX_PATTERN_BYTES, Measure, StructureSignal};
pub(super) use table::SignalTable;

/// A place in [`Policy::signals`](super::Policy::signals).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SignalId(pub usize);

/// One signal: something that is known about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// The name that traces, logs and metrics show.
    pub name: String,
    /// What it is.
    pub kind: SignalKind,
}

/// The fields of one kind of signal.
trait SignalFields: Sized {
    /// The fields as operators write them.
    type Raw: DeserializeOwned + JsonSchema;

    /// Completes the fields; what is wrong with them goes to the checker.
    fn check(raw: Self::Raw, path: &YamlPath, context: &PolicyContext<'_>, checker: &mut Checker<'_>)
    -> Self;
}

/// Fields that are final as operators write them.
trait PlainFields: DeserializeOwned + JsonSchema {}

impl<T: PlainFields> SignalFields for T {
    type Raw = Self;

    fn check(raw: Self, _: &YamlPath, _: &PolicyContext<'_>, _: &mut Checker<'_>) -> Self {
        raw
    }
}

/// Makes the enum of all kinds, and the one that is read, from one line a kind: docs, name, fields and key.
macro_rules! signal_kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident($fields:ident) = $key:literal,)+) => {
        /// What a signal is about.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum SignalKind {
            $($(#[doc = $doc])+ $kind($fields),)+
        }

        impl SignalKind {
            /// Returns the word for the kind, as policies spell it.
            pub fn as_str(&self) -> &'static str {
                match self {
                    $(Self::$kind(_) => $key,)+
                }
            }
        }

        /// One signal: something that is known about a request, of exactly one kind.
        #[derive(Deserialize, JsonSchema)]
        #[schemars(rename = "Signal", transform = one_mapping)]
        enum RawSignalKind {
            $($(#[doc = $doc])+ #[serde(rename = $key)] $kind(<$fields as SignalFields>::Raw),)+
        }

        impl RawSignalKind {
            fn check(
                self,
                path: &YamlPath,
                context: &PolicyContext<'_>,
                checker: &mut Checker<'_>,
            ) -> SignalKind {
                match self {
                    $(Self::$kind(raw) => {
                        SignalKind::$kind($fields::check(raw, &path.key($key), context, checker))
                    })+
                }
            }
        }
    };
}

signal_kinds! {
    /// What the prompt is about.
    Domain(DomainSignal) = "domain",
    /// Whether the text tries to turn a model against its instructions.
    Jailbreak(JailbreakSignal) = "jailbreak",
    /// Which personal data the text holds.
    Pii(PiiSignal) = "pii",
    /// Whether the text holds keys, tokens or passwords.
    Secrets(SecretsSignal) = "secrets",
    /// Words and phrases.
    Keyword(Keywords) = "keyword",
    /// Likeness to example phrases.
    Similarity(SimilaritySignal) = "similarity",
    /// Whether the prompt is more like hard examples or more like easy ones.
    Complexity(ComplexitySignal) = "complexity",
    /// The language of the prompt.
    Language(LanguageSignal) = "language",
    /// How many tokens the request has.
    Context(ContextSignal) = "context",
    /// How often, how densely or in which order patterns occur in the prompt.
    Structure(StructureSignal) = "structure",
    /// What the list of messages is made of.
    Conversation(ConversationSignal) = "conversation",
    /// Whether an answer should be checked against facts.
    FactCheck(FactCheckSignal) = "fact_check",
    /// How the user judges the answer before; without one it never matches.
    Feedback(FeedbackSignal) = "feedback",
    /// Whether the user repeats an earlier question.
    Reask(ReaskSignal) = "reask",
    /// Which kind of answer the prompt asks for.
    Modality(ModalitySignal) = "modality",
    /// What the body's `metadata` holds.
    Metadata(MetadataSignal) = "metadata",
    /// Who sends the request, as `identity` has verified it.
    Identity(IdentitySignal) = "identity",
}

/// One signal as operators write it. A faulty one may have no kind or several: the checker reports that, while the signal
/// keeps its name and its place.
pub(super) struct RawSignal(Vec<RawSignalKind>);

impl<'de> Deserialize<'de> for RawSignal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let keys = Map::<String, Value>::deserialize(deserializer)?;
        let kinds =
            keys.into_iter().map(|kind| serde_json::from_value(Value::Object(Map::from_iter([kind]))));
        kinds.collect::<Result<_, _>>().map(Self).map_err(D::Error::custom)
    }
}

impl JsonSchema for RawSignal {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        RawSignalKind::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        RawSignalKind::json_schema(generator)
    }
}

/// Checks the signals that have a name.
pub(super) fn signals(
    raw: IndexMap<String, RawSignal>,
    path: &YamlPath,
    context: &PolicyContext<'_>,
    checker: &mut Checker<'_>,
) -> SignalTable {
    let mut all = Vec::with_capacity(raw.len());
    for (name, RawSignal(kinds)) in raw {
        let path = path.key(&name);
        checker.name(&path, &name);
        if name.contains(':') {
            checker.issue(&path, "a signal's name must not contain a colon");
        }
        if kinds.len() != 1 {
            checker.issue(&path, "a signal is of exactly one kind, such as `keyword` or `domain`");
        }
        let kinds = kinds.into_iter().map(|kind| kind.check(&path, context, checker));
        // What is missing is an issue by now; the place in the list must stay.
        let kind = kinds.last().unwrap_or(SignalKind::Context(ContextSignal { min: 0, max: u64::MAX }));
        all.push(Signal { name, kind });
    }
    SignalTable::new(all)
}

/// Which texts of a request are looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The prompt: the last user message.
    #[default]
    Prompt,
    /// Every message, tool results included.
    Conversation,
}

/// The bounds of a count.
struct CountRange {
    min: u64,
    max: u64,
}

impl CountRange {
    /// Completes a range of which an end may be missing; without either it starts at `least`.
    fn check(
        min: Option<u64>,
        max: Option<u64>,
        least: u64,
        path: &YamlPath,
        checker: &mut Checker<'_>,
    ) -> Self {
        let range = match (min, max) {
            (None, None) => Self { min: least, max: u64::MAX },
            (min, max) => Self { min: min.unwrap_or(0), max: max.unwrap_or(u64::MAX) },
        };
        if range.min > range.max {
            checker.issue(path, format!("nothing lies between {} and {}", range.min, range.max));
        }
        range
    }
}

fn half() -> super::BasisPoints {
    super::BasisPoints(5000)
}

/// Whether any of these signals finds out where facts are needed.
pub(super) fn checks_facts(signals: &IndexMap<String, RawSignal>) -> bool {
    signals
        .values()
        .flat_map(|RawSignal(kinds)| kinds)
        .any(|kind| matches!(kind, RawSignalKind::FactCheck(facts) if facts.needed))
}
