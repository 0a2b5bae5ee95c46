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
    /// The objects of a kind in a namespace, the process's own when absent.
    pub(super) async fn objects(
        &self,
        resource: &ApiResource,
        namespace: Option<&str>,
    ) -> Result<Api<DynamicObject>, ClientError> {
        let client = self.client.get_or_try_init(client).await?;
        let namespace = namespace.unwrap_or(client.default_namespace());
        Ok(Api::namespaced_with(client.clone(), namespace, resource))
    }
}

async fn client() -> Result<Client, ClientError> {
    let mut config = Config::infer().await?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.write_timeout = Some(WRITE_TIMEOUT);
    Ok(Client::try_from(config)?)
}
