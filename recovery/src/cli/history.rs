//! `history`: every change of one key, in order.
//!
//! Where the log begins later than the key, the snapshot of its partition stands in for what came
//! before, at its place in the sequence. The value after a change is shown where it is known.

use std::ffi::OsString;
use std::io::Write;
use std::ops::ControlFlow;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use distcache_protocol::slot;
use distcache_recovery::state::Keyspace;
use distcache_recovery::{
    BlockKind, Operation, PartitionId, Record, SequenceNumber, UnixMillis, limits,
};
use serde_json::{Map, Value as Json, json};

use super::change::{Printer, SNAPSHOT, place_json};
use super::format::{quoted, unescaped};
use super::source::{Located, LogReader, Source};
use super::{Format, Outcome, Session, ended, format_option, style_options};

const EXAMPLES: &str = "\
Examples:
  distcache-log history ./distcache-data user:42
  distcache-log history ./distcache-data user:42 --db 3 --full
  distcache-log history ./distcache-data '\\x00\\xffid' --escaped --format json

Each line has sequence, time, partition, database and operation, and after '->' the value that the
key then has, where the change alone does not say it; in JSON this is the member after: null when
the key is gone, absent when it is not known.
A line 'snapshot' says what the key's partition held when the log was compacted.
A move of the key's partition to this node or away from it is part of the history.";

/// The hash slots of one partition.
const SLOTS_OF_PARTITION: u16 = slot::SLOTS / limits::PARTITIONS as u16;

pub(super) fn command() -> Command {
    Command::new("history")
        .about("Prints every change of one key, oldest first, with time and sequence")
        .after_help(EXAMPLES)
        .arg(
            Arg::new("key")
                .value_name("KEY")
                .help("The key, as it is")
                .required(true)
                .index(2)
                .value_parser(value_parser!(OsString)),
        )
        .arg(
            Arg::new("escaped")
                .long("escaped")
                .help("KEY has escapes such as \\n and \\xff, as this tool prints them")
                .action(ArgAction::SetTrue),
        )
        .arg(
            Arg::new("db")
                .long("db")
                .value_name("N")
                .help("Only this database")
                .value_parser(value_parser!(u8)),
        )
        .arg(format_option(&["text", "json"]))
        .args(style_options())
}

pub(super) fn run(
    session: &Session,
    matches: &ArgMatches,
    out: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let given = matches.get_one::<OsString>("key").expect("clap requires it").as_encoded_bytes();
    let key = if matches.get_flag("escaped") {
        unescaped(given)
            .ok_or_else(|| anyhow::anyhow!("key {} has an unknown escape", quoted(given)))?
    } else {
        given.to_vec()
    };
    let source = Source::open(session)?;
    let mut reader = source.read()?;
    let mut history = History::new(session, key, matches.get_one("db").copied(), &reader);
    let written = history.print_all(&mut reader, out);
    ended(written, reader.finish())
}

struct History {
    key: Vec<u8>,
    partition: PartitionId,
    database: Option<u8>,
    format: Format,
    printer: Printer,
    /// The key's values in all databases, as far as known.
    state: Keyspace,
    /// The databases whose value in `state` is right.
    known: Vec<bool>,
    /// What the snapshot holds, until its place in the sequence has come.
    snapshot: Option<Snapshot>,
    /// The record that should come next.
    next: SequenceNumber,
}

struct Snapshot {
    cut: SequenceNumber,
    written: UnixMillis,
    state: Keyspace,
}

impl History {
    fn new(session: &Session, key: Vec<u8>, database: Option<u8>, reader: &LogReader<'_>) -> Self {
        let partition = PartitionId(slot::slot_of(&key) / SLOTS_OF_PARTITION);
        let replay = reader.replay();
        let begin = replay.report().trimmed;
        let snapshots = replay.snapshots();
        // A log that is whole from its first record on says more than the snapshot does.
        let has_begin = begin == SequenceNumber(0) && replay.report().declared_gaps.is_empty();
        let snapshot = snapshots.iter().find(|found| found.partition == partition && !has_begin);
        Self {
            partition,
            key,
            database,
            format: session.format,
            printer: Printer { style: session.style, clock: session.clock.clone() },
            state: Keyspace::default(),
            // A partition without a snapshot had no record that was removed.
            known: vec![snapshot.is_none(); 256],
            snapshot: snapshot.map(|found| Snapshot {
                cut: found.cut,
                written: found.written,
                state: Keyspace::default(),
            }),
            next: begin,
        }
    }

    /// Prints the changes that the log has.
    fn print_all(&mut self, reader: &mut LogReader<'_>, out: &mut dyn Write) -> anyhow::Result<()> {
        while let Some(block) = reader.next_block()? {
            if let BlockKind::Frame { first } = block.kind {
                self.begin_frame(first, block.count, out)?;
            }
            // A history takes all there is.
            let _ = reader.visit(&block, |located| {
                self.take(located, out)?;
                Ok(ControlFlow::Continue(()))
            })?;
        }
        self.print_snapshot(out)?;
        Ok(out.flush()?)
    }

    /// Notices records that are missing before a frame.
    fn begin_frame(
        &mut self,
        first: SequenceNumber,
        count: u32,
        out: &mut dyn Write,
    ) -> anyhow::Result<()> {
        let has_gap = first > self.next;
        if has_gap {
            self.known.fill(false);
        }
        self.next = first.plus(count.into());
        if let Some(cut) = self.snapshot.as_ref().map(|snapshot| snapshot.cut)
            && cut <= first
        {
            self.print_snapshot(out)?;
            if has_gap && cut < first {
                self.known.fill(false);
            }
        }
        Ok(())
    }

