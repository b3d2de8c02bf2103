//! What can go wrong with a call.

use std::time::Duration;

use distcache_protocol::peer::{Class, Refusal};

use crate::cluster::table::NodeId;

/// Why a call or a probe has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// No address is known. Nothing was sent.
    #[error("no address is known of node {0}")]
    UnknownPeer(NodeId),
    /// There is no connection, and none could be made. Nothing was sent.
    #[error("{address} cannot be reached: {why}")]
    Unreachable {
        /// Where.
        address: String,
        /// What the system says.
        why: String,
    },
    /// What answers is not a distcache. Nothing was sent.
    #[error("{address}: {why}")]
    NotDistcache {
        /// Where.
        address: String,
        /// What it answers.
        why: String,
    },
    /// The two nodes do not fit. Nothing was sent.
    #[error("{address}: {refusal}")]
    Refused {
        /// Where.
        address: String,
        /// Why; who refused does not matter.
        refusal: Refusal,
    },
    /// Too many calls are under way to this peer. Nothing was sent.
    #[error("{calls} calls in class {class} are under way to node {peer}")]
    Busy {
        /// To whom.
        peer: NodeId,
        /// The class.
        class: Class,
        /// How many.
        calls: usize,
    },
    /// The request is longer than its class allows. Nothing was sent.
    #[error("a request of {bytes} bytes is longer than the {max} of class {class}")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The class.
        class: Class,
        /// What is allowed.
        max: usize,
    },
    /// The bus is stopping. Nothing was sent.
    #[error("this node is stopping")]
    Stopped,
    /// No reply in time. Whether the request was carried out is unknown.
    #[error("node {peer} did not answer within {} ms", .after.as_millis())]
    TimedOut {
        /// Who.
        peer: NodeId,
        /// The time that the call had.
        after: Duration,
    },
    /// The connection ended before the reply. Whether the request was carried out is unknown.
    #[error("the connection to node {peer} ended: {why}")]
    Lost {
        /// Who.
        peer: NodeId,
        /// Why.
        why: String,
    },
    /// The peer's service answered with an error.
    #[error("node {peer}: {text}")]
    Failed {
        /// Who.
        peer: NodeId,
        /// What it says.
        text: String,
    },
}

impl BusError {
    /// Whether the peer may have carried the request out, or may still do so.
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self, BusError::TimedOut { .. } | BusError::Lost { .. })
    }
}
