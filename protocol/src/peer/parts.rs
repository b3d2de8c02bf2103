//! Messages that are longer than a frame should be: cut into parts, and joined again.
//!
//! All parts but the last are frames of [`Role::Part`] with the message's id, and the last has the
//! message's role. A side sends the parts of one message at a time, and whole messages between
//! them: so who receives holds one unfinished message a connection at most.

use bytes::{Bytes, BytesMut};

use super::frame::{Frame, FrameError, Role};
use crate::limits::PEER_PART_BYTES_MAX;

/// A message that is being sent in parts.
#[derive(Debug)]
pub struct Parts {
    /// What is left of it.
    rest: Frame,
}

impl Parts {
    /// Cuts a message that is longer than a part; a shorter one is given back.
    ///
    /// # Errors
    /// The message, which is to be sent as one frame.
    pub fn cut(message: Frame) -> Result<Self, Frame> {
        match message.body.len() > PEER_PART_BYTES_MAX {
            true => Ok(Parts { rest: message }),
            false => Err(message),
        }
    }

    /// Takes the next part. The body is not copied.
    pub fn take(&mut self) -> Frame {
        let Frame { role, kind, id, ref mut body } = self.rest;
        let part = body.split_to(body.len().min(PEER_PART_BYTES_MAX));
        let role = if body.is_empty() { role } else { Role::Part };
        Frame { role, kind, id, body: part }
    }

    /// Whether all parts are taken.
    pub fn is_done(&self) -> bool {
        self.rest.body.is_empty()
    }
}

/// Joins the parts that come on a connection.
#[derive(Debug)]
pub struct Joiner {
    bytes_max: usize,
    /// The message that is not whole yet, by its id.
    open: Option<(u64, BytesMut)>,
}

impl Joiner {
    /// Returns what joins messages with bodies of `bytes_max` bytes at most.
    pub fn new(bytes_max: usize) -> Self {
        Joiner { bytes_max, open: None }
    }

    /// Whether there is a message that is not whole yet.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Takes a frame, and returns the message that it is, or completes. An error is one at once:
    /// its request has failed, whatever there is of another answer.
    ///
    /// Copies parts into one buffer, which grows as they come.
    ///
    /// # Errors
    /// Parts that no [`Parts`] makes: of two messages at a time, or too long together.
    pub fn join(&mut self, frame: Frame) -> Result<Option<Frame>, FrameError> {
        let is_part = frame.role == Role::Part;
        let of_open = self.open.as_ref().is_some_and(|(id, _)| *id == frame.id);
        match &mut self.open {
            Some(_) if of_open && frame.role == Role::Error => {
                self.open = None;
                Ok(Some(frame))
            }
            Some((_, body)) if of_open => {
                check_length(body.len() + frame.body.len(), self.bytes_max)?;
                body.extend_from_slice(&frame.body);
                if is_part {
                    return Ok(None);
                }
                let body = self.open.take().map_or_else(Bytes::new, |(_, body)| body.freeze());
                Ok(Some(Frame { body, ..frame }))
            }
            &mut Some((open, _)) if is_part => {
                Err(FrameError::PartOfAnother { found: frame.id, open })
            }
            None if is_part => {
                check_length(frame.body.len(), self.bytes_max)?;
                self.open = Some((frame.id, BytesMut::from(&frame.body[..])));
                Ok(None)
            }
            Some(_) | None => Ok(Some(frame)),
        }
    }
}

fn check_length(bytes: usize, max: usize) -> Result<(), FrameError> {
    if bytes > max { Err(FrameError::PartsTooLong { bytes, max }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;

    fn frame(role: Role, id: u64, body: &[u8]) -> Frame {
        Frame { role, kind: Kind::new(3), id, body: Bytes::copy_from_slice(body) }
    }

    #[test]
    fn a_long_message_comes_back_and_others_pass_between_its_parts() {
        let body: Vec<u8> = (0..2 * PEER_PART_BYTES_MAX + 1).map(|at| at as u8).collect();
        let (long, short) = (frame(Role::Reply, 7, &body), frame(Role::Reply, 8, b"short"));
        assert_eq!(Parts::cut(short.clone()).unwrap_err(), short);
        let mut parts = Parts::cut(long.clone()).unwrap();
        let mut joiner = Joiner::new(body.len());
        for last in [false, false, true] {
            let part = parts.take();
            assert_eq!((part.role == Role::Part, parts.is_done()), (!last, last));
            let joined = joiner.join(part).unwrap();
            assert_eq!(joined, last.then(|| long.clone()));
            assert_eq!(joiner.is_open(), !last);
            assert_eq!(joiner.join(short.clone()), Ok(Some(short.clone())));
        }
    }

    #[test]
    fn what_is_held_of_parts_is_bounded() {
        let mut joiner = Joiner::new(10);
        assert_eq!(joiner.join(frame(Role::Part, 1, b"12345")), Ok(None));
        let another = FrameError::PartOfAnother { found: 2, open: 1 };
        assert_eq!(joiner.join(frame(Role::Part, 2, b"1")), Err(another));
        for role in [Role::Part, Role::Request] {
            let too_long = FrameError::PartsTooLong { bytes: 11, max: 10 };
            assert_eq!(joiner.join(frame(role, 1, b"678901")), Err(too_long));
        }
        let error = frame(Role::Error, 1, b"it failed");
        assert_eq!(joiner.join(error.clone()), Ok(Some(error)));
        assert!(!joiner.is_open());
        let too_long = FrameError::PartsTooLong { bytes: 11, max: 10 };
        assert_eq!(joiner.join(frame(Role::Part, 3, b"12345678901")), Err(too_long));
    }
}
