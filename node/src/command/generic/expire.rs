//! Commands on the deadlines of keys.

use distcache_protocol::resp::ReplyBuffer;

use super::ROW;
use crate::command::error::shown;
use crate::command::{Args, CommandError, CommandResult, CommandSpec, Flags, Keys, Run};
use crate::keyspace::Keyspace;
use crate::records::UnixMillis;

/// What a time argument counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Seconds,
    Millis,
}

/// What a time argument counts from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Now,
    Epoch,
}

/// The conditions of the `EXPIRE` family; more than one may be given.
#[derive(Default)]
struct Conditions {
    only_without: bool,
    only_with: bool,
    only_later: bool,
    only_earlier: bool,
}

impl Conditions {
    fn parse(args: Args<'_>) -> Result<Self, CommandError> {
        let mut conditions = Conditions::default();
        for arg in args.from(3) {
            let place = match arg.to_ascii_lowercase().as_slice() {
                b"nx" => &mut conditions.only_without,
                b"xx" => &mut conditions.only_with,
                b"gt" => &mut conditions.only_later,
                b"lt" => &mut conditions.only_earlier,
                _ => return Err(unsupported(arg)),
            };
            *place = true;
        }
        let Conditions { only_without, only_with, only_later, only_earlier } = conditions;
        if only_without && (only_with || only_later || only_earlier) {
            return Err(CommandError::err(
                "NX and XX, GT or LT options at the same time are not compatible",
            ));
        }
        if only_later && only_earlier {
            return Err(CommandError::err("GT and LT options at the same time are not compatible"));
        }
        Ok(conditions)
    }

    /// Whether a key of this deadline may get `new` (Unix ms, perhaps before 1970). No deadline
    /// counts as one that never comes.
    fn allow(&self, current: Option<UnixMillis>, new: i64) -> bool {
        let current = current.map(|current| current.0 as i64);
        !(self.only_without && current.is_some()
            || self.only_with && current.is_none()
            || self.only_later && current.is_none_or(|current| new <= current)
            || self.only_earlier && current.is_some_and(|current| new >= current))
    }
}

/// Redis shows the option as a C string, on one line.
fn unsupported(option: &[u8]) -> CommandError {
    let mut text = b"ERR Unsupported option ".to_vec();
    text.extend(shown(option, usize::MAX));
    while let Some(b'\r' | b'\n') = text.last() {
        text.pop();
    }
    CommandError::Bytes(text)
}

/// Returns a time argument as Unix ms, perhaps before 1970.
fn deadline(
    keyspace: &Keyspace,
    args: Args<'_>,
    unit: Unit,
    origin: Origin,
    name: &'static str,
) -> Result<i64, CommandError> {
    let time = args.integer(2)?;
    let millis = match unit {
        Unit::Seconds => time.checked_mul(1000),
        Unit::Millis => Some(time),
    };
    let base = match origin {
        Origin::Now => keyspace.now().0 as i64,
        Origin::Epoch => 0,
    };
    millis.and_then(|millis| millis.checked_add(base)).ok_or(CommandError::InvalidExpire(name))
}

