use super::super::entry::Value;
use super::super::{Deadline, KeyHasher, Keyspace, ShardId};
use super::*;

fn keyspace() -> Keyspace {
    Keyspace::new(ShardId { index: 0, count: 1 }, 4, KeyHasher::new(5))
}

fn put(keyspace: &mut Keyspace, database: u8, key: &str, deadline: u64) {
    keyspace.begin(UnixMillis(0), database);
    let deadline = match deadline {
        0 => Deadline::Clear,
        at => Deadline::At(UnixMillis(at)),
    };
    keyspace.put(key.as_bytes(), Value::Integer(1), deadline);
}

/// Runs slices until one is not busy. Returns their number.
fn expire_all(keyspace: &mut Keyspace, now: u64) -> usize {
    for slices in 1..10_000 {
        let slice = keyspace.expire_slice(UnixMillis(now));
        let spent = slice.examined + slice.removed * EXPIRY_STEPS_PER_REMOVAL;
        let segment = super::super::table::SEGMENT_ENTRIES_MAX * (1 + EXPIRY_STEPS_PER_REMOVAL);
        assert!(spent <= EXPIRY_SLICE_STEPS + segment, "{slice:?}");
        if !slice.cut {
            return slices;
        }
    }
    panic!("expiry does not come to an end");
}

fn keys(keyspace: &Keyspace) -> usize {
    keyspace.sizes().iter().map(|size| size.keys).sum()
}

#[test]
fn keys_vanish_in_bounded_slices_without_being_touched() {
    let mut keyspace = keyspace();
    for i in 0..100_000_u64 {
        put(&mut keyspace, 1, &format!("key:{i}"), 1000 + i % 1000);
        if i.is_multiple_of(10) {
            put(&mut keyspace, 3, &format!("stays:{i}"), 0);
        }
    }
    let slices = expire_all(&mut keyspace, 1999);
    assert!(slices > 10, "{slices} slices");
    // A second round: the cursor of the first began where it began.
    expire_all(&mut keyspace, 1999);
    assert_eq!(keys(&keyspace), 10_000);
    assert_eq!(keyspace.stats.expired, 100_000);
    let size = keyspace.sizes()[1];
    assert_eq!((size.keys, size.volatile, size.average_ttl_millis), (0, 0, 0));
}

#[test]
fn nothing_expires_early_and_all_that_is_due_goes() {
    let mut keyspace = keyspace();
    for i in 0..20_000_u64 {
        put(&mut keyspace, 0, &format!("{{one slot}}{i}"), 10 + i);
    }
    for now in [9, 10, 500, 501, 7777, 20_008, 20_009] {
        expire_all(&mut keyspace, now);
        expire_all(&mut keyspace, now);
        let due = (now + 1).saturating_sub(10).min(20_000) as usize;
        assert_eq!(keys(&keyspace), 20_000 - due, "at {now}");
    }
}

#[test]
fn a_later_deadline_and_a_cleared_one_keep_their_keys() {
    let mut keyspace = keyspace();
    for key in ["later", "never", "due"] {
        put(&mut keyspace, 0, key, 100);
    }
    keyspace.set_deadline(b"later", Some(UnixMillis(300)));
    keyspace.set_deadline(b"never", None);
    expire_all(&mut keyspace, 200);
    assert_eq!(keys(&keyspace), 2);
    expire_all(&mut keyspace, 300);
    expire_all(&mut keyspace, 300);
    assert_eq!(keys(&keyspace), 1);
}

#[test]
fn a_key_that_a_coordinator_holds_stays_until_it_is_released() {
    let mut keyspace = keyspace();
    put(&mut keyspace, 0, "held", 100);
    keyspace.hold(b"held");
    expire_all(&mut keyspace, 200);
    assert_eq!(keys(&keyspace), 1);
    keyspace.release(b"held");
    expire_all(&mut keyspace, 200);
    expire_all(&mut keyspace, 200);
    assert_eq!(keys(&keyspace), 0);
}

#[test]
fn the_mean_time_left_is_estimated() {
    let mut keyspace = keyspace();
    for i in 0..1000 {
        put(&mut keyspace, 2, &format!("{i}"), 100_000 + i % 100);
    }
    expire_all(&mut keyspace, 50_000);
    let left = keyspace.sizes()[2].average_ttl_millis;
    assert!((49_000..=50_100).contains(&left), "{left}");
}

#[test]
fn the_mean_time_left_is_estimated_from_one_key_wherever_it_is() {
    for key in ["a", "b", "c", "d"] {
        let mut keyspace = keyspace();
        put(&mut keyspace, 0, key, 100_000);
        // Slices enough to come by all the slots.
        for _ in 0..17 {
            keyspace.expire_slice(UnixMillis(50_000));
        }
        assert_eq!(keyspace.sizes()[0].average_ttl_millis, 50_000, "{key}");
    }
}

#[test]
fn switched_off_nothing_happens() {
    let mut keyspace = keyspace();
    put(&mut keyspace, 0, "k", 100);
    keyspace.set_active_expiry(false);
    expire_all(&mut keyspace, 200);
    assert_eq!(keys(&keyspace), 1);
    keyspace.set_active_expiry(true);
    expire_all(&mut keyspace, 200);
    assert_eq!(keys(&keyspace), 0);
}
