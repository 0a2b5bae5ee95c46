//! Owns what is recorded of where a request was sent: a group of the table of facts.
//!
//! Knows nothing of the rest of the table.

use super::line::facts;
use crate::balance::{ChoiceMargin, Standing};
use std::net::SocketAddr;

facts! {
    /// Where a request was sent.
    pub struct UpstreamRecord {
        /// The pool of the last attempt.
        pool: Option<String>,
        /// The endpoint of the last attempt.
        endpoint: Option<SocketAddr>,
        /// The attempts made, the last one included.
        tries: u32,
        /// Whether an endpoint was left since its first byte took long.
        reissued: Option<bool>,
        /// Which of two endpoints that were asked has answered, `first` or `second`; nothing where one was asked alone.
        hedged: Option<&'static str>,
        /// The upstream's id of the request, if it gave one.
        upstream_request_id: Option<String>,
        /// Why this endpoint. In a pool that goes by what endpoints have cached: `prefix` if it was taken to have some of
        /// the prompt, else `load`; in one with an external picker: `external`, or `external_failed` where its choice is
        /// not the picker's.
        endpoint_reason: Option<&'static str>,
        /// Tokens of the prompt that the endpoint was taken to have cached, at four bytes a token.
        predicted_cached_tokens: Option<u32>,
        /// Tokens of the prompt, at four bytes a token.
        predicted_prompt_tokens: Option<u32>,
        /// What the endpoint was chosen by, where that is a figure.
        margin: EndpointMarginRecord,
    }
}

facts! {
    /// What an endpoint was chosen by, beside the best of the others.
    pub struct EndpointMarginRecord {
        /// Tokens to compute, the least of all.
        endpoint_cost: Option<f64>,
        /// The least of the others.
        next_endpoint_cost: Option<f64>,
        /// The sum of its scores, the highest of all.
        endpoint_score: Option<f64>,
        /// The highest of the others.
        next_endpoint_score: Option<f64>,
    }
}

impl EndpointMarginRecord {
    /// What is recorded of a choice.
    pub fn of(margin: ChoiceMargin) -> Self {
        let scores = |standing: Standing| match standing {
            Standing::Cost(cost) => (Some(cost.round()), None),
            Standing::Score(sum) => (None, Some((sum * 1e4).round() / 1e4)),
        };
        let (endpoint_cost, endpoint_score) = scores(margin.chosen);
        let (next_endpoint_cost, next_endpoint_score) = margin.next.map_or((None, None), scores);
        Self { endpoint_cost, next_endpoint_cost, endpoint_score, next_endpoint_score }
    }
}
