//! A small seeded generator (SplitMix64): the same seed gives the same commands on every machine.

/// A deterministic source of random choices.
pub(crate) struct Random(u64);

impl Random {
    /// Returns a generator that repeats itself for the same seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next 64 random bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `limit`, which is not zero.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// Returns true in about `percent` of 100 calls.
    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// Returns one of `choices`, which is not empty.
    pub(crate) fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}

/// Returns the seed from `DISTCACHE_TEST_SEED`, else the fixed one that CI uses, and prints it.
pub(crate) fn seed(test: &str) -> u64 {
    let seed = number_from_env("DISTCACHE_TEST_SEED", 20_261_122);
    eprintln!("{test}: DISTCACHE_TEST_SEED={seed}");
    seed
}

/// Returns a number from the environment, else `default`.
pub(crate) fn number_from_env(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")),
        Err(_) => default,
    }
}
