//! Prompts that one pool computes and another answers: both legs, what is handed over, and what happens when it is not.

use crate::harness::*;
use crate::raw::*;
use serde_json::{Value, json};
use signalbox::sim::{RecordedRequest, Sim, SimOutcome};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpListener;

/// A policy of a pool `decode`, which serves the model `m`, and a pool `prefill`, with more in the `prefill` of the first.
fn pair(decode: &[SocketAddr], prefill: &[SocketAddr], more: &str) -> String {
    let list = |addresses: &[SocketAddr]| {
        addresses.iter().map(|address| format!("\"{address}\"")).collect::<Vec<_>>().join(", ")
    };
    format!(
        "version: 1\nmodels:\n  m: {{pools: [decode]}}\npools:\n  decode:\n    endpoints: [{}]\n    health: {{enabled: false}}\n    \
         prefill: {{pool: prefill{more}}}\n  prefill:\n    endpoints: [{}]\n    health: {{enabled: false}}\n",
        list(decode),
        list(prefill)
    )
}

async fn start(decode: &[&Sim], prefill: &[&Sim], more: &str) -> Gateway {
    let addresses = |sims: &[&Sim]| sims.iter().map(|sim| sim.addr()).collect::<Vec<_>>();
    Launch::new(pair(&addresses(decode), &addresses(prefill), more)).start().await
}

/// A prompt of some two thousand tokens about a matter.
pub fn long(matter: &str) -> String {
    format!("What is there to say of {matter}? ").repeat(300)
}

pub fn body(matter: &str) -> Value {
    json!({"model": "m", "messages": [{"role": "user", "content": long(matter)}], "max_tokens": 8})
}

