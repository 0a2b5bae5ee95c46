//! Clients of Anthropic's Messages and of OpenAI's Responses before an upstream that speaks Chat Completions alone.

use crate::harness::{Answer, Gateway, Launch, client, policy_of, sim};
use crate::raw::{Act, Scripted, answer};
use serde_json::{Value, json};

/// A gateway before an upstream that answers every request so.
async fn before(upstream: &Scripted) -> Gateway {
    Launch::new(policy_of(&[upstream.addr], "    speaks: [chat]\n")).start().await
}

/// An upstream that answers with a JSON document.
async fn answering(status: &'static str, body: Value) -> Scripted {
    let body = body.to_string();
    Scripted::start(move |_, _| Act::Answer(answer(status, &body))).await
}

/// An upstream that answers with a stream of these events, and `[DONE]`.
async fn streaming(events: Vec<Value>) -> Scripted {
    let events: Vec<String> = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    let body = events.concat() + "data: [DONE]\n\n";
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n";
    let whole = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    Scripted::start(move |_, _| Act::Answer(whole.clone().into_bytes())).await
}

/// The one request that came, and its path.
fn asked(upstream: &Scripted) -> (String, Value) {
    let mut requests = upstream.requests();
    assert_eq!(requests.len(), 1);
    let request = requests.remove(0);
    let path = request.head.split(' ').nth(1).unwrap().to_owned();
    let version = if path == "/v1/messages" { "2023-06-01" } else { "" };
    assert_eq!(request.header("anthropic-version"), version);
    (path, serde_json::from_slice(&request.body).unwrap())
}

/// Names and data of a stream's events, in order.
fn events(answer: &Answer) -> Vec<(String, Value)> {
    let is_stream = answer.header("content-type").starts_with("text/event-stream");
    assert!(answer.status == 200 && is_stream, "{}", answer.text);
    let read = |event: &str| {
        let (name, data) = event.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["type"], name);
        (name.to_owned(), data)
    };
    answer.text.strip_suffix("\n\n").unwrap().split("\n\n").map(read).collect()
}

async fn message(gateway: &Gateway, body: &Value) -> Answer {
    let request =
        client().post(gateway.url("/v1/messages?beta=true")).header("content-type", "application/json");
    let request = request.header("anthropic-version", "2023-06-01").header("anthropic-beta", "a,b");
    Answer::of(request.body(body.to_string()).send().await.unwrap()).await
}

fn chunk(delta: &Value, finish: Option<&str>) -> Value {
    json!({"id": "chatcmpl-7", "object": "chat.completion.chunk", "created": 5, "model": "up",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "usage": null})
}

fn usage_chunk() -> Value {
    let usage = json!({"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42,
        "prompt_tokens_details": {"cached_tokens": 20}});
    json!({"id": "chatcmpl-7", "object": "chat.completion.chunk", "created": 5, "model": "up", "choices": [],
        "usage": usage})
}

fn tool_chunk(index: u32, id: Option<&str>, name: Option<&str>, arguments: &str) -> Value {
    let mut call = json!({"index": index, "function": {"arguments": arguments}});
    if let (Some(id), Some(name)) = (id, name) {
        call["id"] = id.into();
        call["type"] = "function".into();
        call["function"]["name"] = name.into();
    }
    chunk(&json!({"tool_calls": [call]}), None)
}

