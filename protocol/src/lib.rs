//! Bytes on the wire.
//!
//! Modules in reading order:
//! - [`limits`]: every bound on untrusted input, in one place;
//! - [`resp`]: requests and replies of the Redis protocol, RESP2 and RESP3;
//! - [`slot`]: which of the 16384 hash slots a key lives in;
//! - [`glob`]: Redis's pattern matching;
//! - [`peer`]: frames and the handshake between nodes;
//! - [`value`]: typed values, their serde and their bytes;
//! - `client` (with the feature of that name): the typed client;
//! - [`error`]: what a peer can do wrong, and whether its connection survives that.
//!
//! Nothing here does I/O, reads a clock or knows what a command means; only the typed client
//! (feature `client`) talks to sockets, through a client library.

#[cfg(feature = "client")]
pub mod client;
pub mod error;
pub mod glob;
pub mod limits;
pub mod peer;
pub mod resp;
pub mod slot;
pub mod value;
