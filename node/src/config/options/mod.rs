//! The table of options. Flags, environment, file, `CONFIG` and the sample file derive from it.

mod accepted;
mod own;

use super::Config;
use super::value::{Dialect, Kind, Value};

/// Every option there is, in the order in which they are printed.
pub const OPTIONS: &[&[OptionSpec]] = &[own::ROWS, accepted::ROWS];

/// One option: a row of the table.
#[derive(Debug)]
pub struct OptionSpec {
    /// The name as flag, as key of the file, and under `CONFIG`.
    pub name: &'static str,
    /// More names under `CONFIG` and in the file: those that Redis has for it.
    pub redis: &'static [&'static str],
    /// What it accepts.
    pub kind: Kind,
    /// The value when no source gives one, as text.
    pub default: &'static str,
    /// Whether `CONFIG SET` may change it.
    pub change: Change,
    /// Meaning, good value, what goes wrong; a paragraph, its first sentence is the summary.
    pub doc: &'static str,
    /// Whether `CONFIG GET` answers an empty value, whatever there is.
    pub hidden: bool,
    /// Stores the value in its field; `None` for what is accepted and has no effect (yet).
    pub apply: Option<fn(&mut Config, &Value)>,
}

/// Whether and how an option changes while the node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// `CONFIG SET` changes it.
    Live,
    /// Read at start only; `CONFIG SET` refuses, in the words of Redis.
    Fixed,
    /// Read at start only, where Redis changes it live: the present value is accepted, since tools
    /// set what they need without looking, and any other is refused.
    Steady,
    /// As `Fixed`; Redis says "protected" of it, since it names files.
    Protected,
}

impl Change {
    /// Returns why `CONFIG SET` refuses whatever the value, if it does.
    pub fn refusal(self) -> Option<&'static str> {
        match self {
            Self::Live | Self::Steady => None,
            Self::Fixed => Some("can't set immutable config"),
            Self::Protected => Some("can't set protected config"),
        }
    }
}

/// A name found in the table.
#[derive(Clone, Copy, Debug)]
pub struct Named {
    /// Position of the row over all groups.
    pub row: usize,
    /// The row.
    pub spec: &'static OptionSpec,
    /// The name, as the table spells it.
    pub name: &'static str,
    /// Whose name it is.
    pub dialect: Dialect,
}

/// Iterates over all rows; positions in this order identify a row.
pub fn rows() -> impl Iterator<Item = &'static OptionSpec> {
    OPTIONS.iter().copied().flatten()
}

/// Iterates over all names of all rows, each row's own name first.
pub fn names() -> impl Iterator<Item = Named> {
    rows().enumerate().flat_map(|(row, spec)| {
        let own = Named { row, spec, name: spec.name, dialect: Dialect::Own };
        let redis = spec.redis.iter();
        let redis = redis.map(move |name| Named { name, dialect: Dialect::Redis, ..own });
        std::iter::once(own).chain(redis)
    })
}

/// Finds an option by any of its names, in letters of either case.
pub fn find(name: &str) -> Option<Named> {
    names().find(|named| named.name.eq_ignore_ascii_case(name))
}

/// Returns the known name nearest to `name` when it is near enough to be meant.
pub fn suggest(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase().replace('_', "-");
    let near = names().map(|known| (distance(&name, known.name), known.name)).min()?;
    // Two letters swapped count as two replacements.
    (near.0 <= (2 + name.len() / 8).min(name.len() / 2)).then_some(near.1)
}

impl OptionSpec {
    /// The environment variable of this option.
    pub fn variable(&self) -> String {
        format!("DISTCACHE_{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }

    /// Returns whether the value must never be printed.
    pub fn is_secret(&self) -> bool {
        self.kind == Kind::Secret
    }

    const fn new(
        change: Change,
        name: &'static str,
        kind: Kind,
        default: &'static str,
        doc: &'static str,
    ) -> Self {
        Self { name, redis: &[], kind, default, change, doc, hidden: false, apply: None }
    }

    const fn redis(self, redis: &'static [&'static str]) -> Self {
        Self { redis, ..self }
    }

    const fn hidden(self) -> Self {
        Self { hidden: true, ..self }
    }

    const fn field(self, apply: fn(&mut Config, &Value)) -> Self {
        Self { apply: Some(apply), ..self }
    }
}

const fn integer(min: i64, max: i64, unit: &'static str) -> Kind {
    Kind::Integer { min, max, unit }
}

const fn size(min: u64) -> Kind {
    // Redis keeps these in signed 64 bits.
    Kind::Size { min, max: i64::MAX as u64 }
}

const fn choice(words: &'static [&'static str]) -> Kind {
    Kind::Choice { words, redis: &[] }
}

/// Counts the insertions, removals and replacements that turn `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut corner = i;
        previous[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = corner + usize::from(x != y);
            corner = previous[j + 1];
            previous[j + 1] = replaced.min(corner + 1).min(previous[j] + 1);
        }
    }
    previous[b.len()]
}

#[cfg(test)]
mod tests;
