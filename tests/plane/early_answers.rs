//! An upstream may answer before it has read the request: over HTTP/2 it then asks for no more of it.

use crate::h2_upstream::{H2Upstream, Manner, REFUSAL};
use crate::harness::*;
use crate::stalls::{h2c, until_free};
use crate::streaming::clients;
use serde_json::{Value, json};
use signalbox::sim::RecordedRequest;
use std::time::{Duration, Instant};

/// Below one frame, below the window that HTTP/2 begins with, and far above.
const SIZES: [usize; 4] = [10, 40_000, 200_000, 3_000_000];

fn request(client: &reqwest::Client, gateway: &Gateway, size: usize) -> reqwest::RequestBuilder {
    let messages = json!([{"role": "user", "content": "hi"}]);
    let body = json!({"model": "m", "messages": messages, "user": "x".repeat(size)});
    let request = client.post(gateway.url("/v1/chat/completions"));
    request.header("content-type", "application/json").body(body.to_string())
}

fn sent_size(seen: &RecordedRequest) -> usize {
    serde_json::from_slice::<Value>(&seen.body).unwrap()["user"].as_str().unwrap().len()
}

#[tokio::test]
async fn an_answer_that_comes_before_the_request_is_read_reaches_the_client() {
    let refuses = |resets| Manner::Refuses { status: 413, resets };
    for manner in [refuses(true), Manner::RefusesLater, refuses(false)] {
        let upstream = H2Upstream::start(move |_| manner).await;
        // Without a reset the request is sent on, for as long as the upstream may take no byte of it.
        let gateway = Launch::new(h2c(&[upstream.addr], "    timeouts: {first_byte: 1s}\n")).start().await;
        for (version, client) in clients() {
            for size in SIZES {
                for _again in 0..2 {
                    let answer = Answer::of(request(&client, &gateway, size).send().await.unwrap()).await;
                    let told = (answer.status, answer.text.as_str());
                    assert_eq!(told, (413, REFUSAL), "{manner:?} {version} {size}");
                }
            }
        }
        until_free(&gateway).await;
        assert_eq!(upstream.connections(), 1, "{manner:?}: such an answer is no fault of the connection's");
    }
}

#[tokio::test]
async fn an_early_answer_that_says_to_ask_elsewhere_is_followed_by_another_attempt() {
    let upstream = H2Upstream::start(|_| Manner::Refuses { status: 429, resets: true }).await;
    let good = sim("m").await;
    let more = "    balance: {strategy: round_robin}\n";
    let gateway = Launch::new(h2c(&[upstream.addr, good.addr()], more)).start().await;
    for size in SIZES {
        for _each_first in 0..2 {
            let answer = request(&client(), &gateway, size).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{size}");
        }
    }
    let bodies: Vec<usize> = asked(&good).iter().map(sent_size).collect();
    assert_eq!(bodies, SIZES.map(|size| [size; 2]).concat(), "each is sent whole again");
}

#[tokio::test]
async fn a_reset_that_says_an_error_is_followed_by_another_attempt() {
    let upstream = H2Upstream::start(|_| Manner::Fails).await;
    let good = sim("m").await;
    let more = "    balance: {strategy: round_robin}\n";
    let gateway = Launch::new(h2c(&[upstream.addr, good.addr()], more)).start().await;
    for size in SIZES {
        for _each_first in 0..2 {
            assert_eq!(request(&client(), &gateway, size).send().await.unwrap().status(), 200, "{size}");
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_an_answer_which_came_early_is_noticed_at_once() {
    for manner in [Manner::Begins, Manner::Drips] {
        let upstream = H2Upstream::start(move |_| manner).await;
        let gateway = Launch::new(h2c(&[upstream.addr], "    timeouts: {first_byte: 300ms}\n")).start().await;
        for (version, client) in clients() {
            let request = request(&client, &gateway, 200_000).header("x-request-id", version);
            let mut answer = request.send().await.unwrap();
            assert_eq!(answer.chunk().await.unwrap().unwrap()[0], b'{');
            drop((answer, client));
            let left = Instant::now();
            until_free(&gateway).await;
            assert!(left.elapsed() < Duration::from_secs(1), "{manner:?} {version}: {:?}", left.elapsed());
            assert_eq!(gateway.line(version).await["error"], "client_closed", "{manner:?} {version}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_came_early_is_bounded_in_time() {
    for manner in [Manner::Begins, Manner::Drips] {
        let upstream = H2Upstream::start(move |_| manner).await;
        let more = "    timeouts: {first_byte: 300ms, idle: 1s, total: 2s}\n";
        let gateway = Launch::new(h2c(&[upstream.addr], more)).start().await;
        for (version, client) in clients() {
            let began = Instant::now();
            let answer = request(&client, &gateway, 200_000).send().await.unwrap();
            assert!(answer.bytes().await.is_err(), "{manner:?} {version}: it never ends");
            until_free(&gateway).await;
            assert!(began.elapsed() < Duration::from_secs(4), "{manner:?} {version}: {:?}", began.elapsed());
        }
    }
}
