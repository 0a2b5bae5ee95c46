//! Owns what stands between an upstream's answer and its client: text is judged before it is sent, masked words are put
//! back, and what was sent is collected for the cache.
//!
//! Answers that no stage reads never come here. Knows nothing of sockets.

mod buffer;
mod verify;

pub(super) use buffer::AnswerBuffer;
pub(super) use verify::{MAX_ANSWER, VerifyOutcome, VerifyStage};

use crate::classify::{Classifier, ClassifyHeads, EntitySource, Findings, Unknown};
use crate::openai::{AnswerRewriter, Api, Assembler, Channel, FinishReason, Format, RewriteLimits, TextId};
use crate::policy::{AnswerAction, AnswerGuard, GuardOnUnknown};
use bytes::{Bytes, BytesMut};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How much of an answer is held back at most; beyond that it is cut.
const MAX_HELD: usize = 4 << 20;

/// How much text is judged at once: a sentence is held back until it is whole, or so long.
const MAX_SENTENCE: usize = 1024;

/// How much of what was sent before is read again with the next sentence.
const CONTEXT: usize = 256;

/// What stands between an answer and its client.
pub(in crate::proxy) struct AnswerPipeline {
    watch: Option<GuardStage>,
    kept: Option<Assembler>,
    /// What the answer is held against once it is whole, and what came of it.
    verification: Option<Box<VerifyStage>>,
    outcome: Option<VerifyOutcome>,
    ended: bool,
}

/// What the client gets next.
pub(in crate::proxy) struct Released {
    pub(in crate::proxy) bytes: Bytes,
    /// Whether the answer ends with it, whatever the upstream still says.
    pub(in crate::proxy) is_last: bool,
}

/// What is watched for, and what was seen.
struct GuardStage {
    rewriter: AnswerRewriter,
    guard: AnswerGuard,
    /// How many bytes the longest of the guard's words has.
    longest: usize,
    unmask: Vec<(String, String)>,
    classifier: Arc<Classifier>,
    timeout: Duration,
    /// The last text that was let through, for each text.
    before: Vec<(TextId, String)>,
    did: Option<&'static str>,
    unjudged: Option<Unknown>,
}

/// What an answer is watched for.
pub(in crate::proxy) struct GuardSettings {
    pub(in crate::proxy) guard: AnswerGuard,
    pub(in crate::proxy) unmask: Vec<(String, String)>,
    pub(in crate::proxy) classifier: Arc<Classifier>,
    /// How long the judgement of a sentence may take.
    pub(in crate::proxy) timeout: Duration,
}

impl AnswerPipeline {
    pub(in crate::proxy) fn new(
        format: Format,
        api: Api,
        guard_settings: Option<GuardSettings>,
        keep: Option<usize>,
    ) -> Self {
        let watch = guard_settings.map(|guard_settings| GuardStage {
            rewriter: AnswerRewriter::new(format, api, RewriteLimits { max_held: MAX_HELD }),
            longest: guard_settings.guard.words.longest(),
            guard: guard_settings.guard,
            unmask: guard_settings.unmask,
            classifier: guard_settings.classifier,
            timeout: guard_settings.timeout,
            before: Vec::new(),
            did: None,
            unjudged: None,
        });
        let kept = keep.map(|most| Assembler::new(format, api, most));
        Self { watch, kept, verification: None, outcome: None, ended: false }
    }

    /// Has the answer judged once it is whole.
    pub(in crate::proxy) fn verified(self, verification: Option<VerifyStage>) -> Self {
        Self { verification: verification.map(Box::new), ..self }
    }

    /// Says whether the answer is held back until it is judged.
    pub(in crate::proxy) fn holds(&self) -> bool {
        self.verification.as_ref().is_some_and(|verification| verification.holds())
    }

    /// Judges the whole answer; gives the headers that tell the client.
    pub(in crate::proxy) async fn judge(&mut self) -> Vec<(&'static str, String)> {
        if let Some(verification) = self.verification.take() {
            self.outcome = verification.judge().await;
        }
        self.outcome.as_ref().map(VerifyOutcome::headers).unwrap_or_default()
    }

    /// Lets the answer go unjudged.
    pub(in crate::proxy) fn give_up(&mut self, reason: Unknown) {
        self.verification = None;
        self.outcome = Some(VerifyOutcome::unknown(reason));
    }

    /// Gives what was found out about the answer, and what is still to be judged.
    pub(in crate::proxy) fn judged(&mut self) -> (Option<VerifyOutcome>, Option<Box<VerifyStage>>) {
        (self.outcome.take(), self.verification.take())
    }

    /// Whether the client has had the last piece.
    pub(in crate::proxy) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether the answer's length may change on the way.
    pub(in crate::proxy) fn revises(&self) -> bool {
        self.watch.is_some()
    }

