//! The Kubernetes API of a test: a real one where `KUBEBUILDER_ASSETS` names a folder with `etcd` and `kube-apiserver`, as
//! envtest has it, else the one of the loopback, which says so.

use crate::harness::*;
use crate::kube_api::*;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The kinds that are no server's own, as `group/version/plural` and kind.
const CUSTOM: [(&str, &str, &str); 5] = [
    (CLASSES, "GatewayClass", "Cluster"),
    (GATEWAYS, "Gateway", "Namespaced"),
    (ROUTES, "HTTPRoute", "Namespaced"),
    (GRANTS, "ReferenceGrant", "Namespaced"),
    (POOLS, "InferencePool", "Namespaced"),
];

/// The token of the tests' administrator.
const TOKEN: &str = "token-of-the-tests";

/// An API server, whichever.
pub(crate) enum AnyKubeApi {
    Fake(KubeApi),
    Real(RealKubeApi),
}

/// An API server of Kubernetes, with its store; both end with the test.
pub(crate) struct RealKubeApi {
    url: String,
    folder: tempfile::TempDir,
    processes: Vec<Child>,
}

impl AnyKubeApi {
    #[expect(clippy::print_stderr, reason = "which server it was is to be seen in the test's output")]
    pub(crate) async fn start() -> Self {
        if let Some(assets) = std::env::var_os("KUBEBUILDER_ASSETS") {
            return Self::Real(RealKubeApi::start(&PathBuf::from(assets)).await);
        }
        eprintln!("KUBEBUILDER_ASSETS is not set: the API server is a fake");
        Self::Fake(KubeApi::start().await)
    }

    /// Writes a kubeconfig for this server into a folder.
    pub(crate) fn kubeconfig(&self, folder: &Path) -> PathBuf {
        match self {
            Self::Fake(api) => api.kubeconfig(folder),
            Self::Real(api) => api.kubeconfig(folder),
        }
    }

    /// Makes or replaces an object, with its state.
    pub(crate) async fn put(&self, kind: &str, namespace: &str, object: Value) {
        match self {
            Self::Fake(api) => api.put(kind, namespace, object),
            Self::Real(api) => api.put(kind, namespace, object).await,
        }
    }

    /// Has a pod terminate, as the kubelet of its node would see it.
    pub(crate) async fn terminate(&self, namespace: &str, name: &str) {
        match self {
            Self::Fake(api) => {
                let mut pod = api.get(PODS, namespace, name);
                pod["metadata"]["deletionTimestamp"] = "2026-11-30T12:00:00Z".into();
                api.put(PODS, namespace, pod);
            }
            // The node that it is bound to is not there, so that it stays in between.
            Self::Real(api) => api.delete(PODS, namespace, name, 300).await,
        }
    }

    pub(crate) async fn delete(&self, kind: &str, namespace: &str, name: &str) {
        match self {
            Self::Fake(api) => api.delete(kind, namespace, name),
            Self::Real(api) => api.delete(kind, namespace, name, 0).await,
        }
    }

    /// An object as it stands, null where there is none.
    pub(crate) async fn get(&self, kind: &str, namespace: &str, name: &str) -> Value {
        match self {
            Self::Fake(api) => api.get(kind, namespace, name),
            Self::Real(api) => api.ask(Method::GET, &path(kind, namespace, name), "", Value::Null).await.1,
        }
    }
}

/// The path of an object, or of a kind where there is no name.
fn path(kind: &str, namespace: &str, name: &str) -> String {
    let (version, plural) = kind.rsplit_once('/').unwrap();
    let root = if version == "v1" { "/api" } else { "/apis" };
    let within = if namespace.is_empty() { String::new() } else { format!("/namespaces/{namespace}") };
    format!("{root}/{version}{within}/{plural}/{name}").trim_end_matches('/').to_owned()
}

