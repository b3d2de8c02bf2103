//! A node of distcache.
//!
//! The request path: a connection reads bytes, [`distcache_protocol::resp`] decodes requests,
//! [`server::dispatch`] finds each command's row and refuses or routes it, each shard gets one
//! message with all its commands of this turn and executes them on its [`keyspace`], effects go
//! to the operation log, and the connection writes the replies in request order.
//!
//! Modules in reading order: [`command`], [`keyspace`], [`shard`], [`server`], [`actors`],
//! [`node`], [`monitor`], [`cluster`], [`http`], [`sockets`], [`start`], [`signals`], [`cli`],
//! [`config`], [`logger`], [`process`], [`files`], [`limits`], [`clock`].

pub mod actors;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod command;
pub mod compaction;
pub mod config;
pub mod files;
pub mod http;
pub mod keyspace;
pub mod limits;
pub mod logger;
pub mod monitor;
pub mod node;
pub mod oplog;
pub mod process;
pub mod records;
pub mod server;
pub mod shard;
pub mod signals;
pub mod sockets;
pub mod start;
