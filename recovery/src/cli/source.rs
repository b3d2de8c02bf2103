//! What a subcommand reads: a private copy of the data directory, with progress, and with all
//! damage noted that was met on the way.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use distcache_recovery::{
    Block, BlockKind, CopyPlan, Damage, InspectionCopy, LogError, Record, Replay, SequenceNumber,
    UnixMillis, VerifyReport,
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::format::size;
use super::scratch::{ELSEWHERE, Scratch};
use super::{Outcome, Session};

/// Longest time between two looks of the progress bar.
const TICK: Duration = Duration::from_millis(100);

/// A private copy of the data directory, removed when dropped.
#[derive(Debug)]
pub(super) struct Source<'a> {
    session: &'a Session,
    // Before the folder that it is in: dropped in this order.
    copy: InspectionCopy,
    _scratch: Scratch,
    /// Bytes of what was copied.
    pub(super) disk_bytes: u64,
}

/// Reads the log of a [`Source`] from end to end.
#[derive(Debug)]
pub(super) struct LogReader<'a> {
    session: &'a Session,
    replay: Replay,
    bar: ProgressBar,
    /// Records that cannot be decoded, which only readers of records notice.
    damages: Vec<Damage>,
}

/// A record of the log or of a snapshot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Located<'a> {
    /// Its number; in a snapshot it has none.
    pub(super) sequence: Option<SequenceNumber>,
    /// When it was written.
    pub(super) written: UnixMillis,
    /// The record.
    pub(super) record: Record<'a>,
}

impl<'a> Source<'a> {
    /// Copies the log of the session's data directory.
    pub(super) fn open(session: &'a Session) -> anyhow::Result<Self> {
        Self::open_by(session, CopyPlan::new)
    }

    /// Copies all that a node reads at its start.
    pub(super) fn open_all(session: &'a Session) -> anyhow::Result<Self> {
        Self::open_by(session, CopyPlan::of_all)
    }

    fn open_by(
        session: &'a Session,
        plan: fn(&Path, &Path) -> Result<CopyPlan, LogError>,
    ) -> anyhow::Result<Self> {
        let scratch = Scratch::new(&session.temp_dir)?;
        let plan = plan(&session.dir, scratch.path()).map_err(explain)?;
        session.note_copy(&plan);
        let disk_bytes = plan.bytes();
        let bar = session.bar(true);
        bar.set_style(style("copying {decimal_bytes} of {decimal_total_bytes} {wide_bar} {eta}"));
        bar.set_length(disk_bytes);
        let copied = plan.copy(|copied| bar.set_position(copied));
        bar.finish_and_clear();
        let copy = copied.context(ELSEWHERE)?;
        Ok(Self { session, copy, disk_bytes, _scratch: scratch })
    }

    /// Returns the copy.
    pub(super) fn copy(&self) -> &InspectionCopy {
        &self.copy
    }

    /// Begins to read the log; may be called again when the first reader is gone.
    pub(super) fn read(&self) -> anyhow::Result<LogReader<'a>> {
        let replay = self.copy.open()?;
        let bar = self.session.bar(self.session.draws_over_output);
        bar.set_style(style("reading {percent}% {wide_bar} {eta}  {msg}"));
        bar.set_length(replay.progress().records_total);
        Ok(LogReader { session: self.session, replay, bar, damages: Vec::new() })
    }
}

impl LogReader<'_> {
    /// Returns the next intact block.
    pub(super) fn next_block(&mut self) -> anyhow::Result<Option<Block>> {
        let block = self.replay.next().transpose()?;
        let progress = self.replay.progress();
        self.bar.set_position(progress.records);
        if !self.bar.is_hidden() {
            self.bar.set_message(size(progress.bytes));
        }
        Ok(block)
    }

    /// Hands every readable record of a block to `visit`, until that breaks.
    pub(super) fn visit(
        &mut self,
        block: &Block,
        mut visit: impl FnMut(&Located<'_>) -> anyhow::Result<ControlFlow<()>>,
    ) -> anyhow::Result<ControlFlow<()>> {
        for (index, record) in (0..).zip(block.records()) {
            let record = match record {
                Ok(record) => record,
                Err(error) => match self.replay.record_error(block.kind, index, &error) {
                    LogError::Damaged(damage) => {
                        // A block that is visited in two steps meets the same damage twice.
                        if !self.damages.contains(&damage) {
                            self.damages.push(*damage);
                        }
                        break;
                    }
                    error => return Err(error.into()),
                },
            };
            let sequence = match block.kind {
                BlockKind::Frame { first } => Some(first.plus(index.into())),
                BlockKind::Snapshot { .. } => None,
            };
            let located = Located { sequence, written: block.written, record };
            if visit(&located)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Returns the replay that reads.
    pub(super) fn replay(&self) -> &Replay {
        &self.replay
    }

    /// Returns what was found so far, records that cannot be decoded included.
    pub(super) fn report(&self) -> VerifyReport {
        let mut report = self.replay.report().clone();
        report.damages.extend(self.damages.iter().cloned());
        report
    }

    /// Ends reading; tells the user about damage and what else is out of the ordinary.
    pub(super) fn finish(self) -> Outcome {
        self.bar.finish_and_clear();
        let report = self.report();
        for warning in &report.warnings {
            self.session.warn(&format!("warning: {warning}"));
        }
        for (first, end) in &report.declared_gaps {
            let last = end.0.saturating_sub(1);
            self.session.warn(&format!(
                "warning: records {first} to {last} are missing since an earlier repair"
            ));
        }
        self.tell(&report.damages)
    }

    /// Ends reading; tells only about records that cannot be decoded, for a second reader.
    pub(super) fn finish_records(self) -> Outcome {
        self.bar.finish_and_clear();
        self.tell(&self.damages)
    }

    fn tell(&self, damages: &[Damage]) -> Outcome {
        for damage in damages {
            self.session.warn(&damage.to_string());
        }
        if damages.is_empty() { Outcome::Clean } else { Outcome::Damaged }
    }
}

impl Session {
    /// Plans the copy of the data directory and says how much space it needs.
    pub(super) fn plan(&self, scratch: &Scratch) -> anyhow::Result<CopyPlan> {
        let plan = CopyPlan::new(&self.dir, scratch.path()).map_err(explain)?;
        self.note_copy(&plan);
        Ok(plan)
    }

    pub(super) fn note_copy(&self, plan: &CopyPlan) {
        self.note(&format!(
            "working on a private copy of {}, which takes {} in {}",
            self.dir.display(),
            size(plan.bytes()),
            self.temp_dir.display()
        ));
    }

    /// Returns a progress bar; one that draws nothing if nobody would see it.
    pub(super) fn bar(&self, may_draw: bool) -> ProgressBar {
        let is_seen = may_draw && !self.is_quiet && std::io::stderr().is_terminal();
        if !is_seen {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.enable_steady_tick(TICK);
        bar
    }
}

pub(super) fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Says what to do about a directory that is in use.
pub(super) fn explain(error: LogError) -> anyhow::Error {
    let is_in_use = matches!(error, LogError::InUse { .. });
    let error = anyhow::Error::from(error);
    if is_in_use { error.context("stop the node first") } else { error }
}
