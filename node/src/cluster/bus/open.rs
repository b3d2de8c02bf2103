//! Which connections are open, for operators.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use super::locked;
use crate::clock;
use crate::cluster::table::NodeId;
use crate::records::UnixMillis;

/// Who has made a connection, and asks on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// This node.
    To,
    /// The peer.
    From,
}

impl Direction {
    /// As Redis Cluster calls it.
    pub fn name(self) -> &'static str {
        match self {
            Direction::To => "to",
            Direction::From => "from",
        }
    }
}

/// A connection that is open, and past its handshake. A peer has one of each class at most in
/// each direction, and several of class forward; it need not be a member of the cluster, as long
/// as it only wants to join or is an operator's tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenLink {
    /// Who has made it.
    pub direction: Direction,
    /// Who is at the other end.
    pub peer: NodeId,
    /// Since when it is open.
    pub since: UnixMillis,
    /// Room of its buffer of what is to be written, in bytes.
    pub buffer_bytes: usize,
    /// Bytes that the system has not taken yet.
    pub unsent_bytes: usize,
}

/// What a connection has to write: its own task changes it, others read it.
#[derive(Debug, Default)]
pub(super) struct Sending {
    buffer_bytes: AtomicUsize,
    unsent_bytes: AtomicUsize,
}

impl Sending {
    /// Notes what there is to write now, and the buffer's room.
    pub(super) fn note(&self, unsent_bytes: usize, buffer_bytes: usize) {
        self.unsent_bytes.store(unsent_bytes, Relaxed);
        self.buffer_bytes.store(buffer_bytes, Relaxed);
    }
}

/// The open connections, in the order in which they were made.
#[derive(Default)]
pub(super) struct OpenLinks(Mutex<Links>);

#[derive(Default)]
struct Links {
    open: BTreeMap<u64, Link>,
    latest: u64,
}

struct Link {
    direction: Direction,
    peer: NodeId,
    since: UnixMillis,
    sending: Arc<Sending>,
}

/// Counts a connection as open, until it is dropped.
pub(super) struct Opened<'a>(&'a OpenLinks, u64);

impl OpenLinks {
    /// Notes that a connection is open.
    pub(super) fn add(
        &self,
        direction: Direction,
        peer: NodeId,
        sending: Arc<Sending>,
    ) -> Opened<'_> {
        let mut links = locked(&self.0);
        links.latest += 1;
        let number = links.latest;
        links.open.insert(number, Link { direction, peer, since: clock::now(), sending });
        Opened(self, number)
    }

    /// Returns what is open now.
    pub(super) fn list(&self) -> Vec<OpenLink> {
        let look = |Link { direction, peer, since, sending }: &Link| OpenLink {
            direction: *direction,
            peer: *peer,
            since: *since,
            buffer_bytes: sending.buffer_bytes.load(Relaxed),
            unsent_bytes: sending.unsent_bytes.load(Relaxed),
        };
        locked(&self.0).open.values().map(look).collect()
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        locked(&self.0.0).open.remove(&self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_listed_while_it_is_open_with_what_it_has_to_write() {
        let links = OpenLinks::default();
        let sending = Arc::<Sending>::default();
        let first = links.add(Direction::To, NodeId(7), Arc::clone(&sending));
        let second = links.add(Direction::From, NodeId(7), Arc::default());
        sending.note(5, 64);
        let listed: Vec<_> = (links.list().iter())
            .map(|link| (link.direction, link.unsent_bytes, link.buffer_bytes))
            .collect();
        assert_eq!(listed, [(Direction::To, 5, 64), (Direction::From, 0, 0)]);
        drop(first);
        assert_eq!(links.list().len(), 1);
        drop(second);
        assert_eq!(links.list(), []);
    }
}
