//! The threads that compute, and the bounded queue before them.
//!
//! A free thread takes what waits at once, alone if nothing else waits; what arrives while all threads are busy is
//! computed together in one forward. Texts are tokenized here too, so that the request's thread never computes. What would
//! not be answered in time, by what forwards were measured to take, is refused at once, and what no caller waits for any
//! more is not computed. Knows nothing of what outputs mean.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::backend::{HeadOutputs, ModelError, WindowPair};
use super::excerpt::Excerpt;
use super::forward_totals::{ForwardTotals, TotalCounters};
use super::groundedness::GroundednessInput;
use super::lanes::{in_rayon_pool, lanes};
use super::model_set::ModelSet;
use super::readers::Readers;
use super::scheduler::{Arrival, BatchScheduler, QueuedWindow, TicketId, Work};
use super::task::{ClassifyTask, Forward, WindowTask};
use super::token_time::TokenTime;
use super::window_cache::TextKey;
use super::{ClassifyCost, ClassifyHeads, ClassifyLimits, Findings, Priority, Unknown};

/// How many bytes of a text are a token, before they are counted; fewer than in most texts.
const BYTES_PER_TOKEN: usize = 4;

/// Estimates err: what would take longer than this part of the time that is left is not taken in.
const ADMITTED_PART_OF_TIME: (u32, u32) = (4, 5);

/// On a processor a longer forward computes no more in the same time, and keeps what comes meanwhile waiting for longer.
const LONGEST_FORWARD: Duration = Duration::from_millis(100);

/// Texts that have less time do not make all forwards shorter.
const MIN_PATIENCE: Duration = Duration::from_millis(20);

/// The queue's near end; its threads end once it is dropped.
pub(super) struct BatchQueue {
    shared: Arc<QueueShared>,
}

struct QueueShared {
    model_set: ModelSet,
    state: Mutex<QueueState>,
    /// Signalled when there may be work, and when the queue is dropped.
    work_available: Condvar,
    /// Of each model.
    token_times: Vec<TokenTime>,
    /// How many forwards are computed side by side at most.
    lanes: u32,
    totals: TotalCounters,
}

struct QueueState {
    scheduler: BatchScheduler<Arc<ClassifyTask>, WindowTask>,
    idle_threads: usize,
    /// How many forwards of each model are being computed.
    running: Vec<usize>,
    /// How long these take in all.
    running_cost: Duration,
    /// The shortest time that texts had lately; no forward is to take most of that.
    patience: Duration,
    is_closed: bool,
}

/// One submitted text; leaves the queue when it is dropped.
pub(super) struct Ticket<'q> {
    queue: &'q BatchQueue,
    id: TicketId,
    task: Arc<ClassifyTask>,
    findings: oneshot::Receiver<Findings>,
}

/// A text that is to be queued.
pub(super) struct TextEstimate<'t> {
    text: &'t str,
    pub(super) readers: Readers,
    key: TextKey,
    /// How long its windows take, as far as its length says.
    cost: Duration,
}

/// A task, and where its findings come.
type NewTask = (Arc<ClassifyTask>, oneshot::Receiver<Findings>);

impl BatchQueue {
    /// Starts `threads` threads.
    pub(super) fn start(threads: usize, model_set: ModelSet) -> std::io::Result<Self> {
        let scheduler = BatchScheduler::new(model_set.spec.queue, model_set.spec.batch_tokens);
        let lanes = lanes(threads, model_set.models.len());
        let running = vec![0; model_set.models.len()];
        // Forwards on a device are measured with all that run there at once.
        let is_bounded = model_set.models.iter().any(|model| model.max_concurrent_forwards() < usize::MAX);
        let state = QueueState {
            scheduler,
            idle_threads: 0,
            running,
            running_cost: Duration::ZERO,
            patience: Duration::MAX,
            is_closed: false,
        };
        let queue = Self {
            shared: Arc::new(QueueShared {
                token_times: model_set.models.iter().map(|_| TokenTime::default()).collect(),
                lanes: if is_bounded { 1 } else { lanes.len() as u32 },
                model_set,
                state: Mutex::new(state),
                work_available: Condvar::new(),
                totals: TotalCounters::default(),
            }),
        };
        for (lane, width) in lanes.into_iter().enumerate() {
            let shared = Arc::clone(&queue.shared);
            std::thread::Builder::new()
                .name(format!("classify-{lane}"))
                .spawn(move || in_rayon_pool(lane, width, || shared.work()))?;
        }
        Ok(queue)
    }

