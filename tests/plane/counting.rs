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
    assert_eq!(line["token_counts"], "estimated", "{line}");
    assert!(line["cost"].as_f64().unwrap() > 0.0, "{line}");
    gateway.counts("signalbox_token_counts_adjusted_total", &["how=\"estimated\""], 1.0).await;
}

#[tokio::test]
async fn a_pool_says_when_its_streams_are_asked_what_they_cost() {
    let upstream = Scripted::start(|_, _| {
        Act::AnswerTo(|request| {
            let sent: Value = serde_json::from_slice(&request.body).unwrap();
            let options = &sent["stream_options"];
            let so_far = |tokens: u64| {
                let is_told = options["continuous_usage_stats"] == true;
                let usage = format!(",\"usage\":{{\"prompt_tokens\":7,\"completion_tokens\":{tokens}}}");
                if is_told { usage } else { String::new() }
            };
            let chunk = |tokens| {
                let so_far = so_far(tokens);
                format!("data: {{\"id\":\"1\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"Hi\"}}}}]{so_far}}}\n\n")
            };
            let last = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2}}\n\n";
            let last = if options["include_usage"] == true { last } else { "" };
            let body = format!("{}{}{last}data: [DONE]\n\n", chunk(1), chunk(2));
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n";
            format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
        })
    })
    .await;
    for (key, price, options, tokens) in [
        ("always", "", json!({"include_usage": true}), json!(2)),
        ("continuous", "", json!({"include_usage": true, "continuous_usage_stats": true}), json!(2)),
        ("never", ", price: {prompt: 1, completion: 2}", Value::Null, Value::Null),
        ("needed", "", Value::Null, Value::Null),
    ] {
        let policy = format!(
            "version: 1\nmodels: {{m: {{pools: [main]{price}}}}}\npools: {{main: {{endpoints: [\"{}\"], health: {{enabled: false}}, stream_usage: {key}}}}}\n",
            upstream.addr
        );
        let gateway = Launch::new(policy).start().await;
        let body = json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "hi"}]})
            .to_string();
        let got = gateway.post("/v1/chat/completions", body).await;
        assert!(
            !got.text.contains("usage") && got.text.matches("\"Hi\"").count() == 2,
            "{key}: {}",
            got.text
        );
        let sent: Value = serde_json::from_slice(&upstream.requests().pop().unwrap().body).unwrap();
        assert_eq!(sent["stream_options"], options, "{key}");
        let line = gateway.line(got.header("x-request-id")).await;
        assert_eq!(
            (&line["completion_tokens"], &line["token_counts"]),
            (&tokens, &Value::Null),
            "{key}: {line}"
        );
    }
}

#[tokio::test]
async fn more_tokens_than_can_be_are_not_counted() {
    let upstream = Scripted::start(|_, _| {
        let body = r#"{"id":"1","choices":[],"usage":{"prompt_tokens":9000000000,"completion_tokens":8000000000,"prompt_tokens_details":{"cached_tokens":7000000000}}}"#;
        Act::Answer(crate::raw::answer("200 OK", body))
    })
    .await;
    let gateway = priced(upstream.addr).await;
    let body =
        json!({"model": "m", "max_tokens": 5, "n": 2, "messages": [{"role": "user", "content": "hi"}]})
            .to_string();
    let got = gateway.post("/v1/chat/completions", body.clone()).await;
    let line = gateway.line(got.header("x-request-id")).await;
    let prompt = json!(body.len() + 65_536);
    assert_eq!(
        json!([line["prompt_tokens"], line["cached_tokens"], line["token_counts"]]),
        json!([prompt, prompt, "bounded"]),
        "{line}"
    );
    assert!(line["completion_tokens"].as_u64().unwrap() < 1000, "{line}");
    gateway.counts("signalbox_token_counts_adjusted_total", &["how=\"bounded\""], 1.0).await;
}

#[tokio::test]
async fn usage_is_found_in_an_event_of_any_size() {
    let upstream = Scripted::start(|_, _| {
        let text = "x".repeat(1_000_000);
        let response = format!(
            "{{\"type\":\"response.completed\",\"response\":{{\"id\":\"resp_1\",\"output\":[{{\"type\":\"message\",\"content\":[{{\"type\":\
             \"output_text\",\"text\":\"{text}\"}}]}}],\"usage\":{{\"input_tokens\":7,\"output_tokens\":300000}},\"user\":null}}}}"
        );
        let body = format!("event: response.completed\ndata: {response}\n\n");
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {}\r\n\r\n", body.len());
        Act::Answer((head + &body).into_bytes())
    })
    .await;
    let renamed = format!(
        "version: 1\nmodels: {{m: {{pools: [main]}}, other: {{pools: [main], upstream_model: m}}}}\npools: {{main: {{endpoints: [\"{}\"], health: \
         {{enabled: false}}}}}}\n",
        upstream.addr
    );
    let gateway = Launch::new(renamed).start().await;
    for model in ["m", "other"] {
        let body = json!({"model": model, "stream": true, "input": "hi"}).to_string();
        let got = gateway.post("/v1/responses", body).await;
        let line = gateway.line(got.header("x-request-id")).await;
        assert_eq!(
            json!([line["prompt_tokens"], line["completion_tokens"]]),
            json!([7, 300_000]),
            "{model}: {line}"
        );
    }
}

#[tokio::test]
async fn the_time_to_the_first_token_is_not_that_to_what_opens_a_stream() {
    let upstream = Upstream::start().await;
    let gateway = Launch::new(crate::harness::policy_of(&[upstream.addr()], "")).start().await;
    for (path, opening, token) in [
        (
            "/v1/chat/completions",
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\ndata: [DONE]\n\n",
        ),
        (
            "/v1/messages",
            "event: ping\ndata: {\"type\":\"ping\"}\n\n",
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}}\n\n",
        ),
    ] {
        let body = json!({"model": "m", "stream": true, "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]});
        let request = client()
            .post(gateway.url(path))
            .header("x-request-id", path.replace('/', "-"))
            .body(body.to_string());
        let sent = tokio::spawn(async move { request.send().await.unwrap() });
        let mut call = upstream.stream().await;
        call.chunk(opening.as_bytes()).await;
        let mut got = sent.await.unwrap();
        assert!(got.chunk().await.unwrap().is_some(), "the opening passes at once");
        let between = std::time::Instant::now();
        until("a while", async || (between.elapsed().as_millis() > 300).then_some(())).await;
        call.chunk(token.as_bytes()).await;
        call.end().await;
        while got.chunk().await.unwrap().is_some() {}
        let line = gateway.line(&path.replace('/', "-")).await;
        assert!(line["ttft_ms"].as_f64().unwrap() > 300.0, "{line}");
    }
}
