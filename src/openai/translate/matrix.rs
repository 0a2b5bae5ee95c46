//! Runs every pair of APIs over the conversations of `tests/golden/translation`; tests only.
//!
//! Nothing that a client says may be lost on the way, and an answer that goes there and back is the same.

use serde_json::{Value, json};

use super::vllm::{conversations, read, streamed};
use super::{TranslatedAnswer, Translation, UpstreamKind};
use crate::{Api, Format, SegmentKind};
use http::StatusCode;

const APIS: [Api; 3] = [Api::Chat, Api::Messages, Api::Responses];

/// What is not told to an upstream of another API, by how it begins.
const LEFT_OUT: [&str; 1] = ["x-anthropic-billing-header"];

/// What else is: Responses have no stop sequences and go on with nobody's message, a tool that was removed is none, and a chat
/// has no namespaces that could be described.
const EXPECTED: [&str; 11] = [
    "Chat to Responses, sampling: refused",
    "Messages to Chat, tools added and removed: \"Bash\"",
    "Messages to Chat, tools added and removed: \"Runs a command.\"",
    "Messages to Responses, sampling: refused",
    "Messages to Responses, a prefilled answer: refused",
    "Messages to Responses, tools added and removed: \"Bash\"",
    "Messages to Responses, tools added and removed: \"Runs a command.\"",
    "Responses to Chat, tools: \"Git.\"",
    "Responses to Chat, turn of Codex after tools: \"Git.\"",
    "Responses to Messages, tools: \"Git.\"",
    "Responses to Messages, turn of Codex after tools: \"Git.\"",
];

fn way(client: Api, upstream: Api) -> Translation {
    Translation::between(client, |api| api == upstream).unwrap()
}

fn body(translation: Translation, client: Api, body: &Value) -> Option<Value> {
    let translated = translation.request(&read(client, body), UpstreamKind::Engine).ok()?;
    Some(serde_json::from_slice(translated.body()).unwrap())
}

/// The recorded requests of an API, with names; those of Chat are made of Messages'.
fn requests(api: Api) -> Vec<(String, Value)> {
    let said = conversations();
    let of = |section: &str| -> Vec<(String, Value)> {
        let named = |(name, body): (&String, &Value)| (name.clone(), body.clone());
        said[section].as_object().unwrap().iter().map(named).collect()
    };
    match api {
        Api::Messages => of("messages_requests"),
        Api::Responses => of("responses_requests"),
        _ => {
            let chat =
                |(name, said)| Some((name, body(way(Api::Messages, Api::Chat), Api::Messages, &said)?));
            of("messages_requests").into_iter().filter_map(chat).collect()
        }
    }
}

/// What the messages and the tools of a request say. Calls are JSON in one API and a text of JSON in another, and what a
/// model has thought is a hint.
fn texts(api: Api, body: &Value) -> Vec<String> {
    use SegmentKind::{Document, Message, SystemPrompt, ToolDescription, ToolResult};
    let plain = |text: &str| serde_json::from_str(&format!("\"{text}\"")).unwrap_or_else(|_| text.to_owned());
    let kinds = [Document, Message, SystemPrompt, ToolDescription, ToolResult];
    let request = read(api, body);
    let said = request.segments().filter(|segment| kinds.contains(&segment.kind));
    said.map(|segment| plain(segment.text())).collect()
}

#[test]
fn nothing_that_a_client_says_is_lost_in_any_pair_of_apis() {
    let mut lost = Vec::new();
    for client in APIS {
        for upstream in APIS.into_iter().filter(|upstream| *upstream != client) {
            let translation = way(client, upstream);
            for (name, said) in requests(client) {
                let Some(told) = body(translation, client, &said) else {
                    lost.push(format!("{client:?} to {upstream:?}, {name}: refused"));
                    continue;
                };
                let told = texts(upstream, &told).join("\n");
                let is_missing = |text: &String| {
                    !told.contains(text.as_str()) && !LEFT_OUT.iter().any(|start| text.starts_with(start))
                };
                for text in texts(client, &said).iter().filter(|text| is_missing(text)) {
                    lost.push(format!("{client:?} to {upstream:?}, {name}: {text:?}"));
                }
            }
        }
    }
    assert_eq!(lost, EXPECTED);
}

