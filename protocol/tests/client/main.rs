//! The typed client against a real server: `redis-server` by default, or whatever listens at
//! `DISTCACHE_TEST_ADDR` (`host:port`).
#![expect(clippy::unwrap_used, reason = "also in the helpers, a failure is the test's")]

mod commands;
mod compute;
mod connection;
mod server;
