//! Frames: the unit in which records and snapshots are checksummed and stored.
//!
//! A frame's payload is compressed or not, then cut into pieces of at most
//! [`PIECE_BYTES_MAX`]; each piece has the 64-byte header of the crate's byte diagram, so that
//! each can be checked, and found in raw storage, alone.

use serde::Serialize;

use crate::limits::{
    COMPRESS_BYTES_MAX, COMPRESS_BYTES_MIN, COMPRESS_PAUSE_FRAMES, FRAME_BYTES_MAX, PARTITIONS,
    PIECE_BYTES_MAX,
};
use crate::record::{PartitionId, UnixMillis};

/// First bytes of every piece. Not text, so that no value holds it by accident.
pub const MAGIC: [u8; 8] = *b"\x8fDCLOG\r\n";

/// The newest format of frames, records and layout that this version reads, and which it writes.
pub const FORMAT_VERSION: u16 = 1;

/// Bytes of a piece's header.
pub const HEADER_BYTES: usize = 64;

/// Stored in place of a partition in frames that belong to no single one.
const NO_PARTITION: u16 = u16::MAX;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FrameKind {
    /// Records of the log, in sequence.
    Records,
    /// A part of a partition's snapshot, as records.
    SnapshotChunk,
    /// The end of a partition's snapshot, which makes its chunks valid.
    SnapshotCommit,
    /// A note of a repair that records are missing here.
    Gap,
    /// A note that all records before this one were removed after snapshots covered them.
    Trim,
}

/// How a frame's payload is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// As it is.
    None,
    /// As one LZ4 block.
    Lz4,
}

/// The header of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the frame holds.
    pub kind: FrameKind,
    /// How the payload is stored.
    pub compression: Compression,
    /// Number of this piece, from 0.
    pub piece: u32,
    /// How many pieces the frame has; at least 1.
    pub pieces: u32,
    /// How many records the frame has.
    pub count: u32,
    /// Bytes of the payload before compression.
    pub payload_len: u32,
    /// The first record's sequence; a chunk's or commit's snapshot generation.
    pub first: u64,
    /// When the frame was written.
    pub written: UnixMillis,
    /// The partition, in snapshots.
    pub partition: Option<PartitionId>,
    /// The number of the chunk in its snapshot, from 0.
    pub chunk: u32,
}

/// Why bytes are not an intact piece or frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The bytes do not begin with a frame's magic.
    #[error("frame does not begin with the magic bytes")]
    Magic,
    /// The bytes end inside the frame.
    #[error("frame ends after {found} of {needed} bytes")]
    Truncated {
        /// Bytes there are.
        found: usize,
        /// Bytes there should be.
        needed: usize,
    },
    /// Bytes follow the frame in its place of storage.
    #[error("frame of {needed} bytes is stored as {found}")]
    Surplus {
        /// Bytes there are.
        found: usize,
        /// Bytes there should be.
        needed: usize,
    },
    /// The checksum is wrong: some byte has changed.
    #[error("frame checksum is {found:08x} but its bytes give {computed:08x}")]
    Checksum {
        /// The checksum stored.
        found: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// A newer version wrote the frame; its checksum is right.
    #[error(
        "frame has format {found}, this version reads up to {FORMAT_VERSION}: use a newer distcache"
    )]
    NewerFormat {
        /// The frame's format.
        found: u16,
    },
    /// The checksum is right but a field has no meaning.
    #[error("frame field {field} has value {value}, which has no meaning")]
    Field {
        /// The field's name.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// A frame of several pieces lacks one.
    #[error("frame has {found} of {pieces} pieces")]
    Pieces {
        /// Pieces found, in order.
        found: u32,
        /// Pieces announced.
        pieces: u32,
    },
    /// The payload does not decompress to its announced length.
    #[error("frame payload does not decompress: {reason}")]
    Compression {
        /// What the decompressor said.
        reason: String,
    },
    /// The frame is stored under another frame's key.
    #[error("frame is stored under the key of another one")]
    Misplaced,
}

/// One intact piece, borrowed from the bytes that hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The header.
    pub header: FrameHeader,
    /// This piece's part of the stored payload.
    pub body: &'a [u8],
}

