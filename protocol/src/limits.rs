//! Every bound on what an untrusted peer can make us hold or do.

/// Most arguments a request may have, its name included (Redis: 1024 * 1024).
pub const ARGUMENTS_MAX: usize = 1_048_576;

/// Longest inline request, and longest header line of a multi-bulk request, in bytes.
pub const INLINE_BYTES_MAX: usize = 64 * 1024;

/// Longest bulk argument by default, in bytes (`proto-max-bulk-len` changes it at run time).
pub const BULK_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// Longest bulk argument before the client has authenticated, in bytes.
pub const BULK_BYTES_UNAUTHENTICATED_MAX: u64 = 16 * 1024;

/// Most arguments of a request before the client has authenticated.
pub const ARGUMENTS_UNAUTHENTICATED_MAX: usize = 10;

/// Most bytes of requests waiting in one connection's buffer by default
/// (`client-query-buffer-limit` changes it at run time). Offsets into it are `u32`.
pub const QUERY_BUFFER_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// Most bytes in one connection's buffer whatever the configuration says: more than that has no
/// offsets.
pub const QUERY_BUFFER_BYTES_HARD_MAX: u64 = u32::MAX as u64;

/// Deepest nesting of typed values within a typed value: bounds the stack that decoding takes.
pub const VALUE_DEPTH_MAX: usize = 128;

/// Most values (elements, keys, fields, each counted) in one typed value: one byte of input can
/// claim a value of some 32 bytes in memory.
pub const VALUE_NODES_MAX: usize = 16 * 1024 * 1024;

/// Longest body of a frame between nodes in class Control, in bytes.
pub const PEER_CONTROL_BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Longest body of a frame between nodes in the classes Forward, Replication and Bulk, in bytes.
pub const PEER_DATA_BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Longest part of a message that comes in parts, in bytes; a longer message of class Forward is
/// cut. Other messages pass between two parts, so this is how long they wait.
pub const PEER_PART_BYTES_MAX: usize = 1024 * 1024;

/// Longest request in class Forward, in bytes: what a client's connection can hold at most.
pub const PEER_REQUEST_BYTES_MAX: usize = QUERY_BUFFER_BYTES_HARD_MAX as usize;

/// Longest reply in class Forward, in bytes. Each shard may give one reply that it could not know
/// the length of, as long as a value may be, before it is known that together they are too many:
/// lost, they would be what `GETDEL` has deleted.
pub const PEER_REPLY_BYTES_MAX: usize = 16 << 30;

/// Bodies up to this length are copied out of the read buffer, in bytes: who keeps a small body
/// must not keep the whole buffer with it.
pub const PEER_BODY_COPIED_BYTES_MAX: usize = 4 * 1024;

/// Most bytes that the reader of a frame asks room for at once: memory follows what has arrived,
/// not the length that was announced.
pub const PEER_READ_BYTES_MAX: usize = 256 * 1024;

/// Longest content of one message of the handshake between nodes, in bytes. Nothing is proven
/// yet when it is read.
pub const PEER_HANDSHAKE_BYTES_MAX: usize = 1024;

/// Longest text of a refusal between nodes, in bytes; longer ones are cut.
pub const PEER_REFUSAL_TEXT_BYTES_MAX: usize = 640;

const _: () = assert!(PEER_REFUSAL_TEXT_BYTES_MAX < PEER_HANDSHAKE_BYTES_MAX);
const _: () = assert!(PEER_DATA_BODY_BYTES_MAX < u32::MAX as usize / 2);
const _: () = assert!(PEER_PART_BYTES_MAX <= PEER_DATA_BODY_BYTES_MAX);
const _: () = assert!((QUERY_BUFFER_BYTES_MAX as u64) < QUERY_BUFFER_BYTES_HARD_MAX);
const _: () = assert!(BULK_BYTES_MAX as usize <= QUERY_BUFFER_BYTES_MAX);
