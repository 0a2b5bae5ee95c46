//! Owns the command line: one file for each subcommand; with `main`, the only place that prints.

mod check;
mod completions;
mod demo;
mod eval;
mod explain;
mod import;
mod offline;
mod schema;
mod serve;
mod sim;

use clap::{Parser, Subcommand};
use std::io::Write;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

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
    /// Print what a shell needs to complete this command line.
    Completions(completions::CompletionsArgs),
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
            Command::Completions(args) => args.run(),
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

/// How long the end of a failed command waits for somebody to read why.
const READ_LIMIT: Duration = Duration::from_secs(1);

fn print_failure(failure: &dyn std::error::Error) {
    let (printing, printed) = mpsc::channel::<()>();
    let text = format!("signalbox: {failure}");
    let print = move || {
        let _printing = printing;
        // Whoever should read it may have gone: that is no failure of its own.
        let _ = writeln!(std::io::stderr(), "{text}");
    };
    if std::thread::Builder::new().spawn(print).is_ok() {
        let _ = printed.recv_timeout(READ_LIMIT);
    }
}

/// Prints a command's result, which may be piped into a program that has ended.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints beside what the process does: it neither waits for a reader nor fails without one.
fn say_meanwhile(print: impl FnOnce() + Send + 'static) {
    // Without a thread nobody hears of it, and the process serves all the same.
    let _ = std::thread::Builder::new().name("announce".to_owned()).spawn(print);
}
