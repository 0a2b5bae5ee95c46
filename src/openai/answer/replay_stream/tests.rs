//! Tests of streams made from whole answers.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::Format;
use crate::answer::{AnswerSplitter, Assembler};

fn back(answer: &Value, api: Api) -> Option<Value> {
    let stream = stream_of(answer.to_string().as_bytes(), api, true, 99)?;
    assembled(&stream, api)
}

fn assembled(stream: &[u8], api: Api) -> Option<Value> {
    let mut assembler = Assembler::new(Format::EventStream, api, 1 << 24);
    let mut splitter = AnswerSplitter::new(Format::EventStream, usize::MAX);
    splitter.feed(stream, |piece| assembler.take(piece));
    assembler.finish().map(|whole| serde_json::from_slice(&whole).unwrap())
}

fn chat(content: &Value, reasoning: &str, arguments: &str) -> Value {
    json!({"id": "c", "object": "chat.completion", "created": 4, "model": "m", "system_fingerprint": null,
        "kv_transfer_params": {"a": [1]}, "choices": [
        {"index": 0, "message": {"role": "assistant", "content": content, "refusal": null,
            "reasoning_content": reasoning, "annotations": []}, "logprobs": null, "finish_reason": "stop", "stop_reason": 7},
        {"index": 1, "message": {"role": "assistant", "content": null, "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}},
            {"id": "b", "type": "function", "function": {"name": "g", "arguments": ""}}]},
            "logprobs": null, "finish_reason": "tool_calls", "stop_reason": null}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}})
}

/// What an answer says, without members that say nothing.
fn meant(mut answer: Value) -> Value {
    if let Some(top) = answer.as_object_mut() {
        top.retain(|_, value| !value.is_null());
    }
    answer
}

#[test]
fn a_stream_of_an_answer_says_what_the_answer_says() {
    let answer = chat(&json!("Hello  there,\nworld \u{1f600}"), "I think.", "{\"x\": [1, 2]}");
    assert_eq!(back(&answer, Api::Chat), Some(meant(answer)));
}

#[test]
fn log_probabilities_come_with_their_tokens() {
    let token = |token: &str| json!({"token": token, "logprob": -0.5, "top_logprobs": []});
    let answer = |tokens: &[Value]| {
        json!({"id": "c", "object": "chat.completion", "created": 4, "model": "m", "choices": [{"index": 0,
            "message": {"role": "assistant", "content": "Hello you"}, "finish_reason": "stop",
            "logprobs": {"content": tokens, "refusal": null}}]})
    };
    let told = answer(&[token("Hel"), token("lo"), token(" you")]);
    assert_eq!(back(&told, Api::Chat), Some(told.clone()));
    let stream = stream_of(told.to_string().as_bytes(), Api::Chat, false, 0).unwrap();
    let stream = String::from_utf8(stream.to_vec()).unwrap();
    assert!(stream.contains("\"delta\":{\"content\":\"lo\"},\"logprobs\":{\"content\":[{\"token\":\"lo\""));
    let others = answer(&[token("Hi")]);
    assert_eq!(back(&others, Api::Chat), Some(others));
}

#[test]
fn a_missing_time_is_now_and_usage_comes_only_if_asked_for() {
    let answer = json!({"choices": [{"text": "a b", "finish_reason": "stop", "logprobs": {"tokens": ["a", " b"]}}],
        "usage": {"total_tokens": 3}});
    let stream = stream_of(answer.to_string().as_bytes(), Api::Completions, false, 99).unwrap();
    let stream = String::from_utf8(stream.to_vec()).unwrap();
    assert!(stream.contains("\"created\":99") && !stream.contains("usage"));
    assert!(stream.ends_with("data: [DONE]\n\n"));
    let whole = back(&answer, Api::Completions).unwrap();
    assert_eq!(whole["choices"][0]["text"], "a b");
    assert_eq!(whole["choices"][0]["logprobs"], json!({"tokens": ["a", " b"]}));
    assert_eq!(whole["usage"], json!({"total_tokens": 3}));
}

#[test]
fn messages_and_responses_come_back() {
    let message = json!({"id": "m", "type": "message", "role": "assistant", "model": "x", "content": [
        {"type": "thinking", "thinking": "so it is", "signature": "sig"}, {"type": "text", "text": "one two"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"a b": 1.5}}, {"type": "tool_use", "id": "u", "name": "g",
        "input": {}}, {"type": "redacted_thinking", "data": "zzz"}], "stop_reason": "end_turn", "stop_sequence": null,
        "usage": {"input_tokens": 1, "output_tokens": 2}});
    assert_eq!(back(&message, Api::Messages), Some(message));
    let response = json!({"id": "r", "object": "response", "status": "completed", "error": null, "output": [
        {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "hm hm"}]},
        {"type": "message", "id": "i", "status": "completed", "role": "assistant",
            "content": [{"type": "output_text", "text": "one two", "annotations": []}]},
        {"type": "function_call", "id": "fc", "call_id": "k", "name": "f", "arguments": "{\"a\": 1}"}],
        "usage": {"input_tokens": 1}});
    assert_eq!(back(&response, Api::Responses), Some(response.clone()));
    let stream = stream_of(response.to_string().as_bytes(), Api::Responses, true, 0).unwrap();
    let stream = String::from_utf8(stream.to_vec()).unwrap();
    for name in ["output_text.delta", "function_call_arguments.done", "reasoning_summary_text.delta"] {
        assert!(stream.contains(&format!("event: response.{name}\n")), "{name}");
    }
}

#[test]
fn what_is_no_answer_has_no_stream() {
    for answer in
        ["", "{}", "[]", "{\"error\":{}}", "{\"choices\":[]}", "{\"choices\":[{}]}", "{\"choices\":1}"]
    {
        for api in [Api::Chat, Api::Completions, Api::Messages, Api::Responses, Api::Embeddings] {
            assert_eq!(stream_of(answer.as_bytes(), api, true, 0), None, "{answer}");
        }
    }
}

#[test]
fn a_long_text_is_not_cut_into_words() {
    assert_eq!(pieces("one  two\nthree").collect::<Vec<_>>(), ["one  ", "two\n", "three"]);
    let words = "word ".repeat(100_000);
    assert!(pieces(&words).count() <= MOST_PIECES + 1);
    let blob = "é".repeat(100_000);
    assert!(pieces(&blob).all(|piece| piece.len() <= LONGEST_PIECE));
    assert_eq!(pieces(&blob).collect::<String>(), blob);
}

proptest! {
    #[test]
    fn any_text_comes_back(content in prop::option::of(".{0,60}"), reasoning in ".{0,30}", arguments in ".{0,30}") {
        let answer = chat(&json!(content), &reasoning, &arguments);
        prop_assert_eq!(back(&answer, Api::Chat), Some(meant(answer)));
    }

    #[test]
    fn pieces_are_the_text(text in "[ a-c\n\u{2003}é]{0,80}") {
        prop_assert_eq!(pieces(&text).collect::<String>(), text);
    }

    #[test]
    fn a_pretty_answer_streams_like_a_terse_one(content in ".{0,40}") {
        let answer = chat(&json!(content), "r", "{}");
        let pretty = serde_json::to_string_pretty(&answer).unwrap();
        let stream = stream_of(pretty.as_bytes(), Api::Chat, true, 1).unwrap();
        prop_assert_eq!(assembled(&stream, Api::Chat), Some(meant(answer)));
    }
}
