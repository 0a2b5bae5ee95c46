//! Owns what is live at one moment: the policy, the loaded classifier and the pools, built whole and swapped at once.
//!
//! What did not change is carried over: an equal classifier spec keeps its weights, an address that stays in its
//! pool keeps its [`Endpoint`] with in-flight count and health. Knows nothing of files, sockets or requests.

use crate::balance::{Conversations, Ejection, Endpoint, Member, Pace, Pool, RetryBudget, Strategy};
use crate::cache::{CacheError, ResponseCache};
use crate::classify::{Classifier, LoadError};
use crate::policy::{self, Balance, ModelId, Policy, PoolId, PoolSpec, Recipe, StickyOn};
use crate::signals::{Audience, DetectorError, Detectors, Requirements};
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// What the names in the policy resolve to: `(host, port)` to addresses.
pub type Addresses = BTreeMap<(String, u16), Vec<SocketAddr>>;

/// Everything live at one moment.
pub struct Snapshot {
    /// What the operator wanted.
    pub policy: Arc<Policy>,
    /// What the texts are about; shared by snapshots of an equal spec.
    pub classifier: Arc<Classifier>,
    /// What reads the policy's signals; shared by snapshots of equal signals over the same classifier.
    pub detectors: Arc<Detectors>,
    /// How quick the models are, by [`ModelId`]; kept as long as a model keeps its name.
    pub paces: Vec<Arc<Pace>>,
    /// Whether a decision chooses by how quick models are, so that it has to be measured.
    pub measures_pace: bool,
    /// Which models conversations have; shared by all snapshots.
    pub conversations: Arc<Conversations>,
    /// The answers that are given again; none where no decision wants any.
    pub cache: Option<Arc<ResponseCache>>,
    /// The headers that decisions keep conversations on their models by, in lower case.
    pub sticky_headers: Vec<String>,
    /// What is to be known about requests that leave the choice to a recipe, in the policy's order.
    requirements: Vec<Requirements>,
    /// What is to be known about requests that name a model, by [`ModelId`].
    requirements_for_named: Vec<Requirements>,
    /// The pools, by [`PoolId`].
    pub pools: Vec<Arc<Pool>>,
    /// The retries that all requests together may spend.
    pub budget: Arc<RetryBudget>,
    /// What the names in the policy resolved to when this was built.
    pub addresses: Arc<Addresses>,
    /// Counts the snapshots since the start, from 1.
    pub generation: u64,
    /// When it was built, in seconds since 1970.
    pub built_at: u64,
}

/// Why a policy could not come to life.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The classifier's files are missing or wrong.
    #[error("the classifier cannot be loaded: {0}")]
    Classifier(#[from] LoadError),
    /// The cache cannot be opened.
    #[error("the cache cannot be opened: {0}")]
    Cache(#[from] CacheError),
    /// A signal cannot be read.
    #[error("the signals cannot be read: {0}")]
    Signals(#[from] DetectorError),
}

impl Snapshot {
    /// Builds a snapshot, carrying over from `previous` all that stays; may block while weights are read.
    pub fn build(
        policy: Arc<Policy>,
        addresses: Arc<Addresses>,
        previous: Option<&Snapshot>,
    ) -> Result<Snapshot, BuildError> {
        let spec = &policy.classifier.spec;
        let classifier = match previous {
            Some(previous) if previous.classifier.spec() == spec => Arc::clone(&previous.classifier),
            _ => Arc::new(Classifier::load(spec)?),
        };
        Self::around(classifier, policy, addresses, previous)
    }

    /// Builds a snapshot as [`Snapshot::build`] does, around a classifier that is there already.
    pub fn around(
        classifier: Arc<Classifier>,
        policy: Arc<Policy>,
        addresses: Arc<Addresses>,
        previous: Option<&Snapshot>,
    ) -> Result<Snapshot, BuildError> {
        let detectors = match previous {
            Some(previous)
                if Arc::ptr_eq(&previous.classifier, &classifier) && previous.detectors.fit(&policy) =>
            {
                Arc::clone(&previous.detectors)
            }
            _ => Arc::new(Detectors::build(&policy, &classifier)?),
        };
        let pools = policy.pools.iter().map(|pool| build_pool(pool, &addresses, previous)).collect();
        let (share, least) = (policy.retry.budget.share.0, policy.retry.budget.min_per_second);
        let budget = match previous {
            Some(previous) if previous.budget.is_for(share, least) => Arc::clone(&previous.budget),
            _ => Arc::new(RetryBudget::new(share, least)),
        };
        let generation = previous.map_or(1, |previous| previous.generation + 1);
        let built_at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let measures_pace = policy.decisions().any(|decision| decision.models.len() > 1);
        let requirements = policy
            .recipes
            .iter()
            .map(|recipe| Requirements::for_audience(&policy, recipe, Audience::Open))
            .collect();
        let named = |model| Requirements::for_model(&policy, &policy.recipes[0], ModelId(model));
        let requirements_for_named = (0..policy.models.len()).map(named).collect();
        Ok(Snapshot {
            detectors,
            paces: paces(&policy, previous),
            measures_pace,
            conversations: previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.conversations)),
            cache: cache(&policy, previous)?,
            sticky_headers: sticky_headers(&policy),
            requirements,
            requirements_for_named,
            policy,
            classifier,
            pools,
            budget,
            addresses,
            generation,
            built_at,
        })
    }

    /// What is to be known about a request that leaves the choice to a recipe of this policy.
    pub fn requirements_for(&self, recipe: &Recipe) -> &Requirements {
        let is_it = |known: &Recipe| std::ptr::eq(known, recipe);
        let at = self.policy.recipes.iter().position(is_it).expect("the recipe is one of this policy's");
        &self.requirements[at]
    }

    /// What is to be known about a request that names its model.
    pub fn requirements_for_model(&self, ModelId(model): ModelId) -> &Requirements {
        &self.requirements_for_named[model]
    }

    /// How quick a model is.
    pub fn pace(&self, ModelId(id): ModelId) -> &Arc<Pace> {
        &self.paces[id]
    }

    /// The live pool of that id.
    pub fn pool(&self, id: PoolId) -> &Arc<Pool> {
        &self.pools[id.0]
    }

    /// What the policy says of the pool of that id.
    pub fn pool_spec(&self, id: PoolId) -> &PoolSpec {
        &self.policy.pools[id.0]
    }

    /// Every endpoint with what the policy says of its pool.
    pub fn endpoints(&self) -> impl Iterator<Item = (&PoolSpec, &Arc<Endpoint>)> {
        let pools = self.policy.pools.iter().zip(&self.pools);
        pools.flat_map(|(spec, pool)| pool.members().iter().map(move |member| (spec, &member.endpoint)))
    }

    fn pool_named(&self, name: &str) -> Option<&Arc<Pool>> {
        let at = self.policy.pools.iter().position(|pool| pool.name == name)?;
        self.pools.get(at)
    }
}

