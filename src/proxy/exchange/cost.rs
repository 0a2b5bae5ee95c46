//! Owns what an answer cost, by its model's price and what its upstream counted, or came to.

use super::{CLIENT_CLOSED, Exchange};
use crate::openai::{TokenUsage, UsageReader};
use crate::proxy::answer::AnswerOutcome;
use crate::telemetry::CostRecord;

/// Bytes of a request per token, estimated.
const BYTES_PER_TOKEN: u64 = 4;

impl Exchange {
    /// Records what the answer cost, where its model has a price.
    pub(super) fn record_cost(&mut self) {
        let Some(attempts) = &self.attempts else { return };
        let Some(price) = &self.live.policy[attempts.target().model].price else { return };
        let response = &self.record.response;
        let (Some(prompt), Some(completion)) = (response.prompt_tokens, response.completion_tokens) else {
            return;
        };
        let amount = price.cost(prompt, response.cached_tokens.unwrap_or_default(), completion);
        let currency = price.currency.clone();
        self.record.details().cost = CostRecord { amount: Some(amount), currency: Some(currency) };
    }

    /// What a client that has left its stream is charged, where its model has a price and the upstream has not come to say what
    /// it cost: a token for each event but the first, and a token for four bytes of the prompt.
    pub(super) fn streamed_so_far(&self, outcome: Option<&AnswerOutcome>) -> Option<TokenUsage> {
        let attempts =
            self.attempts.as_ref().filter(|_| self.record.response.error == Some(CLIENT_CLOSED))?;
        self.live.policy[attempts.target().model].price.as_ref()?;
        let events = match outcome {
            Some(outcome) => outcome.events,
            None => self.answer.usage.as_ref().map_or(0, UsageReader::events),
        };
        (self.answer.is_stream && events > 0).then(|| TokenUsage {
            prompt_tokens: attempts.body().len() as u64 / BYTES_PER_TOKEN,
            completion_tokens: events - 1,
            cached_tokens: 0,
        })
    }
}
