//! The leader's duties: the shell around [`Driver`], [`Voters`] and [`silent_members`], which hold
//! the rules.
//!
//! It runs on every node, and does nothing but where consensus says that the node leads. Before it
//! proposes anything, a majority has confirmed that it does.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::fault;
use super::leader::{Called, Driver, Seen, is_open, silent_members};
use super::leases::{CONFIRM_LIMIT, Leases};
use super::membership::{LOOK_AGAIN, PROPOSE_LIMIT};
use super::planner::PlanLimits;
use super::raft::{Consensus, Standing};
use super::table::{Entry, MoveId, NodeId, State};
use super::voters::{GroupChange, Voters};
use crate::clock::{self, Ticks};

/// How long a confirmation counts.
const CONFIRMED_FOR: Duration = Duration::from_millis(500);

/// Time between two looks while something moves or should.
const LOOK_SOON: Duration = Duration::from_millis(100);

/// Time between two looks while all is as it should be; a change of the table is looked at at once.
const LOOK_RARELY: Duration = Duration::from_secs(1);

/// Changes of the table within this time are looked at together.
const COLLECT: Duration = Duration::from_millis(10);

/// Does a leader's duties whenever this node leads.
pub(super) async fn lead(consensus: Consensus, leases: Leases) -> Infallible {
    let group = Leader { consensus: consensus.clone(), leases: leases.clone(), confirmed: None };
    let table = Leader { consensus, leases, confirmed: None };
    tokio::select! {
        never = group.lead_group() => never,
        never = table.lead_table() => never,
    }
}

struct Leader {
    consensus: Consensus,
    leases: Leases,
    /// The term and the time of the last confirmation.
    confirmed: Option<(u64, Ticks)>,
}

impl Leader {
    /// Sees to who is down, and to Raft's group: one change at a time.
    async fn lead_group(mut self) -> Infallible {
        let mut watch = self.consensus.watch_standing();
        let mut leading: Option<(u64, Voters, BTreeMap<NodeId, Called>)> = None;
        loop {
            let standing = watch.standing();
            self.leases.note_leadership(&standing);
            if standing.claims_lead {
                let now = Ticks::now();
                if leading.as_ref().is_none_or(|(term, ..)| *term != standing.term) {
                    leading = Some((standing.term, Voters::new(now), BTreeMap::new()));
                }
                if let Some((_, voters, called)) = &mut leading {
                    self.see_to_group(&standing, voters, called, now).await;
                }
                clock::sleep(LOOK_SOON).await;
            } else {
                leading = None;
                let _ = clock::within(Some(LOOK_AGAIN), watch.changed()).await;
            }
        }
    }

    async fn see_to_group(
        &mut self,
        standing: &Standing,
        voters: &mut Voters,
        called: &mut BTreeMap<NodeId, Called>,
        now: Ticks,
    ) {
        let (own, contacts) = (self.consensus.node(), self.consensus.contacts());
        let table = Arc::clone(&self.consensus.table().borrow());
        let last_ok = |node| contacts.last_ok(node);
        let others = standing.voters.union(&standing.learners).filter(|node| **node != own);
        let silent = silent_members(&table, others, called, last_ok, now);
        let change = voters.decide(own, standing, &table, last_ok, now);
        if (silent.is_empty() && change.is_none()) || !self.is_confirmed(standing).await {
            return;
        }
        let down =
            silent.into_iter().map(|(node, incarnation)| Entry::NodeDown { node, incarnation });
        self.propose_all(down.collect()).await;
        if let Some(change) = change {
            self.change_group(change).await;
            voters.changed(Ticks::now());
        }
    }

    async fn change_group(&self, change: GroupChange) {
        let made = match change.clone() {
            GroupChange::AddLearner { node, bus } => {
                self.consensus.add_learner(node, bus, PROPOSE_LIMIT).await
            }
            GroupChange::SetVoters(voters) => {
                self.consensus.set_voters(voters, PROPOSE_LIMIT).await
            }
            GroupChange::RemoveLearner(node) => {
                self.consensus.remove_learner(node, PROPOSE_LIMIT).await
            }
        };
        match (made, change) {
            (Ok(()), GroupChange::SetVoters(voters)) => {
                let voters: Vec<String> = voters.iter().map(ToString::to_string).collect();
                log::info!(voters = voters.join(" ").as_str(); "voters changed");
            }
            (Ok(()), _) => {}
            (Err(error), _) => {
                log::debug!(error = error.to_string().as_str(); "raft's group did not change");
            }
        }
    }

    /// Sees to who has what, and to who has left.
    async fn lead_table(mut self) -> Infallible {
        let mut watch = self.consensus.watch_standing();
        let mut tables = self.consensus.table();
        let mut leading: Option<(u64, Driver)> = None;
        loop {
            let standing = watch.standing();
            if !standing.claims_lead {
                leading = None;
                let _ = clock::within(Some(LOOK_AGAIN), watch.changed()).await;
                continue;
            }
            let (table, now) = (Arc::clone(&tables.borrow_and_update()), Ticks::now());
            if leading.as_ref().is_none_or(|(term, _)| *term != standing.term) {
                let driver = Driver::new(&table, PlanLimits::default(), now);
                leading = Some((standing.term, driver));
            }
            let Some((_, driver)) = &mut leading else { continue };
            let entries = self.look(driver, &standing, &table, now);
            if !entries.is_empty() && self.is_confirmed(&standing).await {
                let is_plan = entries.iter().any(|of| matches!(of, Entry::Partition { .. }));
                self.propose_all(entries).await;
                if is_plan {
                    fault::reach("leader.proposed");
                }
            }
            clock::sleep(COLLECT).await;
            let pause = if is_open(&table) { LOOK_SOON } else { LOOK_RARELY };
            let _ = clock::within(Some(pause), tables.changed()).await;
        }
    }

    fn look(
        &self,
        driver: &mut Driver,
        standing: &Standing,
        table: &State,
        now: Ticks,
    ) -> Vec<Entry> {
        let (own, contacts) = (self.consensus.node(), self.consensus.contacts());
        let (reported, last_ok) = (self.leases.reported(), |node| contacts.last_ok(node));
        let seen = Seen { own, standing, table, reported: &reported, last_ok: &last_ok };
        driver.look(&seen, now, &mut || MoveId(clock::random_seed()))
    }

    /// Whether a majority has said lately that this node leads.
    async fn is_confirmed(&mut self, standing: &Standing) -> bool {
        let is_recent = |(term, at): (u64, Ticks)| {
            term == standing.term && Ticks::now().since(at) < CONFIRMED_FOR
        };
        if self.confirmed.is_some_and(is_recent) {
            return true;
        }
        let asked = Ticks::now();
        let is_confirmed = self.consensus.confirm(CONFIRM_LIMIT).await.is_ok();
        self.confirmed = is_confirmed.then_some((standing.term, asked));
        is_confirmed
    }

    /// Proposes entries that do not depend on each other; they take their place in the log
    /// together. What fails is found again by the next look, if it is still to be done.
    async fn propose_all(&self, entries: Vec<Entry>) {
        let mut proposals = JoinSet::new();
        for entry in entries {
            let consensus = self.consensus.clone();
            proposals.spawn(async move { consensus.propose(entry, PROPOSE_LIMIT).await });
        }
        while proposals.join_next().await.is_some() {}
    }
}
