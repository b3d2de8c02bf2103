//! The commands of one connection for one shard, and their replies.

use bytes::Bytes;
use distcache_protocol::resp::{ArgRange, ReplyBuffer, RespVersion};

use crate::command::{Command, Flags, Keys};
use crate::keyspace::Keyspace;
use crate::keyspace::warm::Hint;
use crate::limits::{BATCH_REPLY_BYTES_MAX, REPLY_BUFFER_KEPT_BYTES};

/// One command of a batch: where its arguments are among the batch's.
#[derive(Debug, Clone, Copy)]
pub struct Routed {
    /// The command.
    pub command: Command,
    /// Index of its first argument (its name).
    pub first: u32,
    /// Number of its arguments.
    pub count: u32,
}

/// All that a connection has for a shard in one turn. Travels to the shard and back, so that its
/// allocations serve again.
#[derive(Debug, Default)]
pub struct Batch {
    /// The bytes that the arguments are ranges of.
    pub input: Bytes,
    /// Arguments of all commands.
    pub args: Vec<ArgRange>,
    /// The commands in the order they came.
    pub commands: Vec<Routed>,
    /// Database that they run in.
    pub database: u8,
    /// Whether they update access clocks.
    pub touching: bool,
    /// Connection that sent them.
    pub client: u64,
    /// Number of commands executed so far.
    pub executed: usize,
    /// Where the first keys of the first commands live.
    pub hints: Vec<Hint>,
    /// Replies since the batch was last sent.
    pub replies: ReplyBuffer,
    /// Where each of those replies ends.
    pub ends: Vec<u32>,
}

impl Batch {
    /// Whether there is no command.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Adds a command; its arguments are ranges of the input that is set when it is sent.
    #[inline]
    pub fn push(&mut self, command: Command, args: &[ArgRange]) {
        self.commands.push(Routed {
            command,
            first: self.args.len() as u32,
            count: args.len() as u32,
        });
        self.args.extend_from_slice(args);
    }

    /// Whether all commands are executed.
    pub fn is_done(&self) -> bool {
        self.executed == self.commands.len()
    }

    /// Whether execution ended before the next command because that must wait.
    pub fn is_blocked(&self) -> bool {
        !self.is_done() && self.replies.len() < BATCH_REPLY_BYTES_MAX
    }

    /// Finds out where the first keys of the next commands live, of `most` at most that have no
    /// hint yet.
    pub fn add_hints(&mut self, keyspace: &Keyspace, most: usize) {
        debug_assert!(self.hints.len() >= self.executed, "a hint's index is its command's");
        for routed in self.commands[self.hints.len()..].iter().take(most) {
            let Keys::Range { first, .. } = routed.command.spec.keys else { return };
            let key = self.args[routed.first as usize + first as usize].of(&self.input);
            self.hints.push(keyspace.hint(self.database, key));
        }
    }

    /// The keys of the next command.
    pub fn next_keys(&self) -> impl Iterator<Item = &[u8]> {
        self.commands.get(self.executed).into_iter().flat_map(|routed| {
            let args = &self.args[routed.first as usize..][..routed.count as usize];
            let keys = routed.command.spec.keys.indices(args.len());
            keys.map(|index| args[index].of(&self.input))
        })
    }

    /// Replaces the replies of writes, whose effects are not on disk, by an error.
    pub fn fail_writes(&mut self, error: &str) {
        let replies = std::mem::take(&mut self.replies);
        self.replies.set_version(replies.version());
        let first = self.executed - self.ends.len();
        let mut start = 0;
        for (routed, end) in self.commands[first..].iter().zip(&mut self.ends) {
            let reply = &replies.as_bytes()[start..*end as usize];
            start = *end as usize;
            if routed.command.spec.flags.has(Flags::WRITE) {
                self.replies.error(error);
            } else {
                self.replies.raw(reply);
            }
            *end = self.replies.len() as u32;
        }
    }

    /// Forgets the replies, which have been taken, before the batch is sent on.
    pub fn clear_replies(&mut self) {
        self.replies.truncate(0);
        self.ends.clear();
    }

    /// Empties the batch for its next use.
    pub fn reset(&mut self, version: RespVersion) {
        self.input = Bytes::new();
        self.args.clear();
        self.commands.clear();
        self.executed = 0;
        self.hints.clear();
        self.ends.clear();
        if self.replies.capacity() > REPLY_BUFFER_KEPT_BYTES {
            self.replies = ReplyBuffer::default();
        }
        self.replies.truncate(0);
        self.replies.set_version(version);
    }
}
