//! Owns the measurement of finding a request's rule among 10, 1,000 and 10,000 routes: by path, by host, and by the model
//! that was decided on; and of putting the table together. Refuses to know anything but the table's public face.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, Method};
use signalbox::http_route::{
    ApiRoutes, HostPattern, ModelHeaders, PathMatch, RouteEntry, RouteMatch, RouteQuery, RouteRule,
    RouteTable, RouteTableBuilder, ValueMatch,
};
use std::hint::black_box;
use std::sync::Arc;

const SIZES: [usize; 3] = [10, 1_000, 10_000];

/// What tells one route from another.
#[derive(Clone, Copy)]
enum By {
    Path,
    Host,
    Model,
}

fn table(size: usize, by: By) -> RouteTable {
    let entry = |index: usize| {
        let mut request = RouteMatch::any();
        let mut host = HostPattern::Any;
        match by {
            By::Path => request.path = PathMatch::prefix(&format!("/app-{index}/v1")),
            By::Host => host = HostPattern::Exact(format!("app-{index}.example.com")),
            By::Model => {
                let name = HeaderName::from_static("x-selected-model");
                request.headers = vec![(name, ValueMatch::Exact(format!("model-{index}")))];
            }
        }
        RouteEntry { host, request, rule: Arc::new(RouteRule::default()) }
    };
    let mut table = RouteTableBuilder::default();
    table.add_listener(80, HostPattern::Any);
    table.add_entries(80, &HostPattern::Any, (0..size).map(entry));
    table.build()
}

fn find(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    let headers = HeaderMap::new();
    for size in SIZES {
        let last = size - 1;
        let (path, host, model) = (
            format!("/app-{last}/v1/things/1"),
            format!("app-{last}.example.com:80"),
            format!("model-{last}"),
        );
        for (name, by) in [("path", By::Path), ("host", By::Host), ("model", By::Model)] {
            let table = table(size, by);
            let query = RouteQuery {
                port: 80,
                host: if matches!(by, By::Host) { &host } else { "gateway" },
                method: &Method::POST,
                path: if matches!(by, By::Path) { &path } else { "/v1/chat/completions" },
                query: None,
                headers: &headers,
                model: matches!(by, By::Model).then_some(ModelHeaders { selected: &model, asked: &model }),
            };
            assert!(table.find(&query).is_some());
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter(|| black_box(table.find(black_box(&query))).is_some());
            });
        }
        group.bench_function(BenchmarkId::new("build", size), |bencher| {
            bencher.iter(|| black_box(table(size, By::Model)));
        });
        let table = table(size, By::Model);
        group.bench_function(BenchmarkId::new("rules_for", size), |bencher| {
            let routes = ApiRoutes::of(&table);
            bencher
                .iter(|| black_box(routes.rules_for(ModelHeaders { selected: &model, asked: &model })).len());
        });
    }
    group.finish();
}

criterion_group!(benches, find);
criterion_main!(benches);
