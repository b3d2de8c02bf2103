//! `raft`: a node's part in the consensus about the cluster's table.

use std::io::Write;

use anyhow::Context;
use clap::{Arg, ArgMatches, Command, value_parser};
use distcache_recovery::CopyPlan;
use distcache_recovery::raft_entry::{RaftClusterId, RaftEntry, RaftId, RaftLogId};
use distcache_recovery::raft_inspection::{RaftEntryError, RaftInspection};
use serde_json::{Value as Json, json};

use super::format::size;
use super::scratch::{ELSEWHERE, Scratch};
use super::source::explain;
use super::{Format, Outcome, Session, ended, format_option};

const EXAMPLES: &str = "\
Examples:
  distcache-log raft ./distcache-data
  distcache-log raft ./distcache-data --last 20
  distcache-log raft ./distcache-data --since-index 1200 --format json | jq 'select(.kind)'

Before the entries stand who the node is, its vote, up to where it knew entries to be committed,
and its snapshot. After a crash it may have known more than the line committed says. An entry in
the log is only in effect if it is committed.
Text has the columns index, term, kind and what the entry says. Entries of the table that were
proposed together share an index: they stand in the log as one, and take effect in this order. The
first JSON object has the members node, cluster, vote, committed, purged, snapshot, entries (first
and end), damages and unknown; each other one is an entry with index, term, leader, kind and entry.
The exit code is 1 if a node would refuse the directory or put it aside, and 2 if another version
wrote something that this one cannot read.";

pub(super) fn command() -> Command {
    let number = |name: &'static str| {
        Arg::new(name).long(name).value_name("N").value_parser(value_parser!(u64))
    };
    Command::new("raft")
        .about("Prints a node's part in Raft: who it is, its vote, and the log's entries")
        .after_help(EXAMPLES)
        .arg(number("since-index").help("Only this entry and later ones"))
        .arg(number("last").help("Only so many indexes, the last ones"))
        .arg(format_option(&["text", "json"]))
}

pub(super) fn run(
    session: &Session,
    matches: &ArgMatches,
    out: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let scratch = Scratch::new(&session.temp_dir)?;
    let plan = CopyPlan::of_raft(&session.dir, scratch.path()).map_err(explain)?;
    session.note_copy(&plan);
    let copy = plan.copy(|_| {}).context(ELSEWHERE)?;
    let raft = copy.open_raft()?;
    let mut written = match session.format {
        Format::Json => writeln!(out, "{}", head_json(&raft)).map_err(Into::into),
        Format::Text | Format::Resp => print_head(&raft, out),
    };
    let (first, end) = raft.extent();
    let since = matches.get_one("since-index").copied().unwrap_or(first);
    let last = matches.get_one("last").copied().unwrap_or(u64::MAX);
    let from = since.max(end.saturating_sub(last));
    let (mut damages, mut unknown) = (raft.damages.clone(), raft.unknown.clone());
    for entry in raft.entries(from, end) {
        match entry {
            // Also where nobody reads any more, the other entries are looked at.
            Ok(entry) => written = written.and_then(|()| write_entry(session.format, &entry, out)),
            Err(RaftEntryError::Damaged(reason)) => damages.push(reason),
            Err(error @ RaftEntryError::Unknown { .. }) => unknown.push(error.to_string()),
        }
    }
    let written = written.and_then(|()| Ok(out.flush()?));
    for damage in &damages {
        session.warn(damage);
    }
    if damages.is_empty() && !unknown.is_empty() {
        anyhow::bail!("{}", unknown.join("; "));
    }
    for reason in &unknown {
        session.warn(reason);
    }
    ended(written, if damages.is_empty() { Outcome::Clean } else { Outcome::Damaged })
}

fn write_entry(format: Format, entry: &RaftEntry, out: &mut dyn Write) -> anyhow::Result<()> {
    let RaftLogId { leader, index } = entry.log_id;
    for part in entry.parts() {
        match format {
            Format::Json => writeln!(out, "{}", json!(part))?,
            Format::Text | Format::Resp => {
                writeln!(out, "{index:>10}  t{:<4} {:<12} {part}", leader.term, part.kind())?;
            }
        }
    }
    Ok(())
}

fn print_head(raft: &RaftInspection, out: &mut dyn Write) -> anyhow::Result<()> {
    let none = || "none".to_owned();
    let place = |id: RaftLogId| format!("{}, term {}", id.index, id.leader.term);
    let node = raft.identity.map_or("unknown".to_owned(), |own| RaftId(own.node).to_string());
    let cluster = raft.identity.and_then(|own| own.cluster).map(RaftClusterId);
    let vote = raft.vote.map(|vote| {
        let committed = if vote.is_committed { "a majority agreed" } else { "not decided" };
        format!("term {} for node {}, {committed}", vote.leader.term, vote.leader.node)
    });
    let snapshot = raft.snapshot.as_ref().map(|found| {
        let last = found.last.map_or_else(none, place);
        format!("up to {last}; {} of table; {}", size(found.bytes), found.members)
    });
    let entries = match raft.extent() {
        (first, end) if first < end => format!("{first} to {}", end - 1),
        _ => none(),
    };
    let mut line = |name: &str, text: String| writeln!(out, "{name:<12} {text}");
    line("node", node)?;
    line("cluster", cluster.map_or_else(none, |cluster| cluster.to_string()))?;
    line("vote", vote.unwrap_or_else(none))?;
    line("committed", raft.committed.map_or_else(none, place))?;
    line("purged", raft.purged.map_or_else(none, place))?;
    line("snapshot", snapshot.unwrap_or_else(none))?;
    line("entries", entries)?;
    writeln!(out)?;
    Ok(())
}

fn head_json(raft: &RaftInspection) -> Json {
    let place = |id: RaftLogId| json!({ "index": id.index, "term": id.leader.term });
    let (first, end) = raft.extent();
    json!({
        "node": raft.identity.map(|own| RaftId(own.node)),
        "cluster": raft.identity.and_then(|own| own.cluster).map(RaftClusterId),
        "vote": raft.vote.map(|vote| json!({
            "term": vote.leader.term,
            "node": vote.leader.node,
            "is_committed": vote.is_committed,
        })),
        "committed": raft.committed.map(place),
        "purged": raft.purged.map(place),
        "snapshot": raft.snapshot.as_ref().map(|found| json!({
            "last": found.last.map(place),
            "bytes": found.bytes,
            "members": found.members,
        })),
        "entries": { "first": first, "end": end },
        "damages": raft.damages,
        "unknown": raft.unknown,
    })
}
