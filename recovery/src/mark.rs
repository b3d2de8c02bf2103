//! The durable mark: a small file that says up to which record the log is surely on disk.
//!
//! sled drops its tail without a word when it meets damage; against the mark the loss shows.
//! The file has two slots of 512 bytes, written in turn, so that a torn write spares one:
//!
//! | bytes | field (little-endian) |
//! |---|---|
//! | 8 | magic |
//! | 8 | number of this writing |
//! | 8 | first sequence not known to be on disk |
//! | 1 | 1 after a clean shutdown, else 0 |
//! | 1 | 1 if the file `generations` must be there, else 0 |
//! | 2 | 0 |
//! | 4 | CRC32C of the 28 bytes before |

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::LogError;
use crate::record::SequenceNumber;

const MAGIC: [u8; 8] = *b"\x8fDCMARK\n";
const SLOT_BYTES: u64 = 512;
const USED_BYTES: usize = 32;

/// What the mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// All records before this one are on disk.
    pub end: SequenceNumber,
    /// Whether the log was closed in order afterwards.
    pub is_clean: bool,
}

/// The file of the mark.
#[derive(Debug)]
pub(crate) struct MarkFile {
    path: PathBuf,
    file: File,
    writing: u64,
    /// Whether the file of generations was written, which the next mark notes.
    pub(crate) has_generations: bool,
}

impl MarkFile {
    /// Opens or creates the file and reads the newest intact mark in it.
    ///
    /// # Errors
    ///
    /// When the file cannot be used. A damaged one counts as empty if no slot is intact, which
    /// the second value tells apart from a new one.
    pub(crate) fn open(path: &Path) -> Result<(Self, MarkState), LogError> {
        let is_new = !path.exists();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|error| LogError::file("open of", path, &error))?;
        let mut newest: Option<Slot> = None;
        for slot in 0..2 {
            let mut bytes = [0; USED_BYTES];
            if file.read_exact_at(&mut bytes, slot * SLOT_BYTES).is_err() {
                continue;
            }
            if let Some(found) = decode(&bytes) {
                newest = newest.filter(|old| old.writing > found.writing).or(Some(found));
            }
        }
        let writing = newest.map_or(0, |found| found.writing);
        let has_generations = newest.is_some_and(|found| found.has_generations);
        let state = match newest {
            Some(found) => MarkState::Known(found.mark),
            None if is_new => MarkState::New,
            None => MarkState::Damaged,
        };
        Ok((Self { path: path.to_owned(), file, writing, has_generations }, state))
    }

    /// Writes the mark and returns once it is on disk. Costs one `fdatasync`.
    ///
    /// # Errors
    ///
    /// When writing fails; the older mark still stands, which is safe.
    pub(crate) fn write(&mut self, mark: Mark) -> Result<(), LogError> {
        self.writing += 1;
        let slot = self.writing % 2;
        let has_generations = self.has_generations;
        let bytes = encode(Slot { writing: self.writing, mark, has_generations });
        self.file
            .write_all_at(&bytes, slot * SLOT_BYTES)
            .and_then(|()| self.file.sync_data())
            .map_err(|error| LogError::file("write of", &self.path, &error))
    }
}

/// What was found when a [`MarkFile`] was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MarkState {
    /// There was no file.
    New,
    /// There is a file and no intact mark in it.
    Damaged,
    /// The newest mark.
    Known(Mark),
}

/// What a slot holds.
#[derive(Clone, Copy, Debug)]
struct Slot {
    writing: u64,
    mark: Mark,
    has_generations: bool,
}

fn encode(Slot { writing, mark, has_generations }: Slot) -> [u8; USED_BYTES] {
    let mut bytes = [0; USED_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..16].copy_from_slice(&writing.to_le_bytes());
    bytes[16..24].copy_from_slice(&mark.end.0.to_le_bytes());
    bytes[24] = mark.is_clean.into();
    bytes[25] = has_generations.into();
    let sum = crc32c::crc32c(&bytes[..28]);
    bytes[28..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; USED_BYTES]) -> Option<Slot> {
    let u64_at = |at: usize| u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|i| bytes[at + i]));
    let sum = u32::from_le_bytes([28, 29, 30, 31].map(|i| bytes[i]));
    let is_intact = bytes.starts_with(&MAGIC) && sum == crc32c::crc32c(&bytes[..28]);
    is_intact.then(|| Slot {
        writing: u64_at(8),
        mark: Mark { end: SequenceNumber(u64_at(16)), is_clean: bytes[24] == 1 },
        has_generations: bytes[25] == 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_intact_slot_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mark");
        let (mut file, state) = MarkFile::open(&path).unwrap();
        assert_eq!(state, MarkState::New);
        for end in 1..=5 {
            file.write(Mark { end: SequenceNumber(end), is_clean: end == 5 }).unwrap();
        }
        let state = MarkFile::open(&path).unwrap().1;
        let mark = |end, is_clean| MarkState::Known(Mark { end: SequenceNumber(end), is_clean });
        assert_eq!(state, mark(5, true));
        // Writing 5 went to slot 1: tear it.
        file.file.write_all_at(&[0xff; 20], SLOT_BYTES + 10).unwrap();
        assert_eq!(MarkFile::open(&path).unwrap().1, mark(4, false));
        file.file.write_all_at(&[0xff; 20], 10).unwrap();
        assert_eq!(MarkFile::open(&path).unwrap().1, MarkState::Damaged);
    }
}
