//! The giving side: drives a move from the first chunk to its decision.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use distcache_recovery::FrameBuilder;

use super::{CHUNK, Chunk, TAIL};
use crate::actors::shard::GivenChunk;
use crate::clock::{self, Ticks};
use crate::cluster::bus::{Bus, BusError, Class};
use crate::cluster::fault;
use crate::cluster::raft::Consensus;
use crate::cluster::table::{
    Change, Entry, Epoch, MoveId, NodeId, Outcome, PartitionId, State, StreamSequence,
};
use crate::keyspace::SLOTS_PER_PARTITION;
use crate::limits::{
    MOVE_CANCEL_TIMEOUT, MOVE_CHUNK_TIMEOUT, MOVE_REQUEST_BYTES_MAX, MOVE_SWITCH_TIMEOUT,
    MOVE_WINDOW_BYTES, MOVES_FROZEN_MAX, MOVES_REST_FROZEN_MAX, MOVES_TURN_WAIT_MAX,
};
use crate::node::Node;
use crate::shard::moves::Freeze;
use tokio::sync::{AcquireError, Semaphore, watch};

/// A partition that this node is to give to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Giving {
    /// The partition.
    pub partition: PartitionId,
    /// Its epoch while it moves.
    pub epoch: Epoch,
    /// The move.
    pub move_id: MoveId,
    /// Who gets it.
    pub target: NodeId,
    /// The version of the table that says so.
    pub version: u64,
}

/// What moves need of their node.
pub struct Source {
    node: Arc<Node>,
    bus: Bus,
    consensus: Consensus,
    /// Who may freeze its partition: the more do at a time, the longer each waits for consensus.
    freezing: Semaphore,
    /// How many partitions are frozen: the copies of others rest meanwhile.
    frozen: watch::Sender<usize>,
}

/// Counts a frozen partition.
struct Frozen<'a>(&'a watch::Sender<usize>);

impl<'a> Frozen<'a> {
    fn begin(frozen: &'a watch::Sender<usize>) -> Self {
        frozen.send_modify(|frozen| *frozen += 1);
        Frozen(frozen)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|frozen| *frozen -= 1);
    }
}

/// Why a move does not get to its decision.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Shard(String),
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error("the switch was not accepted: {0}")]
    Switch(String),
}

/// What was done for a move.
#[derive(Debug, Default)]
struct Figures {
    bytes: u64,
    /// When commands on the partition began to wait.
    frozen: Option<Ticks>,
    /// When the target had everything on its disk.
    acknowledged: Option<Ticks>,
}

/// When a chunk is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    /// When it is taken.
    Taken,
    /// When everything so far is on disk.
    Synced,
    /// The same, and it is the last one.
    LastSynced,
}

type Answer = Pin<Box<dyn Future<Output = Result<Bytes, BusError>>>>;

impl Source {
    /// Returns the giving side of a node.
    pub fn new(node: Arc<Node>, bus: Bus, consensus: Consensus) -> Self {
        Source {
            node,
            bus,
            consensus,
            freezing: Semaphore::new(MOVES_FROZEN_MAX),
            frozen: watch::Sender::default(),
        }
    }

    /// Carries a move out until the table says how it ended.
    pub async fn give(self: Arc<Self>, giving: Giving) {
        let (begun, mut figures) = (Ticks::now(), Figures::default());
        let tried = self.copy_and_switch(giving, &mut figures).await;
        let failure = match tried {
            Ok(()) => None,
            Err(failure) => {
                self.cancel(giving).await;
                Some(failure.to_string())
            }
        };
        let mut table = self.consensus.table();
        // An error means that consensus has stopped, and the node with it.
        let _ = table.wait_for(|table| !is_under_way(table, giving)).await;
        self.node.cluster.moves.set_sent(giving.partition, None);
        let owner = table.borrow().partition(giving.partition).and_then(|now| now.primary);
        if owner == Some(self.consensus.node()) {
            self.tell_failure(giving, begun, failure);
        } else {
            self.tell_success(giving, begun, &figures);
        }
    }

    fn tell_success(&self, giving: Giving, begun: Ticks, figures: &Figures) {
        let Giving { partition, target, .. } = giving;
        let (now, bytes) = (Ticks::now(), figures.bytes);
        let frozen = figures.frozen.map(|at| now.since(at));
        self.node.cluster.moves.given(bytes, frozen);
        let ms = now.since(begun).as_millis() as u64;
        let millis = |time: Option<Duration>| {
            format!("{:.1}", time.unwrap_or_default().as_secs_f64() * 1000.0)
        };
        let decided = figures.acknowledged.map(|at| now.since(at));
        let (frozen_ms, decided_ms) = (millis(frozen), millis(decided));
        log::info!(partition = partition.0, to:% = target, bytes, ms,
            frozen_ms = frozen_ms.as_str(), decided_ms = decided_ms.as_str(); "partition moved");
    }

