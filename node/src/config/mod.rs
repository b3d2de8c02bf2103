//! Configuration: one table of options, from which all that names an option derives.
//!
//! Modules in reading order: `value`, `structured` and `seeds` (what a value is), `options` (the
//! table), `settings` (`Config`, the valid fields that the node uses), `raw` (a value for each
//! row, and what was wrong with it), `launch` (flags, environment and file to a running
//! configuration), `file` (TOML: read, print, rewrite), `live` (`CONFIG GET`, `SET`, `REWRITE`).
//!
//! Flags win over environment variables, these over the file, and that over the defaults.
//! To add an option: a field in [`Config`] and its row in `options/own.rs`; nothing else.

mod file;
mod launch;
mod live;
pub mod options;
mod raw;
mod seeds;
mod settings;
mod structured;
mod value;

pub use launch::{Launch, LaunchError, launch};
pub use live::{LiveConfig, RewriteError, SetError};
pub use raw::{Problem, RawConfig, Source};
pub use seeds::Seed;
pub use settings::{Config, DebugCommand, EvictionPolicy, FsyncPolicy};
pub use structured::{OutputLimit, OutputLimits, Percentiles, SavePoints};
pub use value::{BindAddress, Dialect, Kind, Secret, SizeLimit, Value, ValueError};
