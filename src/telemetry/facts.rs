//! Owns the table of facts: what is recorded of a finished request, and under which names the access log, the response
//! headers and the metrics report it.
//!
//! Each field of a group is a member of the log line, in this order and under the field's name, unless another key
//! follows it. Holds no prompt, no answer and no key.

use super::admission_record::AdmissionRecord;
use super::columns::{
    Header, MetricFamily, RequestCounter, counter, decimals, family, flag, header, text, word,
};
use super::line::facts;
use super::upstream_record::UpstreamRecord;
use super::values::{MatchedSignal, ResponsePath};
use http::Method;
use std::net::SocketAddr;

facts! {
    /// One finished request.
    pub struct AccessRecord {
        /// The request's id, the client's own or made here; it goes back to the client.
        request_id: String,
        /// The id made here, which goes upstream, where the client has one of its own.
        gateway_request_id: Option<String>,
        /// The client's address.
        client: Option<SocketAddr>,
        /// What the client sent.
        request: RequestRecord,
        /// What was decided, and why.
        routing: RoutingRecord,
        /// What reading the prompt cost.
        classifier: ClassifierRecord,
        /// Where it was sent.
        upstream: UpstreamRecord,
        /// What came back.
        response: ResponseRecord,
        /// What most requests have none of. Boxed: keeps the record of the others small.
        details: Option<Box<RecordDetails>>,
    }
}

facts! {
    /// What the client sent.
    pub struct RequestRecord {
        /// The HTTP method.
        method: Method,
        /// The path, without its query, cut at 256 bytes.
        path: String,
        /// The model as the client named it, cut at 256 bytes.
        requested_model: Option<String>,
        /// Whether a stream was asked for.
        stream: bool,
        /// The body's length in bytes.
        request_bytes: usize,
    }
}

facts! {
    /// What was decided about a request, and why.
    pub struct RoutingRecord {
        /// The model that answers, a name of the policy.
        model: Option<String>,
        /// What the prompt is about.
        category: Option<String>,
        /// How sure that is, 0 to 1.
        confidence: Option<f32>,
        /// The share of the prompt's tokens that this was judged from, 0 to 1.
        coverage: Option<f32>,
        /// The decision that chose the model.
        decision: Option<String>,
        /// What the model was chosen by, such as `decided` or `named`.
        reason: Option<&'static str>,
    }
}

facts! {
    /// What reading the prompt cost the classifier.
    pub struct ClassifierRecord {
        /// Milliseconds in the classifier, its queue included.
        classify_ms: Option<f64>,
        /// Milliseconds of these in the classifier's queue.
        classify_queued_ms: Option<f64>,
        /// Tokens of the prompt that the classifier read.
        classify_tokens: Option<usize>,
        /// Windows that it cut them into.
        classify_windows: Option<usize>,
        /// Windows of these whose results were cached.
        classify_cached: Option<usize>,
        /// The models that judged the prompt's domain and attacks in it: one, or two where its language is unsure.
        judged_by: Option<String>,
    }
}

facts! {
    /// What came back.
    pub struct ResponseRecord {
        /// The status sent; 499 when the client left before there was one.
        status: u16,
        /// Where the answer came from.
        response_path: ResponsePath,
        /// The code of our own rejection, or `client_closed`.
        error: Option<&'static str>,
        /// The body's length in bytes.
        response_bytes: usize,
        /// Tokens of the prompt, as the upstream counted them.
        prompt_tokens: Option<u64>,
        /// Tokens of the answer, as the upstream counted them.
        completion_tokens: Option<u64>,
        /// Tokens of the prompt that the upstream had cached.
        cached_tokens: Option<u64>,
        /// Milliseconds to the first token of a stream, of another answer to the first byte of its body.
        ttft_ms: Option<f64>,
        /// Milliseconds to the end.
        duration_ms: f64,
    }
}

facts! {
    /// What is recorded of requests that meet more than a model's name.
    pub struct RecordDetails {
        /// Who sent it.
        identity: IdentityRecord,
        /// The decision that matched.
        decision: DecisionRecord,
        /// How it came to its pool, where that has a gate.
        admission: AdmissionRecord,
        /// What guards found and did.
        guards: GuardRecord,
        /// What the response cache did.
        cache: CacheRecord,
        /// Where the prompt was computed, in a pool with `prefill`.
        prefill: PrefillRecord,
        /// The model that got a copy.
        shadow: Option<String>,
        /// What the answer cost.
        cost: CostRecord,
    }
}

