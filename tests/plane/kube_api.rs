//! A Kubernetes API server of the loopback that does what a real one can't be told to: it cuts connections, forgets old
//! versions, hides kinds and goes away.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::stream;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

pub(crate) const PODS: &str = "v1/pods";
pub(crate) const SLICES: &str = "discovery.k8s.io/v1/endpointslices";
pub(crate) const POOLS: &str = "inference.networking.k8s.io/v1/inferencepools";
pub(crate) const CLASSES: &str = "gateway.networking.k8s.io/v1/gatewayclasses";
pub(crate) const GATEWAYS: &str = "gateway.networking.k8s.io/v1/gateways";
pub(crate) const ROUTES: &str = "gateway.networking.k8s.io/v1/httproutes";
pub(crate) const GRANTS: &str = "gateway.networking.k8s.io/v1beta1/referencegrants";
pub(crate) const TLS_POLICIES: &str = "gateway.networking.k8s.io/v1/backendtlspolicies";
pub(crate) const SERVICES: &str = "v1/services";
pub(crate) const SECRETS: &str = "v1/secrets";
pub(crate) const CONFIG_MAPS: &str = "v1/configmaps";
pub(crate) const OBJECTIVES: &str = "llm-d.ai/v1alpha2/inferenceobjectives";
pub(crate) const REWRITES: &str = "llm-d.ai/v1alpha2/inferencemodelrewrites";
pub(crate) const SERVICE_ENTRIES: &str = "networking.istio.io/v1/serviceentries";
pub(crate) const DESTINATION_RULES: &str = "networking.istio.io/v1/destinationrules";
pub(crate) const INTELLIGENT_POOLS: &str = "vllm.ai/v1alpha1/intelligentpools";
pub(crate) const INTELLIGENT_ROUTES: &str = "vllm.ai/v1alpha1/intelligentroutes";
pub(crate) const LEASES: &str = "coordination.k8s.io/v1/leases";
pub(crate) const OLDER_POOLS: &str = "inference.networking.x-k8s.io/v1alpha2/inferencepools";

/// The namespace of the kubeconfig's context.
pub(crate) const NAMESPACE: &str = "llm";

/// A running server.
pub(crate) struct KubeApi {
    addr: SocketAddr,
    cluster: Arc<Cluster>,
    server: JoinHandle<()>,
}

/// What the server keeps, also while it is away.
#[derive(Default)]
struct Cluster {
    state: Mutex<ClusterState>,
    /// The newest version; watches wake up at a change.
    versions: watch::Sender<u64>,
}

#[derive(Default)]
struct ClusterState {
    version: u64,
    /// Watches from a version before this are told that it is gone.
    oldest: u64,
    /// By kind, then by namespace and name.
    objects: BTreeMap<String, BTreeMap<(String, String), Value>>,
    changes: Vec<Change>,
    hidden: BTreeSet<String>,
    bookmarks: bool,
    asked: Vec<String>,
    /// Every write, as method, path and body.
    writes: Vec<(Method, String, Value)>,
}

/// One change of an object, with what it was before.
#[derive(Clone)]
struct Change {
    version: u64,
    kind: String,
    before: Option<Value>,
    after: Option<Value>,
}

/// What a list or a watch asks for.
#[derive(Clone)]
struct Query {
    kind: String,
    namespace: Option<String>,
    name: Option<String>,
    is_status: bool,
    parameters: BTreeMap<String, String>,
}

