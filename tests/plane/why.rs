//! The answer's headers, the log line and the metrics tell the same story of a request.

use crate::harness::*;
use serde_json::Value;
use signalbox::sim::Sim;

/// A gateway that decides between two models; the pool of `local` has a fall-back.
async fn stage() -> (Gateway, Sim, Sim) {
    let (maths, local) = (sim("maths").await, sim("local").await);
    let policy = format!(
        "version: 1\nvirtual_models: [auto]\ndefault_model: local\n\
         classifier: {{deadline: 10s}}\n\
         decisions:\n  - {{name: maths decision, domains: [math], model: maths}}\n\
         models:\n  maths: {{pools: [first], aliases: [org/maths]}}\n\
         \x20 local: {{pools: [second, {{pool: first, upstream_model: maths}}]}}\n\
         pools:\n  first: {{endpoints: [\"{}\"]}}\n  second: {{endpoints: [\"{}\"]}}\n",
        maths.addr(),
        local.addr()
    );
    (Launch::new(policy).start().await, maths, local)
}

/// What one request should be said to have been.
#[derive(Debug, Default)]
struct Story {
    model: &'static str,
    category: &'static str,
    decision: &'static str,
    reason: &'static str,
    pool: &'static str,
    status: u16,
    tries: u64,
}

/// The numbers of the metrics that tell this story.
async fn counted(gateway: &Gateway, story: &Story) -> [f64; 6] {
    let model = format!("model=\"{}\"", story.model);
    let (pool, reason) = (format!("pool=\"{}\"", story.pool), format!("reason=\"{}\"", story.reason));
    let (status, category) =
        (format!("status=\"{}\"", story.status), format!("category=\"{}\"", story.category));
    let decision = format!("decision=\"{}\"", story.decision);
    [
        gateway.metric("signalbox_requests_total", &[&model, &pool, &status, &reason]).await,
        gateway.metric("signalbox_requests_total", &[]).await,
        gateway.metric("signalbox_decisions_total", &[&category, &decision, &model]).await,
        gateway.metric("signalbox_decisions_total", &[]).await,
        gateway.metric("signalbox_tokens_total", &[&model, "kind=\"prompt\""]).await,
        gateway.metric("signalbox_tokens_total", &[&model, "kind=\"completion\""]).await,
    ]
}

async fn check(gateway: &Gateway, body: &Value, story: &Story) {
    let before = counted(gateway, story).await;
    let answer = gateway.post("/v1/chat/completions", body.to_string()).await;
    assert_eq!(answer.status, story.status, "{story:?}: {}", answer.text);
    assert_eq!(answer.header("x-vsr-selected-model"), story.model, "{story:?}");
    assert_eq!(answer.header("x-vsr-selected-category"), story.category, "{story:?}");
    assert_eq!(answer.header("x-vsr-selected-decision"), story.decision, "{story:?}");
    let none = if story.model.is_empty() { "" } else { story.reason };
    assert_eq!(answer.header("x-vsr-selected-reason"), none, "{story:?}");

    let line = gateway.line(answer.header("x-request-id")).await;
    let text = |key: &str| line[key].as_str().unwrap_or_default();
    let said = (text("model"), text("category"), text("decision"), text("pool"));
    assert_eq!(said, (story.model, story.category, story.decision, story.pool), "{line}");
    assert_eq!(text("reason"), none, "{line}");
    assert_eq!(line["status"], story.status, "{line}");
    assert_eq!(line["tries"], story.tries, "{line}");
    assert_eq!(text("response_path"), answer.header("x-vsr-response-path"));
    assert_eq!((text("method"), text("path")), ("POST", "/v1/chat/completions"));
    assert_eq!(line["requested_model"], body["model"]);
    assert_eq!(line["request_bytes"], body.to_string().len());
    assert_eq!(line["response_bytes"], answer.text.len());
    assert_eq!(line["confidence"].is_number(), !story.category.is_empty(), "{line}");
    let usage = usage(&answer.text);
    assert_eq!((&line["prompt_tokens"], &line["completion_tokens"]), (&usage[0], &usage[1]), "{line}");
    assert!(!line.to_string().contains("2+2"), "no prompt is logged: {line}");

    let after = counted(gateway, story).await;
    let classified = f64::from(u8::from(!story.category.is_empty()));
    let tokens = usage.map(|count| count.as_f64().unwrap_or(0.0));
    let grown: Vec<f64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
    assert_eq!(grown, [1.0, 1.0, classified, classified, tokens[0], tokens[1]], "{story:?}");
}

