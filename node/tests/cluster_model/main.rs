//! Every order of events in a small cluster, tried by a model checker on the real table.
//!
//! Two nodes, A and B, hold one partition that moves between them; the third node leads the
//! consensus and holds nothing. Messages are delayed and lost, entries are committed late, nodes
//! restart with what is on their disks, the leader changes, nodes are taken for dead that are
//! not. Time is discrete: a lease counts down on every tick.
//!
//! A partition of one copy is handed over by one entry, and the former primary deletes what it
//! has; with further copies, a target joins the in-sync set first, and another copy leaves it
//! last. [`Cluster::one_copy`] says by which of the two the nodes go; the table takes both.
//!
//! What must hold: at most one node serves (I1); epochs never fall, and each has one owner (I2);
//! what was acknowledged is in every in-sync copy (I3); what was refused left no effect (I4).
//! Each fence is also switched off in turn, and then the checker must find something wrong. One
//! pair of fences keeps the same thing out, so both must be off.

#![allow(clippy::unwrap_used, reason = "a test")]

mod rules;
mod steps;
mod world;

use distcache_node::cluster::table::PartitionId;
use stateright::{Checker, HasDiscoveries, Model};

const PARTITION: PartitionId = PartitionId(0);
/// The nodes that hold data, as they are numbered here and in the table.
const NODES: [usize; 2] = [0, 1];
/// What every copy must have from the beginning on.
const BASE: u8 = 1;
/// The one write of the model.
const WRITE: u8 = 2;
/// Entries that are proposed and not committed. One that is lost is one that stays.
const PENDING_MAX: usize = 2;

/// What keeps two nodes from serving, and writes from being lost. Without one of these, something
/// must go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fence {
    /// A node serves only while it has a lease.
    LeaseCheck,
    /// A lease counts from when the node asked for it.
    LeaseFromRequest,
    /// The leader waits until the lease of a former primary is over.
    LeaseWait,
    /// A new leader waits for the leases that an earlier one may have granted.
    WaitAfterElection,
    /// A lease is good only for a table at least as new as the one it was granted with.
    ConfigIndex,
    /// Nodes that the table says are down get no lease.
    NoGrantToDown,
    /// A promotion does nothing in another epoch than its proposer has seen.
    EpochCheck,
    /// A node serves, and gets leases, only as the process that the table names.
    NamedProcess,
    /// A process announces itself in place of the one that it knows of.
    PresentProcess,
    /// A frozen primary goes on only when it has applied how the move ended.
    StayFrozen,
    /// The target joins the in-sync set only with everything that was acknowledged.
    JoinWithAll,
    /// From the copy on, a write is acknowledged only with the target's copy.
    AckOfTarget,
    /// A copy is deleted only when the table with the node's own return says so.
    KeepCopyAtStart,
    /// Handover: the source freezes the partition before it proposes the switch.
    FreezeFirst,
    /// Handover: the switch is proposed only when the target has answered for everything.
    SwitchWithAll,
    /// Handover: the target's last answer says that everything is on its disk.
    SyncFirst,
    /// Handover: a target answers only for a stream that it has from the beginning on, so not for
    /// the rest of one that an earlier process of it has received.
    WholeStream,
    /// Handover: a target takes only what belongs to a move that its own table has.
    KnownMove,
    /// Handover: the source deletes its copy only when it has applied the switch.
    DeleteLast,
    /// Handover: what a target has received is the partition if the table says that the node is
    /// the primary by a switch, whichever move ended last: tables may have been skipped.
    TakeBySwitch,
    /// Handover: a switch does nothing in another epoch than its proposer has seen.
    SwitchEpoch,
    /// Handover: a switch does nothing for another move than its proposer's.
    SwitchMove,
}

/// How much happens in one run.
#[derive(Debug, Clone)]
struct Cluster {
    /// Ticks that a lease lasts.
    lease: u8,
    restarts: u8,
    downs: u8,
    elections: u8,
    moves: u8,
    /// Whether there is a write.
    writes: bool,
    /// Whether primaries hand their only copy over.
    one_copy: bool,
    /// The fences that are switched off.
    without: &'static [Fence],
}

