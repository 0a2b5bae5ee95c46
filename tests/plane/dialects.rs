//! Every API of conversations before every other: one conversation, asked and answered in three dialects, whole and streamed.

use crate::harness::{Answer, Gateway, Launch, client, policy_of};
use crate::raw::{Act, Message, Scripted, answer};
use serde_json::{Value, json};

const DIALECTS: [&str; 3] = ["chat", "messages", "responses"];

fn path(dialect: &str) -> &'static str {
    match dialect {
        "chat" => "/v1/chat/completions",
        "messages" => "/v1/messages",
        _ => "/v1/responses",
    }
}

/// The conversation as a client of a dialect asks it.
fn request(dialect: &str, stream: bool) -> Value {
    let schema = json!({"type": "object", "properties": {"path": {"type": "string"}}});
    let body = match dialect {
        "chat" => json!({"max_completion_tokens": 64, "messages": [
                {"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is in \u{201c}a\u{201d}?"},
                {"role": "assistant", "content": "Let me look.", "tool_calls": [{"id": "c1", "type": "function",
                    "function": {"name": "Read", "arguments": "{\"path\":\"a\"}"}}]},
                {"role": "tool", "tool_call_id": "c1", "content": "one"}, {"role": "user", "content": "And b?"}],
            "tools": [{"type": "function", "function": {"name": "Read", "description": "reads", "parameters": schema}}],
            "tool_choice": "required", "stream_options": {"include_usage": true}}),
        "messages" => json!({"max_tokens": 64, "system": "Be brief.", "messages": [
                {"role": "user", "content": "What is in \u{201c}a\u{201d}?"},
                {"role": "assistant", "content": [{"type": "text", "text": "Let me look."},
                    {"type": "tool_use", "id": "c1", "name": "Read", "input": {"path": "a"}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "one"},
                    {"type": "text", "text": "And b?"}]}],
            "tools": [{"name": "Read", "description": "reads", "input_schema": schema}], "tool_choice": {"type": "any"}}),
        _ => json!({"max_output_tokens": 64, "instructions": "Be brief.", "store": false, "input": [
                {"role": "user", "content": "What is in \u{201c}a\u{201d}?"},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Let me look."}]},
                {"type": "function_call", "call_id": "c1", "name": "Read", "arguments": "{\"path\":\"a\"}"},
                {"type": "function_call_output", "call_id": "c1", "output": "one"},
                {"role": "user", "content": [{"type": "input_text", "text": "And b?"}]}],
            "tools": [{"type": "function", "name": "Read", "description": "reads", "parameters": schema, "strict": false}],
            "tool_choice": "required"}),
    };
    let mut body = body;
    body["model"] = "m".into();
    if stream {
        body["stream"] = true.into();
    } else if dialect == "chat" {
        body.as_object_mut().unwrap().remove("stream_options");
    }
    body
}

fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

fn arguments(text: &Value) -> Value {
    serde_json::from_str(text.as_str().unwrap()).unwrap()
}

