//! Logs with a known history, and the tool run on them.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests stop a test as tests do")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::SystemTime;

use distcache_protocol::slot::slot_of;
use distcache_recovery::{
    Epoch, FrameBuilder, LogWriter, OpenMode, Operation, PartitionId, Record, StoredValue,
    TrimProgress, UnixMillis, open,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value as Json;

/// 2026-11-22 10:00:00 UTC.
pub const TEN: UnixMillis = UnixMillis(1_795_341_600_000);

/// Returns a time some seconds after [`TEN`].
pub fn after(seconds: u64) -> UnixMillis {
    UnixMillis(TEN.0 + seconds * 1000)
}

/// Returns the partition that a node puts a key into.
pub fn partition_of(key: &[u8]) -> PartitionId {
    PartitionId(slot_of(key) / 16)
}

pub fn put(key: &[u8], value: impl Into<StoredOrNumber>) -> Owned {
    Owned::Put(key.to_vec(), value.into(), None)
}

/// A value that owns its bytes.
#[derive(Clone)]
pub enum StoredOrNumber {
    Bytes(Vec<u8>),
    Number(i64),
}

impl From<i64> for StoredOrNumber {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl<const N: usize> From<&[u8; N]> for StoredOrNumber {
    fn from(bytes: &[u8; N]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

impl From<Vec<u8>> for StoredOrNumber {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

/// A `Put` that owns what it holds; other operations borrow literals.
#[derive(Clone)]
pub enum Owned {
    Put(Vec<u8>, StoredOrNumber, Option<UnixMillis>),
    Other(PartitionId, Operation<'static>),
}

impl Owned {
    fn is_in(&self, partition: PartitionId) -> bool {
        match self {
            Self::Put(key, ..) => partition_of(key) == partition,
            Self::Other(found, _) => *found == partition,
        }
    }

    pub fn until(self, deadline: UnixMillis) -> Self {
        match self {
            Self::Put(key, value, _) => Self::Put(key, value, Some(deadline)),
            other @ Self::Other(..) => other,
        }
    }
}

pub fn on(key: &[u8], operation: Operation<'static>) -> Owned {
    Owned::Other(partition_of(key), operation)
}

/// A log that is being written.
pub struct Log {
    writer: LogWriter,
    dir: PathBuf,
}

impl Log {
    pub fn create(dir: &Path) -> Self {
        let mut replay = open(dir, OpenMode::Create).unwrap();
        assert!(replay.by_ref().all(|block| block.is_ok()));
        Self { writer: replay.finish().unwrap().0, dir: dir.to_owned() }
    }

    /// Appends a frame.
    pub fn frame(&mut self, written: UnixMillis, records: &[(u8, Owned)]) {
        let mut frame = FrameBuilder::new();
        for (database, owned) in records {
            push(&mut frame, *database, owned);
        }
        self.writer.append(&mut frame, written).unwrap();
    }

    /// Writes the snapshots of all partitions in which there may be keys and removes the frames.
    pub fn compact(&mut self, written: UnixMillis, keys: &[(u8, Owned)]) {
        self.compact_in(written, keys, |_| Epoch(0));
    }

    /// The same; the epoch of a partition is that of a key in it.
    pub fn compact_in(
        &mut self,
        written: UnixMillis,
        keys: &[(u8, Owned)],
        epoch_of: impl Fn(&[u8]) -> Epoch,
    ) {
        for partition in (0..1024).map(PartitionId) {
            let keys: Vec<_> =
                keys.iter().filter(|(_, owned)| owned.is_in(partition)).cloned().collect();
            let epoch = keys.iter().find_map(|(_, owned)| match owned {
                Owned::Put(key, ..) => Some(epoch_of(key)),
                Owned::Other(..) => None,
            });
            self.write_snapshot(partition, written, &keys, epoch.unwrap_or(Epoch(0)));
        }
        while self.writer.trim(100, written).unwrap() == TrimProgress::More {}
    }

    /// Writes the snapshot of a key's partition; its records stay in the log.
    pub fn snapshot(
        &mut self,
        key: &[u8],
        written: UnixMillis,
        records: &[(u8, Owned)],
        epoch: Epoch,
    ) {
        self.write_snapshot(partition_of(key), written, records, epoch);
    }

    fn write_snapshot(
        &mut self,
        partition: PartitionId,
        written: UnixMillis,
        records: &[(u8, Owned)],
        epoch: Epoch,
    ) {
        let mut chunk = FrameBuilder::new();
        records.iter().for_each(|(database, owned)| push(&mut chunk, *database, owned));
        if !chunk.is_empty() {
            self.writer.write_chunk(partition, &mut chunk, written).unwrap();
        }
        self.writer.commit_snapshot(partition, epoch, written).unwrap();
    }

    pub fn close(self) {
        self.writer.close().unwrap();
        wait_for_lock(&self.dir);
    }
}

/// Waits until the lock of a closed log is gone: a child that another test is starting holds it
/// until it runs its own program.
pub fn wait_for_lock(dir: &Path) {
    let lock = fs::File::open(dir.join("LOCK")).unwrap();
    let deadline = Timestamp::now() + SignedDuration::from_secs(30);
    while lock.try_lock_shared().is_err() {
        assert!(Timestamp::now() < deadline, "the log is still locked");
        std::thread::yield_now();
    }
}

fn push(frame: &mut FrameBuilder, database: u8, owned: &Owned) {
    let (partition, operation) = match owned {
        Owned::Put(key, value, deadline) => {
            let value = match value {
                StoredOrNumber::Bytes(bytes) => StoredValue::String(bytes),
                StoredOrNumber::Number(number) => StoredValue::Integer(*number),
            };
            (partition_of(key), Operation::Put { key, value, deadline: *deadline })
        }
        Owned::Other(partition, operation) => (*partition, *operation),
    };
    frame.push(&Record { partition, database, operation });
}

/// What a run of the tool gave.
pub struct Run {
    pub code: i32,
    pub out: String,
    pub bytes: Vec<u8>,
    pub err: String,
}

impl Run {
    /// Returns the output's JSON objects.
    pub fn json(&self) -> Vec<Json> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Returns one member of each of the output's JSON objects, as text.
    pub fn members(&self, name: &str) -> String {
        let all: Vec<_> = self.json().iter().map(|object| object[name].to_string()).collect();
        all.join(" ")
    }
}

/// Returns the command that runs the tool, with copies going below `temp`.
pub fn command(dir: &Path, temp: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_distcache-log"));
    command.arg(arguments[0]).arg(dir).args(&arguments[1..]);
    command.arg("--utc").arg("--temp-dir").arg(temp).env("COLUMNS", "100");
    command.stdin(Stdio::null());
    command
}

/// Runs the tool on a directory, and checks that it leaves nothing behind.
pub fn run(dir: &Path, arguments: &[&str]) -> Run {
    let temp = tempfile::tempdir().unwrap();
    let output: Output = command(dir, temp.path(), arguments).output().unwrap();
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0, "the copy was left behind");
    Run {
        code: output.status.code().unwrap(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        bytes: output.stdout,
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs the tool, which must find nothing wrong.
pub fn clean(dir: &Path, arguments: &[&str]) -> Run {
    let run = run(dir, arguments);
    assert_eq!(run.code, 0, "{arguments:?}: {}", run.err);
    run
}

/// All files below a directory with their contents and times of change.
pub fn contents(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(contents(&path));
            files.insert(path, (vec![], SystemTime::UNIX_EPOCH));
        } else {
            let modified = fs::metadata(&path).unwrap().modified().unwrap();
            files.insert(path.clone(), (fs::read(&path).unwrap(), modified));
        }
    }
    files
}

/// Flips a byte of every place in the store's file where `needle` stands.
pub fn damage(dir: &Path, needle: &[u8]) {
    let mut found = 0;
    for name in ["log/db", "log/redo"] {
        let path = dir.join(name);
        let mut bytes = fs::read(&path).unwrap();
        let places: Vec<_> =
            (0..bytes.len()).filter(|at| bytes[*at..].starts_with(needle)).collect();
        for at in &places {
            bytes[*at] ^= 0xff;
        }
        found += places.len();
        fs::write(&path, bytes).unwrap();
    }
    assert!(found > 0, "the value is nowhere in the files");
}
