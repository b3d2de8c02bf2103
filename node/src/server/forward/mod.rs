//! Commands on keys that another node serves: sent there, and their replies brought back, so that
//! a client of the port for any client need not know that there are several nodes.
//!
//! All that a client's turn has for one node is one batch, in request order. The node executes it
//! as its own clients' requests, but sends nothing on: what it does not serve (any more) it
//! answers with `MOVED` and does not execute, and the sender follows.
//!
//! - `batch`: the bytes of batches and their replies;
//! - [`outgoing`]: what a connection has for other nodes in one turn;
//! - `follow`: a command whose keys have moved meanwhile;
//! - [`spread`]: commands on keys of several nodes, or on all keys; `scan`: `SCAN` among them;
//! - [`over_bus`]: the way to other nodes;
//! - [`execute()`]: the receiving side.

mod batch;
mod execute;
mod follow;
pub mod outgoing;
pub mod over_bus;
mod scan;
pub mod spread;

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;

use crate::cluster::table::NodeId;
pub use batch::Replies;
pub(super) use batch::{Header, is_refusal};
pub use execute::execute;
pub(super) use follow::{Unreached, failure, follow};

/// Why a batch has no replies.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// The node was not reached: nothing was executed.
    #[error("{0}")]
    NotSent(String),
    /// The batch cannot be sent, such as one that is too long: nothing was executed, and it is no
    /// use to send it again.
    #[error("{0}")]
    Unsendable(String),
    /// The node has not answered: nobody knows what was executed.
    #[error("{0}")]
    Unknown(String),
}

/// What [`Forward::forward`] returns: the bytes of [`Replies`].
pub type Forwarded = Pin<Box<dyn Future<Output = Result<Bytes, ForwardError>> + Send>>;

/// The way to other nodes.
pub trait Forward: Send + Sync {
    /// Sends a batch to a node, which gives it to [`execute()`], and returns what that returns.
    /// Batches of one `thread` for one node are received in the order in which they were first
    /// polled, but long ones may be passed. The future ends in bounded time, whatever happens to
    /// the node.
    fn forward(&self, thread: usize, node: NodeId, batch: Vec<u8>) -> Forwarded;
}
