//! Keys lent to a coordinator.
//!
//! A command whose keys live on several shards is run by a coordinator, which asks the shards in
//! ascending order to hold those keys, works on copies, and gives back the records of what
//! changed. Until then later commands on those keys wait; all others go on. As every coordinator
//! asks in the same order, none waits for another in a circle.

use std::collections::VecDeque;

use distcache_protocol::slot::slot_of;

use super::batch::Batch;
use crate::keyspace::entry::Entry;
use crate::keyspace::{Keyspace, partition_of};
use crate::records::PartitionId;

/// Number of a hold, unique in the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// What a coordinator wants held.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// These keys, in every database.
    Keys {
        /// The keys.
        keys: Vec<Vec<u8>>,
        /// Whether their values are needed, or only whether they exist.
        values: bool,
    },
    /// All keys; the answer names the partitions that have any in these databases.
    Everything {
        /// The databases; `None` for all, hidden ones too.
        databases: Option<Vec<u8>>,
    },
}

/// A copy of an entry with the database it is in.
pub type Lent = (u8, Entry);

/// What the coordinator gets.
#[derive(Debug, Default)]
pub struct Held {
    /// Copies of the keys that exist.
    pub entries: Vec<Lent>,
    /// Partitions with keys, and the databases where they have them, for
    /// [`Wanted::Everything`].
    pub occupied: Vec<(PartitionId, Vec<u8>)>,
}

/// The holds of a shard. `W` is what else waits: it is woken when a hold ends.
#[derive(Debug)]
pub struct Holds<W> {
    active: Vec<(Ticket, Wanted)>,
    /// Those that wait, in the order they came.
    pub waiting: VecDeque<W>,
    /// Holds among those that wait.
    pub waiting_holds: usize,
    /// Partitions whose commands wait until a move of them is decided.
    frozen: Vec<PartitionId>,
    /// Partitions whose commands wait until a move of them has caught up.
    slowed: Vec<PartitionId>,
}

impl<W> Default for Holds<W> {
    fn default() -> Self {
        let (frozen, slowed) = (Vec::new(), Vec::new());
        Holds { active: Vec::new(), waiting: VecDeque::new(), waiting_holds: 0, frozen, slowed }
    }
}

impl<W> Holds<W> {
    /// Whether nothing is held and nobody waits.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.active.is_empty() && self.waiting.is_empty() && !self.has_stopped_any()
    }

    fn has_stopped_any(&self) -> bool {
        !self.frozen.is_empty() || !self.slowed.is_empty()
    }

    fn has_stopped(&self, key: &[u8]) -> bool {
        let partition = partition_of(slot_of(key));
        self.frozen.contains(&partition) || self.slowed.contains(&partition)
    }

    /// Lets commands on a partition wait until [`Holds::thaw`].
    pub fn freeze(&mut self, partition: PartitionId) {
        if !self.frozen.contains(&partition) {
            self.frozen.push(partition);
        }
    }

    /// Lets commands on a partition go on, whatever they waited for.
    pub fn thaw(&mut self, partition: PartitionId) {
        self.frozen.retain(|frozen| *frozen != partition);
        self.slowed.retain(|slowed| *slowed != partition);
    }

    /// Lets commands on a partition wait until [`Holds::unslow`].
    pub fn slow(&mut self, partition: PartitionId) {
        if !self.slowed.contains(&partition) {
            self.slowed.push(partition);
        }
    }

    /// Ends what [`Holds::slow`] began. Returns whether there was anything to end.
    pub fn unslow(&mut self, partition: PartitionId) -> bool {
        let before = self.slowed.len();
        self.slowed.retain(|slowed| *slowed != partition);
        self.slowed.len() < before
    }

    /// Whether a hold can begin now. Those that wait already come first.
    pub fn is_free(&self, keyspace: &Keyspace, wanted: &Wanted) -> bool {
        match wanted {
            _ if self.waiting_holds > 0 => false,
            Wanted::Everything { .. } => self.active.is_empty() && !self.has_stopped_any(),
            Wanted::Keys { keys, .. } => {
                !keys.iter().any(|key| keyspace.is_held(key) || self.has_stopped(key))
            }
        }
    }

    /// Begins a hold, which must be free, and copies what it wants.
    pub fn begin(&mut self, keyspace: &mut Keyspace, ticket: Ticket, wanted: Wanted) -> Held {
        let mut held = Held::default();
        match &wanted {
            Wanted::Keys { keys, values } => {
                for key in keys {
                    keyspace.lend(key, *values, &mut held.entries);
                    keyspace.hold(key);
                }
            }
            Wanted::Everything { databases } => {
                let is_wanted = |number| databases.as_ref().is_none_or(|all| all.contains(&number));
                held.occupied = keyspace.occupied_partitions(is_wanted);
                keyspace.hold_everything(true);
            }
        }
        self.active.push((ticket, wanted));
        held
    }

    /// Ends a hold.
    pub fn end(&mut self, keyspace: &mut Keyspace, ticket: Ticket) {
        let Some(place) = self.active.iter().position(|(of_hold, _)| *of_hold == ticket) else {
            return;
        };
        match self.active.swap_remove(place).1 {
            Wanted::Keys { keys, .. } => keys.iter().for_each(|key| keyspace.release(key)),
            Wanted::Everything { .. } => keyspace.hold_everything(false),
        }
    }

    /// Whether some held key belongs to a partition.
    pub fn touches(&self, partition: PartitionId) -> bool {
        let belongs = |key: &Vec<u8>| partition_of(slot_of(key)) == partition;
        self.active.iter().any(|(_, wanted)| match wanted {
            Wanted::Keys { keys, .. } => keys.iter().any(belongs),
            Wanted::Everything { .. } => true,
        })
    }

    /// Whether the next command of a batch must wait.
    pub fn blocks(&self, keyspace: &Keyspace, batch: &Batch) -> bool {
        if self.active.is_empty() && !self.has_stopped_any() {
            return false;
        }
        batch.next_keys().any(|key| keyspace.is_held(key) || self.has_stopped(key))
    }
}
