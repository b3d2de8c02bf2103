//! Opening a data directory: what must hold before the first block is read.

use std::path::Path;

use super::{OpenMode, Policy, Replay};
use crate::directory::{DataDirectory, Format, InspectionCopy};
use crate::error::{Damage, DamageKind, LogError};
use crate::frame::FORMAT_VERSION;
use crate::mark::{Mark, MarkFile, MarkState};
use crate::raft_directory::{RAFT, unusable};
use crate::raft_inspection::RaftEntryError;
use crate::record::SequenceNumber;
use crate::redo_store::RedoStore;
use crate::report::{Progress, VerifyReport};
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
    Opening { dir, mode, name: dir.display().to_string() }.run(Policy::Refuse)
}

impl InspectionCopy {
    /// Opens the copy; damage is noted in the replay's report and reading goes on where it can.
    ///
    /// # Errors
    ///
    /// As [`open`]; messages name the directory that was copied.
    pub fn open(&self) -> Result<Replay, LogError> {
        let name = self.source().display().to_string();
        Opening { dir: self.path(), mode: OpenMode::Existing, name }.run(Policy::Survey)
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
        let mut replay = Replay::start_with(Box::new(store), self.name, Some(mark), policy)?;
        replay.place = Some(Place { directory, mark: mark_file });
        Ok(replay)
    }

    fn check_format(&self, format: &Format, directory: &DataDirectory) -> Result<(), LogError> {
        match *format {
            Format::Version(found) if found > FORMAT_VERSION.into() => {
                let what = format!("data directory {}", self.name);
                Err(LogError::NewerFormat { what, found })
            }
            Format::Version(found) if found == FORMAT_VERSION.into() => Ok(()),
            Format::Missing if self.mode == OpenMode::Create => Ok(()),
            Format::Missing if !directory.log_path().exists() => {
                let reason = "it has neither a log nor a FORMAT file".to_owned();
                Err(LogError::NotALog { dir: self.name.clone().into(), reason })
            }
            Format::Version(_) | Format::Missing | Format::Unreadable => {
                Err(self.damaged(DamageKind::Note, "its FORMAT file is missing or unreadable"))
            }
        }
    }

    fn open_store(&self, directory: &DataDirectory) -> Result<RedoStore<SledStore>, LogError> {
        RedoStore::open(&directory.log_path()).map_err(|error| match error {
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
