//! Owns why a request is refused for want of room in its pool, in the words of the log and of llm-d.
//!
//! Knows nothing of when that is so.

/// Why a request is refused for want of room in its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShedReason {
    /// The pool is saturated, and requests of its priority do not wait.
    Saturated,
    /// As many wait as may.
    QueueFull,
    /// It waited, and gave way to one of a higher priority, or of a tenant that had fewer.
    Displaced,
    /// It has waited as long as it may.
    Expired,
}

impl ShedReason {
    /// The reason as a word of the log, the metrics and the error's message.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Saturated => "saturated",
            Self::QueueFull => "queue_full",
            Self::Displaced => "displaced",
            Self::Expired => "expired",
        }
    }

    /// The reason as llm-d's endpoint picker says it in `x-llm-d-request-dropped-reason`.
    pub fn dropped_reason(self) -> &'static str {
        match self {
            Self::Saturated | Self::QueueFull => "rejected-saturated",
            Self::Displaced => "evicted-queue-pressure",
            Self::Expired => "rejected-ttl-expired",
        }
    }
}
