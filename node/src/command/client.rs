//! `CLIENT`: a connection about itself and the others.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use distcache_protocol::resp::ReplyBuffer;
use distcache_protocol::resp::decode::parse_integer;

use super::connection::DEFAULT_USER;
use super::error::shown;
use super::row::{container, reply_help, row};
use super::{Args, CommandError, CommandResult, CommandSpec, Flags, Group, Run, TABLE};
use crate::clock;
use crate::limits::CLIENT_NAME_BYTES_MAX;
use crate::records::UnixMillis;
use crate::server::blocked::Unblock;
use crate::server::pause::PauseMode;
use crate::server::registry::{Client, NO_COMMAND};
use crate::server::session::{Replies, Session};

/// Classes of clients; all of ours are normal ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Normal,
    Other,
}

impl Class {
    fn parse(name: &[u8]) -> Result<Self, CommandError> {
        match name.to_ascii_lowercase().as_slice() {
            b"normal" => Ok(Class::Normal),
            b"master" | b"slave" | b"replica" | b"pubsub" => Ok(Class::Other),
            _ => {
                let text = [b"ERR Unknown client type '", shown(name, usize::MAX), b"'"].concat();
                Err(CommandError::Bytes(text))
            }
        }
    }
}

/// Whether Redis takes a text as a name: printable, without spaces.
fn is_plain(text: &[u8]) -> bool {
    text.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

/// Returns a client's name, if it may be one.
pub(super) fn checked_name(name: &[u8]) -> Result<String, CommandError> {
    checked("Client names", name)
}

/// Returns what a client says about itself, if it may say so; `what` is what it is.
fn checked(what: &str, text: &[u8]) -> Result<String, CommandError> {
    if !is_plain(text) {
        let text = format!("{what} cannot contain spaces, newlines or special characters.");
        return Err(CommandError::err(text));
    }
    if text.len() > CLIENT_NAME_BYTES_MAX {
        let bytes = text.len();
        let text = format!(
            "{what} cannot be longer than {CLIENT_NAME_BYTES_MAX} bytes, and this has {bytes}"
        );
        return Err(CommandError::err(text));
    }
    Ok(String::from_utf8_lossy(text).into_owned())
}

/// What a client is and does, a letter each; `N` where there is nothing to say.
fn flags(client: &Client) -> String {
    let all = [(&client.blocked, 'b'), (&client.no_evict, 'e'), (&client.no_touch, 'T')];
    let set: String =
        all.iter().filter(|(flag, _)| flag.load(Relaxed)).map(|(_, letter)| *letter).collect();
    if set.is_empty() { "N".to_owned() } else { set }
}

/// One line of `CLIENT LIST`.
fn describe(client: &Client, now: UnixMillis) -> String {
    let names = client.names().clone();
    let age = now.0.saturating_sub(client.connected.0) / 1000;
    let flags = flags(client);
    let input = client.input_bytes.load(Relaxed);
    let capacity = client.input_capacity.load(Relaxed).max(input);
    let output = client.output_bytes.load(Relaxed);
    let command = match client.last_command.load(Relaxed) {
        NO_COMMAND => "NULL",
        index => TABLE.full_name(index),
    };
    format!(
        "id={} addr={} laddr={} fd={} name={} age={age} idle={} flags={flags} db={} sub=0 psub=0 \
         ssub=0 multi=-1 qbuf={input} qbuf-free={} argv-mem=0 multi-mem=0 rbs={output} \
         rbp={output} obl={output} oll=0 omem={output} tot-mem={} events=r cmd={command} \
         user={DEFAULT_USER} redir=-1 resp={} lib-name={} lib-ver={}",
        client.id,
        client.address,
        client.local,
        client.descriptor,
        names.name,
        client.idle_seconds(),
        client.database.load(Relaxed),
        capacity - input,
        capacity + output + size_of::<Client>(),
        client.version.load(Relaxed),
        names.library,
        names.library_version,
    )
}

/// `CLIENT LIST [TYPE type] [ID id ...]`
fn list(session: &mut Session, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let clients: Vec<Arc<Client>> = if args.len() == 4 && args.is(2, "TYPE") {
        match Class::parse(args.at(3))? {
            Class::Normal => session.node.clients.all(),
            Class::Other => Vec::new(),
        }
    } else if args.len() > 3 && args.is(2, "ID") {
        let mut clients = Vec::new();
        for id in args.from(3) {
            let id = parse_integer(id).ok_or_else(|| CommandError::err("Invalid client ID"))?;
            clients.extend(session.node.clients.get(id as u64));
        }
        clients
    } else if args.len() == 2 {
        session.node.clients.all()
    } else {
        return Err(CommandError::Syntax);
    };
    let now = clock::now();
    let lines: Vec<String> = clients.iter().map(|client| describe(client, now) + "\n").collect();
    reply.verbatim(lines.concat().as_bytes());
    Ok(())
}

/// `CLIENT INFO`
fn info(session: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let line = describe(session.client(), clock::now()) + "\n";
    reply.verbatim(line.as_bytes());
    Ok(())
}

/// Which clients `CLIENT KILL` means.
struct Victims<'a> {
    id: Option<u64>,
    address: Option<&'a [u8]>,
    local: Option<&'a [u8]>,
    class: Class,
    spare_me: bool,
}

