//! The table as Raft's state machine: it applies what is committed, and publishes the result.
//!
//! The table is in memory; what survives a restart is the last snapshot and the log behind it.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft::storage::{RaftStateMachine, Snapshot};
use openraft::{
    EntryPayload, LogId, OptionalSend, RaftSnapshotBuilder, SnapshotMeta, StorageError,
    StorageIOError, StoredMembership,
};
use tokio::sync::watch;

use super::codec::{decode, encode};
use super::disk::Disk;
use super::{RaftNode, TypeConfig};
use crate::cluster::table::{NodeId, Outcome, State, apply};

type Failure = StorageError<NodeId>;
type Meta = SnapshotMeta<NodeId, RaftNode>;
type Membership = StoredMembership<NodeId, RaftNode>;

/// The snapshot that is on disk: what it is, and the table as bytes.
type Stored = (Meta, Vec<u8>);

/// The table, and what it is the result of.
#[derive(Debug)]
pub(super) struct Machine {
    applied: Option<LogId<NodeId>>,
    membership: Membership,
    state: Arc<State>,
    published: watch::Sender<Arc<State>>,
    snapshots: Snapshots,
}

/// The snapshot on disk, with a copy in memory; clones share it.
#[derive(Clone, Debug)]
struct Snapshots {
    disk: Disk,
    current: Arc<Mutex<Option<Stored>>>,
}

/// What a snapshot is made of.
#[derive(Debug)]
pub(super) struct Builder {
    applied: Option<LogId<NodeId>>,
    membership: Membership,
    state: Arc<State>,
    snapshots: Snapshots,
}

impl Machine {
    /// Reads the last snapshot, if there is one, and returns where the table is published.
    pub(super) async fn open(disk: Disk) -> io::Result<(Self, watch::Receiver<Arc<State>>)> {
        let read = disk.run(|raft| {
            raft.check_snapshot()?;
            Ok(raft.snapshot.read()?)
        });
        let bytes = read.await?;
        let stored: Option<Stored> = bytes.map(|bytes| decode(&bytes)).transpose()?;
        let (mut applied, mut membership, mut state) = (None, Membership::default(), State::new());
        if let Some((meta, bytes)) = &stored {
            (applied, membership) = (meta.last_log_id, meta.last_membership.clone());
            state = State::decode(bytes).map_err(io::Error::other)?;
        }
        let state = Arc::new(state);
        let (published, table) = watch::channel(Arc::clone(&state));
        let snapshots = Snapshots { disk, current: Arc::new(Mutex::new(stored)) };
        Ok((Machine { applied, membership, state, published, snapshots }, table))
    }

    fn publish(&self) {
        self.published.send_replace(Arc::clone(&self.state));
    }
}

impl Snapshots {
    /// Stores a snapshot in place of an older one. One that was being made when a newer one came
    /// from the leader is dropped: the log goes on from the newer.
    async fn store(&self, stored: Stored) -> io::Result<()> {
        let bytes = encode(&stored)?;
        let snapshots = self.clone();
        let storing = self.disk.run(move |raft| {
            let newest = snapshots.current().and_then(|(meta, _)| meta.last_log_id);
            if stored.0.last_log_id >= newest {
                raft.snapshot.write(&bytes)?;
                *snapshots.lock() = Some(stored);
            }
            Ok(())
        });
        storing.await
    }

    fn current(&self) -> Option<Stored> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Stored>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId<NodeId>>, Membership), Failure> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Vec<Outcome>>, Failure>
    where
        I: IntoIterator<Item = openraft::Entry<TypeConfig>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut outcomes = Vec::new();
        for entry in entries {
            let index = entry.log_id.index;
            // Copied only if somebody holds the published one.
            let state = Arc::make_mut(&mut self.state);
            state.version = index;
            outcomes.push(match entry.payload {
                // All at one index: nobody sees the table between two of them.
                EntryPayload::Normal(batch) => {
                    batch.entries.iter().map(|entry| apply(state, index, entry)).collect()
                }
                EntryPayload::Blank => Vec::new(),
                EntryPayload::Membership(membership) => {
                    self.membership = Membership::new(Some(entry.log_id), membership);
                    Vec::new()
                }
            });
            self.applied = Some(entry.log_id);
        }
        self.publish();
        Ok(outcomes)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            applied: self.applied,
            membership: self.membership.clone(),
            state: Arc::clone(&self.state),
            snapshots: self.snapshots.clone(),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Vec<u8>>, Failure> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &Meta,
        snapshot: Box<Vec<u8>>,
    ) -> Result<(), Failure> {
        let state = State::decode(&snapshot)
            .map_err(|error| StorageIOError::read_snapshot(Some(meta.signature()), &error))?;
        let stored = self.snapshots.store((meta.clone(), *snapshot)).await;
        stored.map_err(|error| StorageIOError::write_snapshot(Some(meta.signature()), &error))?;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.state = Arc::new(state);
        self.publish();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, Failure> {
        let current = self.snapshots.current();
        Ok(current.map(|(meta, bytes)| Snapshot { meta, snapshot: Box::new(bytes) }))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, Failure> {
        let index = self.applied.map_or(0, |applied| applied.index);
        let term = self.applied.map_or(0, |applied| applied.leader_id.term);
        let meta = Meta {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
            snapshot_id: format!("{term}-{index}"),
        };
        let failed = |error: &io::Error| -> Failure {
            StorageIOError::write_snapshot(Some(meta.signature()), error).into()
        };
        let bytes = self.state.encode().map_err(|error| failed(&io::Error::other(error)))?;
        let stored = self.snapshots.store((meta.clone(), bytes.clone())).await;
        stored.map_err(|error| failed(&error))?;
        Ok(Snapshot { meta, snapshot: Box::new(bytes) })
    }
}
