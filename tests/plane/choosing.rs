//! Which of several models of a decision gets a request, what it costs, who follows when it fails, and who gets a copy.

use crate::harness::*;
use serde_json::json;
use signalbox::sim::Sim;

async fn stage(decision: &str) -> (Gateway, Sim, Sim) {
    with_server(decision, "drain: {delay: 0s}\n").await
}

async fn with_server(decision: &str, server: &str) -> (Gateway, Sim, Sim) {
    let (small, large) = (sim("small").await, sim("large").await);
    let policy = format!(
        "version: 1\nvirtual_models: [auto]\ndefault_model: small\n\
         models:\n  small: {{pools: [small], quality: 0.3, price: {{prompt: 1, completion: 2}}}}\n  \
         large: {{pools: [large], quality: 0.9, price: {{prompt: 10, completion: 30}}}}\n\
         pools:\n  small: {{endpoints: [\"{}\"], health: {{enabled: false}}}}\n  large: {{endpoints: [\"{}\"], health: {{enabled: false}}}}\n\
         decisions:\n  - {{name: d, {decision}}}\n",
        small.addr(),
        large.addr()
    );
    (Launch::new(policy).server(server).start().await, small, large)
}

#[tokio::test]
async fn requests_are_split_by_weight() {
    let (gateway, small, large) =
        stage("models: [{model: small, weight: 75}, {model: large, weight: 25}]").await;
    for _ in 0..200 {
        gateway.chat("auto", "hi").await;
    }
    let (few, many) = (asked(&large).len(), asked(&small).len());
    assert_eq!(few + many, 200);
    // Six standard deviations from 50.
    assert!((13..=87).contains(&few), "{few} of 200");
}

#[tokio::test]
async fn the_cheapest_model_that_is_good_enough_is_chosen_and_its_cost_reported() {
    let (gateway, _small, _large) = stage("models: [large, small], choose: {by: cost}").await;
    let cheap = gateway.chat("auto", "hi").await;
    assert_eq!(cheap.header("x-vsr-selected-model"), "small");
    assert_eq!(cheap.header("x-vsr-selected-algorithm"), "cost");
    let line = gateway.line(cheap.header("x-request-id")).await;
    let (prompt, completion) =
        (line["prompt_tokens"].as_f64().unwrap(), line["completion_tokens"].as_f64().unwrap());
    let cost = line["cost"].as_f64().unwrap();
    assert!((cost - (prompt + 2.0 * completion) / 1e6).abs() < 1e-12, "{line}");
    assert_eq!((&line["currency"], &line["algorithm_reason"]), (&json!("USD"), &json!("cheapest")), "{line}");
    assert!((gateway.metric("signalbox_cost_total", &["model=\"small\""]).await - cost).abs() < 1e-12);
    let (gateway, _small, _large) =
        stage("models: [large, small], choose: {by: cost, min_quality: 0.5}").await;
    assert_eq!(gateway.chat("auto", "hi").await.header("x-vsr-selected-model"), "large");
}

#[tokio::test]
async fn a_conversation_stays_with_its_model() {
    let (gateway, _small, _large) =
        stage("models: [{model: small, weight: 50}, {model: large, weight: 50}], choose: {by: weight}, sticky: {on: {header: x-session-id}}").await;
    let mut models = std::collections::BTreeSet::new();
    for session in 0..12 {
        let mut own = std::collections::BTreeSet::new();
        for _ in 0..4 {
            let request =
                client().post(gateway.url("/v1/chat/completions")).header("content-type", "application/json");
            let body =
                json!({"model": "auto", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2});
            let request = request.header("x-session-id", format!("s{session}")).body(body.to_string());
            let answer = Answer::of(request.send().await.unwrap()).await;
            own.insert(answer.header("x-vsr-selected-model").to_owned());
        }
        assert_eq!(own.len(), 1, "session {session} had {own:?}");
        models.extend(own);
    }
    assert_eq!(models.len(), 2, "both have sessions");
}

#[tokio::test]
async fn a_fall_back_model_answers_when_the_chosen_one_fails_under_its_own_name() {
    let (gateway, small, large) = stage("model: large, fallback: [small]").await;
    large.set_faults(faults(|faults| faults.status = Some(503)));
    let answer = gateway.chat("auto", "hi").await;
    assert_eq!((answer.status, answer.header("x-vsr-selected-model")), (200, "small"), "{}", answer.text);
    let body: serde_json::Value = serde_json::from_slice(&asked(&small)[0].body).unwrap();
    assert_eq!(body["model"], "small");
}

