//! The bounded queue between request threads and the threads that compute.
//!
//! Refuses rather than waits, skips what nobody waits for any more. Knows nothing of how a label comes about.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::Unknown;

/// What the threads compute: a label's index and its confidence for a text.
pub(super) type Compute = dyn Fn(&str) -> Option<(usize, f32)> + Send + Sync;

/// What a thread found, and how long after the job was queued.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) index: usize,
    pub(super) confidence: f32,
    pub(super) latency: Duration,
}

struct Job {
    text: String,
    queued: Instant,
    deadline: Instant,
    reply: oneshot::Sender<Result<Found, Unknown>>,
}

/// The queue's sending end; its threads end once it is dropped.
pub(super) struct Queue {
    jobs: mpsc::Sender<Job>,
}

impl Queue {
    /// Starts `threads` threads behind a queue of `len` jobs.
    pub(super) fn start(threads: usize, len: usize, compute: &Arc<Compute>) -> std::io::Result<Self> {
        let (jobs, waiting) = mpsc::channel(len.clamp(1, tokio::sync::Semaphore::MAX_PERMITS));
        let waiting = Arc::new(Mutex::new(waiting));
        for at in 0..threads {
            let (waiting, compute) = (Arc::clone(&waiting), Arc::clone(compute));
            std::thread::Builder::new()
                .name(format!("classify-{at}"))
                .spawn(move || alone(|| serve(&waiting, &*compute)))?;
        }
        Ok(Self { jobs })
    }

    /// Queues a text and waits for its answer until the deadline; dropping the future cancels the job.
    pub(super) async fn ask(&self, text: String, deadline: Instant) -> Result<Found, Unknown> {
        let (reply, answer) = oneshot::channel();
        let job = Job { text, queued: Instant::now(), deadline, reply };
        self.jobs.try_send(job).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => Unknown::Busy,
            mpsc::error::TrySendError::Closed(_) => Unknown::Failed,
        })?;
        match tokio::time::timeout_at(deadline.into(), answer).await {
            Ok(Ok(found)) => found,
            Ok(Err(_gone)) => Err(Unknown::Failed),
            Err(_elapsed) => Err(Unknown::Late),
        }
    }

    /// Counts the jobs that no thread has taken yet.
    pub(super) fn len(&self) -> usize {
        self.jobs.max_capacity() - self.jobs.capacity()
    }
}

/// Runs `work` on this thread as the only member of a pool of its own.
///
/// candle spreads its products over the rayon pool it finds itself in, by default one of all cores.
fn alone(work: impl FnOnce()) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
    work();
    drop(pool);
}

fn serve(waiting: &Mutex<mpsc::Receiver<Job>>, compute: &Compute) {
    while let Some(job) = next(waiting) {
        if job.reply.is_closed() {
            continue;
        }
        let found = if Instant::now() >= job.deadline { Err(Unknown::Late) } else { run(&job, compute) };
        // The one who asked may have left meanwhile.
        let _ = job.reply.send(found);
    }
}

fn next(waiting: &Mutex<mpsc::Receiver<Job>>) -> Option<Job> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv()
}

fn run(job: &Job, compute: &Compute) -> Result<Found, Unknown> {
    // A fault in one text must not end the thread that the other texts need.
    let found = catch_unwind(AssertUnwindSafe(|| compute(&job.text))).ok().flatten();
    let (index, confidence) = found.ok_or(Unknown::Failed)?;
    Ok(Found { index, confidence, latency: job.queued.elapsed() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Condvar;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Holds every computation until it is opened, and counts them.
    #[derive(Default)]
    struct Gate {
        open: Mutex<bool>,
        opened: Condvar,
        entered: AtomicUsize,
    }

    impl Gate {
        fn pass(&self) {
            self.entered.fetch_add(1, Ordering::SeqCst);
            let open = self.open.lock().unwrap();
            drop(self.opened.wait_while(open, |open| !*open).unwrap());
        }

        fn open(&self) {
            *self.open.lock().unwrap() = true;
            self.opened.notify_all();
        }

        async fn entered(&self, times: usize) {
            until(|| self.entered.load(Ordering::SeqCst) >= times).await;
        }
    }

    async fn until(met: impl Fn() -> bool) {
        let limit = soon();
        while !met() {
            assert!(Instant::now() < limit, "waited in vain");
            tokio::task::yield_now().await;
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    fn gated(len: usize) -> (Arc<Gate>, Arc<Queue>) {
        let gate = Arc::new(Gate::default());
        let compute = {
            let gate = Arc::clone(&gate);
            move |text: &str| {
                gate.pass();
                assert!(text != "panic", "as asked");
                (text != "fail").then_some((text.len(), 0.5))
            }
        };
        let compute: Arc<Compute> = Arc::new(compute);
        (gate, Arc::new(Queue::start(1, len, &compute).unwrap()))
    }

    fn ask(
        queue: &Arc<Queue>,
        text: &str,
        deadline: Instant,
    ) -> tokio::task::JoinHandle<Result<Found, Unknown>> {
        let (queue, text) = (Arc::clone(queue), text.to_owned());
        tokio::spawn(async move { queue.ask(text, deadline).await })
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let (gate, queue) = gated(1);
        let first = ask(&queue, "a", soon());
        gate.entered(1).await;
        let second = ask(&queue, "bb", soon());
        until(|| queue.len() == 1).await;
        assert_eq!(queue.ask("ccc".into(), soon()).await.err(), Some(Unknown::Busy));
        gate.open();
        assert_eq!(first.await.unwrap().unwrap().index, 1);
        assert_eq!(second.await.unwrap().unwrap().index, 2);
    }

    #[tokio::test]
    async fn a_job_nobody_waits_for_is_never_computed() {
        let (gate, queue) = gated(4);
        let first = ask(&queue, "a", soon());
        gate.entered(1).await;
        let left = ask(&queue, "bb", soon());
        until(|| queue.len() == 1).await;
        left.abort();
        assert!(left.await.unwrap_err().is_cancelled());
        let last = ask(&queue, "ccc", soon());
        until(|| queue.len() == 2).await;
        gate.open();
        assert_eq!(first.await.unwrap().unwrap().index, 1);
        assert_eq!(last.await.unwrap().unwrap().index, 3);
        assert_eq!(gate.entered.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_passed_deadline_is_late_whether_queued_or_computing() {
        let (gate, queue) = gated(4);
        let in_a_moment = Instant::now() + Duration::from_millis(20);
        let computing = ask(&queue, "a", in_a_moment);
        gate.entered(1).await;
        assert_eq!(queue.ask("bb".into(), in_a_moment).await.err(), Some(Unknown::Late));
        assert_eq!(computing.await.unwrap().err(), Some(Unknown::Late));
        gate.open();
    }

    #[tokio::test]
    async fn a_fault_in_one_text_leaves_the_thread_alive() {
        let (gate, queue) = gated(4);
        gate.open();
        assert_eq!(queue.ask("panic".into(), soon()).await.err(), Some(Unknown::Failed));
        assert_eq!(queue.ask("fail".into(), soon()).await.err(), Some(Unknown::Failed));
        assert_eq!(queue.ask("fine".into(), soon()).await.unwrap().index, 4);
    }

    #[tokio::test]
    async fn dropping_the_queue_ends_its_threads() {
        let (gate, queue) = gated(4);
        gate.open();
        drop(queue);
        until(|| Arc::strong_count(&gate) == 1).await;
    }
}
