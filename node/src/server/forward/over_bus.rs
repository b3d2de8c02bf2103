//! The bus as the way to other nodes.

use bytes::Bytes;
use distcache_protocol::peer::FORWARD_LINKS_MAX;

use super::{Forward, ForwardError, Forwarded};
use crate::cluster::bus::{Bus, BusError, Class, Kind};
use crate::cluster::table::NodeId;
use crate::limits::FORWARD_TIMEOUT;

/// Number of the requests, in class Forward, that are batches for [`execute()`](super::execute()).
pub const FORWARD: Kind = Kind::new(1);

impl Forward for Bus {
    fn forward(&self, thread: usize, node: NodeId, batch: Vec<u8>) -> Forwarded {
        let bus = self.clone();
        let class = Class::Forward((thread % usize::from(FORWARD_LINKS_MAX)) as u8);
        Box::pin(async move {
            let call = bus.call(node, class, FORWARD, Bytes::from(batch), FORWARD_TIMEOUT);
            Ok(call.await?)
        })
    }
}

impl From<BusError> for ForwardError {
    fn from(error: BusError) -> Self {
        let text = error.to_string();
        match error {
            BusError::TooLong { .. } => ForwardError::Unsendable(text),
            // The node says that it has failed, not how far it came.
            BusError::Failed { .. } => ForwardError::Unknown(text),
            error if error.is_outcome_unknown() => ForwardError::Unknown(text),
            _ => ForwardError::NotSent(text),
        }
    }
}
