//! Commands that client libraries send to any server, about what this node does not have:
//! scripts, functions, replicas, users. The answers are those of a Redis where the feature is
//! unused.

use distcache_protocol::resp::ReplyBuffer;

use super::connection::DEFAULT_USER;
use super::introspection::acl_cat;
use super::row::{Docs, container, reply_help, row};
use super::{Args, CommandError, CommandResult, CommandSpec, Flags, Group, Run, help};
use crate::server::session::Session;

/// Checks the mode of a flush that has nothing to flush.
fn flush(args: Args<'_>, refusal: &'static str, reply: &mut ReplyBuffer) -> CommandResult {
    match args.len() {
        2 => {}
        3 if args.is(2, "SYNC") || args.is(2, "ASYNC") => {}
        _ => return Err(CommandError::Other(refusal.into())),
    }
    reply.ok();
    Ok(())
}

/// `FUNCTION FLUSH [ASYNC | SYNC]`
fn function_flush(_: &mut Session, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    if args.len() > 3 {
        return Err(CommandError::subcommand("FUNCTION", args.at(1)));
    }
    flush(args, "ERR FUNCTION FLUSH only supports SYNC|ASYNC option", reply)
}

/// `FUNCTION LIST [LIBRARYNAME library-name-pattern] [WITHCODE]`
fn function_list(_: &mut Session, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let mut options = args.cursor(2);
    while options.remaining() > 0 {
        if options.take("WITHCODE") {
            continue;
        }
        if !options.take("LIBRARYNAME") {
            let option = options.operand()?;
            return Err(CommandError::Bytes([b"ERR Unknown argument ", option].concat()));
        }
        if options.next().is_none() {
            return Err(CommandError::err("library name argument was not given"));
        }
    }
    reply.array(0);
    Ok(())
}

/// `FUNCTION DELETE library-name`
fn function_delete(_: &mut Session, _: Args<'_>, _: &mut ReplyBuffer) -> CommandResult {
    Err(CommandError::err("Library not found"))
}

/// `FUNCTION STATS`
fn function_stats(_: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply.map(2);
    reply.bulk(b"running_script");
    reply.null();
    reply.bulk(b"engines");
    reply.map(0);
    Ok(())
}

/// `FUNCTION KILL` and `SCRIPT KILL`
fn kill(_: &mut Session, _: Args<'_>, _: &mut ReplyBuffer) -> CommandResult {
    Err(CommandError::Other("NOTBUSY No scripts in execution right now.".into()))
}

/// `FUNCTION HELP`
fn function_help(_: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply_help(reply, "FUNCTION", help::FUNCTION)
}

/// `SCRIPT FLUSH [ASYNC | SYNC]`
fn script_flush(_: &mut Session, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    flush(args, "ERR SCRIPT FLUSH only support SYNC|ASYNC option", reply)
}

/// `SCRIPT EXISTS sha1 [sha1 ...]`
fn script_exists(_: &mut Session, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply.array(args.len() - 2);
    args.from(2).for_each(|_| reply.integer(0));
    Ok(())
}

/// `SCRIPT LOAD script`
fn script_load(_: &mut Session, _: Args<'_>, _: &mut ReplyBuffer) -> CommandResult {
    Err(CommandError::err("scripts are not supported"))
}

/// `SCRIPT HELP`
fn script_help(_: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply_help(reply, "SCRIPT", help::SCRIPT)
}

/// `ROLE`
fn role(_: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply.array(3);
    reply.bulk(b"master");
    reply.integer(0);
    reply.array(0);
    Ok(())
}

/// `REPLICAOF NO ONE`, and `SLAVEOF NO ONE`
fn replicaof(_: &mut Session, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    if !(args.is(1, "NO") && args.is(2, "ONE")) {
        return Err(CommandError::err("replication is not supported"));
    }
    reply.ok();
    Ok(())
}

/// `LOLWUT [VERSION version]`
fn lolwut(_: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply.verbatim(concat!("distcache ", env!("CARGO_PKG_VERSION"), "\n").as_bytes());
    Ok(())
}

/// `ACL WHOAMI`
fn acl_whoami(_: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply.bulk(DEFAULT_USER.as_bytes());
    Ok(())
}

/// `ACL USERS`
fn acl_users(_: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply.array(1);
    reply.bulk(DEFAULT_USER.as_bytes());
    Ok(())
}

/// `ACL LIST`. Where Redis shows the password's hash, nothing is shown.
fn acl_list(session: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let nopass = if session.config.requirepass.is_none() { "nopass " } else { "" };
    reply.array(1);
    reply.bulk(format!("user {DEFAULT_USER} on {nopass}~* &* +@all").as_bytes());
    Ok(())
}

/// `ACL GETUSER username`
fn acl_getuser(session: &mut Session, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    if args.at(2) != DEFAULT_USER.as_bytes() {
        reply.null();
        return Ok(());
    }
    let flags: &[&str] =
        if session.config.requirepass.is_none() { &["on", "nopass"] } else { &["on"] };
    reply.map(6);
    reply.bulk(b"flags");
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.bulk(flag.as_bytes()));
    reply.bulk(b"passwords");
    reply.array(0);
    for (name, value) in [("commands", "+@all"), ("keys", "~*"), ("channels", "&*")] {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"selectors");
    reply.array(0);
    Ok(())
}

