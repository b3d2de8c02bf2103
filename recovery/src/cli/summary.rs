//! `summary`: what is in the log, in figures.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::ControlFlow;

use clap::{Arg, ArgAction, ArgMatches, Command};
use distcache_recovery::{
    BlockKind, PartitionId, Record, SequenceNumber, SnapshotSummary, UnixMillis, VerifyReport,
};
use serde_json::{Value as Json, json};

use super::change::time_json;
use super::filter::OPERATIONS;
use super::format::size;
use super::moves::Moves;
use super::source::Source;
use super::{Format, Outcome, Session, ended, format_option};

/// Partitions and snapshots that text lists unless all are wanted.
const LISTED: usize = 10;

const EXAMPLES: &str = "\
Examples:
  distcache-log summary ./distcache-data
  distcache-log summary ./distcache-data --all
  distcache-log summary ./distcache-data --format json | jq .operations

The section moves counts partitions that came from other nodes (in) and went to them (out), and
copies that were given up or begun anew (cancelled); below stand the epoch of each partition that
moved and where it is. A node that was always alone has no such section.";

pub(super) fn command() -> Command {
    Command::new("summary")
        .about("Counts what is in the log: records, times, bytes, operations, moves, snapshots")
        .after_help(EXAMPLES)
        .arg(
            Arg::new("all")
                .long("all")
                .help("List all partitions and snapshots, not the largest ones")
                .action(ArgAction::SetTrue),
        )
        .arg(format_option(&["text", "json"]))
}

/// Records and their bytes before compression.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    records: u64,
    bytes: u64,
}

#[derive(Debug, Default)]
struct Counts {
    first: Option<SequenceNumber>,
    log: Count,
    snapshots: Count,
    operations: BTreeMap<&'static str, u64>,
    databases: BTreeMap<u8, u64>,
    partitions: BTreeMap<PartitionId, u64>,
}

struct Summary {
    counts: Counts,
    moves: Moves,
    snapshots: Vec<SnapshotSummary>,
    report: VerifyReport,
    disk_bytes: u64,
}

pub(super) fn run(
    session: &Session,
    matches: &ArgMatches,
    out: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let source = Source::open(session)?;
    let mut reader = source.read()?;
    let mut counts = Counts::default();
    let mut moves = Moves::new(&reader.replay().snapshots(), reader.replay().cuts());
    while let Some(block) = reader.next_block()? {
        let bytes = block.payload().len() as u64;
        match block.kind {
            BlockKind::Snapshot { .. } => {
                counts.snapshots.records += u64::from(block.count);
                counts.snapshots.bytes += bytes;
            }
            BlockKind::Frame { first } => {
                counts.first.get_or_insert(first);
                counts.log.bytes += bytes;
            }
        }
        // Counting does not break.
        let _ = reader.visit(&block, |located| {
            moves.take(located);
            if located.sequence.is_some() {
                counts.take(&located.record);
            }
            Ok(ControlFlow::Continue(()))
        })?;
    }
    moves.finish();
    let summary = Summary {
        counts,
        moves,
        snapshots: reader.replay().snapshots(),
        report: reader.report(),
        disk_bytes: source.disk_bytes,
    };
    let written = match session.format {
        Format::Json => writeln!(out, "{}", summary.json(session)).map_err(Into::into),
        Format::Text | Format::Resp => summary.print(session, matches.get_flag("all"), out),
    };
    ended(written.and_then(|()| Ok(out.flush()?)), reader.finish())
}

impl Counts {
    fn take(&mut self, record: &Record<'_>) {
        self.log.records += 1;
        *self.operations.entry(record.operation.name()).or_default() += 1;
        *self.partitions.entry(record.partition).or_default() += 1;
        // A move is in all databases.
        if !record.operation.is_move() {
            *self.databases.entry(record.database).or_default() += 1;
        }
    }
}

impl Summary {
    fn last(&self) -> Option<SequenceNumber> {
        self.counts.first.map(|_| SequenceNumber(self.report.next.0.saturating_sub(1)))
    }

