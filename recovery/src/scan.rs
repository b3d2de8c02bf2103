//! Reads frames out of a range of the store, putting their pieces together.

use std::collections::VecDeque;

use crate::frame::{Frame, FrameAssembler, FrameError, decode_piece};
use crate::keys;
use crate::limits::READ_BYTES;
use crate::store::{Entry, LogStore, StoreError};

/// Bytes of the piece number at the end of the keys of frames and chunks.
const PIECE_KEY_BYTES: usize = 4;

/// Reads the frames of a key range in order, a megabyte at a time.
#[derive(Debug)]
pub(crate) struct FrameScan {
    next_key: Vec<u8>,
    end_key: Vec<u8>,
    buffer: VecDeque<Entry>,
}

/// What is stored under the keys of one frame.
#[derive(Debug)]
pub(crate) struct Scanned {
    /// The keys without their piece numbers.
    pub(crate) place: Vec<u8>,
    /// The frame, or why there is none. Whether it belongs there is not checked.
    pub(crate) frame: Result<Frame, FrameError>,
    /// Bytes stored, intact or not.
    pub(crate) stored_bytes: u64,
}

impl FrameScan {
    pub(crate) fn new((from, to): (&[u8], &[u8])) -> Self {
        Self { next_key: from.to_vec(), end_key: to.to_vec(), buffer: VecDeque::new() }
    }

    /// Returns what is stored for the next frame, or none at the end.
    pub(crate) fn next(&mut self, store: &dyn LogStore) -> Result<Option<Scanned>, StoreError> {
        let Some((key, value)) = self.next_entry(store)? else { return Ok(None) };
        let mut stored_bytes = value.len() as u64;
        let (place, piece) = split_key(&key);
        let place = place.to_vec();
        let mut frame = decode_piece(&value).map(|decoded| decoded.header).and_then(|header| {
            if header.piece != piece {
                return Err(FrameError::Misplaced);
            }
            Ok(FrameAssembler::new(header, value))
        });
        while self.peek(store)?.is_some_and(|(next, _)| split_key(next).0 == place) {
            let Some((key, value)) = self.next_entry(store)? else { break };
            stored_bytes += value.len() as u64;
            frame = frame.and_then(|mut assembler| {
                let decoded = decode_piece(&value)?;
                let is_next = decoded.header.piece == split_key(&key).1 && assembler.push(&decoded);
                if is_next { Ok(assembler) } else { Err(FrameError::Misplaced) }
            });
        }
        let frame = frame.and_then(FrameAssembler::finish);
        Ok(Some(Scanned { place, frame, stored_bytes }))
    }

    fn peek(&mut self, store: &dyn LogStore) -> Result<Option<&Entry>, StoreError> {
        if self.buffer.is_empty() {
            self.buffer = store.range(&self.next_key, &self.end_key, READ_BYTES)?.into();
            if let Some((last, _)) = self.buffer.back() {
                self.next_key = keys::after(last);
            }
        }
        Ok(self.buffer.front())
    }

    fn next_entry(&mut self, store: &dyn LogStore) -> Result<Option<Entry>, StoreError> {
        self.peek(store)?;
        Ok(self.buffer.pop_front())
    }
}

/// Splits a key into its place and its piece number; keys that are too short have piece 0.
fn split_key(key: &[u8]) -> (&[u8], u32) {
    match key.split_last_chunk::<PIECE_KEY_BYTES>() {
        Some((place, piece)) => (place, u32::from_be_bytes(*piece)),
        None => (key, 0),
    }
}
