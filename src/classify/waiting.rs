//! What waits for a thread, and what a free thread takes next: texts to be read, then windows to be computed.
//!
//! A text's first window has the turn of its arrival, each further one the turn of a text that came later, so that
//! long texts starve no short ones and nothing waits for ever. Windows ride together when they need the same model
//! and are no longer than the length class of the oldest: forwards have no padding, so that a short rider costs only
//! its own tokens, while a longer one would hold up the others. Pure: time is an argument, and what texts and
//! windows are is not known here.

use std::collections::BTreeMap;
use std::time::Instant;

/// Counts the texts as they come.
pub(super) type Number = u64;

/// The place of a window in the order of all windows: its turn, its text and its place there.
type Turn = (u64, Number, usize);

/// One window that is to be computed.
#[derive(Debug)]
pub(super) struct Job<W> {
    /// The place of the model that it is for.
    pub(super) model: usize,
    /// Its length.
    pub(super) tokens: usize,
    /// When nobody waits for it any more.
    pub(super) deadline: Instant,
    /// The window.
    pub(super) window: W,
}

/// What a thread does next.
#[derive(Debug)]
pub(super) enum Task<T, W> {
    /// Reads a text, after which its windows are added.
    Read(Number, T),
    /// Computes windows of one model together; there is at least one.
    Compute(Vec<Job<W>>),
}

/// Texts and windows that no thread has taken; at most so many texts.
pub(super) struct Waiting<T, W> {
    limit: usize,
    batch_tokens: usize,
    next: Number,
    /// Every text that has anything here or is being read, with its windows that are still here.
    texts: BTreeMap<Number, Vec<Turn>>,
    unread: BTreeMap<Number, (T, Instant)>,
    windows: BTreeMap<Turn, Job<W>>,
    tokens: usize,
}

impl<T, W> Waiting<T, W> {
    /// Makes room for `limit` texts; `batch_tokens` bounds the windows that are computed together.
    pub(super) fn new(limit: usize, batch_tokens: usize) -> Self {
        Self {
            limit: limit.max(1),
            batch_tokens: batch_tokens.max(1),
            next: 0,
            texts: BTreeMap::new(),
            unread: BTreeMap::new(),
            windows: BTreeMap::new(),
            tokens: 0,
        }
    }

    /// Counts the texts of which anything waits.
    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    /// Takes a text in, unless there is no room for it.
    pub(super) fn admit(&mut self, text: T, deadline: Instant) -> Option<Number> {
        if self.texts.len() >= self.limit {
            return None;
        }
        let number = self.next;
        self.next += 1;
        self.texts.insert(number, Vec::new());
        self.unread.insert(number, (text, deadline));
        Some(number)
    }

    /// Adds the windows of a text that was read, most urgent first; refuses those of a text that has left.
    pub(super) fn add(&mut self, number: Number, jobs: Vec<Job<W>>) {
        if !self.texts.contains_key(&number) {
            return;
        }
        let turns: Vec<Turn> = (0..jobs.len()).map(|at| (number + at as u64, number, at)).collect();
        self.tokens += jobs.iter().map(|job| job.tokens).sum::<usize>();
        self.windows.extend(turns.iter().copied().zip(jobs));
        if turns.is_empty() {
            self.texts.remove(&number);
        } else {
            self.texts.insert(number, turns);
        }
    }

    /// Removes a text and all its windows.
    pub(super) fn leave(&mut self, number: Number) {
        self.unread.remove(&number);
        for turn in self.texts.remove(&number).unwrap_or_default() {
            if let Some(job) = self.windows.remove(&turn) {
                self.tokens -= job.tokens;
            }
        }
    }

    /// Says whether there is nothing that a thread could take.
    pub(super) fn is_empty(&self) -> bool {
        self.unread.is_empty() && self.windows.is_empty()
    }

