//! Tests of the stages of an answer, in any cut.

use super::*;
use futures::FutureExt;
use proptest::prelude::*;

use crate::policy::ClientLimits;
use crate::server_state::{ConnectionLimits, ServerState};

const READERS: AnswerReaders = AnswerReaders { collect: None, keep: None, verify: None };

const TOKEN: &str = "[PERSON_1]";

/// A share in so many bytes.
fn share(max_buffered_bytes: usize) -> BufferShare {
    let limits = ClientLimits { max_buffered_bytes, ..ClientLimits::default() };
    ServerState::new(&limits, ConnectionLimits { most: 1, most_of_one_peer: 1 }).share()
}

/// A chat stream that says these texts, one an event.
fn stream(texts: &[&str], end: &str) -> String {
    let event = |delta: &str, rest: &str| {
        format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{{delta}}}{rest}}}]}}{end}{end}")
    };
    let texts = texts.iter().map(|text| event(&format!("\"content\":\"{text}\""), ""));
    let usage = format!("data: {{\"choices\":[],\"usage\":{{\"completion_tokens\":7}}}}{end}{end}");
    let last = [event("", ",\"finish_reason\":\"stop\""), usage, format!("data: [DONE]{end}{end}")];
    texts.chain(last).collect()
}

fn unmasking() -> AnswerPipeline {
    let tokens = [(TOKEN.to_owned(), "Jo".to_owned())];
    let rewrite = RewriteStage::new(Format::EventStream, Api::Chat, None, UnmaskStage::new(&tokens));
    AnswerPipeline::of(Format::EventStream, rewrite, READERS, None, share(1 << 20))
}

/// What the client gets of a stream in chunks of `size` bytes, and the tokens that were counted.
async fn through(mut pipeline: AnswerPipeline, stream: &str, size: usize) -> (String, Option<TokenUsage>) {
    let mut out = Vec::new();
    for chunk in stream.as_bytes().chunks(size) {
        out.extend_from_slice(&pipeline.pass(Bytes::copy_from_slice(chunk), false).await.unwrap().bytes);
    }
    out.extend_from_slice(&pipeline.pass(Bytes::new(), true).await.unwrap().bytes);
    (String::from_utf8(out).unwrap(), pipeline.finish(true).usage)
}

#[test]
fn an_answer_without_a_stage_has_no_pipeline() {
    let stages = AnswerStages {
        rename: None,
        hidden_usage: None,
        keep: None,
        translate: None,
        guard: None,
        unmask: UnmaskStage::new(&[]),
        collect: None,
        verify: None,
    };
    assert!(AnswerPipeline::new(Format::EventStream, Api::Chat, stages, share(0)).is_none());
}

#[test]
fn what_is_held_of_an_answer_counts_among_all_that_is_held() {
    let tokens = [(TOKEN.to_owned(), "Jo".to_owned())];
    let rewrite = RewriteStage::new(Format::Json, Api::Chat, None, UnmaskStage::new(&tokens));
    let mut pipeline = AnswerPipeline::of(Format::Json, rewrite, READERS, None, share(2 * LITTLE));
    let mut pass = |bytes: usize| {
        let chunk = Bytes::from(vec![b' '; bytes]);
        pipeline.pass(chunk, false).now_or_never().unwrap().map(|_| pipeline.share.bytes())
    };
    assert_eq!(pass(LITTLE - 1).unwrap(), 0, "little is not counted");
    assert_eq!(pass(LITTLE).unwrap(), 2 * LITTLE - 1);
    assert!(matches!(pass(2), Err(Rejection::Overloaded { .. })));
    drop(pipeline);
}

proptest! {
    #[test]
    fn what_no_stage_changes_passes_as_the_same_bytes(
        pieces in prop::collection::vec(prop::sample::select(vec!["data: {}", "\n", "\r\n", "\n\n", ": x"]), 1..12),
        size in 1_usize..20,
        format in prop::sample::select(vec![Format::EventStream, Format::Json]),
    ) {
        let body = Bytes::from(pieces.concat());
        let mut pipeline = AnswerPipeline::of(format, None, READERS, None, share(0));
        for start in (0..body.len()).step_by(size) {
            let chunk = body.slice(start..body.len().min(start + size));
            let released = pipeline.pass(chunk.clone(), false).now_or_never().unwrap().unwrap();
            prop_assert_eq!((released.bytes.as_ptr(), released.bytes.len()), (chunk.as_ptr(), chunk.len()));
        }
    }

    #[test]
    fn no_cut_of_a_stream_changes_what_the_stages_make_of_it(
        texts in prop::collection::vec(prop::sample::select(vec!["I am [PER", "SON_1]", "[PERSON_1]. ", "é ", ""]), 0..8),
        end in prop::sample::select(vec!["\n", "\r", "\r\n"]),
        size in 1_usize..300,
    ) {
        let stream = stream(&texts, end);
        let whole = through(unmasking(), &stream, stream.len()).now_or_never().unwrap();
        let cut = through(unmasking(), &stream, size).now_or_never().unwrap();
        prop_assert!(!whole.0.contains(TOKEN) && whole.1.unwrap().completion_tokens == 7);
        prop_assert_eq!(cut, whole);
    }
}
