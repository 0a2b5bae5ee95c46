//! What engines say of themselves: read beside requests, shown, and nothing that a client or a request depends on.

use crate::harness::*;
use crate::raw::*;
use signalbox::sim::Sim;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const READ: &str = "    metrics: {enabled: true, max_interval: 100ms}\n";

fn label(address: SocketAddr) -> String {
    format!("endpoint=\"{address}\"")
}

/// How often an upstream was asked for its metrics.
fn scrapes(sim: &Sim) -> usize {
    sim.requests().iter().filter(|seen| seen.path.ends_with("/metrics")).count()
}

/// An answer with a report of the engine's load.
const CHAT_ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\
    endpoint-load-metrics: TEXT named_metrics.kv_cache_usage_perc=0.5, named_metrics.num_requests_waiting=7.0\r\n\r\n{}";

/// An upstream that answers chats, and to a request for metrics does what it is told.
struct Engine {
    addr: SocketAddr,
    requests: Arc<Mutex<Vec<Message>>>,
    task: JoinHandle<()>,
}

/// What an [`Engine`] answers to a request for metrics.
#[derive(Clone)]
enum Page {
    Answer(Vec<u8>),
    Silence,
    Endless,
}

impl Engine {
    async fn start(page: Page) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let requests = Arc::<Mutex<Vec<Message>>>::default();
        let record = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (record, page) = (Arc::clone(&record), page.clone());
                tokio::spawn(async move {
                    let mut wire = Wire::of(stream);
                    while let Some(request) = wire.request().await {
                        let is_chat = request.head.starts_with("POST");
                        record.lock().unwrap().push(request);
                        match &page {
                            _ if is_chat => {
                                wire.send(CHAT_ANSWER).await;
                            }
                            Page::Answer(bytes) => {
                                wire.send(bytes).await;
                            }
                            Page::Silence => {}
                            Page::Endless => wire.flood().await,
                        }
                    }
                });
            }
        });
        Self { addr, requests, task }
    }

    fn scrapes(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        let heads = requests.iter().map(|request| request.head.to_lowercase());
        heads.filter(|head| head.starts_with("get ")).collect()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn what_engines_say_is_shown_for_each_endpoint() {
    let sims = [sim_with("m", |options| options.latency.itl = Duration::from_secs(60)).await, sim("m").await];
    let gateway = Launch::new(policy_of(&sims.each_ref().map(Sim::addr), READ)).start().await;
    for sim in &sims {
        let labels = ["pool=\"main\"", &label(sim.addr())];
        until("the first figures", async || {
            (gateway.metric("signalbox_engine_metrics_age_seconds", &labels).await > 0.0).then_some(())
        })
        .await;
    }
    // Asks the slow one itself: its queue is no knowledge of ours.
    let body = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let mut other = Wire::open(sims[0].addr()).await;
    assert!(other.post("/v1/chat/completions", body).await);
    let busy = label(sims[0].addr());
    gateway.counts("signalbox_engine_requests_running", &[&busy], 1.0).await;
    gateway.counts("signalbox_engine_requests_waiting", &[&busy], 0.0).await;
    assert!(gateway.metric("signalbox_engine_kv_cache_usage_ratio", &[&busy]).await > 0.0);
    assert_eq!(gateway.metric("signalbox_engine_requests_running", &[&label(sims[1].addr())]).await, 0.0);
    drop(other);
    gateway.counts("signalbox_engine_requests_running", &[&busy], 0.0).await;
    assert_eq!(gateway.metric("signalbox_engine_scrapes_total", &["result=\"failure\""]).await, 0.0);
    assert!(gateway.metric("signalbox_engine_scrape_seconds_count", &["pool=\"main\""]).await >= 4.0);
}

#[tokio::test]
async fn only_pools_with_a_choice_are_asked_unless_the_operator_says_otherwise() {
    let pool = |name: &str, sims: &[Sim], more: &str| {
        let endpoints: Vec<String> = sims.iter().map(|sim| format!("\"{}\"", sim.addr())).collect();
        format!("  {name}: {{endpoints: [{}]{more}}}\n", endpoints.join(", "))
    };
    let (two, one) = ([sim("m").await, sim("m").await], [sim("m").await]);
    let (told, off) = ([sim("m").await], [sim("m").await, sim("m").await]);
    let policy = format!(
        "version: 1\nmodels: {{m: {{pools: [two, one, told, off]}}}}\npools:\n{}{}{}{}",
        pool("two", &two, ""),
        pool("one", &one, ""),
        pool("told", &told, ", metrics: on"),
        pool("off", &off, ", metrics: off"),
    );
    let _gateway = Launch::new(policy).start().await;
    until("those that are asked", async || {
        two.iter().chain(&told).all(|sim| scrapes(sim) >= 3).then_some(())
    })
    .await;
    assert_eq!(one.iter().chain(&off).map(scrapes).sum::<usize>(), 0);
}

#[tokio::test]
async fn an_engine_that_shows_no_known_metrics_is_left_alone_and_keeps_its_requests() {
    let other = b"HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\nup 1\nnothing 2\n".to_vec();
    for page in [answer("404 Not Found", "{}"), answer("401 Unauthorized", "{}"), other] {
        let (engine, known) = (Engine::start(Page::Answer(page)).await, sim("m").await);
        let gateway = Launch::new(policy_of(&[engine.addr, known.addr()], READ)).start().await;
        until("the other's figures", async || (scrapes(&known) >= 5).then_some(())).await;
        until("both paths", async || (engine.scrapes().len() >= 2).then_some(())).await;
        for _ in 0..20 {
            assert_eq!(gateway.chat("m", "hi").await.status, 200);
        }
        let seen = engine.scrapes();
        assert_eq!(seen.len(), 2, "{seen:?}");
        assert!(
            seen[0].starts_with("get /metrics ") && seen[1].starts_with("get /prometheus/metrics "),
            "{seen:?}"
        );
        assert!(engine.requests.lock().unwrap().len() > 2, "it still has its share");
        assert_eq!(gateway.stderr().matches("shows no known metrics").count(), 1, "{}", gateway.stderr());
        assert_eq!(gateway.metric("signalbox_engine_scrapes_total", &["result=\"not_offered\""]).await, 2.0);
    }
}

#[tokio::test]
async fn an_engine_whose_page_never_ends_or_never_comes_keeps_its_requests() {
    let broken = answer("200 OK", "vllm:num_requests_running 1\n");
    let cut = [&broken[..broken.len() - 9], b"\r\n"].concat();
    for page in [Page::Silence, Page::Endless, Page::Answer(answer("500 Oh", "{}")), Page::Answer(cut)] {
        let (engine, known) = (Engine::start(page).await, sim("m").await);
        let gateway = Launch::new(policy_of(&[engine.addr, known.addr()], READ)).start().await;
        until("a failure", async || {
            let labels = ["pool=\"main\"", "result=\"failure\""];
            (gateway.metric("signalbox_engine_scrapes_total", &labels).await >= 2.0).then_some(())
        })
        .await;
        for _ in 0..20 {
            assert_eq!(gateway.chat("m", "hi").await.status, 200);
        }
        let posts =
            engine.requests.lock().unwrap().iter().filter(|seen| seen.head.starts_with("POST")).count();
        assert!(posts > 0, "it still has its share");
        assert_eq!(gateway.metric("signalbox_endpoint_up", &[&label(engine.addr)]).await, 1.0);
        assert_eq!(gateway.metric("signalbox_engine_requests_running", &[&label(engine.addr)]).await, 0.0);
        assert_eq!(gateway.stderr().matches("metrics cannot be read").count(), 1, "{}", gateway.stderr());
    }
}

#[tokio::test]
async fn figures_of_an_engine_that_goes_age_until_it_comes_back() {
    let (staying, going) = (sim("m").await, sim("m").await);
    let address = going.addr();
    let gateway = Launch::new(policy_of(&[staying.addr(), address], READ)).start().await;
    let age = async || gateway.metric("signalbox_engine_metrics_age_seconds", &[&label(address)]).await;
    until("figures", async || (age().await > 0.0).then_some(())).await;
    going.stop().await;
    until("figures that are old", async || (age().await > 1.0).then_some(())).await;
    let listener = until("the address", async || TcpListener::bind(address).await.ok()).await;
    let options = signalbox::sim::SimOptions { models: vec!["m".to_owned()], ..Default::default() };
    let back = Sim::start(options, listener, None).await;
    until("new figures", async || (age().await < 0.3).then_some(())).await;
    assert!(scrapes(&back) > 0);
    until("a line for each change", async || {
        let told = gateway.stderr();
        let lines = ["metrics cannot be read", "metrics are read"].map(|line| told.matches(line).count());
        (lines == [1, 1]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_idle_engine_is_asked_seldom_and_often_again_once_it_has_work() {
    let sims =
        [sim_with("m", |options| options.latency.itl = Duration::from_millis(20)).await, sim("m").await];
    let more = "    metrics: {enabled: true, min_interval: 20ms, max_interval: 2s}\n";
    let gateway = Launch::new(policy_of(&[sims[0].addr(), sims[1].addr()], more)).start().await;
    // 20 + 40 + … ms up to 1.28 s: after seven pages an idle engine is asked every two seconds.
    until("an engine that is idle", async || sims.iter().all(|sim| scrapes(sim) >= 7).then_some(())).await;
    let before = scrapes(&sims[0]);
    let body = r#"{"model":"m","stream":true,"max_tokens":100,"ignore_eos":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let began = std::time::Instant::now();
    while asked(&sims[0]).is_empty() {
        assert_eq!(gateway.post("/v1/chat/completions", body).await.status, 200);
    }
    assert!(began.elapsed() > Duration::from_millis(1_900), "its stream takes two seconds");
    let during = scrapes(&sims[0]) - before;
    assert!(during >= 15, "{during} pages in two seconds of work");
}

#[tokio::test]
async fn a_pools_key_goes_to_its_metrics_only_where_the_policy_says_so() {
    for (more, has_key) in [("", false), ("send_credential: true, ", true)] {
        let page = Page::Answer(answer("200 OK", "vllm:num_requests_running 1\n"));
        let engine = Engine::start(page).await;
        let policy = format!(
            "version: 1\nmodels: {{m: {{pools: [p]}}}}\npools:\n  p:\n    endpoints: [\"{}\"]\n    host: engines\n\
             \x20   path_prefix: /x\n    credential: {{value: {{env: KEY}}}}\n    health: {{enabled: false}}\n\
             \x20   metrics: {{{more}enabled: true, path: \"/m?a=1\"}}\n",
            engine.addr
        );
        let _gateway = Launch::new(policy).variable("KEY", "sk-own").start().await;
        let head = until("a request", async || engine.scrapes().first().cloned()).await;
        assert!(head.starts_with("get /m?a=1 ") && head.contains("host: engines\r\n"), "{head}");
        assert_eq!(head.contains("sk-own"), has_key, "{head}");
    }
}

#[tokio::test]
async fn a_reload_starts_and_ends_the_asking() {
    let (first, second) = (sim("m").await, sim("m").await);
    let policy = |of_first: &str, of_second: &str| {
        let pool = |sim: &Sim, metrics: &str| {
            let more = format!("metrics: {{enabled: {metrics}, max_interval: 100ms}}");
            format!("{{endpoints: [\"{}\"], {more}}}", sim.addr())
        };
        format!(
            "version: 1\nmodels: {{m: {{pools: [a, b]}}}}\npools:\n  a: {}\n  b: {}\n",
            pool(&first, of_first),
            pool(&second, of_second)
        )
    };
    let gateway = Launch::new(policy("true", "false")).start().await;
    until("the first's figures", async || (scrapes(&first) >= 2).then_some(())).await;
    assert_eq!(scrapes(&second), 0);
    gateway.rewrite(&policy("false", "true"));
    until("the second's figures", async || (scrapes(&second) >= 2).then_some(())).await;
    let (until_then, of_second) = (scrapes(&first), scrapes(&second));
    until("more of them", async || (scrapes(&second) >= of_second + 5).then_some(())).await;
    assert_eq!(scrapes(&first), until_then);
}

#[tokio::test]
async fn an_engine_that_sleeps_is_known_to() {
    let sims = [sim("m").await, sim("m").await];
    let gateway = Launch::new(policy_of(&sims.each_ref().map(Sim::addr), READ)).start().await;
    let ask = async |method: reqwest::Method, path: &str| {
        let url = format!("http://{}{path}", sims[0].addr());
        Answer::of(client().request(method, url).send().await.unwrap()).await
    };
    assert_eq!(ask(reqwest::Method::POST, "/sleep?level=2").await.status, 200);
    assert_eq!(ask(reqwest::Method::GET, "/is_sleeping").await.json()["is_sleeping"], true);
    let labels = sims.each_ref().map(|sim| label(sim.addr()));
    gateway.counts("signalbox_engine_asleep", &[&labels[0]], 1.0).await;
    assert_eq!(gateway.metric("signalbox_engine_asleep", &[&labels[1]]).await, 0.0);
    assert_eq!(ask(reqwest::Method::POST, "/wake_up").await.status, 200);
    assert_eq!(ask(reqwest::Method::GET, "/is_sleeping").await.json()["is_sleeping"], false);
    gateway.counts("signalbox_engine_asleep", &[&labels[0]], 0.0).await;
}

#[tokio::test]
async fn load_reports_are_asked_for_now_and_then_where_engines_are_known_and_by_no_client() {
    for (more, asks) in [(READ, true), ("    metrics: off\n", false)] {
        let sims = [sim("m").await, sim("m").await];
        let gateway = Launch::new(policy_of(&sims.each_ref().map(Sim::addr), more)).start().await;
        if asks {
            until("figures", async || sims.iter().all(|sim| scrapes(sim) >= 2).then_some(())).await;
        }
        let body = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":1}"#;
        for stream in [false, true].repeat(100) {
            let body = if stream { body.replace("\"max", "\"stream\":true,\"max") } else { body.to_owned() };
            let request = client()
                .post(gateway.url("/v1/chat/completions"))
                .header("endpoint-load-metrics-format", "TEXT")
                .header("content-type", "application/json");
            let answer = Answer::of(request.body(body).send().await.unwrap()).await;
            assert_eq!((answer.status, answer.header("endpoint-load-metrics")), (200, ""));
        }
        let seen: Vec<_> = sims.iter().flat_map(asked).collect();
        let formats = seen.iter().filter_map(|seen| seen.headers.get("endpoint-load-metrics-format"));
        let formats: Vec<&str> = formats.map(|format| format.to_str().unwrap()).collect();
        assert!(formats.iter().all(|format| *format == "JSON"), "{formats:?}");
        // One in 16 of 200; beyond these bounds in three of a million runs.
        let is_some = (1..=40).contains(&formats.len());
        assert_eq!(is_some, asks, "{} reports", formats.len());
    }
}

#[tokio::test]
async fn what_an_engine_reports_in_an_answer_is_taken_over_and_kept_from_the_client() {
    let page = Page::Answer(answer("200 OK", "vllm:num_requests_waiting 1\nvllm:num_requests_running 2\n"));
    let engine = Engine::start(page).await;
    let more = "    metrics: {enabled: true, min_interval: 20s, max_interval: 20s, max_age: 60s}\n";
    let gateway = Launch::new(policy_of(&[engine.addr], more)).start().await;
    // The first page is read within the first interval; no later one overwrites what is reported.
    gateway.counts("signalbox_engine_requests_waiting", &[&label(engine.addr)], 1.0).await;
    let answer = gateway.chat("m", "hi").await;
    assert_eq!((answer.status, answer.header("endpoint-load-metrics")), (200, ""));
    gateway.counts("signalbox_engine_requests_waiting", &[&label(engine.addr)], 7.0).await;
    assert_eq!(gateway.metric("signalbox_engine_kv_cache_usage_ratio", &[]).await, 0.5);
    assert_eq!(gateway.metric("signalbox_engine_requests_running", &[]).await, 2.0);
}
