//! The whole table as bytes, from which a node goes on without the log before it.
//!
//! A byte says the format, the rest is bincode's standard configuration. Damage is for the file
//! or the frame around it to detect; what is decoded is still checked before it is believed.

use bincode::config::{Configuration, Limit, LittleEndian, Varint, standard};
use thiserror::Error;

use super::limits::{NODES_MAX, PARTITIONS, SNAPSHOT_BYTES_MAX};
use super::{State, check_invariants};

/// The only format there is so far.
const FORMAT: u8 = 1;

/// Why bytes are not a table. Nothing has been changed by them.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SnapshotError {
    /// There are no bytes at all.
    #[error("the snapshot of the cluster's table is empty")]
    Empty,
    /// A newer version wrote it.
    #[error(
        "the snapshot of the cluster's table has format {0}, and this version knows {FORMAT}: \
         run the version that wrote it, or a newer one"
    )]
    UnknownFormat(u8),
    /// It cannot be decoded.
    #[error("the snapshot of the cluster's table is damaged: {0}")]
    Damaged(String),
}

impl State {
    /// Returns the table as bytes, at most [`SNAPSHOT_BYTES_MAX`].
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Damaged`] if the table is none that [`apply`](super::apply()) makes.
    pub fn encode(&self) -> Result<Vec<u8>, SnapshotError> {
        let mut bytes = vec![FORMAT];
        bincode::serde::encode_into_std_write(self, &mut bytes, configuration())
            .map_err(|error| SnapshotError::Damaged(error.to_string()))?;
        Ok(bytes)
    }

    /// Reads what [`encode`](State::encode) wrote.
    ///
    /// # Errors
    ///
    /// The bytes are no whole table, or one that no log can lead to.
    pub fn decode(bytes: &[u8]) -> Result<State, SnapshotError> {
        let damaged = |what: String| SnapshotError::Damaged(what);
        let (&format, body) = bytes.split_first().ok_or(SnapshotError::Empty)?;
        if format != FORMAT {
            return Err(SnapshotError::UnknownFormat(format));
        }
        let (state, read): (State, usize) =
            bincode::serde::decode_from_slice(body, configuration())
                .map_err(|error| damaged(error.to_string()))?;
        if read != body.len() {
            return Err(damaged(format!("{} bytes behind its end", body.len() - read)));
        }
        if state.partitions.len() != usize::from(PARTITIONS) {
            return Err(damaged(format!("it has {} partitions", state.partitions.len())));
        }
        if state.nodes.len() > NODES_MAX {
            return Err(damaged(format!("it has {} members", state.nodes.len())));
        }
        check_invariants(&state).map_err(damaged)?;
        Ok(state)
    }
}

fn configuration() -> Configuration<LittleEndian, Varint, Limit<SNAPSHOT_BYTES_MAX>> {
    standard().with_limit::<SNAPSHOT_BYTES_MAX>()
}