    /// Prepares texts to be queued, and says what each would cost.
    pub(super) fn estimate<'t>(&self, texts: &[(&'t str, ClassifyHeads)]) -> Vec<TextEstimate<'t>> {
        let cache = &self.model_set().cache;
        let estimate = |(text, heads): &(&'t str, ClassifyHeads)| {
            let key = cache.text_key(text);
            // What is in the window cache costs next to nothing.
            let is_known = cache.knows_text(key, *heads);
            let readers = self.model_set().readers(text, *heads);
            let cost = if is_known { Duration::ZERO } else { self.shared.estimate(text.len(), &readers) };
            TextEstimate { text, readers, key, cost }
        };
        texts.iter().map(estimate).collect()
    }

    /// Queues the first `count` of some texts, all under one lock so that they can share a forward; none of them where
    /// there is no room, or no time to answer all that is asked: half of an answer is of no use.
    pub(super) fn submit(
        &self,
        texts: &[TextEstimate<'_>],
        count: usize,
        limits: ClassifyLimits,
    ) -> Result<Vec<Ticket<'_>>, Unknown> {
        let max_tokens = self.shared.model_set.spec.windows.max_tokens;
        let costs: Vec<Duration> = texts.iter().map(|text| text.cost).collect();
        self.shared.lock().check_time(&self.shared, &costs, count, limits)?;
        let start = |one: &TextEstimate<'_>| {
            let excerpt = Excerpt::new(one.text, max_tokens);
            (ClassifyTask::new(excerpt, one.key, one.readers.clone(), limits.deadline), one.cost)
        };
        self.admit(texts.iter().take(count).map(start).collect(), limits)
    }

    /// Queues a groundedness check; fails where it is too long to be read, or can't be answered in time.
    pub(super) fn submit_pair(
        &self,
        input: GroundednessInput<'_>,
        limits: ClassifyLimits,
    ) -> Result<Ticket<'_>, Unknown> {
        let bytes = input.context.len() + input.question.len() + input.answer.len();
        let readers = self.model_set().readers(input.answer, ClassifyHeads::HALLUCINATION);
        let cost = self.shared.estimate(bytes, &readers);
        let max_tokens = self.shared.model_set.spec.windows.max_tokens;
        let task =
            ClassifyTask::of_pair(input, max_tokens, readers, limits.deadline).ok_or(Unknown::TooLong)?;
        self.shared.lock().check_time(&self.shared, &[cost], 1, limits)?;
        self.admit(vec![(task, cost)], limits)?.pop().ok_or(Unknown::Failed)
    }

    fn admit(
        &self,
        tasks: Vec<(NewTask, Duration)>,
        limits: ClassifyLimits,
    ) -> Result<Vec<Ticket<'_>>, Unknown> {
        let ClassifyLimits { deadline, priority } = limits;
        let mut state = self.shared.lock();
        // Others may have come while these were copied.
        if !state.scheduler.has_room(priority, tasks.len()) {
            return Err(Unknown::Busy);
        }
        let admit = |((task, findings), cost): (NewTask, Duration)| {
            let arrival = Arrival { priority, at: task.started, deadline, cost };
            let id = state.scheduler.admit(Arc::clone(&task), arrival);
            Ticket { queue: self, id, task, findings }
        };
        let tickets: Vec<Ticket<'_>> = tasks.into_iter().map(admit).collect();
        drop(state);
        self.shared.work_available.notify_one();
        Ok(tickets)
    }

    /// Returns how long it takes until what waits now for guards has been computed.
    pub(super) fn expected_wait(&self) -> Duration {
        let state = self.shared.lock();
        let work = state.scheduler.work_before(Priority::Required, Duration::MAX);
        work.saturating_add(state.running_cost) / self.shared.lanes
    }

    /// Counts the texts of which anything waits.
    pub(super) fn len(&self) -> usize {
        self.shared.lock().scheduler.len()
    }

    pub(super) fn model_set(&self) -> &ModelSet {
        &self.shared.model_set
    }

    pub(super) fn forwards(&self) -> ForwardTotals {
        self.shared.totals.sum(self.shared.model_set.cache_hits.load(Ordering::Relaxed))
    }
}

