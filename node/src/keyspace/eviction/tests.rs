use super::super::entry::Value;
use super::super::{Deadline, KeyHasher, Keyspace, ShardId};
use super::*;

const POLICIES: [EvictionPolicy; 8] = [
    EvictionPolicy::VolatileLru,
    EvictionPolicy::VolatileLfu,
    EvictionPolicy::VolatileRandom,
    EvictionPolicy::VolatileTtl,
    EvictionPolicy::AllKeysLru,
    EvictionPolicy::AllKeysLfu,
    EvictionPolicy::AllKeysRandom,
    EvictionPolicy::NoEviction,
];

fn keyspace(mode: AccessMode) -> Keyspace {
    let mut keyspace = Keyspace::new(ShardId { index: 0, count: 1 }, 2, KeyHasher::new(5));
    keyspace.clock.mode = mode;
    keyspace
}

fn put(keyspace: &mut Keyspace, key: &str, deadline: Deadline) {
    keyspace.put(key.as_bytes(), Value::String(&[7; 50]), deadline);
}

fn keys(keyspace: &Keyspace) -> usize {
    keyspace.sizes().iter().map(|size| size.keys).sum()
}

#[test]
fn each_policy_takes_only_what_it_may_and_frees_what_is_wanted() {
    for policy in POLICIES {
        let mut keyspace = keyspace(AccessMode::Lru);
        for i in 0..2000_u64 {
            keyspace.begin(UnixMillis(0), (i % 2) as u8);
            put(&mut keyspace, &format!("stays:{i}"), Deadline::Clear);
            put(&mut keyspace, &format!("may go:{i}"), Deadline::At(UnixMillis(1_000_000 + i)));
        }
        let used = keyspace.used_bytes();
        let freed = keyspace.evict(policy, 5, 50_000, 10_000);
        assert_eq!(used - keyspace.used_bytes(), freed);
        if policy == EvictionPolicy::NoEviction {
            assert_eq!((freed, keys(&keyspace)), (0, 4000));
            continue;
        }
        assert!((50_000..70_000).contains(&freed), "{} freed {freed}", policy.name());
        // Much more than there is: all that may go is found.
        keyspace.evict(policy, 5, usize::MAX, 10_000);
        let left = if drawn_by(policy) == Some(Drawn::Volatile) { 2000 } else { 0 };
        assert_eq!(keys(&keyspace), left, "{}", policy.name());
        assert_eq!(keyspace.stats.evicted as usize, 4000 - left);
        assert_eq!(keyspace.evict(policy, 5, 1, 10), 0);
    }
}

#[test]
fn few_volatile_keys_among_many_others_are_found() {
    let mut keyspace = keyspace(AccessMode::Lru);
    for i in 0..50_000 {
        put(&mut keyspace, &format!("stays:{i}"), Deadline::Clear);
    }
    for i in 0..20 {
        put(&mut keyspace, &format!("may go:{i}"), Deadline::At(UnixMillis(1_000_000)));
    }
    keyspace.evict(EvictionPolicy::VolatileRandom, 5, usize::MAX, 1000);
    assert_eq!(keys(&keyspace), 50_000);
}

#[test]
fn a_key_that_a_coordinator_holds_is_not_taken() {
    let mut keyspace = keyspace(AccessMode::Lru);
    put(&mut keyspace, "held", Deadline::Clear);
    keyspace.hold(b"held");
    for policy in [EvictionPolicy::AllKeysLru, EvictionPolicy::AllKeysRandom] {
        assert_eq!(keyspace.evict(policy, 5, 1, 10), 0);
    }
    assert_eq!(keys(&keyspace), 1);
}

#[test]
fn the_key_that_expires_first_goes_first() {
    let mut keyspace = keyspace(AccessMode::Lru);
    for i in 0..5000_u64 {
        put(&mut keyspace, &format!("{i}"), Deadline::At(UnixMillis(1000 + i)));
    }
    keyspace.evict(EvictionPolicy::VolatileTtl, 10, usize::MAX, 2500);
    let early = (0..2500).filter(|i| keyspace.inspect(format!("{i}").as_bytes()).is_some());
    let early = early.count();
    assert!(early < 500, "{early} of the 2500 keys that expire first are left");
}

