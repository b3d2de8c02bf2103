//! What a node knows of its place in Raft's group.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::{RaftMetrics, ServerState};
use tokio::sync::watch;

use super::RaftNode;
use crate::cluster::table::NodeId;

/// Says when what a node knows of Raft's group may have changed.
#[derive(Debug, Clone)]
pub struct StandingWatch(pub(super) watch::Receiver<RaftMetrics<NodeId, RaftNode>>);

impl StandingWatch {
    /// Returns what the node knows now.
    pub fn standing(&mut self) -> Standing {
        Standing::of(&self.0.borrow_and_update())
    }

    /// Waits until that may have changed since [`standing`](Self::standing) was called. A leader's
    /// changes several times a second.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // Consensus has ended, so nothing changes any more.
            std::future::pending::<()>().await;
        }
    }
}

/// What a node believes of Raft's group. Any of it may be out of date: a leader that was cut off
/// goes on believing that it leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Who leads, as far as the node knows.
    pub leader: Option<NodeId>,
    /// Whether the node takes itself for the leader. Ask
    /// [`confirm`](super::Consensus::confirm) before anything depends on it.
    pub claims_lead: bool,
    /// The term.
    pub term: u64,
    /// For a leader, how long ago a majority of voters answered, when this was reported.
    pub quorum_silence: Option<Duration>,
    /// The voters. While they change, those before and after the change.
    pub voters: BTreeSet<NodeId>,
    /// Whether voters are changing.
    pub is_changing: bool,
    /// Members that do not vote.
    pub learners: BTreeSet<NodeId>,
    /// For a leader, how many entries each member lacks; `None` if it never answered.
    pub lag: BTreeMap<NodeId, Option<u64>>,
    /// Index of the last entry that the node has applied.
    pub applied: Option<u64>,
    /// Why Raft has stopped, if it has: the process must end then.
    pub failure: Option<String>,
}

impl Standing {
    pub(super) fn of(metrics: &RaftMetrics<NodeId, RaftNode>) -> Self {
        let membership = metrics.membership_config.membership();
        let last = metrics.last_log_index;
        let lag = metrics.replication.iter().flatten().map(|(peer, matched)| {
            let behind = |index: u64| last.unwrap_or(index).saturating_sub(index);
            (*peer, matched.map(|matched| behind(matched.index)))
        });
        Standing {
            leader: metrics.current_leader,
            claims_lead: metrics.state == ServerState::Leader,
            term: metrics.current_term,
            quorum_silence: metrics.millis_since_quorum_ack.map(Duration::from_millis),
            voters: membership.voter_ids().collect(),
            is_changing: membership.get_joint_config().len() > 1,
            learners: membership.learner_ids().collect(),
            lag: lag.collect(),
            applied: metrics.last_applied.map(|applied| applied.index),
            failure: metrics.running_state.as_ref().err().map(ToString::to_string),
        }
    }

    /// Whether a node is in Raft's group, voting or not.
    pub fn is_member(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.learners.contains(&node)
    }
}
