//! What a node remembers of one connection.

use std::sync::Arc;

use distcache_protocol::resp::RespVersion;

use crate::node::Node;

/// State of one connection, which its commands may change.
pub struct Session {
    /// The node it is connected to.
    pub node: Arc<Node>,
    /// Number of the connection, never used again.
    pub id: u64,
    /// Protocol version of the replies.
    pub version: RespVersion,
    /// Selected database.
    pub database: u8,
    /// Whether the client may run commands.
    pub authenticated: bool,
    /// Whether its commands update access clocks.
    pub touching: bool,
    /// Whether the connection ends once the replies so far are written.
    pub closing: bool,
}

impl Session {
    /// Returns the state of a new connection.
    pub fn new(node: Arc<Node>, id: u64) -> Self {
        Session {
            node,
            id,
            version: RespVersion::V2,
            database: 0,
            authenticated: true,
            touching: true,
            closing: false,
        }
    }
}
