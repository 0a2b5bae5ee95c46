//! The stages between an upstream's answer and its client, in a fixed order: translate or rename, guard, unmask, collect, verify.
//!
//! An answer without a stage has no pipeline, and its chunks never come here. A stream is split into events once; all
//! stages and the counting of tokens take the same pieces. Knows nothing of sockets.

mod buffer;
mod collect;
mod finding;
mod guard;
mod keep;
mod rewrite;
mod start;
mod unmask;
mod verify;

pub(super) use collect::PendingStore;
pub(super) use start::{AnswerHead, AnswerStart};
pub(super) use verify::{MAX_ANSWER, VerifyOutcome};

use crate::classify::Unknown;
use crate::openai::sse::{MAX_EVENT, SseFrame};
use crate::openai::{
    AnswerPiece, AnswerSplitter, AnswerTranslator, Api, Format, ModelRenamer, Rejection, TokenUsage,
    UsageCounter, UsageRequest, is_usage_chunk, without_usage,
};
use crate::proxy::failure::RETRY_AFTER;
use crate::server_state::BufferShare;
use crate::telemetry::AccessRecord;
use buffer::AnswerBuffer;
use bytes::Bytes;
use collect::{CollectStage, CompletedStore};
use guard::GuardStage;
use keep::KeepStage;
use rewrite::RewriteStage;
use unmask::UnmaskStage;
use verify::VerifyStage;

/// So many bytes of an answer may be held without being counted.
const LITTLE: usize = 64 << 10;

/// The stages of one answer.
pub(super) struct AnswerPipeline {
    /// Comes first: the others read the client's dialect.
    translate: Option<AnswerTranslator>,
    /// Names the model as the client knows it, where the upstream calls it otherwise.
    rename: Option<ModelRenamer>,
    splitter: AnswerSplitter,
    usage: UsageCounter,
    /// How often the upstream says what the answer costs, where that is kept from the client, who has not asked for it.
    hidden_usage: Option<UsageRequest>,
    /// The stages that change texts.
    rewrite: Option<RewriteStage>,
    readers: AnswerReaders,
    /// What is held back until the answer is verified.
    pub(super) buffer: AnswerBuffer,
    /// What is held, as it counts among all that is.
    share: BufferShare,
    has_ended: bool,
}

/// The stages that read what the client gets.
struct AnswerReaders {
    collect: Option<CollectStage>,
    keep: Option<KeepStage>,
    verify: Option<VerifyStage>,
}

/// Which stages an answer has.
struct AnswerStages {
    translate: Option<AnswerTranslator>,
    rename: Option<ModelRenamer>,
    hidden_usage: Option<UsageRequest>,
    guard: Option<GuardStage>,
    unmask: Option<UnmaskStage>,
    collect: Option<CollectStage>,
    keep: Option<KeepStage>,
    verify: Option<VerifyStage>,
}

/// What the client gets next.
pub(super) struct Released {
    pub(super) bytes: Bytes,
    /// Whether the answer ends with it, whatever the upstream still sends.
    pub(super) is_last: bool,
}

/// What has become of an answer that went through stages.
pub(super) struct AnswerOutcome {
    pub(super) usage: Option<TokenUsage>,
    /// How many events with data have come.
    pub(super) events: u64,
    /// What the guard did: `masked` or `cut`.
    guard_action: Option<&'static str>,
    unjudged: Option<Unknown>,
    /// The answer for the cache, if it is whole.
    store: Option<CompletedStore>,
    verified: Option<VerifyOutcome>,
    /// An answer that has gone out and is still to be verified.
    to_verify: Option<VerifyStage>,
}

impl AnswerPipeline {
    /// Sets up the stages of an answer; nothing if it has none.
    fn new(format: Format, api: Api, stages: AnswerStages, share: BufferShare) -> Option<Box<Self>> {
        let AnswerStages { translate, rename, hidden_usage, guard, unmask, collect, keep, verify } = stages;
        let rewrite = RewriteStage::new(format, api, guard, unmask);
        let readers = AnswerReaders { collect, keep, verify };
        let has_stage = translate.is_some() || rename.is_some() || hidden_usage.is_some();
        let has_stage = has_stage || rewrite.is_some() || readers.are_any();
        has_stage.then(|| {
            Box::new(Self { translate, rename, ..Self::of(format, rewrite, readers, hidden_usage, share) })
        })
    }