/// `ACL HELP`
fn acl_help(_: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply_help(reply, "ACL", help::ACL)
}

type Function = fn(&mut Session, Args<'_>, &mut ReplyBuffer) -> CommandResult;

const fn sub(
    group: Group,
    name: &'static str,
    arity: i16,
    flags: Flags,
    since: &'static str,
    docs: Docs,
    run: Function,
) -> CommandSpec {
    row(group, name, arity, flags, since, docs, Run::Connection(run))
}

const HELPFUL: Flags = Flags::LOADING.and(Flags::STALE);
const NOSCRIPT: Flags = Flags::NOSCRIPT;
const CHANGING: Flags = NOSCRIPT.and(Flags::WRITE);
const ASKED: Flags = HELPFUL.and(NOSCRIPT);
const ACL: Flags = ASKED.and(Flags::ADMIN);

#[rustfmt::skip]
pub(super) const SPECS: &[CommandSpec] = &[
    container(Group::Server, "acl", "6.0.0", "A container for Access List Control commands ", &[
        sub(Group::Server, "cat", -2, ASKED, "6.0.0",
            ("List the ACL categories or the commands inside a category", "[category]"), acl_cat),
        sub(Group::Server, "getuser", 3, ACL, "6.0.0",
            ("Get the rules for a specific ACL user", "username"), acl_getuser),
        sub(Group::Server, "help", 2, HELPFUL, "6.0.0",
            ("Show helpful text about the different subcommands", ""), acl_help),
        sub(Group::Server, "list", 2, ACL, "6.0.0",
            ("List the current ACL rules in ACL config file format", ""), acl_list),
        sub(Group::Server, "users", 2, ACL, "6.0.0",
            ("List the username of all the configured ACL rules", ""), acl_users),
        sub(Group::Server, "whoami", 2, ASKED, "6.0.0",
            ("Return the name of the user associated to the current connection", ""), acl_whoami),
    ]),
    container(Group::Scripting, "function", "7.0.0", "A container for function commands", &[
        sub(Group::Scripting, "delete", 3, CHANGING, "7.0.0",
            ("Delete a function by name", "library-name"),
            function_delete),
        sub(Group::Scripting, "flush", -2, CHANGING, "7.0.0",
            ("Deleting all functions", "[ASYNC | SYNC]"),
            function_flush),
        sub(Group::Scripting, "help", 2, HELPFUL, "7.0.0",
            ("Show helpful text about the different subcommands", ""), function_help),
        sub(Group::Scripting, "kill", 2, NOSCRIPT.and(Flags::ALLOW_BUSY), "7.0.0",
            ("Kill the function currently in execution.", ""), kill),
        sub(Group::Scripting, "list", -2, NOSCRIPT, "7.0.0",
            ("List information about all the functions",
             "[LIBRARYNAME library-name-pattern] [WITHCODE]"), function_list),
        sub(Group::Scripting, "stats", 2, NOSCRIPT.and(Flags::ALLOW_BUSY), "7.0.0",
            ("Return information about the function currently running (name, description, \
              duration)",
             ""),
            function_stats),
    ]),
    sub(Group::Server, "lolwut", -1, Flags::READONLY.and(Flags::FAST), "5.0.0",
        ("Display some computer art and the Redis version", "[VERSION version]"), lolwut),
    sub(Group::Server, "replicaof", 3,
        Flags::ADMIN.and(NOSCRIPT).and(Flags::STALE).and(Flags::NO_ASYNC_LOADING), "5.0.0",
        ("Make the server a replica of another instance, or promote it as master.",
         "host port"), replicaof),
    sub(Group::Server, "role", 1, ASKED.and(Flags::FAST), "2.8.12",
        ("Return the role of the instance in the context of replication", ""), role),
    container(Group::Scripting, "script", "2.6.0",
        "A container for Lua scripts management commands", &[
        sub(Group::Scripting, "exists", -3, NOSCRIPT, "2.6.0",
            ("Check existence of scripts in the script cache.", "sha1 [sha1 ...]"),
            script_exists),
        sub(Group::Scripting, "flush", -2, NOSCRIPT, "2.6.0",
            ("Remove all the scripts from the script cache.", "[ASYNC | SYNC]"),
            script_flush),
        sub(Group::Scripting, "help", 2, HELPFUL, "5.0.0",
            ("Show helpful text about the different subcommands", ""), script_help),
        sub(Group::Scripting, "kill", 2, NOSCRIPT.and(Flags::ALLOW_BUSY), "2.6.0",
            ("Kill the script currently in execution.", ""), kill),
        sub(Group::Scripting, "load", 3, NOSCRIPT.and(Flags::STALE), "2.6.0",
            ("Load the specified Lua script into the script cache.", "script"),
            script_load),
    ]),
    sub(Group::Server, "slaveof", 3,
        Flags::ADMIN.and(NOSCRIPT).and(Flags::STALE).and(Flags::NO_ASYNC_LOADING), "1.0.0",
        ("Make the server a replica of another instance, or promote it as master.",
         "host port"), replicaof),
];