/// Reads keys of a skewed distribution, as a cache in front of something slow does: a miss puts
/// the key, and memory is held at what `room` keys need. Returns the share of hits.
fn hit_ratio(policy: EvictionPolicy, mode: AccessMode, room: usize) -> f64 {
    let mut keyspace = keyspace(mode);
    let mut dice = AccessClock::default();
    let mut hits = 0;
    const READS: u64 = 60_000;
    for read in 0..READS {
        // A hundred reads a second, so that the clock of seconds orders them.
        keyspace.begin(UnixMillis(1_000_000 + read * 10), 0);
        // The cube of a uniform number: half of the reads go to an eighth of the keys.
        let uniform = dice.random_unit();
        let key = format!("{}", (uniform.powi(3) * 10_000.0) as u32);
        if keyspace.read(key.as_bytes()).is_some() {
            hits += u64::from(read > READS / 2);
            continue;
        }
        put(&mut keyspace, &key, Deadline::Clear);
        while keys(&keyspace) > room {
            assert!(keyspace.evict(policy, 5, 1, 1) > 0);
        }
    }
    hits as f64 / (READS / 2) as f64
}

#[test]
fn lru_and_lfu_keep_the_hot_keys() {
    let random = hit_ratio(EvictionPolicy::AllKeysRandom, AccessMode::Lru, 2000);
    let lru = hit_ratio(EvictionPolicy::AllKeysLru, AccessMode::Lru, 2000);
    let lfu = hit_ratio(EvictionPolicy::AllKeysLfu, AccessMode::Lfu, 2000);
    // A fifth of the keys has 58 % of the reads: no policy can do better than that.
    assert!(lru > random + 0.02, "lru {lru:.3}, random {random:.3}");
    assert!(lfu > random + 0.04, "lfu {lfu:.3}, random {random:.3}");
    assert!(lfu < 0.6, "lfu {lfu:.3}");
}

#[test]
fn draws_are_near_uniform_whatever_the_slots_hold() {
    // One slot holds half of the keys, the others a few each or none.
    let mut keyspace = keyspace(AccessMode::Lru);
    const KEYS: usize = 4000;
    for i in 0..KEYS {
        let key = if i % 2 == 0 { format!("{{tag}}{i}") } else { format!("{i}") };
        put(&mut keyspace, &key, Deadline::Clear);
    }
    let mut seen = std::collections::HashMap::new();
    let mut tagged = 0;
    const DRAWS: usize = 40 * KEYS;
    for _ in 0..DRAWS {
        let key = keyspace.random_key().unwrap();
        tagged += usize::from(key.starts_with(b"{tag}"));
        *seen.entry(key).or_insert(0_usize) += 1;
    }
    let share = tagged as f64 / DRAWS as f64;
    assert!((0.48..0.52).contains(&share), "{share}");
    // Expected 40 draws of each key, with a deviation of 6.3.
    assert_eq!(seen.len(), KEYS);
    let (least, most) = (seen.values().min().unwrap(), seen.values().max().unwrap());
    assert!(*least > 8 && *most < 100, "{least} {most}");
}

#[test]
fn a_random_key_has_not_expired() {
    let mut keyspace = keyspace(AccessMode::Lru);
    assert_eq!(keyspace.random_key(), None);
    for i in 0..50 {
        put(&mut keyspace, &format!("{i}"), Deadline::At(UnixMillis(10)));
    }
    put(&mut keyspace, "lives", Deadline::Clear);
    keyspace.begin(UnixMillis(10), 0);
    for _ in 0..100 {
        assert_eq!(keyspace.random_key().as_deref(), Some(&b"lives"[..]));
    }
    assert_eq!(keys(&keyspace), 1);
}
