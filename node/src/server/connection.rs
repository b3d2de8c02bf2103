//! One connection: bytes to requests, requests to shards, replies back in order.
//!
//! A plain task on the arbiter of some shard. It reads all the bytes there are, sends each shard
//! one message with all its commands of this turn, and writes all replies with one call.

mod answers;

use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;

use distcache_protocol::error::ProtocolError;
use distcache_protocol::resp::{DecodeLimits, Decoded, ReplyBuffer, RequestDecoder};

use super::blocked::{Blocked, unless_gone};
use super::coordinate::run_on_keys;
use super::dispatch::{self, Route};
use super::forward::outgoing::Outgoing;
use super::forward::{self, follow, spread};
use super::input;
use super::listen::Access;
use super::session::{Replies, Session};
use super::slots;
use super::socket::Socket;
use crate::actors::shard::{Execute, ReplySlot, Stopped};
use crate::clock::Ticks;
use crate::cluster::table::NodeId;
use crate::command::{Command, CommandError, Flags, Run};
use crate::limits::{
    BATCH_COMMANDS_MAX, BATCH_REPLY_BYTES_MAX, READ_BUFFER_BYTES, REPLY_BUFFER_KEPT_BYTES,
};
use crate::monitor::Caller;
use crate::shard::batch::{Batch, Requests, Source};

/// A connection and all that belongs to it.
pub struct Connection {
    socket: Socket,
    session: Session,
    /// What has arrived, and the arguments of the requests decoded in this turn. The shards have
    /// it while they execute them.
    input: Requests,
    decoder: RequestDecoder,
    /// Lower bound of the bytes that the unfinished request still needs.
    missing: usize,
    /// The most that was in the buffer since it was last asked whether all of it is needed.
    input_peak: usize,
    /// Bytes of the buffers that are counted in the node's memory.
    held_bytes: usize,
    /// Index behind the last argument of each of this turn's requests.
    ends: Vec<u32>,
    /// The ways to the shards, in their order; made by the task that serves the client.
    lanes: Vec<Lane>,
    /// Shards of the commands in `lanes`, in request order; not used with one shard.
    order: Vec<u16>,
    /// Commands of this turn for other nodes.
    outgoing: Outgoing,
    output: ReplyBuffer,
}

/// A connection's way to a shard and back.
struct Lane {
    /// What this turn has for the shard; `None` before the first, and while the shard has it.
    batch: Option<Box<Batch>>,
    slot: ReplySlot,
}

impl Lane {
    fn is_used(&self) -> bool {
        self.batch.as_ref().is_some_and(|batch| !batch.is_empty())
    }
}

impl Connection {
    /// Returns the connection of a socket.
    pub fn new(socket: Socket, session: Session) -> Self {
        Connection {
            socket,
            session,
            input: Requests::default(),
            decoder: RequestDecoder::default(),
            missing: 1,
            input_peak: 0,
            held_bytes: 0,
            ends: Vec::new(),
            lanes: Vec::new(),
            order: Vec::new(),
            outgoing: Outgoing::default(),
            output: ReplyBuffer::default(),
        }
    }

    /// Serves the client until it leaves or must leave.
    ///
    /// # Errors
    /// What the socket reported.
    pub async fn serve(mut self) -> io::Result<()> {
        let waker = poll_fn(|context| Poll::Ready(context.waker().clone())).await;
        let lane = |_: &_| Lane { batch: None, slot: ReplySlot::new(waker.clone()) };
        self.lanes = self.session.node.shards.iter().map(lane).collect();
        self.session.client().woken_by(waker);
        loop {
            let read = self.read().await?;
            if read == 0 {
                return Ok(());
            }
            self.begin(read)?;
            loop {
                let more = self.turn().await?;
                if self.session.closing {
                    return Ok(());
                }
                if !more {
                    break;
                }
            }
            self.end();
        }
    }

