//! Leases: the right of a node to serve its partitions for a while.
//!
//! Pure: a [`Holder`] is what a node knows of its own lease, a [`Grantor`] what the leader knows of
//! those it has granted; time is passed in. A node asks the leader every quarter of [`LEASE`], and
//! its lease counts from **before** it asked. The leader collects who asks, makes sure that a
//! majority follows it still, and only then answers. So every later leader is elected after the
//! node asked, and a leader that replaces a primary waits [`LEASE_OVER`] from its own beginning,
//! and from its own last grant to the node: by then the node's lease has ended, however long the
//! answer was under way, if clocks run at the same speed to 10 %.
//!
//! A grant says how new the table was from which the leader granted it, and is good only once the
//! node has applied that much: so a node that was cut off and is back knows first what it has lost.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::table::{Incarnation, NodeId, PARTITIONS, PartitionId, State};
use crate::clock::{Moment, Ticks};

/// How long a node may serve since it asked.
pub const LEASE: Duration = Duration::from_secs(4);

/// How long a leader waits for a lease to end that it cannot renew: clocks may differ by 10 %.
pub const LEASE_OVER: Duration = Duration::from_millis(4400);
const _: () = assert!(LEASE_OVER.as_millis() * 10 >= LEASE.as_millis() * 11);

/// Time from an attempt that failed to the next.
pub const ASK_AGAIN: Duration = Duration::from_millis(100);

/// How long a leader has to answer.
pub const ASK_LIMIT: Duration = Duration::from_millis(500);

/// Grants that are remembered because the node has not applied their table yet; with more, the
/// newest are forgotten.
const HELD_MAX: usize = 8;

/// Bytes of a request or an answer.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
// A number of a partition has at most 3 bytes, one of bytes 9.
const _: () = assert!(MESSAGE_BYTES_MAX > 12 * PARTITIONS as usize + 64);

/// Until when a node may serve the partitions of which its table says that they are its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lease {
    /// The first point of time at which it may not; `None` while it has no lease.
    pub until: Option<Ticks>,
    /// The index that the node must have applied. It has, when the lease is published.
    pub config_index: u64,
}

impl Lease {
    /// Whether the lease has not ended.
    #[inline]
    pub fn is_valid(&self, now: Ticks) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Whether a process may serve what this table says is its own.
    pub fn allows(&self, table: &State, node: NodeId, process: Incarnation, now: Ticks) -> bool {
        let is_named = table.nodes.get(&node).is_some_and(|member| member.incarnation == process);
        is_named && table.version >= self.config_index && self.is_valid(now)
    }
}

/// A node asks for a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRequest {
    /// The node.
    pub node: NodeId,
    /// Its process.
    pub incarnation: Incarnation,
    /// Index of the last entry that it has applied.
    pub applied: u64,
    /// Bytes of the partitions that it serves.
    pub report: Vec<(PartitionId, u64)>,
}

/// What the node is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaseAnswer {
    /// It may serve.
    Granted(Grant),
    /// Another node leads, or none.
    NotLeader {
        /// Who leads, as far as the one who answers knows.
        leader: Option<NodeId>,
    },
    /// The leader is one, and the node is no member of the cluster, as when it has left.
    NotMember,
    /// The table says that the node is down, or runs as another process: it must announce itself.
    NotAnnounced,
    /// The leader does not know whether it still is one.
    Unconfirmed,
}

/// A lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// How long it lasts from when it was asked for.
    pub length: Duration,
    /// The index that the node must have applied before it serves.
    pub config_index: u64,
}

/// Bytes that are no request, or no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a lease's request or answer cannot be read: {0}")]
pub struct Malformed(String);

impl LeaseRequest {
    /// Returns the request as bytes.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a request.
    ///
    /// # Errors
    ///
    /// It is too long, or none.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let request: LeaseRequest = decode(bytes)?;
        match request.report.len() <= usize::from(PARTITIONS) {
            true => Ok(request),
            false => Err(Malformed(format!("it reports {} partitions", request.report.len()))),
        }
    }
}

impl LeaseAnswer {
    /// Returns the answer as bytes.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads an answer.
    ///
    /// # Errors
    ///
    /// It is too long, or none.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        decode(bytes)
    }
}

