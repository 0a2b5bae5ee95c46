//! Owns what an answer cost, by its model's price and what its upstream counted, or came to.

use super::{CLIENT_CLOSED, Exchange};
use crate::openai::{TokenUsage, UsageReader};
use crate::policy::Provider;
use crate::proxy::answer::AnswerOutcome;

/// So many tokens may come of what engines put around a prompt, and of what is nobody's text.
const TEMPLATE_TOKENS: u64 = 64 << 10;

/// More tokens than any model reads or writes for one request.
const MOST_TOKENS: u64 = 16 << 20;

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
        let cost = &mut self.record.details().cost;
        (cost.amount, cost.currency) = (Some(amount), Some(currency));
    }

    /// What a client that has left its stream is charged, where that matters and the upstream has not come to say what it
    /// cost: a token for each event but the first, and a token for four bytes of the prompt.
    fn streamed_so_far(&self, outcome: Option<&AnswerOutcome>) -> Option<TokenUsage> {
        let attempts =
            self.attempts.as_ref().filter(|_| self.record.response.error == Some(CLIENT_CLOSED))?;
        let is_priced = self.live.policy[attempts.target().model].price.is_some();
        if !is_priced && attempts.hidden_usage(&self.live).is_none() {
            return None;
        }
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

    /// What is counted of a request, and in the record how it came about where the upstream's word is not all of it.
    pub(super) fn settle_usage(
        &mut self,
        said: Option<TokenUsage>,
        outcome: Option<&AnswerOutcome>,
    ) -> Option<TokenUsage> {
        let (usage, note) = match said {
            Some(said) => {
                let believable = self.believable(said);
                (believable, (believable != said).then_some("bounded"))
            }
            None => (self.streamed_so_far(outcome)?, Some("estimated")),
        };
        if let Some(note) = note {
            self.record.details().cost.usage_note = Some(note);
        }
        Some(usage)
    }

    /// What an upstream says that it has counted, as far as that can be: no prompt has more tokens than bytes, beside what
    /// templates add and what a request refers to, and no answer more than were asked for, or than it has bytes.
    fn believable(&self, said: TokenUsage) -> TokenUsage {
        let Some(attempts) = &self.attempts else { return said };
        let (sent, got) = (attempts.body().len() as u64, self.answer.bytes as u64);
        if said.prompt_tokens <= sent + TEMPLATE_TOKENS && said.completion_tokens <= got + TEMPLATE_TOKENS {
            // As good as always, and the rest costs something.
            return said.with_at_most(said.prompt_tokens, said.completion_tokens);
        }
        let request = &attempts.request.request;
        // What a provider's own tools find is read by the model too.
        let has_tools =
            attempts.spec(&self.live).api.provider != Provider::Engines && request.tools().next().is_some();
        let is_all_text = !has_tools && request.unread().is_empty() && !request.refers_to_stored();
        let prompt = if is_all_text { sent + TEMPLATE_TOKENS } else { sent + MOST_TOKENS };
        let number = |name: &str| request.field(name)?.parse::<u64>().ok();
        let limits = ["max_completion_tokens", "max_tokens", "max_output_tokens"];
        let choices = ["n", "best_of"].into_iter().filter_map(number).max().unwrap_or(1).max(1);
        // Tokens that nobody is shown are among those that are asked for.
        let asked = limits.into_iter().filter_map(number).max().map(|most| most.saturating_mul(choices));
        said.with_at_most(prompt, asked.unwrap_or(MOST_TOKENS).max(got))
    }
}
