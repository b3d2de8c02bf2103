//! The last entries of Raft's log, in memory.
//!
//! An entry is read soon after it was appended: to send it to each follower, and to apply it. The
//! thread that has the log may be in a sync of the next ones then, for milliseconds.

use std::collections::VecDeque;

use super::TypeConfig;
use super::limits::{RECENT_BYTES, RECENT_ENTRIES};

type Entry = openraft::Entry<TypeConfig>;

/// The end of the log, as far back as there is room; what has been appended last is there even if
/// it is not on disk yet.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// Entries, without gaps up to the log's end, and the bytes of each.
    entries: VecDeque<(Entry, usize)>,
    bytes: usize,
}

impl Recent {
    /// Adds an entry of so many bytes, in place of those from its index on. Old ones go.
    pub(super) fn append(&mut self, entry: Entry, bytes: usize) {
        self.truncate(entry.log_id.index);
        if self.entries.back().is_some_and(|(last, _)| last.log_id.index + 1 != entry.log_id.index)
        {
            *self = Recent::default();
        }
        self.bytes += bytes;
        self.entries.push_back((entry, bytes));
        while self.entries.len() > RECENT_ENTRIES || self.bytes > RECENT_BYTES {
            self.drop_first();
        }
    }

    /// Forgets the entries from `index` on.
    pub(super) fn truncate(&mut self, index: u64) {
        while self.entries.back().is_some_and(|(last, _)| last.log_id.index >= index) {
            self.bytes -= self.entries.pop_back().map_or(0, |(_, bytes)| bytes);
        }
    }

    /// Forgets the entries up to `index`, that one included.
    pub(super) fn purge(&mut self, index: u64) {
        while self.entries.front().is_some_and(|(first, _)| first.log_id.index <= index) {
            self.drop_first();
        }
    }

    /// Returns entries from `from` up to `to`, that one not included, clipped to the log's end: as
    /// long as they have fewer than `budget` bytes together. `None` if the first is not here.
    pub(super) fn read(&self, from: u64, to: u64, budget: usize) -> Option<Vec<Entry>> {
        let first = self.entries.front()?.0.log_id.index;
        let skipped = from.checked_sub(first).filter(|&skipped| skipped < self.len())?;
        let wanted = to.saturating_sub(from).min(self.len() - skipped);
        let (mut read, mut bytes) = (Vec::new(), 0);
        for (entry, length) in self.entries.range(skipped as usize..(skipped + wanted) as usize) {
            read.push(entry.clone());
            bytes += length;
            if bytes >= budget {
                break;
            }
        }
        Some(read)
    }

    fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    fn drop_first(&mut self) {
        self.bytes -= self.entries.pop_front().map_or(0, |(_, bytes)| bytes);
    }
}

#[cfg(test)]
mod tests {
    use openraft::{EntryPayload, LeaderId, LogId};

    use super::*;
    use crate::cluster::table::NodeId;

    fn entry(index: u64) -> Entry {
        let log_id = LogId::new(LeaderId::new(1, NodeId(1)), index);
        Entry { log_id, payload: EntryPayload::Blank }
    }

    fn with(range: std::ops::Range<u64>) -> Recent {
        let mut recent = Recent::default();
        range.for_each(|index| recent.append(entry(index), 10));
        recent
    }

    fn read(recent: &Recent, from: u64, to: u64, budget: usize) -> Option<Vec<u64>> {
        let read = recent.read(from, to, budget)?;
        Some(read.iter().map(|entry| entry.log_id.index).collect())
    }

    #[test]
    fn what_is_here_is_read_and_nothing_else() {
        let recent = with(5..9);
        assert_eq!(read(&recent, 5, 9, 1000), Some(vec![5, 6, 7, 8]));
        assert_eq!(read(&recent, 6, 8, 1000), Some(vec![6, 7]));
        assert_eq!(read(&recent, 7, u64::MAX, 1000), Some(vec![7, 8]));
        assert_eq!(read(&recent, 5, 9, 20), Some(vec![5, 6]), "at the budget it ends");
        assert_eq!(read(&recent, 5, 9, 0), Some(vec![5]), "at least one");
        assert_eq!(read(&recent, 4, 9, 1000), None);
        assert_eq!(read(&recent, 9, 12, 1000), None);
        assert_eq!(read(&Recent::default(), 0, 9, 1000), None);
    }

    #[test]
    fn entries_that_are_replaced_or_removed_are_not_read_any_more() {
        let mut recent = with(5..9);
        recent.append(entry(7), 10);
        assert_eq!(read(&recent, 5, 99, 1000), Some(vec![5, 6, 7]));
        recent.truncate(6);
        assert_eq!(read(&recent, 5, 99, 1000), Some(vec![5]));
        recent.truncate(0);
        assert_eq!((read(&recent, 5, 99, 1000), recent.bytes), (None, 0));
        let mut recent = with(5..9);
        recent.purge(6);
        assert_eq!(read(&recent, 6, 99, 1000), None);
        assert_eq!(read(&recent, 7, 99, 1000), Some(vec![7, 8]));
        recent.append(entry(20), 10);
        assert_eq!(read(&recent, 8, 99, 1000), None, "the log goes on behind a snapshot");
        assert_eq!((read(&recent, 20, 99, 1000), recent.bytes), (Some(vec![20]), 10));
    }

    #[test]
    fn old_entries_make_room() {
        let recent = with(0..RECENT_ENTRIES as u64 + 3);
        assert_eq!(read(&recent, 2, 99, 1000), None);
        assert_eq!(read(&recent, 3, 4, 1000), Some(vec![3]));
        let mut recent = with(0..3);
        recent.append(entry(3), RECENT_BYTES - 10);
        assert_eq!(read(&recent, 1, 99, usize::MAX), None);
        assert_eq!(read(&recent, 2, 99, usize::MAX), Some(vec![2, 3]));
        recent.append(entry(4), RECENT_BYTES + 1);
        assert_eq!((read(&recent, 4, 99, usize::MAX), recent.bytes), (None, 0));
    }
}
