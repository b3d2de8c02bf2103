//! What can go wrong between a caller and the cache.

use redis::{ErrorKind, RedisError};

use crate::value::ValueError;

/// The most characters of a key that an error repeats.
const KEY_CHARS_MAX: usize = 80;

/// Why a call to the cache failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address cannot be understood. Nothing was sent.
    #[error("{address:?} is no address of a cache node: {reason}")]
    Address {
        /// The address as it was given, without a password.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No connection, or it broke. A write that was under way may have been carried out.
    #[error("no connection to {address}: {source}")]
    Connection {
        /// Where to.
        address: String,
        /// What the client library says.
        source: RedisError,
    },
    /// No answer in time. A write may have been carried out.
    #[error("no answer from {address} in time: {source}")]
    Timeout {
        /// Where from.
        address: String,
        /// What the client library says.
        source: RedisError,
    },
    /// The key holds a value on which the command does not work, such as a Redis list. Nothing
    /// was changed.
    #[error("key {key:?} holds the wrong type: {text}")]
    WrongType {
        /// The key, shortened.
        key: String,
        /// The server's words.
        text: String,
    },
    /// The server refused the command: wrong password, no memory left, still loading, text where
    /// an integer is needed. Nothing was changed.
    #[error("server refused: {code} {text}")]
    Server {
        /// The first word of the server's answer, such as `ERR` or `OOM`.
        code: String,
        /// The rest of the answer.
        text: String,
    },
    /// The server's answer is not of the kind that the command has. Should not happen.
    #[error("unexpected reply from {address}: {reason}")]
    Reply {
        /// Where from.
        address: String,
        /// What was unexpected.
        reason: String,
    },
    /// The key cannot be written as bytes. Nothing was sent.
    #[error("cannot encode a key of type {type_name}: {source}")]
    EncodeKey {
        /// The Rust type of the key.
        type_name: &'static str,
        /// Why not.
        source: ValueError,
    },
    /// The value cannot be written as bytes. Nothing was sent.
    #[error("cannot encode the {type_name} for key {key:?}: {source}")]
    Encode {
        /// The key, shortened.
        key: String,
        /// The Rust type of the value.
        type_name: &'static str,
        /// Why not.
        source: ValueError,
    },
    /// What is stored is not what was asked for. It stays stored.
    #[error("cannot read key {key:?} as {type_name}: {source}")]
    Decode {
        /// The key, shortened.
        key: String,
        /// The Rust type that was asked for.
        type_name: &'static str,
        /// Why not.
        source: ValueError,
    },
    /// The caller's own computation failed; nothing was stored, and the next caller computes.
    #[error("computing key {key:?} failed: {source}")]
    Computation {
        /// The key, shortened.
        key: String,
        /// What the computation returned.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ClientError {
    /// Sorts an error of the client library into ours.
    pub(super) fn from_redis(source: RedisError, address: &str, key: &[u8]) -> Self {
        let address = address.to_owned();
        if let Some(code) = source.code() {
            let (code, text) = (code.to_owned(), source.detail().unwrap_or_default().to_owned());
            if code == "WRONGTYPE" {
                return Self::WrongType { key: key_text(key), text };
            }
            return Self::Server { code, text };
        }
        if source.is_timeout() {
            return Self::Timeout { address, source };
        }
        match source.kind() {
            // Over RESP2 the client library keeps the server's words to itself.
            ErrorKind::AuthenticationFailed => {
                let text = "invalid username-password pair or user is disabled.".to_owned();
                Self::Server { code: "WRONGPASS".to_owned(), text }
            }
            ErrorKind::Parse | ErrorKind::UnexpectedReturnType => {
                Self::Reply { address, reason: source.to_string() }
            }
            _ => Self::Connection { address, source },
        }
    }
}

/// Returns a key for people to read.
pub(super) fn key_text(key: &[u8]) -> String {
    let mut text: String = String::from_utf8_lossy(key).chars().take(KEY_CHARS_MAX + 1).collect();
    if let Some((end, _)) = text.char_indices().nth(KEY_CHARS_MAX) {
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_keys_are_shortened_between_characters() {
        assert_eq!(key_text(b"user:1"), "user:1");
        let long = "ä".repeat(KEY_CHARS_MAX);
        assert_eq!(key_text(long.as_bytes()), long);
        assert_eq!(key_text(format!("{long}ä").as_bytes()), format!("{long}…"));
    }
}
