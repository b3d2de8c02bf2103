//! The command table: one row a command, and everything that is derived from it.
//!
//! A command is one function and one row in the file of its group. Lookup, arity errors, routing
//! to shards, logging, refusals (authentication, memory, loading), `COMMAND`, `INFO commandstats`
//! and README's table all come from the row.
//!
//! - [`args`], [`error`]: what command functions take and what they can refuse with;
//! - the groups: [`generic`], [`string`], ...: pure functions, and their rows at the bottom of
//!   each file.

mod absent;
pub mod args;
mod catalog;
mod client;
mod cluster;
mod config;
mod connection;
mod debug;
pub mod error;
pub mod generic;
mod help;
mod info;
mod introspection;
mod memory;
mod persistence;
mod row;
mod server;
mod slow;
pub mod string;

use std::future::Future;
use std::pin::Pin;
use std::sync::LazyLock;

use distcache_protocol::resp::ReplyBuffer;

use crate::keyspace::Keyspace;
use crate::server::session::Session;
pub use args::Args;
pub(crate) use cluster::{Parts, parts};
pub use error::{CommandError, CommandResult};
pub(crate) use info::Figures;

/// A set of properties of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags(u32);

impl Flags {
    /// No property.
    pub const NONE: Flags = Flags(0);
    /// Changes keys: its effects are logged, and it is refused when the log has failed.
    pub const WRITE: Flags = Flags(1);
    /// Reads keys.
    pub const READONLY: Flags = Flags(1 << 1);
    /// May need memory: refused when memory is short and nothing can be evicted.
    pub const DENY_OOM: Flags = Flags(1 << 2);
    /// Takes constant or logarithmic time.
    pub const FAST: Flags = Flags(1 << 3);
    /// For operators.
    pub const ADMIN: Flags = Flags(1 << 4);
    /// Allowed before authentication.
    pub const NO_AUTH: Flags = Flags(1 << 5);
    /// Allowed while the node rebuilds itself from its log.
    pub const LOADING: Flags = Flags(1 << 6);
    /// Not allowed in scripts.
    pub const NOSCRIPT: Flags = Flags(1 << 7);
    /// Not shown by `COMMAND`, and not in README.
    pub const HIDDEN: Flags = Flags(1 << 8);
    /// On several shards: the values of its keys are not looked at, only whether they exist.
    pub const KEYS_ONLY: Flags = Flags(1 << 9);
    /// Its arguments are secret: the slow log shows only its name.
    pub const SKIP_SLOWLOG: Flags = Flags(1 << 10);
    /// Allowed while a replica's data is stale, as in `COMMAND`'s flags.
    pub const STALE: Flags = Flags(1 << 11);
    /// May block its connection.
    pub const BLOCKING: Flags = Flags(1 << 12);
    /// Not allowed in a transaction.
    pub const NO_MULTI: Flags = Flags(1 << 13);
    /// Where its keys are must be asked with `COMMAND GETKEYS`.
    pub const MOVABLE_KEYS: Flags = Flags(1 << 14);
    /// Not allowed while a replica loads in the background, as in `COMMAND`'s flags.
    pub const NO_ASYNC_LOADING: Flags = Flags(1 << 16);
    /// Allowed while a script keeps others waiting, as in `COMMAND`'s flags.
    pub const ALLOW_BUSY: Flags = Flags(1 << 15);

    /// Both sets together.
    pub const fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// Whether all of `other` is in the set.
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOr for Flags {
    type Output = Flags;
    fn bitor(self, other: Flags) -> Flags {
        self.and(other)
    }
}

/// Which arguments are keys.
#[derive(Debug, Clone, Copy)]
pub enum Keys {
    /// None.
    None,
    /// Every `step`th argument from `first` to `last`; a negative `last` counts from the end.
    Range {
        /// Index of the first key.
        first: i8,
        /// Index of the last key; -1 is the last argument.
        last: i8,
        /// Distance between keys.
        step: i8,
    },
}

impl Keys {
    /// The first argument alone.
    pub const FIRST: Keys = Keys::Range { first: 1, last: 1, step: 1 };
    /// The first two arguments.
    pub const FIRST_TWO: Keys = Keys::Range { first: 1, last: 2, step: 1 };
    /// All arguments.
    pub const ALL: Keys = Keys::Range { first: 1, last: -1, step: 1 };
    /// Every other argument, as in `MSET key value key value`.
    pub const PAIRS: Keys = Keys::Range { first: 1, last: -1, step: 2 };

