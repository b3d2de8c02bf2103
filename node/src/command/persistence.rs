//! Commands about snapshots, the log and the end of the node. A snapshot, in Redis's words a
//! save or a rewrite, is a compaction of the log here.

use std::sync::Arc;

use distcache_protocol::resp::ReplyBuffer;

use super::row::row;
use super::{Args, CommandError, CommandFuture, CommandResult, CommandSpec, Flags, Group, Run};
use crate::compaction::compact;
use crate::server::compact_in_background;
use crate::server::session::Session;

/// `SAVE`. Without a log there is nothing to save to, and nothing was promised.
fn save<'a>(
    session: &'a mut Session,
    _: Args<'a>,
    reply: &'a mut ReplyBuffer,
) -> CommandFuture<'a> {
    Box::pin(async move {
        if session.node.is_compacting() {
            return Err(CommandError::err("Background save already in progress"));
        }
        compact(&session.node).await.map_err(CommandError::err)?;
        reply.ok();
        Ok(())
    })
}

/// `BGSAVE [SCHEDULE]`
fn bgsave(session: &mut Session, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    if args.len() > 1 && !(args.len() == 2 && args.is(1, "SCHEDULE")) {
        return Err(CommandError::Syntax);
    }
    if session.node.is_compacting() {
        return Err(CommandError::err("Background save already in progress"));
    }
    compact_in_background(Arc::clone(&session.node));
    reply.simple("Background saving started");
    Ok(())
}

/// `BGREWRITEAOF`
fn bgrewriteaof(session: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let when = if session.node.is_compacting() { "scheduled" } else { "started" };
    compact_in_background(Arc::clone(&session.node));
    reply.simple(&format!("Background append only file rewriting {when}"));
    Ok(())
}

/// `LASTSAVE`
fn lastsave(session: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let node = &session.node;
    let compacted = node.log.as_ref().map_or(0, |log| log.status.figures().compacted_at);
    // As Redis, a node that has not saved yet says when it started.
    reply.integer(if compacted > 0 { compacted } else { node.started.0 / 1000 } as i64);
    Ok(())
}

/// `SHUTDOWN [NOSAVE | SAVE] [NOW] [FORCE] [ABORT]`. The log is always closed in order, which
/// takes no longer than a sync, within `shutdown-timeout`; so the options change nothing.
fn shutdown(session: &mut Session, args: Args<'_>, _: &mut ReplyBuffer) -> CommandResult {
    let has = |word: &str| (1..args.len()).any(|index| args.is(index, word));
    let known = |index: usize| {
        ["NOSAVE", "SAVE", "NOW", "FORCE", "ABORT"].iter().any(|word| args.is(index, word))
    };
    let alone = !has("ABORT") || args.len() == 2;
    if !(1..args.len()).all(known) || !alone || (has("SAVE") && has("NOSAVE")) {
        return Err(CommandError::Syntax);
    }
    if has("ABORT") {
        return Err(CommandError::err("No shutdown in progress."));
    }
    log::info!(client = session.id; "a command stops the node");
    session.node.stop.request();
    session.closing = true;
    Ok(())
}

const SAVING: Flags = Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::NO_ASYNC_LOADING);

#[rustfmt::skip]
pub(super) const SPECS: &[CommandSpec] = &[
    row(Group::Server, "bgrewriteaof", 1, SAVING, "1.0.0",
        ("Asynchronously rewrite the append-only file", ""),
        Run::Connection(bgrewriteaof)),
    row(Group::Server, "bgsave", -1, SAVING, "1.0.0",
        ("Asynchronously save the dataset to disk", "[SCHEDULE]"), Run::Connection(bgsave)),
    row(Group::Server, "lastsave", 1, Flags::LOADING.and(Flags::STALE).and(Flags::FAST), "1.0.0",
        ("Get the UNIX time stamp of the last successful save to disk",
         ""), Run::Connection(lastsave)),
    CommandSpec {
        complexity: "O(N) where N is the total number of keys in all databases",
        ..row(Group::Server, "save", 1, SAVING.and(Flags::NO_MULTI), "1.0.0",
            ("Synchronously save the dataset to disk", ""),
            Run::Node(save))
    },
    CommandSpec {
        complexity: "O(N) when saving, where N is the total number of keys in all databases when \
                     saving data, otherwise O(1)",
        ..row(Group::Server, "shutdown", -1,
            Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::LOADING).and(Flags::STALE)
                .and(Flags::NO_MULTI).and(Flags::ALLOW_BUSY),
            "1.0.0",
            ("Synchronously save the dataset to disk and then shut down the server",
             "[NOSAVE | SAVE] [NOW] [FORCE] [ABORT]"),
            Run::Connection(shutdown))
    },
];
