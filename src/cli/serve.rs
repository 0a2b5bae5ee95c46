//! Owns `signalbox serve`: the gateway in production.

use super::{Failure, say, say_meanwhile};
use crate::control::PolicyFile;
use crate::policy::{self, Process, ServerSpec};
use crate::server::{self, Bound, Setup};
use crate::telemetry::{AccessLog, FlushGuard, LogStreams, ProcessLog};
use clap::Args;
use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::panic::PanicHookInfo;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tracing_subscriber::fmt::format::{Format, Json, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

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
    /// Be the controller of Gateways and send requests by their routes, as `gateway_api: {}` in the server file says.
    #[arg(long)]
    gateway_api: bool,
    /// Take the listeners over from the running process, which is then sent SIGQUIT.
    #[arg(long)]
    upgrade: bool,
}

/// Addresses that replace those of the server file.
#[derive(Debug, Args)]
pub(super) struct AddressArgs {
    /// Listen here instead of where the server file says; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listen_address)]
    pub(super) listen: Option<SocketAddr>,
    /// Serve health, readiness and metrics here; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listen_address)]
    pub(super) admin: Option<SocketAddr>,
}

impl ServeArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let spec = match &self.server {
            Some(path) => server_file(path)?,
            None => default_server()?,
        };
        let mut spec = self.addresses.replace(spec);
        if self.gateway_api {
            spec.gateway_api.get_or_insert_default();
        }
        let pid_file = spec.upgrade.pid_file.clone();
        let (logs, _flushed_on_drop) = start_logging(&spec)?;
        let policy = PolicyFile { path: self.policy, environment: Arc::new(Process) };
        let setup = Setup { policy, spec, logs, upgrade: self.upgrade };
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
            spec.listeners = vec![policy::Listener { address: listen, public_port: None, tls: None }];
        }
        if let Some(admin) = self.admin {
            spec.admin = admin;
        }
        spec
    }
}

fn listen_address(text: &str) -> Result<SocketAddr, &'static str> {
    policy::parse_listen_address(text)
        .ok_or("write `address:port`, such as `127.0.0.1:8080`, or `:8080` for all addresses")
}

/// Reads a server file.
pub(super) fn server_file(path: &Path) -> Result<policy::ServerSpec, Failure> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let base = path.parent().unwrap_or(Path::new("."));
    let spec = policy::decode(bytes).and_then(|text| policy::load_server(&text, base, &Process));
    spec.map_err(|issues| {
        format!("{} has {} issue(s):\n{}", path.display(), issues.0.len(), issues.with_excerpts()).into()
    })
}

/// The defaults of the server file.
pub(super) fn default_server() -> Result<ServerSpec, Failure> {
    Ok(policy::load_server("{}", Path::new("."), &Process)?)
}

/// Starts the process's log on standard error and the requests' lines on standard output; both are best effort.
pub(super) fn start_logging(spec: &ServerSpec) -> Result<(LogStreams, Vec<FlushGuard>), Failure> {
    let (process, flush) = ProcessLog::start(unbuffered(std::io::stderr())?)?;
    let mut guards = vec![flush];
    follow_events(spec, process.clone())?;
    std::panic::set_hook(Box::new(log_panic));
    let access = if spec.log.access {
        let (access, flush) = AccessLog::start(unbuffered(std::io::stdout())?)?;
        guards.push(flush);
        access
    } else {
        AccessLog::Off
    };
    Ok((LogStreams { access, process }, guards))
}

/// The stream itself: the standard library's would be locked by a writer that waits, and flushed at the end.
fn unbuffered(stream: impl AsFd) -> std::io::Result<File> {
    Ok(File::from(stream.as_fd().try_clone_to_owned()?))
}

/// Sends the process's events to its log.
fn follow_events(spec: &ServerSpec, log: ProcessLog) -> Result<(), Failure> {
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;
    use tracing_subscriber::{EnvFilter, filter, fmt};
    let default = format!("{},pingora=warn,pingora_core=warn,pingora_proxy=error", spec.log.level.as_str());
    let wanted = EnvFilter::try_from_default_env().unwrap_or_else(|_unset| EnvFilter::new(default));
    // Below that, libraries print whole headers: the operator's keys, and the clients'.
    let capped = filter::filter_fn(|event| {
        event.target().starts_with(env!("CARGO_CRATE_NAME")) || *event.level() <= tracing::Level::INFO
    });
    let lines = fmt::layer().fmt_fields(JsonFields::new()).log_internal_errors(false);
    let lines = lines.event_format(EventLine(fmt::format().json().flatten_event(true)));
    let lines = lines.with_writer(move || log.clone());
    tracing_subscriber::registry().with(wanted).with(capped).with(lines).try_init()?;
    Ok(())
}

/// An event as a line of JSON whose time has the key that the access log's lines have too.
struct EventLine(Format<Json>);

impl<S, N> FormatEvent<S, N> for EventLine
where
    Format<Json>: FormatEvent<S, N>,
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> std::fmt::Result {
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        match line.strip_prefix(r#"{"timestamp":"#) {
            Some(rest) => write!(writer, r#"{{"ts":{rest}"#),
            None => writer.write_str(&line),
        }
    }
}

/// Logs a panic where the default would print it, and wait for a reader.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    // A message that was put together may quote a request.
    let message = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or_default();
    tracing::error!(place, message, "a thread panicked");
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
    let line = format!(
        "{{\"event\":\"listening\",\"listeners\":[{}],\"admin\":\"{}\"}}",
        listeners.iter().map(|address| format!("\"{address}\"")).collect::<Vec<_>>().join(","),
        bound.admin
    );
    say_meanwhile(move || say(&line));
}