impl KubeApi {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let cluster = Arc::new(Cluster::default());
        cluster.state.lock().unwrap().version = 100;
        let server = tokio::spawn(serve(listener, Arc::clone(&cluster)));
        Self { addr, cluster, server }
    }

    /// Writes a kubeconfig for this server into a folder.
    pub(crate) fn kubeconfig(&self, folder: &Path) -> PathBuf {
        let file = folder.join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             contexts: [{{name: c, context: {{cluster: c, user: u, namespace: {NAMESPACE}}}}}]\n\
             clusters: [{{name: c, cluster: {{server: \"http://{}\"}}}}]\nusers: [{{name: u, user: {{token: t}}}}]\n",
            self.addr
        );
        std::fs::write(&file, text).unwrap();
        file
    }

    /// Makes or replaces an object; one that is equal changes nothing.
    pub(crate) fn put(&self, kind: &str, namespace: &str, mut object: Value) {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        if !namespace.is_empty() {
            object["metadata"]["namespace"] = namespace.into();
        }
        self.change(kind, (namespace.to_owned(), name), Some(object));
    }

    pub(crate) fn delete(&self, kind: &str, namespace: &str, name: &str) {
        self.change(kind, (namespace.to_owned(), name.to_owned()), None);
    }

    fn change(&self, kind: &str, key: (String, String), after: Option<Value>) {
        let mut state = self.cluster.state.lock().unwrap();
        let version = state.change(kind, key, after);
        drop(state);
        self.cluster.versions.send_replace(version);
    }

    /// An object as it stands, null where there is none.
    pub(crate) fn get(&self, kind: &str, namespace: &str, name: &str) -> Value {
        let state = self.cluster.state.lock().unwrap();
        let objects = state.objects.get(kind);
        objects
            .and_then(|objects| objects.get(&(namespace.to_owned(), name.to_owned())))
            .cloned()
            .unwrap_or_default()
    }

    /// Every write so far, as method, path and body.
    pub(crate) fn writes(&self) -> Vec<(Method, String, Value)> {
        self.cluster.state.lock().unwrap().writes.clone()
    }

    /// Forgets what happened so far: a watch from before is told that its version is gone.
    pub(crate) fn expire(&self) {
        let mut state = self.cluster.state.lock().unwrap();
        state.version += 1;
        state.oldest = state.version;
        state.changes.clear();
    }

    /// Sends every watch a bookmark of the newest version.
    pub(crate) fn bookmark(&self) {
        let mut state = self.cluster.state.lock().unwrap();
        state.version += 1;
        state.bookmarks = true;
        let version = state.version;
        drop(state);
        self.cluster.versions.send_replace(version);
    }

    /// Answers as if there were no such kind.
    pub(crate) fn hide(&self, kind: &str) {
        self.cluster.state.lock().unwrap().hidden.insert(kind.to_owned());
    }

    /// Every request so far, as path and query.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.cluster.state.lock().unwrap().asked.clone()
    }

    /// Goes away: no connection stays, none is taken.
    pub(crate) async fn stop(&mut self) {
        self.server.abort();
        let _ = (&mut self.server).await;
    }

    /// Comes back where it was.
    pub(crate) async fn resume(&mut self) {
        let listener = TcpListener::bind(self.addr).await.unwrap();
        self.server = tokio::spawn(serve(listener, Arc::clone(&self.cluster)));
    }
}

impl ClusterState {
    fn change(&mut self, kind: &str, key: (String, String), after: Option<Value>) -> u64 {
        self.version += 1;
        let version = self.version;
        let after = after.map(|mut object| {
            object["metadata"]["resourceVersion"] = version.to_string().into();
            object
        });
        let objects = self.objects.entry(kind.to_owned()).or_default();
        let before = match &after {
            Some(object) => objects.insert(key, object.clone()),
            None => objects.remove(&key),
        };
        self.changes.push(Change { version, kind: kind.to_owned(), before, after });
        version
    }
}

impl Drop for KubeApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, cluster: Arc<Cluster>) {
    let routes = Router::new().fallback(answer).with_state(cluster);
    // Connections end with this task.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let routes = TowerToHyperService::new(routes.clone());
        connections.spawn(async move {
            let _ =
                auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), routes).await;
        });
    }
}

