//! A look at a node's part in Raft, from a copy of its directory, whatever state that is in.

use std::path::Path;

use crate::directory::InspectionCopy;
use crate::raft_db::{Note, RaftDb, RaftDbError};
use crate::raft_directory::{self, NodeIdentity};
use crate::raft_entry::{RaftEntry, RaftLogId, RaftSnapshot, RaftVote, UnknownForm, decode};
use crate::sealed_file::SealedFileError;

/// What there is; what is damaged counts as missing and stands in `damages`.
#[derive(Debug, Default)]
pub struct RaftInspection {
    /// Who the node is.
    pub identity: Option<NodeIdentity>,
    /// Its vote.
    pub vote: Option<RaftVote>,
    /// The last entry that it knew to be committed; after a crash it may lag behind.
    pub committed: Option<RaftLogId>,
    /// The last entry that was removed from the log's front.
    pub purged: Option<RaftLogId>,
    /// The snapshot.
    pub snapshot: Option<RaftSnapshot>,
    /// Why a node would not start with the directory, or put it aside.
    pub damages: Vec<String>,
    /// What another version wrote.
    pub unknown: Vec<String>,
    is_snapshot_missing: bool,
    db: Option<RaftDb>,
}

/// Why an entry cannot be shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RaftEntryError {
    /// It is damaged or missing, or the store cannot be read.
    #[error("{0}")]
    Damaged(String),
    /// Another version wrote it.
    #[error("entry {index}: {reason}")]
    Unknown {
        /// Its number.
        index: u64,
        /// What was found.
        reason: UnknownForm,
    },
}

