//! A bounded part of a slot's keys: one dense array of entries, in the order of their tags.
//!
//! A tag is 16 bits of the key's hash, held in the pointer to the entry. As hashes are uniform,
//! an entry is near the place that its tag's share of all tags says: off by about 3 places in the
//! mean for 64 entries, 4 for 128, so that a lookup touches one or two cache lines of the array,
//! and then the entry.
//!
//! The hashes of a segment share their first `depth` bits. Its tags begin with the last of these,
//! at most seven, so that the bit that a split goes by is one of the tag: a split cuts the array
//! in two and touches no entry. Every eighth split of a segment makes new tags of later bits, for
//! which it hashes all keys. A lookup touches an entry of another key once in hundreds of times,
//! and once in five where seven bits of the tags are equal (300 million keys in all slots).
//!
//! The array has no room to spare but what the allocator's size classes leave, so a key costs
//! about 9 bytes here. Inserting moves half of a segment's pointers, 0.5 KiB at most in the mean.

use crate::records::UnixMillis;

use super::super::entry::{Entry, allocated_size, prefetch};

/// Entries a segment holds before it splits: 1 KiB of pointers.
pub const SEGMENT_ENTRIES_MAX: usize = 128;

/// Depths that the same tags serve for.
const TAG_DEPTHS: u8 = 8;

/// Entries in a cache line.
const LINE_ENTRIES: usize = 8;

/// No deadline in a segment: later than any time there is.
const NEVER: UnixMillis = UnixMillis(u64::MAX);

/// Returns the tag of a hash in a segment of this depth.
#[inline]
fn tag_of(hash: u64, depth: u8) -> u16 {
    (hash << (depth - depth % TAG_DEPTHS) >> (u64::BITS - u16::BITS)) as u16
}

/// Some keys of a slot.
pub struct Segment {
    entries: Vec<Entry>,
    /// No key of this segment expires before this time: a lower bound, so that expiry passes
    /// over segments where nothing is due.
    next_deadline: UnixMillis,
    /// Number of hash bits that all keys of this segment share.
    pub(super) depth: u8,
}

impl Default for Segment {
    fn default() -> Self {
        Segment::empty(0)
    }
}

impl Segment {
    /// Returns a segment without keys, for hashes that share `depth` bits.
    pub(super) fn empty(depth: u8) -> Self {
        Segment { entries: Vec::new(), next_deadline: NEVER, depth }
    }

