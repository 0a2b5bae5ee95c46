//! Owns what routes say: which requests of which port and host a rule matches, in the order of precedence that the Gateway
//! API gives them, and what becomes of a request then.
//!
//! Pure data and pure look-ups: equal tables route alike. Refuses to know Kubernetes, which [`crate::control`] turns into
//! this, and sockets.

mod api_routes;
mod certificate;
mod cors;
mod host;
mod index;
mod matching;
mod query;
mod rule;
mod table;

pub use api_routes::ApiRoutes;
pub use certificate::{ServerCertificate, SniCertificates};
pub use cors::{CorsOrigin, CorsRequest, RouteCors};
pub use host::HostPattern;
pub use index::RouteEntry;
pub use matching::{PathMatch, RegexError, RouteMatch, RouteRegex, ValueMatch};
pub use query::{ModelHeaders, RouteQuery};
pub use rule::{
    HeaderFilters, PathRewrite, Redirect, RouteBackend, RouteFilters, RouteMirror, RouteRetry, RouteRule,
    RouteTimeouts, UrlRewrite,
};
pub use table::{FoundRoute, RouteTable, RouteTableBuilder};

use crate::policy::PoolSpec;
use std::sync::Arc;

/// Where a backend's requests go; a [`BackendId`] is a place in [`RoutedTraffic::backends`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendPool {
    /// A pool that is made for it.
    Own(Arc<PoolSpec>),
    /// A pool of the policy, by its name.
    OfPolicy(String),
}

/// A place in [`RoutedTraffic::backends`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendId(pub usize);

/// All that routes say of requests at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoutedTraffic {
    /// Which rule a request matches.
    pub table: RouteTable,
    /// Where rules send requests.
    pub backends: Vec<BackendPool>,
    /// What connections with TLS are shown.
    pub certificates: SniCertificates,
    /// Names of models that stand for others, and the priorities of objectives.
    pub inference: InferenceRules,
}

/// What the inference extension's objects say of requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InferenceRules {
    /// The priority that each objective has, by its name.
    pub objectives: std::collections::BTreeMap<String, i32>,
    /// Names of models that stand for others, in the order in which they are tried.
    pub rewrites: Vec<ModelRewrite>,
}

/// A model's name that stands for others in the requests of one backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRewrite {
    /// The backend.
    pub backend: BackendId,
    /// The names that it holds for; every name when empty.
    pub models: Vec<String>,
    /// What the model is called upstream, each with its share.
    pub targets: Vec<(String, u32)>,
}
