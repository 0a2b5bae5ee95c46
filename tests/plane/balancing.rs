//! Which endpoint takes a request, and when one is left out and comes back.

use crate::harness::*;
use crate::raw::*;
use signalbox::sim::Sim;
use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;

const CHAT: &str = "/v1/chat/completions";

async fn sims<const N: usize>() -> [Sim; N] {
    let mut started = Vec::new();
    for _ in 0..N {
        started.push(sim("m").await);
    }
    started.try_into().unwrap()
}

fn counts<const N: usize>(sims: &[Sim; N]) -> [usize; N] {
    sims.each_ref().map(|sim| asked(sim).len())
}

fn policy<const N: usize>(sims: &[Sim; N], pool: &str) -> String {
    policy_of(&sims.each_ref().map(Sim::addr), pool)
}

/// Like [`policy`], but with checks every 50 ms.
fn checked<const N: usize>(sims: &[Sim; N], health: &str, pool: &str) -> String {
    policy(sims, pool).replace("health: {enabled: false}", &format!("health: {{interval: 50ms{health}}}"))
}

/// Adds to a pool that its requests are tried once.
fn once(pool: &str) -> String {
    format!("{pool}retry: {{attempts: 1}}\n")
}

async fn up(gateway: &Gateway, sim: &Sim) -> bool {
    gateway.metric("signalbox_endpoint_up", &[&format!("endpoint=\"{}\"", sim.addr())]).await as u32 == 1
}

async fn until_up(gateway: &Gateway, sim: &Sim, wanted: bool) {
    until(if wanted { "the endpoint's return" } else { "the endpoint's leaving" }, async || {
        (up(gateway, sim).await == wanted).then_some(())
    })
    .await;
}

fn unhealthy(sim: &Sim, unhealthy: bool) {
    sim.set_faults(faults(|faults| faults.unhealthy = unhealthy));
}

#[tokio::test]
async fn in_turn_shares_are_exactly_the_weights() {
    let sims = sims::<4>().await;
    let mut endpoints = String::new();
    for (sim, weight) in sims.iter().zip([5, 2, 1, 0]) {
        write!(endpoints, "{{address: \"{}\", weight: {weight}}}, ", sim.addr()).unwrap();
    }
    let policy = format!(
        "version: 1\nmodels:\n  m: {{pools: [main]}}\npools:\n  main:\n    endpoints: [{endpoints}]\n    balance: {{strategy: round_robin}}\n    health: {{enabled: false}}\n"
    );
    let gateway = Launch::new(policy).start().await;
    let mut row = Vec::new();
    for round in 1..=3 {
        for _ in 0..8 {
            let answer = gateway.chat("m", "hi").await;
            row.push(answer.header("x-inference-port").to_owned());
        }
        assert_eq!(counts(&sims), [5 * round, 2 * round, round, 0]);
    }
    let blocks = row.chunk_by(|one, next| one == next).map(<[String]>::len).max();
    assert!(blocks <= Some(3), "the heavy one does not come in blocks: {row:?}");
    futures::future::join_all((0..40).map(|_| gateway.chat("m", "hi"))).await;
    assert_eq!(counts(&sims), [40, 16, 8, 0], "at the same time too");
}