#[tokio::test]
async fn another_model_gets_a_copy_whose_answer_is_dropped() {
    let (gateway, _small, large) = stage("model: small, shadow: {model: large}").await;
    let answer = gateway.chat("auto", "What is shadowed?").await;
    assert_eq!((answer.status, answer.header("x-vsr-selected-model")), (200, "small"), "{}", answer.text);
    let copy = until("the copy", async || asked(&large).pop()).await;
    let body: serde_json::Value = serde_json::from_slice(&copy.body).unwrap();
    assert_eq!(
        (&body["model"], &body["messages"][0]["content"]),
        (&json!("large"), &json!("What is shadowed?"))
    );
    until("the copy's count", async || {
        (gateway.metric("signalbox_shadow_requests_total", &["model=\"large\"", "result=\"ok\""]).await
            == 1.0)
            .then_some(())
    })
    .await;
    let line = gateway.line(answer.header("x-request-id")).await;
    assert_eq!(line["shadow"], "large", "{line}");
}

#[tokio::test]
async fn a_copy_for_which_there_is_no_room_is_not_made() {
    let server = "limits: {max_body_bytes: 100000, max_buffered_bytes: 250000}\ndrain: {delay: 0s}\n";
    let (gateway, small, large) = with_server("model: small, shadow: {model: large}", server).await;
    let long =
        json!({"model": "auto", "messages": [{"role": "user", "content": "hi"}], "user": "x".repeat(80_000)});
    let answer = gateway.post("/v1/chat/completions", long.to_string()).await;
    assert_eq!((answer.status, asked(&small).len()), (200, 1), "{}", answer.text);
    let dropped = ["model=\"large\"", "result=\"dropped\""];
    gateway.counts("signalbox_shadow_requests_total", &dropped, 1.0).await;
    assert_eq!(gateway.chat("auto", "short").await.status, 200);
    gateway.counts("signalbox_shadow_requests_total", &["model=\"large\"", "result=\"ok\""], 1.0).await;
    assert_eq!(asked(&large).len(), 1);
    until("all given back", async || {
        (gateway.metric("signalbox_buffered_bytes", &[]).await == 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_decisions_own_time_limit_holds() {
    let (gateway, small, _large) = stage("model: small, timeout: 200ms").await;
    small.set_faults(faults(|faults| faults.stall_before_headers = Some(std::time::Duration::from_secs(30))));
    let answer = gateway.chat("auto", "hi").await;
    assert_eq!(answer.status, 504, "{}", answer.text);
}

#[tokio::test]
async fn a_model_is_chosen_together_with_the_replica_that_has_the_conversation() {
    let replica = |name: &'static str, micros: u64| {
        sim_with(name, move |options| {
            options.latency.prefill_per_token = std::time::Duration::from_micros(micros);
        })
    };
    let quick = [replica("quick", 50).await, replica("quick", 50).await];
    let slow = [replica("slow", 100).await, replica("slow", 100).await];
    let endpoints = |sims: &[Sim; 2]| format!("\"{}\", \"{}\"", sims[0].addr(), sims[1].addr());
    let policy = format!(
        "version: 1\nvirtual_models: [auto]\ndefault_model: quick\n\
         models:\n  quick: {{pools: [quick]}}\n  slow: {{pools: [slow]}}\n\
         pools:\n  quick: {{endpoints: [{}]}}\n  slow: {{endpoints: [{}]}}\n\
         decisions: [{{name: all, models: [quick, slow], choose: {{by: latency}}}}]\n",
        endpoints(&quick),
        endpoints(&slow)
    );
    let gateway = Launch::new(policy).start().await;
    let ask = async |model: &str, matter: &str| {
        let system = format!("You know everything about {matter}. ").repeat(400);
        let body = json!({"model": model, "stream": true, "max_tokens": 2, "messages": [
            {"role": "system", "content": system}, {"role": "user", "content": "hello"}]});
        let answer = gateway.post("/v1/chat/completions", body.to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        (answer.header("x-vsr-selected-model").to_owned(), gateway.line(answer.header("x-request-id")).await)
    };
    // Both are measured, with prompts that they have and prompts that they have not.
    for matter in ["tea", "iron", "tea", "chess", "iron"] {
        ask("quick", matter).await;
        ask("slow", matter).await;
    }
    assert_eq!(ask("auto", "rivers").await.0, "quick", "nobody has it");
    let (_, home) = ask("slow", "the sea").await;
    let (model, line) = ask("auto", "the sea").await;
    assert_eq!((model.as_str(), &line["endpoint"]), ("slow", &home["endpoint"]), "{line}");
    assert_eq!(line["algorithm_reason"], "quickest");
    let runner_up = line["runner_up"].as_str().unwrap();
    assert!(runner_up.starts_with("quick on 127.0.0.1:") && runner_up.contains(" s against "), "{runner_up}");
    let cost = |key: &str| line[key].as_f64().unwrap_or_else(|| panic!("no {key}: {line}"));
    assert!(
        cost("endpoint_cost") < cost("next_endpoint_cost"),
        "and what its own pool's other replica had: {line}"
    );
}