impl Drop for BatchQueue {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.work_available.notify_all();
    }
}

impl Ticket<'_> {
    /// Waits until every head has an answer or the deadline has passed, whichever comes first.
    pub(super) async fn findings(mut self) -> Findings {
        let (task, queue) = (Arc::clone(&self.task), self.queue);
        let in_time = tokio::time::timeout_at(task.deadline.into(), &mut self.findings).await;
        let findings = match in_time {
            Ok(findings) => findings,
            Err(_elapsed) => match task.close() {
                Some(progress) => Ok(queue.model_set().findings(&task, &progress)),
                // A thread is merging them at this moment, which is quicker than to start over.
                None => (&mut self.findings).await,
            },
        };
        // The sender is dropped without findings only if its thread ended.
        let failed = |_| Findings::unknown(task.readers.heads, Unknown::Failed, ClassifyCost::default());
        findings.unwrap_or_else(failed)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.queue.shared.lock().scheduler.remove(self.id);
    }
}

impl QueueState {
    /// Says why so many texts find no place, or what is asked with them no answer in time.
    fn check_time(
        &mut self,
        shared: &QueueShared,
        costs: &[Duration],
        count: usize,
        limits: ClassifyLimits,
    ) -> Result<(), Unknown> {
        let ClassifyLimits { deadline, priority } = limits;
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Unknown::Late);
        }
        self.patience = left.max(MIN_PATIENCE).min(self.patience.saturating_add(self.patience / 16));
        let longest = costs.iter().copied().max().unwrap_or_default();
        let before = self.scheduler.work_before(priority, longest).saturating_add(self.running_cost);
        let own = match priority {
            Priority::Required => costs.iter().sum(),
            // What was read by the deadline is an answer too.
            Priority::BestEffort => Duration::ZERO,
        };
        let (part, of) = ADMITTED_PART_OF_TIME;
        // Where nothing is to be waited for, estimates are no reason not to try.
        let is_in_time = before.is_zero() || before.saturating_add(own) / shared.lanes <= left / of * part;
        if is_in_time && self.scheduler.has_room(priority, count) { Ok(()) } else { Err(Unknown::Busy) }
    }
}

impl QueueShared {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works until the queue is dropped.
    fn work(&self) {
        while let Some(work) = self.next() {
            match work {
                Work::Expire(tasks) => tasks.iter().for_each(|task| task.finish(&self.model_set)),
                Work::Tokenize(id, task) => self.tokenize(id, &task),
                Work::Compute(jobs) => {
                    let (model, cost) = (jobs[0].model, cost(&jobs));
                    self.compute(jobs);
                    let mut state = self.lock();
                    state.running[model] -= 1;
                    state.running_cost = state.running_cost.saturating_sub(cost);
                    drop(state);
                    // The model may have been too busy for another thread.
                    self.work_available.notify_one();
                }
            }
        }
    }

    /// Waits for something to do; none once the queue is dropped.
    fn next(&self) -> Option<Work<Arc<ClassifyTask>, WindowTask>> {
        let mut state = self.lock();
        loop {
            if state.is_closed {
                return None;
            }
            if let Some(work) = self.take(&mut state) {
                // One thread was woken for possibly several texts: each wakes the next as long as there is work.
                if state.idle_threads > 0 && !state.scheduler.is_empty() {
                    self.work_available.notify_one();
                }
                return Some(work);
            }
            state.idle_threads += 1;
            state = self.work_available.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle_threads -= 1;
        }
    }

    fn take(&self, state: &mut QueueState) -> Option<Work<Arc<ClassifyTask>, WindowTask>> {
        let now = Instant::now();
        let share = state.scheduler.tokens().div_ceil(state.idle_threads + 1);
        let patience = state.patience;
        let limit = |job: &QueuedWindow<WindowTask>| {
            let model = &self.model_set.models[job.model];
            match model.max_concurrent_forwards() {
                // All windows of a forward are as late as the first: half of its time is left for texts that come
                // meanwhile and for errors of the estimate. What is not taken is for the idle threads.
                usize::MAX => {
                    let left = job.deadline.saturating_duration_since(now).min(patience);
                    let longest = (left / 2).min(LONGEST_FORWARD);
                    Some(self.token_times[job.model].tokens_in(longest).min(share))
                }
                most => (state.running[job.model] < most).then(|| model.max_batch_tokens()),
            }
        };
        let work = state.scheduler.next(now, limit)?;
        if let Work::Compute(jobs) = &work {
            state.running[jobs[0].model] += 1;
            state.running_cost += cost(jobs);
        }
        Some(work)
    }

