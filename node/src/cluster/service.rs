//! What this node does for others: every request that comes by the bus ends here.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::admin::serve::Admin;
use super::bus::{Class, Handling, Kind, PeerIdentity, Service, unknown_kind};
use super::leases::Leases;
use super::links;
use super::moves::target::Target;
use super::raft::Consensus;
use crate::node::Node;
use crate::server::forward::execute;
use crate::server::forward::over_bus::FORWARD;

/// Answers requests of other nodes.
pub struct NodeService(OnceLock<Parts>);

struct Parts {
    consensus: Consensus,
    leases: Leases,
    node: Arc<Node>,
    target: Arc<Target>,
    admin: Arc<Admin>,
}

impl NodeService {
    /// Returns a service that knows nothing yet: it answers that the node is starting.
    pub fn new() -> Arc<Self> {
        Arc::new(NodeService(OnceLock::new()))
    }

    /// Begins to answer. The first call counts.
    pub fn open(
        &self,
        consensus: Consensus,
        leases: Leases,
        node: Arc<Node>,
        target: Arc<Target>,
        admin: Arc<Admin>,
    ) {
        // A second one would be a second node.
        let _ = self.0.set(Parts { consensus, leases, node, target, admin });
    }
}

impl Service for NodeService {
    fn handle(&self, from: PeerIdentity, class: Class, kind: Kind, body: Bytes) -> Handling {
        let Some(parts) = self.0.get() else {
            return Box::pin(std::future::ready(Err("the node is starting".to_owned())));
        };
        let (consensus, leases) = (parts.consensus.clone(), parts.leases.clone());
        if class == Class::Control
            && let Some(answer) = parts.admin.handle(kind, body.clone())
        {
            return answer;
        }
        match class {
            Class::Control => Box::pin(async move {
                let served = links::serve(&consensus, &leases, &from, kind, &body).await;
                served.unwrap_or_else(|| Err(unknown_kind(class, kind)))
            }),
            _ if !links::is_member(&consensus, &from) => {
                let refusal = format!("node {} is no member of this cluster", from.node);
                Box::pin(std::future::ready(Err(refusal)))
            }
            Class::Forward(_) if kind == FORWARD => {
                let node = parts.node.clone();
                Box::pin(async move { execute(&node, from.address, body).await.map(Bytes::from) })
            }
            Class::Forward(_) => Box::pin(std::future::ready(Err(unknown_kind(class, kind)))),
            Class::Replication | Class::Bulk => parts.target.handle(from.node, class, kind, body),
        }
    }
}