impl FrameHeader {
    /// Writes the header of a piece with this body into `out`.
    fn encode(&self, body: &[u8], out: &mut [u8]) {
        let body_len = u32::try_from(body.len()).expect("pieces are at most 16 KiB long");
        out[0..8].copy_from_slice(&MAGIC);
        out[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        out[10] = self.kind.number();
        out[11] = u8::from(self.compression == Compression::Lz4);
        out[16..20].copy_from_slice(&body_len.to_le_bytes());
        out[20..24].copy_from_slice(&self.piece.to_le_bytes());
        out[24..28].copy_from_slice(&self.pieces.to_le_bytes());
        out[28..32].copy_from_slice(&self.count.to_le_bytes());
        out[32..40].copy_from_slice(&self.first.to_le_bytes());
        out[40..48].copy_from_slice(&self.written.0.to_le_bytes());
        let partition = self.partition.map_or(NO_PARTITION, |partition| partition.0);
        out[48..50].copy_from_slice(&partition.to_le_bytes());
        out[50..52].fill(0);
        out[52..56].copy_from_slice(&self.chunk.to_le_bytes());
        out[56..60].copy_from_slice(&self.payload_len.to_le_bytes());
        out[60..64].fill(0);
        let sum = checksum(&out[..HEADER_BYTES], body);
        out[12..16].copy_from_slice(&sum.to_le_bytes());
    }
}

impl FrameKind {
    fn number(self) -> u8 {
        match self {
            Self::Records => 1,
            Self::SnapshotChunk => 2,
            Self::SnapshotCommit => 3,
            Self::Gap => 4,
            Self::Trim => 5,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        [Self::Records, Self::SnapshotChunk, Self::SnapshotCommit, Self::Gap, Self::Trim]
            .into_iter()
            .find(|kind| kind.number() == number)
    }
}

/// Decodes a piece that takes all of `bytes`.
///
/// # Errors
///
/// See [`FrameError`]. Never panics and never allocates, whatever the bytes.
pub fn decode_piece(bytes: &[u8]) -> Result<Piece<'_>, FrameError> {
    let piece = decode_piece_prefix(bytes)?;
    let needed = HEADER_BYTES + piece.body.len();
    if bytes.len() > needed {
        return Err(FrameError::Surplus { found: bytes.len(), needed });
    }
    Ok(piece)
}

/// Decodes the piece at the start of `bytes`, which may go on after it.
///
/// # Errors
///
/// See [`FrameError`]. Never panics and never allocates, whatever the bytes.
pub fn decode_piece_prefix(bytes: &[u8]) -> Result<Piece<'_>, FrameError> {
    if !bytes.starts_with(&MAGIC) {
        return Err(FrameError::Magic);
    }
    let truncated = |needed| FrameError::Truncated { found: bytes.len(), needed };
    let header = bytes.get(..HEADER_BYTES).ok_or(truncated(HEADER_BYTES))?;
    let u32_at = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| header[at + i]));
    let u64_at = |at: usize| u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|i| header[at + i]));
    let body_len = u32_at(16) as usize;
    if body_len > PIECE_BYTES_MAX - HEADER_BYTES {
        return Err(FrameError::Field { field: "body length", value: body_len as u64 });
    }
    let needed = HEADER_BYTES + body_len;
    let body = bytes.get(HEADER_BYTES..needed).ok_or(truncated(needed))?;
    let (found, computed) = (u32_at(12), checksum(header, body));
    if found != computed {
        return Err(FrameError::Checksum { found, computed });
    }
    let version = u16::from_le_bytes([header[8], header[9]]);
    if version > FORMAT_VERSION {
        return Err(FrameError::NewerFormat { found: version });
    }
    let field = |field, value| FrameError::Field { field, value };
    if version == 0 {
        return Err(field("format", 0));
    }
    let kind = FrameKind::from_number(header[10]).ok_or(field("kind", header[10].into()))?;
    let compression = match header[11] {
        0 => Compression::None,
        1 => Compression::Lz4,
        other => return Err(field("compression", other.into())),
    };
    let partition = match u16::from_le_bytes([header[48], header[49]]) {
        NO_PARTITION => None,
        id if usize::from(id) < PARTITIONS => Some(PartitionId(id)),
        id => return Err(field("partition", id.into())),
    };
    let header = FrameHeader {
        kind,
        compression,
        piece: u32_at(20),
        pieces: u32_at(24),
        count: u32_at(28),
        payload_len: u32_at(56),
        first: u64_at(32),
        written: UnixMillis(u64_at(40)),
        partition,
        chunk: u32_at(52),
    };
    check_relations(&header)?;
    Ok(Piece { header, body })
}

/// Refuses headers whose fields contradict each other.
fn check_relations(header: &FrameHeader) -> Result<(), FrameError> {
    let payload_max = match header.compression {
        Compression::None => FRAME_BYTES_MAX,
        Compression::Lz4 => COMPRESS_BYTES_MAX,
    };
    if header.payload_len as usize > payload_max {
        let value = header.payload_len.into();
        return Err(FrameError::Field { field: "payload length", value });
    }
    if header.piece >= header.pieces {
        return Err(FrameError::Field { field: "piece", value: header.piece.into() });
    }
    let in_snapshot = matches!(header.kind, FrameKind::SnapshotChunk | FrameKind::SnapshotCommit);
    if in_snapshot != header.partition.is_some() {
        let value = header.partition.map_or(NO_PARTITION, |partition| partition.0).into();
        return Err(FrameError::Field { field: "partition", value });
    }
    Ok(())
}

