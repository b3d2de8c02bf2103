//! Commands that put a string, or a part of one.

use distcache_protocol::resp::ReplyBuffer;

use super::super::{Args, CommandError, CommandResult, CommandSpec, Flags, Keys, Run};
use super::{ROW, TimeForm, TimeOption, check_length, encoded, length_of, reply_value};
use crate::keyspace::{Deadline, Keyspace};

/// `SET key value [NX | XX] [GET] [EX seconds | PX milliseconds | EXAT unix-time-seconds |
/// PXAT unix-time-milliseconds | KEEPTTL]`
fn set(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    if args.len() > 3 {
        return set_with_options(keyspace, args, reply);
    }
    keyspace.put(args.at(1), encoded(args.at(2)), Deadline::Clear);
    reply.ok();
    Ok(())
}

/// Whether the key must exist for `SET` to do anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Absent,
    Present,
}

/// The options of `SET`.
#[derive(Debug, Default)]
struct SetOptions<'a> {
    condition: Option<Condition>,
    get: bool,
    keep_deadline: bool,
    time: Option<TimeOption<'a>>,
}

impl<'a> SetOptions<'a> {
    fn parse(args: Args<'a>) -> Result<Self, CommandError> {
        let mut cursor = args.cursor(3);
        let mut options = SetOptions::default();
        while cursor.remaining() > 0 {
            if cursor.take("NX") {
                options.require(Condition::Absent)?;
            } else if cursor.take("XX") {
                options.require(Condition::Present)?;
            } else if cursor.take("GET") {
                options.get = true;
            } else if options.time.is_none() && cursor.take("KEEPTTL") {
                options.keep_deadline = true;
            } else {
                let time = TimeOption::take(&mut cursor, options.time)?;
                if time.is_none() || options.keep_deadline {
                    return Err(CommandError::Syntax);
                }
                options.time = time;
            }
        }
        Ok(options)
    }

    fn require(&mut self, condition: Condition) -> CommandResult {
        if self.condition.is_some_and(|before| before != condition) {
            return Err(CommandError::Syntax);
        }
        self.condition = Some(condition);
        Ok(())
    }
}

fn set_with_options(
    keyspace: &mut Keyspace,
    args: Args<'_>,
    reply: &mut ReplyBuffer,
) -> CommandResult {
    let options = SetOptions::parse(args)?;
    let deadline = match options.time {
        Some(time) => Deadline::At(time.deadline(keyspace.now(), "set")?),
        None if options.keep_deadline => Deadline::Keep,
        None => Deadline::Clear,
    };
    let (key, value) = (args.at(1), encoded(args.at(2)));
    if options.get {
        reply_value(keyspace.read(key), reply);
    }
    let met = match options.condition {
        None => true,
        Some(Condition::Absent) => keyspace.write(key).is_none(),
        Some(Condition::Present) => keyspace.write(key).is_some(),
    };
    match options.condition {
        _ if !met => {}
        // One lookup is saved.
        None => keyspace.put(key, value, deadline),
        Some(_) => keyspace.put_found(key, value, deadline),
    }
    match (options.get, met) {
        (true, _) => {}
        (false, true) => reply.ok(),
        (false, false) => reply.null(),
    }
    Ok(())
}

/// `SETNX key value`
fn setnx(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let absent = keyspace.write(args.at(1)).is_none();
    if absent {
        keyspace.put(args.at(1), encoded(args.at(2)), Deadline::Clear);
    }
    reply.integer(i64::from(absent));
    Ok(())
}

/// `SETEX key seconds value`
fn setex(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    set_with_time(keyspace, args, TimeForm::Seconds, "setex", reply)
}

/// `PSETEX key milliseconds value`
fn psetex(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    set_with_time(keyspace, args, TimeForm::Milliseconds, "psetex", reply)
}

fn set_with_time(
    keyspace: &mut Keyspace,
    args: Args<'_>,
    form: TimeForm,
    command: &'static str,
    reply: &mut ReplyBuffer,
) -> CommandResult {
    let deadline = TimeOption { form, number: args.at(2) }.deadline(keyspace.now(), command)?;
    keyspace.put(args.at(1), encoded(args.at(3)), Deadline::At(deadline));
    reply.ok();
    Ok(())
}

/// `GETSET key value`
fn getset(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply_value(keyspace.read(args.at(1)), reply);
    keyspace.put(args.at(1), encoded(args.at(2)), Deadline::Clear);
    Ok(())
}

/// `MSET key value [key value ...]`
fn mset(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    check_pairs(args, "mset")?;
    put_pairs(keyspace, args);
    reply.ok();
    Ok(())
}

/// `MSETNX key value [key value ...]`
fn msetnx(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    check_pairs(args, "msetnx")?;
    let all_absent = args.from(1).step_by(2).all(|key| keyspace.write(key).is_none());
    if all_absent {
        put_pairs(keyspace, args);
    }
    reply.integer(i64::from(all_absent));
    Ok(())
}

/// Refuses a key without a value, which the table's arity cannot tell.
fn check_pairs(args: Args<'_>, command: &'static str) -> CommandResult {
    if args.len().is_multiple_of(2) {
        return Err(CommandError::WrongArity(command.into()));
    }
    Ok(())
}

