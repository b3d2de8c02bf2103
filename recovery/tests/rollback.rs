//! Damage at which sled falls back to older pages, in a log that was compacted several times: a
//! node starts with all that it had or refuses, `verify` names each partition that is older, and
//! `repair` says where it saved something older.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use common::{NOW, Random, recover};
use distcache_recovery::state::Keyspace;
use distcache_recovery::{
    DamageKind, Epoch, FrameBuilder, InspectionCopy, LogWriter, OpenMode, Operation, PartitionId,
    Record, StoredValue, TrimProgress, UnixMillis, VerifyReport, open, repair,
};

const PARTITIONS: u16 = 1000;
const ROUNDS: u64 = 6;
/// Bytes of a value, and of those in front that are new in each round.
const VALUE_BYTES: usize = 2300;
const NEW_BYTES: usize = 300;
const FRAME_RECORDS: u16 = 16;
const BLOCK_BYTES: usize = 4096;

type Values = BTreeMap<u16, Vec<u8>>;

/// A log with one key in each partition. Most change in each round, at whose end they have new
/// snapshots and what these cover is removed; behind the last round there are none.
struct Sample {
    dir: tempfile::TempDir,
    values: Values,
    db: Vec<u8>,
}

fn sample() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    SAMPLE.get_or_init(Sample::new)
}

impl Sample {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _, _) = recover(open(dir.path(), OpenMode::Create).unwrap()).unwrap();
        let (mut values, mut random) = (Values::new(), Random::new(9));
        for round in 0..ROUNDS {
            let now = UnixMillis(NOW.0 + 1000 * round);
            // The last partitions stay as they were: their older snapshots are the newest.
            let changed = 0..if round < 2 { PARTITIONS } else { PARTITIONS - 100 };
            for first in changed.clone().step_by(usize::from(FRAME_RECORDS)) {
                let mut frame = FrameBuilder::new();
                for partition in first..changed.end.min(first + FRAME_RECORDS) {
                    let value = values.entry(partition).or_insert_with(|| vec![0; VALUE_BYTES]);
                    let new = if round == 0 { VALUE_BYTES } else { NEW_BYTES };
                    value[..new].fill_with(|| random.below(256) as u8);
                    log_change(partition, value, round == 0, &mut frame);
                }
                log.append(&mut frame, now).unwrap();
            }
            log.sync().unwrap();
            if round + 1 < ROUNDS {
                compact(&mut log, changed.end, &values, now);
            }
        }
        log.close().unwrap();
        let db = fs::read(dir.path().join("log/db")).unwrap();
        assert!(db.len() > 8 << 20);
        Self { dir, values, db }
    }

    /// Returns a copy of the log with other bytes in the store's file.
    fn damaged(&self, damage: impl FnOnce(&mut Vec<u8>)) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        fs::create_dir_all(copy.path().join("log/blobs")).unwrap();
        for folder in ["", "log"] {
            for entry in fs::read_dir(self.dir.path().join(folder)).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_file() {
                    let to = copy.path().join(folder).join(entry.file_name());
                    fs::copy(entry.path(), to).unwrap();
                }
            }
        }
        let mut db = self.db.clone();
        damage(&mut db);
        fs::write(copy.path().join("log/db"), db).unwrap();
        copy
    }

    /// Returns places of the store's file that hold something, spread over it.
    fn places(&self, count: usize) -> impl Iterator<Item = usize> {
        let used = self.db.iter().rposition(|byte| *byte != 0).unwrap();
        let mut random = Random::new(41);
        let step = used / count;
        let near = move |number| number * step + random.below(step as u64) as usize;
        (0..count).map(near).filter(|at| self.db[*at] != 0)
    }

    /// Returns the partitions whose values a state lacks or has as they were earlier.
    fn differing(&self, state: &Keyspace) -> Vec<u16> {
        let mut differing = self.values.clone();
        for (_, partition, _, item) in state.iter() {
            if self.values.get(&partition.0) == Some(&item.value.to_bytes()) {
                differing.remove(&partition.0);
            }
        }
        differing.into_keys().collect()
    }

    /// Checks node and verify against what was logged. Returns the report.
    fn check_start(&self, dir: &Path, what: &str) -> VerifyReport {
        let (report, state) = survey(dir);
        match open(dir, OpenMode::Existing).map_err(Box::new).and_then(recover) {
            Ok((_, _, state)) => {
                assert!(report.is_intact(), "{what}: {:?}", report.damages);
                let differing = self.differing(&state);
                assert!(differing.is_empty(), "{what}: the node starts with others: {differing:?}");
            }
            Err(error) => assert!(!report.is_intact(), "{what}: only the node refuses: {error}"),
        }
        let damages = report.damages.iter().map(|damage| damage.kind);
        let named: Option<Vec<u16>> = damages
            .map(|damage| match damage {
                DamageKind::Snapshot { partition, .. } => Some(partition.0),
                _ => None,
            })
            .collect();
        if let (Some(named), Some(state)) = (named, state) {
            let is_silent = |partition: &u16| !named.contains(partition);
            let silent: Vec<_> = self.differing(&state).into_iter().filter(is_silent).collect();
            assert!(silent.is_empty(), "{what}: others are older: {silent:?}, known: {named:?}");
        }
        report
    }
}