#[tokio::test]
async fn a_conversation_of_claude_code_reaches_a_chat_upstream() {
    let reply = json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 5, "model": "up", "choices": [
        {"index": 0, "finish_reason": "tool_calls", "message": {"role": "assistant", "content": "Let me look.",
            "reasoning": "Where?", "tool_calls": [{"id": "call_1", "type": "function",
                "function": {"name": "Read", "arguments": "{\"path\": \"a\\u00e9\"}"}}]}}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 9, "total_tokens": 109,
            "prompt_tokens_details": {"cached_tokens": 64, "created_cache_tokens": 16}}});
    let upstream = answering("200 OK", reply).await;
    let gateway = before(&upstream).await;
    let ephemeral = json!({"type": "ephemeral"});
    let image =
        json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAA="}});
    let body = json!({
        "model": "m", "max_tokens": 64, "temperature": 0.5, "stop_sequences": ["END"], "metadata": {"user_id": "u"},
        "system": [
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=2; cch=ab12;"},
            {"type": "text", "text": "You are ", "cache_control": ephemeral},
            {"type": "text", "text": "\u{201c}Claude Code\u{201d}."}],
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "s"}, {"type": "redacted_thinking", "data": "x"},
                {"type": "text", "text": "Both:"},
                {"type": "tool_use", "id": "t1", "name": "Read", "input": {"path": "a\"b"}},
                {"type": "tool_use", "id": "t2", "name": "List", "input": {}}]},
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [
                    {"type": "text", "text": "one"}, {"type": "text", "text": "two"}, image]},
                {"type": "tool_result", "tool_use_id": "t2", "content": "three", "is_error": false},
                {"type": "text", "text": "Go on.", "cache_control": ephemeral}]}],
        "tools": [{"name": "Read", "description": "reads", "input_schema": {"type": "object"}, "cache_control": ephemeral}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
        "thinking": {"type": "enabled", "budget_tokens": 2048}, "output_config": {"effort": "low"}});
    let got = message(&gateway, &body).await;
    let (path, sent) = asked(&upstream);
    assert_eq!(path, "/v1/chat/completions");
    let image_url = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAA="}});
    let call = |id: &str, name: &str, arguments: &str| {
        json!({"id": id, "type": "function",
        "function": {"name": name, "arguments": arguments}})
    };
    let parameters = json!({"name": "Read", "description": "reads", "parameters": {"type": "object"}});
    assert_eq!(
        sent,
        json!({
        "model": "m", "max_tokens": 64, "temperature": 0.5, "stop": ["END"],
        "messages": [
            {"role": "system", "content": "You are \u{201c}Claude Code\u{201d}."},
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "Both:", "reasoning": "Hm.", "tool_calls": [
                call("t1", "Read", "{\"path\":\"a\\\"b\"}"), call("t2", "List", "{}")]},
            {"role": "system", "content": "Be brief."},
            {"role": "tool", "tool_call_id": "t1", "content": "one\ntwo"},
            {"role": "tool", "tool_call_id": "t2", "content": "three"},
            {"role": "user", "content": [image_url]},
            {"role": "user", "content": "Go on."}],
        "tools": [{"type": "function", "function": parameters}],
        "tool_choice": "required", "parallel_tool_calls": false,
        "thinking_token_budget": 2048, "reasoning_effort": "low"})
    );
    assert_eq!(
        got.json(),
        json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "m",
        "content": [
            {"type": "thinking", "thinking": "Where?", "signature": "1"}, {"type": "text", "text": "Let me look."},
            {"type": "tool_use", "id": "call_1", "name": "Read", "input": {"path": "a\u{e9}"}}],
        "stop_reason": "tool_use", "stop_sequence": null,
        "usage": {"input_tokens": 20, "cache_creation_input_tokens": 16, "cache_read_input_tokens": 64,
            "output_tokens": 9}})
    );
    assert_eq!(got.header("request-id"), got.header("x-request-id"));
    let line = gateway.line(got.header("x-request-id")).await;
    assert_eq!((&line["prompt_tokens"], &line["cached_tokens"]), (&json!(100), &json!(64)), "{line}");
}

