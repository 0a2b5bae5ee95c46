//! Owns what servers keep beside models, such as files: passed to the pool whose server has it, unread and as it came.
//!
//! Refuses to know what any of it is.

use super::exchange::Exchange;
use super::planned_request::PlannedRequest;
use crate::cache::ResponseScope;
use crate::openai::{Api, ChatRequest, Rejection, ResourceFamily};
use crate::route::plan_for_resource;
use bytes::Bytes;
use http::HeaderMap;
use std::sync::Arc;
use std::time::Instant;

/// Leases an endpoint for a request of a family; refused where no pool has that.
pub(super) fn start_resource(
    exchange: &mut Exchange,
    family: ResourceFamily,
    path: &str,
    body: Bytes,
    headers: &HeaderMap,
) -> Result<(), Rejection> {
    let live = Arc::clone(&exchange.live);
    let not_served = || Rejection::NotServed { path: path.to_owned(), family: family.name };
    let plan = plan_for_resource(&live.policy, family.name).ok_or_else(not_served)?;
    let model = plan.targets.first().map(|target| &live.policy[target.model].name).ok_or_else(not_served)?;
    let request = ChatRequest::unread_body(Api::Resource, body, model)?;
    exchange.answer.api = Api::Resource;
    let planned = PlannedRequest { api: Api::Resource, request, plan, scope: ResponseScope::default() };
    exchange.start(planned, 0, headers, Instant::now())
}
