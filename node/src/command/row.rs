//! Short forms for rows, and the reply of `HELP` subcommands.

use distcache_protocol::resp::ReplyBuffer;

use super::{CommandResult, CommandSpec, Flags, Group, Keys, Run};

/// What `COMMAND DOCS` says of a row: summary and syntax.
pub(super) type Docs = (&'static str, &'static str);

/// A row of a command without keys, which takes constant time.
pub(super) const fn row(
    group: Group,
    name: &'static str,
    arity: i16,
    flags: Flags,
    since: &'static str,
    docs: Docs,
    run: Run,
) -> CommandSpec {
    CommandSpec {
        name,
        arity,
        flags,
        keys: Keys::None,
        group,
        since,
        complexity: "O(1)",
        summary: docs.0,
        syntax: docs.1,
        run,
        subcommands: &[],
    }
}

/// A row of a command that is nothing but its subcommands.
pub(super) const fn container(
    group: Group,
    name: &'static str,
    since: &'static str,
    summary: &'static str,
    subcommands: &'static [CommandSpec],
) -> CommandSpec {
    let docs = (summary, "");
    CommandSpec {
        complexity: "Depends on subcommand.",
        subcommands,
        ..row(group, name, -2, Flags::NONE, since, docs, Run::Subcommand)
    }
}

/// The reply to `HELP`: what Redis says, in its form.
pub(super) fn reply_help(reply: &mut ReplyBuffer, command: &str, lines: &[&str]) -> CommandResult {
    reply.array(lines.len() + 3);
    reply.simple(&format!("{command} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    for line in lines {
        reply.simple(line);
    }
    reply.simple("HELP");
    reply.simple("    Prints this help.");
    Ok(())
}
