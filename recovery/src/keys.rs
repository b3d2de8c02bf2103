//! Where things lie in the store: one ordered key space with a letter in front.
//!
//! | key (numbers big-endian) | value |
//! |---|---|
//! | `c` partition:2 generation:8 chunk:4 piece:4 | a piece of a snapshot chunk |
//! | `f` first sequence:8 piece:4 | a piece of a frame of records |
//! | `g` first missing sequence:8 | note of a repair: records missing |
//! | `s` partition:2 | commit of a partition's newest whole snapshot |
//! | `t` | note that earlier records were removed, being covered by snapshots |

use crate::record::{PartitionId, SequenceNumber};

/// Key of the trim note.
pub(crate) const TRIM: &[u8] = b"t";

/// Begin and end of the keys of frames.
pub(crate) const FRAMES: (&[u8], &[u8]) = (b"f", b"g");
/// Begin and end of the keys of snapshot chunks.
pub(crate) const CHUNKS: (&[u8], &[u8]) = (b"c", b"d");
/// Begin and end of the keys of commits.
pub(crate) const COMMITS: (&[u8], &[u8]) = (b"s", b"t");
/// Begin and end of the keys of gap notes.
pub(crate) const GAPS: (&[u8], &[u8]) = (b"g", b"h");
/// Begin and end of the keys of trim notes.
pub(crate) const TRIMS: (&[u8], &[u8]) = (b"t", b"u");

pub(crate) fn frame(first: SequenceNumber, piece: u32) -> [u8; 13] {
    let mut key = [0; 13];
    key[0] = b'f';
    key[1..9].copy_from_slice(&first.0.to_be_bytes());
    key[9..].copy_from_slice(&piece.to_be_bytes());
    key
}

pub(crate) fn chunk(partition: PartitionId, generation: u64, chunk: u32, piece: u32) -> [u8; 19] {
    let mut key = [0; 19];
    key[0] = b'c';
    key[1..3].copy_from_slice(&partition.0.to_be_bytes());
    key[3..11].copy_from_slice(&generation.to_be_bytes());
    key[11..15].copy_from_slice(&chunk.to_be_bytes());
    key[15..].copy_from_slice(&piece.to_be_bytes());
    key
}

pub(crate) fn commit(partition: PartitionId) -> [u8; 3] {
    let [high, low] = partition.0.to_be_bytes();
    [b's', high, low]
}

pub(crate) fn gap(first: SequenceNumber) -> [u8; 9] {
    let mut key = [0; 9];
    key[0] = b'g';
    key[1..].copy_from_slice(&first.0.to_be_bytes());
    key
}

/// Returns the smallest key after `key`.
pub(crate) fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}
