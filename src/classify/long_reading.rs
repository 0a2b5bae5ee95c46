//! Long texts are read beside the threads that move bytes: a body of some megabytes takes them tens of milliseconds.
//!
//! Refuses to know what is read.

use tokio::runtime::{Handle, RuntimeFlavor};

/// From how many bytes on: it takes about a tenth of a millisecond.
const LONG: usize = 64 << 10;

/// Reads so many bytes, of long texts on a thread to which no other request's work is bound. This request's own waits.
pub fn read_beside<T>(bytes: usize, read: impl FnOnce() -> T) -> T {
    let has_others =
        || Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    if bytes >= LONG && has_others() { tokio::task::block_in_place(read) } else { read() }
}
