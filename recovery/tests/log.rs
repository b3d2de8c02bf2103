//! A log on disk: written, closed, opened again, compacted, refused.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::path::Path;

use common::{Model, NOW, Random, Step, assert_same_state, random_step, recover};
use distcache_recovery::state::Keyspace;
use distcache_recovery::{
    DamageKind, FrameBuilder, InspectionCopy, LogError, OpenMode, Operation, PartitionId, Record,
    SequenceNumber, StoredValue, open,
};

fn started(dir: &Path) -> Model {
    let (log, report, state) = recover(open(dir, OpenMode::Create).unwrap()).unwrap();
    assert!(report.is_intact());
    Model::new(log, state)
}

fn put(key: &'static [u8]) -> FrameBuilder {
    let mut frame = FrameBuilder::new();
    let operation = Operation::Put { key, value: StoredValue::Integer(1), deadline: None };
    frame.push(&Record { partition: PartitionId(5), database: 0, operation });
    frame
}

#[test]
fn a_new_log_is_empty_and_starts_at_zero() {
    let dir = tempfile::tempdir().unwrap();
    let model = started(dir.path());
    assert_eq!(common::sequence(&model), SequenceNumber(0));
    assert!(model.state.is_empty());
    model.log.close().unwrap();
    assert!(started(dir.path()).state.is_empty());
}

#[test]
fn random_histories_come_back_after_restarts() {
    let seed = std::env::var("SEED").map_or(1, |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    let mut random = Random::new(seed);
    let dir = tempfile::tempdir().unwrap();
    let mut expected = Keyspace::default();
    for round in 0..6 {
        let mut model = started(dir.path());
        assert_same_state(&model.state, &expected, &format!("round {round}"));
        for _ in 0..60 {
            model.run(&random_step(&mut random)).unwrap();
        }
        expected = model.state;
        // Every other time without closing, as after a kill: what sled flushed is there.
        if round % 2 == 0 {
            model.log.close().unwrap();
        } else {
            model.log.sync().unwrap();
            model.log.write_mark().unwrap();
        }
    }
}

#[test]
fn compaction_removes_frames_and_keeps_the_state() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = started(dir.path());
    let mut random = Random::new(7);
    for _ in 0..200 {
        let seeds = (0..10).map(|_| random.below(1 << 40)).collect();
        model.run(&Step::Append(seeds)).unwrap();
    }
    let before = model.log.frame_bytes();
    model.run(&Step::Trim).unwrap();
    assert_eq!(model.log.frame_bytes(), before, "nothing is covered yet");
    for partition in 0..4 {
        model.run(&Step::Snapshot(partition * 341, 5)).unwrap();
    }
    model.run(&Step::Trim).unwrap();
    assert_eq!(model.log.frame_bytes(), 0);
    assert!(model.log.snapshot_bytes() > 0);
    model.run(&Step::Append(vec![1, 2, 3])).unwrap();
    let next = model.log.next_sequence();
    model.log.close().unwrap();
    let (log, report, state) = recover(open(dir.path(), OpenMode::Existing).unwrap()).unwrap();
    assert_same_state(&state, &model.state, "after compaction");
    assert_eq!((log.next_sequence(), report.frames, report.snapshots), (next, 1, 4));
}

#[test]
fn a_large_value_takes_many_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = started(dir.path());
    let mut random = Random::new(3);
    let value: Vec<u8> = (0..3_000_000).map(|_| random.below(256) as u8).collect();
    let mut frame = FrameBuilder::new();
    let value = StoredValue::String(&value);
    let operation = Operation::Put { key: b"large", value, deadline: None };
    let record = Record { partition: PartitionId(9), database: 2, operation };
    frame.push(&record);
    model.state.apply(&record).unwrap();
    model.log.append(&mut frame, NOW).unwrap();
    model.log.close().unwrap();
    assert_same_state(&started(dir.path()).state, &model.state, "large value");
}

