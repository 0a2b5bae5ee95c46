//! Engines that refuse because their queues are full: spared for a moment, and no more to blame than a full one is.

use crate::harness::*;
use crate::raw::*;
use signalbox::sim::Sim;
use std::time::Instant;

/// One failure is enough to eject.
const STRICT: &str = "    ejection: {consecutive_failures: 1, max_share: 1}\n";

async fn full() -> Sim {
    let full = sim("m").await;
    full.set_faults(faults(|faults| faults.busy = true));
    full
}

#[tokio::test]
async fn a_full_engine_is_spared_for_a_moment_and_another_answers() {
    for protocol in ["http1", "h2c"] {
        let (full, free) = (full().await, sim("m").await);
        let more = format!("    protocol: {protocol}\n{STRICT}");
        let gateway = Launch::new(policy_of(&[full.addr(), free.addr()], &more)).start().await;
        let stream = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
        for _ in 0..20 {
            assert_eq!(gateway.chat("m", "hi").await.status, 200, "{protocol}");
            let answer = gateway.post("/v1/chat/completions", stream).await;
            assert!(
                answer.status == 200 && answer.text.ends_with("data: [DONE]\n\n"),
                "{protocol}: {answer:?}"
            );
        }
        let refused = asked(&full).len();
        assert!((1..=6).contains(&refused), "{protocol}: {refused} of 40 went there");
        gateway.counts("signalbox_retries_total", &["cause=\"saturated\""], refused as f64).await;
        assert_eq!(gateway.metric("signalbox_ejections_total", &[]).await, 0.0, "{protocol}");
        full.set_faults(faults(|_| {}));
        until("its share again", async || {
            gateway.chat("m", "hi").await;
            (asked(&full).len() >= refused + 3).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn where_all_engines_are_full_the_client_reads_what_the_last_one_said() {
    for protocol in ["http1", "h2c"] {
        let more = format!("    protocol: {protocol}\n{STRICT}");
        let sims = [full().await, full().await];
        let gateway = Launch::new(policy_of(&sims.each_ref().map(Sim::addr), &more)).start().await;
        let mut client = Wire::open(gateway.addr).await;
        let body = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
        for turn in 0..5 {
            assert!(client.post("/v1/chat/completions", body).await, "{turn}: the connection is kept");
            let answer = client.answer().await.unwrap();
            assert_eq!(
                (answer.status(), answer.header("x-vsr-response-path")),
                (503, "upstream"),
                "{answer:?}"
            );
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(text.contains("The engine is currently busy"), "{text}");
            assert_eq!(answer.header("content-length"), text.len().to_string());
        }
        assert_eq!(gateway.metric("signalbox_ejections_total", &[]).await, 0.0);
        assert_eq!(gateway.metric("signalbox_requests_in_flight", &[]).await, 0.0);
        for sim in &sims {
            sim.set_faults(faults(|_| {}));
        }
        until("answers again", async || (gateway.chat("m", "hi").await.status == 200).then_some(())).await;
    }
}

#[tokio::test]
async fn an_error_that_says_something_else_counts_as_a_failure_and_is_forwarded_whole() {
    let broken = sim("m").await;
    broken.set_faults(faults(|faults| faults.status = Some(503)));
    let gateway = Launch::new(policy_of(&[broken.addr()], STRICT)).start().await;
    let answer = gateway.chat("m", "hi").await;
    assert_eq!((answer.status, &answer.json()["error"]["message"]), (503, &"Simulated fault.".into()));
    gateway.counts("signalbox_ejections_total", &[], 1.0).await;
    assert_eq!(gateway.line(answer.header("x-request-id")).await["status"], 503);
}

#[tokio::test]
async fn an_error_whose_text_does_not_come_whole_counts_as_a_failure_and_another_answers() {
    let head =
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 90\r\n\r\n";
    let part = format!("{head}{{\"error\":{{\"message\":\"The engine is");
    for act in [|text: Vec<u8>| Act::AnswerEarly(text), |text: Vec<u8>| Act::Answer(text)] {
        let text = part.clone().into_bytes();
        let broken = Scripted::start(move |_, _| act(text.clone())).await;
        let good = sim("m").await;
        let gateway = Launch::new(policy_of(&[broken.addr, good.addr()], STRICT)).start().await;
        let began = Instant::now();
        until("the broken one's turn", async || {
            assert_eq!(gateway.chat("m", "hi").await.status, 200);
            (gateway.metric("signalbox_ejections_total", &[]).await == 1.0).then_some(())
        })
        .await;
        assert!(began.elapsed().as_secs() < 10, "a text that stops is not waited for as an answer is");
    }
}
