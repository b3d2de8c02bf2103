//! Commands that take strings for numbers.

use distcache_protocol::resp::ReplyBuffer;
use distcache_protocol::resp::decode::parse_integer;

use super::super::{Args, CommandError, CommandResult, CommandSpec, Flags, Keys, Run};
use super::ROW;
use super::long_double::LongDouble;
use crate::keyspace::entry::{Entry, Value};
use crate::keyspace::{Deadline, Keyspace};

/// `INCR key`
fn incr(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    add(keyspace, args.at(1), 1, reply)
}

/// `DECR key`
fn decr(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    add(keyspace, args.at(1), -1, reply)
}

/// `INCRBY key increment`
fn incrby(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    add(keyspace, args.at(1), args.integer(2)?, reply)
}

/// `DECRBY key decrement`
fn decrby(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let negated = args.integer(2)?.checked_neg();
    let delta = negated.ok_or_else(|| CommandError::err("decrement would overflow"))?;
    add(keyspace, args.at(1), delta, reply)
}

fn add(keyspace: &mut Keyspace, key: &[u8], delta: i64, reply: &mut ReplyBuffer) -> CommandResult {
    let old = match keyspace.write(key).map(Entry::value) {
        None => 0,
        Some(Value::Integer(integer)) => integer,
        Some(Value::String(bytes)) => parse_integer(bytes).ok_or(CommandError::NotInteger)?,
    };
    let new = old.checked_add(delta).ok_or(CommandError::Overflow)?;
    keyspace.put_found(key, Value::Integer(new), Deadline::Keep);
    reply.integer(new);
    Ok(())
}

/// `INCRBYFLOAT key increment`
///
/// The sum is stored as a string even where it is an integer, as in Redis: the next command that
/// needs a number finds it there all the same.
fn incrbyfloat(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let key = args.at(1);
    let old = match keyspace.write(key).map(Entry::value) {
        None => Some(LongDouble::from_integer(0)),
        Some(Value::Integer(integer)) => Some(LongDouble::from_integer(integer)),
        Some(Value::String(bytes)) => LongDouble::parse(bytes),
    };
    let old = old.ok_or(CommandError::NotFloat)?;
    let delta = LongDouble::parse(args.at(2)).ok_or(CommandError::NotFloat)?;
    let sum = old.plus(delta);
    let Some(text) = sum.to_fixed() else {
        return Err(CommandError::err("increment would produce NaN or Infinity"));
    };
    keyspace.put_found(key, Value::String(text.as_bytes()), Deadline::Keep);
    reply.bulk(text.as_bytes());
    Ok(())
}

const COUNTER: CommandSpec = CommandSpec {
    flags: Flags::WRITE.and(Flags::DENY_OOM).and(Flags::FAST),
    keys: Keys::FIRST,
    since: "1.0.0",
    ..ROW
};

pub(in crate::command) const SPECS: &[CommandSpec] = &[
    CommandSpec {
        name: "decr",
        arity: 2,
        summary: "Decrements the integer value of a key by one. \
                  Uses 0 as initial value if the key doesn't exist.",
        syntax: "key",
        run: Run::Keyspace(decr),
        ..COUNTER
    },
    CommandSpec {
        name: "decrby",
        arity: 3,
        summary: "Decrements a number from the integer value of a key. \
                  Uses 0 as initial value if the key doesn't exist.",
        syntax: "key decrement",
        run: Run::Keyspace(decrby),
        ..COUNTER
    },
    CommandSpec {
        name: "incr",
        arity: 2,
        summary: "Increments the integer value of a key by one. \
                  Uses 0 as initial value if the key doesn't exist.",
        syntax: "key",
        run: Run::Keyspace(incr),
        ..COUNTER
    },
    CommandSpec {
        name: "incrby",
        arity: 3,
        summary: "Increments the integer value of a key by a number. \
                  Uses 0 as initial value if the key doesn't exist.",
        syntax: "key increment",
        run: Run::Keyspace(incrby),
        ..COUNTER
    },
    CommandSpec {
        name: "incrbyfloat",
        arity: 3,
        since: "2.6.0",
        summary: "Increment the floating point value of a key by a number. \
                  Uses 0 as initial value if the key doesn't exist.",
        syntax: "key increment",
        run: Run::Keyspace(incrbyfloat),
        ..COUNTER
    },
];
