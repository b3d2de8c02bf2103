//! `distcache-log`: looks into the operation log of a node that is not running.
//!
//! Exit code 0: clean; 1: the log is damaged; 2: it could not be looked at.

use std::io::{self, Write};
use std::process::ExitCode;

use cli::Outcome;
use distcache_recovery::{LogError, guard};

mod cli;

fn main() -> ExitCode {
    silence_guarded_panics();
    let mut out = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let result = cli::run(std::env::args_os(), &mut out);
    // What could not be written stays in the buffer, and fails once more when that is dropped.
    match result.and_then(|outcome| cli::ended(out.flush().map_err(Into::into), outcome)) {
        Ok(Outcome::Clean) => ExitCode::SUCCESS,
        Ok(Outcome::Damaged) => ExitCode::from(1),
        Err(error) if cli::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Reports what went wrong and returns the exit code for it.
fn fail(error: &anyhow::Error) -> ExitCode {
    if let Some(usage) = error.downcast_ref::<clap::Error>() {
        // A failure to print usage has nobody to be told to.
        let _ = usage.print();
        return if usage.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
    }
    // Standard error may be closed; the exit code still tells.
    let _ = writeln!(io::stderr(), "distcache-log: {error:#}");
    match error.downcast_ref() {
        Some(LogError::Damaged(_)) => ExitCode::from(1),
        _ => ExitCode::from(2),
    }
}

/// Panics that become errors, as the store's on damage, print nothing.
fn silence_guarded_panics() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !guard::is_guarded() {
            default(panic);
        }
    }));
}
