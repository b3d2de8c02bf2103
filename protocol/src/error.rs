//! What a peer can do wrong on the wire.

/// Malformed input. The stream cannot be trusted any more: the connection answers with
/// `-ERR <text>` and closes, as Redis does. Texts equal those of Redis.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The number after `*` is not one, or is larger than the limit.
    #[error("Protocol error: invalid multibulk length")]
    InvalidMultibulkLength,
    /// The number after `$` is not one, is negative, or is larger than `proto-max-bulk-len`.
    #[error("Protocol error: invalid bulk length")]
    InvalidBulkLength,
    /// A client that has not authenticated sends more arguments than it may.
    #[error("Protocol error: unauthenticated multibulk length")]
    UnauthenticatedMultibulkLength,
    /// A client that has not authenticated sends a longer argument than it may.
    #[error("Protocol error: unauthenticated bulk length")]
    UnauthenticatedBulkLength,
    /// An argument does not begin with `$`.
    #[error("Protocol error: expected '$', got '{}'", printable(*.0))]
    ExpectedBulk(u8),
    /// A `*` line has no end within the limit.
    #[error("Protocol error: too big mbulk count string")]
    MultibulkLineTooLong,
    /// A `$` line has no end within the limit.
    #[error("Protocol error: too big bulk count string")]
    BulkLineTooLong,
    /// An inline request has no end within the limit.
    #[error("Protocol error: too big inline request")]
    InlineTooLong,
    /// The quotes of an inline request do not match.
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
}

impl ProtocolError {
    /// Returns the text with the byte of the request that it shows as it came, which need not be
    /// UTF-8.
    #[must_use]
    pub fn text(&self) -> Vec<u8> {
        let Self::ExpectedBulk(byte) = *self else { return self.to_string().into_bytes() };
        [&b"Protocol error: expected '$', got '"[..], &[byte], b"'"].concat()
    }
}

/// A line break would end an error line, so it becomes a space.
fn printable(byte: u8) -> char {
    if byte == b'\r' || byte == b'\n' { ' ' } else { char::from(byte) }
}
