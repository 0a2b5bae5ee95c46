//! One text on its way through the queue: the heads that are wanted, its windows, and their results so far.
//!
//! Shared by the caller that waits and the threads that compute. Knows nothing of the order in which windows are
//! computed, nor of how their results become findings.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::backend::{HeadOutputs, ModelBackend, ModelError, WindowPair};
use super::excerpt::{Excerpt, MAX_BYTES_PER_TOKEN};
use super::groundedness::{GroundednessInput, GroundednessTokens};
use super::model_set::ModelSet;
use super::readers::Readers;
use super::scheduler::QueuedWindow;
use super::window::{TokenWindow, WindowGrid, from_both_ends};
use super::window_cache::{TextKey, WindowKey};
use super::{ClassifyCost, ClassifyHeads, Findings, Unknown};

pub(super) struct ClassifyTask {
    /// The text; in a groundedness check the answer that is judged.
    pub(super) excerpt: Excerpt,
    /// What the answer of a groundedness check is judged by.
    grounds: Option<Grounds>,
    /// Which models read it, and for which heads.
    pub(super) readers: Readers,
    pub(super) started: Instant,
    pub(super) deadline: Instant,
    /// The text's, noted once all of its windows are computed; none for a pair.
    key: Option<TextKey>,
    /// None once the findings were sent or the caller stopped waiting.
    progress: Mutex<Option<TaskProgress>>,
}

/// What is judged.
enum Subject {
    Text(TextKey),
    Pair(Grounds),
}

struct Grounds {
    context: String,
    question: String,
}

pub(super) struct TaskProgress {
    /// One for each model that has a wanted head; empty until the text was tokenized.
    pub(super) models: Vec<ModelWindows>,
    pub(super) cost: ClassifyCost,
    /// Windows that are still to be computed.
    pending: usize,
    last_event: Instant,
    reply: oneshot::Sender<Findings>,
}

/// The windows of a text, as one model's tokenizer cuts them.
pub(super) struct ModelWindows {
    /// The model's index.
    pub(super) model: usize,
    pub(super) heads: ClassifyHeads,
    /// Which bytes of the whole text each token spans.
    pub(super) token_bytes: Vec<Range<usize>>,
    /// Whether the windows cover all of the text.
    pub(super) is_whole: bool,
    /// Whether so much of it is unknown to the model that there are no windows.
    pub(super) is_unreadable: bool,
    /// Tokens of the whole text; an estimate where it was not tokenized as a whole.
    pub(super) total_tokens: f32,
    /// In the order in which they are computed.
    pub(super) results: Vec<WindowResult>,
}

pub(super) struct WindowResult {
    pub(super) window: TokenWindow,
    pub(super) heads: ClassifyHeads,
    /// None until the window was computed, and where that failed.
    pub(super) outputs: Option<Arc<HeadOutputs>>,
    pub(super) failed: bool,
}

/// One window in the queue, and where its outputs go.
pub(super) struct WindowTask {
    task: Arc<ClassifyTask>,
    pub(super) heads: ClassifyHeads,
    tokens: WindowTokens,
    key: WindowKey,
    slot: ResultSlot,
    /// Outputs of other heads that were in the cache.
    cached: Option<Arc<HeadOutputs>>,
}

/// The token ids of one window, as a part of the text's.
struct WindowTokens {
    ids: Arc<[u32]>,
    range: Range<usize>,
    /// Where the second text of a pair starts within the range.
    second: Option<usize>,
}

/// An index into a task's models, and one into the results there.
#[derive(Debug, Clone, Copy)]
struct ResultSlot {
    windows: usize,
    result: usize,
}

/// A model, and the index under which it is queued and cached.
#[derive(Clone, Copy)]
struct IndexedModel<'a> {
    index: usize,
    model: &'a dyn ModelBackend,
}

/// The forward in which a window was computed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Forward {
    pub(super) began: Instant,
    pub(super) took: Duration,
    pub(super) windows: usize,
}

impl WindowTokens {
    fn ids(&self) -> &[u32] {
        &self.ids[self.range.clone()]
    }
}

