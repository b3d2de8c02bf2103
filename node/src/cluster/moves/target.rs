//! The receiving side: chunks from the bus go to the shard that will own them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use distcache_recovery::FrameBuilder;
use tokio::sync::{oneshot, watch};

use super::{CHUNK, Chunk, TAIL};
use crate::actors::shard::Stopped;
use crate::clock::{self, Ticks};
use crate::cluster::bus::{Class, Handling, Kind, unknown_kind};
use crate::cluster::fault;
use crate::cluster::raft::Consensus;
use crate::cluster::table::{MoveId, NodeId, PartitionId, State};
use crate::keyspace::SLOTS_PER_PARTITION;
use crate::keyspace::databases::DATABASES_MAX;
use crate::limits::{
    MOVE_KNOWN_WITHIN, MOVES_BESIDE_BYTES_MAX, MOVES_CUT_BYTES_MAX, MOVES_REST_MAX,
};
use crate::node::Node;
use crate::shard::staging::{Received, Unreceivable};

/// How long to wait before the shard is asked again whether it has heard of a move.
const ASK_AGAIN: Duration = Duration::from_millis(2);

/// Lets a copy wait while there is enough beside a partition that is brought to the disk.
async fn rest(beside: &watch::Sender<Beside>, bytes: usize) {
    let mut seen = beside.subscribe();
    let may_come = seen.wait_for(|beside| beside.bytes < MOVES_BESIDE_BYTES_MAX);
    // It goes on after that time, too: the source must not give up.
    let _ = clock::within(Some(MOVES_REST_MAX), may_come).await;
    beside.send_if_modified(|beside| {
        beside.bytes += if beside.partitions > 0 { bytes } else { 0 };
        // Nobody waits for there to be more.
        false
    });
}

/// Takes what other nodes send of partitions that this one is to get.
pub struct Target {
    node: Arc<Node>,
    consensus: Consensus,
    cut: Mutex<CutChunks>,
    beside: watch::Sender<Beside>,
}

/// What copies bring while a partition's end is brought to the disk. They rest when it is much: a
/// frozen partition would wait until that is on the disk as well.
#[derive(Debug, Default)]
struct Beside {
    /// Partitions that are brought to the disk.
    partitions: usize,
    /// Bytes of copies that came since there are any.
    bytes: usize,
}

/// Counts a partition that is brought to the disk.
struct Syncing<'a>(&'a watch::Sender<Beside>);

impl<'a> Syncing<'a> {
    fn begin(beside: &'a watch::Sender<Beside>) -> Self {
        beside.send_modify(|beside| beside.partitions += 1);
        Syncing(beside)
    }
}

impl Drop for Syncing<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|beside| {
            beside.partitions -= 1;
            if beside.partitions == 0 {
                beside.bytes = 0;
            }
        });
    }
}

impl Target {
    /// Returns the receiving side of a node.
    pub fn new(node: Arc<Node>, consensus: Consensus) -> Self {
        Target { node, consensus, cut: Mutex::default(), beside: watch::Sender::default() }
    }

    /// Handles a request of class Bulk or Replication that brings a chunk. Those of class Bulk come
    /// one after the other, so none of them may wait for the disk.
    pub fn handle(
        self: &Arc<Self>,
        from: NodeId,
        class: Class,
        kind: Kind,
        body: Bytes,
    ) -> Handling {
        let target = self.clone();
        Box::pin(async move {
            if !matches!((class, kind), (Class::Bulk, CHUNK) | (Class::Replication, TAIL)) {
                return Err(unknown_kind(class, kind));
            }
            if class == Class::Bulk {
                rest(&target.beside, body.len()).await;
            }
            target.receive(from, &body).await.map(|()| Bytes::new())
        })
    }

    async fn receive(&self, from: NodeId, body: &[u8]) -> Result<(), String> {
        let chunk = Chunk::decode(body).ok_or("no chunk of a partition")?;
        let table = self.table();
        let joined = {
            let mut cut = self.cut.lock().unwrap_or_else(PoisonError::into_inner);
            cut.join(&chunk, &table)?
        };
        let Some(records) = joined else { return Ok(()) };
        // The source may have more than this node, which hides them then.
        let frame =
            FrameBuilder::from_records(&records, chunk.count, chunk.partition, DATABASES_MAX)
                .map_err(|error| format!("a chunk of partition {}: {error}", chunk.partition))?;
        let Chunk { partition, move_id, index, last, sync, .. } = chunk;
        let _syncing = sync.then(|| Syncing::begin(&self.beside));
        let is_synced = sync && self.node.log.is_some() && !fault::is_off("target-sync");
        let log_failures = self.node.log.as_ref().map_or(0, |log| log.status.failures());
        let mut received = Received { partition, move_id, index, from, log_failures, frame };
        let shard = self.node.shard_of(partition.0 * SLOTS_PER_PARTITION);
        let begun = Ticks::now();
        let on_disk = loop {
            let (synced, on_disk) = is_synced.then(oneshot::channel).unzip();
            let taken = shard.receive(received, synced).await;
            match taken.map_err(|stopped| stopped.to_string())? {
                Ok(()) => break on_disk,
                // The source has applied the entry that begins the move, and this node not yet.
                Err(unreceived)
                    if matches!(unreceived.why, Unreceivable::UnknownMove(_))
                        && may_begin(&self.table(), (partition, move_id), chunk.version)
                        && Ticks::now().since(begun) < MOVE_KNOWN_WITHIN =>
                {
                    received = unreceived.received;
                    clock::sleep(ASK_AGAIN).await;
                }
                Err(unreceived) => return Err(unreceived.why.to_string()),
            }
        };
        fault::reach("target.received");
        if last {
            fault::reach("target.last");
        }
        if let Some(on_disk) = on_disk {
            on_disk.await.unwrap_or_else(|_| Err(Stopped.to_string()))?;
        }
        if last {
            self.node.cluster.expect(partition);
            fault::reach("target.synced");
        }
        Ok(())
    }

