//! The handle of consensus that the rest of the node uses.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use distcache_recovery::raft_directory::{NodeIdentity, RaftDirectory};
use openraft::error::{CheckIsLeaderError, ClientWriteError, RaftError};
use openraft::storage::Snapshot;
use openraft::{ChangeMembers, Config, Raft, SnapshotPolicy};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::timeout as within;

use super::codec::{decode, encode};
use super::disk::Disk;
use super::limits::{
    ELECTION_MAX, ELECTION_MIN, HEARTBEAT, KEPT_ENTRIES, SENT_ENTRIES_MAX, SNAPSHOT_ENTRIES,
    SNAPSHOT_TIMEOUT,
};
use super::log_store::LogStore;
use super::machine::Machine;
use super::network::{Contacts, Network};
use super::proposals::Proposals;
use super::standing::{Standing, StandingWatch};
use super::transport::{CallKind, RaftTransport};
use super::{RaftNode, TypeConfig};
use crate::cluster::table::{Announcement, ClusterId, Entry, NodeId, Outcome, State};

/// A node's part in consensus. Clones are handles of the same.
#[derive(Clone)]
pub struct Consensus {
    raft: Raft<TypeConfig>,
    proposals: Proposals,
    disk: Disk,
    network: Network,
    table: watch::Receiver<Arc<State>>,
    node: NodeId,
}

/// Why consensus did not start or stop in order.
#[derive(Debug, thiserror::Error)]
pub enum ConsensusError {
    /// The disk.
    #[error("raft's files cannot be used: {0}")]
    Disk(#[from] io::Error),
    /// openraft has stopped, as it does when the disk fails.
    #[error("consensus has stopped: {0}")]
    Stopped(String),
}

/// Why it is not known that an entry, or a change of Raft's group, took its place in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ProposeError {
    /// Nothing was changed: another node leads, or none.
    #[error("this node does not lead{}", leader.map_or(String::new(), |id| format!(", {id} does")))]
    NotLeader {
        /// Who leads, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// It may happen still, or have happened.
    #[error("no majority of voters answered in time: the change may have been made or not")]
    Unknown,
    /// Nothing was changed: another change of the voters is under way, or nobody would be left.
    #[error("the members of raft's group cannot be changed so now: {0}")]
    Membership(String),
    /// Nothing more is changed by this node.
    #[error("consensus has stopped: {0}")]
    Stopped(String),
}

impl Consensus {
    /// Starts a node's part in consensus: it goes on as what its directory says it is, and does
    /// nothing as long as it is a member of no group. Must be called within a tokio runtime, which
    /// no work that blocks may hold up.
    ///
    /// # Errors
    ///
    /// When the directory's content cannot be read, and when openraft refuses it.
    pub async fn start(
        directory: RaftDirectory,
        transport: Arc<dyn RaftTransport>,
    ) -> Result<Consensus, ConsensusError> {
        let node = NodeId(directory.identity().node);
        if let Some(aside) = directory.put_aside() {
            log::warn!(node:%, reason = aside.reason.as_str(), kept_in:% = aside.path.display();
                "this is a new node: what was known of the old one cannot be trusted");
        }
        let disk = Disk::start(directory)?;
        let (machine, table) = Machine::open(disk.clone()).await?;
        let network = Network { transport, contacts: Arc::new(Contacts::default()) };
        let log = LogStore::new(disk.clone());
        let started = Raft::new(node, Arc::new(config()), network.clone(), log, machine).await;
        let raft = started.map_err(|error| ConsensusError::Stopped(error.to_string()))?;
        let proposals = Proposals::start(raft.clone());
        Ok(Consensus { raft, proposals, disk, network, table, node })
    }

    /// Returns this node's id.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Returns the table as this node has applied it, which may be behind that of others.
    pub fn table(&self) -> watch::Receiver<Arc<State>> {
        self.table.clone()
    }

    /// Returns what this node knows of Raft's group.
    pub fn standing(&self) -> Standing {
        Standing::of(&self.raft.metrics().borrow())
    }

    /// Returns a watch on that.
    pub fn watch_standing(&self) -> StandingWatch {
        StandingWatch(self.raft.metrics())
    }

