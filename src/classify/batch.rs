//! The threads that compute, and the bounded queue before them.
//!
//! A free thread takes what waits at once and alone if it is alone; what comes while all threads are busy rides
//! together in one forward. Texts are cut into tokens here too, so that whoever asks never computes. Refuses rather
//! than waits, computes nothing that nobody waits for any more. Knows nothing of what answers mean.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::answer::{Answer, Fault, Pair};
use super::claim::Claim;
use super::reading::{Excerpt, Forward, Library, Page, Reading};
use super::waiting::{Job, Number, Task, Waiting};
use super::{Findings, Questions, Unknown};

/// The most threads that compute one forward together: more gain little on one text, and other texts want some.
const LANE: usize = 4;

/// The queue's near end; its threads end once it is dropped.
pub(super) struct Queue {
    shared: Arc<Shared>,
}

/// How many tokens are computed together as long as it is not known how long that takes.
const UNMEASURED: usize = 1024;

/// What the threads share.
struct Shared {
    library: Library,
    state: Mutex<State>,
    some: Condvar,
    paces: Vec<Pace>,
    totals: Totals,
}

struct State {
    waiting: Waiting<Arc<Reading>, Page>,
    /// How many threads have nothing to do.
    idle: usize,
    /// How many forwards of each model are being computed.
    running: Vec<usize>,
    over: bool,
}

/// One text that was asked about; leaves the queue when it is dropped.
pub(super) struct Ticket<'q> {
    queue: &'q Queue,
    number: Option<Number>,
    reading: Arc<Reading>,
    findings: oneshot::Receiver<Findings>,
}

/// What the forwards of a classifier sum up to since it was loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forwards {
    /// How many there were.
    pub count: u64,
    /// How many windows they computed.
    pub windows: u64,
    /// How many windows needed none, because their answers were known.
    pub cached: u64,
    /// How many tokens the computed windows held.
    pub tokens: u64,
    /// How long they took.
    pub time: Duration,
    /// How many of them failed.
    pub failed: u64,
}

#[derive(Default)]
struct Totals {
    count: AtomicU64,
    windows: AtomicU64,
    tokens: AtomicU64,
    nanos: AtomicU64,
    failed: AtomicU64,
}

/// How long a model takes for a token, in picoseconds, as a moving average; 0 until it is known.
#[derive(Default)]
struct Pace(AtomicU64);

impl Queue {
    /// Starts `threads` threads, and room for as many texts as the library's spec says.
    pub(super) fn start(threads: usize, library: Library) -> std::io::Result<Self> {
        let waiting = Waiting::new(library.spec.queue, library.spec.batch_tokens);
        let lanes = lanes(threads, library.models.len());
        let running = vec![0; library.models.len()];
        let queue = Self {
            shared: Arc::new(Shared {
                paces: library.models.iter().map(|_| Pace::default()).collect(),
                library,
                state: Mutex::new(State { waiting, idle: 0, running, over: false }),
                some: Condvar::new(),
                totals: Totals::default(),
            }),
        };
        for (lane, width) in lanes.into_iter().enumerate() {
            let shared = Arc::clone(&queue.shared);
            std::thread::Builder::new()
                .name(format!("classify-{lane}"))
                .spawn(move || in_pool(lane, width, || serve(&shared)))?;
        }
        Ok(queue)
    }

    /// Queues texts, all in the same moment, as far as there is room.
    pub(super) fn submit<'t>(
        &self,
        asked: impl IntoIterator<Item = (&'t str, Questions)>,
        deadline: Instant,
    ) -> Vec<Ticket<'_>> {
        let max_tokens = self.shared.library.spec.max_tokens;
        let begin = |(text, questions)| Reading::new(Excerpt::new(text, max_tokens), questions, deadline);
        self.admit(asked.into_iter().map(begin).collect())
    }

    /// Queues a claim; none if it is too long to be read.
    pub(super) fn submit_claim(&self, claim: Claim<'_>, deadline: Instant) -> Option<Ticket<'_>> {
        let reading = Reading::of_claim(claim, self.shared.library.spec.max_tokens, deadline)?;
        self.admit(vec![reading]).pop()
    }

    fn admit(&self, readings: Vec<(Arc<Reading>, oneshot::Receiver<Findings>)>) -> Vec<Ticket<'_>> {
        let mut state = self.shared.lock();
        let admit = |(reading, findings): (Arc<Reading>, _)| {
            let number = state.waiting.admit(Arc::clone(&reading), reading.deadline);
            Ticket { queue: self, number, reading, findings }
        };
        let tickets: Vec<Ticket<'_>> = readings.into_iter().map(admit).collect();
        drop(state);
        self.shared.some.notify_one();
        tickets
    }

    /// Counts the texts of which anything waits.
    pub(super) fn len(&self) -> usize {
        self.shared.lock().waiting.len()
    }

    pub(super) fn library(&self) -> &Library {
        &self.shared.library
    }

    pub(super) fn forwards(&self) -> Forwards {
        let totals = &self.shared.totals;
        Forwards {
            count: totals.count.load(Ordering::Relaxed),
            windows: totals.windows.load(Ordering::Relaxed),
            cached: self.shared.library.cached.load(Ordering::Relaxed),
            tokens: totals.tokens.load(Ordering::Relaxed),
            time: Duration::from_nanos(totals.nanos.load(Ordering::Relaxed)),
            failed: totals.failed.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.some.notify_all();
    }
}

