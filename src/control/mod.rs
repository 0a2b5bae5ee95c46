//! Owns what happens per change: reloading the policy, discovering endpoints, checking their health, and the operator's
//! API.
//!
//! Writes the live snapshot, and never sees a request.

mod admin;
mod classify_api;
mod persist;
mod probe;
mod reload;
mod sources;
mod watch;

pub use admin::{Admin, AdminListener};
pub use persist::{persist_response_cache, save_response_cache};
pub use probe::{PeerOf, Prober};
pub use reload::{LoadFailure, PolicyFile, Reloader};
pub use sources::{DnsRefresh, discover_new};
pub use watch::{Contents, FileWatch};
