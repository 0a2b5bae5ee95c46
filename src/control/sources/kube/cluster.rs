//! Owns reading and writing objects of the Kubernetes API that name no endpoints: each as JSON, whatever its kind. Refuses
//! to know what they say.

use super::api::{ClientError, KubeApi, WatchScope};
use super::object_watch::{ObjectQuery, ObjectWatch};
use super::objects::resource;
use crate::policy::ObjectName;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// How long one write may take, its answer included.
const WRITE_TIME: Duration = Duration::from_secs(10);

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::control) struct KubeKind {
    pub(in crate::control) group: &'static str,
    pub(in crate::control) version: &'static str,
    pub(in crate::control) kind: &'static str,
    pub(in crate::control) plural: &'static str,
}

/// The Kubernetes API.
#[derive(Clone)]
pub(in crate::control) struct ClusterApi {
    api: Arc<KubeApi>,
}

/// Why something is not written, or not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::control) enum WriteFault {
    /// It has changed meanwhile, or is there already.
    #[error("it has changed meanwhile")]
    Conflict,
    /// It is not there.
    #[error("it is not there")]
    NotFound,
    /// Anything else, in words.
    #[error("{0}")]
    Failed(String),
}

impl KubeKind {
    fn resource(self) -> ApiResource {
        let Self { group, version, kind, plural } = self;
        ApiResource { plural: plural.to_owned(), ..resource(group, version, kind) }
    }
}

impl ClusterApi {
    pub(super) fn new(api: Arc<KubeApi>) -> Self {
        Self { api }
    }

    /// Watches the objects of a kind, or the one of a name.
    pub(in crate::control) fn watch(
        &self,
        kind: KubeKind,
        scope: WatchScope,
        name: Option<&str>,
    ) -> ObjectWatch<Value> {
        let fields = name.map(|name| format!("metadata.name={name}"));
        let query = ObjectQuery { resource: kind.resource(), scope, labels: None, fields };
        ObjectWatch::start(query, Arc::clone(&self.api), |mut object| {
            // Who wrote what may be most of an object, and is of no use here.
            object.metadata.managed_fields = None;
            serde_json::to_value(object).ok()
        })
    }

    /// The process's own namespace.
    pub(in crate::control) async fn own_namespace(&self) -> Result<String, WriteFault> {
        self.api.own_namespace().await.map_err(WriteFault::from)
    }

    /// Merges into an object's state.
    pub(in crate::control) async fn patch_status(
        &self,
        kind: KubeKind,
        name: &ObjectName,
        patch: &Value,
    ) -> Result<(), WriteFault> {
        let objects = self.api.objects(&kind.resource(), &scope_of(name)).await?;
        let patch = Patch::Merge(patch);
        within(objects.patch_status(&name.name, &PatchParams::default(), &patch)).await.map(|_written| ())
    }

    /// Reads an object.
    pub(in crate::control) async fn read(
        &self,
        kind: KubeKind,
        name: &ObjectName,
    ) -> Result<Value, WriteFault> {
        let objects = self.api.objects(&kind.resource(), &scope_of(name)).await?;
        let object = within(objects.get(&name.name)).await?;
        serde_json::to_value(object).map_err(|error| WriteFault::Failed(error.to_string()))
    }

    /// Makes an object, or replaces the version that `object` names.
    pub(in crate::control) async fn write(
        &self,
        kind: KubeKind,
        name: &ObjectName,
        object: Value,
    ) -> Result<(), WriteFault> {
        let objects = self.api.objects(&kind.resource(), &scope_of(name)).await?;
        let object: DynamicObject =
            serde_json::from_value(object).map_err(|error| WriteFault::Failed(error.to_string()))?;
        let params = PostParams::default();
        if object.metadata.resource_version.is_some() {
            within(objects.replace(&name.name, &params, &object)).await.map(|_written| ())
        } else {
            within(objects.create(&params, &object)).await.map(|_written| ())
        }
    }
}

fn scope_of(name: &ObjectName) -> WatchScope {
    if name.namespace.is_empty() {
        WatchScope::Cluster
    } else {
        WatchScope::Namespace(name.namespace.clone())
    }
}

async fn within<T>(asked: impl Future<Output = Result<T, kube::Error>>) -> Result<T, WriteFault> {
    match tokio::time::timeout(WRITE_TIME, asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => Err(WriteFault::Conflict),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Err(WriteFault::NotFound),
        Ok(Err(error)) => Err(WriteFault::Failed(error.to_string())),
        Err(_elapsed) => Err(WriteFault::Failed("no answer in time".to_owned())),
    }
}

impl From<ClientError> for WriteFault {
    fn from(error: ClientError) -> Self {
        Self::Failed(error.to_string())
    }
}