/// What a request says, whatever dialect it is in.
fn asked(dialect: &str, sent: &Value) -> Value {
    let mut turns: Vec<Value> = Vec::new();
    let mut system = String::new();
    let (tool, choice, limit) = match dialect {
        "chat" => {
            for message in sent["messages"].as_array().unwrap() {
                let (role, text) = (message["role"].as_str().unwrap(), text_of(&message["content"]));
                match role {
                    "system" => system += &text,
                    "tool" => turns.push(json!(["result", message["tool_call_id"], text])),
                    _ if !text.is_empty() => turns.push(json!([role, text])),
                    _ => {}
                }
                for call in message["tool_calls"].as_array().into_iter().flatten() {
                    let function = &call["function"];
                    turns.push(json!([
                        "call",
                        call["id"],
                        function["name"],
                        arguments(&function["arguments"])
                    ]));
                }
            }
            let limit = sent.get("max_completion_tokens").unwrap_or(&sent["max_tokens"]);
            let tool = &sent["tools"][0]["function"];
            (
                json!([tool["name"], tool["description"], tool["parameters"]]),
                sent["tool_choice"].clone(),
                limit,
            )
        }
        "messages" => {
            system = text_of(&sent["system"]);
            for message in sent["messages"].as_array().unwrap() {
                let text = json!([{"type": "text", "text": message["content"]}]);
                let blocks = if message["content"].is_string() { &text } else { &message["content"] };
                for block in blocks.as_array().unwrap() {
                    turns.push(match block["type"].as_str().unwrap() {
                        "tool_use" => json!(["call", block["id"], block["name"], block["input"]]),
                        "tool_result" => json!(["result", block["tool_use_id"], text_of(&block["content"])]),
                        _ => json!([message["role"], block["text"]]),
                    });
                }
            }
            let tool = &sent["tools"][0];
            let choice = if sent["tool_choice"]["type"] == "any" { json!("required") } else { Value::Null };
            (json!([tool["name"], tool["description"], tool["input_schema"]]), choice, &sent["max_tokens"])
        }
        _ => {
            system += sent["instructions"].as_str().unwrap_or_default();
            for item in sent["input"].as_array().unwrap() {
                match item["type"].as_str().unwrap_or("message") {
                    "function_call" => {
                        let call = arguments(&item["arguments"]);
                        turns.push(json!(["call", item["call_id"], item["name"], call]));
                    }
                    "function_call_output" => {
                        turns.push(json!(["result", item["call_id"], text_of(&item["output"])]));
                    }
                    _ if item["role"] == "system" => system += &text_of(&item["content"]),
                    _ => turns.push(json!([item["role"], text_of(&item["content"])])),
                }
            }
            let tool = &sent["tools"][0];
            assert_eq!((&tool["strict"], &sent["store"]), (&json!(false), &json!(false)), "{sent}");
            let tool = json!([tool["name"], tool["description"], tool["parameters"]]);
            (tool, sent["tool_choice"].clone(), &sent["max_output_tokens"])
        }
    };
    json!({"system": system, "turns": turns, "tool": tool, "choice": choice, "limit": limit})
}

fn document(body: &Value) -> Vec<u8> {
    answer("200 OK", &body.to_string())
}

fn stream(events: &[(Option<&str>, Value)], is_done: bool) -> Vec<u8> {
    let write = |(name, data): &(Option<&str>, Value)| {
        let name = name.map_or_else(String::new, |name| format!("event: {name}\n"));
        format!("{name}data: {data}\n\n")
    };
    let body = events.iter().map(write).collect::<String>() + if is_done { "data: [DONE]\n\n" } else { "" };
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n";
    format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn chat_upstream(request: &Message) -> Vec<u8> {
    let sent: Value = serde_json::from_slice(&request.body).unwrap();
    let usage = json!({"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42,
        "prompt_tokens_details": {"cached_tokens": 20}});
    let function = |arguments: &str| json!({"name": "Read", "arguments": arguments});
    if sent["stream"] != true {
        let call = json!({"id": "c2", "type": "function", "function": function("{\"path\":\"b\"}")});
        let message =
            json!({"role": "assistant", "content": "Done.", "reasoning": "Hm.", "tool_calls": [call]});
        return document(
            &json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 5, "model": "m", "usage": usage,
            "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}),
        );
    }
    let chunk = |delta: Value, finish: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        (
            None,
            json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 5, "model": "m", "choices": [choice]}),
        )
    };
    let begun = json!({"index": 0, "id": "c2", "type": "function", "function": function("")});
    let more = json!({"index": 0, "function": {"arguments": "{\"path\":\"b\"}"}});
    let last = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 5, "model": "m", "choices": [], "usage": usage});
    stream(
        &[
            chunk(json!({"role": "assistant", "content": ""}), Value::Null),
            chunk(json!({"reasoning": "Hm."}), Value::Null),
            chunk(json!({"content": "Do"}), Value::Null),
            chunk(json!({"content": "ne."}), Value::Null),
            chunk(json!({"tool_calls": [begun]}), Value::Null),
            chunk(json!({"tool_calls": [more]}), Value::Null),
            chunk(json!({}), json!("tool_calls")),
            (None, last),
        ],
        true,
    )
}