impl ClassifyTask {
    /// Starts on a text; the receiver gets its findings.
    pub(super) fn new(
        excerpt: Excerpt,
        key: TextKey,
        readers: Readers,
        deadline: Instant,
    ) -> (Arc<Self>, oneshot::Receiver<Findings>) {
        Self::start(excerpt, Subject::Text(key), readers, deadline)
    }

    /// Starts on a groundedness check; none if it is longer than `max_tokens` tokens can be.
    pub(super) fn of_pair(
        input: GroundednessInput<'_>,
        max_tokens: usize,
        readers: Readers,
        deadline: Instant,
    ) -> Option<(Arc<Self>, oneshot::Receiver<Findings>)> {
        let excerpt = Excerpt::new(input.answer, max_tokens);
        let question = input.question_suffix();
        let limit = max_tokens.saturating_mul(MAX_BYTES_PER_TOKEN);
        let is_short = input.context.len() + question.len() <= limit;
        (is_short && excerpt.whole().is_some()).then(|| {
            let grounds = Grounds { context: input.context.to_owned(), question };
            Self::start(excerpt, Subject::Pair(grounds), readers, deadline)
        })
    }

    fn start(
        excerpt: Excerpt,
        subject: Subject,
        readers: Readers,
        deadline: Instant,
    ) -> (Arc<Self>, oneshot::Receiver<Findings>) {
        let (reply, findings) = oneshot::channel();
        let started = Instant::now();
        let progress = TaskProgress {
            models: Vec::new(),
            cost: ClassifyCost::default(),
            pending: 0,
            last_event: started,
            reply,
        };
        let progress = Mutex::new(Some(progress));
        let (key, grounds) = match subject {
            Subject::Text(key) => (Some(key), None),
            Subject::Pair(grounds) => (None, Some(grounds)),
        };
        (Arc::new(Self { excerpt, grounds, readers, started, deadline, key, progress }), findings)
    }

    /// Cuts the text into tokens and windows; returns those whose outputs are not in the cache.
    pub(super) fn tokenize(
        self: &Arc<Self>,
        model_set: &ModelSet,
    ) -> Result<Vec<QueuedWindow<WindowTask>>, ModelError> {
        let began = Instant::now();
        let mut models: Vec<ModelWindows> = Vec::new();
        let mut queued = Vec::new();
        for (index, model) in model_set.models.iter().enumerate() {
            let heads = self.readers.heads_of(index);
            if heads.is_empty() {
                continue;
            }
            let model = IndexedModel { index, model: &**model };
            let mut planner =
                WindowPlanner { task: self, model_set, model, windows: models.len(), queued: &mut queued };
            models.push(match &self.grounds {
                None => planner.text(heads)?,
                Some(grounds) => planner.pairs(grounds)?,
            });
        }
        let windows: usize = models.iter().map(|model| model.results.len()).sum();
        let fresh =
            |model: &ModelWindows| model.results.iter().map(|result| result.window.fresh).sum::<usize>();
        let cost = ClassifyCost {
            queued: began.saturating_duration_since(self.started),
            tokenize: began.elapsed(),
            tokens: models.iter().map(fresh).sum(),
            windows,
            cached: windows - queued.len(),
            ..ClassifyCost::default()
        };
        model_set.cache_hits.fetch_add(cost.cached as u64, Ordering::Relaxed);
        if let Some(progress) = self.lock().as_mut() {
            (progress.models, progress.cost) = (models, cost);
            (progress.pending, progress.last_event) = (queued.len(), Instant::now());
        }
        Ok(queued)
    }

    /// Sends the findings if no window is left to compute.
    pub(super) fn finish_if_done(&self, model_set: &ModelSet) {
        let mut guard = self.lock();
        if guard.as_ref().is_some_and(|progress| progress.pending == 0)
            && let Some(progress) = guard.take()
        {
            // Merging takes time that the caller, who may want to close the task, must not wait for.
            drop(guard);
            let mut results = progress.models.iter().flat_map(|model| &model.results);
            if let Some(key) = self.key
                && results.all(|result| result.outputs.is_some())
            {
                model_set.cache.note_text(key, self.readers.heads);
            }
            let findings = model_set.findings(self, &progress);
            // The receiver is gone if the caller gave up meanwhile.
            let _ = progress.reply.send(findings);
        }
    }

