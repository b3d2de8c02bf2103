//! What the socket-level tests share: servers to talk to, a raw RESP connection, a generator.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "each test binary uses its own part of this; tests may unwrap and read the clock"
)]

pub(crate) mod cluster;
pub(crate) mod exposition;
pub(crate) mod process;
pub(crate) mod random;
pub(crate) mod server;
pub(crate) mod text;
pub(crate) mod wire;
