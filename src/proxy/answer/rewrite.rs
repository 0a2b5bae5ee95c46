//! Holds an answer's texts back until the guard has judged them and masked words are put back.
//!
//! Guard and unmasking find their places in the same text, so that neither reads what the other has put there; where
//! two places overlap, the first counts.

use super::Released;
use super::finding::TextFinding;
use super::guard::GuardStage;
use super::unmask::UnmaskStage;
use crate::classify::{FoldedText, Unknown};
use crate::openai::sse::MAX_EVENT;
use crate::openai::{
    AnswerPiece, AnswerRewriter, AnswerSplitter, Api, Channel, FinishReason, Format, Rejection,
    RewriteLimits, TextId,
};
use bytes::{Bytes, BytesMut};
use std::ops::Range;

/// How much of a stream is held back at most, in bytes; beyond that it is cut.
const MAX_HELD: usize = 4 << 20;

/// How long a document may be that is read, in bytes: a batch of embeddings, or several images, are that long.
const MAX_DOCUMENT: usize = 64 << 20;

/// How much text is judged at once, in bytes: a sentence is held back until it is whole, or so long.
const MAX_SENTENCE: usize = 1024;

/// How far a forbidden word may be drawn out by what is not shown, in bytes; at least its own length.
const MAX_WORD: usize = 4096;

/// How many texts are judged at the same time.
const MOST_AT_ONCE: usize = 32;

/// How much of what was sent before is read again with the next sentence, in bytes.
const CONTEXT: usize = 256;

/// The stages that change texts.
pub(super) struct RewriteStage {
    format: Format,
    api: Api,
    rewriter: AnswerRewriter,
    guard: Option<GuardStage>,
    unmask: Option<UnmaskStage>,
    /// The end of what was released, for each text.
    before: Vec<(TextId, String)>,
    /// What the guard did: `masked` or `cut`.
    action: Option<&'static str>,
    /// Why a text could not be judged, if one could not.
    unjudged: Option<Unknown>,
    /// What has come of a document that goes out unread.
    unread: Option<BytesMut>,
}

/// What is to be done with a piece of text.
enum Verdict {
    /// These places are replaced.
    Release(Vec<(Range<usize>, String)>),
    /// The answer ends after so many bytes of it, where these places are replaced.
    Cut(usize, Vec<(Range<usize>, String)>),
}

impl RewriteStage {
    /// Sets up the stages; nothing if there are none.
    pub(super) fn new(
        format: Format,
        api: Api,
        guard: Option<GuardStage>,
        unmask: Option<UnmaskStage>,
    ) -> Option<Self> {
        if guard.is_none() && unmask.is_none() {
            return None;
        }
        let limits = RewriteLimits { max_held: Self::max_held(format) };
        let rewriter = AnswerRewriter::new(format, api, limits);
        Some(Self {
            format,
            api,
            rewriter,
            guard,
            unmask,
            before: Vec::new(),
            action: None,
            unjudged: None,
            unread: None,
        })
    }

    /// How much of an answer is held back at most, in bytes.
    pub(super) fn max_held(format: Format) -> usize {
        if format == Format::EventStream { MAX_HELD } else { MAX_DOCUMENT }
    }

    /// Takes the next piece of the upstream's answer.
    pub(super) fn hold(&mut self, piece: AnswerPiece<'_>) {
        match (&mut self.unread, piece) {
            (Some(unread), AnswerPiece::Bytes(bytes)) => unread.extend_from_slice(bytes),
            _ => self.rewriter.hold(piece),
        }
    }

    /// Whether the answer's header waits: a document goes out in one piece, or an error goes out in its place.
    pub(super) fn holds_header(&self) -> bool {
        self.format != Format::EventStream && self.unread.is_none()
    }

    /// Notes that all pieces of a chunk are held; `unfinished` bytes of an event are still to come to an end.
    pub(super) fn took_chunk(&mut self, unfinished: usize, end: bool) {
        self.rewriter.bound(unfinished);
        if end {
            self.rewriter.end();
        }
    }

    /// Returns how many bytes are held, decoded texts included.
    pub(super) fn held(&self) -> usize {
        self.rewriter.held() + self.unread.as_ref().map_or(0, BytesMut::len)
    }

