//! What the engines of each connector are told of a prompt that one computes and another answers, and what happens where one
//! of them fails.

use crate::disaggregating::{answering, ask, body, cached, json_of, long, without_transfer};
use crate::harness::*;
use crate::streaming::leased;
use serde_json::{Value, json};
use signalbox::sim::{SglangRole, Sim, SimOptions, SimOutcome};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpListener;

const LONG: Duration = Duration::from_secs(600);

/// A policy of a pool `decode` and a pool `prefill`, and a pool `whole` that the model falls back on, where there is one.
fn policy(decode: &[&Sim], prefill: &[SocketAddr], whole: Option<&Sim>, connector: &str) -> String {
    let list = |addresses: Vec<SocketAddr>| {
        addresses.iter().map(|address| format!("\"{address}\"")).collect::<Vec<_>>().join(", ")
    };
    let pool = |name, addresses, more: &str| {
        format!("  {name}:\n    endpoints: [{}]\n    health: {{enabled: false}}\n{more}", list(addresses))
    };
    let pools = if whole.is_some() { "decode, whole" } else { "decode" };
    format!(
        "version: 1\nmodels:\n  m: {{pools: [{pools}]}}\npools:\n{}{}{}",
        pool(
            "decode",
            decode.iter().map(|sim| sim.addr()).collect(),
            &format!("    prefill: {{pool: prefill, {connector}}}\n")
        ),
        pool("prefill", prefill.to_vec(), ""),
        whole.map_or(String::new(), |whole| pool("whole", vec![whole.addr()], ""))
    )
}

async fn start(decode: &Sim, prefill: &Sim, connector: &str) -> Gateway {
    let more = format!("connector: {connector}, port: {}", prefill.addr().port());
    Launch::new(policy(&[decode], &[prefill.addr()], None, &more)).start().await
}

fn legs(prefill: &Sim, decode: &Sim) -> (Value, Value) {
    let ([first], [second]) = (&asked(prefill)[..], &asked(decode)[..]) else { panic!("one leg each") };
    assert_eq!(first.headers["x-request-id"], second.headers["x-request-id"]);
    (json_of(first), json_of(second))
}

#[tokio::test]
async fn the_offloading_connectors_engines_are_told_one_anothers_place_by_an_id() {
    let [decode, prefill] = [sim("m").await, sim("m").await];
    let gateway = start(&decode, &prefill, "offloading").await;
    let answer = ask(&gateway, &body("tea")).await;
    assert_eq!(answer.header("x-prefill-result"), "remote");
    let (first, second) = legs(&prefill, &decode);
    let id = first["kv_transfer_params"]["remote_decoder"]["kv_request_id"].as_str().unwrap();
    assert_eq!(first["kv_transfer_params"], json!({"remote_decoder": {"kv_request_id": id}}));
    assert_eq!(first["max_tokens"], 1);
    let peer = json!({"kv_request_id": id, "remote_host": "127.0.0.1", "remote_port": prefill.addr().port()});
    assert_eq!(second["kv_transfer_params"], json!({"remote_prefiller": peer}));
    assert_eq!(without_transfer(&asked(&decode)[0].body), body("tea").to_string());
    assert_eq!(cached(&answer.json()), answer.json()["usage"]["prompt_tokens"].as_u64().unwrap() - 1);
    ask(&gateway, &body("iron")).await;
    let again = json_of(&asked(&prefill)[1]);
    assert_ne!(again["kv_transfer_params"]["remote_decoder"]["kv_request_id"], id, "each has its own");
}

