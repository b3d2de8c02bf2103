//! What can go wrong with the log, and what it means for the data.

use std::path::PathBuf;

use serde::Serialize;

use crate::frame::{FORMAT_VERSION, FrameError};
use crate::record::{PartitionId, RecordError, SequenceNumber};
use crate::sealed_file::SealedFileError;
use crate::store::StoreError;

/// A failure of the log. Unless a variant says otherwise nothing that was stored has changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// Another process, or another part of this one, has the data directory open.
    #[error("data directory {dir} is in use by another process")]
    InUse {
        /// The data directory.
        dir: PathBuf,
    },
    /// There is no log in the directory.
    #[error("{dir} is not a data directory: {reason}")]
    NotALog {
        /// The directory.
        dir: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// The data directory has nothing of Raft.
    #[error("{dir} has no folder raft: its node has never been in a cluster")]
    NoRaft {
        /// The data directory.
        dir: PathBuf,
    },
    /// A newer version wrote the directory or something in it.
    #[error(
        "{what} has format {found}, this version reads up to {FORMAT_VERSION}: \
         use a newer distcache"
    )]
    NewerFormat {
        /// What is newer.
        what: String,
        /// Its format or kind.
        found: u32,
    },
    /// Another version, maybe an older one, wrote something in the directory.
    #[error("{what} in {dir}: use the version of distcache that wrote it")]
    OtherVersion {
        /// The data directory.
        dir: PathBuf,
        /// What cannot be read, and why.
        what: String,
    },
    /// A file operation failed.
    #[error("{action} {path} failed: {reason}")]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's reason.
        reason: String,
    },
    /// A snapshot lacks chunks: some were refused, or dropped as the log healed.
    #[error("a snapshot has {stored} of its {chunks} chunks; the one before stands")]
    ChunksMissing {
        /// Chunks that are stored.
        stored: u32,
        /// Chunks that it should have.
        chunks: u32,
    },
    /// The disk is full. After an append or a sync the log is poisoned until it is healed.
    #[error("disk full: {0}")]
    DiskFull(String),
    /// The store failed. After an append or a sync the log is poisoned until a restart.
    #[error("log store failed: {0}")]
    Store(String),
    /// An earlier append or sync failed, so nothing is written any more.
    #[error("log is poisoned by an earlier failure: {cause}")]
    Poisoned {
        /// The first failure.
        cause: String,
    },
    /// The log is damaged and was not loaded; nothing in it was changed.
    #[error("{0}")]
    Damaged(Box<Damage>),
    /// A frame or chunk has more bytes than the format allows; nothing was written.
    #[error("frame of {len} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// Its length.
        len: usize,
        /// The limit.
        limit: usize,
    },
}

impl LogError {
    /// Returns whether the cause is a lack of disk space, which may pass.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::DiskFull(_))
    }

    /// Wraps the failure of a file operation.
    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
        error: &std::io::Error,
    ) -> Self {
        Self::File { action, path: path.into(), reason: error.to_string().to_lowercase() }
    }
}

impl From<StoreError> for LogError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full(reason) => Self::DiskFull(reason),
            other => Self::Store(other.to_string()),
        }
    }
}

impl From<SealedFileError> for LogError {
    fn from(error: SealedFileError) -> Self {
        match error {
            SealedFileError::Damaged { path, reason } => {
                Self::File { action: "read of", path, reason }
            }
            SealedFileError::Failed { action, path, reason } => Self::File { action, path, reason },
        }
    }
}

/// One damage of a log, and what it costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// What was found.
    pub kind: DamageKind,
    /// The reason, as the reader met it.
    pub reason: String,
    /// What is intact besides, in words.
    pub intact: String,
    /// The data directory, as the command to repair it must name it.
    pub dir: String,
}

/// Which part of the log is damaged; all ranges are half open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "part")]
pub enum DamageKind {
    /// Records in the middle of the log are unreadable or missing.
    Records {
        /// First lost record.
        first: SequenceNumber,
        /// First record after them.
        end: SequenceNumber,
    },
    /// Records at the end are missing although they were once known to be on disk.
    Tail {
        /// First lost record.
        first: SequenceNumber,
        /// Records were on disk up to here at least.
        end: SequenceNumber,
    },
    /// A record inside an intact frame cannot be decoded; the rest of its frame is unusable.
    Record {
        /// The first bad record.
        first: SequenceNumber,
    },
    /// A partition's snapshot is not whole: its keys as they stood at the cut are not certain.
    Snapshot {
        /// The partition.
        partition: PartitionId,
        /// Records from here on are in the log.
        cut: SequenceNumber,
    },
    /// A note of the log about itself is unreadable.
    Note,
    /// The store cannot be opened or read.
    Store,
}

impl DamageKind {
    /// Returns in words what is lost.
    pub fn lost(&self) -> String {
        match self {
            Self::Records { first, end } => {
                format!("records {first} to {} are lost", end.0.saturating_sub(1))
            }
            Self::Tail { first, end } => {
                let last = end.0.saturating_sub(1);
                format!("records {first} to {last} are lost, and any after them")
            }
            Self::Record { first } => {
                format!("record {first} and the rest of its frame are unreadable")
            }
            Self::Snapshot { partition, cut } => format!(
                "the snapshot of partition {partition} is not whole, so keys of it that did not \
                 change after record {cut} may be lost"
            ),
            Self::Note => "a note about the log's extent is unreadable".to_owned(),
            Self::Store => "the store cannot be read".to_owned(),
        }
    }
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, reason, intact, dir } = self;
        write!(
            f,
            "log is damaged: {lost} ({reason}); {intact}; \
             run: distcache-log repair {dir} --output NEW",
            lost = kind.lost()
        )
    }
}

/// A reason found in a frame, with the newer formats told apart, which are not damage.
pub(crate) fn newer_format(error: &FrameError) -> Option<LogError> {
    match error {
        FrameError::NewerFormat { found } => {
            Some(LogError::NewerFormat { what: "a frame".to_owned(), found: (*found).into() })
        }
        _ => None,
    }
}

/// Like [`newer_format`], for records.
pub(crate) fn newer_record(error: &RecordError) -> Option<LogError> {
    match error {
        RecordError::NewerFormat { what, found } => {
            Some(LogError::NewerFormat { what: format!("{what} kind"), found: *found })
        }
        _ => None,
    }
}
