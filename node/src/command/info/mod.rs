//! `INFO`: figures for people and monitoring tools, under the names that Redis has for them.
//!
//! - [`sections`]: one function a section;
//! - [`figures`]: what they are made of, gathered from all shards.

mod figures;
mod sections;

use distcache_protocol::resp::ReplyBuffer;

use super::row::row;
use super::{Args, CommandFuture, CommandSpec, Flags, Group, Run};
use crate::server::session::Session;
pub(crate) use figures::Figures;

/// One section.
struct Section {
    /// Lower-case name, as it is asked for.
    name: &'static str,
    /// The heading.
    title: &'static str,
    /// Whether it is shown when none is asked for.
    default: bool,
    /// Writes its lines.
    write: fn(&Figures<'_>, &mut Lines),
}

/// The text under construction.
#[derive(Default)]
struct Lines(String);

impl Lines {
    /// Adds `name:value`.
    fn field(&mut self, name: &str, value: impl std::fmt::Display) {
        use std::fmt::Write;
        // Writing to a string does not fail.
        let _ = write!(self.0, "{name}:{value}\r\n");
    }
}

#[rustfmt::skip]
const SECTIONS: &[Section] = &[
    Section { name: "server", title: "Server", default: true, write: sections::server },
    Section { name: "clients", title: "Clients", default: true, write: sections::clients },
    Section { name: "memory", title: "Memory", default: true, write: sections::memory },
    Section { name: "persistence", title: "Persistence", default: true,
        write: sections::persistence },
    Section { name: "stats", title: "Stats", default: true, write: sections::stats },
    Section { name: "replication", title: "Replication", default: true,
        write: sections::replication },
    Section { name: "cpu", title: "CPU", default: true, write: sections::cpu },
    Section { name: "modules", title: "Modules", default: true, write: |_, _| {} },
    Section { name: "commandstats", title: "Commandstats", default: false,
        write: sections::command_stats },
    Section { name: "errorstats", title: "Errorstats", default: true,
        write: sections::error_stats },
    Section { name: "latencystats", title: "Latencystats", default: false,
        write: sections::latency_stats },
    Section { name: "cluster", title: "Cluster", default: true, write: sections::cluster },
    Section { name: "keyspace", title: "Keyspace", default: true, write: sections::keyspace },
];

/// `INFO [section [section ...]]`
fn info<'a>(
    session: &'a mut Session,
    args: Args<'a>,
    reply: &'a mut ReplyBuffer,
) -> CommandFuture<'a> {
    Box::pin(async move {
        let mut figures = Figures::gather(&session.node).await?;
        figures.access = session.access;
        let mut lines = Lines::default();
        for section in SECTIONS.iter().filter(|section| is_wanted(section, args)) {
            if !lines.0.is_empty() {
                lines.0.push_str("\r\n");
            }
            lines.0.push_str(&format!("# {}\r\n", section.title));
            (section.write)(&figures, &mut lines);
        }
        reply.verbatim(lines.0.as_bytes());
        Ok(())
    })
}

fn is_wanted(section: &Section, args: Args<'_>) -> bool {
    let names = |name: &[u8]| match name.to_ascii_lowercase().as_slice() {
        b"default" => section.default,
        b"all" | b"everything" => true,
        name => name == section.name.as_bytes(),
    };
    if args.len() == 1 { section.default } else { args.from(1).any(names) }
}

pub(super) const SPEC: CommandSpec = row(
    Group::Server,
    "info",
    -1,
    Flags::LOADING.and(Flags::STALE),
    "1.0.0",
    ("Get information and statistics about the server", "[section [section ...]]"),
    Run::Node(info),
);

#[cfg(test)]
mod tests {
    use distcache_protocol::resp::ArgRange;

    use super::*;

    fn wanted(request: &str) -> Vec<&'static str> {
        let mut ranges = Vec::new();
        let mut start = 0;
        for word in request.split(' ') {
            ranges.push(ArgRange { start, end: start + word.len() as u32 });
            start += word.len() as u32 + 1;
        }
        let args = Args::new(request.as_bytes(), &ranges);
        SECTIONS.iter().filter(|section| is_wanted(section, args)).map(|s| s.name).collect()
    }

    #[test]
    fn sections_are_chosen_by_name_and_by_group() {
        assert_eq!(wanted("INFO Server CLIENTS nosuch"), ["server", "clients"]);
        assert!(wanted("INFO nosuch").is_empty());
        assert_eq!(wanted("INFO default"), wanted("INFO"));
        assert!(!wanted("INFO").contains(&"commandstats"));
        assert_eq!(wanted("INFO everything").len(), SECTIONS.len());
        assert!(wanted("INFO default commandstats").contains(&"commandstats"));
    }
}