fn translated(client: Api, upstream: Api, format: Format, body: &str) -> String {
    let said = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], "input": "hi",
        "stream_options": {"include_usage": true}, "stream": format == Format::EventStream});
    let answer = TranslatedAnswer { model: "m", request_id: "r", kept_as: None, now: 5 };
    let mut translator =
        way(client, upstream).answer(&read(client, &said), StatusCode::OK, format, answer).unwrap();
    String::from_utf8(translator.pass(body.as_bytes(), true).unwrap()).unwrap()
}

/// What an answer of Chat says, apart from what is not the model's.
fn said(answer: &Value) -> Value {
    let choice = &answer["choices"][0];
    let message = &choice["message"];
    let text = |name: &str| message[name].as_str().unwrap_or_default();
    let reasoning = [text("reasoning"), text("reasoning_content")].concat();
    let calls: Vec<Value> = message["tool_calls"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|call| {
            let written = &call["function"]["arguments"];
            // Of a call that was cut the text is compared.
            let arguments =
                serde_json::from_str(written.as_str().unwrap()).unwrap_or_else(|_| written.clone());
            json!([call["id"], call["function"]["name"], arguments])
        })
        .collect();
    let finish = if calls.is_empty() { choice["finish_reason"].clone() } else { json!("tool_calls") };
    json!({"content": text("content"), "reasoning": reasoning, "calls": calls, "finish": finish,
        "prompt": answer["usage"]["prompt_tokens"], "completion": answer["usage"]["completion_tokens"]})
}

#[test]
fn an_answer_that_goes_there_and_back_says_the_same() {
    for api in [Api::Messages, Api::Responses] {
        for (name, answer) in conversations()["answers"].as_object().unwrap() {
            let there = translated(api, Api::Chat, Format::Json, &answer.to_string());
            let back: Value =
                serde_json::from_str(&translated(Api::Chat, api, Format::Json, &there)).unwrap();
            assert_eq!(said(&back), said(answer), "{api:?}, {name}: {there}");
        }
    }
}

/// A stream of Chat put together.
fn gathered(stream: &str) -> Value {
    let mut whole =
        json!({"choices": [{"message": {"content": "", "reasoning": "", "tool_calls": []}}], "usage": null});
    for data in stream.split_terminator("\n\n").filter_map(|event| event.strip_prefix("data: ")) {
        let Ok(chunk) = serde_json::from_str::<Value>(data) else { continue };
        if chunk["usage"].is_object() {
            whole["usage"] = chunk["usage"].clone();
        }
        let Some(choice) = chunk["choices"].get(0) else { continue };
        if !choice["finish_reason"].is_null() {
            whole["choices"][0]["finish_reason"] = choice["finish_reason"].clone();
        }
        let (delta, message) = (&choice["delta"], &mut whole["choices"][0]["message"]);
        for (name, into) in
            [("content", "content"), ("reasoning", "reasoning"), ("reasoning_content", "reasoning")]
        {
            let more = delta[name].as_str().unwrap_or_default();
            message[into] = (message[into].as_str().unwrap().to_owned() + more).into();
        }
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let calls = message["tool_calls"].as_array_mut().unwrap();
            let at = usize::try_from(call["index"].as_u64().unwrap()).unwrap();
            if at == calls.len() {
                calls.push(json!({"id": call["id"], "function": {"name": call["function"]["name"], "arguments": ""}}));
            }
            let arguments = &mut calls[at]["function"]["arguments"];
            let more = call["function"]["arguments"].as_str().unwrap_or_default();
            *arguments = (arguments.as_str().unwrap().to_owned() + more).into();
        }
    }
    whole
}

#[test]
fn a_stream_that_goes_there_and_back_says_the_same() {
    for api in [Api::Messages, Api::Responses] {
        for (name, chunks) in conversations()["streams"].as_object().unwrap() {
            let stream = streamed(chunks);
            let there = translated(api, Api::Chat, Format::EventStream, &stream);
            let back = translated(Api::Chat, api, Format::EventStream, &there);
            let (back, forth) = (gathered(&back), gathered(&stream));
            assert_eq!(said(&back), said(&forth), "{api:?}, {name}: {there}");
        }
    }
}
