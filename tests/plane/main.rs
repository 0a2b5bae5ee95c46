//! Black-box tests: the running binary between real clients and upstreams that record what they saw.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::float_cmp,
    unreachable_pub,
    reason = "a test panics to fail, counts are exact in f64, and nothing here is for anybody else"
)]

mod harness;
mod upstream;

mod balancing;
mod bodies;
mod commands;
mod guides;
mod leaving;
mod lifecycle;
mod rejections;
mod reloading;
mod retries;
mod sdk;
mod streaming;
mod timeouts;
mod upgrading;
