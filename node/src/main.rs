//! The node's program: reads the configuration, then runs a node, asks a running cluster, or
//! prints what was asked for.

use std::io::Write;
use std::process::ExitCode;

use distcache_node::config::{self, Launch, LaunchError};
use distcache_node::{cli, start};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code of a command line or configuration that cannot be used.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    match launch() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("distcache-node: {error:#}");
            let usage = error.downcast_ref::<LaunchError>().is_some();
            if usage { ExitCode::from(EXIT_USAGE) } else { ExitCode::FAILURE }
        }
    }
}

fn launch() -> anyhow::Result<()> {
    match config::launch(std::env::args_os(), std::env::vars_os())? {
        Launch::Run { config, warnings } => Ok(start::run(config, &warnings)?),
        Launch::Cluster(request) => Ok(cli::run(&request)?),
        Launch::Print(text) => match std::io::stdout().write_all(text.as_bytes()) {
            // A reader that has seen enough, such as `head`, is no failure.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            result => Ok(result?),
        },
    }
}
