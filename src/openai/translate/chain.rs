//! Two ways after one another: an upstream's answer in a dialect between, and that in the client's.
//!
//! Refuses to know any dialect.

use super::DialectWriter;
use crate::sse::{OversizedEvent, SseFrame, SseSplitter};

/// The longest event of the dialect between, in bytes: it holds no more than one of the upstream's.
const MAX_EVENT: usize = 8 << 20;

/// Writes an answer by way of a dialect between.
#[derive(Debug)]
pub(super) struct ChainedWriter {
    /// Writes the upstream's answer in the dialect between.
    first: Box<dyn DialectWriter>,
    /// Writes that in the client's.
    second: Box<dyn DialectWriter>,
    /// What of a stream between waits for its end.
    between: SseSplitter,
    is_over: bool,
}

impl ChainedWriter {
    pub(super) fn new(first: Box<dyn DialectWriter>, second: Box<dyn DialectWriter>) -> Self {
        Self { first, second, between: SseSplitter::new(MAX_EVENT), is_over: false }
    }

    /// Writes what the first has written.
    fn pass(&mut self, written: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let Self { second, between, is_over, .. } = self;
        let mut passed = Some(());
        between.feed(written, |frame: Result<SseFrame<'_>, OversizedEvent>| {
            if *is_over || passed.is_none() {
                return;
            }
            passed = match frame.as_ref().map(SseFrame::data) {
                Ok(Some(data)) if *data == *b"[DONE]" => {
                    *is_over = true;
                    second.end(out)
                }
                Ok(Some(data)) => second.event(&data, out),
                Ok(None) => Some(()),
                Err(OversizedEvent) => None,
            };
        });
        passed
    }
}

impl DialectWriter for ChainedWriter {
    fn whole(&mut self, answer: &[u8]) -> Option<Vec<u8>> {
        self.second.whole(&self.first.whole(answer)?)
    }

    fn event(&mut self, data: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let mut written = Vec::new();
        self.first.event(data, &mut written)?;
        self.pass(&written, out)
    }

    fn end(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let mut written = Vec::new();
        self.first.end(&mut written)?;
        self.pass(&written, out)?;
        if self.is_over { Some(()) } else { self.second.end(out) }
    }
}
