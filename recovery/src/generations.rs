//! Which snapshots were on disk: a small file beside the store.
//!
//! Where sled meets damage it can fall back to an older version of a page without a word. Frames
//! have sequence numbers, so that shows; but an old commit with its old chunks is a whole
//! snapshot, and the records behind it may be removed. So before records are removed, each
//! partition's generation is noted here, where sled cannot roll it back, once the commits are on
//! disk: the file is never ahead of the store. A start refuses a snapshot that is older.
//!
//! The content of this [`SealedFile`] is a generation (8 bytes, little-endian) for each
//! partition; 0 if it had no snapshot. Older logs have no such file; the mark says if there must
//! be one.

use std::path::Path;

use crate::extent::Extent;
use crate::limits::PARTITIONS;
use crate::mark::Mark;
use crate::record::PartitionId;
use crate::sealed_file::{SealedFile, SealedFileError};

/// The file's name in the data directory.
pub(crate) const GENERATIONS: &str = "generations";
const MAGIC: [u8; 8] = *b"\x8fDCGENS\n";
const NUMBER_BYTES: usize = 8;

/// For each partition the generation that its snapshot has at least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Generations(Vec<u64>);

/// What was noted beside the store about what must be in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Noted {
    pub(crate) mark: Option<Mark>,
    pub(crate) generations: Option<Generations>,
}

impl Noted {
    /// Returns whether a partition had a snapshot.
    pub(crate) fn has(&self, partition: PartitionId) -> bool {
        self.generations.as_ref().is_some_and(|generations| generations.of(partition) > 0)
    }
}

impl Generations {
    /// Returns those of the committed snapshots.
    pub(crate) fn committed(extent: &Extent) -> Self {
        let generation = |of: &crate::extent::PartitionSnapshots| {
            of.committed.as_ref().map_or(0, |snapshot| snapshot.generation)
        };
        Self(extent.snapshots.iter().map(generation).collect())
    }

    /// Returns the least generation of a partition's snapshot; 0 if there need not be one.
    pub(crate) fn of(&self, partition: PartitionId) -> u64 {
        self.0[usize::from(partition.0)]
    }

    /// Reads the file of a data directory; `None` if it was never written.
    ///
    /// # Errors
    ///
    /// When reading fails, and on damage.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>, SealedFileError> {
        let Some(content) = file_in(dir).read()? else { return Ok(None) };
        let (numbers, rest) = content.as_chunks::<NUMBER_BYTES>();
        if (numbers.len(), rest.len()) != (PARTITIONS, 0) {
            let reason = format!("its content has {} bytes", content.len());
            return Err(SealedFileError::Damaged { path: dir.join(GENERATIONS), reason });
        }
        Ok(Some(Self(numbers.iter().map(|number| u64::from_le_bytes(*number)).collect())))
    }

    /// Replaces the file of a data directory. It is on disk when this returns.
    ///
    /// # Errors
    ///
    /// When writing fails; what the file held before still stands, which is safe.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), SealedFileError> {
        let content: Vec<u8> = self.0.iter().flat_map(|number| number.to_le_bytes()).collect();
        file_in(dir).write(&content)
    }
}

fn file_in(dir: &Path) -> SealedFile {
    SealedFile::new(dir.join(GENERATIONS), MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_come_back_and_another_number_of_them_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Generations::read(dir.path()).unwrap(), None);
        let written = Generations((0..PARTITIONS as u64).map(|id| id << 40).collect());
        written.write(dir.path()).unwrap();
        let read = Generations::read(dir.path()).unwrap().unwrap();
        assert_eq!(read, written);
        assert_eq!(read.of(PartitionId(1023)), 1023 << 40);
        file_in(dir.path()).write(&[0; 8]).unwrap();
        let error = Generations::read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("8 bytes"), "{error}");
    }
}
