//! Owns the use of the response cache: which requests count as equal, the lookup, and what storing an answer needs.
//!
//! Knows nothing of sockets; how a cached answer is sent is `respond`'s.

use super::answer::PendingStore;
use super::headers::{is_forwarded, is_material};
use crate::cache::{AnswerOrigin, CacheKey, EntryQuery, FlightRole, HitKind, QuestionJudge, ResponseCache};
use crate::classify::ParaphraseScore;
use crate::openai::{Api, ChatRequest};
use crate::policy::{CacheScope, CacheUse, Principal};
use crate::route::{Plan, RequestEffects};
use crate::snapshot::Snapshot;
use crate::telemetry::AccessRecord;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::HeaderMap;
use pingora::http::RequestHeader;
use ring::digest::{Context, SHA256};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// How long a request waits for the answer to an equal one in flight.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(30);

/// A client's `cache-control`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CacheControl {
    /// As the policy has it.
    Default,
    /// A fresh answer, which may be stored.
    NoCache,
    /// A fresh answer, which is not stored.
    NoStore,
}

impl CacheControl {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let values =
            ["x-vsr-cache-control", "cache-control"].into_iter().filter_map(|name| headers.get(name));
        let values: Vec<String> =
            values.filter_map(|value| Some(value.to_str().ok()?.to_ascii_lowercase())).collect();
        let has = |word: &str| values.iter().any(|value| value.split(',').any(|part| part.trim() == word));
        if has("no-store") {
            Self::NoStore
        } else if has("no-cache") {
            Self::NoCache
        } else {
            Self::Default
        }
    }
}

/// The result of a lookup.
pub(super) enum CacheLookup {
    /// A cached answer, how it was found, and how similar its request is.
    Found(Bytes, &'static str, f32),
    /// None; the upstream's answer may be stored.
    Missed(Box<PendingStore>),
    /// The request does not use the cache.
    Bypassed,
}

/// A request as the cache is asked for it.
pub(super) struct CacheQuery<'a> {
    pub(super) cache: &'a Arc<ResponseCache>,
    pub(super) wanted: CacheUse,
    pub(super) api: Api,
    pub(super) request: &'a ChatRequest,
    pub(super) principal: Option<&'a Principal>,
    pub(super) record: &'a AccessRecord,
    pub(super) live: &'a Snapshot,
    pub(super) plan: &'a Plan,
    pub(super) effects: &'a RequestEffects,
    pub(super) header: &'a RequestHeader,
    pub(super) judge: &'a ParaphraseJudge<'a>,
}

/// Asks the classifier whether kept questions ask for the same.
pub(super) struct ParaphraseJudge<'a> {
    live: &'a Snapshot,
    /// The highest score of those that were judged.
    highest: Mutex<Option<f32>>,
}

impl<'a> ParaphraseJudge<'a> {
    pub(super) fn new(live: &'a Snapshot) -> Self {
        Self { live, highest: Mutex::new(None) }
    }

    /// Returns the highest score of those that were judged.
    pub(super) fn highest(&self) -> Option<f32> {
        *self.highest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for ParaphraseJudge<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParaphraseJudge").field("highest", &self.highest).finish_non_exhaustive()
    }
}

impl QuestionJudge for ParaphraseJudge<'_> {
    fn judge<'a>(&'a self, question: &'a str, kept: &'a [&'a str]) -> BoxFuture<'a, Vec<bool>> {
        Box::pin(async move {
            let deadline = Instant::now() + self.live.policy.classifier.deadline;
            let scores = self.live.classifier.compare(question, kept, deadline).await;
            let highest = scores.iter().flatten().map(|found| found.score).reduce(f32::max);
            *self.highest.lock().unwrap_or_else(PoisonError::into_inner) = highest;
            scores.iter().map(|found| found.as_ref().is_ok_and(ParaphraseScore::is_same)).collect()
        })
    }
}

