//! `COMMAND`: the table as clients read it.

use distcache_protocol::glob;
use distcache_protocol::resp::ReplyBuffer;

use super::catalog::{self, KeySpec};
use super::row::{reply_help, row};
use super::{
    Args, Command, CommandError, CommandResult, CommandSpec, Flags, Group, Keys, Run, TABLE, help,
};
use crate::server::session::Session;

/// Properties, with the words that Redis has for them.
const FLAG_NAMES: &[(Flags, &str)] = &[
    (Flags::WRITE, "write"),
    (Flags::READONLY, "readonly"),
    (Flags::DENY_OOM, "denyoom"),
    (Flags::ADMIN, "admin"),
    (Flags::NOSCRIPT, "noscript"),
    (Flags::BLOCKING, "blocking"),
    (Flags::LOADING, "loading"),
    (Flags::STALE, "stale"),
    (Flags::FAST, "fast"),
    (Flags::NO_AUTH, "no_auth"),
    (Flags::NO_ASYNC_LOADING, "no_async_loading"),
    (Flags::NO_MULTI, "no_multi"),
    (Flags::MOVABLE_KEYS, "movablekeys"),
    (Flags::ALLOW_BUSY, "allow_busy"),
];

/// Categories of access control, in Redis's order.
const CATEGORIES: &[&str] = &[
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
];

/// All commands that are shown; their subcommands are not among them.
fn shown() -> impl Iterator<Item = Command> {
    let rows = super::GROUPS.iter().copied().flatten();
    rows.filter(|spec| !spec.flags.has(Flags::HIDDEN))
        .filter_map(|spec| TABLE.find(spec.name.as_bytes()))
}

/// A command and its subcommands.
fn with_subcommands(command: Command) -> impl Iterator<Item = Command> {
    std::iter::once(command).chain(subcommands(command))
}

fn subcommands(command: Command) -> impl Iterator<Item = Command> {
    let row =
        move |spec: &'static CommandSpec| TABLE.find_subcommand(command, spec.name.as_bytes());
    let shown = command.spec.subcommands.iter().filter(|spec| !spec.flags.has(Flags::HIDDEN));
    shown.filter_map(row)
}

/// Finds a command by its full name: `get`, `config|set`.
fn find_by_full_name(name: &[u8]) -> Option<Command> {
    match name.iter().position(|&byte| byte == b'|') {
        None => TABLE.find(name),
        Some(bar) => TABLE.find_subcommand(TABLE.find(&name[..bar])?, &name[bar + 1..]),
    }
}

/// Categories of access control that a command belongs to.
fn categories(command: Command) -> Vec<&'static str> {
    let flags = command.spec.flags;
    let mut categories = Vec::new();
    for (flag, names) in [
        (Flags::WRITE, &["write"][..]),
        (Flags::READONLY, &["read"]),
        (Flags::ADMIN, &["admin", "dangerous"]),
        (Flags::FAST, &["fast"]),
        (Flags::BLOCKING, &["blocking"]),
    ] {
        if flags.has(flag) {
            categories.extend(names);
        }
    }
    if !flags.has(Flags::FAST) {
        categories.push("slow");
    }
    categories.extend(catalog::find(TABLE.full_name(command.index)).categories.split_whitespace());
    categories.sort_by_key(|name| CATEGORIES.iter().position(|known| known == name));
    categories
}

fn reply_words<'a>(reply: &mut ReplyBuffer, words: impl Iterator<Item = &'a str> + Clone) {
    reply.set(words.clone().count());
    words.for_each(|word| reply.simple(word));
}

fn bulk(reply: &mut ReplyBuffer, text: &str) {
    reply.bulk(text.as_bytes());
}

fn reply_info(reply: &mut ReplyBuffer, command: Command) {
    let spec = command.spec;
    let entry = catalog::find(TABLE.full_name(command.index));
    reply.array(10);
    bulk(reply, TABLE.full_name(command.index));
    reply.integer(spec.arity.into());
    let flags = FLAG_NAMES.iter().filter(|(flag, _)| spec.flags.has(*flag)).map(|(_, name)| *name);
    reply_words(reply, flags);
    let (first, last, step) = match spec.keys {
        Keys::None => (0, 0, 0),
        Keys::Range { first, last, step } => (first, last, step),
    };
    for number in [first, last, step] {
        reply.integer(number.into());
    }
    let categories: Vec<String> =
        categories(command).iter().map(|name| format!("@{name}")).collect();
    reply_words(reply, categories.iter().map(String::as_str));
    reply.set(entry.tips.split_whitespace().count());
    entry.tips.split_whitespace().for_each(|tip| bulk(reply, tip));
    reply.set(entry.keys.len());
    entry.keys.iter().for_each(|key| reply_key_spec(reply, key));
    match subcommands(command).count() {
        // As Redis does where a command has none by its nature.
        0 => reply.set(0),
        count => reply.array(count),
    }
    subcommands(command).for_each(|subcommand| reply_info(reply, subcommand));
}

