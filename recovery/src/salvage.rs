//! Repair: a new data directory from everything intact in a damaged one.
//!
//! What the store still gives counts first, as it knows what was removed or written anew. What it
//! does not give, or gives as it was earlier, is searched for in its raw files. Sequence numbers
//! stay as they were; where records are missing, a note in the new log says so, and a node starts
//! with a warning.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::carve::Carved;
use crate::directory::{CopyPlan, InspectionCopy, check_is_data_directory, lock_for_reading};
use crate::error::{DamageKind, LogError, newer_record};
use crate::frame::Frame;
use crate::frame_builder::{FrameBuilder, PartitionSet};
use crate::generations::{Generations, Noted};
use crate::limits::PARTITIONS;
use crate::mark::{MarkFile, MarkState};
use crate::notes::SnapshotCommit;
use crate::record::{PartitionId, RecordCursor, SequenceNumber, UnixMillis};
use crate::redo_store::RedoStore;
use crate::replay::{Block, BlockKind, OpenMode, Policy, Replay, open};
use crate::report::VerifyReport;
use crate::sealed_file::SealedFileError;
use crate::store::StoreError;
use crate::writer::LogWriter;

/// What a repair saved, and what not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RepairReport {
    /// What was found in the damaged directory through its store; none if that did not open.
    pub source: Option<VerifyReport>,
    /// Records of the log saved.
    pub records: u64,
    /// Frames saved, and how many of them only the raw files gave.
    pub frames: u64,
    /// Frames that only the raw files gave.
    pub carved_frames: u64,
    /// Snapshots saved whole.
    pub snapshots: u64,
    /// Partitions whose snapshot is saved in part, as it was earlier, or not at all, in words.
    pub damaged_snapshots: Vec<String>,
    /// Records that are lost: first and one after the last.
    pub lost: Vec<(SequenceNumber, SequenceNumber)>,
    /// Frames whose checksum is right but whose records are not; they count as lost.
    pub unreadable_frames: u64,
}

impl RepairReport {
    /// Returns whether the store did not open, or could not be read to its end.
    fn source_gave_up(&self) -> bool {
        self.source.as_ref().is_none_or(|source| {
            source.damages.iter().any(|damage| damage.kind == DamageKind::Store)
        })
    }

    /// Returns whether nothing was lost.
    pub fn is_whole(&self) -> bool {
        self.lost.is_empty() && self.damaged_snapshots.is_empty() && self.unreadable_frames == 0
    }

    fn source_has_damaged(&self, wanted: PartitionId) -> bool {
        let source = self.source.as_ref();
        source.into_iter().flat_map(|source| &source.damages).any(|damage| match damage.kind {
            DamageKind::Snapshot { partition, .. } => partition == wanted,
            _ => false,
        })
    }
}

/// What a repair is doing, for a progress bar: a phase, and bytes or records done and in all.
pub type RepairProgress<'a> = dyn FnMut(&'static str, u64, u64) + 'a;

/// Like [`repair_with`], with the copy in the system's directory for temporary files.
///
/// # Errors
///
/// As [`repair_with`].
pub fn repair(
    dir: &Path,
    output: &Path,
    now: UnixMillis,
    progress: &mut RepairProgress<'_>,
) -> Result<RepairReport, LogError> {
    repair_with(dir, output, &std::env::temp_dir(), now, progress)
}

/// Makes a new data directory `output` from all that is intact in `dir`, which is only read.
///
/// Needs space for a copy of `dir` in the directory `temp` and for the new one.
///
/// # Errors
///
/// When a node has `dir` open, when `output` is no empty directory or lies in `dir`, when a newer
/// version wrote the log, and when reading or writing fails.
pub fn repair_with(
    dir: &Path,
    output: &Path,
    temp: &Path,
    now: UnixMillis,
    progress: &mut RepairProgress<'_>,
) -> Result<RepairReport, LogError> {
    check_is_data_directory(dir)?;
    if is_inside(output, dir) {
        let reason = format!("it lies in {}, which is only read", dir.display());
        return Err(LogError::File { action: "repair into", path: output.to_owned(), reason });
    }
    let output = &output_directory(output)?;
    let partial = partial_name(output)?;
    let plan = CopyPlan::new(dir, temp)?;
    let total = plan.bytes();
    let copy = plan.copy(|done| progress("copying", done, total))?;
    let _lock = lock_for_reading(dir)?;
    let carved = Carved::search(dir, |done, total| progress("searching", done, total))?;
    let noted = read_noted(&copy)?;
    let report = survey(&copy, &noted, progress)?;
    let mut target = open(&partial, OpenMode::Create)?;
    if let Some(block) = target.next() {
        block?;
    }
    let (writer, _) = target.finish()?;
    let repair = Repair { carved, writer, now, written: UnixMillis(0), report };
    let report = repair.run(&copy, &noted, progress)?;
    let rename = || {
        std::fs::rename(&partial, output)?;
        output.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
    };
    rename().map_err(|error| LogError::file("rename to", output, &error))?;
    Ok(report)
}

