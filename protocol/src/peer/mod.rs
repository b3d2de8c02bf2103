//! What nodes say to each other: frames, and the handshake before them.
//!
//! A connection begins with the [`handshake`], in which both sides say who they are and prove,
//! by [`proof`], that they know the cluster's secret; who does not fit gets a [`refusal`] that
//! says what differs. After that it carries [`frame`]s: requests from the side that dialled,
//! replies from the side that accepted, matched by an id, in any order. In class Forward, a message
//! that is longer than a frame should be comes in [`parts`].
//!
//! Nothing here does I/O, reads a clock or makes random numbers; nonces are passed in.
//! Modules in reading order: this one, [`frame`], [`parts`], [`refusal`], [`proof`], [`handshake`].

pub mod frame;
pub mod handshake;
pub mod parts;
pub mod proof;
pub mod refusal;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::limits::{
    PEER_CONTROL_BODY_BYTES_MAX, PEER_DATA_BODY_BYTES_MAX, PEER_REPLY_BYTES_MAX,
    PEER_REQUEST_BYTES_MAX,
};

pub use frame::{Decoder, Frame, FrameError, Kind, Role};
pub use handshake::{Established, Handshake, HandshakeError, Identity, Local};
pub use parts::{Joiner, Parts};
pub use proof::{Nonce, Secret};
pub use refusal::{Reason, Refusal};

/// The oldest version of frames and handshake that this build speaks.
pub const VERSION_MIN: u8 = 1;
/// The newest one.
pub const VERSION_MAX: u8 = 2;

/// The first version with messages in parts.
const VERSION_PARTS: u8 = 2;

/// Connections of class Forward that a node may have to a peer.
pub const FORWARD_LINKS_MAX: u8 = 16;

/// What a connection is for. There is one for each class, or several of class Forward, so that a
/// large copy delays neither consensus nor clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Consensus, leases, membership.
    Control,
    /// Effects of writes.
    Replication,
    /// Copies of partitions: one request after the other, in order.
    Bulk,
    /// Forwarded commands. A number below [`FORWARD_LINKS_MAX`] tells apart the connections of a
    /// node's threads.
    Forward(u8),
}

impl Class {
    /// How many there are, each number of Forward counted.
    pub const COUNT: usize = 3 + FORWARD_LINKS_MAX as usize;

    /// Returns all classes, by number.
    pub fn all() -> impl Iterator<Item = Class> {
        (0..Self::COUNT as u8).filter_map(Self::from_number)
    }

    /// Returns the longest body of a frame, in bytes.
    pub const fn body_bytes_max(self) -> usize {
        match self {
            Class::Control => PEER_CONTROL_BODY_BYTES_MAX,
            Class::Replication | Class::Bulk | Class::Forward(_) => PEER_DATA_BODY_BYTES_MAX,
        }
    }

    /// Whether messages that are longer than a frame come in [`parts`] on a connection of this
    /// version of the protocol.
    pub const fn has_parts(self, version: u8) -> bool {
        matches!(self, Class::Forward(_)) && version >= VERSION_PARTS
    }

    /// Returns the longest body of a request, whole, in bytes.
    pub const fn request_bytes_max(self, version: u8) -> usize {
        if self.has_parts(version) { PEER_REQUEST_BYTES_MAX } else { self.body_bytes_max() }
    }

    /// Returns the longest body of a reply, whole, in bytes.
    pub const fn reply_bytes_max(self, version: u8) -> usize {
        if self.has_parts(version) { PEER_REPLY_BYTES_MAX } else { self.body_bytes_max() }
    }

    /// Returns the class's number, from 0.
    pub const fn number(self) -> u8 {
        match self {
            Class::Control => 0,
            Class::Replication => 1,
            Class::Bulk => 2,
            Class::Forward(number) => 3 + number,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Class::Control),
            1 => Some(Class::Replication),
            2 => Some(Class::Bulk),
            _ => (number < Self::COUNT as u8).then(|| Class::Forward(number - 3)),
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Class::Control => "control",
            Class::Replication => "replication",
            Class::Bulk => "bulk",
            Class::Forward(_) => "forward",
        })
    }
}
