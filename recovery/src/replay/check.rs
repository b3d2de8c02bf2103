//! The checks on what a replay reads: whether anything is missing, torn or in the wrong place.

use std::fmt::Display;

use super::{Block, BlockKind, Policy, Replay};
use crate::error::{Damage, DamageKind, LogError, newer_format};
use crate::extent::FrameSpan;
use crate::frame::{FrameError, FrameKind};
use crate::limits::PARTITIONS;
use crate::record::{PartitionId, SequenceNumber, UnixMillis};
use crate::scan::Scanned;
use crate::store::StoreError;

/// Damaged frames after which no intact one has come yet.
#[derive(Debug)]
pub(super) struct Suspects {
    /// The first of them.
    first: SequenceNumber,
    /// Its key without the piece number.
    place: Vec<u8>,
    reason: FrameError,
    /// The last of them.
    last: SequenceNumber,
}

impl Replay {
    /// Checks that no snapshot is older than one that was on disk when records were removed.
    pub(super) fn check_generations(&mut self) -> Result<(), LogError> {
        let Some(generations) = self.noted.generations.take() else { return Ok(()) };
        for partition in (0..PARTITIONS as u16).map(PartitionId) {
            let (cut, wanted) = (self.extent.trimmed, generations.of(partition));
            let commit = self.commits[usize::from(partition.0)];
            let found = commit.map_or(0, |commit| commit.generation);
            if found < wanted {
                let reason = format!("its snapshot {wanted} was on disk, and {found} is there");
                self.damage(DamageKind::Snapshot { partition, cut }, &reason)?;
            }
        }
        Ok(())
    }

    /// Takes a chunk: from a committed snapshot, or left over from another.
    pub(super) fn take_chunk(&mut self, scanned: Scanned) -> Result<Option<Block>, LogError> {
        let Some((partition, generation, number)) = chunk_place(&scanned.place) else {
            self.damage(DamageKind::Note, &FrameError::Misplaced)?;
            return Ok(None);
        };
        let commit = self.commits[usize::from(partition.0)];
        let Some(commit) = commit.filter(|commit| commit.generation == generation) else {
            self.stray(scanned.place);
            self.extent.next_generation = self.extent.next_generation.max(generation + 1);
            return Ok(None);
        };
        let damaged = DamageKind::Snapshot { partition, cut: commit.cut };
        let frame = scanned.frame.and_then(|frame| {
            let header = &frame.header;
            let is_in_place = header.kind == FrameKind::SnapshotChunk
                && header.partition == Some(partition)
                && (header.first, header.chunk) == (generation, number);
            if is_in_place { Ok(frame) } else { Err(FrameError::Misplaced) }
        });
        let pieces = frame.as_ref().map_or(0, |frame| frame.header.pieces);
        let stored = self.extent.of(partition).committed.get_or_insert_default();
        let expected = stored.chunk_pieces.len() as u32;
        // The chunks that are missing count as empty, so that the later ones are still read.
        if number < commit.chunks {
            stored.chunk_pieces.resize(number as usize + 1, 0);
            stored.chunk_pieces[number as usize] = pieces;
        }
        stored.stored_bytes += scanned.stored_bytes;
        if let Ok(frame) = &frame {
            stored.records += u64::from(frame.header.count);
        }
        if number != expected {
            self.damage(damaged, &format!("chunk {number} comes where {expected} should"))?;
        }
        match frame {
            Ok(frame) => {
                self.report.snapshot_chunks += 1;
                self.report.snapshot_records += u64::from(frame.header.count);
                let kind = BlockKind::Snapshot { partition };
                Ok(Some(Block::new(kind, frame)))
            }
            Err(error) => {
                self.bad_frame(damaged, &error)?;
                Ok(None)
            }
        }
    }

    /// Checks that the committed snapshots were whole.
    pub(super) fn end_chunks(&mut self) -> Result<(), LogError> {
        for commit in self.commits.clone().iter().flatten() {
            let stored = self.extent.of(commit.partition).committed.get_or_insert_default();
            let found = (stored.chunk_pieces.len() as u64, stored.records);
            if found == (commit.chunks.into(), commit.records) {
                continue;
            }
            let reason = format!(
                "{} of {} chunks and {} of {} records are there",
                found.0, commit.chunks, found.1, commit.records
            );
            let damaged = DamageKind::Snapshot { partition: commit.partition, cut: commit.cut };
            self.damage(damaged, &reason)?;
        }
        Ok(())
    }

