//! The actors: thin shells around the pure parts.
//!
//! ```text
//! connection tasks --Execute--> Shard (one a core, each on its own arbiter)
//! ```

pub mod shard;
