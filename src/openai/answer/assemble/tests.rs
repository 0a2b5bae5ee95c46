//! Tests of answers put together from streams.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::answer::AnswerSplitter;
use crate::sse::MAX_EVENT;

fn assembled(api: Api, stream: &str, cuts: &[usize]) -> Option<Value> {
    fed(Format::EventStream, Assembler::new(Format::EventStream, api, 1 << 20), stream.as_bytes(), cuts)
}

fn fed(format: Format, mut assembler: Assembler, body: &[u8], cuts: &[usize]) -> Option<Value> {
    let mut splitter = AnswerSplitter::new(format, MAX_EVENT);
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (body.len() + 1)).collect();
    cuts.extend([0, body.len()]);
    cuts.sort_unstable();
    cuts.windows(2).for_each(|pair| splitter.feed(&body[pair[0]..pair[1]], |piece| assembler.take(piece)));
    splitter.finish(|piece| assembler.take(piece));
    assembler.finish().map(|whole| serde_json::from_slice(&whole).unwrap())
}

fn events(data: &[Value]) -> String {
    data.iter().fold(String::new(), |stream, data| stream + &format!("data: {data}\n\n"))
}

fn chunk(index: u64, delta: &Value, finish: &Value) -> Value {
    json!({"id": "c1", "object": "chat.completion.chunk", "created": 3, "model": "m", "system_fingerprint": "fp",
        "obfuscation": "xyz", "choices": [{"index": index, "delta": delta, "logprobs": null, "finish_reason": finish}]})
}

fn chat() -> String {
    let none = Value::Null;
    let call = |index: u64, call: Value| {
        let mut call = call;
        call["index"] = json!(index);
        json!({"tool_calls": [call]})
    };
    events(&[
        chunk(0, &json!({"role": "assistant", "content": ""}), &none),
        chunk(1, &json!({"role": "assistant", "content": null}), &none),
        chunk(0, &json!({"reasoning_content": "Let me "}), &none),
        chunk(0, &json!({"reasoning_content": "see."}), &none),
        chunk(0, &json!({"content": "Hel", "mood": "go"}), &none),
        chunk(
            1,
            &call(0, json!({"id": "a", "type": "function", "function": {"name": "f", "arguments": ""}})),
            &none,
        ),
        chunk(
            1,
            &call(1, json!({"id": "b", "type": "function", "function": {"name": "g", "arguments": "{"}})),
            &none,
        ),
        chunk(1, &call(0, json!({"id": "", "function": {"name": "f", "arguments": "{\"x\""}})), &none),
        chunk(0, &json!({"content": "lo \u{1f600}", "mood": "od", "level": 2}), &json!("stop")),
        chunk(1, &call(0, json!({"function": {"arguments": ":1}"}})), &none),
        chunk(1, &call(1, json!({"function": {"arguments": "}"}})), &json!("tool_calls")),
        json!({"id": "c1", "object": "chat.completion.chunk", "created": 3, "model": "m", "choices": [],
            "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}),
    ]) + "data: [DONE]\n\n"
}

fn whole_chat() -> Value {
    json!({"id": "c1", "object": "chat.completion", "created": 3, "model": "m", "system_fingerprint": "fp",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "Hello \u{1f600}", "reasoning_content": "Let me see.",
                "mood": "good", "level": 2}, "logprobs": null, "finish_reason": "stop"},
            {"index": 1, "message": {"role": "assistant", "content": null, "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}},
                {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}}]},
                "logprobs": null, "finish_reason": "tool_calls"},
        ], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}})
}

#[test]
fn choices_texts_and_calls_of_tools_are_put_together() {
    assert_eq!(assembled(Api::Chat, &chat(), &[]), Some(whole_chat()));
}

#[test]
fn log_probabilities_are_appended() {
    let logged = |token: &str, finish: Value| {
        json!({"id": "c", "choices": [{"index": 0, "delta": {"content": token}, "finish_reason": finish,
            "logprobs": {"content": [{"token": token, "logprob": -0.317_253_05}], "refusal": null}}]})
    };
    let stream = events(&[logged("a", Value::Null), logged("b", json!("stop"))]) + "data: [DONE]\n\n";
    let mut assembler = Assembler::new(Format::EventStream, Api::Chat, 1 << 20);
    let mut splitter = AnswerSplitter::new(Format::EventStream, MAX_EVENT);
    splitter.feed(stream.as_bytes(), |piece| assembler.take(piece));
    let whole = String::from_utf8(assembler.finish().unwrap().to_vec()).unwrap();
    assert_eq!(whole.matches("-0.31725305").count(), 2, "numbers stay as they were written");
    let whole: Value = serde_json::from_str(&whole).unwrap();
    let logprobs = &whole["choices"][0]["logprobs"];
    assert_eq!(logprobs["content"].as_array().map(Vec::len), Some(2));
    assert_eq!(logprobs["refusal"], Value::Null);
}