#[tokio::test]
async fn a_stream_of_a_chat_becomes_the_events_of_a_message() {
    let upstream = streaming(vec![
        chunk(&json!({"role": "assistant", "content": ""}), None),
        chunk(&json!({"reasoning_content": "Hm"}), None),
        chunk(&json!({"reasoning_content": "."}), None),
        chunk(&json!({"content": "Loo\"k"}), None),
        tool_chunk(0, Some("c0"), Some("Read"), ""),
        tool_chunk(0, None, None, "{\"a\":"),
        chunk(&json!({"content": "\nAside."}), None),
        tool_chunk(0, None, None, "1}"),
        tool_chunk(1, Some("c1"), Some("List"), "{}"),
        chunk(&json!({}), Some("tool_calls")),
        usage_chunk(),
    ])
    .await;
    let gateway = before(&upstream).await;
    let body = json!({"model": "m", "max_tokens": 9, "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let got = message(&gateway, &body).await;
    let (_, sent) = asked(&upstream);
    let options = json!({"include_usage": true, "continuous_usage_stats": true});
    assert_eq!((&sent["stream"], &sent["stream_options"]), (&json!(true), &options));
    let events = events(&got);
    let (first, last) = (&events[0].1, &events[events.len() - 2].1);
    assert_eq!(first["message"]["content"], json!([]));
    assert!(first["message"]["usage"]["input_tokens"].as_u64().unwrap() > 0);
    let mut blocks: Vec<(Value, String)> = Vec::new();
    for (name, data) in &events[1..events.len() - 2] {
        let index = data["index"].as_u64().unwrap() as usize;
        match name.as_str() {
            "content_block_start" => {
                assert_eq!(index, blocks.len());
                blocks.push((data["content_block"].clone(), String::new()));
            }
            "content_block_delta" => {
                let grown =
                    ["text", "thinking", "partial_json"].iter().find_map(|key| data["delta"][key].as_str());
                blocks[index].1.push_str(grown.unwrap_or_default());
            }
            other => assert_eq!((other, index + 1), ("content_block_stop", blocks.len())),
        }
    }
    let shown: Vec<_> = blocks
        .iter()
        .map(|(block, text)| {
            (block["type"].as_str().unwrap(), block["id"].as_str().unwrap_or(""), text.as_str())
        })
        .collect();
    let expected = [
        ("thinking", "", "Hm."),
        ("text", "", "Loo\"k"),
        ("tool_use", "c0", "{\"a\":1}"),
        ("text", "", "\nAside."),
        ("tool_use", "c1", "{}"),
    ];
    assert_eq!(shown, expected);
    assert_eq!(last["delta"], json!({"stop_reason": "tool_use", "stop_sequence": null}));
    assert_eq!(
        last["usage"],
        json!({"input_tokens": 10, "cache_read_input_tokens": 20, "output_tokens": 12})
    );
    assert_eq!(events.last().unwrap().0, "message_stop");
}

#[tokio::test]
async fn a_chat_upstreams_errors_are_told_in_the_clients_shape() {
    let said =
        json!({"error": {"message": "maximum context length is 10", "type": "BadRequestError", "code": 400}});
    for (status, expected, kind) in [
        ("400 Bad Request", 400, "invalid_request_error"),
        ("503 Service Unavailable", 529, "overloaded_error"),
    ] {
        let upstream = answering(status, said.clone()).await;
        let policy = policy_of(&[upstream.addr], "    speaks: [chat]\n") + "retry: {attempts: 1}\n";
        let gateway = Launch::new(policy).start().await;
        let body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]});
        let got = message(&gateway, &body).await;
        let error = json!({"type": kind, "message": "maximum context length is 10"});
        let id = got.header("request-id").to_owned();
        assert_eq!(got.json(), json!({"type": "error", "error": error, "request_id": id}));
        assert_eq!(got.status, expected);
    }
    let upstream = streaming(vec![
        chunk(&json!({"content": "He"}), None),
        json!({"error": {"message": "out of memory", "code": 500}}),
    ])
    .await;
    let gateway = before(&upstream).await;
    let body = json!({"model": "m", "max_tokens": 9, "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let got = message(&gateway, &body).await;
    let last = events(&got).pop().unwrap();
    assert_eq!((last.0.as_str(), &last.1["error"]["message"]), ("error", &json!("out of memory")));
}

#[tokio::test]
async fn what_a_chat_cannot_honour_is_refused_with_its_place() {
    let upstream = answering("200 OK", json!({})).await;
    let gateway = before(&upstream).await;
    let with = |key: &str, value: Value| {
        let mut body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], "input": "hi"});
        body[key] = value;
        body
    };
    let server_tool = json!([{"type": "web_search_20250305", "name": "web_search"}]);
    let unknown = json!([{"role": "user", "content": [{"type": "container_upload", "file_id": "f"}]}]);
    for (body, place) in [
        (with("tools", server_tool), "tools.0.type"),
        (with("messages", unknown), "messages.0.content.0"),
        (with("container", json!("c")), "container"),
    ] {
        let got = message(&gateway, &body).await;
        assert_eq!((got.status, &got.json()["error"]["type"]), (400, &json!("invalid_request_error")));
        assert!(got.text.contains(&format!("`{place}`")), "{}", got.text);
    }
    for (body, place) in [
        (with("conversation", json!("conv_1")), "conversation"),
        (with("background", json!(true)), "background"),
        (with("tools", json!([{"type": "file_search"}])), "tools.0"),
        (with("input", json!([{"type": "item_reference", "id": "rs_1"}])), "input.0"),
    ] {
        let got = gateway.post("/v1/responses", body.to_string()).await;
        let error = &got.json()["error"];
        assert_eq!((got.status, &error["param"]), (400, &json!(place)), "{}", got.text);
        assert_eq!(error["code"], "unsupported_parameter");
    }
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn tokens_are_counted_by_the_engines_tokenizer() {
    let upstream = answering("200 OK", json!({"count": 17, "max_model_len": 100, "tokens": [1]})).await;
    let gateway = before(&upstream).await;
    let body = json!({"model": "m", "system": "S", "messages": [{"role": "user", "content": "hi"}]});
    let got = gateway.post("/v1/messages/count_tokens", body.to_string()).await;
    assert_eq!((got.status, got.json()), (200, json!({"input_tokens": 17})));
    let (path, sent) = asked(&upstream);
    let messages = json!([{"role": "system", "content": "S"}, {"role": "user", "content": "hi"}]);
    assert_eq!((path.as_str(), sent), ("/tokenize", json!({"model": "m", "messages": messages})));
}

