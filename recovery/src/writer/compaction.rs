//! Snapshots of partitions, and the removal of frames that they cover.

use super::{DiskSpace, LogWriter, TrimProgress};
use crate::error::LogError;
use crate::extent::StoredSnapshot;
use crate::frame::{FrameHeader, FrameKind};
use crate::frame_builder::FrameBuilder;
use crate::generations::Generations;
use crate::keys;
use crate::notes::{Note, SnapshotCommit, header};
use crate::record::{Epoch, PartitionId, SequenceNumber, UnixMillis};

impl LogWriter {
    /// Appends a chunk to the partition's snapshot that is being written, or begins one, and
    /// clears the builder. Records of other partitions must not be in it.
    ///
    /// # Errors
    ///
    /// [`LogError::DiskFull`] without harm when the free space is below the reserve; any other
    /// failure poisons the log. The committed snapshot stays as it is.
    pub fn write_chunk(
        &mut self,
        partition: PartitionId,
        chunk: &mut FrameBuilder,
        written: UnixMillis,
    ) -> Result<(), LogError> {
        self.check_poison()?;
        if let DiskSpace::Low { free, reserve } = self.space {
            let text = format!("{free} bytes free, less than the reserve of {reserve}");
            return Err(LogError::DiskFull(text));
        }
        debug_assert!(chunk.partitions().iter().all(|found| found == partition));
        let (generation, number) = self.begin_snapshot(partition, written);
        let count = chunk.count();
        let header = FrameHeader {
            partition: Some(partition),
            chunk: number,
            ..header(FrameKind::SnapshotChunk, generation, count, written)
        };
        let (pieces, stored_bytes) = self.store_frame(header, chunk, |piece| {
            keys::chunk(partition, generation, number, piece)
        })?;
        if let Some(writing) = &mut self.extent.of(partition).writing {
            writing.chunk_pieces.push(pieces);
            writing.records += u64::from(count);
            writing.stored_bytes += stored_bytes;
        }
        self.counters.chunks += 1;
        chunk.clear();
        Ok(())
    }

    /// Returns how many chunks the partition's snapshot that is being written has.
    pub fn chunks_written(&self, partition: PartitionId) -> u32 {
        let snapshots = &self.extent.snapshots[usize::from(partition.0)];
        snapshots.writing.as_ref().map_or(0, |writing| writing.chunk_pieces.len() as u32)
    }

    /// Makes the partition's written chunks its snapshot and removes the old one.
    ///
    /// Its cut is the current next sequence: the owner sees chunks and frames in the order in
    /// which they arose, so the partition's records before it are in the snapshot and later ones
    /// are not. Without chunks the snapshot is empty, as the partition then is. Returns the cut.
    ///
    /// # Errors
    ///
    /// Any failure poisons the log; either the old or the new snapshot is whole.
    pub fn commit_snapshot(
        &mut self,
        partition: PartitionId,
        epoch: Epoch,
        written: UnixMillis,
    ) -> Result<SequenceNumber, LogError> {
        self.commit_snapshot_at(partition, epoch, self.extent.next, written)
    }

    /// Like [`LogWriter::commit_snapshot`], with a cut that a repair took over.
    pub(crate) fn commit_snapshot_at(
        &mut self,
        partition: PartitionId,
        epoch: Epoch,
        cut: SequenceNumber,
        written: UnixMillis,
    ) -> Result<SequenceNumber, LogError> {
        self.check_poison()?;
        let (generation, chunks) = self.begin_snapshot(partition, written);
        let snapshots = self.extent.of(partition);
        let new = snapshots.writing.take().unwrap_or_default();
        let records = new.records;
        let old = snapshots.committed.replace(new);
        let commit = SnapshotCommit { partition, generation, cut, epoch, chunks, records, written };
        let result = self.store.insert(&keys::commit(partition), &commit.encode());
        self.poison_on_error(result)?;
        self.extent.uncovered[usize::from(partition.0)] = (cut < self.extent.next).then_some(cut);
        self.counters.commits += 1;
        self.remove_chunks(partition, old)?;
        Ok(cut)
    }

    /// Drops the chunks of the partition's snapshot that is being written, if there is one.
    ///
    /// # Errors
    ///
    /// Any failure poisons the log; the committed snapshot stays as it is.
    pub fn abandon_snapshot(&mut self, partition: PartitionId) -> Result<(), LogError> {
        self.check_poison()?;
        let writing = self.extent.of(partition).writing.take();
        self.remove_chunks(partition, writing)
    }