#[tokio::test]
async fn mooncakes_engines_are_told_a_transfer_and_where_to_ask_for_the_rank_that_has_it() {
    let [decode, prefill] = [sim("m").await, sim("m").await];
    let gateway = start(&decode, &prefill, "mooncake").await;
    let mut streamed = body("tea");
    streamed["stream"] = json!(true);
    let answer = ask(&gateway, &streamed).await;
    assert_eq!(answer.header("x-prefill-result"), "remote");
    assert!(answer.text.ends_with("data: [DONE]\n\n"), "{}", answer.text);
    let (first, second) = legs(&prefill, &decode);
    let id = &first["kv_transfer_params"]["transfer_id"];
    assert!(id.as_str().is_some_and(|id| id.len() == 32), "{id}");
    assert_eq!(
        first["kv_transfer_params"],
        json!({"do_remote_decode": true, "do_remote_prefill": false, "transfer_id": id})
    );
    assert_eq!((&first["stream"], &first["max_tokens"]), (&json!(false), &json!(1)));
    assert_eq!(
        second["kv_transfer_params"],
        json!({"do_remote_decode": false, "do_remote_prefill": true, "transfer_id": id,
            "remote_bootstrap_addr": format!("http://{}", prefill.addr()),
            "remote_engine_id": format!("sim-{}", prefill.addr())})
    );
    let rank = |sim: &Sim| asked(sim)[0].headers.get("x-data-parallel-rank").cloned();
    assert_eq!((rank(&prefill).unwrap(), rank(&decode)), ("0".parse().unwrap(), None));
    let whole = ask(&gateway, &body("iron")).await.json();
    assert_eq!(
        cached(&whole),
        whole["usage"]["prompt_tokens"].as_u64().unwrap() - 1,
        "the engine fetched it"
    );
}

#[tokio::test]
async fn where_mooncakes_bootstrap_server_is_not_there_the_prompt_is_computed_where_it_is_answered() {
    let [decode, prefill] = [sim("m").await, sim("m").await];
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap().port();
    let more = format!("connector: mooncake, port: {nobody}");
    let gateway = Launch::new(policy(&[&decode], &[prefill.addr()], None, &more)).start().await;
    for matter in ["tea", "iron", "chess", "ships"] {
        assert_eq!(ask(&gateway, &body(matter)).await.header("x-prefill-result"), "bootstrap");
        assert_eq!(json_of(asked(&decode).last().unwrap()), body(matter));
    }
    assert_eq!(asked(&prefill).len(), 0);
    assert_eq!(gateway.metric("signalbox_ejections_total", &[]).await, 0.0, "the endpoint may be well");
}

#[tokio::test]
async fn of_a_prompt_whose_answer_ends_at_once_mooncakes_connector_keeps_nothing() {
    let decode = sim("m").await;
    let both = json!({"0": {"engine_id": "e"}, "choices": [{"finish_reason": "stop"}]});
    let prefill = answering(both.to_string()).await;
    let more = format!("connector: mooncake, port: {}", prefill.port());
    let gateway = Launch::new(policy(&[&decode], &[prefill], None, &more)).start().await;
    let answer = ask(&gateway, &body("tea")).await;
    assert_eq!((answer.header("x-prefill-result"), cached(&answer.json())), ("nothing_kept", 0));
    assert_eq!(json_of(&asked(&decode)[0]), body("tea"), "it would wait for what never comes");
}

#[tokio::test]
async fn a_prefill_that_fails_leaves_the_request_as_it_was_whichever_the_connector_is() {
    for connector in ["offloading", "mooncake"] {
        let [decode, prefill] = [sim("m").await, sim("m").await];
        prefill.set_faults(faults(|faults| faults.status = Some(500)));
        let gateway = start(&decode, &prefill, connector).await;
        let mut body = body("tea");
        body["kv_transfer_params"] =
            json!({"remote_prefiller": {"kv_request_id": "x", "remote_host": "10.9.9.9", "remote_port": 1}});
        assert_eq!(ask(&gateway, &body).await.header("x-prefill-result"), "server_error");
        body.as_object_mut().unwrap().remove("kv_transfer_params");
        assert_eq!(json_of(&asked(&decode)[0]), body);
    }
}

/// An engine of `SGLang`'s.
async fn engine(role: SglangRole) -> Sim {
    sim_with("m", |options| options.sglang = Some(role)).await
}

/// An engine that computes prompts, with the port of another, whose bootstrap server has the port that both have.
async fn prefill_beside(other: &Sim) -> Sim {
    let options = SimOptions {
        models: vec!["m".to_owned()],
        sglang: Some(SglangRole::Prefill),
        ..SimOptions::default()
    };
    let address = (Ipv4Addr::new(127, 0, 0, 2), other.addr().port());
    Sim::start(options, TcpListener::bind(address).await.unwrap(), None).await
}

async fn sglang(decode: &[&Sim], prefill: &[&Sim], whole: Option<&Sim>) -> Gateway {
    let addresses: Vec<_> = prefill.iter().map(|sim| sim.addr()).collect();
    let more = format!("connector: sglang, port: {}", addresses[0].port());
    Launch::new(policy(decode, &addresses, whole, &more)).start().await
}

