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

use std::ffi::CString;
use std::io;

use actix_rt::Arbiter;

/// Starts a thread for actors. `name` is what system tools show of it (`top -H`, `perf`): 15 bytes
/// of it.
///
/// # Errors
/// What the system says if it has no thread left; `InvalidInput` if the name holds a zero byte.
pub fn arbiter(name: &str) -> io::Result<Arbiter> {
    let name = CString::new(name)?;
    let arbiter = Arbiter::try_new()?;
    arbiter.spawn(async move {
        // A thread without its name works as well.
        let _ = rustix::thread::set_name(&name);
    });
    Ok(arbiter)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[actix_rt::test]
    async fn threads_have_names_that_tools_show() {
        let (told, name) = tokio::sync::oneshot::channel();
        arbiter("shard-0").unwrap().spawn(async move {
            told.send(fs::read_to_string("/proc/thread-self/comm").unwrap()).unwrap();
        });
        assert_eq!(name.await.unwrap(), "shard-0\n");
        assert!(arbiter("a\0b").is_err());
    }
}