    /// Reads what has arrived, all of it that fits; 0 bytes when the client sends no more.
    async fn read(&mut self) -> io::Result<usize> {
        loop {
            poll_fn(|context| {
                if self.session.client().must_release() {
                    self.release();
                }
                self.socket.poll_readable(context)
            })
            .await?;
            input::reserve(&mut self.input.bytes, self.missing);
            if let Some(read) = self.socket.try_read(&mut self.input.bytes)? {
                return Ok(read);
            }
        }
    }

    /// Gives back the memory that only a client needs which has much to say; all of it, if this one
    /// is silent. Called once a second at most.
    #[cold]
    fn release(&mut self) {
        let peak = std::mem::take(&mut self.input_peak);
        let is_silent = self.session.client().is_silent();
        if !is_silent && peak >= self.input.bytes.capacity() / 2 {
            return;
        }
        input::shrink(&mut self.input);
        self.decoder.shrink();
        if !is_silent {
            input::reserve(&mut self.input.bytes, self.missing);
        }
        self.ends = Vec::new();
        self.order = Vec::new();
        self.lanes.iter_mut().for_each(|lane| lane.batch = None);
        self.output = ReplyBuffer::new(self.session.version);
        self.session.client().input_capacity.store(self.input.bytes.capacity(), Relaxed);
        self.hold_memory();
    }

    /// Counts the buffers in the node's memory. Small changes of the replies' buffer are not
    /// worth it, as that changes places with the one of a batch.
    #[inline]
    fn hold_memory(&mut self) {
        let output = self.output.capacity();
        let output = if output < READ_BUFFER_BYTES { 0 } else { output };
        let bytes = self.input.bytes.capacity() + output;
        if bytes != self.held_bytes {
            self.session.node.memory.change_clients(self.held_bytes, bytes);
            self.held_bytes = bytes;
        }
    }

    /// Tells others what has arrived: a few stores, as this is the request path.
    #[inline]
    fn begin(&mut self, read: usize) -> io::Result<()> {
        self.session.refresh();
        self.session.unreached.clear();
        self.session.counters().input_bytes.add(read as u64);
        let client = self.session.client();
        client.busy.store(true, Relaxed);
        client.active.touch();
        let arrived = self.input.bytes.len();
        client.input_bytes.store(arrived, Relaxed);
        self.input_peak = self.input_peak.max(arrived);
        client.input_capacity.store(self.input.bytes.capacity(), Relaxed);
        self.hold_memory();
        if input::is_too_much(arrived, self.session.config.query_buffer_max_bytes) {
            self.session.node.counters.input_limit_closed.fetch_add(1, Relaxed);
            return Err(io::Error::other("client-query-buffer-limit"));
        }
        Ok(())
    }

    /// Tells others that all which has arrived is answered.
    #[inline]
    fn end(&self) {
        let client = self.session.client();
        client.input_bytes.store(self.input.bytes.len(), Relaxed);
        client.busy.store(false, Relaxed);
    }

    /// Executes the complete requests in the buffer. Returns whether there may be more of them.
    async fn turn(&mut self) -> io::Result<bool> {
        let (consumed, outcome) = self.decode();
        if consumed > 0 {
            self.execute().await?;
            input::forget(&mut self.input, consumed);
        }
        // What comes behind `QUIT` is not looked at.
        if let Err(error) = outcome.as_ref()
            && !self.session.closing
        {
            self.output.error_bytes(&[b"ERR ", &error.text()[..]].concat());
            self.session.closing = true;
        }
        self.flush().await?;
        Ok(outcome.unwrap_or(false))
    }

