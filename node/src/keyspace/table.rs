//! The keys of one hash slot: extendible hashing over bounded hash tables.
//!
//! A directory indexed by the top bits of a key's hash points to segments; a segment that is
//! full splits in two, and only a segment that had the directory's full depth doubles the
//! directory. So growth never stalls: the worst step moves one segment's entries. (R. Fagin et
//! al., "Extendible hashing", 1979.)
//!
//! Segments are ordered by those top bits, which gives all keys of a slot a total order, by hash:
//! a cursor is a hash value and stays valid under inserts, deletes and splits.

use hashbrown::HashTable;

use crate::records::UnixMillis;

use super::entry::Entry;

/// Entries a segment holds before it splits. Splitting 1792 = 7/8 of 2048 entries takes about
/// 100 us, the longest that one insert can take.
pub const SEGMENT_ENTRIES_MAX: usize = 1792;

/// Bits of the hash that a directory may use: beyond this a segment grows instead of splitting,
/// which only keys of (nearly) equal hashes can bring about.
const DEPTH_MAX: u8 = 24;

/// No deadline in a segment: later than any time there is.
const NEVER: UnixMillis = UnixMillis(u64::MAX);

/// The keys of one slot.
#[derive(Default)]
pub struct SlotTable {
    first: Segment,
    /// The other segments, once there is more than one.
    directory: Option<Box<Directory>>,
}

#[derive(Default)]
struct Directory {
    /// Number of hash bits that index `places`.
    depth: u8,
    /// Segment of each value of those bits: 0 is `SlotTable::first`, n is `segments[n - 1]`.
    places: Vec<u32>,
    segments: Vec<Segment>,
}

/// One bounded hash table.
pub struct Segment {
    entries: HashTable<Entry>,
    /// No key of this segment expires before this time: a lower bound, so that expiry passes
    /// over segments where nothing is due.
    next_deadline: UnixMillis,
    /// Number of hash bits that all keys of this segment share.
    depth: u8,
}

impl Default for Segment {
    fn default() -> Self {
        Segment { entries: HashTable::new(), next_deadline: NEVER, depth: 0 }
    }
}

/// Spreads the hash for the table inside a segment, whose keys share the hash's top bits:
/// hashbrown takes its tag from the top bits and its bucket from the low ones.
#[inline]
fn table_hash(hash: u64) -> u64 {
    hash.rotate_left(25)
}

