//! One text on its way through the queue: what was asked of it, its windows, and what was found in them so far.
//!
//! Whoever waits and the threads share it. Knows nothing of the order in which windows are computed, nor of what
//! their answers amount to.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::answer::{Answer, Encoder, Fault, Pair};
use super::cache::{Cache, Key};
use super::claim::{self, Claim};
use super::waiting::Job;
use super::window::{self, Grid, Window};
use super::{Cost, Findings, Question, Questions, Spec, Unknown};

/// A token spans fewer bytes than this on average; longer texts lose their middle before they are cut into tokens.
const BYTES_A_TOKEN: usize = 8;

/// The models, who answers what, and how far texts are read.
pub(super) struct Library {
    pub(super) models: Vec<Arc<dyn Encoder>>,
    pub(super) cache: Cache,
    /// How many windows had their answers from there.
    pub(super) cached: AtomicU64,
    pub(super) spec: Spec,
    /// Who answers each question that can be answered.
    desks: BTreeMap<Question, Desk>,
}

/// Who answers a question.
struct Desk {
    model: usize,
    labels: Vec<Arc<str>>,
    threshold: f32,
}

/// A text without the white space around it, and without its middle where it is too long.
#[derive(Debug)]
pub(super) struct Excerpt {
    /// Where each piece starts in the whole text, and the piece.
    pieces: Vec<(usize, String)>,
    /// The length of all that is not white space around the text.
    len: usize,
    /// How many characters of white space come before it.
    pub(super) lead: usize,
}

impl Excerpt {
    /// Copies what can be read of a text if at most `max_tokens` tokens are.
    pub(super) fn new(text: &str, max_tokens: usize) -> Self {
        let start = text.len() - text.trim_start().len();
        let lead = text[..start].chars().count();
        let text = text.trim();
        let limit = max_tokens.saturating_mul(BYTES_A_TOKEN);
        if text.len() <= limit {
            return Self { pieces: vec![(start, text.to_owned())], len: text.len(), lead };
        }
        let head = text.floor_char_boundary(limit / 2);
        let tail = text.ceil_char_boundary(text.len() - limit / 2);
        let pieces = vec![(start, text[..head].to_owned()), (start + tail, text[tail..].to_owned())];
        Self { pieces, len: text.len(), lead }
    }

    /// Returns the text where nothing is missing, and where it starts.
    pub(super) fn whole(&self) -> Option<(usize, &str)> {
        match &self.pieces[..] {
            [(start, piece)] => Some((*start, piece)),
            _ => None,
        }
    }
}

/// One text, from the question to the answer.
pub(super) struct Reading {
    pub(super) excerpt: Excerpt,
    /// What a claim's answer, which is the text then, is judged by.
    grounds: Option<Grounds>,
    pub(super) questions: Questions,
    pub(super) begun: Instant,
    pub(super) deadline: Instant,
    /// None once there are findings or nobody wants them any more.
    progress: Mutex<Option<Progress>>,
}

/// What an answer is judged by.
struct Grounds {
    context: String,
    question: String,
}

/// What is known of a text so far.
pub(super) struct Progress {
    /// What each model that is asked has to read; empty until the text was read.
    pub(super) parts: Vec<Part>,
    pub(super) cost: Cost,
    open: usize,
    last: Instant,
    reply: oneshot::Sender<Findings>,
}

/// A text as one model reads it.
pub(super) struct Part {
    pub(super) asked: Questions,
    /// Which bytes of the whole text each token spans.
    pub(super) bytes: Vec<Range<usize>>,
    /// Whether the sheets cover all of the text.
    pub(super) is_whole: bool,
    /// How many tokens the whole text has, as far as is known.
    pub(super) total: f32,
    /// The windows, the most telling first.
    pub(super) sheets: Vec<Sheet>,
}

/// One window, and what was found in it.
pub(super) struct Sheet {
    pub(super) window: Window,
    pub(super) wanted: Questions,
    /// None as long as it is not known or if it failed.
    pub(super) answer: Option<Arc<Answer>>,
    pub(super) failed: bool,
}

