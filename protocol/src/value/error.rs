//! What can be wrong with a typed value.

use std::fmt;

use crate::limits::{VALUE_DEPTH_MAX, VALUE_NODES_MAX};

/// Why a value could not be encoded or decoded. Nothing has been changed by the attempt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The value is not of the type that was asked for, or a type's own serde code refused.
    #[error("{0}")]
    Type(String),
    /// The text that was stored plainly is no number of the type that was asked for.
    #[error("{text:?} is not {expected}")]
    NotANumber {
        /// The stored text, shortened.
        text: String,
        /// What was asked for, with its article.
        expected: &'static str,
    },
    /// Values nest deeper than the limit.
    #[error("values nest deeper than {VALUE_DEPTH_MAX}")]
    TooDeep,
    /// More values in one than the limit.
    #[error("more than {VALUE_NODES_MAX} values in one")]
    TooManyNodes,
    /// The bytes begin as an encoded value, of a version that this library does not know.
    #[error("encoded value of version {version}: this library reads version {supported}")]
    UnknownVersion {
        /// The version that was found.
        version: u8,
        /// The version that can be read.
        supported: u8,
    },
    /// The bytes begin as an encoded value and do not go on as one.
    #[error("damaged encoded value: {0}")]
    Damaged(String),
    /// An encoded value is followed by more bytes, as after an `APPEND`.
    #[error("encoded value is followed by {0} more bytes")]
    TrailingBytes(usize),
}

impl serde::ser::Error for ValueError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Type(message.to_string())
    }
}

impl serde::de::Error for ValueError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Type(message.to_string())
    }
}
