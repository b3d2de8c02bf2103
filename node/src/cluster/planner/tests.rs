//! Plans carried out on the real table, and compared with what is possible at best.

use proptest::prelude::*;

use super::*;
use crate::cluster::table::{
    Announcement, ClusterId, Incarnation, NodeAddresses, Outcome, PARTITIONS, Refusal, Role,
    Status, StreamSequence, apply, check_invariants,
};

/// A cluster in which moves succeed at once, with everything in memory.
struct Cluster {
    state: State,
    bytes: Vec<u64>,
    moves: u64,
    /// The most moves at a time that a node has had.
    busiest: u32,
}

impl Cluster {
    /// Nodes `1..=weights.len()`; the first owns everything.
    fn of(weights: &[u32]) -> Self {
        let bytes = vec![0; PARTITIONS.into()];
        let mut cluster = Cluster { state: State::new(), bytes, moves: 0, busiest: 0 };
        for &weight in weights {
            cluster.join(weight, Role::Data);
        }
        cluster
    }

    /// Sizes around `mean`, from half of it to one and a half.
    fn with_bytes(mut self, mean: u64) -> Self {
        for (at, bytes) in (0u64..).zip(&mut self.bytes) {
            let random = at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            *bytes = mean / 2 + random % mean;
        }
        self
    }

    fn join(&mut self, weight: u32, role: Role) -> NodeId {
        let node = NodeId(self.state.nodes.len() as u64 + 1);
        let (incarnation, addresses) = (Incarnation(node.0), NodeAddresses::default());
        let zone = String::new();
        let announcement = Announcement { incarnation, addresses, zone, weight, role };
        self.apply(match self.state.cluster {
            None => Entry::Create { cluster: ClusterId(1), node, announcement },
            Some(_) => Entry::NodeJoin { node, announcement },
        });
        node
    }

    #[track_caller]
    fn apply(&mut self, entry: Entry) {
        let index = self.state.version + 1;
        let outcome = apply(&mut self.state, index, &entry);
        assert_eq!(outcome, Outcome::Applied, "{entry:?}");
    }

    fn leave(&mut self, node: u64) {
        self.apply(Entry::NodeLeaving { node: NodeId(node) });
    }

    fn down(&mut self, node: u64) {
        let (node, incarnation) = (NodeId(node), Incarnation(node));
        self.apply(Entry::NodeDown { node, incarnation });
    }

    fn plan(&self) -> Vec<Entry> {
        self.plan_without(&BTreeSet::new())
    }

    fn plan_without(&self, resting: &BTreeSet<PartitionId>) -> Vec<Entry> {
        let (state, bytes) = (&self.state, &self.bytes[..]);
        let since_change = Duration::from_secs(60);
        let input = PlanInput { state, bytes, since_change, any_suspect: false, resting };
        let mut next = self.state.version * 1_000_000;
        plan(&input, &PlanLimits::default(), &mut || {
            next += 1;
            MoveId(next)
        })
    }

    /// Carries out plans until there is nothing to do; of the moves under way, `done` says which
    /// ones get a step further in a round.
    fn settle_in_part(&mut self, mut done: impl FnMut() -> bool) {
        for round in 0.. {
            let entries = self.plan();
            let moving: Vec<_> = self
                .state
                .numbered()
                .filter(|(_, partition)| partition.joining.is_some())
                .collect();
            if entries.is_empty() && moving.is_empty() {
                break;
            }
            assert!(round < 20_000, "the plan never ends");
            let moving: Vec<_> = moving.into_iter().map(|(id, _)| id).collect();
            for entry in entries {
                let begins = matches!(&entry, Entry::Partition { change, .. }
                    if matches!(change, Change::BeginMove { .. }));
                self.moves += u64::from(begins);
                self.apply(entry);
            }
            self.measure();
            for id in moving {
                if done() {
                    self.step(id);
                }
            }
        }
        check_invariants(&self.state).unwrap();
    }

    fn settle(&mut self) -> u64 {
        let before = self.moves;
        self.settle_in_part(|| true);
        self.moves - before
    }