facts! {
    /// Who sent a request, as verified.
    pub struct IdentityRecord {
        /// The user.
        user: Option<String>,
        /// The user's tenant.
        tenant: Option<String>,
    }
}

facts! {
    /// How the decision came about, and what it did to the request.
    pub struct DecisionRecord {
        /// The list of decisions, if it is not the policy's own.
        recipe: Option<String>,
        /// The decision's score, from 0 to 1.
        score: Option<f32>,
        /// The signals that matched.
        signals: Vec<MatchedSignal>,
        /// By what one of several models was chosen.
        algorithm: Option<&'static str>,
        /// What was in favour of the model among several.
        algorithm_reason: Option<&'static str>,
        /// The model that would have been chosen otherwise, with its replica where that is known, and why it was not.
        runner_up: Option<String>,
        /// Whether, and how hard, the model is to reason: `off`, `low`, `medium` or `high`.
        reasoning: Option<&'static str>,
        /// Whether the operator's system prompt went in.
        system_prompt: Option<bool>,
    }
}

facts! {
    /// What guards found in a request and its answer, and what they did.
    pub struct GuardRecord {
        /// What a guard refused the request for: `jailbreak` or `personal_data`.
        blocked: Option<&'static str>,
        /// How probable an attack is that a guard noticed.
        jailbreak: Option<f32>,
        /// Where in the request it stands: whose text, which message, which bytes of it.
        jailbreak_at: Option<String>,
        /// The kinds of personal data that a guard noticed.
        pii: Vec<String>,
        /// The guards that had no result, each with the reason.
        unjudged: Vec<(&'static str, &'static str)>,
        /// What the guard of answers did: `masked` or `cut`.
        answer_guard: Option<&'static str>,
        /// How probable it is that the answer makes something up, where the guard of answers noticed that.
        hallucination: Option<f32>,
        /// Milliseconds in which the answer was checked against the text that its model was given.
        verify_ms: Option<f64>,
        /// Whether the answer needs facts, and there was no text to check it against.
        unverified_factual: Option<bool>,
    }
}

facts! {
    /// What the response cache did.
    pub struct CacheRecord {
        /// The result of the lookup: `hit`, `similar`, `followed`, `miss`, `bypass`.
        result as "cache": Option<&'static str>,
        /// How similar the cached prompt is, from 0 to 1.
        similarity as "cache_similarity": Option<f32>,
        /// How likely the likest kept question that was judged by the paraphrase head is the same, from 0 to 1.
        paraphrase as "cache_paraphrase": Option<f32>,
    }
}

facts! {
    /// Where a prompt was computed, and how that went.
    pub struct PrefillRecord {
        /// `remote`, or why it was computed where it was answered: `below_threshold`, `unsupported`, `saturated`,
        /// `no_endpoint`, `no_room`, `connect`, `reset`, `timeout`, `busy`, `refused`, `server_error`, `malformed`, `too_long`,
        /// `nothing_kept`, `bootstrap`.
        result as "prefill": Option<&'static str>,
        /// The pool that was asked to compute it.
        pool as "prefill_pool": Option<String>,
        /// The endpoint that was asked last.
        endpoint as "prefill_endpoint": Option<SocketAddr>,
        /// Milliseconds that this took, failed tries included.
        ms as "prefill_ms": Option<f64>,
        /// Tokens of the prompt that this endpoint was taken to have cached, at four bytes a token.
        predicted_cached_tokens as "prefill_predicted_cached_tokens": Option<u32>,
        /// Tokens of the prompt that it had cached, as it counted them.
        cached_tokens as "prefill_cached_tokens": Option<u64>,
    }
}

facts! {
    /// What the answer cost.
    pub struct CostRecord {
        /// By the policy's prices, in `currency`.
        amount as "cost": Option<f64>,
        /// The policy's name of the currency.
        currency: Option<String>,
        /// Whose the counts of tokens are, where they are not the upstream's: `estimated` from what was streamed to a client that
        /// has left, or `bounded`, since more were said than can be.
        usage_note as "token_counts": Option<&'static str>,
    }
}

