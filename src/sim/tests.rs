//! The simulated server over real sockets: what a client gets, and what its counters show.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

use super::tls::Authority;
use super::{Faults, Flavour, Sim, SimCapacity, SimLatency, SimOptions, SimOutcome};

const PATIENCE: Duration = Duration::from_secs(10);

async fn start(options: SimOptions) -> (Sim, Client) {
    // A second test in the process finds it installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (Sim::start(options, listener, None).await, Client::new())
}

fn with_latency(latency: SimLatency) -> SimOptions {
    SimOptions { latency, ..SimOptions::default() }
}

fn with_capacity(capacity: SimCapacity) -> SimOptions {
    SimOptions { capacity, ..SimOptions::default() }
}

fn url(sim: &Sim, path: &str) -> String {
    format!("http://{}{path}", sim.addr())
}

fn chat(content: &str) -> Value {
    json!({"model": "llama3-8b", "messages": [{"role": "user", "content": content}]})
}

async fn ask(client: &Client, sim: &Sim, body: &Value) -> reqwest::Response {
    client.post(url(sim, "/v1/chat/completions")).json(body).send().await.unwrap()
}

async fn answer(client: &Client, sim: &Sim, body: &Value) -> Value {
    ask(client, sim, body).await.json().await.unwrap()
}

