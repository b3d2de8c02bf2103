//! Every kind of damage to the files of a log: a node starts as documented or refuses, `verify`
//! says the same as the node, and `repair` saves everything but what it calls lost.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Model, NOW, Random, Step, assert_same_state, recover, with_record};
use distcache_recovery::state::Keyspace;
use distcache_recovery::{
    InspectionCopy, LogError, LogWriter, OpenMode, RepairReport, SequenceNumber, open, repair,
};

/// A log of frames alone, with the seeds of its records.
struct Sample {
    dir: tempfile::TempDir,
    seeds: Vec<u64>,
    state: Keyspace,
    /// The log, if nobody closed it.
    _open: Option<LogWriter>,
}

impl Sample {
    /// Returns a log without records.
    fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        recover(open(dir.path(), OpenMode::Create).unwrap()).unwrap().0.close().unwrap();
        Self { dir, seeds: Vec::new(), state: Keyspace::default(), _open: None }
    }

    /// Returns a log that was closed in order.
    fn closed() -> Self {
        let mut sample = Self::left_open();
        sample._open.take().unwrap().close().unwrap();
        sample
    }

    /// Returns a log as a crash leaves it: part of it is in the redo log alone.
    fn left_open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (log, _, state) = recover(open(dir.path(), OpenMode::Create).unwrap()).unwrap();
        let mut model = Model::new(log, state);
        let mut random = Random::new(5);
        let mut all = Vec::new();
        for _ in 0..60 {
            let seeds: Vec<u64> = (0..8).map(|_| random.below(1 << 40)).collect();
            model.run(&Step::Append(seeds.clone())).unwrap();
            model.run(&Step::Sync).unwrap();
            all.extend(seeds);
        }
        model.log.write_mark().unwrap();
        Self { dir, seeds: all, state: model.state, _open: Some(model.log) }
    }

    /// Returns a private copy of the log, to be damaged.
    fn copy(&self) -> tempfile::TempDir {
        copy_of(self.dir.path())
    }

    /// Returns the state without the records in these ranges.
    fn state_without(&self, lost: &[(SequenceNumber, SequenceNumber)]) -> Keyspace {
        let mut state = Keyspace::default();
        for (sequence, seed) in self.seeds.iter().enumerate() {
            let sequence = SequenceNumber(sequence as u64);
            if !lost.iter().any(|(first, end)| (*first..*end).contains(&sequence)) {
                with_record(*seed, |record| state.apply(record).unwrap());
            }
        }
        state
    }

    /// Checks node, verify and repair against each other on a damaged copy; returns whether the
    /// node started.
    fn check(&self, dir: &Path, what: &str) -> bool {
        let verified = InspectionCopy::new(dir, |_, _| ()).and_then(|copy| copy.verify(|_| ()));
        let repaired = tempfile::tempdir().unwrap();
        let repair = repair(dir, repaired.path(), NOW, &mut |_, _, _| ());
        let node = open(dir, OpenMode::Existing).map_err(Box::new).and_then(recover);
        match (&node, &verified) {
            (Ok((_, _, state)), Ok(report)) => {
                assert!(report.is_intact(), "{what}: verify sees damage: {:?}", report.damages);
                assert_same_state(state, &self.state, what);
            }
            (Err(node), Ok(report)) => {
                assert!(!report.is_intact(), "{what}: only the node sees damage: {node}");
                assert!(node.to_string().contains("distcache-log repair"), "{what}: {node}");
            }
            (Err(node), Err(verify)) => {
                assert!(matches!(verify, LogError::NewerFormat { .. }), "{what}: {verify}");
                assert!(matches!(**node, LogError::NewerFormat { .. }), "{what}: {node}");
            }
            (Ok(_), Err(error)) => panic!("{what}: only verify fails: {error}"),
        }
        match repair {
            Ok(report) => self.check_repaired(repaired.path(), &report, what),
            Err(error) => assert!(matches!(error, LogError::NewerFormat { .. }), "{what}: {error}"),
        }
        node.is_ok()
    }

    fn check_repaired(&self, dir: &Path, report: &RepairReport, what: &str) {
        let (log, found, state) = recover(open(dir, OpenMode::Existing).unwrap()).unwrap();
        assert_eq!(found.declared_gaps, report.lost, "{what}");
        let lost: u64 = report.lost.iter().map(|(first, end)| end.0 - first.0).sum();
        assert_eq!(report.records + lost, log.next_sequence().0, "{what}: every record counted");
        let mut lost = report.lost.clone();
        lost.push((log.next_sequence(), SequenceNumber(u64::MAX)));
        assert_same_state(&state, &self.state_without(&lost), what);
    }
}