#[tokio::test]
async fn a_turn_of_codex_reaches_a_chat_upstream_and_comes_back() {
    let upstream = streaming(vec![
        chunk(&json!({"role": "assistant", "reasoning": "Hm."}), None),
        chunk(&json!({"content": "On "}), None),
        chunk(&json!({"content": "it."}), None),
        tool_chunk(0, Some("c0"), Some("mcp__git__log"), "{\"n\":"),
        tool_chunk(0, None, None, "2}"),
        tool_chunk(1, Some("c1"), Some("apply_patch"), "{\"input\":\"*** Begin\\n\"}"),
        chunk(&json!({}), Some("tool_calls")),
        usage_chunk(),
    ])
    .await;
    let gateway = before(&upstream).await;
    let grammar = json!({"type": "grammar", "syntax": "lark", "definition": "start: X"});
    let body = json!({
        "model": "m", "stream": true, "store": false, "include": ["reasoning.encrypted_content"],
        "instructions": "You are Codex.", "reasoning": {"effort": "medium", "summary": "auto"},
        "input": [
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Sandboxed."}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "R"}],
                "encrypted_content": null},
            {"type": "function_call", "call_id": "a", "namespace": "mcp__git__", "name": "log", "arguments": "{}"},
            {"type": "custom_tool_call", "call_id": "b", "name": "apply_patch", "input": "***\n"},
            {"type": "function_call_output", "call_id": "a", "output": "done"},
            {"type": "custom_tool_call_output", "call_id": "b", "output": "ok"}],
        "tools": [
            {"type": "namespace", "name": "mcp__git__", "description": "", "tools": [
                {"type": "function", "name": "log", "parameters": {"type": "object"}, "strict": false}]},
            {"type": "custom", "name": "apply_patch", "description": "Patches.", "format": grammar}],
        "tool_choice": "auto", "parallel_tool_calls": true, "max_output_tokens": 50, "prompt_cache_key": "k",
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": true}}});
    let got = gateway.post("/v1/responses", body.to_string()).await;
    let (path, sent) = asked(&upstream);
    assert_eq!(path, "/v1/chat/completions");
    let call = |id: &str, name: &str, arguments: &str| {
        json!({"id": id, "type": "function",
        "function": {"name": name, "arguments": arguments}})
    };
    assert_eq!(
        sent["messages"],
        json!([
        {"role": "system", "content": "You are Codex."},
        {"role": "system", "content": "Sandboxed."},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": null, "reasoning": "R", "tool_calls": [
            call("a", "mcp__git__log", "{}"), call("b", "apply_patch", "{\"input\":\"***\\n\"}")]},
        {"role": "tool", "tool_call_id": "a", "content": "done"},
        {"role": "tool", "tool_call_id": "b", "content": "ok"}])
    );
    assert_eq!((&sent["max_tokens"], &sent["reasoning_effort"]), (&json!(50), &json!("medium")));
    assert_eq!(sent["tools"][0]["function"]["name"], "mcp__git__log");
    assert!(sent["tools"][1]["function"]["description"].as_str().unwrap().contains("start: X"));
    assert_eq!(sent["response_format"]["json_schema"]["name"], "n");
    for gone in ["store", "include", "input", "instructions", "prompt_cache_key", "text"] {
        assert!(sent.get(gone).is_none(), "{gone}");
    }
    let events = events(&got);
    for (number, (_, data)) in events.iter().enumerate() {
        assert_eq!(data["sequence_number"], number);
    }
    let (name, last) = events.last().unwrap();
    assert_eq!(name, "response.completed");
    let response = &last["response"];
    assert_eq!(
        (&response["id"], &response["model"], &response["store"]),
        (&json!("resp_7"), &json!("m"), &json!(false))
    );
    let text = json!({"type": "output_text", "text": "On it.", "annotations": [], "logprobs": []});
    assert_eq!(
        response["output"],
        json!([
        {"type": "reasoning", "id": "rs_7", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}],
            "status": "completed"},
        {"type": "message", "id": "msg_7_1", "status": "completed", "role": "assistant", "content": [text]},
        {"type": "function_call", "id": "fc_7_0", "status": "completed", "call_id": "c0", "name": "log",
            "namespace": "mcp__git__", "arguments": "{\"n\":2}"},
        {"type": "custom_tool_call", "id": "ctc_7_1", "status": "completed", "call_id": "c1", "name": "apply_patch",
            "input": "*** Begin\n"}])
    );
    assert_eq!(response["usage"]["input_tokens_details"]["cached_tokens"], 20);
    let done = events.iter().filter(|(name, _)| name == "response.output_item.done");
    let items: Vec<&Value> = done.map(|(_, data)| &data["item"]).collect();
    assert_eq!(json!(items), response["output"], "the last event says what the others have said");
}

