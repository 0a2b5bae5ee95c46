//! What waits for a thread, and what a free thread takes next: texts to be tokenized, then windows to be computed.
//!
//! A text's first window is ordered by the text's arrival, each further one as if its text had arrived one later, so
//! that long texts starve no short ones and nothing waits for ever. Windows are batched when they need the same model
//! and are no longer than the length class of the oldest: forwards have no padding, so that a shorter window costs only
//! its own tokens, while a longer one would hold up the others. Pure: time is an argument, and what texts and
//! windows are is not known here.

use std::collections::BTreeMap;
use std::time::Instant;

/// Numbers texts in the order of their arrival.
pub(super) type TicketId = u64;

/// Orders all windows: by rank, then by text, then by their place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct WindowOrder {
    /// The arrival of the text, plus one for each window before this one.
    rank: u64,
    text: TicketId,
    window: usize,
}

/// One window that is to be computed.
#[derive(Debug)]
pub(super) struct QueuedWindow<W> {
    /// An index into the classifier's models.
    pub(super) model: usize,
    pub(super) tokens: usize,
    pub(super) deadline: Instant,
    pub(super) window: W,
}

/// What a thread does next.
#[derive(Debug)]
pub(super) enum Work<T, W> {
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
    /// Every text that has anything here or is being tokenized, with its windows that are still here.
    texts: BTreeMap<TicketId, Vec<WindowOrder>>,
    /// Texts that are still to be tokenized, with their deadlines.
    untokenized: BTreeMap<TicketId, (T, Instant)>,
    windows: BTreeMap<WindowOrder, QueuedWindow<W>>,
    /// Of all windows.
    tokens: usize,
}

impl<T, W> BatchScheduler<T, W> {
    /// Makes room for `max_texts` texts; `batch_tokens` bounds the windows that are computed together.
    pub(super) fn new(max_texts: usize, batch_tokens: usize) -> Self {
        Self {
            max_texts: max_texts.max(1),
            batch_tokens: batch_tokens.max(1),
            next_id: 0,
            texts: BTreeMap::new(),
            untokenized: BTreeMap::new(),
            windows: BTreeMap::new(),
            tokens: 0,
        }
    }

    /// Counts the texts of which anything waits.
    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    /// Takes a text in; none if there is no room for it.
    pub(super) fn admit(&mut self, text: T, deadline: Instant) -> Option<TicketId> {
        if self.texts.len() >= self.max_texts {
            return None;
        }
        let id = self.next_id;
        self.next_id += 1;
        self.texts.insert(id, Vec::new());
        self.untokenized.insert(id, (text, deadline));
        Some(id)
    }

    /// Adds the windows of a text that was tokenized, most urgent first; drops those of a text that was removed.
    pub(super) fn add_windows(&mut self, id: TicketId, jobs: Vec<QueuedWindow<W>>) {
        if !self.texts.contains_key(&id) {
            return;
        }
        let order = |window: usize| WindowOrder { rank: id + window as u64, text: id, window };
        let orders: Vec<WindowOrder> = (0..jobs.len()).map(order).collect();
        self.tokens += jobs.iter().map(|job| job.tokens).sum::<usize>();
        self.windows.extend(orders.iter().copied().zip(jobs));
        if orders.is_empty() {
            self.texts.remove(&id);
        } else {
            self.texts.insert(id, orders);
        }
    }

    /// Removes a text and all its windows.
    pub(super) fn remove(&mut self, id: TicketId) {
        self.untokenized.remove(&id);
        for order in self.texts.remove(&id).unwrap_or_default() {
            if let Some(job) = self.windows.remove(&order) {
                self.tokens -= job.tokens;
            }
        }
    }

    /// Says whether there is nothing that a thread could take.
    pub(super) fn is_empty(&self) -> bool {
        self.untokenized.is_empty() && self.windows.is_empty()
    }

    /// Counts the tokens of the waiting windows.
    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Returns what a thread does next; `limit` says how many tokens may be computed together with a window, none if
    /// its model is busy. What is past its deadline is left out.
    pub(super) fn next(
        &mut self,
        now: Instant,
        limit: impl Fn(&QueuedWindow<W>) -> Option<usize>,
    ) -> Option<Work<T, W>> {
        // Tokenizing is cheap beside computing, and only what was tokenized can be batched.
        while self.tokens < self.batch_tokens
            && let Some((id, (text, deadline))) = self.untokenized.pop_first()
        {
            if now < deadline {
                return Some(Work::Tokenize(id, text));
            }
            self.texts.remove(&id);
        }
        let in_time = |(_, job): &(&WindowOrder, &QueuedWindow<W>)| now < job.deadline;
        let mut oldest = self.windows.iter().filter(in_time).map(|(_, job)| job);
        let (limit, model, longest) =
            oldest.find_map(|job| Some((limit(job)?, job.model, job.tokens.next_power_of_two())))?;
        let mut room = limit.min(self.batch_tokens);
        let mut chosen = Vec::new();
        for (order, job) in self.windows.iter().filter(in_time) {
            let fits = job.model == model && job.tokens <= longest;
            if fits && (chosen.is_empty() || job.tokens <= room) {
                room = room.saturating_sub(job.tokens);
                chosen.push(*order);
            }
            if room == 0 {
                break;
            }
        }
        let jobs: Vec<QueuedWindow<W>> = chosen.into_iter().filter_map(|order| self.take(order)).collect();
        Some(Work::Compute(jobs))
    }

