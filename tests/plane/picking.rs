//! Which replica gets a request: the one that has its prompt, unless that is busy, asleep or gone.

use crate::harness::*;
use crate::raw::*;
use serde_json::{Value, json};
use signalbox::sim::Sim;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

async fn replica(number: usize) -> Sim {
    sim_with("m", |options| options.pod = format!("pod-{number}")).await
}

async fn replicas() -> [Sim; 3] {
    [replica(0).await, replica(1).await, replica(2).await]
}

async fn gateway(sims: &[Sim], balance: &str) -> Gateway {
    let addresses: Vec<_> = sims.iter().map(Sim::addr).collect();
    Launch::new(policy_of(&addresses, &format!("    balance: {balance}\n"))).start().await
}

/// A conversation about one matter, long enough that its beginning is worth keeping.
fn conversation(matter: &str, turns: &[&str]) -> Value {
    let system = format!("You know everything about {matter}. ").repeat(60);
    let mut messages = vec![json!({"role": "system", "content": system})];
    for (at, turn) in turns.iter().enumerate() {
        messages.push(json!({"role": if at % 2 == 0 { "user" } else { "assistant" }, "content": turn}));
    }
    json!({"model": "m", "messages": messages})
}

async fn ask(gateway: &Gateway, body: &Value) -> Answer {
    let answer = gateway.post("/v1/chat/completions", body.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer
}

/// How the replicas stand for a request, as the operator is told.
async fn standing(gateway: &Gateway, body: &Value) -> Value {
    let sent = client().post(format!("http://{}/api/v1/pick", gateway.admin)).body(body.to_string()).send();
    Answer::of(sent.await.unwrap()).await.json()
}

#[tokio::test]
async fn a_conversation_stays_with_the_replica_that_has_it_cached_and_says_so() {
    let sims = replicas().await;
    let gateway = gateway(&sims, "{strategy: auto}").await;
    for matter in ["tea", "iron", "rivers", "chess"] {
        let first = ask(&gateway, &conversation(matter, &["hello"])).await;
        assert!(first.header("x-endpoint-reason").starts_with("load; cached=0; prompt="), "{matter}");
        let home = first.header("x-inference-pod").to_owned();
        let next = ask(&gateway, &conversation(matter, &["hello", "hi", "go on"])).await;
        assert_eq!(next.header("x-inference-pod"), home);
        assert!(next.header("x-endpoint-reason").starts_with("prefix; cached="), "{matter}");
        let cached = next.json()["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64();
        assert!(cached.is_some_and(|cached| cached > 0), "{}", next.text);
        let line = gateway.line(next.header("x-request-id")).await;
        assert_eq!(line["endpoint_reason"], "prefix");
        assert!(line["predicted_cached_tokens"].as_u64() < line["predicted_prompt_tokens"].as_u64());
        assert!(
            line["endpoint_cost"].as_f64().unwrap() < line["next_endpoint_cost"].as_f64().unwrap(),
            "{line}"
        );
    }
    for kind in ["predicted_prompt", "predicted_cached", "prompt", "cached"] {
        let labels = [&*format!("kind=\"{kind}\"")];
        assert!(gateway.metric("signalbox_prefix_tokens_total", &labels).await > 0.0, "{kind}");
    }
}

#[tokio::test]
async fn different_conversations_spread_over_the_replicas() {
    let sims = replicas().await;
    let gateway = gateway(&sims, "{strategy: auto}").await;
    for number in 0..30 {
        ask(&gateway, &conversation(&format!("number {number}"), &["hello"])).await;
    }
    for sim in &sims {
        assert!((6..=14).contains(&asked(sim).len()), "{}", asked(sim).len());
    }
}

#[tokio::test]
async fn a_replica_that_dies_is_left_at_once_and_its_conversations_go_on_elsewhere() {
    let sims = replicas().await;
    let gateway = gateway(&sims, "{strategy: auto}").await;
    let body = conversation("tea", &["hello"]);
    let home = ask(&gateway, &body).await.header("x-inference-pod").to_owned();
    let place: usize = home.trim_start_matches("pod-").parse().unwrap();
    let mut sims = sims.into_iter().map(Some).collect::<Vec<_>>();
    drop(sims[place].take());
    let elsewhere = ask(&gateway, &body).await.header("x-inference-pod").to_owned();
    assert_ne!(elsewhere, home);
    let again = ask(&gateway, &body).await;
    assert_eq!(again.header("x-inference-pod"), elsewhere, "the other one has it now");
}

#[tokio::test]
async fn a_schedulers_configuration_is_taken_as_it_is() {
    let sims = replicas().await;
    let picker = "{strategy: scored, endpoint_picker: {apiVersion: inference.networking.x-k8s.io/v1alpha1, \
        kind: EndpointPickerConfig, plugins: [{type: queue-scorer}, {type: kv-cache-utilization-scorer}, \
        {type: prefix-cache-scorer, parameters: {blockSize: 64, maxPrefixBlocksToMatch: 256}}], \
        schedulingProfiles: [{name: default, plugins: [{pluginRef: queue-scorer}, \
        {pluginRef: kv-cache-utilization-scorer}, {pluginRef: prefix-cache-scorer}]}]}}";
    let gateway = gateway(&sims, picker).await;
    let body = conversation("tea", &["hello"]);
    let home = ask(&gateway, &body).await.header("x-inference-pod").to_owned();
    for _ in 0..5 {
        assert_eq!(ask(&gateway, &body).await.header("x-inference-pod"), home);
    }
}

#[tokio::test]
async fn embeddings_and_short_prompts_have_no_prefix_to_go_by() {
    let sims = replicas().await;
    let gateway = gateway(&sims, "{strategy: auto}").await;
    let answer = ask(&gateway, &json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]})).await;
    assert!(answer.header("x-endpoint-reason").starts_with("load; cached=0"));
    let body = json!({"model": "m", "input": "hi"}).to_string();
    let answer = gateway.post("/v1/embeddings", body).await;
    assert_eq!(answer.header("x-endpoint-reason"), "");
}