#[tokio::test]
async fn a_response_that_is_cut_short_says_why() {
    let reply = json!({"id": "chatcmpl-2", "object": "chat.completion", "created": 5, "model": "up", "choices": [
        {"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": "On"}}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}});
    let upstream = answering("200 OK", reply).await;
    let gateway = before(&upstream).await;
    let got = gateway.post("/v1/responses", json!({"model": "m", "input": "hi"}).to_string()).await.json();
    assert_eq!(
        (&got["status"], &got["incomplete_details"]["reason"]),
        (&json!("incomplete"), &json!("max_output_tokens"))
    );
    assert_eq!(got["output"][0]["content"][0]["text"], "On");
    assert_eq!(got["usage"]["total_tokens"], 4);
    let (_, sent) = asked(&upstream);
    assert_eq!(sent, json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]}));
}

#[tokio::test]
async fn where_the_upstream_speaks_the_clients_api_nothing_is_touched() {
    let reply = json!({"anything": ["at", "all"]});
    let upstream = answering("200 OK", reply.clone()).await;
    let gateway = Launch::new(policy_of(&[upstream.addr], "    speaks: [chat, messages]\n")).start().await;
    let body = "{ \"model\":\"m\", \"messages\" : [ ],\"max_tokens\":1}";
    let request =
        client().post(gateway.url("/v1/messages?beta=true")).header("anthropic-beta", "a,b").body(body);
    let got = Answer::of(request.send().await.unwrap()).await;
    assert_eq!(got.json(), reply);
    let requests = upstream.requests();
    assert_eq!(requests[0].body, body.as_bytes());
    assert_eq!(requests[0].header("anthropic-beta"), "a,b");
    assert!(requests[0].head.starts_with("POST /v1/messages?beta=true "), "{}", requests[0].head);
}

