//! Cursors over all keys: `SCAN`, `KEYS`.
//!
//! Keys have a total order: by shard, slot, and hash. A [`Position`] is a place in it, and so
//! needs no memory on the node and stays valid whatever is inserted, deleted or split: a key that
//! is there during a whole walk is met exactly once.

use distcache_protocol::slot::SLOTS;

use super::entry::Entry;
use super::table::SlotTable;
use super::{Keyspace, ShardId};

/// Leading bits of the hash that a position holds. With the 14 bits of the slot a cursor has 53:
/// clients that keep it in a double, as JavaScript does, keep it exactly. Keys that share all
/// these bits are met together.
pub const PREFIX_BITS: u32 = 39;
const PREFIX_END: u64 = 1 << PREFIX_BITS;

/// A place between two keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    slot: u16,
    prefix: u64,
}

impl Position {
    /// The place before all keys of a shard. Shard 0's is the start of a whole walk.
    pub fn start_of(shard: u16) -> Self {
        Position { slot: shard * super::SLOTS_PER_PARTITION, prefix: 0 }
    }

    /// The place before all keys of a slot.
    pub fn start_of_slot(slot: u16) -> Self {
        Position { slot, prefix: 0 }
    }

    /// The slot that the place lies in.
    pub fn slot(self) -> u16 {
        self.slot
    }

    /// Returns the place that a client's cursor means; any number means one. A number that is too
    /// large, such as a cursor over several nodes when they have left, means the start.
    pub fn from_cursor(cursor: u64) -> Self {
        let cursor = if cursor >> (PREFIX_BITS + 14) == 0 { cursor } else { 0 };
        let slot = (cursor >> PREFIX_BITS) as u16 % SLOTS;
        Position { slot, prefix: cursor % PREFIX_END }
    }

    /// The number that means this place; 0 only for the start of shard 0.
    pub fn cursor(self) -> u64 {
        u64::from(self.slot) << PREFIX_BITS | self.prefix
    }

    /// The shard, of `count`, that the place lies in.
    pub fn shard(self, count: u16) -> u16 {
        ShardId::owner_of(self.slot, count)
    }
}

fn prefix_of(hash: u64) -> u64 {
    hash >> (64 - PREFIX_BITS)
}

/// How far a walk goes at once.
#[derive(Debug, Clone, Copy)]
pub struct WalkLimits {
    /// Keys; more only where several share the last place.
    pub keys: usize,
    /// Slots, empty ones too.
    pub slots: usize,
}

/// How far a walk went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walked {
    /// Where it goes on; `None` at the end of the shard.
    pub next: Option<Position>,
    /// Keys passed, those that have expired but are not removed yet included.
    pub keys: usize,
}

impl Keyspace {
    /// Shows `visit` the keys of the selected database from a position on, within limits.
    ///
    /// Where a walk ends inside a segment it hashes and sorts out the segment's keys, at most
    /// [`super::table::SEGMENT_ENTRIES_MAX`] (some microseconds).
    pub fn walk(
        &self,
        from: Position,
        limits: WalkLimits,
        mut visit: impl FnMut(&Entry),
    ) -> Walked {
        let mut walked = Walked { next: None, keys: 0 };
        let Some(database) = self.databases.get(self.selected) else { return walked };
        let mut show = |entry: &Entry| {
            if entry.deadline().is_none_or(|deadline| deadline > self.now) {
                visit(entry);
            }
        };
        let mut prefix = from.prefix;
        let first = self.shard.local(from.slot);
        for (passed, local) in (first..self.shard.slots()).enumerate() {
            let position = |prefix| Position { slot: self.shard.slot_at(local), prefix };
            if passed >= limits.slots {
                walked.next = Some(position(0));
                return walked;
            }
            let table = &database.tables[local];
            let mut next = Some(prefix);
            while let Some(prefix) = next {
                if walked.keys >= limits.keys {
                    walked.next = Some(position(prefix));
                    return walked;
                }
                let room = limits.keys - walked.keys;
                let (keys, end) = self.walk_segment(table, prefix, room, &mut show);
                walked.keys += keys;
                next = end;
            }
            prefix = 0;
        }
        walked
    }

    /// Number of the keys of a slot of this shard, in the selected database; those that have
    /// expired but are not removed yet included.
    pub fn keys_in_slot(&self, slot: u16) -> usize {
        self.table(slot).map_or(0, SlotTable::len)
    }

    /// The same of all slots of this shard, in ascending order.
    pub fn keys_of_slots(&self) -> Vec<(u16, usize)> {
        let slots = (0..self.shard.slots()).map(|local| self.shard.slot_at(local));
        slots.map(|slot| (slot, self.keys_in_slot(slot))).collect()
    }

