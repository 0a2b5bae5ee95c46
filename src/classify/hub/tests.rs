//! A hub on this machine, and what a gateway makes of it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path as Parts, Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;

use super::*;
use crate::backend::ModelBackend;
use crate::device::{ComputeDevice, RowPrecision};
use crate::findings::{ClassifyHead, ClassifyHeads};
use crate::model::{LoadOptions, LoadedModel};
use crate::model_parts::HeadSelection;
use signalbox_policy::{ClassifierModels, ClassifierSpec};
use signalbox_policy::{ModelSource, Secret};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const TOKEN: &str = "hf_very_secret";

/// A hub with two repositories: `owner/model` and `owner/adapter`, whose files are under `adapter/`.
struct Hub {
    address: SocketAddr,
    seen: Arc<Seen>,
    /// Ends the server when it is dropped.
    _runtime: tokio::runtime::Runtime,
}

/// Method, path, range and token of a request.
type Noted = (String, String, Option<String>, Option<String>);

#[derive(Default)]
struct Seen {
    files: HashMap<String, Vec<u8>>,
    /// Whose bytes another host gives.
    large: Vec<String>,
    wants_token: bool,
    /// How many more answers break off half way.
    breaks: AtomicUsize,
    /// How many more requests fail with 503.
    faults: AtomicUsize,
    requests: Mutex<Vec<Noted>>,
}

impl Seen {
    fn note(&self, method: &Method, path: &str, headers: &HeaderMap) {
        let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let request = (method.to_string(), path.to_owned(), header("range"), header("authorization"));
        self.requests.lock().unwrap().push(request);
    }

    fn take(counter: &AtomicUsize) -> bool {
        counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    }

    /// Answers with a file or its rest, whole or broken off half way.
    fn bytes(&self, file: &str, headers: &HeaderMap) -> Response {
        let all = &self.files[file];
        let from: usize = headers
            .get("range")
            .and_then(|range| range.to_str().ok()?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok())
            .unwrap_or(0);
        let rest = all[from..].to_vec();
        let body = if Self::take(&self.breaks) {
            let half = rest[..rest.len() / 2].to_vec();
            // What was sent goes out while the rest keeps the server waiting.
            let broken = async {
                tokio::task::yield_now().await;
                Err(std::io::Error::other("broken off"))
            };
            Body::from_stream(futures::stream::iter([Ok(half)]).chain(futures::stream::once(broken)))
        } else {
            Body::from(rest.clone())
        };
        let status = if from > 0 { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
        let response = Response::builder().status(status).header("content-length", rest.len());
        let range = format!("bytes {from}-{}/{}", all.len() - 1, all.len());
        let response = if from > 0 { response.header("content-range", range) } else { response };
        response.body(body).unwrap()
    }
}

async fn resolve(
    State((seen, storage)): State<(Arc<Seen>, SocketAddr)>,
    Parts((repo, file)): Parts<(String, String)>,
    request: Request,
) -> Response {
    let (headers, method) = (request.headers(), request.method());
    seen.note(method, request.uri().path(), headers);
    if Seen::take(&seen.faults) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if seen.wants_token
        && headers.get("authorization").is_none_or(|token| token != &format!("Bearer {TOKEN}"))
    {
        return (StatusCode::UNAUTHORIZED, [("x-error-code", "GatedRepo")]).into_response();
    }
    let file = if repo == "adapter" { format!("adapter/{file}") } else { file };
    if !["model", "adapter"].contains(&repo.as_str()) {
        return (StatusCode::NOT_FOUND, [("x-error-code", "RepoNotFound")]).into_response();
    }
    let Some(bytes) = seen.files.get(&file) else {
        let headers = [("x-error-code", "EntryNotFound"), ("x-repo-commit", COMMIT)];
        return (StatusCode::NOT_FOUND, headers).into_response();
    };
    let etag = if seen.large.contains(&file) {
        sha256(bytes)
    } else {
        format!("etag-of-{}", file.replace('/', "-"))
    };
    if seen.large.contains(&file) {
        return Response::builder()
            .status(StatusCode::FOUND)
            .header("location", format!("http://localhost:{}/storage/{file}?signature=x", storage.port()))
            .header("x-repo-commit", COMMIT)
            .header("x-linked-etag", format!("\"{etag}\""))
            .header("x-linked-size", bytes.len())
            .body(Body::empty())
            .unwrap();
    }
    let mut response = seen.bytes(&file, headers);
    response.headers_mut().insert("x-repo-commit", COMMIT.parse().unwrap());
    response.headers_mut().insert("etag", format!("W/\"{etag}\"").parse().unwrap());
    response
}

fn sha256(bytes: &[u8]) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, bytes);
    hash.as_ref().iter().fold(String::new(), |hash, byte| format!("{hash}{byte:02x}"))
}

