//! Black-box tests: the running binary between real clients and upstreams that record what they saw.

mod harness;

mod balancing;
mod bodies;
mod commands;
mod demo;
mod guides;
mod lifecycle;
mod rejections;
mod reloading;
mod retries;
mod sdk;
mod spoofing;
mod streaming;
mod upstreams;
mod why;
