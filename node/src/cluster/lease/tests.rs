//! Leases, asked for, granted and lost, with time as a number.

use proptest::prelude::*;

use super::*;
use crate::cluster::table::{
    Announcement, Change, ClusterId, Entry, MoveId, NodeAddresses, Role, Then, apply,
};

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const PARTITION: PartitionId = PartitionId(0);

fn announcement() -> Announcement {
    Announcement {
        incarnation: Incarnation(1),
        addresses: NodeAddresses::default(),
        zone: String::new(),
        weight: 100,
        role: Role::Data,
    }
}

/// The entries after which A is the primary of a partition, and B has a copy of it.
fn beginning() -> Vec<Entry> {
    let (cluster, move_id) = (ClusterId(1), MoveId(1));
    let change = |epoch, change| Entry::Partition {
        partition: PARTITION,
        expect_epoch: crate::cluster::table::Epoch(epoch),
        change,
    };
    let (target, incarnation, then, drop) = (B, Incarnation(1), Then::Replica, None);
    vec![
        Entry::Create { cluster, node: A, announcement: announcement() },
        Entry::NodeJoin { node: B, announcement: announcement() },
        change(1, Change::BeginMove { move_id, target, incarnation, then, drop }),
        change(1, Change::JoinIsr { move_id }),
    ]
}