    /// Takes a piece of the answer, and gives what may be sent now.
    pub(in crate::proxy) async fn pass(&mut self, chunk: Bytes, end: bool) -> Released {
        if self.ended {
            return Released { bytes: Bytes::new(), is_last: true };
        }
        let passed = match &mut self.watch {
            Some(watch) => watch.pass(&chunk, end).await,
            None => Released { bytes: chunk, is_last: end },
        };
        self.ended = passed.is_last;
        if let Some(kept) = &mut self.kept {
            kept.feed(&passed.bytes);
        }
        if let Some(verification) = &mut self.verification {
            verification.feed(&passed.bytes);
        }
        passed
    }

    /// What was done to the answer: `masked`, `cut` or nothing.
    pub(in crate::proxy) fn did(&self) -> Option<&'static str> {
        self.watch.as_ref()?.did
    }

    /// Why a part of the answer could not be judged, if one could not.
    pub(in crate::proxy) fn unjudged(&self) -> Option<Unknown> {
        self.watch.as_ref()?.unjudged
    }

    /// The whole answer, for the cache; none if it was cut, broke off or was too long.
    pub(in crate::proxy) fn whole(&mut self) -> Option<Bytes> {
        let is_cut = self.did() == Some("cut");
        self.kept.take().filter(|_| !is_cut)?.finish()
    }
}

/// What is to be done with a piece of text.
enum Verdict {
    /// These parts of it are replaced.
    Release(Vec<(Range<usize>, String)>),
    /// The answer ends after so many bytes of it, where these parts are replaced.
    Cut(usize, Vec<(Range<usize>, String)>),
}

impl GuardStage {
    async fn pass(&mut self, chunk: &[u8], end: bool) -> Released {
        self.rewriter.feed(chunk);
        if end {
            self.rewriter.end();
        }
        if self.rewriter.overflow() {
            return self.cut(BytesMut::new());
        }
        let mut out = BytesMut::new();
        let ready: Vec<(TextId, String)> = self
            .rewriter
            .pending()
            .filter_map(|pending| {
                let upto = self.settled(pending.text, pending.is_complete);
                (upto > 0).then(|| (pending.place, pending.text[..upto].to_owned()))
            })
            .collect();
        for (place, text) in ready {
            match self.judge(place, &text).await {
                Verdict::Release(replaced) => self.release(place, &text, text.len(), &replaced),
                Verdict::Cut(at, replaced) => {
                    self.release(place, &text, at, &replaced);
                    out.extend_from_slice(&self.rewriter.take());
                    return self.cut(out);
                }
            }
        }
        out.extend_from_slice(&self.rewriter.take());
        Released { bytes: out.freeze(), is_last: end }
    }

    fn cut(&mut self, mut out: BytesMut) -> Released {
        self.did = Some("cut");
        out.extend_from_slice(&self.rewriter.cut(FinishReason::ContentFilter, None));
        Released { bytes: out.freeze(), is_last: true }
    }

    fn release(&mut self, place: TextId, text: &str, upto: usize, replaced: &[(Range<usize>, String)]) {
        self.rewriter.release(place, upto, replaced);
        if self.before.iter().all(|(known, _)| *known != place) {
            self.before.push((place, String::new()));
        }
        let Some((_, before)) = self.before.iter_mut().find(|(known, _)| *known == place) else { return };
        before.push_str(&text[..upto]);
        let start = before.ceil_char_boundary(before.len().saturating_sub(CONTEXT));
        before.drain(..start);
    }

    /// How much of a text can be judged by what is known of it: whole sentences where they are read for their meaning,
    /// else all but what a word or a token might still grow out of; never a part of one.
    fn settled(&self, text: &str, complete: bool) -> usize {
        if complete {
            return text.len();
        }
        let tokens = self.unmask.iter().map(|(token, _)| token.len());
        let longest = tokens.max().unwrap_or(0).max(self.longest);
        let mut end = match sentence_end(text) {
            _ if !self.asks_classifier() => text.floor_char_boundary(text.len().saturating_sub(longest + 4)),
            0 if text.len() > MAX_SENTENCE => {
                let long = &text[..text.floor_char_boundary(MAX_SENTENCE)];
                long.rfind(char::is_whitespace).unwrap_or(long.len())
            }
            end => end,
        };
        for found in self.words_and_tokens(text) {
            if found.start < end && end < found.end {
                end = found.start;
            }
        }
        end
    }

    /// Where words that must not be said and tokens that stand for something else are.
    fn words_and_tokens(&self, text: &str) -> Vec<Range<usize>> {
        let words = self.guard.words.find(text);
        let tokens = self.unmask.iter().flat_map(|(token, _)| {
            text.match_indices(token.as_str()).map(|(at, _)| at..at + token.len()).collect::<Vec<_>>()
        });
        let mut found: Vec<_> = words.chain(tokens).collect();
        found.sort_by_key(|at| std::cmp::Reverse(at.start));
        found
    }

