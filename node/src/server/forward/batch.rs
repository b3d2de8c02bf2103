//! The bytes of a batch and of its replies.
//!
//! ```text
//! batch     version u8 (2 or 3, and 128 if no access clock goes on) · database u8 · requests, as
//!           clients send them
//! replies   the replies one behind the other · count times: length u32 · count u32
//! ```
//! Integers are little-endian. An empty reply: the command was not executed.

use bytes::Bytes;
use distcache_protocol::resp::{ReplyBuffer, RespVersion};

use crate::command::Args;
use crate::server::session::Session;

/// Bytes before the requests of a batch.
pub(super) const HEADER_BYTES: usize = 2;

/// Longest reply that there is room for, in bytes: its length is a `u32`.
pub(super) const REPLY_BYTES_MAX: usize = u32::MAX as usize;

/// The reply to a command that was not executed, for lack of room for its reply.
pub(super) const NOT_EXECUTED: &[u8] = b"";

/// The reply to a command that was not executed since `CLIENT PAUSE` holds it; nothing behind it
/// was either. To a build that does not know it, its keys are on their way.
pub(super) const PAUSED: &[u8] = b"-TRYAGAIN The node is paused\r\n";

/// Says that no access clock goes on, in a batch's first byte.
const NO_TOUCH: u8 = 0x80;

/// How the requests of a batch are to be executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) struct Header {
    /// Protocol version of the replies.
    pub(super) version: RespVersion,
    /// Database that they run in.
    pub(super) database: u8,
    /// Whether they update access clocks.
    pub(super) touching: bool,
}

impl Header {
    /// Of what a connection's client sends now.
    pub(in crate::server) fn of(session: &Session) -> Self {
        let Session { version, database, touching, .. } = *session;
        Header { version, database, touching }
    }
}

/// Begins a batch.
pub(super) fn begin(header: Header) -> ReplyBuffer {
    let version = if header.version == RespVersion::V3 { 3 } else { 2 };
    let mut batch = ReplyBuffer::default();
    batch.raw(&[version | if header.touching { 0 } else { NO_TOUCH }, header.database]);
    batch
}

/// Adds a request to a batch: an array of bulk strings, as replies may be.
pub(super) fn push<'a>(batch: &mut ReplyBuffer, args: impl ExactSizeIterator<Item = &'a [u8]>) {
    batch.array(args.len());
    args.for_each(|arg| batch.bulk(arg));
}

/// Returns the batch of one request.
pub(super) fn single(header: Header, args: Args<'_>) -> ReplyBuffer {
    let mut batch = begin(header);
    push(&mut batch, args.from(0));
    batch
}

/// Splits a batch into header and requests. `None`: it is none.
pub(super) fn parse(batch: &[u8]) -> Option<(Header, &[u8])> {
    let (&[first, database], requests) = batch.split_first_chunk::<HEADER_BYTES>()?;
    let version = match first & !NO_TOUCH {
        2 => RespVersion::V2,
        3 => RespVersion::V3,
        _ => return None,
    };
    Some((Header { version, database, touching: first & NO_TOUCH == 0 }, requests))
}

/// Replies in request order: those that are collected, or, of `Bytes`, those that have come.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Replies<B = Vec<u8>> {
    bytes: B,
    ends: Vec<usize>,
}

impl<B: AsRef<[u8]>> Replies<B> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The reply to request `index`.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.bytes.as_ref().get(start..*self.ends.get(index)?)
    }
}

impl Replies {
    /// Bytes of those that are collected.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a reply, of [`REPLY_BYTES_MAX`] bytes at most.
    pub(super) fn push(&mut self, reply: &[u8]) {
        self.bytes.extend_from_slice(reply);
        self.ends.push(self.bytes.len());
    }

    /// The bytes that [`Replies::decode`] takes.
    pub fn encode(mut self) -> Vec<u8> {
        self.bytes.reserve_exact(4 * self.ends.len() + 4);
        let mut start = 0;
        for end in &self.ends {
            self.bytes.extend_from_slice(&((end - start) as u32).to_le_bytes());
            start = *end;
        }
        self.bytes.extend_from_slice(&(self.ends.len() as u32).to_le_bytes());
        self.bytes
    }
}

impl Replies<Bytes> {
    /// Reads replies. `None`: these bytes are none.
    pub fn decode(mut encoded: Bytes) -> Option<Self> {
        let (rest, count) = encoded.split_last_chunk::<4>()?;
        let count = u32::from_le_bytes(*count) as usize;
        let length = rest.len().checked_sub(count.checked_mul(4)?)?;
        let mut end = 0_usize;
        let mut ends = Vec::with_capacity(count);
        for length in rest[length..].chunks_exact(4) {
            let length = <[u8; 4]>::try_from(length).map(u32::from_le_bytes).ok()?;
            end = end.checked_add(length as usize)?;
            ends.push(end);
        }
        encoded.truncate(length);
        (end == length).then_some(Replies { bytes: encoded, ends })
    }
}

/// Whether a reply says that the command was not executed: its keys are elsewhere or on their way,
/// there was no room for a reply, or the node is paused.
pub(in crate::server) fn is_refusal(reply: &[u8]) -> bool {
    reply == NOT_EXECUTED
        || [b"-MOVED ".as_slice(), b"-TRYAGAIN "].iter().any(|code| reply.starts_with(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read_as_they_are_written() {
        let mut replies = Replies::default();
        for reply in [b"+OK\r\n".as_slice(), b"", b"-MOVED 1 a:2\r\n", b":1\r\n"] {
            replies.push(reply);
        }
        let encoded = Bytes::from(replies.encode());
        let replies = Replies::decode(encoded.clone()).unwrap();
        assert_eq!(replies.get(0), Some(b"+OK\r\n".as_slice()));
        let refused: Vec<bool> =
            (0..4).map(|index| is_refusal(replies.get(index).unwrap())).collect();
        assert_eq!(refused, [false, true, true, false]);
        assert_eq!(replies.get(4), None);
        for cut in 0..encoded.len() {
            assert_eq!(Replies::decode(encoded.slice(cut + 1..)), None, "{cut}");
            assert_eq!(Replies::decode(encoded.slice(..cut)), None, "{cut}");
        }
        assert_eq!(Replies::decode(Bytes::from_static(&[255; 64])), None);
    }

    #[test]
    fn a_batch_is_a_header_and_requests() {
        for touching in [true, false] {
            let header = Header { version: RespVersion::V3, database: 7, touching };
            let mut batch = begin(header);
            push(&mut batch, [b"GET".as_slice(), b"k"].into_iter());
            let requests = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n".as_slice();
            assert_eq!(parse(&batch.into_bytes()), Some((header, requests)));
        }
        assert_eq!(parse(b"\x02"), None);
        assert_eq!(parse(b"\x04\x00"), None);
    }
}
