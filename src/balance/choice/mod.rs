//! Owns the choice functions: plain numbers in, an index out.
//! Refuses to know endpoints, health and time; who is free, how loaded and how random are arguments.

mod pair;
mod rendezvous;
mod turns;

pub(super) use pair::Odds;
pub use rendezvous::hash_key;
pub(super) use rendezvous::{Candidate, identity, rendezvous};
pub(super) use turns::Turns;