/// Returns the CRC32C of a piece: its header without the checksum, then its body.
fn checksum(header: &[u8], body: &[u8]) -> u32 {
    let sum = crc32c::crc32c(&header[..12]);
    let sum = crc32c::crc32c_append(sum, &header[16..]);
    crc32c::crc32c_append(sum, body)
}

/// Turns payloads into pieces; keeps its buffers and what it learnt about compressibility.
#[derive(Debug, Default)]
pub(crate) struct FrameEncoder {
    compressed: Vec<u8>,
    piece: Vec<u8>,
    pause: u32,
}

impl FrameEncoder {
    /// Hands each piece of one frame to `emit`, in order, and returns how many there were.
    ///
    /// `framed` is the payload behind [`HEADER_BYTES`] of room, which is overwritten: so a frame
    /// of one plain piece is not copied. The header's piece, compression and length fields are
    /// filled in here.
    pub(crate) fn encode<E>(
        &mut self,
        mut header: FrameHeader,
        framed: &mut [u8],
        mut emit: impl FnMut(u32, &[u8]) -> Result<(), E>,
    ) -> Result<u32, E> {
        let payload_len = framed.len() - HEADER_BYTES;
        header.payload_len = u32::try_from(payload_len).expect("builders limit the payload");
        header.compression = Compression::None;
        let stored = match self.compress(&framed[HEADER_BYTES..]) {
            Some(len) => {
                header.compression = Compression::Lz4;
                &mut self.compressed[..HEADER_BYTES + len]
            }
            None => framed,
        };
        let body_max = PIECE_BYTES_MAX - HEADER_BYTES;
        let pieces = (stored.len() - HEADER_BYTES).div_ceil(body_max).max(1);
        header.pieces = u32::try_from(pieces).expect("the payload is below 4 GiB");
        if pieces == 1 {
            let (room, body) = stored.split_at_mut(HEADER_BYTES);
            header.encode(body, room);
            emit(0, stored)?;
            return Ok(1);
        }
        for (number, body) in stored[HEADER_BYTES..].chunks(body_max).enumerate() {
            header.piece = number as u32;
            self.piece.resize(HEADER_BYTES, 0);
            header.encode(body, &mut self.piece);
            self.piece.extend_from_slice(body);
            emit(header.piece, &self.piece)?;
        }
        Ok(header.pieces)
    }

    /// Compresses the payload if that is worth it; returns the compressed length.
    ///
    /// After a payload that did not shrink by an eighth the next few are not tried: on random
    /// values an attempt costs 1.9 ns a byte, half of what storing costs.
    fn compress(&mut self, payload: &[u8]) -> Option<usize> {
        if !(COMPRESS_BYTES_MIN..=COMPRESS_BYTES_MAX).contains(&payload.len()) {
            return None;
        }
        if self.pause > 0 {
            self.pause -= 1;
            return None;
        }
        let room = HEADER_BYTES + lz4_flex::block::get_maximum_output_size(payload.len());
        if self.compressed.len() < room {
            self.compressed.resize(room, 0);
        }
        let len = lz4_flex::block::compress_into(payload, &mut self.compressed[HEADER_BYTES..])
            .expect("the buffer has the maximum output size");
        if len > payload.len() / 8 * 7 {
            self.pause = COMPRESS_PAUSE_FRAMES;
            return None;
        }
        Some(len)
    }
}

/// A whole frame, checked and decompressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The header of its first piece.
    pub header: FrameHeader,
    /// The payload, behind `offset` bytes that the reader did not bother to cut off.
    bytes: Vec<u8>,
    offset: usize,
    /// Bytes that the frame takes in the store.
    pub stored_bytes: usize,
}

impl Frame {
    /// Returns the payload.
    pub fn payload(&self) -> &[u8] {
        &self.bytes[self.offset..]
    }
}

/// Puts the pieces of one frame together, in order.
#[derive(Debug)]
pub struct FrameAssembler {
    header: FrameHeader,
    bytes: Vec<u8>,
    offset: usize,
    found: u32,
    stored_bytes: usize,
}

impl FrameAssembler {
    /// Begins with the stored bytes of piece 0, which it keeps, and its decoded header.
    pub fn new(header: FrameHeader, stored: Vec<u8>) -> Self {
        let stored_bytes = stored.len();
        Self { header, bytes: stored, offset: HEADER_BYTES, found: 1, stored_bytes }
    }