fn messages_upstream(request: &Message) -> Vec<u8> {
    let sent: Value = serde_json::from_slice(&request.body).unwrap();
    let usage = json!({"input_tokens": 10, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 0, "output_tokens": 12});
    let whole = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "tool_use", "usage": usage,
        "content": [{"type": "thinking", "thinking": "Hm.", "signature": "s"}, {"type": "text", "text": "Done."},
            {"type": "tool_use", "id": "c2", "name": "Read", "input": {"path": "b"}}]});
    if sent["stream"] != true {
        return document(&whole);
    }
    let mut begun = whole.clone();
    begun["content"] = json!([]);
    begun["stop_reason"] = Value::Null;
    let start = |index: u32, block: Value| {
        (
            Some("content_block_start"),
            json!({"type": "content_block_start", "index": index, "content_block": block}),
        )
    };
    let delta = |index: u32, delta: Value| {
        (Some("content_block_delta"), json!({"type": "content_block_delta", "index": index, "delta": delta}))
    };
    let stop =
        |index: u32| (Some("content_block_stop"), json!({"type": "content_block_stop", "index": index}));
    stream(
        &[
            (Some("message_start"), json!({"type": "message_start", "message": begun})),
            start(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
            delta(0, json!({"type": "thinking_delta", "thinking": "Hm."})),
            delta(0, json!({"type": "signature_delta", "signature": "s"})),
            stop(0),
            (Some("ping"), json!({"type": "ping"})),
            start(1, json!({"type": "text", "text": ""})),
            delta(1, json!({"type": "text_delta", "text": "Done."})),
            stop(1),
            start(2, json!({"type": "tool_use", "id": "c2", "name": "Read", "input": {}})),
            delta(2, json!({"type": "input_json_delta", "partial_json": "{\"path\":"})),
            delta(2, json!({"type": "input_json_delta", "partial_json": "\"b\"}"})),
            stop(2),
            (
                Some("message_delta"),
                json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 12}}),
            ),
            (Some("message_stop"), json!({"type": "message_stop"})),
        ],
        false,
    )
}

fn responses_upstream(request: &Message) -> Vec<u8> {
    let sent: Value = serde_json::from_slice(&request.body).unwrap();
    let usage = json!({"input_tokens": 30, "input_tokens_details": {"cached_tokens": 20}, "output_tokens": 12,
        "output_tokens_details": {"reasoning_tokens": 1}, "total_tokens": 42});
    let reasoning = json!({"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]});
    let said = json!({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
        "content": [{"type": "output_text", "text": "Done.", "annotations": [], "logprobs": []}]});
    let call = json!({"type": "function_call", "id": "fc_1", "call_id": "c2", "name": "Read", "arguments": "{\"path\":\"b\"}"});
    let whole = json!({"id": "resp_1", "object": "response", "created_at": 5, "model": "m", "status": "completed", "error": null,
        "output": [reasoning, said, call], "usage": usage});
    if sent["stream"] != true {
        return document(&whole);
    }
    let mut begun = whole.clone();
    (begun["output"], begun["usage"], begun["status"]) = (json!([]), Value::Null, json!("in_progress"));
    let mut number = 0;
    let mut event = |name: &'static str, mut data: Value| {
        (data["type"], data["sequence_number"]) = (json!(name), json!(number));
        number += 1;
        (Some(name), data)
    };
    let events = [
        event("response.created", json!({"response": begun})),
        event("response.in_progress", json!({"response": begun})),
        event("response.output_item.added", json!({"output_index": 0, "item": reasoning})),
        event("response.reasoning_text.delta", json!({"output_index": 0, "delta": "Hm."})),
        event("response.output_item.done", json!({"output_index": 0, "item": reasoning})),
        event("response.output_item.added", json!({"output_index": 1, "item": said})),
        event("response.output_text.delta", json!({"output_index": 1, "delta": "Do", "logprobs": []})),
        event("response.output_text.delta", json!({"output_index": 1, "delta": "ne.", "logprobs": []})),
        event("response.output_text.done", json!({"output_index": 1, "text": "Done."})),
        event("response.output_item.done", json!({"output_index": 1, "item": said})),
        event("response.output_item.added", json!({"output_index": 2, "item": call})),
        event(
            "response.function_call_arguments.delta",
            json!({"output_index": 2, "delta": "{\"path\":\"b\"}"}),
        ),
        event(
            "response.function_call_arguments.done",
            json!({"output_index": 2, "arguments": "{\"path\":\"b\"}"}),
        ),
        event("response.output_item.done", json!({"output_index": 2, "item": call})),
        event("response.completed", json!({"response": whole})),
    ];
    stream(&events, false)
}

/// The data of a stream's events.
fn data(text: &str) -> Vec<Value> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    lines.map(|data| serde_json::from_str(data).unwrap()).collect()
}

