//! The one function that changes the table.

use super::{Entry, Outcome, Refusal, State, membership, ownership};

/// What the rules of an entry return: whether it changed anything, or why it may not.
pub(super) type Applied = Result<Effect, Refusal>;

/// What an entry that is not refused did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It changed the table.
    Changed,
    /// It had done so before.
    Repeated,
}

/// Applies an entry that stands at `index` of the log, and returns what became of it. Several can
/// stand there, and apply in order.
///
/// Only an entry that is [`Outcome::Applied`] changes anything but [`State::version`], which
/// becomes `index`. The same log gives the same state on every node: there is no clock, no
/// randomness and no input in here.
pub fn apply(state: &mut State, index: u64, entry: &Entry) -> Outcome {
    state.version = index;
    match change(state, entry) {
        Ok(Effect::Changed) => Outcome::Applied,
        Ok(Effect::Repeated) => Outcome::AlreadyApplied,
        Err(refusal) => Outcome::Refused(refusal),
    }
}

fn change(state: &mut State, entry: &Entry) -> Applied {
    match entry {
        Entry::Create { cluster, node, announcement } => {
            membership::create(state, *cluster, *node, announcement)
        }
        _ if state.cluster.is_none() => Err(Refusal::NoCluster),
        Entry::NodeJoin { node, announcement } => membership::join(state, *node, announcement),
        Entry::NodeUp { node, replaces, announcement } => {
            membership::up(state, *node, *replaces, announcement)
        }
        Entry::NodeDown { node, incarnation } => membership::down(state, *node, *incarnation),
        Entry::NodeLeaving { node } => membership::leave(state, *node),
        Entry::NodeForget { node } => membership::forget(state, *node),
        Entry::Partition { partition, expect_epoch, change } => {
            ownership::change(state, *partition, *expect_epoch, *change)
        }
    }
}
