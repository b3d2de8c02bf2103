//! Every bound on queues, batches and loops of a node, with the relations between them.

use std::time::Duration;

use distcache_protocol::peer::FORWARD_LINKS_MAX;

use crate::keyspace::walk::WalkLimits;

/// Messages a shard's mailbox holds before others wait for a place. Batches are not in it: they
/// are in the shard's inbox, at most one of each connection.
pub const SHARD_MAILBOX: usize = 4096;

/// Messages the log's mailbox holds before they only queue behind it; the bytes queued are what
/// is bounded.
pub const LOG_MAILBOX: usize = 4096;

/// Bytes handed over and not stored yet at which shards take no more batches.
pub const LOG_QUEUE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Bytes handed over and not stored yet below which they go on; copies wait for this too.
pub const LOG_QUEUE_BYTES_RESUME: usize = 8 * 1024 * 1024;

/// Bytes of records after which a shard hands over before it executes the next command: with those
/// of the largest one, they still fit into a frame.
pub const JOURNAL_BYTES_MAX: usize = 512 * 1024;

/// How long records stay in a shard before they go to the log, where nothing waits for them.
pub const HAND_OVER_AFTER: Duration = Duration::from_millis(5);

/// How long a shard copies keys into snapshots before it looks at its messages again.
pub const COPY_SLICE: Duration = Duration::from_micros(500);

/// Longest piece in which a copy writes a value, in bytes: a longer value is copied over several
/// slices, each of which copies one piece.
pub const COPY_PIECE_BYTES: usize = 1024 * 1024;

/// How often the copy of one long value begins again, as the value changes, before its shard
/// copies it without a look at its messages.
pub const COPY_RESTARTS_MAX: u32 = 8;

/// Blocks of the log that are read and not applied yet, at a start; a block has about 32 KiB.
pub const LOADING_BLOCKS_MAX: usize = 256;

/// Keys that one write evicts at most while memory is over its limit (about 100 us).
pub const EVICTED_KEYS_MAX: usize = 64;

/// Commands for which a shard warms the cache at once: 4 lines each, which fits the L1 cache's
/// larger neighbour.
pub const WARMED_COMMANDS: usize = 256;

/// Commands that a connection sends to the shards in one turn. More in its buffer wait for the
/// next turn, so that others get theirs.
pub const BATCH_COMMANDS_MAX: usize = 1024;

/// Bytes of replies after which a shard ends its turn on a batch: what is there is written to the
/// client first. So a client that does not read holds this much, and one reply, at most.
pub const BATCH_REPLY_BYTES_MAX: usize = 1024 * 1024;

/// Room for input that a connection keeps between requests, in bytes.
pub const READ_BUFFER_BYTES: usize = 16 * 1024;

/// Most bytes that a connection's buffer grows by at once, however long the argument that a
/// client announces: memory follows what has arrived, not what was promised.
pub const READ_GROWTH_BYTES_MAX: usize = 32 * 1024 * 1024;

/// An input buffer larger than this is given back once all that it holds is answered.
pub const INPUT_BUFFER_KEPT_BYTES: usize = 1024 * 1024;

/// An input buffer larger than this is given back where the requests of a second took less than
/// half of it.
pub const LARGE_BUFFER_BYTES: usize = 2 * READ_BUFFER_BYTES;

/// How long a client may be silent before its connection gives its buffers back.
pub const IDLE_BUFFERS_KEPT: Duration = Duration::from_secs(2);

/// A reply buffer larger than this is not kept for the next batch.
pub const REPLY_BUFFER_KEPT_BYTES: usize = 64 * 1024;