impl Ticket<'_> {
    /// Waits until everything is answered or the deadline has passed, whichever comes first.
    pub(super) async fn findings(mut self) -> Findings {
        let (reading, queue) = (Arc::clone(&self.reading), self.queue);
        if self.number.is_none() {
            return Findings::unknown(reading.questions, Unknown::Busy, super::Cost::default());
        }
        let in_time = tokio::time::timeout_at(reading.deadline.into(), &mut self.findings).await;
        let found = match in_time {
            Ok(found) => found,
            Err(_elapsed) => match reading.close() {
                Some(progress) => Ok(queue.library().findings(&reading, &progress)),
                // They are being put together at this moment.
                None => (&mut self.findings).await,
            },
        };
        let failed = |_| Findings::unknown(reading.questions, Unknown::Failed, super::Cost::default());
        found.unwrap_or_else(failed)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.queue.shared.lock().waiting.leave(number);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for something to do; none once the queue is dropped.
    fn next(&self) -> Option<Task<Arc<Reading>, Page>> {
        let mut state = self.lock();
        loop {
            if state.over {
                return None;
            }
            if let Some(task) = self.take(&mut state) {
                // Whoever takes something wakes the next if anything is left.
                if state.idle > 0 && !state.waiting.is_empty() {
                    self.some.notify_one();
                }
                return Some(task);
            }
            state.idle += 1;
            state = self.some.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    fn take(&self, state: &mut State) -> Option<Task<Arc<Reading>, Page>> {
        let now = Instant::now();
        let share = state.waiting.tokens().div_ceil(state.idle + 1);
        let limit = |job: &Job<Page>| {
            let model = &self.library.models[job.model];
            match model.at_once() {
                // Whoever rides along is as late as the first: half of its time is left for others and for errors. What
                // is left lying is for the threads that have nothing to do.
                usize::MAX => {
                    let left = job.deadline.saturating_duration_since(now);
                    Some(self.paces[job.model].within(left / 2).min(share))
                }
                most => (state.running[job.model] < most).then(|| model.most_tokens()),
            }
        };
        let task = state.waiting.next(now, limit)?;
        if let Task::Compute(jobs) = &task {
            state.running[jobs[0].model] += 1;
        }
        Some(task)
    }

    fn read(&self, number: Number, reading: &Arc<Reading>) {
        let jobs = match caught(|| reading.read(&self.library)) {
            Ok(jobs) => jobs,
            Err(error) => {
                tracing::warn!(%error, "a text could not be cut into tokens");
                reading.fail();
                Vec::new()
            }
        };
        self.lock().waiting.add(number, jobs);
        reading.settle(&self.library);
    }

    /// Computes windows together, and one by one if that fails: a fault stays with the window that has it.
    fn compute(&self, jobs: Vec<Job<Page>>) {
        let began = Instant::now();
        let answers = self.forward(&jobs);
        let forward = Forward { began, took: began.elapsed(), windows: jobs.len() };
        match answers {
            Ok(answers) => {
                for (job, answer) in jobs.into_iter().zip(answers) {
                    job.window.put(Some(answer), forward, &self.library);
                }
            }
            Err(error) => {
                tracing::warn!(%error, windows = jobs.len(), "a forward failed");
                let alone = jobs.len() == 1;
                for job in jobs {
                    if alone {
                        job.window.put(None, forward, &self.library);
                    } else {
                        self.compute(vec![job]);
                    }
                }
            }
        }
    }

    fn forward(&self, jobs: &[Job<Page>]) -> Result<Vec<Answer>, Fault> {
        let began = Instant::now();
        let windows: Vec<&[u32]> = jobs.iter().map(|job| job.window.ids()).collect();
        // A model reads either pairs alone or none.
        let pairs: Vec<Pair<'_>> = jobs.iter().filter_map(|job| job.window.pair()).collect();
        let wanted = jobs.iter().fold(Questions::NONE, |all, job| all.or(job.window.wanted));
        let tokens = jobs.iter().map(|job| job.tokens).sum();
        let model = jobs.first().map_or(0, |job| job.model);
        let model_of = &self.library.models[model];
        let run =
            || if pairs.is_empty() { model_of.run(&windows, wanted) } else { model_of.run_pairs(&pairs) };
        let answers = caught(run).and_then(|answers| {
            let sound = answers.len() == jobs.len() && answers.iter().all(|answer| answer.is_sound(wanted));
            if sound { Ok(answers) } else { Err("the model's answers are not numbers".into()) }
        });
        let took = began.elapsed();
        if answers.is_ok() {
            self.paces[model].learn(tokens, took);
        }
        self.totals.add(jobs.len(), tokens, took, answers.is_err());
        answers
    }
}

impl Totals {
    fn add(&self, windows: usize, tokens: usize, took: Duration, failed: bool) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.windows.fetch_add(windows as u64, Ordering::Relaxed);
        self.tokens.fetch_add(tokens as u64, Ordering::Relaxed);
        self.nanos.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
        self.failed.fetch_add(u64::from(failed), Ordering::Relaxed);
    }
}

impl Pace {
    fn learn(&self, tokens: usize, took: Duration) {
        let now = took.as_nanos() as u64 * 1000 / (tokens as u64).max(1);
        let old = self.0.load(Ordering::Relaxed);
        let mean = if old == 0 { now } else { (old * 7 + now) / 8 };
        self.0.store(mean.max(1), Ordering::Relaxed);
    }

    /// Returns how many tokens can be computed in a time.
    fn within(&self, time: Duration) -> usize {
        match self.0.load(Ordering::Relaxed) {
            0 => UNMEASURED,
            pace => (time.as_nanos() * 1000 / u128::from(pace)).try_into().unwrap_or(usize::MAX),
        }
    }
}

/// Divides threads into lanes of at most [`LANE`], one for each model at least, as far as there are threads.
fn lanes(threads: usize, models: usize) -> Vec<usize> {
    let threads = threads.max(1);
    let lanes = threads.div_ceil(LANE).max(models).min(threads).max(1);
    (0..lanes).map(|lane| threads / lanes + usize::from(lane < threads % lanes)).collect()
}

/// Runs `work` on this thread as one of `width` threads of a pool of its own.
///
/// Kernels spread over the rayon pool they find themselves in, by default one of all cores.
fn in_pool(lane: usize, width: usize, work: impl FnOnce()) {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(width.max(1))
        .thread_name(move |at| format!("classify-{lane}-{at}"))
        .use_current_thread()
        .build();
    if let Err(error) = &pool {
        tracing::warn!(%error, "a classifier thread has no pool of its own and shares that of all cores");
    }
    work();
    drop(pool);
}

fn serve(shared: &Shared) {
    while let Some(task) = shared.next() {
        match task {
            Task::Read(number, reading) => shared.read(number, &reading),
            Task::Compute(jobs) => {
                let model = jobs[0].model;
                shared.compute(jobs);
                shared.lock().running[model] -= 1;
                shared.some.notify_one();
            }
        }
    }
}

/// Turns a panic into an error: a fault in one text must not end the thread that the other texts need.
pub(super) fn caught<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let message = message.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(message.unwrap_or_else(|| "a panic".to_owned()).into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_divided_into_lanes_without_a_rest() {
        assert_eq!(lanes(0, 1), [1]);
        assert_eq!(lanes(1, 3), [1]);
        assert_eq!(lanes(2, 1), [2]);
        assert_eq!(lanes(2, 2), [1, 1]);
        assert_eq!(lanes(8, 1), [4, 4]);
        assert_eq!(lanes(9, 1), [3, 3, 3]);
        assert_eq!(lanes(8, 3), [3, 3, 2]);
    }

    #[test]
    fn a_pace_says_how_much_fits_into_a_time_once_it_is_known() {
        let pace = Pace::default();
        assert_eq!(pace.within(Duration::from_millis(1)), UNMEASURED);
        pace.learn(100, Duration::from_millis(1));
        assert_eq!(pace.within(Duration::from_millis(5)), 500);
        pace.learn(100, Duration::from_millis(9));
        assert_eq!(pace.within(Duration::from_millis(5)), 250);
        pace.learn(0, Duration::ZERO);
        assert_eq!(pace.within(Duration::ZERO), 0);
    }
}
