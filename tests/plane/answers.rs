//! Answers that a guard can read, and those that it can't: none goes out unread where that is not allowed, none is
//! damaged, and each error is one of the API that was asked.

use crate::harness::*;
use crate::raw::{Act, Scripted};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

const CHAT: &str = "/v1/chat/completions";
const ASKED: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
const MASKS: &str = "guards: {answer: {words: [bluebird], on_words: mask, on_unknown: reject}}\n";

/// An upstream whose answer a test changes as it goes.
struct Stage {
    gateway: Gateway,
    upstream: Scripted,
    answer: Arc<Mutex<Vec<u8>>>,
}

impl Stage {
    async fn new(more: &str) -> Self {
        Self::with_limits(more, "").await
    }

    async fn with_limits(more: &str, limits: &str) -> Self {
        let answer = Arc::new(Mutex::new(Vec::new()));
        let given = Arc::clone(&answer);
        let upstream = Scripted::start(move |_, _| Act::Answer(given.lock().unwrap().clone())).await;
        let policy = policy_of(&[upstream.addr], "    ejection: {consecutive_failures: 0}\n")
            + "retry: {attempts: 1}\nclassifier: {deadline: 30s}\n"
            + more;
        let server = format!("limits: {{{limits}}}\ndrain: {{delay: 0s}}\n");
        Self { gateway: Launch::new(policy).server(&server).start().await, upstream, answer }
    }

    /// Asks for an answer with this status, these further headers and this body.
    async fn ask(&self, path: &str, asked: &str, status: &str, headers: &str, body: &str) -> Answer {
        let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len());
        *self.answer.lock().unwrap() = (head + body).into_bytes();
        self.gateway.post(path, asked.to_owned()).await
    }

    async fn json(&self, path: &str, asked: &str, body: &Value) -> Answer {
        self.ask(path, asked, "200 OK", "content-type: application/json\r\n", &body.to_string()).await
    }
}

fn chat(content: &str) -> Value {
    json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [{"index": 0,
        "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}]})
}

/// Headers of answers that no guard can read.
const UNREADABLE: [&str; 8] = [
    "content-type: application/json\r\ncontent-encoding: gzip\r\n",
    "content-type: application/json\r\ncontent-encoding: br\r\n",
    "content-type: application/json\r\ncontent-encoding: zstd\r\n",
    "content-type: text/event-stream\r\ncontent-encoding: deflate\r\n",
    "content-type: text/plain\r\n",
    "content-type: application/x-ndjson\r\n",
    "content-type: audio/mpeg\r\n",
    "",
];

#[tokio::test]
async fn what_a_guard_cannot_read_does_not_go_out_where_the_policy_rejects() {
    let stage = Stage::new(MASKS).await;
    for headers in UNREADABLE {
        let body = chat("A bluebird sang.").to_string();
        let answer = stage.ask(CHAT, ASKED, "200 OK", headers, &body).await;
        assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (502, Some("answer_unjudged")));
        assert!(!answer.text.contains("bluebird"), "{headers}: {}", answer.text);
        let answer = stage.ask(CHAT, ASKED, "422 Unprocessable", headers, &body).await;
        assert_eq!(answer.status, 422, "{headers}: the status stays");
        assert!(!answer.text.contains("bluebird"), "{headers}: {}", answer.text);
    }
}

#[tokio::test]
async fn what_a_guard_cannot_read_goes_out_undamaged_where_the_policy_allows_it() {
    let stage = Stage::new(&MASKS.replace("reject", "allow")).await;
    for headers in UNREADABLE {
        let body = chat("A bluebird sang.").to_string();
        let answer = stage.ask(CHAT, ASKED, "200 OK", headers, &body).await;
        assert_eq!((answer.status, answer.text.as_str()), (200, body.as_str()), "{headers}");
        let line = stage.gateway.line(answer.header("x-request-id")).await;
        assert_eq!(line["unjudged"], json!([["answer", "unsupported"]]), "{line}");
    }
}

#[tokio::test]
async fn answers_that_are_held_back_count_among_the_bytes_that_are_held() {
    let limits = "max_body_bytes: 100000, max_buffered_bytes: 1000000";
    let stage = Stage::with_limits(MASKS, limits).await;
    let answer = stage.json(CHAT, ASKED, &chat(&"All is well. ".repeat(100_000))).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "1"), "{}", answer.text);
    assert_eq!(answer.json()["error"]["code"], "overloaded");
    let long = chat(&format!("{} bluebird", "All is well. ".repeat(10_000)));
    let answer = stage.json(CHAT, ASKED, &long).await;
    assert!(answer.status == 200 && answer.text.contains("[REDACTED]"), "what fits is judged");
    assert_eq!(stage.gateway.metric("signalbox_buffered_bytes", &[]).await, 0.0);
    let unguarded = Stage::with_limits("", limits).await;
    assert_eq!(
        unguarded.json(CHAT, ASKED, &chat(&"x".repeat(2_000_000))).await.status,
        200,
        "nothing is held"
    );
}

