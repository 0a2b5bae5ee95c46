//! Owns Signalbox as the controller of Gateways: it follows a cluster's Gateways, routes and what they refer to, puts what
//! they say into the live snapshot, and says in their states what became of them.
//!
//! Every replica routes; the one that holds the Lease writes. What the objects come to is found out without any server
//! (`translate`), so that a folder of manifests is judged as a cluster is.

mod cluster;
mod conditions;
mod controller;
mod folder;
mod kinds;
mod lease;
mod objects;
mod route_objects;
mod secrets;
mod state_file;
mod status_writer;
mod translate;
mod watches;

pub use controller::{GatewayController, RoutesOrigin, RoutesState, SharedRoutesState};
pub use folder::{FolderReport, FolderSettings, ManifestText, judge_manifests};
