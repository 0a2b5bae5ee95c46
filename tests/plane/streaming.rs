//! Streams pass as they come, count on their way by, hold their endpoint to the last byte, and never end silently.

use crate::harness::*;
use crate::upstream::Upstream;
use serde_json::{Value, json};
use signalbox::sim::Sim;

/// A client that speaks HTTP/1.1, and one that speaks HTTP/2 from its first byte.
pub(crate) fn clients() -> [(&'static str, reqwest::Client); 2] {
    let h1 = client();
    let h2 = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().unwrap();
    [("h1", h1), ("h2", h2)]
}

/// Asks for ten tokens under a request id of the test's own.
pub(crate) async fn ask(
    client: &reqwest::Client,
    gateway: &Gateway,
    id: &str,
    stream: bool,
) -> reqwest::Response {
    request(client, gateway, id, stream).send().await.unwrap()
}

/// What [`ask`] sends.
pub(crate) fn request(
    client: &reqwest::Client,
    gateway: &Gateway,
    id: &str,
    stream: bool,
) -> reqwest::RequestBuilder {
    let body = json!({
        "model": "m", "stream": stream, "messages": [{"role": "user", "content": "count to ten"}],
        "max_tokens": 10, "ignore_eos": true,
    });
    let request = client.post(gateway.url("/v1/chat/completions")).header("x-request-id", id);
    // Ours goes upstream in place of the client's.
    request.header("x-test-id", id).header("content-type", "application/json").body(body.to_string())
}

/// The requests that the gateway has on its endpoints now.
pub(crate) async fn leased(gateway: &Gateway) -> f64 {
    gateway.metric("signalbox_endpoint_in_flight", &[]).await
}

/// The object of an event that says why a stream ended.
pub(crate) fn last_event(text: &str) -> Value {
    let event = text.trim_end().rsplit("\n\n").next().unwrap();
    serde_json::from_str(event.strip_prefix("data: ").unwrap_or_else(|| panic!("no event: {text}"))).unwrap()
}

/// Reads a body until it ends or breaks off; tells which.
pub(crate) async fn read(response: &mut reqwest::Response) -> (String, bool) {
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => return (String::from_utf8(bytes).unwrap(), true),
            Err(_broken) => return (String::from_utf8(bytes).unwrap(), false),
        }
    }
}

#[tokio::test]
async fn each_event_passes_before_the_next_is_sent_and_not_a_byte_is_changed() {
    let upstream = Upstream::start().await;
    let gateway = Launch::new(policy_of(&[upstream.addr()], "")).start().await;
    let parts: [&[u8]; 6] = [
        b": a comment\r\n\r\n",
        b"data: {\"choices\":[{\"delta\":{\"content\":\"f\xc3",
        b"\xbcnf\"}}]}\n\nda",
        b"ta: {\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":5,\"total_tokens\":8}}\r\r",
        b"data: not json at all\n\n",
        b"data: [DONE]\n\n",
    ];
    for (version, client) in clients() {
        let (mut sent, mut got) = tokio::join!(upstream.stream(), ask(&client, &gateway, version, true));
        assert_eq!(got.status(), 200);
        assert_eq!(got.headers()["content-type"], "text/event-stream");
        for part in parts {
            sent.chunk(part).await;
            assert_eq!(got.chunk().await.unwrap().unwrap(), part, "over {version}");
        }
        sent.end().await;
        assert_eq!(read(&mut got).await, (String::new(), true), "over {version}");
        let line = gateway.line(version).await;
        assert_eq!((&line["prompt_tokens"], &line["completion_tokens"]), (&json!(3), &json!(5)), "{line}");
        assert_eq!(line["response_bytes"], parts.concat().len());
    }
}

#[tokio::test]
async fn the_first_event_passes_while_an_h2c_upstream_still_writes() {
    let sim = sim_with("m", |options| {
        options.faults.stall_mid_stream = Some(std::time::Duration::from_secs(60));
    })
    .await;
    let gateway = Launch::new(policy_of(&[sim.addr()], "    protocol: h2c\n")).start().await;
    for (version, client) in clients() {
        let mut got = ask(&client, &gateway, version, true).await;
        let first = got.chunk().await.unwrap().unwrap();
        assert!(first.starts_with(b"data: {"), "{first:?}");
        assert_eq!(sim.running(), 1, "the answer has only begun");
        drop(got);
        until("the end of the stream", async || (sim.running() == 0).then_some(())).await;
    }
    assert!(asked(&sim).iter().all(|seen| seen.version == reqwest::Version::HTTP_2));
}