impl<'a> Victims<'a> {
    fn parse(args: Args<'a>) -> Result<Self, CommandError> {
        let mut victims = Victims {
            id: None,
            address: None,
            local: None,
            class: Class::Normal,
            spare_me: args.len() > 3,
        };
        if args.len() == 3 {
            victims.address = Some(args.at(2));
            return Ok(victims);
        }
        let mut cursor = args.cursor(2);
        while let Some(option) = cursor.next() {
            let value = cursor.operand()?;
            match option.to_ascii_lowercase().as_slice() {
                b"id" => {
                    let id = parse_integer(value).filter(|&id| id > 0);
                    let text = "client-id should be greater than 0";
                    victims.id = Some(id.ok_or_else(|| CommandError::err(text))? as u64);
                }
                b"type" => victims.class = Class::parse(value)?,
                b"addr" => victims.address = Some(value),
                b"laddr" => victims.local = Some(value),
                b"user" if value == DEFAULT_USER.as_bytes() => {}
                b"user" => {
                    let text = [b"ERR No such user '", value, b"'"].concat();
                    return Err(CommandError::Bytes(text));
                }
                b"skipme" => match value.to_ascii_lowercase().as_slice() {
                    b"yes" => victims.spare_me = true,
                    b"no" => victims.spare_me = false,
                    _ => return Err(CommandError::Syntax),
                },
                _ => return Err(CommandError::Syntax),
            }
        }
        Ok(victims)
    }

    fn include(&self, client: &Client) -> bool {
        let is = |wanted: Option<&[u8]>, address: std::net::SocketAddr| {
            wanted.is_none_or(|wanted| wanted == address.to_string().as_bytes())
        };
        self.class == Class::Normal
            && self.id.is_none_or(|id| id == client.id)
            && is(self.address, client.address)
            && is(self.local, client.local)
    }
}

/// `CLIENT KILL ip:port | option value [option value ...]`
fn kill(session: &mut Session, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let victims = Victims::parse(args)?;
    let mut killed = 0;
    for client in session.node.clients.all().iter().filter(|client| victims.include(client)) {
        if client.id != session.id {
            client.kill();
            // Its task ends in a moment; for others it is gone now.
            session.node.clients.remove(client.id);
        } else if victims.spare_me {
            continue;
        } else {
            // Its reply is still to be written.
            session.closing = true;
        }
        killed += 1;
    }
    match (args.len(), killed) {
        (3, 0) => return Err(CommandError::err("No such client")),
        (3, _) => reply.ok(),
        _ => reply.integer(killed),
    }
    Ok(())
}

/// `CLIENT ID`
fn id(session: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply.integer(session.id as i64);
    Ok(())
}

/// `CLIENT GETNAME`
fn getname(session: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    match session.client().names().name.as_str() {
        "" => reply.null(),
        name => reply.bulk(name.as_bytes()),
    }
    Ok(())
}

/// `CLIENT SETNAME name`
fn setname(session: &mut Session, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    session.client().names().name = checked_name(args.at(2))?;
    reply.ok();
    Ok(())
}

/// `CLIENT SETINFO LIB-NAME name | LIB-VER version`
fn setinfo(session: &mut Session, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let (option, value) = (args.at(2), args.at(3));
    let mut names = session.client().names();
    let (field, name) = match option.to_ascii_lowercase().as_slice() {
        b"lib-name" => (&mut names.library, "lib-name"),
        b"lib-ver" => (&mut names.library_version, "lib-ver"),
        _ => {
            let text = [b"ERR Unrecognized option '", option, b"'"].concat();
            return Err(CommandError::Bytes(text));
        }
    };
    *field = checked(name, value)?;
    reply.ok();
    Ok(())
}

