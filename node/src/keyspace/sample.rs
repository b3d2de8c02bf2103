//! Keys drawn at random: for `RANDOMKEY` and eviction.
//!
//! A slot is drawn with the probability of its share of the keys, by bisection in the running
//! totals of all slots' keys; then one of its segments; then a bucket. The totals are those of
//! some time ago: they are made again when the keys have become an eighth more or fewer, or have
//! been used for long, which keeps the draw near uniform at no cost to anybody who inserts.

use std::ops::ControlFlow;

use super::Database;
use super::entry::Entry;
use super::table::{SEGMENT_ENTRIES_MAX, SlotTable};

/// Draws after which the totals are made again. Making them takes about 0.1 ms.
const DRAWS_MAX: u32 = 100_000;
/// Empty slots that may be drawn in a row before the totals are made again.
const MISSES_MAX: u32 = 8;
/// Buckets tried in one slot. At least a fifth of them are taken, as tables shrink.
const BUCKETS_TRIED_MAX: u32 = 64;
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
            for _ in 0..BUCKETS_TRIED_MAX {
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
            let offset = random() as usize % table.segment_count();
            for number in 0..table.segment_count() {
                let number = (number + offset) % table.segment_count();
                let segment = table.segment_by_number(number)?;
                if !segment.may_be_volatile() {
                    continue;
                }
                let start = random() as usize % segment.buckets().max(1);
                let buckets = (start..segment.buckets()).chain(0..start);
                for entry in buckets.filter_map(|bucket| segment.bucket(bucket)) {
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
    let segments = table.segment_count();
    for _ in 0..BUCKETS_TRIED_MAX {
        let dice = random();
        let number = (dice >> 32) as usize % segments;
        let segment = table.segment_by_number(number)?;
        // As many buckets for each segment, so that each key is as likely as any other.
        let buckets = match segments {
            1 => segment.buckets(),
            _ => segment.buckets().max(SEGMENT_ENTRIES_MAX.next_power_of_two()),
        };
        if buckets > 0
            && let Some(entry) = segment.bucket(dice as u32 as usize % buckets)
        {
            return Some(entry);
        }
    }
    // Sparse beyond what shrinking allows: any key will do.
    let found = table.segments().try_for_each(|segment| match segment.iter().next() {
        Some(entry) => ControlFlow::Break(entry),
        None => ControlFlow::Continue(()),
    });
    found.break_value()
}
