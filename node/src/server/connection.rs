//! One connection: bytes to requests, requests to shards, replies back in order.
//!
//! A plain task on the arbiter of some shard. It reads all the bytes there are, sends each shard
//! one message with all its commands of this turn, and writes all replies with one call.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::BytesMut;
use distcache_protocol::error::ProtocolError;
use distcache_protocol::resp::{ArgRange, DecodeLimits, Decoded, ReplyBuffer, RequestDecoder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::coordinate::{Origin, run_on_keys};
use super::dispatch::{self, Route};
use super::session::{Replies, Session};
use crate::actors::shard::Stopped;
use crate::clock::{self, Ticks};
use crate::command::{Args, Command, Flags, Run};
use crate::limits::{
    BATCH_COMMANDS_MAX, READ_BUFFER_BYTES, READ_GROWTH_BYTES_MAX, REPLY_BUFFER_KEPT_BYTES,
};
use crate::shard::batch::Batch;

/// A connection and all that belongs to it.
pub struct Connection {
    stream: TcpStream,
    session: Session,
    input: BytesMut,
    decoder: RequestDecoder,
    /// Lower bound of the bytes that the unfinished request still needs.
    missing: usize,
    /// Arguments of the requests decoded in this turn.
    args: Vec<ArgRange>,
    /// Index behind the last argument of each of those requests.
    requests: Vec<u32>,
    /// What this turn has for each shard.
    #[expect(clippy::vec_box, reason = "a batch travels in its message by its box")]
    batches: Vec<Box<Batch>>,
    /// Shards of the commands in `batches`, in request order; not used with one shard.
    order: Vec<u16>,
    output: ReplyBuffer,
}

impl Connection {
    /// Returns the connection of a socket.
    pub fn new(stream: TcpStream, session: Session) -> Self {
        let shards = session.node.shards.len();
        Connection {
            stream,
            session,
            input: BytesMut::new(),
            decoder: RequestDecoder::default(),
            missing: 1,
            args: Vec::new(),
            requests: Vec::new(),
            batches: (0..shards).map(|_| Box::default()).collect(),
            order: Vec::new(),
            output: ReplyBuffer::default(),
        }
    }

    /// Serves the client until it leaves or must leave.
    ///
    /// # Errors
    /// What the socket reported.
    pub async fn serve(mut self) -> io::Result<()> {
        loop {
            self.reserve();
            let read = self.stream.read_buf(&mut self.input).await?;
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

    /// Makes room for what is expected, in bounded steps: what a client announces costs nothing,
    /// and what it has sent costs half as much again.
    fn reserve(&mut self) {
        let arrived = self.input.len();
        let room = self.input.capacity() - arrived;
        if arrived < READ_BUFFER_BYTES {
            // Half a command in the buffer is no reason to double it.
            if room < READ_BUFFER_BYTES / 4 {
                self.input.reserve(READ_BUFFER_BYTES);
            }
            return;
        }
        if room < self.missing.min(READ_BUFFER_BYTES) {
            let step = self.missing.min(READ_GROWTH_BYTES_MAX).min(arrived / 2);
            // Growing in place would double the buffer.
            let mut grown = BytesMut::with_capacity(arrived + step.max(READ_BUFFER_BYTES));
            grown.extend_from_slice(&self.input);
            self.input = grown;
        }
    }

    /// Tells others what has arrived: a few stores, as this is the request path.
    #[inline]
    fn begin(&mut self, read: usize) -> io::Result<()> {
        self.session.refresh();
        self.session.counters().input_bytes.add(read as u64);
        let client = self.session.client();
        client.busy.store(true, Relaxed);
        client.active.store(clock::now().0, Relaxed);
        client.input_bytes.store(self.input.len(), Relaxed);
        client.input_capacity.store(self.input.capacity(), Relaxed);
        if self.input.len() as u64 > self.session.config.query_buffer_max_bytes {
            self.session.node.counters.input_limit_closed.fetch_add(1, Relaxed);
            return Err(io::Error::other("client-query-buffer-limit"));
        }
        Ok(())
    }

    /// Tells others that all which has arrived is answered.
    #[inline]
    fn end(&self) {
        let client = self.session.client();
        client.input_bytes.store(self.input.len(), Relaxed);
        client.busy.store(false, Relaxed);
    }

    /// Executes the complete requests in the buffer. Returns whether there may be more of them.
    async fn turn(&mut self) -> io::Result<bool> {
        let (consumed, outcome) = self.decode();
        if consumed > 0 {
            self.execute(consumed).await?;
        }
        if let Err(error) = &outcome {
            self.output.error(&format!("ERR {error}"));
            self.session.closing = true;
        }
        self.flush().await?;
        Ok(outcome.unwrap_or(false))
    }

    /// Decodes requests; returns the bytes they took, and whether the limit ended the turn.
    fn decode(&mut self) -> (usize, Result<bool, ProtocolError>) {
        let limits = DecodeLimits {
            bulk_bytes_max: self.session.config.proto_bulk_max_bytes,
            authenticated: self.session.authenticated,
        };
        self.args.clear();
        self.requests.clear();
        let mut base = 0;
        while self.requests.len() < BATCH_COMMANDS_MAX {
            match self.decoder.decode(&mut self.input, base, &mut self.args, &limits) {
                Ok(Decoded::Request { consumed }) => {
                    base += consumed;
                    let end = self.args.len() as u32;
                    if self.requests.last().copied().unwrap_or(0) != end {
                        self.requests.push(end);
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

    async fn execute(&mut self, consumed: usize) -> io::Result<()> {
        let input = self.input.split_to(consumed).freeze();
        let requests = std::mem::take(&mut self.requests);
        let args = std::mem::take(&mut self.args);
        self.session.counters().commands.add(requests.len() as u64);
        let mut first = 0;
        for &end in &requests {
            let request = &args[first..end as usize];
            first = end as usize;
            if self.is_unusual() {
                self.prepare_unusual(&input, request).await?;
            }
            match dispatch::admit(&self.session, &input, request) {
                Ok((command, Route::Shard(shard))) => {
                    self.session.client().last_command.store(command.index, Relaxed);
                    self.batches[shard as usize].push(command, request);
                    if self.batches.len() > 1 {
                        self.order.push(shard);
                    }
                }
                Ok((command, Route::Here | Route::ManyShards)) => {
                    self.run_batches(&input).await?;
                    self.run_here(command, Args::new(&input, request)).await?;
                }
                Err(error) => {
                    self.run_batches(&input).await?;
                    self.session.node.errors.count(&error);
                    error.write(&mut self.output);
                }
            }
            if self.session.closing {
                break;
            }
            if self.session.replies == Replies::Skip {
                self.run_batches(&input).await?;
                self.output.truncate(0);
                self.session.replies = Replies::On;
            }
        }
        self.run_batches(&input).await?;
        self.requests = requests;
        self.args = args;
        Ok(())
    }

    /// Whether a command cannot simply be run: replies are off, or there is a pause.
    #[inline]
    fn is_unusual(&self) -> bool {
        self.session.replies != Replies::On || self.session.node.pause.is_active()
    }

    /// Waits while there is a pause, and separates the replies that are not for the client from
    /// those that are.
    async fn prepare_unusual(
        &mut self,
        input: &bytes::Bytes,
        request: &[ArgRange],
    ) -> io::Result<()> {
        self.run_batches(input).await?;
        self.flush().await?;
        if self.session.replies == Replies::SkipNext {
            self.session.replies = Replies::Skip;
        }
        let Ok((command, _)) = dispatch::admit(&self.session, input, request) else {
            return Ok(());
        };
        let writes = command.spec.flags.has(Flags::WRITE);
        let client = self.session.client();
        client.blocked.store(true, Relaxed);
        self.session.node.pause.wait(writes).await;
        client.blocked.store(false, Relaxed);
        Ok(())
    }

    /// Runs one command that is not for a single shard, and counts it.
    async fn run_here(&mut self, command: Command, args: Args<'_>) -> io::Result<()> {
        self.session.client().last_command.store(command.index, Relaxed);
        let (before, start) = (self.output.len(), Ticks::now());
        let was_muted = self.session.is_muted();
        let result = match command.spec.run {
            Run::Connection(run) => run(&mut self.session, args, &mut self.output),
            Run::Node(run) => run(&mut self.session, args, &mut self.output).await,
            Run::Keyspace(_) => {
                let Session { database, version, ref node, .. } = self.session;
                let origin = Origin { database, version };
                run_on_keys(node, origin, command, args, &mut self.output).await
            }
            Run::Subcommand => return Ok(()),
        };
        let node = &self.session.node;
        let raw_ticks = Ticks::now().raw_since(start);
        node.commands.executed(command.index, raw_ticks, result.is_err());
        if raw_ticks >= node.monitor.threshold() {
            node.monitor.note(self.session.id, command, args, raw_ticks);
        }
        if let Err(error) = result {
            node.errors.count(&error);
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
    async fn run_batches(&mut self, input: &bytes::Bytes) -> io::Result<()> {
        if self.batches.len() == 1 {
            return self.run_single(input).await;
        }
        if self.order.is_empty() {
            return Ok(());
        }
        self.run_many(input).await
    }

    /// The case of one shard: replies come in request order already.
    async fn run_single(&mut self, input: &bytes::Bytes) -> io::Result<()> {
        if self.batches[0].is_empty() {
            return Ok(());
        }
        self.prepare(0, input);
        loop {
            let reply = self.send(0).await?;
            self.batches[0] = reply.await.map_err(|_| Stopped)?;
            if self.output.is_empty() {
                std::mem::swap(&mut self.output, &mut self.batches[0].replies);
            } else {
                self.output.raw(self.batches[0].replies.as_bytes());
            }
            if self.batches[0].is_done() {
                break;
            }
            self.flush().await?;
            self.batches[0].clear_replies();
        }
        self.batches[0].reset(self.session.version);
        Ok(())
    }

    /// The case of several shards: all work at once, and replies are put in request order.
    async fn run_many(&mut self, input: &bytes::Bytes) -> io::Result<()> {
        let mut replies = Vec::with_capacity(self.batches.len());
        for shard in 0..self.batches.len() {
            if self.batches[shard].is_empty() {
                replies.push(None);
                continue;
            }
            self.prepare(shard, input);
            replies.push(Some(self.send(shard).await?));
        }
        // Replies of each shard that are in the output already.
        let mut taken = vec![0; self.batches.len()];
        for shard in std::mem::take(&mut self.order) {
            let shard = shard as usize;
            if let Some(reply) = replies[shard].take() {
                self.batches[shard] = reply.await.map_err(|_| Stopped)?;
            }
            while taken[shard] == self.batches[shard].ends.len() {
                self.flush().await?;
                self.batches[shard].clear_replies();
                taken[shard] = 0;
                let reply = self.send(shard).await?;
                self.batches[shard] = reply.await.map_err(|_| Stopped)?;
            }
            let batch = &self.batches[shard];
            let start = taken[shard].checked_sub(1).map_or(0, |last| batch.ends[last] as usize);
            let end = batch.ends[taken[shard]] as usize;
            self.output.raw(&batch.replies.as_bytes()[start..end]);
            taken[shard] += 1;
        }
        for batch in &mut self.batches {
            batch.reset(self.session.version);
        }
        Ok(())
    }

    fn prepare(&mut self, shard: usize, input: &bytes::Bytes) {
        let batch = &mut self.batches[shard];
        batch.input = input.clone();
        batch.database = self.session.database;
        batch.touching = self.session.touching;
        batch.client = self.session.id;
        batch.replies.set_version(self.session.version);
    }

    /// Sends a shard its batch, and returns where it will come back.
    async fn send(&mut self, shard: usize) -> Result<oneshot::Receiver<Box<Batch>>, Stopped> {
        let batch = std::mem::take(&mut self.batches[shard]);
        self.session.node.shards[shard].execute(batch).await
    }

    /// Writes all replies so far, or forgets them if the client wants none.
    async fn flush(&mut self) -> io::Result<()> {
        if self.session.is_muted() {
            self.output.truncate(0);
            return Ok(());
        }
        self.write().await
    }

    async fn write(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        let bytes = self.output.len();
        self.session.counters().output_bytes.add(bytes as u64);
        self.session.client().output_bytes.store(bytes, Relaxed);
        let hard_limit = self.session.config.output_limits.normal.hard_bytes;
        if hard_limit > 0 && bytes as u64 > hard_limit {
            self.session.node.counters.output_limit_closed.fetch_add(1, Relaxed);
            return Err(io::Error::other("client-output-buffer-limit"));
        }
        self.stream.write_all(self.output.as_bytes()).await?;
        self.session.client().written();
        if self.output.capacity() > REPLY_BUFFER_KEPT_BYTES {
            self.output = ReplyBuffer::new(self.session.version);
        }
        self.output.truncate(0);
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.session.client().output_bytes.load(Relaxed) > 0 {
            // The client does not read: without a reset the system would keep what it did not
            // take, and the client would never learn that the connection has ended.
            let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}
