//! A body that is accepted is JSON, renaming its model and renaming it back changes no other byte, and every segment is
//! the inside of one of its strings, or a number.
#![no_main]

use bytes::Bytes;
use serde_json::value::RawValue;
use signalbox::openai::ChatRequest;

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    let Ok(request) = ChatRequest::parse(Bytes::copy_from_slice(body)) else {
        return;
    };
    serde_json::from_slice::<&RawValue>(body).expect("what is accepted is JSON");
    assert!(request.prompt_text().len() <= 1024 * 1024);
    let _ = (request.stream(), request.wants_usage(), request.field("user"));
    for segment in request.segments() {
        let span = segment.span();
        assert!(segment.is_number || body[span.start - 1] == b'"' && body[span.end] == b'"');
        assert!(segment.text().len() <= span.len());
    }
    assert!(request.unread().iter().all(|unread| unread.span.end <= body.len()));
    let model = format!("{}\"x", request.model());
    let renamed = ChatRequest::parse(request.with_model(&model)).expect("a renamed request is a request");
    assert_eq!(renamed.model(), model);
    let span = request.model_edit(&model).expect("another name is an edit").span;
    let written = &body[span.clone()];
    assert!(renamed.body().starts_with(&body[..span.start]) && renamed.body().ends_with(&body[span.end..]));
    assert!(written.starts_with(b"\"") && written.ends_with(b"\""));
});