    /// Shows the keys of one segment from a prefix on. Returns their number, and the prefix
    /// behind them (`None`: the slot's end).
    fn walk_segment(
        &self,
        table: &SlotTable,
        prefix: u64,
        room: usize,
        show: &mut impl FnMut(&Entry),
    ) -> (usize, Option<u64>) {
        let hash = prefix << (64 - PREFIX_BITS);
        let (segment, end) = table.segment_at(hash);
        let end = end.map(prefix_of);
        if segment.keys() <= room && segment.starts_at(hash) {
            segment.iter().for_each(show);
            return (segment.keys(), end);
        }
        let mut entries: Vec<(u64, &Entry)> = segment
            .iter()
            .map(|entry| (prefix_of(self.hasher.hash(entry.key())), entry))
            .filter(|(at, _)| *at >= prefix)
            .collect();
        if entries.len() <= room {
            entries.iter().for_each(|(_, entry)| show(entry));
            return (entries.len(), end);
        }
        let (_, &mut (last, _), _) = entries.select_nth_unstable_by_key(room - 1, |(at, _)| *at);
        entries.retain(|(at, _)| *at <= last);
        entries.iter().for_each(|(_, entry)| show(entry));
        let next = if last + 1 == PREFIX_END { None } else { Some(last + 1) };
        (entries.len(), next)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::super::entry::Value;
    use super::super::{Deadline, KeyHasher};
    use super::*;
    use crate::records::UnixMillis;

    fn keyspace(index: u16, count: u16) -> Keyspace {
        Keyspace::new(ShardId { index, count }, 2, KeyHasher::new(11))
    }

    fn owned(key: u32, count: u16) -> (u16, Vec<u8>) {
        // Half of the keys share one slot, so that segments split and are cut.
        let key = if key.is_multiple_of(2) { format!("{{tag}}{key}") } else { format!("k{key}") };
        let slot = distcache_protocol::slot::slot_of(key.as_bytes());
        (ShardId::owner_of(slot, count), key.into_bytes())
    }

    /// Walks all shards, letting `between` change them between two steps.
    fn walk_all(
        shards: &mut [Keyspace],
        limits: WalkLimits,
        mut between: impl FnMut(&mut [Keyspace]),
    ) -> BTreeMap<Vec<u8>, usize> {
        let count = shards.len() as u16;
        let mut seen = BTreeMap::new();
        let mut position = Position::start_of(0);
        loop {
            let shard = position.shard(count);
            let walked = shards[shard as usize].walk(position, limits, |entry| {
                *seen.entry(entry.key().to_vec()).or_insert(0) += 1;
            });
            position = match walked.next {
                Some(next) => next,
                None if shard + 1 < count => Position::start_of(shard + 1),
                None => return seen,
            };
            assert_ne!(position.cursor(), 0);
            position = Position::from_cursor(position.cursor());
            between(shards);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]
        #[test]
        fn a_key_that_stays_is_met_once_whatever_else_changes(
            shards in 1..4_u16,
            keys in 1..200_usize,
            stay in prop::collection::btree_set(0..20_000_u32, 0..3000),
            changes in prop::collection::vec((any::<bool>(), 0..40_000_u32), 1..2000),
        ) {
            let mut all: Vec<Keyspace> = (0..shards).map(|index| keyspace(index, shards)).collect();
            let put = |all: &mut [Keyspace], key: u32| {
                let (shard, key) = owned(key, shards);
                all[shard as usize].put(&key, Value::Integer(0), Deadline::Clear);
            };
            stay.iter().for_each(|&key| put(&mut all, key));
            let mut pending = changes.iter().cycle();
            let limits = WalkLimits { keys, slots: 4096 };
            let mut inserted = BTreeSet::new();
            let seen = walk_all(&mut all, limits, |all| {
                for &(insert, key) in pending.by_ref().take(100) {
                    if stay.contains(&key) {
                        continue;
                    }
                    if insert {
                        put(all, key);
                        inserted.insert(owned(key, shards).1);
                    } else {
                        let (shard, key) = owned(key, shards);
                        all[shard as usize].remove(&key);
                    }
                }
            });
            for &key in &stay {
                prop_assert_eq!(seen.get(&owned(key, shards).1), Some(&1));
            }
            for (key, times) in &seen {
                let stays = stay.iter().any(|&stay| owned(stay, shards).1 == *key);
                prop_assert!(stays || inserted.contains(key));
                prop_assert!(*times == 1 || !stays);
            }
        }
    }

    #[test]
    fn limits_bound_each_step_and_expired_keys_are_not_shown() {
        let mut keyspace = keyspace(0, 1);
        for i in 0..5000_u32 {
            let deadline =
                if i.is_multiple_of(5) { Deadline::At(UnixMillis(10)) } else { Deadline::Clear };
            keyspace.put(&owned(i, 1).1, Value::Integer(0), deadline);
        }
        keyspace.begin(UnixMillis(10), 0);
        let (mut position, mut passed, mut shown) = (Position::start_of(0), 0, 0);
        loop {
            let limits = WalkLimits { keys: 7, slots: 100 };
            let walked = keyspace.walk(position, limits, |_| shown += 1);
            // No two of these keys share 39 bits of hash.
            assert!(walked.keys <= 7);
            passed += walked.keys;
            let Some(next) = walked.next else { break };
            position = next;
        }
        assert_eq!((passed, shown), (5000, 4000));
    }

    #[test]
    fn every_cursor_means_a_position() {
        for cursor in [0, 1, PREFIX_END - 1, PREFIX_END, (1 << 53) - 1] {
            assert_eq!(Position::from_cursor(cursor).cursor(), cursor);
        }
        assert!(Position::from_cursor(u64::MAX).slot < SLOTS);
    }
}