#[tokio::test]
async fn a_client_cannot_say_why_its_endpoint_was_picked() {
    let sims = replicas().await;
    let gateway = gateway(&sims, "{strategy: round_robin}").await;
    let sent = client()
        .post(gateway.url("/v1/chat/completions"))
        .header("x-endpoint-reason", "mine")
        .header("x-gateway-destination-endpoint", "10.0.0.1:80")
        .body(conversation("tea", &["hello"]).to_string())
        .send()
        .await
        .unwrap();
    let answer = Answer::of(sent).await;
    assert_eq!((answer.status, answer.header("x-endpoint-reason")), (200, ""));
    let all: Vec<_> = sims.iter().flat_map(asked).collect();
    assert!(all.iter().all(|request| !format!("{request:?}").contains("10.0.0.1")));
}

#[tokio::test]
async fn the_operator_can_ask_how_every_replica_stands() {
    let sims = replicas().await;
    let gateway = gateway(&sims, "{strategy: auto}").await;
    let body = conversation("tea", &["hello"]);
    let home = ask(&gateway, &body).await.header("x-inference-port").to_owned();
    let told = standing(&gateway, &body).await;
    assert_eq!((told["model"].as_str(), told["pool"].as_str()), (Some("m"), Some("main")));
    let endpoints = told["endpoints"].as_array().unwrap();
    assert_eq!(endpoints.len(), 3);
    for endpoint in endpoints {
        let is_home = endpoint["endpoint"].as_str().unwrap().ends_with(&format!(":{home}"));
        assert_eq!(endpoint["best"], is_home, "{told}");
        let uncached = endpoint["uncached_tokens"].as_u64().unwrap();
        assert_eq!(uncached < told["prompt_tokens"].as_u64().unwrap() / 2, is_home, "{told}");
        assert!(endpoint["cost"].as_f64().unwrap() > 0.0);
    }
    let uncached = |told: &Value| -> Vec<u64> {
        let endpoints = told["endpoints"].as_array().unwrap().iter();
        endpoints.map(|endpoint| endpoint["uncached_tokens"].as_u64().unwrap()).collect()
    };
    assert_eq!(uncached(&standing(&gateway, &body).await), uncached(&told), "asking changes nothing");
}

/// An upstream that makes one response, and answers every request with it.
async fn responder(id: &'static str) -> (SocketAddr, Arc<Mutex<Vec<Message>>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (addr, seen) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<Message>>>::default());
    let record = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let record = Arc::clone(&record);
            tokio::spawn(async move {
                let mut wire = Wire::of(stream);
                while let Some(request) = wire.request().await {
                    record.lock().unwrap().push(request);
                    let body = format!(r#"{{"id":"{id}","object":"response","output":[]}}"#);
                    let head = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                        body.len()
                    );
                    wire.send((head + &body).as_bytes()).await;
                }
            });
        }
    });
    (addr, seen)
}

