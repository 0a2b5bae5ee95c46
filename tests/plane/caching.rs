//! Answers that are given again: whose, for what, how, and for how long.

use crate::harness::*;
use serde_json::{Value, json};
use signalbox::sim::Sim;
use std::process::{Child, Command, Stdio};

fn policy(sim: &Sim, cache: &str, more: &str) -> String {
    policy_of(&[sim.addr()], "")
        + &format!(
            "virtual_models: [auto]\ndefault_model: m\nclassifier: {{deadline: 30s}}\n\
             decisions: [{{name: d, model: m, plugins: {{cache: {cache}}}}}]\n{more}"
        )
}

fn body(text: &str) -> Value {
    json!({"model": "auto", "messages": [{"role": "user", "content": text}], "max_tokens": 8})
}

async fn ask(gateway: &Gateway, headers: &[(&str, &str)], body: &Value) -> Answer {
    let mut request =
        client().post(gateway.url("/v1/chat/completions")).header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Answer::of(request.body(body.to_string()).send().await.unwrap()).await
}

/// Sends it until the response is a cached one: storing goes on after the response is sent.
async fn cached(gateway: &Gateway, body: &Value) -> Answer {
    until("a cached response", async || {
        let answer = ask(gateway, &[], body).await;
        (answer.header("x-vsr-cache-hit") == "true").then_some(answer)
    })
    .await
}

#[tokio::test]
async fn an_equal_request_has_the_same_answer_whole_or_as_a_stream() {
    let sim = sim("m").await;
    let gateway = Launch::new(policy(&sim, "{match: exact}", "")).start().await;
    let first = ask(&gateway, &[], &body("What is the capital of France?")).await;
    assert_eq!((first.status, first.header("x-vsr-cache-hit")), (200, ""), "{}", first.text);
    let again = cached(&gateway, &body("What is the capital of France?")).await;
    assert_eq!(again.json()["choices"], first.json()["choices"]);
    assert_eq!(again.header("x-vsr-response-path"), "cache");
    let asked_so_far = asked(&sim).len();
    let mut streamed = body("What is the capital of France?");
    streamed["stream"] = json!(true);
    streamed["stream_options"] = json!({"include_usage": true});
    let stream = ask(&gateway, &[], &streamed).await;
    assert_eq!(
        (stream.header("x-vsr-cache-hit"), stream.header("content-type")),
        ("true", "text/event-stream")
    );
    assert!(
        stream.text.ends_with("data: [DONE]\n\n") && stream.text.contains("\"usage\""),
        "{}",
        stream.text
    );
    assert_eq!(asked(&sim).len(), asked_so_far, "nobody was asked again");
    let line = gateway.line(stream.header("x-request-id")).await;
    assert_eq!((&line["cache"], &line["response_path"]), (&json!("hit"), &json!("cache")), "{line}");
    gateway.counts("signalbox_cache_requests_total", &["result=\"hit\""], 2.0).await;
    gateway.counts("signalbox_cache_entries", &[], 1.0).await;
    gateway.counts("signalbox_cache_stores_total", &["result=\"stored\""], 1.0).await;
}

#[tokio::test]
async fn a_stream_is_cached_whole() {
    let sim = sim("m").await;
    let gateway = Launch::new(policy(&sim, "{match: exact}", "")).start().await;
    let mut streamed = body("Tell me of trains.");
    streamed["stream"] = json!(true);
    let first = ask(&gateway, &[], &streamed).await;
    let again = cached(&gateway, &body("Tell me of trains.")).await;
    let content = again.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    let said: String = first
        .text
        .lines()
        .filter_map(|line| line.strip_prefix("data: ").filter(|data| *data != "[DONE]"))
        .filter_map(|data| {
            serde_json::from_str::<Value>(data).unwrap()["choices"][0]["delta"]["content"]
                .as_str()
                .map(str::to_owned)
        })
        .collect();
    assert_eq!(content, said);
}

#[tokio::test]
async fn what_differs_in_anything_that_matters_is_asked_anew() {
    let sim = sim("m").await;
    let gateway = Launch::new(policy(&sim, "{match: exact}", "")).start().await;
    let plain = body("How do I enable 2FA?");
    ask(&gateway, &[], &plain).await;
    cached(&gateway, &plain).await;
    let with = |key: &str, value: Value| {
        let mut other = plain.clone();
        other[key] = value;
        other
    };
    let system = json!([{"role": "system", "content": "be brief"}, {"role": "user", "content": "How do I enable 2FA?"}]);
    for other in [
        with("temperature", json!(0.5)),
        with("messages", system),
        with("max_tokens", json!(9)),
        body("How do I disable 2FA?"),
    ] {
        assert_eq!(ask(&gateway, &[], &other).await.header("x-vsr-cache-hit"), "", "{other}");
    }
    for control in ["no-store", "no-cache"] {
        let fresh = ask(&gateway, &[("x-vsr-cache-control", control)], &plain).await;
        assert_eq!(fresh.header("x-vsr-cache-hit"), "", "{control}");
    }
    assert_eq!(
        ask(&gateway, &[("x-request-id", "same")], &with("user", json!("me")))
            .await
            .header("x-vsr-cache-hit"),
        "true"
    );
}

