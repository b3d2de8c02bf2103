//! The directory of a node's part in Raft: who the node is, its log, and a snapshot.
//!
//! | name | what |
//! |---|---|
//! | `LOCK` | locked while a process has the directory open |
//! | `identity` | the node's id, its cluster, and whether that has accepted its keys |
//! | `log/` | [`RaftDb`] |
//! | `snapshot` | the state that the log goes on from |
//!
//! A node that has forgotten what it voted must never come back under its old id, as it could
//! vote twice. So where the identity is lost or damaged, or the log is gone that belongs to it,
//! the directory is put aside, and the node is a new one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::directory::DataDirectory;
use crate::error::LogError;
use crate::raft_db::{Note, RaftDb, RaftDbError};
use crate::raft_entry::{RaftLogId, RaftSnapshot, decode};
use crate::sealed_file::{SealedFile, SealedFileError};

pub(crate) const RAFT: &str = "raft";
const IDENTITY: &str = "identity";
const IDENTITY_MAGIC: [u8; 8] = *b"\x8fDCNODE\n";
const SNAPSHOT: &str = "snapshot";
const SNAPSHOT_MAGIC: [u8; 8] = *b"\x8fDCSNAP\n";
pub(crate) const LOG: &str = "log";
pub(crate) const LOCK: &str = "LOCK";
const IDENTITY_BYTES: usize = 25;

/// Why an empty log is refused where the node was in a cluster.
pub(crate) const EMPTY: &str = "it is empty, and its node was in a cluster";

/// Directories put aside before somebody has to look.
const ASIDE_MAX: u32 = 100;