/// Prompt and completion tokens of an answer, streamed or not.
fn usage(text: &str) -> [Value; 2] {
    let events = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let mut bodies: Vec<Value> = events.filter_map(|event| serde_json::from_str(event).ok()).collect();
    bodies.extend(serde_json::from_str::<Value>(text));
    let usage = bodies.iter().map(|body| &body["usage"]).rfind(|usage| usage.is_object());
    ["prompt_tokens", "completion_tokens"].map(|key| usage.map_or(Value::Null, |usage| usage[key].clone()))
}

fn ask(model: &str, text: &str) -> Value {
    serde_json::json!({"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 4})
}

#[tokio::test]
async fn headers_log_line_and_metrics_agree_on_every_way_a_model_is_chosen() {
    let (gateway, _maths, local) = stage().await;
    let good = Story { status: 200, tries: 1, ..Story::default() };
    let named = Story { model: "maths", reason: "named", pool: "first", ..good };
    check(&gateway, &ask("maths", "hi"), &named).await;
    check(&gateway, &ask("org/maths", "hi"), &named).await;
    let decided = Story { category: "math", decision: "maths decision", reason: "decided", ..named };
    check(&gateway, &ask("auto", "What is 2+2 * (5-1)?"), &decided).await;
    let mut streamed = ask("auto", "2+2 is  ");
    streamed["stream"] = true.into();
    streamed["stream_options"] = serde_json::json!({"include_usage": true});
    check(&gateway, &streamed, &decided).await;
    let undecided = Story {
        model: "local",
        category: "computer science",
        decision: "",
        reason: "default",
        pool: "second",
        ..decided
    };
    let linux = "Linux is said to be an open source kernel because ";
    check(&gateway, &ask("auto", linux), &undecided).await;
    let wordless = Story { category: "", reason: "default_no_text", ..undecided };
    check(&gateway, &ask("auto", " "), &wordless).await;

    local.set_faults(faults(|faults| faults.status = Some(503)));
    let fallback = Story { reason: "named", pool: "first", tries: 2, ..wordless };
    check(&gateway, &ask("local", "hi"), &fallback).await;
    gateway.counts("signalbox_retries_total", &["pool=\"second\"", "cause=\"503\""], 1.0).await;
}

#[tokio::test]
async fn a_rejection_is_reported_alike_too() {
    let (gateway, maths, _local) = stage().await;
    let unknown = Story { status: 404, reason: "none", ..Story::default() };
    check(&gateway, &ask("nobody", "hi"), &unknown).await;
    maths.set_faults(faults(|faults| faults.reset_before_headers = 1.0));
    let before = gateway.metric("signalbox_rejections_total", &["code=\"upstream_reset\""]).await;
    let answer = gateway.chat("maths", "hi").await;
    assert_eq!(answer.status, 502, "{}", answer.text);
    let line = gateway.line(answer.header("x-request-id")).await;
    assert_eq!((&line["error"], &line["model"]), (&"upstream_reset".into(), &"maths".into()));
    assert_eq!((&line["status"], &line["pool"]), (&502.into(), &"first".into()));
    let after = gateway.metric("signalbox_rejections_total", &["code=\"upstream_reset\""]).await;
    assert_eq!(after - before, 1.0);
}