    /// Returns when other nodes last answered.
    pub fn contacts(&self) -> &Contacts {
        &self.network.contacts
    }

    /// Whether the node is, or was once, in a group.
    ///
    /// # Errors
    ///
    /// When openraft has stopped.
    pub async fn is_initialised(&self) -> Result<bool, ConsensusError> {
        let initialised = self.raft.is_initialized().await;
        initialised.map_err(|error| ConsensusError::Stopped(error.to_string()))
    }

    /// Creates a cluster of this node alone. Only [`bootstrap`](crate::cluster::bootstrap) may
    /// decide that: two nodes that do so are two clusters.
    ///
    /// # Errors
    ///
    /// As [`propose`](Self::propose). Calling it again completes what was begun.
    pub async fn create(
        &self,
        cluster: ClusterId,
        announcement: Announcement,
        limit: Duration,
    ) -> Result<Outcome, ProposeError> {
        let stopped = |error: &dyn ToString| ProposeError::Stopped(error.to_string());
        if !self.is_initialised().await.map_err(|error| stopped(&error))? {
            let bus = announcement.addresses.bus.clone();
            let first = BTreeMap::from([(self.node, RaftNode { bus })]);
            let initialised = self.raft.initialize(first).await;
            initialised.map_err(|error| stopped(&error))?;
        }
        let waiting = self.raft.wait(Some(limit));
        let leads = waiting.current_leader(self.node, "first leader").await;
        leads.map_err(|_| ProposeError::Unknown)?;
        let entry = Entry::Create { cluster, node: self.node, announcement };
        self.propose_here(entry, limit).await
    }

    /// Notes on disk which cluster this node belongs to, so that it refuses any other. Whether its
    /// keys are that cluster's is open until [`note_accepted`](Self::note_accepted).
    ///
    /// # Errors
    ///
    /// When writing fails.
    pub async fn note_cluster(&self, cluster: ClusterId) -> Result<(), ConsensusError> {
        self.disk.run(move |raft| raft.set_cluster(cluster.0)).await?;
        Ok(())
    }

    /// Notes on disk that the keys of this node's log are those of its cluster.
    ///
    /// # Errors
    ///
    /// When writing fails.
    pub async fn note_accepted(&self) -> Result<(), ConsensusError> {
        Ok(self.disk.run(|raft| raft.set_accepted()).await?)
    }

    /// Returns what is noted on disk of this node.
    ///
    /// # Errors
    ///
    /// When the disk's thread has ended.
    pub async fn identity(&self) -> Result<NodeIdentity, ConsensusError> {
        Ok(self.disk.run(|raft| Ok(raft.identity())).await?)
    }

    /// Proposes an entry, here or at the leader, and returns what became of it once it is applied.
    ///
    /// # Errors
    ///
    /// [`ProposeError::Unknown`] leaves open whether the entry takes effect: entries are made so
    /// that they can be proposed again.
    pub async fn propose(&self, entry: Entry, limit: Duration) -> Result<Outcome, ProposeError> {
        match self.propose_here(entry.clone(), limit).await {
            Err(ProposeError::NotLeader { leader: Some(leader) }) if leader != self.node => {
                self.propose_at(leader, &entry, limit).await
            }
            result => result,
        }
    }

    async fn propose_here(&self, entry: Entry, limit: Duration) -> Result<Outcome, ProposeError> {
        within(limit, self.proposals.propose(entry)).await.unwrap_or(Err(ProposeError::Unknown))
    }

    async fn propose_at(
        &self,
        leader: NodeId,
        entry: &Entry,
        limit: Duration,
    ) -> Result<Outcome, ProposeError> {
        let bus = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow();
            let node = metrics.membership_config.membership().get_node(&leader);
            node.map(|node| node.bus.clone()).unwrap_or_default()
        };
        self.hand_over(leader, &bus, CallKind::Propose, entry, limit).await
    }

    /// Hands an entry to a member of a cluster that this node is not in, to join it.
    ///
    /// # Errors
    ///
    /// As [`propose`](Self::propose).
    pub async fn submit(
        &self,
        member: NodeId,
        bus: &str,
        entry: &Entry,
        limit: Duration,
    ) -> Result<Outcome, ProposeError> {
        self.hand_over(member, bus, CallKind::Submit, entry, limit).await
    }

