//! Whatever an upstream, a connection or a client leaves waiting, the wait ends, and only who caused it pays.

use crate::h2_upstream::{H2Upstream, Manner};
use crate::harness::*;
use crate::streaming::{ask, clients, leased, read};
use crate::upstream::Upstream;
use serde_json::json;
use signalbox::sim::{Sim, SimOutcome};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(600);

/// A request whose body is longer than the window that HTTP/2 begins with.
fn long_request(client: &reqwest::Client, gateway: &Gateway, id: &str) -> reqwest::RequestBuilder {
    let messages = json!([{"role": "user", "content": "hi"}]);
    let body = json!({"model": "m", "messages": messages, "user": "x".repeat(200_000)});
    let request = client.post(gateway.url("/v1/chat/completions")).header("x-request-id", id);
    request.header("content-type", "application/json").body(body.to_string())
}

pub(crate) fn h2c(addresses: &[SocketAddr], more: &str) -> String {
    policy_of(addresses, &format!("    protocol: h2c\n    ejection: {{consecutive_failures: 0}}\n{more}"))
}

pub(crate) async fn until_free(gateway: &Gateway) {
    until("the end of all", async || {
        let requests = gateway.metric("signalbox_requests_in_flight", &[]).await;
        (requests == 0.0 && leased(gateway).await == 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_h2_upstream_that_does_not_take_a_body_is_answered_with_504_in_the_total_time() {
    for manner in [Manner::NoSettings, Manner::NoWindow, Manner::NoStreams, Manner::OneByte] {
        let upstream = H2Upstream::start(move |_| manner).await;
        let policy = h2c(&[upstream.addr], "    timeouts: {total: 1s}\n");
        let server = "limits: {max_in_flight: 3}\ndrain: {delay: 0s}\n";
        let gateway = Launch::new(policy).server(server).start().await;
        let began = Instant::now();
        for _round in 0..2 {
            let asked = (0..3).map(|_| async {
                Answer::of(long_request(&client(), &gateway, "x").send().await.unwrap()).await
            });
            for answer in futures::future::join_all(asked).await {
                let code = answer.json()["error"]["code"].clone();
                assert_eq!((answer.status, code), (504, json!("upstream_timeout")), "{manner:?}");
            }
            until_free(&gateway).await;
        }
        assert!(began.elapsed() < Duration::from_secs(8), "{manner:?}");
    }
}

#[tokio::test]
async fn an_h2_upstream_that_does_not_take_a_body_is_left_for_another_endpoint() {
    let upstream = H2Upstream::start(|_| Manner::NoWindow).await;
    let good = sim("m").await;
    let more = "    timeouts: {first_byte: 300ms}\n    balance: {strategy: round_robin}\n";
    let gateway = Launch::new(h2c(&[upstream.addr, good.addr()], more)).start().await;
    for id in ["one", "two"] {
        let answer = long_request(&client(), &gateway, id).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    assert_eq!((asked(&good).len(), upstream.connections()), (2, 1));
}

/// Has clients of both versions leave once they have a lease; each must be noticed at once.
async fn leave(gateway: &Gateway, what: &str) {
    for (version, client) in clients() {
        let id = format!("{version}-{what}");
        let request = long_request(&client, gateway, &id).send();
        tokio::select! {
            answer = request => panic!("{answer:?}"),
            () = until("the request", async || (leased(gateway).await == 1.0).then_some(())) => {}
        }
        let left = Instant::now();
        until_free(gateway).await;
        assert!(left.elapsed() < Duration::from_secs(1), "{id}: {:?}", left.elapsed());
        let line = gateway.line(&id).await;
        assert_eq!((&line["status"], &line["error"]), (&json!(499), &json!("client_closed")), "{line}");
        assert_eq!(line["pool"], "main", "{line}");
    }
    gateway.counts("signalbox_requests_total", &["status=\"499\""], 2.0).await;
}

#[tokio::test]
async fn a_client_that_leaves_while_an_h2_upstream_takes_no_body_is_noticed_at_once() {
    for manner in [Manner::NoSettings, Manner::NoWindow, Manner::NoStreams, Manner::OneByte] {
        let upstream = H2Upstream::start(move |_| manner).await;
        let gateway = Launch::new(h2c(&[upstream.addr], "")).start().await;
        leave(&gateway, &format!("{manner:?}")).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_while_an_upstream_does_not_shake_hands_is_noticed_at_once() {
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let more = "    tls: {server_name: upstream.test}\n    timeouts: {connect: 60s}\n";
    let gateway = Launch::new(policy_of(&[mute.local_addr().unwrap()], more)).start().await;
    leave(&gateway, "tls").await;
}

#[tokio::test]
async fn an_h2_connection_whose_clients_left_serves_others() {
    let upstream = H2Upstream::start(|_| Manner::Answers).await;
    let gateway = Launch::new(h2c(&[upstream.addr], "")).start().await;
    for round in 0..20 {
        let id = format!("{round}");
        let request = long_request(&client(), &gateway, &id).send();
        // Wherever it is by then.
        let _ = tokio::time::timeout(Duration::from_millis(round), request).await;
    }
    until_free(&gateway).await;
    assert_eq!(long_request(&client(), &gateway, "last").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_pooled_h2_connection_that_gives_no_answer_is_not_used_again() {
    let mute_first = |connection| if connection == 0 { Manner::MuteAfterOne } else { Manner::Answers };
    let upstream = H2Upstream::start(mute_first).await;
    let more = "    timeouts: {first_byte: 300ms}\nretry: {attempts: 1}\n";
    let gateway = Launch::new(h2c(&[upstream.addr], more)).start().await;
    let statuses = async |count: usize| {
        let mut statuses = Vec::new();
        for _ in 0..count {
            statuses.push(gateway.chat("m", "hi").await.status);
        }
        statuses
    };
    assert_eq!(statuses(6).await, [200, 504, 200, 200, 200, 200]);
    assert_eq!(upstream.connections(), 2);
}

#[tokio::test]
async fn an_h2_connection_that_answers_no_ping_is_given_up_with_what_waits_on_it() {
    let mute_first = |connection| if connection == 0 { Manner::MuteAfterOne } else { Manner::Answers };
    let upstream = H2Upstream::start(mute_first).await;
    let gateway = Launch::new(h2c(&[upstream.addr], "    timeouts: {ping: 100ms}\n")).start().await;
    assert_eq!(gateway.chat("m", "hi").await.status, 200);
    let answer = gateway.chat("m", "hi").await;
    assert_eq!(answer.status, 200, "over a new connection: {}", answer.text);
    assert_eq!(upstream.connections(), 2);
}

#[tokio::test]
async fn a_long_answer_that_is_late_ejects_nobody() {
    let sims = [sim("m").await, sim("m").await];
    for sim in &sims {
        sim.set_faults(faults(|faults| faults.stall_before_headers = Some(LONG)));
    }
    for late in ["first_byte: 150ms", "total: 150ms"] {
        let more =
            format!("    timeouts: {{{late}}}\n    ejection: {{consecutive_failures: 1, max_share: 1}}\n");
        let gateway = Launch::new(policy_of(&sims.each_ref().map(Sim::addr), &more)).start().await;
        for _ in 0..6 {
            assert_eq!(gateway.chat("m", "hi").await.status, 504);
        }
        assert_eq!(gateway.metric("signalbox_ejections_total", &[]).await, 0.0, "{late}");
        assert_eq!(gateway.metric("signalbox_endpoint_up", &[]).await, 2.0, "{late}");
    }
}

#[tokio::test]
async fn a_client_that_stops_reading_is_not_its_endpoints_fault() {
    let upstream = Upstream::start().await;
    let more = "    timeouts: {idle: 200ms}\n    ejection: {consecutive_failures: 1, max_share: 1}\n";
    let gateway = Launch::new(policy_of(&[upstream.addr()], more))
        .server("limits: {idle_timeout: 1s}\ndrain: {delay: 0s}\n")
        .start()
        .await;
    for (version, client) in clients() {
        let (sent, response) = tokio::join!(upstream.stream(), ask(&client, &gateway, version, true));
        let flood = tokio::spawn(sent.flood());
        until_free(&gateway).await;
        flood.await.unwrap();
        let line = gateway.line(version).await;
        assert_eq!(line["error"], "client_closed", "{line}");
        drop(response);
    }
    assert_eq!(gateway.metric("signalbox_ejections_total", &[]).await, 0.0);
    assert_eq!(gateway.metric("signalbox_endpoint_up", &[]).await, 1.0);
}

#[tokio::test]
async fn a_client_that_reads_until_the_total_time_is_up_is_not_its_endpoints_fault() {
    let upstream = Upstream::start().await;
    let more =
        "    timeouts: {idle: 200ms, total: 1s}\n    ejection: {consecutive_failures: 1, max_share: 1}\n";
    let gateway = Launch::new(policy_of(&[upstream.addr()], more)).start().await;
    let client = client();
    let (sent, response) = tokio::join!(upstream.stream(), ask(&client, &gateway, "stuck", true));
    let (began, flood) = (Instant::now(), tokio::spawn(sent.flood()));
    until_free(&gateway).await;
    assert!(began.elapsed() < Duration::from_secs(5), "the time in all holds for a client too");
    flood.await.unwrap();
    assert_eq!(gateway.line("stuck").await["error"], "client_closed");
    assert_eq!(gateway.metric("signalbox_ejections_total", &[]).await, 0.0);
    drop(response);
}

#[tokio::test]
async fn an_upstreams_time_stands_still_while_the_client_does_not_read() {
    let upstream = Upstream::start().await;
    let gateway = Launch::new(policy_of(&[upstream.addr()], "    timeouts: {idle: 300ms}\n")).start().await;
    for (version, client) in clients() {
        let (mut sent, mut response) = tokio::join!(upstream.stream(), ask(&client, &gateway, version, true));
        // More than the buffers on the way take: the upstream's last bytes are read long after they could be.
        let sender = tokio::spawn(async move {
            for _ in 0..2048 {
                sent.chunk(&[b'x'; 1 << 14]).await;
            }
            sent.chunk(b"\n\n").await;
            sent.end().await;
        });
        // The client's pause is what is tested.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (text, is_whole) = read(&mut response).await;
        assert!(is_whole && text.len() == (2048 << 14) + 2, "{version}: {} bytes", text.len());
        sender.await.unwrap();
        assert_eq!(gateway.line(version).await["error"], json!(null), "{version}");
    }
}

#[tokio::test]
async fn requests_that_wait_on_an_endpoint_that_is_taken_out_are_answered_by_another() {
    for protocol in ["http1", "h2c"] {
        let sims = [sim("m").await, sim("m").await];
        let more = format!("    protocol: {protocol}\n    balance: {{strategy: round_robin}}\n");
        let policy = policy_of(&sims.each_ref().map(Sim::addr), &more)
            .replace("health: {enabled: false}", "health: {enabled: true, interval: 50ms}")
            // What goes on elsewhere adds no load, so that no budget is asked.
            + "retry: {budget: {share: 0, min_per_second: 0}}\n";
        let gateway = Launch::new(policy).start().await;
        sims[0].set_faults(faults(|faults| faults.stall_before_headers = Some(LONG)));
        let waiting = async {
            let asked = (0..6).map(|_| gateway.chat("m", "hi"));
            futures::future::join_all(asked).await
        };
        let goes_down = async {
            until("requests on both", async || (asked(&sims[0]).len() == 3).then_some(())).await;
            sims[0].set_faults(faults(|faults| {
                (faults.stall_before_headers, faults.unhealthy) = (Some(LONG), true);
            }));
        };
        let (answers, ()) = tokio::join!(waiting, goes_down);
        for answer in answers {
            assert_eq!(answer.status, 200, "{protocol}: {}", answer.text);
        }
        until("the end of what nobody waits for", async || {
            asked(&sims[0]).iter().all(|seen| seen.outcome == SimOutcome::Aborted).then_some(())
        })
        .await;
        gateway.counts("signalbox_retries_total", &["cause=\"taken_out\""], 3.0).await;
    }
}

#[tokio::test]
async fn health_checks_of_hundreds_of_endpoints_fit_into_little_memory() {
    let addresses: Vec<SocketAddr> =
        (0..600_u16).map(|at| ([127, 0, 1 + (at / 200) as u8, 1 + (at % 200) as u8], 9).into()).collect();
    let policy = policy_of(&addresses, "").replace("health: {enabled: false}", "health: {interval: 1s}");
    // What is measured is what checks take, not what a model does.
    let gateway = Launch::new(policy + "classifier: {multilingual: false}\n").start().await;
    until("a check of each", async || {
        (gateway.metric("signalbox_endpoint_up", &[]).await == 0.0).then_some(())
    })
    .await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let mib = resident.trim().trim_end_matches(" kB").parse::<usize>().unwrap() >> 10;
    assert!(mib < 200, "{mib} MiB");
}

#[tokio::test]
async fn a_replica_that_stops_giving_tokens_gets_no_more_requests_until_it_gives_some_again() {
    for protocol in ["http1", "h2c"] {
        let sims = [0, 1]
            .map(|_| async { sim_with("m", |options| options.latency.itl = Duration::from_millis(5)).await });
        let [stuck, good] = futures::future::join_all(sims).await.try_into().unwrap();
        let more = format!("    protocol: {protocol}\n    balance: {{strategy: round_robin}}\n");
        let gateway = Launch::new(policy_of(&[stuck.addr(), good.addr()], &more)).start().await;
        let ask_meanwhile = |text: String, tokens: u32| {
            let body = json!({
                "model": "m", "stream": true, "messages": [{"role": "user", "content": text}],
                "max_tokens": tokens, "ignore_eos": true,
            });
            let request = client().post(gateway.url("/v1/chat/completions"));
            let request = request.header("content-type", "application/json").body(body.to_string());
            tokio::spawn(async move { Answer::of(request.send().await.unwrap()).await.status })
        };
        // The one that gets stuck does so in the midst of a stream.
        let mut answers: Vec<_> =
            (0..2).map(|at| ask_meanwhile(format!("{protocol} first {at}"), 600)).collect();
        until("a stream on each", async || (stuck.running() == 1 && good.running() == 1).then_some(())).await;
        let tokens = async |sim: &Sim| {
            let page = client().get(format!("http://{}/metrics", sim.addr())).send().await.unwrap();
            let page = page.text().await.unwrap();
            page.lines().any(|line| line.starts_with("vllm:generation_tokens_total") && !line.ends_with(" 0"))
        };
        until("tokens of each", async || (tokens(&stuck).await && tokens(&good).await).then_some(())).await;
        stuck.set_faults(faults(|faults| faults.wedged = true));
        let label = format!("endpoint=\"{}\"", stuck.addr());
        let mut more = async |count: usize| {
            for _ in 0..count {
                let total = asked(&stuck).len() + asked(&good).len();
                answers.push(ask_meanwhile(format!("{protocol} {}", answers.len()), 8));
                let is_there = async || (asked(&stuck).len() + asked(&good).len() > total).then_some(());
                until("the request upstream", is_there).await;
            }
        };
        let end = Instant::now() + PATIENCE * 2;
        while gateway.metric("signalbox_endpoint_wedged", &[&label]).await == 0.0 {
            assert!(Instant::now() < end, "{protocol}: it gives nothing and is not left out");
            more(2).await;
            // Requests come at a pace: silence is what is tested.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let stopped_at = asked(&stuck).len();
        more(12).await;
        assert_eq!(asked(&stuck).len(), stopped_at, "{protocol}");
        assert_eq!(gateway.metric("signalbox_ejections_total", &[]).await, 0.0);
        assert_eq!(gateway.metric("signalbox_endpoint_wedged", &[]).await, 1.0);
        stuck.set_faults(faults(|_| {}));
        for answer in answers {
            assert_eq!(answer.await.unwrap(), 200, "{protocol}: what waited there is answered");
        }
        until("requests there again", async || {
            ask_meanwhile(format!("again {}", rand::random::<u32>()), 8).await.unwrap();
            (asked(&stuck).len() > stopped_at).then_some(())
        })
        .await;
        until_free(&gateway).await;
    }
}
