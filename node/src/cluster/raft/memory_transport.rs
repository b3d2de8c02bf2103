//! A network in memory whose links are cut, delayed and lossy on demand, for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::handle::Consensus;
use super::limits::MEMORY_CALLS_MAX;
use super::transport::{CallFuture, CallKind, RaftTransport, TransportError};
use crate::cluster::table::NodeId;

/// The network; clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryNetwork(Arc<Mutex<Links>>);

#[derive(Debug, Default)]
struct Links {
    nodes: BTreeMap<NodeId, Consensus>,
    cut: BTreeSet<(NodeId, NodeId)>,
    delay: Duration,
    /// Messages of 256 that are lost.
    lost: u8,
    random: u64,
    calls: usize,
}

/// A node's end of the network.
#[derive(Clone, Debug)]
pub struct MemoryTransport {
    network: MemoryNetwork,
    node: NodeId,
}

/// Returns the note of a vote, as a node has it that was asked to vote and has no log yet.
#[cfg(test)]
pub(crate) fn vote_note(term: u64, node: NodeId) -> Vec<u8> {
    super::codec::encode(&openraft::Vote::new(term, node)).unwrap_or_default()
}

impl MemoryNetwork {
    /// Returns a network that loses messages by the given seed.
    pub fn new(seed: u64) -> Self {
        let links = Links { random: seed | 1, ..Links::default() };
        MemoryNetwork(Arc::new(Mutex::new(links)))
    }

    /// Returns a node's end.
    pub fn transport(&self, node: NodeId) -> Arc<dyn RaftTransport> {
        Arc::new(MemoryTransport { network: self.clone(), node })
    }

    /// Lets a node answer calls.
    pub fn attach(&self, node: NodeId, consensus: Consensus) {
        self.lock().nodes.insert(node, consensus);
    }

    /// Lets a node answer no more, as if its process had ended.
    pub fn detach(&self, node: NodeId) {
        self.lock().nodes.remove(&node);
    }

    /// Cuts what one node sends to another, in this direction only: its calls, and its answers.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.lock().cut.insert((from, to));
    }

    /// Cuts a node off, in both directions.
    pub fn isolate(&self, node: NodeId) {
        let others: Vec<NodeId> = self.lock().nodes.keys().copied().collect();
        for other in others.into_iter().filter(|other| *other != node) {
            self.cut(node, other);
            self.cut(other, node);
        }
    }

    /// Ends all cuts, delay and loss.
    pub fn heal(&self) {
        let mut links = self.lock();
        links.cut.clear();
        (links.delay, links.lost) = (Duration::ZERO, 0);
    }

    /// Delays each message by so much, and loses so many of 256.
    pub fn disturb(&self, delay: Duration, lost: u8) {
        let mut links = self.lock();
        (links.delay, links.lost) = (delay, lost);
    }

    fn lock(&self) -> MutexGuard<'_, Links> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message from one node to another: `false` if it is lost.
    pub async fn carry(&self, from: NodeId, to: NodeId) -> bool {
        let delay = self.lock().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let mut links = self.lock();
        // Xorshift, so that a seed gives the same losses again.
        links.random ^= links.random << 13;
        links.random ^= links.random >> 7;
        links.random ^= links.random << 17;
        let is_lost = ((links.random >> 32) as u8) < links.lost;
        !is_lost && !links.cut.contains(&(from, to))
    }

    async fn deliver(
        &self,
        (from, to): (NodeId, NodeId),
        kind: CallKind,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, TransportError> {
        let unreachable =
            |reason: &str| TransportError::Unreachable { peer: to, reason: reason.to_owned() };
        let consensus = self.lock().nodes.get(&to).cloned();
        let consensus = consensus.ok_or_else(|| unreachable("nobody listens"))?;
        if !self.carry(from, to).await {
            std::future::pending::<()>().await;
        }
        let answer = consensus.serve(kind, &body).await;
        if !self.carry(to, from).await {
            std::future::pending::<()>().await;
        }
        answer.map_err(|reason| TransportError::Refused { peer: to, reason })
    }
}

impl RaftTransport for MemoryTransport {
    fn call<'a>(
        &'a self,
        peer: NodeId,
        _bus: &'a str,
        kind: CallKind,
        body: Vec<u8>,
        timeout: Duration,
    ) -> CallFuture<'a> {
        Box::pin(async move {
            let links = (self.node, peer);
            let _call = Call::begin(&self.network, peer)?;
            let answered = self.network.deliver(links, kind, body);
            let answered = tokio::time::timeout(timeout, answered).await;
            answered.unwrap_or(Err(TransportError::Timeout { peer, timeout }))
        })
    }
}

/// Counts as a call under way until dropped.
struct Call(MemoryNetwork);

impl Call {
    fn begin(network: &MemoryNetwork, peer: NodeId) -> Result<Call, TransportError> {
        let mut links = network.lock();
        if links.calls >= MEMORY_CALLS_MAX {
            let reason = "too many calls are under way".to_owned();
            return Err(TransportError::Unreachable { peer, reason });
        }
        links.calls += 1;
        Ok(Call(network.clone()))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.lock().calls -= 1;
    }
}
