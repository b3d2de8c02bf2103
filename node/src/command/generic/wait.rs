//! Waiting for replicas and for the log.

use std::time::Duration;

use distcache_protocol::resp::ReplyBuffer;
use distcache_protocol::resp::decode::parse_integer;

use super::ROW;
use crate::clock::{self, Ticks};
use crate::command::{
    Args, CommandError, CommandFuture, CommandResult, CommandSpec, Flags, Group, Run,
};
use crate::server::blocked::Unblock;
use crate::server::session::Session;

/// Parses a timeout in milliseconds; `None` is for ever.
fn timeout(argument: &[u8]) -> Result<Option<Duration>, CommandError> {
    let millis = parse_integer(argument)
        .ok_or_else(|| CommandError::err("timeout is not an integer or out of range"))?;
    match u64::try_from(millis) {
        Err(_) => Err(CommandError::err("timeout is negative")),
        Ok(0) => Ok(None),
        Ok(millis) => Ok(Some(Duration::from_millis(millis))),
    }
}

/// Waits as long as a client asked to, for what a node without replicas never has.
async fn wait_in_vain(timeout: Option<Duration>) {
    match timeout {
        Some(timeout) => clock::sleep(timeout).await,
        None => std::future::pending().await,
    }
}

/// What is said of a wait that is over: that of one ended by `CLIENT UNBLOCK` may be an error.
fn ended(waited: Result<(), Unblock>) -> CommandResult {
    if waited == Err(Unblock::Error) {
        let text = "UNBLOCKED client unblocked via CLIENT UNBLOCK";
        return Err(CommandError::Other(text.into()));
    }
    Ok(())
}

/// `WAIT numreplicas timeout`
fn wait<'a>(
    session: &'a mut Session,
    args: Args<'a>,
    reply: &'a mut ReplyBuffer,
) -> CommandFuture<'a> {
    Box::pin(async move {
        let replicas = args.integer(1)?;
        let timeout = timeout(args.at(2))?;
        if replicas > 0 {
            ended(session.client().wait(wait_in_vain(timeout)).await)?;
        }
        reply.integer(0);
        Ok(())
    })
}

/// `WAITAOF numlocal numreplicas timeout`: the reply is how many local logs, and how many
/// replicas' logs, have this client's writes on disk.
fn waitaof<'a>(
    session: &'a mut Session,
    args: Args<'a>,
    reply: &'a mut ReplyBuffer,
) -> CommandFuture<'a> {
    Box::pin(async move {
        let local = args.integer(1)?;
        if !(0..=1).contains(&local) {
            return Err(CommandError::err("value is out of range, value must between 0 and 1"));
        }
        if parse_integer(args.at(2)).is_none_or(|replicas| replicas < 0) {
            return Err(CommandError::err("value is out of range, must be positive"));
        }
        let replicas = args.integer(2)?;
        let timeout = timeout(args.at(3))?;
        let log = session.node.log.as_ref();
        if local > 0 && log.is_none() {
            return Err(CommandError::err(
                "WAITAOF cannot be used when numlocal is set but appendonly is disabled.",
            ));
        }
        let start = Ticks::now();
        let mut synced = log.is_some_and(|log| log.status.is_settled());
        let waited = session.client().wait(async {
            if local > 0 {
                synced = clock::within(timeout, session.node.sync_log()).await == Some(Ok(()));
            }
            if replicas > 0 {
                let passed = Ticks::now().since(start);
                wait_in_vain(timeout.map(|timeout| timeout.saturating_sub(passed))).await;
            }
        });
        ended(waited.await)?;
        reply.array(2);
        reply.integer(i64::from(synced));
        reply.integer(0);
        Ok(())
    })
}

pub(in crate::command) const SPECS: &[CommandSpec] = &[
    CommandSpec {
        name: "wait",
        arity: 3,
        flags: Flags::NOSCRIPT,
        group: Group::Generic,
        since: "3.0.0",
        summary: "Blocks until the asynchronous replication of all preceding write commands sent \
                  by the connection is completed.",
        syntax: "numreplicas timeout",
        run: Run::Node(wait),
        ..ROW
    },
    CommandSpec {
        name: "waitaof",
        arity: 4,
        flags: Flags::NOSCRIPT.and(Flags::BLOCKING),
        group: Group::Generic,
        since: "7.2.0",
        summary: "Blocks until all of the preceding write commands sent by the connection are \
              written to the append-only file of the master and/or replicas.",
        syntax: "numlocal numreplicas timeout",
        run: Run::Node(waitaof),
        ..ROW
    },
];