fn reply_key_spec(reply: &mut ReplyBuffer, key: &KeySpec) {
    reply.map(if key.notes.is_empty() { 3 } else { 4 });
    if !key.notes.is_empty() {
        bulk(reply, "notes");
        bulk(reply, key.notes);
    }
    bulk(reply, "flags");
    reply_words(reply, key.flags.split_whitespace());
    reply_step(reply, "begin_search", "index", &[("index", key.first)]);
    let range = [("lastkey", key.last), ("keystep", key.step), ("limit", 0)];
    reply_step(reply, "find_keys", "range", &range);
}

fn reply_step(reply: &mut ReplyBuffer, step: &str, kind: &str, numbers: &[(&str, i64)]) {
    bulk(reply, step);
    reply.map(2);
    bulk(reply, "type");
    bulk(reply, kind);
    bulk(reply, "spec");
    reply.map(numbers.len());
    for (name, number) in numbers {
        bulk(reply, name);
        reply.integer(*number);
    }
}

/// `COMMAND`
fn command(_: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let commands: Vec<Command> = shown().collect();
    reply.array(commands.len());
    commands.into_iter().for_each(|command| reply_info(reply, command));
    Ok(())
}

/// `COMMAND COUNT`
fn count(_: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply.integer(shown().count() as i64);
    Ok(())
}

/// `COMMAND INFO [command-name [command-name ...]]`
fn info(session: &mut Session, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    if args.len() == 2 {
        return command(session, args, reply);
    }
    reply.array(args.len() - 2);
    for name in args.from(2) {
        match find_by_full_name(name) {
            Some(command) => reply_info(reply, command),
            None => reply.null(),
        }
    }
    Ok(())
}

fn reply_docs(reply: &mut ReplyBuffer, command: Command) {
    let spec = command.spec;
    bulk(reply, TABLE.full_name(command.index));
    let has_subcommands = !spec.subcommands.is_empty();
    reply.map(4 + usize::from(has_subcommands));
    for (name, text) in [
        ("summary", spec.summary),
        ("since", spec.since),
        ("group", spec.group.name()),
        ("complexity", spec.complexity),
    ] {
        bulk(reply, name);
        bulk(reply, text);
    }
    if has_subcommands {
        bulk(reply, "subcommands");
        reply.map(subcommands(command).count());
        subcommands(command).for_each(|subcommand| reply_docs(reply, subcommand));
    }
}

/// `COMMAND DOCS [command-name [command-name ...]]`
fn docs(_: &mut Session, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let commands: Vec<Command> = if args.len() == 2 {
        shown().collect()
    } else {
        args.from(2).filter_map(find_by_full_name).collect()
    };
    reply.map(commands.len());
    commands.into_iter().for_each(|command| reply_docs(reply, command));
    Ok(())
}

/// `COMMAND LIST [FILTERBY MODULE module | ACLCAT category | PATTERN pattern]`
fn list(_: &mut Session, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let all = shown().flat_map(with_subcommands);
    let commands: Vec<Command> = match args.len() {
        2 => all.collect(),
        5 if args.is(2, "FILTERBY") && args.is(3, "MODULE") => Vec::new(),
        5 if args.is(2, "FILTERBY") && args.is(3, "ACLCAT") => {
            let wanted = String::from_utf8_lossy(args.at(4)).to_lowercase();
            all.filter(|command| categories(*command).contains(&wanted.as_str())).collect()
        }
        5 if args.is(2, "FILTERBY") && args.is(3, "PATTERN") => {
            let name = |command: &Command| TABLE.full_name(command.index).as_bytes();
            all.filter(|command| glob::matches_ignoring_case(args.at(4), name(command))).collect()
        }
        _ => return Err(CommandError::Syntax),
    };
    reply.array(commands.len());
    commands.iter().for_each(|command| bulk(reply, TABLE.full_name(command.index)));
    Ok(())
}

