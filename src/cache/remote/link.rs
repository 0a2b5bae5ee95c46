//! Owns the connection to the server: made when it is first needed, bounded in time, left alone after a failure.
//! Refuses to know what is asked, and shows the password nowhere.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{
    Client, ErrorKind, FromRedisValue, IntoConnectionInfo, Pipeline, RedisError, RedisResult, ServerErrorKind,
};

use crate::cache::counters::CacheCounters;
use crate::cache::error::CacheError;
use crate::policy::Secret;

/// How long a server is left alone after it failed, so that not every request waits for it.
const PAUSE: Duration = Duration::from_secs(1);

/// A connection to one server, shared by all requests.
pub(in crate::cache) struct RedisLink {
    client: Client,
    timeout: Duration,
    counters: Arc<CacheCounters>,
    connection: Mutex<Option<ConnectionManager>>,
    /// Until when the server is left alone.
    paused_until: Mutex<Option<Instant>>,
}

impl fmt::Debug for RedisLink {
    /// The client knows the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLink").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl RedisLink {
    pub(in crate::cache) fn new(
        address: &str,
        password: Option<&Secret>,
        timeout: Duration,
        counters: Arc<CacheCounters>,
    ) -> Result<Self, CacheError> {
        let info = address.into_connection_info().map_err(|_| CacheError::Address)?;
        if info.redis_settings().password().is_some() {
            return Err(CacheError::PasswordInAddress);
        }
        if !info.addr().is_supported() {
            return Err(CacheError::Address);
        }
        let mut settings = info.redis_settings().clone();
        if let Some(password) = password {
            settings = settings.set_password(password.expose());
        }
        let client = Client::open(info.set_redis_settings(settings)).map_err(|_| CacheError::Address)?;
        let (connection, paused_until) = (Mutex::default(), Mutex::default());
        Ok(Self { client, timeout, counters, connection, paused_until })
    }

    /// Runs commands in one round trip. `None` where the server failed, which is counted, or is left alone for now.
    pub(super) async fn run<T: FromRedisValue>(&self, pipe: &Pipeline) -> Option<T> {
        if self.paused_until().is_some_and(|until| Instant::now() < until) {
            return None;
        }
        let answered = tokio::time::timeout(self.timeout, self.query(pipe)).await;
        let reason = match answered {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(error)) if is_refusal(&error) => LinkFailure::Refused,
            Ok(Err(error)) if error.kind() == ErrorKind::AuthenticationFailed => LinkFailure::Password,
            Ok(Err(_)) => LinkFailure::Failed,
            Err(_) => LinkFailure::Late,
        };
        self.counters.store_errors.add(1);
        tracing::warn!(?reason, "the cache's server gave no answer");
        if !matches!(reason, LinkFailure::Refused) {
            // A connection that could not be made stays so; the next one is new.
            self.connection().take();
            *self.paused_until() = Some(Instant::now() + PAUSE);
        }
        None
    }

    async fn query<T: FromRedisValue>(&self, pipe: &Pipeline) -> RedisResult<T> {
        let mut connection = self.connect()?;
        pipe.query_async(&mut connection).await
    }

    fn connect(&self) -> RedisResult<ConnectionManager> {
        let mut slot = self.connection();
        if let Some(connection) = &*slot {
            return Ok(connection.clone());
        }
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout));
        let made = ConnectionManager::new_lazy_with_config(self.client.clone(), config)?;
        *slot = Some(made.clone());
        Ok(made)
    }

    fn paused_until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.paused_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connection(&self) -> MutexGuard<'_, Option<ConnectionManager>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why there is no answer, for the log; the library's own words may name what was asked.
#[derive(Debug, Clone, Copy)]
enum LinkFailure {
    Late,
    Failed,
    Refused,
    Password,
}

/// Tells whether the server is well and only does not take this command, as when its memory is full.
fn is_refusal(error: &RedisError) -> bool {
    let kind = error.kind();
    error.code() == Some("OOM")
        || kind == ErrorKind::Server(ServerErrorKind::ResponseError)
        || kind == ErrorKind::Server(ServerErrorKind::NoPerm)
}
