//! Owns `signalbox schema`: the shape of the configuration files, for editors.

use super::{Failure, say};
use crate::policy;
use clap::{Args, ValueEnum};

/// Arguments of `signalbox schema`.
#[derive(Debug, Args)]
pub(super) struct SchemaArgs {
    /// Which file's schema.
    #[arg(value_enum, default_value_t = Which::Policy)]
    which: Which,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Which {
    Policy,
    Server,
}

impl SchemaArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let schema = match self.which {
            Which::Policy => policy::schema(),
            Which::Server => policy::server_schema(),
        };
        say(&serde_json::to_string_pretty(&schema)?);
        Ok(())
    }
}
