//! However an answer is cut into chunks, released unchanged it goes out as it came, and nothing that is not released
//! breaks its end; the first byte says where to cut.
#![no_main]

use signalbox::openai::{AnswerRewriter, AnswerSplitter, Api, FinishReason, Format, RewriteLimits};

const LIMITS: RewriteLimits = RewriteLimits { max_held: 1 << 24 };

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((&size, body)) = input.split_first() else {
        return;
    };
    for api in [Api::Chat, Api::Completions, Api::Messages, Api::Responses] {
        for format in [Format::EventStream, Format::Json] {
            let mut splitter = AnswerSplitter::new(format, LIMITS.max_held);
            let mut rewriter = AnswerRewriter::new(format, api, LIMITS);
            let mut out = Vec::new();
            for chunk in body.chunks(usize::from(size).max(1)) {
                splitter.feed(chunk, |piece| rewriter.hold(piece));
                release(&mut rewriter, usize::MAX, None);
                out.extend_from_slice(&rewriter.take());
            }
            splitter.finish(|piece| rewriter.hold(piece));
            rewriter.end();
            release(&mut rewriter, usize::MAX, None);
            out.extend_from_slice(&rewriter.take());
            assert_eq!(out, body);
            assert!(rewriter.is_over() && rewriter.pending().next().is_none());

            let mut splitter = AnswerSplitter::new(format, LIMITS.max_held);
            let mut rewriter = AnswerRewriter::new(format, api, LIMITS);
            for chunk in body.chunks(usize::from(size).max(1)) {
                splitter.feed(chunk, |piece| rewriter.hold(piece));
                release(&mut rewriter, usize::from(size % 8), Some("x"));
                rewriter.take();
            }
            rewriter.cut(FinishReason::ContentFilter, Some("cut"));
            assert!(rewriter.is_over() && rewriter.take().is_empty());
        }
    }
});

fn release(rewriter: &mut AnswerRewriter, most: usize, with: Option<&str>) {
    let ids: Vec<_> = rewriter.pending().map(|text| (text.id, text.text.len().min(most))).collect();
    for (id, upto) in ids {
        let replacement = with.map(|with| (1..upto.max(1), with.to_owned()));
        rewriter.release(id, upto, replacement.as_slice());
    }
}
