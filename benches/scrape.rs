//! Owns the measurement of reading one page of an engine's metrics, as large as vLLM's, and of what reading those of a
//! hundred endpoints twenty times a second costs over real sockets.
//! Refuses to know anything but the public face of the reader and the binary.

#![allow(clippy::print_stdout, reason = "a benchmark says what it measured")]

use criterion::{Criterion, Throughput, criterion_group};
use signalbox::control::EnginePage;
use signalbox::policy::EngineKind;
use std::fmt::Write;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// About as many bytes as vLLM 0.32 shows with one engine.
const PAGE_BYTES: usize = 60 << 10;

/// How many endpoints are asked, twenty times a second each.
const ENDPOINTS: u64 = 100;

/// The gauges stand first, then counters, then the histograms that make up nearly all of a page; the size of the cache is
/// last.
fn page() -> String {
    let labels = r#"engine="0",model_name="meta-llama/Llama-3.1-8B-Instruct""#;
    let mut page = String::new();
    for (name, value) in
        [("num_requests_running", "37.0"), ("num_requests_waiting", "4.0"), ("kv_cache_usage_perc", "0.4375")]
    {
        let _ = writeln!(
            page,
            "# HELP vllm:{name} What it is.\n# TYPE vllm:{name} gauge\nvllm:{name}{{{labels}}} {value}"
        );
    }
    for reason in ["capacity", "deferred"] {
        let _ = writeln!(page, r#"vllm:num_requests_waiting_by_reason{{{labels},reason="{reason}"}} 2.0"#);
    }
    for state in ["awake", "weights_offloaded", "discard_all"] {
        let _ = writeln!(page, r#"vllm:engine_sleep_state{{{labels},sleep_state="{state}"}} 1.0"#);
    }
    for family in 0.. {
        let name = format!("vllm:request_family_{family}_seconds");
        let _ = writeln!(page, "# HELP {name} Histogram of one of the times.\n# TYPE {name} histogram");
        for bucket in 0..22 {
            let le = f64::from(bucket) * 0.25;
            let _ = writeln!(
                page,
                r#"{name}_bucket{{engine="0",le="{le}",model_name="meta-llama/Llama-3.1-8B-Instruct"}} 1234.0"#
            );
        }
        if page.len() > PAGE_BYTES {
            break;
        }
    }
    let _ = writeln!(
        page,
        r#"vllm:lora_requests_info{{max_lora="4",running_lora_adapters="a,b",waiting_lora_adapters=""}} 1.763635200123e+09
vllm:cache_config_info{{block_size="16",cache_dtype="auto",engine="0",num_gpu_blocks="27000"}} 1.0"#
    );
    page
}

/// One page in pieces as a socket gives them.
fn read_page(criterion: &mut Criterion) {
    let page = page();
    let at = Instant::now();
    let mut group = criterion.benchmark_group("scrape");
    group.throughput(Throughput::Bytes(page.len() as u64));
    group.bench_function("page", |bencher| {
        bencher.iter(|| {
            let mut reader = EnginePage::new(EngineKind::Auto);
            page.as_bytes().chunks(16 << 10).for_each(|piece| reader.feed(piece));
            black_box(reader.finish(at))
        });
    });
    group.finish();
}

/// What the gateway's process computes while it reads the pages of busy endpoints, in cores.
async fn over_sockets() {
    let folder = tempfile::tempdir().expect("a folder for files of the moment");
    let mut endpoints = Vec::new();
    let pages = Arc::new(AtomicU64::new(0));
    for _ in 0..ENDPOINTS {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        endpoints.push(format!("\"{}\"", listener.local_addr().expect("a bound listener has an address")));
        tokio::spawn(serve_pages(listener, Arc::clone(&pages)));
    }
    let policy = format!(
        "version: 1\nmodels: {{m: {{pools: [p]}}}}\n\
         pools: {{p: {{endpoints: [{}], health: {{enabled: false}}, metrics: {{enabled: true, min_interval: 50ms}}}}}}\n",
        endpoints.join(", ")
    );
    let file = folder.path().join("policy.yaml");
    std::fs::write(&file, policy).expect("the folder is writable");
    let mut gateway = Command::new(env!("CARGO_BIN_EXE_signalbox"))
        .arg("serve")
        .arg("--policy")
        .arg(&file)
        .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary runs");
    while pages.load(Ordering::Relaxed) < 10 * ENDPOINTS {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (cpu, count, began) = (cpu_seconds(gateway.id()), pages.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(Duration::from_secs(10)).await;
    let took = began.elapsed().as_secs_f64();
    let cores = (cpu_seconds(gateway.id()) - cpu) / took;
    let rate = (pages.load(Ordering::Relaxed) - count) as f64 / took;
    println!(
        "{ENDPOINTS} endpoints, {rate:.0} pages a second of {} bytes: {cores:.3} cores, {:.0} us a page",
        page().len(),
        1e6 * cores / rate
    );
    let _ = gateway.kill();
    let _ = gateway.wait();
}

/// Answers every request with the page, over connections that are kept.
async fn serve_pages(listener: TcpListener, pages: Arc<AtomicU64>) {
    let page = page();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=1.0.0; charset=utf-8\r\ncontent-length:";
    let answer: Arc<[u8]> = format!("{head} {}\r\n\r\n{page}", page.len()).into_bytes().into();
    while let Ok((mut stream, _)) = listener.accept().await {
        let (answer, pages) = (Arc::clone(&answer), Arc::clone(&pages));
        tokio::spawn(async move {
            let mut request = [0; 4096];
            // A request is one packet, as a rule.
            while matches!(stream.read(&mut request).await, Ok(length) if length > 0) {
                pages.fetch_add(1, Ordering::Relaxed);
                if stream.write_all(&answer).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// The CPU time of a process, in and out of the kernel: the 14th and 15th fields of its `stat`, in ticks of 10 ms.
fn cpu_seconds(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / 100.0
}

criterion_group!(benches, read_page);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("the system gives threads")
        .block_on(over_sockets());
}
