//! What nodes say to each other: frames, and the handshake before them.
//!
//! A connection begins with the [`handshake`], in which both sides say who they are and prove,
//! by [`proof`], that they know the cluster's secret; who does not fit gets a [`refusal`] that
//! says what differs. After that it carries [`frame`]s: requests from the side that dialled,
//! replies from the side that accepted, matched by an id, in any order.
//!
//! Nothing here does I/O, reads a clock or makes random numbers; nonces are passed in.
//! Modules in reading order: this one, [`frame`], [`refusal`], [`proof`], [`handshake`].

pub mod frame;
pub mod handshake;
pub mod proof;
pub mod refusal;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::limits::{PEER_CONTROL_BODY_BYTES_MAX, PEER_DATA_BODY_BYTES_MAX};

pub use frame::{Decoder, Frame, FrameError, Kind, Role};
pub use handshake::{Established, Handshake, HandshakeError, Identity, Local};
pub use proof::{Nonce, Secret};
pub use refusal::{Reason, Refusal};

/// The oldest version of frames and handshake that this build speaks.
pub const VERSION_MIN: u8 = 1;
/// The newest one.
pub const VERSION_MAX: u8 = 1;

/// What a connection is for. There is one for each class, so that a large copy delays neither
/// consensus nor clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Consensus, leases, membership.
    Control,
    /// Effects of writes, and forwarded commands.
    Replication,
    /// Copies of partitions: one request after the other, in order.
    Bulk,
}

impl Class {
    /// All classes, by number.
    pub const ALL: [Class; 3] = [Class::Control, Class::Replication, Class::Bulk];

    /// Returns the longest body of a frame, in bytes.
    pub const fn body_bytes_max(self) -> usize {
        match self {
            Class::Control => PEER_CONTROL_BODY_BYTES_MAX,
            Class::Replication | Class::Bulk => PEER_DATA_BODY_BYTES_MAX,
        }
    }

    /// Returns the class's number, from 0.
    pub const fn index(self) -> usize {
        match self {
            Class::Control => 0,
            Class::Replication => 1,
            Class::Bulk => 2,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Class::Control => "control",
            Class::Replication => "replication",
            Class::Bulk => "bulk",
        })
    }
}
