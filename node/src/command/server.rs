//! Commands about the node as a whole.

use distcache_protocol::resp::ReplyBuffer;

use super::row::row;
use super::{
    Args, CommandResult, CommandSpec, Flags, Group, Run, config, debug, info, introspection, memory,
};
use crate::clock;
use crate::server::session::Session;

/// `TIME`
fn time(_: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let micros = clock::now_micros();
    reply.array(2);
    for part in [micros / 1_000_000, micros % 1_000_000] {
        reply.bulk_integer(part as i64);
    }
    Ok(())
}

/// Properties of commands that need no keys and may run at any time.
const ANY_TIME: Flags = Flags::LOADING.and(Flags::STALE).and(Flags::FAST);

#[rustfmt::skip]
pub(super) const SPECS: &[CommandSpec] = &[
    config::CONTAINER,
    debug::SPEC,
    info::SPEC,
    introspection::SPEC,
    memory::CONTAINER,
    row(Group::Server, "time", 1, ANY_TIME, "2.6.0", ("Return the current server time", ""),
        Run::Connection(time)),
];
