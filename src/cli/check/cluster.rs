//! Owns `signalbox check --cluster`: what the controller of Gateways would take of the manifests of a folder, or of a file.

use super::super::{Failure, say};
use crate::control::{FolderReport, FolderSettings, ManifestText, judge_manifests};
use crate::policy::{self, Environment, Process, ServerSpec};
use std::path::{Path, PathBuf};

/// The ports of the shipped Service, where no server file says others.
const USUAL_PORTS: [(u16, bool); 2] = [(80, false), (443, true)];

/// Says what would be taken of a folder's or a file's manifests; gives what is to be said at the end where not all would be.
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

/// The manifests of a file, or of a folder in the order of their names; those of folders within it are others'.
fn texts(folder: &Path) -> Result<Vec<ManifestText>, Failure> {
    let unreadable = |path: &Path| {
        let name = path.display().to_string();
        move |error: std::io::Error| format!("{name}: {error}")
    };
    let is_manifest = |file: &PathBuf| {
        let extension = file.extension();
        extension.is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
    };
    let mut files = vec![folder.to_owned()];
    if !folder.is_file() {
        let entries = std::fs::read_dir(folder).map_err(unreadable(folder))?;
        files = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
        files.retain(is_manifest);
        files.sort();
    }
    let read = |file: PathBuf| {
        let bytes = Process.read(&file).map_err(unreadable(&file))?;
        let name = file.display().to_string();
        let text = String::from_utf8(bytes).map_err(|error| format!("{name}: is not UTF-8: {error}"))?;
        Ok(ManifestText { name, text })
    };
    files.into_iter().map(read).collect()
}