pub async fn ask(gateway: &Gateway, body: &Value) -> Answer {
    let answer = gateway.post("/v1/chat/completions", body.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer
}

pub fn json_of(request: &RecordedRequest) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

pub fn cached(answer: &Value) -> u64 {
    answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
}

/// Cuts what engines hand over out of a body, which must be at its end.
pub fn without_transfer(body: &[u8]) -> String {
    let text = std::str::from_utf8(body).unwrap();
    let at = text.find(",\"kv_transfer_params\":").unwrap();
    text[..at].to_owned() + "}"
}

#[tokio::test]
async fn a_long_prompt_is_computed_by_one_pool_and_answered_by_another() {
    let [decode, prefill] = [sim("m").await, sim("m").await];
    let gateway = start(&[&decode], &[&prefill], "").await;
    let body = body("tea");
    let answer = ask(&gateway, &body).await;
    assert_eq!(answer.header("x-prefill-result"), "remote");
    let ([first], [second]) = (&asked(&prefill)[..], &asked(&decode)[..]) else { panic!("one leg each") };
    assert_eq!(first.headers["x-request-id"], second.headers["x-request-id"]);
    assert_eq!((first.path.as_str(), second.path.as_str()), ("/v1/chat/completions", "/v1/chat/completions"));
    let leg = json_of(first);
    assert_eq!((&leg["max_tokens"], &leg["messages"]), (&json!(1), &body["messages"]));
    assert_eq!(leg["kv_transfer_params"]["do_remote_decode"], true);
    assert_eq!(leg["kv_transfer_params"]["remote_block_ids"], Value::Null);
    assert_eq!(without_transfer(&second.body), body.to_string());
    let handed_over = &json_of(second)["kv_transfer_params"];
    assert_eq!(
        (&handed_over["do_remote_prefill"], &handed_over["remote_port"]),
        (&json!(true), &json!(prefill.addr().port()))
    );
    let usage = &answer.json()["usage"];
    assert_eq!(usage["completion_tokens"], 8);
    assert_eq!(cached(&answer.json()), usage["prompt_tokens"].as_u64().unwrap() - 1, "the engine fetched it");
    let line = gateway.line(answer.header("x-request-id")).await;
    assert_eq!((line["prefill"].as_str(), line["prefill_pool"].as_str()), (Some("remote"), Some("prefill")));
    assert_eq!(line["prefill_endpoint"], prefill.addr().to_string());
    assert_eq!(
        (&line["cached_tokens"], &line["prefill_cached_tokens"]),
        (&json!(0), &json!(0)),
        "it was computed, once"
    );
    assert_eq!(line["prompt_tokens"], usage["prompt_tokens"]);
    assert!(line["prefill_ms"].as_f64().unwrap() > 0.0);
    gateway.counts("signalbox_prefills_total", &["pool=\"decode\"", "result=\"remote\""], 1.0).await;
    let tokens = gateway.metric("signalbox_tokens_total", &["kind=\"prompt\""]).await;
    assert_eq!(tokens as u64, usage["prompt_tokens"].as_u64().unwrap(), "tokens count once");
}

#[tokio::test]
async fn a_prompt_that_the_answering_endpoint_has_cached_is_not_sent_away_again() {
    let [decode, prefill] = [sim("m").await, sim("m").await];
    let gateway = start(&[&decode], &[&prefill], "").await;
    ask(&gateway, &body("tea")).await;
    let again = ask(&gateway, &body("tea")).await;
    assert_eq!(again.header("x-prefill-result"), "below_threshold");
    assert_eq!((asked(&prefill).len(), asked(&decode).len()), (1, 2));
    assert!(cached(&again.json()) > 1_000);
    let all = start(&[&decode], &[&prefill], ", min_uncached_tokens: 0").await;
    let short =
        json!({"model": "m", "messages": [{"role": "user", "content": "a b c d e f g h i j k l m n o p"}]});
    assert_eq!(ask(&all, &short).await.header("x-prefill-result"), "remote");
}

#[tokio::test]
async fn a_stream_comes_from_the_second_engine_with_its_usage_once() {
    let [decode, prefill] = [sim("m").await, sim("m").await];
    let gateway = start(&[&decode], &[&prefill], "").await;
    let mut body = body("tea");
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let answer = ask(&gateway, &body).await;
    assert_eq!(answer.header("x-prefill-result"), "remote");
    assert!(answer.text.ends_with("data: [DONE]\n\n"), "{}", answer.text);
    assert_eq!(answer.text.matches("\"usage\":{").count(), 1);
    let leg = json_of(&asked(&prefill)[0]);
    assert_eq!((&leg["stream"], leg.get("stream_options")), (&json!(false), None));
    let second = json_of(&asked(&decode)[0]);
    assert_eq!(
        (&second["stream"], &second["stream_options"]),
        (&json!(true), &json!({"include_usage": true}))
    );
    let line = gateway.line(answer.header("x-request-id")).await;
    assert_eq!(line["completion_tokens"], 8);
}

#[tokio::test]
async fn the_clients_bytes_reach_both_engines_as_they_are() {
    let [decode, prefill] = [sim("m").await, sim("m").await];
    let gateway = start(&[&decode], &[&prefill], "").await;
    let body = format!(
        "{{ \"model\" : \"m\",\"seed\":1.50e1, \"tools\": [ {{\"type\":\"function\",\"function\":{{\"name\":\"f\\u0041\",\"x\":1e40}}}} ],\n \
         \"messages\":[{{\"role\":\"user\",\"content\":\"{}\\u00e9\"}}]}}",
        long("iron")
    );
    let answer = gateway.post("/v1/chat/completions", body.clone()).await;
    assert_eq!((answer.status, answer.header("x-prefill-result")), (200, "remote"), "{}", answer.text);
    assert_eq!(without_transfer(&asked(&decode)[0].body), body);
    let leg = String::from_utf8(asked(&prefill)[0].body.to_vec()).unwrap();
    assert!(leg.starts_with(body.strip_suffix('}').unwrap()), "{leg}");
}

#[tokio::test]
async fn what_cannot_be_handed_over_is_computed_where_it_is_answered() {
    let [decode, prefill] = [sim("m").await, sim("m").await];
    let gateway = start(&[&decode], &[&prefill], "").await;
    let mut several = body("tea");
    several["n"] = json!(2);
    let answer = ask(&gateway, &several).await;
    assert_eq!(answer.header("x-prefill-result"), "unsupported");
    assert_eq!(answer.json()["choices"].as_array().unwrap().len(), 2);
    let prompts = json!({"model": "m", "prompt": [long("a"), long("b")]}).to_string();
    let answer = gateway.post("/v1/completions", prompts).await;
    assert_eq!((answer.status, answer.header("x-prefill-result")), (200, "unsupported"));
    let one = json!({"model": "m", "prompt": long("c"), "max_tokens": 4}).to_string();
    let answer = gateway.post("/v1/completions", one).await;
    assert_eq!((answer.status, answer.header("x-prefill-result")), (200, "remote"));
    assert_eq!(asked(&prefill).len(), 1);
}

#[tokio::test]
async fn a_client_cannot_say_where_an_engine_fetches_a_prompt_from() {
    let [decode, prefill] = [sim("m").await, sim("m").await];
    let gateway = start(&[&decode], &[&prefill], "").await;
    let stolen = json!({"do_remote_prefill": true, "remote_block_ids": [[1]], "remote_host": "10.9.9.9", "remote_port": 1,
        "remote_request_id": "x", "remote_engine_id": "y"});
    for matter in ["short", "long"] {
        let mut body = body(matter);
        if matter == "short" {
            body["messages"][0]["content"] = json!("hi");
        }
        body["kv_transfer_params"] = stolen.clone();
        ask(&gateway, &body).await;
    }
    let all: Vec<_> = asked(&decode).into_iter().chain(asked(&prefill)).collect();
    assert_eq!(all.len(), 3);
    assert!(all.iter().all(|request| !String::from_utf8_lossy(&request.body).contains("10.9.9.9")));
}

#[tokio::test]
async fn a_dead_prefill_endpoint_costs_nothing_but_time() {
    let [decode, dead, alive] = [sim("m").await, sim("m").await, sim("m").await];
    let address = dead.addr();
    dead.stop().await;
    let policy = pair(&[decode.addr()], &[address], "");
    let gateway = Launch::new(policy).start().await;
    let answer = ask(&gateway, &body("tea")).await;
    assert_eq!(answer.header("x-prefill-result"), "connect");
    assert_eq!(json_of(&asked(&decode)[0]), body("tea"));
    gateway.counts("signalbox_prefills_total", &["result=\"connect\""], 1.0).await;
    let gateway = Launch::new(pair(&[decode.addr()], &[address, alive.addr()], "")).start().await;
    for matter in ["iron", "rivers", "chess", "ships"] {
        assert_eq!(ask(&gateway, &body(matter)).await.header("x-prefill-result"), "remote");
    }
    assert_eq!(asked(&alive).len(), 4);
}

#[tokio::test]
async fn an_error_of_the_prefill_pool_never_reaches_the_client() {
    let [decode, prefill] = [sim("m").await, sim("m").await];
    let gateway = start(&[&decode], &[&prefill], ", timeout: 300ms").await;
    let cases = [
        (faults(|faults| faults.status = Some(500)), "server_error"),
        (faults(|faults| faults.status = Some(429)), "busy"),
        (faults(|faults| faults.reset_before_headers = 1.0), "reset"),
        (faults(|faults| faults.reset_mid_stream = Some(1)), "reset"),
        (faults(|faults| faults.stall_before_headers = Some(Duration::from_secs(30))), "timeout"),
    ];
    for (at, (fault, result)) in cases.into_iter().enumerate() {
        // A refusal keeps requests away from an endpoint for a while, and so does an ejection.
        let gateway = if result == "busy" || result == "reset" {
            &start(&[&decode], &[&prefill], ", timeout: 300ms").await
        } else {
            &gateway
        };
        prefill.set_faults(fault);
        let answer = ask(gateway, &body(&format!("case {at}"))).await;
        assert_eq!(answer.header("x-prefill-result"), result);
        assert_eq!(answer.json()["usage"]["completion_tokens"], 8);
    }
    assert_eq!(asked(&decode).len(), 5);
}

#[tokio::test]
async fn an_engine_that_is_full_is_passed_over_and_not_ejected() {
    let [decode, full, free] = [sim("m").await, sim("m").await, sim("m").await];
    full.set_faults(faults(|faults| faults.busy = true));
    let gateway = start(&[&decode], &[&full, &free], "").await;
    for at in 0..8 {
        assert_eq!(ask(&gateway, &body(&format!("matter {at}"))).await.header("x-prefill-result"), "remote");
    }
    assert_eq!(asked(&free).len(), 8);
    assert!(asked(&full).len() <= 2, "{}", asked(&full).len());
    assert_eq!(gateway.metric("signalbox_ejections_total", &[]).await, 0.0);
}

/// An upstream that answers every request with these bytes as JSON.
pub async fn answering(text: String) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let text = text.clone();
            tokio::spawn(async move {
                let mut wire = Wire::of(stream);
                while wire.request().await.is_some() {
                    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
                    wire.send(format!("{head}content-length: {}\r\n\r\n{text}", text.len()).as_bytes()).await;
                }
            });
        }
    });
    addr
}

