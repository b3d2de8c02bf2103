//! Processes, and waiting for what they do.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Looks again and again until what is wanted is there.
pub(crate) fn until<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if let Some(found) = look() {
            return found;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    panic!("{what}: not within {limit:?}");
}

/// A process that is ended with the test.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already, unless it only ends with the test, or the test failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends SIGTERM.
pub(crate) fn terminate(child: &Child) {
    signal(child, "TERM");
}

/// Sends a signal, by its name without `SIG`.
pub(crate) fn signal(child: &Child, name: &str) {
    let (option, pid) = (format!("-{name}"), child.id().to_string());
    assert!(Command::new("kill").args([option, pid]).status().unwrap().success());
}
