//! Which keys go when memory is short.

use crate::records::UnixMillis;

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
