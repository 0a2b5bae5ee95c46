//! Owns where the routes of a cluster send a request that is of no inference API, and what keeps it from going round what
//! such requests are checked for.
//!
//! Knows no sockets, and nothing of where routes come from.

use super::follow::{RouteEnd, follow};
use super::plan::FollowedRule;
use crate::http_route::RouteQuery;
use crate::openai::may_name_api;
use crate::policy::Policy;
use crate::snapshot::RoutedPools;
use http::Method;
use std::sync::Arc;

/// A request of no inference API, as far as its rule and its backend go by it.
#[derive(Clone, Copy)]
pub struct PlainRequest<'a> {
    /// Its header.
    pub query: RouteQuery<'a>,
    /// Whether it has a body.
    pub has_body: bool,
}

/// Finds the backends that a request of no inference API is sent to, in the order in which they are tried; `random` is from
/// 0 to 1.
///
/// Never does such a request reach what a model's request is checked for on its way to: a pool of the policy takes none;
/// where models answer, and wherever a policy has guards, a path that could be read as an API's matches nothing, as sent or
/// as the rule changes it; and where models answer under guards nothing with a body passes, for nobody knows what
/// an engine reads from it.
pub fn follow_plainly(
    policy: &Policy,
    routed: &RoutedPools,
    request: PlainRequest<'_>,
    random: f64,
) -> Result<Vec<Arc<FollowedRule>>, RouteEnd> {
    let found = routed.traffic.table.find(&request.query);
    let followed = follow(routed, found, random)?;
    followed.into_iter().map(|rule| checked(policy, routed, request, rule)).collect()
}

fn checked(
    policy: &Policy,
    routed: &RoutedPools,
    request: PlainRequest<'_>,
    via: Arc<FollowedRule>,
) -> Result<Arc<FollowedRule>, RouteEnd> {
    let (answers_models, has_guards) = (routed.answers_models(via.pool), policy.has_guards());
    let path = request.query.path;
    let names_api = || may_name_api(path) || via.rewritten_path(path).is_some_and(|path| may_name_api(&path));
    if (answers_models || has_guards) && names_api() {
        return Err(RouteEnd::NoRoute);
    }
    let is_of_file = routed.is_of_policy(via.pool);
    let is_safe = matches!(*request.query.method, Method::GET | Method::HEAD | Method::OPTIONS);
    let is_unread = answers_models && has_guards && (request.has_body || !is_safe);
    if is_of_file || is_unread { Err(RouteEnd::Unchecked) } else { Ok(via) }
}