fn table_of(log: &[Entry]) -> State {
    let mut table = State::with_partitions(1);
    for (index, entry) in (1..).zip(log) {
        apply(&mut table, index, entry);
    }
    table
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn granted(config_index: u64) -> Option<LeaseAnswer> {
    Some(LeaseAnswer::Granted(Grant { length: LEASE, config_index }))
}

#[test]
fn a_lease_counts_from_before_the_question_and_needs_the_table_it_was_granted_with() {
    let start = Moment::now();
    let at = |time: f64| start.after(seconds(time));
    let mut holder = Holder::new(start);
    assert_eq!(holder.wait(Some(A), start), Duration::ZERO);
    holder.ask(Some(A), start);
    holder.answered(start, granted(7), at(3.0));
    assert_eq!(holder.lease(6, at(3.0)), Lease::default(), "not applied yet");
    let lease = holder.lease(7, at(3.0));
    assert_eq!(lease, Lease { until: Some(at(4.0).ticks), config_index: 7 });
    assert!(lease.is_valid(at(3.9).ticks) && !lease.is_valid(at(4.1).ticks));
    let table = table_of(&beginning());
    let allows = |lease: Lease, process| lease.allows(&table, A, Incarnation(process), start.ticks);
    assert!(!allows(lease, 1), "the table is older");
    let lease = Lease { config_index: table.version, ..lease };
    assert!(allows(lease, 1) && !allows(lease, 2), "the table names another process");
    assert_eq!(holder.lease(7, at(4.1)), Lease::default());
}

#[test]
fn a_node_in_touch_is_never_without_a_lease_though_its_table_is_a_little_behind() {
    let start = Moment::now();
    let mut holder = Holder::new(start);
    let mut applied = 0;
    for tick in 0..600u64 {
        let now = start.after(Duration::from_millis(50 * tick));
        // The table grows with every step, and is applied so much later.
        applied = applied.max((10 * tick).saturating_sub(20));
        if tick > 4 {
            assert!(holder.lease(applied, now).is_valid(now.ticks), "in step {tick}");
        }
        if holder.wait(Some(A), now).is_zero() {
            holder.ask(Some(A), now);
            holder.answered(now, granted(10 * tick), now);
        }
    }
    // Now it is always a second and a half behind, which is more than a renewal.
    for tick in 600..1200u64 {
        let now = start.after(Duration::from_millis(50 * tick));
        applied = applied.max((10 * tick).saturating_sub(300));
        assert!(holder.lease(applied, now).is_valid(now.ticks), "in step {tick}");
        if holder.wait(Some(A), now).is_zero() {
            holder.ask(Some(A), now);
            holder.answered(now, granted(10 * tick), now);
        }
    }
}

#[test]
fn a_node_asks_again_soon_after_a_failure_and_a_new_leader_at_once() {
    let start = Moment::now();
    let at = |time: f64| start.after(seconds(time));
    let is_about = |found: Duration, wanted: f64| found.abs_diff(seconds(wanted)) < seconds(0.01);
    let mut holder = Holder::new(start);
    holder.ask(Some(A), start);
    holder.answered(start, granted(1), at(0.1));
    assert!(is_about(holder.wait(Some(A), at(0.1)), 0.9));
    assert_eq!(holder.wait(Some(B), at(0.1)), Duration::ZERO);
    holder.ask(Some(B), at(0.1));
    holder.answered(at(0.1), Some(LeaseAnswer::NotLeader { leader: None }), at(0.2));
    assert!(is_about(holder.wait(Some(B), at(0.2)), 0.1));
    assert!(is_about(holder.wait(None, at(0.2)), 0.1), "it asks around");
    holder.ask(None, at(0.3));
    holder.answered(at(0.3), None, at(0.8));
    assert!(is_about(holder.wait(Some(B), at(0.8)), 0.1));
    assert!(holder.lease(1, at(3.9)).is_valid(at(3.9).ticks), "it has the first one still");
}

#[test]
fn only_the_process_that_the_table_has_as_up_gets_a_lease() {
    let (mut table, now) = (table_of(&beginning()), Moment::now());
    let mut grantor = Grantor::new(now);
    grantor.leads(Some(1), now);
    let grant = LeaseAnswer::Granted(Grant { length: LEASE, config_index: 4 });
    assert_eq!(grantor.answer(&table, B, Incarnation(1), now), grant);
    let answer = grantor.answer(&table, B, Incarnation(2), now);
    assert_eq!(answer, LeaseAnswer::NotAnnounced);
    assert_eq!(grantor.answer(&table, NodeId(3), Incarnation(1), now), LeaseAnswer::NotMember);
    apply(&mut table, 5, &Entry::NodeDown { node: B, incarnation: Incarnation(1) });
    let answer = grantor.answer(&table, B, Incarnation(1), now);
    assert_eq!(answer, LeaseAnswer::NotAnnounced);
}

#[test]
fn a_lease_is_over_when_neither_this_leader_nor_one_before_can_have_granted_it() {
    let (table, start) = (table_of(&beginning()), Moment::now());
    let at = |time: f64| start.after(seconds(time));
    let mut grantor = Grantor::new(start);
    assert!(!grantor.lease_over(A, at(100.0)), "it does not lead");
    assert!(grantor.leads(Some(7), at(100.0)));
    assert!(!grantor.leads(Some(7), at(104.0)));
    assert!(!grantor.lease_over(A, at(104.3)), "one before may have granted it");
    assert!(grantor.lease_over(A, at(104.5)));
    grantor.answer(&table, A, Incarnation(1), at(110.0));
    assert!(!grantor.lease_over(A, at(114.3)) && grantor.lease_over(B, at(114.3)));
    assert!(grantor.lease_over(A, at(114.5)));
    assert!(grantor.leads(None, at(120.0)));
    assert!(!grantor.lease_over(A, at(200.0)));
    assert!(grantor.leads(Some(9), at(200.0)));
    assert!(!grantor.lease_over(A, at(204.3)) && grantor.lease_over(A, at(204.5)));
    // A process that starts again in the same term knows nothing of what it has granted.
    let mut again = Grantor::new(at(300.0));
    again.leads(Some(9), at(300.0));
    assert!(!again.lease_over(A, at(304.3)) && again.lease_over(A, at(304.5)));
}

#[test]
fn messages_are_read_as_they_were_written_and_are_bounded() {
    let whole = (0..PARTITIONS).map(|id| (PartitionId(id), u64::MAX)).collect();
    let mut request =
        LeaseRequest { node: A, incarnation: Incarnation(u64::MAX), applied: 9, report: whole };
    assert_eq!(LeaseRequest::decode(&request.encode()).as_ref(), Ok(&request));
    request.report.push((PartitionId(0), 1));
    assert!(LeaseRequest::decode(&request.encode()).is_err(), "a partition too many");
    let answer = LeaseAnswer::NotLeader { leader: Some(B) };
    let bytes = answer.encode();
    assert_eq!(LeaseAnswer::decode(&bytes), Ok(answer));
    assert!(LeaseAnswer::decode(&[&bytes[..], &[0]].concat()).is_err());
    assert!(LeaseRequest::decode(&[0xff; 100]).is_err() && LeaseAnswer::decode(&[]).is_err());
}

/// What may happen, one thing after the other.
#[derive(Debug, Clone)]
enum Event {
    /// Time passes: so many quarters of a second.
    Pass(u8),
    /// A node asks for a lease, and gets an answer at once.
    Renew(usize),
    /// A node asks for a lease.
    Ask(usize),
    /// The question at this place reaches a leader, which is confirmed if it is one.
    Confirm(usize, usize),
    /// The leader answers what it has confirmed, however late.
    Answer(usize),
    /// An answer reaches the node.
    Receive(usize),
    /// A node applies so many entries.
    Apply(usize, u8),
    /// One of the two leads from now on.
    Elect(usize),
    /// The leader's process starts again, and leads in the same term.
    Restart,
    /// The leader takes a node for down.
    Down(usize),
    /// A node announces itself.
    Up(usize),
    /// The leader promotes the other node, if the lease of the primary is over.
    Promote,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => (1..6u8).prop_map(Event::Pass),
        8 => (0..2usize).prop_map(Event::Renew),
        3 => (0..2usize).prop_map(Event::Ask),
        3 => (0..4usize, 0..2usize).prop_map(|(at, leader)| Event::Confirm(at, leader)),
        3 => (0..4usize).prop_map(Event::Answer),
        3 => (0..4usize).prop_map(Event::Receive),
        6 => (0..2usize, 1..9u8).prop_map(|(node, count)| Event::Apply(node, count)),
        1 => (0..2usize).prop_map(Event::Elect),
        1 => Just(Event::Restart),
        4 => (0..2usize).prop_map(Event::Down),
        2 => (0..2usize).prop_map(Event::Up),
        6 => Just(Event::Promote),
    ];
    prop::collection::vec(event, 0..200)
}

