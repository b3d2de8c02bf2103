//! Commands about the connection, but for `CLIENT`.

use distcache_protocol::resp::decode::parse_integer;
use distcache_protocol::resp::{ReplyBuffer, RespVersion};

use super::client::{self, checked_name};
use super::error::shown;
use super::row::row;
use super::{Args, CommandError, CommandResult, CommandSpec, Flags, Group, Run};
use crate::limits::HTTP_WARNING_PAUSE;
use crate::logger::Seldom;
use crate::node::REDIS_VERSION;
use crate::server::session::Session;

/// The only user there is.
pub(super) const DEFAULT_USER: &str = "default";

/// `PING [message]`
fn ping(_: &mut Session, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    match (args.len(), args.get(1)) {
        (_, None) => reply.simple("PONG"),
        (2, Some(message)) => reply.bulk(message),
        _ => return Err(CommandError::WrongArity("ping".into())),
    }
    Ok(())
}

/// `ECHO message`
fn echo(_: &mut Session, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply.bulk(args.at(1));
    Ok(())
}

/// `SELECT index`
fn select(session: &mut Session, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let index = args.integer(1)?;
    if i32::try_from(index).is_err() {
        let range = "value is out of range, value must between -2147483648 and 2147483647";
        return Err(CommandError::err(range));
    }
    match u8::try_from(index) {
        Ok(index) if u16::from(index) < session.config.databases => session.select(index),
        _ => return Err(CommandError::DatabaseOutOfRange),
    }
    reply.ok();
    Ok(())
}

/// `QUIT`
fn quit(session: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    session.closing = true;
    reply.ok();
    Ok(())
}

/// `RESET`
fn reset(session: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    session.reset();
    reply.simple("RESET");
    Ok(())
}

/// `AUTH [username] password`
fn auth(session: &mut Session, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    match args.len() {
        2 if session.config.requirepass.is_none() => {
            return Err(CommandError::err(
                "AUTH <password> called without any password configured for the default user. \
                 Are you sure your configuration is correct?",
            ));
        }
        2 => authenticate(session, DEFAULT_USER.as_bytes(), args.at(1))?,
        3 => authenticate(session, args.at(1), args.at(2))?,
        _ => return Err(CommandError::Syntax),
    }
    reply.ok();
    Ok(())
}

fn authenticate(session: &mut Session, user: &[u8], given: &[u8]) -> CommandResult {
    let known = user == DEFAULT_USER.as_bytes();
    // As in Redis, any password will do where none is asked for.
    let password = session.config.requirepass.as_ref();
    let right = password.is_none_or(|password| is_same(given, password.reveal().as_bytes()));
    if !(known && right) {
        let text = "WRONGPASS invalid username-password pair or user is disabled.";
        return Err(CommandError::Other(text.into()));
    }
    session.authenticated = true;
    Ok(())
}

/// Compares in a time that depends on the length of what was given only, so that nobody can find
/// the password letter by letter.
fn is_same(given: &[u8], password: &[u8]) -> bool {
    let mut difference = given.len() ^ password.len();
    for (at, byte) in given.iter().enumerate() {
        // There is no empty password: that means that none is asked for.
        difference |= usize::from(byte ^ password[at % password.len()]);
    }
    difference == 0
}

/// `HELLO [protover [AUTH username password] [SETNAME clientname]]`
fn hello(session: &mut Session, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let version = match args.get(1).map(parse_integer) {
        None => session.version,
        Some(None) => {
            let text = "Protocol version is not an integer or out of range";
            return Err(CommandError::err(text));
        }
        Some(Some(2)) => RespVersion::V2,
        Some(Some(3)) => RespVersion::V3,
        Some(Some(_)) => {
            return Err(CommandError::Other("NOPROTO unsupported protocol version".into()));
        }
    };
    let mut credentials = None;
    let mut name = None;
    let mut cursor = args.cursor(2);
    while let Some(option) = cursor.next() {
        let operands = cursor.remaining();
        if option.eq_ignore_ascii_case(b"AUTH") && operands >= 2 {
            credentials = Some((cursor.operand()?, cursor.operand()?));
        } else if option.eq_ignore_ascii_case(b"SETNAME") && operands >= 1 {
            name = Some(checked_name(cursor.operand()?)?);
        } else {
            let option = shown(option, usize::MAX);
            let text = [b"ERR Syntax error in HELLO option '", option, b"'"].concat();
            return Err(CommandError::Bytes(text));
        }
    }
    if let Some((user, password)) = credentials {
        authenticate(session, user, password)?;
    }
    if !session.authenticated {
        return Err(CommandError::Other(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
             HELLO AUTH <user> <pass> option can be used to authenticate the client and select \
             the RESP protocol version at the same time"
                .into(),
        ));
    }
    if let Some(name) = name {
        session.client().names().name = name;
    }
    session.speak(version);
    describe(session, reply);
    Ok(())
}

