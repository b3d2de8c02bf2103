//! Which node a command's keys live on: what a client of the direct port is told, as in Redis
//! Cluster.

use distcache_protocol::slot::slot_of;

use super::listen::Access;
use super::session::Session;
use crate::cluster::view::{self, Owner};
use crate::command::{Args, CommandError, Keys};

/// Whether this node serves all keys of a command, as far as the session knows.
///
/// # Errors
/// `CROSSSLOT` where a client that knows the slots names keys of several, `MOVED` where another
/// node serves the keys, and `CLUSTERDOWN` where nobody does. In Redis's order: the first key's
/// slot before the others.
pub fn check(session: &Session, keys: Keys, args: Args<'_>) -> Result<(), CommandError> {
    let mut slots = keys.indices(args.len()).map(|index| slot_of(args.at(index)));
    let Some(first) = slots.next() else { return Ok(()) };
    if session.view.owner(first) == Owner::Nobody {
        return Err(down());
    }
    for slot in slots {
        match session.access {
            Access::Direct if slot != first => return Err(cross_slot()),
            Access::Any => check_slot(session, slot)?,
            Access::Direct => {}
        }
    }
    check_slot(session, first)
}

/// What to answer where a shard has refused a command since its keys are not served here (any
/// more). The session takes over what is known of the cluster now.
pub fn refused(session: &mut Session, keys: Keys, args: Args<'_>) -> CommandError {
    session.refresh_view();
    // The view says that they are served here: they come, or go, at this very moment.
    check(session, keys, args).err().unwrap_or_else(try_again)
}

fn check_slot(session: &Session, slot: u16) -> Result<(), CommandError> {
    match session.view.owner(slot) {
        Owner::Local => Ok(()),
        Owner::Nobody => Err(down()),
        Owner::Remote(node) => {
            let local = session.client().local.ip().to_string();
            let (host, port) = session.view.direct(node, &local);
            let text = format!("MOVED {slot} {}", view::address(&host, port));
            Err(CommandError::Other(text.into()))
        }
    }
}

fn down() -> CommandError {
    CommandError::Other("CLUSTERDOWN Hash slot not served".into())
}

fn cross_slot() -> CommandError {
    CommandError::Other("CROSSSLOT Keys in request don't hash to the same slot".into())
}

/// The keys cannot be had at this moment; the client may ask again.
pub fn try_again() -> CommandError {
    CommandError::Other("TRYAGAIN Multiple keys request during rehashing of slot".into())
}
