//! Owns one list and watch of the Kubernetes API: every object of a kind that a selector names, kept up to date through
//! bookmarks, expired versions and broken connections.
//!
//! Not `kube`'s own watcher: that does not tell that a watch is established again as long as no object changes, and
//! operators are told whether what is known is up to date. Refuses to know what the objects are about.

use super::api::{KubeApi, WatchScope};
use super::backoff::Backoff;
use futures::{StreamExt, pin_mut};
use kube::api::{Api, ApiResource, DynamicObject, ListParams, WatchEvent, WatchParams};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// The objects that one page of a list holds.
const PAGE: u32 = 500;

/// The most objects that are kept; what selects more is a mistake.
const MAX_OBJECTS: usize = 10_000;

/// How long one page may take.
const PAGE_TIME: Duration = Duration::from_secs(30);

/// After how long the server ends a watch, which then goes on where it was.
const WATCH_SECONDS: u32 = 290;

/// How long a watch may say nothing: a server that is gone does not end it.
const WATCH_IDLE: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 10);

/// A watch that lasted so long did not fail to start.
const LASTED: Duration = Duration::from_secs(1);

/// Which objects are watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ObjectQuery {
    pub(super) resource: ApiResource,
    pub(super) scope: WatchScope,
    pub(super) labels: Option<String>,
    pub(super) fields: Option<String>,
}

/// What is known of the objects.
#[derive(Debug)]
pub(in crate::control) struct Observation<T> {
    /// By name; nothing before the first answer.
    pub(in crate::control) objects: Option<Arc<BTreeMap<String, T>>>,
    /// Why that may be out of date, or is not known.
    pub(in crate::control) fault: Option<WatchFault>,
}

impl<T> Default for Observation<T> {
    fn default() -> Self {
        Self { objects: None, fault: None }
    }
}

impl<T> Clone for Observation<T> {
    fn clone(&self) -> Self {
        Self { objects: self.objects.clone(), fault: self.fault.clone() }
    }
}

/// Why a list or a watch failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::control) enum WatchFault {
    /// The server has no such kind.
    NoSuchKind,
    /// We may not see the kind.
    Forbidden(String),
    /// Anything else, in words.
    Failed(String),
}

/// A running watch, which ends when it is dropped.
pub(in crate::control) struct ObjectWatch<T> {
    pub(in crate::control) seen: watch::Receiver<Observation<T>>,
    task: AbortHandle,
}

impl<T> Drop for ObjectWatch<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<T: PartialEq + Clone + Send + Sync + 'static> ObjectWatch<T> {
    /// Watches; `read` takes of an object what is needed, or nothing where it does not count.
    pub(super) fn start(query: ObjectQuery, api: Arc<KubeApi>, read: fn(DynamicObject) -> Option<T>) -> Self {
        let (sender, seen) = watch::channel(Observation::default());
        let watcher = Watcher { query, read, sender };
        Self { seen, task: tokio::spawn(watcher.run(api)).abort_handle() }
    }
}

struct Watcher<T> {
    query: ObjectQuery,
    read: fn(DynamicObject) -> Option<T>,
    sender: watch::Sender<Observation<T>>,
}

/// How a watch ended.
enum WatchEnd {
    /// At its time: it goes on where it was.
    Over,
    /// The version is too old: everything is to be listed again.
    Expired,
}

impl<T: PartialEq + Clone> Watcher<T> {
    async fn run(self, api: Arc<KubeApi>) {
        let mut backoff = Backoff::default();
        let objects = loop {
            match api.objects(&self.query.resource, &self.query.scope).await {
                Ok(objects) => break objects,
                Err(error) => self.fail(WatchFault::Failed(error.to_string())),
            }
            backoff.wait().await;
        };
        loop {
            match self.list(&objects).await {
                Ok(version) => self.follow(&objects, version, &mut backoff).await,
                Err(fault @ (WatchFault::NoSuchKind | WatchFault::Forbidden(_))) => {
                    self.fail(fault);
                    backoff.wait_refused().await;
                    continue;
                }
                Err(fault) => self.fail(fault),
            }
            backoff.wait().await;
        }
    }

