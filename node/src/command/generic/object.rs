//! What is known of a value beside its bytes: `OBJECT`, and `MEMORY USAGE`.

use distcache_protocol::resp::ReplyBuffer;
use distcache_protocol::resp::decode::parse_integer;

use super::ROW;
use crate::command::{Args, CommandError, CommandResult, CommandSpec, Flags, Group, Keys, Run};
use crate::keyspace::Keyspace;
use crate::keyspace::entry::{Entry, Value};
use crate::keyspace::eviction::AccessMode;
use crate::server::session::Session;

/// Strings of up to so many bytes are `embstr` in Redis.
const EMBEDDED_BYTES_MAX: usize = 44;
/// Redis shares the objects of the integers below this one.
const SHARED_INTEGERS: i64 = 10_000;
/// What Redis gives as the number of references of a shared object.
const SHARED_REFERENCES: i64 = i32::MAX as i64;
/// What a table needs for one key: a pointer and a byte of control.
const TABLE_BYTES_PER_KEY: usize = 9;

const LFU_OFF: &str = "An LFU maxmemory policy is not selected, access frequency not tracked. \
                       Please note that when switching between policies at runtime LRU and LFU \
                       data will take some time to adjust.";
const LFU_ON: &str = "An LFU maxmemory policy is selected, idle time not tracked. Please note \
                      that when switching between policies at runtime LRU and LFU data will take \
                      some time to adjust.";

/// What Redis calls the form of a value in memory.
pub(in crate::command) fn encoding_name(entry: &Entry) -> &'static str {
    match entry.value() {
        Value::Integer(_) => "int",
        Value::String(bytes) if bytes.len() <= EMBEDDED_BYTES_MAX && !entry.is_growable() => {
            "embstr"
        }
        Value::String(_) => "raw",
    }
}

/// `OBJECT ENCODING key`
fn encoding(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    match keyspace.peek(args.at(2)) {
        Some(entry) => reply.bulk(encoding_name(entry).as_bytes()),
        None => reply.null(),
    }
    Ok(())
}

/// `OBJECT REFCOUNT key`: small integers are shared in Redis, so it looks as if here too.
fn refcount(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    match keyspace.peek(args.at(2)).map(Entry::value) {
        Some(Value::Integer(0..SHARED_INTEGERS)) => reply.integer(SHARED_REFERENCES),
        Some(_) => reply.integer(1),
        None => reply.null(),
    }
    Ok(())
}

/// `OBJECT IDLETIME key`
fn idletime(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let Some(access) = keyspace.peek(args.at(2)).map(Entry::access) else {
        reply.null();
        return Ok(());
    };
    if keyspace.clock.mode == AccessMode::Lfu {
        return Err(CommandError::err(LFU_ON));
    }
    reply.integer(i64::from(keyspace.clock.idle_seconds(access)));
    Ok(())
}

/// `OBJECT FREQ key`
fn freq(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let Some(access) = keyspace.peek(args.at(2)).map(Entry::access) else {
        reply.null();
        return Ok(());
    };
    if keyspace.clock.mode != AccessMode::Lfu {
        return Err(CommandError::err(LFU_OFF));
    }
    reply.integer(i64::from(keyspace.clock.lfu_counter(access)));
    Ok(())
}

const HELP: &[&str] = &[
    "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "ENCODING <key>",
    "    Return the kind of internal representation used in order to store the value",
    "    associated with a <key>.",
    "FREQ <key>",
    "    Return the access frequency index of the <key>. The returned integer is",
    "    proportional to the logarithm of the recent access frequency of the key.",
    "IDLETIME <key>",
    "    Return the idle time of the <key>, that is the approximated number of",
    "    seconds elapsed since the last access to the key.",
    "REFCOUNT <key>",
    "    Return the number of references of the value associated with the specified",
    "    <key>.",
    "HELP",
    "    Prints this help.",
];

/// `OBJECT HELP`
fn help(_: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply.array(HELP.len());
    HELP.iter().for_each(|line| reply.simple(line));
    Ok(())
}

/// `MEMORY USAGE key [SAMPLES count]`: what the key adds to the node's memory; exact for
/// strings, so that samples change nothing.
fn memory_usage(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let mut options = args.cursor(3);
    while options.remaining() > 0 {
        if options.remaining() < 2 || !options.take("samples") {
            return Err(CommandError::Syntax);
        }
        if parse_integer(options.operand()?).ok_or(CommandError::NotInteger)? < 0 {
            return Err(CommandError::Syntax);
        }
    }
    match keyspace.inspect(args.at(2)) {
        Some(entry) => reply.integer((entry.allocated() + TABLE_BYTES_PER_KEY) as i64),
        None => reply.null(),
    }
    Ok(())
}

/// Row of `MEMORY USAGE`.
pub(in crate::command) const MEMORY_USAGE: CommandSpec = CommandSpec {
    name: "usage",
    arity: -3,
    flags: Flags::READONLY,
    keys: Keys::Range { first: 2, last: 2, step: 1 },
    group: Group::Server,
    since: "4.0.0",
    complexity: "O(N) where N is the number of samples.",
    summary: "Estimates the memory usage of a key.",
    syntax: "key [SAMPLES count]",
    run: Run::Keyspace(memory_usage),
    ..ROW
};

const SUB: CommandSpec = CommandSpec {
    arity: 3,
    flags: Flags::READONLY,
    keys: Keys::Range { first: 2, last: 2, step: 1 },
    since: "2.2.3",
    syntax: "key",
    ..ROW
};

pub(in crate::command) const SPECS: &[CommandSpec] = &[CommandSpec {
    name: "object",
    arity: -2,
    since: "2.2.3",
    complexity: "Depends on subcommand.",
    summary: "A container for object introspection commands.",
    subcommands: &[
        CommandSpec {
            name: "encoding",
            summary: "Returns the internal encoding of a Redis object.",
            run: Run::Keyspace(encoding),
            ..SUB
        },
        CommandSpec {
            name: "freq",
            since: "4.0.0",
            summary: "Returns the logarithmic access frequency counter of a Redis object.",
            run: Run::Keyspace(freq),
            ..SUB
        },
        CommandSpec {
            name: "help",
            arity: 2,
            flags: Flags::LOADING.and(Flags::STALE),
            keys: Keys::None,
            since: "6.2.0",
            summary: "Returns helpful text about the different subcommands.",
            syntax: "",
            run: Run::Connection(help),
            ..SUB
        },
        CommandSpec {
            name: "idletime",
            summary: "Returns the time since the last access to a Redis object.",
            run: Run::Keyspace(idletime),
            ..SUB
        },
        CommandSpec {
            name: "refcount",
            summary: "Returns the reference count of a value of a key.",
            run: Run::Keyspace(refcount),
            ..SUB
        },
    ],
    ..ROW
}];
