//! Engines that sleep: passed over while others are awake, woken where all sleep and the policy says so.

use crate::harness::*;
use signalbox::sim::Sim;
use std::net::SocketAddr;

/// Engines are looked at often.
const READ: &str = "    metrics: {enabled: true, max_interval: 100ms, max_age: 10m}\n";

async fn start(addresses: &[SocketAddr], more: &str) -> Gateway {
    Launch::new(policy_of(addresses, &format!("{READ}{more}"))).start().await
}

/// Puts an engine to sleep, and waits until the gateway knows.
async fn put_to_sleep(gateway: &Gateway, sim: &Sim) {
    sim.sleep(1);
    let label = format!("endpoint=\"{}\"", sim.addr());
    gateway.counts("signalbox_engine_asleep", &[&label], 1.0).await;
}

/// How often an engine was told to wake.
fn woken(sim: &Sim) -> usize {
    asked(sim).iter().filter(|request| request.path == "/wake_up").count()
}

fn answered(sim: &Sim) -> usize {
    asked(sim).iter().filter(|request| request.path == "/v1/chat/completions").count()
}

#[tokio::test]
async fn an_engine_that_sleeps_is_woken_once_for_all_that_wait_for_it() {
    let sim = sim("m").await;
    let gateway = start(&[sim.addr()], "    wake: {}\n").await;
    put_to_sleep(&gateway, &sim).await;
    let all = futures::future::join_all((0..8).map(|_| gateway.chat("m", "hi"))).await;
    assert!(all.iter().all(|answer| answer.status == 200), "{all:?}");
    assert_eq!(answered(&sim), 8);
    // Once more, where its metrics were read while it woke.
    assert!((1..=2).contains(&woken(&sim)), "{}", woken(&sim));
    let told = gateway.metric("signalbox_engine_wake_seconds_count", &["result=\"woken\""]).await;
    assert!((1.0..=8.0).contains(&told), "{told}");
    gateway.counts("signalbox_engine_asleep", &[], 0.0).await;
    let before = woken(&sim);
    assert_eq!(gateway.chat("m", "hi").await.status, 200);
    assert_eq!(woken(&sim), before, "it is awake now");
}

#[tokio::test]
async fn none_is_woken_while_another_is_awake() {
    let [sleeper, awake] = [sim("m").await, sim("m").await];
    let gateway = start(&[sleeper.addr(), awake.addr()], "    wake: {}\n").await;
    put_to_sleep(&gateway, &sleeper).await;
    for _ in 0..10 {
        assert_eq!(gateway.chat("m", "hi").await.status, 200);
    }
    assert_eq!((woken(&sleeper), answered(&sleeper), answered(&awake)), (0, 0, 10));
}

#[tokio::test]
async fn an_engine_that_does_not_wake_in_time_is_left_for_another_and_the_client_hears_of_the_last() {
    let [one, other] = [sim("m").await, sim("m").await];
    let gateway = start(&[one.addr(), other.addr()], "    wake: {timeout: 300ms}\n").await;
    for sim in [&one, &other] {
        put_to_sleep(&gateway, sim).await;
    }
    one.set_faults(faults(|faults| faults.refuse = true));
    until("an answer of the one that wakes", async || {
        assert_eq!(gateway.chat("m", "hi").await.status, 200);
        (woken(&one) > 0 || woken(&other) > 0).then_some(())
    })
    .await;
    put_to_sleep(&gateway, &other).await;
    other.set_faults(faults(|faults| faults.refuse = true));
    let refused = gateway.chat("m", "hi").await;
    assert_eq!(refused.status, 504, "{refused:?}");
    assert!(gateway.metric("signalbox_engine_wake_seconds_count", &["result=\"failed\""]).await >= 1.0);
}

#[tokio::test]
async fn without_a_word_of_the_policy_no_engine_is_woken() {
    let sim = sim("m").await;
    let gateway = start(&[sim.addr()], "").await;
    put_to_sleep(&gateway, &sim).await;
    let waits = tokio::spawn({
        let request = client().post(gateway.url("/v1/chat/completions"));
        let body = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":2}"#;
        async move { Answer::of(request.body(body).send().await.unwrap()).await }
    });
    until("the request at the engine", async || (answered(&sim) == 1).then_some(())).await;
    assert_eq!(woken(&sim), 0);
    sim.sleep(0);
    assert_eq!(waits.await.unwrap().status, 200);
}