#[tokio::test]
async fn an_answer_that_is_none_is_an_error() {
    for body in [json!({"object": "list"}), json!({"choices": []})] {
        let upstream = answering("200 OK", body).await;
        let gateway = before(&upstream).await;
        let got = gateway.post("/v1/responses", json!({"model": "m", "input": "hi"}).to_string()).await;
        assert_eq!((got.status, &got.json()["error"]["code"]), (502, &json!("answer_untranslatable")));
    }
}

/// A chat of all that Messages have too.
fn chat_body(stream: bool) -> Value {
    let call = json!({"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}});
    let function = json!({"name": "f", "description": "d", "parameters": {"type": "object"}});
    let image = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAA="}});
    json!({
        "model": "m", "stream": stream, "stream_options": {"include_usage": true}, "stop": "END", "temperature": 0.5,
        "messages": [
            {"role": "system", "content": "S"},
            {"role": "user", "content": [{"type": "text", "text": "look"}, image]},
            {"role": "assistant", "content": null, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "r"},
            {"role": "user", "content": "go"}],
        "tools": [{"type": "function", "function": function}], "tool_choice": "required",
        "parallel_tool_calls": false, "reasoning_effort": "low"})
}

#[tokio::test]
async fn a_chat_reaches_an_upstream_that_speaks_messages() {
    let reply = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "up", "stop_reason": "tool_use",
        "content": [{"type": "thinking", "thinking": "Hm", "signature": "s"}, {"type": "text", "text": "So:"},
            {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 2}}],
        "usage": {"input_tokens": 5, "cache_read_input_tokens": 7, "output_tokens": 3}});
    let upstream = answering("200 OK", reply).await;
    let gateway = Launch::new(policy_of(&[upstream.addr], "    speaks: [messages]\n")).start().await;
    let got = gateway.post("/v1/chat/completions", chat_body(false).to_string()).await;
    let (path, sent) = asked(&upstream);
    assert_eq!(path, "/v1/messages");
    let text = |text: &str| json!({"type": "text", "text": text});
    let source = json!({"type": "base64", "media_type": "image/png", "data": "AAA="});
    let tool_use = json!({"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}});
    let result = json!({"type": "tool_result", "tool_use_id": "c1", "content": [text("r")]});
    assert_eq!(
        sent,
        json!({
        "max_tokens": 4096, "model": "m", "stop_sequences": ["END"], "temperature": 0.5, "system": [text("S")],
        "messages": [
            {"role": "user", "content": [text("look"), {"type": "image", "source": source}]},
            {"role": "assistant", "content": [tool_use]},
            {"role": "user", "content": [result, text("go")]}],
        "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": true}, "output_config": {"effort": "low"}})
    );
    let got = got.json();
    let call = json!({"id": "t1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":2}"}});
    assert_eq!(
        got["choices"][0]["message"],
        json!({"role": "assistant", "content": "So:", "reasoning_content": "Hm",
        "tool_calls": [call], "refusal": null})
    );
    assert_eq!(
        (&got["id"], &got["choices"][0]["finish_reason"]),
        (&json!("chatcmpl-1"), &json!("tool_calls"))
    );
    assert_eq!((&got["usage"]["prompt_tokens"], &got["usage"]["total_tokens"]), (&json!(12), &json!(15)));
    let refused =
        gateway.post("/v1/chat/completions", json!({"model": "m", "messages": [], "n": 2}).to_string()).await;
    assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!("n")));
}

