//! What the cache gives, keeps and carries over a restart, in memory.

use super::*;
use proptest::prelude::*;
use std::fs;
use std::path::PathBuf;

const HOUR: Duration = Duration::from_secs(3600);
const ENABLE: &str = "How do I enable 2FA?";

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
}

pub(super) fn key(scope: u8, exact: u8) -> CacheKey {
    CacheKey { scope: [scope; 32], exact: [exact; 32] }
}

pub(super) fn answer(body: &'static str) -> CachedAnswer {
    let origin = AnswerOrigin { model: "phi".into(), decision: "math".into(), tenant: Some("acme".into()) };
    CachedAnswer { body: Bytes::from_static(body.as_bytes()), origin }
}

/// A vector of unit length at that angle from the first axis.
pub(super) fn vector(degrees: f32) -> Vec<f32> {
    let mut vector = vec![0.0; 384];
    (vector[0], vector[1]) = (degrees.to_radians().cos(), degrees.to_radians().sin());
    vector
}

fn spec(persist: Option<PathBuf>) -> CacheSpec {
    let store = CacheStore::Memory { persist };
    CacheSpec { store, max_entries: 100, max_bytes: 1 << 20, max_answer_bytes: 1000 }
}

fn memory() -> ResponseCache {
    ResponseCache::open(&spec(None)).unwrap()
}

async fn keep(cache: &ResponseCache, key: CacheKey, text: &str, embedding: &[f32], answer: &CachedAnswer) {
    let write = CacheWrite { key: &key, text, embedding: Some(embedding), answer, ttl: HOUR, now: at(0) };
    cache.store(write).await.unwrap();
}

async fn look(
    cache: &ResponseCache,
    key: CacheKey,
    text: &str,
    embedding: Option<&[f32]>,
    seconds: u64,
) -> Option<CacheHit> {
    let query =
        EntryQuery { key: &key, text, embedding, min_score: Some(0.9), judge: None, now: at(seconds) };
    cache.look_up(query).await
}

#[tokio::test]
async fn an_equal_request_gets_the_answer_with_its_age_and_origin() {
    let cache = memory();
    keep(&cache, key(1, 1), ENABLE, &vector(0.0), &answer("so")).await;
    let hit = look(&cache, key(1, 1), "", None, 60).await.unwrap();
    assert_eq!((hit.kind, hit.age, hit.answer), (HitKind::Exact, Duration::from_secs(60), answer("so")));
    assert!((hit.score - 1.0).abs() < f32::EPSILON);
    assert!(look(&cache, key(1, 1), "", None, 3600).await.is_none());
}

#[tokio::test]
async fn a_similar_request_gets_the_answer_if_it_asks_for_the_same() {
    let cache = memory();
    keep(&cache, key(1, 1), ENABLE, &vector(0.0), &answer("so")).await;
    let hit = look(&cache, key(1, 2), "How can I role on 2FA?", Some(&vector(10.0)), 1).await.unwrap();
    assert_eq!((hit.kind, &*hit.answer.body), (HitKind::Similar, &b"so"[..]));
    assert!((hit.score - 10.0_f32.to_radians().cos()).abs() < 1e-5);
    assert!(look(&cache, key(1, 2), "How can I role off 2FA?", Some(&vector(1.0)), 1).await.is_none());
    assert!(look(&cache, key(1, 2), ENABLE, Some(&vector(40.0)), 1).await.is_none());
    assert!(look(&cache, key(1, 2), ENABLE, None, 1).await.is_none());
    assert_eq!(cache.stats().guard_rejections, 1);
}

/// Takes texts that begin alike for the same, and notes what it was asked.
#[derive(Debug, Default)]
struct ByFirstWord(std::sync::Mutex<Vec<String>>);

