//! `RawConfig`: one value for each row of the table, and where it came from; and what was wrong.

use std::fmt;

use super::options::{self, Named, OptionSpec};
use super::value::{Dialect, Kind, Value, ValueError};

/// Where a value came from; a later one in this order wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The table's default.
    Default,
    /// The configuration file.
    File,
    /// An environment variable.
    Environment,
    /// A flag of the command line.
    Flag,
    /// `CONFIG SET`.
    ConfigSet,
}

/// A value for each option, each valid by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawConfig {
    /// By position of the row, see [`options::rows`].
    entries: Vec<(Value, Source)>,
}

/// Something wrong with one option; the texts are for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The option, in the table's spelling where it is known.
    pub option: String,
    /// The offending value; `None` where there is none, or where it is secret.
    pub value: Option<String>,
    /// Where it was said, as `--port` or `DISTCACHE_PORT`.
    pub origin: String,
    /// What is wrong and what is allowed.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.option)?;
        if let Some(value) = &self.value {
            write!(formatter, " = '{value}'")?;
        }
        write!(formatter, " ({}): {}", self.origin, self.reason)
    }
}

impl Default for RawConfig {
    /// Returns the defaults of the table.
    fn default() -> Self {
        let parse = |spec: &OptionSpec| {
            let nothing = Value::Text(String::new());
            let value = spec.kind.parse(Dialect::Own, spec.default, &nothing);
            value.expect("a test parses every default of the table")
        };
        Self { entries: options::rows().map(|spec| (parse(spec), Source::Default)).collect() }
    }
}

impl RawConfig {
    /// Iterates over all rows and their values.
    pub fn values(&self) -> impl Iterator<Item = (&'static OptionSpec, &Value)> {
        options::rows().zip(self.entries.iter().map(|(value, _)| value))
    }

    /// Returns the value of the row at `row`.
    pub fn value(&self, row: usize) -> &Value {
        &self.entries[row].0
    }

    /// Returns where the value of the row at `row` came from.
    pub fn source(&self, row: usize) -> Source {
        self.entries[row].1
    }

    /// Replaces the value of one row.
    pub(super) fn put(&mut self, row: usize, value: Value, source: Source) {
        self.entries[row] = (value, source);
    }

    /// Returns the value of `named` as `CONFIG GET` answers it.
    pub fn text(&self, named: Named) -> String {
        named.spec.kind.write(named.dialect, self.value(named.row))
    }

    /// Parses what flags, environment or file said of an option, and keeps it.
    ///
    /// # Errors
    /// A [`Problem`]; then the value stays as it was.
    pub(super) fn set_at_start(
        &mut self,
        named: Named,
        text: &str,
        source: Source,
        origin: &str,
    ) -> Result<(), Problem> {
        let spec = named.spec;
        match spec.kind.parse_at_start(named.dialect, text, self.value(named.row)) {
            Ok(value) => {
                self.put(named.row, value, source);
                Ok(())
            }
            Err(ValueError(reason)) => Err(Problem {
                option: spec.name.to_owned(),
                value: (!spec.is_secret()).then(|| text.to_owned()),
                origin: origin.to_owned(),
                reason: match spec.kind {
                    Kind::OutputLimits => format!("{reason} allowed: {}", spec.kind.allowed()),
                    _ => format!("allowed: {}", spec.kind.allowed()),
                },
            }),
        }
    }

    /// Describes the options that were given, and change nothing: whoever gave them may believe
    /// that they do.
    pub(super) fn without_effect(&self) -> Vec<String> {
        let defaults = Self::default();
        let rows = options::rows().enumerate().filter(|(row, spec)| {
            spec.apply.is_none()
                && self.source(*row) != Source::Default
                && self.value(*row) != defaults.value(*row)
        });
        let tell = |spec: &OptionSpec| {
            let reason = format!("this has no effect. {}", spec.doc);
            self.problem(spec.name, &reason).to_string()
        };
        rows.map(|(_, spec)| tell(spec)).collect()
    }

    /// Describes a broken relation, blaming the option `name`.
    pub(super) fn problem(&self, name: &str, reason: &str) -> Problem {
        let named = options::find(name).expect("relations name options of the table");
        Problem {
            option: name.to_owned(),
            value: (!named.spec.is_secret()).then(|| self.text(named)),
            origin: match self.source(named.row) {
                Source::Default => "default".to_owned(),
                Source::File => "configuration file".to_owned(),
                Source::Environment => named.spec.variable(),
                Source::Flag => format!("--{name}"),
                Source::ConfigSet => "CONFIG SET".to_owned(),
            },
            reason: reason.to_owned(),
        }
    }
}