    /// Counts the tokens of the windows that wait.
    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Returns what a thread does next; `limit` says how many tokens may be computed together with a window, none if
    /// its model is busy. What is late is left out.
    pub(super) fn next(
        &mut self,
        now: Instant,
        limit: impl Fn(&Job<W>) -> Option<usize>,
    ) -> Option<Task<T, W>> {
        // Reading is cheap beside computing, and only what was read can ride together.
        while self.tokens < self.batch_tokens
            && let Some((number, (text, deadline))) = self.unread.pop_first()
        {
            if now < deadline {
                return Some(Task::Read(number, text));
            }
            self.texts.remove(&number);
        }
        let in_time = |(_, job): &(&Turn, &Job<W>)| now < job.deadline;
        let mut oldest = self.windows.iter().filter(in_time).map(|(_, job)| job);
        let (limit, model, longest) =
            oldest.find_map(|job| Some((limit(job)?, job.model, job.tokens.next_power_of_two())))?;
        let mut room = limit.min(self.batch_tokens);
        let mut chosen = Vec::new();
        for (turn, job) in self.windows.iter().filter(in_time) {
            let fits = job.model == model && job.tokens <= longest;
            if fits && (chosen.is_empty() || job.tokens <= room) {
                room = room.saturating_sub(job.tokens);
                chosen.push(*turn);
            }
            if room == 0 {
                break;
            }
        }
        let jobs: Vec<Job<W>> = chosen.into_iter().filter_map(|turn| self.take(turn)).collect();
        Some(Task::Compute(jobs))
    }

