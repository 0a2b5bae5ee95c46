//! Responses checked against their request's tool results: what the client, the log and the metrics report, and that
//! nothing of the answer itself changes.

use crate::harness::*;
use crate::upstream::{Call, Upstream};
use serde_json::{Value, json};

/// The model's answer; the threshold decides what a detector of random weights finds in it.
const ANSWER: &str = "The cat is in Zürich, \"on\" the mat 🐈.";

/// The folder of one of the small detectors that `transformers` made.
fn detector(name: &str) -> String {
    format!("{}/tests/golden/models/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A policy with a detector that flags everything (`0`) or nothing (`1`).
fn policy(upstream: &Upstream, model: &str, threshold: u8, guard: &str) -> String {
    policy_of(&[upstream.addr()], "")
        + &format!(
            "classifier: {{deadline: 30s, models: {{hallucination: \"{}\"}}, thresholds: {{hallucination: {threshold}}}}}\n\
             guards: {{answer: {{hallucination: {{deadline: 30s, {guard}}}}}}}\n",
            detector(model)
        )
}

/// A chat with or without a tool's result.
fn chat(tool: Option<&str>, stream: bool) -> String {
    let mut messages = vec![json!({"role": "user", "content": "Where is the cat?"})];
    if let Some(result) = tool {
        let call = json!({"id": "c1", "type": "function", "function": {"name": "find", "arguments": "{}"}});
        messages.push(json!({"role": "assistant", "content": null, "tool_calls": [call]}));
        messages.push(json!({"role": "tool", "tool_call_id": "c1", "content": result}));
    }
    json!({"model": "m", "stream": stream, "messages": messages}).to_string()
}

fn completion(text: &str) -> String {
    // Odd white space and an unknown key: the bytes must come through as they are.
    format!(
        "{{\"id\":\"c\",  \"object\":\"chat.completion\",\"created\":1,\"model\":\"m\",\"odd\":[1.0],\"choices\":[{{\"index\":0,\
         \"message\":{{\"role\":\"assistant\",\"content\":{}}},\"finish_reason\":\"stop\"}}]}}\n",
        Value::from(text)
    )
}

type Pending = tokio::task::JoinHandle<Answer>;

fn ask(gateway: &Gateway, body: String) -> Pending {
    let request = client().post(gateway.url("/v1/chat/completions"));
    let request = request.header("content-type", "application/json").body(body);
    tokio::spawn(async move { Answer::of(request.send().await.unwrap()).await })
}

async fn send(call: &mut Call, body: &str) {
    let header = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-vsr-hallucination-detected: forged\r\n\
         x-vsr-hallucination-spans: forged\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    call.send(header + body).await;
}

/// A gateway whose detector flags every word, in front of an upstream that the test scripts.
async fn stage(guard: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start().await;
    let gateway = Launch::new(policy(&upstream, "bert-claims", 0, guard)).start().await;
    (upstream, gateway)
}

/// Asks a chat with a result of a tool, which is answered with [`ANSWER`] as a whole.
async fn answered(gateway: &Gateway, upstream: &Upstream, tool: Option<&str>) -> Answer {
    let asking = ask(gateway, chat(tool, false));
    send(&mut upstream.call().await, &completion(ANSWER)).await;
    let answer = asking.await.unwrap();
    assert_eq!((answer.status, answer.text.as_str()), (200, completion(ANSWER).as_str()));
    answer
}

#[tokio::test]
async fn unsupported_claims_are_reported_in_headers_and_the_body_stays_as_it_is() {
    for model in ["bert-claims", "modernbert-claims", "roberta-claims"] {
        let upstream = Upstream::start().await;
        let gateway = Launch::new(policy(&upstream, model, 0, "action: header, spans: true")).start().await;
        let answer = answered(&gateway, &upstream, Some("the cat sat on the mat")).await;
        assert_eq!(answer.header("x-vsr-hallucination-detected"), "true", "{model}");
        assert_eq!(answer.header("x-vsr-response-warnings"), "hallucination");
        assert_eq!(answer.header("content-length"), completion(ANSWER).len().to_string());
        let spans: Value = serde_json::from_str(answer.header("x-vsr-hallucination-spans")).unwrap();
        assert_eq!(spans, json!([ANSWER]), "{model}");
        assert_eq!(answer.header("x-vsr-unverified-factual-response"), "");
        let line = gateway.line(answer.header("x-request-id")).await;
        assert!(line["hallucination"].as_f64().unwrap() > 0.0 && line["verify_ms"].is_number(), "{line}");
        assert!(!line.to_string().contains("mat"), "no word of it is logged: {line}");
        gateway.counts("signalbox_guard_notices_total", &["notice=\"hallucination\""], 1.0).await;
    }
}

#[tokio::test]
async fn a_grounded_answer_has_no_header_and_spans_only_if_asked_for() {
    let upstream = Upstream::start().await;
    let rest = "action: header, spans: true";
    let gateway = Launch::new(policy(&upstream, "bert-claims", 1, rest)).start().await;
    let answer = answered(&gateway, &upstream, Some("the cat sat on the mat")).await;
    for name in ["x-vsr-hallucination-detected", "x-vsr-hallucination-spans", "x-vsr-response-warnings"] {
        assert_eq!(answer.header(name), "", "an upstream's own word for it is dropped too");
    }
    let line = gateway.line(answer.header("x-request-id")).await;
    assert!(line["hallucination"].is_null() && line["verify_ms"].is_number(), "{line}");
    let gateway = Launch::new(policy(&upstream, "bert-claims", 0, "action: header")).start().await;
    let answer = answered(&gateway, &upstream, Some("the cat sat on the mat")).await;
    assert_eq!(answer.header("x-vsr-hallucination-detected"), "true");
    assert_eq!(answer.header("x-vsr-hallucination-spans"), "");
}

#[tokio::test]
async fn without_anything_to_check_it_against_an_answer_that_needs_facts_is_reported_unverified() {
    let upstream = Upstream::start().await;
    let facts = "signals: {facts: {fact_check: {min_score: 0}}}\n";
    let rest = "action: header, unverified: true";
    let gateway = Launch::new(policy(&upstream, "bert-claims", 0, rest) + facts).start().await;
    let answer = answered(&gateway, &upstream, None).await;
    for name in
        ["x-vsr-unverified-factual-response", "x-vsr-fact-check-needed", "x-vsr-verification-context-missing"]
    {
        assert_eq!(answer.header(name), "true", "{name}");
    }
    assert_eq!(answer.header("x-vsr-response-warnings"), "unverified_factual");
    assert_eq!(answer.header("x-vsr-hallucination-detected"), "");
    gateway.counts("signalbox_guard_notices_total", &["notice=\"unverified_factual\""], 1.0).await;
    let judged = answered(&gateway, &upstream, Some("the cat sat on the mat")).await;
    assert_eq!(judged.header("x-vsr-response-warnings"), "hallucination");
    assert_eq!(judged.header("x-vsr-unverified-factual-response"), "");
}

#[tokio::test]
async fn without_anything_to_check_it_against_an_answer_is_not_held_back_and_not_judged() {
    let (upstream, gateway) = stage("action: header").await;
    let asking =
        tokio::spawn(client().post(gateway.url("/v1/chat/completions")).body(chat(None, false)).send());
    let mut call = upstream.call().await;
    call.send(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n",
    )
    .await;
    let mut answer = asking.await.unwrap().unwrap();
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "{", "the first byte comes while the rest is awaited");
    assert!(answer.headers().get("x-vsr-hallucination-detected").is_none());
}

#[tokio::test]
async fn a_stream_is_verified_after_its_last_byte_for_log_and_metrics_alone() {
    for action in ["header", "log"] {
        let upstream = Upstream::start().await;
        let gateway =
            Launch::new(policy(&upstream, "bert-claims", 0, &format!("action: {action}"))).start().await;
        let asking = tokio::spawn({
            let body = chat(Some("the cat sat on the mat"), true);
            client().post(gateway.url("/v1/chat/completions")).body(body).send()
        });
        let mut call = upstream.stream().await;
        let event = |text: &str| {
            let event = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
                "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]});
            format!("data:{event}\n\n")
        };
        call.chunk(event("a dog").as_bytes()).await;
        let mut answer = asking.await.unwrap().unwrap();
        let first = answer.chunk().await.unwrap().unwrap();
        assert_eq!(first, event("a dog"), "nothing of it is held back or changed");
        let end = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
        call.chunk(format!("data: {end}\n\ndata: [DONE]\n\n").as_bytes()).await;
        call.end().await;
        let id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
        assert!(answer.headers().get("x-vsr-hallucination-detected").is_none());
        assert!(answer.text().await.unwrap().ends_with("data: [DONE]\n\n"));
        let line = gateway.line(&id).await;
        assert!(line["hallucination"].is_number() && line["verify_ms"].is_number(), "{line}");
        gateway.counts("signalbox_guard_notices_total", &["notice=\"hallucination\""], 1.0).await;
    }
}

#[tokio::test]
async fn an_answer_that_is_only_logged_has_no_header() {
    let (upstream, gateway) = stage("action: log").await;
    let answer = answered(&gateway, &upstream, Some("the cat sat on the mat")).await;
    assert_eq!(answer.header("x-vsr-hallucination-detected"), "");
    let line = gateway.line(answer.header("x-request-id")).await;
    assert!(line["hallucination"].is_number(), "{line}");
}

#[tokio::test]
async fn an_answer_longer_than_the_buffer_passes_unverified_and_is_counted() {
    let (upstream, gateway) = stage("action: header").await;
    let asking = ask(&gateway, chat(Some("the cat sat on the mat"), false));
    let long = completion(&"the cat ".repeat(1 << 20));
    let mut call = upstream.call().await;
    send(&mut call, &long).await;
    let answer = asking.await.unwrap();
    assert_eq!((answer.status, answer.text.len()), (200, long.len()));
    assert!(answer.text == long, "byte for byte");
    assert_eq!(answer.header("x-vsr-hallucination-detected"), "");
    let line = gateway.line(answer.header("x-request-id")).await;
    assert_eq!(line["unjudged"], json!([["hallucination", "too_long"]]), "{line}");
    gateway.counts("signalbox_guard_notices_total", &["notice=\"unjudged\""], 1.0).await;
}

#[tokio::test]
async fn more_tokens_than_the_classifier_reads_are_too_long_to_be_judged() {
    let upstream = Upstream::start().await;
    let text = policy(&upstream, "bert-claims", 0, "action: header")
        .replace("deadline: 30s, models", "max_tokens: 40, deadline: 30s, models");
    let gateway = Launch::new(text).start().await;
    let answer = answered(&gateway, &upstream, Some(&"the cat sat on the mat ".repeat(4))).await;
    assert_eq!(answer.header("x-vsr-hallucination-detected"), "");
    let line = gateway.line(answer.header("x-request-id")).await;
    assert_eq!(line["unjudged"], json!([["hallucination", "too_long"]]), "{line}");
    let labels = ["question=\"hallucination\"", "reason=\"too_long\""];
    gateway.counts("signalbox_classifier_unknown_total", &labels, 1.0).await;
}

#[tokio::test]
async fn a_stream_longer_than_what_is_collected_is_counted_as_unjudged() {
    let (upstream, gateway) = stage("action: log").await;
    let asking = ask(&gateway, chat(Some("the cat sat on the mat"), true));
    let mut call = upstream.stream().await;
    let event = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{"index": 0, "delta": {"content": "the cat ".repeat(1 << 13)}, "finish_reason": null}]});
    for _ in 0..80 {
        call.chunk(format!("data: {event}\n\n").as_bytes()).await;
    }
    call.chunk(b"data: [DONE]\n\n").await;
    call.end().await;
    let answer = asking.await.unwrap();
    assert!(answer.text.len() > 80 * (1 << 16) && answer.text.ends_with("data: [DONE]\n\n"));
    let line = gateway.line(answer.header("x-request-id")).await;
    assert_eq!(line["unjudged"], json!([["hallucination", "too_long"]]), "{line}");
}

