//! Frames over a socket, and the handshake before them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use distcache_protocol::limits::PEER_READ_BYTES_MAX;
use distcache_protocol::peer::frame::HEADER_BYTES;
use distcache_protocol::peer::{Decoder, Established, Frame, Handshake, HandshakeError};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::limits::{
    BODY_COLLECTED_BYTES_MAX, KEEPALIVE, STALL_TIMEOUT, UNACKNOWLEDGED_TIMEOUT, WRITE_BUFFER_BYTES,
};
use super::open::Sending;
use crate::clock;
use crate::sockets::spare_congestion_control;

/// Sets what every connection of the bus has.
pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    spare_congestion_control(stream, stream.peer_addr()?);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)?;
    let unacknowledged = UNACKNOWLEDGED_TIMEOUT.as_millis() as u32;
    rustix::net::sockopt::set_tcp_user_timeout(stream, unacknowledged)?;
    Ok(())
}

/// How a handshake ends without a connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum GreetError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Handshake(#[from] HandshakeError),
}

/// Carries a handshake out, up to what [`Handshake::receive`] decides. `input` then holds what
/// came behind it. The time is the caller's to limit.
pub(super) async fn greet<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    handshake: &mut Handshake,
    input: &mut BytesMut,
) -> Result<Established, GreetError> {
    loop {
        let received = handshake.receive(input);
        let output = handshake.output();
        if !output.is_empty() {
            // After a refusal, the peer may be gone: the refusal is what matters.
            let written = stream.write_all(&output).await;
            if received.is_ok() {
                written?;
            }
        }
        if let Some(established) = received? {
            return Ok(established);
        }
        input.reserve(HEADER_BYTES);
        if stream.read_buf(input).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}

/// Reads frames.
pub(super) struct FrameReader<R> {
    stream: R,
    input: BytesMut,
    decoder: Decoder,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// `input`: what has arrived already.
    pub(super) fn new(stream: R, input: BytesMut, decoder: Decoder) -> Self {
        FrameReader { stream, input, decoder }
    }

    /// Returns the next frame; `None` when the peer sends no more.
    ///
    /// # Errors
    /// What the system says, a stream that is not one of frames, or a frame left half sent.
    pub(super) async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            let frame = self.decoder.decode(&mut self.input);
            if let Some(frame) = frame.map_err(|error| io::Error::other(error.to_string()))? {
                return Ok(Some(frame));
            }
            let is_half = !self.input.is_empty();
            // Small frames come many at a time.
            let room = self.decoder.wanted_bytes(&self.input).max(PEER_READ_BYTES_MAX / 16);
            self.input.reserve(room);
            let patience = is_half.then_some(STALL_TIMEOUT);
            let read = clock::within(patience, self.stream.read_buf(&mut self.input)).await;
            match read.ok_or_else(|| stalled("sends no more of a frame that it began"))?? {
                0 if is_half => return Err(io::ErrorKind::UnexpectedEof.into()),
                0 => return Ok(None),
                _ => {}
            }
        }
    }
}

/// Writes frames; small ones are collected until [`FrameWriter::flush`].
pub(super) struct FrameWriter<W> {
    stream: W,
    output: BytesMut,
    version: u8,
    sending: Arc<Sending>,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    pub(super) fn new(stream: W, version: u8) -> Self {
        FrameWriter { stream, output: BytesMut::new(), version, sending: Arc::default() }
    }

    /// What there is to write, for others to look at.
    pub(super) fn sending(&self) -> Arc<Sending> {
        Arc::clone(&self.sending)
    }

    /// Notes that there is what is collected, and a body of this length.
    fn note(&self, body_bytes: usize) {
        self.sending.note(self.output.len() + body_bytes, self.output.capacity());
    }

    /// Writes or collects a frame.
    ///
    /// # Errors
    /// What the system says, or that the peer takes nothing.
    pub(super) async fn write(&mut self, frame: &Frame) -> io::Result<()> {
        frame.put_header(self.version, &mut self.output);
        if frame.body.len() <= BODY_COLLECTED_BYTES_MAX {
            self.output.extend_from_slice(&frame.body);
            self.note(0);
        } else {
            self.flush().await?;
            self.note(frame.body.len());
            write_steadily(&mut self.stream, &frame.body, STALL_TIMEOUT).await?;
            self.note(0);
        }
        if self.output.len() >= WRITE_BUFFER_BYTES { self.flush().await } else { Ok(()) }
    }

    /// Writes what is collected.
    ///
    /// # Errors
    /// As [`FrameWriter::write`].
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        write_steadily(&mut self.stream, &self.output, STALL_TIMEOUT).await?;
        self.output.clear();
        self.note(0);
        Ok(())
    }

    /// Says that nothing more comes.
    pub(super) async fn finish(mut self) -> io::Result<()> {
        self.flush().await?;
        self.stream.shutdown().await
    }
}

/// Writes all of `bytes`, however long it takes, as long as the peer takes some now and then.
async fn write_steadily<W: AsyncWrite + Unpin>(
    stream: &mut W,
    mut bytes: &[u8],
    patience: Duration,
) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = clock::within(Some(patience), stream.write(bytes)).await;
        match written.ok_or_else(|| stalled("takes nothing of what is written to it"))?? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => bytes = &bytes[written..],
        }
    }
    Ok(())
}

fn stalled(what: &str) -> io::Error {
    let seconds = STALL_TIMEOUT.as_secs();
    io::Error::new(io::ErrorKind::TimedOut, format!("the peer {what} for {seconds} s"))
}
