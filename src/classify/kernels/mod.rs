//! The arithmetic of a forward pass over plain slices on the CPU.
//!
//! Each function uses the widest instructions that the machine has, as found when the program runs, and all threads of
//! the pool that it is called in. Knows nothing of tensors, checkpoints, tokens or what the numbers mean.

mod attend;
mod gate;
mod lines;
mod norm;
mod packed;
mod rope;
#[cfg(test)]
mod tests;
mod tile;

pub(in crate::classify) use attend::{Attention, attend};
pub(in crate::classify) use gate::gate;
pub(in crate::classify) use norm::{Norm, means};
pub(in crate::classify) use packed::{Matrix, Packed};
pub(in crate::classify) use rope::Rope;
pub(in crate::classify) use tile::Then;

/// Counts the threads of the pool that this thread belongs to; one where it belongs to none.
fn threads() -> usize {
    match rayon::current_thread_index() {
        Some(_) => rayon::current_num_threads(),
        None => 1,
    }
}