impl CacheQuery<'_> {
    /// Looks for an answer, waits for that to an equal request in flight, or prepares to store one.
    pub(super) async fn look_up(self) -> CacheLookup {
        let request = self.effects.request.as_ref().unwrap_or(self.request);
        let is_personal = self.wanted.scope == CacheScope::User && self.principal.is_none();
        // An answer with unmasked words is for one client alone.
        let unmasks = !self.effects.unmask.is_empty();
        let control = CacheControl::of(&self.header.headers);
        if control == CacheControl::NoStore || is_personal || unmasks || !request.cacheable(self.api) {
            return CacheLookup::Bypassed;
        }
        let fingerprint = request.fingerprint(self.api);
        let key = CacheKey { scope: self.scope(&fingerprint.partition), exact: fingerprint.exact };
        // Texts that are answered one by one are alike only if each of them is.
        let embedding = self.effects.embedding.clone().filter(|_| fingerprint.is_one_text);
        if control == CacheControl::Default
            && let Some(found) = self.find(&key, &fingerprint.text, embedding.as_deref()).await
        {
            return found;
        }
        let mut lead = None;
        if control == CacheControl::Default {
            match self.cache.join(&key) {
                FlightRole::Lead(guard) => lead = Some(guard),
                FlightRole::Follow(follower) => {
                    if let Some(answer) = follower.wait(FOLLOW_TIMEOUT).await {
                        return CacheLookup::Found(answer.body.clone(), "followed", 1.0);
                    }
                }
                FlightRole::Alone => {}
            }
        }
        CacheLookup::Missed(Box::new(PendingStore {
            cache: Arc::clone(self.cache),
            key,
            text: fingerprint.text,
            embedding,
            ttl: self.wanted.ttl,
            origin: self.origin(),
            lead,
        }))
    }

    async fn find(&self, key: &CacheKey, text: &str, embedding: Option<&[f32]>) -> Option<CacheLookup> {
        let query = EntryQuery {
            key,
            text,
            embedding,
            min_score: self.wanted.min_score.map(crate::policy::BasisPoints::fraction),
            judge: self.live.classifier.compares_questions().then_some(self.judge as &dyn QuestionJudge),
            now: SystemTime::now(),
        };
        let hit = self.cache.look_up(query).await?;
        let word = if hit.kind == HitKind::Exact { "hit" } else { "similar" };
        Some(CacheLookup::Found(hit.answer.body, word, hit.score))
    }

    /// Hashes everything that two requests must have in common besides their prompts.
    fn scope(&self, partition: &[u8; 32]) -> [u8; 32] {
        let mut hash = KeyHasher::new();
        hash.owner(self.wanted.scope, self.principal);
        hash.text(self.record.recipe());
        hash.text(self.record.routing.decision.as_deref());
        hash.text(self.record.routing.model.as_deref());
        // An answer is judged once, before it is stored: other guards, or other judges, ask anew.
        let guard = self.effects.answer.as_ref();
        hash.part(guard.map(|guard| guard.digest.as_slice()));
        hash.text(guard.map(|_| format!("{:?}", self.live.policy.classifier)).as_deref());
        hash.text(self.header.uri.query());
        for (name, value) in self.forwarded() {
            hash.text(Some(name));
            hash.part(Some(value));
        }
        hash.part(Some(partition));
        hash.finish()
    }

    /// The client's headers that reach one of the pools and may change its answer, sorted.
    fn forwarded(&self) -> Vec<(&str, &[u8])> {
        let policy = &self.live.policy;
        let specs = || self.plan.targets.iter().map(|target| self.live.pool_spec(target.pool(policy)));
        let headers = self.header.headers.iter().filter(|(name, _)| {
            is_material(name) && specs().any(|spec| is_forwarded(name, spec, &policy.identity))
        });
        let mut headers: Vec<_> = headers.map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        // Values of one name stay in their order.
        headers.sort_by_key(|(name, _)| *name);
        headers
    }

    fn origin(&self) -> AnswerOrigin {
        AnswerOrigin {
            model: self.record.routing.model.as_deref().unwrap_or_default().into(),
            decision: self.record.routing.decision.as_deref().unwrap_or_default().into(),
            tenant: self.principal.and_then(|principal| principal.tenant.as_deref()).map(Into::into),
        }
    }
}

/// Hashes the parts of a key; lengths keep what follows apart, and no part apart from an empty one.
pub(super) struct KeyHasher(Context);

impl KeyHasher {
    pub(super) fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    pub(super) fn finish(self) -> [u8; 32] {
        self.0.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    fn part(&mut self, part: Option<&[u8]>) {
        self.0.update(&part.map_or(u64::MAX, |part| part.len() as u64).to_le_bytes());
        self.0.update(part.unwrap_or_default());
    }

    fn text(&mut self, text: Option<&str>) {
        self.part(text.map(str::as_bytes));
    }

    /// Takes whom answers are for. Those of whom nothing is known are together; who is known and has no tenant is a
    /// tenant of its own.
    pub(super) fn owner(&mut self, scope: CacheScope, principal: Option<&Principal>) {
        let tenant = principal.and_then(|principal| principal.tenant.as_deref());
        let user = principal.map(|principal| principal.user.as_str());
        // Users of different tenants may have the same name.
        let (word, tenant, user) = match (scope, tenant) {
            (CacheScope::All, _) => ("all", None, None),
            (CacheScope::Tenant, Some(tenant)) => ("tenant", Some(tenant), None),
            (CacheScope::Tenant, None) | (CacheScope::User, _) => ("user", tenant, user),
        };
        for part in [Some(word), tenant, user] {
            self.text(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_header_controls_the_cache() {
        let of = |name: &'static str, value: &str| {
            CacheControl::of(&HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]))
        };
        assert_eq!(of("x-vsr-cache-control", "No-Store"), CacheControl::NoStore);
        assert_eq!(of("cache-control", "max-age=0, no-cache"), CacheControl::NoCache);
        assert_eq!(of("cache-control", "max-age=0"), CacheControl::Default);
        assert_eq!(of("accept", "no-store"), CacheControl::Default);
    }
}
