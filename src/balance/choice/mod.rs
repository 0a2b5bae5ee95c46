//! Owns the choice functions: plain numbers in, an index out.
//! Refuses to know endpoints, health and time; who is free, how loaded and how random are arguments.

mod pair;
mod rendezvous;
mod turns;

pub(super) use pair::Odds;
pub(super) use rendezvous::identity;
pub use rendezvous::{Entrant, hash_key, rendezvous};
pub(super) use turns::Turns;
