//! Owns the command line: one file for each subcommand; with `main`, the only place that prints.

mod check;
mod demo;
mod eval;
mod explain;
mod import;
mod offline;
mod schema;
mod serve;
mod sim;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// An LLM data plane in one binary.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve clients by a policy.
    Serve(serve::ServeArgs),
    /// Run everything on this machine: simulated vLLM replicas, a simulated OpenAI over TLS, and the gateway.
    Demo(demo::DemoArgs),
    /// List everything that is wrong in a policy or server file; exits with 1 if anything is.
    Check(check::CheckArgs),
    /// Turn another system's configuration and its Kubernetes manifests into a policy; exits with 2 if there is none.
    Import(import::ImportArgs),
    /// Print the JSON Schema of the policy or server file, for editors.
    Schema(schema::SchemaArgs),
    /// Show where prompts would go, and why: every signal, the decisions, the plan and the time.
    Explain(explain::ExplainArgs),
    /// Evaluate the classifier on labelled texts: accuracy, F1, calibration, latency.
    Eval(eval::EvalArgs),
    /// Simulate a vLLM server.
    Sim(Box<sim::SimArgs>),
}

impl Cli {
    /// Runs the subcommand to its end.
    pub fn run(self) -> ExitCode {
        let outcome = match self.command {
            Command::Serve(args) => args.run(),
            Command::Demo(args) => args.run(),
            Command::Check(args) => args.run(),
            Command::Import(args) => return args.run(),
            Command::Schema(args) => args.run(),
            Command::Explain(args) => args.run(),
            Command::Eval(args) => args.run(),
            Command::Sim(args) => sim_to_end(*args),
        };
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                print_failure(&*failure);
                ExitCode::FAILURE
            }
        }
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn sim_to_end(args: sim::SimArgs) -> Result<(), Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(args.run())?;
    Ok(())
}

#[expect(clippy::print_stderr, reason = "a failed command says why")]
fn print_failure(failure: &dyn std::error::Error) {
    eprintln!("signalbox: {failure}");
}

#[expect(clippy::print_stdout, reason = "a command's output goes to standard output")]
fn say(text: &str) {
    println!("{text}");
}
