//! A bounded part of a slot's keys: one dense array of entries, in the order of their tags.
//!
//! A tag is 16 bits of the key's hash, held in the pointer to the entry. As hashes are uniform,
//! an entry with tag `t` of `n` is near place `n * t / 2^16`: off by about 3 places in the mean for
//! 64 entries, 5 for 256, so that a lookup touches one or two cache lines of the array, and then
//! the entry. An entry of another key is touched once in hundreds of lookups.
//!
//! The array has no room to spare but what the allocator's size classes leave, so a key costs
//! about 9 bytes here. Inserting moves half of a segment's pointers, 1 KiB at most in the
//! mean; nothing but a split asks for the hashes of other keys.

use crate::records::UnixMillis;

use super::super::entry::{Entry, allocated_size};
use super::DEPTH_MAX;

/// Entries a segment holds before it splits: 2 KiB of pointers. A split hashes them all, which
/// takes some microseconds.
pub const SEGMENT_ENTRIES_MAX: usize = 256;

/// No deadline in a segment: later than any time there is.
const NEVER: UnixMillis = UnixMillis(u64::MAX);

/// Returns the tag of a hash: the bits behind those that choose a segment, as the keys of a
/// segment share these.
#[inline]
fn tag_of(hash: u64) -> u16 {
    (hash >> (u64::BITS - u32::from(DEPTH_MAX) - u16::BITS)) as u16
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
        (usize::from(tag) * self.entries.len()) >> u16::BITS
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

    /// Reads where a hash is to be expected, to bring it into the cache: the search itself waits
    /// for each key's memory in turn, as its branches cannot be predicted. What is there is of no
    /// use.
    #[inline]
    pub(super) fn warm(&self, hash: u64) -> u16 {
        let expected = self.expected(tag_of(hash));
        let read = |place: usize| self.entries.get(place).map_or(0, Entry::tag);
        read(expected.saturating_sub(4)) ^ read(expected + 4)
    }

    /// Where a key is.
    #[inline]
    fn find_place(&self, hash: u64, key: &[u8]) -> Option<usize> {
        let tag = tag_of(hash);
        let mut place = self.place(tag);
        loop {
            let entry = self.entries.get(place).filter(|entry| entry.tag() == tag)?;
            if entry.key() == key {
                return Some(place);
            }
            place += 1;
        }
    }

    /// The first entry whose tag fits.
    #[inline]
    pub(super) fn candidate(&self, hash: u64) -> Option<&Entry> {
        let tag = tag_of(hash);
        self.entries.get(self.place(tag)).filter(|entry| entry.tag() == tag)
    }

    #[inline]
    pub(super) fn find(&self, hash: u64, key: &[u8]) -> Option<&Entry> {
        self.find_place(hash, key).map(|place| &self.entries[place])
    }

    #[inline]
    pub(super) fn find_mut(&mut self, hash: u64, key: &[u8]) -> Option<&mut Entry> {
        self.find_place(hash, key).map(|place| &mut self.entries[place])
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
        let tag = tag_of(hash);
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

    /// Moves the keys for which `moves` says so to a new segment. Both share one more bit.
    pub(super) fn split(&mut self, moves: impl Fn(&Entry) -> bool) -> Segment {
        self.depth += 1;
        let (moved, stay): (Vec<Entry>, Vec<Entry>) =
            std::mem::take(&mut self.entries).into_iter().partition(moves);
        self.entries = exact(stay);
        Segment { entries: exact(moved), next_deadline: self.next_deadline, depth: self.depth }
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

/// The same entries in an array that `reserve` would have made.
fn exact(entries: Vec<Entry>) -> Vec<Entry> {
    let mut fitting = Vec::new();
    reserve(&mut fitting, entries.len());
    fitting.extend(entries);
    fitting
}
