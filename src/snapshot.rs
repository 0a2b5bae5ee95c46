//! Owns what is live at one moment: the policy, the loaded classifier and the pools, built whole and swapped at once.
//!
//! What did not change is carried over: an equal classifier spec keeps its weights, a model that
//! keeps its name its latencies, an address that stays in its pool its [`Endpoint`]. Knows nothing of files, sockets or
//! requests.

mod layers;
mod models;
mod slots;
mod upstreams;

pub use layers::{PolicyLayers, RoutedPools};
pub use models::{HeldRoute, ModelState};
pub use slots::{DiscoveredEndpoint, EndpointSlot, EndpointSlots, EndpointSource, HostPort, KubeSlot};
pub use upstreams::{ResponseOwner, UpstreamPools};

use crate::balance::{Endpoint, Pool};
use crate::cache::{CacheError, ResponseCache, ResponseStore};
use crate::classify::{Classifier, LoadError};
use crate::policy::{ModelId, Policy, PoolId, PoolSpec, Recipe};
use crate::signals::{Audience, DetectorError, Detectors, Requirements};
use arc_swap::ArcSwap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// Everything live at one moment.
pub struct Snapshot {
    /// What the operator wanted, with what routes of a cluster add to it.
    pub policy: Arc<Policy>,
    /// What that is put together from.
    pub layers: PolicyLayers,
    /// What the texts are about; shared by snapshots of an equal spec.
    pub classifier: Arc<Classifier>,
    /// What reads the policy's signals; shared by snapshots of equal signals over the same classifier.
    pub detectors: Arc<Detectors>,
    /// What is measured and remembered of the models.
    pub models: ModelState,
    /// The response cache; none where no decision uses it.
    pub cache: Option<Arc<ResponseCache>>,
    /// The responses whose upstreams keep none.
    pub responses: Arc<ResponseStore>,
    /// What is to be known about requests, by what they ask for.
    requirements: SignalRequirements,
    /// The pools and the budget of their retries.
    pub upstreams: UpstreamPools,
    /// What the sources of endpoints knew when this was built.
    pub slots: Arc<EndpointSlots>,
    /// Counts the snapshots since the start, from 1.
    pub generation: u64,
    /// When it was built, in seconds since 1970.
    pub built_at: u64,
}

/// What is to be known about requests before they can be decided.
struct SignalRequirements {
    /// Of those that leave the choice to a recipe, in the policy's order.
    by_recipe: Vec<Requirements>,
    /// Of those that name a model, by [`ModelId`].
    by_model: Vec<Requirements>,
}

impl SignalRequirements {
    fn of(policy: &Policy) -> Self {
        let by_recipe =
            policy.recipes.iter().map(|recipe| Requirements::for_audience(policy, recipe, Audience::Open));
        let named = |model| Requirements::for_model(policy, &policy.recipes[0], ModelId(model));
        Self { by_recipe: by_recipe.collect(), by_model: (0..policy.models.len()).map(named).collect() }
    }

    fn ask_for_judgement(&self) -> bool {
        self.by_recipe.iter().chain(&self.by_model).any(Requirements::asks_for_judgement)
    }
}