    fn of(
        format: Format,
        rewrite: Option<RewriteStage>,
        readers: AnswerReaders,
        hidden_usage: Option<UsageRequest>,
        share: BufferShare,
    ) -> Self {
        // What is rewritten has to be held, however long an event is; the other stages skip long ones.
        let holds = rewrite.is_some() || readers.keep.is_some() || hidden_usage.is_some();
        let max_event = if holds { RewriteStage::max_held(format) } else { MAX_EVENT };
        Self {
            translate: None,
            rename: None,
            splitter: AnswerSplitter::new(format, max_event),
            usage: UsageCounter::new(format),
            hidden_usage,
            rewrite,
            readers,
            buffer: AnswerBuffer::default(),
            share,
            has_ended: false,
        }
    }

    /// Whether the answer's length may change on the way.
    pub(super) fn rewrites(&self) -> bool {
        self.translate.is_some()
            || self.rename.is_some()
            || self.hidden_usage.is_some()
            || self.rewrite.is_some()
    }

    /// Takes a chunk of the upstream's answer, and gives what may be sent now; `end` with the last chunk. Fails where the
    /// client has to get an error in the answer's place.
    pub(super) async fn pass(&mut self, chunk: Bytes, end: bool) -> Result<Released, Rejection> {
        let chunk = match &mut self.translate {
            Some(translate) => translate.pass(&chunk, end)?.into(),
            None => chunk,
        };
        let chunk = match &mut self.rename {
            Some(rename) => rename.pass(chunk),
            None => chunk,
        };
        let hidden = self.split(&chunk, end)?;
        if self.has_ended {
            return Ok(Released { bytes: Bytes::new(), is_last: true });
        }
        if let Some(rewrite) = &mut self.rewrite {
            rewrite.took_chunk(self.splitter.held(), end);
        }
        self.count_held()?;
        let released = match &mut self.rewrite {
            Some(rewrite) => rewrite.release(end, |piece| self.readers.take(piece)).await?,
            None => Released { bytes: hidden.map_or(chunk, Bytes::from), is_last: end },
        };
        self.readers.count(released.bytes.len());
        if let Some(keep) = &mut self.readers.keep {
            keep.keep(released.is_last).await;
        }
        self.has_ended = released.is_last;
        Ok(released)
    }

    /// Counts what is held among all that is; fails where that is too much. Little is not counted: what a chunk of a stream
    /// leaves behind comes and goes with each.
    fn count_held(&mut self) -> Result<(), Rejection> {
        let rewritten = self.rewrite.as_ref().map_or(0, RewriteStage::held);
        let untranslated = self.translate.as_ref().map_or(0, AnswerTranslator::held);
        let held =
            untranslated + self.splitter.held() + rewritten + self.readers.held() + self.buffer.bytes();
        let counted = if held < LITTLE { 0 } else { held };
        if counted == self.share.bytes() {
            return Ok(());
        }
        self.share.set(counted).map_err(|_full| Rejection::Overloaded { retry_after: RETRY_AFTER })
    }

