//! Finds frames in raw files by their magic and checksum, whatever the store thinks of them.
//!
//! sled writes a value as one run of bytes inside a segment, so every piece that was ever stored
//! and not yet overwritten is found, removed ones included; whether one still counts is for the
//! caller to decide.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::directory::list_files;
use crate::error::LogError;
use crate::frame::{
    Frame, FrameAssembler, FrameError, FrameHeader, FrameKind, HEADER_BYTES, MAGIC, decode_piece,
    decode_piece_prefix,
};
use crate::limits::PIECE_BYTES_MAX;
use crate::notes::{Note, SnapshotCommit};
use crate::record::{PartitionId, SequenceNumber, UnixMillis};

/// Bytes read at once; each window begins with the last piece's worth of the one before.
const WINDOW_BYTES: usize = 4 << 20;

/// What lies in the raw files of a log.
#[derive(Debug, Default)]
pub(crate) struct Carved {
    files: Vec<PathBuf>,
    /// Pieces of frames of records, by their place.
    frames: Vec<Found>,
    /// Pieces of chunks, by their place.
    chunks: Vec<Found>,
    /// Commits, by partition and generation.
    pub(crate) commits: BTreeMap<(PartitionId, u64), SnapshotCommit>,
    /// The highest trim point noted.
    pub(crate) trimmed: SequenceNumber,
}

/// The frame that a piece belongs to: for a chunk its partition, generation and number, for a
/// frame of records its first sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    first: u64,
    chunk: u32,
    partition: Option<PartitionId>,
}

/// Where a piece lies. There are as many as pieces in the files, so it is small.
#[derive(Clone, Copy, Debug)]
struct Found {
    place: Place,
    written: UnixMillis,
    offset: u64,
    piece: u32,
    file: u16,
    len: u16,
}

const _: () = assert!(size_of::<Found>() <= 40 && PIECE_BYTES_MAX <= u16::MAX as usize);

impl Carved {
    /// Searches the files of a data directory's store, which are only read.
    pub(crate) fn search(dir: &Path, mut progress: impl FnMut(u64, u64)) -> Result<Self, LogError> {
        let mut carved = Self::default();
        let files: Vec<_> = list_files(dir)?
            .into_iter()
            .filter(|(name, _)| name.components().count() > 1)
            .collect();
        let total = files.iter().map(|(_, len)| len).sum();
        let mut done = 0;
        for (name, len) in files {
            carved.files.push(dir.join(name));
            carved.search_file(len, |bytes| progress(done + bytes, total))?;
            done += len;
        }
        carved.frames.sort_unstable_by_key(|piece| piece.place);
        carved.chunks.sort_unstable_by_key(|piece| piece.place);
        Ok(carved)
    }

    /// Searches the newest file of the list.
    fn search_file(&mut self, len: u64, mut progress: impl FnMut(u64)) -> Result<(), LogError> {
        let index = self.files.len() - 1;
        let path = self.files[index].clone();
        let failed = |error| LogError::file("read of", &path, &error);
        let file = File::open(&path).map_err(failed)?;
        let mut window = vec![0; WINDOW_BYTES];
        let mut base = 0;
        while base < len {
            let filled = read_up_to(&file, &mut window, base).map_err(failed)?;
            if filled == 0 {
                break;
            }
            let is_last = base + filled as u64 >= len;
            // Pieces that begin in the last stretch are seen whole in the next window.
            let limit = if is_last { filled } else { filled - PIECE_BYTES_MAX };
            let mut at = 0;
            while let Some(found) =
                find_magic(&window[at..filled]).filter(|found| at + found < limit)
            {
                at += found;
                at += self.take(index, base + at as u64, &window[at..filled])?;
            }
            // Not back into a piece: what its values hold is no piece, whatever it looks like.
            base += at.max(limit) as u64;
            progress(base);
        }
        Ok(())
    }

    /// Takes what begins here with a magic; returns how many bytes it is.
    fn take(&mut self, file: usize, offset: u64, bytes: &[u8]) -> Result<usize, LogError> {
        let piece = match decode_piece_prefix(bytes) {
            Ok(piece) => piece,
            Err(FrameError::NewerFormat { found }) => {
                let what = "a frame".to_owned();
                return Err(LogError::NewerFormat { what, found: found.into() });
            }
            // A chance likeness, or a damaged piece: the search goes on right behind.
            Err(_) => return Ok(1),
        };
        let header = piece.header;
        let len = HEADER_BYTES + piece.body.len();
        let FrameHeader { first, chunk, partition, written, piece, .. } = header;
        let place = Place { first, chunk, partition };
        let found = Found { place, written, offset, piece, file: file as u16, len: len as u16 };
        match (header.kind, partition) {
            (FrameKind::Records, None) => self.frames.push(found),
            (FrameKind::SnapshotChunk, Some(_)) => self.chunks.push(found),
            (FrameKind::SnapshotCommit, Some(partition)) => {
                if let Ok(commit) = SnapshotCommit::decode(&bytes[..len]) {
                    self.commits.insert((partition, header.first), commit);
                }
            }
            (FrameKind::Trim, _) => {
                if let Ok(Note::Trim { end, .. }) = Note::decode(&bytes[..len]) {
                    self.trimmed = self.trimmed.max(end);
                }
            }
            _ => {}
        }
        Ok(len)
    }

