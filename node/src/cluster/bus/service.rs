//! Who answers requests.

use std::net::SocketAddr;
use std::pin::Pin;

use bytes::Bytes;
use distcache_protocol::peer::{Class, Identity, Kind};

use crate::cluster::table::{ClusterId, Incarnation, NodeId};

/// The node at the other end of a connection, as it proved itself in the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Its id.
    pub node: NodeId,
    /// Its process.
    pub incarnation: Incarnation,
    /// Its cluster when the connection began; `None` while it was in none: it may want to join,
    /// and has no right to anything else.
    pub cluster: Option<ClusterId>,
    /// The socket's other end.
    pub address: SocketAddr,
}

impl PeerIdentity {
    pub(super) fn new(identity: &Identity, address: SocketAddr) -> Self {
        PeerIdentity {
            node: NodeId(identity.node),
            incarnation: Incarnation(identity.incarnation),
            cluster: identity.cluster.map(ClusterId),
            address,
        }
    }
}

/// What a handler becomes: the reply's body, or a text that the caller gets as
/// [`BusError::Failed`](super::BusError::Failed).
pub type Handling = Pin<Box<dyn Future<Output = Result<Bytes, String>> + Send>>;

/// Answers the requests of other nodes.
pub trait Service: Send + Sync + 'static {
    /// Handles one request. A kind that is not known is answered with an error, as
    /// [`unknown_kind`] makes it.
    ///
    /// Requests of class Bulk are handled one after the other, in the order in which the peer
    /// began its calls; those of the other classes at the same time. A handler goes on when its
    /// connection ends. It should not block its thread: other connections share it.
    fn handle(&self, from: PeerIdentity, class: Class, kind: Kind, body: Bytes) -> Handling;
}

/// Returns the error for a kind that a service does not know.
pub fn unknown_kind(class: Class, kind: Kind) -> String {
    format!("no request of kind {} in class {class}: upgrade this node", kind.number())
}
