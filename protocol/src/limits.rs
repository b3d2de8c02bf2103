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

/// Deepest nesting of typed values within a typed value: bounds the stack that decoding takes.
pub const VALUE_DEPTH_MAX: usize = 128;

/// Most values (elements, keys, fields, each counted) in one typed value: one byte of input can
/// claim a value of some 32 bytes in memory.
pub const VALUE_NODES_MAX: usize = 16 * 1024 * 1024;

const _: () = assert!(QUERY_BUFFER_BYTES_MAX < u32::MAX as usize);
const _: () = assert!(BULK_BYTES_MAX as usize <= QUERY_BUFFER_BYTES_MAX);