fn paces(policy: &Policy, previous: Option<&Snapshot>) -> Vec<Arc<Pace>> {
    let kept = |name: &str| {
        let previous = previous?;
        let at = previous.policy.models.iter().position(|model| model.name == name)?;
        Some(Arc::clone(&previous.paces[at]))
    };
    policy.models.iter().map(|model| kept(&model.name).unwrap_or_default()).collect()
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

fn sticky_headers(policy: &Policy) -> Vec<String> {
    let mut names = Vec::new();
    for sticky in policy.decisions().filter_map(|decision| decision.sticky.as_ref()) {
        if let StickyOn::Header(name) = &sticky.on
            && !names.contains(name)
        {
            names.push(name.clone());
        }
    }
    names
}

fn build_pool(spec: &PoolSpec, addresses: &Addresses, previous: Option<&Snapshot>) -> Arc<Pool> {
    let old = previous.and_then(|previous| previous.pool_named(&spec.name));
    let mut members: Vec<Member> = Vec::new();
    for endpoint in &spec.endpoints {
        let key = (endpoint.host.clone(), endpoint.port);
        for &address in addresses.get(&key).into_iter().flatten() {
            if let Some(known) = members.iter_mut().find(|known| known.endpoint.addr() == address) {
                known.weight = known.weight.saturating_add(endpoint.weight);
                continue;
            }
            let kept =
                old.and_then(|old| old.members().iter().find(|member| member.endpoint.addr() == address));
            let endpoint_state = kept.map_or_else(
                || Endpoint::new(address, Arc::from(endpoint.authority())),
                |member| Arc::clone(&member.endpoint),
            );
            members.push(Member { endpoint: endpoint_state, weight: endpoint.weight });
        }
    }
    Arc::new(Pool::new(strategy(&spec.balance), ejection(spec.ejection), members, old.map(AsRef::as_ref)))
}

fn strategy(balance: &Balance) -> Strategy {
    match balance {
        Balance::RoundRobin => Strategy::RoundRobin,
        Balance::LeastRequest => Strategy::LeastRequest,
        Balance::Hash(_) => Strategy::Hash,
    }
}

fn ejection(wanted: Option<policy::Ejection>) -> Ejection {
    match wanted {
        Some(wanted) => Ejection {
            consecutive_failures: wanted.consecutive_failures,
            base: wanted.base,
            max: wanted.max,
            max_share_bp: wanted.max_share.0,
        },
        None => Ejection {
            consecutive_failures: u32::MAX,
            base: Duration::ZERO,
            max: Duration::ZERO,
            max_share_bp: 0,
        },
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