fn copy_of(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for (name, _) in files(dir) {
        let to = copy.path().join(&name);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(dir.join(&name), to).unwrap();
    }
    fs::create_dir_all(copy.path().join("log/blobs")).unwrap();
    copy
}

fn files(dir: &Path) -> Vec<(PathBuf, usize)> {
    let mut files = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let len = fs::metadata(&path).unwrap().len() as usize;
                files.push((path.strip_prefix(dir).unwrap().to_owned(), len));
            }
        }
    }
    files.sort();
    files
}

/// Damages the copies' files at places spread over those with content, and checks each.
fn for_places(tries: usize, damage: impl Fn(&mut Vec<u8>, usize)) -> (usize, usize) {
    let (a, b) = (Sample::closed(), Sample::left_open());
    let (closed, open) = (damage_all(&a, tries, &damage), damage_all(&b, tries / 2, &damage));
    (closed.0 + open.0, closed.1 + open.1)
}

fn damage_all(
    sample: &Sample,
    tries: usize,
    damage: impl Fn(&mut Vec<u8>, usize),
) -> (usize, usize) {
    let mut random = Random::new(17);
    let (mut started, mut refused) = (0, 0);
    for (name, len) in files(sample.dir.path()) {
        if len == 0 {
            continue;
        }
        // Of the large file the part that is used; small ones get fewer tries.
        let bytes = fs::read(sample.dir.path().join(&name)).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
        let tries = if used > 10_000 { tries } else { tries.div_ceil(6) };
        for _ in 0..tries {
            let at = random.below(used as u64) as usize;
            let copy = sample.copy();
            let path = copy.path().join(&name);
            let mut bytes = bytes.clone();
            damage(&mut bytes, at);
            fs::write(path, bytes).unwrap();
            let what = format!("{} at byte {at}", name.display());
            if sample.check(copy.path(), &what) { started += 1 } else { refused += 1 }
        }
    }
    (started, refused)
}

#[test]
fn one_flipped_byte_anywhere_is_harmless_or_refused() {
    let (started, refused) = for_places(18, |bytes, at| bytes[at] ^= 0x21);
    assert!(started > 0 && refused > 0, "{started} started, {refused} refused");
}

#[test]
fn truncation_anywhere_is_harmless_or_refused() {
    let (_, refused) = for_places(10, |bytes, at| bytes.truncate(at));
    assert!(refused > 0);
}

#[test]
fn a_zeroed_block_anywhere_is_harmless_or_refused() {
    let (_, refused) = for_places(10, |bytes, at| {
        let begin = at / 4096 * 4096;
        let end = bytes.len().min(begin + 4096);
        bytes[begin..end].fill(0);
    });
    assert!(refused > 0);
}

#[test]
fn missing_files_are_refused_and_repaired() {
    let sample = Sample::closed();
    for name in ["FORMAT", "mark", "log/db", "log/conf"] {
        let copy = sample.copy();
        fs::remove_file(copy.path().join(name)).unwrap();
        let starts = sample.check(copy.path(), &format!("no {name}"));
        assert_eq!(starts, name == "log/conf", "no {name}");
    }
    // Without a FORMAT file an empty log is one whose creation was cut short.
    let empty = Sample::empty();
    for names in [["FORMAT", "mark"].as_slice(), &["FORMAT"]] {
        let copy = empty.copy();
        names.iter().for_each(|name| fs::remove_file(copy.path().join(name)).unwrap());
        assert!(empty.check(copy.path(), &format!("empty, without {names:?}")));
    }
}

#[test]
fn a_dropped_last_sync_is_a_warning_and_a_kill_is_no_clean_shutdown() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _, state) = recover(open(dir.path(), OpenMode::Create).unwrap()).unwrap();
    let mut model = Model::new(log, state);
    for seed in 0..5 {
        model.run(&Step::Append(vec![seed])).unwrap();
        model.run(&Step::Sync).unwrap();
    }
    let verify = |dir: &Path| InspectionCopy::new(dir, |_, _| ()).unwrap().verify(|_| ()).unwrap();
    // As after a kill before the next tick writes the mark.
    let copy = copy_of(dir.path());
    let report = verify(copy.path());
    assert!(report.is_intact() && report.warnings.is_empty() && !report.is_clean_shutdown);
    assert_eq!(report.records, 5);
    let redo = copy.path().join("log/redo");
    let mut bytes = fs::read(&redo).unwrap();
    let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[last] ^= 1;
    fs::write(&redo, bytes).unwrap();
    let report = verify(copy.path());
    assert!(report.is_intact() && report.records == 4, "{report:?}");
    assert!(report.warnings[0].contains("the last sync was cut short"), "{:?}", report.warnings);
    let found = recover(open(copy.path(), OpenMode::Existing).unwrap()).unwrap().1;
    assert_eq!(found.warnings, report.warnings);
    assert_eq!(found.warnings.len(), 1);
}