fn put_pairs(keyspace: &mut Keyspace, args: Args<'_>) {
    for key in (1..args.len()).step_by(2) {
        keyspace.put(args.at(key), encoded(args.at(key + 1)), Deadline::Clear);
    }
}

/// `APPEND key value`
fn append(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let (key, bytes) = (args.at(1), args.at(2));
    let length = match length_of(keyspace.write(key)) {
        // A first piece is a value like any other: an integer is stored as one.
        None => {
            keyspace.put(key, encoded(bytes), Deadline::Clear);
            bytes.len()
        }
        Some(length) => {
            check_length(keyspace, length as u64, bytes.len())?;
            keyspace.append(key, bytes)
        }
    };
    reply.integer(length as i64);
    Ok(())
}

/// `SETRANGE key offset value`
fn setrange(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let (key, offset, bytes) = (args.at(1), args.integer(2)?, args.at(3));
    let Ok(offset) = u64::try_from(offset) else {
        return Err(CommandError::err("offset is out of range"));
    };
    let length = length_of(keyspace.write(key)).unwrap_or(0);
    // Nothing to write makes no key, and no zeros.
    let length = if bytes.is_empty() {
        length
    } else {
        check_length(keyspace, offset, bytes.len())?;
        keyspace.write_range(key, offset as usize, bytes)
    };
    reply.integer(length as i64);
    Ok(())
}

const STORES: Flags = Flags::WRITE.and(Flags::DENY_OOM);

pub(in crate::command) const SPECS: &[CommandSpec] = &[
    CommandSpec {
        name: "append",
        arity: 3,
        flags: STORES.and(Flags::FAST),
        keys: Keys::FIRST,
        since: "2.0.0",
        complexity: "O(1). The amortized time complexity is O(1) assuming the appended value is \
                     small and the already present value is of any size, since the dynamic string \
                     library used by Redis will double the free space available on every \
                     reallocation.",
        summary: "Appends a string to the value of a key. Creates the key if it doesn't exist.",
        syntax: "key value",
        run: Run::Keyspace(append),
        ..ROW
    },
    CommandSpec {
        name: "getset",
        arity: 3,
        flags: STORES.and(Flags::FAST),
        keys: Keys::FIRST,
        since: "1.0.0",
        summary: "Returns the previous string value of a key after setting it to a new value.",
        syntax: "key value",
        run: Run::Keyspace(getset),
        ..ROW
    },
    CommandSpec {
        name: "mset",
        arity: -3,
        flags: STORES.and(Flags::KEYS_ONLY),
        keys: Keys::PAIRS,
        since: "1.0.1",
        complexity: "O(N) where N is the number of keys to set.",
        summary: "Atomically creates or modifies the string values of one or more keys.",
        syntax: "key value [key value ...]",
        run: Run::Keyspace(mset),
        ..ROW
    },
    CommandSpec {
        name: "msetnx",
        arity: -3,
        flags: STORES.and(Flags::KEYS_ONLY),
        keys: Keys::PAIRS,
        since: "1.0.1",
        complexity: "O(N) where N is the number of keys to set.",
        summary: "Atomically modifies the string values of one or more keys only when all keys \
                  don't exist.",
        syntax: "key value [key value ...]",
        run: Run::Keyspace(msetnx),
        ..ROW
    },
    CommandSpec {
        name: "psetex",
        arity: 4,
        flags: STORES,
        keys: Keys::FIRST,
        since: "2.6.0",
        summary: "Sets both string value and expiration time in milliseconds of a key. \
                  The key is created if it doesn't exist.",
        syntax: "key milliseconds value",
        run: Run::Keyspace(psetex),
        ..ROW
    },
    CommandSpec {
        name: "set",
        arity: -3,
        flags: STORES,
        keys: Keys::FIRST,
        since: "1.0.0",
        summary: "Sets the string value of a key, ignoring its type. \
                  The key is created if it doesn't exist.",
        syntax: "key value [NX | XX] [GET] [EX seconds | PX milliseconds | \
                 EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]",
        run: Run::Keyspace(set),
        ..ROW
    },
    CommandSpec {
        name: "setex",
        arity: 4,
        flags: STORES,
        keys: Keys::FIRST,
        since: "2.0.0",
        summary: "Sets the string value and expiration time of a key. \
                  Creates the key if it doesn't exist.",
        syntax: "key seconds value",
        run: Run::Keyspace(setex),
        ..ROW
    },
    CommandSpec {
        name: "setnx",
        arity: 3,
        flags: STORES.and(Flags::FAST),
        keys: Keys::FIRST,
        since: "1.0.0",
        summary: "Set the string value of a key only when the key doesn't exist.",
        syntax: "key value",
        run: Run::Keyspace(setnx),
        ..ROW
    },
    CommandSpec {
        name: "setrange",
        arity: 4,
        flags: STORES,
        keys: Keys::FIRST,
        since: "2.2.0",
        complexity: "O(1), not counting the time taken to copy the new string in place. Usually, \
                     this string is very small so the amortized complexity is O(1). Otherwise, \
                     complexity is O(M) with M being the length of the value argument.",
        summary: "Overwrites a part of a string value with another by an offset. \
                  Creates the key if it doesn't exist.",
        syntax: "key offset value",
        run: Run::Keyspace(setrange),
        ..ROW
    },
];