#[test]
fn a_second_opener_is_refused_and_the_inspector_too() {
    let dir = tempfile::tempdir().unwrap();
    let model = started(dir.path());
    let error = open(dir.path(), OpenMode::Create).unwrap_err();
    assert!(matches!(error, LogError::InUse { .. }), "{error}");
    assert!(error.to_string().contains(&dir.path().display().to_string()));
    let error = InspectionCopy::new(dir.path(), |_, _| ()).unwrap_err();
    assert!(matches!(error, LogError::InUse { .. }), "{error}");
    model.log.close().unwrap();
    InspectionCopy::new(dir.path(), |_, _| ()).unwrap();
}

#[test]
fn a_newer_directory_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    started(dir.path()).log.close().unwrap();
    fs::write(dir.path().join("FORMAT"), "distcache data directory, format 2\n").unwrap();
    let error = open(dir.path(), OpenMode::Create).unwrap_err();
    assert!(matches!(error, LogError::NewerFormat { found: 2, .. }), "{error}");
    assert!(error.to_string().contains("use a newer distcache"), "{error}");
}

#[test]
fn directories_without_a_log_are_not_taken_for_one() {
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path().to_owned(), dir.path().join("missing")] {
        let error = open(&path, OpenMode::Existing).unwrap_err();
        assert!(matches!(error, LogError::NotALog { .. }), "{error}");
        assert!(matches!(InspectionCopy::new(&path, |_, _| ()), Err(LogError::NotALog { .. })));
    }
}

#[test]
fn a_store_that_lost_its_tail_is_refused_because_of_the_mark() {
    // sled 0.34 drops its tail without a word: put an older state of the files back.
    let dir = tempfile::tempdir().unwrap();
    let old = tempfile::tempdir().unwrap();
    let mut model = started(dir.path());
    model.log.append(&mut put(b"a"), NOW).unwrap();
    model.log.close().unwrap();
    let log = |dir: &Path, name: &str| dir.join("log").join(name);
    fs::copy(log(dir.path(), "db"), old.path().join("db")).unwrap();
    let mut model = started(dir.path());
    model.log.append(&mut put(b"b"), NOW).unwrap();
    model.log.close().unwrap();
    fs::copy(old.path().join("db"), log(dir.path(), "db")).unwrap();
    for entry in fs::read_dir(dir.path().join("log")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("snap.") {
            fs::remove_file(path).unwrap();
        }
    }
    let copy = InspectionCopy::new(dir.path(), |_, _| ()).unwrap();
    let report = copy.verify(|_| ()).unwrap();
    let lost = DamageKind::Tail { first: SequenceNumber(1), end: SequenceNumber(2) };
    assert_eq!(report.damages.iter().map(|damage| damage.kind).collect::<Vec<_>>(), [lost]);
    let error = recover(open(dir.path(), OpenMode::Create).unwrap()).err().unwrap();
    let text = error.to_string();
    assert!(text.contains("records 1 to 1 are lost"), "{text}");
    assert!(text.contains(&format!("distcache-log repair {}", dir.path().display())), "{text}");
}

#[test]
fn inspecting_changes_nothing_and_finds_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = started(dir.path());
    let mut random = Random::new(11);
    for _ in 0..40 {
        model.run(&random_step(&mut random)).unwrap();
    }
    model.log.close().unwrap();
    let before = contents(dir.path());
    let copy = InspectionCopy::new(dir.path(), |done, total| assert!(done <= total)).unwrap();
    let mut fraction = 0.0;
    let report = copy.verify(|progress| fraction = progress.fraction()).unwrap();
    assert!(report.is_intact() && report.is_clean_shutdown && report.records > 0);
    assert!((fraction - 1.0).abs() < 0.2, "progress ended at {fraction}");
    assert_eq!(contents(dir.path()), before);
}

/// Returns all files below a directory with their bytes.
fn contents(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = fs::read(&path).unwrap();
                files.push((path, bytes));
            }
        }
    }
    files.sort();
    files
}
