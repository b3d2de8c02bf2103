//! Which keys go when memory is short.
//!
//! As in Redis: each step draws a few keys of each database into a pool of the best candidates
//! seen so far, and removes the best of the pool. So the order is nearly that of the policy,
//! without a list through all keys. (Redis: `evict.c`.)

use super::Keyspace;
use super::entry::Entry;
use super::sample::Drawn;
use crate::config::EvictionPolicy;
use crate::records::{DeleteCause, UnixMillis};

/// Candidates that are remembered from one step to the next (Redis: `EVPOOL_SIZE`).
const POOL_SIZE: usize = 16;
/// Draws for one key that has not expired.
const RANDOM_KEY_DRAWS_MAX: u32 = 100;

/// Value of a new key's LFU counter, so that it survives until it can be used (Redis:
/// `LFU_INIT_VAL`).
const LFU_COUNTER_NEW: u32 = 5;

/// What the 24 bits of an entry's access clock mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AccessMode {
    /// Seconds of the last use, modulo 2^24.
    #[default]
    Lru,
    /// 16 bits of minutes of the last decay, 8 bits of a logarithmic counter of uses.
    Lfu,
}

/// How entries remember their last use.
#[derive(Debug)]
pub struct AccessClock {
    /// Meaning of the bits; follows the eviction policy.
    pub mode: AccessMode,
    /// How much slower the LFU counter grows the larger it is (`lfu-log-factor`).
    pub lfu_log_factor: u32,
    /// Minutes after which an unused key's LFU counter falls by one (`lfu-decay-time`; 0 = never).
    pub lfu_decay_minutes: u32,
    seconds: u32,
    random: u64,
}

impl Default for AccessClock {
    fn default() -> Self {
        AccessClock {
            mode: AccessMode::Lru,
            lfu_log_factor: 10,
            lfu_decay_minutes: 1,
            seconds: 0,
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }
}

impl AccessClock {
    /// Sets the time of the lookups that follow.
    #[inline]
    pub fn set_now(&mut self, now: UnixMillis) {
        self.seconds = (now.0 / 1000) as u32;
    }

    /// Takes over time and settings of another clock.
    pub fn follow(&mut self, other: &AccessClock) {
        let random = self.random;
        *self = AccessClock { random, ..*other };
    }

    /// The clock of an entry that is made now.
    #[inline]
    pub fn fresh(&self) -> u32 {
        match self.mode {
            AccessMode::Lru => self.seconds & 0xff_ffff,
            AccessMode::Lfu => (self.minutes() << 8) | LFU_COUNTER_NEW,
        }
    }

    /// The clock of an entry that is used now.
    #[inline]
    pub fn touched(&mut self, access: u32) -> u32 {
        match self.mode {
            AccessMode::Lru => self.seconds & 0xff_ffff,
            AccessMode::Lfu => {
                let counter = self.lfu_counter(access);
                (self.minutes() << 8) | self.incremented(counter)
            }
        }
    }

    /// Seconds since an entry was last used (LRU mode).
    pub fn idle_seconds(&self, access: u32) -> u32 {
        self.seconds.wrapping_sub(access) & 0xff_ffff
    }

    /// The LFU counter of an entry, after decay (Redis: `LFUDecrAndReturn`).
    pub fn lfu_counter(&self, access: u32) -> u32 {
        let elapsed = self.minutes().wrapping_sub(access >> 8) & 0xffff;
        let periods = elapsed.checked_div(self.lfu_decay_minutes).unwrap_or(0);
        (access & 0xff).saturating_sub(periods)
    }

    /// Counts one use with a probability that falls as the counter grows (Redis: `LFULogIncr`).
    fn incremented(&mut self, counter: u32) -> u32 {
        if counter >= 255 {
            return 255;
        }
        let above = counter.saturating_sub(LFU_COUNTER_NEW);
        let chance = 1.0 / (f64::from(above) * f64::from(self.lfu_log_factor) + 1.0);
        counter + u32::from(self.random_unit() < chance)
    }

    fn minutes(&self) -> u32 {
        (self.seconds / 60) & 0xffff
    }

    /// xorshift64*, which is enough to sample with.
    pub fn random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Seeds `random`; every shard starts from another seed.
    pub fn seed(&mut self, seed: u64) {
        self.random = seed | 1;
    }

