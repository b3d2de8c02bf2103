//! What operators ask of a cluster: how it stands, and that a node leaves it.
//!
//! The requests are of class control, see [`STATUS`], [`REPORT`], [`LEAVE`] and
//! [`GIVE_UP`]. Whoever asks has
//! shown that it knows the cluster's secret, and need not be a member: so a tool asks that is none.
//!
//! This file has the messages, with every bound on what is read, and what is reckoned from the
//! table alone; [`serve`] answers.

pub mod serve;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::bus::Kind;
use super::planner;
use super::raft::Standing;
use super::table::limits::{ANNOUNCED_BYTES_MAX, NODES_MAX};
use super::table::{
    ClusterId, Incarnation, Joining, Member, NodeAddresses, NodeId, PARTITIONS, PartitionId, Role,
    State, Status as MemberStatus,
};

/// Asks any node how the cluster stands; the answer is a [`Status`].
pub const STATUS: Kind = Kind::new(32);

/// Asks a node about itself; the answer is a [`Report`].
pub const REPORT: Kind = Kind::new(33);

/// Asks any node to let a [`Leave`] begin; the answer is a [`LeaveAnswer`].
pub const LEAVE: Kind = Kind::new(34);

/// Asks any node to let a [`GiveUp`] begin; the answer is a [`LeaveAnswer`].
pub const GIVE_UP: Kind = Kind::new(35);

/// Bytes of a message.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of a version's name, or of a refusal's text.
pub const TEXT_BYTES_MAX: usize = 1024;

// A member is its addresses, a version, some numbers and its moves; each partition moves once.
const _: () = assert!(
    NODES_MAX * (4 * (ANNOUNCED_BYTES_MAX + 3) + TEXT_BYTES_MAX + 128) + PARTITIONS as usize * 96
        < MESSAGE_BYTES_MAX
);

/// A cluster at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The node that tells it.
    pub told_by: NodeId,
    /// The cluster; `None` while that node is in none.
    pub cluster: Option<ClusterId>,
    /// Version of the table that this is from.
    pub version: u64,
    /// Who leads, as far as the node knows: nobody has confirmed it.
    pub leader: Option<NodeId>,
    /// Who votes.
    pub voters: Vec<NodeId>,
    /// The members, by id.
    pub nodes: Vec<NodeStatus>,
    /// The moves under way, by partition.
    pub moves: Vec<MoveStatus>,
    /// Partitions that must move still until each node has its share, those under way not counted.
    pub moves_left: u64,
    /// Bytes that must be moved still, those under way included; of partitions whose nodes did not
    /// answer nothing is known.
    pub bytes_left: u64,
    /// Partitions that nobody serves: their primaries are down, or say that they hold no lease, or
    /// there is none.
    pub unserved: u16,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its id.
    pub node: NodeId,
    /// Where it is reached.
    pub addresses: NodeAddresses,
    /// What it is for.
    pub role: Role,
    /// Whether it runs and stays, as the table has it.
    pub status: MemberStatus,
    /// Partitions that it is the primary of.
    pub partitions: u16,
    /// Partitions on their way to it.
    pub receiving: u16,
    /// Partitions on their way from it.
    pub giving: u16,
    /// What it says itself; `None` if it did not answer in time.
    pub report: Option<Report>,
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Its process.
    pub incarnation: Incarnation,
    /// The version of its program.
    pub version: String,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Whether it holds a lease, without which it serves nothing.
    pub is_leased: bool,
    /// Its keys.
    pub keys: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// Connected clients.
    pub clients: u32,
    /// Partitions that it has given to others since it started.
    pub given: u64,
    /// Its moves that did not succeed since then.
    pub failed: u64,
    /// Bytes of those that did.
    pub given_bytes: u64,
    /// The longest that a partition was not served while it moved, in microseconds.
    pub frozen_max_us: u64,
    /// The partitions on their way from it.
    pub sending: Vec<Sending>,
}

/// A partition on its way, as its source has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sending {
    /// The partition.
    pub partition: PartitionId,
    /// Bytes sent so far.
    pub sent: u64,
    /// Bytes that it has in memory. What is sent is packed otherwise, and includes what clients
    /// change meanwhile.
    pub bytes: u64,
}

/// A move under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveStatus {
    /// The partition.
    pub partition: PartitionId,
    /// Who gives it.
    pub from: Option<NodeId>,
    /// Who gets it.
    pub to: NodeId,
    /// How much is sent, if the source has said so.
    pub progress: Option<Sending>,
}

/// A member is to give up all that it has, and to be none any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leave {
    /// The member.
    pub node: NodeId,
}

/// A member that is down is lost for good: what only it had comes back empty on others, and it is
/// to be no member any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GiveUp {
    /// The member.
    pub node: NodeId,
    /// Whether a node that does not lead has handed this on: that happens once.
    pub is_handed_on: bool,
}

/// What became of that wish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaveAnswer {
    /// The node is leaving, or has left.
    Leaving,
    /// It cannot leave, and nothing was changed; the text says why.
    Refused(String),
    /// Nobody knows; asking again does no harm.
    Unknown(String),
}

impl Status {
    /// Whether no member that answers holds a lease, so nobody has the word of a majority.
    pub fn is_without_lease(&self) -> bool {
        let mut reports = self.nodes.iter().filter_map(|node| node.report.as_ref());
        reports.all(|report| !report.is_leased)
    }

