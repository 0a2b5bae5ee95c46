//! Owns the way from a changed file to a new snapshot: read, check, build, publish, or change nothing and say why.
//!
//! Knows nothing of requests. What is read includes the secrets and certificates that the policy names.

use super::resolve::resolve_all;
use super::watch::{Contents, FileWatch};
use crate::metrics::Metrics;
use crate::policy::{self, Environment, Issues, Policy};
use crate::snapshot::{self, BuildError, Live, Snapshot};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// The policy's file, and the environment its variables come from.
#[derive(Clone)]
pub struct PolicyFile {
    /// Where it lies.
    pub path: PathBuf,
    /// Where its variables and files come from.
    pub environment: Arc<dyn Environment + Send + Sync>,
}

/// Why a policy did not come to life.
#[derive(Debug, thiserror::Error)]
pub enum LoadFailure {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The policy has issues.
    #[error("{path} has {} issue(s):\n{issues}", issues.0.len())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// All of them.
        issues: Issues,
    },
    /// The policy is right but cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
}

impl PolicyFile {
    /// Reads and checks the policy; may block on the disk.
    pub fn load(&self) -> Result<Policy, LoadFailure> {
        let unreadable = |source| LoadFailure::Unreadable { path: self.path.clone(), source };
        let bytes = self.environment.read(&self.path).map_err(unreadable)?;
        let text = String::from_utf8_lossy(&bytes);
        let base = self.path.parent().unwrap_or(Path::new("."));
        let wrong = |issues| LoadFailure::Wrong { path: self.path.clone(), issues };
        // The first pass tells whose labels the decisions may name, the second holds them to those.
        let policy = policy::load(&text, base, &*self.environment, None).map_err(wrong)?;
        let labels = snapshot::classifier_spec(&policy).source.labels().map_err(BuildError::Classifier)?;
        let names: Vec<&str> = labels.iter().map(AsRef::as_ref).collect();
        policy::load(&text, base, &*self.environment, Some(&names)).map_err(wrong)
    }

    /// The policy's own file and those it names.
    fn watched(&self, policy: &Policy) -> Vec<PathBuf> {
        std::iter::once(self.path.clone()).chain(policy.files.iter().cloned()).collect()
    }
}

/// Keeps the live snapshot in step with the policy's files.
pub struct Reloader {
    file: PolicyFile,
    live: Arc<Live>,
    metrics: Arc<Metrics>,
    /// Why the last reload changed nothing, for whoever asks.
    fault: Arc<RwLock<Option<String>>>,
}

impl Reloader {
    /// Makes a reloader; `fault` is where it says why a policy was refused.
    pub fn new(
        file: PolicyFile,
        live: Arc<Live>,
        metrics: Arc<Metrics>,
        fault: Arc<RwLock<Option<String>>>,
    ) -> Self {
        Self { file, live, metrics, fault }
    }

    /// Follows the files for ever.
    pub async fn run(self) {
        let mut files = self.file.watched(&self.live.load().policy);
        let mut watch = FileWatch::new(&files);
        // Nothing is known of what changed between the first load and the watch: the first look always differs.
        let mut known = None;
        loop {
            let now = Some(Contents::of(&files));
            // A policy refused for a file that is missing is tried again when that file may have come.
            if known == now && self.fault().is_none() {
                watch.changed().await;
                continue;
            }
            known = now;
            self.reload().await;
            files = self.file.watched(&self.live.load().policy);
            watch.follow(&files);
            if self.fault().is_some() {
                watch.changed().await;
            }
        }
    }

    async fn reload(&self) {
        let (file, live) = (self.file.clone(), Arc::clone(&self.live));
        // Weights and files are read off the request threads.
        let loaded = tokio::task::spawn_blocking(move || file.load()).await;
        let outcome = match loaded {
            Ok(Ok(policy)) if policy == *live.load().policy => {
                self.say(None);
                return;
            }
            Ok(Ok(policy)) => self.publish(policy).await,
            Ok(Err(failure)) => Err(failure),
            Err(_cancelled) => return,
        };
        let fault = match outcome {
            Ok(generation) => {
                tracing::info!(generation, "policy reloaded");
                self.metrics.reloaded(Ok(()));
                None
            }
            Err(failure) => Some(failure.to_string()),
        };
        if fault.is_some() && fault != self.fault() {
            tracing::error!(failure = fault, "policy refused; the one in force stays");
            self.metrics.reloaded(Err(()));
        }
        self.say(fault);
    }

    async fn publish(&self, policy: Policy) -> Result<u64, LoadFailure> {
        let policy = Arc::new(policy);
        let addresses = Arc::new(resolve_all(&policy, &self.live.load().addresses).await);
        let live = Arc::clone(&self.live);
        let built = tokio::task::spawn_blocking(move || {
            live.update(|current| Snapshot::build(policy, addresses, Some(current)).map(Some))?;
            Ok(live.load().generation)
        });
        built.await.unwrap_or_else(|_cancelled| Ok(self.live.load().generation))
    }

    fn fault(&self) -> Option<String> {
        self.fault.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn say(&self, fault: Option<String>) {
        *self.fault.write().unwrap_or_else(PoisonError::into_inner) = fault;
    }
}
