//! Every bound on what the log stores, in one place.
//!
//! The reader refuses what exceeds them before it allocates, the writer before it writes.

/// Bytes of records after which a [`FrameBuilder`](crate::FrameBuilder) counts as full.
///
/// A store insertion has a fixed cost, so smaller frames cost more a byte; larger ones are lost
/// as a whole when the tail is torn and make latency uneven.
pub const FRAME_BYTES_USUAL: usize = 32 * 1024;

/// Most payload bytes of one frame: a record of a 512 MiB key and a 512 MiB value must fit.
pub const FRAME_BYTES_MAX: usize = (1 << 30) + (1 << 20);

/// Most stored bytes of one piece of a frame, header included.
///
/// Pieces of this size stay inside the store's segments (a larger page would go to a file of its
/// own, which no sync covers) and fill an allocation class of 16 KiB with the store's counter.
pub const PIECE_BYTES_MAX: usize = 16 * 1024 - 64;

/// Largest payload that is compressed, so that decompression allocates no more than this.
pub const COMPRESS_BYTES_MAX: usize = 1 << 20;

/// Smallest payload worth compressing.
pub const COMPRESS_BYTES_MIN: usize = 512;

/// Frames written plain after one that did not compress, so that random values cost little.
pub const COMPRESS_PAUSE_FRAMES: u32 = 15;

/// Number of partitions: 16384 hash slots in groups of 16.
pub const PARTITIONS: usize = 1024;

/// Bytes that the reader asks of the store at once.
pub const READ_BYTES: usize = 1 << 20;

/// Free disk space below which the log calls the disk full while it can still write what is
/// already on its way; at most a tenth of the file system.
pub const RESERVE_BYTES: u64 = 64 << 20;

/// Appended bytes between two looks at the free disk space.
pub const SPACE_CHECK_BYTES: u64 = 4 << 20;

/// Most bytes of one entry of Raft's log: a membership of 256 nodes has about 70 KiB.
pub const RAFT_ENTRY_BYTES_MAX: usize = 1 << 20;

/// Most bytes of a file that is replaced as a whole: twice a snapshot of the cluster's table.
pub const SEALED_FILE_BYTES_MAX: usize = 2 << 20;
