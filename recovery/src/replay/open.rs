//! Opening a data directory: what must hold before the first block is read.

use std::path::Path;

use super::{OpenMode, Policy, Replay};
use crate::directory::{DataDirectory, Format, InspectionCopy};
use crate::error::{Damage, DamageKind, LogError};
use crate::frame::FORMAT_VERSION;
use crate::generations::{Generations, Noted};
use crate::mark::{Mark, MarkFile, MarkState};
use crate::raft_directory::{RAFT, unusable};
use crate::raft_inspection::RaftEntryError;
use crate::record::SequenceNumber;
use crate::redo_store::RedoStore;
use crate::report::{Progress, VerifyReport};
use crate::sealed_file::SealedFileError;
use crate::sled_store::SledStore;
use crate::store::{LogStore, StoreError};
use crate::writer::Place;

/// Opens a data directory and locks it; the iterator that is returned reads the log.
///
/// Opening may change the directory's files, so inspections open an [`InspectionCopy`]. Costs
/// about 0.5 s a stored gigabyte before the first block.
///
/// # Errors
///
/// When another process has the directory open, when a newer version wrote it, and when the store
/// or the notes in it are damaged.
pub fn open(dir: &Path, mode: OpenMode) -> Result<Replay, LogError> {
    open_salted(dir, mode, 0)
}

/// Like [`open`], for a node, which stores what clients send: `salt` is a random number that they
/// do not know, so that nothing they store passes for a part of the redo log.
///
/// # Errors
///
/// As [`open`].
pub fn open_salted(dir: &Path, mode: OpenMode, salt: u32) -> Result<Replay, LogError> {
    Opening { dir, mode, salt, name: dir.display().to_string() }.run(Policy::Refuse)
}

impl InspectionCopy {
    /// Opens the copy; damage is noted in the replay's report and reading goes on where it can.
    ///
    /// # Errors
    ///
    /// As [`open`]; messages name the directory that was copied.
    pub fn open(&self) -> Result<Replay, LogError> {
        let name = self.source().display().to_string();
        Opening { dir: self.path(), mode: OpenMode::Existing, salt: 0, name }.run(Policy::Survey)
    }

    /// Reads the copy from end to end, every record and every entry of Raft's log included, and
    /// returns what was found.
    ///
    /// If all of the directory was copied ([`CopyPlan::of_all`](crate::CopyPlan::of_all)), a node
    /// starts with it if and only if [`VerifyReport::is_intact`].
    ///
    /// # Errors
    ///
    /// When another version wrote what is there, and when reading fails for reasons that are no
    /// damage.
    pub fn verify(&self, progress: impl FnMut(Progress)) -> Result<VerifyReport, LogError> {
        let mut report = self.verify_log(progress)?;
        self.verify_raft(&mut report)?;
        Ok(report)
    }

    fn verify_log(&self, mut progress: impl FnMut(Progress)) -> Result<VerifyReport, LogError> {
        let damaged = |damage: Box<Damage>| VerifyReport {
            damages: vec![*damage],
            ..VerifyReport::default()
        };
        let mut replay = match self.open() {
            Ok(replay) => replay,
            Err(LogError::Damaged(damage)) => return Ok(damaged(damage)),
            Err(error) => return Err(error),
        };
        while let Some(block) = replay.next() {
            let block = block?;
            for (index, record) in (0..).zip(block.records()) {
                if let Err(error) = record {
                    replay.note_record_error(block.kind, index, &error)?;
                }
            }
            progress(replay.progress());
        }
        Ok(replay.report().clone())
    }

    fn verify_raft(&self, report: &mut VerifyReport) -> Result<(), LogError> {
        let failed = |error: &dyn std::fmt::Display| LogError::File {
            action: "read of",
            path: self.source().join(RAFT),
            reason: error.to_string(),
        };
        let path = self.path().join(RAFT);
        if let Some(reason) = unusable(&path).map_err(|error| failed(&error))? {
            report.warnings.push(format!(
                "raft: {reason}: a node would put the folder aside and be a new one, in no cluster"
            ));
            return Ok(());
        }
        let raft = self.open_raft().map_err(|error| failed(&error))?;
        report.raft_damages.extend_from_slice(&raft.damages);
        let mut unknown = raft.unknown.clone();
        let (first, end) = raft.extent();
        for error in raft.entries(first, end).filter_map(Result::err) {
            match error {
                RaftEntryError::Damaged(reason) => report.raft_damages.push(reason),
                RaftEntryError::Unknown { .. } => unknown.push(error.to_string()),
            }
        }
        match unknown.first() {
            Some(what) if report.is_intact() => {
                let (dir, what) = (self.source().to_owned(), format!("raft: {what}"));
                Err(LogError::OtherVersion { dir, what })
            }
            _ => Ok(()),
        }
    }
}

/// A directory that is being opened.
struct Opening<'a> {
    dir: &'a Path,
    mode: OpenMode,
    /// The redo log's salt; 0 keeps the one it has.
    salt: u32,
    /// The directory as messages name it.
    name: String,
}

