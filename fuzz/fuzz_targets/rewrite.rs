//! However an answer is cut into chunks, released unchanged it goes out as it came, and nothing that is not released
//! breaks its end; the first byte says where to cut.
#![no_main]

use signalbox::openai::{Api, FinishReason, Format, RewriteLimits, AnswerRewriter};

const LIMITS: RewriteLimits = RewriteLimits { max_held: 1 << 24 };

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((&size, body)) = input.split_first() else {
        return;
    };
    for api in [Api::Chat, Api::Completions, Api::Messages, Api::Responses] {
        for format in [Format::EventStream, Format::Json] {
            let mut rewriter = AnswerRewriter::new(format, api, LIMITS);
            let mut out = Vec::new();
            for chunk in body.chunks(usize::from(size).max(1)) {
                rewriter.feed(chunk);
                release(&mut rewriter, usize::MAX, None);
                out.extend_from_slice(&rewriter.take());
            }
            rewriter.end();
            release(&mut rewriter, usize::MAX, None);
            out.extend_from_slice(&rewriter.take());
            assert_eq!(out, body);
            assert!(rewriter.is_over() && rewriter.pending().next().is_none());

            let mut rewriter = AnswerRewriter::new(format, api, LIMITS);
            for chunk in body.chunks(usize::from(size).max(1)) {
                rewriter.feed(chunk);
                release(&mut rewriter, usize::from(size % 8), Some("x"));
                rewriter.take();
            }
            rewriter.cut(FinishReason::ContentFilter, Some("cut"));
            assert!(rewriter.is_over() && rewriter.take().is_empty());
        }
    }
});

fn release(rewriter: &mut AnswerRewriter, most: usize, with: Option<&str>) {
    let places: Vec<_> = rewriter.pending().map(|text| (text.place, text.text.len().min(most))).collect();
    for (place, upto) in places {
        let replacement = with.map(|with| (1..upto.max(1), with.to_owned()));
        rewriter.release(place, upto, replacement.as_slice());
    }
}
