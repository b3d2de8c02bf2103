//! Which accepted connections are served: one a peer and class, and several of class Forward.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use distcache_protocol::peer::{Class, Identity, Refusal};
use tokio::sync::{Semaphore, oneshot};

use super::limits::{INBOUND_MAX, REPLACED_MAX, handled_bytes_max, handled_max};

/// The accepted connections.
///
/// A node makes at most one connection a class, so a second one replaces the first, whose end was
/// not noticed. A process that was replaced by another one of the same node id, and comes back,
/// shows that both run: it is refused.
#[derive(Default)]
pub(super) struct Admissions {
    open: HashMap<(u64, Class), Admitted>,
    /// Kept while handlers of a connection that has ended still work. Those of class Forward share
    /// one.
    rooms: HashMap<(u64, Class), Arc<Room>>,
    /// Node id and incarnation, the latest last.
    replaced: VecDeque<(u64, u64)>,
    latest: u64,
}

struct Admitted {
    number: u64,
    incarnation: u64,
    /// Dropped when the connection is replaced.
    _replaced: oneshot::Sender<()>,
}

/// How much of a peer's requests is handled at once. Its next connection shares it with handlers
/// that the one before has left, so reconnecting gives nobody more.
pub(super) struct Room {
    pub(super) requests: Arc<Semaphore>,
    pub(super) bytes: Arc<Semaphore>,
}

/// A connection that may be served.
#[derive(Debug)]
pub(super) struct Admission {
    /// By which it is released.
    pub(super) number: u64,
    /// Ends when another connection takes its place.
    pub(super) replaced: oneshot::Receiver<()>,
    pub(super) room: Arc<Room>,
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Room").field("requests", &self.requests.available_permits()).finish()
    }
}

impl Admissions {
    /// Admits a connection of `peer` to the node `own`.
    pub(super) fn admit(
        &mut self,
        own: u64,
        peer: &Identity,
        class: Class,
    ) -> Result<Admission, Refusal> {
        if self.replaced.contains(&(peer.node, peer.incarnation)) {
            return Err(Refusal::duplicate_id(peer.node));
        }
        let key = (peer.node, class);
        if self.open.len() >= INBOUND_MAX && !self.open.contains_key(&key) {
            return Err(Refusal::busy(own, INBOUND_MAX));
        }
        let former: Vec<u64> = (Class::all())
            .filter_map(|class| self.open.get(&(peer.node, class)))
            .map(|admitted| admitted.incarnation)
            .filter(|&incarnation| incarnation != peer.incarnation)
            .collect();
        for incarnation in former {
            self.remember_replaced((peer.node, incarnation));
        }
        self.latest += 1;
        let room = self.room((peer.node, sharing(class)));
        let (sender, replaced) = oneshot::channel();
        let admitted =
            Admitted { number: self.latest, incarnation: peer.incarnation, _replaced: sender };
        self.open.insert(key, admitted);
        Ok(Admission { number: self.latest, replaced, room })
    }

    /// Forgets a connection that has ended, unless another one is in its place.
    pub(super) fn release(&mut self, peer: u64, class: Class, number: u64) {
        if self.open.get(&(peer, class)).is_some_and(|admitted| admitted.number == number) {
            self.open.remove(&(peer, class));
        }
    }

    fn room(&mut self, key: (u64, Class)) -> Arc<Room> {
        if self.rooms.len() >= 2 * INBOUND_MAX {
            let open: HashSet<_> =
                self.open.keys().map(|&(peer, class)| (peer, sharing(class))).collect();
            self.rooms.retain(|key, room| open.contains(key) || !room.is_idle(key.1));
        }
        self.rooms.entry(key).or_insert_with(|| Arc::new(Room::new(key.1))).clone()
    }

    fn remember_replaced(&mut self, process: (u64, u64)) {
        if self.replaced.contains(&process) {
            return;
        }
        if self.replaced.len() >= REPLACED_MAX {
            self.replaced.pop_front();
        }
        self.replaced.push_back(process);
    }
}

/// Returns the class by which those are known that share a room.
fn sharing(class: Class) -> Class {
    if let Class::Forward(_) = class { Class::Forward(0) } else { class }
}

impl Room {
    fn new(class: Class) -> Self {
        Room {
            requests: Arc::new(Semaphore::new(handled_max(class))),
            bytes: Arc::new(Semaphore::new(handled_bytes_max(class))),
        }
    }

    fn is_idle(&self, class: Class) -> bool {
        self.requests.available_permits() == handled_max(class)
    }
}

#[cfg(test)]
mod tests {
    use distcache_protocol::peer::Reason;

    use super::*;

    fn process(incarnation: u64) -> Identity {
        Identity { node: 7, incarnation, cluster: Some(1) }
    }

    #[test]
    fn a_second_connection_replaces_the_first_of_its_class_alone() {
        let mut admissions = Admissions::default();
        let mut control = admissions.admit(1, &process(1), Class::Control).unwrap();
        let mut bulk = admissions.admit(1, &process(1), Class::Bulk).unwrap();
        let second = admissions.admit(1, &process(1), Class::Control).unwrap();
        assert!(matches!(control.replaced.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        assert!(matches!(bulk.replaced.try_recv(), Err(oneshot::error::TryRecvError::Empty)));
        assert!(Arc::ptr_eq(&control.room, &second.room));
        // The end of the first does not close the second.
        admissions.release(7, Class::Control, control.number);
        assert_eq!(admissions.open.len(), 2);
        admissions.release(7, Class::Control, second.number);
        assert_eq!(admissions.open.len(), 1);
    }

    #[test]
    fn connections_of_class_forward_stand_side_by_side_and_share_their_room() {
        let mut admissions = Admissions::default();
        let mut first = admissions.admit(1, &process(1), Class::Forward(0)).unwrap();
        let second = admissions.admit(1, &process(1), Class::Forward(1)).unwrap();
        assert!(matches!(first.replaced.try_recv(), Err(oneshot::error::TryRecvError::Empty)));
        assert!(Arc::ptr_eq(&first.room, &second.room));
        admissions.admit(1, &process(2), Class::Control).unwrap();
        let refusal = admissions.admit(1, &process(1), Class::Forward(2)).unwrap_err();
        assert_eq!(refusal.reason, Reason::DuplicateId);
    }

    #[test]
    fn a_replaced_process_that_comes_back_is_a_second_node_of_one_id() {
        let mut admissions = Admissions::default();
        admissions.admit(1, &process(1), Class::Control).unwrap();
        admissions.admit(1, &process(2), Class::Bulk).unwrap();
        let refusal = admissions.admit(1, &process(1), Class::Control).unwrap_err();
        assert_eq!(refusal.reason, Reason::DuplicateId);
        admissions.admit(1, &process(2), Class::Control).unwrap();
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut admissions = Admissions::default();
        for incarnation in 0..2 * REPLACED_MAX as u64 {
            admissions.admit(1, &process(incarnation), Class::Control).unwrap();
        }
        assert_eq!(admissions.replaced.len(), REPLACED_MAX);
        let of = |node| Identity { node, incarnation: 1, cluster: None };
        for node in 100..100 + INBOUND_MAX as u64 - 1 {
            admissions.admit(1, &of(node), Class::Bulk).unwrap();
        }
        let refusal = admissions.admit(1, &of(9), Class::Bulk).unwrap_err();
        assert_eq!(refusal.reason, Reason::Busy);
    }
}
