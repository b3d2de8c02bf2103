//! Commands on strings.

use distcache_protocol::resp::ReplyBuffer;
use distcache_protocol::resp::decode::parse_integer;

use super::{Args, CommandError, CommandResult, CommandSpec, Flags, Group, Keys, Run};
use crate::keyspace::entry::{Entry, Value};
use crate::keyspace::{Deadline, Keyspace};

/// Writes a value as a bulk string, or a null.
#[inline]
pub(super) fn reply_value(entry: Option<&Entry>, reply: &mut ReplyBuffer) {
    match entry.map(Entry::value) {
        None => reply.null(),
        Some(Value::Integer(integer)) => reply.bulk_integer(integer),
        Some(Value::String(bytes)) => reply.bulk(bytes),
    }
}

/// Returns a string as it is stored: canonical integers as numbers.
#[inline]
pub(super) fn encoded(bytes: &[u8]) -> Value<'_> {
    // Longer than any 64-bit integer, so not worth a look.
    if bytes.len() > 20 {
        return Value::String(bytes);
    }
    parse_integer(bytes).map_or(Value::String(bytes), Value::Integer)
}

/// `GET key`
fn get(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply_value(keyspace.read(args.at(1)), reply);
    Ok(())
}

/// `SET key value`
fn set(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    if args.len() != 3 {
        return Err(CommandError::Syntax);
    }
    keyspace.put(args.at(1), encoded(args.at(2)), Deadline::Clear);
    reply.ok();
    Ok(())
}

const ROW: CommandSpec = CommandSpec { group: Group::String, ..CommandSpec::BLANK };

pub(super) const SPECS: &[CommandSpec] = &[
    CommandSpec {
        name: "get",
        arity: 2,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: Keys::FIRST,
        since: "1.0.0",
        summary: "Returns the string value of a key.",
        syntax: "key",
        run: Run::Keyspace(get),
        ..ROW
    },
    CommandSpec {
        name: "set",
        arity: -3,
        flags: Flags::WRITE.and(Flags::DENY_OOM),
        keys: Keys::FIRST,
        since: "1.0.0",
        summary: "Sets the string value of a key, ignoring its type. \
                  The key is created if it doesn't exist.",
        syntax: "key value [NX | XX] [GET] [EX seconds | PX milliseconds | \
                 EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]",
        run: Run::Keyspace(set),
        ..ROW
    },
];
