//! Keys drawn at random: for `RANDOMKEY` and eviction.
//!
//! A slot is drawn with the probability of its share of the keys, by bisection in the running
//! totals of all slots' keys; then one of its segments; then a place in it. The totals are those of
//! some time ago: they are made again when the keys have become an eighth more or fewer, or have
//! been used for long, which keeps the draw near uniform at no cost to anybody who inserts.

use super::Database;
use super::entry::Entry;
use super::table::{SEGMENT_ENTRIES_MAX, SlotTable};

/// Draws after which the totals are made again. Making them takes about 0.1 ms.
const DRAWS_MAX: u32 = 100_000;
/// Empty slots that may be drawn in a row before the totals are made again.
const MISSES_MAX: u32 = 8;
/// Places tried in one slot. While it grows, at least a quarter of them are taken in the mean.
const PLACES_TRIED_MAX: u32 = 64;
/// Keys looked at for one with a deadline, before a draw is given up.
const KEYS_TRIED_MAX: usize = 4096;

/// Which keys are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drawn {
    /// Any.
    All,
    /// Those with a deadline.
    Volatile,
}

/// Keys before each slot of a shard, as of when this was made.
#[derive(Default)]
pub(super) struct Sampler {
    before: Vec<u32>,
    total: usize,
    /// Keys of the database when the totals were made.
    keys: usize,
    draws: u32,
}

impl Sampler {
    fn is_stale(&self, keys: usize) -> bool {
        self.draws >= DRAWS_MAX || self.keys.abs_diff(keys) > self.keys / 8 || self.total == 0
    }

    fn rebuild(&mut self, database: &Database) {
        self.before.clear();
        let mut total = 0;
        self.before.extend(database.tables.iter().map(|table| {
            let before = total as u32;
            total += table.len();
            before
        }));
        (self.total, self.keys, self.draws) = (total, database.keys, 0);
    }

    /// Draws a slot by its number of keys.
    fn slot(&mut self, random: u64) -> usize {
        self.draws += 1;
        let place = (random % self.total as u64) as u32;
        self.before.partition_point(|&before| before <= place) - 1
    }
}

impl Database {
    /// Draws a key. None only if there is none such, or, of `Volatile`, none was found in
    /// [`KEYS_TRIED_MAX`] keys.
    pub(super) fn draw(
        &mut self,
        drawn: Drawn,
        random: &mut impl FnMut() -> u64,
    ) -> Option<&Entry> {
        if self.keys == 0 || drawn == Drawn::Volatile && self.volatile == 0 {
            return None;
        }
        let mut sampler = std::mem::take(&mut self.sampler);
        if sampler.is_stale(self.keys) {
            sampler.rebuild(self);
        }
        let mut misses = 0;
        let mut slot = sampler.slot(random());
        while self.tables[slot].is_empty() {
            misses += 1;
            if misses == MISSES_MAX {
                sampler.rebuild(self);
                misses = 0;
            }
            slot = sampler.slot(random());
        }
        self.sampler = sampler;
        match drawn {
            Drawn::All => draw_from(&self.tables[slot], random),
            Drawn::Volatile => self.draw_volatile(slot, random),
        }
    }

    /// Draws a key with a deadline: any one, while enough have one; else the next after a random
    /// place. Segments that hold none are passed over.
    fn draw_volatile(&self, slot: usize, random: &mut impl FnMut() -> u64) -> Option<&Entry> {
        if self.volatile >= self.keys / 8 {
            let mut slot = slot;
            for _ in 0..PLACES_TRIED_MAX {
                let entry = draw_from(&self.tables[slot], random);
                if let Some(entry) = entry.filter(|entry| entry.deadline().is_some()) {
                    return Some(entry);
                }
                slot = (random() % self.tables.len() as u64) as usize;
            }
        }
        let (from, after) = (&self.tables[slot..], &self.tables[..slot]);
        let mut tried = 0;
        for table in from.iter().chain(after) {
            let segments = table.segments();
            let (before, from) = segments.split_at(random() as usize % segments.len());
            for segment in from.iter().chain(before) {
                if !segment.may_be_volatile() {
                    continue;
                }
                let entries = segment.entries();
                let start = random() as usize % entries.len().max(1);
                for entry in entries[start..].iter().chain(&entries[..start]) {
                    if entry.deadline().is_some() {
                        return Some(entry);
                    }
                    tried += 1;
                }
            }
            if tried >= KEYS_TRIED_MAX {
                return None;
            }
        }
        None
    }
}

