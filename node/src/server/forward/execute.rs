//! The receiving side: a batch from another node, executed as requests of a client of this one.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Poll, Waker};

use bytes::Bytes;
use distcache_protocol::limits::PEER_REPLY_BYTES_MAX;
use distcache_protocol::resp::{DecodeLimits, Decoded, ReplyBuffer, RequestDecoder};

use super::batch::{self, HEADER_BYTES, NOT_EXECUTED, PAUSED, REPLY_BYTES_MAX};
use super::{Header, Replies};
use crate::actors::shard::{Execute, ReplySlot, Stopped};
use crate::command::{Args, Command, CommandError, Flags, Run};
use crate::limits::FORWARD_REPLY_BYTES_MAX;
use crate::monitor::Caller;
use crate::node::Node;
use crate::server::coordinate::run_on_keys;
use crate::server::dispatch::{self, Route};
use crate::server::listen::Access;
use crate::server::registry::Client;
use crate::server::session::Session;
use crate::server::slots;
use crate::shard::batch::{Batch, Requests, Source};

/// Executes a batch that `peer` has sent, and returns the bytes of its [`Replies`]: one to each
/// request, in order. What this node does not serve is answered with `MOVED`, and not executed;
/// what comes behind [`FORWARD_REPLY_BYTES_MAX`] bytes of replies has an empty reply, and is not
/// executed either, nor what `CLIENT PAUSE` holds and all behind it.
///
/// # Errors
/// A text for people: it is no batch, or the node is stopping. Of the latter nobody knows what
/// was executed.
pub async fn execute(node: &Arc<Node>, peer: SocketAddr, body: Bytes) -> Result<Vec<u8>, String> {
    let (Header { version, database, touching }, _) =
        batch::parse(&body).ok_or("no batch of requests")?;
    let client = Arc::new(Client::of_node(peer));
    let mut session = Session::new(node.clone(), client, Access::Node, 0);
    session.authenticated = true;
    session.version = version;
    session.database = database;
    session.touching = touching;
    if u16::from(database) >= node.databases() {
        return Err(format!("this node has no database {database}"));
    }
    let (requests, ends) = decode(&session, body).ok_or("no requests in a batch")?;
    let waker = poll_fn(|context| Poll::Ready(context.waker().clone())).await;
    let mut turn = Turn::new(session, requests, &waker);
    turn.run(&ends).await.map_err(|stopped| stopped.to_string())?;
    Ok(turn.replies.encode())
}

/// Finds the requests of a batch, and the index behind the last argument of each. Copies nothing
/// where the body is all that there is in its memory.
fn decode(session: &Session, body: Bytes) -> Option<(Requests, Vec<usize>)> {
    let limits =
        DecodeLimits { bulk_bytes_max: session.config.proto_bulk_max_bytes, authenticated: true };
    let mut requests = Requests { bytes: body.into(), args: Vec::new() };
    let (mut ends, mut base) = (Vec::new(), HEADER_BYTES);
    let mut decoder = RequestDecoder::default();
    while base < requests.bytes.len() {
        match decoder.decode(&mut requests.bytes, base, &mut requests.args, &limits) {
            Ok(Decoded::Request { consumed }) => base += consumed,
            _ => return None,
        }
        if ends.last().copied().unwrap_or(0) == requests.args.len() {
            return None;
        }
        ends.push(requests.args.len());
    }
    Some((requests, ends))
}

/// Whether `CLIENT PAUSE` holds a command.
fn is_held(session: &Session, args: Args<'_>) -> bool {
    dispatch::find(args)
        .is_ok_and(|command| session.node.pause.applies(command.spec.flags.has(Flags::WRITE)))
}

/// Bytes of a batch's replies that are left for errors and for the replies' lengths.
const ROOM_LEFT_BYTES: usize = 1 << 20;

fn too_long(bytes: usize, max: usize) -> String {
    format!(
        "ERR the command was executed, and its reply of {bytes} bytes is longer than the {max} \
         that the node which serves the key could send on: ask for less at a time, or ask that node"
    )
}

/// The way to a shard and back, and what has come.
struct Lane {
    batch: Option<Box<Batch>>,
    slot: ReplySlot,
    replies: Replies,
    taken: usize,
}

/// A batch that is being executed.
struct Turn {
    session: Session,
    requests: Arc<Requests>,
    lanes: Vec<Lane>,
    /// Shards of the commands in `lanes`, in request order.
    order: Vec<usize>,
    replies: Replies,
    /// Bytes of what was replied, also of what is not in `replies` yet.
    reply_bytes: usize,
    /// Whether a pause holds what follows.
    is_paused: bool,
}

impl Turn {
    fn new(session: Session, requests: Requests, waker: &Waker) -> Self {
        let lane = |_: &_| Lane {
            batch: None,
            slot: ReplySlot::new(waker.clone()),
            replies: Replies::default(),
            taken: 0,
        };
        let lanes = session.node.shards.iter().map(lane).collect();
        let (requests, order, replies) = (Arc::new(requests), Vec::new(), Replies::default());
        Turn { session, requests, lanes, order, replies, reply_bytes: 0, is_paused: false }
    }