/// Whether a path that need not exist lies in an existing directory, links followed.
fn is_inside(path: &Path, dir: &Path) -> bool {
    let Ok(dir) = dir.canonicalize() else { return false };
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let existing = absolute.ancestors().find_map(|ancestor| ancestor.canonicalize().ok());
    existing.is_some_and(|existing| existing.starts_with(&dir))
}

/// Returns the path of the output without a slash at its end. Refuses what a rename could not
/// replace, before a long time is spent.
fn output_directory(output: &Path) -> Result<PathBuf, LogError> {
    let refused = |reason: &str| LogError::File {
        action: "repair into",
        path: output.to_owned(),
        reason: reason.to_owned(),
    };
    let absolute = std::path::absolute(output).map_err(|error| refused(&error.to_string()))?;
    let path: PathBuf = absolute.components().collect();
    if path.file_name().is_none() {
        return Err(refused("it has no name"));
    }
    if std::fs::symlink_metadata(&path).is_ok_and(|found| !found.is_dir()) {
        return Err(refused("it is not a directory"));
    }
    if std::fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(refused("directory is not empty"));
    }
    Ok(path)
}

/// Names the directory that becomes the output once it is whole, so that no node starts with a
/// repair that was cut short.
fn partial_name(output: &Path) -> Result<PathBuf, LogError> {
    let mut name = output.as_os_str().to_owned();
    name.push(".partial");
    let partial = PathBuf::from(name);
    if partial.exists() {
        let reason = "an earlier repair left it; remove it first".to_owned();
        return Err(LogError::File { action: "repair into", path: partial, reason });
    }
    Ok(partial)
}

/// Reads the whole store once, to learn what is damaged.
fn survey(
    copy: &InspectionCopy,
    noted: &Noted,
    progress: &mut RepairProgress<'_>,
) -> Result<RepairReport, LogError> {
    let mut report = RepairReport::default();
    if let Some(mut replay) = open_store(copy, noted)? {
        while let Some(block) = replay.next() {
            block?;
            let state = replay.progress();
            progress("reading", state.records, state.records_total);
        }
        report.source = Some(replay.report().clone());
    }
    Ok(report)
}

