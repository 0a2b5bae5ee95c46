//! Owns the choice of an endpoint for one request. Pure but for the turns of round robin: time and randomness are
//! arguments.
//! Refuses to know retries, outlier detection and leases, which [`super::Pool`] puts around it.
//!
//! A picker sees a pool through [`Candidates`]: an endpoint that may not take the request has no view there, so that
//! no picker can choose it. What a picker may know of an endpoint is a method of [`EndpointView`], what it may know of
//! a request a field of [`PickRequest`]; both are read only where a picker asks.
//!
//! A further picker is a file here, a variant of `Picker` and its arm in each of the matches below.

mod candidates;
mod expected_work;
mod hash;
mod power_of_two;
mod prompt;
mod scored;
mod smooth_round_robin;
#[cfg(test)]
mod tests;
mod warm_up;

pub use candidates::{
    Candidates, ChoiceMargin, ChosenEndpoint, EndpointView, EngineLoad, PickRequest, ReplicaForecast,
    Standing,
};
pub use prompt::PickPrompt;

use super::endpoint::PoolMember;
use super::lock;
use crate::policy::Balance;
use hash::RendezvousHash;
use power_of_two::PowerOfTwo;
use rand::Rng;
use scored::ScoredPicker;
use smooth_round_robin::SmoothWeightedRoundRobin;
use std::sync::Mutex;

/// How a pool chooses among its endpoints, with what it has prepared for that.
#[derive(Debug)]
pub(super) enum Picker {
    /// Takes a lock for the time of one pass over the members; `benches/pick.rs` measures it alone and contended.
    RoundRobin(Mutex<SmoothWeightedRoundRobin>),
    LeastRequest(PowerOfTwo),
    Hash(RendezvousHash),
    ExpectedWork,
    Scored(ScoredPicker),
}

impl Picker {
    /// Prepares the picker that a policy names; `previous` is the one before with its members, whose state goes on.
    pub(super) fn new(
        balance: &Balance,
        members: &[PoolMember],
        previous: Option<(&Self, &[PoolMember])>,
    ) -> Self {
        match balance {
            Balance::RoundRobin => {
                let turns = match previous {
                    Some((Self::RoundRobin(turns), before)) => lock(turns).carried_over(before, members),
                    _ => SmoothWeightedRoundRobin::new(members.len()),
                };
                Self::RoundRobin(Mutex::new(turns))
            }
            // What an external picker names is leased by its address; this is for where it names none.
            Balance::LeastRequest | Balance::External(_) => Self::LeastRequest(PowerOfTwo::new(members)),
            Balance::Hash(_) => Self::Hash(RendezvousHash::new(members)),
            Balance::Auto => Self::ExpectedWork,
            Balance::Scored(scorers) => Self::Scored(ScoredPicker::new(scorers.clone())),
        }
    }

    /// Chooses among the candidates for one request; `None` where there are none.
    pub(super) fn pick(
        &self,
        request: &PickRequest<'_>,
        candidates: &Candidates<'_>,
        rng: &mut impl Rng,
    ) -> Option<ChosenEndpoint> {
        let shared_out = self.reads_prompt().then(|| warm_up::share_out(request, candidates, rng));
        let candidates = shared_out.as_ref().unwrap_or(candidates);
        match self {
            Self::RoundRobin(turns) => lock(turns).pick(candidates).map(ChosenEndpoint::without_margin),
            Self::LeastRequest(least) => least.pick(candidates, rng).map(ChosenEndpoint::without_margin),
            Self::Hash(hash) => hash.pick(request, candidates, rng).map(ChosenEndpoint::without_margin),
            Self::ExpectedWork => expected_work::pick(request, candidates, rng),
            Self::Scored(scored) => scored.pick(request, candidates, rng),
        }
    }

    /// Notes that an endpoint gets a prompt of which no endpoint had anything.
    pub(super) fn note_cold(&self, view: EndpointView<'_>) {
        if let Self::Scored(scored) = self {
            scored.note_cold(view);
        }
    }

    /// What every candidate is held against the others by; nothing where that is a turn, a draw or a key.
    pub(super) fn standings(
        &self,
        request: &PickRequest<'_>,
        candidates: &Candidates<'_>,
    ) -> Vec<(usize, Standing)> {
        match self {
            Self::RoundRobin(_) | Self::LeastRequest(_) | Self::Hash(_) => Vec::new(),
            Self::ExpectedWork => {
                let costs = expected_work::costs(request, candidates);
                costs.into_iter().map(|(place, cost)| (place, Standing::Cost(cost))).collect()
            }
            Self::Scored(scored) => {
                let sums = scored.sums(request, candidates);
                sums.into_iter().map(|(place, score)| (place, Standing::Score(score))).collect()
            }
        }
    }

    /// Whether it goes by what endpoints have cached of the prompt, so that it is worth to note what each gets.
    pub(super) fn reads_prompt(&self) -> bool {
        match self {
            Self::RoundRobin(_) | Self::LeastRequest(_) | Self::Hash(_) => false,
            Self::ExpectedWork => true,
            Self::Scored(scored) => scored.reads_prompt(),
        }
    }
}
