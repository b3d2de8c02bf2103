//! Bytes at rest: the operation log of distcache, its snapshots, and their recovery.
//!
//! Modules in reading order: [`record`] (what is logged), [`frame`] and [`FrameBuilder`] (how
//! records are stored together), [`store`] (what is needed of a store), [`LogWriter`] (appending,
//! snapshots, trimming), [`open`] and [`Replay`] (reading everything back, checked),
//! [`InspectionCopy`] (looking without touching), [`repair`] (saving what is intact),
//! [`state`] (the fold of records), [`guard`], [`limits`]. Beside the log: [`raft_directory`],
//! [`raft_db`] and [`sealed_file`], a node's part in Raft; [`raft_inspection`] and [`raft_entry`]
//! look into it.
//!
//! # A piece of a frame, format 1
//!
//! A frame is stored as one piece or several; each is one value of the store. Numbers are
//! little-endian.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `8f 44 43 4c 4f 47 0d 0a` |
//! | 8 | 2 | format version: 1 |
//! | 10 | 1 | kind: 1 records, 2 snapshot chunk, 3 snapshot commit, 4 gap note, 5 trim note |
//! | 11 | 1 | compression of the payload: 0 none, 1 LZ4 block |
//! | 12 | 4 | CRC32C of all other bytes of the piece |
//! | 16 | 4 | bytes of this piece's body |
//! | 20 | 4 | number of this piece, from 0 |
//! | 24 | 4 | pieces of the frame |
//! | 28 | 4 | records of the frame |
//! | 32 | 8 | first record's sequence; in snapshots their generation; in notes a sequence |
//! | 40 | 8 | when it was written, Unix milliseconds |
//! | 48 | 2 | partition in snapshots, else `ff ff` |
//! | 50 | 2 | 0 |
//! | 52 | 4 | number of the chunk in its snapshot |
//! | 56 | 4 | bytes of the payload before compression |
//! | 60 | 4 | 0 |
//! | 64 | | body: this piece's part of the payload |
//!
//! The payload of records and chunks is one record after another ([`record`]).
//!
//! # Moves
//!
//! What a node receives of another's partition is in its log like everything else. `MoveIn`
//! begins a copy, in place of whatever the partition held; `Own` says that what was received is
//! served from now on, and in which epoch; `MoveOut` says that the partition is another node's,
//! or that the copy was cancelled, and holds nothing any more. All three concern the partition in
//! all databases. The fold ([`state`]) tells which partitions are received and not served; so
//! that it can where the records are gone, the snapshot of such a partition begins with its
//! `MoveIn`.
//!
//! # Versions
//!
//! The data directory, and every piece, name their format. A reader refuses newer formats and
//! kinds by name and reads all older ones; `tests/fixtures` has a log of each.
//!
//! # Damage
//!
//! The last frame, if damaged and not known to have been on disk, is a torn tail and dropped with
//! a warning. Anything else that is damaged or missing stops the reader, which says what is lost.

pub use crate::directory::{CopyPlan, InspectionCopy};
pub use crate::error::{Damage, DamageKind, LogError};
pub use crate::frame_builder::{FrameBuilder, PartitionSet};
pub use crate::mark::Mark;
pub use crate::record::{
    DeleteCause, Epoch, Operation, PartitionId, Record, RecordCursor, RecordError, SequenceNumber,
    StoredValue, UnixMillis,
};
pub use crate::replay::{Block, BlockKind, OpenMode, Replay, open, open_salted};
pub use crate::report::{Progress, SnapshotSummary, VerifyReport};
pub use crate::salvage::{RepairProgress, RepairReport, repair, repair_with};
pub use crate::writer::{DiskSpace, Healed, LogCounters, LogWriter, TrimProgress};

mod carve;
mod directory;
mod error;
mod extent;
pub mod frame;
mod frame_builder;
mod generations;
pub mod guard;
mod keys;
pub mod limits;
mod mark;
pub mod memory_store;
mod notes;
pub mod raft_db;
pub mod raft_directory;
pub mod raft_entry;
pub mod raft_inspection;
pub mod record;
mod redo_log;
mod redo_store;
mod replay;
mod report;
mod salvage;
mod scan;
pub mod sealed_file;
mod sled_store;
pub mod state;
pub mod store;
mod writer;