/// Opens the copy's store whatever its other files say; none if it does not open.
fn open_store(copy: &InspectionCopy, noted: &Noted) -> Result<Option<Replay>, LogError> {
    let store = match RedoStore::open(&copy.path().join("log"), 0) {
        Ok(store) => store,
        Err(StoreError::Damaged(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let name = copy.source().display().to_string();
    let warning = store.warning().map(str::to_owned);
    match Replay::start_with(Box::new(store), name, noted.clone(), Policy::Survey) {
        Ok(mut replay) => {
            replay.warn(warning);
            Ok(Some(replay))
        }
        Err(LogError::Damaged(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads what the files beside the store say, as far as they are intact.
fn read_noted(copy: &InspectionCopy) -> Result<Noted, LogError> {
    let mark = match MarkFile::open(&copy.path().join("mark"))?.1 {
        MarkState::Known(mark) => Some(mark),
        MarkState::New | MarkState::Damaged => None,
    };
    let generations = match Generations::read(copy.path()) {
        Ok(generations) => generations,
        Err(SealedFileError::Damaged { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    Ok(Noted { mark, generations })
}

/// A repair under way.
struct Repair {
    carved: Carved,
    writer: LogWriter,
    now: UnixMillis,
    /// When the last saved frame was written.
    written: UnixMillis,
    report: RepairReport,
}

impl Repair {
    fn run(
        mut self,
        copy: &InspectionCopy,
        noted: &Noted,
        progress: &mut RepairProgress<'_>,
    ) -> Result<RepairReport, LogError> {
        let mut replay = open_store(copy, noted)?;
        let trimmed = match &self.report.source {
            Some(source) if replay.is_some() => source.trimmed,
            _ => self.carved.trimmed,
        };
        self.writer.restore_start(trimmed);
        let stored = replay.as_ref().map_or(Vec::new(), Replay::commits);
        let damaged = self.damaged_partitions(&stored, trimmed, noted);
        let commits = self.choose_commits(&stored, &damaged);
        let cut = commits.iter().map(|commit| commit.cut).max().unwrap_or_default();
        for partition in damaged.iter() {
            match commits.iter().find(|commit| commit.partition == partition) {
                Some(commit) => self.carve_snapshot(commit, trimmed, noted)?,
                None if self.report.source_has_damaged(partition) || noted.has(partition) => {
                    let text = format!("partition {partition}: its snapshot is lost");
                    self.report.damaged_snapshots.push(text);
                }
                None => {}
            }
        }
        let mut open_snapshot: Option<PartitionId> = None;
        while let Some(block) = replay.as_mut().and_then(Iterator::next) {
            let block = block?;
            let state = replay.as_ref().map(Replay::progress).unwrap_or_default();
            progress("writing", state.records, state.records_total);
            match block.kind {
                BlockKind::Snapshot { partition } if damaged.contains(partition) => {}
                BlockKind::Snapshot { partition } => {
                    if let Some(last) = open_snapshot.filter(|last| *last != partition) {
                        self.commit(&commits, last)?;
                    }
                    open_snapshot = Some(partition);
                    self.save_chunk(partition, &block)?;
                }
                BlockKind::Frame { first } => {
                    if let Some(last) = open_snapshot.take() {
                        self.commit(&commits, last)?;
                    }
                    self.carve_frames(first)?;
                    self.save_frame(first, block.frame(), false)?;
                }
            }
        }
        if let Some(last) = open_snapshot {
            self.commit(&commits, last)?;
        }
        self.commit_empty(&commits, &damaged)?;
        self.carve_frames(SequenceNumber(u64::MAX))?;
        self.writer.restore_trim(trimmed, self.now)?;
        self.end(noted.mark.map_or(cut, |mark| mark.end.max(cut)))
    }

    /// Notes what is missing at the end, so that its numbers are not given anew, and closes.
    fn end(mut self, known: SequenceNumber) -> Result<RepairReport, LogError> {
        let next = self.writer.next_sequence();
        if next < known {
            self.report.lost.push((next, known));
            self.writer.restore_gap(known, self.now)?;
        }
        self.writer.close()?;
        Ok(self.report)
    }

    /// Returns the snapshots that count: the store's, and for damaged ones the newest whose chunks
    /// are all in the raw files; if there is none, the newest.
    fn choose_commits(
        &self,
        stored: &[SnapshotCommit],
        damaged: &PartitionSet,
    ) -> Vec<SnapshotCommit> {
        if damaged.iter().next().is_none() {
            return stored.to_vec();
        }
        let newest_frames = self.carved.newest_frames();
        // A crash had undone a snapshot if records before its cut were written after it.
        let is_undone = |commit: &SnapshotCommit| {
            let before = newest_frames.partition_point(|(first, _)| *first < commit.cut);
            newest_frames[..before].last().is_some_and(|(_, newest)| *newest > commit.written)
        };
        let mut chosen: Vec<SnapshotCommit> =
            stored.iter().filter(|commit| !damaged.contains(commit.partition)).copied().collect();
        for partition in damaged.iter() {
            let range = (partition, 0)..=(partition, u64::MAX);
            let carved = self.carved.commits.range(range).map(|(_, commit)| *commit);
            let stored = stored.iter().filter(|commit| commit.partition == partition).copied();
            let mut found: Vec<SnapshotCommit> = carved.chain(stored).collect();
            found.sort_by_key(|commit| (is_undone(commit), std::cmp::Reverse(commit.generation)));
            let whole = found.iter().find(|commit| self.carved.has_chunks_of(commit));
            chosen.extend(whole.or(found.first()));
        }
        chosen
    }

    /// Returns the partitions whose snapshot the store does not give: all, if it gave up.
    fn damaged_partitions(
        &self,
        stored: &[SnapshotCommit],
        trimmed: SequenceNumber,
        noted: &Noted,
    ) -> PartitionSet {
        let mut damaged = PartitionSet::default();
        for partition in (0..PARTITIONS as u16).map(PartitionId) {
            if self.report.source_gave_up() || self.report.source_has_damaged(partition) {
                damaged.insert(partition);
            }
        }
        if noted.generations.is_none() {
            // An earlier version: only the raw files may tell that a snapshot is an older one.
            let newer = self.carved.commits.values().filter(|commit| commit.cut <= trimmed);
            let is_newer = |commit: &&SnapshotCommit| {
                let same = |of: &&SnapshotCommit| of.partition == commit.partition;
                stored.iter().find(same).is_some_and(|of| of.generation < commit.generation)
            };
            newer.filter(is_newer).for_each(|commit| damaged.insert(commit.partition));
        }
        damaged
    }

    /// Saves what the raw files hold of a snapshot that the store does not give whole.
    fn carve_snapshot(
        &mut self,
        commit: &SnapshotCommit,
        trimmed: SequenceNumber,
        noted: &Noted,
    ) -> Result<(), LogError> {
        let partition = commit.partition;
        let mut missing = 0;
        for number in 0..commit.chunks {
            match self.carved.chunk(partition, commit.generation, number) {
                Some(frame) => self.save_chunk(partition, &Block::of_chunk(partition, frame))?,
                None => missing += 1,
            }
        }
        self.writer.commit_snapshot_at(partition, commit.epoch, commit.cut, commit.written)?;
        if missing > 0 {
            let text = format!("partition {partition}: {missing} of {} chunks", commit.chunks);
            self.report.damaged_snapshots.push(format!("{text} are lost"));
        } else if let Some(certainty) = newer_lost(commit, trimmed, noted) {
            let text = format!("partition {partition}: its snapshot is of record {}", commit.cut);
            self.report.damaged_snapshots.push(format!("{text}, and a newer one {certainty} lost"));
        } else {
            self.report.snapshots += 1;
        }
        Ok(())
    }

    fn commit(
        &mut self,
        commits: &[SnapshotCommit],
        partition: PartitionId,
    ) -> Result<(), LogError> {
        let Some(commit) = commits.iter().find(|commit| commit.partition == partition) else {
            return Ok(());
        };
        self.writer.commit_snapshot_at(partition, commit.epoch, commit.cut, commit.written)?;
        self.report.snapshots += 1;
        Ok(())
    }

    /// Commits the snapshots without chunks: partitions that were empty.
    fn commit_empty(
        &mut self,
        commits: &[SnapshotCommit],
        damaged: &PartitionSet,
    ) -> Result<(), LogError> {
        let is_left =
            |commit: &&SnapshotCommit| commit.chunks == 0 && !damaged.contains(commit.partition);
        for commit in commits.iter().filter(is_left) {
            self.commit(commits, commit.partition)?;
        }
        Ok(())
    }

    fn save_chunk(&mut self, partition: PartitionId, block: &Block) -> Result<(), LogError> {
        match builder_of(block.payload(), block.count)? {
            Some(mut chunk) => self.writer.write_chunk(partition, &mut chunk, block.written),
            None => {
                self.report.unreadable_frames += 1;
                Ok(())
            }
        }
    }

    /// Saves a frame of records at its place; what lies between it and the last is lost.
    fn save_frame(
        &mut self,
        first: SequenceNumber,
        frame: &Frame,
        is_carved: bool,
    ) -> Result<(), LogError> {
        let Some(mut builder) = builder_of(frame.payload(), frame.header.count)? else {
            self.report.unreadable_frames += 1;
            return Ok(());
        };
        let next = self.writer.next_sequence();
        if first > next {
            self.report.lost.push((next, first));
            self.writer.restore_gap(first, self.now)?;
        } else if first < next && self.report.frames > 0 {
            self.report.unreadable_frames += 1;
            return Ok(());
        }
        self.writer.restore_frame(first, &mut builder, frame.header.written)?;
        self.written = frame.header.written;
        self.report.frames += 1;
        self.report.carved_frames += u64::from(is_carved);
        self.report.records += u64::from(frame.header.count);
        Ok(())
    }

    /// Saves the frames that only the raw files hold, up to one that the store gives.
    fn carve_frames(&mut self, limit: SequenceNumber) -> Result<(), LogError> {
        let mut from = self.writer.next_sequence();
        while let Some(first) = self.carved.next_frame(from).filter(|first| *first < limit) {
            from = first.plus(1);
            let Some(frame) = self.carved.frame(first, self.written) else { continue };
            let end = first.plus(frame.header.count.into());
            if end <= limit {
                self.save_frame(first, &frame, true)?;
                from = end;
            }
        }
        Ok(())
    }
}

/// Says whether there was a newer snapshot than this one, if so or if nobody knows.
fn newer_lost(
    commit: &SnapshotCommit,
    trimmed: SequenceNumber,
    noted: &Noted,
) -> Option<&'static str> {
    match &noted.generations {
        Some(noted) => (commit.generation < noted.of(commit.partition)).then_some("is"),
        // An earlier version: records may be removed that a newer one had.
        None => (commit.cut < trimmed).then_some("may be"),
    }
}

/// Checks the records of a payload and puts them into a builder; none if any is unreadable.
fn builder_of(payload: &[u8], count: u32) -> Result<Option<FrameBuilder>, LogError> {
    let mut builder = FrameBuilder::new();
    for record in RecordCursor::new(payload, count) {
        match record {
            Ok(record) => builder.push(&record),
            Err(error) => return newer_record(&error).map_or(Ok(None), Err),
        };
    }
    Ok(Some(builder))
}
