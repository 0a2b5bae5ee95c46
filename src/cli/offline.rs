//! Owns what `explain` and `eval` have in common: a policy and its classifier outside of any server, and a bar that
//! tells how far a file is.

use super::Failure;
use super::demo::QUICKSTART;
use crate::classify::{Classifier, Spec};
use crate::control::PolicyFile;
use crate::policy::{Environment, Fixed, Policy, Process};
use crate::snapshot::{Addresses, Snapshot, classifier_spec};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What stands for the policy where none is named.
const SHIPPED: &str = "conf/quickstart.yaml";

/// Which policy is tried, and how patiently.
#[derive(Debug, Args)]
pub(super) struct TrialArgs {
    /// The policy; conf/quickstart.yaml, as it was when this binary was built, when none is given.
    #[arg(long, value_name = "FILE", env = "SIGNALBOX_POLICY")]
    policy: Option<PathBuf>,
    /// How long each answer may take, such as 500ms, so that a slow machine does not hide what the model knows.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = humantime::parse_duration)]
    deadline: Duration,
}

/// A policy as it would be live, with its classifier; nothing is connected to.
pub(super) struct Trial {
    /// The policy and all it needs.
    pub(super) live: Snapshot,
    patience: Duration,
}

impl TrialArgs {
    /// Reads and checks the policy, and loads its classifier, which `change` may make another one.
    pub(super) fn load(self, change: impl FnOnce(&mut Spec)) -> Result<Trial, Failure> {
        warn_on_standard_error()?;
        let environment: Arc<dyn Environment + Send + Sync> = match self.policy {
            Some(_) => Arc::new(Process),
            None => Arc::new(Fixed {
                files: HashMap::from([(PathBuf::from(SHIPPED), QUICKSTART.into())]),
                ..Fixed::default()
            }),
        };
        let path = self.policy.unwrap_or_else(|| SHIPPED.into());
        let policy = PolicyFile { path, environment }.load()?;
        let mut spec = classifier_spec(&policy);
        change(&mut spec);
        let classifier =
            Classifier::load(&spec).map_err(|error| format!("the classifier cannot be loaded: {error}"))?;
        let addresses = Arc::new(taken_for_reachable(&policy));
        let live = Snapshot::around(Arc::new(classifier), Arc::new(policy), addresses, None)?;
        Ok(Trial { live, patience: self.deadline })
    }
}

/// An address for every endpoint: where a request would go is shown as if all could be reached.
fn taken_for_reachable(policy: &Policy) -> Addresses {
    let endpoints = policy.pools.iter().flat_map(|pool| &pool.endpoints);
    let address = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    endpoints.map(|one| ((one.host.clone(), one.port), vec![address(one.port)])).collect()
}

impl Trial {
    /// When an answer to what is asked now is too late.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.patience
    }
}

/// What goes less well than it was asked for, such as a device that is missing, is said beside the answer.
fn warn_on_standard_error() -> Result<(), Failure> {
    let log = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).without_time();
    log.with_target(false).with_writer(std::io::stderr).try_init()
}

/// The threads that a command asks the classifier from; the classifier has its own.
pub(super) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_time().build()
}

/// A bar on standard error over `length` items; none for one item, or where nobody looks.
pub(super) fn bar(length: usize) -> ProgressBar {
    if length < 2 || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(length as u64), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {per_sec} {eta} left");
    bar.with_style(style.unwrap_or_else(|_fixed| ProgressStyle::default_bar()))
}

/// Writes a line to standard output; `false` when nobody reads any further.
pub(super) fn is_heard(text: &str) -> Result<bool, Failure> {
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}
