//! Partitions on their way from one node to another, while clients work on them.
//!
//! 1. The leader's `BeginMove` names source and target. [`source`] copies the partition with the
//!    shard's copy cursor, in slices, and sends the chunks over the bus, in order; what clients
//!    change of what was copied already goes into the same stream.
//! 2. [`target`] gives the chunks to the shard, which logs them and applies them to keys that
//!    nobody sees (`shard::staging`).
//! 3. When the cursor is through, what follows goes on another connection, ahead of the copies of
//!    other partitions, and the target syncs what it has. Then the source's shard stops executing
//!    commands of this one partition (it is *frozen*), the last chunk is sent, and the target
//!    answers when everything is on its disk.
//! 4. The source proposes `Switch`: the point of decision. Without an answer in time it proposes
//!    `CancelMove`. It goes on with the partition, or gives it up, by which of the two it has
//!    applied, and by nothing else.
//!
//! What the table says then, [`follow`](super::follow) carries out on both sides. One attempt a
//! move: whatever goes wrong cancels it, and the leader plans another.

pub mod source;
pub mod target;

use super::bus::Kind;
use super::table::{
    Epoch, MoveId, MovePhase, NodeId, Partition, PartitionId, StreamSequence, Then,
};

/// Number of the requests, in class Bulk, that carry a [`Chunk`] of a copy.
pub const CHUNK: Kind = Kind::new(1);

/// Number of the requests, in class Replication, that carry a [`Chunk`] behind the copy: no copy
/// of another partition keeps a frozen one waiting there. Each is sent when the one before it is
/// answered.
pub const TAIL: Kind = Kind::new(2);

/// Bytes before a chunk's records.
const HEADER_BYTES: usize = 2 + 8 + 8 + 8 + 4 + 1;

/// The stream ends with this chunk.
const LAST: u8 = 1;

/// The chunk's records go on in the next request.
const CUT: u8 = 2;

/// The answer waits until everything so far is on disk.
const SYNC: u8 = 4;

/// A piece of the stream of a move, as it travels: a header of big-endian numbers, then records in
/// the log's encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// The partition.
    pub partition: PartitionId,
    /// The move.
    pub move_id: MoveId,
    /// A version of the table that has the move, or an earlier one.
    pub version: u64,
    /// Number of the chunk in the stream, from 0.
    pub index: u64,
    /// Number of records, of all its requests where a chunk takes several.
    pub count: u32,
    /// Whether the stream ends here.
    pub last: bool,
    /// Whether the answer waits until everything so far is on the target's disk.
    pub sync: bool,
    /// Whether the records go on in the next request: those of a chunk that is too long for one.
    pub cut: bool,
    /// The records.
    pub records: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// Returns the bytes of a request.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.records.len());
        bytes.extend(self.partition.0.to_be_bytes());
        bytes.extend(self.move_id.0.to_be_bytes());
        bytes.extend(self.version.to_be_bytes());
        bytes.extend(self.index.to_be_bytes());
        bytes.extend(self.count.to_be_bytes());
        let flags = [(self.last, LAST), (self.cut, CUT), (self.sync, SYNC)];
        bytes.push(flags.iter().map(|(is_set, flag)| u8::from(*is_set) * flag).sum());
        bytes.extend_from_slice(self.records);
        bytes
    }

    /// Reads a request; `None` if it is none. The records are not looked at.
    pub fn decode(bytes: &'a [u8]) -> Option<Chunk<'a>> {
        let (partition, rest) = bytes.split_first_chunk()?;
        let (move_id, rest) = rest.split_first_chunk()?;
        let (version, rest) = rest.split_first_chunk()?;
        let (index, rest) = rest.split_first_chunk()?;
        let (count, rest) = rest.split_first_chunk()?;
        let (flags, records) = rest.split_first()?;
        let partition = PartitionId(u16::from_be_bytes(*partition));
        let is_known = usize::from(partition.0) < usize::from(super::table::PARTITIONS)
            && flags & !(LAST | CUT | SYNC) == 0;
        is_known.then(|| Chunk {
            partition,
            move_id: MoveId(u64::from_be_bytes(*move_id)),
            version: u64::from_be_bytes(*version),
            index: u64::from_be_bytes(*index),
            count: u32::from_be_bytes(*count),
            last: flags & LAST != 0,
            cut: flags & CUT != 0,
            sync: flags & SYNC != 0,
            records,
        })
    }
}

/// What a node has to do with a partition, as the table says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Nothing: what it has of it is void.
    None,
    /// It receives a copy, which nobody sees.
    Receives(MoveId),
    /// It serves it.
    Serves {
        /// The move by which it goes to another node.
        giving: Option<MoveId>,
        /// The chunks by which it came, if it did: what was received is the partition only if it
        /// is these. (Not the table's last move: that may be a later one already.)
        serve_from: StreamSequence,
    },
}

/// A partition as the table has it, seen from one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assignment {
    /// What the node has to do with it.
    pub part: Part,
    /// Its epoch.
    pub epoch: Epoch,
    /// Who has it: the node itself, another one, or nobody.
    pub owner: Option<NodeId>,
    /// Who gives it or gets it, while it moves and the node takes part in that.
    pub peer: Option<NodeId>,
}

impl Assignment {
    /// Returns what the table says of a partition to the node `myself`.
    pub fn of(partition: &Partition, myself: NodeId) -> Assignment {
        let copying = partition.joining.filter(|joining| {
            joining.phase == MovePhase::Copying && joining.then == Then::BecomePrimary
        });
        let (epoch, owner) = (partition.epoch, partition.primary);
        let (part, peer) = match (owner, copying) {
            (Some(owner), giving) if owner == myself => {
                let giving_to = giving.map(|joining| joining.node);
                let giving = giving.map(|joining| joining.move_id);
                (Part::Serves { giving, serve_from: partition.serve_from }, giving_to)
            }
            (_, Some(joining)) if joining.node == myself => {
                (Part::Receives(joining.move_id), owner)
            }
            _ => (Part::None, None),
        };
        Assignment { part, epoch, owner, peer }
    }
}

impl Default for Assignment {
    /// Returns the assignment of each partition where there is no cluster.
    fn default() -> Self {
        let part = Part::Serves { giving: None, serve_from: StreamSequence(0) };
        Assignment { part, epoch: Epoch(0), owner: None, peer: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_read_as_they_are_written() {
        let chunk = Chunk {
            partition: PartitionId(1023),
            move_id: MoveId(u64::MAX - 1),
            version: 1 << 40,
            index: 7,
            count: 3,
            last: true,
            sync: true,
            cut: false,
            records: b"abc",
        };
        let bytes = chunk.encode();
        assert_eq!(Chunk::decode(&bytes), Some(chunk));
        for cut in 0..HEADER_BYTES {
            assert_eq!(Chunk::decode(&bytes[..cut]), None);
        }
        let mut strange = bytes.clone();
        strange[HEADER_BYTES - 1] = 8;
        assert_eq!(Chunk::decode(&strange), None, "unknown flag");
        let outside = Chunk { partition: PartitionId(1024), ..chunk }.encode();
        assert_eq!(Chunk::decode(&outside), None, "no such partition");
    }
}
