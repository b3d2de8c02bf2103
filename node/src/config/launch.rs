//! From flags, environment and file to a configuration, with every problem told at once.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::file;
use super::live::LiveConfig;
use super::options::{self, Named, OptionSpec};
use super::raw::{Problem, RawConfig, Source};
use super::value::{Dialect, Kind};
use crate::cli;

const PREFIX: &str = "DISTCACHE_";

/// What the command line asks for.
#[derive(Debug)]
pub enum Launch {
    /// Run a node.
    Run {
        /// Its configuration.
        config: LiveConfig,
        /// What is odd and no error, for the log.
        warnings: Vec<String>,
    },
    /// Print this text and end: help, version, or the configuration.
    Print(String),
    /// Ask a running cluster for something.
    Cluster(cli::Request),
}

/// Why there is no configuration; nothing was started or written.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The command line cannot be parsed; the text has the usage.
    #[error("{0}")]
    Usage(String),
    /// Values are wrong, or do not go together: all of them.
    #[error("{}", lines(.0))]
    Invalid(Vec<Problem>),
}

/// Reads the configuration from `args` (the program's name first), `variables` and the file they
/// name.
///
/// # Errors
/// [`LaunchError`], with every problem of every source.
pub fn launch<A, V>(args: A, variables: V) -> Result<Launch, LaunchError>
where
    A: IntoIterator<Item = OsString>,
    V: IntoIterator<Item = (OsString, OsString)>,
{
    let flags = match command().try_get_matches_from(args) {
        Ok(flags) => flags,
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                return Ok(Launch::Print(error.to_string()));
            }
            _ => return Err(LaunchError::Usage(error.to_string())),
        },
    };
    let environment: Vec<(String, OsString)> = variables
        .into_iter()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect();
    if let Some(("cluster", asked)) = flags.subcommand() {
        return cluster(asked, &environment).map(Launch::Cluster);
    }
    let mut sources = Sources::default();
    let file = sources.add_file(&flags, &environment);
    sources.add_environment(&environment);
    sources.add_flags(&flags, |_| true);
    let Sources { raw, mut problems, mut warnings } = sources;
    warnings.extend(raw.without_effect());
    let printed = file::print(&raw);
    match LiveConfig::new(raw, file) {
        Ok(_) if !problems.is_empty() => Err(LaunchError::Invalid(problems)),
        Ok(_) if flags.get_flag("print-config") => Ok(Launch::Print(printed)),
        Ok(config) => Ok(Launch::Run { config, warnings }),
        Err(relations) => {
            problems.extend(relations);
            Err(LaunchError::Invalid(problems))
        }
    }
}

/// Reads what a cluster is asked for: seeds and secret are options as the node has them.
fn cluster(
    asked: &ArgMatches,
    environment: &[(String, OsString)],
) -> Result<cli::Request, LaunchError> {
    let (_, flags) = asked.subcommand().expect("clap requires a subcommand");
    let is_own = |variable: &String| {
        let own = options::rows().filter(|spec| cli::OPTIONS.contains(&spec.name));
        own.map(OptionSpec::variable).any(|name| name == *variable)
    };
    let own = environment.iter().filter(|(name, _)| is_own(name)).cloned();
    let mut sources = Sources::default();
    sources.add_environment(&own.collect::<Vec<_>>());
    sources.add_flags(flags, |name| cli::OPTIONS.contains(&name));
    let live = LiveConfig::new(sources.raw, None);
    match live {
        Ok(live) if sources.problems.is_empty() => Ok(cli::Request::new(asked, &live.current())),
        Ok(_) => Err(LaunchError::Invalid(sources.problems)),
        Err(relations) => {
            sources.problems.extend(relations);
            Err(LaunchError::Invalid(sources.problems))
        }
    }
}

/// What the sources said so far; add them in the order of precedence, the strongest last.
#[derive(Default)]
struct Sources {
    raw: RawConfig,
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

impl Sources {
    /// Reads the file that flag or environment name, and returns its path.
    fn add_file(
        &mut self,
        flags: &ArgMatches,
        environment: &[(String, OsString)],
    ) -> Option<PathBuf> {
        let (path, origin) = match flags.get_one::<PathBuf>("config") {
            Some(path) => (path.clone(), "--config"),
            None => {
                let variable = environment.iter().find(|(name, _)| name == "DISTCACHE_CONFIG")?;
                (PathBuf::from(&variable.1), "DISTCACHE_CONFIG")
            }
        };
        match fs::read_to_string(&path) {
            Ok(content) => self.add_content(&path.display().to_string(), &content),
            Err(error) => {
                let value = path.display().to_string();
                self.refuse("config", Some(value), origin, format!("cannot be read: {error}"));
            }
        }
        Some(path)
    }

    fn add_content(&mut self, path: &str, content: &str) {
        let (entries, errors) = file::entries(content);
        for (line, error) in errors {
            self.refuse("config", None, &format!("{path}:{line}"), error);
        }
        let mut seen: Vec<usize> = Vec::new();
        for entry in entries {
            let origin = format!("{path}:{}", entry.line);
            let Some(named) = options::find(&entry.key) else {
                let reason = unknown(options::suggest(&entry.key));
                self.refuse(&entry.key, None, &origin, reason);
                continue;
            };
            // Two names of one option: TOML itself refuses the same name twice.
            if seen.contains(&named.row) {
                self.refuse(&entry.key, None, &origin, "the option is given twice".to_owned());
            }
            seen.push(named.row);
            match entry.text {
                Ok(text) => self.add(named, &text, Source::File, &origin),
                Err(reason) => {
                    let reason = format!("{reason}; allowed: {}", named.spec.kind.allowed());
                    self.refuse(&entry.key, None, &origin, reason);
                }
            }
        }
    }