#[tokio::test]
async fn an_upstream_is_always_asked_for_what_can_be_read() {
    let stage = Stage::new("").await;
    for encoding in [None, Some("gzip, br"), Some("*")] {
        *stage.answer.lock().unwrap() = crate::raw::answer("200 OK", "{}");
        let request = client().post(stage.gateway.url(CHAT)).body(ASKED);
        let request =
            encoding.into_iter().fold(request, |request, value| request.header("accept-encoding", value));
        assert_eq!(request.send().await.unwrap().status(), 200);
        let seen = stage.upstream.requests().pop().unwrap();
        assert_eq!(seen.header("accept-encoding"), "identity", "{encoding:?}");
    }
}

#[tokio::test]
async fn an_upstreams_error_is_guarded_as_an_answer_is() {
    let stage = Stage::new(MASKS).await;
    let (json, body) =
        ("content-type: application/json\r\n", r#"{"error":{"message":"no bluebird","code":400}}"#);
    for status in ["400 Bad Request", "404 Not Found", "500 Internal Server Error"] {
        let answer = stage.ask(CHAT, ASKED, status, json, body).await;
        assert_eq!(answer.status.to_string(), status[..3]);
        assert_eq!(answer.json(), json!({"error": {"message": "no [REDACTED]", "code": 400}}), "{status}");
    }
    let retry = "content-type: text/plain\r\nretry-after: 7\r\n";
    let answer = stage.ask(CHAT, ASKED, "429 Too Many Requests", retry, "bluebird").await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, "7"), "{}", answer.text);
}

/// Whole answers with something under every name that a model or a tool writes to.
fn wholes() -> Vec<(&'static str, &'static str, Value)> {
    let message = |more: Value| {
        let mut answer = chat("");
        let message = answer["choices"][0]["message"].as_object_mut().unwrap();
        message.extend(more.as_object().unwrap().clone());
        answer
    };
    let custom = json!({"tool_calls": [{"id": "1", "type": "custom", "custom": {"name": "f", "input": "a bluebird"}}]});
    let cited = json!({"annotations": [{"type": "url_citation", "url_citation": {"title": "a bluebird"}}]});
    let spoken = json!({"audio": {"id": "a", "data": "Ymx1ZWJpcmQ=", "transcript": "a bluebird"}});
    let odd = json!({"odd": {"deep": [[{"deeper": [[["a bluebird"]]]}]]}});
    let mut beside = chat("");
    beside["citations"] = json!(["a bluebird"]);
    let blocks = json!([
        {"type": "tool_use", "id": "t", "name": "f", "input": {"name": "a bluebird", "list": [{"id": "a bluebird"}]}},
        {"type": "text", "text": "", "citations": [{"type": "char_location", "cited_text": "a bluebird"}]}]);
    let said = json!({"id": "m", "type": "message", "role": "assistant", "model": "m", "content": blocks,
        "stop_reason": "end_turn", "usage": {"input_tokens": 1, "output_tokens": 1}});
    let items = json!([
        {"type": "custom_tool_call", "id": "c", "call_id": "c", "name": "f", "input": "a bluebird"},
        {"type": "mcp_call", "id": "d", "name": "f", "arguments": "{}", "output": "a bluebird"},
        {"type": "web_search_call", "id": "w", "action": {"type": "search", "query": "a bluebird"}}]);
    let response = json!({"id": "r", "object": "response", "status": "completed", "output": items});
    let ask = r#"{"model":"m","input":"hi"}"#;
    vec![
        (CHAT, ASKED, message(custom)),
        (CHAT, ASKED, message(cited)),
        (CHAT, ASKED, message(spoken)),
        (CHAT, ASKED, message(odd)),
        (CHAT, ASKED, beside),
        (CHAT, ASKED, json!(["a bluebird", {"x": "a \u{62}luebird"}])),
        ("/v1/messages", ASKED, said),
        ("/v1/responses", ask, response),
        (
            "/v1/rerank",
            r#"{"model":"m","query":"q","documents":["d"]}"#,
            json!({"results": [{"index": 0, "document": {"text": "a bluebird"}}]}),
        ),
        (
            "/v1/images/generations",
            r#"{"model":"m","prompt":"p"}"#,
            json!({"created": 1, "data": [{"b64_json": "Ymx1ZWJpcmQ=", "revised_prompt": "a bluebird"}]}),
        ),
        ("/detokenize", r#"{"model":"m","tokens":[1]}"#, json!({"prompt": "a bluebird"})),
    ]
}

#[tokio::test]
async fn whatever_an_answer_says_is_read_under_whatever_name() {
    let stage = Stage::new(MASKS).await;
    for (path, asked, body) in wholes() {
        let answer = stage.json(path, asked, &body).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        let expected: Value =
            serde_json::from_str(&body.to_string().replace("bluebird", "[REDACTED]")).unwrap();
        assert_eq!(answer.json(), expected, "{path}");
    }
}

#[tokio::test]
async fn a_custom_tools_input_is_read_as_it_streams() {
    let stage = Stage::new(MASKS).await;
    let event = |input: &str| {
        let call = json!({"index": 0, "id": "1", "type": "custom", "custom": {"name": "f", "input": input}});
        format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}))
    };
    let stream = [event("a blue"), event("bird"), event(" sang"), "data: [DONE]\n\n".to_owned()].concat();
    let asked = ASKED.replace("\"m\",", "\"m\",\"stream\":true,");
    let answer = stage.ask(CHAT, &asked, "200 OK", "content-type: text/event-stream\r\n", &stream).await;
    assert!(answer.text.contains("[REDACTED]") && !answer.text.contains("bird"), "{}", answer.text);
    let events = answer.text.lines().filter_map(|line| line.strip_prefix("data: {"));
    for event in events {
        assert!(serde_json::from_str::<Value>(&format!("{{{event}")).is_ok(), "{event}");
    }
}

