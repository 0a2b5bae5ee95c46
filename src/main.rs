//! Owns the process: its allocator, its arguments and its exit code.

#![forbid(unsafe_code)]

use clap::Parser;
use std::process::ExitCode;

// The proxy's many small, short-lived allocations cost about a fifth less CPU with it than with the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    signalbox::cli::Cli::parse().run()
}
