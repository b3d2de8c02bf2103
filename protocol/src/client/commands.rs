//! The commands of the typed client.

use std::time::Duration;

use redis::Value as RedisValue;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::set_options::milliseconds;
use super::{CacheClient, ClientError, SetOptions, command, decode, key_bytes, value_bytes};

/// How long a key still lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// There is no such key.
    Missing,
    /// It does not expire.
    Unlimited,
    /// So long, in whole milliseconds.
    Remaining(Duration),
}

impl CacheClient {
    /// Stores `value` under `key`, whatever was there, without expiry.
    ///
    /// # Errors
    ///
    /// Those of [`ClientError`] that concern sending; so for all the commands here.
    pub async fn set(&self, key: impl Serialize, value: impl Serialize) -> Result<(), ClientError> {
        self.set_with(key, value, SetOptions::new()).await.map(|_| ())
    }

    /// Stores `value` under `key` as `options` say; returns whether their condition held.
    ///
    /// # Errors
    ///
    /// As [`CacheClient::set`].
    pub async fn set_with(
        &self,
        key: impl Serialize,
        value: impl Serialize,
        options: SetOptions,
    ) -> Result<bool, ClientError> {
        let key = key_bytes(&key)?;
        let mut set = command("SET", &key);
        set.arg(value_bytes(&key, &value)?);
        options.add_to(&mut set);
        let reply: RedisValue = self.write(set, &key).await?;
        Ok(reply != RedisValue::Nil)
    }

    /// Stores `value` under `key` as `options` say; returns the value that was there, whether or
    /// not the condition held.
    ///
    /// # Errors
    ///
    /// As [`CacheClient::set`]; [`ClientError::Decode`] if a `T` was not there: the new value is
    /// stored then.
    pub async fn replace<T: DeserializeOwned>(
        &self,
        key: impl Serialize,
        value: impl Serialize,
        options: SetOptions,
    ) -> Result<Option<T>, ClientError> {
        let key = key_bytes(&key)?;
        let mut set = command("SET", &key);
        set.arg(value_bytes(&key, &value)?).arg("GET");
        options.add_to(&mut set);
        let old: Option<Vec<u8>> = self.write(set, &key).await?;
        old.map(|bytes| decode(&key, bytes)).transpose()
    }

    /// Returns the value under `key`, if there is one.
    ///
    /// # Errors
    ///
    /// [`ClientError::Decode`] if it is no `T`, [`ClientError::WrongType`] if it is a collection
    /// of Redis.
    pub async fn get<T: DeserializeOwned>(
        &self,
        key: impl Serialize,
    ) -> Result<Option<T>, ClientError> {
        let key = key_bytes(&key)?;
        let stored: Option<Vec<u8>> = self.read(command("GET", &key), &key).await?;
        stored.map(|bytes| decode(&key, bytes)).transpose()
    }

    /// Returns the values under `keys`, in their order, in one round trip.
    ///
    /// # Errors
    ///
    /// [`ClientError::Decode`] naming the first that is no `T`.
    pub async fn get_many<T: DeserializeOwned>(
        &self,
        keys: impl IntoIterator<Item = impl Serialize>,
    ) -> Result<Vec<Option<T>>, ClientError> {
        let keys = all_key_bytes(keys)?;
        // `MGET` without keys is an error at the server.
        let Some(first) = keys.first() else { return Ok(Vec::new()) };
        let mut get = redis::cmd("MGET");
        get.arg(keys.as_slice());
        let stored: Vec<Option<Vec<u8>>> = self.read(get, first).await?;
        let decode_at = |(key, bytes): (&Vec<u8>, Option<Vec<u8>>)| {
            bytes.map(|bytes| decode(key, bytes)).transpose()
        };
        keys.iter().zip(stored).map(decode_at).collect()
    }

    /// Stores all the pairs at once, without expiry: no reader of the same node sees some only.
    ///
    /// # Errors
    ///
    /// As [`CacheClient::set`].
    pub async fn set_many(
        &self,
        pairs: impl IntoIterator<Item = (impl Serialize, impl Serialize)>,
    ) -> Result<(), ClientError> {
        let mut set = redis::cmd("MSET");
        let mut first = None;
        for (key, value) in pairs {
            let key = key_bytes(&key)?;
            set.arg(&key).arg(value_bytes(&key, &value)?);
            first.get_or_insert(key);
        }
        match first {
            Some(first) => self.write(set, &first).await,
            None => Ok(()),
        }
    }