impl RealKubeApi {
    async fn start(assets: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [etcd, server] = [(); 2].map(|()| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        });
        let own = |name: &str| folder.path().join(name).display().to_string();
        let key = rcgen::KeyPair::generate().unwrap();
        std::fs::write(own("sa.key"), key.serialize_pem()).unwrap();
        std::fs::write(own("tokens.csv"), format!("{TOKEN},tests,1,\"system:masters\"\n")).unwrap();
        let run = |program: &str, arguments: &[String]| {
            let log = std::fs::File::create(own(&format!("{program}.log"))).unwrap();
            let mut command = Command::new(assets.join(program));
            command.args(arguments).stdout(Stdio::null()).stderr(log).spawn().unwrap()
        };
        let client = format!("http://127.0.0.1:{etcd}");
        let store = run(
            "etcd",
            &[
                format!("--data-dir={}", own("etcd")),
                format!("--listen-client-urls={client}"),
                format!("--advertise-client-urls={client}"),
                "--listen-peer-urls=http://127.0.0.1:0".to_owned(),
                "--unsafe-no-fsync=true".to_owned(),
            ],
        );
        let url = format!("https://127.0.0.1:{server}");
        let api = run(
            "kube-apiserver",
            &[
                format!("--etcd-servers={client}"),
                format!("--cert-dir={}", own("certs")),
                "--bind-address=127.0.0.1".to_owned(),
                format!("--secure-port={server}"),
                "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
                "--authorization-mode=RBAC".to_owned(),
                "--disable-admission-plugins=ServiceAccount".to_owned(),
                format!("--service-account-issuer={url}/"),
                format!("--service-account-key-file={}", own("sa.key")),
                format!("--service-account-signing-key-file={}", own("sa.key")),
                format!("--token-auth-file={}", own("tokens.csv")),
            ],
        );
        let started = Self { url, folder, processes: vec![store, api] };
        let is_ready = async || {
            let answer = started.request(Method::GET, "/readyz").send().await.ok()?;
            (answer.status() == StatusCode::OK).then_some(())
        };
        until(&format!("the API server whose log is in {}", started.folder.path().display()), is_ready).await;
        for namespace in [NAMESPACE, "elsewhere"] {
            started
                .put("v1/namespaces", "", json!({"kind": "Namespace", "metadata": {"name": namespace}}))
                .await;
        }
        for (kind, name, scope) in CUSTOM {
            started.define(kind, name, scope).await;
        }
        started
    }

    /// Adds a kind whose objects may say anything, with a state of their own.
    async fn define(&self, kind: &str, name: &str, scope: &str) {
        let [group, version, plural] = kind.split('/').collect::<Vec<_>>().try_into().unwrap();
        let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let definition = json!({
            "kind": "CustomResourceDefinition",
            "metadata": {
                "name": format!("{plural}.{group}"),
                "annotations": {
                    "api-approved.kubernetes.io": "unapproved, for a test",
                    "gateway.networking.k8s.io/bundle-version": "v1.6.1",
                },
            },
            "spec": {
                "group": group, "scope": scope,
                "names": {"plural": plural, "singular": name.to_lowercase(), "kind": name, "listKind": format!("{name}List")},
                "versions": [{"name": version, "served": true, "storage": true, "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": open}}],
            },
        });
        self.put("apiextensions.k8s.io/v1/customresourcedefinitions", "", definition).await;
        let is_served = async || {
            let (status, _) = self.ask(Method::GET, &path(kind, "", ""), "", Value::Null).await;
            (status == StatusCode::OK).then_some(())
        };
        until(&format!("objects of kind {name}"), is_served).await;
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let client = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).no_proxy();
        let client = client.timeout(Duration::from_secs(20)).build().unwrap();
        client.request(method, format!("{}{path}", self.url)).bearer_auth(TOKEN)
    }

    async fn ask(&self, method: Method, path: &str, content: &str, body: Value) -> (StatusCode, Value) {
        let mut request = self.request(method, path);
        if !body.is_null() {
            request = request.header("content-type", content).body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        let object = serde_json::from_str(&text).unwrap_or_default();
        (status, if status == StatusCode::NOT_FOUND { Value::Null } else { object })
    }

    /// Applies an object, and its state where it has one.
    async fn put(&self, kind: &str, namespace: &str, mut object: Value) {
        let version = kind.rsplit_once('/').unwrap().0.to_owned();
        object["apiVersion"] = version.into();
        if kind == PODS {
            object["kind"] = "Pod".into();
            // Bound, so that it terminates in its time.
            object["spec"]["nodeName"] = "nowhere".into();
        }
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let state = object.as_object_mut().unwrap().remove("status");
        let at = path(kind, namespace, &name);
        let applied = format!("{at}?fieldManager=tests&force=true");
        let (status, told) = self.ask(Method::PATCH, &applied, "application/apply-patch+yaml", object).await;
        assert!(status.is_success(), "{at}: {status} {told}");
        if let Some(state) = state {
            let patch = json!({ "status": state });
            let at = format!("{at}/status");
            let (status, told) = self.ask(Method::PATCH, &at, "application/merge-patch+json", patch).await;
            assert!(status.is_success(), "{at}: {status} {told}");
        }
    }

    async fn delete(&self, kind: &str, namespace: &str, name: &str, grace: u32) {
        let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": grace});
        let at = path(kind, namespace, name);
        let (status, told) = self.ask(Method::DELETE, &at, "application/json", options).await;
        assert!(status.is_success(), "{at}: {status} {told}");
    }

    fn kubeconfig(&self, folder: &Path) -> PathBuf {
        let file = folder.join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             contexts: [{{name: c, context: {{cluster: c, user: u, namespace: {NAMESPACE}}}}}]\n\
             clusters: [{{name: c, cluster: {{server: \"{}\", insecure-skip-tls-verify: true}}}}]\n\
             users: [{{name: u, user: {{token: {TOKEN}}}}}]\n",
            self.url
        );
        std::fs::write(&file, text).unwrap();
        file
    }
}

impl Drop for RealKubeApi {
    fn drop(&mut self) {
        // The server before its store.
        for process in self.processes.iter_mut().rev() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
