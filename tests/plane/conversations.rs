//! Conversations go on with the decision and the model that they have, also where their next message says nothing.

use crate::harness::*;
use crate::raw::*;
use serde_json::{Value, json};
use signalbox::sim::Sim;

const URGENT: &str = "This is urgent: the build is broken.";

async fn stage(more: &str) -> (Gateway, [Sim; 2]) {
    let sims = [sim("small").await, sim("large").await];
    let identity = "identity: {keys: [{value: {env: A}, user: a}, {value: {env: B}, user: b}, {value: {env: C}, user: a, groups: [staff]}]}\n";
    let policy = policy(&sims, more) + identity;
    (
        Launch::new(policy)
            .variable("A", "key-a")
            .variable("B", "key-b")
            .variable("C", "key-c")
            .start()
            .await,
        sims,
    )
}

fn policy(sims: &[Sim; 2], more: &str) -> String {
    format!(
        "version: 1\nvirtual_models: [auto]\ndefault_model: small\n\
         models:\n  small: {{pools: [small]}}\n  large: {{pools: [large]}}\n\
         pools:\n  small: {{endpoints: [\"{}\"]}}\n  large: {{endpoints: [\"{}\"]}}\n\
         signals: {{urgent: {{keyword: {{any: [urgent]}}}}, calm: {{keyword: {{any: [calm]}}}}}}\n\
         decisions:\n- {{name: hurry, when: urgent, model: large, plugins: {{system_prompt: {{text: Be quick.}}}}}}\n\
         - {{name: rest, when: calm, model: small}}\n{more}",
        sims[0].addr(),
        sims[1].addr(),
    )
}

