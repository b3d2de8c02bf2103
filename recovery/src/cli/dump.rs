//! `dump`: the records of the log, one a line.

use std::io::Write;
use std::ops::ControlFlow;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use distcache_recovery::BlockKind;
use serde_json::Value as Json;

use super::change::Printer;
use super::filter::RecordFilter;
use super::source::{LogReader, Source};
use super::{Format, Outcome, Session, ended, format_option, style_options};

const EXAMPLES: &str = "\
Examples:
  distcache-log dump ./distcache-data --limit 20
  distcache-log dump ./distcache-data --key 'user:*' --since 10:00
  distcache-log dump ./distcache-data --op delete,expire,evict --since -15m --format json
  distcache-log dump ./distcache-data --op move-in,own,move-out --partition 17
  distcache-log dump ./distcache-data --from-seq 1000 --to-seq 2000 --db 0 --full

Text has the columns sequence, time, partition, database, operation, key and what changed.
A JSON object has the members sequence, time, unix_ms, partition, database, operation, and, as
the operation has them, key, value, deadline_ms, bytes, offset, other, epoch, from, to. Keys and
values that are UTF-8 are strings, integers are numbers, typed values are {\"typed\": ...}, all
other bytes are {\"base64\": ...}. A move is in all databases of its partition: database is null.
The operation of a key in a snapshot is snapshot. Behind the keys, snapshots have changes that were
made while they were written, deletes among them, and long values in pieces (write-range).";

pub(super) fn command() -> Command {
    Command::new("dump")
        .about("Prints the records of the log, oldest first")
        .after_help(EXAMPLES)
        .args(RecordFilter::options())
        .arg(
            Arg::new("limit")
                .long("limit")
                .value_name("N")
                .help("Stop after so many records")
                .value_parser(value_parser!(u64)),
        )
        .arg(
            Arg::new("snapshots")
                .long("snapshots")
                .help("Print the records of the snapshots first; these have no sequence number")
                .action(ArgAction::SetTrue),
        )
        .arg(format_option(&["text", "json"]))
        .args(style_options())
}

pub(super) fn run(
    session: &Session,
    matches: &ArgMatches,
    out: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let filter = RecordFilter::new(matches, &session.clock)?;
    let source = Source::open(session)?;
    let mut reader = source.read()?;
    let written = print(session, matches, &filter, &mut reader, out);
    ended(written, reader.finish())
}

fn print(
    session: &Session,
    matches: &ArgMatches,
    filter: &RecordFilter,
    reader: &mut LogReader<'_>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let with_snapshots = matches.get_flag("snapshots");
    let mut left = matches.get_one::<u64>("limit").copied().unwrap_or(u64::MAX);
    let printer = Printer { style: session.style, clock: session.clock.clone() };
    while left > 0 {
        let Some(block) = reader.next_block()? else { break };
        match block.kind {
            BlockKind::Snapshot { .. } if !with_snapshots => continue,
            BlockKind::Frame { first } if filter.is_past(first) => break,
            BlockKind::Snapshot { .. } | BlockKind::Frame { .. } => {}
        }
        let flow = reader.visit(&block, |located| {
            if !filter.takes(located) {
                return Ok(ControlFlow::Continue(()));
            }
            match session.format {
                Format::Json => writeln!(out, "{}", Json::Object(printer.json(located)))?,
                Format::Text | Format::Resp => writeln!(out, "{}", printer.text(located))?,
            }
            left -= 1;
            Ok(if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        if flow.is_break() {
            break;
        }
    }
    Ok(out.flush()?)
}
