//! `CONFIG`: options while the node runs.

use distcache_protocol::resp::ReplyBuffer;

use super::error::shown;
use super::row::{container, reply_help, row};
use super::{
    Args, CommandError, CommandFuture, CommandResult, CommandSpec, Flags, Group, Run, help,
};
use crate::config::{Config, SetError};
use crate::node::Node;
use crate::server::session::Session;
use crate::server::{for_all_shards, off_thread};
use crate::shard::ShardState;
use crate::{files, logger};

/// `CONFIG GET parameter [parameter ...]`
fn get(session: &mut Session, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let patterns: Vec<&[u8]> = args.from(2).collect();
    let found = session.node.config.get(&patterns);
    reply.map(found.len());
    for (name, value) in found {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    Ok(())
}

/// `CONFIG SET parameter value [parameter value ...]`
fn set(session: &mut Session, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    if !args.len().is_multiple_of(2) {
        return Err(CommandError::Syntax);
    }
    let words: Vec<&[u8]> = args.from(2).collect();
    let pairs: Vec<(&[u8], &[u8])> = words.chunks(2).map(|pair| (pair[0], pair[1])).collect();
    let node = &session.node;
    let sets_clients = pairs.iter().any(|(name, _)| name.eq_ignore_ascii_case(b"maxclients"));
    let apply = |config: &Config| {
        if sets_clients {
            make_room(node, config)?;
        }
        logger::set_level(config.log_level);
        node.monitor.configure(config);
        if let Some(log) = &node.log {
            log.status.set_policy(config.fsync);
        }
        Ok(())
    };
    node.config.set_and(&pairs, apply).map_err(|error| match error {
        // Redis's text with the bytes as they came.
        SetError::Unknown { name } => {
            let text = b"ERR Unknown option or number of arguments for CONFIG SET - '";
            CommandError::Bytes([text, shown(&name, usize::MAX), b"'"].concat())
        }
        error @ SetError::Failed { .. } => CommandError::err(error),
    })?;
    session.refresh();
    reply.ok();
    Ok(())
}

/// Sees to it that the system allows as many clients as the configuration does.
fn make_room(node: &Node, config: &Config) -> Result<(), SetError> {
    let clients = files::make_room(config.maxclients, node.files_reserved(config));
    if clients >= config.maxclients {
        return Ok(());
    }
    // Redis's words.
    let reason = format!(
        "The operating system is not able to handle the specified number of clients, try with \
         {clients}"
    );
    Err(SetError::failed("maxclients", &reason))
}

/// `CONFIG RESETSTAT`
fn resetstat<'a>(
    session: &'a mut Session,
    _: Args<'a>,
    reply: &'a mut ReplyBuffer,
) -> CommandFuture<'a> {
    Box::pin(async move {
        let node = &session.node;
        node.counters.reset();
        node.commands.reset();
        node.errors.reset();
        for_all_shards(node, ShardState::reset_stats).await?;
        reply.ok();
        Ok(())
    })
}

/// `CONFIG REWRITE`
fn rewrite<'a>(
    session: &'a mut Session,
    _: Args<'a>,
    reply: &'a mut ReplyBuffer,
) -> CommandFuture<'a> {
    Box::pin(async move {
        let config = session.node.config.clone();
        off_thread(move || config.rewrite()).await?.map_err(CommandError::err)?;
        reply.ok();
        Ok(())
    })
}

/// `CONFIG HELP`
fn help(_: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply_help(reply, "CONFIG", help::CONFIG)
}

const BASE: Flags = Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::LOADING).and(Flags::STALE);

#[rustfmt::skip]
const SUBCOMMANDS: &[CommandSpec] = &[
    CommandSpec {
        complexity: "O(N) when N is the number of configuration parameters provided",
        ..row(Group::Server, "get", -3, BASE, "2.0.0",
            ("Get the values of configuration parameters",
             "parameter [parameter ...]"),
            Run::Connection(get))
    },
    row(Group::Server, "help", 2, Flags::LOADING.and(Flags::STALE), "5.0.0",
        ("Show helpful text about the different subcommands", ""), Run::Connection(help)),
    row(Group::Server, "resetstat", 2, BASE, "2.0.0",
        ("Reset the stats returned by INFO", ""), Run::Node(resetstat)),
    row(Group::Server, "rewrite", 2, BASE, "2.8.0",
        ("Rewrite the configuration file with the in memory configuration",
         ""), Run::Node(rewrite)),
    CommandSpec {
        complexity: "O(N) when N is the number of configuration parameters provided",
        // Among the options are passwords.
        flags: BASE.and(Flags::SKIP_SLOWLOG),
        ..row(Group::Server, "set", -4, BASE, "2.0.0",
            ("Set configuration parameters to the given values",
             "parameter value [parameter value ...]"),
            Run::Connection(set))
    },
];

/// The row of `CONFIG`.
pub(super) const CONTAINER: CommandSpec = container(
    Group::Server,
    "config",
    "2.0.0",
    "A container for server configuration commands",
    SUBCOMMANDS,
);
