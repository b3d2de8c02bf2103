//! Commands whose keys live on several shards.
//!
//! The coordinator asks the shards, in ascending order, to hold the keys; runs the ordinary
//! command function on a scratch keyspace that has copies of them; writes the records of all
//! shards to the log as one frame; and releases the shards with those records, which each applies
//! to its own keys, and with the uses that were noted on its copies. So such a command is atomic
//! to every other one and in the log, and commands on one shard never pay for it.
//!
//! It runs as a task of its own: the shards must be released even if the client is gone.

use std::collections::HashSet;
use std::sync::Arc;

use distcache_protocol::resp::{ReplyBuffer, RespVersion};
use distcache_protocol::slot::slot_of;
use distcache_recovery::FrameBuilder;
use tokio::sync::oneshot;

use crate::clock;
use crate::command::{Args, Command, CommandError, CommandResult, Flags, Run};
use crate::config::FsyncPolicy;
use crate::keyspace::lend::Use;
use crate::keyspace::{Keyspace, ShardId};
use crate::node::Node;
use crate::records::{Operation, Record};
use crate::shard::holds::{Held, Ticket, Wanted};

/// A scratch keyspace is laid out as one of as many shards as there are partitions: it has the
/// fewest tables, and keys of other partitions fit in them as well.
const SCRATCH: ShardId = ShardId { index: 0, count: 1024 };

/// What a coordinated command needs to know of its connection.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    /// Selected database.
    pub database: u8,
    /// Protocol version of the reply.
    pub version: RespVersion,
    /// Whether it updates access clocks.
    pub touching: bool,
}

/// Runs a command whose keys live on several shards, and appends its reply.
///
/// Costs two messages for each shard involved, and copies of the keys' values.
///
/// # Errors
/// The command's, a shard's refusal, or the log's; nothing is appended then.
pub async fn run_on_keys(
    node: &Arc<Node>,
    origin: Origin,
    command: Command,
    args: Args<'_>,
    reply: &mut ReplyBuffer,
) -> CommandResult {
    let (input, ranges) = args.to_owned_parts();
    let node = node.clone();
    let task = tokio::spawn(async move {
        let args = Args::new(&input, &ranges);
        let mut reply = ReplyBuffer::new(origin.version);
        on_keys(&node, origin, command, args, &mut reply).await.map(|()| reply)
    });
    let done = task.await.unwrap_or_else(|error| Err(CommandError::err(error)))?;
    reply.raw(done.as_bytes());
    Ok(())
}

async fn on_keys(
    node: &Arc<Node>,
    origin: Origin,
    command: Command,
    args: Args<'_>,
    reply: &mut ReplyBuffer,
) -> CommandResult {
    let Run::Keyspace(run) = command.spec.run else {
        unreachable!("only commands that run on keys are coordinated")
    };
    let mut keys: Vec<Vec<&[u8]>> = vec![Vec::new(); node.shards.len()];
    let mut named = HashSet::new();
    for index in command.spec.keys.indices(args.len()) {
        let key = args.at(index);
        let shard = ShardId::owner_of(slot_of(key), node.shards.len() as u16);
        if named.insert(key) {
            keys[shard as usize].push(key);
        }
    }
    let values = !command.spec.flags.has(Flags::KEYS_ONLY);
    let owned = |keys: &Vec<&[u8]>| keys.iter().map(|key| key.to_vec()).collect();
    let wanted = keys
        .iter()
        .map(|keys| (!keys.is_empty()).then(|| Wanted::Keys { keys: owned(keys), values }))
        .collect();
    let mut holding = Holding::begin(node, command, origin.database, wanted).await?;

    let mut scratch = Keyspace::new(SCRATCH, node.databases(), node.hasher.clone());
    scratch.configure(&node.config.current());
    scratch.clock.seed(clock::random_seed());
    scratch.begin(clock::now(), origin.database);
    scratch.set_touching(origin.touching);
    for (database, entry) in holding.held.iter_mut().flat_map(|held| held.entries.drain(..)) {
        scratch.adopt(database, entry);
    }
    scratch.journal.set_enabled(true);
    let result = run(&mut scratch, args, reply);
    holding.stats = scratch.stats;
    keys.retain(|keys| !keys.is_empty());
    holding.uses = keys.iter().map(|keys| scratch.uses_of(keys)).collect();
    holding.end(scratch.journal.take(FrameBuilder::default())).await?;
    result
}