/// Repairs a damaged copy, which must say where what it saves is not what was logged.
fn check_repair(dir: &Path, what: &str) {
    let output = tempfile::tempdir().unwrap();
    let report = repair(dir, output.path(), NOW, &mut |_, _, _| ()).unwrap();
    let (_, _, state) = recover(open(output.path(), OpenMode::Existing).unwrap()).unwrap();
    let is_named = |partition: &u16| {
        let name = format!("partition {partition}:");
        report.damaged_snapshots.iter().any(|text| text.starts_with(&name))
    };
    if report.lost.is_empty() && report.unreadable_frames == 0 {
        let differing = sample().differing(&state).into_iter();
        let silent: Vec<_> = differing.filter(|partition| !is_named(partition)).collect();
        assert!(silent.is_empty(), "{what}: others are older: {silent:?}, {report:?}");
    }
}

/// Logs a new value, or the part of it that is new.
fn log_change(partition: u16, value: &[u8], is_whole: bool, into: &mut FrameBuilder) {
    let operation = if is_whole {
        Operation::Put { key: b"key", value: StoredValue::String(value), deadline: None }
    } else {
        Operation::WriteRange { key: b"key", offset: 0, bytes: &value[..NEW_BYTES] }
    };
    into.push(&Record { partition: PartitionId(partition), database: 0, operation });
}

/// Makes snapshots of partitions, as two shards do at a time, and removes what they cover.
fn compact(log: &mut LogWriter, end: u16, values: &Values, now: UnixMillis) {
    const LAG: u16 = 6;
    let mut order: Vec<u16> = (0..end).collect();
    order.sort_by_key(|partition| partition + (partition % 2) * LAG);
    for partition in order {
        let mut chunk = FrameBuilder::new();
        log_change(partition, &values[&partition], true, &mut chunk);
        log.write_chunk(PartitionId(partition), &mut chunk, now).unwrap();
        log.commit_snapshot(PartitionId(partition), Epoch(1), now).unwrap();
    }
    while log.trim(64, now).unwrap() == TrimProgress::More {}
}

/// Reads all that can be read: the report, and the state if the store was readable.
fn survey(dir: &Path) -> (VerifyReport, Option<Keyspace>) {
    let copy = InspectionCopy::new(dir, |_, _| ()).unwrap();
    let report = copy.verify(|_| ()).unwrap();
    let state = InspectionCopy::new(dir, |_, _| ()).unwrap().open().ok().map(|mut replay| {
        let (mut state, cuts) = (Keyspace::default(), Box::new(*replay.cuts()));
        for block in replay.by_ref() {
            state.apply_block(&block.unwrap(), &cuts).unwrap();
        }
        state
    });
    (report, state)
}

fn zero_block(db: &mut [u8], at: usize) {
    let begin = at / BLOCK_BYTES * BLOCK_BYTES;
    let end = db.len().min(begin + BLOCK_BYTES);
    db[begin..end].fill(0);
}

#[test]
fn a_zeroed_block_never_brings_older_snapshots_back() {
    let (mut started, mut older) = (0, 0);
    for (number, at) in sample().places(48).enumerate() {
        let copy = sample().damaged(|db| zero_block(db, at));
        let report = sample().check_start(copy.path(), &format!("block of byte {at}"));
        started += u32::from(report.is_intact());
        older += u32::from(report.damages.len() > 50);
        if !report.is_intact() && number % 3 == 0 {
            check_repair(copy.path(), &format!("block of byte {at}"));
        }
    }
    assert!(started > 0, "some blocks are not needed any more");
    assert!(older > 0, "no damage brought older snapshots back: this shows nothing");
}

#[test]
fn a_flipped_bit_never_brings_older_snapshots_back() {
    for at in sample().places(24) {
        let copy = sample().damaged(|db| db[at] ^= 1);
        sample().check_start(copy.path(), &format!("byte {at}"));
    }
}