    fn add_environment(&mut self, environment: &[(String, OsString)]) {
        for (variable, value) in environment {
            let key = variable[PREFIX.len()..].to_ascii_lowercase().replace('_', "-");
            let own = options::find(&key).filter(|named| named.dialect == Dialect::Own);
            match (own, value.to_str()) {
                (Some(named), Some(text)) => self.add(named, text, Source::Environment, variable),
                (Some(named), None) => {
                    let reason = "the value is not valid UTF-8".to_owned();
                    self.refuse(named.spec.name, None, variable, reason);
                }
                (None, _) if key == "config" => {}
                // Not an error: the name may belong to a script or to a container's platform.
                (None, _) => {
                    let near = options::suggest(&key).and_then(options::find);
                    let near = near.map(|named| named.spec.variable());
                    self.warnings.push(format!("{variable} is {}", unknown(near.as_deref())));
                }
            }
        }
    }

    /// Adds the flags of those options that this command line has.
    fn add_flags(&mut self, flags: &ArgMatches, has: impl Fn(&str) -> bool) {
        let own = options::names().filter(|named| named.dialect == Dialect::Own);
        for named in own.filter(|named| has(named.name)) {
            let name = named.name;
            if flags.value_source(name) == Some(ValueSource::CommandLine) {
                let texts: Vec<&str> =
                    flags.get_many::<String>(name).into_iter().flatten().map(|s| &**s).collect();
                self.add(named, &texts.join(" "), Source::Flag, &format!("--{name}"));
            }
            if name == "protected-mode" && flags.get_flag("insecure") {
                self.add(named, "no", Source::Flag, "--insecure");
            }
        }
    }

    fn add(&mut self, named: Named, text: &str, source: Source, origin: &str) {
        if let Err(problem) = self.raw.set_at_start(named, text, source, origin) {
            self.problems.push(problem);
        }
    }

    fn refuse(&mut self, option: &str, value: Option<String>, origin: &str, reason: String) {
        let (option, origin) = (option.to_owned(), origin.to_owned());
        self.problems.push(Problem { option, value, origin, reason });
    }
}

/// Builds the command line from the table.
fn command() -> Command {
    Command::new("distcache-node")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A node of distcache, the clustered in-memory cache")
        .after_help(
            "Flags win over environment variables (DISTCACHE_PORT for --port), these over the \
             file, and that over the defaults. --help explains every option at length.",
        )
        .args_conflicts_with_subcommands(true)
        .disable_help_subcommand(true)
        .subcommand(cli::command(|name| {
            let spec = options::rows().find(|spec| spec.name == name);
            flag(spec.expect("a test asks for every option of the subcommands"))
        }))
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(clap::value_parser!(PathBuf))
                .help("TOML file with options; --print-config shows what it may hold"),
        )
        .arg(
            Arg::new("print-config")
                .long("print-config")
                .action(ArgAction::SetTrue)
                .help("Prints the effective configuration as such a file, and ends"),
        )
        .arg(
            Arg::new("insecure")
                .long("insecure")
                .action(ArgAction::SetTrue)
                .conflicts_with("protected-mode")
                .help("Allows an address beyond loopback without a password"),
        )
        .args(options::rows().map(flag))
}

fn flag(spec: &'static OptionSpec) -> Arg {
    let summary = spec.doc.split_inclusive(". ").next().unwrap_or(spec.doc).trim_end();
    let long = format!("{}\nEnvironment: {}.", file::documentation(spec), spec.variable());
    let flag = Arg::new(spec.name)
        .long(spec.name)
        .value_name(value_name(spec.kind))
        .help(summary)
        .long_help(long)
        .allow_negative_numbers(true)
        .hide(spec.apply.is_none());
    match spec.kind {
        Kind::Addresses | Kind::Seeds => flag.action(ArgAction::Append),
        // `--insecure-cluster` alone means yes.
        Kind::Flag => flag.num_args(0..=1).default_missing_value("yes"),
        _ => flag,
    }
}

fn value_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Flag => "yes|no",
        Kind::Integer { .. } | Kind::Clamped { .. } => "NUMBER",
        Kind::Size { .. } | Kind::SizeOrPercent => "SIZE",
        Kind::Choice { .. } => "WORD",
        Kind::Text | Kind::Secret | Kind::Events => "TEXT",
        Kind::Path => "PATH",
        Kind::Addresses => "ADDRESS",
        Kind::Host => "HOST",
        Kind::Seeds => "HOST[:PORT],...",
        Kind::SavePoints => "POINTS",
        Kind::Percentiles => "PERCENTS",
        Kind::OutputLimits => "LIMITS",
    }
}

fn unknown(near: Option<&str>) -> String {
    match near {
        Some(near) => format!("not an option; did you mean {near}"),
        None => "not an option".to_owned(),
    }
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}
