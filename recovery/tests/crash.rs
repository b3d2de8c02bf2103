//! Power cuts and failing stores at every step, on a store in memory.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::path::Path;

use common::{Model, NOW, Random, Step, assert_same_state, random_step, recover, sequence};
use distcache_recovery::memory_store::{Failure, MemoryDisk};
use distcache_recovery::state::Keyspace;
use distcache_recovery::store::LogStore;
use distcache_recovery::{
    DamageKind, LogError, Mark, PartitionId, Replay, SequenceNumber, VerifyReport,
};
use proptest::prelude::*;

fn started(disk: &MemoryDisk) -> Model {
    started_on(Box::new(disk.store()))
}

fn started_on(store: Box<dyn LogStore>) -> Model {
    let replay = Replay::start(store, "DIR".to_owned(), None).unwrap();
    let (log, _, state) = recover(replay).unwrap();
    Model::new(log, state)
}

fn marked(end: SequenceNumber) -> Option<Mark> {
    Some(Mark { end, is_clean: false })
}

/// Reads a disk after a crash, and checks that it holds a state that the model went through, at
/// least the synced one.
fn check_recovery(disk: &MemoryDisk, model: &Model, synced: SequenceNumber, what: &str) {
    check_recovery_of(|| Box::new(disk.store()), model, synced, what);
}

fn check_recovery_of(
    store: impl Fn() -> Box<dyn LogStore>,
    model: &Model,
    synced: SequenceNumber,
    what: &str,
) {
    let replay = Replay::start(store(), "DIR".to_owned(), marked(synced)).unwrap();
    let (log, report, state) = recover(replay).unwrap_or_else(|error| panic!("{what}: {error}"));
    let next = log.next_sequence();
    assert!(next >= synced, "{what}: {next} is before the synced {synced}");
    assert_same_state(&state, &model.history[next.0 as usize], what);
    assert!(report.warnings.len() <= 1, "{what}");
    // The log goes on from there, and what it then holds comes back.
    let mut again = Model::new(log, state);
    again.run(&Step::Append(vec![1, 2, 3])).unwrap();
    again.log.sync().unwrap();
    let end = sequence(&again);
    let replay = Replay::start(store(), "DIR".to_owned(), marked(end)).unwrap();
    assert_same_state(&recover(replay).unwrap().2, &again.state, what);
}

/// Returns a folder with the redo log as it is in another one.
fn copy_of_redo_log(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    if dir.join("redo").exists() {
        fs::copy(dir.join("redo"), copy.path().join("redo")).unwrap();
    }
    copy
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn a_power_cut_at_any_point_leaves_a_state_that_was(seed: u64, torn in 0_usize..2000) {
        let mut random = Random::new(seed);
        let disk = MemoryDisk::default();
        let mut model = started(&disk);
        let mut synced = SequenceNumber(0);
        for step in 0..20 {
            model.run(&random_step(&mut random)).unwrap();
            synced = model.log.synced_sequence().max(synced);
            for kept in 0..=disk.unsynced() {
                if kept + 4 < disk.unsynced() && kept > 4 {
                    continue;
                }
                for torn in [None, Some(torn)] {
                    let cut = disk.after_power_cut(kept, torn);
                    let what = format!("step {step}, {kept} changes kept, torn {torn:?}");
                    check_recovery(&cut, &model, synced, &what);
                }
            }
        }
    }

    #[test]
    fn a_power_cut_behind_the_redo_log_leaves_a_state_that_was(
        seed: u64, torn in 0_usize..2000, pages in 2_u32..24,
    ) {
        let mut random = Random::new(seed);
        let (disk, dir) = (MemoryDisk::default(), tempfile::tempdir().unwrap());
        let mut model = started_on(disk.store_with_redo_log(dir.path(), pages).unwrap());
        for step in 0..25 {
            model.run(&random_step(&mut random)).unwrap();
            if random.below(2) == 0 {
                model.run(&Step::Sync).unwrap();
            }
            let synced = model.log.synced_sequence();
            for kept in [0, 1, disk.unsynced() / 2, disk.unsynced().max(1) - 1, disk.unsynced()] {
                for torn in [None, Some(torn)] {
                    let (cut, dir) = (disk.after_power_cut(kept, torn), copy_of_redo_log(dir.path()));
                    let store = || cut.store_with_redo_log(dir.path(), pages).unwrap();
                    let what = format!("step {step}, {kept} changes kept, torn {torn:?}");
                    check_recovery_of(store, &model, synced, &what);
                }
            }
        }
    }

    #[test]
    fn a_store_that_fails_poisons_the_log_and_loses_nothing_synced(
        seed: u64, after in 0_u64..120, torn in prop::option::of(0_usize..2000), is_full: bool,
    ) {
        let mut random = Random::new(seed);
        let disk = MemoryDisk::default();
        let mut model = started(&disk);
        disk.set_failure(Some(Failure { after, torn_bytes: torn, is_full }));
        let failed = (0..200).find_map(|_| model.run(&random_step(&mut random)).err());
        let failed = failed.expect("the store fails at some step");
        prop_assert_eq!(failed.is_disk_full(), is_full);
        prop_assert!(model.log.poison().is_some());
        let synced = model.log.synced_sequence();
        for step in [Step::Append(vec![1]), Step::Sync, Step::Snapshot(0, 1), Step::Trim] {
            let refused = model.run(&step).unwrap_err();
            let is_poisoned = matches!(refused, LogError::Poisoned { .. });
            prop_assert!(is_poisoned && refused.to_string().contains(&failed.to_string()));
        }
        disk.set_failure(None);
        for kept in [0, disk.unsynced() / 2, disk.unsynced()] {
            let cut = disk.after_power_cut(kept, None);
            check_recovery(&cut, &model, synced, &format!("{kept} changes kept"));
        }
    }
}

