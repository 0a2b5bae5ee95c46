//! Owns the way from a changed file to a new snapshot: read, check, build, publish, or change nothing and say why.
//!
//! Knows nothing of requests. What is read includes the secrets and certificates that the policy names.

use super::routing_objects::{RoutingObjectFault, RoutingObjectWatches};
use super::sources::{KubeSources, discover_new};
use super::watch::{Contents, FileWatch};
use crate::classify;
use crate::policy::import::{ImportContext, ImportError, leaves_routing, native};
use crate::policy::{self, Environment, Issues, Policy};
use crate::snapshot::{BuildError, EndpointSlots, Live, Snapshot};
use crate::telemetry::Metrics;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The policy's file, and the environment its variables come from.
#[derive(Clone)]
pub struct PolicyFile {
    /// The file, of this or another system's dialect.
    pub path: PathBuf,
    /// Where `${VARIABLES}` and the files that it names are read from.
    pub environment: Arc<dyn Environment + Send + Sync>,
}

/// Why a policy could not be put in force.
#[derive(Debug, thiserror::Error)]
pub enum LoadFailure {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The policy is wrong; every issue has its place in the file.
    #[error("{path} has {} issue(s):\n{issues}", issues.0.len())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Every issue.
        issues: Issues,
    },
    /// The file is another system's and can't be turned into a policy.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The file leaves models and decisions to objects that the cluster does not give.
    #[error(transparent)]
    Objects(#[from] RoutingObjectFault),
    /// The policy is right, but its classifier, cache or signals can't be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A bug: reading or building it panicked.
    #[error("the policy cannot be put in force: {0}")]
    Panicked(tokio::task::JoinError),
}

impl PolicyFile {
    /// Reads and checks the policy; may block on the disk.
    pub fn load(&self) -> Result<Policy, LoadFailure> {
        self.load_with("")
    }

    /// Reads and checks the policy, with the manifests of the objects that it may leave models and decisions to.
    pub fn load_with(&self, objects: &str) -> Result<Policy, LoadFailure> {
        self.load_in(&*self.environment, objects)
    }

    /// Whether the file leaves models and decisions to objects of Kubernetes; may block on the disk.
    pub fn leaves_routing(&self) -> bool {
        let text = self.environment.read(&self.path).ok().and_then(|bytes| policy::decode(bytes).ok());
        text.is_some_and(|text| leaves_routing(&text))
    }

    fn load_in(&self, environment: &dyn Environment, objects: &str) -> Result<Policy, LoadFailure> {
        let unreadable = |source| LoadFailure::Unreadable { path: self.path.clone(), source };
        let bytes = environment.read(&self.path).map_err(unreadable)?;
        let invalid = |issues| LoadFailure::Invalid { path: self.path.clone(), issues };
        let text = policy::decode(bytes).map_err(invalid)?;
        let base = self.path.parent().unwrap_or(Path::new("."));
        let beside = |name: &str| {
            let bytes = environment.read(&base.join(name)).ok()?;
            policy::decode(bytes).ok()
        };
        let context = ImportContext { objects, read: &beside };
        let text = native(&self.path.display().to_string(), &text, &context)?;
        policy::load_with(&text, base, environment, &classify::inspect).map_err(invalid)
    }

    /// The policy's own file and those that the policy in force names.
    fn watched(&self, policy: &Policy) -> BTreeSet<PathBuf> {
        std::iter::once(self.path.clone()).chain(policy.files().iter().cloned()).collect()
    }
}

/// An environment that records which files are read: a refused policy does not say which files it waits for.
struct RecordingEnvironment {
    inner: Arc<dyn Environment + Send + Sync>,
    read: Mutex<BTreeSet<PathBuf>>,
}

impl Environment for RecordingEnvironment {
    fn var(&self, name: &str) -> Option<String> {
        self.inner.var(name)
    }

    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
        self.inner.read(path)
    }
}

/// Keeps the live snapshot in step with the policy's files.
pub struct Reloader {
    file: PolicyFile,
    live: Arc<Live>,
    metrics: Arc<Metrics>,
    /// Why the last reload changed nothing, for the operator's API.
    fault: Arc<RwLock<Option<String>>>,
    kube: Arc<KubeSources>,
}

