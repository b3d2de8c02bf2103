//! The frames of a connection between nodes.
//!
//! ```text
//! u32  length of all that follows, big-endian
//! u8   version of the protocol, as agreed in the handshake
//! u8   role in the upper two bits, kind in the lower six
//! u64  id of the request, big-endian; a reply has its request's
//!      body
//! ```
//!
//! A kind that the receiver does not know is its service's business, which answers with an error
//! frame; the connection goes on. What the decoder refuses here means that the stream cannot be
//! trusted any more.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::Class;
use crate::limits::{PEER_BODY_COPIED_BYTES_MAX, PEER_READ_BYTES_MAX};

/// Bytes before the body.
pub const HEADER_BYTES: usize = LENGTH_BYTES + REST_BYTES;
const LENGTH_BYTES: usize = 4;
/// Version, role and kind, id.
const REST_BYTES: usize = 10;

const ROLE_SHIFT: u32 = 6;
const KIND_MASK: u8 = (1 << ROLE_SHIFT) - 1;

/// What a request asks for. Its numbers belong to the services; replies repeat their request's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(u8);

impl Kind {
    /// Kinds that there can be.
    pub const COUNT: u8 = KIND_MASK + 1;

    /// Returns the kind of this number.
    ///
    /// # Panics
    /// It is not below [`Kind::COUNT`]: in a constant, the build fails.
    pub const fn new(number: u8) -> Self {
        assert!(number < Self::COUNT, "a kind has six bits");
        Kind(number)
    }

    /// Returns the number.
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It asks for something.
    Request,
    /// It answers; the body is the result.
    Reply,
    /// It answers that the request failed; the body is a text in UTF-8.
    Error,
    /// It is what a request or reply begins with that goes on in the next frame of its id: see
    /// [`parts`](super::parts).
    Part,
}

impl Role {
    const fn bits(self) -> u8 {
        match self {
            Role::Request => 0,
            Role::Reply => 1,
            Role::Error => 2,
            Role::Part => 3,
        }
    }

    const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Role::Request),
            1 => Some(Role::Reply),
            2 => Some(Role::Error),
            3 => Some(Role::Part),
            _ => None,
        }
    }
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub role: Role,
    /// What the request asks, or asked, for.
    pub kind: Kind,
    /// The request's id: unique among those that are under way on the connection.
    pub id: u64,
    /// The content; [`super`] does not look into it.
    pub body: Bytes,
}

impl Frame {
    /// Appends the header to `output`; the body is to follow it.
    ///
    /// # Panics
    /// The body is longer than any class allows: whoever makes frames checks that before.
    pub fn put_header(&self, version: u8, output: &mut BytesMut) {
        let length = u32::try_from(REST_BYTES + self.body.len()).expect("bodies are bounded");
        output.reserve(HEADER_BYTES);
        output.put_u32(length);
        output.put_u8(version);
        output.put_u8(self.role.bits() << ROLE_SHIFT | self.kind.0);
        output.put_u64(self.id);
    }
}

/// A stream that is none of frames. The connection ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Shorter than a header.
    #[error("a frame of {0} bytes is shorter than its header")]
    TooShort(u32),
    /// Longer than the class allows.
    #[error("a frame with {length} bytes of body is longer than the {class} class's {max}")]
    TooLong {
        /// What it announced.
        length: usize,
        /// The class.
        class: Class,
        /// What is allowed.
        max: usize,
    },
    /// Not the version that was agreed in the handshake.
    #[error("a frame of version {found} on a connection of version {agreed}")]
    Version {
        /// What it says.
        found: u8,
        /// What was agreed.
        agreed: u8,
    },
    /// Neither request nor reply, nor a part of one where there may be parts.
    #[error("a frame that is neither request nor reply (role {0})")]
    UnknownRole(u8),
    /// Requests come from the side that dialled, replies from the other.
    #[error("a {} where the other side sends {}", .found.word(), .found.opposite())]
    WrongDirection {
        /// What came.
        found: Role,
    },
    /// A message begins in parts while another one is under way in parts.
    #[error("a part of message {found} while there are parts of message {open}")]
    PartOfAnother {
        /// Whose part it is.
        found: u64,
        /// Whose parts there are.
        open: u64,
    },
    /// Parts that are longer together than a message may be.
    #[error("a message in parts with {bytes} bytes, and the longest has {max}")]
    PartsTooLong {
        /// How long they are so far.
        bytes: usize,
        /// What is allowed.
        max: usize,
    },
}