    fn take(&mut self, turn: Turn) -> Option<Job<W>> {
        let job = self.windows.remove(&turn)?;
        self.tokens -= job.tokens;
        let number = turn.1;
        if let Some(turns) = self.texts.get_mut(&number) {
            turns.retain(|other| *other != turn);
            if turns.is_empty() {
                self.texts.remove(&number);
            }
        }
        Some(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    type Sample = Waiting<&'static str, (&'static str, usize)>;

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn job(name: &'static str, at: usize, model: usize, tokens: usize) -> Job<(&'static str, usize)> {
        Job { model, tokens, deadline: later(), window: (name, at) }
    }

    /// Takes in a text, has it read and adds windows of these lengths.
    fn add(waiting: &mut Sample, name: &'static str, model: usize, lengths: &[usize]) -> Number {
        let number = waiting.admit(name, later()).unwrap();
        assert!(waiting.unread.remove(&number).is_some());
        let jobs = lengths.iter().enumerate().map(|(at, tokens)| job(name, at, model, *tokens)).collect();
        waiting.add(number, jobs);
        number
    }

    fn next(waiting: &mut Sample) -> Vec<(&'static str, usize)> {
        next_with(waiting, |_| Some(usize::MAX))
    }

    fn next_with(
        waiting: &mut Sample,
        limit: impl Fn(&Job<(&'static str, usize)>) -> Option<usize>,
    ) -> Vec<(&'static str, usize)> {
        match waiting.next(Instant::now(), limit) {
            Some(Task::Compute(jobs)) => jobs.into_iter().map(|job| job.window).collect(),
            Some(Task::Read(_, text)) => panic!("{text} was to be read before"),
            None => Vec::new(),
        }
    }

    #[test]
    fn there_is_room_for_so_many_texts_until_all_of_one_was_taken() {
        let mut waiting = Sample::new(2, 8);
        add(&mut waiting, "a", 0, &[8, 8]);
        assert!(waiting.admit("b", later()).is_some());
        assert_eq!((waiting.admit("c", later()), waiting.len()), (None, 2));
        assert_eq!(next(&mut waiting), [("a", 0)]);
        assert_eq!(waiting.admit("c", later()), None);
        assert_eq!(next(&mut waiting), [("a", 1)]);
        assert!(waiting.admit("c", later()).is_some());
    }

    #[test]
    fn texts_are_read_in_turn_before_anything_is_computed_unless_a_forward_is_full() {
        let mut waiting = Sample::new(8, 10);
        for name in ["a", "b", "c"] {
            waiting.admit(name, later()).unwrap();
        }
        for name in ["a", "b"] {
            let Some(Task::Read(number, text)) = waiting.next(Instant::now(), |_| Some(99)) else { panic!() };
            assert_eq!(text, name);
            waiting.add(number, vec![job(name, 0, 0, 5)]);
        }
        assert_eq!(next(&mut waiting), [("a", 0), ("b", 0)]);
        assert!(matches!(waiting.next(Instant::now(), |_| Some(99)), Some(Task::Read(_, "c"))));
    }

    #[test]
    fn a_long_text_lets_short_ones_in_between_and_is_not_starved_by_them() {
        let mut waiting = Sample::new(8, 1);
        add(&mut waiting, "long", 0, &[4, 4, 4]);
        add(&mut waiting, "b", 0, &[4]);
        add(&mut waiting, "c", 0, &[4]);
        let order: Vec<_> = std::iter::from_fn(|| next(&mut waiting).pop()).collect();
        assert_eq!(order, [("long", 0), ("long", 1), ("b", 0), ("long", 2), ("c", 0)]);
    }

    #[test]
    fn windows_of_one_model_that_are_not_longer_ride_together_oldest_first() {
        let mut waiting = Sample::new(8, 100);
        add(&mut waiting, "a", 0, &[7]);
        add(&mut waiting, "longer", 0, &[9]);
        add(&mut waiting, "other", 1, &[7]);
        add(&mut waiting, "b", 0, &[8]);
        add(&mut waiting, "short", 0, &[1]);
        assert_eq!(next(&mut waiting), [("a", 0), ("b", 0), ("short", 0)]);
        assert_eq!(next(&mut waiting), [("longer", 0)]);
        assert_eq!(next(&mut waiting), [("other", 0)]);
        assert_eq!((next(&mut waiting), waiting.len(), waiting.tokens), (Vec::new(), 0, 0));
    }

    #[test]
    fn a_forward_takes_what_fits_and_at_least_one() {
        let mut waiting = Sample::new(8, 20);
        for name in ["a", "b", "c", "d"] {
            add(&mut waiting, name, 0, &[8]);
        }
        assert_eq!(next(&mut waiting), [("a", 0), ("b", 0)]);
        assert_eq!(next_with(&mut waiting, |_| Some(3)), [("c", 0)]);
        assert_eq!(next(&mut waiting), [("d", 0)]);
    }

    #[test]
    fn windows_of_a_busy_model_let_others_pass() {
        let mut waiting = Sample::new(8, 100);
        add(&mut waiting, "a", 0, &[8]);
        add(&mut waiting, "b", 1, &[8]);
        let only = |model: usize| move |job: &Job<_>| (job.model == model).then_some(99);
        assert_eq!(next_with(&mut waiting, only(1)), [("b", 0)]);
        assert!(next_with(&mut waiting, only(1)).is_empty());
        assert_eq!(next_with(&mut waiting, only(0)), [("a", 0)]);
    }

    #[test]
    fn a_text_that_leaves_takes_all_its_windows_along() {
        let mut waiting = Sample::new(8, 1);
        let left = add(&mut waiting, "left", 0, &[4, 4, 4]);
        add(&mut waiting, "b", 0, &[4]);
        assert_eq!(next(&mut waiting), [("left", 0)]);
        waiting.leave(left);
        assert_eq!((waiting.len(), waiting.tokens), (1, 4));
        assert_eq!(next(&mut waiting), [("b", 0)]);
        assert!(waiting.next(Instant::now(), |_| Some(99)).is_none());
    }

    #[test]
    fn a_text_that_leaves_while_it_is_read_adds_nothing() {
        let mut waiting = Sample::new(8, 1);
        let left = waiting.admit("left", later()).unwrap();
        assert!(matches!(waiting.next(Instant::now(), |_| Some(99)), Some(Task::Read(..))));
        waiting.leave(left);
        waiting.add(left, vec![job("left", 0, 0, 4)]);
        assert!(waiting.next(Instant::now(), |_| Some(99)).is_none());
        assert_eq!((waiting.len(), waiting.tokens), (0, 0));
    }

    #[test]
    fn what_is_late_is_neither_read_nor_computed() {
        let mut waiting = Sample::new(8, 100);
        waiting.admit("late", Instant::now()).unwrap();
        let number = waiting.admit("read", later()).unwrap();
        waiting.unread.remove(&number);
        waiting.add(number, vec![Job { deadline: Instant::now(), ..job("late", 0, 0, 4) }]);
        assert!(waiting.next(Instant::now(), |_| Some(99)).is_none());
        assert_eq!(waiting.len(), 1, "what was read goes as its text leaves");
        waiting.leave(number);
        assert_eq!((waiting.len(), waiting.tokens), (0, 0));
    }
}
