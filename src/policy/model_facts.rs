//! Owns what a policy needs to know of the models that it names. Refuses to read them.

/// What the models that a policy names say of themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelFacts {
    /// The domains of the classifier; any may be named while they are unknown.
    pub domains: Option<Vec<String>>,
    /// Models that cannot be what the policy takes them for.
    pub faults: Vec<ModelFault>,
}

/// Why a model cannot be used where the policy names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFault {
    /// The keys that lead to its name.
    pub keys: &'static [&'static str],
    /// What is wrong.
    pub message: String,
}
