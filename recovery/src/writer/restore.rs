//! Writing what a repair saved, with the sequence numbers that it had.

use super::LogWriter;
use crate::error::LogError;
use crate::frame_builder::FrameBuilder;
use crate::keys;
use crate::notes::Note;
use crate::record::{SequenceNumber, UnixMillis};

impl LogWriter {
    /// Lets an empty log begin at a trim point.
    pub(crate) fn restore_start(&mut self, trimmed: SequenceNumber) {
        self.extent.next = trimmed;
    }

    /// Notes the trim point, once the snapshots that cover what lies before it are there.
    pub(crate) fn restore_trim(
        &mut self,
        trimmed: SequenceNumber,
        now: UnixMillis,
    ) -> Result<(), LogError> {
        self.check_poison()?;
        self.write_trim(trimmed, now)
    }

    /// Declares that the records from the next one up to `end` are missing.
    pub(crate) fn restore_gap(
        &mut self,
        end: SequenceNumber,
        now: UnixMillis,
    ) -> Result<(), LogError> {
        self.check_poison()?;
        let first = self.extent.next;
        let result = self.store.insert(&keys::gap(first), &Note::Gap { first, end }.encode(now));
        self.poison_on_error(result)?;
        self.extent.gaps.insert(first, end);
        self.extent.next = end;
        Ok(())
    }

    /// Appends a frame whose first record has this sequence.
    pub(crate) fn restore_frame(
        &mut self,
        first: SequenceNumber,
        frame: &mut FrameBuilder,
        written: UnixMillis,
    ) -> Result<(), LogError> {
        self.extent.next = first;
        self.append(frame, written).map(|_| ())
    }
}