    fn take(&mut self, order: WindowOrder) -> Option<QueuedWindow<W>> {
        let job = self.windows.remove(&order)?;
        self.tokens -= job.tokens;
        if let Some(orders) = self.texts.get_mut(&order.text) {
            orders.retain(|other| *other != order);
            if orders.is_empty() {
                self.texts.remove(&order.text);
            }
        }
        Some(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    type TestScheduler = BatchScheduler<&'static str, (&'static str, usize)>;

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn job(
        name: &'static str,
        at: usize,
        model: usize,
        tokens: usize,
    ) -> QueuedWindow<(&'static str, usize)> {
        QueuedWindow { model, tokens, deadline: later(), window: (name, at) }
    }

    /// Takes in a text, has it tokenized and adds windows of these lengths.
    fn add(scheduler: &mut TestScheduler, name: &'static str, model: usize, lengths: &[usize]) -> TicketId {
        let id = scheduler.admit(name, later()).unwrap();
        assert!(scheduler.untokenized.remove(&id).is_some());
        let jobs = lengths.iter().enumerate().map(|(at, tokens)| job(name, at, model, *tokens)).collect();
        scheduler.add_windows(id, jobs);
        id
    }

    fn next(scheduler: &mut TestScheduler) -> Vec<(&'static str, usize)> {
        next_with(scheduler, |_| Some(usize::MAX))
    }

    fn next_with(
        scheduler: &mut TestScheduler,
        limit: impl Fn(&QueuedWindow<(&'static str, usize)>) -> Option<usize>,
    ) -> Vec<(&'static str, usize)> {
        match scheduler.next(Instant::now(), limit) {
            Some(Work::Compute(jobs)) => jobs.into_iter().map(|job| job.window).collect(),
            Some(Work::Tokenize(_, text)) => panic!("{text} was to be tokenized before"),
            None => Vec::new(),
        }
    }

    #[test]
    fn a_text_has_its_place_until_all_of_its_windows_were_taken() {
        let mut scheduler = TestScheduler::new(2, 8);
        add(&mut scheduler, "a", 0, &[8, 8]);
        assert!(scheduler.admit("b", later()).is_some());
        assert_eq!((scheduler.admit("c", later()), scheduler.len()), (None, 2));
        assert_eq!(next(&mut scheduler), [("a", 0)]);
        assert_eq!(scheduler.admit("c", later()), None);
        assert_eq!(next(&mut scheduler), [("a", 1)]);
        assert!(scheduler.admit("c", later()).is_some());
    }

    #[test]
    fn texts_are_tokenized_in_order_before_anything_is_computed_unless_a_forward_is_full() {
        let mut scheduler = TestScheduler::new(8, 10);
        for name in ["a", "b", "c"] {
            scheduler.admit(name, later()).unwrap();
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
    fn a_long_text_lets_short_ones_in_between_and_is_not_starved_by_them() {
        let mut scheduler = TestScheduler::new(8, 1);
        add(&mut scheduler, "long", 0, &[4, 4, 4]);
        add(&mut scheduler, "b", 0, &[4]);
        add(&mut scheduler, "c", 0, &[4]);
        let order: Vec<_> = std::iter::from_fn(|| next(&mut scheduler).pop()).collect();
        assert_eq!(order, [("long", 0), ("long", 1), ("b", 0), ("long", 2), ("c", 0)]);
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
        assert_eq!((next(&mut scheduler), scheduler.len(), scheduler.tokens), (Vec::new(), 0, 0));
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
    fn windows_of_a_busy_model_let_others_pass() {
        let mut scheduler = TestScheduler::new(8, 100);
        add(&mut scheduler, "a", 0, &[8]);
        add(&mut scheduler, "b", 1, &[8]);
        let only = |model: usize| move |job: &QueuedWindow<_>| (job.model == model).then_some(99);
        assert_eq!(next_with(&mut scheduler, only(1)), [("b", 0)]);
        assert!(next_with(&mut scheduler, only(1)).is_empty());
        assert_eq!(next_with(&mut scheduler, only(0)), [("a", 0)]);
    }

    #[test]
    fn a_removed_text_takes_all_its_windows_along() {
        let mut scheduler = TestScheduler::new(8, 1);
        let left = add(&mut scheduler, "left", 0, &[4, 4, 4]);
        add(&mut scheduler, "b", 0, &[4]);
        assert_eq!(next(&mut scheduler), [("left", 0)]);
        scheduler.remove(left);
        assert_eq!((scheduler.len(), scheduler.tokens), (1, 4));
        assert_eq!(next(&mut scheduler), [("b", 0)]);
        assert!(scheduler.next(Instant::now(), |_| Some(99)).is_none());
    }

    #[test]
    fn a_text_removed_while_it_is_tokenized_adds_nothing() {
        let mut scheduler = TestScheduler::new(8, 1);
        let left = scheduler.admit("left", later()).unwrap();
        assert!(matches!(scheduler.next(Instant::now(), |_| Some(99)), Some(Work::Tokenize(..))));
        scheduler.remove(left);
        scheduler.add_windows(left, vec![job("left", 0, 0, 4)]);
        assert!(scheduler.next(Instant::now(), |_| Some(99)).is_none());
        assert_eq!((scheduler.len(), scheduler.tokens), (0, 0));
    }

    #[test]
    fn what_is_late_is_neither_tokenized_nor_computed() {
        let mut scheduler = TestScheduler::new(8, 100);
        scheduler.admit("late", Instant::now()).unwrap();
        let id = scheduler.admit("read", later()).unwrap();
        scheduler.untokenized.remove(&id);
        scheduler.add_windows(id, vec![QueuedWindow { deadline: Instant::now(), ..job("late", 0, 0, 4) }]);
        assert!(scheduler.next(Instant::now(), |_| Some(99)).is_none());
        assert_eq!(scheduler.len(), 1, "what was tokenized goes as its text is removed");
        scheduler.remove(id);
        assert_eq!((scheduler.len(), scheduler.tokens), (0, 0));
    }
}
