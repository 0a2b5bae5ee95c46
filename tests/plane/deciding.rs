//! Decisions over signals: conditions, recipes, guards for named models, identities, and how they are reported.

use crate::harness::*;
use serde_json::{Value, json};
use signalbox::sim::Sim;

/// Two models behind sims of their own, and whatever a test adds.
async fn stage(more: &str) -> (Gateway, Sim, Sim) {
    let (small, large) = (sim("small").await, sim("large").await);
    let policy = format!(
        "version: 1\nvirtual_models: [auto]\ndefault_model: small\nclassifier: {{deadline: 30s}}\n\
         models:\n  small: {{pools: [small]}}\n  large: {{pools: [large], loras: [tuned]}}\n\
         pools:\n  small: {{endpoints: [\"{}\"]}}\n  large: {{endpoints: [\"{}\"]}}\n{more}",
        small.addr(),
        large.addr()
    );
    (Launch::new(policy).start().await, small, large)
}

async fn asked_with(gateway: &Gateway, headers: &[(&str, &str)], body: Value) -> Answer {
    let mut request =
        client().post(gateway.url("/v1/chat/completions")).header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Answer::of(request.body(body.to_string()).send().await.unwrap()).await
}

fn message(model: &str, text: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 8})
}

#[tokio::test]
async fn a_condition_joins_signals_of_several_kinds() {
    let (gateway, _small, large) = stage(
        "signals:\n  urgent: {keyword: {any: [urgent, right now]}}\n  polite: {keyword: {any: [please]}}\n\
         decisions:\n  - {name: hurry, when: {all: [{any: [urgent, {domain: law}]}, {not: polite}]}, model: large}\n",
    )
    .await;
    let hurry = gateway.chat("auto", "I need the capital of France RIGHT  now!").await;
    assert_eq!((hurry.status, hurry.header("x-vsr-selected-decision")), (200, "hurry"), "{}", hurry.text);
    assert_eq!(hurry.header("x-vsr-selected-model"), "large");
    assert_eq!(asked(&large).len(), 1);
    let polite = gateway.chat("auto", "Please tell me right now what the capital of France is.").await;
    assert_eq!(
        (polite.header("x-vsr-selected-decision"), polite.header("x-vsr-selected-model")),
        ("", "small")
    );
    let law = gateway
        .chat("auto", "Does the statute of frauds bar enforcement of an oral contract to sell land?")
        .await;
    assert_eq!(law.header("x-vsr-selected-decision"), "hurry", "{}", law.text);
    let line = gateway.line(hurry.header("x-request-id")).await;
    let names: Vec<_> = line["signals"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
    assert_eq!(names, ["urgent"], "{line}");
    let labels = ["kind=\"keyword\"", "signal=\"urgent\""];
    gateway.counts("signalbox_signal_matches_total", &labels, 2.0).await;
}

#[tokio::test]
async fn a_policy_without_learned_signals_asks_no_classifier() {
    let (gateway, _small, _large) = stage(
        "signals: {hi: {keyword: {any: [hello]}}}\ndecisions: [{name: greet, when: hi, model: large}]\n",
    )
    .await;
    let answer = gateway.chat("auto", "well, hello there").await;
    assert_eq!(answer.header("x-vsr-selected-decision"), "greet");
    assert_eq!(answer.header("x-vsr-selected-category"), "");
    assert_eq!(gateway.metric("signalbox_classifier_duration_seconds_count", &[]).await, 0.0);
}

#[tokio::test]
async fn each_recipe_stands_behind_its_own_names() {
    let (gateway, _small, _large) = stage(
        "decisions: [{name: own, model: small}]\n\
         recipes: {flash: {virtual_models: [acme/flash], default_model: large, decisions: [{name: quick, model: large}]}}\n",
    )
    .await;
    let own = gateway.chat("auto", "hi").await;
    assert_eq!((own.header("x-vsr-selected-decision"), own.header("x-vsr-selected-recipe")), ("own", ""));
    let flash = gateway.chat("acme/flash", "hi").await;
    assert_eq!(
        (flash.header("x-vsr-selected-decision"), flash.header("x-vsr-selected-recipe")),
        ("quick", "flash")
    );
    let names = Answer::of(client().get(gateway.url("/v1/models")).send().await.unwrap()).await.json();
    let names: Vec<_> = names["data"].as_array().unwrap().iter().map(|one| one["id"].clone()).collect();
    assert!(names.contains(&json!("acme/flash")) && names.contains(&json!("auto")), "{names:?}");
}

#[tokio::test]
async fn a_fixed_answer_reaches_those_who_name_a_model_too_whole_and_as_a_stream() {
    let (gateway, small, _large) = stage(
        "signals: {secret: {keyword: {any: [codename]}}}\n\
         decisions: [{name: closed, when: secret, plugins: {respond: {text: We do not speak of that.}}}]\n",
    )
    .await;
    for model in ["auto", "small"] {
        let answer = gateway.chat(model, "What is the codename?").await;
        assert_eq!(
            (answer.status, answer.header("x-vsr-response-path")),
            (200, "fast_response"),
            "{}",
            answer.text
        );
        assert_eq!(answer.json()["choices"][0]["message"]["content"], "We do not speak of that.");
        assert_eq!(answer.header("x-vsr-fast-response"), "true");
    }
    let mut body = message("small", "tell me the codename");
    body["stream"] = json!(true);
    let stream = asked_with(&gateway, &[], body).await;
    assert_eq!(stream.header("content-type"), "text/event-stream");
    assert!(stream.text.ends_with("data: [DONE]\n\n"), "{}", stream.text);
    assert!(asked(&small).is_empty());
    assert_eq!(gateway.chat("small", "hello").await.header("x-vsr-response-path"), "upstream");
}

#[tokio::test]
async fn the_history_the_tools_and_the_metadata_of_a_request_can_decide() {
    let (gateway, _small, _large) = stage(
        "signals:\n  long: {conversation: {feature: user_messages, min: 2}}\n  armed: {conversation: {feature: tools}}\n  \
         gold: {metadata: {key: plan, in: [gold]}}\n  shouts: {structure: {count: '!', min: 3}}\n  \
         french: {language: {any: [fr]}}\n  big: {context: {min_tokens: 300}}\n\
         decisions:\n  - {name: gold, priority: 9, when: gold, model: large}\n  - {name: armed, priority: 8, when: armed, model: large}\n  \
         - {name: long, priority: 7, when: long, model: large}\n  - {name: shouts, priority: 6, when: shouts, model: large}\n  \
         - {name: big, priority: 5, when: big, model: large}\n  - {name: french, priority: 4, when: french, model: large}\n",
    )
    .await;
    let mut gold = message("auto", "hi");
    gold["metadata"] = json!({"plan": "gold"});
    let mut armed = message("auto", "hi");
    armed["tools"] =
        json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
    let long = json!({"model": "auto", "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]});
    let cases = [
        (gold, "gold"),
        (armed, "armed"),
        (long, "long"),
        (message("auto", "no! no! no!"), "shouts"),
        (message("auto", &"one more word ".repeat(200)), "big"),
        (
            message("auto", "Quelle est la meilleure façon de préparer une tarte aux pommes à la maison ?"),
            "french",
        ),
        (message("auto", "What is the best way to bake an apple pie at home?"), ""),
    ];
    for (body, decision) in cases {
        let answer = asked_with(&gateway, &[], body).await;
        assert_eq!(answer.header("x-vsr-selected-decision"), decision, "{}", answer.text);
    }
}

#[tokio::test]
async fn who_asks_is_known_by_a_key_alone_and_never_by_a_strangers_word() {
    let identity = "identity:\n  keys: [{value: {env: KEY}, user: alice, groups: [staff, seers], tenant: acme}]\n  debug_groups: [seers]\n\
                    signals: {staff: {identity: {groups: [staff]}}}\ndecisions: [{name: inside, when: staff, model: large}]\n";
    let (small, large) = (sim("small").await, sim("large").await);
    let policy = format!(
        "version: 1\nvirtual_models: [auto]\ndefault_model: small\nmodels: {{small: {{pools: [s]}}, large: {{pools: [l]}}}}\n\
         pools: {{s: {{endpoints: [\"{}\"]}}, l: {{endpoints: [\"{}\"]}}}}\n{identity}",
        small.addr(),
        large.addr()
    );
    let gateway = Launch::new(policy).variable("KEY", "sk-alice-1").start().await;
    let forged = [("x-authz-user-id", "alice"), ("x-authz-user-groups", "staff"), ("x-vsr-debug", "true")];
    let stranger = asked_with(&gateway, &forged, message("auto", "hi")).await;
    assert_eq!(stranger.header("x-vsr-selected-model"), "small");
    let seen = asked(&small).remove(0);
    assert!(seen.headers.keys().all(|name| !name.as_str().starts_with("x-authz")), "{:?}", seen.headers);
    let key = [("authorization", "Bearer sk-alice-1"), ("x-vsr-debug", "true")];
    let alice = asked_with(&gateway, &key, message("auto", "hi")).await;
    assert_eq!(alice.header("x-vsr-selected-decision"), "inside");
    assert_eq!(alice.header("x-vsr-matched-identity"), "staff=1.0000");
    assert!(stranger.headers.keys().all(|name| !name.as_str().starts_with("x-vsr-matched")));
    let seen = asked(&large).remove(0);
    assert!(!format!("{:?}", seen.headers).contains("sk-alice"), "{:?}", seen.headers);
    let line = gateway.line(alice.header("x-request-id")).await;
    assert_eq!((&line["user"], &line["tenant"]), (&json!("alice"), &json!("acme")), "{line}");
    assert!(!gateway.stdout().contains("sk-alice"));
}

#[tokio::test]
async fn whoever_must_be_known_and_is_not_is_refused() {
    let (gateway, small, _large) = stage("identity: {required: true, trusted_peers: [127.0.0.2/32]}\n").await;
    let answer = gateway.chat("small", "hi").await;
    assert_eq!(answer.status, 401, "{}", answer.text);
    assert_eq!(answer.json()["error"]["code"], "invalid_api_key");
    assert!(asked(&small).is_empty());
}

#[tokio::test]
async fn an_adapter_is_asked_for_by_its_name() {
    let (gateway, _small, large) =
        stage("decisions: [{name: fine, models: [{model: large, lora: tuned}]}]\n").await;
    for model in ["tuned", "auto"] {
        // The sim serves its own model alone, so the answer says that the name went upstream.
        gateway.chat(model, "hi").await;
        let body: Value = serde_json::from_slice(&asked(&large).pop().unwrap().body).unwrap();
        assert_eq!(body["model"], "tuned");
    }
}
