//! Owns `signalbox check --cluster`: what the controller of Gateways would take of a folder's manifests.

use super::super::{Failure, say};
use crate::control::{FolderReport, FolderSettings, ManifestText, judge_manifests};
use crate::policy::{self, Environment, Process, ServerSpec};
use std::path::{Path, PathBuf};

/// The ports of the shipped Service, where no server file says others.
const USUAL_PORTS: [(u16, bool); 2] = [(80, false), (443, true)];

/// Says what would be taken of a folder's manifests; gives what is to be said at the end where not all would be.
pub(super) fn judge(
    folder: &Path,
    server: Option<&ServerSpec>,
    classes: &[String],
) -> Result<Option<String>, Failure> {
    let ports = server.map(|server| {
        let port = |listener: &policy::Listener| listener.public_port.unwrap_or(listener.address.port());
        server.listeners.iter().map(|listener| (port(listener), listener.tls.is_some())).collect()
    });
    let settings = FolderSettings {
        spec: server.and_then(|server| server.gateway_api.clone()).unwrap_or_default(),
        ports: ports.unwrap_or_else(|| USUAL_PORTS.to_vec()),
        classes: classes.to_vec(),
    };
    let report = judge_manifests(&texts(folder)?, &settings);
    say(&report.lines.join("\n"));
    let FolderReport { faults, .. } = report;
    Ok((faults > 0).then(|| format!("{}: {faults} of these are not as they should be", folder.display())))
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