    /// Deletes `key`; returns whether it was there.
    ///
    /// # Errors
    ///
    /// As [`CacheClient::set`].
    pub async fn delete(&self, key: impl Serialize) -> Result<bool, ClientError> {
        Ok(self.delete_many([key]).await? > 0)
    }

    /// Deletes `keys`; returns how many were there.
    ///
    /// # Errors
    ///
    /// As [`CacheClient::set`].
    pub async fn delete_many(
        &self,
        keys: impl IntoIterator<Item = impl Serialize>,
    ) -> Result<u64, ClientError> {
        let keys = all_key_bytes(keys)?;
        let Some(first) = keys.first() else { return Ok(0) };
        let mut delete = redis::cmd("DEL");
        delete.arg(keys.as_slice());
        self.write(delete, first).await
    }

    /// Returns whether there is a value under `key`.
    ///
    /// # Errors
    ///
    /// As [`CacheClient::set`].
    pub async fn exists(&self, key: impl Serialize) -> Result<bool, ClientError> {
        let key = key_bytes(&key)?;
        self.read(command("EXISTS", &key), &key).await
    }

    /// Adds `amount` to the integer under `key`, 0 if there is none; returns the sum.
    ///
    /// One step at the server: no addition is lost, whoever adds at the same time.
    ///
    /// # Errors
    ///
    /// [`ClientError::Server`] if the value is no integer or the sum does not fit 64 bits.
    pub async fn add(&self, key: impl Serialize, amount: i64) -> Result<i64, ClientError> {
        let key = key_bytes(&key)?;
        let mut add = command("INCRBY", &key);
        add.arg(amount);
        self.write(add, &key).await
    }

    /// Adds 1, as [`CacheClient::add`].
    ///
    /// # Errors
    ///
    /// As [`CacheClient::add`].
    pub async fn increment(&self, key: impl Serialize) -> Result<i64, ClientError> {
        self.add(key, 1).await
    }

    /// Subtracts 1, as [`CacheClient::add`].
    ///
    /// # Errors
    ///
    /// As [`CacheClient::add`].
    pub async fn decrement(&self, key: impl Serialize) -> Result<i64, ClientError> {
        self.add(key, -1).await
    }

    /// Lets `key` expire after `ttl`, in milliseconds rounded up; returns whether it is there.
    ///
    /// # Errors
    ///
    /// As [`CacheClient::set`].
    pub async fn expire(&self, key: impl Serialize, ttl: Duration) -> Result<bool, ClientError> {
        let key = key_bytes(&key)?;
        let mut expire = command("PEXPIRE", &key);
        expire.arg(milliseconds(ttl));
        self.write(expire, &key).await
    }

    /// Removes the deadline of `key`; returns whether it had one.
    ///
    /// # Errors
    ///
    /// As [`CacheClient::set`].
    pub async fn persist(&self, key: impl Serialize) -> Result<bool, ClientError> {
        let key = key_bytes(&key)?;
        self.write(command("PERSIST", &key), &key).await
    }

    /// Returns how long `key` still lives.
    ///
    /// # Errors
    ///
    /// As [`CacheClient::set`].
    pub async fn ttl(&self, key: impl Serialize) -> Result<Lifetime, ClientError> {
        let key = key_bytes(&key)?;
        let remaining: i64 = self.read(command("PTTL", &key), &key).await?;
        Ok(lifetime(remaining))
    }
}

/// Returns what a reply to `PTTL` means.
pub(super) fn lifetime(remaining_ms: i64) -> Lifetime {
    match u64::try_from(remaining_ms) {
        Ok(remaining) => Lifetime::Remaining(Duration::from_millis(remaining)),
        Err(_) if remaining_ms == -1 => Lifetime::Unlimited,
        Err(_) => Lifetime::Missing,
    }
}

fn all_key_bytes(
    keys: impl IntoIterator<Item = impl Serialize>,
) -> Result<Vec<Vec<u8>>, ClientError> {
    keys.into_iter().map(|key| key_bytes(&key)).collect()
}
