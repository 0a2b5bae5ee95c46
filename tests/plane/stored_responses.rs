//! Responses that are gone on from, shown again and deleted: kept here where the upstream speaks Chat alone, else by the
//! replica that made them.

use crate::harness::{Answer, Gateway, Launch, client, policy_of, until};
use crate::raw::{Act, Scripted, answer};
use crate::redis_server::Redis;
use reqwest::Method;
use serde_json::{Value, json};

const TENANTS: &str = "identity:\n  keys:\n    - {value: {env: KEY_A}, user: ann, tenant: one}\n    - {value: {env: KEY_B}, user: bob, tenant: one}\n    \
                       - {value: {env: KEY_C}, user: cyd, tenant: two}\n";

/// An upstream that speaks Chat and always gives the same id.
async fn chat() -> Scripted {
    Scripted::start(|_, _| {
        Act::AnswerTo(|request| {
            let sent: Value = serde_json::from_slice(&request.body).unwrap();
            let said = format!("answer {}", sent["messages"].as_array().map_or(0, Vec::len));
            if sent["stream"] != true {
                let message = json!({"role": "assistant", "content": said});
                return answer("200 OK", &json!({"id": "chatcmpl-1", "choices": [
                    {"index": 0, "finish_reason": "stop", "message": message}]}).to_string());
            }
            let chunk = json!({"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {"content": said}, "finish_reason": "stop"}]});
            let body = format!("data: {chunk}\n\ndata: [DONE]\n\n");
            format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
        })
    })
    .await
}

async fn ask(gateway: &Gateway, method: Method, path: &str, key: &str, body: Option<Value>) -> Answer {
    let mut request = client().request(method, gateway.url(path)).bearer_auth(key);
    if let Some(body) = body {
        request = request.header("content-type", "application/json").body(body.to_string());
    }
    Answer::of(request.send().await.unwrap()).await
}

async fn get(gateway: &Gateway, path: &str) -> Answer {
    ask(gateway, Method::GET, path, "a", None).await
}

async fn respond(gateway: &Gateway, input: &str, previous: Option<&str>) -> Answer {
    let mut body = json!({"model": "m", "input": input, "instructions": "Be brief."});
    if let Some(previous) = previous {
        body["previous_response_id"] = previous.into();
    }
    ask(gateway, Method::POST, "/v1/responses", "a", Some(body)).await
}

fn id(answer: &Answer) -> String {
    answer.json()["id"].as_str().unwrap_or_else(|| panic!("{}", answer.text)).to_owned()
}

/// The messages of the last request that the upstream got, as `role: text`.
fn messages(upstream: &Scripted) -> Vec<String> {
    let last: Value = serde_json::from_slice(&upstream.requests().pop().unwrap().body).unwrap();
    let text = |message: &Value| {
        format!("{}: {}", message["role"].as_str().unwrap(), message["content"].as_str().unwrap())
    };
    last["messages"].as_array().unwrap().iter().map(text).collect()
}

#[tokio::test]
async fn a_conversation_goes_on_from_responses_that_a_chat_upstream_knows_nothing_of() {
    let upstream = chat().await;
    let gateway = Launch::new(policy_of(&[upstream.addr], "    speaks: [chat]\n")).start().await;
    let first = respond(&gateway, "one", None).await;
    assert_eq!(first.json()["store"], true);
    let second = respond(&gateway, "two", Some(&id(&first))).await;
    assert_ne!(id(&first), id(&second), "the upstream's ids are no names");
    assert_eq!(second.json()["previous_response_id"], id(&first));
    let stream = json!({"model": "m", "input": "three", "stream": true, "previous_response_id": id(&second)});
    let stream = ask(&gateway, Method::POST, "/v1/responses", "a", Some(stream)).await;
    let said = ["user: one", "assistant: answer 2", "user: two", "assistant: answer 4", "user: three"];
    assert_eq!(messages(&upstream), said, "instructions are each request's own");
    let last = stream.text.rsplit("data: ").next().unwrap();
    let third =
        serde_json::from_str::<Value>(last.trim()).unwrap()["response"]["id"].as_str().unwrap().to_owned();
    // At once: what is streamed is kept before its last event is sent.
    respond(&gateway, "four", Some(&third)).await;
    assert_eq!(messages(&upstream)[1..], [&said[..], &["assistant: answer 5", "user: four"]].concat());
}

#[tokio::test]
async fn a_response_that_is_kept_is_shown_listed_and_deleted() {
    let upstream = chat().await;
    let gateway = Launch::new(policy_of(&[upstream.addr], "    speaks: [chat]\n")).start().await;
    let made = respond(&gateway, "one", None).await;
    let path = format!("/v1/responses/{}", id(&made));
    let shown = get(&gateway, &path).await;
    assert_eq!((shown.status, shown.json()), (200, made.json()));
    let next = respond(&gateway, "two", Some(&id(&made))).await;
    let items = get(&gateway, &format!("/v1/responses/{}/input_items?order=asc", id(&next))).await.json();
    let roles: Vec<&str> =
        items["data"].as_array().unwrap().iter().map(|item| item["role"].as_str().unwrap()).collect();
    assert_eq!((roles, &items["has_more"]), (vec!["user", "assistant", "user"], &json!(false)));
    let events = get(&gateway, &format!("{path}?stream=true")).await;
    assert!(
        events.text.starts_with("event: response.created\n")
            && events.text.contains("event: response.completed\n")
    );
    let rest = get(&gateway, &format!("{path}?stream=true&starting_after=0")).await;
    assert!(
        events.text.ends_with(&rest.text) && rest.text.starts_with("event: response.in_progress\n"),
        "{}",
        rest.text
    );
    let cancelled = ask(&gateway, Method::POST, &format!("{path}/cancel"), "a", None).await;
    assert_eq!(cancelled.status, 400, "{}", cancelled.text);
    let deleted = ask(&gateway, Method::DELETE, &path, "a", None).await;
    assert_eq!((deleted.status, &deleted.json()["deleted"]), (200, &json!(true)));
    let gone = get(&gateway, &path).await;
    assert_eq!((gone.status, &gone.json()["error"]["code"]), (404, &json!("response_not_found")));
    let gone = respond(&gateway, "two", Some(&id(&made))).await;
    assert_eq!((gone.status, &gone.json()["error"]["param"]), (400, &json!("previous_response_id")));
    assert_eq!(gone.json()["error"]["code"], "previous_response_not_found");
    assert_eq!(respond(&gateway, "three", Some(&id(&next))).await.status, 200, "each is kept whole");
}

#[tokio::test]
async fn what_is_not_to_be_kept_is_not() {
    let upstream = chat().await;
    let policy = policy_of(&[upstream.addr], "    speaks: [chat]\n");
    let keeping = Launch::new(policy.clone()).start().await;
    let unstored = json!({"model": "m", "input": "hi", "store": false});
    let unstored = ask(&keeping, Method::POST, "/v1/responses", "a", Some(unstored)).await;
    assert_eq!(unstored.json()["store"], false);
    assert_eq!(get(&keeping, &format!("/v1/responses/{}", id(&unstored))).await.status, 404);
    let off = Launch::new(policy + "responses: {keep: false}\n").start().await;
    let made = respond(&off, "hi", None).await;
    assert_eq!((&made.json()["store"], made.status), (&json!(false), 200));
    assert_eq!(respond(&off, "and", Some(&id(&made))).await.status, 400);
    let short =
        Launch::new(policy_of(&[upstream.addr], "    speaks: [chat]\n") + "responses: {ttl: 100ms}\n")
            .start()
            .await;
    let path = format!("/v1/responses/{}", id(&respond(&short, "hi", None).await));
    until("the end of its time", async || (get(&short, &path).await.status == 404).then_some(())).await;
}

#[tokio::test]
async fn a_history_that_is_kept_is_judged_and_masked_with_each_turn_that_goes_on_from_it() {
    let upstream = chat().await;
    let guarded = |guards: &str| {
        policy_of(&[upstream.addr], "    speaks: [chat]\n") + "classifier: {deadline: 30s}\n" + guards
    };
    let gateway = Launch::new(guarded("")).start().await;
    let made = id(&respond(&gateway, "My card is 4111 1111 1111 1111.", None).await);
    gateway.rewrite(&guarded("guards: {pii: {action: mask}}\n"));
    until("the masking policy", async || {
        respond(&gateway, "And now?", Some(&made)).await;
        let sent = messages(&upstream);
        (!sent[1].contains("4111") && sent[1].contains("[CREDIT_CARD")).then_some(())
    })
    .await;
    gateway.rewrite(&guarded("guards: {pii: {action: block, scope: conversation}}\n"));
    let blocked = until("the blocking policy", async || {
        let blocked = respond(&gateway, "And now?", Some(&made)).await;
        (blocked.status != 200).then_some(blocked)
    })
    .await;
    assert_eq!((blocked.status, &blocked.json()["error"]["code"]), (400, &json!("content_filter")));
}

#[tokio::test]
async fn a_response_is_its_tenants_alone() {
    let upstream = chat().await;
    let policy = policy_of(&[upstream.addr], "    speaks: [chat]\n") + TENANTS;
    let launch = Launch::new(policy).variable("KEY_A", "a").variable("KEY_B", "b").variable("KEY_C", "c");
    let gateway = launch.start().await;
    let made = respond(&gateway, "one", None).await;
    let path = format!("/v1/responses/{}", id(&made));
    for (key, status) in [("a", 200), ("b", 200), ("c", 404)] {
        assert_eq!(ask(&gateway, Method::GET, &path, key, None).await.status, status, "{key}");
    }
    let foreign = json!({"model": "m", "input": "and?", "previous_response_id": id(&made)});
    assert_eq!(ask(&gateway, Method::POST, "/v1/responses", "c", Some(foreign)).await.status, 400);
    assert_eq!(ask(&gateway, Method::DELETE, &path, "c", None).await.status, 404);
    assert_eq!(ask(&gateway, Method::GET, &path, "a", None).await.status, 200);
}

/// A replica that keeps its responses, whose ids begin so.
async fn keeping(made: &'static str) -> Scripted {
    Scripted::start(move |_, _| {
        Act::Answer(answer(
            "200 OK",
            &json!({"id": made, "object": "response", "model": "m", "output": [],
            "usage": {"input_tokens": 3, "output_tokens": 4}})
            .to_string(),
        ))
    })
    .await
}

#[tokio::test]
async fn what_is_asked_about_a_response_goes_to_the_replica_that_made_it() {
    let replicas = [keeping("resp_a").await, keeping("resp_b").await];
    let policy =
        policy_of(&replicas.each_ref().map(|one| one.addr), "    balance: {strategy: round_robin}\n")
            + TENANTS;
    let launch = Launch::new(policy).variable("KEY_A", "a").variable("KEY_B", "b").variable("KEY_C", "c");
    let gateway = launch.start().await;
    for _ in 0..2 {
        respond(&gateway, "hi", None).await;
    }
    for one in &replicas {
        drop(one.requests());
    }
    for (replica, id) in replicas.iter().zip(["resp_a", "resp_b"]) {
        for (method, path) in [
            (Method::GET, format!("/v1/responses/{id}?include[]=x")),
            (Method::GET, format!("/v1/responses/{id}/input_items?limit=2")),
            (Method::POST, format!("/v1/responses/{id}/cancel")),
            (Method::DELETE, format!("/v1/responses/{id}")),
        ] {
            let got = ask(&gateway, method.clone(), &path, "a", None).await;
            assert_eq!((got.status, got.json()["id"].as_str()), (200, Some(id)), "{method} {path}");
            let seen = replica.requests();
            let line = format!("{method} {path} HTTP/1.1");
            assert_eq!(seen.iter().map(|one| one.head.lines().next().unwrap()).collect::<Vec<_>>(), [line]);
            assert!(seen[0].body.is_empty());
            let line = gateway.line(got.header("x-request-id")).await;
            assert_eq!((&line["model"], &line["prompt_tokens"]), (&json!("m"), &Value::Null), "{line}");
        }
    }
    for (path, key) in [("/v1/responses/resp_unknown", "a"), ("/v1/responses/resp_a", "c")] {
        let got = ask(&gateway, Method::GET, path, key, None).await;
        assert_eq!(
            (got.status, &got.json()["error"]["code"]),
            (400, &json!("response_not_found")),
            "{}",
            got.text
        );
    }
    assert_eq!(get(&gateway, "/v1/responses/resp_a/nothing").await.status, 404);
    let put = ask(&gateway, Method::PUT, "/v1/responses/resp_a", "a", None).await;
    assert_eq!((put.status, put.header("allow")), (405, "GET, DELETE"));
}

#[tokio::test]
async fn engines_that_do_not_have_the_response_are_no_404() {
    let lacking = async || {
        Scripted::start(|_, _| {
            Act::Answer(answer("404 Not Found", r#"{"error":{"message":"Response not found."}}"#))
        })
        .await
    };
    let replicas = [lacking().await, lacking().await];
    let gateway = Launch::new(policy_of(&replicas.each_ref().map(|one| one.addr), "")).start().await;
    let got = respond(&gateway, "and?", Some("resp_gone")).await;
    assert_eq!(
        (got.status, &got.json()["error"]["code"]),
        (400, &json!("previous_response_not_found")),
        "{}",
        got.text
    );
    assert!(got.text.contains("resp_gone"), "{}", got.text);
    assert_eq!(respond(&gateway, "hi", None).await.status, 404, "another error of theirs stays");
}

#[tokio::test]
async fn the_tokens_of_a_response_are_counted_by_the_engine() {
    let upstream =
        Scripted::start(|_, _| Act::Answer(answer("200 OK", r#"{"count":9,"max_model_len":100}"#))).await;
    let gateway = Launch::new(policy_of(&[upstream.addr], "")).start().await;
    let body = json!({"model": "m", "instructions": "S", "input": "hi"}).to_string();
    let got = gateway.post("/v1/responses/input_tokens", body).await;
    assert_eq!(
        (got.status, got.json()),
        (200, json!({"object": "response.input_tokens", "input_tokens": 9}))
    );
    let seen = upstream.requests().pop().unwrap();
    assert!(seen.head.starts_with("POST /tokenize "), "{}", seen.head);
    let sent: Value = serde_json::from_slice(&seen.body).unwrap();
    assert_eq!(
        sent,
        json!({"model": "m", "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "hi"}]})
    );
}

#[tokio::test]
async fn replicas_share_over_redis_what_they_keep_of_responses() {
    let (upstream, redis) = (chat().await, Redis::start().await);
    let server = format!("redis://127.0.0.1:{}/0", redis.port);
    let policy = policy_of(&[upstream.addr], "    speaks: [chat]\n")
        + &format!(
            "cache: {{store: redis, redis: {{address: \"{server}\", password: {{env: REDIS}}, timeout: 1s}}}}\nresponses: {{ttl: 1h}}\n{TENANTS}"
        );
    let launch = || {
        let keys = [("KEY_A", "a"), ("KEY_B", "b"), ("KEY_C", "c"), ("REDIS", "open")];
        keys.into_iter()
            .fold(Launch::new(policy.clone()), |launch, (name, value)| launch.variable(name, value))
    };
    let (one, other) = (launch().start().await, launch().start().await);
    let first = respond(&one, "one", None).await;
    let path = format!("/v1/responses/{}", id(&first));
    let shown = get(&other, &path).await;
    assert_eq!(
        (shown.status, shown.json()["output"].clone()),
        (200, first.json()["output"].clone()),
        "{}",
        shown.text
    );
    let second = respond(&other, "two", Some(&id(&first))).await;
    assert_eq!(messages(&upstream)[1..], ["user: one", "assistant: answer 2", "user: two"]);
    let items = get(&one, &format!("/v1/responses/{}/input_items", id(&second))).await;
    assert_eq!(items.json()["data"].as_array().map(Vec::len), Some(3), "{}", items.text);
    for (key, status) in [("b", 200), ("c", 404)] {
        assert_eq!(ask(&one, Method::GET, &path, key, None).await.status, status, "{key}: by tenant");
    }
    assert_eq!(ask(&other, Method::DELETE, &path, "a", None).await.json()["deleted"], true);
    assert_eq!(get(&one, &path).await.status, 404, "gone for all of them");
    drop(redis);
    let alone = respond(&one, "three", None).await;
    assert_eq!(alone.status, 200, "what cannot be kept is answered: {}", alone.text);
    let lost = respond(&one, "four", Some(&id(&second))).await;
    assert_eq!(
        (lost.status, lost.json()["error"]["code"].as_str()),
        (400, Some("previous_response_not_found")),
        "{}",
        lost.text
    );
}
