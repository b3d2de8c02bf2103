//! `get_or_compute`: one caller computes a value while the others wait or get the old one.
//!
//! # How
//!
//! A computed value is stored with a deadline of `ttl + stale`. As long as more than `stale` of
//! that is left, it is fresh; after that it is old, and whoever comes first computes it anew while
//! all others are served the old one. So the moment from which a value is old is kept in its own
//! deadline, and the stored value stays as plain as any other.
//!
//! Within a process a table of the computations under way ([`flight`](super::flight)) chooses the
//! one; among processes a lock at the server ([`lock`](super::lock)) does.

use std::convert::Infallible;
use std::error::Error;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::commands::lifetime;
use super::error::key_text;
use super::flight::{Lead, Role};
use super::lock::Lock;
use super::{
    CacheClient, ClientError, Lifetime, SetOptions, command, decode, key_bytes, value_bytes,
};

/// The first pause between two looks whether another process has finished.
const POLL_DELAY_MIN: Duration = Duration::from_millis(5);
/// The longest such pause.
const POLL_DELAY_MAX: Duration = Duration::from_millis(200);

/// How [`CacheClient::get_or_compute`] treats a value. A [`Duration`] becomes
/// [`ComputeOptions::new`] by itself.
///
/// Use the same for one key everywhere: whether a value is old is told from its deadline and
/// `stale`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ComputeOptions {
    /// How long a computed value is fresh.
    pub ttl: Duration,
    /// How long after that it is still served while one caller computes it anew.
    /// Zero: everybody waits.
    pub stale: Duration,
    /// How long after the crash of the process that computes another one may start. It is no
    /// limit for the computation: while the process lives, the lock is kept.
    pub lock: Duration,
}

impl ComputeOptions {
    /// Returns `ttl` with the same time again, at most a minute, of being served though old.
    #[must_use]
    pub fn new(ttl: Duration) -> Self {
        let stale = ttl.min(Duration::from_secs(60));
        Self { ttl, stale, lock: Duration::from_secs(5) }
    }
}

impl From<Duration> for ComputeOptions {
    fn from(ttl: Duration) -> Self {
        Self::new(ttl)
    }
}

/// What the cache has for a key.
enum Cached {
    Fresh(Vec<u8>),
    Stale(Vec<u8>),
    Missing,
}

/// What becomes of the caller who leads in its process.
enum Turn {
    /// It computes, under this lock; without one where the server refuses to store any.
    Compute(Option<Lock>),
    /// Another process has stored a fresh value.
    Fresh(Vec<u8>),
    /// Another process is computing; here is the old value.
    Stale(Vec<u8>),
}

impl CacheClient {
    /// Returns the value under `key`, or else runs `compute` and stores its result for `ttl`.
    ///
    /// However many callers come at once, in this process and in others, one of them computes:
    /// the others wait for its value, or get the old one at once if there is one that expired
    /// less than [`ComputeOptions::stale`] ago. (A plain [`CacheClient::get`] sees the old value
    /// for that time, too.) A panic of `compute`, or dropping this call, lets the next one who
    /// waits compute.
    ///
    /// A value that could not be stored is returned nevertheless; the next call computes again.
    /// While the server stores nothing, as it has no memory left or its log has failed, each
    /// process computes for itself what there is no old value of.
    ///
    /// # Errors
    ///
    /// Those of [`CacheClient::get`]; [`ClientError::Encode`] if the result cannot be stored.
    pub async fn get_or_compute<T: Serialize + DeserializeOwned>(
        &self,
        key: impl Serialize,
        ttl: impl Into<ComputeOptions>,
        compute: impl Future<Output = T>,
    ) -> Result<T, ClientError> {
        let compute = async { Ok::<T, Infallible>(compute.await) };
        self.try_get_or_compute(key, ttl, compute).await
    }