    /// Sends what is known by now, which is all that will be.
    pub(super) fn finish(&self, model_set: &ModelSet) {
        if let Some(progress) = self.close() {
            let findings = model_set.findings(self, &progress);
            let _ = progress.reply.send(findings);
        }
    }

    /// Answers every head with a failure.
    pub(super) fn fail(&self) {
        if let Some(progress) = self.lock().take() {
            let _ =
                progress.reply.send(Findings::unknown(self.readers.heads, Unknown::Failed, progress.cost));
        }
    }

    /// Takes the results so far, after which none are added; none once the findings are being merged.
    pub(super) fn close(&self) -> Option<TaskProgress> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<TaskProgress>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says whether at least a third of a text's bytes, and more than a few signs, are unknown to a model: a word of unknown
/// signs is one token, however long it is.
fn is_unreadable(ids: &[u32], bytes: &[Range<usize>], unknown: Option<u32>) -> bool {
    const FEW: usize = 32;
    let all: usize = bytes.iter().map(ExactSizeIterator::len).sum();
    let lacking = ids.iter().zip(bytes).filter(|(id, _)| Some(**id) == unknown);
    let lacking: usize = lacking.map(|(_, bytes)| bytes.len()).sum();
    lacking > FEW && lacking * 3 >= all
}

/// Lays one model's windows over a task and collects those that must be computed.
struct WindowPlanner<'a> {
    task: &'a Arc<ClassifyTask>,
    model_set: &'a ModelSet,
    model: IndexedModel<'a>,
    /// The index of these windows among the task's models.
    windows: usize,
    queued: &'a mut Vec<QueuedWindow<WindowTask>>,
}

impl WindowPlanner<'_> {
    fn text(&mut self, heads: ClassifyHeads) -> Result<ModelWindows, ModelError> {
        let (spec, model) = (&self.model_set.spec, self.model.model);
        let grid = WindowGrid::new(spec.windows.window, spec.windows.overlap, model.max_input_tokens());
        let (mut ids, mut token_bytes, mut windows) = (Vec::new(), Vec::new(), Vec::new());
        for piece in self.task.excerpt.pieces() {
            let tokens = model.tokenize(&piece.text)?;
            let from = ids.len();
            ids.extend(tokens.ids);
            token_bytes.extend(shifted(tokens.bytes, piece.start));
            windows.extend(grid.lay(from..ids.len()));
        }
        let kept = from_both_ends(&windows, spec.windows.max_tokens);
        let is_whole = self.task.excerpt.whole().is_some() && kept.len() == windows.len();
        // The domain is judged from fewer windows: the ends of a text say what it is about.
        let for_domain =
            from_both_ends(&windows, spec.windows.domain_tokens.min(spec.windows.max_tokens)).len();
        let total_tokens = self.task.excerpt.estimate_tokens(ids.len());
        let is_unreadable = is_unreadable(&ids, &token_bytes, model.unknown_token());
        let ids: Arc<[u32]> = ids.into();
        let mut results = Vec::new();
        for (rank, at) in kept.into_iter().enumerate().filter(|_| !is_unreadable) {
            let of_window = ClassifyHeads {
                domain: rank < for_domain,
                pii: is_whole,
                paraphrase: is_whole,
                ..ClassifyHeads::ALL
            };
            let heads = heads.and(of_window);
            if heads.is_empty() {
                continue;
            }
            let window = windows[at].clone();
            let tokens = WindowTokens { ids: Arc::clone(&ids), range: window.tokens.clone(), second: None };
            let outputs = self.cached_or_queued(results.len(), heads, tokens);
            results.push(WindowResult { window, heads, outputs, failed: false });
        }
        let model = self.model.index;
        Ok(ModelWindows { model, heads, token_bytes, is_whole, is_unreadable, total_tokens, results })
    }

    /// Cuts a groundedness check into pairs; none of them where it is too long.
    fn pairs(&mut self, grounds: &Grounds) -> Result<ModelWindows, ModelError> {
        let (spec, model) = (&self.model_set.spec, self.model.model);
        let (start, answer) =
            self.task.excerpt.whole().map_or((0, ""), |piece| (piece.start, piece.text.as_str()));
        let answer = model.tokenize(answer)?;
        let token_bytes: Vec<_> = shifted(answer.bytes, start).collect();
        let mut tokens = GroundednessTokens {
            context: model.tokenize(&grounds.context)?.ids,
            question: model.tokenize(&grounds.question)?.ids,
            answer: answer.ids,
        };
        let heads = ClassifyHeads::HALLUCINATION;
        let is_whole = tokens.len() <= spec.windows.max_tokens;
        let windows = if is_whole {
            tokens.pair_windows(model.max_input_tokens(), spec.windows.overlap)
        } else {
            Vec::new()
        };
        let mut results = Vec::new();
        for pair in windows {
            let (ids, second) = tokens.pair_ids(&pair);
            let window = TokenWindow { tokens: pair.answer, fresh: ids.len() };
            let tokens = WindowTokens { range: 0..ids.len(), ids: ids.into(), second: Some(second) };
            let outputs = self.cached_or_queued(results.len(), heads, tokens);
            results.push(WindowResult { window, heads, outputs, failed: false });
        }
        let total_tokens = token_bytes.len() as f32;
        let (model, is_unreadable) = (self.model.index, false);
        Ok(ModelWindows { model, heads, token_bytes, is_whole, is_unreadable, total_tokens, results })
    }

    /// Returns a window's outputs where the cache has all of them; queues the window where it does not.
    fn cached_or_queued(
        &mut self,
        result: usize,
        heads: ClassifyHeads,
        tokens: WindowTokens,
    ) -> Option<Arc<HeadOutputs>> {
        let key = self.model_set.cache.key(self.model.index, tokens.ids(), tokens.second);
        let cached = self.model_set.cache.get(key);
        let heads = cached.as_ref().map_or(heads, |cached| heads.without(cached.heads()));
        if heads.is_empty() {
            return cached;
        }
        let task = Arc::clone(self.task);
        self.queued.push(QueuedWindow {
            model: self.model.index,
            tokens: tokens.range.len(),
            cost: Duration::ZERO,
            deadline: task.deadline,
            window: WindowTask {
                task,
                heads,
                tokens,
                key,
                slot: ResultSlot { windows: self.windows, result },
                cached,
            },
        });
        None
    }
}

