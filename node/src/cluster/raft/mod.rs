//! Consensus about the order of the table's entries: the only module that names openraft.
//!
//! [`Consensus`] is the handle that everybody else uses: it proposes entries, says who leads and
//! who votes, changes that, and answers the calls of other nodes. Under it, openraft is given a
//! log (`log_store`) and a snapshot on disk (`disk`), the table (`machine`), and a way to
//! call other nodes (`network`, over a [`RaftTransport`]).
//!
//! Modules in reading order: `handle`, `proposals`, `batch`, `standing`, `transport`, `network`,
//! `log_store`, `machine`, `disk`, `codec`, [`limits`]; [`memory_transport`] is for tests.

mod batch;
mod codec;
mod disk;
mod handle;
pub mod limits;
mod log_store;
mod machine;
pub mod memory_transport;
mod network;
mod proposals;
mod recent;
mod standing;
#[cfg(test)]
mod tests;
mod transport;

use serde::{Deserialize, Serialize};

use self::batch::Batch;
pub use self::handle::{Consensus, ConsensusError, ProposeError};
pub use self::network::Contacts;
pub use self::standing::{Standing, StandingWatch};
pub use self::transport::{CallFuture, CallKind, RaftTransport, TransportError};
use super::table::{NodeId, Outcome};

openraft::declare_raft_types!(
    /// What openraft is told of our types.
    pub(super) TypeConfig:
        D = Batch,
        R = Vec<Outcome>,
        NodeId = NodeId,
        Node = RaftNode,
        Entry = openraft::Entry<TypeConfig>,
        SnapshotData = Vec<u8>,
        Responder = openraft::impls::OneshotResponder<TypeConfig>,
        AsyncRuntime = openraft::TokioRuntime,
);

/// What Raft's membership says of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaftNode {
    /// Where other nodes reached it when it joined, `host:port`. Where it is now, the table says.
    pub bus: String,
}
