//! The commands of one connection for one shard, and their replies.

use std::ops::{Deref, Range};
use std::sync::Arc;

use distcache_protocol::resp::{ArgRange, ReplyBuffer, RespVersion};

use crate::command::{Args, Command, Flags, Keys};
use crate::keyspace::Keyspace;
use crate::keyspace::warm::Hint;
use crate::limits::REPLY_BUFFER_KEPT_BYTES;
use crate::monitor::Caller;

/// What a connection has read.
#[derive(Debug, Default)]
pub struct Requests {
    /// The bytes as they came.
    pub bytes: Vec<u8>,
    /// Where the arguments of the complete requests are in them.
    pub args: Vec<ArgRange>,
}

impl Requests {
    /// The arguments of one request, by their places among all.
    #[inline]
    pub fn request(&self, places: Range<usize>) -> Args<'_> {
        Args::new(&self.bytes, &self.args[places])
    }
}

/// The requests that a batch is made of. They are not copied: they travel with the batch if it has
/// all commands of the turn, and are shared if several batches have them.
#[derive(Debug)]
pub enum Source {
    /// This batch has all commands.
    Own(Requests),
    /// Other batches have some too.
    Shared(Arc<Requests>),
}

impl Source {
    /// Gives the requests back; of those who share them, the last one does.
    pub fn into_inner(self) -> Option<Requests> {
        match self {
            Source::Own(requests) => Some(requests),
            Source::Shared(requests) => Arc::into_inner(requests),
        }
    }
}

impl Default for Source {
    fn default() -> Self {
        Source::Own(Requests::default())
    }
}

impl Deref for Source {
    type Target = Requests;

    #[inline]
    fn deref(&self) -> &Requests {
        match self {
            Source::Own(requests) => requests,
            Source::Shared(requests) => requests,
        }
    }
}

/// One command of a batch: where its arguments are among those of the requests.
#[derive(Debug, Clone, Copy)]
pub struct Routed {
    /// The command.
    pub command: Command,
    /// Index of its first argument (its name).
    pub first: u32,
    /// Number of its arguments.
    pub count: u32,
}

impl Routed {
    /// Its arguments.
    #[inline]
    pub fn args(self, requests: &Requests) -> Args<'_> {
        let first = self.first as usize;
        requests.request(first..first + self.count as usize)
    }
}

/// All that a connection has for a shard in one turn. Travels to the shard and back, so that its
/// allocations serve again.
#[derive(Debug, Default)]
pub struct Batch {
    /// What the commands were decoded from; nothing while the batch is not under way.
    pub requests: Source,
    /// The commands in the order they came.
    pub commands: Vec<Routed>,
    /// Database that they run in.
    pub database: u8,
    /// Whether they update access clocks.
    pub touching: bool,
    /// Who sent them.
    pub caller: Caller,
    /// Number of commands executed so far.
    pub executed: usize,
    /// Where the first keys of the first commands live.
    pub hints: Vec<Hint>,
    /// Replies since the batch was last sent.
    pub replies: ReplyBuffer,
    /// Where each of those replies ends. An empty one is that of a command whose keys this node
    /// does not serve (any more): it was not executed.
    pub ends: Vec<usize>,
    /// Whether there is an empty reply.
    pub refused: bool,
    /// [`LogStatus::failures`](crate::oplog::LogStatus::failures) when the first records behind
    /// these replies went to the log without them.
    pub log_failures: Option<u64>,
}

impl Batch {
    /// Whether there is no command.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// The command whose reply is number `index` of those there are, and where it begins.
    pub fn replied(&self, index: usize) -> (Routed, usize) {
        let first = self.executed - self.ends.len();
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        (self.commands[first + index], start)
    }

    /// Adds a command; its arguments have these places in the requests that are set when the
    /// batch is sent.
    #[inline]
    pub fn push(&mut self, command: Command, args: Range<usize>) {
        let (first, count) = (args.start as u32, args.len() as u32);
        self.commands.push(Routed { command, first, count });
    }

    /// Whether all commands are executed.
    pub fn is_done(&self) -> bool {
        self.executed == self.commands.len()
    }

    /// Finds out where the first keys of the next commands live, of `most` at most that have no
    /// hint yet.
    pub fn add_hints(&mut self, keyspace: &Keyspace, most: usize) {
        debug_assert!(self.hints.len() >= self.executed, "a hint's index is its command's");
        for routed in self.commands[self.hints.len()..].iter().take(most) {
            let Keys::Range { first, .. } = routed.command.spec.keys else { return };
            let key = routed.args(&self.requests).at(first as usize);
            self.hints.push(keyspace.hint(self.database, key));
        }
    }

    /// The keys of the next command.
    pub fn next_keys(&self) -> impl Iterator<Item = &[u8]> {
        self.commands.get(self.executed).into_iter().flat_map(|routed| {
            let args = routed.args(&self.requests);
            routed.command.spec.keys.indices(args.len()).map(move |index| args.at(index))
        })
    }

    /// Replaces the replies of writes, whose effects are not on disk, by an error.
    pub fn fail_writes(&mut self, error: &str) {
        let replies = std::mem::take(&mut self.replies);
        self.replies.set_version(replies.version());
        let first = self.executed - self.ends.len();
        let mut start = 0;
        for (routed, end) in self.commands[first..].iter().zip(&mut self.ends) {
            let reply = &replies.as_bytes()[start..*end];
            start = *end;
            if !reply.is_empty() && routed.command.spec.flags.has(Flags::WRITE) {
                self.replies.error(error);
            } else {
                self.replies.raw(reply);
            }
            *end = self.replies.len();
        }
    }

    /// Forgets the replies, which have been taken, before the batch is sent on.
    pub fn clear_replies(&mut self) {
        self.replies.truncate(0);
        self.ends.clear();
        self.refused = false;
        self.log_failures = None;
    }

    /// Empties the batch for its next use; returns the requests, unless others share them.
    pub fn reset(&mut self, version: RespVersion) -> Option<Requests> {
        self.commands.clear();
        self.executed = 0;
        self.hints.clear();
        self.ends.clear();
        self.refused = false;
        if self.replies.capacity() > REPLY_BUFFER_KEPT_BYTES {
            self.replies = ReplyBuffer::default();
        }
        self.replies.truncate(0);
        self.replies.set_version(version);
        std::mem::take(&mut self.requests).into_inner()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::TABLE;

    #[test]
    fn a_reply_is_found_behind_more_than_4_gib_of_others() {
        let mut batch = Batch::default();
        let command = TABLE.find(b"GET").unwrap();
        (0..3).for_each(|at| batch.push(command, 2 * at..2 * at + 2));
        let first = u32::MAX as usize + 6;
        batch.ends = vec![first, first + 5];
        batch.executed = 2;
        assert_eq!(batch.replied(0).1, 0);
        let (routed, start) = batch.replied(1);
        assert_eq!((routed.first, start), (2, first));
    }
}
