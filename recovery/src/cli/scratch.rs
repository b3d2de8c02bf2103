//! The folder that the private copy goes into, which must not stay behind: a copy may be large.

use std::path::Path;
use std::{fs, thread};

use anyhow::Context;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use tempfile::TempDir;

/// What to do when the folder, or the copy in it, cannot be made.
pub(super) const ELSEWHERE: &str = "use --temp-dir to put the copy elsewhere";

/// Times to try to remove the folder while files are still being copied into it.
const REMOVAL_TRIES: u32 = 100;

/// A folder that is removed when dropped, and when the user interrupts the tool.
#[derive(Debug)]
pub(super) struct Scratch {
    dir: TempDir,
}

impl Scratch {
    /// Makes a folder below `parent`.
    pub(super) fn new(parent: &Path) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("distcache-log-")
            .tempdir_in(parent)
            .with_context(|| format!("no folder can be made in {}", parent.display()))
            .context(ELSEWHERE)?;
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
        let path = dir.path().to_owned();
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            if let Some(signal) = signals.forever().next() {
                remove(&path);
                // Ends the process as the signal would have.
                let _ = emulate_default_handler(signal);
            }
        })?;
        Ok(Self { dir })
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }
}

fn remove(path: &Path) {
    for _ in 0..REMOVAL_TRIES {
        let is_gone = fs::remove_dir_all(path).is_ok() || !path.exists();
        if is_gone {
            return;
        }
    }
}
