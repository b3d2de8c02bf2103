//! The keys of one hash slot: extendible hashing over small segments.
//!
//! A directory indexed by the top bits of a key's hash points to segments; a segment that is
//! full splits in two, and only a segment that had the directory's full depth doubles the
//! directory. So growth never stalls: the worst step moves one segment's entries. (R. Fagin et
//! al., "Extendible hashing", 1979.)
//!
//! Segments are ordered by those top bits, which gives all keys of a slot a total order, by hash:
//! a cursor is a hash value and stays valid under inserts, deletes and splits.

mod segment;

use super::entry::{Entry, allocated_size, prefetch};
use crate::records::UnixMillis;
pub use segment::{SEGMENT_ENTRIES_MAX, Segment};

/// Bits of the hash that a directory may use: beyond this a segment grows instead of splitting,
/// which takes some million keys in one slot, or keys of (nearly) equal hashes.
const DEPTH_MAX: u8 = 16;

/// The keys of one slot.
#[derive(Default)]
pub struct SlotTable {
    places: Places,
}

enum Places {
    One(Segment),
    Many(Directory),
}

struct Directory {
    /// Number of hash bits that index `segments`, at least one.
    depth: u8,
    /// Keys of all segments.
    keys: usize,
    /// A segment for each value of those bits. One that shares fewer bits owns several places in
    /// a row: it is at the first, and the others hold empty segments of its depth. (So a lookup
    /// takes one step fewer than with a list of numbers of segments.)
    segments: Vec<Segment>,
}

impl Default for Places {
    fn default() -> Self {
        Places::One(Segment::default())
    }
}

