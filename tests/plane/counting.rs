//! What streams cost is known where the policy has a price, whether the client asks for it or not.

use crate::harness::{Gateway, Launch, client, until};
use crate::raw::{Act, Scripted};
use crate::upstream::Upstream;
use futures::StreamExt;
use serde_json::{Value, json};
use std::net::SocketAddr;

async fn priced(address: SocketAddr) -> Gateway {
    let policy = format!(
        "version: 1\nmodels:\n  m: {{pools: [main], price: {{prompt: 1, completion: 2}}}}\n  free: {{pools: [main], upstream_model: m}}\npools:\n  \
         main: {{endpoints: [\"{address}\"], health: {{enabled: false}}}}\n"
    );
    Launch::new(policy).start().await
}

/// Streams as OpenAI does: what it cost in a chunk of its own where that is asked for.
async fn upstream() -> Scripted {
    Scripted::start(|_, _| {
        Act::AnswerTo(|request| {
            let sent: Value = serde_json::from_slice(&request.body).unwrap();
            let chunk = "data: {\"id\":\"1\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n";
            let usage = "data: {\"id\":\"1\",\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3}}\n\n";
            let usage = if sent["stream_options"]["include_usage"] == true { usage } else { "" };
            let filter = "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n";
            let body = format!("{filter}{chunk}{usage}data: [DONE]\n\n");
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n";
            format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
        })
    })
    .await
}

#[tokio::test]
async fn a_priced_stream_tells_us_what_it_cost_and_its_client_only_if_asked() {
    let upstream = upstream().await;
    let gateway = priced(upstream.addr).await;
    let asked = json!({"include_usage": true});
    for (model, options, is_told, is_known) in [
        ("m", Value::Null, false, true),
        ("m", json!({"include_usage": false}), false, true),
        ("m", asked.clone(), true, true),
        ("free", Value::Null, false, false),
        ("free", asked, true, true),
    ] {
        let mut body =
            json!({"model": model, "stream": true, "messages": [{"role": "user", "content": "hi"}]});
        if !options.is_null() {
            body["stream_options"] = options;
        }
        let got = gateway.post("/v1/chat/completions", body.to_string()).await;
        assert_eq!(got.text.contains("\"usage\""), is_told, "{model} {body}: {}", got.text);
        assert!(
            got.text.contains("prompt_filter_results") && got.text.ends_with("data: [DONE]\n\n"),
            "{}",
            got.text
        );
        let line = gateway.line(got.header("x-request-id")).await;
        let tokens = if is_known { json!([7, 3]) } else { json!([null, null]) };
        assert_eq!(json!([line["prompt_tokens"], line["completion_tokens"]]), tokens, "{line}");
        assert_eq!(line["cost"].as_f64().is_some(), model == "m", "{line}");
    }
    let whole = json!({"model": "m", "messages": []}).to_string();
    gateway.post("/v1/chat/completions", whole.clone()).await;
    assert_eq!(upstream.requests().pop().unwrap().body, whole.as_bytes(), "a whole answer tells it anyway");
}

#[tokio::test]
async fn a_client_that_leaves_is_charged_for_what_was_streamed() {
    let upstream = Upstream::start().await;
    let gateway = priced(upstream.addr()).await;
    let body =
        json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "hi"}]}).to_string();
    let request =
        client().post(gateway.url("/v1/chat/completions")).header("x-request-id", "leaver").body(body);
    let sent = tokio::spawn(async move { request.send().await.unwrap().bytes_stream() });
    let mut call = upstream.stream().await;
    for _ in 0..5 {
        call.chunk(b"data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n")
            .await;
    }
    let mut stream = sent.await.unwrap();
    let mut text = Vec::new();
    while String::from_utf8_lossy(&text).matches("data: ").count() < 5 {
        text.extend_from_slice(&stream.next().await.unwrap().unwrap());
    }
    drop(stream);
    call.closed().await;
    let line = until("the line of who has left", async || {
        gateway.stdout().lines().find(|line| line.contains("leaver")).map(str::to_owned)
    })
    .await;
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["error"], &line["completion_tokens"]), (&json!("client_closed"), &json!(4)), "{line}");
    assert!(line["cost"].as_f64().unwrap() > 0.0, "{line}");
}
