//! The hub over HTTP: a file's metadata, and its bytes, resumed where a connection broke.
//!
//! The token goes to the hub's own address alone, never to the host that a download is redirected to, and into no
//! message. Knows nothing of the cache's folders.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{Response, StatusCode, Uri};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ring::digest::{Context, SHA256};
use ureq::{Agent, Body};

use super::HubError;
use signalbox_policy::{HubSpec, Secret};

/// The pause before the second attempt; it doubles.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);

const MAX_REDIRECTS: usize = 5;

/// For connecting, and for an answer's headers.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// A body that takes longer is broken off and resumed with another request, so that no stalled connection holds it up.
const BODY_TIMEOUT: Duration = Duration::from_secs(300);

pub(super) struct HubClient {
    agent: Agent,
    endpoint: String,
    token: Option<Secret>,
    attempts: u32,
}

pub(super) enum FileLookup {
    File(RemoteFile),
    /// There is none; the commit that lacks it, where the hub says it.
    Missing {
        commit: Option<String>,
    },
}

pub(super) struct RemoteFile {
    pub(super) commit: String,
    pub(super) etag: String,
    size: u64,
    url: String,
}

struct TransferError {
    reason: String,
    /// Whether another attempt cannot succeed.
    is_final: bool,
}

impl HubClient {
    pub(super) fn new(spec: &HubSpec) -> Self {
        let config = Agent::config_builder()
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent(concat!("signalbox/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(CONNECT_TIMEOUT))
            .timeout_recv_body(Some(BODY_TIMEOUT))
            .build();
        Self {
            agent: config.into(),
            endpoint: spec.endpoint.trim_end_matches('/').to_owned(),
            token: spec.token.clone(),
            attempts: spec.attempts,
        }
    }

    /// Asks for a file's metadata.
    pub(super) fn look_up(&self, repo: &str, revision: &str, file: &str) -> Result<FileLookup, HubError> {
        let url = format!("{}/{repo}/resolve/{}/{file}", self.endpoint, revision.replace('/', "%2F"));
        let failed =
            |reason: String| HubError::Failed { repo: repo.to_owned(), file: file.to_owned(), reason };
        let response =
            retry(self.attempts, || self.head(&url), || 0).map_err(|fault| failed(fault.reason))?;
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let commit = header("x-repo-commit").map(str::to_owned);
        let status = response.status();
        if status == StatusCode::NOT_FOUND {
            return match header("x-error-code") {
                Some("RepoNotFound" | "RevisionNotFound") => {
                    Err(HubError::Unknown { repo: repo.to_owned(), revision: revision.to_owned() })
                }
                _ => Ok(FileLookup::Missing { commit }),
            };
        }
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let (repo, file) = (repo.to_owned(), file.to_owned());
            return Err(HubError::Refused { repo, file, status: status.as_u16() });
        }
        if !status.is_success() && !status.is_redirection() {
            return Err(failed(format!("the hub answers with status {}", status.as_u16())));
        }
        let etag = header("x-linked-etag").or(header("etag")).map(unquoted_etag);
        let size = header("x-linked-size").or(header("content-length")).and_then(|size| size.parse().ok());
        let (Some(commit), Some(etag), Some(size)) = (commit.clone(), etag, size) else {
            return Err(failed(
                "the hub does not say its commit, etag and size: is the endpoint a hub?".into(),
            ));
        };
        Ok(FileLookup::File(RemoteFile { commit, etag, size, url }))
    }

    /// Downloads a file to `blob`, by way of an unfinished one beside it that a later attempt, or process, resumes.
    pub(super) fn download(
        &self,
        repo: &str,
        file: &str,
        remote: &RemoteFile,
        blob: &Path,
    ) -> Result<(), HubError> {
        let path = PathBuf::from(format!("{}.incomplete", blob.display()));
        let kept = |source| HubError::Cache { path: path.clone(), source };
        let mut part = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(kept)?;
        let progress = DownloadProgress::start(repo, file, remote.size);
        let reader = part.try_clone().map_err(kept)?;
        let have = || reader.metadata().map_or(0, |metadata| metadata.len());
        retry(self.attempts, || self.resume(remote, &mut part, &progress), have).map_err(|fault| {
            HubError::Failed { repo: repo.to_owned(), file: file.to_owned(), reason: fault.reason }
        })?;
        let is_whole = has_hash_of(&mut part, &remote.etag).map_err(kept)?;
        if !is_whole {
            std::fs::remove_file(&path).map_err(kept)?;
            let reason = "what came is not what the hub announced: its hash differs".to_owned();
            return Err(HubError::Failed { repo: repo.to_owned(), file: file.to_owned(), reason });
        }
        std::fs::rename(&path, blob).map_err(kept)?;
        progress.end();
        Ok(())
    }

    /// Appends the missing bytes to the part.
    fn resume(
        &self,
        remote: &RemoteFile,
        part: &mut File,
        progress: &DownloadProgress,
    ) -> Result<(), TransferError> {
        let local = |error: std::io::Error| TransferError { reason: error.to_string(), is_final: true };
        let mut have = part.metadata().map_err(local)?.len();
        if have > remote.size {
            part.set_len(0).map_err(local)?;
            have = 0;
        }
        if have == remote.size {
            return Ok(());
        }
        let response = self.get(&remote.url, have)?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if starts_at(&response, have) => {}
            // The host ignored the range.
            StatusCode::OK => {
                part.set_len(0).map_err(local)?;
                have = 0;
            }
            status => {
                let is_final = status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS;
                return Err(TransferError { reason: format!("status {}", status.as_u16()), is_final });
            }
        }
        part.seek(SeekFrom::Start(have)).map_err(local)?;
        progress.at(have);
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = body.read(&mut buffer).map_err(|error| TransferError {
                reason: format!("the connection broke: {error}"),
                is_final: false,
            })?;
            if count == 0 {
                break;
            }
            have += count as u64;
            if have > remote.size {
                part.set_len(0).map_err(local)?;
                return Err(TransferError {
                    reason: "more bytes than were announced".into(),
                    is_final: true,
                });
            }
            part.write_all(&buffer[..count]).map_err(local)?;
            progress.at(have);
        }
        if have < remote.size {
            let reason = format!("the connection ended after {have} of {} bytes", remote.size);
            return Err(TransferError { reason, is_final: false });
        }
        part.sync_all().map_err(local)
    }

    /// Asks for a file's headers; follows only redirects within the hub.
    fn head(&self, url: &str) -> Result<Response<Body>, TransferError> {
        let mut url = url.to_owned();
        for _ in 0..MAX_REDIRECTS {
            let response = self.send(self.agent.head(&url), &url)?;
            match redirection(&response, &url) {
                // A redirect to the storage is for the GET to follow: the metadata is in the headers of the hub's own answer.
                Some(next) if self.is_own(&next) && response.headers().get("x-repo-commit").is_none() => {
                    url = next;
                }
                _ => return Ok(response),
            }
        }
        Err(TransferError { reason: "too many redirections".to_owned(), is_final: true })
    }

    fn get(&self, url: &str, from: u64) -> Result<Response<Body>, TransferError> {
        let mut url = url.to_owned();
        for _ in 0..MAX_REDIRECTS {
            let mut request = self.agent.get(&url);
            if from > 0 {
                request = request.header("range", format!("bytes={from}-"));
            }
            let response = self.send(request, &url)?;
            match redirection(&response, &url) {
                Some(next) => url = next,
                None => return Ok(response),
            }
        }
        Err(TransferError { reason: "too many redirections".to_owned(), is_final: true })
    }

    fn send(
        &self,
        mut request: ureq::RequestBuilder<ureq::typestate::WithoutBody>,
        url: &str,
    ) -> Result<Response<Body>, TransferError> {
        if let Some(token) = self.token.as_ref().filter(|_| self.is_own(url)) {
            request = request.header("authorization", format!("Bearer {}", token.expose()));
        }
        // A compressed body has another length than the file, and ranges of it are of no use.
        request = request.header("accept-encoding", "identity");
        let response = request.call().map_err(|error| TransferError {
            reason: format!("{}: {}", host(url), reason(&error)),
            is_final: matches!(error, ureq::Error::BadUri(_) | ureq::Error::Http(_)),
        })?;
        if response.status().is_server_error() {
            let reason = format!("the hub answers with status {}", response.status().as_u16());
            return Err(TransferError { reason, is_final: false });
        }
        Ok(response)
    }

    /// Says whether an address is the hub's own, to which the token may go.
    fn is_own(&self, url: &str) -> bool {
        let origin = |url: &str| {
            let uri: Uri = url.parse().ok()?;
            Some((uri.scheme_str()?.to_owned(), uri.authority()?.as_str().to_lowercase()))
        };
        origin(url).is_some() && origin(url) == origin(&self.endpoint)
    }
}

