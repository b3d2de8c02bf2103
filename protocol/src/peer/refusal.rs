//! Why two nodes do not talk to each other.

use std::fmt;

use super::{VERSION_MAX, VERSION_MIN};
use crate::limits::PEER_REFUSAL_TEXT_BYTES_MAX;

/// What is wrong, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No version in common.
    Version,
    /// The nodes belong to different clusters.
    Cluster,
    /// Another node was expected at this address.
    PeerId,
    /// Two processes have one node id.
    DuplicateId,
    /// One side has a secret and the other has none.
    SecretMissing,
    /// The secrets differ.
    SecretWrong,
    /// There are too many connections.
    Busy,
    /// The message makes no sense.
    Malformed,
    /// A reason of a later version; the text says it.
    Unknown,
}

impl Reason {
    const NUMBERED: [Reason; 8] = [
        Reason::Version,
        Reason::Cluster,
        Reason::PeerId,
        Reason::DuplicateId,
        Reason::SecretMissing,
        Reason::SecretWrong,
        Reason::Busy,
        Reason::Malformed,
    ];

    fn number(self) -> u8 {
        let at = Self::NUMBERED.iter().position(|&reason| reason == self);
        at.map_or(u8::MAX, |at| at as u8)
    }

    fn from_number(number: u8) -> Self {
        Self::NUMBERED.get(usize::from(number)).copied().unwrap_or(Reason::Unknown)
    }
}

/// A refusal. Who refuses writes the text, so that both sides' operators read the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong.
    pub reason: Reason,
    /// What differs, and what to do.
    pub text: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Refusal {
    /// No version in common with a peer that speaks `min` to `max`.
    pub(super) fn version(own: u64, peer: u64, min: u8, max: u8) -> Self {
        let text = format!(
            "node {own:016x} speaks versions {VERSION_MIN} to {VERSION_MAX} of the bus protocol \
             and node {peer:016x} speaks {min} to {max}: upgrade the older one"
        );
        Refusal { reason: Reason::Version, text }
    }

    /// The nodes belong to different clusters.
    pub(super) fn cluster(own: (u64, u128), peer: (u64, u128)) -> Self {
        let text = format!(
            "node {:016x} belongs to cluster {:032x} and node {:016x} to cluster {:032x}: clusters \
             do not merge; correct --seeds, or start one of them with an empty data directory",
            own.0, own.1, peer.0, peer.1
        );
        Refusal { reason: Reason::Cluster, text }
    }

    /// Another node is at this address.
    pub(super) fn peer_id(found: u64, expected: u64) -> Self {
        let text = format!(
            "node {found:016x} is at the address where node {expected:016x} was expected: correct \
             the address that one of them announces, or wait until the cluster has learnt the new \
             one"
        );
        Refusal { reason: Reason::PeerId, text }
    }

    /// Two processes have one node id.
    pub fn duplicate_id(node: u64) -> Self {
        let text = format!(
            "two running processes are node {node:016x}: a data directory was copied; stop one of \
             them and start it with an empty data directory"
        );
        Refusal { reason: Reason::DuplicateId, text }
    }

    /// `with` has a secret and `without` has none.
    pub(super) fn secret_missing(with: u64, without: u64) -> Self {
        let text = format!(
            "node {with:016x} has a cluster secret and node {without:016x} has none: start all \
             nodes with the same --cluster-secret"
        );
        Refusal { reason: Reason::SecretMissing, text }
    }

    /// The secrets differ.
    pub(super) fn secret_wrong(own: u64, peer: u64) -> Self {
        let text = format!(
            "nodes {own:016x} and {peer:016x} have different cluster secrets: start all nodes with \
             the same --cluster-secret"
        );
        Refusal { reason: Reason::SecretWrong, text }
    }

    /// There are as many connections as there may be.
    pub fn busy(own: u64, connections_max: usize) -> Self {
        let text = format!(
            "node {own:016x} has {connections_max} connections of other nodes and takes no more: \
             see which processes connect to its bus port"
        );
        Refusal { reason: Reason::Busy, text }
    }

    /// The message makes no sense.
    pub(super) fn malformed(own: u64, what: &str) -> Self {
        let text = format!("node {own:016x} got a handshake that makes no sense: {what}");
        Refusal { reason: Reason::Malformed, text }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let text = &self.text[..self.text.floor_char_boundary(PEER_REFUSAL_TEXT_BYTES_MAX)];
        [&[self.reason.number()], text.as_bytes()].concat()
    }

    /// Returns the refusal that `payload` holds. What a peer that has proven nothing says goes
    /// into log lines, so it is cut, and control characters are taken out.
    pub(super) fn decode(payload: &[u8]) -> Self {
        let (number, text) = payload.split_first().map_or((u8::MAX, payload), |(n, t)| (*n, t));
        let text = String::from_utf8_lossy(&text[..text.len().min(PEER_REFUSAL_TEXT_BYTES_MAX)]);
        let text = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        Refusal { reason: Reason::from_number(number), text }
    }
}