fn describe(session: &Session, reply: &mut ReplyBuffer) {
    reply.set_version(session.version);
    reply.map(7);
    for (name, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"proto");
    reply.integer(if session.version == RespVersion::V3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.integer(session.id as i64);
    for (name, value) in [("mode", session.access.redis_mode()), ("role", "master")] {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"modules");
    reply.array(0);
}

/// `POST` and `Host:`, the beginning of lines of HTTP: somebody makes a browser send requests here.
/// What follows in them could be commands, so the connection ends.
fn refuse_http(session: &mut Session, _: Args<'_>, _: &mut ReplyBuffer) -> CommandResult {
    static WARNED: Seldom = Seldom::new(HTTP_WARNING_PAUSE);
    let address = session.client().address.to_string();
    log::log!(
        WARNED.level(), client = session.id, address = address.as_str();
        "closing a connection that speaks http: possible attack"
    );
    session.aborted = true;
    Ok(())
}

/// Properties of commands that a client may always send.
const OPEN: Flags = Flags::NOSCRIPT
    .and(Flags::LOADING)
    .and(Flags::STALE)
    .and(Flags::FAST)
    .and(Flags::NO_AUTH)
    .and(Flags::ALLOW_BUSY);
const IN_LOADING: Flags = Flags::LOADING.and(Flags::STALE).and(Flags::FAST);

pub(super) const SPECS: &[CommandSpec] = &[
    row(
        Group::Connection,
        "auth",
        -2,
        OPEN.and(Flags::SKIP_SLOWLOG),
        "1.0.0",
        ("Authenticate to the server", "[username] password"),
        Run::Connection(auth),
    ),
    client::CONTAINER,
    row(
        Group::Connection,
        "echo",
        2,
        Flags::LOADING.and(Flags::STALE).and(Flags::FAST),
        "1.0.0",
        ("Echo the given string", "message"),
        Run::Connection(echo),
    ),
    row(
        Group::Connection,
        "hello",
        -1,
        OPEN.and(Flags::SKIP_SLOWLOG),
        "6.0.0",
        ("Handshake with Redis", "[protover [AUTH username password] [SETNAME clientname]]"),
        Run::Connection(hello),
    ),
    row(
        Group::Connection,
        "host:",
        -1,
        OPEN.and(Flags::HIDDEN),
        "3.2.7",
        ("Closes a connection that speaks HTTP.", ""),
        Run::Connection(refuse_http),
    ),
    row(
        Group::Connection,
        "ping",
        -1,
        Flags::FAST,
        "1.0.0",
        ("Ping the server", "[message]"),
        Run::Connection(ping),
    ),
    row(
        Group::Connection,
        "post",
        -1,
        OPEN.and(Flags::HIDDEN),
        "3.2.7",
        ("Closes a connection that speaks HTTP.", ""),
        Run::Connection(refuse_http),
    ),
    row(
        Group::Connection,
        "quit",
        -1,
        OPEN,
        "1.0.0",
        ("Close the connection", ""),
        Run::Connection(quit),
    ),
    row(
        Group::Connection,
        "reset",
        1,
        OPEN,
        "6.2.0",
        ("Reset the connection", ""),
        Run::Connection(reset),
    ),
    row(
        Group::Connection,
        "select",
        2,
        IN_LOADING,
        "1.0.0",
        ("Change the selected database for the current connection", "index"),
        Run::Connection(select),
    ),
];

#[cfg(test)]
mod tests {
    use super::is_same;

    #[test]
    fn passwords_are_compared_whole() {
        assert!(is_same(b"secret", b"secret"));
        for wrong in ["", "s", "secre", "secrets", "secretsecret", "Secret", "secreT"] {
            assert!(!is_same(wrong.as_bytes(), b"secret"), "{wrong}");
        }
    }
}