fn hub(change: impl FnOnce(&mut Seen)) -> Hub {
    let mut seen = Seen::default();
    seen.files.insert("config.json".into(), b"{}".to_vec());
    seen.files.insert("1_Pooling/config.json".into(), b"{\"a\": 1}".to_vec());
    seen.files.insert("model.safetensors".into(), (0..200_000_u32).map(|at| (at % 251) as u8).collect());
    seen.large.push("model.safetensors".into());
    change(&mut seen);
    let seen = Arc::new(seen);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let storage = {
        let seen = Arc::clone(&seen);
        async move |Parts(file): Parts<String>, request: Request| {
            seen.note(request.method(), request.uri().path(), request.headers());
            seen.bytes(&file, request.headers())
        }
    };
    let router = Router::new()
        .route("/owner/{repo}/resolve/main/{*file}", axum::routing::any(resolve))
        .route(&format!("/owner/{{repo}}/resolve/{COMMIT}/{{*file}}"), axum::routing::any(resolve))
        .with_state((Arc::clone(&seen), address))
        .route("/storage/{*file}", axum::routing::get(storage));
    runtime.spawn(async move { axum::serve(listener, router).await });
    Hub { address, seen, _runtime: runtime }
}

impl Hub {
    fn spec(&self, cache: &Path) -> HubSpec {
        let endpoint = format!("http://{}", self.address);
        HubSpec { endpoint, cache: Some(cache.to_owned()), ..HubSpec::default() }
    }

    fn requests(&self) -> Vec<Noted> {
        std::mem::take(&mut self.seen.requests.lock().unwrap())
    }
}

fn open(spec: &HubSpec) -> RepoSnapshot {
    RepoSnapshot::open(spec, "owner/model", "main").unwrap()
}

#[test]
fn a_file_is_fetched_once_and_kept_as_the_hubs_clients_keep_it() {
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(|_| {});
    let spec = hub.spec(cache.path());
    let snapshot = open(&spec);
    let path = snapshot.get("config.json").unwrap().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"{}");
    let folder = cache.path().join("models--owner--model");
    assert_eq!(path, folder.join("snapshots").join(COMMIT).join("config.json"));
    assert_eq!(std::fs::read_link(&path).unwrap(), Path::new("../../blobs/etag-of-config.json"));
    assert_eq!(std::fs::read_to_string(folder.join("refs/main")).unwrap(), COMMIT);
    let deep = snapshot.get("1_Pooling/config.json").unwrap().unwrap();
    assert_eq!(std::fs::read(deep).unwrap(), b"{\"a\": 1}");
    assert_eq!(
        snapshot.get("model.safetensors").unwrap().map(|path| std::fs::read(path).unwrap().len()),
        Some(200_000)
    );
    // Once the commit is known, every file is of that commit.
    let paths: Vec<String> = hub.requests().into_iter().map(|(_, path, ..)| path).collect();
    assert!(
        paths[0].contains("/resolve/main/") && paths[2].contains(&format!("/resolve/{COMMIT}/")),
        "{paths:?}"
    );
    assert!(snapshot.get("config.json").unwrap().is_some());
    assert_eq!(hub.requests(), []);
}

/// Adds what is in a folder to the hub's files.
fn add(files: &mut HashMap<String, Vec<u8>>, folder: &Path, under: &str) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{under}{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            add(files, &path, &format!("{name}/"));
        } else {
            files.insert(name, std::fs::read(&path).unwrap());
        }
    }
}

#[test]
fn a_whole_model_comes_from_the_hub_and_later_from_the_cache() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models");
    for (name, head) in [
        ("sentence-bert-dense", ClassifyHead::Embedding),
        ("roberta-guard-shards", ClassifyHead::Jailbreak),
        ("xlmr-tokens-bins", ClassifyHead::Pii),
    ] {
        let cache = tempfile::tempdir().unwrap();
        let hub = hub(|seen| {
            seen.files.clear();
            add(&mut seen.files, &models.join(name), "");
            seen.large = vec!["model.safetensors".to_owned()];
        });
        let mut spec = hub.spec(cache.path());
        let load = |spec: &HubSpec, source: &ModelSource| {
            let device = ComputeDevice::Kernels(RowPrecision::F32);
            let options = LoadOptions { heads: HeadSelection::only(head), device: &device, hub: spec };
            let model = LoadedModel::load(source, &options).unwrap();
            let ids = model.tokenize("Is it there?").unwrap().ids;
            model.run(&[&ids], ClassifyHeads::ALL).unwrap().remove(0)
        };
        let source = ModelSource::Hub { repo: "owner/model".to_owned(), revision: "main".to_owned() };
        let here = load(&spec, &ModelSource::Folder(models.join(name)));
        assert_eq!(load(&spec, &source), here, "{name}");
        drop(hub);
        spec.endpoint = "http://127.0.0.1:9".to_owned();
        assert_eq!(load(&spec, &source), here, "{name} offline");
    }
}