async fn answer(State(cluster): State<Arc<Cluster>>, request: Request) -> Response {
    cluster.state.lock().unwrap().asked.push(request.uri().to_string());
    let Some(query) = Query::of(&request) else { return failure(404, "no such path") };
    if cluster.state.lock().unwrap().hidden.contains(&query.kind) {
        return failure(404, "the server could not find the requested resource");
    }
    if request.method() != Method::GET {
        return write(&cluster, &query, request).await;
    }
    match query.parameters.get("watch").map(String::as_str) {
        Some("true" | "1") => watch(&cluster, query),
        _ if query.name.is_some() => {
            let state = cluster.state.lock().unwrap();
            let found = state.objects.get(&query.kind).and_then(|objects| objects.get(&query.key()));
            found.map_or_else(
                || failure(404, "there is none of that name"),
                |object| object.to_string().into_response(),
            )
        }
        _ => list(&cluster, &query),
    }
}

/// Makes, replaces or merges into an object; a version that is not the newest is refused, and a state is changed at its own
/// path alone.
async fn write(cluster: &Arc<Cluster>, query: &Query, request: Request) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let bytes = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let body: Value = serde_json::from_slice(&bytes).unwrap();
    let mut state = cluster.state.lock().unwrap();
    state.writes.push((method.clone(), path, body.clone()));
    let mut query = query.clone();
    query.name = query.name.or_else(|| body["metadata"]["name"].as_str().map(str::to_owned));
    let known = state.objects.get(&query.kind).and_then(|objects| objects.get(&query.key())).cloned();
    let is_stale = |known: &Value| {
        let wanted = &body["metadata"]["resourceVersion"];
        !wanted.is_null() && *wanted != known["metadata"]["resourceVersion"]
    };
    let next = match (&method, known) {
        (&Method::POST, None) => body,
        (&Method::POST, Some(_)) => return failure(409, "it is there already"),
        (_, None) => return failure(404, "there is none of that name"),
        (_, Some(known)) if is_stale(&known) => return failure(409, "it has changed meanwhile"),
        (&Method::PUT, Some(_)) => body,
        (&Method::PATCH, Some(mut known)) if query.is_status => {
            merge(&mut known["status"], &body["status"]);
            known
        }
        _ => return failure(405, "states are merged, other objects made or replaced"),
    };
    let version = state.change(&query.kind, query.key(), Some(next.clone()));
    drop(state);
    cluster.versions.send_replace(version);
    next.to_string().into_response()
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let target = target.as_object_mut().unwrap();
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

fn failure(code: u16, message: &str) -> Response {
    let body =
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message});
    (StatusCode::from_u16(code).unwrap(), body.to_string()).into_response()
}

impl Query {
    fn of(request: &Request) -> Option<Self> {
        let parts: Vec<&str> = request.uri().path().trim_matches('/').split('/').collect();
        let (group, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ((*version).to_owned(), rest),
            ["apis", group, version, rest @ ..] => (format!("{group}/{version}"), rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some((*namespace).to_owned()), rest),
            rest => (None, rest),
        };
        let (plural, name, is_status) = match rest {
            [plural] => (*plural, None, false),
            [plural, name] => (*plural, Some((*name).to_owned()), false),
            [plural, name, "status"] => (*plural, Some((*name).to_owned()), true),
            _ => return None,
        };
        let url = reqwest::Url::parse(&format!("http://api{}", request.uri())).unwrap();
        let parameters =
            url.query_pairs().map(|(key, value)| (key.into_owned(), value.into_owned())).collect();
        Some(Self { kind: format!("{group}/{plural}"), namespace, name, is_status, parameters })
    }

    /// The namespace and name of the object that is meant.
    fn key(&self) -> (String, String) {
        (self.namespace.clone().unwrap_or_default(), self.name.clone().unwrap_or_default())
    }

