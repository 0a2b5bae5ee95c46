//! Owns `signalbox check`: all that is wrong in a file, at once, and what would be taken of a cluster's manifests.

use super::serve::{default_server, server_file};
use super::{Failure, say};
use crate::control::{FolderSettings, ManifestText, PolicyFile, judge_manifests};
use crate::policy::{self, Environment, Process, ServerSpec};
use clap::Args;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Arguments of `signalbox check`.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The policy to check.
    #[arg(required_unless_present_any = ["server", "cluster"])]
    policy: Option<PathBuf>,
    /// The server file to check.
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
    /// A folder of Kubernetes manifests: say, a line each, what the controller of Gateways would take of them; exits with 1
    /// if anything would not be.
    #[arg(long, value_name = "FOLDER")]
    cluster: Option<PathBuf>,
    /// With --cluster, take a class as ours although no manifest says so.
    #[arg(long, value_name = "NAME", requires = "cluster")]
    gateway_class: Vec<String>,
}

impl CheckArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let server = self.server.as_deref().map(server_file).transpose()?;
        if let Some(folder) = &self.cluster {
            judge(folder, server.as_ref(), &self.gateway_class)?;
        }
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

/// The ports of the shipped Service, where no server file says others.
const USUAL_PORTS: [(u16, bool); 2] = [(80, false), (443, true)];

/// Says what would be taken of a folder's manifests.
fn judge(folder: &Path, server: Option<&ServerSpec>, classes: &[String]) -> Result<(), Failure> {
    let ports = server.map(|server| {
        let port = |listener: &policy::Listener| listener.public_port.unwrap_or(listener.address.port());
        server.listeners.iter().map(|listener| (port(listener), listener.tls.is_some())).collect()
    });
    let settings = FolderSettings {
        spec: server.and_then(|server| server.gateway_api.clone()).unwrap_or_default(),
        ports: ports.unwrap_or_else(|| USUAL_PORTS.to_vec()),
        classes: classes.to_vec(),
    };
    let report = judge_manifests(&texts(folder)?, &settings)?;
    say(&report.lines.join("\n"));
    match report.faults {
        0 => Ok(()),
        faults => Err(format!("{}: {faults} of these are not as they should be", folder.display()).into()),
    }
}

/// The manifests of a folder, in the order of their names; those of folders within it are others'.
fn texts(folder: &Path) -> Result<Vec<ManifestText>, Failure> {
    let unreadable = |path: &Path| {
        let name = path.display().to_string();
        move |error: std::io::Error| format!("{name}: {error}")
    };
    let entries = std::fs::read_dir(folder).map_err(unreadable(folder))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    files.retain(|file| {
        file.extension()
            .is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
    });
    files.sort();
    let read = |file: PathBuf| {
        let bytes = Process.read(&file).map_err(unreadable(&file))?;
        Ok(ManifestText {
            name: file.display().to_string(),
            text: String::from_utf8_lossy(&bytes).into_owned(),
        })
    };
    files.into_iter().map(read).collect()
}