    /// Takes a frame of records, if it is the next one.
    pub(super) fn take_frame(&mut self, scanned: Scanned) -> Result<Option<Block>, LogError> {
        let Some(first) = super::sequence_of(&scanned.place) else {
            self.damage(DamageKind::Note, &FrameError::Misplaced)?;
            return Ok(None);
        };
        let frame = scanned.frame.and_then(|frame| {
            let header = &frame.header;
            if (header.kind, header.first) != (FrameKind::Records, first.0) {
                return Err(FrameError::Misplaced);
            }
            if header.count == 0 {
                return Err(FrameError::Field { field: "count", value: 0 });
            }
            Ok(frame)
        });
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => {
                if let Some(newer) = newer_format(&error) {
                    return Err(newer);
                }
                self.suspect(first, scanned.place, error);
                return Ok(None);
            }
        };
        let span = FrameSpan {
            first,
            count: frame.header.count,
            pieces: frame.header.pieces,
            stored_bytes: scanned.stored_bytes,
        };
        if span.end() <= self.extent.trimmed {
            // A removal was cut short.
            self.suspects = None;
            self.stray(scanned.place);
            return Ok(None);
        }
        self.check_sequence(&span)?;
        self.extent.next = span.end();
        self.extent.frame_bytes += span.stored_bytes;
        if self.policy == Policy::Survey {
            self.extent.frames.clear();
        }
        self.extent.frames.push_back(span);
        self.report.frames += 1;
        self.report.records += u64::from(span.count);
        self.report.next = span.end();
        let written = frame.header.written;
        let (from, to) = self.report.written.unwrap_or((written, written));
        self.report.written = Some((from.min(written), to.max(written)));
        Ok(Some(Block::new(BlockKind::Frame { first }, frame)))
    }

    /// Remembers what is stored and must go when the log is opened for writing.
    fn stray(&mut self, place: Vec<u8>) {
        if self.policy == Policy::Refuse {
            self.strays.push(place);
        }
    }

    /// Remembers a damaged frame until it is clear whether another follows.
    fn suspect(&mut self, first: SequenceNumber, place: Vec<u8>, reason: FrameError) {
        match &mut self.suspects {
            Some(suspects) => suspects.last = first,
            None => self.suspects = Some(Suspects { first, place, reason, last: first }),
        }
    }

    /// Checks that the frame follows the one before, declared gaps aside.
    fn check_sequence(&mut self, span: &FrameSpan) -> Result<(), LogError> {
        let suspects = self.suspects.take();
        self.pass_gaps(span.first);
        let expected = self.extent.next;
        if span.first > expected {
            let damaged = DamageKind::Records { first: expected, end: span.first };
            return match suspects {
                Some(suspects) => self.damage(damaged, &suspects.reason),
                None => self.damage(damaged, &"no frame with them is there"),
            };
        }
        let is_first = self.extent.frames.is_empty();
        if span.first < expected && !is_first {
            let damaged = DamageKind::Records { first: span.first, end: expected };
            return self.damage(damaged, &"two frames claim them");
        }
        Ok(())
    }

    /// Moves the next sequence over declared gaps that begin at or before it, up to a frame.
    fn pass_gaps(&mut self, limit: SequenceNumber) {
        while self.extent.next < limit {
            let gap = self.extent.gaps.range(..=self.extent.next).next_back();
            match gap {
                Some((_, &end)) if end > self.extent.next => self.extent.next = end.min(limit),
                _ => break,
            }
        }
        self.report.next = self.extent.next;
    }

    /// Decides about a damaged tail and checks that nothing is missing at the end.
    pub(super) fn end_frames(&mut self) -> Result<(), LogError> {
        let suspects = self.suspects.take();
        if suspects.is_none() || !self.extent.gaps.is_empty() {
            self.pass_gaps(SequenceNumber(u64::MAX));
        }
        let expected = self.extent.next;
        let marked = self.noted.mark.map_or(SequenceNumber(0), |mark| mark.end);
        let cut = self.cuts.iter().max().copied().unwrap_or_default();
        let known = marked.max(cut);
        if let Some(suspects) = suspects {
            let Suspects { first, place, reason, last } = suspects;
            if let Some(newer) = newer_format(&reason) {
                return Err(newer);
            }
            if first == expected && last == first && known <= first {
                self.report.warnings.push(format!(
                    "the last frame, from record {first} on, was torn by a crash and is dropped: \
                     {reason}"
                ));
                self.stray(place);
                return Ok(());
            }
            let end = known.max(last.plus(1));
            return self.damage(DamageKind::Tail { first: expected, end }, &reason);
        }
        if expected < known {
            let reason = if marked >= cut {
                format!("the mark says that records before {marked} were on disk")
            } else {
                format!("a snapshot was taken at record {cut}")
            };
            return self.damage(DamageKind::Tail { first: expected, end: known }, &reason);
        }
        Ok(())
    }

    /// Notes damage, unless the frame is only newer.
    pub(super) fn bad_frame(
        &mut self,
        kind: DamageKind,
        error: &FrameError,
    ) -> Result<(), LogError> {
        match newer_format(error) {
            Some(newer) => Err(newer),
            None => self.damage(kind, error),
        }
    }

    /// Notes damage once for each place, and stops a node.
    pub(super) fn damage(
        &mut self,
        kind: DamageKind,
        reason: &dyn Display,
    ) -> Result<(), LogError> {
        let damage = self.describe(kind, reason);
        if !self.report.damages.iter().any(|known| known.kind == kind) {
            self.report.damages.push(damage.clone());
        }
        match self.policy {
            Policy::Refuse => Err(LogError::Damaged(Box::new(damage))),
            Policy::Survey => Ok(()),
        }
    }

    pub(super) fn describe(&self, kind: DamageKind, reason: &dyn Display) -> Damage {
        let (trimmed, next) = (self.report.trimmed, self.report.next);
        let snapshots = self.report.snapshots;
        let intact = if next > trimmed {
            let last = next.0.saturating_sub(1);
            format!("{snapshots} snapshots and records {trimmed} to {last} before it were readable")
        } else {
            format!("{snapshots} snapshots were found, and no records before it")
        };
        Damage { kind, reason: reason.to_string(), intact, dir: self.dir.clone() }
    }

    /// Turns a store's failure into an error, or into damage if it is that.
    pub(super) fn store_error(&self, error: StoreError) -> LogError {
        match error {
            StoreError::Damaged(reason) => {
                LogError::Damaged(Box::new(self.describe(DamageKind::Store, &reason)))
            }
            other => other.into(),
        }
    }
}

