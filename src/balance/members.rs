//! Owns what is made of a pool's members: one for each endpoint, those that take requests, and how they stand for one.
//! Refuses to know how a member is chosen.

use super::endpoint::{Endpoint, PoolMember};
use super::picker::{EngineLoad, Standing};
use std::collections::HashMap;
use std::sync::Arc;

/// Joins members that name the same endpoint: their weights add up.
pub(super) fn merged(members: Vec<PoolMember>) -> Vec<PoolMember> {
    let mut places = HashMap::with_capacity(members.len());
    let mut merged: Vec<PoolMember> = Vec::with_capacity(members.len());
    for member in members {
        let place = *places.entry(Arc::as_ptr(&member.endpoint)).or_insert(merged.len());
        match merged.get_mut(place) {
            Some(earlier) => earlier.weight = earlier.weight.saturating_add(member.weight),
            None => merged.push(member),
        }
    }
    merged
}

/// The endpoints of members that take requests.
pub(super) fn weighted(members: &[PoolMember]) -> Vec<Arc<Endpoint>> {
    members.iter().filter(|member| member.weight > 0).map(|member| member.endpoint.clone()).collect()
}

/// How one endpoint of a pool stands for a request.
#[derive(Clone, Debug)]
pub struct EndpointForecast {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// Whether it may get the request: it is up, not ejected, awake, has a weight and does not refuse the model.
    pub is_available: bool,
    /// Tokens of the prompt that it probably has to compute, where the pool goes by that.
    pub uncached: Option<u32>,
    /// How busy its engine is.
    pub load: Option<EngineLoad>,
    /// What it is held against the others by, where the pool's strategy has such a figure.
    pub standing: Option<Standing>,
}