#[tokio::test]
async fn two_of_sglangs_engines_have_a_request_at_the_same_time_and_meet_in_a_room_of_its_own() {
    let [decode, prefill] = [engine(SglangRole::Decode).await, engine(SglangRole::Prefill).await];
    let gateway = sglang(&[&decode], &[&prefill], None).await;
    let answer = ask(&gateway, &body("tea")).await;
    assert_eq!(answer.header("x-prefill-result"), "remote");
    assert_eq!(answer.json()["usage"]["completion_tokens"], 8, "it is the answer of the one that answers");
    let (first, second) = legs(&prefill, &decode);
    assert_eq!(first, second);
    let room = second["bootstrap_room"].as_i64().unwrap();
    let mut with = body("tea");
    with["bootstrap_host"] = json!("127.0.0.1");
    with["bootstrap_port"] = json!(prefill.addr().port());
    with["bootstrap_room"] = json!(room);
    assert_eq!(second, with);
    let line = gateway.line(answer.header("x-request-id")).await;
    assert_eq!((&line["prefill"], &line["prefill_pool"]), (&json!("remote"), &json!("prefill")), "{line}");
    assert_eq!(line["prefill_endpoint"], json!(prefill.addr()), "{line}");
    gateway.counts("signalbox_prefills_total", &["pool=\"decode\"", "result=\"remote\""], 1.0).await;

    let mut streamed = body("hi");
    streamed["messages"][0]["content"] = json!("hi");
    streamed["stream"] = json!(true);
    streamed["bootstrap_room"] = json!(room);
    streamed["bootstrap_host"] = json!("10.9.9.9");
    streamed["data_parallel_rank"] = json!(7);
    let answer = ask(&gateway, &streamed).await;
    assert_eq!(
        answer.header("x-prefill-result"),
        "remote",
        "a short prompt cannot be computed otherwise either"
    );
    assert!(answer.text.ends_with("data: [DONE]\n\n"), "{}", answer.text);
    let legs = [json_of(&asked(&prefill)[1]), json_of(&asked(&decode)[1])];
    assert_eq!(legs[0], legs[1]);
    assert_ne!(legs[0]["bootstrap_room"], room, "a client cannot name it");
    assert_eq!((&legs[0]["bootstrap_host"], legs[0].get("data_parallel_rank")), (&json!("127.0.0.1"), None));
    nothing_is_left(&gateway).await;
}

async fn nothing_is_left(gateway: &Gateway) {
    until("the end of all leases", async || (leased(gateway).await == 0.0).then_some(())).await;
}

#[tokio::test]
async fn a_request_counts_at_both_engines_and_leaves_both_with_its_client() {
    let [decode, prefill] = [engine(SglangRole::Decode).await, engine(SglangRole::Prefill).await];
    prefill.set_faults(faults(|faults| faults.stall_before_headers = Some(LONG)));
    let gateway = sglang(&[&decode], &[&prefill], None).await;
    let url = gateway.url("/v1/chat/completions");
    let request = tokio::spawn(client().post(url).body(body("tea").to_string()).send());
    for pool in ["pool=\"decode\"", "pool=\"prefill\""] {
        gateway.counts("signalbox_endpoint_in_flight", &[pool], 1.0).await;
    }
    let both = async || (asked(&decode).len() == 1 && asked(&prefill).len() == 1).then_some(());
    until("the request at both", both).await;
    request.abort();
    for sim in [&decode, &prefill] {
        until("its end", async || (asked(sim)[0].outcome == SimOutcome::Aborted).then_some(())).await;
    }
    nothing_is_left(&gateway).await;
}

#[tokio::test]
async fn where_one_of_sglangs_engines_fails_both_are_left_and_others_asked() {
    for is_streamed in [true, false] {
        for fault in
            [faults(|faults| faults.status = Some(500)), faults(|faults| faults.reset_before_headers = 1.0)]
        {
            let [decode, bad] = [engine(SglangRole::Decode).await, engine(SglangRole::Prefill).await];
            let good = prefill_beside(&bad).await;
            bad.set_faults(fault);
            let gateway = sglang(&[&decode], &[&bad, &good], None).await;
            let mut seen = 0;
            for at in 0..4 {
                let mut body = body(&format!("matter {at}"));
                body["stream"] = json!(is_streamed);
                let answer = ask(&gateway, &body).await;
                let line = gateway.line(answer.header("x-request-id")).await;
                assert_eq!(line["prefill_endpoint"], json!(good.addr()), "{line}");
                seen += line["tries"].as_u64().unwrap();
            }
            assert!(seen > 4, "the bad one was asked too");
            assert_eq!(asked(&good).len(), 4);
            only_so_many_ended_well(&decode, 4).await;
            assert_eq!(gateway.metric("signalbox_ejections_total", &["pool=\"decode\""]).await, 0.0);
            nothing_is_left(&gateway).await;
        }
    }
}

