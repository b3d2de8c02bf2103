//! The bytes of a batch and of its replies.
//!
//! ```text
//! batch     version u8 (2 or 3) · database u8 · requests, as clients send them
//! replies   count u32 · count times: length u32 · the replies one behind the other
//! ```
//! Integers are little-endian. An empty reply: the command was not executed.

use distcache_protocol::resp::RespVersion;

use crate::command::Args;

/// Bytes before the requests of a batch.
pub(super) const HEADER_BYTES: usize = 2;

/// The reply to a command that was not executed, for lack of room for its reply.
pub(super) const NOT_EXECUTED: &[u8] = b"";

/// Begins a batch.
pub(super) fn begin(version: RespVersion, database: u8) -> Vec<u8> {
    vec![if version == RespVersion::V3 { 3 } else { 2 }, database]
}

/// Adds a request to a batch.
pub(super) fn push<'a>(batch: &mut Vec<u8>, args: impl ExactSizeIterator<Item = &'a [u8]>) {
    batch.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        batch.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        batch.extend_from_slice(arg);
        batch.extend_from_slice(b"\r\n");
    }
}

/// Returns the batch of one request.
pub(super) fn single(version: RespVersion, database: u8, args: Args<'_>) -> Vec<u8> {
    let mut batch = begin(version, database);
    push(&mut batch, args.from(0));
    batch
}

/// Splits a batch into version, database and requests. `None`: it is none.
pub(super) fn parse(batch: &[u8]) -> Option<(RespVersion, u8, &[u8])> {
    let (header, requests) = batch.split_at_checked(HEADER_BYTES)?;
    let version = match header[0] {
        2 => RespVersion::V2,
        3 => RespVersion::V3,
        _ => return None,
    };
    Some((version, header[1], requests))
}

/// Replies in request order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Replies {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Replies {
    /// Adds a reply.
    pub(super) fn push(&mut self, reply: &[u8]) {
        self.bytes.extend_from_slice(reply);
        self.ends.push(self.bytes.len());
    }

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
        self.bytes.get(start..*self.ends.get(index)?)
    }

    /// The bytes that [`Replies::decode`] takes.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoded = Vec::with_capacity(4 + 4 * self.ends.len() + self.bytes.len());
        encoded.extend_from_slice(&(self.ends.len() as u32).to_le_bytes());
        let mut start = 0;
        for end in &self.ends {
            encoded.extend_from_slice(&((end - start) as u32).to_le_bytes());
            start = *end;
        }
        encoded.extend_from_slice(&self.bytes);
        encoded
    }

    /// Reads replies. `None`: these bytes are none.
    pub fn decode(encoded: &[u8]) -> Option<Self> {
        let (count, rest) = encoded.split_first_chunk::<4>()?;
        let count = u32::from_le_bytes(*count) as usize;
        let (lengths, bytes) = rest.split_at_checked(count.checked_mul(4)?)?;
        let mut end = 0_usize;
        let mut ends = Vec::with_capacity(count);
        for length in lengths.chunks_exact(4) {
            let length = <[u8; 4]>::try_from(length).map(u32::from_le_bytes).ok()?;
            end = end.checked_add(length as usize)?;
            ends.push(end);
        }
        (end == bytes.len()).then(|| Replies { bytes: bytes.to_vec(), ends })
    }
}

/// Whether a reply says that the command was not executed: its keys are elsewhere or on their way,
/// or there was no room for a reply.
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
        let encoded = replies.encode();
        assert_eq!(Replies::decode(&encoded), Some(replies));
        let replies = Replies::decode(&encoded).unwrap();
        let refused: Vec<bool> =
            (0..4).map(|index| is_refusal(replies.get(index).unwrap())).collect();
        assert_eq!(refused, [false, true, true, false]);
        assert_eq!(replies.get(4), None);
        for cut in 0..encoded.len() {
            assert_eq!(Replies::decode(&encoded[..cut]), None, "{cut}");
        }
        assert_eq!(Replies::decode(&[255; 64]), None);
    }

    #[test]
    fn a_batch_is_a_header_and_requests() {
        let mut batch = begin(RespVersion::V3, 7);
        push(&mut batch, [b"GET".as_slice(), b"k"].into_iter());
        let requests = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n".as_slice();
        assert_eq!(parse(&batch), Some((RespVersion::V3, 7, requests)));
        assert_eq!(parse(b"\x02"), None);
        assert_eq!(parse(b"\x04\x00"), None);
    }
}