fn set_deadline(
    keyspace: &mut Keyspace,
    args: Args<'_>,
    reply: &mut ReplyBuffer,
    (unit, origin, name): (Unit, Origin, &'static str),
) -> CommandResult {
    let conditions = Conditions::parse(args)?;
    let new = deadline(keyspace, args, unit, origin, name)?;
    let key = args.at(1);
    let allowed = keyspace.write(key).is_some_and(|entry| conditions.allow(entry.deadline(), new));
    if allowed {
        match u64::try_from(new) {
            Ok(new) if new > keyspace.now().0 => {
                keyspace.set_deadline(key, Some(UnixMillis(new)));
            }
            // A deadline that has passed deletes the key now.
            _ => {
                keyspace.remove(key);
            }
        }
    }
    reply.integer(i64::from(allowed));
    Ok(())
}

/// `EXPIRE key seconds [NX | XX | GT | LT]`
fn expire(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    set_deadline(keyspace, args, reply, (Unit::Seconds, Origin::Now, "expire"))
}

/// `PEXPIRE key milliseconds [NX | XX | GT | LT]`
fn pexpire(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    set_deadline(keyspace, args, reply, (Unit::Millis, Origin::Now, "pexpire"))
}

/// `EXPIREAT key unix-time-seconds [NX | XX | GT | LT]`
fn expireat(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    set_deadline(keyspace, args, reply, (Unit::Seconds, Origin::Epoch, "expireat"))
}

/// `PEXPIREAT key unix-time-milliseconds [NX | XX | GT | LT]`
fn pexpireat(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    set_deadline(keyspace, args, reply, (Unit::Millis, Origin::Epoch, "pexpireat"))
}

/// `PERSIST key`
fn persist(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let key = args.at(1);
    let volatile = keyspace.write(key).is_some_and(|entry| entry.deadline().is_some());
    if volatile {
        keyspace.set_deadline(key, None);
    }
    reply.integer(i64::from(volatile));
    Ok(())
}

fn reply_deadline(
    keyspace: &mut Keyspace,
    args: Args<'_>,
    reply: &mut ReplyBuffer,
    (unit, origin): (Unit, Origin),
) -> CommandResult {
    let now = keyspace.now().0;
    let Some(entry) = keyspace.peek(args.at(1)) else {
        reply.integer(-2);
        return Ok(());
    };
    let Some(deadline) = entry.deadline() else {
        reply.integer(-1);
        return Ok(());
    };
    let millis = match origin {
        Origin::Now => deadline.0.saturating_sub(now),
        Origin::Epoch => deadline.0,
    };
    reply.integer(match unit {
        // Rounded to the nearest second, as Redis does.
        Unit::Seconds => (millis.saturating_add(500) / 1000) as i64,
        Unit::Millis => millis as i64,
    });
    Ok(())
}

/// `TTL key`
fn ttl(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply_deadline(keyspace, args, reply, (Unit::Seconds, Origin::Now))
}

/// `PTTL key`
fn pttl(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply_deadline(keyspace, args, reply, (Unit::Millis, Origin::Now))
}

/// `EXPIRETIME key`
fn expiretime(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply_deadline(keyspace, args, reply, (Unit::Seconds, Origin::Epoch))
}

/// `PEXPIRETIME key`
fn pexpiretime(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply_deadline(keyspace, args, reply, (Unit::Millis, Origin::Epoch))
}

/// What the rows that set a deadline share.
const SETTER: CommandSpec =
    CommandSpec { arity: -3, flags: Flags::WRITE.and(Flags::FAST), keys: Keys::FIRST, ..ROW };

/// What the rows that tell a deadline share.
const GETTER: CommandSpec = CommandSpec {
    arity: 2,
    flags: Flags::READONLY.and(Flags::FAST),
    keys: Keys::FIRST,
    syntax: "key",
    ..ROW
};

pub(in crate::command) const SPECS: &[CommandSpec] = &[
    CommandSpec {
        name: "expire",
        since: "1.0.0",
        summary: "Sets the expiration time of a key in seconds.",
        syntax: "key seconds [NX | XX | GT | LT]",
        run: Run::Keyspace(expire),
        ..SETTER
    },
    CommandSpec {
        name: "expireat",
        since: "1.2.0",
        summary: "Sets the expiration time of a key to a Unix timestamp.",
        syntax: "key unix-time-seconds [NX | XX | GT | LT]",
        run: Run::Keyspace(expireat),
        ..SETTER
    },
    CommandSpec {
        name: "expiretime",
        since: "7.0.0",
        summary: "Returns the expiration time of a key as a Unix timestamp.",
        run: Run::Keyspace(expiretime),
        ..GETTER
    },
    CommandSpec {
        name: "persist",
        arity: 2,
        since: "2.2.0",
        summary: "Removes the expiration time of a key.",
        syntax: "key",
        run: Run::Keyspace(persist),
        ..SETTER
    },
    CommandSpec {
        name: "pexpire",
        since: "2.6.0",
        summary: "Sets the expiration time of a key in milliseconds.",
        syntax: "key milliseconds [NX | XX | GT | LT]",
        run: Run::Keyspace(pexpire),
        ..SETTER
    },
    CommandSpec {
        name: "pexpireat",
        since: "2.6.0",
        summary: "Sets the expiration time of a key to a Unix milliseconds timestamp.",
        syntax: "key unix-time-milliseconds [NX | XX | GT | LT]",
        run: Run::Keyspace(pexpireat),
        ..SETTER
    },
    CommandSpec {
        name: "pexpiretime",
        since: "7.0.0",
        summary: "Returns the expiration time of a key as a Unix milliseconds timestamp.",
        run: Run::Keyspace(pexpiretime),
        ..GETTER
    },
    CommandSpec {
        name: "pttl",
        since: "2.6.0",
        summary: "Returns the expiration time in milliseconds of a key.",
        run: Run::Keyspace(pttl),
        ..GETTER
    },
    CommandSpec {
        name: "ttl",
        since: "1.0.0",
        summary: "Returns the expiration time in seconds of a key.",
        run: Run::Keyspace(ttl),
        ..GETTER
    },
];