/// One window for the queue, and where its answer goes.
pub(super) struct Page {
    pub(super) reading: Arc<Reading>,
    pub(super) wanted: Questions,
    pub(super) key: Key,
    ids: Arc<[u32]>,
    place: Range<usize>,
    /// Where the second text of a pair starts.
    second: Option<usize>,
    part: usize,
    sheet: usize,
    /// What was found before, but is not enough.
    known: Option<Arc<Answer>>,
}

/// Where a window's answer goes, and which model gives it.
#[derive(Debug, Clone, Copy)]
struct Spot {
    model: usize,
    part: usize,
    sheet: usize,
}

/// The forward that a window had part in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Forward {
    pub(super) began: Instant,
    pub(super) took: Duration,
    pub(super) windows: usize,
}

impl Page {
    pub(super) fn ids(&self) -> &[u32] {
        &self.ids[self.place.clone()]
    }

    /// Returns both texts where they are two.
    pub(super) fn pair(&self) -> Option<Pair<'_>> {
        let (first, second) = self.ids().split_at(self.second?);
        Some(Pair { first, second })
    }
}

impl Reading {
    /// Begins with a text; what is found is sent to the other value.
    pub(super) fn new(
        excerpt: Excerpt,
        questions: Questions,
        deadline: Instant,
    ) -> (Arc<Self>, oneshot::Receiver<Findings>) {
        Self::begin(excerpt, None, questions, deadline)
    }

    /// Begins with a claim; none if it is longer than any claim that is read.
    pub(super) fn of_claim(
        claim: Claim<'_>,
        max_tokens: usize,
        deadline: Instant,
    ) -> Option<(Arc<Self>, oneshot::Receiver<Findings>)> {
        let excerpt = Excerpt::new(claim.answer, max_tokens);
        let asked = claim.asked();
        let is_short = claim.context.len() + asked.len() <= max_tokens.saturating_mul(BYTES_A_TOKEN);
        (is_short && excerpt.whole().is_some()).then(|| {
            let grounds = Grounds { context: claim.context.to_owned(), question: asked };
            Self::begin(excerpt, Some(grounds), Questions::HALLUCINATION, deadline)
        })
    }

    fn begin(
        excerpt: Excerpt,
        grounds: Option<Grounds>,
        questions: Questions,
        deadline: Instant,
    ) -> (Arc<Self>, oneshot::Receiver<Findings>) {
        let (reply, findings) = oneshot::channel();
        let begun = Instant::now();
        let progress = Progress { parts: Vec::new(), cost: Cost::default(), open: 0, last: begun, reply };
        let progress = Mutex::new(Some(progress));
        (Arc::new(Self { excerpt, grounds, questions, begun, deadline, progress }), findings)
    }

    /// Cuts the text into tokens and windows; returns those whose answers are not in the cache.
    pub(super) fn read(self: &Arc<Self>, library: &Library) -> Result<Vec<Job<Page>>, Fault> {
        let began = Instant::now();
        let mut parts = Vec::new();
        let mut jobs = Vec::new();
        for (model, encoder) in library.models.iter().enumerate() {
            let asked = self.questions.and(library.asked(model));
            if !asked.is_empty() {
                let (part, pages) = match &self.grounds {
                    None => self.part(library, &**encoder, model, asked, parts.len())?,
                    Some(grounds) => self.claim(grounds, library, &**encoder, model, parts.len())?,
                };
                parts.push(part);
                jobs.extend(pages);
            }
        }
        let sheets: usize = parts.iter().map(|part: &Part| part.sheets.len()).sum();
        let read = |part: &Part| part.sheets.iter().map(|sheet| sheet.window.fresh).sum::<usize>();
        let cost = Cost {
            queued: began.saturating_duration_since(self.begun),
            tokenize: began.elapsed(),
            tokens: parts.iter().map(read).sum(),
            windows: sheets,
            cached: sheets - jobs.len(),
            ..Cost::default()
        };
        library.cached.fetch_add(cost.cached as u64, Ordering::Relaxed);
        if let Some(progress) = self.lock().as_mut() {
            (progress.parts, progress.cost) = (parts, cost);
            (progress.open, progress.last) = (jobs.len(), Instant::now());
        }
        Ok(jobs)
    }

