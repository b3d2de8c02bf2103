//! Reading a log from end to end: what a node does at its start and `distcache-log` on its copy.
//!
//! First come the notes (trim point, gaps, commits), then every committed snapshot's chunks, then
//! the frames in sequence. Every frame's checksum, and that none is missing, is checked on the
//! way. A damaged last frame that is not known to have been on disk is a torn tail: it is dropped
//! with a warning. All other damage is an error; nothing is skipped silently.

use crate::error::{DamageKind, LogError, newer_record};
use crate::extent::{Extent, StoredSnapshot};
use crate::frame::{Frame, FrameError};
use crate::frame_builder::PartitionSet;
use crate::generations::Noted;
use crate::keys;
use crate::limits::{PARTITIONS, READ_BYTES};
use crate::mark::Mark;
use crate::notes::{Note, SnapshotCommit};
use crate::record::{PartitionId, RecordCursor, RecordError, SequenceNumber, UnixMillis};
use crate::report::{Progress, SnapshotSummary, VerifyReport};
use crate::scan::FrameScan;
use crate::store::{Entry, LogStore, StoreError};
use crate::writer::{LogWriter, Place};

mod check;
mod open;

use check::Suspects;
pub use open::{open, open_salted};

/// How a data directory is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// For a node: a missing directory or log is created.
    Create,
    /// For a log that must be there already.
    Existing,
}

/// Verified records, as they were stored together.
#[derive(Debug)]
pub struct Block {
    /// Where the records come from.
    pub kind: BlockKind,
    /// When they were written.
    pub written: UnixMillis,
    /// How many there are.
    pub count: u32,
    frame: Frame,
}

/// Where the records of a [`Block`] come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// From a partition's snapshot; all of them apply.
    Snapshot {
        /// The partition.
        partition: PartitionId,
    },
    /// From the log; record `i` applies if `first + i` is not before its partition's cut.
    Frame {
        /// The sequence of the first record.
        first: SequenceNumber,
    },
}

impl Block {
    /// Returns the encoded records.
    pub fn payload(&self) -> &[u8] {
        self.frame.payload()
    }

    /// Returns a cursor over the records.
    pub fn records(&self) -> RecordCursor<'_> {
        RecordCursor::new(self.payload(), self.count)
    }

    pub(crate) fn frame(&self) -> &Frame {
        &self.frame
    }

    /// Returns the bytes that the block takes in the store.
    pub fn stored_bytes(&self) -> u64 {
        self.frame.stored_bytes as u64
    }
}

/// Reads a log: an iterator over its blocks, and then the way to its [`LogWriter`].
#[derive(Debug)]
pub struct Replay {
    store: Box<dyn LogStore>,
    place: Option<Place>,
    /// The directory's name, for messages.
    dir: String,
    policy: Policy,
    noted: Noted,
    stage: Stage,
    extent: Extent,
    cuts: Box<[SequenceNumber; PARTITIONS]>,
    commits: Vec<Option<SnapshotCommit>>,
    /// What is stored and must go when the log is opened for writing: key prefixes.
    strays: Vec<Vec<u8>>,
    suspects: Option<Suspects>,
    /// Whether an error ended reading.
    is_refused: bool,
    progress: Progress,
    report: VerifyReport,
}

/// What happens on damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    /// Stop with an error, as a node does.
    Refuse,
    /// Note it and go on, as `verify` and `repair` do. No writer goes on from there, so that what
    /// only that one needs is not kept, as it grows with the log.
    Survey,
}

#[derive(Debug)]
enum Stage {
    Chunks(FrameScan),
    Frames(FrameScan),
    Done,
}

impl Replay {
    /// Begins to read a store; `mark` is what must be in it. For tests with a store in memory;
    /// nodes call [`open_salted`].
    ///
    /// # Errors
    ///
    /// When the store's notes cannot be read.
    pub fn start(
        store: Box<dyn LogStore>,
        dir: String,
        mark: Option<Mark>,
    ) -> Result<Self, LogError> {
        Self::start_with(store, dir, Noted { mark, generations: None }, Policy::Refuse)
    }

