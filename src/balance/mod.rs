//! Owns which endpoint of a pool takes a request: membership, health, ejection, choice, leases and the
//! retry budget. Beside them, for the choice among models: how quick each is, and which one a conversation has.
//! Refuses to know what a request says, how an endpoint is reached, what a policy looks like and what
//! time it is.

mod budget;
mod choice;
mod ejection;
mod endpoint;
mod lease;
mod memory;
mod pace;
mod pool;

pub use budget::RetryBudget;
pub use choice::{Entrant, hash_key, rendezvous};
pub use ejection::Ejection;
pub use endpoint::{Endpoint, HealthThresholds};
pub use lease::Lease;
pub use memory::Conversations;
pub use pace::{Flight, Pace, PaceReading};
pub use pool::{Member, Pool, Strategy};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a state that stays valid after every statement, so that another thread's panic does not spoil it.
fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
