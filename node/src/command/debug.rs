//! `DEBUG`: what test suites ask of a server, where `enable-debug-command` lets them.

use std::net::IpAddr;
use std::time::Duration;

use distcache_protocol::resp::ReplyBuffer;
use distcache_protocol::slot::slot_of;

use super::generic::object::encoding_name;
use super::row::{reply_help, row};
use super::{
    Args, CommandError, CommandFuture, CommandResult, CommandSpec, Flags, Group, Run, help,
};
use crate::config::DebugCommand;
use crate::keyspace::ShardId;
use crate::keyspace::entry::{Entry, Value};
use crate::server::session::Session;
use crate::server::{for_all_shards, freeze};
use crate::shard::ShardState;

/// `DEBUG SLEEP seconds | OBJECT key | SET-ACTIVE-EXPIRE 0|1 | ERROR text | LOG text | HELP`
fn debug<'a>(
    session: &'a mut Session,
    args: Args<'a>,
    reply: &'a mut ReplyBuffer,
) -> CommandFuture<'a> {
    Box::pin(async move {
        check_allowed(session)?;
        match (args.at(1).to_ascii_lowercase().as_slice(), args.len()) {
            (b"help", 2) => return reply_help(reply, "DEBUG", help::DEBUG),
            (b"sleep", 3) => freeze(&session.node, seconds(args.at(2))).await,
            (b"object", 3 | 4) => return object(session, args.at(2), reply).await,
            (b"set-active-expire", 3) => {
                let enabled = args.at(2) != b"0";
                let set = move |state: &mut ShardState| state.keyspace.set_active_expiry(enabled);
                for_all_shards(&session.node, set).await?;
            }
            (b"error", 3) => return Err(CommandError::Bytes(args.at(2).to_vec())),
            (b"log", 3) => {
                log::warn!(text = &*String::from_utf8_lossy(args.at(2)); "debug log");
            }
            _ => return Err(unknown(args.at(1))),
        }
        reply.ok();
        Ok(())
    })
}

fn check_allowed(session: &Session) -> CommandResult {
    let address: IpAddr = session.client().address.ip();
    let allowed = match session.config.debug_command {
        DebugCommand::Yes => true,
        DebugCommand::Local => address.is_loopback(),
        DebugCommand::No => false,
    };
    if allowed {
        return Ok(());
    }
    Err(CommandError::err(
        "DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you \
         can run it from a local connection, otherwise you need to set this option in the \
         configuration file, and then restart the server.",
    ))
}

fn unknown(subcommand: &[u8]) -> CommandError {
    CommandError::subcommand("DEBUG", subcommand)
}

/// A time in seconds; what is no number is no time, as in Redis.
fn seconds(text: &[u8]) -> Duration {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<f64>().ok());
    number.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or_default()
}

async fn object(session: &Session, key: &[u8], reply: &mut ReplyBuffer) -> CommandResult {
    let shards = &session.node.shards;
    let owner = ShardId::owner_of(slot_of(key), shards.len() as u16);
    let (key, database, touching) = (key.to_vec(), session.database, session.touching);
    let visit = move |state: &mut ShardState| {
        state.begin(database, touching);
        let clock = &state.keyspace.clock;
        let line = |entry: &Entry| describe(entry, clock.idle_seconds(entry.access()));
        state.keyspace.inspect(&key).map(line)
    };
    let line = shards[owner as usize].visit(visit).await.map_err(CommandError::err)?;
    reply.simple(&line.ok_or(CommandError::NoSuchKey)?);
    Ok(())
}

fn describe(entry: &Entry, idle_seconds: u32) -> String {
    format!(
        "Value at:0x0 refcount:1 encoding:{} serializedlength:{} lru:{} lru_seconds_idle:{}",
        encoding_name(entry),
        serialized_len(entry),
        entry.access(),
        idle_seconds
    )
}

/// Length of a value in a dump, its type and checksum not counted.
fn serialized_len(entry: &Entry) -> usize {
    match entry.value() {
        Value::Integer(-0x80..=0x7f) => 2,
        Value::Integer(-0x8000..=0x7fff) => 3,
        Value::Integer(-0x8000_0000..=0x7fff_ffff) => 5,
        Value::Integer(integer) => integer.to_string().len() + 1,
        Value::String(bytes) => {
            let length = match bytes.len() {
                0..=0x3f => 1,
                0x40..=0x3fff => 2,
                _ => 5,
            };
            bytes.len() + length
        }
    }
}

pub(super) const SPEC: CommandSpec = CommandSpec {
    complexity: "Depends on subcommand.",
    ..row(
        Group::Server,
        "debug",
        -2,
        Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::LOADING).and(Flags::STALE),
        "1.0.0",
        ("A container for debugging commands", "subcommand [argument]"),
        Run::Node(debug),
    )
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_to_sleep_are_read_as_redis_reads_them() {
        assert_eq!(seconds(b"0.25"), Duration::from_millis(250));
        for nothing in [&b"x"[..], b"", b"-1", b"nan", b"\xff"] {
            assert_eq!(seconds(nothing), Duration::ZERO);
        }
    }
}