    fn part(
        self: &Arc<Self>,
        library: &Library,
        encoder: &dyn Encoder,
        model: usize,
        asked: Questions,
        at: usize,
    ) -> Result<(Part, Vec<Job<Page>>), Fault> {
        let spec = &library.spec;
        let grid = Grid::new(spec.window, spec.overlap, encoder.room());
        let (mut ids, mut bytes, mut windows) = (Vec::new(), Vec::new(), Vec::new());
        for (start, piece) in &self.excerpt.pieces {
            let tokens = encoder.tokens(piece)?;
            let from = ids.len();
            ids.extend(tokens.ids);
            bytes.extend(tokens.bytes.into_iter().map(|span| start + span.start..start + span.end));
            windows.extend(grid.lay(from..ids.len()));
        }
        let kept = window::ends(&windows, spec.max_tokens);
        let is_whole = self.excerpt.whole().is_some() && kept.len() == windows.len();
        let telling = window::ends(&windows, spec.domain_tokens.min(spec.max_tokens)).len();
        let read: usize = self.excerpt.pieces.iter().map(|(_, piece)| piece.len()).sum();
        let total = ids.len() as f32 * self.excerpt.len as f32 / read.max(1) as f32;
        let ids: Arc<[u32]> = ids.into();
        let (mut sheets, mut jobs) = (Vec::new(), Vec::new());
        for (rank, place) in kept.into_iter().enumerate() {
            let wanted = asked.and(Questions { domain: rank < telling, pii: is_whole, ..Questions::ALL });
            if wanted.is_empty() {
                continue;
            }
            let window = windows[place].clone();
            let spot = Spot { model, part: at, sheet: sheets.len() };
            let matter = (Arc::clone(&ids), window.tokens.clone(), None);
            let (answer, job) = self.page(library, spot, wanted, matter);
            jobs.extend(job);
            sheets.push(Sheet { window, wanted, answer, failed: false });
        }
        Ok((Part { asked, bytes, is_whole, total, sheets }, jobs))
    }

    /// Cuts a claim into pairs; none of them where it is too long.
    fn claim(
        self: &Arc<Self>,
        grounds: &Grounds,
        library: &Library,
        encoder: &dyn Encoder,
        model: usize,
        at: usize,
    ) -> Result<(Part, Vec<Job<Page>>), Fault> {
        let (start, answer) = self.excerpt.whole().unwrap_or_default();
        let answer = encoder.tokens(answer)?;
        let bytes: Vec<_> =
            answer.bytes.into_iter().map(|span| start + span.start..start + span.end).collect();
        let mut tokens = claim::Tokens {
            context: encoder.tokens(&grounds.context)?.ids,
            question: encoder.tokens(&grounds.question)?.ids,
            answer: answer.ids,
        };
        let wanted = Questions::HALLUCINATION;
        let is_whole = tokens.len() <= library.spec.max_tokens;
        let (mut sheets, mut jobs) = (Vec::new(), Vec::new());
        let meetings =
            if is_whole { tokens.meetings(encoder.room(), library.spec.overlap) } else { Vec::new() };
        for meeting in meetings {
            let (ids, second) = tokens.pair(&meeting);
            let spot = Spot { model, part: at, sheet: sheets.len() };
            let window = Window { tokens: meeting.answer, fresh: ids.len() };
            let (answer, job) = self.page(library, spot, wanted, (ids.into(), 0..window.fresh, Some(second)));
            jobs.extend(job);
            sheets.push(Sheet { window, wanted, answer, failed: false });
        }
        let total = bytes.len() as f32;
        Ok((Part { asked: wanted, bytes, is_whole, total, sheets }, jobs))
    }

    /// Looks for what is known of a window, and makes a page for the queue of what is not.
    fn page(
        self: &Arc<Self>,
        library: &Library,
        spot: Spot,
        wanted: Questions,
        (ids, place, second): (Arc<[u32]>, Range<usize>, Option<usize>),
    ) -> (Option<Arc<Answer>>, Option<Job<Page>>) {
        let key = library.cache.key(spot.model, &ids[place.clone()], second);
        let known = library.cache.get(key);
        let wanted = known.as_ref().map_or(wanted, |known| wanted.without(known.questions()));
        if wanted.is_empty() {
            return (known, None);
        }
        let Spot { model, part, sheet } = spot;
        let (tokens, deadline) = (place.len(), self.deadline);
        let page = Page { reading: Arc::clone(self), wanted, key, ids, place, second, part, sheet, known };
        (None, Some(Job { model, tokens, deadline, window: page }))
    }

