//! Owns `signalbox check`: all that is wrong in some files, at once.

mod cluster;

use super::serve::{default_server, server_file};
use super::{Failure, say};
use crate::control::{LoadFailure, PolicyFile};
use crate::policy::{self, Environment, Process, ServerSpec, SignalKind};
use clap::Args;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file name that stands for standard input.
const STANDARD_INPUT: &str = "-";

/// The most that is read from standard input: a policy's bound and one byte.
const MAX_INPUT_BYTES: u64 = (1 << 20) + 1;

/// Arguments of `signalbox check`.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The policies to check; `-` reads one from standard input.
    #[arg(required_unless_present_any = ["server", "cluster"], value_name = "POLICY")]
    policies: Vec<PathBuf>,
    /// The server file to check.
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
    /// Kubernetes manifests, a folder or a file: say, a line each, what the controller of Gateways would take of them; exits with 1
    /// if anything would not be.
    #[arg(long, value_name = "PATH")]
    cluster: Option<PathBuf>,
    /// With --cluster, take a class as ours although no manifest says so.
    #[arg(long, value_name = "NAME", requires = "cluster")]
    gateway_class: Vec<String>,
}

impl CheckArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut faults = Vec::new();
        let server = match &self.server {
            Some(path) => server_file(path).inspect(|_right| say(&format!("{}: ok", path.display()))),
            None => default_server(),
        };
        let server = server.map_err(|fault| faults.push(fault.to_string())).ok();
        if let Some(folder) = &self.cluster {
            let own = server.as_ref().filter(|_| self.server.is_some());
            faults.extend(cluster::judge(folder, own, &self.gateway_class)?);
        }
        let environment = Arc::new(WithInput::read(&self.policies)?);
        for path in self.policies {
            let file = PolicyFile { path, environment: Arc::clone(&environment) as _ };
            if let Err(fault) = check(&file, server.as_ref()) {
                faults.push(told(&fault));
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(faults.join("\n").into()) }
    }
}

/// Checks a policy, and says what is worth knowing of one that is right.
fn check(file: &PolicyFile, server: Option<&ServerSpec>) -> Result<(), LoadFailure> {
    let policy = file.load()?;
    let path = file.path.display();
    // A faulty server file has no addresses to warn of.
    let addresses = server.map(ServerSpec::addresses).unwrap_or_default();
    for warning in policy::warnings(&policy, &addresses) {
        say(&format!("{path}: warning: {warning}"));
    }
    let is_similarity = |signal: &policy::Signal| matches!(signal.kind, SignalKind::Similarity(_));
    if policy.signals.iter().any(is_similarity) {
        let embedder = policy.classifier.spec.embedder();
        say(&format!("{path}: similarities are of the embeddings of {embedder}"));
    }
    let (models, pools, decisions) = (policy.models.len(), policy.pools.len(), policy.decisions().count());
    say(&format!("{path}: ok ({models} models, {pools} pools, {decisions} decisions)"));
    Ok(())
}

/// Gives a failure with each issue's place in the text.
fn told(failure: &LoadFailure) -> String {
    match failure {
        LoadFailure::Invalid { path, issues } => {
            format!("{} has {} issue(s):\n{}", path.display(), issues.0.len(), issues.with_excerpts())
        }
        other => other.to_string(),
    }
}

/// The process's environment, in which standard input is a file.
struct WithInput {
    input: Vec<u8>,
}

impl WithInput {
    /// Reads standard input where one of the files is that.
    fn read(files: &[PathBuf]) -> std::io::Result<Self> {
        let mut input = Vec::new();
        if files.iter().any(|file| file == Path::new(STANDARD_INPUT)) {
            std::io::stdin().take(MAX_INPUT_BYTES).read_to_end(&mut input)?;
        }
        Ok(Self { input })
    }
}

impl Environment for WithInput {
    fn var(&self, name: &str) -> Option<String> {
        Process.var(name)
    }

    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        if path == Path::new(STANDARD_INPUT) { Ok(self.input.clone()) } else { Process.read(path) }
    }
}