/// `CLIENT REPLY ON|OFF|SKIP`
fn reply_mode(session: &mut Session, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    if args.is(2, "ON") {
        session.replies = Replies::On;
        reply.ok();
    } else if args.is(2, "OFF") {
        session.replies = Replies::Off;
    } else if args.is(2, "SKIP") {
        if session.replies != Replies::Off {
            session.replies = Replies::SkipNext;
        }
    } else {
        return Err(CommandError::Syntax);
    }
    Ok(())
}

/// `CLIENT PAUSE timeout [WRITE|ALL]`
fn pause(session: &mut Session, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let mode = match args.len() {
        3 => PauseMode::All,
        4 if args.is(3, "ALL") => PauseMode::All,
        4 if args.is(3, "WRITE") => PauseMode::Write,
        4 => return Err(CommandError::err("CLIENT PAUSE mode must be WRITE or ALL")),
        _ => return Err(CommandError::subcommand("CLIENT", args.at(1))),
    };
    let text = "timeout is not an integer or out of range";
    let millis = parse_integer(args.at(2)).ok_or_else(|| CommandError::err(text))?;
    let millis = u64::try_from(millis).map_err(|_| CommandError::err("timeout is negative"))?;
    let end = clock::now().0.checked_add(millis).filter(|&end| end <= i64::MAX as u64);
    let end = end.ok_or_else(|| CommandError::err("timeout is out of range"))?;
    session.node.pause.begin(mode, UnixMillis(end));
    reply.ok();
    Ok(())
}

/// `CLIENT UNPAUSE`
fn unpause(session: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    session.node.pause.end();
    reply.ok();
    Ok(())
}

/// Parses `ON` or `OFF`.
fn switch(args: Args<'_>) -> Result<bool, CommandError> {
    match args.at(2).to_ascii_lowercase().as_slice() {
        b"on" => Ok(true),
        b"off" => Ok(false),
        _ => Err(CommandError::Syntax),
    }
}

/// `CLIENT NO-EVICT ON|OFF`. Clients are not evicted here, so this only shows in `CLIENT LIST`.
fn no_evict(session: &mut Session, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    session.client().no_evict.store(switch(args)?, Relaxed);
    reply.ok();
    Ok(())
}

/// `CLIENT NO-TOUCH ON|OFF`
fn no_touch(session: &mut Session, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let on = switch(args)?;
    session.touching = !on;
    session.client().no_touch.store(on, Relaxed);
    reply.ok();
    Ok(())
}

/// `CLIENT UNBLOCK client-id [TIMEOUT|ERROR]`
fn unblock(session: &mut Session, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let how = match args.len() {
        3 => Unblock::Timeout,
        4 if args.is(3, "TIMEOUT") => Unblock::Timeout,
        4 if args.is(3, "ERROR") => Unblock::Error,
        4 => {
            let text = "CLIENT UNBLOCK reason should be TIMEOUT or ERROR";
            return Err(CommandError::err(text));
        }
        _ => return Err(CommandError::subcommand("CLIENT", args.at(1))),
    };
    let client = session.node.clients.get(args.integer(2)? as u64);
    reply.integer(client.is_some_and(|client| client.unblock(how)).into());
    Ok(())
}

/// `CLIENT TRACKING ON|OFF [option ...]`. There is no invalidation of client-side caches, and to
/// promise it would let clients serve stale values.
fn tracking(session: &mut Session, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    check_tracking_options(session, args)?;
    if switch(args)? {
        return Err(CommandError::err("client-side caching is not supported"));
    }
    reply.ok();
    Ok(())
}

/// Refuses what Redis would refuse, also where nothing comes of the options.
fn check_tracking_options(session: &Session, args: Args<'_>) -> CommandResult {
    let mut options = args.cursor(3);
    let mut redirects = false;
    while options.remaining() > 0 {
        if options.remaining() > 1 && options.take("REDIRECT") {
            if std::mem::replace(&mut redirects, true) {
                let text = "A client can only redirect to a single other client";
                return Err(CommandError::err(text));
            }
            let id = parse_integer(options.operand()?).ok_or(CommandError::NotInteger)?;
            let exists = u64::try_from(id).is_ok_and(|id| session.node.clients.get(id).is_some());
            if !exists {
                let text = "The client ID you want redirect to does not exist";
                return Err(CommandError::err(text));
            }
        } else if options.remaining() > 1 && options.take("PREFIX") {
            options.operand()?;
        } else if !["BCAST", "OPTIN", "OPTOUT", "NOLOOP"].iter().any(|flag| options.take(flag)) {
            return Err(CommandError::Syntax);
        }
    }
    Ok(())
}