/// Changes whole databases on all shards at once: the records that `operations` gives for each
/// partition that has keys in one of `databases` (`None`: all, hidden ones too), given the numbers
/// of those where it has. `check` is asked when all shards are held.
///
/// # Errors
/// A shard's refusal, that of `check`, or the log's; nothing, or everything, is done then.
pub async fn run_on_databases(
    node: &Arc<Node>,
    command: Command,
    databases: Option<Vec<u8>>,
    check: fn(&Node) -> CommandResult,
    operations: impl Fn(&[u8], &mut dyn FnMut(u8, Operation<'static>)) + Send + 'static,
) -> CommandResult {
    let node = node.clone();
    let task = tokio::spawn(async move {
        let wanted =
            node.shards.iter().map(|_| Some(Wanted::Everything { databases: databases.clone() }));
        let holding = Holding::begin(&node, command, 0, wanted.collect()).await?;
        if let Err(error) = check(&node) {
            holding.release(FrameBuilder::default()).await;
            return Err(error);
        }
        let mut frame = FrameBuilder::default();
        for (partition, numbers) in holding.held.iter().flat_map(|held| &held.occupied) {
            operations(numbers, &mut |database, operation| {
                frame.push(&Record { partition: *partition, database, operation });
            });
        }
        holding.end(frame).await
    });
    task.await.unwrap_or_else(|error| Err(CommandError::err(error)))
}

/// Shards that hold keys for this task.
struct Holding<'a> {
    node: &'a Arc<Node>,
    ticket: Ticket,
    shards: Vec<usize>,
    held: Vec<Held>,
    stats: crate::keyspace::KeyspaceStats,
    /// What each of the shards is to take over of the uses of its keys.
    uses: Vec<Vec<Use>>,
}

impl<'a> Holding<'a> {
    /// Asks the shards for what is wanted of each, in ascending order.
    async fn begin(
        node: &'a Arc<Node>,
        command: Command,
        database: u8,
        wanted: Vec<Option<Wanted>>,
    ) -> Result<Self, CommandError> {
        let ticket = node.next_ticket();
        let (shards, held, stats, uses) = Default::default();
        let mut holding = Holding { node, ticket, shards, held, stats, uses };
        for (shard, wanted) in wanted.into_iter().enumerate() {
            let Some(wanted) = wanted else { continue };
            match node.shards[shard].hold(ticket, command, database, wanted).await {
                Ok(held) => {
                    holding.shards.push(shard);
                    holding.held.push(held);
                }
                Err(refusal) => {
                    holding.release(FrameBuilder::default()).await;
                    return Err(refusal);
                }
            }
        }
        Ok(holding)
    }

    /// Logs the records, releases the shards with them, and waits for the disk if that is the
    /// policy.
    async fn end(self, records: FrameBuilder) -> CommandResult {
        let synced = self.append(&records);
        self.release(records).await;
        match synced {
            None => Ok(()),
            Some(synced) => match synced.await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(reason)) => Err(CommandError::Other(crate::oplog::misconf(&reason).into())),
                Err(_) => Err(CommandError::err("the node is stopping")),
            },
        }
    }

    /// Hands the records to the log; the shards' earlier ones are there already.
    fn append(&self, records: &FrameBuilder) -> Option<oneshot::Receiver<Result<(), String>>> {
        let log = self.node.log.as_ref()?;
        let always = log.status.policy() == FsyncPolicy::Always;
        if records.is_empty() && (!always || log.status.is_settled()) {
            return None;
        }
        let (reply, receiver) = oneshot::channel();
        if records.is_empty() {
            log.sync(reply);
        } else {
            log.append(records.clone(), always.then_some(reply));
        }
        always.then_some(receiver)
    }

    async fn release(self, records: FrameBuilder) {
        let records = Arc::new(records);
        let (mut stats, mut uses) = (Some(self.stats), self.uses.into_iter());
        for &shard in &self.shards {
            // A shard that has stopped holds nothing any more.
            let (records, uses) = (records.clone(), uses.next().unwrap_or_default());
            let shard = &self.node.shards[shard];
            let _ = shard.release(self.ticket, records, uses, stats.take()).await;
        }
    }
}