/// Reads a chunk's place: partition, generation and number.
fn chunk_place(place: &[u8]) -> Option<(PartitionId, u64, u32)> {
    let partition = super::partition_of(place.get(1..3)?)?;
    let generation = u64::from_be_bytes(place.get(3..11)?.try_into().ok()?);
    let number = u32::from_be_bytes(place.get(11..)?.try_into().ok()?);
    Some((partition, generation, number))
}

impl Block {
    /// Makes the block of a chunk that was not read from a store.
    pub(crate) fn of_chunk(partition: PartitionId, frame: crate::frame::Frame) -> Self {
        Self::new(BlockKind::Snapshot { partition }, frame)
    }

    pub(super) fn new(kind: BlockKind, frame: crate::frame::Frame) -> Self {
        let (written, count): (UnixMillis, u32) = (frame.header.written, frame.header.count);
        Self { kind, written, count, frame }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame_builder::FrameBuilder;
    use crate::memory_store::MemoryDisk;
    use crate::record::{Operation, Record};

    #[test]
    fn a_survey_keeps_nothing_for_each_frame() {
        let disk = MemoryDisk::default();
        let start = |policy| {
            let mut replay = match policy {
                Policy::Refuse => Replay::start(Box::new(disk.store()), "DIR".to_owned(), None),
                Policy::Survey => Replay::survey(Box::new(disk.store()), "DIR".to_owned(), None),
            }
            .unwrap();
            replay.by_ref().for_each(|block| drop(block.unwrap()));
            replay
        };
        let mut log = start(Policy::Refuse).finish().unwrap().0;
        for _ in 0..20 {
            let mut frame = FrameBuilder::new();
            let operation = Operation::Flush;
            frame.push(&Record { partition: PartitionId(1), database: 0, operation });
            log.append(&mut frame, UnixMillis(1)).unwrap();
        }
        log.sync().unwrap();
        assert_eq!(start(Policy::Refuse).extent.frames.len(), 20);
        let survey = start(Policy::Survey);
        assert_eq!((survey.extent.frames.len(), survey.report.frames), (1, 20));
    }
}
