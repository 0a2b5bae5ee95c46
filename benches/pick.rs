//! Owns the measurement of one choice: lease, report and drop, for each strategy and pool size, alone and
//! contended.
//! Refuses to know anything but the balance layer's public face.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use signalbox::balance::{Ejection, Endpoint, Member, Pool, RetryBudget, Strategy};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const STRATEGIES: [(&str, Strategy); 3] = [
    ("round-robin", Strategy::RoundRobin),
    ("least-request", Strategy::LeastRequest),
    ("hash", Strategy::Hash),
];
const EJECTION: Ejection = Ejection {
    consecutive_failures: 5,
    base: Duration::from_secs(30),
    max: Duration::from_secs(300),
    max_share_bp: 5_000,
};

fn pool(strategy: Strategy, size: u16) -> Arc<Pool> {
    let member = |index: u16| Member {
        endpoint: Endpoint::new(([127, 0, 0, 1], 10_000 + index).into(), format!("pod-{index}:8000").into()),
        weight: u32::from(index % 3) + 1,
    };
    Arc::new(Pool::new(strategy, EJECTION, (0..size).map(member).collect(), None))
}

fn pick(pool: &Arc<Pool>, key: u64, now: Instant) {
    if let Some(lease) = black_box(pool.lease(Some(key), &[], now)) {
        lease.succeeded();
    }
}

fn alone(criterion: &mut Criterion) {
    let now = Instant::now();
    for (name, strategy) in STRATEGIES {
        let mut group = criterion.benchmark_group(name);
        for size in [2, 16, 256] {
            let (pool, mut key) = (pool(strategy, size), 0);
            group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
                bencher.iter(|| {
                    key += 1;
                    pick(&pool, key, now);
                });
            });
        }
    }
}

/// One other thread picks from the same pool without a pause.
fn contended(criterion: &mut Criterion) {
    let now = Instant::now();
    let mut group = criterion.benchmark_group("contended");
    for (name, strategy) in STRATEGIES {
        let (pool, mut key, done) = (pool(strategy, 16), 0, AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    pick(&pool, 7, now);
                }
            });
            group.bench_function(BenchmarkId::new(name, 16), |bencher| {
                bencher.iter(|| {
                    key += 1;
                    pick(&pool, key, now);
                });
            });
            done.store(true, Ordering::Relaxed);
        });
    }
}

fn budget(criterion: &mut Criterion) {
    let (budget, now) = (RetryBudget::new(2_000, 10), Instant::now());
    criterion.bench_function("budget", |bencher| bencher.iter(|| budget.request(black_box(now))));
}

criterion_group!(benches, alone, contended, budget);
criterion_main!(benches);