/// Why a policy could not come to life.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The classifier's files are missing or wrong.
    #[error("the classifier cannot be loaded: {0}")]
    Classifier(#[from] LoadError),
    /// The cache cannot be opened.
    #[error("the cache cannot be opened: {0}")]
    ResponseCache(#[from] CacheError),
    /// A signal cannot be read.
    #[error("the signals cannot be read: {0}")]
    Signals(#[from] DetectorError),
}

impl Snapshot {
    /// Builds a snapshot, carrying over from `previous` all that stays; may block while weights are read.
    pub fn build(
        layers: PolicyLayers,
        slots: EndpointSlots,
        previous: Option<&Snapshot>,
    ) -> Result<Snapshot, BuildError> {
        let spec = &layers.policy().classifier.spec;
        let classifier = match previous {
            Some(previous) if previous.classifier.spec() == spec => Arc::clone(&previous.classifier),
            _ => Arc::new(Classifier::load(spec)?),
        };
        let snapshot = Self::around(classifier, layers, slots, previous)?;
        if snapshot.requirements.ask_for_judgement() {
            snapshot.classifier.load_all()?;
        }
        Ok(snapshot)
    }

    /// Builds a snapshot as [`Snapshot::build`] does, around a classifier that is there already.
    pub fn around(
        classifier: Arc<Classifier>,
        layers: PolicyLayers,
        slots: EndpointSlots,
        previous: Option<&Snapshot>,
    ) -> Result<Snapshot, BuildError> {
        let policy = Arc::clone(layers.policy());
        let detectors = match previous {
            Some(previous)
                if Arc::ptr_eq(&previous.classifier, &classifier) && previous.detectors.fit(&policy) =>
            {
                Arc::clone(&previous.detectors)
            }
            _ => Arc::new(Detectors::build(&policy, &classifier)?),
        };
        let before = previous.map(|previous| (&*previous.policy, previous));
        Ok(Snapshot {
            models: ModelState::build(&policy, before.map(|(policy, before)| (policy, &before.models))),
            cache: cache(&policy, previous)?,
            responses: responses(&policy, previous)?,
            requirements: SignalRequirements::of(&policy),
            upstreams: UpstreamPools::build(
                &policy,
                &slots,
                before.map(|(policy, before)| (policy, &before.upstreams)),
            ),
            slots: Arc::new(slots),
            generation: previous.map_or(1, |previous| previous.generation + 1),
            built_at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            policy,
            layers,
            classifier,
            detectors,
        })
    }

    /// What is to be known about a request that leaves the choice to a recipe of this policy.
    pub fn requirements_for(&self, recipe: &Recipe) -> &Requirements {
        let is_it = |known: &Recipe| std::ptr::eq(known, recipe);
        let at = self.policy.recipes.iter().position(is_it).expect("the recipe is one of this policy's");
        &self.requirements.by_recipe[at]
    }

    /// What is to be known about a request that names its model.
    pub fn requirements_for_model(&self, ModelId(model): ModelId) -> &Requirements {
        &self.requirements.by_model[model]
    }

    /// The live pool of that id.
    pub fn pool(&self, id: PoolId) -> &Arc<Pool> {
        &self.upstreams.pools[id.0]
    }

    /// What the policy says of the pool of that id.
    pub fn pool_spec(&self, id: PoolId) -> &PoolSpec {
        &self.policy.pools[id.0]
    }

    /// The names of the models that a pool serves, first or as a fall-back.
    pub fn models_of(&self, pool: &str) -> impl Iterator<Item = &str> {
        let serves = move |model: &&crate::policy::Model| {
            model.routes.iter().any(|route| self.policy[route.pool].name == pool)
        };
        self.policy.models.iter().filter(serves).map(|model| model.name.as_str())
    }

    /// Every endpoint with what the policy says of its pool.
    pub fn endpoints(&self) -> impl Iterator<Item = (&PoolSpec, &Arc<Endpoint>)> {
        let pools = self.policy.pools.iter().zip(&self.upstreams.pools);
        pools.flat_map(|(spec, pool)| pool.members().iter().map(move |member| (spec, &member.endpoint)))
    }
}

fn cache(policy: &Policy, previous: Option<&Snapshot>) -> Result<Option<Arc<ResponseCache>>, CacheError> {
    if policy.decisions().all(|decision| decision.plugins.cache.is_none()) {
        return Ok(None);
    }
    match previous.and_then(|previous| previous.cache.as_ref()) {
        Some(known) if *known.spec() == policy.cache => Ok(Some(Arc::clone(known))),
        _ => Ok(Some(Arc::new(ResponseCache::open(&policy.cache)?))),
    }
}

fn responses(policy: &Policy, previous: Option<&Snapshot>) -> Result<Arc<ResponseStore>, CacheError> {
    let kept = policy.responses();
    let spec = kept.store(&policy.cache);
    match previous.map(|previous| &previous.responses) {
        Some(known) if known.is_of(&spec, kept.ttl) => Ok(Arc::clone(known)),
        _ => Ok(Arc::new(ResponseStore::open(&spec, kept.ttl)?)),
    }
}

/// The one place where the live snapshot is kept.
pub struct Live {
    current: ArcSwap<Snapshot>,
    writing: Mutex<()>,
    changes: watch::Sender<u64>,
}

impl Live {
    /// Starts with a first snapshot.
    pub fn new(first: Snapshot) -> Arc<Self> {
        let changes = watch::Sender::new(first.generation);
        Arc::new(Self { current: ArcSwap::from_pointee(first), writing: Mutex::new(()), changes })
    }

    /// The snapshot of this moment; whoever keeps it keeps all of it.
    pub fn load(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Publishes what `next` makes of the live snapshot; writers take turns, readers never wait.
    pub fn update<E>(&self, next: impl FnOnce(&Snapshot) -> Result<Option<Snapshot>, E>) -> Result<bool, E> {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(snapshot) = next(&self.current.load())? else { return Ok(false) };
        let generation = snapshot.generation;
        self.current.store(Arc::new(snapshot));
        self.changes.send_replace(generation);
        Ok(true)
    }

    /// Follows the generations as they are published.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