/// What a client gets, whatever dialect it is in.
#[derive(Debug, Default, PartialEq)]
struct Got {
    reasoning: String,
    text: String,
    call: (String, String, String),
    finish: String,
    /// Of the prompt, of it cached, of the answer.
    usage: [u64; 3],
}

impl Got {
    fn chat_usage(&mut self, usage: &Value) {
        let cached = &usage["prompt_tokens_details"]["cached_tokens"];
        self.usage =
            [&usage["prompt_tokens"], cached, &usage["completion_tokens"]].map(|one| one.as_u64().unwrap());
    }

    fn chat(&mut self, choice: &Value) {
        let message = choice.get("delta").unwrap_or(&choice["message"]);
        let text = |name: &str| message[name].as_str().unwrap_or_default();
        self.reasoning += text("reasoning");
        self.reasoning += text("reasoning_content");
        self.text += text("content");
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            self.call.0 += call["id"].as_str().unwrap_or_default();
            self.call.1 += call["function"]["name"].as_str().unwrap_or_default();
            self.call.2 += call["function"]["arguments"].as_str().unwrap_or_default();
        }
        self.finish += choice["finish_reason"].as_str().unwrap_or_default();
    }

    fn message_usage(&mut self, usage: &Value) {
        let number = |name: &str| usage[name].as_u64().unwrap_or(0);
        let cached = number("cache_read_input_tokens");
        let prompt = number("input_tokens") + number("cache_creation_input_tokens") + cached;
        self.usage = [prompt, cached, number("output_tokens")];
    }

    fn block(&mut self, block: &Value) {
        self.reasoning += block["thinking"].as_str().unwrap_or_default();
        self.text += block["text"].as_str().unwrap_or_default();
        self.call.0 += block["id"].as_str().unwrap_or_default();
        self.call.1 += block["name"].as_str().unwrap_or_default();
        self.call.2 += block["partial_json"].as_str().unwrap_or_default();
        if block["input"].as_object().is_some_and(|input| !input.is_empty()) {
            self.call.2 += &block["input"].to_string();
        }
    }

    fn response(&mut self, response: &Value) {
        for item in response["output"].as_array().unwrap() {
            match item["type"].as_str().unwrap() {
                "reasoning" => self.reasoning += &text_of(&item["content"]),
                "message" => self.text += &text_of(&item["content"]),
                _ => {
                    let part = |name: &str| item[name].as_str().unwrap().to_owned();
                    self.call = (part("call_id"), part("name"), part("arguments"));
                }
            }
        }
        let usage = &response["usage"];
        let cached = &usage["input_tokens_details"]["cached_tokens"];
        self.usage =
            [&usage["input_tokens"], cached, &usage["output_tokens"]].map(|one| one.as_u64().unwrap());
        self.finish = if response["status"] == "completed" { "tool_calls".to_owned() } else { String::new() };
    }

    fn read(dialect: &str, text: &str, is_stream: bool) -> Self {
        let mut got = Self::default();
        let events = if is_stream { data(text) } else { vec![serde_json::from_str(text).unwrap()] };
        match dialect {
            "chat" => {
                for event in &events {
                    event["choices"].as_array().unwrap().iter().for_each(|choice| got.chat(choice));
                    if event["usage"].is_object() {
                        got.chat_usage(&event["usage"]);
                    }
                }
            }
            "messages" if is_stream => {
                for event in &events {
                    match event["type"].as_str().unwrap() {
                        "content_block_start" => got.block(&event["content_block"]),
                        "content_block_delta" => got.block(&event["delta"]),
                        "message_start" => got.message_usage(&event["message"]["usage"]),
                        "message_delta" => {
                            let mut usage = events[0]["message"]["usage"].clone();
                            usage
                                .as_object_mut()
                                .unwrap()
                                .extend(event["usage"].as_object().unwrap().clone());
                            got.message_usage(&usage);
                            got.finish += event["delta"]["stop_reason"].as_str().unwrap();
                        }
                        _ => {}
                    }
                }
            }
            "messages" => {
                events[0]["content"].as_array().unwrap().iter().for_each(|block| got.block(block));
                got.message_usage(&events[0]["usage"]);
                got.finish += events[0]["stop_reason"].as_str().unwrap();
            }
            _ if is_stream => {
                let last = events.last().unwrap();
                assert_eq!(last["type"], "response.completed");
                let numbers: Vec<u64> =
                    events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
                assert_eq!(numbers, (0..events.len() as u64).collect::<Vec<_>>());
                got.response(&last["response"]);
                let pieces = |name: &str| -> String {
                    let of = events.iter().filter(|event| event["type"] == name);
                    of.map(|event| event["delta"].as_str().unwrap()).collect()
                };
                assert_eq!(pieces("response.output_text.delta"), got.text);
                assert_eq!(pieces("response.reasoning_text.delta"), got.reasoning);
                assert_eq!(pieces("response.function_call_arguments.delta"), got.call.2);
            }
            _ => got.response(&events[0]),
        }
        if got.finish == "tool_use" {
            "tool_calls".clone_into(&mut got.finish);
        }
        got
    }
}

