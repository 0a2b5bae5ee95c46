//! Answers that are given again: whose, for what, how, and for how long.

use crate::harness::*;
use crate::raw::{Act, Scripted};
use crate::redis_server::Redis;
use crate::upstream::Upstream;
use serde_json::{Value, json};
use signalbox::sim::Sim;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
async fn a_cached_stream_says_what_it_cost_to_whoever_asks() {
    let sim = sim("m").await;
    let gateway = Launch::new(policy(&sim, "{match: exact}", "")).start().await;
    let mut streamed = body("Tell me of boats.");
    streamed["stream"] = json!(true);
    let first = ask(&gateway, &[], &streamed).await;
    assert!(!first.text.contains("\"usage\"") && first.text.ends_with("data: [DONE]\n\n"), "{}", first.text);
    let again = cached(&gateway, &streamed).await;
    assert!(!again.text.contains("\"prompt_tokens\""), "{}", again.text);
    streamed["stream_options"] = json!({"include_usage": true});
    let asked = cached(&gateway, &streamed).await;
    let chunk = asked.text.lines().rev().filter_map(|line| line.strip_prefix("data: ")).nth(1).unwrap();
    let chunk: Value = serde_json::from_str(chunk).unwrap();
    assert_eq!((&chunk["choices"], &chunk["usage"]["completion_tokens"]), (&json!([]), &json!(8)), "{chunk}");
}

