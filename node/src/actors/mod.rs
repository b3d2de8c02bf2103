//! The actors: thin shells around the pure parts.
//!
//! ```text
//! connections, coordinators --RunTurn, Hold, Release, Visit--> Shard (one a core)
//!                                                              |
//!                     Append, WriteChunk, EndSnapshot, Sync    v
//! coordinators --------------------------------------------> OpLog (one, on its own thread)
//!
//! follower --Follow, Wake--> Shard <--Give, NextChunk, Receive-- moves
//! start --Announce--> MembershipActor (one, on the thread of consensus)
//! ```
//!
//! A shard's batches do not travel in messages: they wait in its inbox, and `RunTurn` tells it so.
//! A shard's mailbox is bounded by messages (`SHARD_MAILBOX`), the log's by the bytes queued for
//! it (`LOG_QUEUE_BYTES_MAX`). Stop order: connections, membership with
//! the bus and consensus, shards, log.

pub mod membership;
pub mod oplog;
pub mod shard;