impl SlotTable {
    /// Number of keys.
    pub fn len(&self) -> usize {
        match &self.places {
            Places::One(segment) => segment.keys(),
            Places::Many(directory) => directory.keys,
        }
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes allocated for arrays and directory, entries not included. Costs one step a segment.
    pub fn allocated(&self) -> usize {
        let arrays: usize = self.segments().iter().map(Segment::allocated).sum();
        arrays + self.directory_allocated()
    }

    fn directory_allocated(&self) -> usize {
        match &self.places {
            Places::One(_) => 0,
            Places::Many(directory) => directory.allocated(),
        }
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.segments().iter().flat_map(Segment::iter)
    }

    /// The segments, at least one, in the order of their hashes; and empty ones between them.
    pub(super) fn segments(&self) -> &[Segment] {
        match &self.places {
            Places::One(segment) => std::slice::from_ref(segment),
            Places::Many(directory) => &directory.segments,
        }
    }

    /// The segment of a hash.
    #[inline]
    pub(super) fn segment(&self, hash: u64) -> &Segment {
        match &self.places {
            Places::One(segment) => segment,
            Places::Many(directory) => &directory.segments[directory.place(hash)],
        }
    }

    /// Brings the segment of a hash into the cache.
    #[inline]
    pub(super) fn warm(&self, hash: u64) {
        if let Places::Many(directory) = &self.places {
            prefetch(&directory.segments[directory.own_place(hash)]);
        }
    }

    #[inline]
    fn segment_mut(&mut self, hash: u64) -> &mut Segment {
        match &mut self.places {
            Places::One(segment) => segment,
            Places::Many(directory) => {
                let place = directory.place(hash);
                &mut directory.segments[place]
            }
        }
    }

    /// Finds a key.
    #[inline]
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<&Entry> {
        self.segment(hash).find(hash, key)
    }

    /// Finds a key, to change its entry.
    #[inline]
    pub fn find_mut(&mut self, hash: u64, key: &[u8]) -> Option<&mut Entry> {
        self.find_place_mut(hash, key).map(|(_, entry)| entry)
    }

    /// Finds a key and its place, for [`SlotTable::entry_at`].
    #[inline]
    pub fn find_place_mut(&mut self, hash: u64, key: &[u8]) -> Option<(usize, &mut Entry)> {
        self.segment_mut(hash).find_mut(hash, key)
    }

    /// The entry that was found at a place, if nothing was inserted or removed since.
    #[inline]
    pub fn entry_at(&self, hash: u64, place: usize) -> Option<&Entry> {
        self.segment(hash).entries().get(place)
    }

    /// Notes that a key with this hash now has this deadline.
    #[inline]
    pub fn note_deadline(&mut self, hash: u64, deadline: UnixMillis) {
        self.segment_mut(hash).note_deadline(deadline);
    }

    /// Inserts an entry whose key is not there yet; `rehash` gives the hash of any entry.
    /// Returns by how many bytes arrays and directory have grown.
    #[inline]
    pub fn insert_new(&mut self, hash: u64, entry: Entry, rehash: impl Fn(&Entry) -> u64) -> usize {
        let mut grown = 0;
        while self.segment(hash).keys() >= SEGMENT_ENTRIES_MAX
            && let Some(bytes) = self.split(hash, &rehash)
        {
            grown += bytes;
        }
        if let Places::Many(directory) = &mut self.places {
            directory.keys += 1;
        }
        grown + self.segment_mut(hash).insert(hash, entry)
    }

    /// Removes a key and returns its entry.
    #[inline]
    pub fn remove(&mut self, hash: u64, key: &[u8]) -> Option<Entry> {
        let removed = self.segment_mut(hash).remove(hash, key)?;
        if let Places::Many(directory) = &mut self.places {
            directory.keys -= 1;
        }
        Some(removed)
    }

    /// Gives back memory where the segment of `hash` has become half empty, and all of it where
    /// the slot has become empty. Returns the bytes freed.
    pub fn shrink(&mut self, hash: u64) -> usize {
        if self.is_empty() {
            let before = self.allocated();
            *self = SlotTable::default();
            return before;
        }
        self.segment_mut(hash).shrink()
    }

    /// Splits the segment of `hash` in two. Returns by how many bytes arrays and directory have
    /// grown, or `None` where it cannot be split.
    #[cold]
    fn split(&mut self, hash: u64, rehash: &impl Fn(&Entry) -> u64) -> Option<usize> {
        let depth = self.segment(hash).depth;
        if depth >= DEPTH_MAX {
            return None;
        }
        let before = self.directory_allocated();
        if let Places::One(segment) = &mut self.places {
            let segment = std::mem::take(segment);
            let keys = segment.keys();
            self.places = Places::Many(Directory { depth: 0, keys, segments: vec![segment] });
        }
        let Places::Many(directory) = &mut self.places else { return None };
        if depth == directory.depth {
            directory.double();
        }
        let arrays = directory.split(hash, rehash);
        Some(arrays + directory.allocated() - before)
    }

    /// Returns the segment that holds hashes from `hash` on, and the first hash behind it
    /// (`None`: it was the last of the slot).
    pub fn segment_at(&self, hash: u64) -> (&Segment, Option<u64>) {
        let segment = self.segment(hash);
        (segment, next_segment(hash, segment.depth))
    }

    /// Removes the keys of the segment at `hash` for which `drop` says so, and finds its next
    /// deadline. Returns what was removed, and the first hash behind the segment.
    pub fn extract(
        &mut self,
        hash: u64,
        drop: impl Fn(&Entry) -> bool,
    ) -> (Vec<Entry>, Option<u64>) {
        let segment = self.segment_mut(hash);
        let next = next_segment(hash, segment.depth);
        let removed = segment.extract(drop);
        if let Places::Many(directory) = &mut self.places {
            directory.keys -= removed.len();
        }
        (removed, next)
    }
}

impl Directory {
    /// The place of a hash, which its segment may have with others: then it is at the first.
    #[inline]
    fn own_place(&self, hash: u64) -> usize {
        // A directory has at least one bit, so the shift is below 64.
        (hash >> (64 - u32::from(self.depth))) as usize
    }

    /// The place of the segment of a hash.
    #[inline]
    fn place(&self, hash: u64) -> usize {
        let place = self.own_place(hash);
        let shared = self.depth - self.segments[place].depth;
        place >> shared << shared
    }

    fn allocated(&self) -> usize {
        allocated_size(self.segments.capacity() * size_of::<Segment>())
    }

    fn double(&mut self) {
        let mut segments = Vec::with_capacity(self.segments.len() * 2);
        for segment in std::mem::take(&mut self.segments) {
            let depth = segment.depth;
            segments.extend([segment, Segment::empty(depth)]);
        }
        self.segments = segments;
        self.depth += 1;
    }

