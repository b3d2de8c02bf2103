//! The keyspace as it stood at a point of the log.
//!
//! A partition's records before its snapshot's cut may be gone from the log, so the keyspace can
//! be rebuilt from the largest cut on; earlier only if the log is whole from its first record.

use distcache_recovery::limits::PARTITIONS;
use distcache_recovery::state::{Item, Keyspace};
use distcache_recovery::{BlockKind, PartitionId, SequenceNumber, UnixMillis};

use super::source::{LogReader, Source};
use super::time::{Clock, Point};
use super::{Outcome, Session};

/// A point in the log, found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    /// Records before this one have taken effect.
    pub(super) end: SequenceNumber,
    /// What the time was: keys with an earlier deadline were gone for every client.
    pub(super) time: UnixMillis,
}

/// From where to where the log can rebuild the keyspace.
#[derive(Clone, Copy, Debug)]
struct Range {
    /// The first record that is in the log.
    first: SequenceNumber,
    next: SequenceNumber,
    /// When the snapshots were taken, for lack of an earlier record.
    begin_written: UnixMillis,
    last_written: UnixMillis,
    /// The largest cut, and when its snapshot was committed.
    cut: Option<(SequenceNumber, UnixMillis)>,
    /// Whether nothing is missing from record 0 on.
    is_whole: bool,
}

/// What the fold begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    /// The snapshots; records before their cuts are left out.
    Snapshots,
    /// Nothing; every record of the log counts.
    Nothing,
}

/// Finds points in the log. Reads it once from end to end.
pub(super) fn locate<const N: usize>(
    source: &Source<'_>,
    session: &Session,
    points: [Point; N],
) -> anyhow::Result<([Moment; N], Plan)> {
    let mut reader = source.read()?;
    let mut found: [Option<Moment>; N] = [None; N];
    let mut first = None;
    let mut last_written = UnixMillis(0);
    while let Some(block) = reader.next_block()? {
        let BlockKind::Frame { first: begin } = block.kind else { continue };
        first.get_or_insert(begin);
        for (moment, point) in found.iter_mut().zip(points) {
            let end = match point {
                Point::Sequence(sequence) if sequence < begin.plus(block.count.into()) => {
                    // A record before this block was removed, or is missing.
                    let is_here = sequence >= begin;
                    let time = if is_here { block.written } else { last_written };
                    Moment { end: sequence.plus(1), time }
                }
                Point::Time(time) if time < block.written => Moment { end: begin, time },
                Point::Sequence(_) | Point::Time(_) | Point::End => continue,
            };
            moment.get_or_insert(end);
        }
        last_written = block.written;
    }
    let range = Range::new(&reader, first, last_written);
    let mut moments = [Moment { end: range.next, time: range.last_written }; N];
    for ((moment, found), point) in moments.iter_mut().zip(found).zip(points) {
        match (found, point) {
            (Some(found), Point::Time(time)) if range.is_before(found.end, time) => {
                anyhow::bail!(
                    "the keyspace at {} cannot be rebuilt; {}",
                    session.clock.show(time),
                    range.available(&session.clock)
                )
            }
            (Some(found), Point::Sequence(_)) if found.time == UnixMillis(0) => {
                *moment = Moment { end: found.end, time: range.begin_written };
            }
            (Some(found), _) => *moment = found,
            (None, Point::Time(time)) => moment.time = time,
            (None, Point::End) => {}
            (None, Point::Sequence(sequence)) if sequence.plus(1) == range.next => {}
            (None, Point::Sequence(sequence)) => {
                anyhow::bail!(
                    "record {sequence} is not in the log; {}",
                    range.available(&session.clock)
                )
            }
        }
    }
    let first = moments.iter().map(|moment| moment.end).min().unwrap_or(range.next);
    let base = range.base(first, &session.clock)?;
    Ok((moments, Plan { base, outcome: reader.finish() }))
}

/// How the keyspace is rebuilt.
#[derive(Debug)]
pub(super) struct Plan {
    base: Base,
    /// What reading the whole log found.
    outcome: Outcome,
}

/// Rebuilds the keyspace step by step.
#[derive(Debug)]
pub(super) struct Rebuild<'a> {
    reader: LogReader<'a>,
    plan: Plan,
    cuts: Box<[SequenceNumber; PARTITIONS]>,
    pub(super) keyspace: Keyspace,
    /// A block that goes on after the last moment, if the reader stopped inside one.
    pending: Option<distcache_recovery::Block>,
    applied: SequenceNumber,
}