    /// Lists all objects; gives the version from which they can be watched.
    async fn list(&self, api: &Api<DynamicObject>) -> Result<String, WatchFault> {
        let mut params = ListParams {
            label_selector: self.query.labels.clone(),
            field_selector: self.query.fields.clone(),
            limit: Some(PAGE),
            ..ListParams::default()
        };
        let mut objects = BTreeMap::new();
        let mut listed = 0;
        loop {
            let page = tokio::time::timeout(PAGE_TIME, api.list(&params)).await;
            let page = page.map_err(|_elapsed| WatchFault::Failed("no answer in time".to_owned()))?;
            let page = page.map_err(|error| fault_of(&error))?;
            listed += page.items.len();
            objects.extend(page.items.into_iter().filter_map(|object| self.entry(object)));
            if listed > MAX_OBJECTS {
                return Err(WatchFault::Failed(format!("more than {MAX_OBJECTS} objects are selected")));
            }
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                let version = page.metadata.resource_version.filter(|version| !version.is_empty());
                let version = version
                    .ok_or_else(|| WatchFault::Failed("the server gives its list no version".to_owned()))?;
                self.sender.send_if_modified(|seen| {
                    let is_new = seen.objects.as_deref() != Some(&objects) || seen.fault.is_some();
                    *seen = Observation { objects: Some(Arc::new(objects)), fault: None };
                    is_new
                });
                return Ok(version);
            }
        }
    }

    fn entry(&self, object: DynamicObject) -> Option<(String, T)> {
        let name = self.key(&object)?;
        Some((name, (self.read)(object)?))
    }

    /// An object's name, and where several namespaces are watched, its namespace before it.
    fn key(&self, object: &DynamicObject) -> Option<String> {
        let name = object.metadata.name.clone()?;
        match (&self.query.scope, &object.metadata.namespace) {
            (WatchScope::Cluster, Some(namespace)) => Some(format!("{namespace}/{name}")),
            _ => Some(name),
        }
    }

    /// Watches from a version on, until everything is to be listed again.
    async fn follow(&self, api: &Api<DynamicObject>, mut version: String, backoff: &mut Backoff) {
        loop {
            let began = Instant::now();
            let end = self.watch(api, &mut version).await;
            let has_lasted = began.elapsed() >= LASTED;
            if has_lasted {
                backoff.reset();
            }
            match end {
                Ok(WatchEnd::Expired) => return,
                Ok(WatchEnd::Over) if has_lasted => {}
                Ok(WatchEnd::Over) => backoff.wait().await,
                Err(fault) => {
                    self.fail(fault);
                    backoff.wait().await;
                }
            }
        }
    }

    async fn watch(&self, api: &Api<DynamicObject>, version: &mut String) -> Result<WatchEnd, WatchFault> {
        let params = WatchParams {
            label_selector: self.query.labels.clone(),
            field_selector: self.query.fields.clone(),
            timeout: Some(WATCH_SECONDS),
            bookmarks: true,
            send_initial_events: false,
        };
        let started = tokio::time::timeout(PAGE_TIME, api.watch(&params, version)).await;
        let started = started.map_err(|_elapsed| WatchFault::Failed("no answer in time".to_owned()))?;
        let events = match started {
            Ok(events) => events,
            Err(kube::Error::Api(status)) if status.code == 410 => return Ok(WatchEnd::Expired),
            Err(error) => return Err(fault_of(&error)),
        };
        // It stands again: what is known is up to date, or soon will be.
        self.sender.send_if_modified(|seen| seen.fault.take().is_some());
        pin_mut!(events);
        loop {
            let event = match tokio::time::timeout(WATCH_IDLE, events.next()).await {
                Err(_elapsed) => return Err(WatchFault::Failed("the watch is silent".to_owned())),
                Ok(None) => return Ok(WatchEnd::Over),
                Ok(Some(event)) => event.map_err(|error| fault_of(&error))?,
            };
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => self.apply(object, version, true),
                WatchEvent::Deleted(object) => self.apply(object, version, false),
                WatchEvent::Bookmark(bookmark) => *version = bookmark.metadata.resource_version,
                WatchEvent::Error(status) if status.code == 410 => return Ok(WatchEnd::Expired),
                WatchEvent::Error(status) => return Err(WatchFault::Failed(status.message.clone())),
            }
        }
    }

    fn apply(&self, object: DynamicObject, version: &mut String, is_there: bool) {
        if let Some(newer) = object.metadata.resource_version.clone() {
            *version = newer;
        }
        let Some(name) = self.key(&object) else { return };
        let read = is_there.then(|| (self.read)(object)).flatten();
        self.sender.send_if_modified(|seen| {
            let objects = Arc::make_mut(seen.objects.get_or_insert_default());
            match read {
                Some(read) if objects.get(&name) == Some(&read) => false,
                Some(_) if objects.len() >= MAX_OBJECTS && !objects.contains_key(&name) => false,
                Some(read) => {
                    objects.insert(name, read);
                    true
                }
                None => objects.remove(&name).is_some(),
            }
        });
    }

    fn fail(&self, fault: WatchFault) {
        self.sender.send_if_modified(|seen| {
            let is_new = seen.fault.as_ref() != Some(&fault);
            seen.fault = Some(fault);
            is_new
        });
    }
}

fn fault_of(error: &kube::Error) -> WatchFault {
    match error {
        kube::Error::Api(status) if status.code == 404 => WatchFault::NoSuchKind,
        kube::Error::Api(status) if status.code == 403 => WatchFault::Forbidden(status.message.clone()),
        kube::Error::Api(status) => WatchFault::Failed(status.message.clone()),
        // The message names no header: only URLs and what went wrong.
        other => WatchFault::Failed(other.to_string()),
    }
}
