//! Rebuilding the shards from the log at a start.
//!
//! One thread reads and checks the log, and gives every block to every shard, which applies the
//! records of its own partitions. So reading and applying use several cores, and the shards
//! answer `-LOADING` meanwhile.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use distcache_recovery::{
    Block, BlockKind, LogError, LogWriter, Record, RecordError, Replay, SequenceNumber,
    VerifyReport,
};

use crate::clock::Ticks;
use crate::keyspace::Keyspace;
use crate::keyspace::warm::Hint;
use crate::limits::{LOADING_BLOCKS_MAX, WARMED_COMMANDS};

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// How far a start has come, for `INFO` and for the refusal of commands.
#[derive(Debug, Default)]
pub struct LoadProgress {
    active: AtomicBool,
    given_up: AtomicBool,
    records: AtomicU64,
    records_total: AtomicU64,
    bytes: AtomicU64,
    bytes_total: AtomicU64,
}

impl LoadProgress {
    /// Whether the node is rebuilding itself, so that commands on keys must be refused.
    #[inline]
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Acquire)
    }

    /// Begins or ends the time in which commands on keys are refused.
    pub fn set_active(&self, active: bool) {
        self.active.store(active, Ordering::Release);
    }

    /// Ends the reading of the log soon: the node stops.
    pub fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
    }

    /// Records read, and records in all.
    pub fn records(&self) -> (u64, u64) {
        (self.records.load(Ordering::Relaxed), self.records_total.load(Ordering::Relaxed))
    }

    /// Stored bytes read, and an estimate of those in all.
    pub fn bytes(&self) -> (u64, u64) {
        (self.bytes.load(Ordering::Relaxed), self.bytes_total.load(Ordering::Relaxed))
    }

    fn update(&self, progress: distcache_recovery::Progress) {
        self.records.store(progress.records, Ordering::Relaxed);
        self.records_total.store(progress.records_total, Ordering::Relaxed);
        self.bytes.store(progress.bytes, Ordering::Relaxed);
        self.bytes_total.store(progress.bytes_total(), Ordering::Relaxed);
    }
}

/// A block on its way to one shard.
pub struct LoadBlock {
    block: Arc<Block>,
    cuts: Arc<[SequenceNumber]>,
    flight: Flight,
}

impl LoadBlock {
    /// Applies the records that belong to this shard.
    pub fn apply(self, keyspace: &mut Keyspace) {
        let mut first = None;
        if let BlockKind::Frame { first: sequence } = self.block.kind {
            first = Some(sequence);
        }
        let mut own = Vec::with_capacity(WARMED_COMMANDS);
        for (index, record) in (0..).zip(self.block.records()) {
            match record {
                Ok(record) => {
                    let covered = first.is_some_and(|first| {
                        first.plus(index.into()) < self.cuts[record.partition.0 as usize]
                    });
                    if !covered && keyspace.owns(record.partition) {
                        own.push(record);
                    }
                }
                Err(error) => {
                    return self.flight.0.fail(BadRecord { kind: self.block.kind, index, error });
                }
            }
            if own.len() == WARMED_COMMANDS {
                apply_warm(keyspace, &own);
                own.clear();
            }
        }
        apply_warm(keyspace, &own);
    }
}

/// Applies records in their order, after the cache is warmed for all their keys.
fn apply_warm(keyspace: &mut Keyspace, records: &[Record<'_>]) {
    let hint =
        |record: &Record<'_>| record.operation.key().map(|key| keyspace.hint(record.database, key));
    let hints: Vec<Option<Hint>> = records.iter().map(hint).collect();
    keyspace.warm(hints.iter().flatten());
    for (record, hint) in records.iter().zip(hints) {
        keyspace.expect(hint);
        keyspace.apply(record);
    }
    keyspace.expect(None);
}

/// A record that cannot be applied.
#[derive(Debug)]
struct BadRecord {
    kind: BlockKind,
    index: u32,
    error: RecordError,
}

/// Bounds the blocks under way, and remembers the first that failed.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<GateState>,
    landed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    under_way: usize,
    bad: Option<BadRecord>,
}

/// One block under way; it has landed when this is dropped.
struct Flight(Arc<Gate>);

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.lock().under_way -= 1;
        self.0.landed.notify_one();
    }
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until at most `most` blocks are under way.
    fn wait(&self, most: usize) -> MutexGuard<'_, GateState> {
        let busy = |state: &mut GateState| state.under_way > most;
        self.landed.wait_while(self.lock(), busy).unwrap_or_else(PoisonError::into_inner)
    }

    fn take_off(self: &Arc<Self>) -> Flight {
        self.wait(LOADING_BLOCKS_MAX).under_way += 1;
        Flight(self.clone())
    }

    fn fail(&self, bad: BadRecord) {
        self.lock().bad.get_or_insert(bad);
    }
}

