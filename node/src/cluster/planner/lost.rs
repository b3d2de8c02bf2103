//! What becomes of the partitions of a node that is lost for good.

use std::collections::BTreeMap;

use super::super::table::{Change, Entry, NodeId, State};
use super::entry;

/// Steps in which parts of the data are compared: finer than one partition of the largest weight.
const PART: u64 = 1 << 32;

/// Returns what to propose so that each partition that only this node had begins anew, empty, on
/// one of the others, each of which gets its part. None if nobody takes partitions.
///
/// Each entry is refused once the node is back: that starts a new epoch.
pub fn replace_lost(state: &State, lost: NodeId) -> Vec<Entry> {
    let takes = state.nodes.iter().filter(|(id, at)| **id != lost && at.takes_partitions());
    let mut have: BTreeMap<NodeId, (u64, u64)> =
        takes.map(|(id, member)| (*id, (0, member.weight.into()))).collect();
    for primary in state.partitions.iter().filter_map(|partition| partition.primary) {
        if let Some((count, _)) = have.get_mut(&primary) {
            *count += 1;
        }
    }
    let mut entries = Vec::new();
    for (id, partition) in state.numbered().filter(|(_, partition)| partition.isr == [lost]) {
        let part =
            |(_, (count, weight)): &(&NodeId, &mut (u64, u64))| (*count + 1) * PART / *weight;
        let Some((&to, (count, _))) = have.iter_mut().min_by_key(part) else { break };
        *count += 1;
        entries.push(entry(id, partition, Change::AssignEmpty { to }));
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::table::{
        Announcement, ClusterId, Incarnation, NodeAddresses, Outcome, Refusal, Role, Status, apply,
    };

    fn announcement(weight: u32) -> Announcement {
        let (incarnation, addresses) = (Incarnation(1), NodeAddresses::default());
        Announcement { incarnation, addresses, zone: String::new(), weight, role: Role::Data }
    }

    /// Node 1 has everything and is down; 2 and 3 take partitions, 3 twice as many.
    fn lost() -> State {
        let mut state = State::new();
        let create = |weight| Entry::Create {
            cluster: ClusterId(1),
            node: NodeId(1),
            announcement: announcement(weight),
        };
        let join = |node, weight| Entry::NodeJoin {
            node: NodeId(node),
            announcement: announcement(weight),
        };
        let down = Entry::NodeDown { node: NodeId(1), incarnation: Incarnation(1) };
        for entry in [create(100), join(2, 100), join(3, 200), down] {
            assert!(apply(&mut state, 1, &entry).is_success());
        }
        state
    }

    #[test]
    fn what_only_the_lost_node_had_begins_anew_on_the_others_by_weight() {
        let mut state = lost();
        assert_eq!(apply(&mut state, 2, &Entry::NodeLeaving { node: NodeId(1) }), Outcome::Applied);
        let entries = replace_lost(&state, NodeId(1));
        for entry in &entries {
            assert_eq!(apply(&mut state, 3, entry), Outcome::Applied);
        }
        let of = |node| state.partitions.iter().filter(|at| at.isr == [NodeId(node)]).count();
        assert_eq!((of(1), of(2), of(3)), (0, 341, 683));
        assert!(state.numbered().all(|(id, _)| state.serving_owner(id).is_some()));
        for entry in &entries {
            assert_eq!(apply(&mut state, 4, entry), Outcome::AlreadyApplied, "asked again");
        }
        assert_eq!(apply(&mut state, 5, &Entry::NodeForget { node: NodeId(1) }), Outcome::Applied);
        assert!(replace_lost(&state, NodeId(1)).is_empty());
    }

    #[test]
    fn nothing_is_replaced_of_a_node_that_is_back_meanwhile() {
        let mut state = lost();
        let entries = replace_lost(&state, NodeId(1));
        assert_eq!(entries.len(), 1024);
        let (node, replaces) = (NodeId(1), Incarnation(1));
        let back = Announcement { incarnation: Incarnation(2), ..announcement(100) };
        let up = Entry::NodeUp { node, replaces, announcement: back };
        assert_eq!(apply(&mut state, 5, &up), Outcome::Applied);
        let down = Entry::NodeDown { node, incarnation: Incarnation(2) };
        assert_eq!(apply(&mut state, 6, &down), Outcome::Applied);
        for entry in &entries {
            let refused = apply(&mut state, 7, entry);
            assert!(matches!(refused, Outcome::Refused(Refusal::EpochMismatch { .. })));
        }
        for other in [2, 3] {
            state.nodes.get_mut(&NodeId(other)).unwrap().status = Status::Down { leaving: false };
        }
        assert!(replace_lost(&state, NodeId(1)).is_empty(), "nobody takes them");
    }
}