    /// Decodes requests; returns the bytes they took, and whether the limit ended the turn.
    fn decode(&mut self) -> (usize, Result<bool, ProtocolError>) {
        let limits = DecodeLimits {
            bulk_bytes_max: self.session.config.proto_bulk_max_bytes,
            authenticated: self.session.may_run(),
        };
        // What comes behind a password is read once that is known to be right.
        let most = if limits.authenticated { BATCH_COMMANDS_MAX } else { 1 };
        self.ends.clear();
        let Requests { bytes, args } = &mut self.input;
        let mut base = 0;
        while self.ends.len() < most {
            match self.decoder.decode(bytes, base, args, &limits) {
                Ok(Decoded::Request { consumed }) => {
                    base += consumed;
                    let end = args.len() as u32;
                    if self.ends.last().copied().unwrap_or(0) != end {
                        self.ends.push(end);
                    }
                }
                Ok(Decoded::Incomplete { missing }) => {
                    self.missing = missing;
                    return (base, Ok(false));
                }
                Err(error) => return (base, Err(error)),
            }
        }
        (base, Ok(true))
    }

    /// Executes the requests that were decoded.
    async fn execute(&mut self) -> io::Result<()> {
        self.session.counters().commands.add(self.ends.len() as u64);
        let mut first = 0;
        for index in 0..self.ends.len() {
            let end = self.ends[index] as usize;
            let request = first..end;
            first = end;
            if self.is_unusual() {
                self.prepare_unusual(request.clone()).await?;
            }
            match dispatch::admit(&self.session, self.input.request(request.clone())) {
                Ok((command, Route::Shard(shard))) => {
                    self.session.client().last_command.store(command.index, Relaxed);
                    let lane = &mut self.lanes[shard as usize];
                    lane.batch.get_or_insert_default().push(command, request);
                    if self.lanes.len() > 1 || self.session.minds_slots {
                        self.order.push(shard);
                    }
                }
                Ok((command, Route::OnNode(node))) => {
                    self.push_outgoing(node, command, request);
                    if self.outgoing.is_full() {
                        self.run_batches().await?;
                    }
                }
                Ok((command, route)) => {
                    self.run_batches().await?;
                    if matches!(command.spec.run, Run::Node(_)) {
                        // It may wait for long, and nobody is to wait for it.
                        self.flush().await?;
                    }
                    self.run_here(command, request, route == Route::ManyNodes).await?;
                    self.flush_many().await?;
                }
                Err(error) => {
                    self.run_batches().await?;
                    self.answer_unadmitted(request, error).await;
                }
            }
            if self.session.closing {
                break;
            }
            if self.session.replies == Replies::Skip {
                self.run_batches().await?;
                self.output.truncate(0);
                self.session.replies = Replies::On;
            }
        }
        self.run_batches().await
    }

    /// Whether a command cannot simply be run: replies are off, or there is a pause.
    #[inline]
    fn is_unusual(&self) -> bool {
        self.session.replies != Replies::On || self.session.node.pause.is_active()
    }

    /// Waits while there is a pause, and separates the replies that are not for the client from
    /// those that are.
    async fn prepare_unusual(&mut self, request: Range<usize>) -> io::Result<()> {
        self.run_batches().await?;
        self.flush().await?;
        if self.session.replies == Replies::SkipNext {
            self.session.replies = Replies::Skip;
        }
        let admitted = dispatch::admit(&self.session, self.input.request(request));
        let Ok((command, _)) = admitted else { return Ok(()) };
        let writes = command.spec.flags.has(Flags::WRITE);
        let client = self.session.client();
        let _blocked = Blocked::new(client);
        unless_gone(client, &self.socket, self.session.node.pause.wait(writes)).await
    }