#[tokio::test]
async fn an_answer_that_says_nothing_is_not_kept() {
    let empty = |content: &str| {
        format!(
            "{{\"id\":\"1\",\"object\":\"chat.completion\",\"model\":\"m\",\"choices\":[{{\"index\":0,\"message\":{content},\
                 \"finish_reason\":\"stop\"}}]}}"
        )
    };
    let nothing = empty(r#"{"role":"assistant","content":"","tool_calls":[]}"#);
    let call = empty(
        r#"{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":""}}]}"#,
    );
    for (said, is_kept) in [(nothing, false), (call, true)] {
        let upstream = Scripted::start(move |_, _| Act::Answer(crate::raw::answer("200 OK", &said))).await;
        let policy = policy_of(&[upstream.addr], "")
            + "virtual_models: [auto]\ndefault_model: m\nclassifier: {deadline: 30s}\n\
               decisions: [{name: d, model: m, plugins: {cache: {match: exact}}}]\n";
        let gateway = Launch::new(policy).start().await;
        let first = ask(&gateway, &[], &body("Say nothing.")).await;
        assert_eq!(first.status, 200, "{}", first.text);
        if is_kept {
            cached(&gateway, &body("Say nothing.")).await;
            continue;
        }
        // Whatever is stored is stored in the order of the answers.
        for _again in 0..5 {
            let again = ask(&gateway, &[], &body("Say nothing.")).await;
            assert_eq!(again.header("x-vsr-cache-hit"), "", "{}", again.text);
        }
        assert_eq!(gateway.metric("signalbox_cache_entries", &[]).await, 0.0);
    }
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
async fn a_paraphrase_has_the_answer_and_a_trap_has_not() {
    let sim = sim("m").await;
    let gateway = Launch::new(policy(&sim, "{match: semantic, min_score: 0.99}", "")).start().await;
    ask(&gateway, &[], &body("How many calories are in an avocado?")).await;
    cached(&gateway, &body("How many calories are in an avocado?")).await;
    let score = |answer: &Answer| answer.header("x-vsr-cache-paraphrase").parse::<f32>().unwrap();
    let paraphrase = ask(&gateway, &[], &body("What is the calorie count of an avocado?")).await;
    assert_eq!(paraphrase.header("x-vsr-cache-hit"), "true", "{:?}", paraphrase.headers);
    // Its neighbours were judged, and refused.
    let trap = ask(&gateway, &[], &body("How many vitamins are in an avocado?")).await;
    assert_eq!(trap.header("x-vsr-cache-hit"), "", "{:?}", trap.headers);
    assert!(score(&trap) < score(&paraphrase), "{:?}", trap.headers);
    gateway.counts("signalbox_cache_guard_rejections_total", &[], 1.0).await;
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
async fn anonymous_clients_and_those_without_a_tenant_have_answers_of_their_own() {
    let sim = sim("m").await;
    let identity = "identity: {keys: [{value: {env: A}, user: a}, {value: {env: B}, user: b}]}\n";
    let launch = Launch::new(policy(&sim, "{match: exact, scope: tenant}", identity));
    let gateway = launch.variable("A", "key-a").variable("B", "key-b").start().await;
    let question = body("What did I say?");
    let by: [&[(&str, &str)]; 3] = [&[], &[("authorization", "Bearer key-a")], &[("x-api-key", "key-b")]];
    for (at, headers) in by.into_iter().enumerate() {
        assert_eq!(ask(&gateway, headers, &question).await.header("x-vsr-cache-hit"), "", "{headers:?}");
        assert_eq!(asked(&sim).len(), at + 1);
        gateway.counts("signalbox_cache_entries", &[], (at + 1) as f64).await;
        assert_eq!(ask(&gateway, headers, &question).await.header("x-vsr-cache-hit"), "true", "{headers:?}");
    }
}

#[tokio::test]
async fn where_one_prompt_ends_and_the_next_begins_matters() {
    let sim = sim("m").await;
    let gateway = Launch::new(policy(&sim, "{match: semantic, min_score: 0.8}", "")).start().await;
    let post = async |prompt: &str| {
        let body = format!(r#"{{"model":"auto","prompt":{prompt},"max_tokens":4}}"#);
        let answer = gateway.post("/v1/completions", body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.header("x-vsr-cache-hit").to_owned()
    };
    assert_eq!(post(r#"["a\nb","c"]"#).await, "");
    gateway.counts("signalbox_cache_entries", &[], 1.0).await;
    assert_eq!(post(r#"["a","b\nc"]"#).await, "");
    assert_eq!(post(r#"["a\nb","c"]"#).await, "true");
}

#[tokio::test]
async fn what_a_client_sends_on_to_the_upstream_is_part_of_the_key() {
    let sim = sim("m").await;
    let text = policy(&sim, "{match: exact, scope: all}", "")
        .replace("health: {enabled: false}", "health: {enabled: false}\n    forward_authorization: true");
    let gateway = Launch::new(text).start().await;
    let question = body("Whose is it?");
    let post = async |query: &str, header: (&str, &str)| {
        let url = gateway.url("/v1/chat/completions") + query;
        let request =
            client().post(url).header("content-type", "application/json").header(header.0, header.1);
        Answer::of(request.body(question.to_string()).send().await.unwrap())
            .await
            .header("x-vsr-cache-hit")
            .to_owned()
    };
    let ways = [
        ("", ("authorization", "Bearer one")),
        ("", ("authorization", "Bearer two")),
        ("", ("x-tenant", "a")),
        ("", ("x-tenant", "b")),
        ("?api-version=1", ("x-tenant", "b")),
        ("?api-version=2", ("x-tenant", "b")),
    ];
    for (at, (query, header)) in ways.into_iter().enumerate() {
        assert_eq!(post(query, header).await, "", "{query} {header:?}");
        gateway.counts("signalbox_cache_entries", &[], (at + 1) as f64).await;
        assert_eq!(post(query, header).await, "true", "{query} {header:?}");
    }
    // What says nothing but who asks, and how, does not matter.
    assert_eq!(post("?api-version=2", ("x-tenant", "b")).await, "true");
}

#[tokio::test]
async fn a_cached_answer_is_judged_again_when_the_guards_have_changed() {
    let upstream = Scripted::start(|_, _| {
        let message = json!({"role": "assistant", "content": "A bluebird sang."});
        let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
        Act::Answer(crate::raw::answer(
            "200 OK",
            &json!({"object": "chat.completion", "choices": [choice]}).to_string(),
        ))
    })
    .await;
    let text = |guards: &str| {
        policy_of(&[upstream.addr], "")
            + "virtual_models: [auto]\ndefault_model: m\ndecisions: [{name: d, model: m, plugins: {cache: {}}}]\n"
            + guards
    };
    let gateway = Launch::new(text("")).start().await;
    let question = body("Who sang?");
    assert!(ask(&gateway, &[], &question).await.text.contains("bluebird"));
    assert!(cached(&gateway, &question).await.text.contains("bluebird"));
    gateway.rewrite(&text("guards: {answer: {words: [bluebird], on_words: mask}}\n"));
    gateway.counts("signalbox_policy_reloads_total", &["result=\"success\""], 1.0).await;
    let judged = ask(&gateway, &[], &question).await;
    assert!(judged.text.contains("A [REDACTED] sang."), "{}", judged.text);
    assert!(cached(&gateway, &question).await.text.contains("A [REDACTED] sang."));
}

#[tokio::test]
async fn a_stream_whose_end_the_client_has_seen_is_whole_though_it_leaves_at_once() {
    let delta = json!({"choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hi."}, "finish_reason": "stop"}]});
    let chat = format!("data: {delta}\n\ndata: [DONE]\n\n");
    let typed = |events: &[Value]| -> String {
        let typed = |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
        events.iter().map(typed).collect::<Vec<_>>().concat()
    };
    let message = json!({"id": "m", "type": "message", "role": "assistant", "content": [], "usage": {"input_tokens": 1}});
    let message = typed(&[
        json!({"type": "message_start", "message": message}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi."}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}}),
        json!({"type": "message_stop"}),
    ]);
    let response =
        typed(&[json!({"type": "response.completed", "response": {"id": "r", "status": "completed",
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "Hi."}]}]}})]);
    for (path, prompt, stream) in [
        ("/v1/chat/completions", "messages", chat),
        ("/v1/messages", "messages", message),
        ("/v1/responses", "input", response),
    ] {
        let upstream = Upstream::start().await;
        let text = policy_of(&[upstream.addr()], "")
            + "virtual_models: [auto]\ndefault_model: m\ndecisions: [{name: d, model: m, plugins: {cache: {}}}]\n";
        let gateway = Launch::new(text).start().await;
        let said = json!([{"role": "user", "content": "Say hi."}]);
        let asked = json!({"model": "auto", "stream": true, "max_tokens": 5, (prompt): said}).to_string();
        let mut client = tokio::net::TcpStream::connect(gateway.addr).await.unwrap();
        client.write_all(crate::raw::post(path, &asked).as_bytes()).await.unwrap();
        let mut call = upstream.stream().await;
        call.chunk(stream.as_bytes()).await;
        let mut seen = String::new();
        let last = stream.lines().rfind(|line| !line.is_empty()).unwrap().to_owned() + "\n\n";
        while !seen.contains(&last) {
            let mut bytes = [0; 4096];
            let count = client.read(&mut bytes).await.unwrap();
            assert!(count > 0, "{path}: {seen}");
            seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
        drop(client);
        // The upstream never ends its answer by itself: the gateway lets it go because the client has left.
        call.closed().await;
        let id = seen.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap();
        let line = gateway.line(id).await;
        assert_eq!((&line["status"], line.get("error")), (&json!(200), None), "{path}: {line}");
        gateway.counts("signalbox_cache_entries", &[], 1.0).await;
        let again = gateway.post(path, asked.clone()).await;
        assert_eq!(again.header("x-vsr-cache-hit"), "true", "{path}: {}", again.text);
        assert!(again.text.contains("Hi."), "{path}: {}", again.text);
    }
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