    /// Adds the next piece; returns whether it was the next piece of this frame.
    pub fn push(&mut self, piece: &Piece<'_>) -> bool {
        let expected = FrameHeader { piece: self.found, ..self.header };
        if piece.header != expected {
            return false;
        }
        self.bytes.extend_from_slice(piece.body);
        self.stored_bytes += HEADER_BYTES + piece.body.len();
        self.found += 1;
        true
    }

    /// Returns whether all pieces are there.
    pub fn is_complete(&self) -> bool {
        self.found == self.header.pieces
    }

    /// Returns the whole frame.
    ///
    /// # Errors
    ///
    /// When pieces are missing or the payload does not decompress to its length.
    pub fn finish(self) -> Result<Frame, FrameError> {
        let Self { header, bytes, offset, found, stored_bytes } = self;
        if header.piece != 0 || found != header.pieces {
            return Err(FrameError::Pieces { found, pieces: header.pieces });
        }
        let payload_len = header.payload_len as usize;
        match header.compression {
            Compression::None if bytes.len() - offset == payload_len => {
                Ok(Frame { header, bytes, offset, stored_bytes })
            }
            Compression::None => {
                let value = header.payload_len.into();
                Err(FrameError::Field { field: "payload length", value })
            }
            Compression::Lz4 => {
                // The header's limit holds, so this allocates at most COMPRESS_BYTES_MAX.
                let mut payload = vec![0; payload_len];
                let len = lz4_flex::block::decompress_into(&bytes[offset..], &mut payload)
                    .map_err(|error| FrameError::Compression { reason: error.to_string() })?;
                if len != payload_len {
                    let reason = format!("{len} bytes instead of {payload_len}");
                    return Err(FrameError::Compression { reason });
                }
                Ok(Frame { header, bytes: payload, offset: 0, stored_bytes })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> FrameHeader {
        FrameHeader {
            kind: FrameKind::Records,
            compression: Compression::None,
            piece: 0,
            pieces: 0,
            count: 7,
            payload_len: 0,
            first: 42,
            written: UnixMillis(1_700_000_000_000),
            partition: None,
            chunk: 0,
        }
    }

    fn pieces_of(payload: &[u8]) -> Vec<Vec<u8>> {
        let mut framed = vec![0; HEADER_BYTES];
        framed.extend_from_slice(payload);
        let mut pieces = Vec::new();
        let mut encoder = FrameEncoder::default();
        let count = encoder.encode::<()>(header(), &mut framed, |_, bytes| {
            pieces.push(bytes.to_vec());
            Ok(())
        });
        assert_eq!(count, Ok(pieces.len() as u32));
        pieces
    }

    fn assembled(pieces: &[Vec<u8>]) -> Result<Frame, FrameError> {
        let first = decode_piece(&pieces[0])?;
        let mut assembler = FrameAssembler::new(first.header, pieces[0].clone());
        for bytes in &pieces[1..] {
            assert!(assembler.push(&decode_piece(bytes)?));
        }
        assembler.finish()
    }

    /// Bytes that do not compress, the same in every run.
    fn noise(len: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    #[test]
    fn payloads_survive_in_one_piece_or_many_compressed_or_not() {
        for payload in [vec![], vec![1; 100], vec![7; 200_000], noise(20_000), noise(200_000)] {
            let pieces = pieces_of(&payload);
            let frame = assembled(&pieces).unwrap();
            assert_eq!(frame.payload(), payload);
            assert_eq!(frame.header.count, 7);
            assert!(pieces.iter().all(|piece| piece.len() <= PIECE_BYTES_MAX));
        }
        assert_eq!(pieces_of(&noise(200_000)).len(), 13);
        assert_eq!(pieces_of(&vec![7; 200_000]).len(), 1, "compressed");
    }

    #[test]
    fn one_changed_byte_anywhere_is_noticed() {
        let piece = pieces_of(&noise(300)).remove(0);
        for at in 0..piece.len() {
            let mut bad = piece.clone();
            bad[at] ^= 0x10;
            assert!(decode_piece(&bad).is_err(), "byte {at}");
        }
        for len in 0..piece.len() {
            assert!(decode_piece(&piece[..len]).is_err(), "length {len}");
        }
    }

    #[test]
    fn a_missing_piece_is_an_error() {
        let pieces = pieces_of(&noise(40_000));
        let error = assembled(&pieces[..2]).unwrap_err();
        assert_eq!(error, FrameError::Pieces { found: 2, pieces: 3 });
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        let mut piece = pieces_of(b"x").remove(0);
        piece[8] = 2;
        let sum = checksum(&piece[..HEADER_BYTES], &piece[HEADER_BYTES..]);
        piece[12..16].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(decode_piece(&piece), Err(FrameError::NewerFormat { found: 2 }));
    }
}
