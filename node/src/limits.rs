//! Every bound on queues, batches and loops of a node, with the relations between them.

/// Messages a shard's mailbox holds. A connection has at most one message a shard under way, so
/// this only bounds how many connections may wait at once before the others wait for a place.
pub const SHARD_MAILBOX: usize = 4096;

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

/// A reply buffer larger than this is not kept for the next batch.
pub const REPLY_BUFFER_KEPT_BYTES: usize = 64 * 1024;

const _: () = assert!(BATCH_REPLY_BYTES_MAX >= REPLY_BUFFER_KEPT_BYTES);
const _: () = assert!(READ_GROWTH_BYTES_MAX >= READ_BUFFER_BYTES);
