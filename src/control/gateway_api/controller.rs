//! Owns the controller's life: from a change of the cluster to a new snapshot and to what is said of it.

use super::cluster::RawObjects;
use super::lease::LeaseHolder;
use super::state_file::{KnownState, StateFile};
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

/// How often what is known is written, where it is kept.
const SAVE_EVERY: Duration = Duration::from_secs(5);

/// What is known of the routes, for operators.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RoutesState {
    /// Where what is in force comes from.
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
    /// From the file of an earlier run: the API server has not answered yet.
    StateFile,
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
        let mut file = self.spec.state_file.clone().map(StateFile::new);
        if let Some(file) = &file {
            self.go_on_from(file).await;
        }
        let mut in_force: Option<Arc<RawObjects>> = None;
        let mut saving = tokio::time::interval(SAVE_EVERY);
        loop {
            tokio::select! {
                () = watches.changed() => tokio::time::sleep(GATHER).await,
                changed = holds.changed() => if changed.is_err() { return },
                _at = saving.tick() => {
                    if let Some(objects) = &in_force {
                        file = self.save(file, Arc::clone(objects)).await;
                    }
                    continue;
                }
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
                self.put_in_force(Arc::clone(&raw), translated, &wanted).await;
                in_force = Some(raw);
            }
        }
    }

    /// Puts what an earlier run has known in force, until the API server answers.
    async fn go_on_from(&self, file: &StateFile) {
        let Some(KnownState { objects, endpoints }) = file.load() else { return };
        let TranslatedCluster { traffic, gateways, .. } = translate(&objects, &self.settings);
        let mut known = EndpointSlots::default();
        known.refresh_kube(endpoints);
        match self.publish(traffic, known).await {
            Ok(_) => {
                tracing::info!(gateways = gateways.len(), "routes are those of an earlier run for now");
                self.tell(|state| (state.from, state.gateways) = (RoutesOrigin::StateFile, gateways.len()));
            }
            Err(error) => tracing::error!(%error, "routes of an earlier run could not be put in force"),
        }
    }

    /// Writes what is known beside the control threads; gives the file back.
    async fn save(&self, file: Option<StateFile>, objects: Arc<RawObjects>) -> Option<StateFile> {
        let mut file = file?;
        let live = self.live.load();
        let saved = tokio::task::spawn_blocking(move || {
            file.save(&objects, &live.slots);
            file
        });
        // A panic there is logged, and ends the keeping alone.
        saved.await.ok()
    }

    async fn put_in_force(
        &self,
        raw: Arc<RawObjects>,
        translated: TranslatedCluster,
        wanted: &watch::Sender<Arc<WantedStatuses>>,
    ) {
        let TranslatedCluster { traffic, statuses, gateways, .. } = translated;
        let count = gateways.len();
        match self.publish(traffic, EndpointSlots::default()).await {
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

    /// Puts what routes say in force, with the endpoints that they lead to, those in `known` where Kubernetes says of none; says
    /// whether it is new.
    async fn publish(&self, traffic: RoutedTraffic, known: EndpointSlots) -> Result<bool, PublishError> {
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
                slots.add_new(known);
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