    async fn hand_over(
        &self,
        to: NodeId,
        bus: &str,
        kind: CallKind,
        entry: &Entry,
        limit: Duration,
    ) -> Result<Outcome, ProposeError> {
        let body = encode(&(entry, limit)).map_err(|e| ProposeError::Stopped(e.to_string()))?;
        let called = self.network.transport.call(to, bus, kind, body, limit);
        let answer = called.await.map_err(|_| ProposeError::Unknown)?;
        decode(&answer).unwrap_or(Err(ProposeError::Unknown))
    }

    /// Makes sure that this node leads and has applied everything that any leader has ever
    /// committed, and returns the index up to which it has. Costs a round trip to a majority.
    ///
    /// # Errors
    ///
    /// Another node leads, or no majority answers in time.
    pub async fn confirm(&self, limit: Duration) -> Result<u64, ProposeError> {
        let confirmed = within(limit, self.raft.ensure_linearizable()).await;
        match confirmed.map_err(|_| ProposeError::Unknown)? {
            Ok(_) => Ok(self.table.borrow().version),
            Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(forward))) => {
                Err(ProposeError::NotLeader { leader: forward.leader_id })
            }
            Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_))) => {
                Err(ProposeError::Unknown)
            }
            Err(RaftError::Fatal(fatal)) => Err(ProposeError::Stopped(fatal.to_string())),
        }
    }

    /// Adds a node to Raft's group, as one that does not vote. A member stays what it is.
    ///
    /// # Errors
    ///
    /// As [`propose`](Self::propose), but only the leader does it.
    pub async fn add_learner(
        &self,
        node: NodeId,
        bus: String,
        limit: Duration,
    ) -> Result<(), ProposeError> {
        let nodes = BTreeMap::from([(node, RaftNode { bus })]);
        self.change_members(ChangeMembers::AddNodes(nodes), limit).await
    }

    /// Makes exactly these members the voters; who was one becomes a learner. Completes a change
    /// that another leader began.
    ///
    /// # Errors
    ///
    /// As [`add_learner`](Self::add_learner). All must be members.
    pub async fn set_voters(
        &self,
        voters: BTreeSet<NodeId>,
        limit: Duration,
    ) -> Result<(), ProposeError> {
        self.change_members(ChangeMembers::ReplaceAllVoters(voters), limit).await
    }

    /// Removes a member that does not vote from Raft's group.
    ///
    /// # Errors
    ///
    /// As [`add_learner`](Self::add_learner).
    pub async fn remove_learner(&self, node: NodeId, limit: Duration) -> Result<(), ProposeError> {
        self.change_members(ChangeMembers::RemoveNodes(BTreeSet::from([node])), limit).await
    }

    async fn change_members(
        &self,
        change: ChangeMembers<NodeId, RaftNode>,
        limit: Duration,
    ) -> Result<(), ProposeError> {
        // A change goes on when nobody waits for it: half of one must not be left behind.
        let raft = self.raft.clone();
        let changed = tokio::spawn(async move { raft.change_membership(change, true).await });
        let changed = within(limit, changed).await.map_err(|_| ProposeError::Unknown)?;
        let changed = changed.map_err(|error| ProposeError::Stopped(error.to_string()))?;
        changed.map_err(propose_error)?;
        let standing = self.standing();
        let members: Vec<NodeId> =
            standing.voters.iter().chain(&standing.learners).copied().collect();
        self.network.contacts.retain(&members);
        Ok(())
    }

    /// Answers a call of another node, whose identity the transport has checked.
    ///
    /// # Errors
    ///
    /// What to tell the caller: the message makes no sense, or openraft has stopped.
    pub async fn serve(&self, kind: CallKind, body: &[u8]) -> Result<Vec<u8>, String> {
        let text = |error: io::Error| error.to_string();
        let answer = match kind {
            CallKind::AppendEntries => {
                let request = decode(body).map_err(text)?;
                let answer = self.raft.append_entries(request).await;
                encode(&answer.map_err(|error| error.to_string())?)
            }
            CallKind::Vote => {
                let request = decode(body).map_err(text)?;
                encode(&self.raft.vote(request).await.map_err(|error| error.to_string())?)
            }
            CallKind::Snapshot => {
                let (vote, meta, bytes): (_, _, Vec<u8>) = decode(body).map_err(text)?;
                // What cannot be read would end this node's part in consensus.
                State::decode(&bytes).map_err(|error| error.to_string())?;
                let snapshot = Snapshot { meta, snapshot: Box::new(bytes) };
                let answer = self.raft.install_full_snapshot(vote, snapshot).await;
                encode(&answer.map_err(|error| error.to_string())?)
            }
            CallKind::Propose => {
                let (entry, limit): (Entry, Duration) = decode(body).map_err(text)?;
                encode(&self.propose_here(entry, limit.min(SNAPSHOT_TIMEOUT)).await)
            }
            CallKind::Submit => {
                let (entry, limit): (Entry, Duration) = decode(body).map_err(text)?;
                encode(&self.propose(entry, limit.min(SNAPSHOT_TIMEOUT)).await)
            }
        };
        answer.map_err(text)
    }

    /// Answers a node that is in no cluster: it may ask to be taken in, and nothing else.
    ///
    /// # Errors
    ///
    /// What to tell the caller.
    pub async fn serve_stranger(
        &self,
        from: NodeId,
        kind: CallKind,
        body: &[u8],
    ) -> Result<Vec<u8>, String> {
        let (entry, limit): (Entry, Duration) = match kind {
            CallKind::Submit => decode(body).map_err(|error| error.to_string())?,
            _ => return Err(format!("node {from} is in no cluster, so it can only join one")),
        };
        match &entry {
            Entry::NodeJoin { node, .. } if *node == from => {}
            _ => return Err(format!("node {from} is in no cluster, so it can only join one")),
        }
        let outcome = self.propose(entry, limit.min(SNAPSHOT_TIMEOUT)).await;
        encode(&outcome).map_err(|error| error.to_string())
    }

    /// Writes a snapshot now, so that the log before it can be given up.
    ///
    /// # Errors
    ///
    /// When openraft has stopped.
    pub async fn write_snapshot(&self) -> Result<(), ConsensusError> {
        let triggered = self.raft.trigger().snapshot().await;
        triggered.map_err(|error| ConsensusError::Stopped(error.to_string()))
    }

    /// Ends this node's part in consensus, and closes its files. The group goes on without it.
    ///
    /// # Errors
    ///
    /// When the files do not close in order; nothing acknowledged is lost by that.
    pub async fn stop(&self) -> Result<(), ConsensusError> {
        let stopped = self.raft.shutdown().await;
        let closed = self.disk.close().await;
        stopped.map_err(|error| ConsensusError::Stopped(error.to_string()))?;
        Ok(closed?)
    }
}

impl std::fmt::Debug for Consensus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consensus").field("node", &self.node).finish_non_exhaustive()
    }
}

fn config() -> Config {
    let millis = |time: Duration| time.as_millis() as u64;
    Config {
        cluster_name: "distcache".to_owned(),
        heartbeat_interval: millis(HEARTBEAT),
        election_timeout_min: millis(ELECTION_MIN),
        election_timeout_max: millis(ELECTION_MAX),
        install_snapshot_timeout: millis(SNAPSHOT_TIMEOUT),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_ENTRIES),
        max_in_snapshot_log_to_keep: KEPT_ENTRIES,
        replication_lag_threshold: SNAPSHOT_ENTRIES + KEPT_ENTRIES,
        max_payload_entries: SENT_ENTRIES_MAX,
        ..Config::default()
    }
}

pub(super) fn propose_error(
    error: RaftError<NodeId, ClientWriteError<NodeId, RaftNode>>,
) -> ProposeError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
            ProposeError::NotLeader { leader: forward.leader_id }
        }
        RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => {
            ProposeError::Membership(error.to_string())
        }
        RaftError::Fatal(fatal) => ProposeError::Stopped(fatal.to_string()),
    }
}
