//! The accepted side: connections of other nodes, and their requests.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use distcache_protocol::peer::frame::Receives;
use distcache_protocol::peer::{Class, Established, Frame, Handshake, Role};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::yield_now;

use super::admission::{Admission, Room};
use super::limits::{
    ACCEPT_REST, ERROR_TEXT_BYTES_MAX, HANDSHAKE_TIMEOUT, HANDSHAKES_MAX, collecting_turns,
    handled_max,
};
use super::open::Direction;
use super::service::{Handling, PeerIdentity};
use super::wire::{FrameReader, MessageWriter, greet, prepare};
use super::{Serving, Shared, locked};
use crate::clock;

/// Accepts connections until the bus stops.
pub(super) async fn accept(listener: TcpListener, serving: Serving) {
    let shared = serving.0.clone();
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let mut stopping = shared.stopping.subscribe();
    loop {
        let accepted = async {
            let permit = handshakes.clone().acquire_owned().await;
            (permit.expect("never closed"), listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            accepted = accepted => accepted,
            _ = stopping.wait_for(|stopping| *stopping) => return,
        };
        match accepted {
            Ok((stream, address)) => {
                tokio::spawn(serve(stream, address, Serving::new(shared.clone()), permit));
            }
            Err(error) => {
                let (level, error) = (shared.not_accepted.level(), error.to_string());
                log::log!(level, error = error.as_str(); "accepting a node failed");
                clock::sleep(ACCEPT_REST).await;
            }
        }
    }
}

/// Greets whoever connects, and serves it where its class is served.
async fn serve(
    mut stream: TcpStream,
    address: SocketAddr,
    serving: Serving,
    permit: OwnedSemaphorePermit,
) {
    let shared = &serving.0;
    let mut input = BytesMut::new();
    let admitting = admit(&mut stream, &mut input, address, shared);
    let admitted = clock::within(Some(HANDSHAKE_TIMEOUT), admitting).await;
    drop(permit);
    let Some(Some((established, admission))) = admitted else { return };
    let runtime = shared.runtime_of(established.class).clone();
    runtime.spawn(converse((stream, input), address, serving, established, admission));
}

/// Serves a connection to its end.
async fn converse(
    (stream, input): (TcpStream, BytesMut),
    address: SocketAddr,
    serving: Serving,
    established: Established,
    admission: Admission,
) {
    let shared = &serving.0;
    let (node, class, number) = (established.peer.node, established.class, admission.number);
    let peer = PeerIdentity::new(&established.peer, address);
    let connection = Connection {
        peer,
        class,
        reply_bytes_max: class.reply_bytes_max(established.version),
        room: admission.room,
        shared: shared.clone(),
    };
    let running = async {
        // The runtime of this task is not the one that accepted it.
        let (reading, writing) = TcpStream::from_std(stream.into_std()?)?.into_split();
        let reader = FrameReader::new(reading, input, &established, Receives::Requests);
        let writer = MessageWriter::new(writing, &established);
        let _open = shared.open.add(Direction::From, peer.node, writer.frames.sending());
        connection.run(reader, writer).await
    };
    let ended = tokio::select! {
        ended = running => ended,
        _ = admission.replaced => Err(io::Error::other("another connection of it took its place")),
    };
    locked(&shared.admissions).release(node, class, number);
    if let Err(error) = ended {
        let (node, error) = (peer.node.to_string(), error.to_string());
        log::debug!(node = node.as_str(), error = error.as_str(); "connection of a node ended");
    }
}

/// Greets a peer. `None`: it is not served.
async fn admit(
    stream: &mut TcpStream,
    input: &mut BytesMut,
    address: SocketAddr,
    shared: &Shared,
) -> Option<(Established, Admission)> {
    let refused = |error: &dyn std::fmt::Display| {
        let (address, error) = (address.to_string(), error.to_string());
        let level = shared.refused.level();
        log::log!(level, address = address.as_str(), error = error.as_str(); "refused a node");
    };
    let local = prepare(stream).and_then(|()| shared.local());
    let mut handshake = Handshake::accept(local.inspect_err(|error| refused(error)).ok()?);
    let established = match greet(stream, &mut handshake, input).await {
        Ok(established) => established,
        Err(error) => {
            refused(&error);
            return None;
        }
    };
    // Not served, only answered: who probes does not take the place of its own connection.
    if established.is_probe {
        handshake.admit();
        stream.write_all(&handshake.output()).await.ok()?;
        return None;
    }
    let own = shared.node.0;
    let admission = locked(&shared.admissions).admit(own, &established.peer, established.class);
    match &admission {
        Ok(_) => handshake.admit(),
        Err(refusal) => {
            handshake.refuse(refusal);
            refused(refusal);
        }
    }
    let written = stream.write_all(&handshake.output()).await;
    let admission = admission.ok()?;
    if written.is_err() {
        let (node, class) = (established.peer.node, established.class);
        locked(&shared.admissions).release(node, class, admission.number);
        return None;
    }
    Some((established, admission))
}

struct Connection {
    peer: PeerIdentity,
    class: Class,
    reply_bytes_max: usize,
    room: Arc<Room>,
    shared: Arc<Shared>,
}

/// What a request holds of its peer's room until its reply is written.
type Held = (OwnedSemaphorePermit, OwnedSemaphorePermit);

/// A reply on its way out.
struct Outgoing {
    frame: Frame,
    held: Held,
}

impl Connection {
    async fn run<R, W>(
        &self,
        reader: FrameReader<R>,
        writer: MessageWriter<W, Held>,
    ) -> io::Result<()>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        // As many as there are permits, so that a handler never waits for a place.
        let (replies, queue) = mpsc::channel(handled_max(self.class));
        let reading = self.read(reader, replies);
        let writing = write(queue, writer, self.class);
        // Reading ends first when the peer sends no more: what it asked for is still answered.
        tokio::try_join!(reading, writing).map(|_| ())
    }

    async fn read<R: AsyncRead + Unpin>(
        &self,
        mut reader: FrameReader<R>,
        replies: mpsc::Sender<Outgoing>,
    ) -> io::Result<()> {
        let mut stopping = self.shared.stopping.subscribe();
        loop {
            let frame = tokio::select! {
                frame = reader.next(|| ()) => frame?,
                _ = stopping.wait_for(|stopping| *stopping) => return Ok(()),
            };
            let Some(frame) = frame else { return Ok(()) };
            // Waiting here is what slows a peer down that asks for more than is answered.
            let held = self.hold(frame.body.len()).await;
            let service = self.shared.service.clone();
            let (peer, class, max) = (self.peer, self.class, self.reply_bytes_max);
            let Frame { kind, id, body, .. } = frame;
            let replies = replies.clone();
            tokio::spawn(async move {
                let (role, body) = answer(service.handle(peer, class, kind, body), max).await;
                let reply = Outgoing { frame: Frame { role, kind, id, body }, held };
                // Nobody waits for it any more when the connection has ended.
                let _ = replies.send(reply).await;
            });
        }
    }

    async fn hold(&self, bytes: usize) -> Held {
        let request = self.room.requests.clone().acquire_owned().await.expect("never closed");
        // One that came in parts counts as the longest frame, so that others pass.
        let bytes = bytes.min(self.class.body_bytes_max()) as u32;
        let bytes = self.room.bytes.clone().acquire_many_owned(bytes).await.expect("never closed");
        (request, bytes)
    }
}