#[tokio::test]
async fn an_answer_that_hands_nothing_over_is_as_good_as_none() {
    let decode = sim("m").await;
    let cases = [
        ("{\"choices\":[]}".to_owned(), "nothing_kept"),
        (
            "{\"kv_transfer_params\":{\"do_remote_prefill\":true,\"remote_block_ids\":[]}}".to_owned(),
            "nothing_kept",
        ),
        ("<html>".to_owned(), "malformed"),
        ("{\"choices\":[".to_owned(), "malformed"),
        (format!("{{\"x\":\"{}\"}}", "y".repeat(5 << 20)), "too_long"),
    ];
    for (at, (text, result)) in cases.into_iter().enumerate() {
        let gateway = Launch::new(pair(&[decode.addr()], &[answering(text).await], "")).start().await;
        let body = body(&format!("case {at}"));
        assert_eq!(ask(&gateway, &body).await.header("x-prefill-result"), result);
        assert_eq!(json_of(asked(&decode).last().unwrap()), body);
    }
}

#[tokio::test]
async fn a_prompt_too_long_for_the_model_is_refused_in_the_answering_engines_words() {
    let small = |options: &mut signalbox::sim::SimOptions| options.capacity.max_model_len = 500;
    let [decode, prefill] = [sim_with("m", small).await, sim_with("m", small).await];
    let gateway = start(&[&decode], &[&prefill], "").await;
    let answer = gateway.post("/v1/chat/completions", body("tea").to_string()).await;
    assert_eq!((answer.status, answer.header("x-prefill-result")), (400, "refused"));
    assert!(answer.text.contains("maximum context length is 500 tokens"), "{}", answer.text);
    assert_eq!(
        (asked(&prefill).len(), asked(&decode).len()),
        (1, 1),
        "no other endpoint is asked for what this one refuses"
    );
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_prefill() {
    let [decode, prefill] = [sim("m").await, sim("m").await];
    prefill.set_faults(faults(|faults| faults.stall_before_headers = Some(Duration::from_secs(60))));
    let gateway = start(&[&decode], &[&prefill], "").await;
    let url = gateway.url("/v1/chat/completions");
    let request = tokio::spawn(
        client().post(url).header("x-request-id", "leaver").body(body("tea").to_string()).send(),
    );
    until("the prefill", async || (asked(&prefill).len() == 1).then_some(())).await;
    request.abort();
    until("the end of the prefill", async || {
        (asked(&prefill)[0].outcome == SimOutcome::Aborted).then_some(())
    })
    .await;
    let line = gateway.line("leaver").await;
    assert_eq!((&line["error"], &line["status"]), (&json!("client_closed"), &json!(499)));
    assert_eq!(asked(&decode).len(), 0);
    for pool in ["decode", "prefill"] {
        gateway.counts("signalbox_endpoint_in_flight", &[&format!("pool=\"{pool}\"")], 0.0).await;
    }
}

#[tokio::test]
async fn a_prefill_takes_no_longer_than_the_whole_request_may() {
    let [decode, prefill] = [sim("m").await, sim("m").await];
    prefill.set_faults(faults(|faults| faults.stall_before_headers = Some(Duration::from_secs(60))));
    let policy = pair(&[decode.addr()], &[prefill.addr()], "").replacen(
        "health: {enabled: false}",
        "health: {enabled: false}\n    timeouts: {total: 400ms}",
        1,
    );
    let gateway = Launch::new(policy).start().await;
    let answer = gateway.post("/v1/chat/completions", body("tea").to_string()).await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (504, Some("upstream_timeout")));
    assert_eq!(asked(&decode).len(), 0);
}