    /// Removes up to `budget` frames all of whose records lie before every partition's cut.
    ///
    /// A partition that has had no record needs no snapshot; after a start every partition
    /// counts as having had one. Costs about as much a frame as writing it did.
    ///
    /// # Errors
    ///
    /// Any failure but that of the file of generations, before which nothing is removed, poisons
    /// the log; no record that is needed is removed.
    pub fn trim(&mut self, budget: usize, now: UnixMillis) -> Result<TrimProgress, LogError> {
        self.check_poison()?;
        let point = self.extent.trim_point();
        let covered = self.extent.frames.partition_point(|frame| frame.end() <= point);
        let end = match self.extent.frames.get(covered) {
            Some(frame) => frame.first.min(point),
            None => point,
        };
        if end > self.extent.trimmed {
            self.write_trim(end, now)?;
        }
        for _ in 0..budget {
            match self.extent.frames.front() {
                Some(frame) if frame.end() <= self.extent.trimmed => {}
                _ => return self.remove_gaps(),
            }
            if let Some(frame) = self.extent.frames.pop_front() {
                self.extent.frame_bytes -= frame.stored_bytes;
                for piece in 0..frame.pieces {
                    let result = self.store.remove(&keys::frame(frame.first, piece));
                    self.poison_on_error(result)?;
                }
                self.counters.trimmed_frames += 1;
            }
        }
        Ok(TrimProgress::More)
    }

    /// Notes, before anything is removed, which snapshots stand for it and up to where it will be.
    ///
    /// Costs syncs of the store and of a small file, once a compaction.
    pub(super) fn write_trim(
        &mut self,
        end: SequenceNumber,
        now: UnixMillis,
    ) -> Result<(), LogError> {
        self.note_generations()?;
        let note = Note::Trim { end, covered: self.extent.covered() };
        let result = self.store.insert(keys::TRIM, &note.encode(now));
        self.poison_on_error(result)?;
        self.extent.trimmed = end;
        Ok(())
    }

    /// Notes the snapshots where the store cannot lose them, once they are on disk. The log is
    /// unharmed if that fails, and nothing is removed.
    fn note_generations(&mut self) -> Result<(), LogError> {
        if self.place.is_none() {
            return Ok(());
        }
        self.sync()?;
        if let Some(place) = &mut self.place {
            Generations::committed(&self.extent).write(place.directory.path())?;
            place.mark.has_generations = true;
        }
        Ok(())
    }

    /// Removes the notes of gaps before the trim point.
    fn remove_gaps(&mut self) -> Result<TrimProgress, LogError> {
        while let Some((&first, &end)) = self.extent.gaps.first_key_value() {
            if end > self.extent.trimmed {
                break;
            }
            let result = self.store.remove(&keys::gap(first));
            self.poison_on_error(result)?;
            self.extent.gaps.remove(&first);
        }
        Ok(TrimProgress::Done)
    }

    /// Returns the generation of the partition's snapshot being written, beginning one if there
    /// is none, and the number of its next chunk.
    ///
    /// Generations grow, and are times: one that a crash removed is not given anew, so that a
    /// repair that finds chunks of it in raw files cannot mix the two up.
    fn begin_snapshot(&mut self, partition: PartitionId, now: UnixMillis) -> (u64, u32) {
        let generation = self.extent.next_generation.max(now.0);
        let snapshots = self.extent.of(partition);
        let is_new = snapshots.writing.is_none();
        let writing = snapshots
            .writing
            .get_or_insert_with(|| StoredSnapshot { generation, ..StoredSnapshot::default() });
        let begun = (writing.generation, writing.chunk_pieces.len() as u32);
        if is_new {
            self.extent.next_generation = generation + 1;
        }
        begun
    }

    fn remove_chunks(
        &mut self,
        partition: PartitionId,
        snapshot: Option<StoredSnapshot>,
    ) -> Result<(), LogError> {
        let Some(snapshot) = snapshot else { return Ok(()) };
        for (chunk, &pieces) in snapshot.chunk_pieces.iter().enumerate() {
            for piece in 0..pieces {
                let key = keys::chunk(partition, snapshot.generation, chunk as u32, piece);
                let result = self.store.remove(&key);
                self.poison_on_error(result)?;
            }
        }
        Ok(())
    }
}
