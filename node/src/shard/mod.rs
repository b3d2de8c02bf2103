//! One shard: the commands of its keys, executed one batch after the other.
//!
//! [`ShardState`] is what the shard actor owns. It knows nothing of actors: a batch goes in, its
//! replies come out, and effects are left in the keyspace's journal.
//!
//! - [`batch`]: the commands of one connection for one shard, and their replies.

pub mod batch;

use distcache_protocol::resp::ReplyBuffer;

use crate::clock::{self, Ticks};
use crate::command::{Args, Command, CommandError, Flags, Run, TABLE};
use crate::keyspace::Keyspace;
use batch::Batch;

/// Counters of one command, for `INFO commandstats`.
#[derive(Debug, Clone, Copy, Default)]
pub struct CommandStats {
    /// Times it was executed.
    pub calls: u64,
    /// Time it took, in steps of [`Ticks`].
    pub raw_ticks: u64,
    /// Times it was refused before it was executed.
    pub rejected: u64,
    /// Times it answered with an error.
    pub failed: u64,
}

/// What a shard owns.
pub struct ShardState {
    /// The keys.
    pub keyspace: Keyspace,
    /// Counters by the command's index in the table.
    pub commands: Vec<CommandStats>,
}

impl ShardState {
    /// Returns a shard with these keys.
    pub fn new(keyspace: Keyspace) -> Self {
        ShardState { keyspace, commands: vec![CommandStats::default(); TABLE.len()] }
    }

    /// Executes the commands of a batch that have not been executed yet, until they are done or
    /// the replies are large enough to be written first.
    pub fn execute(&mut self, batch: &mut Batch) {
        self.keyspace.begin(clock::now(), batch.database);
        self.keyspace.set_touching(batch.touching);
        let mut start = Ticks::now();
        while let Some(routed) = batch.commands.get(batch.executed) {
            let ranges = &batch.args[routed.first as usize..][..routed.count as usize];
            let args = Args::new(&batch.input, ranges);
            self.run(routed.command, args, &mut batch.replies);
            batch.ends.push(batch.replies.len() as u32);
            batch.executed += 1;
            start = self.account(routed.command, start);
            if batch.replies.len() >= crate::limits::BATCH_REPLY_BYTES_MAX {
                break;
            }
        }
    }

    #[inline]
    fn run(&mut self, command: Command, args: Args<'_>, replies: &mut ReplyBuffer) {
        let Run::Keyspace(run) = command.spec.run else {
            unreachable!("only commands that run on keys are sent to shards")
        };
        let before = replies.len();
        let result = match self.refusal(command) {
            Some(error) => Err(error),
            None => run(&mut self.keyspace, args, replies),
        };
        if let Err(error) = result {
            replies.truncate(before);
            error.write(replies);
            self.commands[command.index as usize].failed += 1;
        }
    }

    /// Why this shard may not execute a command now.
    #[inline]
    fn refusal(&self, command: Command) -> Option<CommandError> {
        let _ = command.spec.flags.has(Flags::DENY_OOM);
        None
    }

    /// Counts a command that ends now, and returns the time.
    #[inline]
    fn account(&mut self, command: Command, start: Ticks) -> Ticks {
        let end = Ticks::now();
        let stats = &mut self.commands[command.index as usize];
        stats.calls += 1;
        stats.raw_ticks += end.raw_since(start);
        end
    }
}
