//! Picking by what engines themselves say of their KV caches: what nobody has sent through here counts, what was evicted does
//! not, and what was missed, broken or stopped leads to no wrong pick.

use crate::harness::*;
use serde_json::{Value, json};
use signalbox::sim::{Sim, SimOptions};
use std::net::{Ipv4Addr, SocketAddr};
use tokio::net::TcpListener;

/// The ports on which all engines of a test publish and repeat, each at an address of its own.
#[derive(Clone, Copy)]
struct Ports {
    events: u16,
    replays: u16,
}

impl Ports {
    /// Takes two ports that are free.
    async fn free() -> Self {
        let bind = async || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let [events, replays] = [bind().await, bind().await];
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        Self { events: port(&events), replays: port(&replays) }
    }
}

/// An engine at 127.0.0.`last`, on a port for requests, that publishes its events.
async fn engine_on(last: u8, port: u16, ports: Ports, change: impl FnOnce(&mut SimOptions)) -> Sim {
    let mut options = SimOptions {
        models: vec!["m".to_owned()],
        default_max_tokens: 4,
        kv_events: true,
        pod: format!("pod-{last}"),
        ..SimOptions::default()
    };
    change(&mut options);
    let bind = async |port| TcpListener::bind((Ipv4Addr::new(127, 0, 0, last), port)).await.unwrap();
    let mut sim = Sim::start(options, bind(port).await, None).await;
    sim.serve_kv_events(bind(ports.events).await, Some(bind(ports.replays).await));
    sim
}

async fn engine(last: u8, ports: Ports) -> Sim {
    engine_on(last, 0, ports, |_| {}).await
}

async fn gateway(sims: &[&Sim], ports: Ports) -> Gateway {
    let addresses: Vec<_> = sims.iter().map(|sim| sim.addr()).collect();
    let events =
        format!("    kv_events: {{port: {}, replay_port: {}, topic: kv@}}\n", ports.events, ports.replays);
    let gateway = Launch::new(policy_of(&addresses, &events)).start().await;
    live(&gateway, sims.len()).await;
    gateway
}

/// Waits until so many engines are gone by their own account.
async fn live(gateway: &Gateway, count: usize) {
    gateway.counts("signalbox_engine_kv_account_live", &[], count as f64).await;
}

fn conversation(matter: &str) -> Value {
    let system = format!("You know everything about {matter}. ").repeat(80);
    json!({"model": "m", "max_tokens": 4, "messages": [{"role": "system", "content": system}, {"role": "user", "content": "hello"}]})
}

/// Asks through the gateway, and waits until the prompt's tokens are known.
async fn ask(gateway: &Gateway, body: &Value) -> Answer {
    let learnt = gateway.metric("signalbox_kv_events_total", &["kind=\"tokens_learnt\""]).await;
    let answer = gateway.post("/v1/chat/completions", body.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    gateway.counts("signalbox_kv_events_total", &["kind=\"tokens_learnt\""], learnt + 1.0).await;
    answer
}

/// Asks an engine itself: the gateway knows nothing of it.
async fn ask_directly(sim: &Sim, body: &Value) {
    let url = format!("http://{}/v1/chat/completions", sim.addr());
    let answer = client()
        .post(url)
        .header("content-type", "application/json")
        .body(body.to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
}

/// The share of a prompt that an engine would have to compute, as the operator is told.
async fn uncached(gateway: &Gateway, sim: &Sim, body: &Value) -> f64 {
    let sent = client().post(format!("http://{}/api/v1/pick", gateway.admin)).body(body.to_string()).send();
    let told = Answer::of(sent.await.unwrap()).await.json();
    let endpoints = told["endpoints"].as_array().unwrap();
    let own = endpoints.iter().find(|endpoint| endpoint["endpoint"] == sim.addr().to_string()).unwrap();
    own["uncached_tokens"].as_f64().unwrap() / told["prompt_tokens"].as_f64().unwrap()
}

/// Waits until an engine would have to compute a share in these bounds.
async fn until_uncached(gateway: &Gateway, sim: &Sim, body: &Value, bounds: std::ops::RangeInclusive<f64>) {
    let what = format!("a share of {bounds:?} to compute");
    until(&what, async || bounds.contains(&uncached(gateway, sim, body).await).then_some(())).await;
}

/// Of two engines the one that answered, and the other.
fn home<'a>(answer: &Answer, [one, other]: [&'a Sim; 2]) -> [&'a Sim; 2] {
    let is_one = answer.header("x-inference-port") == one.addr().port().to_string();
    if is_one { [one, other] } else { [other, one] }
}