    fn measure(&mut self) {
        let mut traffic: BTreeMap<NodeId, (u32, u32)> = BTreeMap::new();
        for partition in self.state.partitions.iter().filter(|partition| is_busy(partition)) {
            let joining = partition.joining.unwrap();
            traffic.entry(joining.node).or_default().0 += 1;
            traffic.entry(partition.primary.unwrap()).or_default().1 += 1;
        }
        let most = traffic.values().map(|&(to, from)| to.max(from)).max().unwrap_or(0);
        self.busiest = self.busiest.max(most);
    }

    /// One step of a move.
    fn step(&mut self, id: PartitionId) {
        let partition = &self.state.partitions[usize::from(id.0)];
        let Some(joining) = partition.joining else { return };
        let Joining { move_id, node: to, .. } = joining;
        let from = partition.primary.unwrap();
        let change = match joining.phase {
            MovePhase::Copying => Change::JoinIsr { move_id },
            MovePhase::InSync => Change::Switch { move_id, from, to, sequence: StreamSequence(1) },
            MovePhase::Dropping => Change::ShrinkIsr { remove: joining.drop.unwrap() },
        };
        self.apply(entry(id, partition, change));
    }

    fn counts(&self) -> Vec<u64> {
        let owned = |node: &NodeId| {
            let is_owned = |partition: &&Partition| partition.primary == Some(*node);
            self.state.partitions.iter().filter(is_owned).count() as u64
        };
        self.state.nodes.keys().map(owned).collect()
    }

    fn bytes_of(&self, node: u64) -> u64 {
        let owned = |(id, partition): (PartitionId, &Partition)| {
            (partition.primary == Some(NodeId(node))).then(|| self.bytes[usize::from(id.0)])
        };
        self.state.numbered().filter_map(owned).sum()
    }

    /// Asserts that each of these nodes has its equal share of the bytes, to 2 %.
    #[track_caller]
    fn assert_even_bytes(&self, nodes: &[u64]) {
        let fair = self.bytes.iter().sum::<u64>() / nodes.len() as u64;
        for &node in nodes {
            let has = self.bytes_of(node);
            assert!(has.abs_diff(fair) * 50 <= fair, "node {node}: {has} of {fair} bytes");
        }
    }
}

/// The fewest moves from these counts to any distribution in which each node has its part rounded
/// down or up: all distributions are tried.
fn fewest_moves(have: &[u64], weights: &[u64]) -> u64 {
    let (pool, all): (u64, u64) = (have.iter().sum(), weights.iter().sum());
    let choices = 0u32..1 << have.len();
    let moves = choices.filter_map(|choice| {
        let parts = (0..have.len()).map(|at| {
            let exact = pool * weights[at];
            if choice >> at & 1 == 1 { exact.div_ceil(all) } else { exact / all }
        });
        let quotas: Vec<u64> = parts.collect();
        let needed = have.iter().zip(&quotas).map(|(have, quota)| have.saturating_sub(*quota));
        (quotas.iter().sum::<u64>() == pool).then(|| needed.sum::<u64>())
    });
    moves.min().unwrap()
}

#[test]
fn one_node_becomes_three_with_even_shares() {
    let mut cluster = Cluster::of(&[100, 100, 100]).with_bytes(100_000);
    assert_eq!(moves_left(&cluster.state), 682);
    assert_eq!(cluster.settle(), 682);
    assert_eq!(cluster.counts(), [342, 341, 341]);
    assert_eq!(cluster.busiest, 16);
    assert_eq!(moves_left(&cluster.state), 0);
    cluster.assert_even_bytes(&[1, 2, 3]);
}

#[test]
fn a_fourth_node_gets_a_quarter_and_nothing_else_moves() {
    let mut cluster = Cluster::of(&[100, 100, 100]).with_bytes(1_000_000);
    cluster.settle();
    cluster.join(100, Role::Data);
    assert_eq!(cluster.settle(), 256);
    assert_eq!(cluster.counts(), [256; 4]);
    cluster.assert_even_bytes(&[1, 2, 3, 4]);
}

