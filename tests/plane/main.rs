//! Black-box tests: the running binary between real clients and upstreams that record what they saw.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::float_cmp,
    unreachable_pub,
    reason = "all of this binary is tests, and counters are whole numbers"
)]

mod any_kube_api;
mod cluster;
mod endpoint_picker;
mod h2_upstream;
mod harness;
mod kube_api;
mod raw;
mod redis_server;
mod upstream;
mod web_app;

mod admission;
mod agents;
mod answers;
mod balancing;
mod bodies;
mod caching;
mod choosing;
mod classify_api;
mod classifying;
mod clients;
mod commands;
mod connectors;
mod conversations;
mod counting;
mod deciding;
mod demo;
mod dialects;
mod disaggregating;
mod disconnecting;
mod early_answers;
mod eval;
mod explain;
mod external_picking;
mod fleet;
mod framing;
mod gateway_api;
mod gateway_conformance;
mod guarding;
mod guide_manifests;
mod guides;
mod hedging;
mod hostile_files;
mod importing;
mod judging;
mod kubernetes;
mod kv_events;
mod lifecycle;
mod logs;
mod multilingual;
mod names;
mod overload;
mod picking;
mod plain_http;
mod plugins;
mod refusals;
mod reissuing;
mod rejections;
mod reloading;
mod retries;
mod rolling;
mod saturation;
mod scraping;
mod sdk;
mod spoofing;
mod stalls;
mod stored_responses;
mod streaming;
mod surface;
mod timeouts;
mod translating;
mod upgrading;
mod upstreams;
mod verifying;
mod waking;
mod websockets;
mod why;
