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

/// Posts to the operator's port, without a body.
async fn tell(gateway: &Gateway, path: &str) -> Answer {
    Answer::of(client().post(format!("http://{}{path}", gateway.admin)).send().await.unwrap()).await
}

#[tokio::test]
async fn the_operator_puts_an_engine_to_sleep_and_wakes_it_and_requests_go_by_that() {
    let [one, other] = [sim("m").await, sim("m").await];
    let gateway = start(&[one.addr(), other.addr()], "    wake: {}\n").await;
    let is_sleeping = async || gateway.admin(&format!("/is_sleeping?id={}", one.addr())).await.json();
    assert_eq!(is_sleeping().await, serde_json::json!({"is_sleeping": false}));
    let told = tell(&gateway, &format!("/sleep?id={}&level=1", one.addr())).await;
    assert_eq!((told.status, &told.json()["is_sleeping"]), (200, &true.into()), "{}", told.text);
    assert_eq!(is_sleeping().await, serde_json::json!({"is_sleeping": true}));
    for _ in 0..10 {
        assert_eq!(gateway.chat("m", "hi").await.status, 200);
    }
    assert_eq!((answered(&one), answered(&other)), (0, 10), "at once, before its metrics are read again");
    let engines = gateway.admin("/engines").await.json();
    let asleep = |addr: SocketAddr| {
        let all = engines.as_array().unwrap();
        all.iter().find(|engine| engine["engine_id"] == addr.to_string()).unwrap()["asleep"].clone()
    };
    assert_eq!((asleep(one.addr()), asleep(other.addr())), (true.into(), false.into()), "{engines}");
    assert_eq!(tell(&gateway, &format!("/wake_up?id={}", one.addr())).await.status, 200);
    until("requests at the one that was woken", async || {
        gateway.chat("m", "hi").await;
        (answered(&one) > 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn nobody_else_is_told_where_engines_are_or_may_have_them_sleep() {
    let sim = sim("m").await;
    let gateway = start(&[sim.addr()], "").await;
    let id = format!("?id={}", sim.addr());
    for path in ["/sleep", "/wake_up"] {
        let refused = tell(&gateway, &format!("{path}{id}")).await;
        assert_eq!(
            (refused.status, &refused.json()["error"]["code"]),
            (409, &"NOT_ALLOWED".into()),
            "{path}"
        );
        assert_eq!(gateway.post(&format!("{path}{id}"), "").await.status, 404, "clients have no such path");
        assert_eq!(tell(&gateway, path).await.status, 400);
        assert_eq!(tell(&gateway, &format!("{path}?id=127.0.0.1:1")).await.status, 404);
    }
    assert!(asked(&sim).iter().all(|request| request.path == "/metrics" || request.path == "/health"));
    let get = async |path: &str| Answer::of(client().get(gateway.url(path)).send().await.unwrap()).await;
    let engines = get("/engines").await;
    assert_eq!(engines.json()[0]["serving_models"], serde_json::json!(["m"]), "{}", engines.text);
    assert!(!engines.text.contains("127.0.0.1"), "{}", engines.text);
    assert_eq!(get("/version").await.json()["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(gateway.admin("/version").await.json()["version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn an_engine_whose_figures_have_grown_old_sleeps_on() {
    let [sleeper, awake] = [sim("m").await, sim("m").await];
    let text = policy_of(
        &[sleeper.addr(), awake.addr()],
        "    metrics: {enabled: true, max_interval: 100ms, max_age: 300ms}\n",
    );
    let gateway = Launch::new(text).start().await;
    put_to_sleep(&gateway, &sleeper).await;
    // Its metrics cannot be read any more.
    sleeper.set_faults(faults(|faults| faults.refuse = true));
    let label = format!("endpoint=\"{}\"", sleeper.addr());
    until("old figures", async || {
        (gateway.metric("signalbox_engine_metrics_age_seconds", &[&label]).await > 1.0).then_some(())
    })
    .await;
    for _ in 0..20 {
        assert_eq!(gateway.chat("m", "hi").await.status, 200);
    }
    assert_eq!(gateway.metric("signalbox_retries_total", &[]).await, 0.0, "it was not tried");
    sleeper.sleep(0);
    sleeper.set_faults(faults(|_| {}));
    until("requests at the one that is awake again", async || {
        gateway.chat("m", "hi").await;
        (answered(&sleeper) > 0).then_some(())
    })
    .await;
}
