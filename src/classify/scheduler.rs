//! What waits for a thread, and what a free thread takes next: texts to be tokenized, then windows to be computed.
//!
//! What others depend on (guards) and what does without an answer (routing) wait in queues of their own, which share the
//! threads three to one while both have work. Within a queue the texts take turns, window by window, so that long ones
//! hold up short ones by one window each. What cannot be done by its deadline is not begun. Once texts have waited half of
//! their time, the newest come first: of more work than can be done, the fresh is what can be done in time.
//!
//! Windows are batched when they need the same model and are no longer than the length class of the first: forwards have no
//! padding, so that a shorter window costs only its own tokens, while a longer one would hold up the others. Pure: time is
//! an argument, and what texts and windows are is not known here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::Priority;

/// Numbers texts in the order of their arrival.
pub(super) type TicketId = u64;

/// One turn of a text, in which one of its windows is computed.
const TURN: u64 = 1 << 20;

/// How many parts of the threads' time the guards' queue gets for each part of the others, while both have work.
const REQUIRED_SHARE: u32 = 3;

/// What a token costs as long as it is not known, so that the queues take turns from the first on.
const UNMEASURED_TOKEN: Duration = Duration::from_micros(100);

/// Orders the windows of a queue: by turn, then by text, then by their place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct WindowOrder {
    turn: u64,
    text: TicketId,
    window: usize,
}

/// One window that is to be computed.
#[derive(Debug)]
pub(super) struct QueuedWindow<W> {
    /// An index into the classifier's models.
    pub(super) model: usize,
    pub(super) tokens: usize,
    /// How long it takes alone, zero while that is not known.
    pub(super) cost: Duration,
    pub(super) deadline: Instant,
    pub(super) window: W,
}

/// A text that asks to be taken in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) priority: Priority,
    pub(super) at: Instant,
    pub(super) deadline: Instant,
    /// How long its windows take, as far as its length says.
    pub(super) cost: Duration,
}

/// What a thread does next.
#[derive(Debug)]
pub(super) enum Work<T, W> {
    /// Answers texts that can't be computed in time any more; they have left the queue.
    Expire(Vec<T>),
    /// Cuts a text into windows, which are added then.
    Tokenize(TicketId, T),
    /// Computes windows of one model together; there is at least one.
    Compute(Vec<QueuedWindow<W>>),
}

/// Texts and windows that no thread has taken.
pub(super) struct BatchScheduler<T, W> {
    max_texts: usize,
    batch_tokens: usize,
    next_id: TicketId,
    required: TextQueue<T, W>,
    best_effort: TextQueue<T, W>,
}

/// The texts of one priority.
struct TextQueue<T, W> {
    /// Every text that has anything here or is being tokenized.
    texts: BTreeMap<TicketId, QueuedText<T>>,
    untokenized: BTreeSet<TicketId>,
    windows: BTreeMap<WindowOrder, QueuedWindow<W>>,
    /// Of all windows.
    tokens: usize,
    /// The turn of texts that arrive now.
    turn: u64,
    /// The threads' time that the queue has had, by its share of it.
    served: Duration,
}

struct QueuedText<T> {
    text: T,
    arrival: Arrival,
    turn: u64,
    /// How long what is here of it takes.
    cost: Duration,
    /// Whether a window of it was taken.
    is_started: bool,
    /// Its windows that are still here.
    windows: Vec<WindowOrder>,
}

impl<T: Clone, W> BatchScheduler<T, W> {
    /// Makes room for `max_texts` texts of each priority; `batch_tokens` bounds the windows that are computed together.
    pub(super) fn new(max_texts: usize, batch_tokens: usize) -> Self {
        Self {
            max_texts: max_texts.max(1),
            batch_tokens: batch_tokens.max(1),
            next_id: 0,
            required: TextQueue::new(),
            best_effort: TextQueue::new(),
        }
    }

