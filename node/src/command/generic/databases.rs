//! Commands that change databases as a whole, on all shards in one step.

use distcache_protocol::resp::ReplyBuffer;
use distcache_protocol::resp::decode::parse_integer;

use super::ROW;
use crate::cluster::table::PARTITIONS;
use crate::command::{
    Args, CommandError, CommandFuture, CommandResult, CommandSpec, Flags, Group, Run, TABLE,
};
use crate::keyspace::SLOTS_PER_PARTITION;
use crate::node::Node;
use crate::records::Operation;
use crate::server::coordinate::run_on_databases;
use crate::server::session::Session;

/// Both modes do the same: the keys are gone when the reply comes, and memory is freed by
/// another thread.
fn check_mode(args: Args<'_>) -> CommandResult {
    match args.len() {
        1 => Ok(()),
        2 if args.is(1, "async") || args.is(1, "sync") => Ok(()),
        _ => Err(CommandError::Syntax),
    }
}

async fn flush(
    session: &Session,
    args: Args<'_>,
    databases: Option<Vec<u8>>,
    reply: &mut ReplyBuffer,
) -> CommandResult {
    check_mode(args)?;
    let command = TABLE.find(args.at(0)).ok_or(CommandError::Syntax)?;
    run_on_databases(
        &session.node,
        command,
        databases,
        |_| Ok(()),
        |occupied, push| {
            occupied.iter().for_each(|&database| push(database, Operation::Flush));
        },
    )
    .await?;
    reply.ok();
    Ok(())
}

/// `FLUSHALL [ASYNC | SYNC]`; hidden databases are emptied too, or what was flushed would be there
/// again once there are more.
fn flushall<'a>(
    session: &'a mut Session,
    args: Args<'a>,
    reply: &'a mut ReplyBuffer,
) -> CommandFuture<'a> {
    Box::pin(flush(session, args, None, reply))
}

/// `FLUSHDB [ASYNC | SYNC]`
fn flushdb<'a>(
    session: &'a mut Session,
    args: Args<'a>,
    reply: &'a mut ReplyBuffer,
) -> CommandFuture<'a> {
    let databases = Some(vec![session.database]);
    Box::pin(flush(session, args, databases, reply))
}

/// Refuses `SWAPDB` unless this node has all partitions: one that moves meanwhile could be swapped
/// twice, or not at all.
fn check_whole(node: &Node) -> CommandResult {
    let ownership = node.cluster.ownership();
    match (0..PARTITIONS).all(|partition| ownership.serves(partition * SLOTS_PER_PARTITION)) {
        true => Ok(()),
        false => Err(CommandError::err("SWAPDB is not allowed in cluster mode")),
    }
}

/// `SWAPDB index1 index2`
fn swapdb<'a>(
    session: &'a mut Session,
    args: Args<'a>,
    reply: &'a mut ReplyBuffer,
) -> CommandFuture<'a> {
    let number = move |index: usize, which: &str| {
        let number = parse_integer(args.at(index)).and_then(|number| i32::try_from(number).ok());
        number.ok_or_else(|| CommandError::err(format_args!("invalid {which} DB index")))
    };
    Box::pin(async move {
        check_whole(&session.node)?;
        let (one, other) = (number(1, "first")?, number(2, "second")?);
        let count = session.node.databases();
        let known = |number: i32| {
            u8::try_from(number)
                .ok()
                .filter(|&number| u16::from(number) < count)
                .ok_or(CommandError::DatabaseOutOfRange)
        };
        let (one, other) = (known(one)?, known(other)?);
        if one != other {
            let command = TABLE.find(args.at(0)).ok_or(CommandError::Syntax)?;
            let databases = Some(vec![one, other]);
            // Again, as a partition may have gone while this waited for the shards.
            run_on_databases(&session.node, command, databases, check_whole, move |_, push| {
                push(one, Operation::Swap { other });
            })
            .await?;
        }
        reply.ok();
        Ok(())
    })
}

pub(in crate::command) const SPECS: &[CommandSpec] = &[
    CommandSpec {
        name: "flushall",
        arity: -1,
        flags: Flags::WRITE,
        group: Group::Server,
        since: "1.0.0",
        complexity: "O(N) where N is the total number of keys in all databases",
        summary: "Removes all keys from all databases.",
        syntax: "[ASYNC | SYNC]",
        run: Run::Node(flushall),
        ..ROW
    },
    CommandSpec {
        name: "flushdb",
        arity: -1,
        flags: Flags::WRITE,
        group: Group::Server,
        since: "1.0.0",
        complexity: "O(N) where N is the number of keys in the selected database",
        summary: "Removes all keys from the current database.",
        syntax: "[ASYNC | SYNC]",
        run: Run::Node(flushdb),
        ..ROW
    },
    CommandSpec {
        name: "swapdb",
        arity: 3,
        flags: Flags::WRITE.and(Flags::FAST),
        group: Group::Server,
        since: "4.0.0",
        complexity: "O(N) where N is the count of clients watching or blocking on keys from both \
                     databases.",
        summary: "Swaps two Redis databases.",
        syntax: "index1 index2",
        run: Run::Node(swapdb),
        ..ROW
    },
];
