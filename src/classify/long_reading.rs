//! What takes long is done beside the threads that move bytes: a body of some megabytes takes them tens of milliseconds.
//!
//! Refuses to know what is done.

use tokio::runtime::{Handle, RuntimeFlavor};

/// From how many bytes on: it takes about a tenth of a millisecond.
const LONG: usize = 64 << 10;

/// Reads so many bytes, of long texts beside the threads that move bytes.
pub fn read_beside<T>(bytes: usize, read: impl FnOnce() -> T) -> T {
    if bytes >= LONG { beside(read) } else { read() }
}

/// Does work on a thread to which no other request's is bound, where there is another. This request's own waits.
pub(super) fn beside<T>(work: impl FnOnce() -> T) -> T {
    let has_others =
        Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    if has_others { tokio::task::block_in_place(work) } else { work() }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn other_requests_go_on_while_a_long_text_is_read() {
        let (other, others) = mpsc::channel();
        let reading = tokio::spawn(async move {
            // The only thread is this one's, until another takes its place.
            read_beside(LONG, || others.recv_timeout(Duration::from_secs(20)))
        });
        tokio::spawn(async move { other.send(()) }).await.unwrap().unwrap();
        assert_eq!(reading.await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn where_there_is_one_thread_a_long_text_is_read_there() {
        assert_eq!(read_beside(LONG, || 7), 7);
    }
}