#[test]
fn a_completion_grows_its_text() {
    let part = |text: &str, finish: Value| {
        json!({"id": "x", "object": "text_completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "text": text, "logprobs": {"tokens": [text]}, "finish_reason": finish}]})
    };
    let stream = events(&[part("a ", Value::Null), part("b", json!("length"))]) + "data: [DONE]\n\n";
    let expected = json!({"id": "x", "object": "text_completion", "created": 1, "model": "m", "choices": [
        {"index": 0, "text": "a b", "logprobs": {"tokens": ["a ", "b"]}, "finish_reason": "length"}]});
    assert_eq!(assembled(Api::Completions, &stream, &[]), Some(expected));
}

fn message() -> String {
    let at =
        |index: u64, delta: Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
    events(&[
        json!({"type": "message_start", "message": {"id": "msg", "type": "message", "role": "assistant", "model": "m",
            "content": [], "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 5, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "ping"}),
        at(0, json!({"type": "text_delta", "text": "Hel"})),
        at(0, json!({"type": "text_delta", "text": "lo"})),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "content_block_start", "index": 1,
            "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {}}}),
        at(1, json!({"type": "input_json_delta", "partial_json": "{\"x\": "})),
        at(1, json!({"type": "input_json_delta", "partial_json": "1.50}"})),
        json!({"type": "content_block_stop", "index": 1}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": null},
            "usage": {"output_tokens": 9}}),
        json!({"type": "message_stop"}),
    ])
}

#[test]
fn a_message_grows_its_blocks() {
    let expected = json!({"id": "msg", "type": "message", "role": "assistant", "model": "m", "content": [
        {"type": "text", "text": "Hello"}, {"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1.5}}],
        "stop_reason": "tool_use", "stop_sequence": null, "usage": {"input_tokens": 5, "output_tokens": 9}});
    assert_eq!(assembled(Api::Messages, &message(), &[]), Some(expected));
}

#[test]
fn a_response_is_taken_from_its_last_event() {
    let stream = events(&[
        json!({"type": "response.created", "response": {"id": "r", "status": "in_progress"}}),
        json!({"type": "response.output_text.delta", "delta": "x"}),
        json!({"type": "response.completed", "response": {"id": "r", "status": "completed", "error": null}}),
    ]);
    let expected = json!({"id": "r", "status": "completed", "error": null});
    assert_eq!(assembled(Api::Responses, &stream, &[]), Some(expected));
    let failed = events(&[json!({"type": "response.failed", "response": {"id": "r"}})]);
    assert_eq!(assembled(Api::Responses, &failed, &[]), None);
}

#[test]
fn what_broke_off_or_failed_is_no_answer() {
    let stream = chat();
    assert_eq!(assembled(Api::Chat, stream.strip_suffix("data: [DONE]\n\n").unwrap(), &[]), None);
    assert_eq!(assembled(Api::Chat, &stream.replace("\"tool_calls\"}", "null}"), &[]), None);
    assert_eq!(assembled(Api::Chat, &format!("data: {{\"error\":{{\"code\":5}}}}\n\n{stream}"), &[]), None);
    assert_eq!(assembled(Api::Chat, &format!("data: nonsense\n\n{stream}"), &[]), None);
    assert_eq!(assembled(Api::Chat, "data: [DONE]\n\n", &[]), None);
    assert_eq!(assembled(Api::Embeddings, &stream, &[]), None);
    let long = format!("data: {{\"x\":\"{}\"}}\n\n{stream}", "x".repeat(MAX_EVENT));
    assert_eq!(assembled(Api::Chat, &long, &[]), None);
    assert_eq!(
        assembled(
            Api::Messages,
            message().strip_suffix("data: {\"type\":\"message_stop\"}\n\n").unwrap(),
            &[]
        ),
        None
    );
}

#[test]
fn what_is_too_long_is_no_answer() {
    let length = whole_chat().to_string().len();
    for (max_bytes, fits) in [(length, true), (length - 1, false), (0, false)] {
        let assembler = Assembler::new(Format::EventStream, Api::Chat, max_bytes);
        assert_eq!(fed(Format::EventStream, assembler, chat().as_bytes(), &[]).is_some(), fits);
        let assembler = Assembler::new(Format::Json, Api::Chat, max_bytes);
        assert_eq!(fed(Format::Json, assembler, whole_chat().to_string().as_bytes(), &[7]).is_some(), fits);
    }
}

#[test]
fn a_whole_answer_is_collected() {
    let whole =
        |body: &str| fed(Format::Json, Assembler::new(Format::Json, Api::Chat, 100), body.as_bytes(), &[3]);
    assert_eq!(whole("{\"a\": 1}"), Some(json!({"a": 1})));
    for body in ["{\"a\": 1", "", "[]", "{\"error\":{}}", "{\"a\":1}x"] {
        assert_eq!(whole(body), None, "{body}");
    }
    assert_eq!(fed(Format::Opaque, Assembler::new(Format::Opaque, Api::Chat, 100), b"{}", &[]), None);
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same_answer(cuts in prop::collection::vec(any::<usize>(), 0..40)) {
        prop_assert_eq!(assembled(Api::Chat, &chat(), &cuts), Some(whole_chat()));
        let message = message();
        prop_assert_eq!(assembled(Api::Messages, &message, &cuts), assembled(Api::Messages, &message, &[]));
    }

    #[test]
    fn nothing_breaks_it(data in prop::collection::vec(prop::sample::select(vec![
        "{}", "[DONE]", "{\"choices\":[{}]}", "{\"choices\":[{\"delta\":{\"content\":1}}]}", "{\"choices\":{}}",
        "{\"choices\":[{\"index\":-1,\"delta\":{\"tool_calls\":[{\"function\":{\"arguments\":\"{\"}},{}]}}]}",
        "{\"choices\":[{\"delta\":{\"tool_calls\":\"x\",\"role\":null},\"finish_reason\":\"stop\"}]}",
        "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"function\":\"x\"}],\"function_call\":{\"name\":1}}}]}",
        "{\"type\":\"message_start\",\"message\":{\"content\":1}}", "{\"type\":\"message_stop\"}",
        "{\"type\":\"content_block_delta\",\"index\":3,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"[\"}}",
    ]), 0..12)) {
        let stream = data.iter().fold(String::new(), |stream, data| stream + &format!("data: {data}\n\n"));
        for api in [Api::Chat, Api::Completions, Api::Messages, Api::Responses] {
            assembled(api, &stream, &[]);
        }
    }
}
