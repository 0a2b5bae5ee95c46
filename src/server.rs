//! Owns the assembly of the process: from a checked configuration to one that serves, drains and ends.
//!
//! Knows what exists and in which order it starts; the work is done elsewhere.

mod admin_port;
mod client_app;
mod client_stream;
mod framing;
mod head;
mod limits;
mod listen;
mod shutdown;
mod upgrade;

use crate::control::{
    Admin, DnsRefresh, EngineClient, GatewayController, KubeSources, KvListener, LoadFailure, PeerOf,
    PolicyFile, Prober, Reloader, RoutingObjectWatches, Scraper, discover_new, persist_response_cache,
    save_response_cache,
};
use crate::policy::{self, Environment, Process, ServerSpec};
use crate::proxy::{Gateway, PublicPort, PublicPorts, WatchedProxy};
use crate::server_state::ServerState;
use crate::snapshot::{EndpointSlots, Live, PolicyLayers, Snapshot};
use crate::telemetry::{LogStreams, Metrics};
use admin_port::AdminPort;
use client_app::{ClientApp, REFUSED_AT_A_TIME};
use client_stream::HeaderLimits;
use listen::{ListenerCertificate, ReservedAddress};
use pingora::apps::HttpServerOptions;
use pingora::prelude::{Opt, Server};
use pingora::server::RunArgs;
use pingora::server::configuration::ServerConf;
use pingora::services::background::background_service;
use pingora::services::listening::Service;
use shutdown::{GracefulShutdown, ShutdownSignals};
use socket2::Socket;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, RwLock, mpsc};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};

