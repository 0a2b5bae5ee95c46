//! Owns what `explain` and `eval` share: a policy with its classifier loaded outside of any server, output that may be
//! piped, and a progress bar.

use super::Failure;
use super::demo::QUICKSTART;
use crate::classify::Classifier;
use crate::control::PolicyFile;
use crate::policy::{ClassifierSpec, Environment, Fixed, Policy, Process};
use crate::snapshot::{EndpointSlot, EndpointSlots, EndpointSource, HostPort, Snapshot};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The policy where none is given.
const SHIPPED: &str = "conf/quickstart.yaml";

/// The policy, and how long its classifier may take.
#[derive(Debug, Args)]
pub(super) struct OfflineArgs {
    /// The policy; conf/quickstart.yaml, as it was when this binary was built, when none is given.
    #[arg(long, value_name = "FILE", env = "SIGNALBOX_POLICY")]
    policy: Option<PathBuf>,
    /// How long each answer may take, such as 500ms, so that a slow machine does not hide what the model knows.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = humantime::parse_duration)]
    deadline: Duration,
}

/// A policy as a server would have it live, with its classifier; nothing is connected to.
pub(super) struct OfflineSnapshot {
    pub(super) snapshot: Snapshot,
    timeout: Duration,
}

impl OfflineArgs {
    /// Reads and checks the policy, and loads its classifier, which `change` may make another one.
    pub(super) fn load(&self, change: impl FnOnce(&mut ClassifierSpec)) -> Result<OfflineSnapshot, Failure> {
        warn_on_standard_error()?;
        let environment: Arc<dyn Environment + Send + Sync> = match &self.policy {
            Some(_) => Arc::new(Process),
            None => Arc::new(Fixed {
                files: HashMap::from([(PathBuf::from(SHIPPED), QUICKSTART.into())]),
                ..Fixed::default()
            }),
        };
        let path = self.policy.clone().unwrap_or_else(|| SHIPPED.into());
        let policy = PolicyFile { path, environment }.load()?;
        let mut spec = policy.classifier.spec.clone();
        change(&mut spec);
        let classifier =
            Classifier::load(&spec).map_err(|error| format!("the classifier cannot be loaded: {error}"))?;
        let slots = placeholder_addresses(&policy);
        let snapshot = Snapshot::around(Arc::new(classifier), Arc::new(policy).into(), slots, None)?;
        Ok(OfflineSnapshot { snapshot, timeout: self.deadline })
    }
}

/// An address for every endpoint, so that the plan shows them all as reachable.
fn placeholder_addresses(policy: &Policy) -> EndpointSlots {
    let address = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let hosts = HostPort::all(policy).into_iter();
    let found: EndpointSlot = hosts.map(|host| (host.clone(), [address(host.port)].into())).collect();
    let mut slots = EndpointSlots::default();
    slots.refresh(EndpointSource::Static, found);
    slots
}

impl OfflineSnapshot {
    /// The deadline of a classification that starts now.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }
}

/// Logs warnings, such as that of a missing device, beside the output.
fn warn_on_standard_error() -> Result<(), Failure> {
    if tracing::dispatcher::has_been_set() {
        return Ok(());
    }
    let log = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).without_time();
    log.with_target(false).with_writer(std::io::stderr).try_init()
}

/// The runtime that calls the classifier, which has threads of its own.
pub(super) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_time().build()
}

/// A progress bar on standard error over `length` items; hidden for one item, or without a terminal.
pub(super) fn progress_bar(length: usize) -> ProgressBar {
    if length < 2 || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(length as u64), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {per_sec} {eta} left");
    bar.with_style(style.unwrap_or_else(|_fixed| ProgressStyle::default_bar()))
}

/// Writes a line to standard output; `false` when the reader has closed the pipe.
pub(super) fn print_line(text: &str) -> Result<bool, Failure> {
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}
