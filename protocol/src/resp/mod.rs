//! The Redis protocol: requests as clients send them, replies in RESP2 and RESP3.
//!
//! - [`decode`]: arrays of bulk strings and inline commands, from a growing buffer;
//! - [`reply`]: the writer of replies, which knows what RESP2 calls a RESP3 type.

pub mod decode;
pub mod reply;

pub use decode::{ArgRange, DecodeLimits, Decoded, RequestDecoder};
pub use reply::{ReplyBuffer, RespVersion};
