//! A client's socket: reading and writing with one system call each.
//!
//! Small commands cost little beside their two system calls, so what is around those counts. The
//! calls are made directly: the C library's make each a point at which the thread can be
//! cancelled, which costs as much as finding a key.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, ErrorKind::Interrupted, ErrorKind::WouldBlock};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// A connected socket.
pub struct Socket {
    stream: TcpStream,
    /// Whether something may have arrived that the event queue does not tell of any more.
    unread: Cell<bool>,
}

impl Socket {
    /// Returns the socket of a stream, to be served by this thread.
    ///
    /// # Errors
    /// The thread's event queue does not take it.
    pub fn new(stream: std::net::TcpStream) -> io::Result<Self> {
        let stream = TcpStream::from_std(stream)?;
        Ok(Socket { stream, unread: Cell::new(false) })
    }

    /// Waits until something may have arrived, or the other end sends no more.
    ///
    /// # Errors
    /// What the system says.
    #[inline]
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unread.get() {
            return Poll::Ready(Ok(()));
        }
        self.stream.poll_read_ready(context)
    }

    /// Reads what has arrived behind `input`, as much as that has room for; returns the number of
    /// bytes, which is 0 when the other end sends no more, or `None` if nothing has arrived.
    ///
    /// # Errors
    /// What the system says.
    #[inline]
    pub fn try_read(&self, input: &mut Vec<u8>) -> io::Result<Option<usize>> {
        if self.unread.get() {
            return self.read_unread(input);
        }
        let mut arrived = None;
        let tried = self.stream.try_io(Interest::READABLE, || {
            let (read, _) = recv(&self.stream, spare_capacity(input), RecvFlags::empty())?;
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

    /// Reads without a look at the event queue.
    #[cold]
    fn read_unread(&self, input: &mut Vec<u8>) -> io::Result<Option<usize>> {
        match recv(&self.stream, spare_capacity(input), RecvFlags::empty()) {
            Ok((read, _)) => {
                // Where room is left, that was all, and what comes next is an event.
                self.unread.set(input.len() == input.capacity());
                Ok(Some(read))
            }
            Err(error) if is_passing(&error.into()) => {
                self.unread.set(error == Errno::INTR);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until the other end sends no more, and leaves what it has sent to be read.
    ///
    /// # Errors
    /// What the system says.
    pub async fn closed(&self) -> io::Result<()> {
        loop {
            if self.stream.ready(Interest::READABLE).await?.is_read_closed() {
                return Ok(());
            }
            // Only what comes later is to wake this up again.
            self.unread.set(true);
            let _ = self.stream.try_io(Interest::READABLE, || Err::<(), _>(WouldBlock.into()));
        }
    }

    /// Writes all of `output`, waiting while the other end takes nothing; calls `taken` whenever it
    /// has taken something after such a wait.
    ///
    /// # Errors
    /// What the system says.
    #[inline]
    pub async fn write(&self, mut output: &[u8], taken: impl Fn()) -> io::Result<()> {
        // Nearly always there is room: the system is asked before the event queue is.
        if let Ok(written) = send(&self.stream, output, SendFlags::NOSIGNAL) {
            output = &output[written..];
        }
        while !output.is_empty() {
            poll_fn(|context| self.stream.poll_write_ready(context)).await?;
            let send = || Ok(send(&self.stream, output, SendFlags::NOSIGNAL)?);
            match self.stream.try_io(Interest::WRITABLE, send) {
                Ok(written) => {
                    output = &output[written..];
                    taken();
                }
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
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))
    }
}

/// Whether the call is only to be made again.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), WouldBlock | Interrupted)
}