#[tokio::test]
async fn one_conversation_is_the_same_in_every_dialect_before_every_upstream() {
    let expected = json!({"system": "Be brief.", "choice": "required", "limit": 64,
        "tool": ["Read", "reads", {"type": "object", "properties": {"path": {"type": "string"}}}],
        "turns": [["user", "What is in \u{201c}a\u{201d}?"], ["assistant", "Let me look."], ["call", "c1", "Read", {"path": "a"}],
            ["result", "c1", "one"], ["user", "And b?"]]});
    for upstream in DIALECTS {
        let write = match upstream {
            "chat" => chat_upstream,
            "messages" => messages_upstream,
            _ => responses_upstream,
        };
        let server = Scripted::start(move |_, _| Act::AnswerTo(write)).await;
        let gateway =
            Launch::new(policy_of(&[server.addr], &format!("    speaks: [{upstream}]\n"))).start().await;
        for client in DIALECTS {
            for is_stream in [false, true] {
                let pair = format!("{client} before {upstream}, stream {is_stream}");
                let got = gateway.post(path(client), request(client, is_stream).to_string()).await;
                assert_eq!(got.status, 200, "{pair}: {}", got.text);
                let seen = server.requests().pop().unwrap();
                assert!(seen.head.starts_with(&format!("POST {} ", path(upstream))), "{pair}: {}", seen.head);
                let sent: Value = serde_json::from_slice(&seen.body).unwrap();
                assert_eq!(asked(upstream, &sent), expected, "{pair}");
                let got = Got::read(client, &got.text, is_stream);
                let call = ("c2".to_owned(), "Read".to_owned(), "{\"path\":\"b\"}".to_owned());
                let told = Got {
                    reasoning: "Hm.".to_owned(),
                    text: "Done.".to_owned(),
                    call,
                    finish: "tool_calls".to_owned(),
                    usage: [30, 20, 12],
                };
                assert_eq!(got, told, "{pair}");
            }
        }
    }
}

