//! Owns what happens per change: following the policy's files, names, endpoints' health, and answering the operator.
//!
//! Writes the live snapshot, and never sees a request.

mod admin;
mod classify_api;
mod keep;
mod probe;
mod reload;
mod resolve;
mod watch;

pub use admin::Admin;
pub use keep::{keep_answers, save_answers};
pub use probe::{PeerOf, Prober};
pub use reload::{LoadFailure, PolicyFile, Reloader};
pub use resolve::{Resolver, resolve_all};
pub use watch::{Contents, FileWatch};
