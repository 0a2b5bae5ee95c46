//! Owns the assembly: from a checked configuration to a process that serves, drains and ends.
//!
//! Knows what exists and in which order it starts; does nothing of it itself.

mod listen;
mod shutdown;

use crate::control::{
    Admin, LoadFailure, PolicyFile, Prober, Reloader, Resolver, keep_answers, resolve_all, save_answers,
};
use crate::metrics::Metrics;
use crate::policy::ServerSpec;
use crate::proxy::{AccessLog, Gateway};
use crate::snapshot::{Addresses, Live, Snapshot};
use crate::vitals::Vitals;
use listen::{Certificate, Reserved};
use pingora::apps::HttpServerOptions;
use pingora::prelude::{Opt, Server};
use pingora::server::RunArgs;
use pingora::server::configuration::ServerConf;
use pingora::services::background::background_service;
use shutdown::{Farewell, Signals};
use socket2::Socket;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, RwLock, mpsc};
use std::time::Duration;
use tokio::sync::Notify;

/// What a process is made of.
pub struct Setup {
    /// The policy, followed while the process runs.
    pub policy: PolicyFile,
    /// Listeners and limits.
    pub spec: ServerSpec,
    /// Where each request's line goes.
    pub access_log: AccessLog,
    /// Whether to take the listeners over from a running process.
    pub upgrade: bool,
}