/// `CLIENT TRACKINGINFO`
fn trackinginfo(_: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(1);
    reply.bulk(b"off");
    reply.bulk(b"redirect");
    reply.integer(-1);
    reply.bulk(b"prefixes");
    reply.array(0);
    Ok(())
}

/// `CLIENT CACHING YES|NO`
fn caching(_: &mut Session, _: Args<'_>, _: &mut ReplyBuffer) -> CommandResult {
    Err(CommandError::err(
        "CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or \
         OPTOUT mode enabled",
    ))
}

/// `CLIENT GETREDIR`
fn getredir(_: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply.integer(-1);
    Ok(())
}

/// `CLIENT HELP`
fn help(_: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply_help(reply, "CLIENT", super::help::CLIENT)
}

/// Properties of all subcommands.
const BASE: Flags = Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE);
const ADMIN: Flags = BASE.and(Flags::ADMIN);

type Command = fn(&mut Session, Args<'_>, &mut ReplyBuffer) -> CommandResult;

const fn sub(
    name: &'static str,
    arity: i16,
    flags: Flags,
    since: &'static str,
    docs: super::row::Docs,
    run: Command,
) -> CommandSpec {
    row(Group::Connection, name, arity, flags, since, docs, Run::Connection(run))
}

/// The row of `CLIENT`.
pub(super) const CONTAINER: CommandSpec = CommandSpec {
    ..container(
        Group::Connection,
        "client",
        "2.4.0",
        "A container for client connection commands",
        SUBCOMMANDS,
    )
};

#[rustfmt::skip]
const SUBCOMMANDS: &[CommandSpec] = &[
    sub("caching", 3, BASE, "6.0.0",
        ("Instruct the server about tracking or not keys in the next request", "YES | NO"),
        caching),
    sub("getname", 2, BASE, "2.6.9", ("Get the current connection name", ""), getname),
    sub("getredir", 2, BASE, "6.0.0",
        ("Get tracking notifications redirection client ID if any", ""), getredir),
    sub("help", 2, Flags::LOADING.and(Flags::STALE), "5.0.0",
        ("Show helpful text about the different subcommands", ""), help),
    sub("id", 2, BASE, "5.0.0", ("Returns the client ID for the current connection", ""), id),
    sub("info", 2, BASE, "6.2.0",
        ("Returns information about the current client connection.", ""), info),
    sub("kill", -3, ADMIN, "2.4.0",
        ("Kill the connection of a client",
         "ip:port | [ID client-id] [TYPE NORMAL | MASTER | SLAVE | REPLICA | PUBSUB] \
          [USER username] [ADDR ip:port] [LADDR ip:port] [SKIPME YES | NO]"),
        kill),
    sub("list", -2, ADMIN, "2.4.0",
        ("Get the list of client connections",
         "[TYPE NORMAL | MASTER | REPLICA | PUBSUB] [ID client-id [client-id ...]]"),
        list),
    sub("no-evict", 3, ADMIN, "7.0.0",
        ("Set client eviction mode for the current connection", "ON | OFF"), no_evict),
    sub("no-touch", 3, BASE, "7.2.0",
        ("Controls whether commands sent by the client will alter the LRU/LFU of the keys \
          they access.",
         "ON | OFF"),
        no_touch),
    sub("pause", -3, ADMIN, "2.9.50",
        ("Stop processing commands from clients for some time", "timeout [WRITE | ALL]"),
        pause),
    sub("reply", 3, BASE, "3.2.0", ("Instruct the server whether to reply to commands",
         "ON | OFF | SKIP"),
        reply_mode),
    sub("setinfo", 4, BASE, "7.2.0",
        ("Set client or connection specific info",
         "LIB-NAME libname | LIB-VER libver"),
        setinfo),
    sub("setname", 3, BASE, "2.6.9",
        ("Set the current connection name", "connection-name"), setname),
    sub("tracking", -3, BASE, "6.0.0",
        ("Enable or disable server assisted client side caching support",
         "ON | OFF [REDIRECT client-id] [PREFIX prefix [PREFIX prefix ...]] [BCAST] [OPTIN] \
          [OPTOUT] [NOLOOP]"),
        tracking),
    sub("trackinginfo", 2, BASE, "6.2.0",
        ("Return information about server assisted client side caching for the current connection",
         ""), trackinginfo),
    sub("unblock", -3, ADMIN, "5.0.0",
        ("Unblock a client blocked in a blocking command from a different connection",
         "client-id [TIMEOUT | ERROR]"),
        unblock),
    sub("unpause", 2, ADMIN, "6.2.0", ("Resume processing of clients that were paused", ""),
        unpause),
];