    /// Returns the voters that did not answer.
    pub fn silent_voters(&self) -> Vec<&NodeStatus> {
        let is_silent =
            |node: &&NodeStatus| self.voters.contains(&node.node) && node.report.is_none();
        self.nodes.iter().filter(is_silent).collect()
    }
}

/// Bytes that are no message of this kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the message cannot be read, the other end may have another version: {0}")]
pub struct Malformed(String);

/// A message that has bounds beyond its length.
pub trait Message: Serialize + DeserializeOwned {
    /// Whether lists and texts are as long as they may be at most.
    fn is_bounded(&self) -> bool;
}

impl Message for Status {
    fn is_bounded(&self) -> bool {
        self.nodes.len() <= NODES_MAX
            && self.voters.len() <= NODES_MAX
            && self.moves.len() <= usize::from(PARTITIONS)
            && self.nodes.iter().all(|node| node.report.iter().all(Report::is_bounded))
    }
}

impl Message for Report {
    fn is_bounded(&self) -> bool {
        self.version.len() <= TEXT_BYTES_MAX && self.sending.len() <= usize::from(PARTITIONS)
    }
}

impl Message for Leave {
    fn is_bounded(&self) -> bool {
        true
    }
}

impl Message for GiveUp {
    fn is_bounded(&self) -> bool {
        true
    }
}

impl Message for LeaveAnswer {
    fn is_bounded(&self) -> bool {
        match self {
            LeaveAnswer::Leaving => true,
            LeaveAnswer::Refused(text) | LeaveAnswer::Unknown(text) => text.len() <= TEXT_BYTES_MAX,
        }
    }
}

/// Returns a message as bytes.
pub fn encode(message: &impl Message) -> Vec<u8> {
    let limit = bincode::config::standard().with_limit::<MESSAGE_BYTES_MAX>();
    // What is told within the bounds above always fits.
    bincode::serde::encode_to_vec(message, limit).unwrap_or_default()
}

/// Reads a message.
///
/// # Errors
///
/// It is too long, or none.
pub fn decode<T: Message>(bytes: &[u8]) -> Result<T, Malformed> {
    let limit = bincode::config::standard().with_limit::<MESSAGE_BYTES_MAX>();
    match bincode::serde::decode_from_slice::<T, _>(bytes, limit) {
        Ok((_, read)) if read != bytes.len() => {
            Err(Malformed(format!("{} bytes follow its end", bytes.len() - read)))
        }
        Ok((message, _)) if message.is_bounded() => Ok(message),
        Ok(_) => Err(Malformed("it is longer than a cluster can be".to_owned())),
        Err(error) => Err(Malformed(error.to_string())),
    }
}

/// Returns how a cluster stands, from what one node knows and what the members have said.
pub fn status(
    told_by: NodeId,
    table: &State,
    standing: &Standing,
    mut reports: BTreeMap<NodeId, Report>,
) -> Status {
    let moves = moves(table, &reports);
    let surplus = planner::surplus(table);
    let has_no_lease = |node: &NodeId| reports.get(node).is_some_and(|report| !report.is_leased);
    let served = |(id, _): &(PartitionId, _)| {
        table.serving_owner(*id).is_some_and(|owner| !has_no_lease(&owner))
    };
    let unserved = PARTITIONS - table.numbered().filter(served).count() as u16;
    let count = |of: &dyn Fn(&MoveStatus) -> bool| moves.iter().filter(|at| of(at)).count() as u16;
    let mut bytes_left: u64 = moves.iter().filter_map(|at| at.progress).map(remaining).sum();
    let nodes = table.nodes.iter().map(|(&node, member)| {
        let Member { addresses, role, status, .. } = member.clone();
        let own = table.partitions.iter().filter(|at| at.primary == Some(node)).count() as u16;
        let report = reports.remove(&node);
        let surplus = surplus.get(&node).copied().unwrap_or(0);
        // A partition like all of its others.
        let each = report.as_ref().map_or(0, |report| report.bytes / u64::from(own.max(1)));
        bytes_left += surplus * each;
        let receiving = count(&|at| at.to == node);
        let giving = count(&|at| at.from == Some(node));
        NodeStatus { node, addresses, role, status, partitions: own, receiving, giving, report }
    });
    let nodes = nodes.collect();
    Status {
        told_by,
        cluster: table.cluster,
        version: table.version,
        leader: standing.leader,
        voters: standing.voters.iter().copied().collect(),
        nodes,
        moves_left: surplus.values().sum(),
        bytes_left,
        unserved,
        moves,
    }
}

fn moves(table: &State, reports: &BTreeMap<NodeId, Report>) -> Vec<MoveStatus> {
    let sending = |node: NodeId, partition: PartitionId| {
        let of_node = reports.get(&node)?.sending.iter();
        of_node.copied().find(|sending| sending.partition == partition)
    };
    let of = |partition: PartitionId, primary: Option<NodeId>, joining: Joining| {
        // Once it is decided, the one before has its copy to give up.
        let from = primary.filter(|primary| *primary != joining.node).or(joining.drop);
        let progress = from.and_then(|from| sending(from, partition));
        MoveStatus { partition, from, to: joining.node, progress }
    };
    let joining = table.numbered().filter_map(|(id, at)| Some(of(id, at.primary, at.joining?)));
    joining.collect()
}

fn remaining(sending: Sending) -> u64 {
    sending.bytes.saturating_sub(sending.sent)
}
