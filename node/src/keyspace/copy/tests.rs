//! Copies of partitions that change meanwhile, against the fold of the records.

use std::collections::BTreeMap;

use distcache_protocol::slot::slot_of;
use distcache_recovery::RecordCursor;
use distcache_recovery::limits::FRAME_BYTES_USUAL;
use distcache_recovery::state;
use proptest::prelude::*;

use super::super::tests::check_accounts;
use super::super::{Deadline, KeyHasher, ShardId, SlotTable, partition_of};
use super::*;
use crate::config::EvictionPolicy;
use crate::records::UnixMillis;

const DATABASES: u8 = 3;
/// Longest piece of a value in these tests.
const PIECE: usize = 20_000;

#[derive(Debug, Clone)]
enum Step {
    Select(u8),
    Put(u16, usize, Option<u64>),
    PutInteger(u16, i64),
    Append(u16, usize),
    WriteRange(u16, usize),
    SetDeadline(u16, Option<u64>),
    Remove(u16),
    Pass(u64),
    Evict(usize),
    Flush(usize),
    Swap(usize, u8, u8),
    Begin(u64, usize),
    Slice(u64),
    /// Changes the value that a copy has half done.
    Disturb(u64, Disturbance),
}

#[derive(Debug, Clone)]
enum Disturbance {
    Remove,
    Put(usize, Option<u64>),
    SetDeadline(Option<u64>),
    Flush,
    /// Changes a key of the same hash that is copied already.
    Neighbour(usize),
}

fn step() -> impl Strategy<Value = Step> {
    // Changes of long values are frequent, so that they hit half copied ones.
    let key = || prop_oneof![1 => 0..LONG_KEYS, 3 => LONG_KEYS..1000_u16];
    let deadline = || prop::option::of(1..5000_u64);
    let id = || 0..4_u64;
    let disturbance = prop_oneof![
        2 => Just(Disturbance::Remove),
        4 => (0..8 * PIECE, deadline()).prop_map(|(l, d)| Disturbance::Put(l, d)),
        2 => deadline().prop_map(Disturbance::SetDeadline),
        1 => Just(Disturbance::Flush),
        4 => (0..200_usize).prop_map(Disturbance::Neighbour),
    ];
    prop_oneof![
        20 => (0..DATABASES).prop_map(Step::Select),
        60 => (key(), 0..300_usize, deadline()).prop_map(|(k, l, d)| Step::Put(k, l, d)),
        30 => (0..LONG_KEYS, PIECE - 1..8 * PIECE, deadline())
            .prop_map(|(k, l, d)| Step::Put(k, l, d)),
        10 => (key(), any::<i64>()).prop_map(|(k, i)| Step::PutInteger(k, i)),
        20 => (key(), 0..200_usize).prop_map(|(k, l)| Step::Append(k, l)),
        10 => (key(), 0..3 * PIECE).prop_map(|(k, at)| Step::WriteRange(k, at)),
        20 => (key(), deadline()).prop_map(|(k, d)| Step::SetDeadline(k, d)),
        20 => key().prop_map(Step::Remove),
        5 => (0..100_u64).prop_map(Step::Pass),
        5 => (0..5_usize).prop_map(Step::Evict),
        1 => (0..2_usize).prop_map(Step::Flush),
        2 => (0..2_usize, 0..DATABASES, 0..DATABASES).prop_map(|(p, a, b)| Step::Swap(p, a, b)),
        5 => (id(), 0..2_usize).prop_map(|(id, p)| Step::Begin(id, p)),
        200 => id().prop_map(Step::Slice),
        30 => (id(), disturbance).prop_map(|(id, d)| Step::Disturb(id, d)),
    ]
}

/// The first keys have long values at times.
const LONG_KEYS: u16 = 12;

/// A keyspace with the fold of its records and the copies under way.
struct World {
    live: Keyspace,
    model: state::Keyspace,
    hasher: KeyHasher,
    partitions: [PartitionId; 2],
    /// Tags of keys: most of the first partition, one of the second.
    tags: Vec<String>,
    sinks: BTreeMap<u64, Sink>,
}

/// Where a stream goes.
struct Sink {
    partition: PartitionId,
    staging: Keyspace,
    fold: state::Keyspace,
}

fn keyspace(hasher: &KeyHasher) -> Keyspace {
    Keyspace::new(ShardId { index: 0, count: 2 }, u16::from(DATABASES), hasher.clone())
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + length) as u8).collect()
}