    fn json(&self, session: &Session) -> Json {
        let Self { counts, moves, snapshots, report, disk_bytes } = self;
        let written = report.written.map(|(first, last)| {
            json!({
                "first": time_json(first), "last": time_json(last),
                "first_ms": first, "last_ms": last,
            })
        });
        let partitions: Vec<_> = counts
            .partitions
            .iter()
            .map(|(partition, records)| json!({ "partition": partition, "records": records }))
            .collect();
        let databases: Vec<_> = counts
            .databases
            .iter()
            .map(|(database, records)| json!({ "database": database, "records": records }))
            .collect();
        json!({
            "directory": session.dir.to_string_lossy(),
            "frames": report.frames,
            "records": counts.log.records,
            "sequence": { "first": counts.first, "last": self.last(), "next": report.next },
            "trimmed_before": report.trimmed,
            "written": written,
            "bytes": {
                "records": counts.log.bytes,
                "snapshot_records": counts.snapshots.bytes,
                "stored": report.stored_bytes,
                "disk": disk_bytes,
            },
            "operations": counts.operations,
            "databases": databases,
            "partitions": partitions,
            "moves": moves.json(),
            "snapshot_records": counts.snapshots.records,
            "snapshots": snapshots,
            "is_clean_shutdown": report.is_clean_shutdown,
            "declared_gaps": report.declared_gaps,
            "warnings": report.warnings,
            "damages": report.damages,
        })
    }

    fn print(&self, session: &Session, all: bool, out: &mut dyn Write) -> anyhow::Result<()> {
        let Self { counts, report, .. } = self;
        let sequences = match (counts.first, self.last()) {
            (Some(first), Some(last)) => format!("{first} to {last}"),
            _ => format!("none; the next is {}", report.next),
        };
        let show = |time: UnixMillis| session.clock.show(time);
        let times = report.written.map_or("none".to_owned(), |(first, last)| {
            format!("{} to {}", show(first), show(last))
        });
        let mut line = |name: &str, text: String| writeln!(out, "{name:<12} {text}");
        line("directory", session.dir.display().to_string())?;
        line("frames", report.frames.to_string())?;
        line("records", counts.log.records.to_string())?;
        line("sequences", sequences)?;
        if report.trimmed > SequenceNumber(0) {
            let text = format!("records before {} are in snapshots only", report.trimmed);
            line("trimmed", text)?;
        }
        line("written", times)?;
        line(
            "bytes",
            format!(
                "{} of records, {} stored, {} on disk",
                size(counts.log.bytes + counts.snapshots.bytes),
                size(report.stored_bytes),
                size(self.disk_bytes)
            ),
        )?;
        let clean = if report.is_clean_shutdown { "in order" } else { "not in order" };
        line("closed", clean.to_owned())?;
        self.print_operations(out)?;
        self.print_partitions(all, out)?;
        let listed = if all { usize::MAX } else { LISTED };
        print_rest(self.moves.print(listed, out)?, "others", out)?;
        self.print_snapshots(session, all, out)
    }

    fn print_operations(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        writeln!(out, "\noperations")?;
        // In the order of the documentation rather than of the alphabet.
        for name in OPERATIONS {
            if let Some(count) = self.counts.operations.get(name) {
                writeln!(out, "  {name:<12} {count:>12}")?;
            }
        }
        writeln!(out, "\ndatabases")?;
        for (database, count) in &self.counts.databases {
            writeln!(out, "  {database:<12} {count:>12}")?;
        }
        Ok(())
    }

    fn print_partitions(&self, all: bool, out: &mut dyn Write) -> anyhow::Result<()> {
        let mut partitions: Vec<_> = self.counts.partitions.iter().collect();
        writeln!(out, "\npartitions   {} with records in the log", partitions.len())?;
        let total = partitions.len();
        if !all && total > LISTED {
            partitions.sort_by_key(|(partition, count)| (std::cmp::Reverse(**count), **partition));
            partitions.truncate(LISTED);
        }
        for (partition, count) in &partitions {
            writeln!(out, "  {partition:<12} {count:>12}")?;
        }
        print_rest(total - partitions.len(), "smaller ones", out)
    }

    fn print_snapshots(
        &self,
        session: &Session,
        all: bool,
        out: &mut dyn Write,
    ) -> anyhow::Result<()> {
        let records = self.counts.snapshots.records;
        writeln!(out, "\nsnapshots    {} with {records} records", self.snapshots.len())?;
        let listed = if all { self.snapshots.len() } else { self.snapshots.len().min(LISTED) };
        for snapshot in &self.snapshots[..listed] {
            let SnapshotSummary { partition, cut, epoch, records, written } = snapshot;
            let written = session.clock.show(*written);
            write!(out, "  {partition:<12} {records:>12} records  before record {cut}, {written}")?;
            match epoch.0 {
                0 => writeln!(out)?,
                epoch => writeln!(out, ", epoch {epoch}")?,
            }
        }
        print_rest(self.snapshots.len() - listed, "others", out)
    }
}

fn print_rest(count: usize, what: &str, out: &mut dyn Write) -> anyhow::Result<()> {
    if count > 0 {
        writeln!(out, "  and {count} {what}; --all lists them")?;
    }
    Ok(())
}
