//! `distcache-node cluster`: what operators ask of a running cluster.
//!
//! The program is a client of the nodes' bus: it shows that it knows the cluster's secret as a
//! node does, but it is none, and neither joins nor votes.
//!
//! Modules in reading order: this one (the command line), `members` (whom to ask), `status` and
//! `remove` (what is asked), `pace` (how long it takes still), `text` and `json` (what is printed).

mod json;
mod members;
mod pace;
mod remove;
mod status;
#[cfg(test)]
mod tests;
mod text;

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use self::members::Members;
use self::remove::Asked;
use crate::cluster::addresses;
use crate::config::{Config, Secret};

/// The options of a node that the subcommands have too.
pub const OPTIONS: &[&str] = &["seeds", "cluster-secret"];

/// Where a node is looked for if no seed is named: on this machine, at its usual port.
const DEFAULT_SEED: &str = "127.0.0.1";

/// How long a cluster has to answer, if the operator does not say otherwise.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// The longest limit that can be asked for, in seconds.
const TIMEOUT_S_MAX: u64 = 30 * 86_400;

/// What is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// For people.
    Text,
    /// For programs: one object a line.
    Json,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    Status,
    Remove { node: String, keys: Keys },
}

/// What becomes of the keys of a node that is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keys {
    /// They move to the others.
    Move,
    /// They are lost with the node, but nobody has said yet that they may be.
    Lost,
    /// They are lost, and so be it.
    GiveUp,
}

