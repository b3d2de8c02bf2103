use distcache_recovery::RecordCursor;

use super::*;
use crate::cluster::table::{NodeId, StreamSequence};
use crate::keyspace::entry::Value;
use crate::keyspace::eviction::AccessMode;
use crate::keyspace::{Deadline, KeyHasher, partition_of};
use crate::records::UnixMillis;

const MOVE: MoveId = MoveId(7);
const SOURCE: NodeId = NodeId(1);
const TARGET: NodeId = NodeId(2);

/// A shard, and what it has logged.
struct Node {
    keyspace: Keyspace,
    moves: ShardMoves,
    log_failures: u64,
}

impl Node {
    fn new() -> Self {
        let shard = ShardId { index: 0, count: 1 };
        let mut keyspace = Keyspace::new(shard, 2, KeyHasher::new(5));
        keyspace.journal.set_enabled(true);
        Node { keyspace, moves: ShardMoves::new(shard), log_failures: 0 }
    }

    fn put(&mut self, key: &str, value: &[u8]) {
        self.keyspace.begin(UnixMillis(1), 0);
        self.keyspace.put(key.as_bytes(), Value::String(value), Deadline::Clear);
    }

    fn get(&mut self, key: &str) -> Option<Vec<u8>> {
        self.keyspace.begin(UnixMillis(1), 0);
        let value = |entry: &crate::keyspace::entry::Entry| match entry.value() {
            Value::String(bytes) => bytes.to_vec(),
            Value::Integer(integer) => integer.to_string().into_bytes(),
        };
        self.keyspace.read(key.as_bytes()).map(value)
    }

    fn follow(&mut self, part: Part, owner: NodeId, peer: NodeId) -> Followed {
        self.follow_from(part, owner, Some(peer))
    }

    fn follow_from(&mut self, part: Part, owner: NodeId, peer: Option<NodeId>) -> Followed {
        let (epoch, owner) = (Epoch(3), Some(owner));
        let changes = [(partition(), Assignment { part, epoch, owner, peer })];
        self.moves.follow(&mut self.keyspace, &changes)
    }

    fn next_chunk(&mut self, is_frozen: bool) -> Result<GivenChunk, Ungivable> {
        let empty = FrameBuilder::default();
        self.moves.next_chunk(&mut self.keyspace, partition(), MOVE, || is_frozen, empty)
    }

    fn receive(&mut self, index: u64, frame: FrameBuilder) -> Result<bool, Unreceivable> {
        let (partition, log_failures) = (partition(), self.log_failures);
        let received =
            Received { partition, move_id: MOVE, index, from: SOURCE, log_failures, frame };
        self.moves.check(&received)?;
        let begins = self.moves.begins(&received).is_some();
        let Node { keyspace, moves, .. } = self;
        moves.staging.apply(&received, keyspace);
        Ok(begins)
    }

    /// Names of the operations logged since the last call.
    fn logged(&mut self) -> Vec<&'static str> {
        let frame = self.keyspace.journal.take(FrameBuilder::default());
        let records = RecordCursor::new(frame.payload(), frame.count());
        records.map(|record| record.unwrap().operation.name()).collect()
    }
}

const GIVES: Part = Part::Serves { giving: Some(MOVE), serve_from: StreamSequence(0) };

fn got(chunks: u64) -> Part {
    Part::Serves { giving: None, serve_from: StreamSequence(chunks) }
}

fn partition() -> PartitionId {
    partition_of(distcache_protocol::slot::slot_of(b"{a}"))
}

/// A source with some keys of the partition and others, and an empty target; the move has begun.
fn begun() -> (Node, Node) {
    let (mut source, mut target) = (Node::new(), Node::new());
    for i in 0..2000 {
        source.put(&format!("{{a}}{i}"), b"before");
    }
    source.put("other", b"stays");
    target.follow(Part::None, SOURCE, SOURCE);
    source.follow(GIVES, SOURCE, TARGET);
    target.follow(Part::Receives(MOVE), SOURCE, SOURCE);
    source.moves.give(&mut source.keyspace, partition(), MOVE).unwrap();
    (source, target)
}

/// Sends the rest of the stream, letting `between` change the source before each chunk. Returns
/// the number of chunks.
fn stream(source: &mut Node, target: &mut Node, mut between: impl FnMut(&mut Node, u64)) -> u64 {
    let mut is_frozen = false;
    for index in 0.. {
        if !is_frozen {
            between(source, index);
        }
        let chunk = source.next_chunk(is_frozen).unwrap();
        assert_eq!(target.receive(index, chunk.frame), Ok(index == 0));
        if chunk.is_drained {
            return index + 1;
        }
        is_frozen = chunk.is_through;
    }
    unreachable!("the loop ends when the stream does")
}

#[test]
fn a_partition_goes_over_while_it_is_written() {
    let (mut source, mut target) = begun();
    let chunks = stream(&mut source, &mut target, |source, index| {
        source.put(&format!("{{a}}{index}"), b"changed");
        source.put(&format!("{{a}}new{index}"), b"new");
    });
    assert!(chunks > 2, "the copy takes several slices");
    assert_eq!(target.get("{a}1"), None, "nobody sees what is not served");
    assert_eq!(target.keyspace.sizes()[0].keys, 0);
    source.logged();
    target.logged();

    // The table says who gives a partition only as long as it moves.
    assert!(target.follow_from(got(chunks), TARGET, None).dropped.is_empty());
    let frame = target.keyspace.journal.take(FrameBuilder::default());
    let own: Vec<_> = RecordCursor::new(frame.payload(), frame.count()).collect();
    assert_eq!(own.len(), 1);
    let from = SOURCE.0;
    assert_eq!(own[0].as_ref().unwrap().operation, Operation::Own { epoch: 3, from });
    assert_eq!(target.moves.staging.used_bytes(), 0);
    for (key, value) in
        [("{a}0", "changed"), ("{a}1", "changed"), ("{a}1999", "before"), ("{a}new0", "new")]
    {
        assert_eq!(target.get(key).as_deref(), Some(value.as_bytes()), "{key}");
        assert_eq!(source.get(key), target.get(key));
    }
    let followed = source.follow(Part::None, TARGET, TARGET);
    assert_eq!(followed.thawed, [partition()]);
    assert_eq!(followed.dropped[0].size.keys, target.keyspace.sizes()[0].keys as u64);
    assert_eq!(source.logged(), ["move-out"]);
    assert_eq!((source.get("{a}0"), source.get("other")), (None, Some(b"stays".to_vec())));
    assert_eq!(source.next_chunk(true).err(), Some(Ungivable::NoSuchMove(MOVE)));
}

