//! openraft's calls to other nodes, over a [`RaftTransport`].

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::error::{Fatal, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::storage::Snapshot;
use openraft::{OptionalSend, Vote};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::codec::{decode, encode};
use super::limits::SNAPSHOT_TIMEOUT;
use super::transport::{CallKind, RaftTransport};
use super::{RaftNode, TypeConfig};
use crate::clock::Ticks;
use crate::cluster::table::NodeId;

type CallError = RPCError<NodeId, RaftNode, RaftError<NodeId>>;

/// When other nodes last answered a call of this node's part in Raft. On the leader that is every
/// member, voters and others, with every heartbeat; elsewhere it says little.
#[derive(Debug, Default)]
pub struct Contacts(Mutex<BTreeMap<NodeId, Ticks>>);

impl Contacts {
    /// Returns when a node last answered; `None` if it never did.
    pub fn last_ok(&self, peer: NodeId) -> Option<Ticks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&peer).copied()
    }

    fn record(&self, peer: NodeId) {
        let mut contacts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        contacts.insert(peer, Ticks::now());
    }

    /// Forgets all nodes but these.
    pub(super) fn retain(&self, members: &[NodeId]) {
        let mut contacts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        contacts.retain(|peer, _| members.contains(peer));
    }
}

/// Makes openraft's handles of other nodes; connections are the transport's.
#[derive(Clone, Debug)]
pub(super) struct Network {
    pub(super) transport: Arc<dyn RaftTransport>,
    pub(super) contacts: Arc<Contacts>,
}

/// openraft's handle of one node: cheap, since openraft makes one for each question.
#[derive(Debug)]
pub(super) struct Peer {
    network: Network,
    peer: NodeId,
    bus: String,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: NodeId, node: &RaftNode) -> Peer {
        Peer { network: self.clone(), peer: target, bus: node.bus.clone() }
    }
}

impl Peer {
    async fn call<A: DeserializeOwned>(
        &self,
        kind: CallKind,
        request: &impl Serialize,
        timeout: Duration,
    ) -> Result<A, Unreachable> {
        let failed = |error: io::Error| Unreachable::new(&error);
        let body = encode(request).map_err(failed)?;
        let called = self.network.transport.call(self.peer, &self.bus, kind, body, timeout);
        let answer = called.await.map_err(|error| Unreachable::new(&error))?;
        let answer = decode(&answer).map_err(failed)?;
        self.network.contacts.record(self.peer);
        Ok(answer)
    }
}

impl RaftNetwork<TypeConfig> for Peer {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<NodeId>, CallError> {
        Ok(self.call(CallKind::AppendEntries, &rpc, option.hard_ttl()).await?)
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<NodeId>,
        option: RPCOption,
    ) -> Result<VoteResponse<NodeId>, CallError> {
        Ok(self.call(CallKind::Vote, &rpc, option.hard_ttl()).await?)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote<NodeId>,
        snapshot: Snapshot<TypeConfig>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<NodeId>, StreamingError<TypeConfig, Fatal<NodeId>>> {
        let request = (vote, snapshot.meta, *snapshot.snapshot);
        let sent = pin!(self.call(CallKind::Snapshot, &request, SNAPSHOT_TIMEOUT));
        tokio::select! {
            closed = cancel => Err(closed.into()),
            answer = sent => Ok(answer?),
        }
    }

    fn backoff(&self) -> openraft::network::Backoff {
        openraft::network::Backoff::new(std::iter::repeat(super::limits::HEARTBEAT))
    }
}