impl Range {
    fn new(
        reader: &LogReader<'_>,
        first: Option<SequenceNumber>,
        last_written: UnixMillis,
    ) -> Self {
        let report = reader.report();
        let snapshots = reader.replay().snapshots();
        let cut = snapshots.iter().max_by_key(|snapshot| snapshot.cut);
        let first = first.unwrap_or(report.next);
        let begin_written = cut.map_or(UnixMillis(0), |snapshot| snapshot.written);
        Self {
            first,
            next: report.next,
            begin_written,
            last_written: if last_written == UnixMillis(0) { begin_written } else { last_written },
            cut: cut.map(|snapshot| (snapshot.cut, snapshot.written)),
            is_whole: first == SequenceNumber(0)
                && report.trimmed == SequenceNumber(0)
                && report.declared_gaps.is_empty()
                && report.is_intact(),
        }
    }

    /// Returns whether a time is before the log, although the first record after it is known.
    fn is_before(&self, end: SequenceNumber, time: UnixMillis) -> bool {
        let is_at_begin = !self.is_whole && end <= self.first;
        is_at_begin && self.cut.is_none_or(|(_, written)| time < written)
    }

    /// Chooses what to begin with for a state before record `end`.
    fn base(&self, end: SequenceNumber, clock: &Clock) -> anyhow::Result<Base> {
        match self.cut {
            Some((cut, _)) if end >= cut => Ok(Base::Snapshots),
            _ if self.is_whole => Ok(Base::Nothing),
            None if end >= self.first => Ok(Base::Nothing),
            _ => anyhow::bail!(
                "the keyspace before record {end} cannot be rebuilt; {}",
                self.available(clock)
            ),
        }
    }

    /// Says in words for which points the keyspace can be rebuilt.
    fn available(&self, clock: &Clock) -> String {
        let from = if self.is_whole { None } else { self.cut };
        let first = from.map_or(self.first, |(cut, _)| cut);
        if first >= self.next {
            return match from {
                Some((_, written)) => format!(
                    "the log has no record after its snapshots, of {}: only its end is available",
                    clock.show(written)
                ),
                None => "the log has no records".to_owned(),
            };
        }
        let since =
            from.map_or(String::new(), |(_, written)| format!(" ({})", clock.show(written)));
        let last = self.next.0.saturating_sub(1);
        // Right before its first record the log can be rebuilt as well.
        let first = first.0.saturating_sub(u64::from(from.is_some()));
        format!(
            "available are the records {first}{since} to {last} ({})",
            clock.show(self.last_written)
        )
    }
}

impl<'a> Rebuild<'a> {
    pub(super) fn new(source: &Source<'a>, plan: Plan) -> anyhow::Result<Self> {
        let reader = source.read()?;
        let cuts = match plan.base {
            Base::Snapshots => Box::new(*reader.replay().cuts()),
            Base::Nothing => Box::new([SequenceNumber(0); PARTITIONS]),
        };
        let keyspace = Keyspace::default();
        let applied = SequenceNumber(0);
        Ok(Self { reader, plan, cuts, keyspace, pending: None, applied })
    }

    /// Applies the records up to a moment that is not before the last one.
    pub(super) fn advance(&mut self, to: Moment) -> anyhow::Result<()> {
        loop {
            let block = match self.pending.take() {
                Some(block) => block,
                None => match self.reader.next_block()? {
                    Some(block) => block,
                    None => break,
                },
            };
            let Self { reader, cuts, keyspace, .. } = self;
            let applied = self.applied;
            let end = match block.kind {
                BlockKind::Snapshot { .. } if self.plan.base == Base::Nothing => continue,
                BlockKind::Snapshot { .. } => None,
                BlockKind::Frame { first } => Some(first.plus(block.count.into())),
            };
            // A record that cannot be decoded ends its block; that is noted, and reading goes on.
            let _ = reader.visit(&block, |located| {
                let record = &located.record;
                let is_due = located.sequence.is_none_or(|at| {
                    applied <= at && at < to.end && at >= cuts[usize::from(record.partition.0)]
                });
                if is_due {
                    keyspace.apply(record)?;
                }
                Ok(std::ops::ControlFlow::Continue(()))
            })?;
            if end.is_some_and(|end| end > to.end) {
                self.pending = Some(block);
                break;
            }
        }
        self.applied = to.end;
        Ok(())
    }

    /// Ends reading; tells the user about records that could not be decoded.
    pub(super) fn finish(self) -> Outcome {
        match self.reader.finish_records() {
            Outcome::Clean => self.plan.outcome,
            Outcome::Damaged => Outcome::Damaged,
        }
    }
}

/// A key as it stood at a moment.
pub(super) type Entry<'a> = (u8, PartitionId, &'a [u8], &'a Item);

/// Returns the keys that a client could see at a moment, by database and partition: those whose
/// deadline has not passed, in partitions that are not still being received.
pub(super) fn live(keyspace: &Keyspace, at: Moment) -> impl Iterator<Item = Entry<'_>> {
    keyspace.iter().filter(move |(_, partition, _, item)| {
        let is_expired = item.deadline.is_some_and(|deadline| deadline <= at.time);
        !is_expired && !keyspace.is_received(*partition)
    })
}