/// Why the directory cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RaftDirectoryError {
    /// The log.
    #[error(transparent)]
    Db(#[from] RaftDbError),
    /// A file in it.
    #[error(transparent)]
    File(#[from] SealedFileError),
    /// The directory or its lock.
    #[error(transparent)]
    Directory(#[from] LogError),
}

/// Who a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeIdentity {
    /// The node.
    pub node: u64,
    /// The cluster that it belongs to, once it does.
    pub cluster: Option<u128>,
    /// Whether the node has a part in that cluster with the keys that are in its log: from then on
    /// they are the cluster's, and before, nobody may give them up.
    pub is_accepted: bool,
}

/// A node's part in Raft on disk; locked until this is dropped.
#[derive(Debug)]
pub struct RaftDirectory {
    /// The log.
    pub db: RaftDb,
    /// The snapshot.
    pub snapshot: SealedFile,
    identity_file: SealedFile,
    identity: NodeIdentity,
    put_aside: Option<PutAside>,
    lock: DataDirectory,
}

/// What became of a directory that could not be used any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutAside {
    /// Where it is now.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

impl RaftDirectory {
    /// Opens or creates the directory `raft` in a data directory. A node that is new, or must not
    /// come back as the one it was, is `new_node` from now on.
    ///
    /// # Errors
    ///
    /// When another process has it open, on file errors, and when the log is damaged.
    pub fn open(data_dir: &Path, new_node: u64) -> Result<Self, RaftDirectoryError> {
        let path = data_dir.join(RAFT);
        let mut lock = DataDirectory::lock(&path, true)?;
        let mut put_aside = None;
        if let Some(reason) = unusable(&path)? {
            put_aside = Some(PutAside { path: set_aside(&path)?, reason });
            lock = DataDirectory::lock(&path, true)?;
        }
        let identity_file = identity_file(&path);
        let identity = match read_identity(&path)? {
            Some(identity) => identity,
            None => {
                let identity = NodeIdentity { node: new_node, cluster: None, is_accepted: false };
                identity_file.write(&identity.encode())?;
                identity
            }
        };
        let mut db = RaftDb::open(&path.join(LOG))?;
        match db.note(Note::Owner)? {
            Some(owner) if owner == identity.node.to_le_bytes() => {}
            Some(_) => {
                let reason = "it belongs to another node than the file identity says".to_owned();
                return Err(RaftDbError::Damaged { dir: path, reason }.into());
            }
            None if identity.cluster.is_some() => {
                let reason = EMPTY.to_owned();
                return Err(RaftDbError::Damaged { dir: path, reason }.into());
            }
            None => db.set_note(Note::Owner, &identity.node.to_le_bytes())?,
        }
        let snapshot = snapshot_file(&path);
        Ok(Self { db, snapshot, identity_file, identity, put_aside, lock })
    }

    /// Returns who the node is.
    pub fn identity(&self) -> NodeIdentity {
        self.identity
    }

    /// Checks that there is a snapshot in place of the entries that were removed.
    ///
    /// # Errors
    ///
    /// When there is none or it is older, and when reading fails. A snapshot of a form that is
    /// not known here passes.
    pub fn check_snapshot(&self) -> Result<(), RaftDirectoryError> {
        let Some(purged) = self.db.note(Note::Purged)? else { return Ok(()) };
        let snapshot = self.snapshot.read()?;
        let last = snapshot.map(|bytes| RaftSnapshot::decode(&bytes).map(|found| found.last));
        let is_older = match last.transpose() {
            Ok(last) => snapshot_damage(decode(&purged).ok(), last),
            Err(_) => None,
        };
        let dir = self.lock.path().to_owned();
        is_older.map_or(Ok(()), |reason| Err(RaftDbError::Damaged { dir, reason }.into()))
    }

    /// Returns what was found and could not be used, if anything.
    pub fn put_aside(&self) -> Option<&PutAside> {
        self.put_aside.as_ref()
    }

    /// Notes which cluster the node belongs to; its keys are not accepted there yet. It is on disk
    /// when this returns.
    ///
    /// # Errors
    ///
    /// When writing fails; what was noted before still stands.
    pub fn set_cluster(&mut self, cluster: u128) -> Result<(), RaftDirectoryError> {
        self.write(NodeIdentity { cluster: Some(cluster), is_accepted: false, ..self.identity })
    }

    /// Notes that the keys of the node's log are those of its cluster. It is on disk when this
    /// returns; costs nothing if it was before.
    ///
    /// # Errors
    ///
    /// When writing fails; what was noted before still stands.
    pub fn set_accepted(&mut self) -> Result<(), RaftDirectoryError> {
        match self.identity.is_accepted {
            true => Ok(()),
            false => self.write(NodeIdentity { is_accepted: true, ..self.identity }),
        }
    }

    fn write(&mut self, identity: NodeIdentity) -> Result<(), RaftDirectoryError> {
        self.identity_file.write(&identity.encode())?;
        self.identity = identity;
        Ok(())
    }
}

/// What the byte behind the node's id says: `NOTED` is unknown to earlier builds, which then take
/// the node for one that has noted no cluster.
const NO_CLUSTER: u8 = 0;
const ACCEPTED: u8 = 1;
const NOTED: u8 = 2;

impl NodeIdentity {
    fn encode(self) -> [u8; IDENTITY_BYTES] {
        let mut bytes = [0; IDENTITY_BYTES];
        bytes[..8].copy_from_slice(&self.node.to_le_bytes());
        bytes[8] = match self.cluster {
            None => NO_CLUSTER,
            Some(_) if self.is_accepted => ACCEPTED,
            Some(_) => NOTED,
        };
        bytes[9..].copy_from_slice(&self.cluster.unwrap_or(0).to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; IDENTITY_BYTES] = bytes.try_into().ok()?;
        let (node, rest) = bytes.split_first_chunk()?;
        let (known, cluster) = rest.split_first()?;
        let cluster = u128::from_le_bytes(cluster.try_into().ok()?);
        let is_accepted = *known == ACCEPTED;
        let cluster = (is_accepted || *known == NOTED).then_some(cluster);
        Some(Self { node: u64::from_le_bytes(*node), cluster, is_accepted })
    }
}

fn identity_file(path: &Path) -> SealedFile {
    SealedFile::new(path.join(IDENTITY), IDENTITY_MAGIC)
}

pub(crate) fn snapshot_file(path: &Path) -> SealedFile {
    SealedFile::new(path.join(SNAPSHOT), SNAPSHOT_MAGIC)
}

/// Says what is wrong with a snapshot, given as its last entry, behind which the log was to go on
/// after so many entries were removed.
pub(crate) fn snapshot_damage(
    purged: Option<RaftLogId>,
    snapshot: Option<Option<RaftLogId>>,
) -> Option<String> {
    let index = |of: Option<RaftLogId>| of.map_or(0, |id| id.index);
    match snapshot {
        None => {
            Some("entries were removed, and the file snapshot, which has them, is missing".into())
        }
        Some(last) if purged.is_some() && index(last) < index(purged) => Some(format!(
            "entries up to {} were removed, and the file snapshot has those up to {}",
            index(purged),
            index(last)
        )),
        Some(_) => None,
    }
}

/// Reads who the node is, if the directory says so.
pub(crate) fn read_identity(path: &Path) -> Result<Option<NodeIdentity>, SealedFileError> {
    Ok(identity_file(path).read()?.and_then(|bytes| NodeIdentity::decode(&bytes)))
}

/// Says why a node may not go on with what is in the directory, if it may not.
pub(crate) fn unusable(path: &Path) -> Result<Option<String>, SealedFileError> {
    let has_log = path.join(LOG).exists();
    let has_more = has_log || path.join(SNAPSHOT).exists();
    let bytes = match identity_file(path).read() {
        Ok(bytes) => bytes,
        Err(SealedFileError::Damaged { reason, .. }) => {
            return Ok(Some(format!("the file identity is damaged: {reason}")));
        }
        Err(error) => return Err(error),
    };
    let identity = bytes.as_deref().map(NodeIdentity::decode);
    Ok(match identity {
        None if has_more => Some("the file identity is missing".to_owned()),
        None => None,
        Some(None) => Some("the file identity makes no sense".to_owned()),
        Some(Some(identity)) if identity.cluster.is_some() && !has_log => {
            Some("the log is missing".to_owned())
        }
        Some(Some(_)) => None,
    })
}

/// Renames the directory, and returns its new name.
fn set_aside(path: &Path) -> Result<PathBuf, LogError> {
    let free = (1..=ASIDE_MAX)
        .map(|number| path.with_file_name(format!("raft-unusable-{number}")))
        .find(|free| !free.exists());
    let Some(free) = free else {
        let error = io::Error::other(format!(
            "{ASIDE_MAX} directories were put aside before: look into them and remove them"
        ));
        return Err(LogError::file("putting aside of", path, &error));
    };
    let rename = || -> io::Result<()> {
        fs::rename(path, &free)?;
        // The lock of what is put aside says nothing any more.
        fs::remove_file(free.join(LOCK))?;
        match path.parent() {
            Some(parent) => fs::File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    };
    rename().map_err(|error| LogError::file("putting aside of", path, &error))?;
    Ok(free)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_keeps_the_id_and_the_cluster() {
        let dir = tempfile::tempdir().unwrap();
        let mut raft = RaftDirectory::open(dir.path(), 7).unwrap();
        let (node, is_accepted) = (7, false);
        assert_eq!(raft.identity(), NodeIdentity { node, cluster: None, is_accepted });
        assert!(matches!(
            RaftDirectory::open(dir.path(), 8),
            Err(RaftDirectoryError::Directory(_))
        ));
        raft.set_cluster(1 << 100).unwrap();
        drop(raft);
        let raft = RaftDirectory::open(dir.path(), 8).unwrap();
        assert_eq!(raft.identity(), NodeIdentity { node, cluster: Some(1 << 100), is_accepted });
        assert_eq!(raft.put_aside(), None);
    }

    /// Who was refused for its keys had its cluster on disk by then, and was not asked again.
    #[test]
    fn a_noted_cluster_is_not_one_that_has_accepted_the_nodes_keys() {
        let dir = tempfile::tempdir().unwrap();
        let open = || RaftDirectory::open(dir.path(), 7).unwrap();
        open().set_cluster(5).unwrap();
        assert!(!open().identity().is_accepted);
        open().set_accepted().unwrap();
        let accepted = NodeIdentity { node: 7, cluster: Some(5), is_accepted: true };
        assert_eq!(open().identity(), accepted);
        // As every build before wrote it.
        let mut older = [0; IDENTITY_BYTES];
        (older[0], older[8], older[9]) = (7, 1, 5);
        assert_eq!(accepted.encode(), older);
    }

    #[test]
    fn a_node_that_lost_its_identity_or_log_is_a_new_one() {
        type Loss = fn(&Path);
        let losses: [(Loss, &str); 3] = [
            (|raft| fs::remove_file(raft.join(IDENTITY)).unwrap(), "identity is missing"),
            (|raft| fs::write(raft.join(IDENTITY), b"nonsense").unwrap(), "identity is damaged"),
            (|raft| fs::remove_dir_all(raft.join(LOG)).unwrap(), "log is missing"),
        ];
        for (lose, expected) in losses {
            let dir = tempfile::tempdir().unwrap();
            let mut raft = RaftDirectory::open(dir.path(), 7).unwrap();
            raft.db.append(1, &[b"old".to_vec()]).unwrap();
            raft.set_cluster(5).unwrap();
            drop(raft);
            lose(&dir.path().join("raft"));
            let raft = RaftDirectory::open(dir.path(), 8).unwrap();
            let new = NodeIdentity { node: 8, cluster: None, is_accepted: false };
            assert_eq!(raft.identity(), new);
            assert!(raft.db.is_blank().unwrap());
            let aside = raft.put_aside().unwrap();
            assert!(aside.reason.contains(expected), "{aside:?}");
            assert!(aside.path.is_dir());
        }
    }

    #[test]
    fn a_log_under_another_nodes_identity_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(RaftDirectory::open(dir.path(), 7).unwrap());
        let file = SealedFile::new(dir.path().join("raft").join(IDENTITY), IDENTITY_MAGIC);
        let other = NodeIdentity { node: 9, cluster: None, is_accepted: false };
        file.write(&other.encode()).unwrap();
        let error = RaftDirectory::open(dir.path(), 8).unwrap_err().to_string();
        assert!(error.contains("belongs to another node"), "{error}");
    }
}