#[tokio::test]
async fn usage_and_the_time_to_the_first_token_are_logged_and_counted() {
    let sim = sim("m").await;
    let gateway = Launch::new(policy_of(&[sim.addr()], "")).start().await;
    let body = |usage: bool| {
        json!({"model": "m", "stream": true, "stream_options": {"include_usage": usage}, "max_tokens": 7,
               "ignore_eos": true, "messages": [{"role": "user", "content": "why is the sky blue?"}]})
    };
    let answer = gateway.post("/v1/chat/completions", body(true).to_string()).await;
    let events = answer.text.trim_end().split("\n\n").filter(|event| *event != "data: [DONE]");
    let usage = last_event(events.last().unwrap())["usage"].clone();
    assert_eq!(usage["completion_tokens"], 7);
    let line = gateway.line(answer.header("x-request-id")).await;
    assert_eq!(line["prompt_tokens"], usage["prompt_tokens"]);
    assert_eq!(line["completion_tokens"], 7);
    assert_eq!(line["stream"], true);
    assert_eq!(line["response_bytes"], answer.text.len());
    let (ttft, whole) = (line["ttft_ms"].as_f64().unwrap(), line["duration_ms"].as_f64().unwrap());
    assert!(0.0 < ttft && ttft <= whole, "{line}");
    gateway.counts("signalbox_tokens_total", &["model=\"m\"", "kind=\"completion\""], 7.0).await;
    let prompt = gateway.metric("signalbox_tokens_total", &["model=\"m\"", "kind=\"prompt\""]).await;
    assert_eq!(Some(prompt), usage["prompt_tokens"].as_f64());
    gateway.counts("signalbox_time_to_first_token_seconds_count", &["model=\"m\""], 1.0).await;

    let silent = gateway.post("/v1/chat/completions", body(false).to_string()).await;
    assert!(!silent.text.contains("prompt_tokens"), "nobody asked for it: {}", silent.text);
    let line = gateway.line(silent.header("x-request-id")).await;
    assert_eq!(line.get("completion_tokens"), None, "{line}");
    gateway.counts("signalbox_time_to_first_token_seconds_count", &["model=\"m\""], 2.0).await;
}

#[tokio::test]
async fn a_stream_holds_its_lease_until_the_last_byte() {
    let upstream = Upstream::start().await;
    let gateway = Launch::new(policy_of(&[upstream.addr()], "")).start().await;
    for (version, client) in clients() {
        let (mut sent, mut got) = tokio::join!(upstream.stream(), ask(&client, &gateway, version, true));
        assert_eq!(leased(&gateway).await, 1.0, "the head has come");
        sent.chunk(b"data: {}\n\n").await;
        assert!(got.chunk().await.unwrap().is_some());
        assert_eq!(leased(&gateway).await, 1.0, "an event has come");
        sent.chunk(b"data: [DONE]\n\n").await;
        assert!(got.chunk().await.unwrap().is_some());
        assert_eq!(leased(&gateway).await, 1.0, "the last event is not yet the end");
        sent.end().await;
        assert_eq!(read(&mut got).await, (String::new(), true));
        until("the end of the lease", async || (leased(&gateway).await == 0.0).then_some(())).await;
        assert_eq!(gateway.metric("signalbox_requests_in_flight", &[]).await, 0.0);
    }
}

#[tokio::test]
async fn an_upstream_that_dies_in_mid_stream_ends_as_an_error_event() {
    let upstream = Upstream::start().await;
    let gateway = Launch::new(policy_of(&[upstream.addr()], "")).start().await;
    for (version, client) in clients() {
        for death in ["farewell", "reset"] {
            let id = format!("{version}-{death}");
            let (mut sent, mut got) = tokio::join!(upstream.stream(), ask(&client, &gateway, &id, true));
            sent.chunk(b"data: {\"n\":1}\n\n").await;
            assert_eq!(got.chunk().await.unwrap().unwrap(), "data: {\"n\":1}\n\n");
            if death == "reset" {
                sent.reset();
            } else {
                drop(sent);
            }
            let (rest, ended) = read(&mut got).await;
            let error = &last_event(&rest)["error"];
            assert_eq!(error["code"], "upstream_reset", "{id}: {rest}");
            assert_eq!(error["type"], "server_error");
            assert!(!rest.contains("127.0.0.1"), "{rest}");
            assert!(!ended, "{version}: nothing says that it is whole");
            let line = gateway.line(&id).await;
            assert_eq!((&line["status"], &line["error"]), (&json!(200), &json!("upstream_reset")), "{line}");
        }
    }
    assert_eq!(gateway.metric("signalbox_retries_total", &[]).await, 0.0, "never after a byte was sent");
    gateway.counts("signalbox_rejections_total", &["code=\"upstream_reset\""], 4.0).await;
    assert_eq!(leased(&gateway).await, 0.0);
}