impl QuestionJudge for ByFirstWord {
    fn judge<'a>(&'a self, question: &'a str, kept: &'a [&'a str]) -> BoxFuture<'a, Vec<bool>> {
        self.0.lock().unwrap().extend(kept.iter().map(|text| (*text).to_owned()));
        let first = |text: &str| text.split(' ').next().map(str::to_owned);
        Box::pin(async move { kept.iter().map(|text| first(text) == first(question)).collect() })
    }
}

#[tokio::test]
async fn a_judge_is_asked_about_near_entries_that_words_do_not_tell_to_be_the_same() {
    let cache = memory();
    keep(&cache, key(1, 1), "Explain why the sky looks blue", &vector(0.0), &answer("sky")).await;
    keep(&cache, key(1, 2), "Explain 3 colours of the sky", &vector(2.0), &answer("colours")).await;
    keep(&cache, key(1, 3), "Describe the sea", &vector(80.0), &answer("sea")).await;
    let judge = ByFirstWord::default();
    let look = async |text, degrees: f32| {
        let (key, embedding) = (key(1, 9), vector(degrees));
        let judge: Option<&dyn QuestionJudge> = Some(&judge);
        let embedding = Some(&embedding[..]);
        let query = EntryQuery { key: &key, text, embedding, min_score: Some(0.9), judge, now: at(1) };
        cache.look_up(query).await
    };
    // Below the least likeness of words, and not one with another number.
    let hit = look("Explain the blue of the air above us", 45.0).await.unwrap();
    assert_eq!((hit.kind, &*hit.answer.body), (HitKind::Similar, &b"sky"[..]));
    assert_eq!(*judge.0.lock().unwrap(), ["Describe the sea", "Explain why the sky looks blue"]);
    assert!(look("Why is it blue?", 10.0).await.is_none());
    judge.0.lock().unwrap().clear();
    assert_eq!(look("Explain why the sky looks blue", 1.0).await.unwrap().answer, answer("sky"));
    assert!(judge.0.lock().unwrap().is_empty(), "words tell");
}

#[tokio::test]
async fn the_nearest_that_asks_for_the_same_is_given() {
    let cache = memory();
    keep(&cache, key(1, 1), "How do I disable 2FA?", &vector(1.0), &answer("wrong")).await;
    keep(&cache, key(1, 2), ENABLE, &vector(5.0), &answer("near")).await;
    keep(&cache, key(1, 3), ENABLE, &vector(9.0), &answer("far")).await;
    let hit = look(&cache, key(1, 9), "How can I enable 2FA?", Some(&vector(0.0)), 1).await.unwrap();
    assert_eq!(hit.answer, answer("near"));
}

#[tokio::test]
async fn another_scope_gets_nothing() {
    let cache = memory();
    keep(&cache, key(1, 1), ENABLE, &vector(0.0), &answer("so")).await;
    assert!(look(&cache, key(2, 1), ENABLE, Some(&vector(0.0)), 1).await.is_none());
}

#[tokio::test]
async fn without_a_least_score_only_an_equal_request_is_found() {
    let cache = memory();
    keep(&cache, key(1, 1), ENABLE, &vector(0.0), &answer("so")).await;
    let (key, near) = (key(1, 2), vector(0.0));
    let query = EntryQuery {
        key: &key,
        text: ENABLE,
        embedding: Some(&near),
        min_score: None,
        judge: None,
        now: at(1),
    };
    assert_eq!(cache.look_up(query).await, None);
}

#[tokio::test]
async fn a_long_text_is_found_by_an_equal_request_alone() {
    let cache = memory();
    let long = "word ".repeat(MAX_TEXT_BYTES / 4);
    keep(&cache, key(1, 1), &long, &vector(0.0), &answer("so")).await;
    assert!(look(&cache, key(1, 2), &long, Some(&vector(0.0)), 1).await.is_none());
    assert!(look(&cache, key(1, 1), &long, Some(&vector(0.0)), 1).await.is_some());
}

#[tokio::test]
async fn what_is_too_large_or_over_at_once_is_refused() {
    let cache = memory();
    let (key, large) =
        (key(1, 1), CachedAnswer { body: vec![0; 1001].into(), origin: AnswerOrigin::default() });
    let write = CacheWrite { key: &key, text: "", embedding: None, answer: &large, ttl: HOUR, now: at(0) };
    assert_eq!(cache.store(write).await, Err(StoreError::TooLarge));
    let small = answer("so");
    let write = CacheWrite { answer: &small, ttl: Duration::ZERO, ..write };
    assert_eq!(cache.store(write).await, Err(StoreError::NoTime));
    assert_eq!((cache.stats().refused, cache.stats().entries), (2, 0));
}

#[tokio::test]
async fn the_file_carries_answers_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(Some(folder.path().join("cache.bin")));
    let cache = ResponseCache::open(&spec).unwrap();
    keep(&cache, key(1, 1), ENABLE, &vector(0.0), &answer("so")).await;
    assert_eq!(cache.save().unwrap(), 1);
    assert_eq!(cache.save().unwrap(), 1);
    let again = ResponseCache::open(&spec).unwrap();
    assert_eq!(again.stats().entries, 1);
    let hit = look(&again, key(1, 2), "how to enable 2fa", Some(&vector(5.0)), 9).await.unwrap();
    assert_eq!((hit.answer, hit.age), (answer("so"), Duration::from_secs(9)));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_broken_file_is_an_empty_cache() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cache.bin");
    let cache = ResponseCache::open(&spec(Some(path.clone()))).unwrap();
    keep(&cache, key(1, 1), ENABLE, &vector(0.0), &answer("so")).await;
    cache.save().unwrap();
    let good = fs::read(&path).unwrap();
    let mut flipped = good.clone();
    flipped[40] ^= 1;
    let mut newer = good.clone();
    newer[11] = b'9';
    let long = vec![7; 3_000_000];
    for bad in [&good[..good.len() - 1], &flipped, &newer, b"", b"signalbox-c1", &long] {
        fs::write(&path, bad).unwrap();
        assert_eq!(ResponseCache::open(&spec(Some(path.clone()))).unwrap().stats().entries, 0);
    }
    fs::write(&path, &good).unwrap();
    assert_eq!(ResponseCache::open(&spec(Some(path))).unwrap().stats().entries, 1);
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_said_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let cache = ResponseCache::open(&spec(Some(folder.path().join("missing/cache.bin")))).unwrap();
    assert!(matches!(cache.save(), Err(CacheError::Write { .. })));
    assert_eq!(memory().save().unwrap(), 0);
}

