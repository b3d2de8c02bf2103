//! The typed client: keys and values of any serde type, over a Redis client library.
//!
//! Reading order: [`CacheClient`] (the commands, in `commands`), [`ConnectOptions`],
//! [`ComputeOptions`] (`compute`: one caller computes, the others wait or get the old value),
//! [`Pipeline`], [`ClientError`].
//!
//! ```no_run
//! use std::time::Duration;
//! use distcache_protocol::client::{CacheClient, ClientError};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct User {
//!     name: String,
//!     age: u8,
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), ClientError> {
//!     let client = CacheClient::connect("127.0.0.1:2050").await?;
//!     client.set("brazil", "football").await?;
//!     client.set(1, 2).await?;
//!     client.set("user:1", &User { name: "Ada".into(), age: 36 }).await?;
//!     let user: Option<User> = client.get("user:1").await?;
//!     let several: Vec<Option<String>> = client.get_many(["brazil", "france"]).await?;
//!     let visits = client.add("visits", 5).await?;
//!     let ttl = Duration::from_secs(60);
//!     let answer: u64 = client.get_or_compute("answer", ttl, async { 6 * 7 }).await?;
//! #   let _ = (user, several, visits, answer);
//!     Ok(())
//! }
//! ```
//!
//! What each Rust type becomes in the cache is told in [`value`]; what keys are, in
//! [`value::codec`].
//!
//! # When the connection breaks
//!
//! The connection is opened again in the background, with growing pauses between the attempts.
//! Commands that come in the meantime wait for it. A command that was under way fails with
//! [`ClientError::Connection`], since nobody knows whether the server had carried it out; only
//! commands that change nothing are sent a second time without a word.

mod commands;
mod compute;
mod connect;
mod error;
mod flight;
mod lock;
mod pipeline;
mod set_options;

use std::sync::Arc;

use redis::aio::ConnectionManager;
use redis::{Cmd, FromRedisValue};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use commands::Lifetime;
pub use compute::ComputeOptions;
pub use connect::ConnectOptions;
pub use error::ClientError;
pub use pipeline::{Pipeline, Replies};
pub use set_options::{Condition, Expiry, SetOptions};

use crate::value;
use flight::Flights;

/// A connection to a cache node that any number of tasks share.
///
/// Cloning is cheap and gives another handle of the same connection; commands of all tasks are
/// pipelined on it. It lives in the tokio runtime in which it was made.
#[derive(Clone)]
pub struct CacheClient {
    shared: Arc<Shared>,
}

struct Shared {
    /// Where we are connected to, without the password: for error texts.
    address: String,
    connection: ConnectionManager,
    flights: Arc<Flights>,
}

impl std::fmt::Debug for CacheClient {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("CacheClient").field("address", &self.shared.address).finish()
    }
}

impl CacheClient {
    /// Connects to `address`: `host:port`, `host` (port 2050), or a URL
    /// `redis://user:password@host:port/database`.
    ///
    /// # Errors
    ///
    /// [`ClientError::Address`] if that is no address, [`ClientError::Connection`] and
    /// [`ClientError::Timeout`] if there is no answer after the attempts of
    /// [`ConnectOptions::default`], [`ClientError::Server`] if the password is wrong.
    pub async fn connect(address: &str) -> Result<Self, ClientError> {
        let address = address.to_owned();
        Self::connect_with(ConnectOptions { address, ..ConnectOptions::default() }).await
    }

    /// Connects as `options` say.
    ///
    /// # Errors
    ///
    /// As [`CacheClient::connect`].
    pub async fn connect_with(options: ConnectOptions) -> Result<Self, ClientError> {
        let (address, connection) = options.open().await?;
        Ok(Self { shared: Arc::new(Shared { address, connection, flights: Arc::default() }) })
    }

    /// Sends a command that changes something: exactly once.
    async fn write<T: FromRedisValue>(&self, command: Cmd, key: &[u8]) -> Result<T, ClientError> {
        let mut connection = self.shared.connection.clone();
        let reply = command.query_async(&mut connection).await;
        reply.map_err(|error| ClientError::from_redis(error, &self.shared.address, key))
    }

    /// Sends a command that changes nothing: a second time if the connection broke meanwhile.
    async fn read<T: FromRedisValue>(&self, command: Cmd, key: &[u8]) -> Result<T, ClientError> {
        let mut connection = self.shared.connection.clone();
        let mut reply = command.query_async(&mut connection).await;
        if let Err(error) = &reply
            && error.is_connection_dropped()
            && !error.is_connection_refusal()
        {
            reply = command.query_async(&mut connection).await;
        }
        reply.map_err(|error| ClientError::from_redis(error, &self.shared.address, key))
    }
}

/// Returns the bytes of a key.
fn key_bytes<K: Serialize + ?Sized>(key: &K) -> Result<Vec<u8>, ClientError> {
    value::encode_key(key)
        .map_err(|source| ClientError::EncodeKey { type_name: std::any::type_name::<K>(), source })
}

/// Returns the bytes of a value that is to be stored under `key`.
fn value_bytes<V: Serialize + ?Sized>(key: &[u8], value: &V) -> Result<Vec<u8>, ClientError> {
    value::encode(value).map_err(|source| ClientError::Encode {
        key: error::key_text(key),
        type_name: std::any::type_name::<V>(),
        source,
    })
}

/// Returns the `T` that was stored under `key`.
fn decode<T: DeserializeOwned>(key: &[u8], bytes: Vec<u8>) -> Result<T, ClientError> {
    value::decode(bytes).map_err(|source| ClientError::Decode {
        key: error::key_text(key),
        type_name: std::any::type_name::<T>(),
        source,
    })
}

/// Returns the command `name` with its first argument.
fn command(name: &str, key: &[u8]) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(key);
    command
}
