//! Owns the controller's life: from a change of the cluster to a new snapshot and to what is said of it.

use super::cluster::RawObjects;
use super::lease::LeaseHolder;
use super::status_writer::{StatusWriter, WantedStatuses};
use super::translate::{GatewaySettings, TranslatedCluster, translate};
use super::watches::ClusterWatches;
use crate::control::sources::{KubeSources, discover_new};
use crate::http_route::RoutedTraffic;
use crate::policy::GatewayApiSpec;
use crate::snapshot::{BuildError, EndpointSlots, Live, Snapshot};
use serde::Serialize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// How long changes are gathered: what is applied together comes together.
const GATHER: Duration = Duration::from_millis(25);

/// What is known of the routes, for operators.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RoutesState {
    /// Where what is in force comes from: `cluster`, or `nowhere` before the API server has said anything.
    pub from: RoutesOrigin,
    /// How many Gateways are ours.
    pub gateways: usize,
    /// Whether this replica writes states.
    pub writes_status: bool,
    /// Why what is known may be out of date.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
}

/// Where the routes in force come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RoutesOrigin {
    /// Nothing is known yet.
    #[default]
    Nowhere,
    /// From the API server.
    Cluster,
}

/// What the controller tells operators.
pub type SharedRoutesState = Arc<Mutex<RoutesState>>;

/// The controller of Gateways.
pub struct GatewayController {
    spec: GatewayApiSpec,
    settings: GatewaySettings,
    /// Names this replica among the others.
    identity: String,
    kube: Arc<KubeSources>,
    live: Arc<Live>,
    state: SharedRoutesState,
}

impl GatewayController {
    /// Makes a controller that has the ports that clients know, each with whether it has TLS.
    pub fn new(
        spec: GatewayApiSpec,
        ports: Vec<(u16, bool)>,
        identity: String,
        kube: Arc<KubeSources>,
        live: Arc<Live>,
    ) -> Self {
        let settings = GatewaySettings::of(&spec, ports);
        Self { spec, settings, identity, kube, live, state: SharedRoutesState::default() }
    }

    /// What operators are told.
    pub fn state(&self) -> SharedRoutesState {
        Arc::clone(&self.state)
    }

    /// Follows the cluster for ever.
    pub async fn run(self) {
        let api = self.kube.cluster();
        let lease = LeaseHolder::new(api.clone(), self.spec.lease.clone(), self.identity.clone());
        let mut holds = lease.holds();
        let (wanted, statuses) = watch::channel(Arc::new(WantedStatuses::default()));
        let writer = StatusWriter {
            api: api.clone(),
            controller: self.settings.controller.clone(),
            wanted: statuses,
            holds: lease.holds(),
        };
        tokio::spawn(lease.run());
        tokio::spawn(writer.run());
        let mut watches = ClusterWatches::start(api, &self.spec.namespaces);
        loop {
            tokio::select! {
                () = watches.changed() => tokio::time::sleep(GATHER).await,
                changed = holds.changed() => if changed.is_err() { return },
            }
            self.tell(|state| {
                state.writes_status = *holds.borrow();
                state.faults = watches
                    .faults()
                    .into_iter()
                    .map(|fault| format!("{}: {}", fault.kind, fault.fault))
                    .collect();
            });
            if !watches.is_settled() {
                continue;
            }
            let raw = Arc::new(watches.objects());
            let translated = translate(&raw, &self.settings);
            watches.follow(&translated.referred);
            if watches.is_told() {
                self.put_in_force(raw, translated, &wanted).await;
            }
        }
    }

    async fn put_in_force(
        &self,
        raw: Arc<RawObjects>,
        translated: TranslatedCluster,
        wanted: &watch::Sender<Arc<WantedStatuses>>,
    ) {
        let TranslatedCluster { traffic, statuses, gateways, .. } = translated;
        let count = gateways.len();
        match self.publish(traffic).await {
            Ok(is_new) => {
                if is_new {
                    tracing::info!(gateways = count, "routes changed with the cluster");
                }
                self.tell(|state| (state.from, state.gateways) = (RoutesOrigin::Cluster, count));
                // Said once it is so.
                wanted.send_replace(Arc::new(WantedStatuses { statuses, gateways, raw }));
            }
            Err(error) => tracing::error!(%error, "routes could not be put in force"),
        }
    }

    /// Puts what routes say in force, with the endpoints that they lead to; says whether it is new.
    async fn publish(&self, traffic: RoutedTraffic) -> Result<bool, PublishError> {
        let current = self.live.load();
        if current.layers.routed().is_some_and(|routed| *routed.traffic == traffic) {
            return Ok(false);
        }
        let traffic = Arc::new(traffic);
        let next = current.layers.with_traffic(Arc::clone(&traffic));
        let found = discover_new(next.policy(), &current.slots, &self.kube).await;
        drop(current);
        let live = Arc::clone(&self.live);
        let built = tokio::task::spawn_blocking(move || {
            live.update(|current| {
                let layers = current.layers.with_traffic(traffic);
                let mut slots = EndpointSlots::clone(&current.slots);
                slots.add_new(found);
                slots.retain(layers.policy());
                Snapshot::build(layers, slots, Some(current)).map(Some)
            })
        });
        Ok(built.await??)
    }

    fn tell(&self, change: impl FnOnce(&mut RoutesState)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Why routes are not in force.
#[derive(Debug, thiserror::Error)]
enum PublishError {
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error("building the snapshot panicked: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}