#[tokio::test]
async fn of_several_choices_one_that_is_made_up_is_enough() {
    let (upstream, gateway) = stage("action: header, spans: true").await;
    let asking = ask(&gateway, chat(Some("the cat sat on the mat"), false));
    let choice =
        |index: u32, text: Value| json!({"index": index, "message": {"role": "assistant", "content": text}});
    let body = json!({"choices": [choice(0, Value::Null), choice(1, "a".into()), choice(2, "b c".into())]})
        .to_string();
    send(&mut upstream.call().await, &body).await;
    let answer = asking.await.unwrap();
    assert_eq!(
        (answer.text, answer.headers["x-vsr-hallucination-spans"].to_str().unwrap()),
        (body, "[\"a\",\"b c\"]")
    );
}

#[tokio::test]
async fn a_hallucinated_answer_is_not_cached() {
    for (threshold, stream, asked) in [(0, false, 2), (1, false, 1), (0, true, 2), (1, true, 1)] {
        let sim = sim("m").await;
        let text = format!(
            "version: 1\nvirtual_models: [auto]\ndefault_model: m\ncache: {{store: memory}}\nmodels: {{m: {{pools: [p]}}}}\n\
             pools: {{p: {{endpoints: [\"{}\"]}}}}\n\
             classifier: {{deadline: 30s, models: {{hallucination: \"{}\"}}, thresholds: {{hallucination: {threshold}}}}}\n\
             decisions:\n- {{name: all, model: m, plugins: {{cache: {{match: exact}}, answer: {{hallucination: {{action: header, deadline: 30s}}}}}}}}\n",
            sim.addr(),
            detector("bert-claims")
        );
        let gateway = Launch::new(text).start().await;
        for _ in 0..2 {
            let body = chat(Some("the cat sat on the mat"), stream).replace("\"m\"", "\"auto\"");
            let answer = gateway.post("/v1/chat/completions", body).await;
            let doubted = if threshold == 0 && !stream { "true" } else { "" };
            assert_eq!(
                (answer.status, answer.header("x-vsr-hallucination-detected")),
                (200, doubted),
                "{}",
                answer.text
            );
            gateway.line(answer.header("x-request-id")).await;
        }
        assert_eq!(crate::harness::asked(&sim).len(), asked, "{threshold} {stream}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_while_it_is_held_back_is_an_error_and_not_tried_again() {
    let (upstream, gateway) = stage("action: header").await;
    let asking = ask(&gateway, chat(Some("the cat sat on the mat"), false));
    let mut call = upstream.call().await;
    call.send("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{\"id\"")
        .await;
    call.reset();
    let answer = asking.await.unwrap();
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (502, Some("upstream_reset")));
    let line = gateway.line(answer.header("x-request-id")).await;
    assert_eq!((&line["tries"], &line["status"]), (&json!(1), &json!(502)), "{line}");
}

#[tokio::test]
async fn a_client_that_disconnects_lets_go_of_the_answer_that_is_held_back_for_it() {
    let (upstream, gateway) = stage("action: header").await;
    let asking = ask(&gateway, chat(Some("the cat sat on the mat"), false));
    let mut call = upstream.call().await;
    call.send("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{\"id\"")
        .await;
    asking.abort();
    call.closed().await;
    let line = gateway.line("\"error\":\"client_closed\"").await;
    assert!(line["verify_ms"].is_null(), "{line}");
}

#[tokio::test]
async fn a_held_answer_goes_out_over_http2_too_and_the_connection_is_used_again() {
    let (upstream, gateway) = stage("action: header").await;
    let _provider = client();
    let http2 = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().unwrap();
    for client in [http2, client()] {
        for _ in 0..2 {
            let request = client.post(gateway.url("/v1/chat/completions"));
            let request = request.body(chat(Some("the cat sat on the mat"), false));
            let asking = tokio::spawn(async move { Answer::of(request.send().await.unwrap()).await });
            let mut call = upstream.call().await;
            let body = completion(ANSWER);
            let length = format!("connection: close\r\ncontent-length: {}", body.len());
            call.send(format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{length}\r\n\r\n{body}"))
                .await;
            let answer = asking.await.unwrap();
            assert_eq!(
                (answer.text, answer.headers["x-vsr-hallucination-detected"].to_str().unwrap()),
                (body, "true")
            );
        }
    }
}

#[tokio::test]
async fn an_answer_can_be_masked_and_held_back_at_once() {
    let upstream = Upstream::start().await;
    let text = policy(&upstream, "bert-claims", 0, "action: header, spans: true")
        .replace("answer: {", "answer: {words: [dog], on_words: mask, ");
    let gateway = Launch::new(text).start().await;
    let asking = ask(&gateway, chat(Some("the cat sat on the mat"), false));
    send(&mut upstream.call().await, &completion("a dog")).await;
    let answer = asking.await.unwrap();
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "a [REDACTED]");
    assert_eq!(answer.header("x-vsr-hallucination-spans"), "[\"a [REDACTED]\"]");
}

#[tokio::test]
async fn a_policy_that_asks_for_what_no_detector_finds_is_refused_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |text: &str| {
        let path = folder.path().join("policy.yaml");
        std::fs::write(&path, text).unwrap();
        let output = command(&["check", path.to_str().unwrap()], "");
        assert!(!output.status.success(), "{text}");
        printed(&output.stderr).to_owned()
    };
    let upstream = Upstream::start().await;
    let with = |more: &str| policy_of(&[upstream.addr()], "") + more;
    let guard = "guards: {answer: {hallucination: {action: header}}}\n";
    let said = refused(&with(guard));
    assert!(said.contains("guards.answer.hallucination.action (line "), "{said}");
    assert!(said.contains("no detector is configured"), "{said}");
    for (model, why) in [
        ("bert-domain", "it classifies whole texts"),
        ("bert-tokens-bin", "is known to stand for what is made up"),
        ("nowhere", "cannot read"),
    ] {
        let models = format!("classifier: {{models: {{hallucination: \"{}\"}}}}\n", detector(model));
        let said = refused(&with(&(guard.to_owned() + &models)));
        assert!(said.contains("classifier.models.hallucination (line "), "{said}");
        assert!(said.contains(why), "{said}");
    }
}