    /// Number of keys.
    pub fn keys(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of the array: 8 an entry.
    pub(super) fn allocated(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }

    /// Whether some key may have expired by `now`.
    pub fn is_due(&self, now: UnixMillis) -> bool {
        self.next_deadline <= now
    }

    /// Whether some key may have a deadline.
    pub(in super::super) fn may_be_volatile(&self) -> bool {
        self.next_deadline < NEVER
    }

    /// Whether no hash of this segment is below `hash`, which is one of it.
    pub fn starts_at(&self, hash: u64) -> bool {
        hash.checked_shl(u32::from(self.depth)).unwrap_or(0) == 0
    }

    /// The entries, in no order that matters.
    pub(in super::super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// The place where a tag is to be expected.
    #[inline]
    fn expected(&self, tag: u16) -> usize {
        // All tags here begin with the same bits.
        let own = tag << (self.depth % TAG_DEPTHS);
        (usize::from(own) * self.entries.len()) >> u16::BITS
    }

    /// The first place whose tag is not below `tag`.
    #[inline]
    fn place(&self, tag: u16) -> usize {
        let entries = &self.entries[..];
        let mut place = self.expected(tag);
        while place > 0 && entries[place - 1].tag() >= tag {
            place -= 1;
        }
        while place < entries.len() && entries[place].tag() < tag {
            place += 1;
        }
        place
    }

    /// Brings the places where a hash is to be expected into the cache: the search itself waits
    /// for each key's memory in turn, as its branches cannot be predicted.
    #[inline]
    pub(in super::super) fn warm(&self, hash: u64) {
        let expected = self.expected(tag_of(hash, self.depth));
        for place in [expected.saturating_sub(LINE_ENTRIES / 2), expected + LINE_ENTRIES / 2] {
            self.entries.get(place).map(prefetch);
        }
    }

    /// Where a key is.
    #[inline]
    fn find_place(&self, hash: u64, key: &[u8]) -> Option<usize> {
        let tag = tag_of(hash, self.depth);
        let mut place = self.place(tag);
        loop {
            let entry = self.entries.get(place).filter(|entry| entry.tag() == tag)?;
            if entry.key() == key {
                return Some(place);
            }
            place += 1;
        }
    }

    /// The first entry whose tag fits: most likely the one of the key with this hash. Where there
    /// is none, brings the entries into the cache that inserting the key would move.
    #[inline]
    pub(in super::super) fn warm_place(&self, hash: u64) -> Option<&Entry> {
        let tag = tag_of(hash, self.depth);
        let behind = &self.entries[self.place(tag)..];
        let candidate = behind.first().filter(|entry| entry.tag() == tag);
        if candidate.is_none() {
            behind.chunks(LINE_ENTRIES).for_each(|line| prefetch(&line[0]));
        }
        candidate
    }

    #[inline]
    pub(super) fn find(&self, hash: u64, key: &[u8]) -> Option<&Entry> {
        self.find_place(hash, key).map(|place| &self.entries[place])
    }

    #[inline]
    pub(super) fn find_mut(&mut self, hash: u64, key: &[u8]) -> Option<(usize, &mut Entry)> {
        self.find_place(hash, key).map(|place| (place, &mut self.entries[place]))
    }

    #[inline]
    pub(super) fn note_deadline(&mut self, deadline: UnixMillis) {
        self.next_deadline = self.next_deadline.min(deadline);
    }

    /// Inserts an entry whose key is not there. Returns by how many bytes the array has grown.
    #[inline]
    pub(super) fn insert(&mut self, hash: u64, mut entry: Entry) -> usize {
        if let Some(deadline) = entry.deadline() {
            self.note_deadline(deadline);
        }
        let before = self.allocated();
        if self.entries.len() == self.entries.capacity() {
            reserve(&mut self.entries, 1);
        }
        let tag = tag_of(hash, self.depth);
        entry.set_tag(tag);
        self.entries.insert(self.place(tag), entry);
        self.allocated() - before
    }

    /// Removes a key and returns its entry.
    #[inline]
    pub(super) fn remove(&mut self, hash: u64, key: &[u8]) -> Option<Entry> {
        self.find_place(hash, key).map(|place| self.entries.remove(place))
    }

    /// Gives back memory where half of it, or more, is unused. Returns the bytes freed.
    pub(super) fn shrink(&mut self) -> usize {
        let (keys, before) = (self.entries.len(), self.allocated());
        if keys * 2 > self.entries.capacity() {
            return 0;
        }
        // A quarter is left free, so that growing again at once does not undo it.
        let bytes = allocated_size((keys + keys / 4) * size_of::<Entry>());
        self.entries.shrink_to(bytes / size_of::<Entry>());
        before - self.allocated()
    }

    /// Moves the keys of the upper half of the hashes to a new segment. Both share one more bit.
    /// Calls `rehash` for all keys where the tags have no more bits to split by.
    pub(super) fn split(&mut self, rehash: impl Fn(&Entry) -> u64) -> Segment {
        let upper = 1 << (u16::BITS - 1) >> (self.depth % TAG_DEPTHS);
        let middle = self.entries.partition_point(|entry| entry.tag() & upper == 0);
        self.depth += 1;
        let moved = exact(self.entries.drain(middle..));
        self.entries = exact(std::mem::take(&mut self.entries).into_iter());
        let mut new =
            Segment { entries: moved, next_deadline: self.next_deadline, depth: self.depth };
        if self.depth.is_multiple_of(TAG_DEPTHS) {
            self.retag(&rehash);
            new.retag(&rehash);
        }
        new
    }

    fn retag(&mut self, rehash: impl Fn(&Entry) -> u64) {
        for entry in &mut self.entries {
            entry.set_tag(tag_of(rehash(entry), self.depth));
        }
        self.entries.sort_unstable_by_key(Entry::tag);
    }

    /// Removes the keys for which `drop` says so, and finds the next deadline.
    pub(super) fn extract(&mut self, drop: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let mut next_deadline = NEVER;
        let removed = self.entries.extract_if(.., |entry| {
            let remove = drop(entry);
            if let (false, Some(deadline)) = (remove, entry.deadline()) {
                next_deadline = next_deadline.min(deadline);
            }
            remove
        });
        let removed = removed.collect();
        self.next_deadline = next_deadline;
        removed
    }
}

/// Makes room for `more` elements, and for as many as the allocator's size class holds anyway.
fn reserve<T>(elements: &mut Vec<T>, more: usize) {
    let bytes = allocated_size((elements.len() + more) * size_of::<T>());
    elements.reserve_exact(bytes / size_of::<T>() - elements.len());
}

/// These entries in an array that `reserve` would have made.
fn exact(entries: impl ExactSizeIterator<Item = Entry>) -> Vec<Entry> {
    let mut fitting = Vec::new();
    reserve(&mut fitting, entries.len());
    fitting.extend(entries);
    fitting
}