    /// Runs one command that is not for a single shard or node, and counts it.
    async fn run_here(
        &mut self,
        command: Command,
        request: Range<usize>,
        is_spread: bool,
    ) -> io::Result<()> {
        let args = self.input.request(request);
        self.session.client().last_command.store(command.index, Relaxed);
        let (before, start) = (self.output.len(), Ticks::now());
        let was_muted = self.session.is_muted();
        let result = match command.spec.run {
            _ if is_spread => {
                let client = self.session.client().clone();
                let run = spread::run(&mut self.session, command, args, &mut self.output);
                unless_gone(&client, &self.socket, run).await?
            }
            Run::Connection(run) => run(&mut self.session, args, &mut self.output),
            Run::Node(run) => {
                let client = self.session.client().clone();
                let run = run(&mut self.session, args, &mut self.output);
                unless_gone(&client, &self.socket, run).await?
            }
            Run::Keyspace(_) => {
                let (origin, node) = (self.session.origin(), &self.session.node);
                run_on_keys(node, origin, command, args, &mut self.output).await
            }
            Run::Subcommand => return Ok(()),
        };
        let follows = self.session.access == Access::Any && result == Err(slots::try_again());
        let result = if follows {
            // Its keys, or some of them, have moved meanwhile, or do so at this moment.
            self.output.truncate(before);
            let client = self.session.client().clone();
            let follow = follow(&mut self.session, command, args, &mut self.output);
            unless_gone(&client, &self.socket, follow).await?;
            Ok(())
        } else {
            result
        };
        if let Err(CommandError::Refused(_)) = result {
            self.session.node.commands.rejected(command.index);
        } else {
            self.session.note_run(command, args, start, result.is_err());
        }
        if let Err(error) = result {
            self.session.node.errors.count(&error);
            self.output.truncate(before);
            error.write(&mut self.output);
        }
        self.output.set_version(self.session.version);
        if self.session.aborted {
            return Err(io::Error::other("the client is no client of this protocol"));
        }
        if !was_muted && self.session.is_muted() {
            // The replies so far are for the client still.
            self.write().await?;
        }
        Ok(())
    }

    /// Sends the commands collected so far to their shards, and adds their replies to the output.
    async fn run_batches(&mut self) -> io::Result<()> {
        if !self.outgoing.is_empty() {
            return self.run_many().await;
        }
        let mut used = (0..self.lanes.len()).filter(|&shard| self.lanes[shard].is_used());
        match (used.next(), used.next()) {
            (None, _) => Ok(()),
            (Some(shard), None) => self.run_one(shard).await,
            (Some(_), Some(_)) => self.run_many().await,
        }
    }

    /// The case of one shard: replies come in request order already.
    async fn run_one(&mut self, shard: usize) -> io::Result<()> {
        let Some(mut batch) = self.lanes[shard].batch.take() else { return Ok(()) };
        batch.requests = Source::Own(std::mem::take(&mut self.input));
        self.prepare(&mut batch);
        loop {
            self.send(shard, batch)?;
            batch = self.lanes[shard].slot.receive().await?;
            if batch.refused {
                for index in 0..batch.ends.len() {
                    self.add_reply(&batch, index).await?;
                    self.flush_many().await?;
                }
            } else if self.output.is_empty() {
                std::mem::swap(&mut self.output, &mut batch.replies);
            } else {
                self.output.raw(batch.replies.as_bytes());
            }
            if batch.is_done() {
                break;
            }
            self.flush().await?;
            batch.clear_replies();
        }
        self.take_home(shard, batch);
        self.order.clear();
        Ok(())
    }