impl InspectionCopy {
    /// Reads the copy of a raft directory; damage is noted, and reading goes on where it can.
    ///
    /// # Errors
    ///
    /// When reading fails for reasons that are no damage.
    pub fn open_raft(&self) -> Result<RaftInspection, RaftDbError> {
        let path = self.path().join(raft_directory::RAFT);
        let shown = self.source().join(raft_directory::RAFT);
        let mut found = RaftInspection::default();
        found.read_files(&path, &shown)?;
        let log = path.join(raft_directory::LOG);
        if log.is_dir() {
            match RaftDb::inspect(&log, &shown) {
                Ok(db) => found.read_notes(db)?,
                Err(RaftDbError::Damaged { reason, .. }) => {
                    found.damages.push(format!("the log is damaged: {reason}"));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}

impl RaftInspection {
    /// Returns the index of the first entry, and the one behind the last: equal if there is none.
    pub fn extent(&self) -> (u64, u64) {
        self.db.as_ref().map_or((0, 0), RaftDb::extent)
    }

    /// Reads entries from `from` up to `to`, that one not included, one after the other.
    pub fn entries(
        &self,
        from: u64,
        to: u64,
    ) -> impl Iterator<Item = Result<RaftEntry, RaftEntryError>> {
        let (first, end) = self.extent();
        let indexes = from.max(first)..to.min(end);
        let db = self.db.as_ref();
        indexes.filter_map(move |index| Some(entry(db?, index)))
    }

    fn read_files(&mut self, path: &Path, shown: &Path) -> Result<(), RaftDbError> {
        let failed = |error: SealedFileError| RaftDbError::Failed {
            dir: shown.to_owned(),
            reason: error.to_string(),
        };
        match raft_directory::unusable(path).map_err(failed)? {
            Some(reason) => self.damages.push(format!("{reason}: a node would put it aside")),
            None => self.identity = raft_directory::read_identity(path).map_err(failed)?,
        }
        match raft_directory::snapshot_file(path).read() {
            Ok(None) => self.is_snapshot_missing = true,
            Ok(Some(bytes)) => match RaftSnapshot::decode(&bytes) {
                Ok(snapshot) => self.snapshot = Some(snapshot),
                Err(reason) => self.unknown.push(format!("the snapshot: {reason}")),
            },
            Err(SealedFileError::Damaged { reason, .. }) => {
                self.damages.push(format!("the file snapshot is damaged: {reason}"));
            }
            Err(error) => return Err(failed(error)),
        }
        Ok(())
    }

    fn read_notes(&mut self, db: RaftDb) -> Result<(), RaftDbError> {
        self.vote = self.note(&db, Note::Vote, "vote")?;
        self.committed = self.note::<Option<_>>(&db, Note::Committed, "committed")?.flatten();
        self.purged = self.note(&db, Note::Purged, "purged")?;
        let owner = db.note(Note::Owner);
        let identity = self.identity.map(|identity| identity.node.to_le_bytes().to_vec());
        match owner {
            Ok(Some(owner)) if identity.is_some_and(|identity| identity != owner) => {
                let reason = "the log belongs to another node than the file identity says";
                self.damages.push(reason.to_owned());
            }
            Ok(None) if self.identity.is_some_and(|identity| identity.cluster.is_some()) => {
                self.damages.push(format!("the log is damaged: {}", raft_directory::EMPTY));
            }
            Ok(_) => {}
            Err(error) => self.damaged(error)?,
        }
        let last = self.snapshot.as_ref().map(|snapshot| snapshot.last);
        if self.purged.is_some() && (last.is_some() || self.is_snapshot_missing) {
            self.damages.extend(raft_directory::snapshot_damage(self.purged, last));
        }
        self.db = Some(db);
        Ok(())
    }

    fn note<T: serde::de::DeserializeOwned>(
        &mut self,
        db: &RaftDb,
        note: Note,
        name: &str,
    ) -> Result<Option<T>, RaftDbError> {
        match db.note(note) {
            Ok(None) => {}
            Ok(Some(bytes)) => match decode(&bytes) {
                Ok(value) => return Ok(Some(value)),
                Err(reason) => self.unknown.push(format!("the note {name}: {reason}")),
            },
            Err(error) => self.damaged(error)?,
        }
        Ok(None)
    }

    fn damaged(&mut self, error: RaftDbError) -> Result<(), RaftDbError> {
        match error {
            RaftDbError::Damaged { reason, .. } => {
                self.damages.push(format!("the log is damaged: {reason}"));
                Ok(())
            }
            error => Err(error),
        }
    }
}

fn entry(db: &RaftDb, index: u64) -> Result<RaftEntry, RaftEntryError> {
    let damaged = |reason: String| RaftEntryError::Damaged(reason);
    let read = db.entries(index, index + 1, 1).map_err(|error| match error {
        RaftDbError::Damaged { reason, .. } => damaged(format!("the log is damaged: {reason}")),
        error => damaged(error.to_string()),
    });
    let bytes = read?.pop().ok_or_else(|| damaged(format!("entry {index} is missing")))?;
    let entry =
        RaftEntry::decode(&bytes).map_err(|reason| RaftEntryError::Unknown { index, reason })?;
    if entry.log_id.index != index {
        let found = entry.log_id.index;
        return Err(damaged(format!("the log is damaged: entry {index} says it is {found}")));
    }
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory_store::MemoryDisk;

    #[test]
    fn a_damaged_entry_hides_no_other() {
        let disk = MemoryDisk::default();
        let mut db = RaftDb::over(Box::new(disk.store()), Path::new("raft")).unwrap();
        let entries: Vec<_> = (1..4).map(|index| vec![2, 7, index, 0]).collect();
        db.append(1, &entries).unwrap();
        let read = || {
            let db = RaftDb::unchecked(Box::new(disk.store()), Path::new("raft")).unwrap();
            let found = RaftInspection { db: Some(db), ..RaftInspection::default() };
            let shown = |entry: Result<RaftEntry, RaftEntryError>| match entry {
                Ok(entry) => entry.log_id.index.to_string(),
                Err(error) => error.to_string(),
            };
            found.entries(0, u64::MAX).map(shown).collect::<Vec<_>>()
        };
        assert_eq!(read(), ["1", "2", "3"]);
        disk.corrupt(|image| {
            let second = image.iter_mut().filter(|(key, _)| key[0] == b'l').nth(1);
            *second.unwrap().1.last_mut().unwrap() ^= 1;
        });
        let damage = "the log is damaged: entry 2 does not match its checksum";
        assert_eq!(read(), ["1", damage, "3"]);
        disk.corrupt(|image| image.retain(|key, _| key[0] != b'l' || key[8] != 2));
        assert_eq!(read()[1], "the log is damaged: entry 2 is missing or not whole");
    }
}
