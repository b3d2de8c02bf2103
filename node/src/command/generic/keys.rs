//! Commands that delete, count, rename and copy keys.

use distcache_protocol::resp::ReplyBuffer;

use super::ROW;
use crate::command::{Args, CommandError, CommandResult, CommandSpec, Flags, Keys, Run};
use crate::keyspace::Keyspace;
use crate::keyspace::entry::Value;

/// `DEL key [key ...]` and `UNLINK key [key ...]`: memory is given back at once in both, as a
/// string is one allocation or two.
fn del(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let removed = args.from(1).filter(|key| keyspace.remove(key)).count();
    reply.integer(removed as i64);
    Ok(())
}

/// `EXISTS key [key ...]`
fn exists(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let found = args.from(1).filter(|key| keyspace.peek(key).is_some()).count();
    reply.integer(found as i64);
    Ok(())
}

/// `TOUCH key [key ...]`
fn touch(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    // To note the use is what it is for, so `CLIENT NO-TOUCH` does not hinder it.
    let found = keyspace.with_touching(true, |keyspace| {
        args.from(1).filter(|key| keyspace.read(key).is_some()).count()
    });
    reply.integer(found as i64);
    Ok(())
}

/// The name of a value's type, as `TYPE` gives it.
pub(super) fn type_name(value: Value<'_>) -> &'static str {
    match value {
        Value::Integer(_) | Value::String(_) => "string",
    }
}

/// `TYPE key`
fn type_of(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply.simple(keyspace.peek(args.at(1)).map_or("none", |entry| type_name(entry.value())));
    Ok(())
}

/// Whether a command may take the place of a key that exists.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Existing {
    Replace,
    Keep,
}

/// Gives a key another name. Returns whether it could: not where the other name is taken and
/// `existing` is to be kept.
fn rename_to(
    keyspace: &mut Keyspace,
    from: &[u8],
    to: &[u8],
    existing: Existing,
) -> Result<bool, CommandError> {
    keyspace.write(from).ok_or(CommandError::NoSuchKey)?;
    if from == to {
        return Ok(existing == Existing::Replace);
    }
    if existing == Existing::Keep && keyspace.write(to).is_some() {
        return Ok(false);
    }
    keyspace.relocate(from, to, keyspace.database());
    Ok(true)
}

/// `RENAME key newkey`
fn rename(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    rename_to(keyspace, args.at(1), args.at(2), Existing::Replace)?;
    reply.ok();
    Ok(())
}

/// `RENAMENX key newkey`
fn renamenx(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let renamed = rename_to(keyspace, args.at(1), args.at(2), Existing::Keep)?;
    reply.integer(i64::from(renamed));
    Ok(())
}

/// Returns the number of a database of this node.
pub(super) fn database(keyspace: &Keyspace, argument: &[u8]) -> Result<u8, CommandError> {
    let number = super::small_integer(argument)?;
    match u8::try_from(number) {
        Ok(number) if u16::from(number) < keyspace.databases() => Ok(number),
        _ => Err(CommandError::DatabaseOutOfRange),
    }
}

fn same_object() -> CommandError {
    CommandError::err("source and destination objects are the same")
}

/// `COPY source destination [DB destination-db] [REPLACE]`
fn copy(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let (from, to) = (args.at(1), args.at(2));
    let mut target = keyspace.database();
    let mut existing = Existing::Keep;
    let mut options = args.cursor(3);
    while options.remaining() > 0 {
        if options.take("replace") {
            existing = Existing::Replace;
        } else if options.remaining() > 1 && options.take("db") {
            target = database(keyspace, options.operand()?)?;
        } else {
            return Err(CommandError::Syntax);
        }
    }
    if target == keyspace.database() && from == to {
        return Err(same_object());
    }
    let is_free = |keyspace: &mut Keyspace| {
        existing == Existing::Replace
            || keyspace.in_database(target, |keyspace| keyspace.write(to).is_none())
    };
    let copied = keyspace.read(from).is_some() && is_free(keyspace);
    if copied {
        keyspace.duplicate(from, to, target);
    }
    reply.integer(i64::from(copied));
    Ok(())
}

/// `MOVE key db`
fn move_key(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let (key, target) = (args.at(1), database(keyspace, args.at(2))?);
    if target == keyspace.database() {
        return Err(same_object());
    }
    let is_free = |keyspace: &mut Keyspace| {
        keyspace.in_database(target, |keyspace| keyspace.write(key).is_none())
    };
    let moved = keyspace.write(key).is_some() && is_free(keyspace);
    if moved {
        keyspace.relocate(key, key, target);
    }
    reply.integer(i64::from(moved));
    Ok(())
}