    /// Returns the first sequence of the next frame at or after one.
    pub(crate) fn next_frame(&self, from: SequenceNumber) -> Option<SequenceNumber> {
        let next = self.frames.partition_point(|found| found.place.first < from.0);
        self.frames.get(next).map(|found| SequenceNumber(found.place.first))
    }

    /// Returns the newest whole frame that begins with this record and was not written before a
    /// time: sequences that a crash had undone were given anew, and the older ones do not count.
    pub(crate) fn frame(&self, first: SequenceNumber, since: UnixMillis) -> Option<Frame> {
        let place = Place { first: first.0, chunk: 0, partition: None };
        self.newest(at(&self.frames, place)).filter(|frame| frame.header.written >= since)
    }

    /// Returns a chunk.
    pub(crate) fn chunk(
        &self,
        partition: PartitionId,
        generation: u64,
        number: u32,
    ) -> Option<Frame> {
        let place = Place { first: generation, chunk: number, partition: Some(partition) };
        self.newest(at(&self.chunks, place))
    }

    /// Returns whether all chunks of a snapshot are there.
    pub(crate) fn has_chunks_of(&self, commit: &SnapshotCommit) -> bool {
        let chunk = |number| self.chunk(commit.partition, commit.generation, number);
        let counts = (0..commit.chunks).map(|number| chunk(number).map(|chunk| chunk.header.count));
        let records: Option<u64> = counts.map(|count| count.map(u64::from)).sum();
        records == Some(commit.records)
    }

    /// Returns when the newest of the frames up to each sequence was written, in order.
    pub(crate) fn newest_frames(&self) -> Vec<(SequenceNumber, UnixMillis)> {
        let mut newest = UnixMillis(0);
        let frames = self.frames.iter().map(|found| {
            newest = newest.max(found.written);
            (SequenceNumber(found.place.first), newest)
        });
        frames.collect()
    }

    /// Puts the newest whole frame together from pieces that share a place.
    fn newest(&self, found: &[Found]) -> Option<Frame> {
        let mut firsts: Vec<_> = found.iter().filter(|found| found.piece == 0).collect();
        firsts.sort_by_key(|piece| std::cmp::Reverse(piece.written));
        firsts.into_iter().find_map(|first| self.assemble(first, found))
    }

    fn assemble(&self, first: &Found, found: &[Found]) -> Option<Frame> {
        let bytes = self.read(first)?;
        let header = decode_piece(&bytes).ok()?.header;
        let mut assembler = FrameAssembler::new(header, bytes);
        for number in 1..header.pieces {
            let is_next = |found: &&Found| (found.piece, found.written) == (number, header.written);
            let mut pieces = found.iter().filter(is_next).filter_map(|found| self.read(found));
            let mut push =
                |bytes: Vec<u8>| decode_piece(&bytes).is_ok_and(|piece| assembler.push(&piece));
            if !pieces.any(&mut push) {
                return None;
            }
        }
        assembler.finish().ok()
    }

    fn read(&self, found: &Found) -> Option<Vec<u8>> {
        let mut bytes = vec![0; found.len.into()];
        File::open(&self.files[usize::from(found.file)])
            .ok()?
            .read_exact_at(&mut bytes, found.offset)
            .ok()?;
        Some(bytes)
    }
}

/// Returns the pieces of one place among those that are sorted by it.
fn at(sorted: &[Found], place: Place) -> &[Found] {
    let begin = sorted.partition_point(|found| found.place < place);
    let count = sorted[begin..].partition_point(|found| found.place == place);
    &sorted[begin..begin + count]
}

fn find_magic(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += bytes[at..].iter().position(|byte| *byte == MAGIC[0])?;
        if bytes[at..].starts_with(&MAGIC) {
            return Some(at);
        }
        at += 1;
    }
}

/// Reads until the buffer is full or the file ends; returns how many bytes.
fn read_up_to(file: &File, buffer: &mut [u8], base: u64) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], base + filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}
