//! Connecting to a node.

use bytes::BytesMut;
use distcache_protocol::peer::frame::Receives;
use distcache_protocol::peer::{Class, Established, Handshake, HandshakeError};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::limits::{CONNECT_TIMEOUT, HANDSHAKE_TIMEOUT};
use super::service::PeerIdentity;
use super::wire::{FrameReader, GreetError, MessageWriter, greet, prepare};
use super::{BusError, Shared};
use crate::clock;
use crate::cluster::table::NodeId;

/// A connection on which requests can be written.
pub(super) struct Dialled {
    pub(super) peer: PeerIdentity,
    pub(super) reader: (FrameReader<OwnedReadHalf>, NodeId),
    pub(super) writer: MessageWriter<OwnedWriteHalf, ()>,
    /// Of the protocol, as agreed.
    pub(super) version: u8,
}

/// Connects to `address` and greets the node there. Without `expected`, the node only says who
/// it is, and serves nothing.
pub(super) async fn dial(
    shared: &Shared,
    address: &str,
    class: Class,
    expected: Option<u64>,
) -> Result<Dialled, BusError> {
    let unreachable = |why: String| BusError::Unreachable { address: address.to_owned(), why };
    let connected = clock::within(Some(CONNECT_TIMEOUT), TcpStream::connect(address)).await;
    let no_connection = || format!("no connection within {} s", CONNECT_TIMEOUT.as_secs());
    let connected = connected.ok_or_else(|| unreachable(no_connection()))?;
    let mut stream = connected.map_err(|error| unreachable(error.to_string()))?;
    let local = prepare(&stream).and_then(|()| shared.local());
    let local = local.map_err(|error| unreachable(error.to_string()))?;
    let other_end = stream.peer_addr().map_err(|error| unreachable(error.to_string()))?;

    let mut handshake = Handshake::dial(local, class, expected);
    let mut input = BytesMut::new();
    let greeting = greet(&mut stream, &mut handshake, &mut input);
    let greeted = clock::within(Some(HANDSHAKE_TIMEOUT), greeting).await;
    let no_answer = || {
        let seconds = HANDSHAKE_TIMEOUT.as_secs();
        format!("no answer within {seconds} s: is it the bus port of a distcache node?")
    };
    let established: Established =
        greeted.ok_or_else(|| unreachable(no_answer()))?.map_err(|error| match error {
            GreetError::Io(error) => unreachable(format!("it ended the handshake: {error}")),
            GreetError::Handshake(error) => refused(address, error),
        })?;

    let (reading, writing) = stream.into_split();
    let peer = PeerIdentity::new(&established.peer, other_end);
    Ok(Dialled {
        peer,
        reader: (FrameReader::new(reading, input, &established, Receives::Replies), peer.node),
        writer: MessageWriter::new(writing, &established),
        version: established.version,
    })
}

fn refused(address: &str, error: HandshakeError) -> BusError {
    let address = address.to_owned();
    match error {
        HandshakeError::NotDistcache(_) => {
            BusError::NotDistcache { address, why: error.to_string() }
        }
        HandshakeError::Refused(refusal) => BusError::Refused { address, refusal },
    }
}
