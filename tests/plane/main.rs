//! Black-box tests: the running binary between real clients and upstreams that record what they saw.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::float_cmp,
    unreachable_pub,
    reason = "all of this binary is tests, and counters are whole numbers"
)]

mod harness;
mod raw;
mod upstream;

mod balancing;
mod bodies;
mod caching;
mod choosing;
mod classify_api;
mod classifying;
mod commands;
mod deciding;
mod demo;
mod disconnecting;
mod eval;
mod explain;
mod framing;
mod guarding;
mod guides;
mod importing;
mod judging;
mod lifecycle;
mod plugins;
mod rejections;
mod reloading;
mod retries;
mod sdk;
mod spoofing;
mod streaming;
mod timeouts;
mod upgrading;
mod upstreams;
mod verifying;
mod why;