pub(in crate::command) const SPECS: &[CommandSpec] = &[
    CommandSpec {
        name: "copy",
        arity: -3,
        flags: Flags::WRITE.and(Flags::DENY_OOM),
        keys: Keys::FIRST_TWO,
        since: "6.2.0",
        complexity: "O(N) where N is the length of the value.",
        summary: "Copies the value of a key to a new key.",
        syntax: "source destination [DB destination-db] [REPLACE]",
        run: Run::Keyspace(copy),
        ..ROW
    },
    CommandSpec {
        name: "del",
        arity: -2,
        flags: Flags::WRITE.and(Flags::KEYS_ONLY),
        keys: Keys::ALL,
        since: "1.0.0",
        complexity: "O(N) where N is the number of keys that will be removed.",
        summary: "Deletes one or more keys.",
        syntax: "key [key ...]",
        run: Run::Keyspace(del),
        ..ROW
    },
    CommandSpec {
        name: "exists",
        arity: -2,
        flags: Flags::READONLY.and(Flags::FAST).and(Flags::KEYS_ONLY),
        keys: Keys::ALL,
        since: "1.0.0",
        complexity: "O(N) where N is the number of keys to check.",
        summary: "Determines whether one or more keys exist.",
        syntax: "key [key ...]",
        run: Run::Keyspace(exists),
        ..ROW
    },
    CommandSpec {
        name: "move",
        arity: 3,
        flags: Flags::WRITE.and(Flags::FAST),
        keys: Keys::FIRST,
        since: "1.0.0",
        complexity: "O(N) where N is the length of the value, which is written to the log.",
        summary: "Moves a key to another database.",
        syntax: "key db",
        run: Run::Keyspace(move_key),
        ..ROW
    },
    CommandSpec {
        name: "rename",
        arity: 3,
        flags: Flags::WRITE,
        keys: Keys::FIRST_TWO,
        since: "1.0.0",
        complexity: "O(N) where N is the length of the value, which is written to the log.",
        summary: "Renames a key and overwrites the destination.",
        syntax: "key newkey",
        run: Run::Keyspace(rename),
        ..ROW
    },
    CommandSpec {
        name: "renamenx",
        arity: 3,
        flags: Flags::WRITE.and(Flags::FAST),
        keys: Keys::FIRST_TWO,
        since: "1.0.0",
        complexity: "O(N) where N is the length of the value, which is written to the log.",
        summary: "Renames a key only when the target key name doesn't exist.",
        syntax: "key newkey",
        run: Run::Keyspace(renamenx),
        ..ROW
    },
    CommandSpec {
        name: "touch",
        arity: -2,
        flags: Flags::READONLY.and(Flags::FAST).and(Flags::KEYS_ONLY),
        keys: Keys::ALL,
        since: "3.2.1",
        complexity: "O(N) where N is the number of keys that will be touched.",
        summary: "Returns the number of existing keys out of those specified after updating \
                  the time they were last accessed.",
        syntax: "key [key ...]",
        run: Run::Keyspace(touch),
        ..ROW
    },
    CommandSpec {
        name: "type",
        arity: 2,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: Keys::FIRST,
        since: "1.0.0",
        summary: "Determines the type of value stored at a key.",
        syntax: "key",
        run: Run::Keyspace(type_of),
        ..ROW
    },
    CommandSpec {
        name: "unlink",
        arity: -2,
        flags: Flags::WRITE.and(Flags::FAST).and(Flags::KEYS_ONLY),
        keys: Keys::ALL,
        since: "4.0.0",
        complexity: "O(1) for each key removed regardless of its size.",
        summary: "Asynchronously deletes one or more keys.",
        syntax: "key [key ...]",
        run: Run::Keyspace(del),
        ..ROW
    },
];

#[cfg(test)]
mod tests {
    use distcache_protocol::resp::{ArgRange, RespVersion};

    use super::*;
    use crate::keyspace::{Deadline, KeyHasher, ShardId};

    type CommandFn = fn(&mut Keyspace, Args<'_>, &mut ReplyBuffer) -> CommandResult;

    fn run(keyspace: &mut Keyspace, command: CommandFn, request: &str) {
        let mut end = 0;
        let ranges: Vec<ArgRange> = request
            .split(' ')
            .map(|word| {
                let start = end;
                end += word.len() as u32 + 1;
                ArgRange { start, end: end - 1 }
            })
            .collect();
        let mut reply = ReplyBuffer::new(RespVersion::V2);
        command(keyspace, Args::new(request.as_bytes(), &ranges), &mut reply).unwrap();
    }

    fn address(keyspace: &mut Keyspace, key: &[u8], database: u8) -> *const u8 {
        keyspace.in_database(database, |keyspace| match keyspace.inspect(key).unwrap().value() {
            Value::String(bytes) => bytes.as_ptr(),
            Value::Integer(_) => panic!("no string"),
        })
    }

    #[test]
    fn a_long_value_is_not_copied_to_its_new_name() {
        let mut keyspace = Keyspace::new(ShardId { index: 0, count: 1 }, 2, KeyHasher::new(5));
        keyspace.put(b"a", Value::String(&vec![b'x'; 1 << 20]), Deadline::Clear);
        let before = address(&mut keyspace, b"a", 0);
        run(&mut keyspace, rename, "rename a b");
        run(&mut keyspace, renamenx, "renamenx b c");
        run(&mut keyspace, move_key, "move c 1");
        assert_eq!(address(&mut keyspace, b"c", 1), before);
    }
}