    /// Splits a segment that owns several places. Returns by how many bytes the arrays have grown.
    fn split(&mut self, hash: u64, rehash: &impl Fn(&Entry) -> u64) -> usize {
        let place = self.place(hash);
        let old = &mut self.segments[place];
        let half = 1 << (self.depth - old.depth - 1);
        let before = old.allocated();
        let new = old.split(rehash);
        // A full segment's array has no room to spare, so its halves have no less in all.
        let grown = old.allocated() + new.allocated() - before;
        let depth = old.depth;
        self.segments[place + half] = new;
        for owned in &mut self.segments[place..place + 2 * half] {
            owned.depth = depth;
        }
        grown
    }
}

/// The first hash behind the segment of `depth` shared bits that `hash` belongs to.
fn next_segment(hash: u64, depth: u8) -> Option<u64> {
    if depth == 0 {
        return None;
    }
    let shift = 64 - u32::from(depth);
    ((hash >> shift) + 1).checked_shl(shift).filter(|&next| next > hash)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::{BTreeMap, BTreeSet};
    use std::hash::BuildHasher;

    use proptest::prelude::*;

    use super::super::entry::Value;
    use super::*;

    fn hasher() -> foldhash::fast::FixedState {
        foldhash::fast::FixedState::with_seed(7)
    }

    fn hash_of(key: &[u8]) -> u64 {
        hasher().hash_one(key)
    }

    fn filled(count: u32) -> SlotTable {
        let mut table = SlotTable::default();
        for i in 0..count {
            let key = i.to_le_bytes();
            let entry = Entry::new(&key, Value::Integer(i64::from(i)), None, 0);
            table.insert_new(hash_of(&key), entry, |entry| hash_of(entry.key()));
        }
        table
    }

    #[test]
    fn keys_are_found_after_many_splits() {
        let mut table = filled(100_000);
        assert_eq!(table.len(), 100_000);
        assert!(table.segments().iter().all(|segment| segment.keys() <= SEGMENT_ENTRIES_MAX));
        for i in 0..100_000_u32 {
            let key = i.to_le_bytes();
            assert_eq!(table.find(hash_of(&key), &key).unwrap().key(), key);
        }
        for i in 0..100_000_u32 {
            let key = i.to_le_bytes();
            assert!(table.remove(hash_of(&key), &key).is_some());
            assert!(table.find(hash_of(&key), &key).is_none());
        }
        assert!(table.is_empty());
        assert!(table.shrink(0) > 0);
        assert_eq!(table.allocated(), 0);
    }

    #[test]
    fn a_walk_by_cursor_meets_every_key_once_in_order() {
        for count in [0, 1, 1000, 5000, 50_000] {
            let table = filled(count);
            let (mut seen, mut cursor, mut last) = (BTreeSet::new(), 0, 0);
            loop {
                let (segment, next) = table.segment_at(cursor);
                for entry in segment.iter() {
                    let hash = hash_of(entry.key());
                    assert!(hash >= last && next.is_none_or(|next| hash < next));
                    assert!(seen.insert(entry.key().to_vec()));
                }
                let Some(next) = next else { break };
                (cursor, last) = (next, next);
            }
            assert_eq!(seen.len(), count as usize);
        }
    }

    #[test]
    fn only_every_eighth_split_of_a_segment_hashes_keys() {
        let (mut table, hashed) = (SlotTable::default(), Cell::new(0));
        for i in 0..100_000_u32 {
            let key = i.to_le_bytes();
            let entry = Entry::new(&key, Value::Integer(0), None, 0);
            table.insert_new(hash_of(&key), entry, |entry| {
                hashed.set(hashed.get() + 1);
                hash_of(entry.key())
            });
            let deep = table.segment(hash_of(&key)).depth >= 8;
            assert!(hashed.get() > 0 || !deep, "no key was hashed for new tags");
            // A slot of 6,000 keys has no segment of that depth yet.
            assert!(hashed.get() == 0 || i > 6000, "{} hashed at key {i}", hashed.get());
        }
        assert!(hashed.get() > 0 && hashed.get() < 100_000, "{} of 100,000", hashed.get());
    }

    #[test]
    fn equal_hashes_grow_one_segment_instead_of_the_directory() {
        let mut table = SlotTable::default();
        for i in 0..5000_u32 {
            let entry = Entry::new(&i.to_le_bytes(), Value::Integer(0), None, 0);
            table.insert_new(42, entry, |_| 42);
        }
        assert_eq!(table.len(), 5000);
        assert!(table.find(42, &4999_u32.to_le_bytes()).is_some());
    }

    #[test]
    fn growth_reported_equals_the_memory_of_the_tables() {
        let (mut table, mut grown) = (SlotTable::default(), 0);
        for i in 0..20_000_u32 {
            let key = i.to_le_bytes();
            let entry = Entry::new(&key, Value::Integer(0), None, 0);
            grown += table.insert_new(hash_of(&key), entry, |entry| hash_of(entry.key()));
        }
        assert_eq!(grown, table.allocated());
    }

    #[test]
    fn a_table_costs_at_most_twelve_bytes_a_key_once_a_slot_has_a_few() {
        let mut table = SlotTable::default();
        for i in 0..10_000_u32 {
            let key = i.to_le_bytes();
            let entry = Entry::new(&key, Value::Integer(0), None, 0);
            table.insert_new(hash_of(&key), entry, |entry| hash_of(entry.key()));
            let bytes = size_of::<SlotTable>() + table.allocated();
            assert!(table.len() < 24 || bytes <= 12 * table.len(), "{bytes} of {}", table.len());
        }
        assert_eq!(size_of::<SlotTable>(), 48);
    }

    /// Some hashes are equal, some differ only in bits that choose neither segment nor tag.
    fn colliding_hash(key: u16) -> u64 {
        match key % 4 {
            0 => 42 << 40,
            1 => u64::from(key),
            _ => hash_of(&key.to_le_bytes()),
        }
    }

    fn number_of(entry: &Entry) -> u16 {
        u16::from_le_bytes(entry.key().try_into().unwrap())
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u16, Option<u64>),
        Remove(u16),
        Rewrite(u16, u8),
        Extract(u16, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let key = 0..2000_u16;
        prop_oneof![
            3 => (key.clone(), prop::option::of(0..100_u64)).prop_map(|(k, d)| Step::Insert(k, d)),
            2 => key.clone().prop_map(Step::Remove),
            1 => (key.clone(), any::<u8>()).prop_map(|(k, length)| Step::Rewrite(k, length)),
            1 => (key, 0..100_u64).prop_map(|(k, due)| Step::Extract(k, due)),
        ]
    }

    /// Takes a step in the table, in the model and in the account of the table's memory.
    fn take(
        step: Step,
        table: &mut SlotTable,
        model: &mut BTreeMap<u16, Option<u64>>,
        allocated: &mut usize,
    ) -> Result<(), TestCaseError> {
        let hash = |entry: &Entry| colliding_hash(number_of(entry));
        match step {
            Step::Insert(key, deadline) => {
                if model.insert(key, deadline).is_some() {
                    model.remove(&key);
                    table.remove(colliding_hash(key), &key.to_le_bytes());
                } else {
                    let bytes = key.to_le_bytes();
                    let at = deadline.map(UnixMillis);
                    let entry = Entry::new(&bytes, Value::Integer(0), at, 0);
                    *allocated += table.insert_new(colliding_hash(key), entry, hash);
                }
            }
            Step::Remove(key) => {
                let removed = table.remove(colliding_hash(key), &key.to_le_bytes());
                let expected = model.remove(&key).map(|deadline| (key, deadline));
                let removed = removed
                    .map(|entry| (number_of(&entry), entry.deadline().map(|deadline| deadline.0)));
                prop_assert_eq!(removed, expected);
                *allocated -= table.shrink(colliding_hash(key));
            }
            Step::Rewrite(key, length) => {
                let found = table.find_mut(colliding_hash(key), &key.to_le_bytes());
                prop_assert_eq!(found.is_some(), model.contains_key(&key));
                if let Some(entry) = found {
                    entry.replace(Value::String(&vec![0; length.into()]), entry.deadline());
                }
            }
            Step::Extract(key, due) => {
                let at = colliding_hash(key);
                let (segment, _) = table.segment_at(at);
                let mut inside: BTreeSet<u16> = segment.iter().map(number_of).collect();
                let expired = |deadline: Option<u64>| deadline.is_some_and(|at| at <= due);
                inside.retain(|key| expired(model[key]));
                let (removed, _) =
                    table.extract(at, |entry| expired(entry.deadline().map(|at| at.0)));
                prop_assert_eq!(
                    removed.iter().map(number_of).collect::<BTreeSet<_>>(),
                    inside.clone()
                );
                model.retain(|key, _| !inside.contains(key));
                *allocated -= table.shrink(at);
                prop_assert!(!table.segment_at(at).0.is_due(UnixMillis(due)));
            }
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn a_table_behaves_like_a_map_and_counts_its_memory(
            fill in 0..2000_u16,
            steps in prop::collection::vec(step(), 0..2000),
        ) {
            let (mut table, mut model, mut allocated) =
                (SlotTable::default(), BTreeMap::new(), 0);
            let fill = (0..fill).map(|key| Step::Insert(key, Some(u64::from(key))));
            for step in fill.chain(steps) {
                take(step, &mut table, &mut model, &mut allocated)?;
                prop_assert_eq!(table.len(), model.len());
            }
            prop_assert_eq!(table.allocated(), allocated);
            prop_assert_eq!(table.iter().count(), model.len());
            for key in 0..2000_u16 {
                let found = table.find(colliding_hash(key), &key.to_le_bytes());
                prop_assert_eq!(found.map(number_of), model.get(&key).map(|_| key));
            }
        }
    }
}
