//! `verify`: whether a node would start with the directory, and if not, what is lost.

use std::io::Write;

use clap::{ArgMatches, Command};
use distcache_recovery::VerifyReport;
use serde_json::json;

use super::format::size;
use super::source::{Source, style};
use super::{Format, Outcome, Session, ended, format_option};

const EXAMPLES: &str = "\
Examples:
  distcache-log verify ./distcache-data
  distcache-log verify ./distcache-data --format json | jq .damages
  distcache-log verify ./distcache-data --quiet || echo 'do not start the node'

Every record is read and every checksum computed, also of the node's part in Raft, if it has one.
The exit code is 0 exactly if a node would start with the directory, and 1 if it would refuse it as
damaged. A part in Raft that a node would put aside, to be a new one, is a warning.";

pub(super) fn command() -> Command {
    Command::new("verify")
        .about("Checks the whole directory as a node does at its start")
        .after_help(EXAMPLES)
        .arg(format_option(&["text", "json"]))
}

pub(super) fn run(
    session: &Session,
    _: &ArgMatches,
    out: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let source = Source::open_all(session)?;
    let bar = session.bar(true);
    bar.set_style(style("checking {percent}% {wide_bar} {eta}"));
    let report = source.copy().verify(|progress| {
        bar.set_length(progress.records_total);
        bar.set_position(progress.records);
    })?;
    bar.finish_and_clear();
    let written = match session.format {
        Format::Json => print_json(&report, out),
        Format::Text | Format::Resp => print_text(session, &report, out),
    };
    ended(written, if report.is_intact() { Outcome::Clean } else { Outcome::Damaged })
}

fn print_json(report: &VerifyReport, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut object = json!(report);
    object["is_intact"] = json!(report.is_intact());
    for (index, damage) in report.damages.iter().enumerate() {
        object["damages"][index]["lost"] = json!(damage.kind.lost());
    }
    writeln!(out, "{object}")?;
    Ok(out.flush()?)
}

fn print_text(session: &Session, report: &VerifyReport, out: &mut dyn Write) -> anyhow::Result<()> {
    let dir = session.dir.display();
    writeln!(out, "{dir}: {}", if report.is_intact() { "intact" } else { "DAMAGED" })?;
    writeln!(
        out,
        "read       {} records in {} frames, {} snapshots with {} records, {}",
        report.records,
        report.frames,
        report.snapshots,
        report.snapshot_records,
        size(report.stored_bytes)
    )?;
    if let Some(marked) = report.marked {
        let how = if report.is_clean_shutdown { "closed in order" } else { "not closed in order" };
        writeln!(out, "mark       records before {marked} were on disk; {how}")?;
    }
    for (first, end) in &report.declared_gaps {
        writeln!(out, "gap        records {first} to {} are missing and declared so", end.0 - 1)?;
    }
    for warning in &report.warnings {
        writeln!(out, "warning    {warning}")?;
    }
    for (number, damage) in report.damages.iter().enumerate() {
        let title = if number == 0 { "first bad" } else { "also bad" };
        writeln!(out, "{title:<10} {}", damage.reason)?;
        writeln!(out, "lost       {}", damage.kind.lost())?;
    }
    if !report.damages.is_empty() {
        writeln!(
            out,
            "to save    {} records and {} records of snapshots at least: \
             distcache-log repair {dir} --output NEW",
            report.records, report.snapshot_records
        )?;
    }
    for damage in &report.raft_damages {
        writeln!(out, "bad        raft: {damage}")?;
    }
    if !report.raft_damages.is_empty() {
        writeln!(
            out,
            "to do      put back a copy of {dir}/raft that was made when the node was last \
             stopped, or remove it: the node then joins as a new one"
        )?;
    }
    Ok(out.flush()?)
}