/// Why a process does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The policy is wrong or cannot be built.
    #[error(transparent)]
    Policy(#[from] LoadFailure),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// A listener's certificate is unusable.
    #[error("certificate {file}: {reason}")]
    Certificate {
        /// The certificate's file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system gives no threads.
    #[error("cannot start: {0}")]
    Runtime(#[from] std::io::Error),
}

/// The addresses that a process listens on, with the ports that were chosen.
#[derive(Debug, Clone)]
pub struct Bound {
    /// Where clients connect, in the order of the configuration.
    pub listeners: Vec<SocketAddr>,
    /// Where the operator asks.
    pub admin: SocketAddr,
}

/// Serves until the process is told to end; `announce` hears once when clients can connect.
pub fn run(setup: &Setup, announce: impl FnOnce(&Bound)) -> Result<(), ServeError> {
    // Whoever installed one first chose the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()?;
    let live = control.block_on(first_snapshot(&setup.policy))?;
    let vitals = Vitals::new(setup.spec.limits.max_buffered_bytes);
    let metrics = Arc::new(Metrics::new());
    let fault = Arc::new(RwLock::new(None));

    let (admin_socket, reserved) = claim(setup)?;
    let admin_address = admin_socket.local_addr()?.as_socket().unwrap_or(setup.spec.admin);

    control.spawn(Resolver::new(Arc::clone(&live)).run());
    let admin = Admin {
        live: Arc::clone(&live),
        metrics: Arc::clone(&metrics),
        vitals: Arc::clone(&vitals),
        fault: Arc::clone(&fault),
    };
    let reloader = Reloader::new(setup.policy.clone(), Arc::clone(&live), Arc::clone(&metrics), fault);
    control.spawn(reloader.run());

    let gateway = Gateway::new(
        Arc::clone(&live),
        metrics,
        Arc::clone(&vitals),
        setup.spec.limits,
        setup.access_log.clone(),
    );
    control.spawn(keep_answers(Arc::clone(&live)));
    control.spawn(Prober::new(Arc::clone(&live), Arc::new(gateway.peer_of())).run());
    let (done, ended) = mpsc::channel();
    let handed_over = Arc::new(Notify::new());
    let farewell =
        Farewell::new(Arc::clone(&vitals), setup.spec.drain_timeout, Arc::clone(&handed_over), done.clone());
    let server = assemble(setup, gateway, farewell, &reserved, &control)?;
    let signals = Signals::new(Arc::clone(&vitals), setup.spec.drain_delay);
    std::thread::Builder::new().name("server".to_owned()).spawn(move || {
        server.run(RunArgs { shutdown_signal: Box::new(signals) });
        // Nobody listens any more if the farewell was quicker.
        let _ = done.send(());
    })?;

    let bound = Bound { listeners: reserved.iter().map(Reserved::address).collect(), admin: admin_address };
    control.block_on(listen::until_reachable(&bound.listeners));
    // Ready is what the operator's port says, so it opens last; a predecessor answers there until then.
    let admin_listener = control
        .block_on(async { listen::listen(admin_socket) })
        .map_err(|source| ServeError::Listen { address: admin_address, source })?;
    control.spawn(admin.serve(admin_listener, handed_over));
    drop(reserved);
    announce(&bound);
    // The sender lives in the server's thread: either it or the farewell speaks before both are gone.
    let _ = ended.recv();
    save_answers(&live);
    control.shutdown_timeout(Duration::from_millis(100));
    Ok(())
}

/// Takes the operator's port and the listeners' addresses, each of which must be free unless it is handed over.
fn claim(setup: &Setup) -> Result<(Socket, Vec<Reserved>), ServeError> {
    let listening = |address| move |source| ServeError::Listen { address, source };
    let free = |address| if setup.upgrade { Ok(()) } else { listen::ensure_free(address) };
    let address = setup.spec.admin;
    let admin = free(address).and_then(|()| listen::reusable(address)).map_err(listening(address))?;
    let addresses = setup.spec.listeners.iter().map(|listener| listener.address);
    let reserve = |address| free(address).and_then(|()| Reserved::new(address)).map_err(listening(address));
    Ok((admin, addresses.map(reserve).collect::<Result<_, _>>()?))
}

async fn first_snapshot(policy: &PolicyFile) -> Result<Arc<Live>, ServeError> {
    let policy = Arc::new(policy.load()?);
    let addresses = Arc::new(resolve_all(&policy, &Addresses::new()).await);
    let first = Snapshot::build(policy, addresses, None).map_err(LoadFailure::Build)?;
    Ok(Live::new(first))
}

fn assemble(
    setup: &Setup,
    gateway: Gateway,
    farewell: Farewell,
    reserved: &[Reserved],
    control: &tokio::runtime::Runtime,
) -> Result<Server, ServeError> {
    let spec = &setup.spec;
    let options = Opt { upgrade: setup.upgrade, ..Opt::default() };
    let mut server = Server::new_with_opt_and_conf(options, configuration(spec));
    server.bootstrap();
    let mut proxy = pingora_proxy::http_proxy_service(&server.configuration, gateway);
    if let Some(app) = proxy.app_logic_mut() {
        let mut options = HttpServerOptions::default();
        options.h2c = true;
        options.h2_idle_timeout = Some(spec.limits.idle_timeout);
        app.server_options = Some(options);
        app.h2_options = Some(h2_options());
    }
    for (listener, reserved) in spec.listeners.iter().zip(reserved) {
        match &listener.tls {
            None => reserved.add_plain(&mut proxy),
            Some(tls) => {
                let certificate = Certificate::load(tls)?;
                reserved.add_tls(&mut proxy, Arc::clone(&certificate))?;
                control.spawn(certificate.follow());
            }
        }
    }
    server.add_service(proxy);
    server.add_service(background_service("farewell", farewell));
    Ok(server)
}

/// A request body of 10 MiB should not wait for window updates every 64 KiB.
fn h2_options() -> pingora::protocols::http::v2::server::H2Options {
    let mut options = pingora::protocols::http::v2::server::default_h2_options();
    options.initial_window_size(1 << 20).initial_connection_window_size(8 << 20);
    options
}

fn configuration(spec: &ServerSpec) -> ServerConf {
    let threads = match spec.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    ServerConf {
        threads,
        work_stealing: true,
        upgrade_sock: spec.upgrade_socket.to_string_lossy().into_owned(),
        // The farewell ends the process earlier, as soon as nothing is in flight.
        grace_period_seconds: Some(spec.drain_timeout.as_secs() + 5),
        graceful_shutdown_timeout_seconds: Some(1),
        upstream_keepalive_pool_size: 1024,
        // The exchange bounds the attempts by the policy; this only has to be out of its way.
        max_retries: 32,
        ..ServerConf::default()
    }
}
