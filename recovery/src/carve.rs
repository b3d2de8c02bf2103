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
    /// Pieces of frames of records, by their first sequence.
    frames: BTreeMap<SequenceNumber, Vec<Found>>,
    /// Pieces of chunks, by partition, generation and number.
    chunks: BTreeMap<(PartitionId, u64, u32), Vec<Found>>,
    /// Commits, by partition and generation.
    pub(crate) commits: BTreeMap<(PartitionId, u64), SnapshotCommit>,
    /// The highest trim point noted.
    pub(crate) trimmed: SequenceNumber,
}

/// Where a piece lies.
#[derive(Clone, Copy, Debug)]
struct Found {
    header: FrameHeader,
    file: usize,
    offset: u64,
    len: usize,
}

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
        let found = Found { header, file, offset, len };
        match (header.kind, header.partition) {
            (FrameKind::Records, _) => {
                self.frames.entry(SequenceNumber(header.first)).or_default().push(found);
            }
            (FrameKind::SnapshotChunk, Some(partition)) => {
                let place = (partition, header.first, header.chunk);
                self.chunks.entry(place).or_default().push(found);
            }
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
            (FrameKind::Gap | FrameKind::SnapshotChunk | FrameKind::SnapshotCommit, _) => {}
        }
        Ok(len)
    }

    /// Returns the first sequence of the next frame at or after one.
    pub(crate) fn next_frame(&self, from: SequenceNumber) -> Option<SequenceNumber> {
        self.frames.range(from..).next().map(|(first, _)| *first)
    }

    /// Returns the newest whole frame that begins with this record and was not written before a
    /// time: sequences that a crash had undone were given anew, and the older ones do not count.
    pub(crate) fn frame(&self, first: SequenceNumber, since: UnixMillis) -> Option<Frame> {
        let found = self.frames.get(&first)?;
        self.newest(found).filter(|frame| frame.header.written >= since)
    }

    /// Returns a chunk.
    pub(crate) fn chunk(
        &self,
        partition: PartitionId,
        generation: u64,
        number: u32,
    ) -> Option<Frame> {
        self.newest(self.chunks.get(&(partition, generation, number))?)
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
        let frames = self.frames.iter().map(|(first, found)| {
            newest = found
                .iter()
                .map(|piece| piece.header.written)
                .max()
                .max(Some(newest))
                .unwrap_or_default();
            (*first, newest)
        });
        frames.collect()
    }

    /// Puts the newest whole frame together from pieces that share a place.
    fn newest(&self, found: &[Found]) -> Option<Frame> {
        let mut firsts: Vec<_> = found.iter().filter(|piece| piece.header.piece == 0).collect();
        firsts.sort_by_key(|piece| std::cmp::Reverse(piece.header.written));
        firsts.into_iter().find_map(|first| self.assemble(first, found))
    }

    fn assemble(&self, first: &Found, found: &[Found]) -> Option<Frame> {
        let mut assembler = FrameAssembler::new(first.header, self.read(first)?);
        for number in 1..first.header.pieces {
            let wanted = FrameHeader { piece: number, ..first.header };
            let piece = found.iter().find(|piece| piece.header == wanted)?;
            let bytes = self.read(piece)?;
            if !assembler.push(&decode_piece(&bytes).ok()?) {
                return None;
            }
        }
        assembler.finish().ok()
    }

    fn read(&self, found: &Found) -> Option<Vec<u8>> {
        let mut bytes = vec![0; found.len];
        File::open(&self.files[found.file]).ok()?.read_exact_at(&mut bytes, found.offset).ok()?;
        Some(bytes)
    }
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
