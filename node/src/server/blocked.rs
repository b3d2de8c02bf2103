//! Clients that wait in a command: who sees it, and what else than its end ends that.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;

use tokio::sync::oneshot;

use super::registry::Client;
use super::socket::Socket;

/// What `CLIENT UNBLOCK` does with a command that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unblock {
    /// It ends as if its time were over.
    Timeout,
    /// It answers with an error.
    Error,
}

/// Shows a client as blocked while it lives.
pub(super) struct Blocked<'a>(&'a Client);

impl<'a> Blocked<'a> {
    pub(super) fn new(client: &'a Client) -> Self {
        client.blocked.store(true, Relaxed);
        Blocked(client)
    }
}

impl Drop for Blocked<'_> {
    fn drop(&mut self) {
        self.0.blocked.store(false, Relaxed);
        *self.0.waiting() = None;
    }
}

impl Client {
    /// Waits in a command, until `CLIENT UNBLOCK` ends that.
    ///
    /// # Errors
    /// How it was ended.
    pub async fn wait<T>(&self, wait: impl Future<Output = T>) -> Result<T, Unblock> {
        let (sender, unblocked) = oneshot::channel();
        let _blocked = Blocked::new(self);
        *self.waiting() = Some(sender);
        tokio::select! {
            biased;
            done = wait => Ok(done),
            how = unblocked => Err(how.unwrap_or(Unblock::Timeout)),
        }
    }

    /// Ends what a client waits for in a command. Returns whether it did.
    pub fn unblock(&self, how: Unblock) -> bool {
        self.waiting().take().is_some_and(|waiting| waiting.send(how).is_ok())
    }
}

/// Runs something to its end, unless the client leaves while it is blocked in it.
///
/// # Errors
/// The client has left.
pub(super) async fn unless_gone<T>(
    client: &Client,
    socket: &Socket,
    run: impl Future<Output = T>,
) -> io::Result<T> {
    let (mut run, mut gone) = (pin!(run), pin!(socket.closed()));
    poll_fn(|context| {
        if let Poll::Ready(done) = run.as_mut().poll(context) {
            return Poll::Ready(Ok(done));
        }
        if !client.blocked.load(Relaxed) {
            return Poll::Pending;
        }
        let left = || io::Error::new(io::ErrorKind::ConnectionAborted, "left while blocked");
        gone.as_mut().poll(context).map(|gone| Err(gone.err().unwrap_or_else(left)))
    })
    .await
}