    /// Estimates how long a text takes all of its models, before it is tokenized.
    fn estimate(&self, bytes: usize, readers: &Readers) -> Duration {
        let windows = &self.model_set.spec.windows;
        let tokens = bytes.div_ceil(BYTES_PER_TOKEN).min(windows.max_tokens);
        let of_model = |(index, time): (usize, &TokenTime)| {
            let heads = readers.heads_of(index);
            let most =
                if heads == ClassifyHeads::DOMAIN { windows.domain_tokens } else { windows.max_tokens };
            if heads.is_empty() { Duration::ZERO } else { time.time_of(tokens.min(most)) }
        };
        self.token_times.iter().enumerate().map(of_model).sum()
    }

    fn tokenize(&self, id: TicketId, task: &Arc<ClassifyTask>) {
        let mut jobs = match catch_panic(|| task.tokenize(&self.model_set)) {
            Ok(jobs) => jobs,
            Err(error) => {
                tracing::warn!(%error, "a text could not be cut into tokens");
                task.fail();
                Vec::new()
            }
        };
        for job in &mut jobs {
            job.cost = self.token_times[job.model].time_of(job.tokens);
        }
        self.lock().scheduler.add_windows(id, jobs);
        task.finish_if_done(&self.model_set);
    }

    /// Computes windows together, and one by one if that fails: a fault stays with the window that has it.
    fn compute(&self, jobs: Vec<QueuedWindow<WindowTask>>) {
        let began = Instant::now();
        let outputs = self.forward(&jobs);
        let forward = Forward { began, took: began.elapsed(), windows: jobs.len() };
        match outputs {
            Ok(outputs) => {
                for (job, outputs) in jobs.into_iter().zip(outputs) {
                    job.window.complete(Some(outputs), forward, &self.model_set);
                }
            }
            Err(error) => {
                tracing::warn!(%error, windows = jobs.len(), "a forward failed");
                let alone = jobs.len() == 1;
                for job in jobs {
                    if alone {
                        job.window.complete(None, forward, &self.model_set);
                    } else {
                        self.compute(vec![job]);
                    }
                }
            }
        }
    }

    fn forward(&self, jobs: &[QueuedWindow<WindowTask>]) -> Result<Vec<HeadOutputs>, ModelError> {
        let began = Instant::now();
        let windows: Vec<&[u32]> = jobs.iter().map(|job| job.window.ids()).collect();
        // A model reads either pairs alone or none.
        let pairs: Vec<WindowPair<'_>> = jobs.iter().filter_map(|job| job.window.pair()).collect();
        let heads = jobs.iter().fold(ClassifyHeads::NONE, |all, job| all.or(job.window.heads));
        let tokens = jobs.iter().map(|job| job.tokens).sum();
        let index = jobs.first().map_or(0, |job| job.model);
        let model = &self.model_set.models[index];
        let run = || if pairs.is_empty() { model.run(&windows, heads) } else { model.run_pairs(&pairs) };
        let outputs = catch_panic(run).and_then(|outputs| {
            let valid = outputs.len() == jobs.len() && outputs.iter().all(|outputs| outputs.is_valid(heads));
            if valid { Ok(outputs) } else { Err("the model's answers are not numbers".into()) }
        });
        let took = began.elapsed();
        if outputs.is_ok() {
            // On a device, forwards that run at once wait for each other.
            let at_once =
                if model.max_concurrent_forwards() == usize::MAX { 1 } else { self.lock().running[index] };
            self.token_times[index].record(tokens, took / at_once.max(1) as u32);
        }
        self.totals.add(jobs.len(), tokens, took, outputs.is_err());
        outputs
    }
}

fn cost(jobs: &[QueuedWindow<WindowTask>]) -> Duration {
    jobs.iter().map(|job| job.cost).sum()
}

/// Turns a panic into an error: a fault in one text must not end the thread that the other texts need.
pub(super) fn catch_panic<T>(work: impl FnOnce() -> Result<T, ModelError>) -> Result<T, ModelError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let message = message.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(message.unwrap_or_else(|| "a panic".to_owned()).into())
    })
}
