//! The accounts of a keyspace: memory and counts against a recount from scratch.

use distcache_recovery::{FrameBuilder, RecordCursor};
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Select(u8),
    Put(u16, Vec<u8>, Option<u64>),
    Append(u16, Vec<u8>),
    WriteRange(u16, usize),
    SetDeadline(u16, Option<u64>),
    Remove(u16),
    RemoveMany(u16),
    Flush,
    Swap,
    Pass(u64),
    Evict(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0..3000_u16;
    let deadline = || prop::option::of(1..5000_u64);
    let bytes = || {
        prop_oneof![
            9 => prop::collection::vec(any::<u8>(), 0..200),
            1 => prop::collection::vec(any::<u8>(), 16_000..17_000),
        ]
    };
    prop_oneof![
        2 => (0..3_u8).prop_map(Step::Select),
        20 => (key(), bytes(), deadline()).prop_map(|(k, b, d)| Step::Put(k, b, d)),
        5 => (key(), bytes()).prop_map(|(k, b)| Step::Append(k, b)),
        3 => (key(), 0..20_000_usize).prop_map(|(k, at)| Step::WriteRange(k, at)),
        5 => (key(), deadline()).prop_map(|(k, d)| Step::SetDeadline(k, d)),
        5 => key().prop_map(Step::Remove),
        2 => key().prop_map(Step::RemoveMany),
        1 => Just(Step::Flush),
        1 => Just(Step::Swap),
        2 => (0..500_u64).prop_map(Step::Pass),
        2 => (0..50_usize).prop_map(Step::Evict),
    ]
}

fn key(number: u16) -> Vec<u8> {
    // Most keys share a slot, so that its segments split.
    let tag = if number.is_multiple_of(8) { "" } else { "{tag}" };
    format!("{tag}{number}").into_bytes()
}

fn take(keyspace: &mut Keyspace, step: Step) {
    match step {
        Step::Select(database) => keyspace.begin(keyspace.now(), database),
        Step::Put(number, bytes, deadline) => {
            let deadline = deadline.map_or(Deadline::Clear, |at| Deadline::At(UnixMillis(at)));
            keyspace.put(&key(number), Value::String(&bytes), deadline);
        }
        Step::Append(number, bytes) => {
            keyspace.append(&key(number), &bytes);
        }
        Step::WriteRange(number, offset) => {
            keyspace.write_range(&key(number), offset, b"range");
        }
        Step::SetDeadline(number, deadline) => {
            keyspace.set_deadline(&key(number), deadline.map(UnixMillis));
        }
        Step::Remove(number) => {
            keyspace.remove(&key(number));
        }
        Step::RemoveMany(number) => {
            for other in number..number + 500 {
                keyspace.remove(&key(other));
            }
        }
        Step::Flush => flush(keyspace),
        Step::Swap => {
            for (partition, _) in keyspace.occupied_partitions(|number| number < 2) {
                keyspace.swap(partition, 0, 1);
            }
        }
        Step::Pass(millis) => {
            let now = UnixMillis(keyspace.now().0 + millis);
            keyspace.begin(now, keyspace.database());
            keyspace.expire_slice(now);
        }
        Step::Evict(keys) => {
            keyspace.evict(EvictionPolicy::AllKeysLru, 5, usize::MAX, keys);
        }
    }
}

fn flush(keyspace: &mut Keyspace) {
    let selected = keyspace.database();
    for (partition, _) in keyspace.occupied_partitions(|number| number == selected) {
        keyspace.flush(partition);
    }
}

/// What some tables amount to, counted one by one.
fn count(tables: &[SlotTable]) -> Totals {
    let of_table = |table: &SlotTable| {
        let entries = table.iter().map(Totals::of).fold(Totals::NONE, Totals::plus);
        entries.and_bytes(table.allocated())
    };
    tables.iter().map(of_table).fold(Totals::NONE, Totals::plus)
}

/// Totals of all databases, counted one by one.
fn recount(keyspace: &Keyspace) -> Totals {
    let databases = keyspace.databases.iter();
    databases.map(|database| count(&database.tables)).fold(Totals::NONE, Totals::plus)
}

fn accounts(keyspace: &Keyspace) -> Totals {
    let sizes = keyspace.sizes();
    Totals {
        keys: sizes.iter().map(|size| size.keys).sum(),
        volatile: sizes.iter().map(|size| size.volatile).sum(),
        bytes: keyspace.used_bytes(),
    }
}

/// Checks all running totals against a recount.
pub(super) fn check_accounts(keyspace: &Keyspace) -> Result<(), TestCaseError> {
    prop_assert_eq!(accounts(keyspace), recount(keyspace));
    for database in keyspace.databases.iter() {
        let counted: Vec<_> =
            database.tables.chunks(SLOTS_PER_PARTITION as usize).map(count).collect();
        prop_assert_eq!(&database.partitions[..], &counted[..]);
    }
    let sizes = keyspace.partition_sizes();
    prop_assert!(sizes.iter().all(|(partition, size)| keyspace.owns(*partition) && size.keys > 0));
    let sum = |number: fn(&PartitionSize) -> u64| sizes.iter().map(|(_, size)| number(size)).sum();
    let (keys, bytes): (u64, u64) = (sum(|size| size.keys), sum(|size| size.bytes));
    let totals = accounts(keyspace);
    prop_assert_eq!((keys, bytes), (totals.keys as u64, totals.bytes as u64));
    Ok(())
}