/// Bytes of requests for another node at which a connection sends them before it goes on. A batch
/// has these, and one request, at most.
pub const FORWARD_BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of replies to another node's batch after which the rest of it is not executed. A batch
/// has these replies, and those of one turn of each shard or of one command over several, at most;
/// each of them ends with a reply as long as that is.
pub const FORWARD_REPLY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long a node may take to answer a batch, connecting included. Longer than it takes until one
/// that is cut off has lost its partitions.
pub const FORWARD_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a command is sent after keys that move, and how long between two times: about as long
/// as a move keeps a partition from being served at most.
pub const FOLLOW_ATTEMPTS_MAX: usize = 200;

/// See [`FOLLOW_ATTEMPTS_MAX`].
pub const FOLLOW_PAUSE: Duration = Duration::from_millis(10);

/// How often it is asked whether the pause of another node (`CLIENT PAUSE`) is over. The node holds
/// nothing meanwhile: what it holds for a peer is bounded, and reads are to pass.
pub const PAUSED_POLL: Duration = Duration::from_millis(50);

/// Time that a command of a client that knows the slots waits for keys that are arriving.
pub const ARRIVAL_WAIT_MAX: Duration = Duration::from_secs(1);

/// Time between two looks whether they have.
pub const ARRIVAL_PAUSE: Duration = Duration::from_millis(1);

/// Time that a stop leaves the log and consensus at least, however short `shutdown-timeout` is.
pub const STOP_DISK_MIN: Duration = Duration::from_secs(1);

/// Time that a node which has left its cluster goes on answering, with where the keys are now: it
/// is what others have sent before they heard of it.
pub const LEFT_LINGER: Duration = Duration::from_secs(3);

/// The same, while clients of its direct port are connected: they have it on their map of the
/// slots, and learn by asking it that they should not.
pub const LEFT_LINGER_CLIENTS_MAX: Duration = Duration::from_secs(15);

const _: () = assert!(BATCH_REPLY_BYTES_MAX >= REPLY_BUFFER_KEPT_BYTES);
const _: () = assert!(INPUT_BUFFER_KEPT_BYTES >= READ_BUFFER_BYTES);
const _: () = assert!(READ_GROWTH_BYTES_MAX >= READ_BUFFER_BYTES);
const _: () = assert!(LOG_QUEUE_BYTES_RESUME < LOG_QUEUE_BYTES_MAX);

/// Connections of the HTTP port at a time; more are closed at once.
pub const HTTP_CONNECTIONS_MAX: usize = 64;

/// Bytes of a client's name, and of those of its library: they stay as long as the connection does.
pub const CLIENT_NAME_BYTES_MAX: usize = 4096;

/// Open files of the node itself: listeners, event queues, the log and consensus (about 35), and
/// those that are open for a moment, as while the configuration is rewritten.
pub const FILES_NODE: u64 = 64;

/// Open files of a shard's thread: its event queue.
pub const FILES_PER_SHARD: u64 = 4;

/// Connections to and from one other node: of each class one in each direction; of class forward,
/// one a thread, of which the other node is taken to have as many.
pub const fn bus_connections_of_peer(shards: u64) -> u64 {
    let forward = if shards < FORWARD_LINKS_MAX as u64 { shards } else { FORWARD_LINKS_MAX as u64 };
    2 * (3 + forward)
}

/// How long a client that speaks HTTP to the wrong port is not warned of again, as in Redis.
pub const HTTP_WARNING_PAUSE: Duration = Duration::from_secs(60);

/// How long a warning that anybody can cause again and again is not repeated.
pub const WARNING_PAUSE: Duration = Duration::from_secs(10);

/// Bytes of an HTTP request's first line and headers. Its body is not read.
pub const HTTP_HEADER_BYTES_MAX: usize = 8 * 1024;

/// How long an HTTP client may take to send them.
pub const HTTP_HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a scrape waits for the shards.
pub const HTTP_SCRAPE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an HTTP connection lasts in all, with what the client takes to read the answer.
pub const HTTP_EXCHANGE_TIMEOUT: Duration = Duration::from_secs(15);