    fn random_unit(&mut self) -> f64 {
        (self.random() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A key that may go.
struct Candidate {
    /// The higher, the sooner it goes.
    score: u64,
    database: u8,
    key: Vec<u8>,
}

/// The best candidates so far, the best one last.
#[derive(Default)]
pub(super) struct EvictionPool {
    candidates: Vec<Candidate>,
    policy: Option<EvictionPolicy>,
    /// Where a random policy goes on, so that all databases have their turn.
    next_database: u8,
}

impl EvictionPool {
    fn offer(&mut self, score: u64, database: u8, key: &[u8]) {
        let place = self.candidates.partition_point(|candidate| candidate.score < score);
        if place == 0 && self.candidates.len() == POOL_SIZE {
            return;
        }
        if self.candidates.iter().any(|other| other.database == database && other.key == key) {
            return;
        }
        self.candidates.insert(place, Candidate { score, database, key: key.to_vec() });
        if self.candidates.len() > POOL_SIZE {
            self.candidates.remove(0);
        }
    }
}

fn drawn_by(policy: EvictionPolicy) -> Option<Drawn> {
    match policy {
        EvictionPolicy::NoEviction => None,
        EvictionPolicy::AllKeysLru | EvictionPolicy::AllKeysLfu | EvictionPolicy::AllKeysRandom => {
            Some(Drawn::All)
        }
        EvictionPolicy::VolatileLru
        | EvictionPolicy::VolatileLfu
        | EvictionPolicy::VolatileRandom
        | EvictionPolicy::VolatileTtl => Some(Drawn::Volatile),
    }
}

impl Keyspace {
    /// Removes keys by `policy` until `bytes_wanted` are freed, or `keys_max` are gone, or there
    /// is none that may go. Returns the bytes freed; effects are in the journal.
    ///
    /// Costs about 1 us a key with 5 samples, and 0.1 ms now and then (see [`super::sample`]).
    pub fn evict(
        &mut self,
        policy: EvictionPolicy,
        samples: usize,
        bytes_wanted: usize,
        keys_max: usize,
    ) -> usize {
        let Some(drawn) = drawn_by(policy) else { return 0 };
        if self.pool.policy != Some(policy) {
            self.pool.candidates.clear();
            self.pool.policy = Some(policy);
        }
        let before = self.used;
        for _ in 0..keys_max {
            if before.saturating_sub(self.used) >= bytes_wanted {
                break;
            }
            let chosen = match policy {
                EvictionPolicy::AllKeysRandom | EvictionPolicy::VolatileRandom => {
                    self.draw_in_turn(drawn)
                }
                _ => self.best_candidate(policy, drawn, samples),
            };
            let Some((database, key)) = chosen else { break };
            self.in_database(database, |keyspace| {
                keyspace.remove_at(keyspace.locate(&key), &key, DeleteCause::Evicted)
            });
        }
        before.saturating_sub(self.used)
    }

    /// Draws a key of the next database that has one.
    fn draw_in_turn(&mut self, drawn: Drawn) -> Option<(u8, Vec<u8>)> {
        for _ in 0..self.databases.len() {
            let database = self.pool.next_database;
            self.pool.next_database = self.databases.next(database);
            if let Some(entry) = self.draw(database, drawn) {
                return Some((database, entry.key().to_vec()));
            }
        }
        None
    }

    fn draw(&mut self, database: u8, drawn: Drawn) -> Option<&Entry> {
        let clock = &mut self.clock;
        self.databases.get_mut(database)?.draw(drawn, &mut || clock.random())
    }

    /// Draws some keys into the pool, and takes the best one that is still there.
    fn best_candidate(
        &mut self,
        policy: EvictionPolicy,
        drawn: Drawn,
        samples: usize,
    ) -> Option<(u8, Vec<u8>)> {
        let mut pool = std::mem::take(&mut self.pool);
        for database in self.databases.numbers() {
            for _ in 0..samples {
                let Some(entry) = self.draw(database, drawn) else { break };
                let (access, deadline) = (entry.access(), entry.deadline());
                let key = entry.key().to_vec();
                pool.offer(self.score(policy, access, deadline), database, &key);
            }
        }
        let mut chosen = None;
        while let Some(Candidate { database, key, .. }) = pool.candidates.pop() {
            let eligible = self.in_database(database, |keyspace| {
                let entry = keyspace.entry_at(keyspace.locate(&key), &key);
                entry.is_some_and(|entry| drawn == Drawn::All || entry.deadline().is_some())
                    && !keyspace.is_held(&key)
            });
            if eligible {
                chosen = Some((database, key));
                break;
            }
        }
        self.pool = pool;
        chosen
    }

    fn score(&self, policy: EvictionPolicy, access: u32, deadline: Option<UnixMillis>) -> u64 {
        match policy {
            EvictionPolicy::VolatileTtl => u64::MAX - deadline.map_or(u64::MAX, |at| at.0),
            EvictionPolicy::AllKeysLfu | EvictionPolicy::VolatileLfu => {
                u64::from(255 - self.clock.lfu_counter(access))
            }
            _ => u64::from(self.clock.idle_seconds(access)),
        }
    }

    /// Returns a random key of the selected database; none if it has none that has not expired,
    /// or `RANDOM_KEY_DRAWS_MAX` draws found only such as have.
    pub fn random_key(&mut self) -> Option<Vec<u8>> {
        for _ in 0..RANDOM_KEY_DRAWS_MAX {
            let key = self.draw(self.selected, Drawn::All)?.key().to_vec();
            // Removes the key if it has expired, so that it is not drawn again.
            if self.find_live(&key, false).is_some() {
                return Some(key);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