    /// The case of several shards: all work at once, and replies are put in request order.
    async fn run_many(&mut self) -> io::Result<()> {
        let input = Arc::new(std::mem::take(&mut self.input));
        for shard in 0..self.lanes.len() {
            if let Some(mut batch) = self.lanes[shard].batch.take_if(|batch| !batch.is_empty()) {
                batch.requests = Source::Shared(input.clone());
                self.prepare(&mut batch);
                self.send(shard, batch)?;
            }
        }
        self.outgoing.send(&self.session);
        // Replies of each shard that are in the output already.
        let mut taken = vec![0; self.lanes.len()];
        let order = std::mem::take(&mut self.order);
        for shard in order.iter().map(|&shard| shard as usize) {
            if shard >= self.lanes.len() {
                self.add_outgoing_reply(shard - self.lanes.len(), &input).await?;
                self.flush_many().await?;
                continue;
            }
            let mut batch = match self.lanes[shard].batch.take() {
                Some(batch) => batch,
                None => self.lanes[shard].slot.receive().await?,
            };
            while taken[shard] == batch.ends.len() {
                self.flush().await?;
                batch.clear_replies();
                taken[shard] = 0;
                self.send(shard, batch)?;
                batch = self.lanes[shard].slot.receive().await?;
            }
            self.add_reply(&batch, taken[shard]).await?;
            taken[shard] += 1;
            self.lanes[shard].batch = Some(batch);
            self.flush_many().await?;
        }
        for shard in 0..self.lanes.len() {
            if let Some(batch) = self.lanes[shard].batch.take_if(|batch| !batch.is_empty()) {
                self.take_home(shard, batch);
            }
        }
        self.order = order;
        self.order.clear();
        self.outgoing.clear();
        // The last one who has them: the batches are at home.
        if let Some(requests) = Arc::into_inner(input) {
            self.input = requests;
        }
        Ok(())
    }

    /// Collects a command for another node. In `order` nodes come behind the shards.
    fn push_outgoing(&mut self, node: NodeId, command: Command, request: Range<usize>) {
        self.session.client().last_command.store(command.index, Relaxed);
        let header = forward::Header::of(&self.session);
        let args = self.input.request(request.clone());
        let target = self.outgoing.push(node, header, (command, request), args);
        self.order.push((self.lanes.len() + target) as u16);
    }

    /// Takes a batch and its requests back, once all its commands are executed.
    fn take_home(&mut self, shard: usize, mut batch: Box<Batch>) {
        if let Some(input) = batch.reset(self.session.version) {
            self.input = input;
        }
        self.lanes[shard].batch = Some(batch);
    }

    fn prepare(&self, batch: &mut Batch) {
        batch.database = self.session.database;
        batch.touching = self.session.touching;
        batch.caller = Caller::Client(self.session.id);
        batch.replies.set_version(self.session.version);
    }

    fn send(&self, shard: usize, batch: Box<Batch>) -> Result<(), Stopped> {
        let reply = self.lanes[shard].slot.reply();
        self.session.node.shards[shard].execute(Execute { batch, reply })
    }

    /// Writes all replies so far, or forgets them if the client wants none.
    async fn flush(&mut self) -> io::Result<()> {
        if self.session.is_muted() {
            self.output.truncate(0);
            return Ok(());
        }
        self.write().await
    }

    /// Writes the replies so far if they are many: what a turn collects is bounded, whoever has
    /// run its commands.
    async fn flush_many(&mut self) -> io::Result<()> {
        if self.output.len() < BATCH_REPLY_BYTES_MAX {
            return Ok(());
        }
        self.flush().await
    }

    async fn write(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        let bytes = self.output.len();
        self.session.counters().output_bytes.add(bytes as u64);
        self.hold_memory();
        // Until now it waited for the node; from now on the node waits for it.
        let client = self.session.client();
        client.active.touch();
        client.output_bytes.store(bytes, Relaxed);
        let hard_limit = self.session.config.output_limits.normal.hard_bytes;
        if hard_limit > 0 && bytes as u64 > hard_limit {
            self.session.node.counters.output_limit_closed.fetch_add(1, Relaxed);
            return Err(io::Error::other("client-output-buffer-limit"));
        }
        self.socket.write(self.output.as_bytes(), || client.active.touch()).await?;
        client.written();
        if self.output.capacity() > REPLY_BUFFER_KEPT_BYTES {
            self.output = ReplyBuffer::new(self.session.version);
        }
        self.output.truncate(0);
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.session.node.memory.change_clients(self.held_bytes, 0);
        if self.session.client().output_bytes.load(Relaxed) > 0 {
            // The client does not read: without a reset the system would keep what it did not
            // take, and the client would never learn that the connection has ended.
            let _ = self.socket.reset_on_close();
        }
    }
}