#[tokio::test]
async fn the_less_busy_endpoint_is_preferred() {
    let sims = sims::<2>().await;
    let gateway = Launch::new(policy(&sims, "    balance: {strategy: least_request}\n")).start().await;
    for sim in &sims {
        sim.set_faults(faults(|faults| faults.stall_before_headers = Some(Duration::from_secs(60))));
    }
    let url = gateway.url(CHAT);
    let held = tokio::spawn(async move {
        client().post(url).body(r#"{"model":"m","messages":[{"role":"user","content":"hold"}]}"#).send().await
    });
    until("the held request", async || (counts(&sims).iter().sum::<usize>() == 1).then_some(())).await;
    for sim in &sims {
        sim.set_faults(faults(|_| {}));
    }
    let busy = usize::from(counts(&sims)[0] == 0);
    for _ in 0..20 {
        assert_eq!(gateway.chat("m", "hi").await.status, 200);
        // An endpoint is given back after the client has its answer.
        gateway.counts("signalbox_requests_in_flight", &[], 1.0).await;
    }
    assert_eq!((counts(&sims)[busy], counts(&sims)[1 - busy]), (1, 20));
    held.abort();
    let labels = [format!("endpoint=\"{}\"", sims[busy].addr())];
    until("the held request's end", async || {
        (gateway.metric("signalbox_endpoint_in_flight", &[&labels[0]]).await as u32 == 0).then_some(())
    })
    .await;
    for _ in 0..40 {
        assert_eq!(gateway.chat("m", "hi").await.status, 200);
    }
    assert!(counts(&sims)[busy] > 1, "of two idle ones both are taken");
}

/// Asks once for each of these sessions, named by header or by field; gives the port that answered each.
async fn homes(gateway: &Gateway, by_header: bool) -> HashMap<usize, String> {
    let (client, mut homes) = (client(), HashMap::new());
    for session in 0..40 {
        let (header, field) = if by_header { (session, 0) } else { (0, session) };
        let body = format!(
            r#"{{"model":"m","user":"user-{field}","max_tokens":2,"messages":[{{"role":"user","content":"hi"}}]}}"#
        );
        let request = client.post(gateway.url(CHAT)).header("x-session-id", format!("s-{header}")).body(body);
        let answer = Answer::of(request.send().await.unwrap()).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        homes.insert(session, answer.header("x-inference-port").to_owned());
    }
    homes
}

#[tokio::test]
async fn a_session_stays_on_its_endpoint_and_moves_only_while_that_is_down() {
    for (key, by_header) in [("header: x-session-id", true), ("field: user", false)] {
        let sims = sims::<3>().await;
        let balance = format!("    balance: {{strategy: hash, hash_on: {{{key}}}}}\n");
        let gateway = Launch::new(checked(&sims, "", &balance)).start().await;
        let first = homes(&gateway, by_header).await;
        let ports = sims.each_ref().map(|sim| sim.addr().port().to_string());
        for port in &ports {
            assert!(
                first.values().any(|home| home == port),
                "{key}: every endpoint is some session's: {first:?}"
            );
        }
        assert_eq!(homes(&gateway, by_header).await, first, "{key}");
        unhealthy(&sims[0], true);
        until_up(&gateway, &sims[0], false).await;
        for (session, home) in homes(&gateway, by_header).await {
            assert_ne!(home, ports[0], "{key}: it is down");
            assert!(first[&session] == ports[0] || first[&session] == home, "{key}: the others stay");
        }
        unhealthy(&sims[0], false);
        until_up(&gateway, &sims[0], true).await;
        assert_eq!(homes(&gateway, by_header).await, first, "{key}: back home");
    }
}

#[tokio::test]
async fn health_checks_take_an_endpoint_out_and_bring_it_back() {
    let sims = sims::<2>().await;
    let policy =
        checked(&sims, ", unhealthy_after: 3, healthy_after: 2", "    balance: {strategy: round_robin}\n");
    let gateway = Launch::new(policy).start().await;
    for breaks in [faults(|faults| faults.unhealthy = true), faults(|faults| faults.refuse = true)] {
        let before = counts(&sims);
        sims[0].set_faults(breaks);
        until_up(&gateway, &sims[0], false).await;
        let failed = counts(&sims)[0];
        for _ in 0..6 {
            assert_eq!(gateway.chat("m", "hi").await.status, 200);
        }
        assert_eq!(counts(&sims), [failed, before[1] + 6]);
        sims[0].set_faults(faults(|_| {}));
        until_up(&gateway, &sims[0], true).await;
        for _ in 0..6 {
            assert_eq!(gateway.chat("m", "hi").await.status, 200);
        }
        assert_eq!(counts(&sims), [failed + 3, before[1] + 9], "and takes its turns again");
    }
}

#[tokio::test]
async fn health_is_what_the_policy_says_it_is() {
    let upstream = Scripted::start(|_, _| Act::Answer(answer("204 No Content", ""))).await;
    let inner = "health: {interval: 50ms, path: /inner/ready, status: [200, 204]}";
    let policy =
        policy_of(&[upstream.addr], "    host: model.test\n").replace("health: {enabled: false}", inner);
    let gateway = Launch::new(policy).start().await;
    let checks = async || {
        let requests = upstream.requests();
        (!requests.is_empty()).then_some(requests)
    };
    let seen = until("a check", checks).await.remove(0);
    assert!(seen.head.starts_with("GET /inner/ready HTTP/1.1\r\n"), "{}", seen.head);
    assert_eq!(seen.header("host"), "model.test");
    for _ in 0..3 {
        until("further checks", checks).await;
    }
    assert_eq!(gateway.metric("signalbox_endpoint_up", &[]).await as u32, 1);
}

#[tokio::test]
async fn an_endpoint_without_the_usual_path_is_checked_by_its_models() {
    let missing = || Act::Answer(answer("404 Not Found", ""));
    let checked = |addr, health: &str| {
        let inner = format!("health: {{interval: 20ms, unhealthy_after: 1{health}}}");
        policy_of(&[addr], "").replace("health: {enabled: false}", &inner)
    };
    // A bad answer ends its connection.
    let script =
        move |connection, _| if connection == 0 { missing() } else { Act::Answer(answer("200 OK", "")) };
    let upstream = Scripted::start(script).await;
    let gateway = Launch::new(checked(upstream.addr, "")).start().await;
    let mut paths: Vec<String> = Vec::new();
    while paths.len() < 3 {
        let more = async || Some(upstream.requests()).filter(|requests| !requests.is_empty());
        paths.extend(until("a check", more).await.iter().map(|seen| seen.head[..10].to_owned()));
    }
    assert_eq!(paths[..3], ["GET /healt", "GET /v1/mo", "GET /v1/mo"]);
    assert_eq!(gateway.metric("signalbox_endpoint_up", &[]).await as u32, 1);

    let upstream = Scripted::start(move |_, _| missing()).await;
    let gateway = Launch::new(checked(upstream.addr, ", path: /alive")).start().await;
    let reason = "GET /alive answered 404, and `pools.main.health` has `status: [200]`";
    until("the reason is logged", async || gateway.stderr().contains(reason).then_some(())).await;
    assert_eq!(gateway.metric("signalbox_endpoint_up", &[]).await as u32, 0);
    assert!(
        upstream.requests().iter().all(|seen| seen.head.starts_with("GET /alive ")),
        "it has no substitute"
    );
}

#[tokio::test]
async fn an_endpoint_that_keeps_failing_is_left_out_for_a_while() {
    let sims = sims::<2>().await;
    let pool = "    balance: {strategy: round_robin}\n    ejection: {consecutive_failures: 2, base: 2s}\n";
    let gateway = Launch::new(policy(&sims, &once(pool))).start().await;
    sims[0].set_faults(faults(|faults| faults.status = Some(502)));
    let statuses = async |count: usize| {
        let mut failed = 0;
        for _ in 0..count {
            failed += usize::from(gateway.chat("m", "hi").await.status == 502);
        }
        failed
    };
    assert_eq!(statuses(4).await, 2, "each second one");
    assert!(!up(&gateway, &sims[0]).await);
    gateway.counts("signalbox_ejections_total", &["pool=\"main\""], 1.0).await;
    let before = counts(&sims)[0];
    sims[0].set_faults(faults(|_| {}));
    until("its return", async || {
        assert_eq!(gateway.chat("m", "hi").await.status, 200);
        (counts(&sims)[0] > before).then_some(())
    })
    .await;
    assert!(up(&gateway, &sims[0]).await);
}

#[tokio::test]
async fn one_success_between_breaks_the_row_of_failures() {
    let sims = sims::<2>().await;
    let pool = "    balance: {strategy: round_robin}\n    ejection: {consecutive_failures: 3, base: 1s}\n";
    let gateway = Launch::new(policy(&sims, &once(pool))).start().await;
    for _ in 0..3 {
        sims[0].set_faults(faults(|faults| faults.status = Some(502)));
        for _ in 0..4 {
            gateway.chat("m", "hi").await;
        }
        sims[0].set_faults(faults(|_| {}));
        for _ in 0..2 {
            assert_eq!(gateway.chat("m", "hi").await.status, 200);
        }
    }
    assert_eq!(counts(&sims), [9, 9]);
    assert!(up(&gateway, &sims[0]).await);
}

#[tokio::test]
async fn no_more_than_the_allowed_share_is_left_out() {
    let sims = sims::<4>().await;
    let pool =
        "    balance: {strategy: round_robin}\n    ejection: {consecutive_failures: 1, max_share: 0.5}\n";
    let gateway = Launch::new(policy(&sims, &once(pool))).start().await;
    for sim in &sims {
        sim.set_faults(faults(|faults| faults.status = Some(502)));
    }
    for _ in 0..12 {
        assert_eq!(gateway.chat("m", "hi").await.status, 502);
    }
    assert_eq!(gateway.metric("signalbox_endpoint_up", &[]).await as u32, 2);
    assert_eq!(counts(&sims).iter().sum::<usize>(), 12);
}

#[tokio::test]
async fn nothing_stays_in_flight_after_requests_that_finish_fail_or_are_given_up() {
    let sims = sims::<2>().await;
    let gateway = Launch::new(policy(&sims, "    ejection: {consecutive_failures: 0}\n")).start().await;
    let in_flight = async || {
        let endpoints = gateway.metric("signalbox_endpoint_in_flight", &[]).await;
        (endpoints as u32, gateway.metric("signalbox_requests_in_flight", &[]).await as u32)
    };
    let body = |stream: bool| {
        format!(r#"{{"model":"m","stream":{stream},"messages":[{{"role":"user","content":"hi"}}]}}"#)
    };
    let stall = Some(Duration::from_secs(60));
    let cases = [
        ("finished", faults(|_| {})),
        ("refused", faults(|faults| faults.refuse = true)),
        ("reset", faults(|faults| faults.reset_before_headers = 1.0)),
        ("cut off", faults(|faults| faults.reset_mid_stream = Some(1))),
        ("failed", faults(|faults| faults.status = Some(503))),
        ("given up while waiting", faults(|faults| faults.stall_before_headers = stall)),
        ("given up in mid-stream", faults(|faults| faults.stall_mid_stream = stall)),
    ];
    for (what, fault) in cases {
        for sim in &sims {
            sim.set_faults(fault);
        }
        let stalls = fault.stall_before_headers.is_some() || fault.stall_mid_stream.is_some();
        let asked: Vec<_> = [true, stalls]
            .into_iter()
            .map(|stream| {
                let request = client().post(gateway.url(CHAT)).body(body(stream));
                tokio::spawn(async move { request.send().await.ok()?.bytes().await.ok() })
            })
            .collect();
        if stalls {
            until(what, async || (in_flight().await == (2, 2)).then_some(())).await;
            asked.iter().for_each(tokio::task::JoinHandle::abort);
        }
        for one in asked {
            let _ = one.await;
        }
        until(what, async || (in_flight().await == (0, 0)).then_some(())).await;
    }
}

#[tokio::test]
async fn a_name_stands_for_the_addresses_it_resolves_to() {
    let [named, plain] = sims::<2>().await;
    let policy = policy_of(&[plain.addr()], "    balance: {strategy: round_robin}\n");
    let name = format!("localhost:{}", named.addr().port());
    let policy = policy.replace("endpoints: [", &format!("endpoints: [\"{name}\", "));
    let gateway = Launch::new(policy).start().await;
    let labels = [format!("endpoint=\"{}\"", named.addr())];
    assert_eq!(gateway.metric("signalbox_endpoint_up", &[&labels[0]]).await as u32, 1);
    for _ in 0..6 {
        assert_eq!(gateway.chat("m", "hi").await.status, 200);
    }
    let seen = asked(&named);
    assert!(!seen.is_empty() && !asked(&plain).is_empty());
    assert_eq!(seen[0].headers["host"], name, "as the policy writes it");
}

#[tokio::test]
async fn without_a_healthy_endpoint_the_client_gets_a_retry_after() {
    let sims = sims::<2>().await;
    let gateway = Launch::new(checked(&sims, "", "")).start().await;
    for sim in &sims {
        unhealthy(sim, true);
    }
    for sim in &sims {
        until_up(&gateway, sim, false).await;
    }
    let answer = gateway.chat("m", "hi").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "1"), "{}", answer.text);
    assert_eq!(answer.json()["error"]["code"], "no_healthy_endpoint");
    assert_eq!(answer.header("x-vsr-selected-model"), "m");
    assert!(!answer.text.contains("127.0.0.1"), "{}", answer.text);
    assert_eq!(counts(&sims), [0, 0]);
    unhealthy(&sims[1], false);
    until_up(&gateway, &sims[1], true).await;
    assert_eq!(gateway.chat("m", "hi").await.status, 200);
}

#[tokio::test]
async fn an_endpoint_that_is_much_slower_than_the_others_is_left_out_for_a_while() {
    let sims = [10, 10, 400].map(|ttft| async move {
        sim_with("m", |options| options.latency.ttft = std::time::Duration::from_millis(ttft)).await
    });
    let sims = futures::future::join_all(sims).await;
    let addresses: Vec<_> = sims.iter().map(signalbox::sim::Sim::addr).collect();
    let more = "    balance: {strategy: round_robin}\n    ejection: {slow_factor: 5, base: 60s}\n";
    let gateway = Launch::new(policy_of(&addresses, more)).start().await;
    let body = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    until("the slow one's ejection", async || {
        assert_eq!(gateway.post("/v1/chat/completions", body).await.status, 200);
        (gateway.metric("signalbox_ejections_total", &["cause=\"latency\""]).await == 1.0).then_some(())
    })
    .await;
    let before = asked(&sims[2]).len();
    for _ in 0..9 {
        assert_eq!(gateway.post("/v1/chat/completions", body).await.status, 200);
    }
    assert_eq!((asked(&sims[2]).len(), gateway.metric("signalbox_endpoint_up", &[]).await), (before, 2.0));
}