    async fn run(&mut self, ends: &[usize]) -> Result<(), Stopped> {
        let mut first = 0;
        for &end in ends {
            let places = first..end;
            first = end;
            if self.is_paused || self.reply_bytes >= FORWARD_REPLY_BYTES_MAX {
                self.run_lanes().await?;
                self.replies.push(NOT_EXECUTED);
                continue;
            }
            let requests = self.requests.clone();
            let args = requests.request(places.clone());
            if self.session.node.pause.is_active() && is_held(&self.session, args) {
                self.run_lanes().await?;
                self.replies.push(PAUSED);
                self.is_paused = true;
                continue;
            }
            match dispatch::admit(&self.session, args) {
                Ok((command, Route::Shard(shard))) => {
                    let lane = &mut self.lanes[usize::from(shard)];
                    lane.batch.get_or_insert_default().push(command, places);
                    self.order.push(shard.into());
                }
                Ok((command, _)) => {
                    self.run_lanes().await?;
                    // A command on the same key may not have been executed for that reason.
                    if self.reply_bytes >= FORWARD_REPLY_BYTES_MAX {
                        self.replies.push(NOT_EXECUTED);
                        continue;
                    }
                    let mut reply = ReplyBuffer::new(self.session.version);
                    if let Err(error) = self.run_here(command, args, &mut reply).await {
                        self.refuse(&error);
                    } else {
                        self.reply_bytes += reply.len();
                        self.push(reply.as_bytes());
                    }
                }
                Err(error) => {
                    self.run_lanes().await?;
                    self.refuse(&error);
                }
            }
        }
        self.run_lanes().await
    }

    fn refuse(&mut self, error: &CommandError) {
        self.session.node.errors.count(error);
        let mut reply = ReplyBuffer::new(self.session.version);
        error.write(&mut reply);
        self.replies.push(reply.as_bytes());
    }

    /// Adds a reply; instead of one that cannot be sent, an error that says so.
    fn push(&mut self, reply: &[u8]) {
        let room = PEER_REPLY_BYTES_MAX.saturating_sub(self.replies.bytes() + ROOM_LEFT_BYTES);
        let max = room.min(REPLY_BYTES_MAX);
        if reply.len() <= max {
            return self.replies.push(reply);
        }
        let mut error = ReplyBuffer::new(self.session.version);
        error.error(&too_long(reply.len(), max));
        self.replies.push(error.as_bytes());
    }

    /// Runs a command that is not for a single shard.
    async fn run_here(
        &mut self,
        command: Command,
        args: Args<'_>,
        reply: &mut ReplyBuffer,
    ) -> Result<(), CommandError> {
        match command.spec.run {
            Run::Keyspace(_) => {
                let (origin, node) = (self.session.origin(), &self.session.node);
                run_on_keys(node, origin, command, args, reply).await
            }
            Run::Node(run) => run(&mut self.session, args, reply).await,
            Run::Connection(_) | Run::Subcommand => {
                Err(CommandError::err("a command that no node sends to another"))
            }
        }
    }

    /// Executes what the lanes have, on all shards at once, and adds the replies in order.
    async fn run_lanes(&mut self) -> Result<(), Stopped> {
        for shard in 0..self.lanes.len() {
            let Some(mut batch) = self.lanes[shard].batch.take() else { continue };
            batch.requests = Source::Shared(self.requests.clone());
            batch.database = self.session.database;
            batch.touching = self.session.touching;
            batch.caller = Caller::Node(self.session.client().address);
            batch.replies.set_version(self.session.version);
            self.send(shard, batch)?;
        }
        for shard in std::mem::take(&mut self.order) {
            if self.lanes[shard].taken == self.lanes[shard].replies.len() {
                self.receive(shard).await?;
            }
            let lane = &mut self.lanes[shard];
            let (replies, index) = (std::mem::take(&mut lane.replies), lane.taken);
            lane.taken += 1;
            self.push(replies.get(index).unwrap_or_default());
            self.lanes[shard].replies = replies;
        }
        for lane in &mut self.lanes {
            (lane.replies, lane.taken) = (Replies::default(), 0);
        }
        Ok(())
    }

    fn send(&self, shard: usize, batch: Box<Batch>) -> Result<(), Stopped> {
        let reply = self.lanes[shard].slot.reply();
        self.session.node.shards[shard].execute(Execute { batch, reply })
    }

    /// Takes replies of a shard, and lets it go on if it has not executed all.
    async fn receive(&mut self, shard: usize) -> Result<(), Stopped> {
        let mut batch = self.lanes[shard].slot.receive().await?;
        for index in 0..batch.ends.len() {
            let (routed, start) = batch.replied(index);
            let reply = &batch.replies.as_bytes()[start..batch.ends[index]];
            if !reply.is_empty() {
                self.lanes[shard].replies.push(reply);
                continue;
            }
            let args = routed.args(&self.requests);
            let error = slots::refused(&mut self.session, routed.command, args);
            self.session.node.errors.count(&error);
            let mut reply = ReplyBuffer::new(self.session.version);
            error.write(&mut reply);
            self.lanes[shard].replies.push(reply.as_bytes());
        }
        self.reply_bytes += batch.replies.len();
        if batch.is_done() {
            return Ok(());
        }
        if self.reply_bytes >= FORWARD_REPLY_BYTES_MAX {
            let rest = batch.commands.len() - batch.executed;
            (0..rest).for_each(|_| self.lanes[shard].replies.push(NOT_EXECUTED));
            return Ok(());
        }
        batch.clear_replies();
        self.send(shard, batch)
    }
}