#[test]
fn an_adapter_of_the_hub_brings_its_base_and_reads_no_folder_here() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models");
    let cache = tempfile::tempdir().unwrap();
    let hub = |base: &str| {
        hub(|seen| {
            seen.files.clear();
            seen.large.clear();
            add(&mut seen.files, &models.join("qwen3-base"), "");
            add(&mut seen.files, &models.join("qwen3-domain-lora"), "adapter/");
            let config = seen.files.get_mut("adapter/adapter_config.json").unwrap();
            *config = String::from_utf8(config.clone()).unwrap().replace("../qwen3-base", base).into();
        })
    };
    let load = |spec: &HubSpec, source: &ModelSource| {
        let heads = HeadSelection::only(ClassifyHead::Domain);
        let options = LoadOptions { heads, device: &ComputeDevice::Kernels(RowPrecision::F32), hub: spec };
        let model = LoadedModel::load(source, &options).map_err(|error| error.to_string())?;
        let ids = model.tokenize("Is it there?").unwrap().ids;
        Ok::<_, String>(model.run(&[&ids], ClassifyHeads::DOMAIN).unwrap().remove(0))
    };
    let source = ModelSource::Hub { repo: "owner/adapter".to_owned(), revision: "main".to_owned() };
    let online = hub("owner/model");
    let mut spec = online.spec(cache.path());
    let here = load(&spec, &ModelSource::Folder(models.join("qwen3-domain-lora"))).unwrap();
    assert_eq!(load(&spec, &source).unwrap(), here);
    drop(online);
    spec.endpoint = "http://127.0.0.1:9".to_owned();
    assert_eq!(load(&spec, &source).unwrap(), here, "offline");
    let folder = models.join("qwen3-base");
    let (cache, online) = (tempfile::tempdir().unwrap(), hub(folder.to_str().unwrap()));
    let refused = load(&online.spec(cache.path()), &source).unwrap_err();
    assert!(refused.contains("neither a folder beside it nor a model of the hub"), "{refused}");
}

#[test]
fn a_full_cache_needs_no_network() {
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(|_| {});
    let mut spec = hub.spec(cache.path());
    let snapshot = open(&spec);
    for file in ["config.json", "model.safetensors", "modules.json"] {
        snapshot.get(file).unwrap();
    }
    drop(hub);
    spec.endpoint = "http://127.0.0.1:9".to_owned();
    let snapshot = open(&spec);
    assert!(snapshot.get("config.json").unwrap().is_some());
    assert!(snapshot.get("model.safetensors").unwrap().is_some());
    // That there is no such file is kept too.
    assert!(snapshot.get("modules.json").unwrap().is_none());
}

#[test]
fn a_download_that_breaks_half_way_is_resumed() {
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(|seen| seen.breaks = AtomicUsize::new(2));
    let path = open(&hub.spec(cache.path())).get("model.safetensors").unwrap().unwrap();
    assert_eq!(std::fs::read(path).unwrap(), hub.seen.files["model.safetensors"]);
    let ranges: Vec<Option<String>> = hub
        .requests()
        .into_iter()
        .filter(|(_, path, ..)| path.starts_with("/storage/"))
        .map(|(_, _, range, _)| range)
        .collect();
    assert_eq!(ranges.len(), 3);
    assert_eq!(ranges[0], None);
    assert!(
        ranges[1..].iter().all(|range| range.as_ref().is_some_and(|range| range != "bytes=0-")),
        "{ranges:?}"
    );
}

#[test]
fn what_an_earlier_process_left_is_taken_up() {
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(|_| {});
    let bytes = hub.seen.files["model.safetensors"].clone();
    let part = cache.path().join(format!("models--owner--model/blobs/{}.incomplete", sha256(&bytes)));
    std::fs::create_dir_all(part.parent().unwrap()).unwrap();
    std::fs::write(&part, &bytes[..150_000]).unwrap();
    let path = open(&hub.spec(cache.path())).get("model.safetensors").unwrap().unwrap();
    assert_eq!(std::fs::read(path).unwrap(), bytes);
    assert!(hub.requests().iter().any(|(_, _, range, _)| range.as_deref() == Some("bytes=150000-")));
    assert!(!part.exists());
}