async fn before(server: &Scripted, speaks: &str) -> Gateway {
    Launch::new(policy_of(&[server.addr], &format!("    speaks: [{speaks}]\n"))).start().await
}

#[tokio::test]
async fn an_upstreams_error_in_a_stream_is_told_in_its_own_words_in_every_dialect() {
    let flat =
        json!({"type": "error", "code": "server_error", "message": "The engine fell over.", "param": null});
    let failed = json!({"type": "response.failed", "response": {"error": {"code": "server_error", "message": "The engine fell over."}}});
    for (name, event) in [("error", flat), ("response.failed", failed)] {
        let body = stream(&[(Some(name), event)], false);
        let server = Scripted::start(move |_, _| Act::Answer(body.clone())).await;
        let gateway = before(&server, "responses").await;
        for client in ["chat", "messages"] {
            let got = gateway.post(path(client), request(client, true).to_string()).await;
            assert!(got.text.contains("The engine fell over."), "{client}: {}", got.text);
        }
    }
}

#[tokio::test]
async fn the_tools_that_may_be_called_are_told_as_each_upstream_can_be() {
    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": {}}});
    let named = json!({"type": "function", "function": {"name": "b"}});
    let chat = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "tools": [tool("a"), tool("b")],
        "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [named]}}});
    let flat = |name: &str| json!({"type": "function", "name": name, "parameters": {}});
    let response = json!({"model": "m", "input": "hi", "tools": [flat("a"), flat("b")],
        "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "b"}]}});
    let sent = async |speaks: &'static str, client: &str, body: &Value| -> Value {
        let write = if speaks == "messages" { messages_upstream } else { responses_upstream };
        let write = if speaks == "chat" { chat_upstream } else { write };
        let server = Scripted::start(move |_, _| Act::AnswerTo(write)).await;
        let gateway = before(&server, speaks).await;
        let got = gateway.post(path(client), body.to_string()).await;
        assert_eq!(got.status, 200, "{}", got.text);
        serde_json::from_slice(&server.requests().pop().unwrap().body).unwrap()
    };
    let to_messages = sent("messages", "chat", &chat).await;
    assert_eq!(
        (&to_messages["tools"][0]["name"], to_messages["tools"].as_array().unwrap().len()),
        (&json!("b"), 1)
    );
    assert_eq!(to_messages["tool_choice"], json!({"type": "any"}));
    let to_responses = sent("responses", "chat", &chat).await;
    assert_eq!(to_responses["tool_choice"], response["tool_choice"]);
    assert_eq!(to_responses["tools"].as_array().unwrap().len(), 2);
    let to_chat = sent("chat", "responses", &response).await;
    assert_eq!((&to_chat["tools"], &to_chat["tool_choice"]), (&json!([tool("b")]), &json!("required")));
}

#[tokio::test]
async fn how_probable_tokens_were_is_told_both_ways() {
    let logged = json!({"token": "Hi", "logprob": -0.25, "bytes": [72, 105], "top_logprobs": []});
    let choice = json!({"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"},
        "logprobs": {"content": [logged]}});
    let whole = document(&json!({"id": "chatcmpl-1", "created": 5, "choices": [choice]}));
    let mut piece = choice.clone();
    piece["delta"] = piece["message"].take();
    piece.as_object_mut().unwrap().remove("message");
    let chunks = stream(&[(None, json!({"id": "chatcmpl-1", "created": 5, "choices": [piece]}))], true);
    let server =
        Scripted::start(move |_, at| Act::Answer(if at == 0 { whole.clone() } else { chunks.clone() })).await;
    let gateway = before(&server, "chat").await;
    let mut body =
        json!({"model": "m", "input": "hi", "include": ["message.output_text.logprobs"], "top_logprobs": 2});
    let got = gateway.post("/v1/responses", body.to_string()).await.json();
    let sent: Value = serde_json::from_slice(&server.requests().pop().unwrap().body).unwrap();
    assert_eq!((&sent["logprobs"], &sent["top_logprobs"]), (&json!(true), &json!(2)));
    assert_eq!(got["output"][0]["content"][0]["logprobs"], json!([logged]), "{got}");
    body["stream"] = true.into();
    let events = data(&gateway.post("/v1/responses", body.to_string()).await.text);
    let of = |name: &str| events.iter().find(|event| event["type"] == name).unwrap()["logprobs"].clone();
    assert_eq!(
        [of("response.output_text.delta"), of("response.output_text.done")],
        [json!([logged]), json!([logged])]
    );
    let last = &events.last().unwrap()["response"]["output"][0]["content"][0];
    assert_eq!(last["logprobs"], json!([logged]));

    let said =
        json!({"type": "message", "content": [{"type": "output_text", "text": "Hi", "logprobs": [logged]}]});
    let response = json!({"id": "resp_1", "object": "response", "status": "completed", "output": [said]});
    let whole = document(&response);
    let server = Scripted::start(move |_, _| Act::Answer(whole.clone())).await;
    let gateway = before(&server, "responses").await;
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "logprobs": true, "top_logprobs": 2});
    let got = gateway.post("/v1/chat/completions", body.to_string()).await.json();
    assert_eq!(got["choices"][0]["logprobs"]["content"], json!([logged]), "{got}");
    let sent: Value = serde_json::from_slice(&server.requests().pop().unwrap().body).unwrap();
    assert_eq!(
        (&sent["include"], &sent["top_logprobs"]),
        (&json!(["message.output_text.logprobs"]), &json!(2))
    );
}

