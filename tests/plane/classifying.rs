//! Prompts of many clients at once, of any length, and what the log and the metrics say of them.

use crate::harness::*;
use serde_json::json;

fn policy(sim: &signalbox::sim::Sim, classifier: &str) -> String {
    policy_of(&[sim.addr()], "")
        + &format!(
            "virtual_models: [auto]\ndefault_model: m\nclassifier: {{deadline: 60s, {classifier}}}\n\
                    decisions: [{{name: sums, domains: [math], model: m}}]\n"
        )
}

#[tokio::test]
async fn many_prompts_at_once_are_all_classified_and_share_forwards() {
    const CLIENTS: usize = 64;
    let sim = sim("m").await;
    let gateway = Launch::new(policy(&sim, "threads: 1")).start().await;
    let mut clients = tokio::task::JoinSet::new();
    for at in 0..CLIENTS {
        let text = format!("What is the derivative of f(x) = {at} * x^3 + 2x^2 - 5x + 7?");
        let body = json!({"model": "auto", "messages": [{"role": "user", "content": text}]}).to_string();
        let request = client().post(gateway.url("/v1/chat/completions"));
        let request = request.header("content-type", "application/json").body(body);
        clients.spawn(async move { Answer::of(request.send().await.unwrap()).await });
    }
    let answers = clients.join_all().await;
    for answer in &answers {
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.header("x-vsr-selected-category"), "math");
    }
    let count = async |family: &str, label: &str| gateway.metric(family, &[label]).await;
    let windows = count("signalbox_classifier_windows_total", "source=\"computed\"").await;
    let forwards = count("signalbox_classifier_forwards_total", "result=\"success\"").await;
    assert_eq!(windows, CLIENTS as f64);
    assert!(windows / forwards > 1.5, "{windows} windows in {forwards} forwards");
    let done = ["outcome=\"ok\""];
    gateway.counts("signalbox_classifier_duration_seconds_count", &done, CLIENTS as f64).await;
    let line = gateway.line(answers[0].header("x-request-id")).await;
    assert_eq!((&line["coverage"], &line["classify_windows"]), (&json!(1.0), &json!(1)), "{line}");
    assert!(line["classify_tokens"].as_u64() > Some(20), "{line}");
}

#[tokio::test]
async fn the_question_at_the_end_of_a_long_prompt_is_read() {
    let sim = sim("m").await;
    let gateway = Launch::new(policy(&sim, "max_tokens: 8192")).start().await;
    let matter = "Thank you for your help so far, it was a pleasure as ever. ".repeat(40);
    let question =
        "What is the derivative of f(x) = x^3 + 2x^2 - 5x + 7? Solve the equation 3x + 4 = 19. ".repeat(8);
    let alone = gateway.chat("auto", &matter).await;
    assert_ne!(alone.header("x-vsr-selected-category"), "math");
    let asked = gateway.chat("auto", &format!("{matter}{question}")).await;
    assert_eq!(asked.header("x-vsr-selected-category"), "math");
    let line = gateway.line(asked.header("x-request-id")).await;
    assert_eq!(line["coverage"], 1.0, "{line}");
    assert!(line["classify_tokens"].as_u64() > Some(512), "{line}");
    assert!(line["classify_cached"].as_u64() > Some(0), "its start was read before: {line}");
}

#[tokio::test]
async fn a_prompt_without_an_answer_is_counted_by_its_reason() {
    let sim = sim("m").await;
    let gateway = Launch::new(policy(&sim, "threads: 1")).start().await;
    gateway.chat("auto", " \n").await;
    let reason = ["question=\"domain\"", "reason=\"empty\""];
    gateway.counts("signalbox_classifier_unknown_total", &reason, 1.0).await;
    gateway.rewrite(&policy(&sim, "threads: 1").replace("60s", "1ms"));
    until("the shorter deadline", async || {
        (gateway.metric("signalbox_policy_generation", &[]).await == 2.0).then_some(())
    })
    .await;
    let answer = gateway.chat("auto", &"a longer text takes more than a moment ".repeat(100)).await;
    assert_eq!(answer.header("x-vsr-selected-reason"), "default_classifier_late");
    let reason = ["question=\"domain\"", "reason=\"late\""];
    gateway.counts("signalbox_classifier_unknown_total", &reason, 1.0).await;
}

#[tokio::test]
async fn what_finds_the_queue_full_goes_on_unclassified_and_is_counted() {
    const CLIENTS: usize = 8;
    let sim = sim("m").await;
    let gateway = Launch::new(policy(&sim, "threads: 1, queue: 1, cache: 0")).start().await;
    let mut clients = tokio::task::JoinSet::new();
    for at in 0..CLIENTS {
        let text = format!("the {at}th text takes more than a moment ").repeat(200);
        let body = json!({"model": "auto", "messages": [{"role": "user", "content": text}]});
        let request = client().post(gateway.url("/v1/chat/completions")).body(body.to_string());
        clients.spawn(async move { Answer::of(request.send().await.unwrap()).await });
    }
    let answers = clients.join_all().await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    let busy = |answer: &&Answer| answer.header("x-vsr-selected-reason") == "default_classifier_busy";
    let busy = answers.iter().filter(busy).count();
    assert!((1..CLIENTS).contains(&busy), "{busy} of {CLIENTS}: one is computed, one waits");
    let reason = ["question=\"domain\"", "reason=\"busy\""];
    gateway.counts("signalbox_classifier_unknown_total", &reason, busy as f64).await;
}