/// Draws a key of one slot.
fn draw_from<'a>(table: &'a SlotTable, random: &mut impl FnMut() -> u64) -> Option<&'a Entry> {
    let segments = table.segments();
    for _ in 0..PLACES_TRIED_MAX {
        let dice = random();
        let entries = segments[(dice >> 32) as usize % segments.len()].entries();
        // As many places for each segment, so that each key is as likely as any other.
        let places = match segments.len() {
            1 => entries.len(),
            _ => entries.len().max(SEGMENT_ENTRIES_MAX),
        };
        if places > 0
            && let Some(entry) = entries.get(dice as u32 as usize % places)
        {
            return Some(entry);
        }
    }
    // Most keys of the slot are gone, so that its segments are sparse: the next key will do.
    let (before, from) = segments.split_at(random() as usize % segments.len());
    from.iter().chain(before).find_map(|segment| segment.entries().first())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::entry::Value;
    use super::super::{Deadline, KeyHasher, Keyspace, ShardId};
    use super::*;
    use crate::records::UnixMillis;

    /// Draws `draws` keys; returns how often each was drawn.
    fn drawn(keyspace: &mut Keyspace, which: Drawn, draws: usize) -> BTreeMap<Vec<u8>, usize> {
        let mut state = 1_u64;
        let mut random = || {
            // splitmix64
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        };
        let database = keyspace.databases.get_mut(0).unwrap();
        let mut times = BTreeMap::new();
        for _ in 0..draws {
            let entry = database.draw(which, &mut random).unwrap();
            *times.entry(entry.key().to_vec()).or_insert(0) += 1;
        }
        times
    }

    fn filled(keys: u32) -> Keyspace {
        let mut keyspace = Keyspace::new(ShardId { index: 0, count: 1 }, 1, KeyHasher::new(5));
        for i in 0..keys {
            // A third of the keys share a slot, whose segments split; the others lie alone.
            let key = if i.is_multiple_of(3) { format!("{{tag}}{i}") } else { format!("{i}") };
            let deadline = match i {
                0..100 => Deadline::At(UnixMillis(u64::MAX - 1)),
                _ => Deadline::Clear,
            };
            keyspace.put(key.as_bytes(), Value::Integer(0), deadline);
        }
        keyspace
    }

    /// Sum over the keys of (times - mean)^2 / mean: near the number of keys if all are equally
    /// likely.
    fn chi_squared(times: &BTreeMap<Vec<u8>, usize>, keys: usize, draws: usize) -> f64 {
        let mean = draws as f64 / keys as f64;
        let never_drawn = (keys - times.len()) as f64 * mean;
        times.values().map(|&n| (n as f64 - mean).powi(2) / mean).sum::<f64>() + never_drawn
    }

    #[test]
    fn every_key_is_as_likely_as_any_other() {
        let keys = 3000;
        let mut keyspace = filled(keys);
        let times = drawn(&mut keyspace, Drawn::All, 60_000);
        // Standard deviation: square root of 6000, about 77.
        let distance = chi_squared(&times, keys as usize, 60_000);
        assert!((2600.0..3400.0).contains(&distance), "{distance}");
    }

    #[test]
    fn a_sparse_slot_still_yields_its_keys() {
        let mut keyspace = filled(30_000);
        for i in (0..30_000).filter(|i| *i != 300) {
            let key = if i % 3 == 0 { format!("{{tag}}{i}") } else { format!("{i}") };
            keyspace.remove(key.as_bytes());
        }
        let times = drawn(&mut keyspace, Drawn::All, 100);
        assert_eq!(times, BTreeMap::from([(b"{tag}300".to_vec(), 100)]));
    }

    #[test]
    fn only_keys_with_a_deadline_are_drawn_where_these_are_asked_for() {
        let times = drawn(&mut filled(3000), Drawn::Volatile, 20_000);
        let number = |key: &[u8]| {
            let text = std::str::from_utf8(key).unwrap();
            text.trim_start_matches("{tag}").parse::<u32>().unwrap()
        };
        assert!(times.keys().all(|key| number(key) < 100));
        assert!(times.len() > 90, "{} of 100", times.len());
    }
}