    /// Counts the texts of which anything waits.
    pub(super) fn len(&self) -> usize {
        self.required.texts.len() + self.best_effort.texts.len()
    }

    /// Says whether there is a place for so many more texts.
    pub(super) fn has_room(&self, priority: Priority, texts: usize) -> bool {
        self.queue(priority).texts.len() + texts <= self.max_texts
    }

    /// Returns the threads' time that goes by before a text whose windows take `cost` has had its turns.
    pub(super) fn work_before(&self, priority: Priority, cost: Duration) -> Duration {
        let (own, other) = match priority {
            Priority::Required => (&self.required, &self.best_effort),
            Priority::BestEffort => (&self.best_effort, &self.required),
        };
        let (own, other) = (own.work_before(cost), other.work_before(Duration::MAX));
        let others_share = match priority {
            Priority::Required => own / REQUIRED_SHARE,
            Priority::BestEffort => own.saturating_mul(REQUIRED_SHARE),
        };
        own.saturating_add(other.min(others_share))
    }

    /// Takes a text in.
    pub(super) fn admit(&mut self, text: T, arrival: Arrival) -> TicketId {
        let id = self.next_id;
        self.next_id += 1;
        let others_served = self.queue(arrival.priority.other()).served;
        let queue = self.queue_mut(arrival.priority);
        if queue.texts.is_empty() {
            // What it did not need while it was empty, it has no claim to any more.
            queue.served = queue.served.max(others_served);
        }
        queue.untokenized.insert(id);
        let (turn, cost) = (queue.turn, arrival.cost);
        let text = QueuedText { text, arrival, turn, cost, is_started: false, windows: Vec::new() };
        queue.texts.insert(id, text);
        id
    }

    /// Adds the windows of a text that was tokenized, most urgent first; drops those of a text that was removed.
    pub(super) fn add_windows(&mut self, id: TicketId, jobs: Vec<QueuedWindow<W>>) {
        for queue in [&mut self.required, &mut self.best_effort] {
            if queue.texts.contains_key(&id) {
                return queue.add_windows(id, jobs);
            }
        }
    }

    /// Removes a text and all its windows.
    pub(super) fn remove(&mut self, id: TicketId) {
        self.required.remove(id);
        self.best_effort.remove(id);
    }

    /// Says whether there is nothing that a thread could take.
    pub(super) fn is_empty(&self) -> bool {
        [&self.required, &self.best_effort]
            .iter()
            .all(|queue| queue.untokenized.is_empty() && queue.windows.is_empty())
    }

    /// Counts the tokens of the waiting windows.
    pub(super) fn tokens(&self) -> usize {
        self.required.tokens + self.best_effort.tokens
    }

    /// Returns what a thread does next; `limit` says how many tokens may be computed together with a window, none if
    /// its model is busy.
    pub(super) fn next(
        &mut self,
        now: Instant,
        limit: impl Fn(&QueuedWindow<W>) -> Option<usize>,
    ) -> Option<Work<T, W>> {
        let mut expired = self.required.expire(now);
        expired.extend(self.best_effort.expire(now));
        if !expired.is_empty() {
            return Some(Work::Expire(expired));
        }
        let batch_tokens = self.batch_tokens;
        let is_behind = self.best_effort.served < self.required.served;
        let order = if is_behind { [Priority::BestEffort, Priority::Required] } else { Priority::ALL };
        // Tokenizing is cheap beside computing, and only what was tokenized can be batched.
        for priority in order {
            if let Some((id, text)) = self.queue_mut(priority).next_text(now, batch_tokens) {
                return Some(Work::Tokenize(id, text));
            }
        }
        for priority in order {
            let jobs = self.queue_mut(priority).next_windows(now, batch_tokens, &limit);
            if !jobs.is_empty() {
                let share = if priority == Priority::Required { REQUIRED_SHARE } else { 1 };
                let served = jobs.iter().map(QueuedWindow::share_of_time).sum::<Duration>() / share;
                self.queue_mut(priority).served += served;
                return Some(Work::Compute(jobs));
            }
        }
        None
    }

