//! Small frames in which the log speaks about itself: commits, gaps and the trim point.

use bincode::{Decode, Encode};

use crate::frame::{
    Compression, Frame, FrameAssembler, FrameEncoder, FrameError, FrameHeader, FrameKind,
    HEADER_BYTES, decode_piece,
};
use crate::frame_builder::PartitionSet;
use crate::record::{Epoch, PartitionId, SequenceNumber, UnixMillis};

/// A committed snapshot of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotCommit {
    /// The partition.
    pub(crate) partition: PartitionId,
    /// Tells this snapshot from older ones; grows.
    pub(crate) generation: u64,
    /// The partition's records before this one are in the snapshot, later ones are not.
    pub(crate) cut: SequenceNumber,
    /// The partition's epoch.
    pub(crate) epoch: Epoch,
    /// How many chunks the snapshot has.
    pub(crate) chunks: u32,
    /// How many records its chunks have together.
    pub(crate) records: u64,
    /// When it was committed.
    pub(crate) written: UnixMillis,
}

/// The stored form of what a commit's header does not say.
#[derive(Encode, Decode)]
struct CommitPayload {
    cut: u64,
    epoch: u64,
    chunks: u32,
    records: u64,
}

/// A note about a place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// Records from `first` up to `end` are missing, as a repair found.
    Gap { first: SequenceNumber, end: SequenceNumber },
    /// Records before this one were removed, being covered by the snapshots of these partitions,
    /// which must therefore be there.
    Trim { end: SequenceNumber, covered: PartitionSet },
}

/// Returns the header of a frame as far as its owner knows it.
pub(crate) fn header(kind: FrameKind, first: u64, count: u32, written: UnixMillis) -> FrameHeader {
    FrameHeader {
        kind,
        compression: Compression::None,
        piece: 0,
        pieces: 1,
        count,
        payload_len: 0,
        first,
        written,
        partition: None,
        chunk: 0,
    }
}

impl SnapshotCommit {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let payload = CommitPayload {
            cut: self.cut.0,
            epoch: self.epoch.0,
            chunks: self.chunks,
            records: self.records,
        };
        let header = header(FrameKind::SnapshotCommit, self.generation, 0, self.written);
        encode_one(FrameHeader { partition: Some(self.partition), ..header }, payload)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let (header, payload): (_, CommitPayload) = decode_one(bytes)?;
        let (FrameKind::SnapshotCommit, Some(partition)) = (header.kind, header.partition) else {
            return Err(FrameError::Misplaced);
        };
        Ok(Self {
            partition,
            generation: header.first,
            cut: SequenceNumber(payload.cut),
            epoch: Epoch(payload.epoch),
            chunks: payload.chunks,
            records: payload.records,
            written: header.written,
        })
    }
}

impl Note {
    pub(crate) fn encode(self, written: UnixMillis) -> Vec<u8> {
        match self {
            Self::Gap { first, end } => {
                encode_one(header(FrameKind::Gap, first.0, 0, written), end.0)
            }
            Self::Trim { end, covered } => {
                encode_one(header(FrameKind::Trim, end.0, 0, written), covered.0)
            }
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let header = decode_piece(bytes)?.header;
        let first = SequenceNumber(header.first);
        match header.kind {
            FrameKind::Gap => {
                let end = SequenceNumber(decode_one(bytes)?.1);
                if first < end {
                    return Ok(Self::Gap { first, end });
                }
                Err(FrameError::Field { field: "gap", value: end.0 })
            }
            FrameKind::Trim => {
                let covered = PartitionSet(decode_one(bytes)?.1);
                Ok(Self::Trim { end: first, covered })
            }
            FrameKind::Records | FrameKind::SnapshotChunk | FrameKind::SnapshotCommit => {
                Err(FrameError::Misplaced)
            }
        }
    }
}

fn encode_one(header: FrameHeader, payload: impl Encode) -> Vec<u8> {
    let mut framed = vec![0; HEADER_BYTES];
    let bytes = bincode::encode_to_vec(payload, bincode::config::standard())
        .expect("numbers always encode");
    framed.extend_from_slice(&bytes);
    let mut stored = Vec::new();
    let emit = |_, bytes: &[u8]| {
        stored = bytes.to_vec();
        Ok::<_, std::convert::Infallible>(())
    };
    let Ok(pieces) = FrameEncoder::default().encode(header, &mut framed, emit);
    debug_assert_eq!(pieces, 1, "notes are small");
    stored
}

fn decode_one<T: Decode<()>>(bytes: &[u8]) -> Result<(FrameHeader, T), FrameError> {
    let frame: Frame = FrameAssembler::new(decode_piece(bytes)?.header, bytes.to_vec()).finish()?;
    let payload = frame.payload();
    let decoded = bincode::decode_from_slice(payload, bincode::config::standard());
    match decoded {
        Ok((value, used)) if used == payload.len() => Ok((frame.header, value)),
        _ => Err(FrameError::Field { field: "note length", value: payload.len() as u64 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_survive_encoding_and_are_told_apart() {
        let commit = SnapshotCommit {
            partition: PartitionId(9),
            generation: 4,
            cut: SequenceNumber(u64::MAX),
            epoch: Epoch(3),
            chunks: 70_000,
            records: 1 << 40,
            written: UnixMillis(5),
        };
        assert_eq!(SnapshotCommit::decode(&commit.encode()), Ok(commit));
        let gap = Note::Gap { first: SequenceNumber(3), end: SequenceNumber(9) };
        let mut covered = PartitionSet::default();
        (0..1024).step_by(3).for_each(|id| covered.insert(PartitionId(id)));
        let trim = Note::Trim { end: SequenceNumber(12), covered };
        assert!(trim.encode(UnixMillis(1)).len() <= 512, "a sector, so that it is never torn");
        for note in [gap, trim] {
            assert_eq!(Note::decode(&note.encode(UnixMillis(1))), Ok(note));
            assert!(SnapshotCommit::decode(&note.encode(UnixMillis(1))).is_err());
        }
        assert!(Note::decode(&commit.encode()).is_err());
    }
}