impl Role {
    fn word(self) -> &'static str {
        match self {
            Role::Request => "request",
            Role::Reply | Role::Error => "reply",
            Role::Part => "part",
        }
    }

    fn opposite(self) -> &'static str {
        match self {
            Role::Request => "replies only",
            Role::Reply | Role::Error | Role::Part => "requests only",
        }
    }
}

/// Which frames a side gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receives {
    /// It accepted the connection.
    Requests,
    /// It dialled.
    Replies,
}

/// Finds frames in what has arrived. It holds no bytes itself and may be called again whenever
/// there are more.
#[derive(Debug)]
pub struct Decoder {
    version: u8,
    class: Class,
    receives: Receives,
}

impl Decoder {
    /// Returns a decoder for one direction of a connection.
    pub fn new(version: u8, class: Class, receives: Receives) -> Self {
        Decoder { version, class, receives }
    }

    /// Takes the next frame out of `input`. `None`: it is not there as a whole yet.
    ///
    /// A small body is copied, a large one shares memory with `input`.
    ///
    /// # Errors
    /// What came is no frame, or one that may not come here: see [`FrameError`].
    pub fn decode(&self, input: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        let Some(length) = self.check_length(input)? else { return Ok(None) };
        if input.len() >= HEADER_BYTES {
            self.check_header(input)?;
        }
        if input.len() < LENGTH_BYTES + length {
            return Ok(None);
        }
        let (role, kind) = self.check_header(input)?;
        let mut frame = input.split_to(LENGTH_BYTES + length);
        frame.advance(LENGTH_BYTES + 2);
        let id = frame.get_u64();
        let copied = frame.len() <= PEER_BODY_COPIED_BYTES_MAX;
        let body = if copied { Bytes::copy_from_slice(&frame) } else { frame.freeze() };
        Ok(Some(Frame { role, kind, id, body }))
    }

    /// Returns how many bytes of room the reader should have for the rest of the frame that
    /// `input` begins with: at least 1, and bounded however long the frame is.
    pub fn wanted_bytes(&self, input: &BytesMut) -> usize {
        let whole = match self.check_length(input) {
            Ok(Some(length)) => LENGTH_BYTES + length,
            Ok(None) | Err(_) => HEADER_BYTES,
        };
        whole.saturating_sub(input.len()).clamp(1, PEER_READ_BYTES_MAX)
    }

    /// Returns the length of what follows the length.
    fn check_length(&self, input: &BytesMut) -> Result<Option<usize>, FrameError> {
        let Some(bytes) = input.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let announced = u32::from_be_bytes(*bytes);
        let Some(length) = (announced as usize).checked_sub(REST_BYTES) else {
            return Err(FrameError::TooShort(announced));
        };
        let max = self.class.body_bytes_max();
        if length > max {
            return Err(FrameError::TooLong { length, class: self.class, max });
        }
        Ok(Some(announced as usize))
    }

    /// Checks what follows the length, which must be there.
    fn check_header(&self, input: &BytesMut) -> Result<(Role, Kind), FrameError> {
        let (found, byte) = (input[LENGTH_BYTES], input[LENGTH_BYTES + 1]);
        if found != self.version {
            return Err(FrameError::Version { found, agreed: self.version });
        }
        let bits = byte >> ROLE_SHIFT;
        let may_be = |role: &Role| *role != Role::Part || self.class.has_parts(self.version);
        let role = Role::from_bits(bits).filter(may_be).ok_or(FrameError::UnknownRole(bits))?;
        let is_wrong = match role {
            Role::Request => self.receives == Receives::Replies,
            Role::Reply | Role::Error => self.receives == Receives::Requests,
            Role::Part => false,
        };
        if is_wrong {
            return Err(FrameError::WrongDirection { found: role });
        }
        Ok((role, Kind(byte & KIND_MASK)))
    }
}
