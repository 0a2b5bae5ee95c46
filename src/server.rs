//! Owns the assembly of the process: from a checked configuration to one that serves, drains and ends.
//!
//! Knows what exists and in which order it starts; the work is done elsewhere.

mod listen;
mod shutdown;

use crate::control::{
    Admin, DnsRefresh, LoadFailure, PolicyFile, Prober, Reloader, discover_new, persist_response_cache,
    save_response_cache,
};
use crate::policy::{self, ServerSpec};
use crate::proxy::Gateway;
use crate::server_state::ServerState;
use crate::snapshot::{EndpointSlots, Live, Snapshot};
use crate::telemetry::{AccessLog, Metrics};
use listen::{ListenerCertificate, ReservedAddress};
use pingora::apps::HttpServerOptions;
use pingora::prelude::{Opt, Server};
use pingora::server::RunArgs;
use pingora::server::configuration::ServerConf;
use pingora::services::background::background_service;
use shutdown::{GracefulShutdown, ShutdownSignals};
use socket2::Socket;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, RwLock, mpsc};
use std::time::Duration;
use tokio::sync::Notify;

/// What a server process is made of.
pub struct Setup {
    /// The policy, followed while the process runs.
    pub policy: PolicyFile,
    /// Listeners and limits.
    pub spec: ServerSpec,
    /// The access log.
    pub access_log: AccessLog,
    /// Whether to take the listeners over from a running process.
    pub upgrade: bool,
}

/// Why a server process cannot start.
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
        /// The system's error.
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
    /// The admin listener.
    pub admin: SocketAddr,
}

/// Serves until a signal ends the process; `announce` is called once, when clients can connect.
pub fn run(setup: &Setup, announce: impl FnOnce(&Bound)) -> Result<(), ServeError> {
    // Another part of the process may have installed the same provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()?;
    let live = control.block_on(first_snapshot(&setup.policy))?;
    let server_state = ServerState::new(setup.spec.limits.max_buffered_bytes);
    let metrics = Arc::new(Metrics::new());
    let fault = Arc::new(RwLock::new(None));

    let (admin_socket, reserved) = reserve_addresses(setup)?;
    let admin_address = admin_socket.local_addr()?.as_socket().unwrap_or(setup.spec.admin);

    control.spawn(DnsRefresh::new(Arc::clone(&live)).run());
    let listeners = setup.spec.addresses();
    for warning in policy::warnings(&live.load().policy, &listeners) {
        tracing::warn!(warning, "the policy may not do what is expected of it");
    }
    let admin = Admin {
        live: Arc::clone(&live),
        listeners: listeners.into(),
        metrics: Arc::clone(&metrics),
        server_state: Arc::clone(&server_state),
        fault: Arc::clone(&fault),
    };
    let reloader = Reloader::new(setup.policy.clone(), Arc::clone(&live), Arc::clone(&metrics), fault);
    control.spawn(reloader.run());

    let gateway = Gateway::new(
        Arc::clone(&live),
        metrics,
        Arc::clone(&server_state),
        setup.spec.limits,
        setup.access_log.clone(),
    );
    control.spawn(persist_response_cache(Arc::clone(&live)));
    control.spawn(Prober::new(Arc::clone(&live), Arc::new(gateway.peer_of())).run());
    let (done, ended) = mpsc::channel();
    let handed_over = Arc::new(Notify::new());
    let shutdown = GracefulShutdown::new(
        Arc::clone(&server_state),
        setup.spec.drain.timeout,
        Arc::clone(&handed_over),
        done.clone(),
    );
    let server = assemble(setup, gateway, shutdown, &reserved, &control)?;
    let signals = ShutdownSignals::new(Arc::clone(&server_state), setup.spec.drain.delay);
    std::thread::Builder::new().name("server".to_owned()).spawn(move || {
        server.run(RunArgs { shutdown_signal: Box::new(signals) });
        // The receiver is gone if the graceful shutdown was quicker.
        let _ = done.send(());
    })?;

    let bound =
        Bound { listeners: reserved.iter().map(ReservedAddress::address).collect(), admin: admin_address };
    control.block_on(listen::until_reachable(&bound.listeners));
    // The admin port reports ready, so it opens last; a predecessor answers there until then.
    let admin_listener = control
        .block_on(async { listen::listen(admin_socket) })
        .map_err(|source| ServeError::Listen { address: admin_address, source })?;
    control.spawn(admin.serve(admin_listener, handed_over));
    drop(reserved);
    announce(&bound);
    // Each sender sends before it is dropped: the server's thread, or the graceful shutdown.
    let _ = ended.recv();
    save_response_cache(&live);
    control.shutdown_timeout(Duration::from_millis(100));
    Ok(())
}

/// Reserves the addresses of the admin port and the listeners; each must be free unless it is handed over.
fn reserve_addresses(setup: &Setup) -> Result<(Socket, Vec<ReservedAddress>), ServeError> {
    let listening = |address| move |source| ServeError::Listen { address, source };
    let free = |address| if setup.upgrade { Ok(()) } else { listen::ensure_free(address) };
    let address = setup.spec.admin;
    let admin = free(address).and_then(|()| listen::reusable(address)).map_err(listening(address))?;
    let addresses = setup.spec.listeners.iter().map(|listener| listener.address);
    let reserve =
        |address| free(address).and_then(|()| ReservedAddress::new(address)).map_err(listening(address));
    Ok((admin, addresses.map(reserve).collect::<Result<_, _>>()?))
}

async fn first_snapshot(policy: &PolicyFile) -> Result<Arc<Live>, ServeError> {
    let policy = Arc::new(policy.load()?);
    let slots = discover_new(&policy, &EndpointSlots::default()).await;
    let first = Snapshot::build(policy, slots, None).map_err(LoadFailure::Build)?;
    Ok(Live::new(first))
}

fn assemble(
    setup: &Setup,
    gateway: Gateway,
    shutdown: GracefulShutdown,
    reserved: &[ReservedAddress],
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
                let certificate = ListenerCertificate::load(tls)?;
                reserved.add_tls(&mut proxy, Arc::clone(&certificate))?;
                control.spawn(certificate.follow());
            }
        }
    }
    server.add_service(proxy);
    server.add_service(background_service("graceful shutdown", shutdown));
    Ok(server)
}

/// With the default windows a request body of 10 MiB waits for a window update every 64 KiB.
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
        upgrade_sock: spec.upgrade.socket.to_string_lossy().into_owned(),
        // The graceful shutdown ends the process earlier, as soon as nothing is in flight.
        grace_period_seconds: Some(spec.drain.timeout.as_secs() + 5),
        graceful_shutdown_timeout_seconds: Some(1),
        upstream_keepalive_pool_size: 1024,
        // The policy bounds the attempts; this limit only has to be higher.
        max_retries: 32,
        ..ServerConf::default()
    }
}