/// Two nodes that hold a partition, and two that lead in turn. All clocks are equal here.
struct World {
    now: Moment,
    log: Vec<Entry>,
    applied: [usize; 2],
    holders: [Holder; 2],
    grantors: [Grantor; 2],
    leader: usize,
    term: u64,
    asked: Vec<(usize, Moment)>,
    confirmed: Vec<(usize, usize, Moment)>,
    answers: Vec<(usize, Moment, LeaseAnswer)>,
    promotions: u64,
    granted: u64,
}

const NODES: [NodeId; 2] = [A, B];

impl World {
    fn new() -> World {
        let (now, log) = (Moment::now(), beginning());
        let grantors = [Grantor::new(now), Grantor::new(now)];
        let holders = [Holder::new(now), Holder::new(now)];
        let applied = [log.len(); 2];
        let (asked, confirmed, answers) = (Vec::new(), Vec::new(), Vec::new());
        let mut world = World {
            now,
            log,
            applied,
            holders,
            grantors,
            leader: 0,
            term: 0,
            asked,
            confirmed,
            answers,
            promotions: 0,
            granted: 0,
        };
        world.elect(0);
        world
    }

    fn elect(&mut self, leader: usize) {
        // The other one does not know that it has been replaced.
        self.leader = leader;
        self.term += 1;
        self.grantors[leader].leads(Some(self.term), self.now);
    }

