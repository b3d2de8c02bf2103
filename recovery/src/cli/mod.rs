//! The subcommands of `distcache-log`, one a file.
//!
//! In reading order: this file (the options that all share), [`source`] (the copy that is read,
//! progress, damage), [`time`] (points in the log and times), [`mod@format`] and [`typed`] (keys
//! and values as text and JSON), [`change`] (records as text and JSON), [`filter`] (which of them
//! are wanted), [`rebuild`] (the keyspace at a point), [`moves`], [`scratch`], and the subcommands.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

mod change;
mod diff;
mod dump;
mod filter;
mod format;
mod history;
mod moves;
mod raft;
mod rebuild;
mod repair;
mod scratch;
mod source;
mod state;
mod summary;
mod time;
mod typed;
mod verify;

use format::Style;
use time::Clock;

/// What a subcommand found, which decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// No damage.
    Clean,
    /// The log is damaged.
    Damaged,
}

/// What a subcommand prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// For people.
    Text,
    /// For programs: one object a line.
    Json,
    /// Commands for `redis-cli --pipe`.
    Resp,
}

/// What all subcommands share.
#[derive(Debug)]
struct Session {
    dir: PathBuf,
    /// Where the copy goes.
    temp_dir: PathBuf,
    format: Format,
    style: Style,
    clock: Clock,
    is_quiet: bool,
    /// Whether progress bars are drawn while results are printed.
    draws_over_output: bool,
}

type Run = fn(&Session, &ArgMatches, &mut dyn Write) -> anyhow::Result<Outcome>;

/// A subcommand: what clap knows of it, and what runs.
type Subcommand = (fn() -> Command, Run);

/// All subcommands, in the order of the help.
const SUBCOMMANDS: &[Subcommand] = &[
    (summary::command, summary::run),
    (dump::command, dump::run),
    (history::command, history::run),
    (state::command, state::run),
    (diff::command, diff::run),
    (verify::command, verify::run),
    (repair::command, repair::run),
    (raft::command, raft::run),
];

const ABOUT: &str = "Looks into the operation log of a distcache node that is not running";
const LONG_ABOUT: &str = "\
Looks into the operation log of a distcache node that is not running.

The data directory is only read: the tool works on a private copy of it, which needs as much space \
as the directory and is removed at the end. A directory that a running node has open is refused.";
const AFTER_HELP: &str = "\
Sequence numbers count the records of the log from 0.
Times: 10:00 (today), 2026-11-22, '2026-11-22 10:00', 2026-11-22T10:00:00Z, -15m, -2h30m, \
1764000000000 (Unix milliseconds).
Where a sequence number or a time can stand, a number below 100000000000 is a sequence number; \
seq:N and ms:N say it outright.

Exit code: 0 clean, 1 the log is damaged, 2 the tool could not do its work. Where the output is \
closed before its end, the code is of what was read until then.";

/// Runs the tool with these arguments, the program's name first.
///
/// # Errors
///
/// Wrong usage (a [`clap::Error`]), and whatever keeps the tool from doing its work.
pub(crate) fn run(
    arguments: impl IntoIterator<Item = OsString>,
    out: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let matches = command().try_get_matches_from(arguments)?;
    let (name, matches) = matches.subcommand().expect("clap requires a subcommand");
    let known = SUBCOMMANDS.iter().find(|(command, _)| command().get_name() == name);
    let (_, run) = known.expect("clap knows the same subcommands");
    run(&Session::new(matches)?, matches, out)
}

/// Returns what a subcommand found, once its output is `written`. Whoever closed the output has
/// seen enough: that is no failure, and changes nothing about what was found.
///
/// # Errors
///
/// When the output could not be written for another reason.
pub(crate) fn ended(written: anyhow::Result<()>, found: Outcome) -> anyhow::Result<Outcome> {
    match written {
        Err(error) if !is_broken_pipe(&error) => Err(error),
        Ok(()) | Err(_) => Ok(found),
    }
}

/// Returns whether something failed because nobody reads the output any more.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

fn command() -> Command {
    let shared = |command: Command| {
        command
            .arg(
                Arg::new("dir")
                    .value_name("DIR")
                    .help("The node's data directory")
                    .required(true)
                    .index(1)
                    .value_parser(value_parser!(PathBuf)),
            )
            .args(shared_options())
    };
    Command::new("distcache-log")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .long_about(LONG_ABOUT)
        .after_help(AFTER_HELP)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(SUBCOMMANDS.iter().map(|(command, _)| shared(command())))
}

fn shared_options() -> Vec<Arg> {
    let option = |name: &'static str| Arg::new(name).long(name).display_order(900);
    let flag = |name: &'static str| option(name).action(ArgAction::SetTrue);
    vec![
        option("temp-dir")
            .value_name("FOLDER")
            .help("Where the private copy goes [default: the system's folder for such files]")
            .value_parser(value_parser!(PathBuf)),
        flag("utc").help("Show and read times in UTC instead of the local time zone"),
        flag("quiet").short('q').help("Print no notes and no progress, only results and errors"),
    ]
}

/// The option `--format`; subcommands that can make commands say so.
fn format_option(formats: &'static [&'static str]) -> Arg {
    Arg::new("format")
        .long("format")
        .value_name("FORMAT")
        .help("What is printed: text for people, or one JSON object a line for programs")
        .value_parser(formats.to_vec())
        .default_value("text")
}

/// The options that say how values are shown.
fn style_options() -> [Arg; 2] {
    let flag = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    [
        flag("full").help("Show whole values; text is otherwise cut after 120 bytes of each"),
        flag("raw").help("Show the bytes of typed values instead of reading them"),
    ]
}

impl Session {
    fn new(matches: &ArgMatches) -> anyhow::Result<Self> {
        // Not every subcommand has every option.
        let has = |name| matches!(matches.try_get_one::<bool>(name), Ok(Some(true)));
        let format = match matches.try_get_one::<String>("format").ok().flatten() {
            Some(name) if name == "json" => Format::Json,
            Some(name) if name == "resp" => Format::Resp,
            _ => Format::Text,
        };
        let temp_dir = matches.get_one("temp-dir").cloned();
        Ok(Self {
            dir: matches.get_one::<PathBuf>("dir").expect("clap requires it").clone(),
            temp_dir: temp_dir.unwrap_or_else(std::env::temp_dir),
            format,
            style: Style { is_full: has("full"), is_raw: has("raw") },
            clock: Clock::new(has("utc")),
            is_quiet: has("quiet"),
            draws_over_output: !std::io::stdout().is_terminal(),
        })
    }

    /// Prints a note for people on standard error.
    fn note(&self, text: &str) {
        if !self.is_quiet {
            self.warn(text);
        }
    }

    /// Prints a line on standard error, whether or not notes are wanted.
    fn warn(&self, text: &str) {
        // A closed standard error is no reason to stop.
        let _ = writeln!(std::io::stderr(), "distcache-log: {text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_every_subcommand_shows_examples() {
        let mut all = command();
        all.clone().debug_assert();
        for subcommand in all.get_subcommands_mut() {
            let help = subcommand.render_long_help().to_string();
            assert!(help.contains("\n  distcache-log "), "{help}");
        }
    }
}