#[tokio::test]
async fn a_stream_that_breaks_off_ends_as_streams_of_its_api_do() {
    let upstream = Upstream::start().await;
    let gateway = Launch::new(policy_of(&[upstream.addr()], "")).start().await;
    let prompt = json!({"model": "m", "stream": true, "prompt": "hi"});
    let messages = json!([{"role": "user", "content": "hi"}]);
    let message = json!({"model": "m", "stream": true, "max_tokens": 9, "messages": messages});
    let response = json!({"model": "m", "stream": true, "input": "hi"});
    for (version, client) in clients() {
        for (path, body, has_name) in [
            ("/v1/completions", &prompt, false),
            ("/v1/messages", &message, true),
            ("/v1/responses", &response, true),
        ] {
            let request = client.post(gateway.url(path)).header("content-type", "application/json");
            let request = request.body(body.to_string()).send();
            let (mut sent, got) = tokio::join!(upstream.stream(), request);
            let mut got = got.unwrap();
            sent.chunk(b"event: first\ndata: {\"n\":1}\n\ndata: {\"half").await;
            assert!(got.chunk().await.unwrap().is_some());
            sent.reset();
            let (rest, ended) = read(&mut got).await;
            let rest = rest.strip_prefix("\n\n").expect("a blank line that ends what broke off");
            let event = rest.strip_suffix("\n\n").unwrap_or_else(|| panic!("{version} {path}: {rest}"));
            let data = event.strip_prefix("event: error\n").filter(|_| has_name).unwrap_or(event);
            let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
            let said = format!("{data}");
            assert!(event.starts_with("event: error\n") == has_name, "{path}: {rest}");
            assert!(said.contains("closed the connection before its answer was complete"), "{path}: {said}");
            assert!(!ended, "{version} {path}: nothing says that it is whole");
        }
    }
    until("the end of the leases", async || (leased(&gateway).await == 0.0).then_some(())).await;
}

#[tokio::test]
async fn an_h2c_upstream_that_dies_in_mid_stream_ends_as_an_error_event() {
    let sim: Sim = sim_with("m", |options| {
        options.latency.itl = std::time::Duration::from_millis(10);
        options.faults.reset_mid_stream = Some(5);
    })
    .await;
    let gateway = Launch::new(policy_of(&[sim.addr()], "    protocol: h2c\n")).start().await;
    for (version, client) in clients() {
        let mut got = ask(&client, &gateway, version, true).await;
        let (text, _) = read(&mut got).await;
        assert!(text.starts_with("data: {\"id\""), "{text}");
        assert_eq!(last_event(&text)["error"]["code"], "upstream_reset", "over {version}: {text}");
    }
}

#[tokio::test]
async fn a_json_answer_that_breaks_off_is_visibly_incomplete() {
    let upstream = Upstream::start().await;
    let gateway = Launch::new(policy_of(&[upstream.addr()], "")).start().await;
    for (version, client) in clients() {
        for framing in ["content-length: 100\r\n\r\n", "transfer-encoding: chunked\r\n\r\n12\r\n"] {
            let id = format!("{version}-{}", &framing[..7]);
            let breaking_off = async {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{framing}");
                upstream.call().await.send(head + "{\"id\": \"half of it").await;
            };
            // A head with a length leaves with the first piece of its body, or not at all.
            let ((), answer) = tokio::join!(breaking_off, request(&client, &gateway, &id, false).send());
            let Ok(mut answer) = answer else { continue };
            assert_eq!(answer.status(), 200);
            let (text, ended) = read(&mut answer).await;
            assert!(!ended && "{\"id\": \"half of it".starts_with(&text), "{id}: {text}");
            let line = gateway.line(&id).await;
            assert_eq!((&line["status"], &line["error"]), (&json!(200), &json!("upstream_reset")), "{line}");
        }
    }
}

#[tokio::test]
async fn a_stream_whose_upstream_is_silent_is_kept_open() {
    let upstream = Upstream::start().await;
    let gateway = Launch::new(policy_of(&[upstream.addr()], "")).start().await;
    for (path, sign) in [
        ("/v1/chat/completions", ": keep-alive\n\n"),
        ("/v1/messages", "event: ping\ndata: {\"type\": \"ping\"}\n\n"),
    ] {
        let body = json!({"model": "m", "stream": true, "max_tokens": 9, "messages": []}).to_string();
        let request = client().post(gateway.url(path)).body(body).send();
        let (mut sent, got) = tokio::join!(upstream.stream(), request);
        let mut got = got.unwrap();
        sent.chunk(b"data: 1\n\n").await;
        assert_eq!(got.chunk().await.unwrap().unwrap(), "data: 1\n\n");
        assert_eq!(got.chunk().await.unwrap().unwrap(), sign, "{path}");
        sent.chunk(b"data: 2\n\n").await;
        sent.end().await;
        assert_eq!(read(&mut got).await, ("data: 2\n\n".to_owned(), true), "{path}");
    }
}
