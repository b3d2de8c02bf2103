//! Several commands in one round trip.

use std::time::Duration;

use redis::{Cmd, RedisResult, Value as RedisValue};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::key_text;
use super::set_options::milliseconds;
use super::{CacheClient, ClientError, SetOptions, command, decode, key_bytes, value_bytes};
use crate::value::{Value, from_value};

/// Commands that are collected and sent together, in their order.
///
/// They are no transaction: commands of others may come between them, and one that fails does not
/// stop the others.
///
/// ```no_run
/// # use distcache_protocol::client::{CacheClient, ClientError};
/// # async fn example(client: CacheClient) -> Result<(), ClientError> {
/// let mut replies = client.pipeline().set("a", 1).add("a", 2).get("a").execute().await?;
/// assert_eq!(replies.take::<bool>()?, Some(true));
/// assert_eq!(replies.take::<i64>()?, Some(3));
/// assert_eq!(replies.take::<String>()?, Some("3".to_owned()));
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is sent before execute"]
pub struct Pipeline<'a> {
    client: &'a CacheClient,
    commands: redis::Pipeline,
    keys: Vec<Vec<u8>>,
    /// The first key or value that could not be encoded.
    failure: Option<ClientError>,
}

impl CacheClient {
    /// Returns an empty pipeline.
    pub fn pipeline(&self) -> Pipeline<'_> {
        let commands = redis::pipe();
        Pipeline { client: self, commands, keys: Vec::new(), failure: None }
    }
}

impl Pipeline<'_> {
    /// Adds a command; its reply is `true`. See [`CacheClient::set`].
    pub fn set(self, key: impl Serialize, value: impl Serialize) -> Self {
        self.set_with(key, value, SetOptions::new())
    }

    /// Adds a command; its reply is `true`, or nothing if the condition did not hold. See
    /// [`CacheClient::set_with`].
    pub fn set_with(self, key: impl Serialize, value: impl Serialize, options: SetOptions) -> Self {
        self.push("SET", key, |key, set| {
            set.arg(value_bytes(key, &value)?);
            options.add_to(set);
            Ok(())
        })
    }

    /// Adds a command; its reply is the value, if there is one. See [`CacheClient::get`].
    pub fn get(self, key: impl Serialize) -> Self {
        self.push("GET", key, |_, _| Ok(()))
    }

    /// Adds a command; its reply is the number of keys deleted. See [`CacheClient::delete`].
    pub fn delete(self, key: impl Serialize) -> Self {
        self.push("DEL", key, |_, _| Ok(()))
    }

    /// Adds a command; its reply is the sum. See [`CacheClient::add`].
    pub fn add(self, key: impl Serialize, amount: i64) -> Self {
        self.push("INCRBY", key, |_, add| {
            add.arg(amount);
            Ok(())
        })
    }

    /// Adds a command; its reply is 1 if the key is there, else 0. See [`CacheClient::expire`].
    pub fn expire(self, key: impl Serialize, ttl: Duration) -> Self {
        self.push("PEXPIRE", key, |_, expire| {
            expire.arg(milliseconds(ttl));
            Ok(())
        })
    }

    fn push(
        mut self,
        name: &str,
        key: impl Serialize,
        arguments: impl FnOnce(&[u8], &mut Cmd) -> Result<(), ClientError>,
    ) -> Self {
        let built = key_bytes(&key).and_then(|key| {
            let mut command = command(name, &key);
            arguments(&key, &mut command)?;
            Ok((key, command))
        });
        match built {
            Ok((key, command)) => {
                self.commands.add_command(command);
                self.keys.push(key);
            }
            Err(error) => drop(self.failure.get_or_insert(error)),
        }
        self
    }

    /// Sends the commands and returns their replies.
    ///
    /// # Errors
    ///
    /// [`ClientError::EncodeKey`] and [`ClientError::Encode`] before anything is sent;
    /// [`ClientError::Connection`] and [`ClientError::Timeout`] for all together. What the server
    /// says of one command is in its reply.
    pub async fn execute(mut self) -> Result<Replies, ClientError> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        if self.keys.is_empty() {
            return Ok(Replies(Vec::new().into_iter()));
        }
        let shared = &self.client.shared;
        let mut connection = shared.connection.clone();
        let replies: RedisResult<Vec<RedisResult<RedisValue>>> =
            self.commands.ignore_errors().query_async(&mut connection).await;
        let error = |error, key: &[u8]| ClientError::from_redis(error, &shared.address, key);
        let replies = replies.map_err(|source| error(source, b""))?;
        let with_key = |(key, reply): (Vec<u8>, RedisResult<RedisValue>)| {
            let reply = reply.map_err(|source| error(source, &key));
            (key, reply)
        };
        let replies: Vec<_> = self.keys.into_iter().zip(replies).map(with_key).collect();
        Ok(Replies(replies.into_iter()))
    }
}

/// The replies to a pipeline, in the order of its commands.
#[derive(Debug)]
pub struct Replies(std::vec::IntoIter<(Vec<u8>, Result<RedisValue, ClientError>)>);

impl Replies {
    /// Returns how many have not been taken yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether all have been taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the reply to the next command; nothing if that command found no value.
    ///
    /// # Errors
    ///
    /// What the server said to this command; [`ClientError::Decode`] if the reply is no `T`.
    ///
    /// # Panics
    ///
    /// If there are no more commands.
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ClientError> {
        let (key, reply) = self.0.next().expect("one reply for each command of the pipeline");
        let value = match reply? {
            RedisValue::Nil => return Ok(None),
            RedisValue::BulkString(bytes) => return decode(&key, bytes).map(Some),
            RedisValue::Int(number) => Value::from(number),
            RedisValue::Okay => Value::Bool(true),
            other => Value::String(format!("{other:?}")),
        };
        let type_name = std::any::type_name::<T>();
        let key = key_text(&key);
        from_value(value).map(Some).map_err(|source| ClientError::Decode { key, type_name, source })
    }
}
