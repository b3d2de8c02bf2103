//! A client's socket: reading and writing with one system call each.
//!
//! Small commands cost little beside their two system calls, so what is around those counts. The
//! calls are made directly: the C library's make each a point at which the thread can be
//! cancelled, which costs as much as finding a key.

use std::future::poll_fn;
use std::io::{self, ErrorKind::Interrupted, ErrorKind::WouldBlock};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// A connected socket.
pub struct Socket(TcpStream);

impl Socket {
    /// Returns the socket of a stream, to be served by this thread.
    ///
    /// # Errors
    /// The thread's event queue does not take it.
    pub fn new(stream: std::net::TcpStream) -> io::Result<Self> {
        TcpStream::from_std(stream).map(Socket)
    }

    /// Waits until something may have arrived, or the other end sends no more.
    ///
    /// # Errors
    /// What the system says.
    #[inline]
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_read_ready(context)
    }

    /// Reads what has arrived behind `input`, as much as that has room for; returns the number of
    /// bytes, which is 0 when the other end sends no more, or `None` if nothing has arrived.
    ///
    /// # Errors
    /// What the system says.
    #[inline]
    pub fn try_read(&self, input: &mut Vec<u8>) -> io::Result<Option<usize>> {
        let mut arrived = None;
        let tried = self.0.try_io(Interest::READABLE, || {
            let (read, _) = recv(&self.0, spare_capacity(input), RecvFlags::empty())?;
            arrived = Some(read);
            // Room is left, so that was all: the next read waits for an event, and does not ask
            // in vain.
            if input.len() < input.capacity() { Err(WouldBlock.into()) } else { Ok(()) }
        });
        match tried {
            Err(error) if arrived.is_none() && !is_passing(&error) => Err(error),
            _ => Ok(arrived),
        }
    }

    /// Writes all of `output`, waiting while the other end takes nothing.
    ///
    /// # Errors
    /// What the system says.
    #[inline]
    pub async fn write(&self, mut output: &[u8]) -> io::Result<()> {
        // Nearly always there is room: the system is asked before the event queue is.
        if let Ok(written) = send(&self.0, output, SendFlags::NOSIGNAL) {
            output = &output[written..];
        }
        while !output.is_empty() {
            poll_fn(|context| self.0.poll_write_ready(context)).await?;
            let send = || Ok(send(&self.0, output, SendFlags::NOSIGNAL)?);
            match self.0.try_io(Interest::WRITABLE, send) {
                Ok(written) => output = &output[written..],
                Err(error) if !is_passing(&error) => return Err(error),
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Lets the system forget what the other end has not taken when the socket is closed, and
    /// tell it so at once.
    ///
    /// # Errors
    /// What the system says.
    pub fn reset_on_close(&self) -> io::Result<()> {
        socket2::SockRef::from(&self.0).set_linger(Some(Duration::ZERO))
    }
}

/// Whether the call is only to be made again.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), WouldBlock | Interrupted)
}