impl Opening<'_> {
    fn run(self, policy: Policy) -> Result<Replay, LogError> {
        let directory = DataDirectory::lock(self.dir, self.mode == OpenMode::Create)?;
        let format = directory.format()?;
        self.check_format(&format, &directory)?;
        let store = self.open_store(&directory)?;
        let (mut mark_file, state) = directory.open_mark()?;
        let mark = if format == Format::Missing {
            self.complete_creation(&directory, &store, &mut mark_file, state)?
        } else {
            match state {
                MarkState::Known(mark) => mark,
                MarkState::New | MarkState::Damaged => {
                    return Err(self.damaged(
                        DamageKind::Note,
                        "its mark file, which says where the log ends, is unreadable",
                    ));
                }
            }
        };
        let generations = self.read_generations(&directory, mark_file.has_generations)?;
        mark_file.has_generations = generations.is_some();
        let noted = Noted { mark: Some(mark), generations };
        let warning = store.warning().map(str::to_owned);
        let mut replay = Replay::start_with(Box::new(store), self.name, noted, policy)?;
        replay.warn(warning);
        replay.place = Some(Place { directory, mark: mark_file, salt: self.salt });
        Ok(replay)
    }

    fn check_format(&self, format: &Format, directory: &DataDirectory) -> Result<(), LogError> {
        match *format {
            Format::Version(found) if found > FORMAT_VERSION.into() => {
                let what = format!("data directory {}", self.name);
                Err(LogError::NewerFormat { what, found })
            }
            Format::Version(found) if found == FORMAT_VERSION.into() => Ok(()),
            Format::Missing
                if self.mode == OpenMode::Existing && !directory.log_path().exists() =>
            {
                let reason = "it has neither a log nor a FORMAT file".to_owned();
                Err(LogError::NotALog { dir: self.name.clone().into(), reason })
            }
            // What else is there tells a creation that was cut short from a lost file.
            Format::Missing => Ok(()),
            Format::Version(_) | Format::Unreadable => {
                Err(self.damaged(DamageKind::Note, "its FORMAT file is unreadable"))
            }
        }
    }

    fn read_generations(
        &self,
        directory: &DataDirectory,
        is_expected: bool,
    ) -> Result<Option<Generations>, LogError> {
        let damaged = |reason: &str| {
            let text = format!("its file generations, which says what snapshots it has, {reason}");
            self.damaged(DamageKind::Note, &text)
        };
        match Generations::read(directory.path()) {
            Ok(None) if is_expected => Err(damaged("is missing")),
            Ok(generations) => Ok(generations),
            Err(SealedFileError::Damaged { reason, .. }) => {
                Err(damaged(&format!("is damaged: {reason}")))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn open_store(&self, directory: &DataDirectory) -> Result<RedoStore<SledStore>, LogError> {
        RedoStore::open(&directory.log_path(), self.salt).map_err(|error| match error {
            StoreError::Damaged(reason) => self.damaged(DamageKind::Store, &reason),
            StoreError::Busy(_) => LogError::InUse { dir: self.name.clone().into() },
            other => other.into(),
        })
    }

    /// Completes the creation of a directory, if it is really new: its FORMAT file may be lost.
    fn complete_creation(
        &self,
        directory: &DataDirectory,
        store: &impl LogStore,
        mark_file: &mut MarkFile,
        state: MarkState,
    ) -> Result<Mark, LogError> {
        let mark = match state {
            MarkState::Known(mark) => mark,
            MarkState::New | MarkState::Damaged => Mark { end: SequenceNumber(0), is_clean: true },
        };
        if mark.end > SequenceNumber(0) || store.last_key(&[], &[0xff])?.is_some() {
            return Err(self.damaged(DamageKind::Note, "its FORMAT file is missing"));
        }
        mark_file.write(mark)?;
        directory.write_format()?;
        Ok(mark)
    }

    fn damaged(&self, kind: DamageKind, reason: &str) -> LogError {
        let intact = "what is intact is not known yet".to_owned();
        let (reason, dir) = (reason.to_owned(), self.name.clone());
        LogError::Damaged(Box::new(Damage { kind, reason, intact, dir }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys;
    use crate::record::{Epoch, Operation, PartitionId, Record, StoredValue, UnixMillis};
    use crate::store::Entry;
    use crate::writer::{LogWriter, TrimProgress};
    use crate::{FrameBuilder, Replay, repair};

    const PARTITION: PartitionId = PartitionId(5);

    fn read(mut replay: Replay) -> Result<LogWriter, LogError> {
        replay.by_ref().try_for_each(|block| block.map(|_| ()))?;
        Ok(replay.finish()?.0)
    }

    /// Logs a value, makes a snapshot with it and removes the record; returns the trim point.
    fn compact(dir: &Path, value: i64) -> SequenceNumber {
        let mut log = read(open(dir, OpenMode::Create).unwrap()).unwrap();
        let value = StoredValue::Integer(value);
        let operation = Operation::Put { key: b"key", value, deadline: None };
        let mut builder = FrameBuilder::new();
        for is_chunk in [false, true] {
            builder.push(&Record { partition: PARTITION, database: 0, operation });
            if is_chunk {
                log.write_chunk(PARTITION, &mut builder, UnixMillis(1)).unwrap();
            } else {
                log.append(&mut builder, UnixMillis(1)).unwrap();
            }
        }
        let uncovered: Vec<_> = log.uncovered().collect();
        for partition in uncovered {
            log.commit_snapshot(partition, Epoch(1), UnixMillis(1)).unwrap();
        }
        assert_eq!(log.trim(9, UnixMillis(1)).unwrap(), TrimProgress::Done);
        let end = log.next_sequence();
        log.close().unwrap();
        end
    }

    /// Replaces the partition's commit and chunks by others; returns those that were there.
    fn exchange_snapshot(dir: &Path, by: &[Entry]) -> Vec<Entry> {
        let mut store = SledStore::open(&dir.join("log")).unwrap();
        let mut found = store.range(keys::CHUNKS.0, keys::CHUNKS.1, usize::MAX).unwrap();
        let commit = keys::commit(PARTITION);
        found.extend(store.range(&commit, &keys::after(&commit), usize::MAX).unwrap());
        if !by.is_empty() {
            found.iter().for_each(|(key, _)| store.remove(key).unwrap());
            by.iter().for_each(|(key, value)| store.insert(key, value).unwrap());
        }
        store.sync().unwrap();
        found
    }

    /// Repairs a log; returns the cut of the partition then, and what snapshots are lost.
    fn repaired(dir: &Path) -> (SequenceNumber, Vec<String>) {
        let output = tempfile::tempdir().unwrap();
        let report = repair(dir, output.path(), UnixMillis(9), &mut |_, _, _| ()).unwrap();
        let replay = open(output.path(), OpenMode::Existing).unwrap();
        (replay.cuts()[usize::from(PARTITION.0)], report.damaged_snapshots)
    }

    /// Flips a bit of all copies of a value in the files of a folder.
    fn flip_everywhere(folder: &Path, value: &[u8]) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let Ok(mut bytes) = std::fs::read(&path) else { continue };
            for at in 0..bytes.len().saturating_sub(value.len()) {
                if bytes[at..].starts_with(value) {
                    bytes[at + value.len() - 1] ^= 1;
                }
            }
            std::fs::write(path, bytes).unwrap();
        }
    }

    #[test]
    fn a_snapshot_that_is_older_than_one_that_was_on_disk_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let older_cut = compact(dir.path(), 1);
        let older = exchange_snapshot(dir.path(), &[]);
        let cut = compact(dir.path(), 2);
        let newer = exchange_snapshot(dir.path(), &older);
        let error = open(dir.path(), OpenMode::Existing).unwrap_err();
        let LogError::Damaged(damage) = error else { panic!("{error}") };
        assert_eq!(damage.kind, DamageKind::Snapshot { partition: PARTITION, cut });
        let report = InspectionCopy::new(dir.path(), |_, _| ()).unwrap().verify(|_| ()).unwrap();
        assert_eq!(report.damages, [*damage]);
        assert_eq!(repaired(dir.path()), (cut, vec![]), "the raw files have the newer one");
        let (file, away) = (dir.path().join("generations"), dir.path().join("away"));
        std::fs::rename(&file, &away).unwrap();
        assert_eq!(repaired(dir.path()), (cut, vec![]), "also in a log of an earlier version");
        std::fs::rename(&away, &file).unwrap();
        exchange_snapshot(dir.path(), &newer);
        read(open(dir.path(), OpenMode::Existing).unwrap()).unwrap();
        // With the newer one in no file, the older one is what there is.
        exchange_snapshot(dir.path(), &older);
        flip_everywhere(&dir.path().join("log"), &newer[0].1);
        let lost = format!("its snapshot is of record {older_cut}, and a newer one is lost");
        assert_eq!(repaired(dir.path()), (older_cut, vec![format!("partition 5: {lost}")]));
    }

    #[test]
    fn the_file_of_generations_may_be_missing_only_where_it_never_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("generations");
        read(open(dir.path(), OpenMode::Create).unwrap()).unwrap().close().unwrap();
        assert!(!path.exists());
        compact(dir.path(), 1);
        let intact = std::fs::read(&path).unwrap();
        for damage in ["missing", "damaged"] {
            std::fs::remove_file(&path).unwrap();
            if damage == "damaged" {
                std::fs::write(&path, &intact[1..]).unwrap();
            }
            let error = open(dir.path(), OpenMode::Existing).unwrap_err().to_string();
            assert!(error.contains("its file generations"), "{error}");
            assert!(error.contains(damage) && error.contains("distcache-log repair"), "{error}");
            std::fs::write(&path, &intact).unwrap();
        }
        // A log of an earlier version; the file is written from the next compaction on.
        std::fs::remove_file(&path).unwrap();
        let (mut mark, state) = MarkFile::open(&dir.path().join("mark")).unwrap();
        let MarkState::Known(known) = state else { panic!("{state:?}") };
        mark.has_generations = false;
        mark.write(known).unwrap();
        compact(dir.path(), 2);
        assert!(path.exists() && std::fs::read(&path).unwrap() != intact);
    }
}
