//! Owns `signalbox completions`: what a shell needs to complete the command line.

use super::offline::print_line;
use super::{Cli, Failure};
use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

/// Arguments of `signalbox completions`.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// Which shell's.
    #[arg(value_enum)]
    shell: Shell,
}

impl CompletionsArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::command(), "signalbox", &mut script);
        print_line(String::from_utf8(script)?.trim_end())?;
        Ok(())
    }
}