/// What a keyspace holds of a partition.
fn content(keyspace: &Keyspace, partition: PartitionId) -> BTreeMap<(u8, Vec<u8>), state::Item> {
    let first = keyspace.shard.local(partition.0 * SLOTS_PER_PARTITION);
    let mut content = BTreeMap::new();
    for (number, database) in (0..).zip(keyspace.databases.slots()) {
        let Some(database) = database else { continue };
        let tables = &database.tables[first..first + SLOTS_PER_PARTITION as usize];
        for entry in tables.iter().flat_map(SlotTable::iter) {
            let value = match entry.value() {
                Value::Integer(integer) => state::Value::Integer(integer),
                Value::String(bytes) => state::Value::String(bytes.to_vec()),
            };
            let item = state::Item { value, deadline: entry.deadline() };
            content.insert((number, entry.key().to_vec()), item);
        }
    }
    content
}

fn content_of_fold(
    fold: &state::Keyspace,
    partition: PartitionId,
) -> BTreeMap<(u8, Vec<u8>), state::Item> {
    let of_partition = fold.iter().filter(|&(_, of_key, ..)| of_key == partition);
    of_partition.map(|(db, _, key, item)| ((db, key.to_vec()), item.clone())).collect()
}

impl Sink {
    fn new(partition: PartitionId, hasher: &KeyHasher) -> Sink {
        Sink { partition, staging: keyspace(hasher), fold: state::Keyspace::default() }
    }

    fn take(&mut self, chunk: &FrameBuilder) {
        for record in RecordCursor::new(chunk.payload(), chunk.count()) {
            let record = record.unwrap();
            assert_eq!(record.partition, self.partition);
            self.staging.apply(&record);
            self.fold.apply(&record).unwrap();
        }
    }
}

impl World {
    fn new(hasher: KeyHasher) -> World {
        let mut live = keyspace(&hasher);
        live.journal.set_enabled(true);
        let names = || (0..).map(|number| format!("{{t{number}}}"));
        let partition_of = |name: &String| partition_of(slot_of(name.as_bytes()));
        let first = names().map(|name| partition_of(&name)).find(|id| live.owns(*id)).unwrap();
        let is_second = |id: &PartitionId| live.owns(*id) && *id != first;
        let second = names().map(|name| partition_of(&name)).find(is_second).unwrap();
        let mut tags: Vec<_> = names().filter(|tag| partition_of(tag) == first).take(3).collect();
        tags.extend(names().find(|tag| partition_of(tag) == second));
        let (model, sinks) = (state::Keyspace::default(), BTreeMap::new());
        World { live, model, hasher, partitions: [first, second], tags, sinks }
    }

    fn key(&self, number: u16) -> Vec<u8> {
        format!("{}{number}", self.tags[number as usize % self.tags.len()]).into_bytes()
    }

    /// Takes a step and folds its records.
    fn step(&mut self, step: Step) {
        match step {
            Step::Begin(id, partition) => {
                let partition = self.partitions[partition];
                self.live.begin_copy_in_pieces(CopyId(id), partition, PIECE);
                self.sinks.insert(id, Sink::new(partition, &self.hasher));
            }
            Step::Slice(id) => {
                self.slice(id);
            }
            Step::Flush(partition) => self.coordinate(partition, Operation::Flush),
            Step::Swap(partition, one, other) => {
                self.live.begin(self.live.now(), one);
                self.coordinate(partition, Operation::Swap { other });
            }
            Step::Disturb(id, disturbance) => self.disturb(id, disturbance),
            step => self.change(step),
        }
        let frame = self.live.journal.take(FrameBuilder::new());
        for record in RecordCursor::new(frame.payload(), frame.count()) {
            self.model.apply(&record.unwrap()).unwrap();
        }
    }

    fn coordinate(&mut self, partition: usize, operation: Operation<'_>) {
        let (partition, database) = (self.partitions[partition], self.live.database());
        let record = Record { partition, database, operation };
        self.live.apply_coordinated(&record);
        assert_eq!(self.live.database(), database);
        self.model.apply(&record).unwrap();
        drop(self.live.take_removed());
    }