impl Segment {
    /// Number of keys.
    pub fn keys(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of the table itself: 8 a bucket and 1 of control.
    fn allocated(&self) -> usize {
        self.entries.allocation_size()
    }

    /// Whether some key may have expired by `now`.
    pub fn is_due(&self, now: UnixMillis) -> bool {
        self.next_deadline <= now
    }

    /// Whether some key may have a deadline.
    pub(super) fn may_be_volatile(&self) -> bool {
        self.next_deadline < NEVER
    }

    /// Whether no hash of this segment is below `hash`, which is one of it.
    pub fn starts_at(&self, hash: u64) -> bool {
        hash.checked_shl(u32::from(self.depth)).unwrap_or(0) == 0
    }

    /// The entry in a bucket, if the table has the bucket and it is taken.
    pub(super) fn bucket(&self, index: usize) -> Option<&Entry> {
        self.entries.get_bucket(index)
    }

    /// Number of buckets, taken or not.
    pub(super) fn buckets(&self) -> usize {
        self.entries.num_buckets()
    }

    /// The entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }
}

impl SlotTable {
    /// Number of keys. Costs one step a segment.
    pub fn len(&self) -> usize {
        self.segments().map(Segment::keys).sum()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes allocated for tables and directory, entries not included.
    pub fn allocated(&self) -> usize {
        let directory = self.directory.as_ref().map_or(0, |directory| {
            size_of::<Directory>()
                + directory.places.capacity() * size_of::<u32>()
                + directory.segments.capacity() * size_of::<Segment>()
        });
        self.segments().map(Segment::allocated).sum::<usize>() + directory
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.segments().flat_map(Segment::iter)
    }

    pub(super) fn segments(&self) -> impl Iterator<Item = &Segment> {
        let others = self.directory.iter().flat_map(|directory| &directory.segments);
        std::iter::once(&self.first).chain(others)
    }

    /// One of the segments by its number, in no order; number 0 is always there.
    pub(super) fn segment_by_number(&self, number: usize) -> Option<&Segment> {
        match number.checked_sub(1) {
            None => Some(&self.first),
            Some(other) => self.directory.as_ref()?.segments.get(other),
        }
    }

    /// Number of segments, at least one.
    pub(super) fn segment_count(&self) -> usize {
        1 + self.directory.as_ref().map_or(0, |directory| directory.segments.len())
    }

    #[inline]
    fn segment(&self, hash: u64) -> &Segment {
        match &self.directory {
            None => &self.first,
            Some(directory) => match directory.place(hash) {
                0 => &self.first,
                place => &directory.segments[place as usize - 1],
            },
        }
    }

    #[inline]
    fn segment_mut(&mut self, hash: u64) -> &mut Segment {
        match &mut self.directory {
            None => &mut self.first,
            Some(directory) => match directory.place(hash) {
                0 => &mut self.first,
                place => &mut directory.segments[place as usize - 1],
            },
        }
    }

    /// Finds a key.
    #[inline]
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<&Entry> {
        self.segment(hash).entries.find(table_hash(hash), |entry| entry.key() == key)
    }

    /// Number of keys in the segment of a hash. For warming the cache.
    #[inline]
    pub fn segment_keys(&self, hash: u64) -> usize {
        self.segment(hash).keys()
    }

    /// Returns the entry that a key with this hash most likely has, without looking at it: the
    /// first whose tag fits. For warming the cache.
    #[inline]
    pub fn candidate(&self, hash: u64) -> Option<&Entry> {
        self.segment(hash).entries.find(table_hash(hash), |_| true)
    }

    /// Finds a key, to change its entry.
    #[inline]
    pub fn find_mut(&mut self, hash: u64, key: &[u8]) -> Option<&mut Entry> {
        self.segment_mut(hash).entries.find_mut(table_hash(hash), |entry| entry.key() == key)
    }

    /// Notes that a key with this hash now has this deadline.
    #[inline]
    pub fn note_deadline(&mut self, hash: u64, deadline: UnixMillis) {
        let segment = self.segment_mut(hash);
        segment.next_deadline = segment.next_deadline.min(deadline);
    }

    /// Inserts an entry whose key is not there yet; `rehash` gives the hash of any entry.
    /// Returns by how many bytes the tables have grown.
    #[inline]
    pub fn insert_new(&mut self, hash: u64, entry: Entry, rehash: impl Fn(&Entry) -> u64) -> usize {
        let mut grown = 0;
        if self.segment(hash).keys() >= SEGMENT_ENTRIES_MAX {
            let before = self.allocated();
            while self.segment(hash).keys() >= SEGMENT_ENTRIES_MAX && self.split(hash, &rehash) {}
            grown += self.allocated().saturating_sub(before);
        }
        if let Some(deadline) = entry.deadline() {
            self.note_deadline(hash, deadline);
        }
        let entries = &mut self.segment_mut(hash).entries;
        let before = entries.capacity();
        if entries.len() < before {
            entries.insert_unique(table_hash(hash), entry, |other| table_hash(rehash(other)));
            return grown;
        }
        let bytes = entries.allocation_size();
        entries.insert_unique(table_hash(hash), entry, |other| table_hash(rehash(other)));
        grown + entries.allocation_size() - bytes
    }

    /// Removes a key and returns its entry.
    #[inline]
    pub fn remove(&mut self, hash: u64, key: &[u8]) -> Option<Entry> {
        let entries = &mut self.segment_mut(hash).entries;
        let found = entries.find_entry(table_hash(hash), |entry| entry.key() == key).ok()?;
        Some(found.remove().0)
    }

    /// Gives back memory where the segment of `hash` has become nearly empty, and all of it
    /// where the slot has. Returns the bytes freed.
    pub fn shrink(&mut self, hash: u64, rehash: impl Fn(&Entry) -> u64) -> usize {
        let entries = &mut self.segment_mut(hash).entries;
        if entries.is_empty() {
            let before = self.allocated();
            if self.is_empty() {
                *self = SlotTable::default();
            } else {
                self.segment_mut(hash).entries = HashTable::new();
            }
            return before - self.allocated();
        }
        // A quarter full at most, so that growing again at once does not undo it.
        if entries.capacity() < 8 || entries.len() * 4 > entries.capacity() {
            return 0;
        }
        let before = entries.allocation_size();
        entries.shrink_to(entries.len() * 2, |other| table_hash(rehash(other)));
        before - entries.allocation_size()
    }

    /// Splits the segment of `hash` in two. Returns whether it could.
    fn split(&mut self, hash: u64, rehash: &impl Fn(&Entry) -> u64) -> bool {
        let depth = self.segment(hash).depth;
        if depth >= DEPTH_MAX {
            return false;
        }
        let directory = self.directory.get_or_insert_with(|| {
            Box::new(Directory { depth: 0, places: vec![0], segments: Vec::new() })
        });
        if depth == directory.depth {
            directory.double();
        }
        let new_place = directory.segments.len() as u32 + 1;
        directory.point_upper_half(hash, depth, new_place);
        directory.segments.push(Segment::default());

        let old = self.segment_mut(hash_with_bit(hash, depth, false));
        old.depth = depth + 1;
        let next_deadline = old.next_deadline;
        let moves = |entry: &Entry| (rehash(entry) >> (63 - depth)) & 1 == 1;
        let moved: Vec<Entry> = old.entries.extract_if(|entry| moves(entry)).collect();
        let new = self.segment_mut(hash_with_bit(hash, depth, true));
        new.depth = depth + 1;
        new.next_deadline = next_deadline;
        new.entries.reserve(moved.len(), |other| table_hash(rehash(other)));
        for entry in moved {
            let hash = table_hash(rehash(&entry));
            new.entries.insert_unique(hash, entry, |other| table_hash(rehash(other)));
        }
        true
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
        let mut next_deadline = NEVER;
        let removed = segment
            .entries
            .extract_if(|entry| {
                let remove = drop(entry);
                if let (false, Some(deadline)) = (remove, entry.deadline()) {
                    next_deadline = next_deadline.min(deadline);
                }
                remove
            })
            .collect();
        segment.next_deadline = next_deadline;
        (removed, next_segment(hash, segment.depth))
    }
}

impl Directory {
    #[inline]
    fn place(&self, hash: u64) -> u32 {
        // A directory has at least one bit, so the shift is below 64.
        self.places[(hash >> (64 - u32::from(self.depth))) as usize]
    }

    fn double(&mut self) {
        self.places = self.places.iter().flat_map(|&place| [place, place]).collect();
        self.depth += 1;
    }

    /// Points the upper half of the places of a segment of `depth` shared bits to another one.
    fn point_upper_half(&mut self, hash: u64, depth: u8, place: u32) {
        let upper = hash_with_bit(hash, depth, true) >> (63 - depth) << (63 - depth);
        let first = (upper >> (64 - u32::from(self.depth))) as usize;
        let count = 1 << (self.depth - depth - 1);
        self.places[first..first + count].fill(place);
    }
}

/// `hash` with bit `depth` (0 = the topmost) set or cleared.
fn hash_with_bit(hash: u64, depth: u8, set: bool) -> u64 {
    let bit = 1 << (63 - depth);
    if set { hash | bit } else { hash & !bit }
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
    use std::collections::BTreeSet;
    use std::hash::BuildHasher;

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
        assert!(table.segments().all(|segment| segment.keys() <= SEGMENT_ENTRIES_MAX));
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
}