fn keyspace() -> Keyspace {
    Keyspace::new(ShardId { index: 0, count: 2 }, 3, KeyHasher::new(3))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn accounts_equal_a_recount(
        fill in 0..3000_u16,
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let mut keyspace = keyspace();
        for number in 0..fill {
            keyspace.put(&key(number), Value::Integer(1), Deadline::Clear);
        }
        for step in steps {
            take(&mut keyspace, step);
        }
        check_accounts(&keyspace)?;
        for database in 0..3 {
            keyspace.begin(keyspace.now(), database);
            flush(&mut keyspace);
        }
        prop_assert_eq!(accounts(&keyspace), Totals::NONE);
    }
}

#[test]
fn memory_is_given_back_as_keys_are_deleted() {
    let mut keyspace = keyspace();
    let name = |i: u32| if i.is_multiple_of(2) { format!("{{tag}}{i}") } else { format!("{i}") };
    for i in 0..40_000_u32 {
        keyspace.put(name(i).as_bytes(), Value::String(&[1; 40]), Deadline::Clear);
    }
    let full = keyspace.used_bytes();
    for i in 0..40_000_u32 {
        if !i.is_multiple_of(20) {
            keyspace.remove(name(i).as_bytes());
        }
    }
    assert!(keyspace.used_bytes() < full / 8, "{} of {full}", keyspace.used_bytes());
    for i in 0..40_000_u32 {
        keyspace.remove(name(i).as_bytes());
    }
    assert_eq!(accounts(&keyspace), Totals::NONE);
}

#[test]
fn flushed_tables_are_put_aside_for_another_thread() {
    let mut keyspace = keyspace();
    for number in 0..1000 {
        keyspace.put(&key(number), Value::String(&[1; 40]), Deadline::Clear);
    }
    let keys = accounts(&keyspace).keys;
    for (partition, _) in keyspace.occupied_partitions(|number| number == 0) {
        keyspace.flush(partition);
    }
    assert_eq!(accounts(&keyspace), Totals::NONE);
    let removed = keyspace.take_removed();
    assert_eq!(removed.iter().map(SlotTable::len).sum::<usize>(), keys);
    assert!(keyspace.take_removed().is_empty());
}

#[test]
fn what_a_coordinator_writes_to_an_expired_key_is_a_new_key() {
    let new = || Keyspace::new(ShardId { index: 0, count: 1 }, 1, KeyHasher::new(9));
    let writes: [fn(&mut Keyspace) -> usize; 2] = [
        |keyspace| keyspace.write_range(b"key", 2, b"new"),
        |keyspace| keyspace.append(b"key", b"\0\0new"),
    ];
    for write in writes {
        let mut owner = new();
        owner.begin(UnixMillis(1), 0);
        owner.put(b"key", Value::String(b"expired"), Deadline::At(UnixMillis(5)));
        owner.begin(UnixMillis(9), 0);
        let mut copies = Vec::new();
        owner.lend(b"key", true, &mut copies);
        assert!(copies.is_empty());
        let mut scratch = new();
        scratch.begin(UnixMillis(9), 0);
        scratch.journal.set_enabled(true);
        assert_eq!(write(&mut scratch), 5);
        let frame = scratch.journal.take(FrameBuilder::default());
        for record in RecordCursor::new(frame.payload(), frame.count()) {
            owner.apply_coordinated(&record.unwrap());
        }
        let entry = owner.inspect(b"key").expect("it has been written");
        assert!(matches!(entry.value(), Value::String(b"\0\0new")), "{:?}", entry.value());
    }
}

/// What the log or another node has of databases beyond those that commands reach.
#[test]
fn hidden_databases_are_kept_and_live_on() {
    let mut keyspace = keyspace();
    let last = (databases::DATABASES_MAX - 1) as u8;
    let own = (0..).map(key).find(|key| keyspace.owns(partition_of(slot_of(key)))).unwrap();
    let (key, partition) = (&own[..], partition_of(slot_of(&own)));
    let (value, deadline) = (StoredValue::Integer(1), Some(UnixMillis(100)));
    let apply = |keyspace: &mut Keyspace, database, operation| {
        keyspace.apply(&Record { partition, database, operation });
    };
    apply(&mut keyspace, last, Operation::Put { key, value, deadline });
    apply(&mut keyspace, 9, Operation::Swap { other: last });
    apply(&mut keyspace, 2, Operation::Swap { other: 200 });
    assert_eq!(keyspace.databases(), 3);
    assert_eq!(keyspace.occupied_partitions(|_| true), [(partition, vec![9])]);
    assert_eq!(keyspace.sizes()[9].volatile, 1);

    let mut other = keyspace.twin();
    other.attach(keyspace.detach(partition));
    assert!(!keyspace.holds_partition(partition) && other.holds_partition(partition));
    assert!(other.in_database(9, |other| other.inspect(key).is_some()));
    let hint = other.hint(200, key);
    other.warm([hint].iter());
    let expired = other.expire_slice(UnixMillis(100));
    assert_eq!(expired.removed, 1);
    apply(&mut other, last, Operation::Put { key, value, deadline: None });
    assert!(other.evict(EvictionPolicy::AllKeysLru, 5, usize::MAX, 1) > 0);
    apply(&mut other, last, Operation::Put { key, value, deadline: None });
    apply(&mut other, 0, Operation::MoveOut { epoch: 1, to: 2 });
    assert_eq!(accounts(&other), Totals::NONE);
}