    fn version(&self) -> u64 {
        self.parameters.get("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(0)
    }

    /// Whether an object is in the namespace and has what the selectors ask for.
    fn selects(&self, object: &Value) -> bool {
        let in_namespace =
            self.namespace.as_ref().is_none_or(|namespace| object["metadata"]["namespace"] == **namespace);
        let has = |parameter: &str, value: &dyn Fn(&str) -> Value| {
            let pairs = self.parameters.get(parameter).map_or("", String::as_str).split(',');
            pairs.filter_map(|pair| pair.split_once('=')).all(|(key, wanted)| value(key) == wanted)
        };
        let field =
            |key: &str| object.pointer(&format!("/{}", key.replace('.', "/"))).cloned().unwrap_or_default();
        in_namespace
            && has("labelSelector", &|key| object["metadata"]["labels"][key].clone())
            && has("fieldSelector", &field)
    }
}

fn list(cluster: &Cluster, query: &Query) -> Response {
    let state = cluster.state.lock().unwrap();
    let objects = state.objects.get(&query.kind).into_iter().flat_map(BTreeMap::values);
    let mut items: Vec<&Value> = objects.filter(|object| query.selects(object)).collect();
    // Pages, as the real one gives them.
    let limit = query.parameters.get("limit").map_or(usize::MAX, |limit| limit.parse().unwrap());
    let from: usize = query.parameters.get("continue").map_or(0, |from| from.parse().unwrap());
    items.drain(..from.min(items.len()));
    let next = (items.len() > limit).then(|| (from + limit).to_string());
    items.truncate(limit);
    let metadata =
        json!({"resourceVersion": state.version.to_string(), "continue": next.unwrap_or_default()});
    let body = json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items});
    body.to_string().into_response()
}

fn watch(cluster: &Arc<Cluster>, query: Query) -> Response {
    let from = query.version();
    let watcher =
        Watcher { cluster: Arc::clone(cluster), versions: cluster.versions.subscribe(), query, from };
    let lines = stream::unfold(Some(watcher), |watcher| async move {
        let mut watcher = watcher?;
        let (lines, is_over) = watcher.next().await;
        Some((Ok::<_, std::io::Error>(lines), (!is_over).then_some(watcher)))
    });
    Body::from_stream(lines).into_response()
}

struct Watcher {
    cluster: Arc<Cluster>,
    versions: watch::Receiver<u64>,
    query: Query,
    from: u64,
}

impl Watcher {
    /// The next events, and whether they are the last.
    async fn next(&mut self) -> (String, bool) {
        loop {
            self.versions.mark_unchanged();
            if let Some(next) = self.events() {
                return next;
            }
            if self.versions.changed().await.is_err() {
                return (String::new(), true);
            }
        }
    }

    fn events(&mut self) -> Option<(String, bool)> {
        let state = self.cluster.state.lock().unwrap();
        let line = |kind: &str, object: &Value| format!("{}\n", json!({"type": kind, "object": object}));
        if self.from < state.oldest {
            let gone = json!({"kind": "Status", "status": "Failure", "code": 410, "message": "too old resource version"});
            return Some((line("ERROR", &gone), true));
        }
        let mut lines = String::new();
        for change in state.changes.iter().filter(|change| change.version > self.from) {
            let of = |object: &Option<Value>| object.clone().filter(|object| self.query.selects(object));
            if change.kind != self.query.kind {
                continue;
            }
            lines.push_str(&match (of(&change.before), of(&change.after)) {
                (None, Some(object)) => line("ADDED", &object),
                (Some(_), Some(object)) => line("MODIFIED", &object),
                (Some(mut object), None) => {
                    object["metadata"]["resourceVersion"] = change.version.to_string().into();
                    line("DELETED", &object)
                }
                (None, None) => String::new(),
            });
        }
        if state.bookmarks && state.version > self.from {
            let bookmark = json!({"kind": "Bookmark", "apiVersion": "v1",
                "metadata": {"resourceVersion": state.version.to_string()}});
            lines.push_str(&line("BOOKMARK", &bookmark));
            self.from = state.version;
        } else if let Some(last) = state.changes.last() {
            self.from = self.from.max(last.version);
        }
        (!lines.is_empty()).then_some((lines, false))
    }
}

/// A pod at an address whose port is named `http`.
pub(crate) fn pod(name: &str, addr: SocketAddr, is_ready: bool) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "m"}},
        "spec": {"containers": [{"name": "vllm", "image": "vllm", "ports": [{"name": "http", "containerPort": addr.port()}]}]},
        "status": {
            "phase": "Running",
            "podIP": addr.ip().to_string(),
            "conditions": [{"type": "Ready", "status": if is_ready { "True" } else { "False" }}],
        },
    })
}