    /// As [`CacheClient::get_or_compute`], for a computation that can fail.
    ///
    /// A failure is stored nowhere and goes to its own caller only; the next one who waits
    /// computes.
    ///
    /// # Errors
    ///
    /// Also [`ClientError::Computation`] with what `compute` returned.
    pub async fn try_get_or_compute<T, E>(
        &self,
        key: impl Serialize,
        ttl: impl Into<ComputeOptions>,
        compute: impl Future<Output = Result<T, E>>,
    ) -> Result<T, ClientError>
    where
        T: Serialize + DeserializeOwned,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let key = key_bytes(&key)?;
        let options = ttl.into();
        loop {
            let old = match self.cached(&key, options).await? {
                Cached::Fresh(bytes) => return decode(&key, bytes),
                Cached::Stale(bytes) => Some(bytes),
                Cached::Missing => None,
            };
            let lead = match (self.shared.flights.join(&key), old.clone()) {
                (Role::Lead(lead), _) => lead,
                (Role::Follow(_), Some(old)) => return decode(&key, old),
                (Role::Follow(follower), None) => match follower.outcome().await {
                    Some(bytes) => return decode(&key, bytes.to_vec()),
                    None => continue,
                },
            };
            return match self.turn(&key, options, old).await? {
                Turn::Stale(bytes) => decode(&key, bytes),
                Turn::Fresh(bytes) => {
                    lead.publish(&bytes);
                    decode(&key, bytes)
                }
                Turn::Compute(lock) => self.compute(&key, options, compute, lead, lock).await,
            };
        }
    }

    /// Reads the value and tells its age, in one round trip.
    ///
    /// Not in one step: a value that is replaced in between may be taken for as fresh as its
    /// successor, once.
    async fn cached(&self, key: &[u8], options: ComputeOptions) -> Result<Cached, ClientError> {
        let (get, pttl) = (command("GET", key), command("PTTL", key));
        let (bytes, remaining) =
            tokio::join!(self.read::<Option<Vec<u8>>>(get, key), self.read::<i64>(pttl, key));
        let Some(bytes) = bytes? else { return Ok(Cached::Missing) };
        Ok(match lifetime(remaining?) {
            Lifetime::Remaining(remaining) if remaining <= options.stale => Cached::Stale(bytes),
            // Gone in between, it was still there when it was read.
            Lifetime::Remaining(_) | Lifetime::Unlimited | Lifetime::Missing => {
                Cached::Fresh(bytes)
            }
        })
    }

    /// Takes the lock, or else waits for the one who has it unless there is an old value.
    async fn turn(
        &self,
        key: &[u8],
        options: ComputeOptions,
        mut old: Option<Vec<u8>>,
    ) -> Result<Turn, ClientError> {
        let mut delay = POLL_DELAY_MIN;
        loop {
            let lock = match Lock::acquire(self, key, options.lock).await {
                // It was read a moment ago, so this is about storing.
                Err(ClientError::Server { .. }) => {
                    return Ok(old.map_or(Turn::Compute(None), Turn::Stale));
                }
                acquired => acquired?,
            };
            if let (None, Some(bytes)) = (&lock, old.take()) {
                return Ok(Turn::Stale(bytes));
            }
            // With the lock too: the one who had it before may have finished just now.
            let cached = self.cached(key, options).await?;
            match (lock, cached) {
                (Some(lock), Cached::Fresh(bytes)) => {
                    lock.release().await;
                    return Ok(Turn::Fresh(bytes));
                }
                (Some(lock), Cached::Stale(_) | Cached::Missing) => {
                    return Ok(Turn::Compute(Some(lock)));
                }
                (None, Cached::Fresh(bytes)) => return Ok(Turn::Fresh(bytes)),
                (None, Cached::Stale(bytes)) => return Ok(Turn::Stale(bytes)),
                (None, Cached::Missing) => {}
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(POLL_DELAY_MAX);
        }
    }

    async fn compute<T, E>(
        &self,
        key: &[u8],
        options: ComputeOptions,
        compute: impl Future<Output = Result<T, E>>,
        lead: Lead,
        lock: Option<Lock>,
    ) -> Result<T, ClientError>
    where
        T: Serialize,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let computed = match &lock {
            Some(lock) => lock.hold_while(compute).await,
            None => compute.await,
        };
        let encoded = match &computed {
            Ok(value) => value_bytes(key, value),
            Err(_) => Ok(Vec::new()),
        };
        match (computed, encoded) {
            (Ok(value), Ok(bytes)) => {
                self.store_computed(key, options, &bytes, lock.as_ref()).await;
                // Those of this process need not wait for the lock to be given back.
                lead.publish(&bytes);
                release(lock).await;
                Ok(value)
            }
            (Ok(_), Err(error)) => {
                release(lock).await;
                Err(error)
            }
            (Err(error), _) => {
                release(lock).await;
                Err(ClientError::Computation { key: key_text(key), source: error.into() })
            }
        }
    }
    /// Stores a computed value, if that is possible and nobody has computed it later than we did.
    async fn store_computed(
        &self,
        key: &[u8],
        options: ComputeOptions,
        bytes: &[u8],
        lock: Option<&Lock>,
    ) {
        let ttl = options.ttl.saturating_add(options.stale);
        let set_options = match lock {
            // A lock that was lost: another process computes.
            Some(lock) if !lock.is_held().await => return,
            Some(_) => SetOptions::new().ttl(ttl),
            // There was no value; one that is there now is another's.
            None => SetOptions::new().ttl(ttl).if_absent(),
        };
        let mut set = command("SET", key);
        set.arg(bytes);
        set_options.add_to(&mut set);
        let _: Result<(), _> = self.write(set, key).await;
    }
}

async fn release(lock: Option<Lock>) {
    if let Some(lock) = lock {
        lock.release().await;
    }
}