/// Makes a log that was compacted and went on.
fn compacted(dir: &Path) -> Keyspace {
    let (log, _, state) = recover(open(dir, OpenMode::Create).unwrap()).unwrap();
    let mut model = Model::new(log, state);
    let mut random = Random::new(31);
    for _ in 0..3 {
        for _ in 0..15 {
            let seeds = (0..10).map(|_| random.below(1 << 40)).collect();
            model.run(&Step::Append(seeds)).unwrap();
        }
        for partition in 0..4 {
            model.run(&Step::Snapshot(partition * 341, 2)).unwrap();
        }
        model.run(&Step::Append((0..9).collect())).unwrap();
        model.run(&Step::Trim).unwrap();
    }
    model.log.close().unwrap();
    model.state
}

#[test]
fn repairing_an_intact_log_keeps_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let expected = compacted(dir.path());
    let output = tempfile::tempdir().unwrap();
    let report = repair(dir.path(), output.path(), NOW, &mut |_, _, _| ()).unwrap();
    assert_eq!((report.snapshots, report.lost.len(), report.carved_frames), (4, 0, 0));
    assert!(report.damaged_snapshots.is_empty() && report.unreadable_frames == 0);
    let source = recover(open(dir.path(), OpenMode::Existing).unwrap()).unwrap();
    let (log, found, state) = recover(open(output.path(), OpenMode::Existing).unwrap()).unwrap();
    assert_same_state(&state, &expected, "repaired");
    assert_eq!(log.next_sequence(), source.0.next_sequence());
    assert_eq!((found.trimmed, found.records), (source.1.trimmed, source.1.records));
}

#[test]
fn repair_reads_only_and_refuses_to_write_over_something() {
    let dir = tempfile::tempdir().unwrap();
    compacted(dir.path());
    let before = contents(dir.path());
    let output = tempfile::tempdir().unwrap();
    repair(dir.path(), output.path(), NOW, &mut |_, _, _| ()).unwrap();
    assert!(contents(dir.path()) == before, "the source has changed");
    let error = repair(dir.path(), output.path(), NOW, &mut |_, _, _| ()).unwrap_err();
    assert!(error.to_string().contains("not empty"), "{error}");
}

#[test]
fn without_its_store_a_compacted_log_is_saved_from_the_raw_files() {
    let dir = tempfile::tempdir().unwrap();
    let expected = compacted(dir.path());
    // sled refuses to open a store of another segment size; all of its data is intact.
    fs::write(dir.path().join("log/conf"), "segment_size: 512\nuse_compression: false\n").unwrap();
    assert!(matches!(open(dir.path(), OpenMode::Existing), Err(LogError::Damaged(_))));
    let output = tempfile::tempdir().unwrap();
    let report = repair(dir.path(), output.path(), NOW, &mut |_, _, _| ()).unwrap();
    assert!(report.source.is_none() && report.carved_frames > 0, "{report:?}");
    assert_eq!((report.snapshots, report.lost.len()), (4, 0), "{report:?}");
    let (_, _, state) = recover(open(output.path(), OpenMode::Existing).unwrap()).unwrap();
    assert_same_state(&state, &expected, "carved");
}

#[test]
fn a_damaged_compacted_log_is_always_repaired_to_one_that_starts() {
    let dir = tempfile::tempdir().unwrap();
    compacted(dir.path());
    let bytes = fs::read(dir.path().join("log/db")).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64;
    let mut random = Random::new(3);
    for _ in 0..12 {
        let at = random.below(used) as usize / 4096 * 4096;
        let copy = copy_of(dir.path());
        let mut bytes = bytes.clone();
        bytes[at..at + 4096].fill(0);
        fs::write(copy.path().join("log/db"), bytes).unwrap();
        let output = tempfile::tempdir().unwrap();
        repair(copy.path(), output.path(), NOW, &mut |_, _, _| ()).unwrap();
        recover(open(output.path(), OpenMode::Existing).unwrap())
            .unwrap_or_else(|error| panic!("zeroed block at {at}: {error}"));
    }
}

fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    files(dir)
        .into_iter()
        .map(|(name, _)| (name.clone(), fs::read(dir.join(name)).unwrap()))
        .collect()
}