#[tokio::test]
async fn both_versions_of_anthropics_api_pass_whatever_is_added_to_requests() {
    const MESSAGE: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"Hi"}],"stop_reason":"end_turn","usage":{"input_tokens":3,"output_tokens":1}}"#;
    const CHAT: &str = r#"{"id":"1","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#;
    let plugins = "decisions: [{name: all, model: m, applies_to: all, plugins: {params: {max_tokens: 50}, system_prompt: {text: Be brief.}}}]\n";
    let sampling = |body: &Value| ["temperature", "top_p", "top_k"].map(|name| body[name].clone());
    for (speaks, said) in [("messages", MESSAGE), ("chat", CHAT)] {
        let upstream = Scripted::start(move |_, _| Act::Answer(answer("200 OK", said))).await;
        let policy = policy_of(&[upstream.addr], &format!("    speaks: [{speaks}]\n")) + plugins;
        let gateway = Launch::new(policy).start().await;
        let plain = json!({"model": "m", "max_tokens": 200, "messages": [{"role": "user", "content": "hi"}]});
        let mut sampled = plain.clone();
        sampled["temperature"] = json!(0.5);
        for (path, version, body, sent) in [
            ("/v1/messages", Some("2026-10-21"), &plain, "2026-10-21"),
            ("/v1/messages", Some("2023-06-01"), &sampled, "2023-06-01"),
            ("/v1/chat/completions", None, &plain, "2023-06-01"),
            ("/v1/chat/completions", None, &sampled, "2023-06-01"),
        ] {
            let mut request = client().post(gateway.url(path)).body(body.to_string());
            if let Some(version) = version {
                request = request.header("anthropic-version", version);
            }
            let got = Answer::of(request.send().await.unwrap()).await;
            assert_eq!(got.status, 200, "{speaks} {path} {version:?}: {}", got.text);
            let seen = upstream.requests().pop().unwrap();
            let asked: Value = serde_json::from_slice(&seen.body).unwrap();
            assert_eq!(sampling(&asked), sampling(body), "{speaks} {path} {version:?}: nothing is added");
            let most = ["max_tokens", "max_completion_tokens"]
                .map(|name| asked[name].as_u64())
                .into_iter()
                .flatten()
                .max();
            assert_eq!(most, Some(50), "{asked}");
            if speaks == "messages" {
                assert_eq!(seen.header("anthropic-version"), sent, "{path} {version:?}");
            }
        }
    }
}