    fn tell_failure(&self, giving: Giving, begun: Ticks, failure: Option<String>) {
        let Giving { partition, move_id, target, .. } = giving;
        self.node.cluster.moves.failed();
        let ms = Ticks::now().since(begun).as_millis() as u64;
        let reason = failure.unwrap_or_else(|| "the table has cancelled the move".to_owned());
        log::warn!(partition = partition.0, to:% = target, move_id:%, ms, reason = reason.as_str();
            "partition not moved; it stays, and is tried again");
    }

    async fn copy_and_switch(&self, giving: Giving, figures: &mut Figures) -> Result<(), Failure> {
        let Giving { partition, epoch, move_id, target, .. } = giving;
        let shard = self.node.shard_of(partition.0 * SLOTS_PER_PARTITION).clone();
        let mut stream = Stream::new(&self.bus, giving);
        shard.give(partition, move_id).await.map_err(of_shard)?;
        let (mut freeze, mut permit, mut is_through) = (Freeze::No, None, false);
        let mut turn = pin!(self.freezing.acquire());
        // Until the move is decided, or given up.
        let mut _frozen = None;
        loop {
            if !is_through {
                self.rest().await;
            }
            let chunk = shard.next_chunk(partition, move_id, freeze).await.map_err(of_shard)?;
            let GivenChunk { frame, is_drained, .. } = chunk;
            is_through = chunk.is_through;
            figures.bytes += frame.len() as u64;
            self.node.cluster.moves.set_sent(partition, Some(figures.bytes));
            if is_drained {
                fault::reach("source.frozen");
                // The target serves the partition once it is decided: it must be safe there.
                stream.send(&frame, Ask::LastSynced).await?;
                break;
            }
            if !frame.is_empty() {
                stream.send(&frame, Ask::Taken).await?;
                fault::reach("source.copying");
            }
            if is_through && freeze == Freeze::No {
                if permit.is_none() {
                    permit = within_a_turn(turn.as_mut()).await;
                    if permit.is_some() {
                        stream.begin_tail().await?;
                        // Nearly all is on disk then, and clients wait for the rest only.
                        stream.send(&FrameBuilder::default(), Ask::Synced).await?;
                    }
                    continue;
                }
                freeze = Freeze::Yes;
                figures.frozen = Some(Ticks::now());
                _frozen = Some(Frozen::begin(&self.frozen));
            } else if frame.is_empty() {
                // A coordinator holds a key of the partition.
                clock::sleep(Duration::from_millis(1)).await;
            }
        }
        figures.acknowledged = Some(Ticks::now());
        fault::reach("source.acknowledged");
        let (from, to) = (self.consensus.node(), target);
        let change =
            Change::Switch { move_id, from, to, sequence: StreamSequence(stream.next_index) };
        let switch = Entry::Partition { partition, expect_epoch: epoch, change };
        let outcome = self.consensus.propose(switch, MOVE_SWITCH_TIMEOUT).await;
        fault::reach("source.switched");
        match outcome {
            Ok(Outcome::Applied | Outcome::AlreadyApplied) => Ok(()),
            Ok(Outcome::Refused(refusal)) => Err(Failure::Switch(refusal.to_string())),
            Err(error) => Err(Failure::Switch(error.to_string())),
        }
    }

    /// Lets a copy wait while another partition is frozen, whose clients wait for it to move.
    async fn rest(&self) {
        let mut frozen = self.frozen.subscribe();
        let none = frozen.wait_for(|frozen| *frozen == 0);
        // It goes on after that time, too: the other one may wait for long.
        let _ = clock::within(Some(MOVES_REST_FROZEN_MAX), none).await;
    }

    /// Proposes that the move ends until it has ended, be it by this or otherwise.
    async fn cancel(&self, giving: Giving) {
        let Giving { partition, epoch, move_id, .. } = giving;
        let change = Change::CancelMove { move_id };
        let mut table = self.consensus.table();
        while is_under_way(&table.borrow_and_update(), giving) {
            // The move is named by its id; its epoch may be another one by now.
            let now = table.borrow().partition(partition).map(|partition| partition.epoch);
            let expect_epoch = now.unwrap_or(epoch);
            let cancel = Entry::Partition { partition, expect_epoch, change };
            let proposed = self.consensus.propose(cancel, MOVE_CANCEL_TIMEOUT).await;
            if proposed.is_err() {
                let changed = table.changed();
                if let Some(Err(_)) = clock::within(Some(MOVE_CANCEL_TIMEOUT / 4), changed).await {
                    // Consensus has stopped, and the node with it.
                    return;
                }
            } else {
                // It is decided; this node may have to apply it still.
                let wait = table.wait_for(|table| !is_under_way(table, giving));
                let _ = clock::within(Some(MOVE_CANCEL_TIMEOUT), wait).await;
            }
        }
    }
}

