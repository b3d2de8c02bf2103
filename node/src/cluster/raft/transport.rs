//! What consensus needs of the connections between nodes.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::cluster::table::NodeId;

/// An answer that is awaited.
pub type CallFuture<'a> =
    Pin<Box<dyn Future<Output = Result<Vec<u8>, TransportError>> + Send + 'a>>;

/// Calls other nodes. A call reaches the node with the given id or fails: an answer of anybody
/// else could split the cluster.
pub trait RaftTransport: Debug + Send + Sync + 'static {
    /// Calls a node and awaits its answer.
    ///
    /// `bus` is where the node was when it joined; whoever knows better uses that. A call that
    /// timed out may have been carried out all the same.
    fn call<'a>(
        &'a self,
        peer: NodeId,
        bus: &'a str,
        kind: CallKind,
        body: Vec<u8>,
        timeout: Duration,
    ) -> CallFuture<'a>;
}

/// What a node is called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// The leader sends entries, or shows that it is there.
    AppendEntries,
    /// A candidate asks for a vote.
    Vote,
    /// The leader sends the whole table.
    Snapshot,
    /// A node hands an entry to the leader.
    Propose,
    /// Somebody, perhaps no member yet, hands an entry to any member, which sees to the rest.
    Submit,
}

impl CallKind {
    /// All kinds.
    pub const ALL: [CallKind; 5] = [
        CallKind::AppendEntries,
        CallKind::Vote,
        CallKind::Snapshot,
        CallKind::Propose,
        CallKind::Submit,
    ];

    /// Returns the number that stands for the kind in a frame.
    pub const fn number(self) -> u8 {
        match self {
            CallKind::AppendEntries => 1,
            CallKind::Vote => 2,
            CallKind::Snapshot => 3,
            CallKind::Propose => 4,
            CallKind::Submit => 5,
        }
    }

    /// Returns the kind that a number stands for.
    pub fn from_number(number: u8) -> Option<CallKind> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The node cannot be reached.
    #[error("node {peer} cannot be reached: {reason}")]
    Unreachable {
        /// The node.
        peer: NodeId,
        /// Why.
        reason: String,
    },
    /// There was no answer in time.
    #[error("node {peer} did not answer in {} ms", timeout.as_millis())]
    Timeout {
        /// The node.
        peer: NodeId,
        /// How long it had.
        timeout: Duration,
    },
    /// The node answered that it could not do it.
    #[error("node {peer} refused: {reason}")]
    Refused {
        /// The node.
        peer: NodeId,
        /// Why.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_number_of_its_own() {
        for kind in CallKind::ALL {
            assert_eq!(CallKind::from_number(kind.number()), Some(kind));
        }
        assert_eq!(CallKind::from_number(0), None);
    }
}