    /// Like [`Replay::start`], but damage is noted in the report and reading goes on.
    ///
    /// # Errors
    ///
    /// When the store cannot be read at all, and for newer formats.
    pub fn survey(
        store: Box<dyn LogStore>,
        dir: String,
        mark: Option<Mark>,
    ) -> Result<Self, LogError> {
        Self::start_with(store, dir, Noted { mark, generations: None }, Policy::Survey)
    }

    /// Begins to read a store, with all that was noted beside it.
    pub(crate) fn start_with(
        store: Box<dyn LogStore>,
        dir: String,
        noted: Noted,
        policy: Policy,
    ) -> Result<Self, LogError> {
        let mark = noted.mark;
        let mut replay = Self {
            store,
            place: None,
            dir,
            policy,
            noted,
            stage: Stage::Chunks(FrameScan::new(keys::CHUNKS)),
            extent: Extent::empty(),
            cuts: Box::new([SequenceNumber(0); PARTITIONS]),
            commits: vec![None; PARTITIONS],
            strays: Vec::new(),
            suspects: None,
            is_refused: false,
            progress: Progress::default(),
            report: VerifyReport::default(),
        };
        replay.report.marked = mark.map(|mark| mark.end);
        replay.report.is_clean_shutdown = mark.is_some_and(|mark| mark.is_clean);
        replay.read_notes()?;
        replay.count_records()?;
        Ok(replay)
    }

    /// Returns for each partition the first sequence that its snapshot does not cover.
    pub fn cuts(&self) -> &[SequenceNumber; PARTITIONS] {
        &self.cuts
    }

    /// Returns the committed snapshots.
    pub fn snapshots(&self) -> Vec<SnapshotSummary> {
        let commits = self.commits.iter().flatten();
        commits
            .map(|commit| SnapshotSummary {
                partition: commit.partition,
                cut: commit.cut,
                epoch: commit.epoch,
                records: commit.records,
                written: commit.written,
            })
            .collect()
    }

    /// Notes what was left out although the log counts as intact.
    pub(crate) fn warn(&mut self, warning: Option<String>) {
        self.report.warnings.extend(warning);
    }

    pub(crate) fn commits(&self) -> Vec<SnapshotCommit> {
        self.commits.iter().flatten().copied().collect()
    }

    /// Returns how far reading has come.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Returns what was found so far; complete once the iterator has ended.
    pub fn report(&self) -> &VerifyReport {
        &self.report
    }

    /// Returns the error for a record of a block that cannot be decoded or makes no sense;
    /// `index` is its place in the block. For consumers that decode blocks elsewhere.
    pub fn record_error(&self, kind: BlockKind, index: u32, error: &RecordError) -> LogError {
        newer_record(error).unwrap_or_else(|| {
            LogError::Damaged(Box::new(self.describe(self.record_damage(kind, index), error)))
        })
    }

    /// Notes a record that cannot be decoded, while surveying.
    pub(crate) fn note_record_error(
        &mut self,
        kind: BlockKind,
        index: u32,
        error: &RecordError,
    ) -> Result<(), LogError> {
        match newer_record(error) {
            Some(newer) => Err(newer),
            None => self.damage(self.record_damage(kind, index), error),
        }
    }

    fn record_damage(&self, kind: BlockKind, index: u32) -> DamageKind {
        match kind {
            BlockKind::Frame { first } => DamageKind::Record { first: first.plus(index.into()) },
            BlockKind::Snapshot { partition } => {
                DamageKind::Snapshot { partition, cut: self.cuts[usize::from(partition.0)] }
            }
        }
    }