    /// Returns the indices of the keys among `arguments` arguments.
    pub fn indices(self, arguments: usize) -> impl Iterator<Item = usize> {
        let (first, last, step) = match self {
            Keys::None => (1, 0, 1),
            Keys::Range { first, last, step } if last < 0 => {
                (first as usize, arguments.saturating_sub(last.unsigned_abs() as usize), step)
            }
            Keys::Range { first, last, step } => (first as usize, last as usize, step),
        };
        (first..=last).step_by(step as usize)
    }
}

/// A future that a command returns: it stays on its connection's thread.
pub type CommandFuture<'a> = Pin<Box<dyn Future<Output = CommandResult> + Send + 'a>>;

/// What a command needs, and the function that runs it.
#[derive(Clone, Copy)]
pub enum Run {
    /// The keys it names: runs on the shard that owns them.
    Keyspace(fn(&mut Keyspace, Args<'_>, &mut ReplyBuffer) -> CommandResult),
    /// Its connection: runs there at once.
    Connection(fn(&mut Session, Args<'_>, &mut ReplyBuffer) -> CommandResult),
    /// All shards, or the node as a whole: runs on its connection, which waits for it.
    Node(for<'a> fn(&'a mut Session, Args<'a>, &'a mut ReplyBuffer) -> CommandFuture<'a>),
    /// One of its subcommands.
    Subcommand,
}

/// Group of a command, as `COMMAND DOCS` and README name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Commands about the connection.
    Connection,
    /// Commands about keys of any type.
    Generic,
    /// Commands on strings.
    String,
    /// Commands about the node.
    Server,
    /// Commands about the cluster.
    Cluster,
    /// Commands about scripts.
    Scripting,
}

impl Group {
    /// The name that `COMMAND DOCS` has for it.
    pub fn name(self) -> &'static str {
        match self {
            Group::Connection => "connection",
            Group::Generic => "generic",
            Group::String => "string",
            Group::Server => "server",
            Group::Cluster => "cluster",
            Group::Scripting => "scripting",
        }
    }
}

/// One row of the table.
pub struct CommandSpec {
    /// Lower-case name; of a subcommand, its own name only (`set` of `config set`).
    pub name: &'static str,
    /// Number of arguments with the name; negative: at least so many.
    pub arity: i16,
    /// Properties.
    pub flags: Flags,
    /// Which arguments are keys.
    pub keys: Keys,
    /// Group.
    pub group: Group,
    /// Version of Redis that introduced it.
    pub since: &'static str,
    /// Time it takes, in Redis's words.
    pub complexity: &'static str,
    /// One line that says what it does.
    pub summary: &'static str,
    /// Its arguments, as in Redis's documentation.
    pub syntax: &'static str,
    /// How it runs.
    pub run: Run,
    /// Rows of its subcommands.
    pub subcommands: &'static [CommandSpec],
}

impl CommandSpec {
    /// A row to begin from: what a group's rows share is stated once, in a constant of the group.
    pub const BLANK: CommandSpec = CommandSpec {
        name: "",
        arity: 0,
        flags: Flags::NONE,
        keys: Keys::None,
        group: Group::Generic,
        since: "",
        complexity: "O(1)",
        summary: "",
        syntax: "",
        run: Run::Subcommand,
        subcommands: &[],
    };

    /// Whether a request of so many arguments may be run.
    #[inline]
    pub fn accepts(&self, arguments: usize) -> bool {
        let arity = self.arity.unsigned_abs() as usize;
        if self.arity >= 0 { arguments == arity } else { arguments >= arity }
    }
}

/// The rows of all groups, each group sorted as its file has it.
pub const GROUPS: &[&[CommandSpec]] = &[
    connection::SPECS,
    generic::databases::SPECS,
    generic::dump::SPECS,
    generic::expire::SPECS,
    generic::keys::SPECS,
    generic::object::SPECS,
    generic::scan::SPECS,
    generic::wait::SPECS,
    string::get::SPECS,
    string::lcs::SPECS,
    string::number::SPECS,
    absent::SPECS,
    cluster::SPECS,
    persistence::SPECS,
    server::SPECS,
    slow::SPECS,
    string::set::SPECS,
];

/// Longest name of a command, in bytes.
const NAME_BYTES_MAX: usize = 16;

/// A row with its place in the table, which counters are kept by.
#[derive(Clone, Copy)]
pub struct Command {
    /// The row; of a subcommand, the subcommand's.
    pub spec: &'static CommandSpec,
    /// Index of the row among all rows and subcommands.
    pub index: u16,
}

/// The table with its index.
pub struct Table {
    /// Open addressing by a multiplicative hash of the packed name, mostly empty: a lookup is one
    /// multiplication and one comparison.
    by_name: Vec<Option<(u128, Command)>>,
    rows: Vec<&'static CommandSpec>,
    full_names: Vec<String>,
}

/// The table of this build.
pub static TABLE: LazyLock<Table> = LazyLock::new(Table::new);

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(TABLE.full_name(self.index))
    }
}

impl Table {
    fn new() -> Self {
        let mut table =
            Table { by_name: vec![None; PLACES], rows: Vec::new(), full_names: Vec::new() };
        for spec in GROUPS.iter().copied().flatten() {
            let command = Command { spec, index: table.full_names.len() as u16 };
            let name = packed(spec.name.as_bytes()).expect("names are short");
            let mut place = place_of(name);
            while table.by_name[place].is_some() {
                place = (place + 1) % PLACES;
            }
            table.by_name[place] = Some((name, command));
            table.rows.push(spec);
            table.rows.extend(spec.subcommands);
            table.full_names.push(spec.name.to_owned());
            let full = |sub: &CommandSpec| format!("{}|{}", spec.name, sub.name);
            table.full_names.extend(spec.subcommands.iter().map(full));
        }
        table
    }

