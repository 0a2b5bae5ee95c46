//! Owns the client of the Kubernetes API: made when it is first needed, from the kubeconfig or the pod's service account.
//! Refuses to know what is asked.

use kube::api::{Api, ApiResource, DynamicObject};
use kube::{Client, Config};
use std::time::Duration;
use tokio::sync::OnceCell;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long writing a request may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where objects are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::control) enum WatchScope {
    /// In the process's own namespace.
    Own,
    /// In a namespace.
    Namespace(String),
    /// Anywhere, or in no namespace.
    Cluster,
}

impl From<Option<String>> for WatchScope {
    fn from(namespace: Option<String>) -> Self {
        namespace.map_or(Self::Own, Self::Namespace)
    }
}

/// The client, once there is one.
#[derive(Default)]
pub(super) struct KubeApi {
    client: OnceCell<Client>,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// Neither a kubeconfig nor a service account is there.
    #[error("no kubeconfig and no service account: {0}")]
    Config(#[from] kube::config::InferConfigError),
    /// What is there can't be used.
    #[error("the Kubernetes API cannot be asked: {0}")]
    Client(#[from] kube::Error),
}

impl KubeApi {
    /// The objects of a kind within a scope.
    pub(super) async fn objects(
        &self,
        resource: &ApiResource,
        scope: &WatchScope,
    ) -> Result<Api<DynamicObject>, ClientError> {
        let client = self.client.get_or_try_init(client).await?;
        let namespace = match scope {
            WatchScope::Cluster => return Ok(Api::all_with(client.clone(), resource)),
            WatchScope::Namespace(namespace) => namespace,
            WatchScope::Own => client.default_namespace(),
        };
        Ok(Api::namespaced_with(client.clone(), namespace, resource))
    }

    /// The process's own namespace.
    pub(super) async fn own_namespace(&self) -> Result<String, ClientError> {
        Ok(self.client.get_or_try_init(client).await?.default_namespace().to_owned())
    }
}

async fn client() -> Result<Client, ClientError> {
    let mut config = Config::infer().await?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.write_timeout = Some(WRITE_TIMEOUT);
    Ok(Client::try_from(config)?)
}