    /// Hands the pieces of a chunk to the first stage; its tokens count even where the client gets nothing of it. Gives the
    /// bytes for the client where these are not the chunk's, and fails where those are not to be had.
    fn split(&mut self, chunk: &[u8], end: bool) -> Result<Option<Vec<u8>>, Rejection> {
        let Self { splitter, usage, hidden_usage, rewrite, readers, has_ended, .. } = self;
        let mut kept = hidden_usage.map(|_| Vec::new());
        let mut is_lost = false;
        let mut each = |piece: AnswerPiece<'_>| {
            usage.take(piece);
            let mut shown = None;
            if let (Some(kept), Some(asked)) = (&mut kept, *hidden_usage) {
                match piece {
                    AnswerPiece::Event(frame) if is_usage_chunk(frame) => {
                        // Who is answered from the cache may ask for it.
                        return readers.collect(piece);
                    }
                    AnswerPiece::Event(frame) => {
                        shown = (asked == UsageRequest::InEveryChunk).then(|| without_usage(frame)).flatten();
                        kept.extend_from_slice(shown.as_deref().unwrap_or(frame.raw()));
                    }
                    AnswerPiece::Bytes(bytes) => kept.extend_from_slice(bytes),
                    AnswerPiece::Oversized => is_lost = true,
                }
            }
            let piece = shown.as_deref().map_or(piece, |raw| AnswerPiece::Event(SseFrame::of(raw)));
            match rewrite {
                _ if *has_ended => {}
                Some(rewrite) => rewrite.hold(piece),
                None => readers.take(piece),
            }
        };
        splitter.feed(chunk, &mut each);
        if end {
            splitter.finish(&mut each);
        }
        usage.follow(chunk, splitter.is_inside_oversized());
        if is_lost && rewrite.is_none() { Err(Rejection::AnswerUntranslatable) } else { Ok(kept) }
    }

    /// Whether the client has had the last piece.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether the answer was ended before the upstream ended it.
    pub(super) fn is_cut(&self) -> bool {
        self.rewrite.as_ref().is_some_and(RewriteStage::is_cut)
    }

    /// Whether a stream has said that it is over, whatever the upstream still sends.
    pub(super) fn has_said_end(&self) -> bool {
        self.usage.has_ended()
    }

    /// Whether the answer's header waits until the answer is judged or verified.
    pub(super) fn holds_header(&self) -> bool {
        let is_unjudged = self.rewrite.as_ref().is_some_and(RewriteStage::holds_header) && !self.has_ended;
        let is_untranslated = self.translate.as_ref().is_some_and(AnswerTranslator::holds_header);
        is_untranslated || is_unjudged || self.readers.verify.as_ref().is_some_and(VerifyStage::holds_header)
    }

    /// Verifies the whole answer; gives the headers that report the result.
    pub(super) async fn verify(&mut self) -> Vec<(&'static str, String)> {
        match &mut self.readers.verify {
            Some(verify) => verify.judge().await.map(VerifyOutcome::headers).unwrap_or_default(),
            None => Vec::new(),
        }
    }

    /// Lets the answer go without verification.
    pub(super) fn skip_verification(&mut self, reason: Unknown) {
        if let Some(verify) = &mut self.readers.verify {
            verify.skip(reason);
        }
    }

    /// Ends all stages; `is_whole` if the client has a whole answer, cut or not.
    pub(super) fn finish(mut self, is_whole: bool) -> AnswerOutcome {
        // An upstream that breaks off may have sent an event without its end.
        let _ = self.split(b"", true);
        let (usage, events) = (self.usage.usage(), self.usage.events());
        let is_cut = self.is_cut();
        let AnswerReaders { collect, verify, .. } = self.readers;
        let (guard_action, unjudged) = self.rewrite.map_or((None, None), RewriteStage::finish);
        let may_keep = is_whole && !is_cut && unjudged.is_none();
        let store = collect.filter(|_| may_keep).and_then(CollectStage::finish);
        let (verified, to_verify) = verify.map_or((None, None), VerifyStage::finish);
        AnswerOutcome {
            usage,
            events,
            guard_action,
            unjudged,
            store,
            verified,
            to_verify: to_verify.filter(|_| is_whole),
        }
    }
}

impl AnswerReaders {
    fn are_any(&self) -> bool {
        self.collect.is_some() || self.keep.is_some() || self.verify.is_some()
    }

    fn collect(&mut self, piece: AnswerPiece<'_>) {
        if let Some(collect) = &mut self.collect {
            collect.take(piece);
        }
    }

    fn take(&mut self, piece: AnswerPiece<'_>) {
        if let Some(collect) = &mut self.collect {
            collect.take(piece);
        }
        if let Some(keep) = &mut self.keep {
            keep.take(piece);
        }
        if let Some(verify) = &mut self.verify {
            verify.take(piece);
        }
    }

    /// Returns how many bytes are held.
    fn held(&self) -> usize {
        self.collect.as_ref().map_or(0, CollectStage::held)
            + self.keep.as_ref().map_or(0, KeepStage::held)
            + self.verify.as_ref().map_or(0, VerifyStage::held)
    }

    /// Counts what the client gets, whether its pieces can be read or not.
    fn count(&mut self, bytes: usize) {
        if let Some(verify) = &mut self.verify {
            verify.count(bytes);
        }
    }
}

impl AnswerOutcome {
    /// Records what the stages did.
    pub(super) fn record(&self, record: &mut AccessRecord) {
        if let Some(reason) = self.unjudged {
            record.details().guards.unjudged.push(("answer", reason.as_str()));
        }
        if let Some(action) = self.guard_action {
            record.details().guards.answer_guard = Some(action);
        }
        if let Some(verified) = &self.verified {
            verified.record(&mut record.details().guards);
        }
    }

    /// Whether an answer that has gone out is still to be verified.
    pub(super) fn is_pending(&self) -> bool {
        self.to_verify.is_some()
    }

    /// Verifies an answer that has gone out, and records the outcome.
    pub(super) async fn verify(&mut self, record: &mut AccessRecord) {
        let Some(mut stage) = self.to_verify.take() else { return };
        stage.judge().await;
        (self.verified, _) = stage.finish();
        if let Some(verified) = &self.verified {
            verified.record(&mut record.details().guards);
        }
    }

    /// Stores the answer, unless a part of it is unsupported; returns how it was verified.
    pub(super) fn complete(self) -> Option<VerifyOutcome> {
        let is_unsupported = self.verified.as_ref().is_some_and(VerifyOutcome::is_unsupported);
        if let Some(store) = self.store.filter(|_| !is_unsupported) {
            store.store();
        }
        self.verified
    }
}

#[cfg(test)]
mod tests;