fn shifted(spans: Vec<Range<usize>>, start: usize) -> impl Iterator<Item = Range<usize>> {
    spans.into_iter().map(move |span| start + span.start..start + span.end)
}

impl WindowTask {
    pub(super) fn ids(&self) -> &[u32] {
        self.tokens.ids()
    }

    /// Returns both texts, if the window is a pair.
    pub(super) fn pair(&self) -> Option<WindowPair<'_>> {
        let (first, second) = self.ids().split_at(self.tokens.second?);
        Some(WindowPair { first, second })
    }

    /// Stores what a forward computed, none where it failed, and sends the findings after the last window.
    pub(super) fn complete(self, outputs: Option<HeadOutputs>, forward: Forward, model_set: &ModelSet) {
        let outputs = outputs.map(|mut outputs| {
            if let Some(cached) = &self.cached {
                outputs.fill_missing_from(cached);
            }
            Arc::new(outputs)
        });
        if let Some(outputs) = &outputs {
            model_set.cache.put(self.key, outputs);
        }
        if let Some(progress) = self.task.lock().as_mut() {
            progress.record(forward);
            let result = &mut progress.models[self.slot.windows].results[self.slot.result];
            result.failed = outputs.is_none();
            result.outputs = outputs;
        }
        self.task.finish_if_done(model_set);
    }
}

impl TaskProgress {
    fn record(&mut self, forward: Forward) {
        self.pending -= 1;
        let cost = &mut self.cost;
        if cost.batch == 0 {
            cost.queued += forward.began.saturating_duration_since(self.last_event);
        }
        // Windows of one text that shared a forward share its time too.
        if cost.batch == 0 || forward.began != self.last_event {
            cost.compute += forward.took;
            self.last_event = forward.began;
        }
        cost.batch = cost.batch.max(forward.windows);
    }
}