/// The headers of every response, in the order in which they are sent.
pub(super) static HEADERS: [Header<AccessRecord>; 11] = [
    header("x-request-id", |record| text(&record.request_id)),
    header("x-upstream-request-id", |record| text(record.upstream.upstream_request_id.as_ref()?)),
    header("x-vsr-response-path", |record| word(record.response.response_path.as_str())),
    header("x-vsr-selected-model", |record| text(record.routing.model.as_ref()?)),
    header("x-vsr-selected-category", |record| text(record.routing.category.as_ref()?)),
    header("x-vsr-judged-by", |record| text(record.classifier.judged_by.as_ref()?)),
    header("x-vsr-selected-decision", |record| text(record.routing.decision.as_ref()?)),
    header("x-vsr-selected-reason", |record| word(record.routing.reason?)),
    header("x-reissued", |record| flag(record.upstream.reissued?)),
    header("x-hedged", |record| word(record.upstream.hedged?)),
    header("x-endpoint-reason", |record| {
        let upstream = &record.upstream;
        let reason = upstream.endpoint_reason?;
        match (upstream.predicted_cached_tokens, upstream.predicted_prompt_tokens) {
            (Some(cached), Some(prompt)) => text(&format!("{reason}; cached={cached}; prompt={prompt}")),
            _ => word(reason),
        }
    }),
];

/// The headers that follow for a record with details, in the order in which they are sent.
pub(super) static DETAIL_HEADERS: [Header<AccessRecord>; 22] = [
    header("x-llm-d-request-dropped-reason", |record| {
        word(record.details.as_ref()?.admission.dropped_reason?)
    }),
    header("x-queued-ms", |record| text(&format!("{:.0}", record.details.as_ref()?.admission.queued_ms?))),
    header("x-prefill-result", |record| word(record.prefill_result()?)),
    header("x-vsr-selected-recipe", |record| text(record.recipe()?)),
    header("x-vsr-selected-confidence", |record| decimals(record.decision_details()?.score?, 4)),
    header("x-vsr-selected-algorithm", |record| word(record.decision_details()?.algorithm?)),
    header("x-vsr-selected-reasoning", |record| {
        word(if record.decision_details()?.reasoning? == "off" { "off" } else { "on" })
    }),
    header("x-vsr-injected-system-prompt", |record| flag(record.decision_details()?.system_prompt.is_some())),
    header("x-vsr-cache-hit", |record| flag(record.response.response_path == ResponsePath::Cache)),
    header("x-vsr-cache-similarity", |record| {
        let similarity = record.details.as_ref()?.cache.similarity?;
        decimals(similarity, 4).filter(|_| record.response.response_path == ResponsePath::Cache)
    }),
    header("x-vsr-cache-paraphrase", |record| decimals(record.details.as_ref()?.cache.paraphrase?, 4)),
    header("x-vsr-fast-response", |record| flag(record.response.response_path == ResponsePath::Fixed)),
    header("x-vsr-jailbreak-blocked", |record| flag(record.blocked_for("jailbreak").is_some())),
    header("x-vsr-jailbreak-type", |record| record.blocked_for("jailbreak").and_then(|_| word("jailbreak"))),
    header("x-vsr-jailbreak-confidence", |record| decimals(record.blocked_for("jailbreak")?.jailbreak?, 3)),
    header("x-vsr-pii-violation", |record| flag(record.blocked_for("personal_data").is_some())),
    header("x-vsr-pii-types", |record| text(&record.blocked_for("personal_data")?.pii.join(","))),
    header("x-vsr-guard-unjudged", |record| {
        let unjudged = &record.guards()?.unjudged;
        let each: Vec<String> = unjudged.iter().map(|(guard, reason)| format!("{guard}={reason}")).collect();
        text(&each.join(",")).filter(|_| !each.is_empty())
    }),
    header("x-vsr-unverified-factual-response", |record| flag(record.is_unverified())),
    header("x-vsr-fact-check-needed", |record| flag(record.is_unverified())),
    header("x-vsr-verification-context-missing", |record| flag(record.is_unverified())),
    header("x-vsr-response-warnings", |record| {
        record.is_unverified().then(|| word("unverified_factual")).flatten()
    }),
];

pub(super) const REQUESTS: MetricFamily = family(
    "requests_total",
    "Finished requests, by the model that answered, the pool, the status and the reason of the choice.",
    &["model", "pool", "status", "reason"],
);

pub(super) const DURATION: MetricFamily = family(
    "request_duration_seconds",
    "Time from the request's header to the last byte of the answer.",
    &["model"],
);

pub(super) const TIME_TO_FIRST_TOKEN: MetricFamily = family(
    "time_to_first_token_seconds",
    "Time from the request's header to the first token of a stream, or to the first byte of another answer's body.",
    &["model"],
);

pub(super) const TOKENS: MetricFamily = family(
    "tokens_total",
    "Tokens as the upstreams counted them; cached ones are part of the prompt's.",
    &["model", "kind"],
);

