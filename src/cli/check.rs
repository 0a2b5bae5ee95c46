//! Owns `signalbox check`: all that is wrong in a file, at once.

use super::{Failure, say};
use crate::control::PolicyFile;
use crate::policy::{self, Process};
use clap::Args;
use std::path::{Path, PathBuf};
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
        if let Some(path) = self.policy {
            let file = PolicyFile { path, environment: Arc::new(Process) };
            let policy = file.load()?;
            let (models, pools, decisions) =
                (policy.models.len(), policy.pools.len(), policy.decisions().count());
            say(&format!(
                "{}: ok ({models} models, {pools} pools, {decisions} decisions)",
                file.path.display()
            ));
        }
        if let Some(path) = self.server {
            server_file(&path)?;
            say(&format!("{}: ok", path.display()));
        }
        Ok(())
    }
}

/// Reads a server file.
pub(super) fn server_file(path: &Path) -> Result<policy::ServerSpec, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let base = path.parent().unwrap_or(Path::new("."));
    let spec = policy::load_server(&text, base, &Process);
    spec.map_err(|issues| format!("{} has {} issue(s):\n{issues}", path.display(), issues.0.len()).into())
}
