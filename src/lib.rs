//! Signalbox: an LLM data plane in one process.
//!
//! # The waist
//!
//! **The snapshot is the waist.** [`control`] only *writes* it, [`proxy`] only *reads* it. Deciding under it is a
//! function of what it is given: time, randomness and the environment are arguments.
//!
//! ```text
//! policy.yaml ──▶ control/reload ──┐
//! DNS         ──▶ control/sources ─┼─▶ Snapshot ◀── proxy ◀── client
//! Kubernetes  ──▶ control/sources ─┤
//! /health     ──▶ control/probe ───┤  (states inside its Endpoints)
//! /metrics    ──▶ control/scrape ──┘  (figures inside its Endpoints)
//! ```
//!
//! The `ArcSwap` in [`snapshot`] is the only thing that is swapped. What outlives a snapshot is carried into the next and
//! changes in place: endpoints, retry budgets, latencies and sticky sessions ([`balance`]), cached answers ([`cache`]),
//! and the classifier's queue and window cache ([`classify`]).
//!
//! Every upstream is a pool: a vLLM deployment is a pool of plaintext endpoints, OpenAI a pool of one TLS endpoint with a
//! credential. After a policy is checked there is no "local or remote".
//!
//! # The life of a request
//!
//! | phase | where | takes → gives |
//! | --- | --- | --- |
//! | (task) | `proxy/client_watch` | a client that leaves while Pingora waits for an upstream ends its exchange |
//! | `new_ctx` | `proxy/exchange` open | [`snapshot::Live`] → an exchange that holds one snapshot for its whole life |
//! | `request_filter` | [`openai::Operation::of`] | method, path → operation, or [`openai::Rejection`] |
//! | | `proxy/body` read | session → `Bytes`, bounded |
//! | | `proxy/identity` | headers → who asks, where that is verified |
//! | | [`openai::ChatRequest::of`] | bytes → model, stream, and where in the bytes they are |
//! | | [`openai::ChatRequest::segments`] | bytes → every text that the model is shown, read once, when first asked for |
//! | | [`route::plan`] | snapshot × request → [`route::Plan`], or an answer of our own: calls [`signals`], [`decide`], the guards, [`choose`] and the plugins |
//! | | `proxy/cache_lookup` | a cached answer, from [`cache`] |
//! | | `proxy/admission` `wait_for_room` | priority × [`balance::AdmissionGate`] → a permit, a turn in the queue, or 429 |
//! | | `proxy/attempt` start | plan → [`balance::Lease`], and the bytes to send |
//! | | `proxy/replay` | the session, made to replay those bytes for every attempt |
//! | `upstream_peer` | `proxy/upstream` | lease → `HttpPeer` |
//! | `upstream_request_filter` | `proxy/upstream` `prepare_request` | Host, credential, length; of the rest what `proxy/headers` lets pass |
//! | `upstream_response_filter`, `fail_to_connect`, `error_while_proxy` | `proxy/attempt` next | failure → another endpoint, a new connection, or a rejection |
//! | `upstream_response_body_filter` | `proxy/error_text` | an error's text, where only that tells an engine that is full from a broken one; a stream's first byte, where its head waits for that |
//! | `response_filter` | `proxy/respond` prepare, stamp | which model and why, as headers |
//! | | `proxy/answer` start | the stages of the answer: guard, unmask, collect, verify; none for most answers |
//! | `response_body_filter` | [`openai::UsageReader`] | chunk → tokens, first byte; the chunk passes untouched |
//! | (write) | `proxy/replay` → `proxy/answer` pass | chunk → what its stages release; verified before its header goes out, or after a stream |
//! | `fail_to_proxy` | [`openai::Rejection`] | error → OpenAI-shaped JSON or a last event |
//! | `logging` | `proxy/exchange` close | one [`telemetry::AccessRecord`] for the log and the metrics; the lease ends here |
//!
//! `Bytes → ChatRequest → Plan → Lease → HttpPeer`: each is made once and handed on. A retry goes back to the lease
//! alone: it picks again without deciding again.
//!
//! # The layers
//!
//! The modules below stand in groups, ground first. A module may use the groups before its own, not its neighbours;
//! `tests/tidy.rs` holds the code to that and to one door for each heavy dependency. What is large and needs no other module
//! than the policy ([`openai`], [`policy`], [`language`], [`classify`] and its kernels) is a crate of its own in its folder: what
//! changes above them leaves them built.

#![forbid(unsafe_code)]

pub mod evaluation;
pub use signalbox_language as language;
pub use signalbox_openai as openai;
pub use signalbox_policy as policy;

pub mod balance;
pub mod cache;
pub use signalbox_classify as classify;
pub mod http_route;

pub mod signals;

pub mod choose;
pub mod decide;

pub mod snapshot;

pub mod route;

pub mod server_state;
pub mod telemetry;

pub mod control;
pub mod proxy;

pub mod server;
pub mod sim;

pub mod cli;
