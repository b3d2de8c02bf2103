//! What is stored and sent as bytes: bincode's standard configuration, bounded.

use std::io;

use bincode::config::{Configuration, Limit, LittleEndian, Varint, standard};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::limits::MESSAGE_BYTES_MAX;

fn configuration() -> Configuration<LittleEndian, Varint, Limit<MESSAGE_BYTES_MAX>> {
    standard().with_limit::<MESSAGE_BYTES_MAX>()
}

/// Returns a value as bytes.
pub(super) fn encode(value: &impl Serialize) -> io::Result<Vec<u8>> {
    bincode::serde::encode_to_vec(value, configuration()).map_err(io::Error::other)
}

/// Reads what [`encode`] wrote; bytes behind it are an error.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    let (value, read) = bincode::serde::decode_from_slice(bytes, configuration())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    if read != bytes.len() {
        let extra = bytes.len() - read;
        let text = format!("{extra} bytes follow the end of the message");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(value)
}