fn encode(message: &impl Serialize) -> Vec<u8> {
    let limit = bincode::config::standard().with_limit::<MESSAGE_BYTES_MAX>();
    // The report has at most as many entries as there are partitions, which always fits.
    bincode::serde::encode_to_vec(message, limit).unwrap_or_default()
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Malformed> {
    let limit = bincode::config::standard().with_limit::<MESSAGE_BYTES_MAX>();
    match bincode::serde::decode_from_slice(bytes, limit) {
        Ok((message, read)) if read == bytes.len() => Ok(message),
        Ok((_, read)) => Err(Malformed(format!("{} bytes follow its end", bytes.len() - read))),
        Err(error) => Err(Malformed(error.to_string())),
    }
}

/// What the leader has granted.
#[derive(Debug)]
pub struct Grantor {
    /// The term that it leads in, as far as it knows.
    term: Option<u64>,
    /// When this leadership began, or this process: a leader that restarts keeps its term.
    since: Moment,
    /// When each node was last answered, in this term.
    granted: BTreeMap<NodeId, Moment>,
}

impl Grantor {
    /// Begins with the process.
    pub fn new(now: Moment) -> Self {
        Grantor { term: None, since: now, granted: BTreeMap::new() }
    }

    /// Notes which term the node leads in, if it does. To be said before anything that depends on
    /// it; said late, others only wait longer. Returns whether that is new.
    pub fn leads(&mut self, term: Option<u64>, now: Moment) -> bool {
        let is_new = self.term != term;
        if is_new {
            self.term = term;
            self.since = now;
            self.granted.clear();
        }
        is_new
    }

    /// Answers a node that had asked before a majority confirmed this leader. `table` is what the
    /// leader has applied since then.
    pub fn answer(
        &mut self,
        table: &State,
        node: NodeId,
        process: Incarnation,
        now: Moment,
    ) -> LeaseAnswer {
        let Some(member) = table.nodes.get(&node) else { return LeaseAnswer::NotMember };
        if !member.status.is_up() || member.incarnation != process {
            return LeaseAnswer::NotAnnounced;
        }
        self.granted.insert(node, now);
        LeaseAnswer::Granted(Grant { length: LEASE, config_index: table.version })
    }

    /// Whether every lease of a node that the table says is down has ended, whoever granted it, so
    /// that somebody else may be given its partitions.
    ///
    /// The table that says so must have been read before this is called.
    pub fn lease_over(&self, node: NodeId, now: Moment) -> bool {
        let is_over = |since: Moment| now.is_after(since, LEASE_OVER);
        self.term.is_some()
            && is_over(self.since)
            && self.granted.get(&node).is_none_or(|granted| is_over(*granted))
    }
}

/// What a node knows of its lease, and when it asks again.
#[derive(Debug)]
pub struct Holder {
    /// Grants that have not ended, the oldest first.
    held: Vec<Held>,
    /// Who led when somebody was asked last.
    leader: Option<NodeId>,
    /// When to ask again.
    next: Moment,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    from: Moment,
    grant: Grant,
}

impl Holder {
    /// Begins without a lease.
    pub fn new(now: Moment) -> Self {
        Holder { held: Vec::new(), leader: None, next: now }
    }

    /// How long to wait before the next question; zero if it is time. A new leader is asked at
    /// once; while none is known, whoever may know one is asked.
    pub fn wait(&self, leader: Option<NodeId>, now: Moment) -> Duration {
        match leader.is_some() && leader != self.leader {
            true => Duration::ZERO,
            false => self.next.ticks.since(now.ticks),
        }
    }

    /// Notes that somebody is asked now, while this node took `leader` for the leader.
    pub fn ask(&mut self, leader: Option<NodeId>, now: Moment) {
        self.leader = leader.or(self.leader);
        self.next = now.after(ASK_LIMIT + ASK_AGAIN);
    }

    /// Notes what was answered to the question that was asked at `asked`; `None` if nothing was.
    pub fn answered(&mut self, asked: Moment, answer: Option<LeaseAnswer>, now: Moment) {
        let Some(LeaseAnswer::Granted(grant)) = answer else {
            self.next = now.after(ASK_AGAIN);
            return;
        };
        self.next = asked.after(grant.length / 4);
        if self.held.len() < HELD_MAX {
            self.held.push(Held { from: asked, grant });
        }
    }

    /// Returns the lease of a node that has applied so much. What it has not applied yet, it will
    /// have in a moment; until then the grant before counts, so a lease does not flap.
    pub fn lease(&mut self, applied: u64, now: Moment) -> Lease {
        self.held.retain(|held| !now.may_be_after(held.from, held.grant.length));
        let is_applied = |held: &Held| held.grant.config_index <= applied;
        let Some(last) = self.held.iter().rposition(is_applied) else { return Lease::default() };
        // Those before it end sooner.
        self.held.drain(..last);
        let Held { from, grant } = self.held[0];
        let until = Some(from.ticks.after(grant.length));
        Lease { until, config_index: grant.config_index }
    }
}
