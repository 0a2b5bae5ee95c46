//! Owns what happens per change: reloading the policy, discovering endpoints, checking their health, reading their
//! engines' figures, and the operator's API.
//!
//! Writes the live snapshot, and never sees a request.

mod admin;
mod classify_api;
mod endpoint_client;
mod endpoint_tasks;
mod gateway_api;
mod kv_events;
mod persist;
mod probe;
mod reload;
mod routing_objects;
mod scrape;
mod sources;
mod watch;

pub use admin::{Admin, AdminListener};
pub use classify_api::EngineClient;
pub use endpoint_client::PeerOf;
pub use gateway_api::{
    FolderReport, FolderSettings, GatewayController, ManifestText, RoutesOrigin, RoutesState,
    SharedRoutesState, judge_manifests,
};
pub use kv_events::KvListener;
pub use persist::{persist_response_cache, save_response_cache};
pub use probe::Prober;
pub use reload::{LoadFailure, PolicyFile, Reloader};
pub use routing_objects::{RoutingObjectFault, RoutingObjectWatches};
pub use scrape::{EnginePage, Scraper};
pub use sources::{DnsRefresh, KubeSources, SourceState, discover_new};
pub use watch::{Contents, FileWatch};
