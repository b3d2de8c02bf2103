//! Frames over a socket, and the handshake before them.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use distcache_protocol::limits::PEER_READ_BYTES_MAX;
use distcache_protocol::peer::frame::HEADER_BYTES;
use distcache_protocol::peer::frame::Receives;
use distcache_protocol::peer::{
    Decoder, Established, Frame, FrameError, Handshake, HandshakeError, Joiner, Parts, Role,
};
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

/// Reads messages.
pub(super) struct FrameReader<R> {
    stream: R,
    input: BytesMut,
    decoder: Decoder,
    joiner: Joiner,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// `input`: what has arrived already.
    pub(super) fn new(
        stream: R,
        input: BytesMut,
        established: &Established,
        receives: Receives,
    ) -> Self {
        let Established { version, class, .. } = *established;
        let bytes_max = match receives {
            Receives::Requests => class.request_bytes_max(version),
            Receives::Replies => class.reply_bytes_max(version),
        };
        let decoder = Decoder::new(version, class, receives);
        FrameReader { stream, input, decoder, joiner: Joiner::new(bytes_max) }
    }

    /// Returns the next message; `None` when the peer sends no more. Calls `on_part` for each part
    /// of a long one.
    ///
    /// # Errors
    /// What the system says, a stream that is not one of frames, or a message left half sent.
    pub(super) async fn next(&mut self, on_part: impl Fn()) -> io::Result<Option<Frame>> {
        let no_stream = |error: FrameError| io::Error::other(error.to_string());
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.input).map_err(no_stream)? {
                if frame.role == Role::Part {
                    on_part();
                }
                match self.joiner.join(frame).map_err(no_stream)? {
                    Some(message) => return Ok(Some(message)),
                    None => continue,
                }
            }
            let is_half = !self.input.is_empty() || self.joiner.is_open();
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

/// Writes messages: long ones in parts, where the connection has these, and others between them.
pub(super) struct MessageWriter<W, H> {
    pub(super) frames: FrameWriter<W>,
    has_parts: bool,
    /// Those that wait for their turn, behind the one that has it, and what each holds.
    long: VecDeque<(Parts, H)>,
}

impl<W: AsyncWrite + Unpin, H> MessageWriter<W, H> {
    pub(super) fn new(stream: W, established: &Established) -> Self {
        let Established { version, class, .. } = *established;
        let frames = FrameWriter::new(stream, version);
        MessageWriter { frames, has_parts: class.has_parts(version), long: VecDeque::new() }
    }

    /// Writes or collects a message, and returns what it holds; a long one waits for
    /// [`MessageWriter::write_part`], and holds it until it is written.
    ///
    /// # Errors
    /// As [`FrameWriter::write`].
    pub(super) async fn write(&mut self, message: Frame, held: H) -> io::Result<Option<H>> {
        let cut = if self.has_parts { Parts::cut(message) } else { Err(message) };
        match cut {
            Ok(parts) => {
                self.long.push_back((parts, held));
                Ok(None)
            }
            Err(message) => {
                self.frames.write(&message).await?;
                Ok(Some(held))
            }
        }
    }

    /// Writes the next part of the first long message.
    ///
    /// # Errors
    /// As [`FrameWriter::write`].
    pub(super) async fn write_part(&mut self) -> io::Result<()> {
        let Some((parts, _)) = self.long.front_mut() else { return Ok(()) };
        self.frames.write(&parts.take()).await?;
        if parts.is_done() {
            self.long.pop_front();
        }
        Ok(())
    }

    /// Whether a long message is not written yet.
    pub(super) fn has_more(&self) -> bool {
        !self.long.is_empty()
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