    fn change(&mut self, step: Step) {
        let (at, keyspace) = (|deadline: Option<u64>| deadline.map(UnixMillis), &mut self.live);
        let now = keyspace.now();
        match step {
            Step::Select(database) => keyspace.begin(now, database),
            Step::Put(number, length, deadline) => {
                let deadline = at(deadline).map_or(Deadline::Clear, Deadline::At);
                let key = self.key(number);
                self.live.put(&key, Value::String(&bytes(length)), deadline);
            }
            Step::PutInteger(number, integer) => {
                let key = self.key(number);
                self.live.put(&key, Value::Integer(integer), Deadline::Keep);
            }
            Step::Append(number, length) => {
                let key = self.key(number);
                self.live.append(&key, &bytes(length));
            }
            Step::WriteRange(number, offset) => {
                let key = self.key(number);
                self.live.write_range(&key, offset, b"range");
            }
            Step::SetDeadline(number, deadline) => {
                let key = self.key(number);
                self.live.set_deadline(&key, at(deadline));
            }
            Step::Remove(number) => {
                let key = self.key(number);
                self.live.remove(&key);
            }
            Step::Pass(millis) => {
                let now = UnixMillis(now.0 + millis);
                keyspace.begin(now, keyspace.database());
                keyspace.expire_slice(now);
            }
            Step::Evict(keys) => {
                keyspace.evict(EvictionPolicy::AllKeysRandom, 5, usize::MAX, keys);
            }
            Step::Flush(_)
            | Step::Swap(..)
            | Step::Begin(..)
            | Step::Slice(_)
            | Step::Disturb(..) => {}
        }
    }

    fn disturb(&mut self, id: u64, disturbance: Disturbance) {
        let Some(copy) = self.live.journal.copies.find(CopyId(id)) else { return };
        let Some(key) = copy.here.partial.as_ref().map(|partial| partial.key.clone()) else {
            return;
        };
        let neighbour = copy.here.done.last().cloned();
        let partition = self.partitions.iter().position(|id| *id == copy.partition).unwrap();
        self.live.begin(self.live.now(), copy.next.0);
        match disturbance {
            Disturbance::Remove => {
                self.live.remove(&key);
            }
            Disturbance::Put(length, deadline) => {
                let deadline = deadline.map_or(Deadline::Clear, |at| Deadline::At(UnixMillis(at)));
                self.live.put(&key, Value::String(&bytes(length)), deadline);
            }
            Disturbance::SetDeadline(deadline) => {
                self.live.set_deadline(&key, deadline.map(UnixMillis));
            }
            Disturbance::Flush => self.coordinate(partition, Operation::Flush),
            Disturbance::Neighbour(length) => {
                if let Some(key) = neighbour {
                    self.live.append(&key, &bytes(length));
                }
            }
        }
    }

    /// Lets a copy go on. Returns whether it has passed everything.
    fn slice(&mut self, id: u64) -> bool {
        let progress = self.live.copy_slice(CopyId(id));
        let bytes = self.live.chunk_bytes(CopyId(id));
        let chunk = self.live.take_chunk(CopyId(id), FrameBuilder::new());
        assert_eq!((chunk.len(), self.live.chunk_bytes(CopyId(id))), (bytes, 0));
        let Some(sink) = self.sinks.get_mut(&id) else { return true };
        if progress == CopyProgress::Restarted {
            assert!(chunk.is_empty());
            *sink = Sink::new(sink.partition, &self.hasher);
        }
        sink.take(&chunk);
        progress == CopyProgress::Passed
    }