const _: () = assert!(
    HTTP_EXCHANGE_TIMEOUT.as_secs() > HTTP_HEADER_TIMEOUT.as_secs() + HTTP_SCRAPE_TIMEOUT.as_secs()
);

/// How far `KEYS` and `SCAN` go in one visit of a shard: a few ms of its time.
pub const WALK_SLICE: WalkLimits = WalkLimits { keys: 16 * 1024, slots: 4096 };

/// How often `FLUSHALL` over several nodes is done again while partitions move, and how long
/// between two times: longer than it takes until a node knows of a move.
pub const FLUSH_ATTEMPTS_MAX: usize = 50;

/// See [`FLUSH_ATTEMPTS_MAX`].
pub const FLUSH_PAUSE: Duration = Duration::from_millis(200);

/// Partitions that a node goes through for one `SCAN` over all nodes: a sixteenth of all, so that
/// an iteration over nearly empty nodes takes few calls.
pub const SCANNED_PARTITIONS_MAX: usize = 64;

/// Steps of one slice of active expiry: a step is a segment passed or a key looked at. About
/// 1 ms.
pub const EXPIRY_SLICE_STEPS: usize = 20 * 1024;

/// Steps that the removal of a key counts as: it is freed and logged.
pub const EXPIRY_STEPS_PER_REMOVAL: usize = 4;

/// Time between two slices of active expiry.
pub const EXPIRY_PAUSE: Duration = Duration::from_millis(100);

/// The same while much is due: a quarter of the shard's time at most.
pub const EXPIRY_PAUSE_BUSY: Duration = Duration::from_millis(3);

/// Bytes of a move's stream that wait in the source's shard at which commands on the partition
/// wait as well, until they are taken: so the rest of the stream gets shorter and the move ends.
pub const MOVE_BACKLOG_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of a move's stream that are sent and not answered yet, above which the source waits.
pub const MOVE_WINDOW_BYTES: usize = 2 * 1024 * 1024;

/// Longest request of a move's stream; a chunk that is longer takes several.
pub const MOVE_REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Partitions of a node that are frozen at a time.
pub const MOVES_FROZEN_MAX: usize = 2;

/// How long a partition whose copy is through waits for its turn to be frozen before the next
/// chunk is taken.
pub const MOVES_TURN_WAIT_MAX: Duration = Duration::from_millis(20);

/// How long a copy rests, before each of its chunks, while another partition of the node is frozen.
pub const MOVES_REST_FROZEN_MAX: Duration = Duration::from_millis(20);

/// Bytes of chunks that have not arrived whole, of all moves to a node.
pub const MOVES_CUT_BYTES_MAX: usize = 2 << 30;

/// Bytes of copies that a node takes while what came of another partition is brought to its disk;
/// then they rest.
pub const MOVES_BESIDE_BYTES_MAX: usize = 1024 * 1024;

/// How long they rest at most.
pub const MOVES_REST_MAX: Duration = Duration::from_secs(4);

/// How long a node that is to receive a partition may take to hear so from the table.
pub const MOVE_KNOWN_WITHIN: Duration = Duration::from_secs(2);

/// How long a node may take for a chunk before the move is cancelled.
pub const MOVE_CHUNK_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the source waits for `Switch` before it proposes `CancelMove`.
pub const MOVE_SWITCH_TIMEOUT: Duration = Duration::from_millis(500);

/// How long each proposal of `CancelMove` waits before the next one.
pub const MOVE_CANCEL_TIMEOUT: Duration = Duration::from_secs(1);

/// How often a value may change while it is copied in pieces before its writers wait.
pub const MOVE_RESTARTS_MAX: u32 = 3;

const _: () = assert!(MOVES_REST_MAX.as_millis() * 2 < MOVE_CHUNK_TIMEOUT.as_millis());
const _: () =
    assert!(MOVE_REQUEST_BYTES_MAX < distcache_protocol::limits::PEER_DATA_BODY_BYTES_MAX);
