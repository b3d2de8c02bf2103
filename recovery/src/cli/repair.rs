//! `repair`: a new data directory from all that is intact.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Arg, ArgMatches, Command, value_parser};
use distcache_recovery::{RepairReport, repair_with};
use serde_json::json;

use super::format::size;
use super::scratch::{ELSEWHERE, Scratch};
use super::source::{explain, style};
use super::{Format, Outcome, Session, ended, format_option};

const EXAMPLES: &str = "\
Examples:
  distcache-log repair ./distcache-data --output ./repaired
  distcache-log verify ./repaired && distcache-node --data-dir ./repaired

The damaged directory is only read. What its store does not give is searched for in its raw files.
Sequence numbers stay as they are; what is missing is noted in the new directory, so that a node
starts with a warning. A repair that is cut short leaves NEW.partial, which may be removed.
The exit code is 0 if nothing was lost, 1 if something was.";

pub(super) fn command() -> Command {
    Command::new("repair")
        .about("Makes a new data directory from all that is intact in a damaged one")
        .after_help(EXAMPLES)
        .arg(
            Arg::new("output")
                .long("output")
                .short('o')
                .value_name("NEW")
                .help("The new data directory; missing or empty")
                .required(true)
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(format_option(&["text", "json"]))
}

pub(super) fn run(
    session: &Session,
    matches: &ArgMatches,
    out: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let output: &PathBuf = matches.get_one("output").expect("clap requires it");
    let scratch = Scratch::new(&session.temp_dir)?;
    let bytes = session.plan(&scratch)?.bytes();
    session.note(&format!("{} takes up to {} more", output.display(), size(bytes)));
    let bar = session.bar(true);
    bar.set_style(style("{msg} {percent}% {wide_bar} {eta}"));
    let mut phase = "";
    let mut progress = |current: &'static str, done, total| {
        if phase != current {
            phase = current;
            bar.reset();
            bar.set_message(current);
        }
        bar.set_length(total);
        bar.set_position(done);
    };
    let now = session.clock.now();
    let report = repair_with(&session.dir, output, scratch.path(), now, &mut progress);
    bar.finish_and_clear();
    let report = report.map_err(|error| {
        let is_disk_full = error.is_disk_full();
        let error = explain(error);
        if is_disk_full { error.context(ELSEWHERE) } else { error }
    })?;
    let written = print(session.format, output, &report, out)
        .context("the repair is done, but its report cannot be printed");
    ended(written, if report.is_whole() { Outcome::Clean } else { Outcome::Damaged })
}

fn print(
    format: Format,
    output: &Path,
    report: &RepairReport,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let is_whole = report.is_whole();
    match format {
        Format::Json => {
            let mut object = json!(report);
            object["output"] = json!(output.to_string_lossy());
            object["is_whole"] = json!(is_whole);
            writeln!(out, "{object}")?;
        }
        Format::Text | Format::Resp => {
            print_text(report, out)?;
            let ending = if is_whole { "nothing was lost" } else { "the rest is lost" };
            writeln!(out, "{} is ready; {ending}", output.display())?;
        }
    }
    Ok(out.flush()?)
}

fn print_text(report: &RepairReport, out: &mut dyn Write) -> anyhow::Result<()> {
    let RepairReport { records, frames, carved_frames, snapshots, .. } = report;
    writeln!(out, "saved      {records} records in {frames} frames, {snapshots} snapshots")?;
    if *carved_frames > 0 {
        writeln!(out, "           {carved_frames} of the frames were only in the raw files")?;
    }
    for (first, end) in &report.lost {
        writeln!(out, "lost       records {first} to {}", end.0.saturating_sub(1))?;
    }
    for snapshot in &report.damaged_snapshots {
        writeln!(out, "lost       {snapshot}")?;
    }
    if report.unreadable_frames > 0 {
        writeln!(out, "lost       {} frames that make no sense", report.unreadable_frames)?;
    }
    Ok(())
}
