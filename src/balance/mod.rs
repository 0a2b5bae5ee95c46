//! Owns which endpoint of a pool takes a request: membership, health, outlier detection, choice, leases and the
//! retry budget. Beside them, for the choice among models: how quick each is, and which one a session has.
//! Refuses to know how an endpoint is reached, where it was discovered and what time it is.

mod admission;
mod budget;
mod endpoint;
mod engine_metrics;
mod engine_state;
mod failure_record;
mod fair_queue;
mod hedging;
mod kv_account;
mod kv_blocks;
mod latency;
mod lease_watch;
mod members;
mod outlier;
pub mod picker;
mod pool;
mod prefix_table;
mod prompt_tokens;
mod refusals;
mod rendezvous;
mod saturation;
mod sticky;
mod token_load;
mod token_progress;
mod work_fit;

pub use admission::{
    AdmissionDecision, AdmissionForecast, AdmissionGate, AdmissionPermit, AdmissionRefusal, AdmissionVerdict,
    QueuedRequest,
};
pub use budget::RetryBudget;
pub use endpoint::{ConnectionMark, Endpoint, PoolMember};
pub use engine_metrics::{EngineMetrics, KvCacheSize, LoadReport, LoadedAdapters};
pub use fair_queue::GateRequest;
pub use hedging::{HedgePermit, Hedging};
pub use kv_account::KvAccountState;
pub use kv_blocks::{KvEvent, KvTier, StoredBlocks, salt_key};
pub use latency::{InFlightGuard, LatencySnapshot, LatencyStats};
pub use lease_watch::{LeaseWatch, ReissueWatch, RivalEndpoint};
pub use members::EndpointForecast;
pub use picker::{ChoiceMargin, EngineLoad, PickPrompt, PickRequest, ReplicaForecast, Standing};
pub use pool::{Lease, Pool};
pub use prompt_tokens::{KnownTokens, LearntTokens};
pub use refusals::Refusal;
pub use rendezvous::{HashEntry, hash_key, rendezvous};
pub use sticky::StickySessions;
pub use token_load::RequestWork;
pub use work_fit::PrefillTime;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a state that stays valid after every statement, so that another thread's panic does not spoil it.
fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
