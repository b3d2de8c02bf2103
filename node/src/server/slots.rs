//! Which node a command's keys live on, and what a client hears that must know it, as in Redis
//! Cluster.

use distcache_protocol::slot::slot_of;

use super::forward::spread;
use super::listen::Access;
use super::session::Session;
use crate::cluster::table::NodeId;
use crate::cluster::view::Owner;
use crate::command::{Args, Command, CommandError, Keys, Run};

/// Where a command is to be executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// On this node.
    Here,
    /// On another one, which serves all its keys.
    On(NodeId),
    /// On several nodes.
    Spread,
}

/// Where a command is to be executed, as far as the session knows.
///
/// # Errors
/// `CROSSSLOT` where its keys are in several slots and the client has to know them, or on several
/// nodes and the command cannot be run in parts; `MOVED` where another node serves the keys and
/// nothing is sent on; `CLUSTERDOWN` where nobody serves them. In Redis's order: the first key's
/// slot before the others.
pub fn place(
    session: &Session,
    command: Command,
    args: Args<'_>,
) -> Result<Placement, CommandError> {
    let sends_on = session.access == Access::Any && session.node.cluster.forward().is_some();
    if let Keys::None = command.spec.keys {
        // What empties everything goes to others even if this node has all: a partition may be
        // another one's before the shards get to it.
        let is_here = match spread::empties(command) {
            true => session.view.is_alone(),
            false => session.view.is_whole(),
        };
        let spread = sends_on && !is_here && spread::is_spreadable(command);
        return Ok(if spread { Placement::Spread } else { Placement::Here });
    }
    let mut slots = command.spec.keys.indices(args.len()).map(|index| slot_of(args.at(index)));
    let Some(first) = slots.next() else { return Ok(Placement::Here) };
    let owner = session.view.owner(first);
    if owner == Owner::Nobody {
        return Err(down());
    }
    let mut other = None;
    for slot in slots.filter(|slot| *slot != first) {
        if session.access == Access::Direct {
            return Err(cross_slot());
        }
        match session.view.owner(slot) {
            Owner::Nobody => return Err(down()),
            found if found != owner => other = Some(slot),
            _ => {}
        }
    }
    match (owner, other) {
        (Owner::Nobody, _) => Err(down()),
        (Owner::Local, None) => Ok(Placement::Here),
        (Owner::Remote(node), None) if sends_on => Ok(Placement::On(node)),
        (Owner::Remote(node), _) if !sends_on => Err(moved(session, first, node)),
        (Owner::Local, Some(slot)) if !sends_on => match session.view.owner(slot) {
            Owner::Remote(node) => Err(moved(session, slot, node)),
            _ => Err(try_again()),
        },
        // A subcommand's parts would lack the name of its command.
        _ if spread::is_spreadable(command) && matches!(command.spec.run, Run::Keyspace(_)) => {
            Ok(Placement::Spread)
        }
        _ => Err(cross_slot()),
    }
}

/// The slot of the first key that a command names.
pub fn first_slot(command: Command, args: Args<'_>) -> Option<u16> {
    command.spec.keys.indices(args.len()).map(|index| slot_of(args.at(index))).next()
}

/// What to answer where a shard has refused a command since its keys are not served here (any
/// more). The session takes over what is known of the cluster now.
pub fn refused(session: &mut Session, command: Command, args: Args<'_>) -> CommandError {
    session.refresh_view();
    // Where the view says that they are served here, they come, or go, at this very moment.
    place(session, command, args).err().unwrap_or_else(try_again)
}

fn moved(session: &Session, slot: u16, node: NodeId) -> CommandError {
    let local = session.client().local.ip().to_string();
    let (host, port) = session.view.direct(node, &local);
    // As in Redis, without brackets around an IPv6 address: clients split at the last colon.
    CommandError::Other(format!("MOVED {slot} {host}:{port}").into())
}

/// Nobody serves a key.
pub fn down() -> CommandError {
    CommandError::Other("CLUSTERDOWN Hash slot not served".into())
}

fn cross_slot() -> CommandError {
    CommandError::Other("CROSSSLOT Keys in request don't hash to the same slot".into())
}

/// The keys cannot be had at this moment; the client may ask again.
pub fn try_again() -> CommandError {
    CommandError::Other("TRYAGAIN Multiple keys request during rehashing of slot".into())
}
