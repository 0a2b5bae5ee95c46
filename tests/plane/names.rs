//! What models are called: in the list, in answers, and where a request names none of its own.

use crate::harness::{Answer, Gateway, Launch, client};
use crate::raw::{Act, Scripted, answer};
use serde_json::{Value, json};

/// Answers every request with a document that names the model as it was asked for, and an id of its own.
async fn echoing() -> Scripted {
    Scripted::start(|_, _| {
        Act::AnswerTo(|request| {
            let asked: Value = serde_json::from_slice(&request.body).unwrap();
            answer("200 OK", &json!({"id": "1", "model": asked["model"], "n": 1}).to_string())
        })
    })
    .await
}

/// A gateway in front of one upstream, with these keys of the policy and these decisions.
async fn stage(more: &str) -> (Gateway, Scripted) {
    let upstream = echoing().await;
    let policy = format!(
        "version: 1\nvirtual_models: [auto]\ndefault_model: small\nmodels:\n  small: {{pools: [main], upstream_model: up-small, aliases: [little], \
         loras: [tuned], owned_by: us, reasoning_family: qwen3}}\n  vectors: {{pools: [main]}}\n  gpt: {{pools: [dead, main], reasoning_family: gpt}}\n\
         pools:\n  main: {{endpoints: [\"{}\"], health: {{enabled: false}}}}\n  dead: {{endpoints: [\"127.0.0.1:1\"], health: {{enabled: false}}}}\n{more}",
        upstream.addr
    );
    (Launch::new(policy).start().await, upstream)
}

async fn models(gateway: &Gateway, path: &str, is_anthropic: bool) -> Answer {
    let request = client().get(gateway.url(path));
    let request = if is_anthropic { request.header("anthropic-version", "2023-06-01") } else { request };
    Answer::of(request.send().await.unwrap()).await
}

/// The last request that reached the upstream.
fn last(upstream: &Scripted) -> Value {
    serde_json::from_slice(&upstream.requests().pop().unwrap().body).unwrap()
}