    /// Finds a command by its name, in any case.
    #[inline]
    pub fn find(&self, name: &[u8]) -> Option<Command> {
        let name = packed(name)?;
        let mut place = place_of(name);
        loop {
            match self.by_name[place] {
                Some((found, command)) if found == name => return Some(command),
                Some(_) => place = (place + 1) % PLACES,
                None => return None,
            }
        }
    }

    /// Finds the subcommand of a container by its name, in any case.
    pub fn find_subcommand(&self, container: Command, name: &[u8]) -> Option<Command> {
        let subcommands = container.spec.subcommands;
        let place =
            subcommands.iter().position(|sub| name.eq_ignore_ascii_case(sub.name.as_bytes()))?;
        Some(Command { spec: &subcommands[place], index: container.index + 1 + place as u16 })
    }

    /// The command at `index`.
    pub fn at(&self, index: u16) -> Command {
        Command { spec: self.rows[index as usize], index }
    }

    /// Name of the row at `index`; of a subcommand `config|set`.
    pub fn full_name(&self, index: u16) -> &str {
        &self.full_names[index as usize]
    }

    /// Number of rows, subcommands included.
    pub fn len(&self) -> usize {
        self.full_names.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.full_names.is_empty()
    }
}

/// Places of the index; several times the number of commands.
const PLACES: usize = 1024;

/// A name in lower case, as a number; `None` if no command has one so long, or with a NUL at its
/// end, which the number would not show.
#[inline]
fn packed(name: &[u8]) -> Option<u128> {
    // Byte by byte: most names have three or four.
    let pack = |packed: u128, byte: &u8| packed << 8 | u128::from(byte.to_ascii_lowercase());
    (name.len() <= NAME_BYTES_MAX && name.last() != Some(&0))
        .then(|| name.iter().rev().fold(0, pack))
}

/// Where the search for a name begins: Fibonacci hashing (D. Knuth, TAOCP 6.4).
#[inline]
fn place_of(name: u128) -> usize {
    let folded = (name as u64) ^ (name >> 64) as u64;
    (folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54) as usize
}

#[cfg(test)]
mod tests;