#[tokio::test]
async fn another_answering_endpoint_gets_a_prefill_of_its_own() {
    let [broken, decode, prefill] = [sim("m").await, sim("m").await, sim("m").await];
    broken.set_faults(faults(|faults| faults.status = Some(503)));
    let gateway = start(&[&broken, &decode], &[&prefill], "").await;
    let mut retried = 0;
    for at in 0..6 {
        let answer = ask(&gateway, &body(&format!("matter {at}"))).await;
        assert_eq!(answer.header("x-prefill-result"), "remote");
        let line = gateway.line(answer.header("x-request-id")).await;
        retried += line["tries"].as_u64().unwrap() - 1;
    }
    assert!(retried > 0);
    let legs = asked(&broken).into_iter().chain(asked(&decode));
    let mut kept: Vec<String> = legs
        .map(|leg| json_of(&leg)["kv_transfer_params"]["remote_request_id"].as_str().unwrap().to_owned())
        .collect();
    let all = kept.len();
    kept.sort_unstable();
    kept.dedup();
    assert_eq!((kept.len(), asked(&prefill).len()), (all, all), "what was fetched once is not there again");
}

#[tokio::test]
async fn an_engine_that_comes_too_late_for_the_blocks_computes_the_prompt_itself() {
    let short = |options: &mut signalbox::sim::SimOptions| options.latency.transfer_timeout = Duration::ZERO;
    let [decode, prefill] = [sim("m").await, sim_with("m", short).await];
    let gateway = start(&[&decode], &[&prefill], "").await;
    let answer = ask(&gateway, &body("tea")).await;
    assert_eq!((answer.header("x-prefill-result"), cached(&answer.json())), ("remote", 0));
}