    fn queue(&self, priority: Priority) -> &TextQueue<T, W> {
        match priority {
            Priority::Required => &self.required,
            Priority::BestEffort => &self.best_effort,
        }
    }

    fn queue_mut(&mut self, priority: Priority) -> &mut TextQueue<T, W> {
        match priority {
            Priority::Required => &mut self.required,
            Priority::BestEffort => &mut self.best_effort,
        }
    }
}

impl Priority {
    const ALL: [Self; 2] = [Self::Required, Self::BestEffort];

    fn other(self) -> Self {
        match self {
            Self::Required => Self::BestEffort,
            Self::BestEffort => Self::Required,
        }
    }
}

impl<W> QueuedWindow<W> {
    fn share_of_time(&self) -> Duration {
        if self.cost.is_zero() { UNMEASURED_TOKEN * self.tokens as u32 } else { self.cost }
    }
}

impl<T: Clone, W> TextQueue<T, W> {
    fn new() -> Self {
        Self {
            texts: BTreeMap::new(),
            untokenized: BTreeSet::new(),
            windows: BTreeMap::new(),
            tokens: 0,
            turn: 0,
            served: Duration::ZERO,
        }
    }

    /// Every text has as many turns as one of this cost until that one has had its last.
    fn work_before(&self, cost: Duration) -> Duration {
        self.texts.values().fold(Duration::ZERO, |sum, text| sum.saturating_add(text.cost.min(cost)))
    }

    fn add_windows(&mut self, id: TicketId, jobs: Vec<QueuedWindow<W>>) {
        let Some(text) = self.texts.get_mut(&id) else { return };
        if jobs.is_empty() {
            self.texts.remove(&id);
            return;
        }
        let turn = text.turn;
        let order = |window: usize| WindowOrder { turn: turn + TURN * window as u64, text: id, window };
        text.windows = (0..jobs.len()).map(order).collect();
        text.cost = jobs.iter().map(|job| job.cost).sum();
        self.tokens += jobs.iter().map(|job| job.tokens).sum::<usize>();
        self.windows.extend(text.windows.iter().copied().zip(jobs));
    }

    fn remove(&mut self, id: TicketId) -> Option<T> {
        self.untokenized.remove(&id);
        let text = self.texts.remove(&id)?;
        for order in text.windows {
            if let Some(job) = self.windows.remove(&order) {
                self.tokens -= job.tokens;
            }
        }
        Some(text.text)
    }