const CALM: Cluster = Cluster {
    lease: 1,
    restarts: 0,
    downs: 0,
    elections: 0,
    moves: 1,
    writes: false,
    one_copy: false,
    without: &[],
};

const ONE_COPY: Cluster = Cluster { one_copy: true, ..CALM };

/// Tries everything, and returns what has been seen to happen.
#[track_caller]
fn check(cluster: Cluster) -> Vec<&'static str> {
    let name = format!("{cluster:?}");
    let checker = cluster.checker().threads(2).finish_when(HasDiscoveries::AnyFailures);
    let checker = checker.spawn_bfs().join();
    eprintln!("{name}: {} states, depth {}", checker.unique_state_count(), checker.max_depth());
    let found = checker.discoveries();
    if let Some((broken, path)) = found.iter().find(|(found, _)| found.starts_with('I')) {
        panic!("{name}: {broken} does not hold:\n{path}");
    }
    let mut seen: Vec<_> = found.into_keys().collect();
    seen.sort_unstable();
    seen
}

#[test]
fn a_move_there_and_back_with_a_write() {
    // A model in which nothing happens would hold everything that is asked of it.
    let seen = check(Cluster { moves: 2, writes: true, ..CALM });
    assert_eq!(seen, ["a move is completed", "a write is sent elsewhere", "the target serves"]);
}

#[test]
fn a_move_while_two_processes_restart() {
    check(Cluster { restarts: 2, ..CALM });
}

#[test]
fn a_move_while_nodes_are_taken_for_dead_that_are_not() {
    check(Cluster { downs: 2, ..CALM });
}

#[test]
fn a_move_while_a_process_restarts_and_a_node_is_taken_for_dead() {
    check(Cluster { restarts: 1, downs: 1, ..CALM });
}

#[test]
fn a_write_while_a_node_is_taken_for_dead_and_the_leader_changes() {
    check(Cluster { downs: 1, elections: 1, writes: true, ..CALM });
}

#[test]
fn a_write_while_a_process_restarts_and_the_leader_changes() {
    check(Cluster { restarts: 1, elections: 1, writes: true, ..CALM });
}

#[test]
fn a_lease_of_two_ticks_that_is_granted_late() {
    check(Cluster { lease: 2, downs: 1, ..CALM });
}

#[test]
fn a_handover_there_and_back_with_a_write() {
    let seen = check(Cluster { moves: 2, writes: true, ..ONE_COPY });
    assert_eq!(seen, ["a move is completed", "a write is sent elsewhere", "the target serves"]);
}

#[test]
fn a_handover_while_two_processes_restart() {
    check(Cluster { restarts: 2, ..ONE_COPY });
}

#[test]
fn a_handover_while_nodes_are_taken_for_dead_that_are_not() {
    check(Cluster { downs: 2, ..ONE_COPY });
}

#[test]
fn a_handover_while_a_process_restarts_and_a_node_is_taken_for_dead() {
    check(Cluster { restarts: 1, downs: 1, ..ONE_COPY });
}

#[test]
fn a_handover_with_a_write_while_a_node_is_taken_for_dead() {
    check(Cluster { downs: 1, writes: true, ..ONE_COPY });
}

#[test]
fn a_handover_with_a_write_while_a_process_restarts_and_the_leader_changes() {
    check(Cluster { restarts: 1, elections: 1, writes: true, ..ONE_COPY });
}

#[test]
fn two_handovers_while_a_process_restarts() {
    check(Cluster { restarts: 1, moves: 2, ..ONE_COPY });
}

/// The larger runs take minutes: `DISTCACHE_MODEL_LONG=1` asks for them.
#[test]
fn more_of_everything_at_once_when_that_is_asked_for() {
    if std::env::var_os("DISTCACHE_MODEL_LONG").is_none() {
        return;
    }
    check(Cluster { downs: 2, writes: true, ..CALM });
    check(Cluster { restarts: 1, downs: 1, writes: true, ..CALM });
    check(Cluster { downs: 1, moves: 2, writes: true, ..CALM });
    check(Cluster { restarts: 2, downs: 1, ..CALM });
}