/// Waits until all parts of requests at an engine have ended, so many of them well: who waits for another in vain is let go.
async fn only_so_many_ended_well(sim: &Sim, count: usize) {
    until("those that ended well, and the end of the others", async || {
        let ended = |outcome| asked(sim).iter().filter(|leg| leg.outcome == outcome).count();
        (ended(SimOutcome::Completed) == count && ended(SimOutcome::Aborted) + count == asked(sim).len())
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_engine_that_does_not_answer_has_the_others_part_ended_too() {
    let [bad, decode] = [engine(SglangRole::Decode).await, engine(SglangRole::Decode).await];
    let prefill = engine(SglangRole::Prefill).await;
    bad.set_faults(faults(|faults| faults.status = Some(503)));
    let gateway = sglang(&[&bad, &decode], &[&prefill], None).await;
    // Between equals chance decides: enough that one of them goes to the bad one.
    let mut count = 0;
    while asked(&bad).is_empty() {
        assert!(count < 64, "the bad one is never asked");
        ask(&gateway, &body(&format!("matter {count}"))).await;
        count += 1;
    }
    let rooms =
        |sim: &Sim| asked(sim).iter().map(|leg| json_of(leg)["bootstrap_room"].clone()).collect::<Vec<_>>();
    let (of_bad, of_good) = (rooms(&bad), rooms(&decode));
    assert!(of_good.len() == count && of_bad.iter().all(|room| !of_good.contains(room)));
    only_so_many_ended_well(&prefill, count).await;
    nothing_is_left(&gateway).await;
}

#[tokio::test]
async fn without_an_engine_for_the_prompt_a_model_falls_back_on_a_pool_that_needs_none() {
    let [decode, dead, whole] =
        [engine(SglangRole::Decode).await, engine(SglangRole::Prefill).await, sim("m").await];
    let gateway = sglang(&[&decode], &[&dead], Some(&whole)).await;
    let alone = sglang(&[&decode], &[&dead], None).await;
    dead.stop().await;
    let answer = ask(&gateway, &body("tea")).await;
    assert_eq!(json_of(asked(&whole).last().unwrap()), body("tea"), "{}", answer.text);
    let answer = alone.post("/v1/chat/completions", body("tea").to_string()).await;
    assert_eq!(
        (answer.status, answer.json()["error"]["code"].as_str()),
        (502, Some("prefill_failed")),
        "{}",
        answer.text
    );
    for gateway in [&gateway, &alone] {
        nothing_is_left(gateway).await;
    }
}

#[tokio::test]
async fn what_sglangs_engines_cannot_meet_over_is_refused_aloud() {
    let [decode, prefill] = [engine(SglangRole::Decode).await, engine(SglangRole::Prefill).await];
    let gateway = sglang(&[&decode], &[&prefill], None).await;
    let mut several = body("tea");
    several["n"] = json!(2);
    let prompts = json!({"model": "m", "prompt": [long("a"), long("b")]});
    let messages = json!({"model": "m", "max_tokens": 8, "messages": [{"role": "user", "content": "hi"}]});
    let bodies =
        [("/v1/chat/completions", several), ("/v1/completions", prompts), ("/v1/messages", messages)];
    for (path, body) in bodies {
        let answer = gateway.post(path, body.to_string()).await;
        assert_eq!(answer.status, 400, "{path}: {}", answer.text);
        assert!(answer.text.contains("compute prompts and answers apart"), "{}", answer.text);
    }
    let text = json!({"model": "m", "prompt": "hi"}).to_string();
    assert_eq!(
        gateway.post("/tokenize", text).await.status,
        200,
        "what has no prompt to compute goes as it is"
    );
    assert_eq!((asked(&decode).len(), asked(&prefill).len()), (1, 0));
}
