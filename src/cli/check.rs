//! Owns `signalbox check`: all that is wrong in a file, at once.

use super::serve::{default_server, server_file};
use super::{Failure, say};
use crate::control::PolicyFile;
use crate::policy::{self, Process};
use clap::Args;
use std::path::PathBuf;
use std::sync::Arc;

/// Arguments of `signalbox check`.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The policy to check.
    #[arg(required_unless_present = "server")]
    policy: Option<PathBuf>,
    /// The server file to check.
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
}

impl CheckArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let server = self.server.as_deref().map(server_file).transpose()?;
        if let Some(path) = self.policy {
            let file = PolicyFile { path, environment: Arc::new(Process) };
            let policy = file.load()?;
            let server = server.map_or_else(default_server, Ok)?;
            for warning in policy::warnings(&policy, &server.addresses()) {
                say(&format!("{}: warning: {warning}", file.path.display()));
            }
            let (models, pools, decisions) =
                (policy.models.len(), policy.pools.len(), policy.decisions().count());
            say(&format!(
                "{}: ok ({models} models, {pools} pools, {decisions} decisions)",
                file.path.display()
            ));
        }
        if let Some(path) = self.server {
            say(&format!("{}: ok", path.display()));
        }
        Ok(())
    }
}