/// Makes a log with frames and snapshots; returns it with the state and the end.
fn sample() -> (MemoryDisk, Keyspace, SequenceNumber) {
    let disk = MemoryDisk::default();
    let mut model = started(&disk);
    let mut random = Random::new(23);
    for round in 0..5 {
        for _ in 0..10 {
            let seeds = (0..6).map(|_| random.below(1 << 40)).collect();
            model.run(&Step::Append(seeds)).unwrap();
        }
        for partition in 0..=round.min(3) {
            model.run(&Step::Snapshot(partition * 341, 2)).unwrap();
        }
        model.run(&Step::Trim).unwrap();
    }
    for seed in 0..6 {
        model.run(&Step::Append(vec![seed, seed + 100])).unwrap();
    }
    model.run(&Step::Sync).unwrap();
    let end = sequence(&model);
    (disk, model.state, end)
}

fn survey(disk: &MemoryDisk, end: SequenceNumber) -> VerifyReport {
    let mut replay = Replay::survey(Box::new(disk.store()), "DIR".to_owned(), marked(end)).unwrap();
    for block in replay.by_ref() {
        block.unwrap();
    }
    replay.report().clone()
}

#[test]
fn every_value_damaged_alone_is_noticed_or_not_needed() {
    let (disk, expected, end) = sample();
    let mut keys = Vec::new();
    disk.corrupt(|image| keys = image.keys().cloned().collect());
    let mut kinds = Vec::new();
    for key in keys {
        for drop_it in [false, true] {
            let copy = disk.after_power_cut(0, None);
            copy.corrupt(|image| {
                if drop_it {
                    image.remove(&key);
                } else if let Some(value) = image.get_mut(&key) {
                    let middle = value.len() / 2;
                    value[middle] ^= 1;
                }
            });
            let report = survey(&copy, end);
            let replay = Replay::start(Box::new(copy.store()), "DIR".to_owned(), marked(end));
            let node = replay.map_err(Box::new).and_then(recover);
            assert_eq!(node.is_ok(), report.is_intact(), "key {key:?}, dropped: {drop_it}");
            match node {
                Ok((_, _, state)) => assert_same_state(&state, &expected, &format!("{key:?}")),
                Err(error) => {
                    let text = error.to_string();
                    assert!(text.contains("distcache-log repair DIR --output NEW"), "{text}");
                    kinds.push(report.damages[0].kind);
                }
            }
        }
    }
    let has = |wanted: fn(&DamageKind) -> bool| kinds.iter().any(wanted);
    assert!(has(|kind| matches!(kind, DamageKind::Records { .. })));
    assert!(has(|kind| matches!(kind, DamageKind::Tail { .. })));
    assert!(has(|kind| matches!(kind, DamageKind::Snapshot { .. })));
    // Damaging the trim note shows as one, or as the first records missing.
    assert!(has(|kind| matches!(kind, DamageKind::Note)));
}

#[test]
fn a_torn_last_frame_is_dropped_with_a_warning_only_if_it_was_not_marked() {
    let disk = MemoryDisk::default();
    let mut model = started(&disk);
    model.run(&Step::Append(vec![1, 2])).unwrap();
    let first = sequence(&model);
    model.run(&Step::Append((0..60).collect())).unwrap();
    let torn = disk.after_power_cut(usize::MAX, Some(700));
    let report = survey(&torn, first);
    assert!(report.is_intact(), "{:?}", report.damages);
    assert!(report.warnings[0].contains("record 2 on"), "{:?}", report.warnings);
    let report = survey(&torn, first.plus(1));
    let lost = DamageKind::Tail { first, end: first.plus(1) };
    assert_eq!(report.damages[0].kind, lost);
}

#[test]
fn a_snapshot_covers_what_came_before_it_and_nothing_after() {
    let disk = MemoryDisk::default();
    let mut model = started(&disk);
    let mut random = Random::new(2);
    for _ in 0..20 {
        model.run(&Step::Append((0..5).map(|_| random.below(1 << 40)).collect())).unwrap();
    }
    model.run(&Step::Snapshot(341, 3)).unwrap();
    let cut = sequence(&model);
    model.run(&Step::Append((0..50).map(|_| random.below(1 << 40)).collect())).unwrap();
    model.run(&Step::Sync).unwrap();
    let replay = Replay::start(Box::new(disk.store()), "DIR".to_owned(), None).unwrap();
    assert_eq!(replay.cuts()[341], cut);
    assert_eq!(replay.cuts()[0], SequenceNumber(0));
    assert_eq!(replay.snapshots()[0].partition, PartitionId(341));
    assert_same_state(&recover(replay).unwrap().2, &model.state, "with one snapshot");
}

#[test]
fn a_log_in_memory_cannot_be_healed_and_says_so() {
    let disk = MemoryDisk::default();
    let mut model = started(&disk);
    disk.set_failure(Some(Failure { after: 0, torn_bytes: None, is_full: true }));
    assert!(model.run(&Step::Append(vec![1])).unwrap_err().is_disk_full());
    assert!(model.log.try_heal(NOW).is_err());
    assert!(model.log.poison().is_some());
}

#[test]
fn keys_of_no_meaning_are_damage() {
    // Found by fuzzing: a key shorter than a piece number made the reader panic.
    for key in [&b"f"[..], b"f\0\0\0", b"c\0\0\0\0", b"s", b"s\xff\xff", b"g\0", b"t\0"] {
        let disk = MemoryDisk::default();
        disk.corrupt(|image| {
            image.insert(key.to_vec(), vec![1; 100]);
        });
        let report = survey(&disk, SequenceNumber(0));
        assert_eq!(report.damages.len(), 1, "{key:?}: {:?}", report.damages);
    }
}
