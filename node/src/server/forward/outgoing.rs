//! What a connection has for other nodes in one turn.

use std::ops::Range;

use bytes::Bytes;
use distcache_protocol::resp::ReplyBuffer;
use tokio::task::JoinHandle;

use super::{ForwardError, Header, Replies, batch};
use crate::cluster::table::NodeId;
use crate::command::{Args, Command};
use crate::limits::FORWARD_BATCH_BYTES_MAX;
use crate::server::session::Session;

/// A batch under way.
pub(super) type Call = JoinHandle<Result<Bytes, ForwardError>>;

/// The requests for one node.
struct Target {
    node: NodeId,
    batch: ReplyBuffer,
    /// Each request's command, and the places of its arguments.
    requests: Vec<(Command, Range<usize>)>,
    call: Option<Call>,
    replies: Result<Replies<Bytes>, ForwardError>,
    /// How many replies were taken.
    taken: usize,
}

/// The requests of one turn for other nodes, and their replies.
#[derive(Default)]
pub(in crate::server) struct Outgoing(Vec<Target>);

impl Outgoing {
    /// Whether there is none.
    #[inline]
    pub(in crate::server) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a batch is so large that it must go before more is added.
    pub(in crate::server) fn is_full(&self) -> bool {
        self.0.iter().any(|target| target.batch.len() >= FORWARD_BATCH_BYTES_MAX)
    }

    /// Forgets all.
    pub(in crate::server) fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds a request; returns the number of its target.
    pub(in crate::server) fn push(
        &mut self,
        node: NodeId,
        header: Header,
        (command, places): (Command, Range<usize>),
        args: Args<'_>,
    ) -> usize {
        let index = self.0.iter().position(|target| target.node == node).unwrap_or_else(|| {
            let batch = batch::begin(header);
            let (requests, replies) = (Vec::new(), Ok(Replies::default()));
            self.0.push(Target { node, batch, requests, call: None, replies, taken: 0 });
            self.0.len() - 1
        });
        let target = &mut self.0[index];
        batch::push(&mut target.batch, args.from(0));
        target.requests.push((command, places));
        index
    }

    /// Sends all batches.
    pub(in crate::server) fn send(&mut self, session: &Session) {
        for target in &mut self.0 {
            target.call = call(session, target.node, std::mem::take(&mut target.batch));
        }
    }

    /// Returns the next request to a target, with its reply; waits for the replies if they are
    /// not there yet.
    pub(in crate::server) async fn next(
        &mut self,
        target: usize,
    ) -> ((Command, Range<usize>), Result<&[u8], ForwardError>) {
        let target = &mut self.0[target];
        if let Some(call) = target.call.take() {
            target.replies = received(call, target.requests.len()).await;
        }
        let index = target.taken;
        target.taken += 1;
        let reply = match &target.replies {
            Ok(replies) => replies.get(index).ok_or_else(unreadable),
            Err(error) => Err(error.clone()),
        };
        (target.requests[index].clone(), reply)
    }
}

/// Sends a batch as a task of its own, so that several nodes work at once, and to the end even if
/// the client leaves. `None`: there is no way to other nodes.
pub(super) fn call(session: &Session, to: NodeId, batch: ReplyBuffer) -> Option<Call> {
    let forward = session.node.cluster.forward()?;
    Some(tokio::spawn(forward.forward(session.thread(), to, batch.into_bytes())))
}

/// Waits for the replies to `count` requests.
pub(super) async fn received(call: Call, count: usize) -> Result<Replies<Bytes>, ForwardError> {
    let bytes = call.await.map_err(|error| ForwardError::Unknown(error.to_string()))??;
    Replies::decode(bytes).filter(|replies| replies.len() == count).ok_or_else(unreadable)
}

fn unreadable() -> ForwardError {
    ForwardError::Unknown("its answer cannot be read".to_owned())
}