/// `ACL CAT [category]`: here, as it is about the table.
pub(super) fn acl_cat(_: &mut Session, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let Some(name) = args.get(2) else {
        reply.array(CATEGORIES.len());
        CATEGORIES.iter().for_each(|name| bulk(reply, name));
        return Ok(());
    };
    let known = CATEGORIES.iter().find(|known| known.as_bytes().eq_ignore_ascii_case(name));
    let Some(category) = known.filter(|_| args.len() == 3) else {
        let text = [b"ERR Unknown category '", name, b"'"].concat();
        return Err(CommandError::Bytes(text));
    };
    let all = shown().flat_map(with_subcommands);
    let members: Vec<Command> =
        all.filter(|command| categories(*command).contains(category)).collect();
    reply.array(members.len());
    members.iter().for_each(|command| bulk(reply, TABLE.full_name(command.index)));
    Ok(())
}

/// Finds the command that `COMMAND GETKEYS` is asked about, and the indices of its keys there.
fn keys_of(args: Args<'_>) -> Result<(Command, Vec<usize>), CommandError> {
    let invalid = || CommandError::err("Invalid command specified");
    let mut command = TABLE.find(args.at(2)).ok_or_else(invalid)?;
    if let (Run::Subcommand, Some(name)) = (command.spec.run, args.get(3)) {
        command = TABLE.find_subcommand(command, name).ok_or_else(invalid)?;
    }
    let count = args.len() - 2;
    if matches!(command.spec.keys, Keys::None) {
        return Err(CommandError::err("The command has no key arguments"));
    }
    if !command.spec.accepts(count) {
        return Err(CommandError::err("Invalid number of arguments specified for command"));
    }
    Ok((command, command.spec.keys.indices(count).map(|index| index + 2).collect()))
}

/// `COMMAND GETKEYS command [arg [arg ...]]`
fn getkeys(_: &mut Session, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let (_, keys) = keys_of(args)?;
    reply.array(keys.len());
    keys.into_iter().for_each(|index| reply.bulk(args.at(index)));
    Ok(())
}

/// `COMMAND GETKEYSANDFLAGS command [arg [arg ...]]`
fn getkeysandflags(_: &mut Session, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let (command, keys) = keys_of(args)?;
    let specs = catalog::find(TABLE.full_name(command.index)).keys;
    // `SET` reads its key only with the option `GET`.
    let is_set = command.spec.name == "set" && command.spec.group == Group::String;
    let set_flags = match args.from(5).any(|arg| arg.eq_ignore_ascii_case(b"GET")) {
        true => "RW access update",
        false => "OW update",
    };
    reply.array(keys.len());
    for (place, index) in keys.into_iter().enumerate() {
        reply.array(2);
        reply.bulk(args.at(index));
        // Either each key has a specification of its own, or one stands for all.
        let spec = specs.get(place).or(specs.last());
        let flags = if is_set { set_flags } else { spec.map_or("", |spec| spec.flags) };
        reply_words(reply, flags.split_whitespace());
    }
    Ok(())
}

/// `COMMAND HELP`
fn help(_: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply_help(reply, "COMMAND", help::COMMAND)
}

const BASE: Flags = Flags::LOADING.and(Flags::STALE);

type Function = fn(&mut Session, Args<'_>, &mut ReplyBuffer) -> CommandResult;

const fn sub(
    name: &'static str,
    arity: i16,
    since: &'static str,
    docs: super::row::Docs,
    run: Function,
) -> CommandSpec {
    row(Group::Server, name, arity, BASE, since, docs, Run::Connection(run))
}

/// The row of `COMMAND`, which means something without a subcommand too.
#[rustfmt::skip]
pub(super) const SPEC: CommandSpec = CommandSpec {
    complexity: "O(N) where N is the total number of Redis commands",
    subcommands: &[
        sub("count", 2, "2.8.13", ("Get total number of Redis commands", ""), count),
        sub("docs", -2, "7.0.0",
            ("Get array of specific Redis command documentation",
             "[command-name [command-name ...]]"), docs),
        sub("getkeys", -4, "2.8.13",
            ("Extract keys given a full Redis command", "command [arg [arg ...]]"), getkeys),
        sub("getkeysandflags", -4, "7.0.0",
            ("Extract keys and access flags given a full Redis command",
             "command [arg [arg ...]]"), getkeysandflags),
        sub("help", 2, "5.0.0", ("Show helpful text about the different subcommands", ""), help),
        sub("info", -2, "2.8.13",
            ("Get array of specific Redis command details, or all when no argument is given.",
             "[command-name [command-name ...]]"), info),
        sub("list", -2, "7.0.0",
            ("Get an array of Redis command names",
             "[FILTERBY MODULE module-name | ACLCAT category | PATTERN pattern]"), list),
    ],
    ..row(Group::Server, "command", -1, BASE, "2.8.13",
        ("Get array of Redis command details", ""), Run::Connection(command))
};