impl Reloader {
    /// Makes a reloader, which writes to `fault` why a policy was refused.
    pub fn new(
        file: PolicyFile,
        live: Arc<Live>,
        metrics: Arc<Metrics>,
        fault: Arc<RwLock<Option<String>>>,
        kube: Arc<KubeSources>,
    ) -> Self {
        Self { file, live, metrics, fault, kube }
    }

    /// Reloads for ever, at every change of the policy's files and of the objects that these leave decisions to.
    pub async fn run(self, mut objects: RoutingObjectWatches) {
        let mut files = Vec::from_iter(self.file.watched(&self.live.load().policy));
        let mut watch = FileWatch::new(&files);
        let mut hangups = signal(SignalKind::hangup()).ok();
        // Nothing is known of what changed between the first load and the watch: the first look always differs.
        let mut known = None;
        loop {
            let now = Some(Contents::of(&files));
            // A policy refused for a file that is missing is tried again when that file may have come.
            if known == now && self.fault().is_none() {
                tokio::select! {
                    () = watch.changed() => continue,
                    () = objects.changed() => {}
                    // Asked for, so whatever the files' contents.
                    () = hangup(&mut hangups) => {}
                }
            }
            known = now;
            let read = self.reload(&mut objects).await;
            let named = self.file.watched(&self.live.load().policy);
            files = named.union(&read).cloned().collect();
            watch.follow(&files);
            if self.fault().is_some() {
                tokio::select! {
                    () = watch.changed() => {}
                    () = objects.changed() => {}
                    () = hangup(&mut hangups) => {}
                }
            }
        }
    }

    /// Loads the policy and puts it in force; returns the files that were read.
    async fn reload(&self, objects: &mut RoutingObjectWatches) -> BTreeSet<PathBuf> {
        let file = self.file.clone();
        let asked = file.clone();
        let leaves_routing = tokio::task::spawn_blocking(move || asked.leaves_routing()).await;
        let manifests = match objects.manifests(leaves_routing.unwrap_or(false)).await {
            Ok(manifests) => manifests,
            Err(failure) => {
                self.conclude(Err(failure.into()));
                return BTreeSet::new();
            }
        };
        // Weights and files are read off the request threads.
        let loading = tokio::task::spawn_blocking(move || {
            let recording =
                RecordingEnvironment { inner: Arc::clone(&file.environment), read: Mutex::default() };
            let loaded = file.load_in(&recording, &manifests);
            (loaded, recording.read.into_inner().unwrap_or_else(PoisonError::into_inner))
        });
        let (loaded, read) = match loading.await {
            Ok(done) => done,
            Err(panic) => (Err(LoadFailure::Panicked(panic)), BTreeSet::new()),
        };
        match loaded {
            Ok(policy) if policy == **self.live.load().layers.file() => self.set_fault(None),
            Ok(policy) => self.conclude(self.publish(policy).await),
            Err(failure) => self.conclude(Err(failure)),
        }
        read
    }

    fn conclude(&self, outcome: Result<u64, LoadFailure>) {
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
        self.set_fault(fault);
    }

    async fn publish(&self, policy: Policy) -> Result<u64, LoadFailure> {
        let policy = Arc::new(policy);
        let current = self.live.load();
        let wanted = current.layers.with_file(Arc::clone(&policy));
        let found = discover_new(wanted.policy(), &current.slots, &self.kube).await;
        drop(current);
        let live = Arc::clone(&self.live);
        let built = tokio::task::spawn_blocking(move || {
            live.update(|current| {
                let mut slots = EndpointSlots::clone(&current.slots);
                slots.add_new(found);
                let layers = current.layers.with_file(policy);
                slots.retain(layers.policy());
                Snapshot::build(layers, slots, Some(current)).map(Some)
            })?;
            Ok(live.load().generation)
        });
        built.await.unwrap_or_else(|panic| Err(LoadFailure::Panicked(panic)))
    }

    fn fault(&self) -> Option<String> {
        self.fault.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_fault(&self, fault: Option<String>) {
        *self.fault.write().unwrap_or_else(PoisonError::into_inner) = fault;
    }
}

/// Waits for `SIGHUP`, by which operators ask daemons to read their files again.
async fn hangup(hangups: &mut Option<Signal>) {
    match hangups {
        Some(hangups) => {
            hangups.recv().await;
            tracing::info!("SIGHUP: the policy is read again");
        }
        None => std::future::pending().await,
    }
}