/// What a server process is made of.
pub struct Setup {
    /// The policy, followed while the process runs.
    pub policy: PolicyFile,
    /// Listeners and limits.
    pub spec: ServerSpec,
    /// What is printed meanwhile.
    pub logs: LogStreams,
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
    /// The listeners cannot be taken over safely.
    #[error("upgrade socket {socket}: {reason}")]
    Upgrade {
        /// The socket's file.
        socket: PathBuf,
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
    let kube = Arc::new(KubeSources::default());
    let mut objects = RoutingObjectWatches::new(Arc::clone(&kube));
    let live = control.block_on(first_snapshot(setup, &kube, &mut objects))?;
    let limits = &setup.spec.limits;
    let server_state = ServerState::new(limits, limits::connections(limits));
    let metrics = Arc::new(Metrics::new());
    let fault = Arc::new(RwLock::new(None));

    let (admin_socket, reserved) = reserve_addresses(setup)?;
    let admin_address = admin_socket.local_addr()?.as_socket().unwrap_or(setup.spec.admin);

    control.spawn(DnsRefresh::new(Arc::clone(&live)).run());
    control.spawn(Arc::clone(&kube).run(Arc::clone(&live)));
    let listeners = setup.spec.addresses();
    for warning in policy::warnings(&live.load().policy, &listeners) {
        tracing::warn!(warning, "the policy may not do what is expected of it");
    }
    let ports = public_ports(&setup.spec, &reserved);
    let controller = setup.spec.gateway_api.clone().map(|spec| {
        let known = ports.values().map(|port| (port.number, port.is_tls)).collect();
        GatewayController::new(spec, known, replica_name(), Arc::clone(&kube), Arc::clone(&live))
    });
    let routes = controller.as_ref().map(GatewayController::state);
    if let Some(controller) = controller {
        control.spawn(controller.run());
    }
    let reloader = Reloader::new(
        setup.policy.clone(),
        Arc::clone(&live),
        Arc::clone(&metrics),
        Arc::clone(&fault),
        Arc::clone(&kube),
    );
    control.spawn(reloader.run(objects));

    let gateway = Gateway::new(
        Arc::clone(&live),
        Arc::clone(&metrics),
        Arc::clone(&server_state),
        setup.spec.limits,
        setup.logs.access.clone(),
    )
    .with_cors(setup.spec.cors.clone())
    .with_ports(setup.spec.gateway_api.is_some().then_some(ports));
    control.spawn(persist_response_cache(Arc::clone(&live)));
    let peer_of: PeerOf = Arc::new(gateway.peer_of());
    let admin = Admin {
        live: Arc::clone(&live),
        listeners: listeners.into(),
        metrics: Arc::clone(&metrics),
        server_state: Arc::clone(&server_state),
        logs: setup.logs.clone(),
        fault: Arc::clone(&fault),
        kube: Arc::clone(&kube),
        routes,
        engines: EngineClient::new(Arc::clone(&peer_of)),
    };
    control.spawn(Prober::new(Arc::clone(&live), Arc::clone(&peer_of)).run());
    control.spawn(KvListener::new(Arc::clone(&live), Arc::clone(&peer_of), Arc::clone(&metrics)).run());
    control.spawn(Scraper::new(Arc::clone(&live), peer_of, metrics).run());
    let (done, ended) = mpsc::channel();
    let handed_over = Arc::new(Notify::new());
    let shutdown = GracefulShutdown::new(
        Arc::clone(&server_state),
        setup.spec.drain.timeout,
        Arc::clone(&handed_over),
        done.clone(),
    );
    let app = client_app(setup, gateway, &live, &server_state);
    let server = assemble(setup, app, shutdown, &reserved, &control)?;
    let signals = ShutdownSignals::new(Arc::clone(&server_state), &setup.spec);
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
    let admin_port = AdminPort::new(admin_listener, limits);
    control.spawn(admin.serve(admin_port, handed_over));
    drop(reserved);
    announce(&bound);
    // Each sender sends before it is dropped: the server's thread, or the graceful shutdown.
    let _ = ended.recv();
    save_response_cache(&live);
    control.shutdown_timeout(Duration::from_millis(100));
    Ok(())
}

/// The listeners by their own ports, as routes know them.
fn public_ports(spec: &ServerSpec, reserved: &[ReservedAddress]) -> PublicPorts {
    let listeners = spec.listeners.iter().zip(reserved);
    let port = |(listener, reserved): (&policy::Listener, &ReservedAddress)| {
        let own = reserved.address().port();
        let number = listener.public_port.unwrap_or(own);
        (own, PublicPort { number, is_tls: listener.tls.is_some() })
    };
    listeners.map(port).collect()
}

/// Names this process among its replicas: by its pod, and apart from the one before it there.
fn replica_name() -> String {
    let pod = Process.var("HOSTNAME").filter(|name| !name.is_empty());
    format!("{}_{:08x}", pod.as_deref().unwrap_or("signalbox"), rand::random::<u32>())
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

async fn first_snapshot(
    setup: &Setup,
    kube: &KubeSources,
    objects: &mut RoutingObjectWatches,
) -> Result<Arc<Live>, ServeError> {
    let manifests = objects.manifests(setup.policy.leaves_routing()).await.map_err(LoadFailure::from)?;
    let mut layers = PolicyLayers::from(Arc::new(setup.policy.load_with(&manifests)?));
    if setup.spec.gateway_api.is_some() {
        // Until routes are known, a request matches none.
        layers = layers.with_traffic(Arc::default());
    }
    let slots = discover_new(layers.policy(), &EndpointSlots::default(), kube).await;
    let first = Snapshot::build(layers, slots, None).map_err(LoadFailure::Build)?;
    Ok(Live::new(first))
}

fn assemble(
    setup: &Setup,
    mut app: ClientApp,
    shutdown: GracefulShutdown,
    reserved: &[ReservedAddress],
    control: &tokio::runtime::Runtime,
) -> Result<Server, ServeError> {
    let spec = &setup.spec;
    let socket = upgrade::socket(&spec.upgrade.socket, setup.upgrade)?;
    let options = Opt { upgrade: setup.upgrade, ..Opt::default() };
    let mut server = Server::new_with_opt_and_conf(options, configuration(spec));
    server.bootstrap();
    drop(socket);
    for (listener, reserved) in spec.listeners.iter().zip(reserved) {
        if let Some(tls) = &listener.tls {
            let port = listener.public_port.unwrap_or(reserved.address().port());
            let certificate = ListenerCertificate::load(tls, port, Arc::clone(&app.live))?;
            app.acceptors.push((reserved.address(), certificate.acceptor()?));
            control.spawn(certificate.follow());
        }
    }
    let mut service = Service::new("clients".to_owned(), app);
    for (listener, reserved) in spec.listeners.iter().zip(reserved) {
        service.add_listener(reserved.config(listener.tls.is_some()));
    }
    server.add_service(service);
    server.add_service(background_service("graceful shutdown", shutdown));
    Ok(server)
}

fn client_app(
    setup: &Setup,
    gateway: Gateway,
    live: &Arc<Live>,
    server_state: &Arc<ServerState>,
) -> ClientApp {
    let limits = &setup.spec.limits;
    let mut proxy = pingora_proxy::http_proxy(&Arc::new(configuration(&setup.spec)), gateway.clone());
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    options.h2_idle_timeout = Some(limits.idle_timeout);
    proxy.server_options = Some(options);
    proxy.h2_options = Some(h2_options(limits.max_header_bytes));
    ClientApp {
        proxy: Arc::new(WatchedProxy::new(proxy, gateway)),
        acceptors: Vec::new(),
        server_state: Arc::clone(server_state),
        live: Arc::clone(live),
        limits: HeaderLimits { bytes: limits.max_header_bytes, time: limits.header_timeout, idle: None },
        refusing: Semaphore::new(REFUSED_AT_A_TIME),
    }
}

/// With the default windows a request body of 10 MiB waits for a window update every 64 KiB.
fn h2_options(max_header_bytes: usize) -> pingora::protocols::http::v2::server::H2Options {
    let mut options = pingora::protocols::http::v2::server::default_h2_options();
    options.initial_window_size(1 << 20).initial_connection_window_size(8 << 20);
    options.max_header_list_size(u32::try_from(max_header_bytes).unwrap_or(u32::MAX));
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
        upstream_keepalive_pool_size: limits::idle_upstreams(),
        // The policy bounds the attempts; this limit only has to be higher.
        max_retries: 32,
        ..ServerConf::default()
    }
}