/// What a cluster is asked for.
#[derive(Debug, Clone)]
pub struct Request {
    action: Action,
    /// Bus addresses.
    seeds: Vec<String>,
    secret: Option<Secret>,
    format: Format,
    timeout: Option<Duration>,
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Nobody answers, or nobody that can.
    #[error("{0}")]
    NoAnswer(String),
    /// The cluster has no such node.
    #[error("{0}")]
    NoSuchNode(String),
    /// The cluster refuses, and nothing was changed.
    #[error("refused: {0}")]
    Refused(String),
    /// The time is over. What was begun goes on.
    #[error("not done within {} s; the drain goes on", .0.as_secs())]
    TimedOut(Duration),
    /// The operator has seen enough. What was begun goes on.
    #[error("interrupted; the drain goes on, and `distcache-node cluster status` shows it")]
    Interrupted,
    /// The terminal, or what is behind it.
    #[error(transparent)]
    Output(#[from] io::Error),
}

const AFTER_HELP: &str = "\
Examples:
  distcache-node cluster status --seeds host1,host2
  distcache-node cluster status --seeds host1:12050 --format json
  distcache-node cluster remove 10.0.0.7:2050 --seeds host1

A seed is any member, as host[:bus-port]; a node's bus port is its port + 10000 unless it was \
started otherwise. Nodes are added by starting them with --seeds.

Exit code: 0 done, 1 failed or refused, 2 the command line is wrong.";

const AFTER_REMOVE_HELP: &str = "\
NODE is an id or the beginning of one, as `cluster status` shows it, or any address of the node \
with its port.

Every key of the node moves to the others while clients work; then the node is no member any more, \
and its process ends with exit code 0. Interrupting this program changes nothing about that.

A node that is down keeps its partitions until it is back. If its disk is lost, --lost says how \
many that are; with --give-up-keys as well, they come back empty on the other nodes, and the node \
is no member any more. Where its data still exists, start it instead: nothing is lost then.

Examples:
  distcache-node cluster remove 3fa0 --seeds host1
  distcache-node cluster remove 3fa0 --lost --give-up-keys --seeds host1
  distcache-node cluster remove host4:2050 --seeds host1,host2 --timeout 600";

const SEEDS_HELP: &str = "\
Members to ask, as host[:bus-port], with commas between them: the first that answers knows the \
others. The usual bus port is 12050. Default: this machine. Environment: DISTCACHE_SEEDS.";

/// Returns the command line; `option` makes the flag of one of [`OPTIONS`].
pub fn command(option: impl Fn(&str) -> Arg) -> Command {
    let shared = |command: Command| {
        command
            .args(OPTIONS.iter().map(|name| match *name {
                "seeds" => option(name).help(SEEDS_HELP).long_help(SEEDS_HELP),
                name => option(name),
            }))
            .arg(
                Arg::new("format")
                    .long("format")
                    .value_name("FORMAT")
                    .value_parser(["text", "json"])
                    .default_value("text")
                    .help("What is printed: text for people, or one JSON object a line"),
            )
            .arg(
                Arg::new("timeout")
                    .long("timeout")
                    .value_name("SECONDS")
                    .value_parser(value_parser!(u64).range(1..=TIMEOUT_S_MAX))
                    .help("Gives up after so long; what was begun goes on"),
            )
    };
    let remove = Command::new("remove")
        .about("Moves everything that a node has to the others, and lets it go")
        .arg(Arg::new("node").value_name("NODE").required(true).help("The node: id or address"))
        .arg(
            Arg::new("lost")
                .long("lost")
                .action(ArgAction::SetTrue)
                .help("The node is down and its disk is lost: goes on without it"),
        )
        .arg(
            Arg::new("give-up-keys")
                .long("give-up-keys")
                .action(ArgAction::SetTrue)
                .requires("lost")
                .help("Confirms that the keys which only the lost node had are given up"),
        )
        .after_help(AFTER_REMOVE_HELP);
    let status =
        Command::new("status").about("Shows members, what they have, and what is on its way");
    Command::new("cluster")
        .about("Asks a running cluster: how it stands, or to let a node go")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .after_help(AFTER_HELP)
        .subcommand(shared(status))
        .subcommand(shared(remove))
}

impl Request {
    /// Returns what `cluster` was called with; `config` has its [`OPTIONS`].
    pub fn new(asked: &ArgMatches, config: &Config) -> Self {
        let (name, flags) = asked.subcommand().expect("clap requires a subcommand");
        let action = match name {
            "remove" => Action::Remove {
                node: flags.get_one::<String>("node").cloned().unwrap_or_default(),
                keys: match (flags.get_flag("lost"), flags.get_flag("give-up-keys")) {
                    (false, _) => Keys::Move,
                    (true, false) => Keys::Lost,
                    (true, true) => Keys::GiveUp,
                },
            },
            _ => Action::Status,
        };
        let usual_port = config.bus_port(config.port);
        let mut seeds = addresses::seeds(config, usual_port);
        if seeds.is_empty() {
            seeds.push(format!("{DEFAULT_SEED}:{usual_port}"));
        }
        let is_json = flags.get_one::<String>("format").is_some_and(|format| format == "json");
        Request {
            action,
            seeds,
            secret: config.cluster_secret.clone(),
            format: if is_json { Format::Json } else { Format::Text },
            timeout: flags.get_one("timeout").map(|seconds| Duration::from_secs(*seconds)),
        }
    }
}

/// Asks, and prints what comes of it on standard output.
///
/// # Errors
/// See [`CliError`].
pub fn run(request: &Request) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut out = io::stdout();
    let is_terminal = out.is_terminal();
    let done = runtime.block_on(async {
        let mut members = Members::new(request.seeds.clone(), request.secret.as_ref());
        match &request.action {
            Action::Status => status::show(&mut members, request, &mut out).await,
            Action::Remove { node, keys } => {
                let asked = Asked { name: node, keys: *keys };
                remove::remove(&mut members, asked, request, is_terminal, &mut out).await
            }
        }
    });
    match done {
        // A reader that has seen enough, such as `head`, is no failure.
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

/// Prints a line, and has it seen at once.
fn print(out: &mut dyn Write, line: &str) -> Result<(), CliError> {
    out.write_all(line.as_bytes())?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}