/// Waits for what a handler becomes, and returns it as the role and body of a frame.
async fn answer(handling: Handling, bytes_max: usize) -> (Role, Bytes) {
    let text = match handling.await {
        Ok(reply) if reply.len() <= bytes_max => return (Role::Reply, reply),
        Ok(reply) => {
            let bytes = reply.len();
            format!("the reply of {bytes} bytes is longer than {bytes_max}: ask for less")
        }
        Err(text) => text,
    };
    let text = &text[..text.floor_char_boundary(ERROR_TEXT_BYTES_MAX)];
    (Role::Error, Bytes::copy_from_slice(text.as_bytes()))
}

/// Writes replies until all handlers are done and nothing more is read, those that come together
/// with one call of the system.
async fn write<W: AsyncWrite + Unpin>(
    mut queue: mpsc::Receiver<Outgoing>,
    mut writer: MessageWriter<W, Held>,
    class: Class,
) -> io::Result<()> {
    loop {
        let mut next = None;
        if !writer.has_more() {
            next = queue.recv().await;
            if next.is_none() {
                break;
            }
        }
        let mut written = Vec::new();
        for turn in 0..=collecting_turns(class) {
            if turn > 0 {
                yield_now().await;
            }
            while let Some(Outgoing { frame, held }) = next.take().or_else(|| queue.try_recv().ok())
            {
                written.extend(writer.write(frame, held).await?);
            }
        }
        writer.write_part().await?;
        writer.frames.flush().await?;
    }
    writer.frames.finish().await
}
