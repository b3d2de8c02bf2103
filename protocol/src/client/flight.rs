//! Which keys this process is computing just now, and who waits for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// The bytes of a computed value, once there are any.
type Outcome = Option<Arc<[u8]>>;

/// The computations under way, by key.
#[derive(Default)]
pub(super) struct Flights {
    under_way: Mutex<HashMap<Vec<u8>, watch::Receiver<Outcome>>>,
}

/// What a caller is to do about a key.
pub(super) enum Role {
    /// Get the value; the others wait for it.
    Lead(Lead),
    /// Wait for the one who leads.
    Follow(Follower),
}

/// The duty to get a value. Dropping it, by whatever way, releases those who wait.
pub(super) struct Lead {
    flights: Arc<Flights>,
    key: Vec<u8>,
    sender: watch::Sender<Outcome>,
}

/// A place among those who wait.
pub(super) struct Follower(watch::Receiver<Outcome>);

impl Flights {
    /// Returns the caller's role: the first one leads.
    pub(super) fn join(self: &Arc<Self>, key: &[u8]) -> Role {
        let mut under_way = self.lock();
        if let Some(receiver) = under_way.get(key) {
            return Role::Follow(Follower(receiver.clone()));
        }
        let (sender, receiver) = watch::channel(None);
        under_way.insert(key.to_vec(), receiver);
        Role::Lead(Lead { flights: Arc::clone(self), key: key.to_vec(), sender })
    }

    /// A panic elsewhere cannot have left the map half changed: each use is one operation.
    fn lock(&self) -> MutexGuard<'_, HashMap<Vec<u8>, watch::Receiver<Outcome>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lead {
    /// Hands the value to all who wait, and ends.
    pub(super) fn publish(self, bytes: &[u8]) {
        self.sender.send_replace(Some(Arc::from(bytes)));
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        // Before the sender goes: whoever is released by that must be able to lead.
        self.flights.lock().remove(&self.key);
    }
}

impl Follower {
    /// Returns the value, or nothing if the one who led gave up.
    pub(super) async fn outcome(mut self) -> Option<Arc<[u8]>> {
        let outcome = self.0.wait_for(Option::is_some).await.ok()?;
        outcome.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead(flights: &Arc<Flights>) -> Lead {
        match flights.join(b"key") {
            Role::Lead(lead) => lead,
            Role::Follow(_) => panic!("somebody leads already"),
        }
    }

    fn follow(flights: &Arc<Flights>) -> Follower {
        match flights.join(b"key") {
            Role::Lead(_) => panic!("nobody leads"),
            Role::Follow(follower) => follower,
        }
    }

    #[tokio::test]
    async fn followers_get_what_the_lead_publishes() {
        let flights = Arc::default();
        let lead = lead(&flights);
        let followers = [follow(&flights), follow(&flights)];
        lead.publish(b"value");
        for follower in followers {
            assert_eq!(follower.outcome().await.as_deref(), Some(&b"value"[..]));
        }
        assert!(flights.lock().is_empty());
    }

    #[tokio::test]
    async fn a_lead_that_gives_up_releases_its_followers() {
        let flights = Arc::default();
        let first = lead(&flights);
        let follower = follow(&flights);
        drop(first);
        assert_eq!(follower.outcome().await, None);
        let _second = lead(&flights);
    }
}
