//! Black-box tests: the running binary between real clients and upstreams that record what they saw.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what helps a test may fail it")]
#![allow(unreachable_pub, reason = "helpers say what they offer")]

mod harness;
mod raw;

mod balancing;
mod bodies;
mod commands;
mod framing;
mod guides;
mod lifecycle;
mod rejections;
mod reloading;
mod retries;
mod sdk;
mod streaming;