/// See above.
#[test]
fn more_handovers_at_once_when_that_is_asked_for() {
    if std::env::var_os("DISTCACHE_MODEL_LONG").is_none() {
        return;
    }
    // Only failover needs clocks.
    let without = &[Fence::LeaseCheck, Fence::LeaseWait, Fence::ConfigIndex];
    check(Cluster { without, restarts: 1, downs: 1, ..ONE_COPY });
    check(Cluster { restarts: 2, writes: true, ..ONE_COPY });
    check(Cluster { restarts: 1, downs: 1, writes: true, ..ONE_COPY });
    check(Cluster { restarts: 1, moves: 2, writes: true, ..ONE_COPY });
    check(Cluster { downs: 1, moves: 2, writes: true, ..ONE_COPY });
    check(Cluster { restarts: 1, downs: 1, moves: 2, ..ONE_COPY });
    check(Cluster { lease: 2, restarts: 1, writes: true, ..ONE_COPY });
}

/// Tries everything until something goes wrong, which it must.
#[track_caller]
fn find(broken: &str, without: &'static [Fence], cluster: Cluster) {
    let checker = Cluster { without, ..cluster }.checker();
    let checker = checker.finish_when(HasDiscoveries::AnyFailures).spawn_dfs().join();
    eprintln!("without {without:?}: {} states", checker.unique_state_count());
    let found = checker.discoveries();
    assert!(found.keys().any(|name| name.starts_with(broken)), "{without:?}: not needed");
}

#[test]
fn without_any_one_fence_something_goes_wrong() {
    let down = Cluster { downs: 1, ..CALM };
    let restart = Cluster { restarts: 1, ..CALM };
    find("I1", &[Fence::LeaseCheck], down.clone());
    find("I1", &[Fence::LeaseFromRequest], down.clone());
    find("I1", &[Fence::LeaseWait], down.clone());
    find("I1", &[Fence::WaitAfterElection], Cluster { elections: 1, ..down.clone() });
    find("I1", &[Fence::ConfigIndex], down.clone());
    find("I1", &[Fence::NoGrantToDown], down.clone());
    find("I1", &[Fence::EpochCheck], Cluster { downs: 2, ..CALM });
    find("I1", &[Fence::PresentProcess], Cluster { restarts: 1, ..down.clone() });
    find("I1", &[Fence::NamedProcess], Cluster { restarts: 1, ..down });
    find("I1", &[Fence::StayFrozen], CALM);
    find("I3", &[Fence::JoinWithAll], CALM);
    find("I3", &[Fence::AckOfTarget], Cluster { writes: true, ..CALM });
    find("I3", &[Fence::KeepCopyAtStart], restart);
}

#[test]
fn without_any_one_fence_a_handover_goes_wrong() {
    let restart = Cluster { restarts: 1, ..ONE_COPY };
    let write = Cluster { writes: true, ..ONE_COPY };
    let twice = Cluster { moves: 2, ..ONE_COPY };
    find("I1", &[Fence::StayFrozen], ONE_COPY);
    find("I1", &[Fence::FreezeFirst], ONE_COPY);
    find("I1", &[Fence::NamedProcess], restart.clone());
    find("I3", &[Fence::SwitchWithAll], write);
    find("I3", &[Fence::SyncFirst], restart.clone());
    find("I3", &[Fence::WholeStream], restart.clone());
    find("I3", &[Fence::KeepCopyAtStart], restart);
    find("I3", &[Fence::DeleteLast], ONE_COPY);
    find("I3", &[Fence::KnownMove], twice.clone());
    find("I3", &[Fence::TakeBySwitch], twice.clone());
    // The epoch and the id of the move each keep a late switch out.
    find("I", &[Fence::SwitchEpoch, Fence::SwitchMove], twice.clone());
    check(Cluster { without: &[Fence::SwitchEpoch], ..twice.clone() });
    check(Cluster { without: &[Fence::SwitchMove], ..twice });
}