    /// Ends a copy and takes what has arrived over into a keyspace that has other keys there.
    fn end(&mut self, id: u64) -> Result<(), TestCaseError> {
        while !self.slice(id) {}
        self.live.end_copy(CopyId(id));
        let Some(mut sink) = self.sinks.remove(&id) else { return Ok(()) };
        let partition = sink.partition;
        let expected = content_of_fold(&self.model, partition);
        prop_assert!(content(&sink.staging, partition) == expected);
        prop_assert!(content_of_fold(&sink.fold, partition) == expected);
        check_accounts(&sink.staging)?;

        let mut target = keyspace(&self.hasher);
        for number in 0..100 {
            target.put(&self.key(number), Value::Integer(1), Deadline::Clear);
        }
        let before = target.sizes()[0].keys;
        let old = content(&target, partition).len();
        let detached = sink.staging.detach(partition);
        prop_assert_eq!(detached.size.keys, expected.len() as u64);
        prop_assert_eq!(sink.staging.used_bytes(), 0);
        check_accounts(&sink.staging)?;
        let size = detached.size;
        target.attach(detached);
        prop_assert!(content(&target, partition) == expected);
        check_accounts(&target)?;
        let sizes = target.partition_sizes();
        let found = sizes.iter().find(|(of_size, _)| *of_size == partition);
        prop_assert_eq!(found.map(|(_, size)| *size), (size.keys > 0).then_some(size));
        let removed: usize = target.take_removed().iter().map(SlotTable::len).sum();
        let left: usize = target.sizes().iter().map(|size| size.keys).sum();
        prop_assert_eq!((removed, left), (old, before - old + expected.len()));
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_copy_is_what_the_partition_is_when_it_ends(
        colliding in any::<bool>(),
        fill in 0..1000_u16,
        steps in prop::collection::vec(step(), 0..600),
    ) {
        let kept = if colliding { 1 << 63 } else { u64::MAX };
        let mut world = World::new(KeyHasher::colliding(3, kept));
        for number in 0..fill {
            world.step(Step::Put(number, usize::from(number), None));
        }
        for step in [Step::Begin(0, 0), Step::Begin(1, 0)].into_iter().chain(steps) {
            world.step(step);
        }
        for id in 0..4 {
            world.end(id)?;
        }
        for partition in world.partitions {
            let expected = content_of_fold(&world.model, partition);
            prop_assert!(content(&world.live, partition) == expected);
        }
        check_accounts(&world.live)?;
    }
}

/// Begins the copy of a partition that has one value of `length` bytes.
fn copying(length: usize) -> World {
    let mut world = World::new(KeyHasher::new(3));
    world.step(Step::Put(0, length, Some(1000)));
    world.step(Step::Begin(0, 0));
    world
}

#[test]
fn a_long_value_is_copied_in_pieces_the_last_one_first() {
    let mut world = copying(10 * FRAME_BYTES_USUAL + 7);
    world.live.begin_copy_in_pieces(CopyId(0), world.partitions[0], 2 * FRAME_BYTES_USUAL);
    let mut offsets = Vec::new();
    loop {
        let progress = world.live.copy_slice(CopyId(0));
        let chunk = world.live.take_chunk(CopyId(0), FrameBuilder::new());
        assert!(chunk.len() <= 3 * FRAME_BYTES_USUAL, "{}", chunk.len());
        for record in RecordCursor::new(chunk.payload(), chunk.count()) {
            match record.unwrap().operation {
                Operation::WriteRange { offset, .. } => offsets.push(Some(offset as usize)),
                Operation::SetDeadline { .. } => offsets.push(None),
                other => panic!("a {}", other.name()),
            }
        }
        if progress == CopyProgress::Passed {
            break;
        }
    }
    let places = [10, 0, 2, 4, 6, 8].map(|frames| Some(frames * FRAME_BYTES_USUAL));
    assert_eq!(offsets, [&places[..], &[None]].concat());
}

#[test]
fn a_long_value_that_changes_all_the_time_is_seen_to_begin_again() {
    let mut world = copying(20 * PIECE);
    for restarts in 0..10 {
        assert!(!world.slice(0));
        assert_eq!(world.live.copy_restarts(CopyId(0)), restarts);
        world.step(Step::Append(0, 1));
    }
    world.end(0).unwrap();
    assert_eq!(world.live.copy_restarts(CopyId(0)), 0);
}

#[test]
fn a_long_value_that_is_flushed_half_copied_leaves_no_trace_in_one_of_equal_hash() {
    let mut world = World::new(KeyHasher::colliding(3, 0));
    world.step(Step::Put(0, 8 * PIECE, None));
    world.step(Step::Begin(0, 0));
    assert!(!world.slice(0));
    world.step(Step::Flush(0));
    // Of the same slot.
    world.step(Step::Put(world.tags.len() as u16, 9 * PIECE, None));
    world.end(0).unwrap();
}

#[test]
fn a_swap_voids_a_copy_only_where_one_of_the_databases_is_half_copied() {
    let mut world = copying(20 * PIECE);
    world.slice(0);
    world.step(Step::Swap(0, 1, 2));
    assert_eq!(world.live.copy_slice(CopyId(0)), CopyProgress::More);
    world.step(Step::Swap(0, 0, 2));
    assert_eq!(world.live.copy_slice(CopyId(0)), CopyProgress::Restarted);
    world.sinks.insert(0, Sink::new(world.partitions[0], &world.hasher));
    while !world.slice(0) {}
    world.step(Step::Swap(0, 0, 2));
    assert!(world.slice(0));
    world.end(0).unwrap();
}

#[test]
fn a_change_elsewhere_leaves_copies_alone_and_an_ended_copy_hears_nothing() {
    let mut world = copying(10);
    world.step(Step::Begin(1, 1));
    while !world.slice(0) || !world.slice(1) {}
    world.step(Step::Append(0, 5));
    assert!(world.live.chunk_bytes(CopyId(0)) > 0);
    assert_eq!(world.live.chunk_bytes(CopyId(1)), 0);
    world.live.end_copy(CopyId(0));
    world.step(Step::Append(0, 5));
    assert_eq!(world.live.chunk_bytes(CopyId(0)), 0);
    assert_eq!(world.live.copy_slice(CopyId(0)), CopyProgress::Passed);
}

#[test]
fn a_detached_partition_may_be_dropped_by_another_thread() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let mut world = copying(5 * PIECE);
    let detached = is_send(world.live.detach(world.partitions[0]));
    std::thread::spawn(move || drop(detached)).join().unwrap();
    assert_eq!(world.live.used_bytes(), 0);
}