async fn say(gateway: &Gateway, headers: &[(&str, &str)], turns: &[&str]) -> Answer {
    let role = |at: usize| if at.is_multiple_of(2) { "user" } else { "assistant" };
    let messages: Vec<Value> =
        turns.iter().enumerate().map(|(at, turn)| json!({"role": role(at), "content": turn})).collect();
    let mut request = client().post(gateway.url("/v1/chat/completions"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Answer::of(request.body(json!({"model": "auto", "messages": messages}).to_string()).send().await.unwrap())
        .await
}

fn told(answer: &Answer) -> [&str; 3] {
    assert_eq!(answer.status, 200, "{}", answer.text);
    ["x-vsr-selected-model", "x-vsr-selected-decision", "x-vsr-selected-reason"]
        .map(|name| answer.header(name))
}

const KEPT: [&str; 3] = ["large", "hurry", "kept"];
const DEFAULT: [&str; 3] = ["small", "", "default"];

#[tokio::test]
async fn a_message_that_matches_no_decision_goes_on_with_the_one_that_its_conversation_has() {
    let (gateway, sims) = stage("").await;
    assert_eq!(told(&say(&gateway, &[], &[URGENT]).await), ["large", "hurry", "decided"]);
    let next = say(&gateway, &[], &[URGENT, "I see.", "why?"]).await;
    assert_eq!(told(&next), KEPT);
    assert_eq!(gateway.line(next.header("x-request-id")).await["reason"], "kept");
    assert!(String::from_utf8_lossy(&asked(&sims[1])[1].body).contains("Be quick."), "its plugins hold too");
    // Clients send the model's answers back as they like.
    assert_eq!(told(&say(&gateway, &[], &[URGENT, "", "why?", "Well.", "commit it"]).await), KEPT);
    // The last message again, as agents and retries send it.
    assert_eq!(told(&say(&gateway, &[], &[URGENT, "", "why?", "Well.", "commit it"]).await), KEPT);
    // Others' conversations, and one that was never here.
    assert_eq!(told(&say(&gateway, &[], &["why?"]).await), DEFAULT);
    assert_eq!(told(&say(&gateway, &[], &["hello", "I see.", "why?"]).await), DEFAULT);
    // A message that matches another decision is decided anew, and held from then on.
    let turns = [URGENT, "I see.", "why?", "Well.", "be calm now", "Fine.", "and then?"];
    assert_eq!(told(&say(&gateway, &[], &turns[..5]).await), ["small", "rest", "decided"]);
    assert_eq!(told(&say(&gateway, &[], &turns).await), ["small", "rest", "kept"]);
}

#[tokio::test]
async fn conversations_of_users_are_apart_and_a_header_may_name_one() {
    let (gateway, _sims) = stage("conversations: {headers: [X-Thread]}\n").await;
    let (a, b) = (("authorization", "Bearer key-a"), ("authorization", "Bearer key-b"));
    say(&gateway, &[a], &[URGENT]).await;
    assert_eq!(told(&say(&gateway, &[b], &[URGENT, "I see.", "why?"]).await), DEFAULT);
    let in_a_group = ("authorization", "Bearer key-c");
    assert_eq!(told(&say(&gateway, &[in_a_group], &[URGENT, "I see.", "why?"]).await), DEFAULT);
    assert_eq!(told(&say(&gateway, &[a], &[URGENT, "I see.", "why?"]).await), KEPT);
    // Compacted: nothing is left of what was said.
    say(&gateway, &[a, ("x-thread", "1")], &[URGENT]).await;
    assert_eq!(told(&say(&gateway, &[a, ("x-thread", "1")], &["go on"]).await), KEPT);
    assert_eq!(told(&say(&gateway, &[a, ("x-thread", "2")], &["go on"]).await), DEFAULT);
    assert_eq!(told(&say(&gateway, &[b, ("x-thread", "1")], &["go on"]).await), DEFAULT);
}

#[tokio::test]
async fn a_policy_may_decide_every_message_by_itself_and_a_reload_forgets_no_conversation() {
    let (gateway, sims) = stage("").await;
    say(&gateway, &[], &[URGENT]).await;
    gateway.rewrite(&policy(&sims, "conversations: {keep: false}\n"));
    until("the other policy", async || {
        let answer = say(&gateway, &[], &[URGENT, "I see.", "why?"]).await;
        (told(&answer) == DEFAULT).then_some(())
    })
    .await;
    gateway.rewrite(&policy(&sims, "conversations: {ttl: 1h}\n"));
    until("the first policy", async || {
        let answer = say(&gateway, &[], &[URGENT, "I see.", "why?"]).await;
        (told(&answer) == KEPT).then_some(())
    })
    .await;
    // A decision that is gone holds nothing.
    gateway.rewrite(&policy(&sims, "").replace("name: hurry", "name: haste"));
    until("the renamed decision", async || {
        let answer = say(&gateway, &[], &[URGENT, "I see.", "why?"]).await;
        (told(&answer) == DEFAULT).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_response_that_goes_on_from_another_is_of_its_conversation() {
    let upstream = Scripted::start(|connection, at| {
        let body = format!(r#"{{"id":"resp_{connection}_{at}","object":"response","output":[]}}"#);
        Act::Answer(answer("200 OK", &body))
    })
    .await;
    let policy = format!(
        "version: 1\nvirtual_models: [auto]\ndefault_model: small\nmodels:\n  small: {{pools: [main]}}\n\
         \x20 large: {{pools: [main]}}\npools:\n  main: {{endpoints: [\"{}\"], health: {{enabled: false}}}}\n\
         signals: {{urgent: {{keyword: {{any: [urgent]}}}}}}\n\
         decisions: [{{name: hurry, when: urgent, model: large}}]\n",
        upstream.addr
    );
    let gateway = Launch::new(policy).start().await;
    let say = async |text: &str, previous: Option<&str>| {
        let mut body = json!({"model": "auto", "input": text});
        if let Some(previous) = previous {
            body["previous_response_id"] = previous.into();
        }
        gateway.post("/v1/responses", body.to_string()).await
    };
    let first = say(URGENT, None).await;
    let id = first.json()["id"].as_str().unwrap().to_owned();
    let next = say("why?", Some(&id)).await;
    assert_eq!(told(&next), KEPT);
    let id = next.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(told(&say("and then?", Some(&id)).await), KEPT);
    assert_eq!(told(&say("why?", None).await), DEFAULT);
    assert_eq!(told(&say("why?", Some("resp_unknown")).await), DEFAULT);
}