    /// Ends reading and returns the log ready for writing, without what a crash left behind.
    ///
    /// # Errors
    ///
    /// When the log has not been read to its end, is damaged, or cannot be written.
    pub fn finish(mut self) -> Result<(LogWriter, VerifyReport), LogError> {
        let place = self.place.take();
        let (store, extent, report) = self.into_parts()?;
        let mut writer = LogWriter::new(store, place, extent);
        // From now on a crash may come. The log is unharmed where that cannot be noted.
        if let Err(error) = writer.write_mark() {
            log::warn!(error = error.to_string().as_str(); "durable mark not written");
        }
        Ok((writer, report))
    }

    pub(crate) fn into_parts(
        mut self,
    ) -> Result<(Box<dyn LogStore>, Extent, VerifyReport), LogError> {
        assert!(matches!(self.stage, Stage::Done), "the log must be read before it is written");
        assert!(self.policy == Policy::Refuse, "a survey keeps too little to go on with");
        let dir = self.dir.clone();
        if self.is_refused && self.report.damages.is_empty() {
            return Err(LogError::Store(format!("reading the log in {dir} ended with an error")));
        }
        if let Some(damage) = self.report.damages.first() {
            return Err(LogError::Damaged(Box::new(damage.clone())));
        }
        let has_strays = !self.strays.is_empty();
        for stray in std::mem::take(&mut self.strays) {
            // Piece numbers are four bytes, so all keys of the place lie in this range.
            let end = [stray.as_slice(), &[0xff; 5]].concat();
            let mut from = stray;
            while let Some((key, _)) = self.store.range(&from, &end, 1)?.first() {
                self.store.remove(key)?;
                from = keys::after(key);
            }
        }
        if has_strays {
            // A torn tail must be gone before its sequence numbers are used again.
            self.store.sync()?;
        }
        let first = self.extent.frames.front().map_or(self.extent.next, |frame| frame.first);
        let has_records = first < self.extent.next;
        for (uncovered, cut) in self.extent.uncovered.iter_mut().zip(self.cuts.iter()) {
            // Which partitions have records in the frames is not known here: any may.
            *uncovered = (has_records && *cut < self.extent.next).then_some(first.max(*cut));
        }
        Ok((self.store, self.extent, self.report))
    }

    /// Reads the notes: the trim point, the gaps and the commits.
    fn read_notes(&mut self) -> Result<(), LogError> {
        let mut covered = PartitionSet::default();
        for (from, to) in [keys::TRIMS, keys::GAPS] {
            for (key, value) in self.entries(from, to, usize::MAX)? {
                match Note::decode(&value) {
                    Ok(Note::Trim { end, covered: wanted }) if key == keys::TRIM => {
                        self.extent.trimmed = end;
                        self.extent.next = end;
                        covered = wanted;
                    }
                    Ok(Note::Gap { first, end }) if key == keys::gap(first) => {
                        self.extent.gaps.insert(first, end);
                        self.report.declared_gaps.push((first, end));
                    }
                    Ok(_) => self.bad_frame(DamageKind::Note, &FrameError::Misplaced)?,
                    Err(error) => self.bad_frame(DamageKind::Note, &error)?,
                }
            }
        }
        let (mut from, to) = (keys::COMMITS.0.to_vec(), keys::COMMITS.1);
        loop {
            let entries = self.entries(&from, to, READ_BYTES)?;
            let Some((last, _)) = entries.last() else { break };
            from = keys::after(last);
            for (key, value) in &entries {
                self.read_commit(key, value)?;
            }
        }
        self.report.trimmed = self.extent.trimmed;
        self.report.next = self.extent.next;
        let found = self.extent.covered();
        for partition in covered.iter().filter(|partition| !found.contains(*partition)) {
            let damaged = DamageKind::Snapshot { partition, cut: self.extent.trimmed };
            self.damage(damaged, &"records before it were removed, and its snapshot is missing")?;
        }
        self.check_generations()
    }

    fn entries(&self, from: &[u8], to: &[u8], budget: usize) -> Result<Vec<Entry>, LogError> {
        self.store.range(from, to, budget).map_err(|error| self.store_error(error))
    }