/// Reads the log to its end, sending each block to every one of `shards`, and returns it ready
/// for writing; `None` if it was given up before. Blocks its thread.
///
/// # Errors
/// Damage, or whatever else keeps the node from starting; see
/// [`distcache_recovery::Replay`].
pub fn load(
    mut replay: Replay,
    shards: &[impl Fn(LoadBlock)],
    progress: &LoadProgress,
) -> Result<Option<(LogWriter, VerifyReport)>, LogError> {
    let cuts: Arc<[SequenceNumber]> = Arc::from(&replay.cuts()[..]);
    let gate = Arc::new(Gate::default());
    let (started, mut told) = (Ticks::now(), Duration::ZERO);
    let mut given_up = progress.given_up.load(Ordering::Acquire);
    while !given_up && let Some(block) = replay.next() {
        let block = Arc::new(block?);
        for send in shards {
            let flight = gate.take_off();
            send(LoadBlock { block: block.clone(), cuts: cuts.clone(), flight });
        }
        progress.update(replay.progress());
        let elapsed = Ticks::now().since(started);
        if elapsed >= told + TELL_EVERY {
            told = elapsed;
            tell(&replay, elapsed);
        }
        if gate.lock().bad.is_some() {
            break;
        }
        given_up = progress.given_up.load(Ordering::Acquire);
    }
    let bad = gate.wait(0).bad.take();
    if let Some(bad) = bad {
        return Err(replay.record_error(bad.kind, bad.index, &bad.error));
    }
    if given_up {
        return Ok(None);
    }
    let (writer, report) = replay.finish()?;
    for warning in &report.warnings {
        log::warn!("{warning}");
    }
    for (first, end) in &report.declared_gaps {
        let last = end.0.saturating_sub(1);
        log::warn!(
            "records {first} to {last} are missing since an earlier repair or a full disk: \
             changes of keys may be lost"
        );
    }
    let elapsed = Ticks::now().since(started);
    log::info!(
        records = report.records, snapshot_records = report.snapshot_records,
        bytes = report.stored_bytes, ms = elapsed.as_millis() as u64;
        "rebuilt from the operation log"
    );
    Ok(Some((writer, report)))
}

fn tell(replay: &Replay, elapsed: Duration) {
    let progress = replay.progress();
    let fraction = progress.fraction();
    let left = elapsed.as_secs_f64() * (1.0 - fraction) / fraction.max(1e-6);
    log::info!(
        records = progress.records,
        mb = progress.bytes >> 20,
        percent = (fraction * 100.0) as u64,
        seconds_left = left as u64;
        "loading"
    );
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::path::Path;

    use distcache_recovery::{
        FrameBuilder, OpenMode, Operation, PartitionId, StoredValue, UnixMillis, open,
    };

    use super::*;

    /// Loads the log of a directory; `on_block` hears of each block.
    fn load_from(
        dir: &Path,
        progress: &LoadProgress,
        on_block: impl Fn(),
    ) -> Option<(LogWriter, VerifyReport)> {
        let shards = [|_: LoadBlock| on_block()];
        load(open(dir, OpenMode::Create).unwrap(), &shards, progress).unwrap()
    }

    #[test]
    fn a_load_that_is_given_up_ends_soon_and_leaves_the_log_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let (mut writer, _) = load_from(dir.path(), &LoadProgress::default(), || {}).unwrap();
        for key in [b"a", b"b", b"c"] {
            let mut frame = FrameBuilder::new();
            let operation = Operation::Put { key, value: StoredValue::Integer(1), deadline: None };
            frame.push(&Record { partition: PartitionId(5), database: 0, operation });
            writer.append(&mut frame, UnixMillis(1)).unwrap();
        }
        writer.close().unwrap();

        let (progress, blocks) = (LoadProgress::default(), Cell::new(0));
        let given_up = load_from(dir.path(), &progress, || {
            blocks.set(blocks.get() + 1);
            progress.give_up();
        });
        assert!(given_up.is_none());
        assert_eq!(blocks.get(), 1);
        // Also one that was given up before it began.
        assert!(load_from(dir.path(), &progress, || panic!("a block")).is_none());

        blocks.set(0);
        let count = || blocks.set(blocks.get() + 1);
        let (_, report) = load_from(dir.path(), &LoadProgress::default(), count).unwrap();
        assert_eq!((blocks.get(), report.records), (3, 3));
        assert!(report.is_intact() && report.is_clean_shutdown);
    }
}