#[test]
fn keys_that_come_by_a_move_count_as_used_when_they_came() {
    for mode in [AccessMode::Lru, AccessMode::Lfu] {
        let (mut source, mut target) = begun();
        target.keyspace.clock.mode = mode;
        target.keyspace.begin(UnixMillis(7_000_000), 0);
        let fresh = target.keyspace.clock.fresh();
        let chunks = stream(&mut source, &mut target, |_, _| {});
        target.follow(got(chunks), TARGET, SOURCE);
        assert_eq!(target.keyspace.inspect(b"{a}1").unwrap().access(), fresh);
    }
}

#[test]
fn a_move_that_is_cancelled_leaves_the_source_as_it_was_and_nothing_at_the_target() {
    let (mut source, mut target) = begun();
    stream(&mut source, &mut target, |_, _| {});
    let stays = got(0);
    assert_eq!(source.follow(stays, SOURCE, SOURCE).thawed, [partition()]);
    source.put("{a}0", b"after");
    assert_eq!(source.get("{a}0"), Some(b"after".to_vec()));
    let followed = target.follow(Part::None, SOURCE, SOURCE);
    assert_eq!(followed.dropped[0].size.keys, 2000);
    assert_eq!(target.logged(), ["move-out"]);
    assert_eq!(target.receive(9, FrameBuilder::default()), Err(Unreceivable::UnknownMove(MOVE)));
}

#[test]
fn a_chunk_asked_for_when_the_move_has_ended_freezes_nothing() {
    let (mut source, _) = begun();
    assert_eq!(source.follow(got(0), SOURCE, SOURCE).thawed, [partition()]);
    let Node { keyspace, moves, .. } = &mut source;
    let freeze = || unreachable!("nobody would thaw the partition");
    let late = moves.next_chunk(keyspace, partition(), MOVE, freeze, FrameBuilder::default());
    assert_eq!(late.err(), Some(Ungivable::NoSuchMove(MOVE)));
}

#[test]
fn chunks_that_do_not_follow_each_other_are_refused() {
    let (mut source, mut target) = begun();
    let mut frame = || source.next_chunk(false).unwrap().frame;
    assert_eq!(target.receive(0, frame()), Ok(true));
    for found in [0, 2] {
        let gap = Unreceivable::Gap { move_id: MOVE, expected: 1, found };
        assert_eq!(target.receive(found, frame()), Err(gap));
    }
    assert_eq!(target.receive(1, frame()), Ok(false));
}

#[test]
fn a_move_ends_if_the_log_may_have_dropped_some_of_it() {
    for (first, second) in [(0, 1), (0, 2), (1, 1), (2, 3)] {
        let (mut source, mut target) = begun();
        let mut frame = || source.next_chunk(false).unwrap().frame;
        target.log_failures = first;
        let begun = target.receive(0, frame());
        target.log_failures = second;
        let outcome = begun.and_then(|_| target.receive(1, frame()));
        assert_eq!(outcome, Err(Unreceivable::LogFailed(MOVE)), "{first}, {second}");
    }
}

#[test]
fn what_is_left_of_another_move_is_not_taken_for_the_partition() {
    let (mut source, mut target) = begun();
    let chunks = stream(&mut source, &mut target, |_, _| {});
    target.logged();
    assert_eq!(target.follow(got(chunks + 1), TARGET, SOURCE).dropped.len(), 1);
    assert_eq!(target.get("{a}1"), None);
    // Nor by the next process, which has what the log says.
    assert_eq!(target.logged(), ["move-in", "own"]);
}

#[test]
fn keys_that_a_restart_finds_to_be_others_are_given_up() {
    let mut node = Node::new();
    node.put("{a}1", b"received, and never served");
    node.put("other", b"stays");
    node.logged();
    assert_eq!(node.follow(Part::None, SOURCE, SOURCE).dropped.len(), 1);
    assert_eq!(node.logged(), ["move-out"]);
    assert_eq!((node.get("{a}1"), node.get("other")), (None, Some(b"stays".to_vec())));
    assert!(node.follow(Part::None, SOURCE, SOURCE).dropped.is_empty());
    assert!(node.logged().is_empty(), "once is enough");
}

#[test]
fn databases_that_change_places_meanwhile_end_the_move() {
    let (mut source, _) = begun();
    source.next_chunk(false).unwrap();
    let swap =
        Record { partition: partition(), database: 0, operation: Operation::Swap { other: 1 } };
    source.keyspace.apply_coordinated(&swap);
    let ended = (0..1000).find_map(|_| source.next_chunk(false).err());
    assert_eq!(ended, Some(Ungivable::Void(MOVE)));
}

#[test]
fn only_a_move_of_the_table_is_given() {
    let mut source = Node::new();
    let refused = source.moves.give(&mut source.keyspace, partition(), MOVE);
    assert_eq!(refused, Err(Ungivable::NoSuchMove(MOVE)));
}