#[tokio::test]
async fn long_answers_of_other_apis_pass_whole() {
    let stage = Stage::new(MASKS).await;
    let vector: Vec<f64> = (0..3072).map(|at| f64::from(at) / 30_720.0 - 0.123_456_789_012).collect();
    let data: Vec<Value> =
        (0..98).map(|at| json!({"object": "embedding", "index": at, "embedding": vector})).collect();
    let embeddings = json!({"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 1}});
    let images =
        json!({"created": 1, "data": [{"b64_json": "A".repeat(3 << 20)}, {"b64_json": "B".repeat(3 << 20)}]});
    for (path, asked, body) in [
        ("/v1/embeddings", r#"{"model":"m","input":"a"}"#, embeddings),
        ("/v1/images/generations", r#"{"model":"m","prompt":"a"}"#, images),
    ] {
        let whole = body.to_string();
        assert!(whole.len() > 4 << 20);
        let answer = stage.json(path, asked, &body).await;
        assert_eq!(answer.status, 200);
        assert!(answer.text == whole, "{path}: {}", &answer.text[..200]);
    }
}

#[tokio::test]
async fn what_may_not_be_said_by_an_api_without_texts_is_an_error_of_that_api() {
    let stage = Stage::new("guards: {answer: {words: [bluebird]}}\n").await;
    let body = json!({"prompt": "a bluebird"});
    let answer = stage.json("/detokenize", r#"{"model":"m","tokens":[1]}"#, &body).await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (502, Some("content_filter")));
    let line = stage.gateway.line(answer.header("x-request-id")).await;
    assert_eq!(line["answer_guard"], "cut", "{line}");
}

/// Requests to APIs whose answers are no texts, each with personal data.
const OTHERS: [(&str, &str); 8] = [
    ("/v1/embeddings", r#"{"model":"m","input":"ann@example.org"}"#),
    ("/v1/rerank", r#"{"model":"m","query":"ann@example.org","documents":["a"]}"#),
    ("/v1/score", r#"{"model":"m","text_1":"ann@example.org","text_2":"a"}"#),
    ("/tokenize", r#"{"model":"m","prompt":"ann@example.org"}"#),
    (
        "/v1/messages/count_tokens",
        r#"{"model":"m","messages":[{"role":"user","content":"ann@example.org"}]}"#,
    ),
    ("/v1/images/generations", r#"{"model":"m","prompt":"ann@example.org"}"#),
    ("/v1/audio/speech", r#"{"model":"m","input":"ann@example.org","voice":"a"}"#),
    ("/v1/audio/speech", r#"{"model":"m","input":"ann@example.org","voice":"a","stream":true}"#),
];

#[tokio::test]
async fn apis_whose_answers_are_no_texts_get_errors_and_never_a_chat_completion() {
    let fixed = "virtual_models: [auto]\ndefault_model: m\n\
                 decisions: [{name: closed, plugins: {respond: {text: We are closed.}}}]\n";
    let blocked = "block_style: vsr\nguards: {pii: {action: block}}\n";
    for (policy, code, said) in
        [(fixed, "fixed_response", "We are closed."), (blocked, "content_filter", "personal")]
    {
        let stage = Stage::new(policy).await;
        for (path, body) in OTHERS {
            let answer = stage.gateway.post(path, body).await;
            let error = &answer.json()["error"];
            // Anthropic's errors have no code.
            let code = (path != "/v1/messages/count_tokens").then_some(code);
            assert_eq!((answer.status, error["code"].as_str()), (400, code), "{path}: {}", answer.text);
            assert!(error["message"].as_str().unwrap().contains(said), "{path}: {}", answer.text);
            assert!(!answer.text.contains("chat.completion"), "{path}: {}", answer.text);
        }
        assert!(stage.upstream.requests().is_empty());
    }
}