#[tokio::test]
async fn a_like_request_has_the_answer_and_an_opposite_one_has_not() {
    let sim = sim("m").await;
    let gateway = Launch::new(policy(&sim, "{match: semantic, min_score: 0.8}", "")).start().await;
    ask(&gateway, &[], &body("How do I enable two-factor authentication?")).await;
    cached(&gateway, &body("How do I enable two-factor authentication?")).await;
    let like = ask(&gateway, &[], &body("How can I enable two-factor authentication?")).await;
    assert_eq!(like.header("x-vsr-cache-hit"), "true", "{:?}", like.headers);
    let opposite = ask(&gateway, &[], &body("How do I disable two-factor authentication?")).await;
    assert_eq!(opposite.header("x-vsr-cache-hit"), "");
}

#[tokio::test]
async fn tenants_never_see_each_others_answers() {
    let sim = sim("m").await;
    let identity = "identity: {keys: [{value: {env: A}, user: a, tenant: red}, {value: {env: B}, user: b, tenant: blue}, {value: {env: C}, user: c, tenant: red}]}\n";
    let launch = Launch::new(policy(&sim, "{match: exact, scope: tenant}", identity));
    let gateway = launch.variable("A", "key-a").variable("B", "key-b").variable("C", "key-c").start().await;
    let question = body("What is in our contract?");
    let by = |key: &'static str| [("authorization", key)];
    ask(&gateway, &by("Bearer key-a"), &question).await;
    until("a cached response", async || {
        let answer = ask(&gateway, &by("Bearer key-c"), &question).await;
        (answer.header("x-vsr-cache-hit") == "true").then_some(())
    })
    .await;
    assert_eq!(ask(&gateway, &by("Bearer key-b"), &question).await.header("x-vsr-cache-hit"), "");
    assert_eq!(ask(&gateway, &[], &question).await.header("x-vsr-cache-hit"), "");
}

#[tokio::test]
async fn equal_requests_at_once_ask_the_upstream_once() {
    let sim = sim_with("m", |options| options.latency.ttft = std::time::Duration::from_millis(300)).await;
    let gateway = Launch::new(policy(&sim, "{match: exact}", "")).start().await;
    let question = body("Who was first?");
    let asking = (0..8).map(|_| ask(&gateway, &[], &question));
    let answers = futures::future::join_all(asking).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(asked(&sim).len(), 1);
    let contents: Vec<_> = answers.iter().map(|answer| answer.json()["choices"].clone()).collect();
    assert!(contents.iter().all(|content| *content == contents[0]));
}

#[tokio::test]
async fn cached_responses_outlive_the_process_where_that_is_wanted() {
    let sim = sim("m").await;
    let text = policy(&sim, "{match: exact}", "cache: {persist: cached.bin}\n");
    let mut gateway = Launch::new(text.clone()).start().await;
    ask(&gateway, &[], &body("Do you remember?")).await;
    cached(&gateway, &body("Do you remember?")).await;
    gateway.signal("TERM");
    gateway.ended().await;
    let again = Launch::new(text).beside(&gateway).start().await;
    assert_eq!(ask(&again, &[], &body("Do you remember?")).await.header("x-vsr-cache-hit"), "true");
}

/// A Redis server of the test's own.
struct Redis {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Redis {
    async fn start() -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--requirepass", "open"])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed; tests/packages installs it");
        until("Redis", async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
        Self { child, port, _folder: folder }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn processes_share_answers_over_redis_and_do_without_it_when_it_is_away() {
    let (sim, redis) = (sim("m").await, Redis::start().await);
    let cache = format!(
        "cache: {{store: redis, redis: {{address: \"redis://127.0.0.1:{}/0\", password: {{env: REDIS}}, timeout: 1s}}}}\n",
        redis.port
    );
    let text = policy(&sim, "{match: semantic, min_score: 0.8}", &cache);
    let one = Launch::new(text.clone()).variable("REDIS", "open").start().await;
    let other = Launch::new(text).variable("REDIS", "open").start().await;
    ask(&one, &[], &body("How do I enable two-factor authentication?")).await;
    cached(&other, &body("How do I enable two-factor authentication?")).await;
    let like = ask(&other, &[], &body("How can I enable two-factor authentication?")).await;
    assert_eq!((like.status, like.header("x-vsr-cache-hit")), (200, "true"), "{:?}", like.headers);
    drop(redis);
    let alone = ask(&one, &[], &body("And which is that of Italy?")).await;
    assert_eq!((alone.status, alone.header("x-vsr-cache-hit")), (200, ""), "{}", alone.text);
    assert!(!(one.stdout() + &one.stderr()).contains("open\""));
}