    /// Takes a record of the log or of a snapshot.
    fn take(&mut self, located: &Located<'_>, out: &mut dyn Write) -> anyhow::Result<()> {
        let record = &located.record;
        let is_key = record.operation.key().is_none_or(|key| key == self.key);
        if record.partition != self.partition || !is_key {
            return Ok(());
        }
        let Some(sequence) = located.sequence else {
            if let Some(snapshot) = &mut self.snapshot {
                snapshot.state.apply(record)?;
            }
            return Ok(());
        };
        if self.snapshot.as_ref().is_some_and(|snapshot| snapshot.cut <= sequence) {
            self.print_snapshot(out)?;
        }
        let is_move = record.operation.is_move();
        let databases = match record.operation {
            Operation::Swap { other } => vec![record.database, other],
            _ => vec![record.database],
        };
        let is_wanted = is_move || self.database.is_none_or(|wanted| databases.contains(&wanted));
        let concerns_key = is_move
            || record.operation.key().is_some()
            || databases.iter().any(|&database| {
                !self.known[usize::from(database)] || self.state.get(database, &self.key).is_some()
            });
        self.apply(record)?;
        if is_wanted && concerns_key {
            self.print(located, out)?;
        }
        Ok(())
    }

    fn apply(&mut self, record: &Record<'_>) -> anyhow::Result<()> {
        self.state.apply(record)?;
        let database = usize::from(record.database);
        match record.operation {
            Operation::Put { .. } | Operation::Delete { .. } | Operation::Flush => {
                self.known[database] = true;
            }
            Operation::Swap { other } => self.known.swap(database, other.into()),
            Operation::MoveIn { .. } | Operation::MoveOut { .. } => self.known.fill(true),
            Operation::Own { .. }
            | Operation::SetDeadline { .. }
            | Operation::Append { .. }
            | Operation::WriteRange { .. } => {}
        }
        Ok(())
    }

    fn print(&self, located: &Located<'_>, out: &mut dyn Write) -> anyhow::Result<()> {
        let record = &located.record;
        // It is about all databases and changes no value, so there is none to show.
        let keeps_keys = matches!(record.operation, Operation::Own { .. });
        let is_known = !keeps_keys && self.known[usize::from(record.database)];
        let after = self.state.get(record.database, &self.key);
        match self.format {
            Format::Json => {
                let mut members = self.printer.json(located);
                if is_known {
                    let after = after.map(|item| self.printer.item_json(item));
                    members.insert("after".to_owned(), json!(after));
                }
                writeln!(out, "{}", Json::Object(members))?;
            }
            Format::Text | Format::Resp => {
                let says_it = matches!(
                    record.operation,
                    Operation::Put { .. } | Operation::Delete { .. } | Operation::Flush
                );
                let after = match after {
                    _ if says_it || !is_known => String::new(),
                    Some(item) => format!("  -> {}", self.printer.item(item)),
                    None => "  -> gone".to_owned(),
                };
                writeln!(out, "{}{after}", self.printer.text(located))?;
            }
        }
        Ok(())
    }

    /// Prints what the snapshot holds, and goes on from there.
    fn print_snapshot(&mut self, out: &mut dyn Write) -> anyhow::Result<()> {
        let Some(snapshot) = self.snapshot.take() else { return Ok(()) };
        self.state = snapshot.state;
        self.known.fill(true);
        let (cut, written) = (snapshot.cut, snapshot.written);
        let is_received = self.state.is_received(self.partition);
        let mut is_there = false;
        for (database, _, _, item) in self.state.iter() {
            if self.database.is_some_and(|wanted| wanted != database) {
                continue;
            }
            is_there = true;
            let value = super::format::stored(&item.value);
            let operation = Operation::Put { key: &self.key, value, deadline: item.deadline };
            let record = Record { partition: self.partition, database, operation };
            let located = Located { sequence: None, written, record };
            match self.format {
                Format::Json => {
                    let mut members = self.printer.json(&located);
                    members.insert("before_sequence".to_owned(), json!(cut));
                    members.insert("is_served".to_owned(), json!(!is_received));
                    writeln!(out, "{}", Json::Object(members))?;
                }
                Format::Text | Format::Resp => {
                    let served = if is_received { ", not served yet" } else { "" };
                    let line = self.printer.text(&located);
                    writeln!(out, "{line}  (before record {cut}{served})")?;
                }
            }
        }
        if !is_there {
            self.print_absence(cut, written, out)?;
        }
        Ok(())
    }

    fn print_absence(
        &self,
        cut: SequenceNumber,
        written: UnixMillis,
        out: &mut dyn Write,
    ) -> anyhow::Result<()> {
        if self.format == Format::Json {
            let mut members: Map<_, _> = place_json(None, written);
            members.insert("partition".to_owned(), json!(self.partition));
            members.insert("operation".to_owned(), json!(SNAPSHOT));
            members.insert("key".to_owned(), super::format::bytes_json(&self.key));
            members.insert("after".to_owned(), Json::Null);
            members.insert("before_sequence".to_owned(), json!(cut));
            writeln!(out, "{}", Json::Object(members))?;
            return Ok(());
        }
        let place = self.printer.place(None, written);
        let partition = self.partition;
        writeln!(
            out,
            "{place}  p{partition:<4}      {SNAPSHOT:<12} no such key  (before record {cut})"
        )?;
        Ok(())
    }
}
