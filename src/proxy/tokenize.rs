//! Owns learning how an engine cuts a prompt into tokens, beside the request: that makes the engine's account of its KV cache
//! usable for the prompts that begin like it.
//!
//! Never delays a request: once that is answered it asks the endpoint which had it, at most a few at once, and gives up
//! what is late.

use super::Gateway;
use super::exchange::Exchange;
use super::side_client::SideRequest;
use super::upstream::{new_request, upstream_path};
use crate::balance::{LearntTokens, PickPrompt, PickRequest};
use crate::openai::ChatRequest;
use crate::policy::PoolId;
use crate::snapshot::Snapshot;
use serde::Deserialize;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// How long an engine may take to cut a prompt.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// How often, and after what time, it is looked whether an engine has said of the first prompt of all that it has it.
const FIRST_WORD: (u32, Duration) = (50, Duration::from_millis(100));

/// The path that vLLM cuts prompts at, those of chats and those of completions.
const PATH: &str = "/tokenize";

#[derive(Deserialize)]
struct TokenizeAnswer {
    tokens: Vec<u64>,
}

/// A prompt whose tokens are asked for.
struct TokenizeTask {
    live: Arc<Snapshot>,
    request: ChatRequest,
    /// The pool that answered, and the one that may have computed the prompt for it.
    pools: Vec<PoolId>,
    model: String,
    adapter: Option<String>,
}

impl Gateway {
    /// Asks for the tokens of a prompt that was answered, where that is worth it.
    pub(super) fn learn_tokens(&self, exchange: &Exchange) {
        let Some(attempts) = &exchange.attempts else { return };
        let spec = attempts.spec(&exchange.live);
        if spec.probes.kv_events.is_none() && spec.prefill.is_none() {
            return;
        }
        let request = attempts.request.upstream_request();
        let (live, target) = (&exchange.live, attempts.target());
        let own = target.pool(&live.policy);
        let mut pools: Vec<PoolId> =
            std::iter::once(own).chain(spec.prefill.as_ref().map(|prefill| prefill.pool)).collect();
        pools.retain(|pool| live.pool_spec(*pool).probes.kv_events.is_some());
        if pools.is_empty() || exchange.record.response.status != 200 || !can_be_cut(request) {
            return;
        }
        let task = TokenizeTask {
            live: Arc::clone(live),
            request: request.clone(),
            pools,
            model: target.upstream_model(&live.policy).to_owned(),
            adapter: target.lora.clone(),
        };
        let Ok(permit) = Arc::clone(&self.side_client.background).try_acquire_owned() else {
            return self.metrics.kv_event(&spec.name, "tokens_skipped");
        };
        let mut share = exchange.active.new_share();
        if share.grow_to(request.footprint() + attempts.body().len()).is_err() {
            return;
        }
        let (body, id) = (attempts.body().clone(), format!("{}-tokenize", exchange.record.own_id()));
        let authority = attempts.authority().unwrap_or_default();
        let path = upstream_path(PATH, &spec.api, "");
        let Ok(header) = new_request(spec, authority, &path, body.len(), &id) else { return };
        let Some(endpoint) = attempts.leased() else { return };
        let request = SideRequest { peer: self.upstream_tls.peer(spec, endpoint), header, body };
        let (client, metrics, pool) =
            (Arc::clone(&self.side_client), Arc::clone(&self.metrics), spec.name.clone());
        tokio::spawn(async move {
            let _permit = permit;
            if !task.is_worth_it().await {
                return;
            }
            let mut late = pin!(async {
                tokio::time::sleep(ANSWER_TIME).await;
                Ok(None)
            });
            let answer = client.send(request, &mut share, late.as_mut()).await;
            let answer =
                answer.ok().and_then(|answer| serde_json::from_slice::<TokenizeAnswer>(&answer.body).ok());
            if let Some(answer) = &answer {
                task.learn(&answer.tokens);
            }
            metrics.kv_event(&pool, if answer.is_some() { "tokens_learnt" } else { "tokens_failed" });
        });
    }
}

impl TokenizeTask {
    async fn is_worth_it(&self) -> bool {
        let (times, pause) = FIRST_WORD;
        for _ in 0..times {
            if self.pools.iter().any(|pool| self.live.pool(*pool).block_tokens().is_some()) {
                break;
            }
            tokio::time::sleep(pause).await;
        }
        let prompt = PickPrompt::new(&self.request);
        self.pools.iter().any(|pool| self.live.pool(*pool).needs_tokens(&self.pick(&prompt)))
    }

    fn learn(&self, tokens: &[u64]) {
        let prompt = PickPrompt::new(&self.request);
        let salt = self.request.field("cache_salt");
        let learnt = LearntTokens { tokens, adapter: self.adapter.as_deref(), salt: salt.as_deref() };
        for pool in &self.pools {
            self.live.pool(*pool).learn_tokens(&self.pick(&prompt), learnt);
        }
    }

    fn pick<'a>(&'a self, prompt: &'a PickPrompt<'a>) -> PickRequest<'a> {
        PickRequest {
            model: &self.model,
            adapter: self.adapter.as_deref(),
            prompt: Some(prompt),
            ..PickRequest::default()
        }
    }
}

/// Whether `/tokenize` cuts the prompt as the engine does: text alone, one prompt. Images have tokens that depend on the
/// engine's processor and keys of their own.
fn can_be_cut(request: &ChatRequest) -> bool {
    request.is_one_text_prompt() && request.unread().is_empty()
}
