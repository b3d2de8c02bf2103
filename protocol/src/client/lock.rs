//! The lock by which one process of many computes a value.
//!
//! It is a key of its own beside the value's, set with `NX`, a random token and a deadline, which
//! its owner moves on while it works: the lock of a crashed owner expires by itself.
//!
//! Without scripts, "delete if it is still mine" takes two commands. Between them the lock could
//! expire and become another's, so it is only deleted while its deadline is well ahead, and is
//! left to expire otherwise. What remains is a command that is delayed longer than that margin;
//! it costs one more computation, never a wrong value.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::commands::lifetime;
use super::set_options::milliseconds;
use super::{CacheClient, ClientError, Lifetime, command};

/// What the key of a lock begins with; the key that is computed follows.
const PREFIX: &[u8] = b"distcache:lock:";

/// A lock is only deleted if it has as much of its time left: a third of it, at most a second.
const MARGIN_MAX: Duration = Duration::from_secs(1);

/// A lock that is held until it is released, dropped or lost.
pub(super) struct Lock {
    client: CacheClient,
    key: Vec<u8>,
    token: Vec<u8>,
    duration: Duration,
    is_lost: AtomicBool,
    is_released: bool,
}

impl Lock {
    /// Takes the lock for the computation of `key`, if nobody has it.
    pub(super) async fn acquire(
        client: &CacheClient,
        key: &[u8],
        duration: Duration,
    ) -> Result<Option<Self>, ClientError> {
        // Made first, so that an acquisition whose caller goes away is given back as well.
        let mut lock = Self {
            client: client.clone(),
            key: [PREFIX, key].concat(),
            token: new_token(),
            duration,
            is_lost: AtomicBool::new(false),
            is_released: false,
        };
        let mut set = command("SET", &lock.key);
        set.arg(&lock.token).arg("NX").arg("PX").arg(milliseconds(duration));
        let is_taken: Option<String> = client.write(set, &lock.key).await?;
        if is_taken.is_none() {
            lock.is_released = true;
            return Ok(None);
        }
        Ok(Some(lock))
    }

    /// Runs `work` and keeps the lock alive meanwhile.
    pub(super) async fn hold_while<F: Future>(&self, work: F) -> F::Output {
        tokio::select! {
            biased;
            output = work => output,
            () = self.renew_for_ever() => unreachable!("it never ends"),
        }
    }

    async fn renew_for_ever(&self) {
        loop {
            tokio::time::sleep(self.duration / 3).await;
            // A failure is no loss yet: the lock may live on for two more attempts.
            match self.remaining().await {
                Ok(Some(_)) => {
                    let mut extend = command("PEXPIRE", &self.key);
                    extend.arg(milliseconds(self.duration));
                    let _: Result<i64, _> = self.client.write(extend, &self.key).await;
                }
                Ok(None) => self.is_lost.store(true, Ordering::Relaxed),
                Err(_) => {}
            }
        }
    }

    /// Returns how long the lock still lives, or nothing if it is no longer this one.
    async fn remaining(&self) -> Result<Option<Duration>, ClientError> {
        let (get, pttl) = (command("GET", &self.key), command("PTTL", &self.key));
        let (token, remaining) = tokio::join!(
            self.client.read::<Option<Vec<u8>>>(get, &self.key),
            self.client.read::<i64>(pttl, &self.key),
        );
        if token?.as_ref() != Some(&self.token) {
            return Ok(None);
        }
        Ok(match lifetime(remaining?) {
            Lifetime::Remaining(remaining) => Some(remaining),
            Lifetime::Missing | Lifetime::Unlimited => None,
        })
    }

    /// Whether the lock was ours all the time until now.
    pub(super) async fn is_held(&self) -> bool {
        !self.is_lost.load(Ordering::Relaxed) && matches!(self.remaining().await, Ok(Some(_)))
    }

    /// Gives the lock back. Should that fail, it expires by itself.
    pub(super) async fn release(mut self) {
        self.delete_if_held().await;
        self.is_released = true;
    }

    async fn delete_if_held(&self) {
        let margin = MARGIN_MAX.min(self.duration / 3);
        if let Ok(Some(remaining)) = self.remaining().await
            && remaining >= margin
        {
            let _: Result<i64, _> = self.client.write(command("DEL", &self.key), &self.key).await;
        }
    }
}

/// A lock that is dropped unreleased: its computation panicked or its caller went away.
impl Drop for Lock {
    fn drop(&mut self) {
        if self.is_released {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let abandoned = Self {
            client: self.client.clone(),
            key: std::mem::take(&mut self.key),
            token: std::mem::take(&mut self.token),
            duration: self.duration,
            is_lost: AtomicBool::new(false),
            is_released: true,
        };
        runtime.spawn(async move { abandoned.delete_if_held().await });
    }
}

/// Returns a token that no other lock has: random keys of the standard library's hasher, which
/// come from the operating system, over a counter.
fn new_token() -> Vec<u8> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let counter = COUNTER.fetch_add(1, Ordering::Relaxed);
    let (high, low) = (RandomState::new().hash_one(counter), RandomState::new().hash_one(counter));
    let process = std::process::id();
    format!("{high:016x}{low:016x}-{process}-{counter}").into_bytes()
}