async fn metric(client: &Client, sim: &Sim, series: &str) -> f64 {
    let page = client.get(url(sim, "/metrics")).send().await.unwrap().text().await.unwrap();
    let line = page.lines().find(|line| line.starts_with(series)).unwrap_or_else(|| panic!("no {series}"));
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn events(text: &str) -> Vec<Value> {
    let data = text.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
    data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
}

#[tokio::test]
async fn a_chat_is_answered_the_same_way_streamed_and_not() {
    let (sim, client) = start(SimOptions::default()).await;
    let whole = answer(&client, &sim, &chat("hello")).await;
    let mut body = chat("hello");
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let response = ask(&client, &sim, &body).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
    let text = response.text().await.unwrap();
    assert!(text.ends_with("data: [DONE]\n\n"));
    let events = events(&text);
    assert_eq!(events[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    let told: String =
        events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(whole["choices"][0]["message"]["content"], told);
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    assert_eq!(whole["usage"]["completion_tokens"], 64);
    let last = events.last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"], 64);
    assert_eq!(events.len(), 64 + 2);
    until("both completed", || sim.requests().iter().all(|seen| seen.outcome == SimOutcome::Completed)).await;
}

#[tokio::test]
async fn limits_choices_and_several_prompts_are_honoured() {
    let (sim, client) = start(SimOptions::default()).await;
    let mut body = chat("hello");
    body["max_tokens"] = json!(5);
    body["n"] = json!(2);
    let several = answer(&client, &sim, &body).await;
    assert_eq!(several["choices"][1]["finish_reason"], "length");
    assert_eq!(several["usage"]["completion_tokens"], 10);
    body["max_tokens"] = json!(200);
    body["ignore_eos"] = json!(true);
    assert_eq!(answer(&client, &sim, &body).await["usage"]["completion_tokens"], 400);
    let prompts = json!({"prompt": ["one", "two"], "max_tokens": 3, "echo": true});
    let response = client.post(url(&sim, "/v1/completions")).json(&prompts).send().await.unwrap();
    let texts: Value = response.json().await.unwrap();
    assert!(texts["choices"][1]["text"].as_str().unwrap().starts_with("two"), "{texts}");
    assert_eq!(texts["usage"]["total_tokens"], 8);
}

#[tokio::test]
async fn the_request_id_becomes_the_id_and_the_pod_is_named() {
    let (sim, client) = start(SimOptions { pod: "pod-7".to_owned(), ..SimOptions::default() }).await;
    let request = client.post(url(&sim, "/v1/chat/completions")).header("x-request-id", "abc");
    let response = request.json(&chat("x")).send().await.unwrap();
    assert_eq!(response.headers()["x-inference-pod"], "pod-7");
    assert_eq!(response.headers()["x-inference-port"], sim.addr().port().to_string());
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["id"], "chatcmpl-abc");
    assert_eq!(sim.requests()[0].headers["x-request-id"], "abc");
    assert_eq!(sim.requests()[0].body, chat("x").to_string());
}

#[tokio::test]
async fn the_bearer_key_is_required_under_v1_alone() {
    let (sim, client) =
        start(SimOptions { api_key: Some("secret".to_owned()), ..SimOptions::default() }).await;
    let refused = ask(&client, &sim, &chat("x")).await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(refused.text().await.unwrap(), r#"{"error":"Unauthorized"}"#);
    let admitted = client.get(url(&sim, "/v1/models")).bearer_auth("secret").send().await.unwrap();
    let models: Value = admitted.json().await.unwrap();
    assert_eq!(models["data"][0]["max_model_len"], 8192);
    assert_eq!(client.get(url(&sim, "/health")).send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn the_openai_flavour_speaks_its_own_dialect() {
    let options = SimOptions {
        flavour: Flavour::OpenAi,
        models: vec!["gpt-4o-mini".to_owned()],
        api_key: Some("sk".to_owned()),
        ..SimOptions::default()
    };
    let (sim, client) = start(options).await;
    let body =
        json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x"}], "stream": true});
    let refused: Value = ask(&client, &sim, &body).await.json().await.unwrap();
    assert_eq!(refused["error"]["code"], "invalid_api_key");
    let request = client.post(url(&sim, "/v1/chat/completions")).bearer_auth("sk").json(&body);
    let response = request.send().await.unwrap();
    assert!(response.headers().contains_key("openai-processing-ms"));
    let events = events(&response.text().await.unwrap());
    assert_eq!(events[0]["model"], "gpt-4o-mini-2024-07-18");
    assert_eq!(events[0]["service_tier"], "default");
    assert_eq!(events.last().unwrap()["choices"][0]["delta"], json!({}));
    assert_eq!(client.get(url(&sim, "/metrics")).send().await.unwrap().status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn errors_have_the_shape_of_vllm() {
    let (sim, client) =
        start(with_capacity(SimCapacity { max_model_len: 100, ..SimCapacity::default() })).await;
    let mut unknown = chat("x");
    unknown["model"] = json!("nope");
    let unknown = ask(&client, &sim, &unknown).await;
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    assert_eq!(unknown.json::<Value>().await.unwrap()["error"]["type"], "NotFoundError");
    let long = ask(&client, &sim, &chat(&"word ".repeat(200))).await;
    assert_eq!(long.status(), StatusCode::BAD_REQUEST);
    assert_eq!(long.json::<Value>().await.unwrap()["error"]["code"], 400);
    let wrong = client.get(url(&sim, "/v1/chat/completions")).send().await.unwrap();
    assert_eq!(wrong.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(client.get(url(&sim, "/nothing")).send().await.unwrap().status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn requests_wait_for_a_slot_and_are_rejected_beyond_the_queue() {
    let pace = Duration::from_millis(15);
    let options = SimOptions {
        latency: SimLatency { itl: pace, ..SimLatency::default() },
        ..with_capacity(SimCapacity { max_num_seqs: 1, max_waiting: 1, ..SimCapacity::default() })
    };
    let (sim, client) = start(options).await;
    let first = tokio::spawn({
        let (client, request) = (client.clone(), client.post(url(&sim, "/v1/chat/completions")));
        let request = request.json(&chat("first"));
        async move { client.execute(request.build().unwrap()).await.unwrap().status() }
    });
    until("the first runs", || sim.running() == 1).await;
    let second = tokio::spawn(client.post(url(&sim, "/v1/chat/completions")).json(&chat("second")).send());
    until("the second waits", || sim.waiting() == 1).await;
    assert!((metric(&client, &sim, "vllm:num_requests_waiting{").await - 1.0).abs() < f64::EPSILON);
    assert_eq!(ask(&client, &sim, &chat("third")).await.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(first.await.unwrap(), StatusCode::OK);
    assert_eq!(second.await.unwrap().unwrap().status(), StatusCode::OK);
    assert_eq!((sim.running(), sim.waiting()), (0, 0));
}

#[tokio::test]
async fn a_client_that_disconnects_frees_its_slot_and_its_blocks() {
    let (sim, client) =
        start(with_latency(SimLatency { itl: Duration::from_mins(1), ..SimLatency::default() })).await;
    for stream in [true, false] {
        let mut body = chat("a long story");
        body["stream"] = json!(stream);
        let asked = client.post(url(&sim, "/v1/chat/completions")).json(&body).send();
        let asked = tokio::spawn(timeout(PATIENCE, asked));
        until("it runs", || sim.running() == 1).await;
        assert!(metric(&client, &sim, "vllm:kv_cache_usage_perc{").await > 0.0);
        asked.abort();
        drop(asked.await);
        until("it is gone", || sim.running() == 0).await;
    }
    assert!(metric(&client, &sim, "vllm:kv_cache_usage_perc{").await.abs() < f64::EPSILON);
    let aborted = r#"vllm:request_success_total{engine="0",finished_reason="abort""#;
    assert!((metric(&client, &sim, aborted).await - 2.0).abs() < f64::EPSILON);
    let outcomes: Vec<SimOutcome> =
        sim.requests().iter().filter(|seen| seen.path.starts_with("/v1")).map(|seen| seen.outcome).collect();
    assert_eq!(outcomes, [SimOutcome::Aborted, SimOutcome::Aborted]);
}

#[tokio::test]
async fn a_repeated_prompt_is_found_in_the_cache_and_prefilled_faster() {
    let prefill_per_token = Duration::from_micros(500);
    let options = with_latency(SimLatency { prefill_per_token, ..SimLatency::default() });
    let (sim, client) = start(options).await;
    let body = chat(&"some words ".repeat(100));
    let cold_start = Instant::now();
    let cold = answer(&client, &sim, &body).await;
    let cold_took = cold_start.elapsed();
    let warm_start = Instant::now();
    let warm = answer(&client, &sim, &body).await;
    let warm_took = warm_start.elapsed();
    assert_eq!(cold["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
    let cached = warm["usage"]["prompt_tokens_details"]["cached_tokens"].as_f64().unwrap();
    assert!(cached > 250.0, "{warm}");
    assert!(warm_took < cold_took, "{warm_took:?} {cold_took:?}");
    assert!((metric(&client, &sim, "vllm:prefix_cache_hits_total{").await - cached).abs() < f64::EPSILON);
}

#[tokio::test]
async fn faults_are_injected_while_it_runs() {
    let (sim, client) = start(SimOptions::default()).await;
    assert_eq!(ask(&client, &sim, &chat("x")).await.status(), StatusCode::OK);
    sim.set_faults(Faults { status: Some(503), ..Faults::default() });
    assert_eq!(ask(&client, &sim, &chat("x")).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    sim.set_faults(Faults { unhealthy: true, ..Faults::default() });
    let health = client.get(url(&sim, "/health")).send().await.unwrap();
    assert_eq!(health.status(), StatusCode::SERVICE_UNAVAILABLE);
    sim.set_faults(Faults { reset_before_headers: 1.0, ..Faults::default() });
    assert!(client.post(url(&sim, "/v1/chat/completions")).json(&chat("x")).send().await.is_err());
    sim.set_faults(Faults { refuse: true, ..Faults::default() });
    assert!(client.get(url(&sim, "/health")).send().await.is_err());
    sim.set_faults(Faults { status: Some(500), status_share: 0.5, ..Faults::default() });
    let mut failed = 0;
    for _ in 0..100 {
        failed += usize::from(!ask(&client, &sim, &chat("x")).await.status().is_success());
    }
    assert!((30..=70).contains(&failed), "{failed} of 100");
}

#[tokio::test]
async fn a_stream_is_reset_after_exactly_so_many_events() {
    let faults = Faults { reset_mid_stream: Some(3), ..Faults::default() };
    let (sim, _) = start(SimOptions { faults, ..SimOptions::default() }).await;
    for stream in [true, false] {
        let mut body = chat("x");
        body["stream"] = json!(stream);
        let body = body.to_string();
        let mut socket = TcpStream::connect(sim.addr()).await.unwrap();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut got = Vec::new();
        let end = timeout(PATIENCE, socket.read_to_end(&mut got)).await.unwrap();
        assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        let got = String::from_utf8(got).unwrap();
        assert!(got.starts_with("HTTP/1.1 200 OK"));
        assert_eq!(got.matches("data: ").count(), if stream { 3 } else { 0 });
    }
    until("both aborted", || sim.requests().iter().all(|seen| seen.outcome == SimOutcome::Aborted)).await;
    assert_eq!(sim.running(), 0);
}

#[tokio::test]
async fn a_stall_keeps_silent_and_then_goes_on() {
    let stall = Duration::from_millis(150);
    for faults in [
        Faults { stall_before_headers: Some(stall), ..Faults::default() },
        Faults { stall_mid_stream: Some(stall), ..Faults::default() },
    ] {
        let (sim, client) = start(SimOptions { faults, ..SimOptions::default() }).await;
        let mut body = chat("x");
        body["stream"] = json!(true);
        let began = Instant::now();
        let response = ask(&client, &sim, &body).await;
        assert!(faults.stall_before_headers.is_none() || began.elapsed() >= stall);
        assert!(response.text().await.unwrap().ends_with("[DONE]\n\n"));
        assert!(began.elapsed() >= stall);
    }
}

#[tokio::test]
async fn one_port_speaks_both_versions_in_plain_text_and_over_tls() {
    let (sim, _) = start(SimOptions::default()).await;
    let h2 = Client::builder().http2_prior_knowledge().build().unwrap();
    assert_eq!(ask(&h2, &sim, &chat("x")).await.version(), reqwest::Version::HTTP_2);
    let authority = Authority::new("test authority");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tls = authority.server_config(&["localhost", "127.0.0.1"]);
    let secure = Sim::start(SimOptions::default(), listener, Some(tls)).await;
    let ca = reqwest::Certificate::from_pem(authority.ca_pem().as_bytes()).unwrap();
    let trusting = Client::builder().tls_certs_only([ca]).build().unwrap();
    let response = trusting.get(format!("https://{}/health", secure.addr())).send().await.unwrap();
    assert_eq!(response.version(), reqwest::Version::HTTP_2);
    assert!(Client::new().get(format!("https://{}/health", secure.addr())).send().await.is_err());
}

#[tokio::test]
async fn stopping_closes_the_port() {
    let (sim, client) = start(SimOptions::default()).await;
    let health = url(&sim, "/health");
    assert!(client.get(&health).send().await.is_ok());
    sim.stop().await;
    assert!(client.get(&health).send().await.is_err());
}

#[tokio::test]
async fn the_pace_is_kept_and_stretches_under_load() {
    let options = SimOptions {
        latency: SimLatency {
            ttft: Duration::from_millis(40),
            itl: Duration::from_millis(10),
            load_factor: 3.0,
            ..SimLatency::default()
        },
        capacity: SimCapacity { max_num_seqs: 2, ..SimCapacity::default() },
        default_max_tokens: 11,
        ..SimOptions::default()
    };
    let (sim, client) = start(options).await;
    let began = Instant::now();
    answer(&client, &sim, &chat("x")).await;
    let alone = began.elapsed();
    assert!(alone >= Duration::from_millis(140), "{alone:?}");
    let began = Instant::now();
    let (one, two) = (chat("y"), chat("z"));
    let both = tokio::join!(answer(&client, &sim, &one), answer(&client, &sim, &two));
    assert_eq!(both.0["usage"]["completion_tokens"], 11);
    let together = began.elapsed();
    assert!(together >= Duration::from_millis(300), "{together:?}");
}