    /// Removes the texts whose next window can't be computed in time.
    fn expire(&mut self, now: Instant) -> Vec<T> {
        let is_late = |(id, text): (&TicketId, &QueuedText<T>)| {
            let cost = match text.windows.first().and_then(|order| self.windows.get(order)) {
                Some(job) => job.cost,
                None if self.untokenized.contains(id) => Duration::ZERO,
                // A thread has it.
                None => return None,
            };
            (now + cost >= text.arrival.deadline).then_some(*id)
        };
        let late: Vec<TicketId> = self.texts.iter().filter_map(is_late).collect();
        late.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    /// Says whether there is more work than can be done: a text has waited for half of its time.
    fn is_overloaded(&self, now: Instant) -> bool {
        let oldest = self.texts.values().find(|text| !text.is_started).map(|text| text.arrival);
        oldest.is_some_and(|Arrival { at, deadline, .. }| {
            now.saturating_duration_since(at) > deadline.saturating_duration_since(at) / 2
        })
    }

    /// Takes a text to be tokenized, unless there is enough for a forward.
    fn next_text(&mut self, now: Instant, batch_tokens: usize) -> Option<(TicketId, T)> {
        let id = if self.is_overloaded(now) {
            self.untokenized.pop_last()
        } else if self.tokens < batch_tokens {
            self.untokenized.pop_first()
        } else {
            None
        }?;
        self.texts.get(&id).map(|text| (id, text.text.clone()))
    }

    /// Takes windows that are computed together; none if there is nothing to take.
    fn next_windows(
        &mut self,
        now: Instant,
        batch_tokens: usize,
        limit: impl Fn(&QueuedWindow<W>) -> Option<usize>,
    ) -> Vec<QueuedWindow<W>> {
        let order = self.order(now);
        let mut candidates = order.iter().filter_map(|order| self.windows.get(order));
        let first = candidates.find_map(|job| Some((limit(job)?, job.model, job.tokens.next_power_of_two())));
        let Some((limit, model, longest)) = first else { return Vec::new() };
        let mut room = limit.min(batch_tokens);
        let mut chosen = Vec::new();
        let mut end = now;
        let mut deadline: Option<Instant> = None;
        for order in order {
            let Some(job) = self.windows.get(&order) else { continue };
            if job.model != model || job.tokens > longest {
                continue;
            }
            // All of a forward is as late as its last window.
            let earliest = deadline.map_or(job.deadline, |deadline| deadline.min(job.deadline));
            if chosen.is_empty() || (job.tokens <= room && end + job.cost < earliest) {
                room = room.saturating_sub(job.tokens);
                end += job.cost;
                deadline = Some(earliest);
                chosen.push(order);
            }
            if room == 0 {
                break;
            }
        }
        chosen.into_iter().filter_map(|order| self.take(order)).collect()
    }

    /// Returns the windows in the order in which they are taken.
    fn order(&self, now: Instant) -> Vec<WindowOrder> {
        if !self.is_overloaded(now) {
            return self.windows.keys().copied().collect();
        }
        let is_started =
            |order: &&WindowOrder| self.texts.get(&order.text).is_some_and(|text| text.is_started);
        let (started, mut fresh): (Vec<WindowOrder>, Vec<WindowOrder>) =
            self.windows.keys().partition(|order| is_started(order));
        fresh.sort_by_key(|order| (std::cmp::Reverse(order.text), order.window));
        // What was begun is worth ending, but does not keep all that is new from its turn.
        let (mut started, mut fresh) = (started.into_iter(), fresh.into_iter());
        let mut order = Vec::with_capacity(self.windows.len());
        while order.len() < self.windows.len() {
            order.extend(fresh.next());
            order.extend(started.next());
        }
        order
    }

    fn take(&mut self, order: WindowOrder) -> Option<QueuedWindow<W>> {
        let job = self.windows.remove(&order)?;
        self.tokens -= job.tokens;
        self.turn += TURN / self.texts.len().max(1) as u64;
        if let Some(text) = self.texts.get_mut(&order.text) {
            text.is_started = true;
            text.cost = text.cost.saturating_sub(job.cost);
            text.windows.retain(|other| *other != order);
            if text.windows.is_empty() {
                self.texts.remove(&order.text);
            }
        }
        Some(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type TestScheduler = BatchScheduler<&'static str, (&'static str, usize)>;

    const LATER: Duration = Duration::from_secs(60);

    fn later() -> Instant {
        Instant::now() + LATER
    }

    fn arrival(priority: Priority) -> Arrival {
        let at = Instant::now();
        Arrival { priority, at, deadline: at + LATER, cost: Duration::ZERO }
    }

    fn job(
        name: &'static str,
        at: usize,
        model: usize,
        tokens: usize,
    ) -> QueuedWindow<(&'static str, usize)> {
        let cost = Duration::from_millis(tokens as u64);
        QueuedWindow { model, tokens, cost, deadline: later(), window: (name, at) }
    }

    /// Takes in a text, has it tokenized and adds windows of these lengths.
    fn add(scheduler: &mut TestScheduler, name: &'static str, model: usize, lengths: &[usize]) -> TicketId {
        add_as(scheduler, name, arrival(Priority::BestEffort), model, lengths)
    }

    fn add_as(
        scheduler: &mut TestScheduler,
        name: &'static str,
        arrival: Arrival,
        model: usize,
        lengths: &[usize],
    ) -> TicketId {
        let id = scheduler.admit(name, arrival);
        assert!(scheduler.queue_mut(arrival.priority).untokenized.remove(&id));
        let jobs = lengths.iter().enumerate();
        let jobs = jobs
            .map(|(at, tokens)| QueuedWindow { deadline: arrival.deadline, ..job(name, at, model, *tokens) });
        scheduler.add_windows(id, jobs.collect());
        id
    }

    fn next(scheduler: &mut TestScheduler) -> Vec<(&'static str, usize)> {
        next_with(scheduler, |_| Some(usize::MAX))
    }

    fn next_with(
        scheduler: &mut TestScheduler,
        limit: impl Fn(&QueuedWindow<(&'static str, usize)>) -> Option<usize>,
    ) -> Vec<(&'static str, usize)> {
        next_at(scheduler, Instant::now(), limit)
    }

    fn next_at(
        scheduler: &mut TestScheduler,
        now: Instant,
        limit: impl Fn(&QueuedWindow<(&'static str, usize)>) -> Option<usize>,
    ) -> Vec<(&'static str, usize)> {
        match scheduler.next(now, limit) {
            Some(Work::Compute(jobs)) => jobs.into_iter().map(|job| job.window).collect(),
            Some(Work::Tokenize(_, text)) => panic!("{text} was to be tokenized before"),
            Some(Work::Expire(texts)) => panic!("{texts:?} are not late"),
            None => Vec::new(),
        }
    }

    #[test]
    fn a_text_has_its_place_until_all_of_its_windows_were_taken() {
        let mut scheduler = TestScheduler::new(2, 8);
        let has_room = |scheduler: &TestScheduler| scheduler.has_room(Priority::BestEffort, 1);
        add(&mut scheduler, "a", 0, &[8, 8]);
        assert!(has_room(&scheduler) && !scheduler.has_room(Priority::BestEffort, 2));
        add(&mut scheduler, "b", 0, &[8]);
        assert!(!has_room(&scheduler) && scheduler.has_room(Priority::Required, 2));
        assert_eq!((next(&mut scheduler), scheduler.len()), (vec![("a", 0)], 2));
        assert_eq!((next(&mut scheduler), has_room(&scheduler)), (vec![("b", 0)], true));
    }

    #[test]
    fn texts_are_tokenized_in_order_before_anything_is_computed_unless_a_forward_is_full() {
        let mut scheduler = TestScheduler::new(8, 10);
        for name in ["a", "b", "c"] {
            scheduler.admit(name, arrival(Priority::BestEffort));
        }
        for name in ["a", "b"] {
            let Some(Work::Tokenize(id, text)) = scheduler.next(Instant::now(), |_| Some(99)) else {
                panic!()
            };
            assert_eq!(text, name);
            scheduler.add_windows(id, vec![job(name, 0, 0, 5)]);
        }
        assert_eq!(next(&mut scheduler), [("a", 0), ("b", 0)]);
        assert!(matches!(scheduler.next(Instant::now(), |_| Some(99)), Some(Work::Tokenize(_, "c"))));
    }

    #[test]
    fn a_long_text_holds_up_short_ones_by_a_window_and_is_not_starved_by_them() {
        let mut scheduler = TestScheduler::new(8, 1);
        add(&mut scheduler, "long", 0, &[4; 4]);
        let mut order = Vec::new();
        for name in ["b", "c", "d", "e", "f", "g", "h"] {
            add(&mut scheduler, name, 0, &[4]);
            order.extend(next(&mut scheduler));
        }
        order.extend(std::iter::from_fn(|| next(&mut scheduler).pop()));
        let place = |name, at| order.iter().position(|window| *window == (name, at)).unwrap();
        assert!(place("b", 0) < place("long", 1), "{order:?}");
        assert!(place("long", 2) < place("h", 0), "{order:?}");
        assert_eq!(order.len(), 11);
    }

    #[test]
    fn guards_have_their_share_whatever_else_waits_and_others_theirs() {
        let mut scheduler = TestScheduler::new(64, 1);
        for name in ["x", "y"] {
            add(&mut scheduler, name, 0, &[4; 12]);
        }
        let order: Vec<_> = (0..4).flat_map(|_| next(&mut scheduler)).collect();
        assert_eq!(order.len(), 4, "alone, it has it all");
        add_as(&mut scheduler, "guard", arrival(Priority::Required), 0, &[4; 12]);
        let order: Vec<_> = (0..12).flat_map(|_| next(&mut scheduler)).collect();
        let guards = order.iter().filter(|(name, _)| *name == "guard").count();
        assert_eq!((order[0].0, guards), ("guard", 9), "{order:?}");
    }

    #[test]
    fn windows_of_one_model_that_are_not_longer_are_batched_oldest_first() {
        let mut scheduler = TestScheduler::new(8, 100);
        add(&mut scheduler, "a", 0, &[7]);
        add(&mut scheduler, "longer", 0, &[9]);
        add(&mut scheduler, "other", 1, &[7]);
        add(&mut scheduler, "b", 0, &[8]);
        add(&mut scheduler, "short", 0, &[1]);
        assert_eq!(next(&mut scheduler), [("a", 0), ("b", 0), ("short", 0)]);
        assert_eq!(next(&mut scheduler), [("longer", 0)]);
        assert_eq!(next(&mut scheduler), [("other", 0)]);
        assert_eq!((next(&mut scheduler), scheduler.len(), scheduler.tokens()), (Vec::new(), 0, 0));
    }

    #[test]
    fn a_forward_takes_what_fits_and_at_least_one() {
        let mut scheduler = TestScheduler::new(8, 20);
        for name in ["a", "b", "c", "d"] {
            add(&mut scheduler, name, 0, &[8]);
        }
        assert_eq!(next(&mut scheduler), [("a", 0), ("b", 0)]);
        assert_eq!(next_with(&mut scheduler, |_| Some(3)), [("c", 0)]);
        assert_eq!(next(&mut scheduler), [("d", 0)]);
    }

    #[test]
    fn a_forward_takes_nothing_that_would_make_another_of_its_windows_late() {
        let mut scheduler = TestScheduler::new(8, 100);
        let now = Instant::now();
        let soon =
            Arrival { deadline: now + Duration::from_millis(12), at: now, ..arrival(Priority::BestEffort) };
        add_as(&mut scheduler, "soon", soon, 0, &[8]);
        add(&mut scheduler, "b", 0, &[8]);
        assert_eq!(next_at(&mut scheduler, now, |_| Some(99)), [("soon", 0)]);
        assert_eq!(next_at(&mut scheduler, now, |_| Some(99)), [("b", 0)]);
    }

    #[test]
    fn windows_of_a_busy_model_let_others_pass() {
        let mut scheduler = TestScheduler::new(8, 100);
        add(&mut scheduler, "a", 0, &[8]);
        add_as(&mut scheduler, "b", arrival(Priority::Required), 1, &[8]);
        let only = |model: usize| move |job: &QueuedWindow<_>| (job.model == model).then_some(99);
        assert_eq!(next_with(&mut scheduler, only(0)), [("a", 0)]);
        assert!(next_with(&mut scheduler, only(0)).is_empty());
        assert_eq!(next_with(&mut scheduler, only(1)), [("b", 0)]);
    }

    #[test]
    fn a_removed_text_takes_all_its_windows_along() {
        let mut scheduler = TestScheduler::new(8, 1);
        let left = add(&mut scheduler, "left", 0, &[4, 4, 4]);
        add(&mut scheduler, "b", 0, &[4]);
        assert_eq!(next(&mut scheduler), [("left", 0)]);
        scheduler.remove(left);
        assert_eq!((scheduler.len(), scheduler.tokens()), (1, 4));
        assert_eq!(next(&mut scheduler), [("b", 0)]);
        assert!(scheduler.next(Instant::now(), |_| Some(99)).is_none());
    }

    #[test]
    fn a_text_removed_while_it_is_tokenized_adds_nothing() {
        let mut scheduler = TestScheduler::new(8, 1);
        let left = scheduler.admit("left", arrival(Priority::BestEffort));
        assert!(matches!(scheduler.next(Instant::now(), |_| Some(99)), Some(Work::Tokenize(..))));
        scheduler.remove(left);
        scheduler.add_windows(left, vec![job("left", 0, 0, 4)]);
        assert!(scheduler.next(Instant::now(), |_| Some(99)).is_none());
        assert_eq!((scheduler.len(), scheduler.tokens()), (0, 0));
    }

    #[test]
    fn what_cannot_be_done_in_time_is_neither_tokenized_nor_computed() {
        let mut scheduler = TestScheduler::new(8, 100);
        let now = Instant::now();
        let until = |millis| Arrival {
            deadline: now + Duration::from_millis(millis),
            ..arrival(Priority::BestEffort)
        };
        scheduler.admit("late", until(0));
        add_as(&mut scheduler, "too slow", until(4), 0, &[4, 4]);
        add_as(&mut scheduler, "in time", until(40), 0, &[4]);
        let Some(Work::Expire(late)) = scheduler.next(now, |_| Some(99)) else { panic!() };
        assert_eq!((late, scheduler.len(), scheduler.tokens()), (vec!["late", "too slow"], 1, 4));
        assert_eq!(next_at(&mut scheduler, now, |_| Some(99)), [("in time", 0)]);
    }

    #[test]
    fn under_overload_the_newest_goes_first_and_what_was_begun_goes_on() {
        let mut scheduler = TestScheduler::new(8, 1);
        let now = Instant::now();
        add_as(&mut scheduler, "begun", arrival(Priority::BestEffort), 0, &[4; 3]);
        assert_eq!(next_at(&mut scheduler, now, |_| Some(99)), [("begun", 0)]);
        for name in ["a", "b", "c"] {
            add_as(&mut scheduler, name, arrival(Priority::BestEffort), 0, &[4]);
        }
        scheduler.admit("d", arrival(Priority::BestEffort));
        let later = now + LATER * 3 / 5;
        let Some(Work::Tokenize(id, "d")) = scheduler.next(later, |_| Some(99)) else { panic!() };
        scheduler.add_windows(id, vec![job("d", 0, 0, 4)]);
        scheduler.batch_tokens = 8;
        assert_eq!(next_at(&mut scheduler, later, |_| Some(99)), [("d", 0), ("begun", 1)]);
        assert_eq!(next_at(&mut scheduler, later, |_| Some(99)), [("c", 0), ("begun", 2)]);
        assert_eq!(next_at(&mut scheduler, later, |_| Some(99)), [("b", 0), ("a", 0)]);
    }

    #[test]
    fn the_work_before_a_text_is_that_of_the_turns_before_its_last() {
        let mut scheduler = TestScheduler::new(8, 100);
        add(&mut scheduler, "long", 0, &[40, 40]);
        add(&mut scheduler, "short", 0, &[3]);
        let before =
            |priority, millis| scheduler.work_before(priority, Duration::from_millis(millis)).as_millis();
        assert_eq!(before(Priority::BestEffort, 5), 8);
        assert_eq!(before(Priority::BestEffort, 500), 83);
        assert_eq!(
            before(Priority::Required, 5),
            0,
            "a guard waits for its own kind, and for the others' share"
        );
        add_as(&mut scheduler, "guard", arrival(Priority::Required), 0, &[30]);
        let before =
            |priority, millis| scheduler.work_before(priority, Duration::from_millis(millis)).as_millis();
        assert_eq!((before(Priority::Required, 9), before(Priority::Required, 90)), (12, 40));
        assert_eq!(before(Priority::BestEffort, 5), 32);
    }
}