#[tokio::test]
async fn engines_with_a_common_store_are_told_nothing() {
    let [decode, prefill] = [sim("m").await, sim("m").await];
    let gateway = start(&[&decode], &[&prefill], ", connector: shared_storage").await;
    let answer = ask(&gateway, &body("tea")).await;
    assert_eq!(answer.header("x-prefill-result"), "remote");
    assert_eq!(asked(&decode)[0].body, body("tea").to_string());
    let leg = json_of(&asked(&prefill)[0]);
    assert_eq!((&leg["max_tokens"], leg.get("kv_transfer_params")), (&json!(1), None));
}

#[tokio::test]
async fn a_schedulers_configuration_for_pairs_is_taken_as_it_is() {
    let [decode, prefill] = [sim("m").await, sim("m").await];
    let picker = "{apiVersion: llm-d.ai/v1alpha1, kind: EndpointPickerConfig, plugins: [{type: approx-prefix-cache-producer, \
        parameters: {maxPrefixTokensToMatch: 16384}}, {type: prefix-cache-scorer}, {type: queue-scorer}, {type: prefill-filter}, \
        {type: decode-filter}, {type: max-score-picker}, {type: disagg-profile-handler, parameters: {deciders: {prefill: \
        prefix-based-pd-decider}}}, {type: prefix-based-pd-decider, parameters: {nonCachedTokens: 16}}], schedulingProfiles: \
        [{name: prefill, plugins: [{pluginRef: prefill-filter}, {pluginRef: max-score-picker}, {pluginRef: prefix-cache-scorer, \
        weight: 2}, {pluginRef: queue-scorer, weight: 1}]}, {name: decode, plugins: [{pluginRef: decode-filter}, {pluginRef: \
        max-score-picker}, {pluginRef: prefix-cache-scorer, weight: 2}, {pluginRef: queue-scorer, weight: 1}]}]}";
    let balance =
        format!("health: {{enabled: false}}\n    balance: {{strategy: scored, endpoint_picker: {picker}}}");
    let policy = pair(&[decode.addr()], &[prefill.addr()], "").replace("health: {enabled: false}", &balance);
    let gateway = Launch::new(policy).start().await;
    let of = |words: usize| json!({"model": "m", "messages": [{"role": "user", "content": "word ".repeat(words)}]});
    assert_eq!(ask(&gateway, &of(5)).await.header("x-prefill-result"), "below_threshold");
    assert_eq!(
        ask(&gateway, &of(30)).await.header("x-prefill-result"),
        "remote",
        "37 tokens at four bytes are over 16"
    );
}

#[tokio::test]
async fn a_prompt_is_computed_where_it_is_answered_while_the_other_pool_has_too_much_to_do() {
    let [decode, prefill] = [sim("m").await, sim("m").await];
    let policy = pair(&[decode.addr()], &[prefill.addr()], "") + "    max_in_flight: 1\nadmission: {}\n";
    let gateway = Launch::new(policy).start().await;
    assert_eq!(ask(&gateway, &body("tea")).await.header("x-prefill-result"), "remote");
    prefill.set_faults(faults(|faults| faults.stall_before_headers = Some(Duration::from_secs(600))));
    let request = client().post(gateway.url("/v1/chat/completions")).body(body("iron").to_string());
    let stalled = tokio::spawn(request.send());
    until("the prompt at the other pool", async || (asked(&prefill).len() == 2).then_some(())).await;
    let answer = ask(&gateway, &body("chess")).await;
    assert_eq!((answer.header("x-prefill-result"), asked(&prefill).len()), ("saturated", 2));
    stalled.abort();
}