/// Tries again what may yet succeed; an attempt that brought some bytes does not count.
fn retry<T>(
    attempts: u32,
    mut attempt: impl FnMut() -> Result<T, TransferError>,
    have: impl Fn() -> u64,
) -> Result<T, TransferError> {
    let mut failures = 0;
    loop {
        let before = have();
        match attempt() {
            Err(fault) if !fault.is_final => {
                failures = if have() > before { 1 } else { failures + 1 };
                if failures >= attempts {
                    return Err(fault);
                }
                tracing::warn!(reason = fault.reason, "the hub fails, trying again");
                std::thread::sleep(FIRST_BACKOFF * 2_u32.pow(failures - 1));
            }
            done => return done,
        }
    }
}

/// Shows a download's progress: a bar on a terminal, else two lines of the log.
struct DownloadProgress {
    bar: ProgressBar,
    name: String,
    size: u64,
}

impl DownloadProgress {
    fn start(repo: &str, file: &str, size: u64) -> Self {
        let name = format!("{repo}: {file}");
        let is_seen = std::io::stderr().is_terminal();
        let target = if is_seen { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(size), target);
        let shape = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(shape) {
            bar.set_style(style);
        }
        bar.set_message(name.clone());
        if !is_seen {
            tracing::info!(file = name, bytes = size, "fetching from the hub");
        }
        Self { bar, name, size }
    }