#[tokio::test]
async fn every_name_that_may_be_asked_for_is_listed() {
    let (gateway, _upstream) = stage("").await;
    let list = models(&gateway, "/v1/models", false).await.json();
    let ids: Vec<&str> =
        list["data"].as_array().unwrap().iter().map(|card| card["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["auto", "small", "little", "tuned", "vectors", "gpt"]);
    for name in ids {
        let card = models(&gateway, &format!("/v1/models/{name}"), false).await;
        assert_eq!((card.status, card.json()["id"].as_str()), (200, Some(name)));
    }
    let tuned = models(&gateway, "/v1/models/tuned", false).await.json();
    assert_eq!((&tuned["parent"], &tuned["owned_by"]), (&json!("small"), &json!("us")));
}

#[tokio::test]
async fn clients_of_anthropics_get_the_models_in_its_shape() {
    let (gateway, _upstream) = stage("").await;
    let list = models(&gateway, "/v1/models?limit=1000", true).await.json();
    assert_eq!(
        (&list["first_id"], &list["last_id"], &list["has_more"]),
        (&json!("auto"), &json!("gpt"), &json!(false))
    );
    let card = &list["data"][2];
    assert_eq!(
        (&card["type"], &card["id"], &card["display_name"]),
        (&json!("model"), &json!("little"), &json!("little"))
    );
    assert!(card["created_at"].as_str().unwrap().ends_with('Z'), "{card}");
    let ids = async |query: &str| {
        let page = models(&gateway, &format!("/v1/models?{query}"), true).await.json();
        let ids = page["data"].as_array().unwrap().iter().map(|card| card["id"].as_str().unwrap().to_owned());
        (ids.collect::<Vec<_>>().join(","), page["has_more"].as_bool().unwrap())
    };
    assert_eq!(ids("limit=2").await, ("auto,small".to_owned(), true));
    assert_eq!(ids("limit=2&after_id=small").await, ("little,tuned".to_owned(), true));
    assert_eq!(ids("limit=2&after_id=vectors").await, ("gpt".to_owned(), false));
    assert_eq!(ids("limit=2&before_id=tuned").await, ("small,little".to_owned(), true));
    let one = models(&gateway, "/v1/models/tuned", true).await.json();
    assert_eq!((&one["type"], &one["id"]), (&json!("model"), &json!("tuned")));
    let nobody = models(&gateway, "/v1/models/nobody", true).await;
    assert_eq!((nobody.status, nobody.json()["error"]["type"].clone()), (404, json!("not_found_error")));
    assert_eq!(models(&gateway, "/v1/models/nobody", false).await.json()["error"]["code"], "model_not_found");
}

#[tokio::test]
async fn an_answer_names_the_model_as_the_policy_does_unless_the_upstreams_name_is_wanted() {
    for (key, names) in
        [("", ["small", "small", "tuned"]), ("answer_model: upstream\n", ["up-small", "up-small", "tuned"])]
    {
        let (gateway, upstream) = stage(key).await;
        for (asked, told) in ["small", "little", "tuned"].into_iter().zip(names) {
            let got = gateway.chat(asked, "hi").await;
            assert_eq!(got.text, format!(r#"{{"id":"1","model":"{told}","n":1}}"#), "{asked}");
        }
        assert_eq!(last(&upstream)["model"], "tuned");
    }
}

#[tokio::test]
async fn events_name_the_model_as_the_policy_does() {
    let event = |model: &str| {
        format!(
            "event: response.created\ndata: {{\"type\":\"response.created\",\"response\":{{\"id\":\"resp_1\",\"model\":\"{model}\"}}}}\n\n"
        )
    };
    let delta = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"\\\"model\\\":\\\"up\\\"\"}\n\n";
    let end = |model: &str| {
        format!(
            "event: response.completed\ndata: {{\"type\":\"response.completed\",\"response\":{{\"id\":\"resp_1\",\"model\":\"{model}\",\"usage\":{{\"input_tokens\":3,\"output_tokens\":4}}}}}}\n\n"
        )
    };
    let body = [&event("up-small"), delta, &end("up-small")].concat();
    let whole = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let upstream = Scripted::start(move |_, _| Act::Answer(whole.clone().into_bytes())).await;
    let policy = format!(
        "version: 1\nmodels: {{small: {{pools: [main], upstream_model: up-small}}}}\npools: {{main: {{endpoints: [\"{}\"], health: {{enabled: false}}}}}}\n",
        upstream.addr
    );
    let gateway = Launch::new(policy).start().await;
    let got = gateway.post("/v1/responses", r#"{"model":"small","input":"hi","stream":true}"#).await;
    assert_eq!(got.text, [&event("small"), delta, &end("small")].concat());
    let line = gateway.line(got.header("x-request-id")).await;
    assert_eq!((&line["prompt_tokens"], &line["completion_tokens"]), (&json!(3), &json!(4)), "{line}");
}

#[tokio::test]
async fn a_virtual_name_stands_for_one_model_where_a_prompt_decides_nothing() {
    let decisions =
        "decisions: [{name: all, model: gpt, plugins: {reasoning: high, system_prompt: {text: x}}}]\n";
    let (gateway, upstream) = stage(&format!("default_for: {{embeddings: vectors}}\n{decisions}")).await;
    for (path, body, model) in [
        ("/v1/embeddings", json!({"model": "auto", "input": "2+2"}), "vectors"),
        ("/v1/rerank", json!({"model": "auto", "query": "2+2", "documents": ["4"]}), "up-small"),
        ("/tokenize", json!({"model": "auto", "prompt": "2+2"}), "up-small"),
    ] {
        let got = gateway.post(path, body.to_string()).await;
        assert_eq!(got.status, 200, "{}", got.text);
        let mut expected = body.clone();
        expected["model"] = json!(model);
        assert_eq!(last(&upstream), expected, "{path}");
        let line = gateway.line(got.header("x-request-id")).await;
        assert_eq!((&line["reason"], &line["decision"]), (&json!("default"), &Value::Null), "{line}");
    }
    assert_eq!(gateway.chat("auto", "2+2").await.header("x-vsr-selected-model"), "gpt");
}

#[tokio::test]
async fn a_decision_that_holds_for_all_adds_to_conversations_what_is_for_them() {
    let plugins = "plugins: {reasoning: high, params: {max_tokens: 9, max_n: 2}}";
    let (gateway, upstream) =
        stage(&format!("decisions: [{{name: all, model: gpt, applies_to: all, {plugins}}}]\n")).await;
    for (path, body, expected) in [
        ("/v1/embeddings", json!({"model": "gpt", "input": "a"}), json!({"model": "gpt", "input": "a"})),
        ("/tokenize", json!({"model": "gpt", "prompt": "a"}), json!({"model": "gpt", "prompt": "a"})),
        (
            "/v1/completions",
            json!({"model": "gpt", "prompt": "a", "best_of": 5, "n": 3, "min_tokens": 20}),
            json!({"model": "gpt", "prompt": "a", "best_of": 2, "n": 2, "min_tokens": 9, "max_tokens": 9}),
        ),
        (
            "/v1/messages",
            json!({"model": "gpt", "messages": [], "max_tokens": 50}),
            json!({"model": "gpt", "messages": [], "max_tokens": 9, "output_config": {"effort": "high"}}),
        ),
    ] {
        let got = gateway.post(path, body.to_string()).await;
        assert_eq!(got.status, 200, "{}", got.text);
        assert_eq!(last(&upstream), expected, "{path}");
    }
}

#[tokio::test]
async fn a_fall_back_is_told_to_reason_in_its_own_words() {
    let busy = Scripted::start(|_, _| Act::Answer(answer("503 Busy", "{}"))).await;
    let upstream = echoing().await;
    let policy = format!(
        "version: 1\nvirtual_models: [auto]\ndefault_model: a\nmodels:\n  a: {{pools: [main], reasoning_family: gpt}}\n  b: {{pools: [other], reasoning_family: qwen3}}\n\
         pools:\n  main: {{endpoints: [\"{}\"], health: {{enabled: false}}}}\n  other: {{endpoints: [\"{}\"], health: {{enabled: false}}}}\n\
         decisions: [{{name: hard, models: [{{model: a, reasoning: high}}], fallback: [b]}}]\n",
        busy.addr, upstream.addr
    );
    let gateway = Launch::new(policy).start().await;
    assert_eq!(gateway.chat("auto", "hi").await.status, 200);
    assert_eq!(last(&busy)["reasoning_effort"], "high");
    let seen = last(&upstream);
    assert_eq!(
        (&seen["model"], &seen["chat_template_kwargs"]),
        (&json!("b"), &json!({"enable_thinking": true})),
        "{seen}"
    );
    assert_eq!(seen["reasoning_effort"], Value::Null);
}

#[tokio::test]
async fn a_tool_that_the_client_has_chosen_stays() {
    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "description": "does", "parameters": {}}});
    for tools in [
        "{mode: filter, block: [forced]}",
        "{mode: filter, allow: [other]}",
        "{mode: rank, top_k: 1, min_score: 1}",
    ] {
        let (gateway, upstream) =
            stage(&format!("decisions: [{{name: all, model: gpt, plugins: {{tools: {tools}}}}}]\n")).await;
        let choice = json!({"type": "function", "function": {"name": "forced"}});
        let body = json!({"model": "auto", "messages": [{"role": "user", "content": "hi"}], "tool_choice": choice,
            "tools": [tool("forced"), tool("more")]});
        let got = gateway.post("/v1/chat/completions", body.to_string()).await;
        assert_eq!(got.status, 200, "{}", got.text);
        let sent = last(&upstream);
        assert_eq!((&sent["tool_choice"], &sent["tools"][0]), (&choice, &tool("forced")), "{tools}: {sent}");
    }
}