#[test]
fn a_node_that_leaves_gives_everything_away_and_nothing_else_moves() {
    let mut cluster = Cluster::of(&[100, 100, 100, 100]).with_bytes(1_000_000);
    cluster.settle();
    cluster.leave(2);
    assert_eq!(cluster.settle(), 256);
    assert_eq!(cluster.counts(), [342, 0, 341, 341]);
    cluster.assert_even_bytes(&[1, 3, 4]);
    cluster.apply(Entry::NodeForget { node: NodeId(2) });
}

#[test]
fn shares_follow_the_weights() {
    let mut cluster = Cluster::of(&[100, 200, 100, 0]).with_bytes(1_000_000);
    assert_eq!(cluster.settle(), 768);
    assert_eq!(cluster.counts(), [256, 512, 256, 0]);
    let half = cluster.bytes.iter().sum::<u64>() / 2;
    assert!(cluster.bytes_of(2).abs_diff(half) * 50 <= half);
}

#[test]
fn ranges_stay_together_when_sizes_are_alike() {
    let mut cluster = Cluster::of(&[100, 100, 100]);
    cluster.settle();
    let owners: Vec<_> = cluster.state.partitions.iter().map(|at| at.primary).collect();
    let ranges = 1 + owners.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert_eq!(ranges, 3);
}

#[test]
fn a_witness_gets_nothing_and_what_nobody_has_is_assigned() {
    let mut cluster = Cluster { state: State::new(), bytes: Vec::new(), moves: 0, busiest: 0 };
    let witness = cluster.join(100, Role::Witness);
    assert_eq!(cluster.plan(), []);
    cluster.join(100, Role::Data);
    cluster.join(100, Role::Data);
    assert!(cluster.plan().len() <= ASSIGNMENTS_MAX);
    assert_eq!(cluster.settle(), 0);
    assert_eq!(cluster.counts(), [0, 512, 512]);
    assert_eq!(cluster.state.held_by(witness), None);
}

#[test]
fn many_small_partitions_move_at_a_time_and_few_large_ones() {
    for (mean, busiest) in [(0, 16), (1 << 17, 16), (3 << 18, 3), (1 << 30, 2)] {
        let mut cluster = Cluster::of(&[100, 100]);
        cluster.bytes.fill(mean);
        assert_eq!(cluster.settle(), 512);
        assert_eq!(cluster.busiest, busiest, "{mean} bytes each");
    }
}

#[test]
fn nothing_moves_soon_after_a_change_nor_while_a_node_is_suspect() {
    let cluster = Cluster::of(&[100, 100]);
    let (state, resting) = (&cluster.state, &BTreeSet::new());
    let limits = PlanLimits::default();
    let quiet =
        PlanInput { state, bytes: &[], since_change: limits.pause, any_suspect: false, resting };
    let soon = PlanInput { since_change: limits.pause - Duration::from_nanos(1), ..quiet };
    let suspect = PlanInput { any_suspect: true, ..quiet };
    let plan = |input| plan(&input, &limits, &mut || MoveId(1)).len();
    assert_eq!((plan(quiet), plan(soon), plan(suspect)), (16, 0, 0));
}

#[test]
fn what_failed_lately_rests_and_others_move_in_its_place() {
    let cluster = Cluster::of(&[100, 100]);
    let partitions = |entries: &[Entry]| -> BTreeSet<PartitionId> {
        let partition = |entry: &Entry| match entry {
            Entry::Partition { partition, .. } => *partition,
            other => panic!("{other:?}"),
        };
        entries.iter().map(partition).collect()
    };
    let first = partitions(&cluster.plan());
    let second = partitions(&cluster.plan_without(&first));
    assert_eq!((first.len(), second.len()), (16, 16));
    assert!(first.is_disjoint(&second));
    let all = (0..PARTITIONS).map(PartitionId).collect();
    assert_eq!(cluster.plan_without(&all), []);
}

