//! The arithmetic of a forward pass over plain slices on the CPU.
//!
//! Each function uses the widest instructions that the machine has, as found when the program runs, and all threads of
//! the pool that it is called in. Knows nothing of tensors, checkpoints, tokens or what the numbers mean.
//!
//! A package of its own so that debug builds can optimise it: its arithmetic is unusable without. It is a module of
//! `classify` in every other way.

#![allow(clippy::inline_always, reason = "wide instructions reach only what is inlined into a dispatch")]
#![allow(
    clippy::needless_range_loop,
    reason = "rows and vectors of a tile are registers, counted by constants"
)]

mod aligned;
mod attention;
mod dispatch;
mod dot;
mod gate;
#[cfg(target_arch = "x86_64")]
mod int8;
mod norm;
mod packed;
mod reduce;
mod rope;
#[cfg(test)]
mod tests;
mod tile;

pub use attention::{Attention, attend};
pub use dot::dot;
pub use gate::gate;
pub use norm::{Norm, means};
pub use packed::{Matrix, PackedMatrix};
pub use reduce::{Reduction, reduce};
pub use rope::Rope;
pub use tile::Activation;

/// Counts the threads of the pool that this thread belongs to; one where it belongs to none.
fn threads() -> usize {
    match rayon::current_thread_index() {
        Some(_) => rayon::current_num_threads(),
        None => 1,
    }
}