#[tokio::test]
async fn what_goes_on_from_a_response_goes_to_the_replica_that_made_it() {
    let [(first, seen), (other, seen_by_other)] = [responder("resp_a").await, responder("resp_b").await];
    let gateway =
        Launch::new(policy_of(&[first, other], "    balance: {strategy: round_robin}\n")).start().await;
    let ask = async |more: &str| {
        let body = format!(r#"{{"model":"m","input":"hi"{more}}}"#);
        let answer = gateway.post("/v1/responses", body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()["id"].as_str().unwrap().to_owned()
    };
    assert_eq!([ask("").await, ask("").await].iter().filter(|id| *id == "resp_a").count(), 1, "in turn");
    for id in ["resp_a", "resp_b"] {
        for _ in 0..5 {
            assert_eq!(ask(&format!(r#","previous_response_id":"{id}""#)).await, id);
        }
    }
    assert_eq!((seen.lock().unwrap().len(), seen_by_other.lock().unwrap().len()), (6, 6));
    ask(r#","previous_response_id":"resp_unknown""#).await;
}

#[tokio::test]
async fn a_response_that_a_fall_back_made_is_gone_on_from_there() {
    let [(first, seen), (other, _)] = [responder("resp_a").await, responder("resp_b").await];
    let refusing = sim("m").await;
    refusing.set_faults(faults(|faults| faults.status = Some(503)));
    let policy = |of_m: SocketAddr| {
        format!(
            "version: 1\nmodels: {{m: {{pools: [main, spare]}}}}\npools:\n  main: {{endpoints: [\"{of_m}\"], health: {{enabled: false}}}}\n  \
             spare: {{endpoints: [\"{first}\"], health: {{enabled: false}}}}\n"
        )
    };
    let gateway = Launch::new(policy(refusing.addr())).start().await;
    let ask = async |more: &str| {
        let body = format!(r#"{{"model":"m","input":"hi"{more}}}"#);
        let answer = gateway.post("/v1/responses", body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()["id"].as_str().unwrap().to_owned()
    };
    assert_eq!(ask("").await, "resp_a", "the main pool fails");
    gateway.rewrite(&policy(other));
    until("the main pool's new endpoint", async || (ask("").await == "resp_b").then_some(())).await;
    let before = seen.lock().unwrap().len();
    for _ in 0..3 {
        assert_eq!(ask(r#","previous_response_id":"resp_a""#).await, "resp_a");
        assert_eq!(ask(r#","previous_response_id":"resp_b""#).await, "resp_b");
    }
    assert_eq!(seen.lock().unwrap().len(), before + 3);
}

#[tokio::test]
async fn a_session_is_told_by_its_header_or_by_a_member_of_the_same_name() {
    let sims = replicas().await;
    let gateway = gateway(&sims, "{strategy: session, hash_on: {session_key: x-user-id}}").await;
    let mut pods = std::collections::BTreeSet::new();
    for user in 0..12 {
        let mut own = std::collections::BTreeSet::new();
        for in_header in [true, false, true] {
            let mut body = conversation("tea", &["hello"]);
            let mut request = client().post(gateway.url("/v1/chat/completions"));
            if in_header {
                request = request.header("x-user-id", format!("u{user}"));
            } else {
                body["x-user-id"] = json!(format!("u{user}"));
            }
            let answer = Answer::of(request.body(body.to_string()).send().await.unwrap()).await;
            own.insert(answer.header("x-inference-pod").to_owned());
        }
        assert_eq!(own.len(), 1, "{user}");
        pods.extend(own);
    }
    assert_eq!(pods.len(), 3);
}

#[tokio::test]
async fn clients_that_leave_in_mid_stream_leave_no_count_behind() {
    let sims = [sim_with("m", |options| options.default_max_tokens = 100_000).await, replica(1).await];
    let gateway = gateway(&sims, "{strategy: auto}").await;
    let mut body = conversation("tea", &["hello"]);
    body["stream"] = json!(true);
    for _ in 0..20 {
        let sent = client().post(gateway.url("/v1/chat/completions")).body(body.to_string()).send();
        let mut response = sent.await.unwrap();
        response.chunk().await.unwrap();
    }
    until("no request is in flight", async || {
        let told = standing(&gateway, &body).await;
        let endpoints = told["endpoints"].as_array().unwrap();
        let is_idle = endpoints.iter().all(|endpoint| endpoint["in_flight"] == 0);
        is_idle.then_some(())
    })
    .await;
}