    fn at(&self, bytes: u64) {
        self.bar.set_position(bytes);
    }

    fn end(self) {
        self.bar.finish_and_clear();
        tracing::info!(file = self.name, bytes = self.size, "fetched from the hub");
    }
}

/// Returns the address that an answer redirects to.
fn redirection(response: &Response<Body>, from: &str) -> Option<String> {
    if !response.status().is_redirection() {
        return None;
    }
    let to = response.headers().get("location")?.to_str().ok()?;
    if to.starts_with("http://") || to.starts_with("https://") {
        return Some(to.to_owned());
    }
    let from: Uri = from.parse().ok()?;
    let slash = if to.starts_with('/') { "" } else { "/" };
    Some(format!("{}://{}{slash}{to}", from.scheme_str()?, from.authority()?))
}

fn starts_at(response: &Response<Body>, from: u64) -> bool {
    let range = response.headers().get("content-range").and_then(|range| range.to_str().ok());
    range.is_some_and(|range| range.starts_with(&format!("bytes {from}-")))
}

fn unquoted_etag(etag: &str) -> String {
    etag.trim_start_matches("W/").trim_matches('"').to_owned()
}

/// Says whether the bytes have the SHA-256 that is the etag of large files; other etags are no hashes of the bytes.
fn has_hash_of(part: &mut File, etag: &str) -> std::io::Result<bool> {
    if etag.len() != 64 || !etag.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(true);
    }
    part.seek(SeekFrom::Start(0))?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match part.read(&mut buffer)? {
            0 => break,
            count => context.update(&buffer[..count]),
        }
    }
    let digits = etag.as_bytes().as_chunks::<2>().0.iter();
    let announced = digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    Ok(context.finish().as_ref().iter().map(|byte| Some(*byte)).eq(announced))
}

/// Names the host of an address, without what may be secret in it.
fn host(url: &str) -> String {
    let uri: Option<Uri> = url.parse().ok();
    uri.as_ref().and_then(Uri::host).map_or_else(|| "the hub's endpoint".to_owned(), str::to_owned)
}

/// Says what failed without the address, which may hold credentials.
fn reason(error: &ureq::Error) -> String {
    match error {
        ureq::Error::BadUri(_) => "the endpoint is no address".to_owned(),
        other => other.to_string(),
    }
}