/// What else is counted of a finished request. The families above, which every request has, are counted by
/// `metrics/requests.rs`, which keeps their series at hand.
pub(super) const COUNTERS: &[RequestCounter<AccessRecord>] = &[
    counter(
        "decisions_total",
        "Requests whose prompt was classified, by category and decision.",
        &["category", "decision", "model"],
        |record, add| {
            if let Some(category) = &record.routing.category {
                add(&[category, record.decision(), record.model()], 1.0);
            }
        },
    ),
    counter(
        "rejections_total",
        "Answers of our own instead of an upstream's, by code.",
        &["code"],
        |record, add| record.response.error.into_iter().for_each(|code| add(&[code], 1.0)),
    ),
    counter(
        "signal_matches_total",
        "Requests for which a signal matched, by its kind and name.",
        &["kind", "signal"],
        |record, add| {
            for signal in record.decision_details().into_iter().flat_map(|decision| &decision.signals) {
                add(&[signal.kind, &signal.name], 1.0);
            }
        },
    ),
    counter(
        "model_choices_total",
        "Choices among several models of a decision, by what they were made and why this model.",
        &["model", "by", "why"],
        |record, add| {
            if let Some(DecisionRecord { algorithm: Some(by), algorithm_reason: Some(why), .. }) =
                record.decision_details()
            {
                add(&[record.model(), by, why], 1.0);
            }
        },
    ),
    counter(
        "reasoning_total",
        "Requests whose model was told to reason, by the effort, or not to: off.",
        &["model", "effort"],
        |record, add| {
            if let Some(effort) = record.decision_details().and_then(|decision| decision.reasoning) {
                add(&[record.model(), effort], 1.0);
            }
        },
    ),
    counter(
        "guard_notices_total",
        "What guards noticed: jailbreak, pii, unjudged, answer_masked, answer_cut, hallucination, unverified_factual.",
        &["notice", "model"],
        |record, add| {
            let Some(guards) = record.guards() else { return };
            let notices = [
                ("jailbreak", guards.jailbreak.is_some()),
                ("pii", !guards.pii.is_empty()),
                ("unjudged", !guards.unjudged.is_empty()),
                ("answer_masked", guards.answer_guard == Some("masked")),
                ("answer_cut", guards.answer_guard == Some("cut")),
                ("hallucination", guards.hallucination.is_some()),
                ("unverified_factual", guards.unverified_factual.is_some()),
            ];
            for (notice, _) in notices.into_iter().filter(|(_, is_there)| *is_there) {
                add(&[notice, record.model()], 1.0);
            }
        },
    ),
    counter(
        "guard_unjudged_total",
        "Requests and answers that a guard could not judge, by the guard, the reason, and what became of them: allowed or rejected.",
        &["guard", "reason", "result"],
        |record, add| {
            let Some(guards) = record.guards() else { return };
            for &(guard, reason) in &guards.unjudged {
                let is_cut = guard == "answer" && guards.answer_guard == Some("cut");
                let is_rejected = is_cut || record.response.error == Some("unclassified");
                add(&[guard, reason, if is_rejected { "rejected" } else { "allowed" }], 1.0);
            }
        },
    ),
    counter(
        "guard_pii_total",
        "Requests in which a guard noticed personal data, by its kind.",
        &["kind"],
        |record, add| {
            record.guards().into_iter().flat_map(|guards| &guards.pii).for_each(|kind| add(&[kind], 1.0));
        },
    ),
    counter(
        "cache_requests_total",
        "Requests whose answer may be kept, by what the cache said: hit, similar, followed, miss, bypass.",
        &["decision", "result"],
        |record, add| {
            if let Some(result) = record.details.as_ref().and_then(|details| details.cache.result) {
                add(&[record.decision(), result], 1.0);
            }
        },
    ),
    counter(
        "cost_total",
        "What answers cost by the policy's prices, in the currency.",
        &["model", "currency"],
        |record, add| {
            let cost = record.details.as_ref().map(|details| &details.cost);
            if let Some(CostRecord { amount: Some(amount), currency: Some(currency), .. }) = cost {
                add(&[record.model(), currency], *amount);
            }
        },
    ),
    counter(
        "token_counts_adjusted_total",
        "Requests whose tokens are not as their upstream counted them: estimated for a client that has left, or bounded.",
        &["model", "how"],
        |record, add| {
            if let Some(how) = record.details.as_ref().and_then(|details| details.cost.usage_note) {
                add(&[record.model(), how], 1.0);
            }
        },
    ),
];