    fn happen(&mut self, event: Event) {
        let table = table_of(&self.log);
        match event {
            Event::Pass(quarters) => {
                self.now = self.now.after(Duration::from_millis(250) * quarters.into());
            }
            Event::Renew(node) => {
                let (asked, confirmed) = (self.asked.len(), self.confirmed.len());
                let answers = self.answers.len();
                self.happen(Event::Ask(node));
                self.happen(Event::Confirm(asked, self.leader));
                self.happen(Event::Answer(confirmed));
                self.happen(Event::Receive(answers));
            }
            Event::Ask(node) => self.asked.push((node, self.now)),
            Event::Confirm(at, leader) if leader == self.leader && at < self.asked.len() => {
                let (node, asked) = self.asked.swap_remove(at);
                self.confirmed.push((leader, node, asked));
            }
            Event::Answer(at) if at < self.confirmed.len() => {
                let (leader, node, asked) = self.confirmed.swap_remove(at);
                let grantor = &mut self.grantors[leader];
                let answer = grantor.answer(&table, NODES[node], Incarnation(1), self.now);
                self.granted += u64::from(matches!(answer, LeaseAnswer::Granted(_)));
                self.answers.push((node, asked, answer));
            }
            Event::Receive(at) if at < self.answers.len() => {
                let (node, asked, answer) = self.answers.swap_remove(at);
                self.holders[node].answered(asked, Some(answer), self.now);
            }
            Event::Apply(node, count) => {
                let applied = self.applied[node] + usize::from(count);
                self.applied[node] = applied.min(self.log.len());
            }
            Event::Elect(leader) if leader != self.leader => self.elect(leader),
            Event::Restart => {
                let grantor = &mut self.grantors[self.leader];
                *grantor = Grantor::new(self.now);
                grantor.leads(Some(self.term), self.now);
            }
            Event::Down(node) => {
                let (node, incarnation) = (NODES[node], Incarnation(1));
                self.log.push(Entry::NodeDown { node, incarnation });
            }
            Event::Up(node) => {
                let (node, replaces) = (NODES[node], Incarnation(1));
                self.log.push(Entry::NodeUp { node, replaces, announcement: announcement() });
            }
            Event::Promote => {
                let at = table.partition(PARTITION).unwrap();
                let primary = at.primary.unwrap();
                let is_over = self.grantors[self.leader].lease_over(primary, self.now);
                if !table.is_up(primary) && is_over {
                    let to = if primary == A { B } else { A };
                    let change = Change::Promote { to, unclean: false };
                    let (partition, expect_epoch) = (PARTITION, at.epoch);
                    self.log.push(Entry::Partition { partition, expect_epoch, change });
                    self.promotions += 1;
                }
            }
            _ => {}
        }
    }

    fn serving(&mut self) -> usize {
        let mut serving = 0;
        for (place, node) in NODES.into_iter().enumerate() {
            let table = table_of(&self.log[..self.applied[place]]);
            let lease = self.holders[place].lease(table.version, self.now);
            let may_serve = lease.allows(&table, node, Incarnation(1), self.now.ticks);
            let is_owner = table.serving_owner(PARTITION) == Some(node);
            serving += usize::from(may_serve && is_owner);
        }
        serving
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn never_do_two_nodes_serve_a_partition(events in events()) {
        let mut world = World::new();
        for event in events {
            world.happen(event);
            prop_assert!(world.serving() <= 1);
        }
    }
}

#[test]
fn the_world_of_the_property_promotes_and_both_nodes_serve_in_turn() {
    let mut world = World::new();
    let lease = |world: &mut World, node: usize| {
        for event in [Event::Ask(node), Event::Confirm(0, 0), Event::Answer(0), Event::Receive(0)] {
            world.happen(event);
        }
    };
    lease(&mut world, 0);
    assert_eq!(world.serving(), 1);
    world.happen(Event::Down(0));
    world.happen(Event::Promote);
    assert_eq!(world.promotions, 0, "A has its lease, and does not know that it is down");
    assert_eq!(world.serving(), 1);
    for _ in 0..18 {
        world.happen(Event::Pass(1));
    }
    world.happen(Event::Promote);
    assert_eq!((world.promotions, world.serving()), (1, 0));
    world.happen(Event::Renew(1));
    assert_eq!(world.serving(), 0, "B has not applied it");
    world.happen(Event::Apply(1, 3));
    assert_eq!((world.serving(), world.granted), (1, 2));
}