#[test]
fn searches_and_stores_go_on_side_by_side() {
    let cache = memory();
    let work = |cache: &ResponseCache, number: u8| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let near = vector(f32::from(number));
        for _ in 0..200 {
            runtime.block_on(async {
                keep(cache, key(1, number), ENABLE, &near, &answer("so")).await;
                assert!(look(cache, key(1, 99), ENABLE, Some(&near), 1).await.is_some());
            });
        }
    };
    std::thread::scope(|scope| {
        for number in 1..5 {
            let (cache, work) = (&cache, &work);
            scope.spawn(move || work(cache, number));
        }
    });
    assert_eq!(cache.stats().entries, 4);
}

#[test]
fn an_equal_spec_is_equal_and_no_secret_is_shown() {
    let redis = |password: &str| CacheSpec {
        store: CacheStore::Redis {
            address: "redis://127.0.0.1:1/0".to_owned(),
            password: Some(crate::policy::Secret::new(password.to_owned())),
            prefix: "p:".to_owned(),
            timeout: HOUR,
        },
        ..spec(None)
    };
    assert_eq!(redis("a"), redis("a"));
    assert_ne!(redis("a"), redis("b"));
    let cache = ResponseCache::open(&redis("very-secret")).unwrap();
    assert!(!format!("{cache:?}").contains("very-secret"));
}

#[test]
fn an_address_that_is_none_or_shows_a_password_is_refused() {
    let open = |address: &str| {
        let store = CacheStore::Redis {
            address: address.to_owned(),
            password: None,
            prefix: String::new(),
            timeout: HOUR,
        };
        ResponseCache::open(&CacheSpec { store, ..spec(None) }).map(|_| ())
    };
    assert!(matches!(open("nonsense"), Err(CacheError::Address)));
    assert!(matches!(open("rediss://127.0.0.1:1"), Err(CacheError::Address)));
    assert!(matches!(open("redis://:pw@127.0.0.1:1"), Err(CacheError::PasswordInAddress)));
    assert!(open("redis://127.0.0.1:1/0").is_ok());
}

proptest! {
    /// No answer is ever given to another scope, nor after its time.
    #[test]
    fn an_answer_stays_in_its_scope_and_time(
        kept in prop::collection::vec((0_u8..3, 0_u8..9, 0_u64..50), 1..20),
        scope in 0_u8..3,
        exact in 0_u8..9,
        seconds in 0_u64..60,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let cache = memory();
            for (scope, exact, ttl) in &kept {
                let (key, answer) = (key(*scope, *exact), CachedAnswer {
                    body: vec![*scope, *ttl as u8].into(),
                    origin: AnswerOrigin::default(),
                });
                let ttl = Duration::from_secs(ttl + 1);
                let near = vector(f32::from(*exact));
                let write =
                    CacheWrite { key: &key, text: ENABLE, embedding: Some(&near), answer: &answer, ttl, now: at(0) };
                cache.store(write).await.unwrap();
            }
            if let Some(hit) = look(&cache, key(scope, exact), ENABLE, Some(&vector(f32::from(exact))), seconds).await {
                prop_assert_eq!(hit.answer.body[0], scope);
                prop_assert!(seconds < u64::from(hit.answer.body[1]) + 1);
            }
            Ok(())
        })?;
    }
}