#[tokio::test]
async fn what_an_engine_has_from_elsewhere_counts_and_what_it_evicts_does_not() {
    let ports = Ports::free().await;
    let small = |options: &mut SimOptions| options.capacity.kv_blocks = 100;
    let [a, b] = [engine_on(2, 0, ports, small).await, engine_on(3, 0, ports, small).await];
    let gateway = gateway(&[&a, &b], ports).await;
    let body = conversation("tea");
    let first = ask(&gateway, &body).await;
    let [home, other] = home(&first, [&a, &b]);
    until_uncached(&gateway, home, &body, 0.0..=0.2).await;
    assert!(uncached(&gateway, other, &body).await > 0.99);
    // Another gateway's requests: they are seen all the same.
    ask_directly(other, &body).await;
    until_uncached(&gateway, other, &body, 0.0..=0.2).await;
    for matter in ["iron", "rivers", "chess"] {
        ask_directly(home, &conversation(matter)).await;
    }
    until_uncached(&gateway, home, &body, 0.99..=1.0).await;
    let again = gateway.post("/v1/chat/completions", body.to_string()).await;
    assert_eq!(again.header("x-inference-pod"), if other.addr() == a.addr() { "pod-2" } else { "pod-3" });
    assert!(again.header("x-endpoint-reason").starts_with("prefix; cached="), "{:?}", again.headers);
    let cached = again.json()["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    assert!(cached > 300, "{}", again.text);
}

#[tokio::test]
async fn batches_that_were_missed_are_asked_for_again() {
    let ports = Ports::free().await;
    let [a, b] = [engine(2, ports).await, engine(3, ports).await];
    let gateway = gateway(&[&a, &b], ports).await;
    let body = conversation("tea");
    let first = ask(&gateway, &body).await;
    let [_, other] = home(&first, [&a, &b]);
    other.mute_kv_events(true);
    ask_directly(other, &body).await;
    other.mute_kv_events(false);
    assert!(uncached(&gateway, other, &body).await > 0.99, "nobody was told");
    ask_directly(other, &conversation("iron")).await;
    until_uncached(&gateway, other, &body, 0.0..=0.2).await;
    assert_eq!(gateway.metric("signalbox_kv_events_total", &["kind=\"gap\""]).await, 1.0);
    live(&gateway, 2).await;
}

#[tokio::test]
async fn an_engine_that_starts_anew_has_nothing() {
    let ports = Ports::free().await;
    let [a, b] = [engine(2, ports).await, engine(3, ports).await];
    let gateway = gateway(&[&a, &b], ports).await;
    let body = conversation("tea");
    let first = ask(&gateway, &body).await;
    let is_a = home(&first, [&a, &b])[0].addr() == a.addr();
    let (gone, last, _other) = if is_a { (a, 2, b) } else { (b, 3, a) };
    until_uncached(&gateway, &gone, &body, 0.0..=0.2).await;
    let port = gone.addr().port();
    gone.stop().await;
    live(&gateway, 1).await;
    let anew = engine_on(last, port, ports, |_| {}).await;
    live(&gateway, 2).await;
    until_uncached(&gateway, &anew, &body, 0.99..=1.0).await;
    ask_directly(&anew, &body).await;
    until_uncached(&gateway, &anew, &body, 0.0..=0.2).await;
}

#[tokio::test]
async fn an_engine_whose_events_stop_is_gone_by_what_was_sent_there() {
    let ports = Ports::free().await;
    let [mut a, mut b] = [engine(2, ports).await, engine(3, ports).await];
    let gateway = gateway(&[&a, &b], ports).await;
    let body = conversation("tea");
    let pod = ask(&gateway, &body).await.header("x-inference-pod").to_owned();
    a.stop_kv_events().await;
    b.stop_kv_events().await;
    live(&gateway, 0).await;
    for _ in 0..3 {
        let answer = gateway.post("/v1/chat/completions", body.to_string()).await;
        assert_eq!((answer.status, answer.header("x-inference-pod")), (200, pod.as_str()));
    }
    let elsewhere = if pod == "pod-2" { &b } else { &a };
    ask_directly(elsewhere, &body).await;
    assert!(uncached(&gateway, elsewhere, &body).await > 0.99, "nothing was sent there from here");
}

#[tokio::test]
async fn what_is_no_batch_harms_nothing() {
    let ports = Ports::free().await;
    let [a, b] = [engine(2, ports).await, engine(3, ports).await];
    let gateway = gateway(&[&a, &b], ports).await;
    let body = conversation("tea");
    let first = ask(&gateway, &body).await;
    let [_, other] = home(&first, [&a, &b]);
    for garbage in [&b""[..], b"\xc1", b"\xdd\xff\xff\xff\xff", &[0x91; 64], &[0xff; 5_000]] {
        other.publish_kv_events(bytes::Bytes::copy_from_slice(garbage));
    }
    ask_directly(other, &body).await;
    until_uncached(&gateway, other, &body, 0.0..=0.2).await;
    assert_eq!(gateway.metric("signalbox_kv_events_total", &["kind=\"garbage\""]).await, 5.0);
    live(&gateway, 2).await;
}

#[tokio::test]
async fn what_is_no_engine_at_all_is_tried_again_without_harm() {
    let ports = Ports::free().await;
    let sim = sim_with("m", |_| {}).await;
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, ports.events)).await.unwrap();
    let accepted = tokio::spawn(async move {
        let mut count = 0;
        while count < 3 {
            let (mut stream, _) = silent.accept().await.unwrap();
            // HTTP, or a greeting that never ends: whatever it is, it is none.
            tokio::io::AsyncWriteExt::write_all(&mut stream, &[b'x'; 64]).await.unwrap();
            count += 1;
        }
    });
    let events = format!("    kv_events: {{port: {}}}\n", ports.events);
    let addresses: [SocketAddr; 1] = [sim.addr()];
    let gateway = Launch::new(policy_of(&addresses, &events)).start().await;
    accepted.await.unwrap();
    assert_eq!(gateway.chat("m", "hi").await.status, 200);
    assert_eq!(gateway.metric("signalbox_engine_kv_account_live", &[]).await, 0.0);
}