/// Waits for the right to freeze, but not for long, and without losing the place in the queue.
/// Chunks must be taken meanwhile: commands may wait for that, a coordinator's among them, for
/// whose end those wait who are frozen.
async fn within_a_turn<T>(
    turn: Pin<&mut impl Future<Output = Result<T, AcquireError>>>,
) -> Option<T> {
    clock::within(Some(MOVES_TURN_WAIT_MAX), turn).await?.ok()
}

/// Whether the table has this move as not decided yet.
fn is_under_way(table: &State, giving: Giving) -> bool {
    let partition = table.partition(giving.partition);
    partition
        .and_then(|partition| partition.joining)
        .is_some_and(|joining| joining.move_id == giving.move_id)
}

fn of_shard(error: impl ToString) -> Failure {
    Failure::Shard(error.to_string())
}

/// The chunks on their way to the target, in order: several at a time, and one behind the other
/// once the copy is through.
struct Stream<'a> {
    bus: &'a Bus,
    giving: Giving,
    next_index: u64,
    is_tail: bool,
    /// Requests that are not answered, with their lengths.
    sent: VecDeque<(Answer, usize)>,
    sent_bytes: usize,
}

impl<'a> Stream<'a> {
    fn new(bus: &'a Bus, giving: Giving) -> Self {
        let (sent, sent_bytes) = (VecDeque::new(), 0);
        Stream { bus, giving, next_index: 0, is_tail: false, sent, sent_bytes }
    }

    /// Sends a chunk, once there is room for it.
    async fn send(&mut self, frame: &FrameBuilder, ask: Ask) -> Result<(), BusError> {
        let Giving { partition, move_id, version, .. } = self.giving;
        let (index, count) = (self.next_index, frame.count());
        self.next_index += 1;
        let mut rest = frame.payload();
        loop {
            let (records, more) = rest.split_at(rest.len().min(MOVE_REQUEST_BYTES_MAX));
            let cut = !more.is_empty();
            let last = ask == Ask::LastSynced && !cut;
            let sync = ask != Ask::Taken && !cut;
            let chunk =
                Chunk { partition, move_id, version, index, count, last, sync, cut, records };
            self.request(chunk.encode()).await?;
            if !cut {
                return Ok(());
            }
            rest = more;
        }
    }

    async fn request(&mut self, body: Vec<u8>) -> Result<(), BusError> {
        if self.is_tail {
            let (target, body) = (self.giving.target, Bytes::from(body));
            let called = self.bus.call(target, Class::Replication, TAIL, body, MOVE_CHUNK_TIMEOUT);
            return called.await.map(drop);
        }
        while self.sent_bytes > MOVE_WINDOW_BYTES {
            self.answered().await?;
        }
        let (bus, target, length) = (self.bus.clone(), self.giving.target, body.len());
        let body = Bytes::from(body);
        let mut answer: Answer = Box::pin(async move {
            bus.call(target, Class::Bulk, CHUNK, body, MOVE_CHUNK_TIMEOUT).await
        });
        // Requests are written in the order in which they are first polled.
        let first =
            std::future::poll_fn(|context| std::task::Poll::Ready(answer.as_mut().poll(context)));
        if let std::task::Poll::Ready(answered) = first.await {
            return answered.map(drop);
        }
        self.sent.push_back((answer, length));
        self.sent_bytes += length;
        Ok(())
    }

    /// Waits for the oldest answer.
    async fn answered(&mut self) -> Result<(), BusError> {
        let Some((answer, length)) = self.sent.pop_front() else { return Ok(()) };
        self.sent_bytes -= length;
        answer.await.map(drop)
    }

    /// Waits for all answers. What is sent from now on goes ahead of other partitions' copies, and
    /// is answered when [`send`](Stream::send) returns.
    async fn begin_tail(&mut self) -> Result<(), BusError> {
        while !self.sent.is_empty() {
            self.answered().await?;
        }
        self.is_tail = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_to_freeze_goes_on_taking_chunks_and_keeps_its_place() {
        let freezing = Semaphore::new(1);
        let frozen = freezing.acquire().await.unwrap();
        let (mut first, mut second) = (pin!(freezing.acquire()), pin!(freezing.acquire()));
        for _ in 0..2 {
            assert!(within_a_turn(first.as_mut()).await.is_none());
            assert!(within_a_turn(second.as_mut()).await.is_none());
        }
        drop(frozen);
        assert!(within_a_turn(second.as_mut()).await.is_none(), "it came later");
        let permit = within_a_turn(first.as_mut()).await.unwrap();
        drop(permit);
        assert!(within_a_turn(second.as_mut()).await.is_some());
    }
}
