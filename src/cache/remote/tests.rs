//! What processes share through a real server, and what becomes of them when it is away.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use tempfile::TempDir;

use crate::cache::tests::{answer, key, vector};
use crate::cache::{
    CacheHit, CacheKey, CacheSpec, CacheStore, CacheWrite, CachedAnswer, EntryQuery, HitKind, ResponseCache,
    StoreError,
};
use crate::policy::Secret;

const HOUR: Duration = Duration::from_secs(3600);
const ENABLE: &str = "How do I enable 2FA?";
const PASSWORD: &str = "a-password";

/// A server on a free port, which ends with this value.
struct Server {
    port: u16,
    child: Option<Child>,
    folder: TempDir,
}

impl Server {
    fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Self { port, child: None, folder: tempfile::tempdir().unwrap() };
        server.go();
        server
    }

    fn go(&mut self) {
        let folder: &Path = self.folder.path();
        let child = ["valkey-server", "redis-server"].iter().find_map(|program| {
            Command::new(program)
                .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""])
                .args(["--appendonly", "no", "--requirepass", PASSWORD])
                .current_dir(folder)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .ok()
        });
        self.child =
            Some(child.expect("neither valkey-server nor redis-server is installed: run tests/packages"));
        let deadline = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "the server does not listen");
            std::thread::yield_now();
        }
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn spec(&self, password: &str) -> CacheSpec {
        let store = CacheStore::Redis {
            address: format!("redis://127.0.0.1:{}/1", self.port),
            password: Some(Secret::new(password.to_owned())),
            prefix: "box*:".to_owned(),
            timeout: Duration::from_secs(20),
        };
        CacheSpec { store, max_entries: 5_000, max_bytes: 1 << 26, max_answer_bytes: 1000 }
    }

    fn open(&self) -> ResponseCache {
        ResponseCache::open(&self.spec(PASSWORD)).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn keep(
    cache: &ResponseCache,
    key: CacheKey,
    text: &str,
    degrees: f32,
    answer: &CachedAnswer,
) -> Result<(), StoreError> {
    let embedding = vector(degrees);
    let now = SystemTime::now();
    cache.store(CacheWrite { key: &key, text, embedding: Some(&embedding), answer, ttl: HOUR, now }).await
}

async fn look(
    cache: &ResponseCache,
    key: CacheKey,
    text: &str,
    degrees: f32,
    later: Duration,
) -> Option<CacheHit> {
    let embedding = vector(degrees);
    let now = SystemTime::now() + later;
    let query =
        EntryQuery { key: &key, text, embedding: Some(&embedding), min_score: Some(0.9), judge: None, now };
    cache.look_up(query).await
}

#[tokio::test]
async fn processes_share_answers_to_equal_and_similar_requests() {
    let server = Server::start();
    let (one, other) = (server.open(), server.open());
    assert!(look(&other, key(1, 1), ENABLE, 0.0, Duration::ZERO).await.is_none());
    keep(&one, key(1, 1), ENABLE, 0.0, &answer("so")).await.unwrap();
    let hit = look(&other, key(1, 1), ENABLE, 0.0, Duration::ZERO).await.unwrap();
    assert_eq!((hit.kind, hit.answer), (HitKind::Exact, answer("so")));
    let hit = look(&other, key(1, 2), "How can I role on 2FA?", 8.0, Duration::ZERO).await.unwrap();
    assert_eq!((hit.kind, hit.answer), (HitKind::Similar, answer("so")));
    assert!(look(&other, key(1, 2), "How can I role off 2FA?", 1.0, Duration::ZERO).await.is_none());
    assert!(look(&other, key(2, 2), ENABLE, 0.0, Duration::ZERO).await.is_none());
    assert_eq!((other.stats().store_errors, other.stats().guard_rejections), (0, 1));
    assert!(look(&other, key(1, 1), ENABLE, 0.0, HOUR).await.is_none());
}

#[tokio::test]
async fn a_scope_keeps_the_newest_texts_and_no_more() {
    let server = Server::start();
    let (one, other) = (server.open(), server.open());
    for number in 0..2_600_u32 {
        let mut key = key(1, 0);
        key.exact[..4].copy_from_slice(&(number + 1).to_le_bytes());
        let text = format!("How do I enable feature {number}?");
        keep(&one, key, &text, 0.0, &answer("so")).await.unwrap();
    }
    let _ = look(&other, key(1, 255), "nothing alike", 80.0, Duration::ZERO).await;
    let rows = other.stats().entries;
    assert!((1_800..=2_200).contains(&rows), "{rows}");
}

#[tokio::test]
async fn a_server_that_is_away_is_a_miss_and_comes_back() {
    let mut server = Server::start();
    let cache = server.open();
    keep(&cache, key(1, 1), ENABLE, 0.0, &answer("so")).await.unwrap();
    server.stop();
    assert!(look(&cache, key(1, 1), ENABLE, 0.0, Duration::ZERO).await.is_none());
    let errors = cache.stats().store_errors;
    assert!(errors >= 1);
    // It is left alone for a moment, and what is not tried is no error.
    assert!(look(&cache, key(1, 1), ENABLE, 0.0, Duration::ZERO).await.is_none());
    assert_eq!(cache.stats().store_errors, errors);
    // A calendar that jumps ahead does not end that.
    assert!(look(&cache, key(1, 1), ENABLE, 0.0, Duration::from_secs(60)).await.is_none());
    assert_eq!(cache.stats().store_errors, errors);
    server.go();
    let now = SystemTime::now();
    let (key, answer) = (key(1, 2), answer("again"));
    let write = CacheWrite { key: &key, text: ENABLE, embedding: None, answer: &answer, ttl: HOUR, now };
    let end = Instant::now() + Duration::from_secs(20);
    while cache.store(write).await != Ok(()) {
        assert!(Instant::now() < end, "it is never asked again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let query = EntryQuery { key: &key, text: "", embedding: None, min_score: None, judge: None, now };
    assert!(cache.look_up(query).await.is_some());
}

#[tokio::test]
async fn a_wrong_password_is_a_miss_and_shown_nowhere() {
    let server = Server::start();
    let cache = ResponseCache::open(&server.spec("wrong-one")).unwrap();
    assert!(look(&cache, key(1, 1), ENABLE, 0.0, Duration::ZERO).await.is_none());
    assert_eq!(cache.stats().store_errors, 1);
    assert_eq!(keep(&cache, key(1, 1), ENABLE, 0.0, &answer("so")).await, Err(StoreError::Away));
    assert!(!format!("{cache:?}").contains("wrong-one"));
}

#[tokio::test]
async fn a_server_that_says_nothing_is_not_waited_for() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let store = CacheStore::Redis {
        address: format!("redis://{}/0", silent.local_addr().unwrap()),
        password: None,
        prefix: String::new(),
        timeout: Duration::from_millis(20),
    };
    let spec = CacheSpec { store, max_entries: 9, max_bytes: 1 << 20, max_answer_bytes: 100 };
    let cache = ResponseCache::open(&spec).unwrap();
    assert!(look(&cache, key(1, 1), ENABLE, 0.0, Duration::ZERO).await.is_none());
    assert_eq!(cache.stats().store_errors, 1);
}