#[tokio::test]
async fn an_engine_that_repeats_nothing_is_known_once_it_starts_or_clears() {
    let ports = Ports::free().await;
    let [a, b] = [engine(2, ports).await, engine(3, ports).await];
    ask_directly(&a, &conversation("iron")).await;
    let events = format!("    kv_events: {{port: {}}}\n", ports.events);
    let gateway = Launch::new(policy_of(&[a.addr(), b.addr()], &events)).start().await;
    until("both are listened to", async || {
        let listening = gateway.stderr().matches("KV events are listened to").count();
        (listening == 2).then_some(())
    })
    .await;
    // Which of what it says comes first is not known before it has subscribed at the engine.
    until("the first batch of one", async || {
        ask_directly(&b, &conversation("tea")).await;
        ask_directly(&a, &conversation("tea")).await;
        a.publish_kv_events(bytes::Bytes::from_static(
            b"\x93\xcb\x3f\xf8\0\0\0\0\0\0\x91\x91\xb0AllBlocksCleared\0",
        ));
        (gateway.metric("signalbox_engine_kv_account_live", &[]).await >= 1.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn engines_that_say_where_they_publish_need_no_ports_in_the_policy() {
    let (ports, others) = (Ports::free().await, Ports::free().await);
    let [a, b] = [engine(2, ports).await, engine(3, others).await];
    let gateway = Launch::new(policy_of(&[a.addr(), b.addr()], "    kv_events: {}\n")).start().await;
    live(&gateway, 2).await;
    let body = conversation("tea");
    let first = ask(&gateway, &body).await;
    let [home, other] = home(&first, [&a, &b]);
    until_uncached(&gateway, home, &body, 0.0..=0.2).await;
    ask_directly(other, &body).await;
    until_uncached(&gateway, other, &body, 0.0..=0.2).await;
}

#[tokio::test]
async fn of_the_ranks_behind_one_address_the_one_that_has_the_prompt_gets_it() {
    let ports = until("two pairs of free ports", async || {
        let ports = Ports::free().await;
        for last in [2, 3] {
            for port in [ports.events, ports.replays] {
                let next =
                    port.checked_add(1).filter(|next| ![ports.events, ports.replays].contains(next))?;
                TcpListener::bind((Ipv4Addr::new(127, 0, 0, last), next)).await.ok()?;
            }
        }
        Some(ports)
    })
    .await;
    let [a, other] = [engine(2, ports).await, engine(3, ports).await];
    // What the second ranks publish: engines of their own stand for them, at the same address.
    let next = Ports { events: ports.events + 1, replays: ports.replays + 1 };
    let [rank, _of_other] = [engine(2, next).await, engine(3, next).await];
    let more = format!(
        "    kv_events: {{port: {}, replay_port: {}, data_parallel_size: 2}}\n",
        ports.events, ports.replays
    );
    let gateway = Launch::new(policy_of(&[a.addr(), other.addr()], &more)).start().await;
    live(&gateway, 2).await;
    let body = conversation("tea");
    // Its tokens become known, by one of the two.
    ask(&gateway, &body).await;
    ask_directly(&rank, &body).await;
    until_uncached(&gateway, &a, &body, 0.0..=0.2).await;
    let named = async || {
        gateway.post("/v1/chat/completions", body.to_string()).await;
        let all = asked(&a);
        all.iter()
            .any(|request| request.headers.get("x-data-parallel-rank").is_some_and(|rank| rank == "1"))
            .then_some(())
    };
    until("a request for the rank", named).await;
}

#[tokio::test]
async fn prompts_of_token_ids_are_found_in_an_account_without_being_cut() {
    let ports = Ports::free().await;
    let [a, b] = [engine(2, ports).await, engine(3, ports).await];
    let gateway = gateway(&[&a, &b], ports).await;
    let ids: Vec<u32> = (0..600).collect();
    let body = json!({"model": "m", "max_tokens": 4, "prompt": ids}).to_string();
    let url = format!("http://{}/v1/completions", b.addr());
    let sent = client().post(url).header("content-type", "application/json").body(body.clone()).send();
    assert_eq!(sent.await.unwrap().status(), 200);
    until("the engine's word of it", async || {
        let label = format!("endpoint=\"{}\"", b.addr());
        (gateway.metric("signalbox_engine_kv_account_blocks", &[&label]).await >= 30.0).then_some(())
    })
    .await;
    let answer = gateway.post("/v1/completions", body).await;
    assert_eq!((answer.status, answer.header("x-inference-pod")), (200, "pod-3"), "{}", answer.text);
    assert!(answer.header("x-endpoint-reason").starts_with("prefix; cached="), "{:?}", answer.headers);
    assert_eq!(gateway.metric("signalbox_kv_events_total", &["kind=\"tokens_learnt\""]).await, 0.0);
}
