//! Random histories: whatever is proposed, the invariants hold.

use proptest::prelude::*;

use super::*;

/// What a random entry is made from: small numbers, read in the light of the state that it meets,
/// so that most entries have a chance.
#[derive(Debug, Clone, Copy)]
struct Dice {
    kind: u8,
    node: u64,
    other: u64,
    partition: u16,
    stale: bool,
    flag: bool,
}

/// The kind of an entry that takes a move one step further.
const STEP: u8 = 16;

fn dice() -> impl Strategy<Value = Dice> {
    let stale = prop_oneof![9 => Just(false), 1 => Just(true)];
    // Moves get on more often than members come and go, so many of them come to an end.
    let kind = prop_oneof![2 => 0..6u8, 3 => 6..16u8, 4 => Just(STEP)];
    (kind, 0..5u64, 0..5u64, 0..3u16, stale, any::<bool>()).prop_map(
        |(kind, node, other, partition, stale, flag)| Dice {
            kind,
            node,
            other,
            partition,
            stale,
            flag,
        },
    )
}

impl Dice {
    fn entry(self, state: &State, fresh: u64) -> Entry {
        let Dice { kind, partition, stale, flag, .. } = self;
        let node = NodeId(self.node);
        let known = state.nodes.get(&node).map(|member| member.incarnation.0);
        let present = if stale { fresh } else { known.unwrap_or(fresh) };
        let role = if self.node == 4 { Role::Witness } else { Role::Data };
        let announce = |incarnation| Announcement { role, ..announce(incarnation) };
        match kind {
            0 => Entry::Create { cluster: CLUSTER, node, announcement: announce(present) },
            1 => Entry::NodeJoin { node, announcement: announce(present) },
            2 | 3 => {
                let replaces = Incarnation(if flag { present } else { known.unwrap_or(fresh) });
                let announcement = announce(if kind == 2 { present } else { fresh });
                Entry::NodeUp { node, replaces, announcement }
            }
            4 => Entry::NodeDown { node, incarnation: Incarnation(present) },
            5 if flag && self.other == 0 => Entry::NodeLeaving { node },
            5 => Entry::NodeForget { node },
            _ => {
                let Some(at) = state.partition(PartitionId(partition)) else {
                    return Entry::NodeForget { node };
                };
                let expect_epoch = Epoch(at.epoch.0.saturating_sub(stale.into()));
                let change = self.change(at, Incarnation(present), fresh);
                Entry::Partition { partition: PartitionId(partition), expect_epoch, change }
            }
        }
    }

    fn change(self, partition: &Partition, incarnation: Incarnation, fresh: u64) -> Change {
        let target = NodeId(self.node);
        let move_id = match (self.stale, partition.joining, partition.ended) {
            (false, Some(joining), _) => joining.move_id,
            (_, _, Some(ended)) => ended.move_id,
            _ => MoveId(fresh),
        };
        let to = partition.joining.map_or(target, |joining| joining.node);
        let from = partition.primary.unwrap_or(target);
        let copies = partition.isr.len().max(1);
        let other = partition.isr.get(self.other as usize % copies).copied().unwrap_or(target);
        if let Some(step) = self.step(partition).filter(|_| self.kind == STEP) {
            return step;
        }
        match self.kind {
            6..=8 | STEP => {
                let then = if self.flag { Then::BecomePrimary } else { Then::Replica };
                let drop = match self.other {
                    0 => None,
                    1 => Some(target),
                    _ => Some(other),
                };
                let move_id = MoveId(fresh);
                Change::BeginMove { move_id, target, incarnation, then, drop }
            }
            9 | 10 => Change::JoinIsr { move_id },
            11 => Change::ShrinkIsr { remove: if self.flag { from } else { other } },
            12 => Change::Switch { move_id, from, to, sequence: StreamSequence(fresh) },
            13 => Change::CancelMove { move_id },
            14 => {
                let to = if self.flag { other } else { target };
                Change::Promote { to, unclean: self.other == 0 }
            }
            _ => Change::AssignEmpty { to: target },
        }
    }

    /// What the primary would propose next.
    fn step(self, partition: &Partition) -> Option<Change> {
        let Joining { node: to, move_id, phase, drop, then, .. } = partition.joining?;
        let (from, sequence) = (partition.primary?, StreamSequence(1));
        let is_handover =
            then == Then::BecomePrimary && drop == Some(from) && partition.isr == [from];
        Some(match phase {
            MovePhase::Copying if is_handover && self.flag => {
                Change::Switch { move_id, from, to, sequence }
            }
            MovePhase::Copying => Change::JoinIsr { move_id },
            MovePhase::InSync => Change::Switch { move_id, from, to, sequence },
            MovePhase::Dropping => Change::ShrinkIsr { remove: drop? },
        })
    }
}

fn started(partitions: u16) -> Cluster {
    Cluster::of(4, partitions)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn random_entries_keep_the_invariants_and_a_repetition_changes_nothing(
        steps in prop::collection::vec(dice(), 0..120),
    ) {
        let mut cluster = started(3);
        for (at, step) in steps.into_iter().enumerate() {
            let entry = step.entry(&cluster.state, 1000 + at as u64);
            if cluster.apply(&entry) == Outcome::Applied {
                prop_assert_ne!(cluster.apply(&entry), Outcome::Applied, "{:?}", entry);
            }
        }
    }

    #[test]
    fn entries_from_any_earlier_time_keep_the_invariants(
        steps in prop::collection::vec((dice(), any::<prop::sample::Index>()), 1..120),
    ) {
        let mut cluster = started(3);
        let mut history = Vec::new();
        for (at, (step, late)) in steps.into_iter().enumerate() {
            let entry = step.entry(&cluster.state, 1000 + at as u64);
            cluster.apply(&entry);
            history.push(entry);
            cluster.apply(&history[late.index(history.len())].clone());
        }
    }

    #[test]
    fn a_log_without_a_beginning_or_with_holes_keeps_the_invariants(
        steps in prop::collection::vec((dice(), any::<bool>()), 0..60),
    ) {
        let mut cluster = Cluster { state: State::with_partitions(3) };
        for (at, (step, is_kept)) in steps.into_iter().enumerate() {
            let entry = step.entry(&cluster.state, 1000 + at as u64);
            if is_kept {
                cluster.apply(&entry);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_snapshot_and_the_rest_of_the_log_give_what_the_whole_log_gives(
        steps in prop::collection::vec(dice(), 0..60),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut cluster = started(PARTITIONS);
        let mut log = Vec::new();
        let mut snapshot = (cluster.state.encode().unwrap(), 0);
        let cut = cut.index(steps.len() + 1);
        for (at, step) in steps.into_iter().enumerate() {
            if at == cut {
                snapshot = (cluster.state.encode().unwrap(), log.len());
            }
            let entry = step.entry(&cluster.state, 1000 + at as u64);
            cluster.apply(&entry);
            log.push((cluster.state.version, entry));
        }
        let (bytes, from) = snapshot;
        let mut restored = State::decode(&bytes).unwrap();
        for (index, entry) in &log[from..] {
            apply(&mut restored, *index, entry);
        }
        prop_assert_eq!(restored, cluster.state);
    }
}
