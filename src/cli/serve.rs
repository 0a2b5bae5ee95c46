//! Owns `signalbox serve`: the gateway in production.

use super::{Failure, say};
use crate::control::PolicyFile;
use crate::policy::{self, Process, ServerSpec};
use crate::server::{self, Bound, Setup};
use crate::telemetry::{AccessLog, FlushGuard};
use clap::Args;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Arguments of `signalbox serve`.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// The policy; followed while the process runs.
    #[arg(long, value_name = "FILE", env = "SIGNALBOX_POLICY")]
    policy: PathBuf,
    /// The server file; read once. Without it, the defaults hold.
    #[arg(long, value_name = "FILE", env = "SIGNALBOX_SERVER")]
    server: Option<PathBuf>,
    #[command(flatten)]
    addresses: AddressArgs,
    /// Take the listeners over from the running process, which is then sent SIGQUIT.
    #[arg(long)]
    upgrade: bool,
}

/// Addresses that replace those of the server file.
#[derive(Debug, Args)]
pub(super) struct AddressArgs {
    /// Listen here instead of where the server file says; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) listen: Option<SocketAddr>,
    /// Serve health, readiness and metrics here; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) admin: Option<SocketAddr>,
}

impl ServeArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let spec = match &self.server {
            Some(path) => server_file(path)?,
            None => default_server()?,
        };
        let spec = self.addresses.replace(spec);
        let pid_file = spec.upgrade.pid_file.clone();
        let (access_log, _flushed_on_drop) = start_logging(&spec)?;
        let policy = PolicyFile { path: self.policy, environment: Arc::new(Process) };
        let setup = Setup { policy, spec, access_log, upgrade: self.upgrade };
        server::run(&setup, |bound| {
            // Only now: until this process serves, the file is its predecessor's.
            note_pid(pid_file.as_deref());
            announce(bound);
        })?;
        Ok(())
    }
}

impl AddressArgs {
    pub(super) fn replace(&self, mut spec: ServerSpec) -> ServerSpec {
        if let Some(listen) = self.listen {
            spec.listeners = vec![policy::Listener { address: listen, tls: None }];
        }
        if let Some(admin) = self.admin {
            spec.admin = admin;
        }
        spec
    }
}

/// Reads a server file.
pub(super) fn server_file(path: &Path) -> Result<policy::ServerSpec, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let base = path.parent().unwrap_or(Path::new("."));
    let spec = policy::load_server(&text, base, &Process);
    spec.map_err(|issues| format!("{} has {} issue(s):\n{issues}", path.display(), issues.0.len()).into())
}

/// The defaults of the server file.
pub(super) fn default_server() -> Result<ServerSpec, Failure> {
    Ok(policy::load_server("{}", Path::new("."), &Process)?)
}

/// Starts the process's log on standard error and the requests' lines on standard output.
pub(super) fn start_logging(spec: &ServerSpec) -> Result<(AccessLog, Option<FlushGuard>), Failure> {
    use tracing_subscriber::{EnvFilter, fmt};
    let default = format!("{},pingora=warn,pingora_core=warn,pingora_proxy=error", spec.log.level.as_str());
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_unset| EnvFilter::new(default));
    fmt().json().flatten_event(true).with_env_filter(filter).with_writer(std::io::stderr).try_init()?;
    if !spec.log.access {
        return Ok((AccessLog::Off, None));
    }
    let (log, flush) = AccessLog::start(std::io::stdout())?;
    Ok((log, Some(flush)))
}

fn note_pid(file: Option<&Path>) {
    let Some(file) = file else { return };
    if let Err(error) = std::fs::write(file, format!("{}\n", std::process::id())) {
        tracing::error!(file = %file.display(), %error, "the process's id is not written");
    }
}

/// Prints where the process serves, in one line that a script can read.
fn announce(bound: &Bound) {
    let listeners: Vec<String> = bound.listeners.iter().map(ToString::to_string).collect();
    say(&format!(
        "{{\"event\":\"listening\",\"listeners\":[{}],\"admin\":\"{}\"}}",
        listeners.iter().map(|address| format!("\"{address}\"")).collect::<Vec<_>>().join(","),
        bound.admin
    ));
}