    /// Answers at once if nothing is left to compute.
    pub(super) fn settle(&self, library: &Library) {
        let mut guard = self.lock();
        if guard.as_ref().is_some_and(|progress| progress.open == 0)
            && let Some(progress) = guard.take()
        {
            drop(guard);
            let findings = library.findings(self, &progress);
            // The one who asked may have left meanwhile.
            let _ = progress.reply.send(findings);
        }
    }

    /// Gives up on the text: everything that was asked has failed.
    pub(super) fn fail(&self) {
        if let Some(progress) = self.lock().take() {
            let _ = progress.reply.send(Findings::unknown(self.questions, Unknown::Failed, progress.cost));
        }
    }

    /// Takes what is known by now, after which nothing more is; none once the findings are on their way.
    pub(super) fn close(&self) -> Option<Progress> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Progress>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Page {
    /// Takes what a forward found, keeps it for later texts and answers if it was the last window.
    pub(super) fn put(self, answer: Option<Answer>, forward: Forward, library: &Library) {
        let answer = answer.map(|mut answer| {
            if let Some(known) = &self.known {
                answer.complete(known);
            }
            Arc::new(answer)
        });
        if let Some(answer) = &answer {
            library.cache.put(self.key, answer);
        }
        if let Some(progress) = self.reading.lock().as_mut() {
            progress.note(forward);
            let sheet = &mut progress.parts[self.part].sheets[self.sheet];
            sheet.failed = answer.is_none();
            sheet.answer = answer;
        }
        self.reading.settle(library);
    }
}

impl Progress {
    fn note(&mut self, forward: Forward) {
        self.open -= 1;
        let cost = &mut self.cost;
        if cost.batch == 0 {
            cost.queued += forward.began.saturating_duration_since(self.last);
        }
        if cost.batch == 0 || forward.began != self.last {
            cost.compute += forward.took;
            self.last = forward.began;
        }
        cost.batch = cost.batch.max(forward.windows);
    }
}

impl Library {
    /// Gives each question to the first model that answers it.
    pub(super) fn new(spec: &Spec, models: Vec<Arc<dyn Encoder>>) -> Self {
        let desk = |question: Question| {
            let (place, model) =
                models.iter().enumerate().find(|(_, model)| model.answers().has(question))?;
            let wanted = match question {
                Question::Jailbreak => spec.thresholds.jailbreak,
                Question::Pii => spec.thresholds.pii,
                Question::Hallucination => spec.thresholds.hallucination,
                Question::Domain | Question::Embedding => None,
            };
            let threshold = wanted.unwrap_or_else(|| model.threshold(question));
            Some((question, Desk { model: place, labels: model.labels(question), threshold }))
        };
        let desks = Question::ALL.into_iter().filter_map(desk).collect();
        Self { models, cache: Cache::new(spec.cache), cached: AtomicU64::new(0), spec: spec.clone(), desks }
    }

    /// Returns what the model of that place is asked.
    pub(super) fn asked(&self, model: usize) -> Questions {
        self.desks.iter().filter(|(_, desk)| desk.model == model).map(|(question, _)| *question).collect()
    }

    /// Returns what can be answered at all.
    pub(super) fn questions(&self) -> Questions {
        self.desks.keys().copied().collect()
    }

    /// Returns the labels of a question's answers, none where it has no answers or no labels.
    pub(super) fn labels(&self, question: Question) -> &[Arc<str>] {
        self.desks.get(&question).map_or(&[], |desk| &desk.labels)
    }

    /// Returns from which probability on something counts as found.
    pub(super) fn threshold(&self, question: Question) -> f32 {
        self.desks.get(&question).map_or(1.0, |desk| desk.threshold)
    }
}
