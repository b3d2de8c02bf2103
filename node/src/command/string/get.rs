//! Commands that answer with a value or a part of it, some of them changing the key on the way.

use distcache_protocol::resp::ReplyBuffer;
use distcache_protocol::resp::reply::DECIMAL_LEN_MAX;

use super::super::{Args, CommandError, CommandResult, CommandSpec, Flags, Keys, Run};
use super::{ROW, TimeOption, bytes_of, length_of, reply_value};
use crate::keyspace::Keyspace;

/// `GET key`
fn get(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply_value(keyspace.read(args.at(1)), reply);
    Ok(())
}

/// `MGET key [key ...]`
fn mget(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply.array(args.len() - 1);
    for key in args.from(1) {
        reply_value(keyspace.read(key), reply);
    }
    Ok(())
}

/// `GETDEL key`
fn getdel(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    get(keyspace, args, reply)?;
    keyspace.remove(args.at(1));
    Ok(())
}

/// What `GETEX` does to the deadline.
#[derive(Clone, Copy)]
enum Change<'a> {
    Nothing,
    Persist,
    Set(TimeOption<'a>),
}

/// `GETEX key [EX seconds | PX milliseconds | EXAT unix-time-seconds |
/// PXAT unix-time-milliseconds | PERSIST]`
fn getex(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let change = parse_getex(args)?;
    let key = args.at(1);
    let now = keyspace.now();
    let Some(entry) = keyspace.read(key) else {
        reply.null();
        return Ok(());
    };
    reply_value(Some(entry), reply);
    let had_deadline = entry.deadline().is_some();
    match change {
        Change::Set(time) => match time.deadline(now, "getex")? {
            // A time that is over already takes the key with it.
            deadline if deadline <= now => drop(keyspace.remove(key)),
            deadline => drop(keyspace.set_deadline(key, Some(deadline))),
        },
        Change::Persist if had_deadline => drop(keyspace.set_deadline(key, None)),
        Change::Persist | Change::Nothing => {}
    }
    Ok(())
}

fn parse_getex(args: Args<'_>) -> Result<Change<'_>, CommandError> {
    let mut options = args.cursor(2);
    let mut change = Change::Nothing;
    while options.remaining() > 0 {
        let before = match change {
            Change::Set(time) => Some(time),
            Change::Nothing | Change::Persist => None,
        };
        if before.is_none() && options.take("PERSIST") {
            change = Change::Persist;
            continue;
        }
        match TimeOption::take(&mut options, before)? {
            Some(time) if !matches!(change, Change::Persist) => change = Change::Set(time),
            _ => return Err(CommandError::Syntax),
        }
    }
    Ok(change)
}

/// `GETRANGE key start end`, and `SUBSTR`, its old name
fn getrange(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let (start, end) = (args.integer(2)?, args.integer(3)?);
    let Some(entry) = keyspace.read(args.at(1)) else {
        reply.bulk(b"");
        return Ok(());
    };
    let mut digits = [0; DECIMAL_LEN_MAX];
    let bytes = bytes_of(entry.value(), &mut digits);
    reply.bulk(part(bytes, start, end));
    Ok(())
}

/// The bytes from `start` to `end`, both included; negative positions count from the end.
fn part(bytes: &[u8], start: i64, end: i64) -> &[u8] {
    // Both before the first byte would otherwise both become the first.
    if bytes.is_empty() || (start < 0 && end < 0 && start > end) {
        return b"";
    }
    let length = bytes.len() as i64;
    let position = |at: i64| if at < 0 { (length + at).max(0) } else { at };
    let (start, end) = (position(start), position(end).min(length - 1));
    if start > end { b"" } else { &bytes[start as usize..=end as usize] }
}

/// `STRLEN key`
fn strlen(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply.integer(length_of(keyspace.read(args.at(1))).unwrap_or(0) as i64);
    Ok(())
}

const RANGE_COMPLEXITY: &str = "O(N) where N is the length of the returned string. The complexity \
    is ultimately determined by the returned length, but because creating a substring from an \
    existing string is very cheap, it can be considered O(1) for small strings.";

pub(in crate::command) const SPECS: &[CommandSpec] = &[
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
        name: "getdel",
        arity: 2,
        flags: Flags::WRITE.and(Flags::FAST),
        keys: Keys::FIRST,
        since: "6.2.0",
        summary: "Returns the string value of a key after deleting the key.",
        syntax: "key",
        run: Run::Keyspace(getdel),
        ..ROW
    },
    CommandSpec {
        name: "getex",
        arity: -2,
        flags: Flags::WRITE.and(Flags::FAST),
        keys: Keys::FIRST,
        since: "6.2.0",
        summary: "Returns the string value of a key after setting its expiration time.",
        syntax: "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | \
                 PXAT unix-time-milliseconds | PERSIST]",
        run: Run::Keyspace(getex),
        ..ROW
    },
    CommandSpec {
        name: "getrange",
        arity: 4,
        flags: Flags::READONLY,
        keys: Keys::FIRST,
        since: "2.4.0",
        complexity: RANGE_COMPLEXITY,
        summary: "Returns a substring of the string stored at a key.",
        syntax: "key start end",
        run: Run::Keyspace(getrange),
        ..ROW
    },
    CommandSpec {
        name: "mget",
        arity: -2,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: Keys::ALL,
        since: "1.0.0",
        complexity: "O(N) where N is the number of keys to retrieve.",
        summary: "Atomically returns the string values of one or more keys.",
        syntax: "key [key ...]",
        run: Run::Keyspace(mget),
        ..ROW
    },
    CommandSpec {
        name: "strlen",
        arity: 2,
        flags: Flags::READONLY.and(Flags::FAST),
        keys: Keys::FIRST,
        since: "2.2.0",
        summary: "Returns the length of a string value.",
        syntax: "key",
        run: Run::Keyspace(strlen),
        ..ROW
    },
    CommandSpec {
        name: "substr",
        arity: 4,
        flags: Flags::READONLY,
        keys: Keys::FIRST,
        since: "1.0.0",
        complexity: RANGE_COMPLEXITY,
        summary: "Returns a substring from a string value.",
        syntax: "key start end",
        run: Run::Keyspace(getrange),
        ..ROW
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_both_its_ends_and_none_outside_the_string() {
        let cases: &[(i64, i64, &[u8])] = &[
            (0, 0, b"a"),
            (1, 2, b"bc"),
            (-2, -1, b"cd"),
            (-100, -50, b"a"),
            (-50, -100, b""),
            (2, 1, b""),
            (4, 9, b""),
            (i64::MIN, i64::MAX, b"abcd"),
            (i64::MAX, i64::MAX, b""),
            (i64::MIN, i64::MIN, b"a"),
        ];
        for &(start, end, expected) in cases {
            assert_eq!(part(b"abcd", start, end), expected, "{start} {end}");
            assert_eq!(part(b"", start, end), b"");
        }
    }
}