    fn asks_classifier(&self) -> bool {
        self.guard.pii != AnswerAction::Off || self.guard.cuts_jailbreak
    }

    async fn judge(&mut self, place: TextId, text: &str) -> Verdict {
        let mut parts: Vec<(Range<usize>, Option<String>)> = Vec::new();
        for (token, words) in &self.unmask {
            // The arguments of a call are JSON, and stay so.
            let is_json = place.channel == Channel::Arguments;
            let words = if is_json { json_inside(words) } else { words.clone() };
            let found = text.match_indices(token.as_str());
            parts.extend(found.map(|(at, _)| (at..at + token.len(), Some(words.clone()))));
        }
        if self.guard.on_words != AnswerAction::Off {
            let masks = self.guard.on_words == AnswerAction::Mask;
            let found = self.guard.words.find(text);
            parts.extend(found.map(|at| (at, masks.then(|| "[REDACTED]".to_owned()))));
        }
        if self.asks_classifier() {
            let findings = self.ask(place, text).await;
            parts.extend(self.found(&findings, place, text));
            let unknown =
                findings.unknowns().map(|(_, reason)| reason).find(|reason| *reason != Unknown::Empty);
            self.unjudged = unknown.or(self.unjudged);
            if unknown.is_some() && self.guard.on_unknown == GuardOnUnknown::Reject {
                parts.push((0..0, None));
            }
        }
        parts.sort_by_key(|(at, _)| (at.start, usize::MAX - at.end));
        self.verdict(parts)
    }

    /// Reads a text with what came before it.
    async fn ask(&self, place: TextId, text: &str) -> Findings {
        let questions = ClassifyHeads {
            pii: self.guard.pii != AnswerAction::Off,
            jailbreak: self.guard.cuts_jailbreak,
            ..ClassifyHeads::NONE
        };
        let read = format!("{}{text}", self.before(place));
        self.classifier.classify(&read, questions, Instant::now() + self.timeout).await
    }

    fn before(&self, place: TextId) -> &str {
        self.before.iter().find(|(known, _)| *known == place).map_or("", |(_, before)| before)
    }

    fn found(&self, findings: &Findings, place: TextId, text: &str) -> Vec<(Range<usize>, Option<String>)> {
        let shift = self.before(place).len();
        let mut parts = Vec::new();
        if let Some(Ok(risk)) = &findings.jailbreak
            && risk.is_jailbreak()
        {
            parts.push((0..0, None));
        }
        let masks = self.guard.pii == AnswerAction::Mask;
        for entity in findings.pii.iter().flatten().flatten() {
            let (start, end) =
                (entity.bytes.start.saturating_sub(shift), entity.bytes.end.saturating_sub(shift));
            let counts = self.guard.kinds.holds(&entity.kind)
                && (entity.by == EntitySource::Pattern || entity.bytes.start >= shift);
            if counts && end > start && text.get(start..end).is_some() {
                parts.push((start..end, masks.then(|| format!("[{}]", entity.kind))));
            }
        }
        parts
    }

    /// Puts parts together, the first of those that overlap; one without words is where the answer ends.
    fn verdict(&mut self, parts: Vec<(Range<usize>, Option<String>)>) -> Verdict {
        let mut replaced: Vec<(Range<usize>, String)> = Vec::new();
        for (at, words) in parts {
            if replaced.last().is_some_and(|(last, _)| at.start < last.end) {
                continue;
            }
            match words {
                None => return Verdict::Cut(at.start, replaced),
                Some(words) => replaced.push((at, words)),
            }
        }
        let put_back =
            |(_, words): &(Range<usize>, String)| self.unmask.iter().any(|(_, known)| known == words);
        if replaced.iter().any(|part| !put_back(part)) {
            self.did = Some("masked");
        }
        Verdict::Release(replaced)
    }
}

/// A text as it stands between the quotes of a JSON string.
fn json_inside(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// Where the last whole sentence of a text ends, with the space behind it; 0 if there is none.
fn sentence_end(text: &str) -> usize {
    let mut end = 0;
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let next = characters.peek().map(|(_, next)| *next);
        let ends = match character {
            '\n' | '。' | '！' | '？' => true,
            '.' | '!' | '?' => next.is_some_and(char::is_whitespace),
            _ => false,
        };
        if ends {
            end = at + character.len_utf8();
            end += text[end..].len() - text[end..].trim_start().len();
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_ends_with_the_space_behind_it_and_not_inside_of_a_number_or_an_address() {
        for (text, end) in
            [("", 0), ("All is well", 0), ("All is well.", 0), ("All is well. ", 13), ("1.5 is a@b.c", 0)]
        {
            assert_eq!(sentence_end(text), end, "{text:?}");
        }
        assert_eq!(sentence_end("One. Two!\n\n three"), 12);
    }
}