    /// Judges what has come, and gives what may go out; its pieces go to `each`. Fails where the client has to get an
    /// error in the answer's place.
    pub(super) async fn release(
        &mut self,
        end: bool,
        mut each: impl FnMut(AnswerPiece<'_>),
    ) -> Result<Released, Rejection> {
        if self.unread.is_some() {
            return Ok(self.release_unread(end, each));
        }
        if self.rewriter.overflow() {
            return self.give_up(Unknown::TooLong, end, each);
        }
        if self.rewriter.is_unread() {
            return self.give_up(Unknown::Unsupported, end, each);
        }
        let ready: Vec<(TextId, String)> = self
            .rewriter
            .pending()
            .filter_map(|pending| {
                let upto = self.settled(pending.text, pending.is_complete);
                (upto > 0).then(|| (pending.id, pending.text[..upto].to_owned()))
            })
            .collect();
        for texts in ready.chunks(MOST_AT_ONCE) {
            let judged = texts.iter().map(|(id, text)| self.judge(*id, text));
            let judged = futures::future::join_all(judged).await;
            for ((id, text), (found, unknown)) in texts.iter().zip(judged) {
                self.unjudged = unknown.or(self.unjudged);
                match self.verdict(found) {
                    Verdict::Release(replaced) => self.release_text(*id, text, text.len(), &replaced),
                    Verdict::Cut(at, replaced) => {
                        self.release_text(*id, text, at, &replaced);
                        return self.cut(each);
                    }
                }
            }
        }
        Ok(Released { bytes: self.rewriter.take_each(&mut each), is_last: end })
    }

    pub(super) fn is_cut(&self) -> bool {
        self.action == Some("cut")
    }

    /// Returns what the guard did, and why a text could not be judged.
    pub(super) fn finish(self) -> (Option<&'static str>, Option<Unknown>) {
        (self.action, self.unjudged)
    }

    /// Does what the guard says of answers that cannot be judged. A stream is cut whatever it says: what is too long to
    /// be held has not been kept.
    fn give_up(
        &mut self,
        reason: Unknown,
        end: bool,
        each: impl FnMut(AnswerPiece<'_>),
    ) -> Result<Released, Rejection> {
        self.unjudged = Some(reason);
        let rejects = self.guard.as_ref().is_some_and(GuardStage::rejects_unjudged);
        if self.format == Format::EventStream {
            return self.cut(each);
        }
        if rejects {
            return Err(Rejection::AnswerUnjudged { reason: reason.as_str() });
        }
        self.unread = Some(BytesMut::from(self.rewriter.give_up()));
        Ok(self.release_unread(end, each))
    }

    /// Lets a document go as it comes.
    fn release_unread(&mut self, end: bool, mut each: impl FnMut(AnswerPiece<'_>)) -> Released {
        let bytes = self.unread.as_mut().map_or_else(Bytes::new, |unread| unread.split().freeze());
        each(AnswerPiece::Bytes(&bytes));
        Released { bytes, is_last: end }
    }

    /// Ends the answer after what may go out; a document that is no generated text has no end before its end.
    fn cut(&mut self, mut each: impl FnMut(AnswerPiece<'_>)) -> Result<Released, Rejection> {
        self.action = Some("cut");
        if self.format != Format::EventStream && !self.api.generates_text() {
            return Err(Rejection::AnswerBlocked);
        }
        let mut out = BytesMut::from(&*self.rewriter.take_each(&mut each));
        let last = self.rewriter.cut(FinishReason::ContentFilter, None);
        // The last events come as one text, which nothing has split.
        let mut splitter = AnswerSplitter::new(self.format, MAX_EVENT);
        splitter.feed(&last, &mut each);
        splitter.finish(&mut each);
        out.extend_from_slice(&last);
        Ok(Released { bytes: out.freeze(), is_last: true })
    }

    fn release_text(&mut self, id: TextId, text: &str, upto: usize, replaced: &[(Range<usize>, String)]) {
        self.rewriter.release(id, upto, replaced);
        if id.channel == Channel::Whole {
            return;
        }
        if self.before.iter().all(|(known, _)| *known != id) {
            self.before.push((id, String::new()));
        }
        let Some((_, before)) = self.before.iter_mut().find(|(known, _)| *known == id) else { return };
        before.push_str(&text[..upto]);
        let start = before.ceil_char_boundary(before.len().saturating_sub(CONTEXT));
        before.drain(..start);
    }

    /// How much of a text can be judged by what has come of it: whole sentences where they are read for their
    /// meaning, else all but what a word or a token might still grow out of; never a part of one.
    fn settled(&self, text: &str, is_complete: bool) -> usize {
        if is_complete {
            return text.len();
        }
        let longest = self.guard.as_ref().map_or(0, GuardStage::longest);
        let longest = longest.max(self.unmask.as_ref().map_or(0, UnmaskStage::longest));
        let reads_sentences = self.guard.as_ref().is_some_and(GuardStage::reads_sentences);
        let mut end = match sentence_end(text) {
            _ if !reads_sentences => before_last(text, longest + 4),
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

    /// Where forbidden words and tokens are, the last one first.
    fn words_and_tokens(&self, text: &str) -> Vec<Range<usize>> {
        let words = self.guard.iter().flat_map(|guard| guard.find_words(text));
        let tokens = self.unmask.iter().flat_map(|unmask| unmask.find(text));
        let mut found: Vec<_> = words.chain(tokens).collect();
        found.sort_by_key(|at| std::cmp::Reverse(at.start));
        found
    }

    /// Finds what is to be changed in a text, sorted by its place, and why it could not be judged.
    async fn judge(&self, id: TextId, text: &str) -> (Vec<TextFinding>, Option<Unknown>) {
        let mut found: Vec<TextFinding> =
            self.unmask.iter().flat_map(|unmask| unmask.judge(id, text)).collect();
        let mut unknown = None;
        if let Some(guard) = &self.guard {
            let before = self.before.iter().find(|(known, _)| *known == id);
            let judged = guard.judge(before.map_or("", |(_, before)| before), text).await;
            found.extend(judged.0);
            unknown = judged.1;
        }
        found.sort_by_key(|finding| (finding.span.start, usize::MAX - finding.span.end));
        (found, unknown)
    }

    /// Puts sorted findings together.
    fn verdict(&mut self, found: Vec<TextFinding>) -> Verdict {
        let mut replaced: Vec<(Range<usize>, String)> = Vec::new();
        let mut is_masked = false;
        for TextFinding { span, with, is_guards } in found {
            if replaced.last().is_some_and(|(last, _)| span.start < last.end) {
                continue;
            }
            let Some(with) = with else { return Verdict::Cut(span.start, replaced) };
            is_masked |= is_guards;
            replaced.push((span, with));
        }
        if is_masked {
            self.action = Some("masked");
        }
        Verdict::Release(replaced)
    }
}

/// Where the last so many bytes of a text begin, as it is read: invisible characters are not counted, as far as a word may
/// be drawn out.
fn before_last(text: &str, bytes: usize) -> usize {
    let start = text.floor_char_boundary(text.len().saturating_sub(bytes.max(MAX_WORD)));
    let folded = FoldedText::new(&text[start..]);
    let read = folded.read();
    let kept = read.floor_char_boundary(read.len().saturating_sub(bytes));
    if kept == 0 { start } else { start + folded.written(&(0..kept)).end }
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
    fn what_is_not_shown_does_not_count_for_the_end_that_is_held_back() {
        assert_eq!(before_last("a long text", 4), 7);
        assert_eq!(before_last("text", 4), 0);
        let hidden = format!("a long {}", "t\u{200b}e\u{200b}x\u{ad}t\u{200b}");
        assert_eq!(&hidden[..before_last(&hidden, 4)], "a long ");
        assert_eq!(before_last("ａ ｗｏｒｄ", 4), 4);
        let long = format!("{}{}", "x".repeat(MAX_WORD), "\u{200b}".repeat(MAX_WORD));
        assert_eq!(
            before_last(&long, 4),
            long.floor_char_boundary(long.len() - MAX_WORD),
            "as far as a word may be"
        );
    }

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