    fn read_commit(&mut self, key: &[u8], value: &[u8]) -> Result<(), LogError> {
        let commit = SnapshotCommit::decode(value).and_then(|commit| {
            let is_in_place = key == keys::commit(commit.partition);
            if is_in_place { Ok(commit) } else { Err(FrameError::Misplaced) }
        });
        match commit {
            Ok(commit) => {
                let index = usize::from(commit.partition.0);
                self.cuts[index] = commit.cut;
                self.commits[index] = Some(commit);
                self.extent.next_generation =
                    self.extent.next_generation.max(commit.generation + 1);
                self.extent.snapshots[index].committed = Some(StoredSnapshot {
                    generation: commit.generation,
                    ..StoredSnapshot::default()
                });
                self.report.snapshots += 1;
                Ok(())
            }
            Err(error) => match key.get(1..).and_then(partition_of) {
                Some(partition) => {
                    let cut = self.extent.trimmed;
                    self.bad_frame(DamageKind::Snapshot { partition, cut }, &error)
                }
                None => self.bad_frame(DamageKind::Note, &error),
            },
        }
    }

    /// Works out how many records there are to read.
    fn count_records(&mut self) -> Result<(), LogError> {
        let in_snapshots: u64 = self.commits.iter().flatten().map(|commit| commit.records).sum();
        let last = self.store.last_key(keys::FRAMES.0, keys::FRAMES.1);
        let last = last.map_err(|error| self.store_error(error))?;
        let last = last.and_then(|key| sequence_of(&key));
        let in_frames = last.map_or(0, |last| last.0.saturating_sub(self.extent.trimmed.0));
        self.progress.records_total = in_snapshots + in_frames;
        Ok(())
    }

    fn advance(&mut self) -> Result<Option<Block>, LogError> {
        loop {
            let (scan, is_chunk) = match &mut self.stage {
                Stage::Chunks(scan) => (scan, true),
                Stage::Frames(scan) => (scan, false),
                Stage::Done => return Ok(None),
            };
            let scanned = match scan.next(&*self.store) {
                Ok(scanned) => scanned,
                Err(StoreError::Damaged(reason)) => {
                    // Where the store cannot go on, nothing after it can be reached.
                    self.stage = Stage::Done;
                    self.damage(DamageKind::Store, &reason)?;
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            };
            let block = match (scanned, is_chunk) {
                (Some(scanned), true) => self.take_chunk(scanned)?,
                (Some(scanned), false) => self.take_frame(scanned)?,
                (None, true) => {
                    self.stage = Stage::Frames(FrameScan::new(keys::FRAMES));
                    self.end_chunks()?;
                    None
                }
                (None, false) => {
                    self.stage = Stage::Done;
                    self.end_frames()?;
                    None
                }
            };
            if let Some(block) = block {
                self.progress.records += u64::from(block.count);
                self.progress.bytes += block.stored_bytes();
                self.report.stored_bytes += block.stored_bytes();
                self.report.payload_bytes += block.payload().len() as u64;
                return Ok(Some(block));
            }
        }
    }
}

impl Iterator for Replay {
    type Item = Result<Block, LogError>;

    /// Returns the next block; after an error nothing more comes.
    fn next(&mut self) -> Option<Self::Item> {
        let result = self.advance();
        if result.is_err() {
            self.stage = Stage::Done;
            self.is_refused = true;
        }
        result.transpose()
    }
}

fn partition_of(bytes: &[u8]) -> Option<PartitionId> {
    let id = u16::from_be_bytes(bytes.try_into().ok()?);
    (usize::from(id) < PARTITIONS).then_some(PartitionId(id))
}

/// Reads the sequence out of a frame's key or place; keys of other lengths have none.
fn sequence_of(key: &[u8]) -> Option<SequenceNumber> {
    let (first, _) = key.get(1..)?.split_first_chunk()?;
    Some(SequenceNumber(u64::from_be_bytes(*first)))
}
