//! Everything that can reject a command, and where the others go.

use distcache_protocol::slot::slot_of;

use super::arrival;
use super::session::Session;
use super::slots::{self, Placement};
use crate::cluster::table::NodeId;
use crate::command::error::shown;
use crate::command::{Args, Command, CommandError, Flags, Keys, Run, TABLE};
use crate::keyspace::ShardId;

/// Where an admitted command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// On the shard that owns all its keys.
    Shard(u16),
    /// On its connection.
    Here,
    /// On several shards at once.
    ManyShards,
    /// On another node.
    OnNode(NodeId),
    /// On several nodes at once.
    ManyNodes,
}

/// Finds a command in the table and decides whether the connection may run it, and where.
///
/// # Errors
/// The refusal to answer with; nothing was executed.
#[inline]
pub fn admit(session: &Session, args: Args<'_>) -> Result<(Command, Route), CommandError> {
    let command = find(args)?;
    if !command.spec.accepts(args.len()) {
        session.node.commands.rejected(command.index);
        let name = TABLE.full_name(command.index).to_owned();
        return Err(CommandError::WrongArity(name.into()));
    }
    if !session.may_run() && !command.spec.flags.has(Flags::NO_AUTH) {
        session.node.commands.rejected(command.index);
        return Err(CommandError::Other("NOAUTH Authentication required.".into()));
    }
    if session.node.loading.is_active() && !command.spec.flags.has(Flags::LOADING) {
        session.node.commands.rejected(command.index);
        let text = "LOADING Redis is loading the dataset in memory";
        return Err(CommandError::Other(text.into()));
    }
    if session.minds_slots {
        let placed = slots::place(session, command, args).inspect_err(|_| {
            // What waits for its keys is counted when it is known what becomes of it.
            if !arrival::is_awaited(session, command, args) {
                session.node.commands.rejected(command.index);
            }
        })?;
        match placed {
            Placement::Here => {}
            Placement::On(node) => return Ok((command, Route::OnNode(node))),
            Placement::Spread => return Ok((command, Route::ManyNodes)),
        }
    }
    let route = match command.spec.run {
        Run::Keyspace(_) => route(session, command.spec.keys, args),
        Run::Connection(_) | Run::Node(_) | Run::Subcommand => Route::Here,
    };
    Ok((command, route))
}

/// Finds a command in the table.
///
/// # Errors
/// That there is none.
#[inline]
pub fn find(args: Args<'_>) -> Result<Command, CommandError> {
    let Some(command) = TABLE.find(args.at(0)) else { return Err(unknown_command(args)) };
    let Some(sub) = args.get(1).filter(|_| !command.spec.subcommands.is_empty()) else {
        return Ok(command);
    };
    TABLE.find_subcommand(command, sub).ok_or_else(|| unknown_subcommand(command, sub))
}

fn route(session: &Session, keys: Keys, args: Args<'_>) -> Route {
    let shards = session.node.shards.len() as u16;
    if shards == 1 {
        return Route::Shard(0);
    }
    let mut owners =
        keys.indices(args.len()).map(|i| ShardId::owner_of(slot_of(args.at(i)), shards));
    let first = owners.next().unwrap_or(0);
    if owners.all(|owner| owner == first) { Route::Shard(first) } else { Route::ManyShards }
}

/// Redis's text, which shows the first arguments so that a person sees what was sent.
fn unknown_command(args: Args<'_>) -> CommandError {
    const SHOWN_BYTES_MAX: usize = 128;
    let mut text = b"ERR unknown command '".to_vec();
    text.extend(shown(args.at(0), SHOWN_BYTES_MAX));
    text.extend(b"', with args beginning with: ");
    let mut list = Vec::new();
    for arg in args.from(1) {
        if list.len() >= SHOWN_BYTES_MAX {
            break;
        }
        let room = SHOWN_BYTES_MAX - list.len();
        list.push(b'\'');
        list.extend(shown(arg, room));
        list.extend(b"' ");
    }
    text.extend(list);
    CommandError::Bytes(text)
}

fn unknown_subcommand(command: Command, sub: &[u8]) -> CommandError {
    let mut text = b"ERR unknown subcommand '".to_vec();
    text.extend(shown(sub, 128));
    text.extend(b"'. Try ");
    text.extend(command.spec.name.to_uppercase().bytes());
    text.extend(b" HELP.");
    CommandError::Bytes(text)
}