#[test]
fn what_belongs_to_a_node_that_is_down_stays_and_the_others_keep_theirs() {
    let mut cluster = Cluster::of(&[100, 100, 100, 100]);
    cluster.settle();
    cluster.down(3);
    assert_eq!(cluster.plan(), []);
    cluster.leave(2);
    assert_eq!(cluster.settle(), 256);
    assert_eq!(cluster.counts(), [384, 0, 256, 384]);
}

#[test]
fn moves_to_a_node_that_begins_to_leave_are_cancelled() {
    let mut cluster = Cluster::of(&[100, 100, 100]);
    for entry in cluster.plan() {
        cluster.apply(entry);
    }
    cluster.leave(2);
    let is_cancel =
        |entry: &Entry| matches!(entry, Entry::Partition { change: Change::CancelMove { .. }, .. });
    assert!(cluster.plan().iter().any(is_cancel));
    cluster.settle();
    assert_eq!(cluster.counts(), [512, 0, 512]);
    assert_eq!(cluster.state.nodes[&NodeId(2)].status, Status::Leaving);
}

#[test]
fn a_table_that_changed_refuses_what_was_planned_for_the_one_before() {
    let mut cluster = Cluster::of(&[100, 100]);
    let late = cluster.plan();
    for entry in cluster.plan() {
        cluster.apply(entry);
    }
    let partition = &cluster.state.partitions[512];
    let move_id = partition.joining.unwrap().move_id;
    cluster.apply(entry(PartitionId(512), partition, Change::CancelMove { move_id }));
    let version = cluster.state.version + 1;
    let outcome = apply(&mut cluster.state, version, &late[0]);
    assert_eq!(outcome, Outcome::AlreadyApplied);
    let Entry::Partition { partition, expect_epoch, change } = late[0] else { unreachable!() };
    let Change::BeginMove { target, incarnation, then, drop, .. } = change else { unreachable!() };
    let change = Change::BeginMove { move_id: MoveId(u64::MAX), target, incarnation, then, drop };
    let again = Entry::Partition { partition, expect_epoch, change };
    let outcome = apply(&mut cluster.state, version + 1, &again);
    assert!(matches!(outcome, Outcome::Refused(Refusal::EpochMismatch { .. })), "{outcome:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_cluster_settles_with_the_fewest_moves_and_then_is_quiet(
        weights in prop::collection::vec(prop_oneof![Just(100u32), 1..300u32], 1..6),
        later in prop::collection::vec((any::<bool>(), 1..300u32), 0..3),
        sizes in prop::collection::vec(0..5_000_000u64, 1..64),
        luck in any::<u64>(),
    ) {
        let mut cluster = Cluster::of(&weights);
        for (at, bytes) in cluster.bytes.iter_mut().enumerate() {
            *bytes = sizes[at % sizes.len()];
        }
        let mut luck = luck;
        for (is_joining, weight) in [(true, 100)].into_iter().chain(later) {
            let node = 1 + u64::from(weight) % cluster.state.nodes.len() as u64;
            let takers = cluster.state.nodes.values().filter(|at| at.takes_partitions()).count();
            if is_joining || takers < 2 {
                cluster.join(weight, Role::Data);
            } else if cluster.state.takes_partitions(NodeId(node)) {
                cluster.leave(node);
            }
            let weigh = |id: &NodeId| {
                let member = &cluster.state.nodes[id];
                if member.takes_partitions() { u64::from(member.weight) } else { 0 }
            };
            let weights: Vec<u64> = cluster.state.nodes.keys().map(weigh).collect();
            let fewest = fewest_moves(&cluster.counts(), &weights);
            prop_assert_eq!(moves_left(&cluster.state), fewest);
            let before = cluster.moves;
            // Moves get on at different speeds, so plans are made in the midst of others.
            cluster.settle_in_part(|| {
                luck = luck.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                luck >> 62 != 0
            });
            prop_assert_eq!(cluster.moves - before, fewest);
            prop_assert!(cluster.busiest <= 16);
            prop_assert_eq!(fewest_moves(&cluster.counts(), &weights), 0);
            prop_assert_eq!(cluster.plan(), cluster.plan());
        }
    }
}