    fn table(&self) -> Arc<State> {
        self.consensus.table().borrow().clone()
    }
}

/// Whether a move that the shard does not know may begin still, or goes on: this node's table has
/// it, and the shard will hear of it, or the table is older than the `version` that has it.
fn may_begin(table: &State, of: (PartitionId, MoveId), version: u64) -> bool {
    let joining = table.partition(of.0).and_then(|partition| partition.joining);
    table.version < version || joining.is_some_and(|joining| joining.move_id == of.1)
}

/// Chunks that take several requests, until they are whole: what has come, and a version of the
/// table that has the move.
#[derive(Debug, Default)]
struct CutChunks(HashMap<(PartitionId, MoveId), (u64, Vec<u8>)>);

impl CutChunks {
    /// Returns a chunk's records once they are whole.
    fn join<'a>(
        &mut self,
        chunk: &Chunk<'a>,
        table: &State,
    ) -> Result<Option<Cow<'a, [u8]>>, String> {
        let CutChunks(cut) = self;
        let Chunk { partition, move_id, version, records, .. } = *chunk;
        let of = (partition, move_id);
        // What a move that has ended has left will never be whole.
        cut.retain(|&other, (version, _)| {
            other == of || other.0 != partition && may_begin(table, other, *version)
        });
        if !chunk.cut {
            return Ok(Some(match cut.remove(&of) {
                None => Cow::Borrowed(records),
                Some((_, mut before)) => {
                    before.extend_from_slice(records);
                    Cow::Owned(before)
                }
            }));
        }
        let waiting: usize = cut.values().map(|(_, records)| records.len()).sum();
        if waiting + records.len() > MOVES_CUT_BYTES_MAX {
            cut.remove(&of);
            return Err("too many long values are on their way to this node".to_owned());
        }
        cut.entry(of).or_insert((version, Vec::new())).1.extend_from_slice(records);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::cluster::table::{Incarnation, Joining, MovePhase, Then};

    fn is_ready(future: std::pin::Pin<&mut impl Future<Output = ()>>) -> bool {
        future.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    #[tokio::test]
    async fn copies_rest_when_much_came_beside_a_partition_that_is_synced() {
        let beside = watch::Sender::<Beside>::default();
        rest(&beside, 10 * MOVES_BESIDE_BYTES_MAX).await;
        assert_eq!(beside.borrow().bytes, 0, "nothing is synced");
        let (first, second) = (Syncing::begin(&beside), Syncing::begin(&beside));
        rest(&beside, MOVES_BESIDE_BYTES_MAX - 1).await;
        rest(&beside, 1).await;
        let mut copy = pin!(rest(&beside, 1));
        assert!(!is_ready(copy.as_mut()));
        drop(first);
        assert!(!is_ready(copy.as_mut()), "another one is still synced");
        drop(second);
        assert!(is_ready(copy.as_mut()));
        assert_eq!(beside.borrow().bytes, 0);
    }

    #[tokio::test]
    async fn copies_do_not_rest_for_ever() {
        let beside = watch::Sender::<Beside>::default();
        let _syncing = Syncing::begin(&beside);
        rest(&beside, MOVES_BESIDE_BYTES_MAX).await;
        rest(&beside, 1).await;
        assert_eq!(beside.borrow().bytes, MOVES_BESIDE_BYTES_MAX + 1);
    }

    #[test]
    fn what_an_ended_move_has_left_of_a_long_value_is_dropped() {
        let mut table = State::new();
        let begin = |table: &mut State, partition: u16, move_id| {
            table.version += 1;
            table.partitions[usize::from(partition)].joining = Some(Joining {
                node: NodeId(1),
                incarnation: Incarnation(1),
                move_id: MoveId(move_id),
                then: Then::BecomePrimary,
                drop: None,
                phase: MovePhase::Copying,
                had_copy: false,
            });
        };
        let chunk = |partition, move_id, version, cut, records| {
            let (partition, move_id) = (PartitionId(partition), MoveId(move_id));
            let (index, count, last, sync) = (0, 1, false, false);
            Chunk { partition, move_id, version, index, count, last, sync, cut, records }
        };
        let mut cut = CutChunks::default();
        begin(&mut table, 1, 11);
        begin(&mut table, 2, 22);
        assert_eq!(cut.join(&chunk(1, 11, 2, true, b"lost"), &table), Ok(None));
        assert_eq!(cut.join(&chunk(2, 22, 2, true, b"lo"), &table), Ok(None));
        // This node has not heard of this move.
        assert_eq!(cut.join(&chunk(3, 33, 4, true, b"ear"), &table), Ok(None));
        assert_eq!(cut.0.len(), 3);
        table.partitions[1].joining = None;
        table.version = 3;
        let joined = cut.join(&chunk(2, 22, 2, false, b"ng"), &table).unwrap();
        assert_eq!(joined.as_deref(), Some(b"long".as_slice()));
        let left: Vec<_> = cut.0.keys().copied().collect();
        assert_eq!(left, [(PartitionId(3), MoveId(33))]);
        begin(&mut table, 3, 33);
        let joined = cut.join(&chunk(3, 33, 4, false, b"ly"), &table).unwrap();
        assert_eq!(joined.as_deref(), Some(b"early".as_slice()));
    }
}
