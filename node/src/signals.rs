//! Signals of the system: the first one stops the node in order, the second one at once, and
//! `SIGHUP` does nothing.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::node::Stop;

/// The signals that a node heeds, from when this is made on: none of them ends the process then.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Takes the signals over.
    ///
    /// # Errors
    /// The system refuses a handler.
    pub fn listen() -> io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Asks the node to stop at the first `SIGTERM` or `SIGINT`, and returns at the second one:
    /// whoever sends it does not want to wait.
    pub async fn heed(mut self, stop: &Stop) {
        self.next().await;
        log::info!("a signal stops the node; a second one ends it at once");
        stop.request();
        self.next().await;
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = ignore(&mut self.hang_up) => {}
        }
    }
}

/// Ignores a signal for ever. Left to the system, `SIGHUP` would end the node as a crash does: when
/// a terminal is closed, or from whoever takes it for the wish to read the configuration again.
async fn ignore(hang_up: &mut Signal) {
    while hang_up.recv().await.is_some() {
        log::info!("SIGHUP is ignored: CONFIG SET changes options, SIGTERM stops the node");
    }
    std::future::pending().await
}