#[test]
fn bytes_with_another_hash_are_not_kept() {
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(|_| {});
    let hash = sha256(&hub.seen.files["model.safetensors"]);
    let blobs = cache.path().join("models--owner--model/blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::write(blobs.join(format!("{hash}.incomplete")), vec![7; 1000]).unwrap();
    let error = open(&hub.spec(cache.path())).get("model.safetensors").err().unwrap().to_string();
    assert!(error.contains("owner/model: model.safetensors") && error.contains("hash differs"), "{error}");
    assert!(!blobs.join(&hash).exists());
    assert!(open(&hub.spec(cache.path())).get("model.safetensors").unwrap().is_some());
}

#[test]
fn a_hub_that_fails_for_a_moment_is_asked_again() {
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(|seen| seen.faults = AtomicUsize::new(2));
    assert!(open(&hub.spec(cache.path())).get("config.json").unwrap().is_some());
}

#[test]
fn a_token_opens_a_repository_and_appears_in_no_error() {
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(|seen| seen.wants_token = true);
    let mut spec = hub.spec(cache.path());
    let error = open(&spec).get("config.json").err().unwrap();
    assert!(matches!(&error, HubError::Refused { status: 401, .. }), "{error}");
    spec.token = Some(Secret::new("hf_wrong_secret".to_owned()));
    let error = open(&spec).get("config.json").err().unwrap();
    assert!(!format!("{error} {error:?}").contains("hf_wrong_secret"));
    assert!(error.to_string().contains("owner/model: config.json"));
    spec.token = Some(Secret::new(TOKEN.to_owned()));
    assert!(open(&spec).get("config.json").unwrap().is_some());
}

#[test]
fn the_token_stays_with_the_hub_when_another_host_has_the_bytes() {
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(|seen| seen.wants_token = true);
    let spec = HubSpec { token: Some(Secret::new(TOKEN.to_owned())), ..hub.spec(cache.path()) };
    assert!(open(&spec).get("model.safetensors").unwrap().is_some());
    let requests = hub.requests();
    assert!(requests.iter().any(|(_, path, ..)| path.starts_with("/storage/")));
    for (_, path, _, token) in requests {
        assert_eq!(token.is_some(), !path.starts_with("/storage/"), "{path}");
    }
}

#[test]
fn what_is_not_there_is_named() {
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(|_| {});
    let spec = hub.spec(cache.path());
    let snapshot = open(&spec);
    assert!(snapshot.get("tokenizer.json").unwrap().is_none());
    assert_eq!(snapshot.absent("tokenizer.json").to_string(), "owner/model@main has no tokenizer.json");
    let other = RepoSnapshot::open(&spec, "owner/other", "main").unwrap();
    let error = other.get("config.json").err().unwrap().to_string();
    assert!(error.contains("owner/other@main"), "{error}");
    let gone = HubSpec { endpoint: "http://127.0.0.1:9".to_owned(), ..spec };
    let error =
        RepoSnapshot::open(&gone, "owner/new", "main").unwrap().get("config.json").err().unwrap().to_string();
    assert!(error.starts_with("cannot fetch owner/new: config.json: 127.0.0.1: "), "{error}");
}

#[test]
fn no_name_leads_out_of_the_cache() {
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(|_| {});
    let spec = hub.spec(cache.path());
    for (repo, revision) in
        [("../x", "main"), ("a/b/c", "main"), ("", "main"), ("a/b", "../.."), ("a b", "main"), ("a/b", "")]
    {
        assert!(
            matches!(RepoSnapshot::open(&spec, repo, revision), Err(HubError::Name { .. })),
            "{repo} {revision}"
        );
    }
    for file in ["../config.json", "/etc/passwd", "a//b", ""] {
        assert!(matches!(open(&spec).get(file), Err(HubError::Name { .. })), "{file}");
    }
}

#[test]
fn a_policy_is_checked_without_a_wait_for_a_hub_that_is_not_there() {
    let cache = tempfile::tempdir().unwrap();
    let gone = HubSpec {
        endpoint: "http://127.0.0.1:9".to_owned(),
        cache: Some(cache.path().to_owned()),
        ..HubSpec::default()
    };
    let models = ClassifierModels {
        domain: Some(ModelSource::Hub { repo: "owner/new".to_owned(), revision: "main".to_owned() }),
        ..ClassifierModels::default()
    };
    let spec = ClassifierSpec { hub: gone, models, ..ClassifierSpec::default() };
    let began = std::time::Instant::now();
    let facts = crate::inspect(&spec);
    assert!(facts.faults.is_empty() && facts.domains.is_none());
    assert!(began.elapsed() < std::time::Duration::from_secs(1), "one attempt, and no pause");
}
