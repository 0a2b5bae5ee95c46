//! What decisions change in requests: everything else arrives byte for byte.

use crate::harness::*;
use serde_json::{Value, json};
use signalbox::sim::{RecordedRequest, Sim};

async fn stage(plugins: &str) -> (Gateway, Sim) {
    let sim = sim("m").await;
    let policy = format!(
        "version: 1\nvirtual_models: [auto]\ndefault_model: m\n\
         models: {{m: {{pools: [main], reasoning_family: qwen3, aliases: [plain]}}, gpt: {{pools: [main], upstream_model: m, reasoning_family: gpt}}}}\n\
         pools: {{main: {{endpoints: [\"{}\"], health: {{enabled: false}}}}}}\ndecisions:\n{plugins}",
        sim.addr()
    );
    (Launch::new(policy).start().await, sim)
}

fn last(sim: &Sim) -> RecordedRequest {
    asked(sim).pop().unwrap()
}

fn body(seen: &RecordedRequest) -> Value {
    serde_json::from_slice(&seen.body).unwrap()
}

#[tokio::test]
async fn a_system_prompt_goes_in_and_every_other_byte_stays() {
    let (gateway, sim) =
        stage("  - {name: d, model: m, plugins: {system_prompt: {text: Be exact., mode: insert}}}\n").await;
    let sent = r#"{ "model" : "auto", "messages":[{"role":"user","content":"h\u0069"}], "seed": 1.50e2, "x_unknown": [1,  2],"max_tokens":8}"#;
    let answer = gateway.post("/v1/chat/completions", sent).await;
    assert_eq!(
        (answer.status, answer.header("x-vsr-injected-system-prompt")),
        (200, "true"),
        "{}",
        answer.text
    );
    let got = String::from_utf8(last(&sim).body.to_vec()).unwrap();
    assert!(got.starts_with(r#"{ "model" : "m", "messages":["#), "{got}");
    assert!(
        got.ends_with(
            r#"{"role":"user","content":"h\u0069"}], "seed": 1.50e2, "x_unknown": [1,  2],"max_tokens":8}"#
        ),
        "{got}"
    );
    assert_eq!(body(&last(&sim))["messages"][0], json!({"role": "system", "content": "Be exact."}));
}

#[tokio::test]
async fn reasoning_uses_the_parameter_of_each_family_and_off_is_explicit_too() {
    for (plugins, check) in [
        ("model: m, plugins: {reasoning: on}", json!({"chat_template_kwargs": {"enable_thinking": true}})),
        ("model: m, plugins: {reasoning: off}", json!({"chat_template_kwargs": {"enable_thinking": false}})),
        ("model: gpt, plugins: {reasoning: high}", json!({"reasoning_effort": "high"})),
        ("models: [{model: gpt, reasoning: low}]", json!({"reasoning_effort": "low"})),
    ] {
        let (gateway, sim) = stage(&format!("  - {{name: d, {plugins}}}\n")).await;
        let answer = gateway.chat("auto", "hi").await;
        let got = body(&last(&sim));
        for (key, value) in check.as_object().unwrap() {
            assert_eq!(&got[key], value, "{plugins}: {got}");
        }
        let word = if plugins.contains("off") { "off" } else { "on" };
        assert_eq!(answer.header("x-vsr-selected-reasoning"), word);
    }
}

#[tokio::test]
async fn parameters_are_limited_headers_changed_and_tools_filtered() {
    let (gateway, sim) = stage(
        "  - name: d\n    model: m\n    plugins:\n      params: {max_tokens: 5, max_n: 1, remove: [logit_bias]}\n      \
         headers: {set: {x-team: maths}, remove: [x-debug]}\n      tools: {mode: filter, block: [shell]}\n",
    )
    .await;
    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}});
    let sent = json!({"model": "auto", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5000, "n": 3,
        "logit_bias": {"1": 2}, "tools": [tool("shell"), tool("search")]});
    let request =
        client().post(gateway.url("/v1/chat/completions")).header("content-type", "application/json");
    let request = request.header("x-debug", "1").header("x-team", "mine").body(sent.to_string());
    let answer = Answer::of(request.send().await.unwrap()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let seen = last(&sim);
    let got = body(&seen);
    assert_eq!((&got["max_tokens"], &got["n"], got.get("logit_bias")), (&json!(5), &json!(1), None), "{got}");
    assert_eq!(got["tools"], json!([tool("search")]));
    assert_eq!(seen.headers.get("x-team").unwrap(), "maths");
    assert!(seen.headers.get("x-debug").is_none());
    // A request that names its model goes as it came.
    let named =
        json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "n": 1, "max_tokens": 9})
            .to_string();
    gateway.post("/v1/chat/completions", named.clone()).await;
    assert_eq!(last(&sim).body, named.as_bytes());
}

#[tokio::test]
async fn tools_of_a_file_are_picked_by_the_prompt() {
    let sim = sim("m").await;
    let tools = json!([
        {"tool": {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}},
         "description": "Get the current weather and forecast for a location", "tags": ["weather", "rain"]},
        {"tool": {"type": "function", "function": {"name": "send_email", "parameters": {"type": "object"}}},
         "description": "Send an email message to a recipient", "tags": ["mail"]},
    ]);
    let policy = policy_of(&[sim.addr()], "")
        + "virtual_models: [auto]\ndefault_model: m\nclassifier: {deadline: 30s}\n\
           decisions: [{name: d, model: m, plugins: {tools: {mode: select, file: tools.json, top_k: 1, min_score: 0.2}}}]\n";
    let launch = Launch::new(policy);
    std::fs::write(launch.folder().join("tools.json"), tools.to_string()).unwrap();
    let gateway = launch.start().await;
    gateway.chat("auto", "Will it rain in Paris tomorrow?").await;
    assert_eq!(body(&last(&sim))["tools"][0]["function"]["name"], "get_weather");
    gateway.chat("auto", "Send a mail to my boss that I am ill").await;
    assert_eq!(body(&last(&sim))["tools"][0]["function"]["name"], "send_email");
}

#[tokio::test]
async fn plugins_of_a_decision_for_all_requests_hold_for_those_that_name_a_model_too() {
    let plugins = "plugins: {system_prompt: {text: Be exact.}, params: {max_tokens: 5, remove: [seed]}, tools: {mode: none}}";
    let sent = r#"{"model": "gpt", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 50, "seed": 1,
        "tools": [{"type": "function", "function": {"name": "f"}}]}"#;
    for (applies_to, applied) in [("all", true), ("auto", false)] {
        let decision = format!("  - {{name: d, model: m, applies_to: {applies_to}, {plugins}}}\n");
        let (gateway, sim) = stage(&decision).await;
        let answer = gateway.post("/v1/chat/completions", sent).await;
        assert_eq!((answer.status, answer.header("x-vsr-selected-model")), (200, "gpt"), "{}", answer.text);
        let got = body(&last(&sim));
        assert_eq!(got["max_tokens"], if applied { 5 } else { 50 }, "{got}");
        assert_eq!((got.get("seed").is_none(), got.get("tools").is_none()), (applied, applied), "{got}");
        assert_eq!(got["messages"].as_array().unwrap().len(), if applied { 2 } else { 1 }, "{got}");
        assert_eq!(answer.header("x-vsr-injected-system-prompt"), if applied { "true" } else { "" });
    }
}