#[tokio::test]
async fn a_stream_of_a_message_becomes_chunks_of_a_chat() {
    let usage = json!({"input_tokens": 5, "output_tokens": 1});
    let message =
        json!({"id": "msg_1", "type": "message", "role": "assistant", "content": [], "usage": usage});
    let tool = json!({"type": "tool_use", "id": "t1", "name": "f", "input": {}});
    let events = [
        json!({"type": "message_start", "message": message}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "ping"}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "So"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "content_block_start", "index": 1, "content_block": tool}),
        json!({"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{}"}}),
        json!({"type": "content_block_stop", "index": 1}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}}),
        json!({"type": "message_stop"}),
    ];
    let named = |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
    let body = events.iter().map(named).collect::<Vec<_>>().concat();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n";
    let whole = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    let upstream = Scripted::start(move |_, _| Act::Answer(whole.clone().into_bytes())).await;
    let gateway = Launch::new(policy_of(&[upstream.addr], "    speaks: [messages]\n")).start().await;
    let got = gateway.post("/v1/chat/completions", chat_body(true).to_string()).await;
    let chunks = got.text.strip_suffix("data: [DONE]\n\n").unwrap_or_else(|| panic!("{}", got.text));
    let chunks: Vec<Value> = chunks
        .split_terminator("\n\n")
        .map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap())
        .collect();
    let delta = |at: usize| &chunks[at]["choices"][0]["delta"];
    assert_eq!(delta(0), &json!({"role": "assistant", "content": ""}));
    assert_eq!(delta(1), &json!({"content": "So"}));
    assert_eq!(delta(2)["tool_calls"][0]["function"]["name"], "f");
    assert_eq!(delta(3), &json!({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}));
    assert_eq!(chunks[4]["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!((&chunks[5]["usage"]["completion_tokens"], chunks.len()), (&json!(9), 6));
}

/// The text of a message or a response, whole or as a stream.
fn text_of(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text);
    if answer.header("content-type") == "application/json" {
        let whole = answer.json();
        let said = whole["content"][0]["text"].as_str().or(whole["output"][0]["content"][0]["text"].as_str());
        return said.unwrap().to_owned();
    }
    let pieces = events(answer).into_iter().filter_map(|(name, data)| match name.as_str() {
        "content_block_delta" => data["delta"]["text"].as_str().map(str::to_owned),
        "response.output_text.delta" => data["delta"].as_str().map(str::to_owned),
        _ => None,
    });
    pieces.collect()
}

#[tokio::test]
async fn an_engine_says_the_same_in_every_dialect_translated_or_not() {
    let engine = sim("m").await;
    let translating = Launch::new(policy_of(&[engine.addr()], "    speaks: [chat]\n")).start().await;
    let passing = Launch::new(policy_of(&[engine.addr()], "")).start().await;
    let said = translating.chat("m", "hi there").await.json();
    let said = said["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    for stream in [false, true] {
        let user = json!([{"role": "user", "content": "hi there"}]);
        let message = json!({"model": "m", "max_tokens": 8, "stream": stream, "messages": user});
        let response = json!({"model": "m", "max_output_tokens": 8, "stream": stream, "input": user});
        for gateway in [&translating, &passing] {
            for (path, body) in [("/v1/messages", &message), ("/v1/responses", &response)] {
                let answer = gateway.post(path, body.to_string()).await;
                assert_eq!(text_of(&answer), said, "{path}, {stream}");
            }
        }
    }
    let count = json!({"model": "m", "messages": [{"role": "user", "content": "hi there"}]});
    let counts =
        [&translating, &passing].map(|gateway| gateway.post("/v1/messages/count_tokens", count.to_string()));
    let [first, second] = counts;
    let (first, second) = (first.await.json(), second.await.json());
    assert_eq!(first, second);
    assert!(first["input_tokens"].as_u64().unwrap() > 0, "{first}");
}
