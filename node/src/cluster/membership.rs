//! A node's membership: finds or creates its cluster, says that it runs and where, and, on the
//! leader, sees to it that the members of the table are those of Raft's group.
//!
//! A thin shell around [`decide`], [`Voters`], `silent_members` and `differences`, which hold
//! the rules. It owns nothing that others use; it must run where nothing blocks.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::bootstrap::{
    ASK_AGAIN, Announcer, Answer, Conflict, Decision, Own, SEEDS_MAX, Seed, decide,
};
use super::raft::{Consensus, ConsensusError, ProposeError, Standing};
use super::table::{
    Announcement, ClusterId, Entry, Incarnation, NodeId, Outcome, Refusal, State, Status,
};
use super::voters::{GroupChange, Voters};
use crate::clock::{self, Ticks};

/// How often a member looks whether there is something to do.
pub const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// How long a proposal of membership may take before it is made again.
pub const PROPOSE_LIMIT: Duration = Duration::from_secs(2);

/// How long a seed has to answer.
pub const PROBE_LIMIT: Duration = Duration::from_secs(1);

/// How long a member does not answer the leader before the table says that it is down.
pub const DOWN_AFTER: Duration = Duration::from_secs(2);

/// What a seed says that it is, or why it is not known.
pub type Probing<'a> = Pin<Box<dyn Future<Output = Result<Probed, Unprobed>> + Send + 'a>>;

/// Who answered at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probed {
    /// The node, which may be this one.
    pub node: NodeId,
    /// Its cluster, unless it is in none.
    pub cluster: Option<ClusterId>,
}

/// Why nobody is known to be at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unprobed {
    /// There was no answer.
    Silent,
    /// The one that answered is no node, or refused this one: the text says why.
    Refused(String),
    /// It refused since it is in a cluster, and this node in another one.
    OtherCluster(Probed),
}

/// What membership needs of the connections to other nodes.
pub trait Peers: Debug + Send + Sync + 'static {
    /// Asks who is at a bus address.
    fn probe<'a>(&'a self, address: &'a str, limit: Duration) -> Probing<'a>;

    /// Says where all other nodes are reached.
    fn set_peers(&self, addresses: &BTreeMap<NodeId, String>);

    /// Says which cluster this node is in.
    fn set_cluster(&self, cluster: ClusterId);
}

/// Why a node has no part in a cluster.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// It must not go on: the operator has to change something.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// Consensus has stopped, and the process must end.
    #[error(transparent)]
    Consensus(#[from] ConsensusError),
    /// The cluster does not take the node.
    #[error("the cluster refused this node: {0}")]
    Refused(Refusal),
}

/// A node's membership.
#[derive(Debug)]
pub struct Membership {
    consensus: Consensus,
    peers: Arc<dyn Peers>,
    /// Bus addresses.
    seeds: Vec<String>,
    announcement: Announcement,
    /// Where seeds were found, and the process that the table named for them then: whatever the
    /// table says of another process is newer.
    found: BTreeMap<NodeId, (String, Option<Incarnation>)>,
    known: Arc<State>,
    leading: Option<Leading>,
}

/// What a leader remembers.
#[derive(Debug)]
struct Leading {
    term: u64,
    voters: Voters,
    /// Since when each node has been one that the leader calls. Silence counts from there.
    called: BTreeMap<NodeId, Ticks>,
}

impl Membership {
    /// Prepares the membership of a node that says this of itself. Of the seeds, at most
    /// [`SEEDS_MAX`] are asked.
    pub fn new(
        consensus: Consensus,
        peers: Arc<dyn Peers>,
        mut seeds: Vec<String>,
        announcement: Announcement,
    ) -> Self {
        seeds.truncate(SEEDS_MAX);
        let known = Arc::clone(&consensus.table().borrow());
        let (found, leading) = (BTreeMap::new(), None);
        Membership { consensus, peers, seeds, announcement, found, known, leading }
    }

    /// Returns once the node is in a cluster: the one that its directory names, one that a seed
    /// is in, or a new one with the id `new_cluster`.
    ///
    /// # Errors
    ///
    /// Two clusters met, the cluster refused the node, or consensus has stopped.
    pub async fn bootstrap(
        &mut self,
        new_cluster: ClusterId,
    ) -> Result<ClusterId, MembershipError> {
        let mut announcer = Announcer::default();
        loop {
            let own = Own {
                node: self.consensus.node(),
                is_initialised: self.consensus.is_initialised().await?,
                cluster: self.consensus.identity().await?.cluster.map(ClusterId),
            };
            let seeds = self.probe_seeds(own.is_initialised).await;
            if own.is_initialised {
                warn_of_refusals(&seeds);
            }
            let joined = match decide(own, &seeds) {
                Decision::Refuse(conflict) => return Err(conflict.into()),
                Decision::Resume => match own.cluster {
                    Some(cluster) => Some(cluster),
                    // It stopped before it had noted the cluster that it created or joined.
                    None => self.resume(new_cluster).await?,
                },
                Decision::Create => self.create(new_cluster).await?,
                Decision::Join { cluster, .. } => self.join(cluster, &seeds).await?,
                Decision::Wait(waiting) => {
                    if announcer.is_due(&waiting, Ticks::now()) {
                        log::info!(reason = waiting.to_string().as_str(); "waiting for a cluster");
                    }
                    None
                }
            };
            if let Some(cluster) = joined {
                if own.cluster != Some(cluster) {
                    self.consensus.note_cluster(cluster).await?;
                }
                self.peers.set_cluster(cluster);
                return Ok(cluster);
            }
            clock::sleep(ASK_AGAIN).await;
        }
    }

    /// Goes on until consensus stops: says that the node runs, and leads when it is its turn.
    ///
    /// # Errors
    ///
    /// Always, in the end: consensus has stopped, or the cluster refuses the node.
    pub async fn run(mut self) -> Result<(), MembershipError> {
        loop {
            self.look().await?;
            self.consensus.standing_changed(LOOK_AGAIN).await;
        }
    }

    /// Does what there is to do now.
    async fn look(&mut self) -> Result<(), MembershipError> {
        let standing = self.consensus.standing();
        if let Some(failure) = standing.failure {
            return Err(ConsensusError::Stopped(failure).into());
        }
        let table = Arc::clone(&self.consensus.table().borrow());
        if !Arc::ptr_eq(&table, &self.known) {
            differences(&self.known, &table).iter().for_each(|line| log::info!("{line}"));
            self.known = table;
            self.update_peers();
        }
        self.announce().await?;
        self.lead(&standing).await;
        Ok(())
    }

    /// Asks all seeds at once; one that was in a cluster needs no answer of those that are silent.
    async fn probe_seeds(&mut self, is_member: bool) -> Vec<Seed> {
        let own = self.consensus.node();
        let mut probes = tokio::task::JoinSet::new();
        for (place, address) in self.seeds.iter().cloned().enumerate() {
            let peers = Arc::clone(&self.peers);
            let limit = if is_member { PROBE_LIMIT / 4 } else { PROBE_LIMIT };
            probes.spawn(async move { (place, peers.probe(&address, limit).await) });
        }
        let seed = |address: &String| Seed { address: address.clone(), answer: Answer::Silent };
        let mut seeds: Vec<Seed> = self.seeds.iter().map(seed).collect();
        while let Some(probed) = probes.join_next().await {
            let Ok((place, probed)) = probed else { continue };
            seeds[place].answer = match probed {
                Ok(probed) if probed.node == own => Answer::Myself,
                Ok(probed) => {
                    let table = self.known.nodes.get(&probed.node);
                    let address = seeds[place].address.clone();
                    let process = table.map(|member| member.incarnation);
                    self.found.insert(probed.node, (address, process));
                    answer(probed)
                }
                Err(Unprobed::OtherCluster(probed)) => answer(probed),
                Err(Unprobed::Silent) => Answer::Silent,
                Err(Unprobed::Refused(reason)) => Answer::Refused { reason },
            };
        }
        self.update_peers();
        seeds
    }

    fn update_peers(&self) {
        let own = self.consensus.node();
        let mut addresses: BTreeMap<NodeId, String> = BTreeMap::new();
        for (node, member) in self.known.nodes.iter().filter(|(node, _)| **node != own) {
            addresses.insert(*node, member.addresses.bus.clone());
        }
        for (node, (address, process)) in &self.found {
            let known = self.known.nodes.get(node).map(|member| member.incarnation);
            if known == *process {
                addresses.insert(*node, address.clone());
            }
        }
        self.peers.set_peers(&addresses);
    }

    async fn create(&self, cluster: ClusterId) -> Result<Option<ClusterId>, MembershipError> {
        let created =
            self.consensus.create(cluster, self.announcement.clone(), PROPOSE_LIMIT).await;
        match created {
            Ok(Outcome::Refused(Refusal::ClusterExists(cluster))) => Ok(Some(cluster)),
            Ok(Outcome::Refused(refusal)) => Err(MembershipError::Refused(refusal)),
            Ok(_) => {
                log::info!(cluster = cluster.to_string().as_str(); "created a cluster");
                Ok(Some(cluster))
            }
            Err(ProposeError::Stopped(reason)) => Err(ConsensusError::Stopped(reason).into()),
            Err(_) => Ok(None),
        }
    }

    /// Finds out the cluster of a node that is in Raft's group and has not noted its cluster.
    async fn resume(&self, new: ClusterId) -> Result<Option<ClusterId>, MembershipError> {
        let known = self.consensus.table().borrow().cluster;
        if known.is_some() {
            return Ok(known);
        }
        let voters = self.consensus.standing().voters;
        let is_alone = voters.iter().eq([&self.consensus.node()]);
        if is_alone { self.create(new).await } else { Ok(None) }
    }

    /// Asks the seeds that are in a cluster, one after the other, to be taken in.
    async fn join(
        &self,
        cluster: ClusterId,
        seeds: &[Seed],
    ) -> Result<Option<ClusterId>, MembershipError> {
        let node = self.consensus.node();
        let entry = Entry::NodeJoin { node, announcement: self.announcement.clone() };
        for seed in seeds {
            let Answer::Member { node: member, .. } = seed.answer else { continue };
            let joined = self.consensus.submit(member, &seed.address, &entry, PROPOSE_LIMIT).await;
            match joined {
                // Known from a try before that this process has forgotten: it says that it runs.
                Ok(Outcome::Refused(Refusal::NodeKnown { .. })) => return Ok(Some(cluster)),
                Ok(Outcome::Refused(refusal)) => return Err(MembershipError::Refused(refusal)),
                Ok(_) => return Ok(Some(cluster)),
                Err(_) => {}
            }
        }
        Ok(None)
    }

    /// Says that this process runs, and where, if the table says otherwise.
    async fn announce(&mut self) -> Result<(), MembershipError> {
        let node = self.consensus.node();
        let Some(member) = self.known.nodes.get(&node) else { return Ok(()) };
        if member.status.is_up() && announced(member) == self.announcement {
            return Ok(());
        }
        let mut replaces = member.incarnation;
        for _ in 0..2 {
            let announcement = self.announcement.clone();
            let entry = Entry::NodeUp { node, replaces, announcement };
            match self.submit_anywhere(entry).await {
                Some(Outcome::Refused(Refusal::StaleIncarnation { current, .. })) => {
                    replaces = current;
                }
                Some(Outcome::Refused(Refusal::UnknownNode(_))) | None => break,
                Some(Outcome::Refused(refusal)) => return Err(MembershipError::Refused(refusal)),
                Some(_) => break,
            }
        }
        Ok(())
    }

    /// Proposes an entry here, at the leader, or through a seed that may know the leader.
    async fn submit_anywhere(&self, entry: Entry) -> Option<Outcome> {
        if let Ok(outcome) = self.consensus.propose(entry.clone(), PROPOSE_LIMIT).await {
            return Some(outcome);
        }
        for (member, (address, _)) in &self.found {
            let submitted = self.consensus.submit(*member, address, &entry, PROPOSE_LIMIT).await;
            if let Ok(outcome) = submitted {
                return Some(outcome);
            }
        }
        None
    }

    /// Does a leader's duty: one thing at a time, each of which fails if this node does not lead.
    async fn lead(&mut self, standing: &Standing) {
        if !standing.claims_lead {
            self.leading = None;
            return;
        }
        let now = Ticks::now();
        if self.leading.as_ref().is_none_or(|leading| leading.term != standing.term) {
            let voters = Voters::new(now);
            let called = BTreeMap::new();
            self.leading = Some(Leading { term: standing.term, voters, called });
        }
        let Some(leading) = &mut self.leading else { return };
        let (own, contacts) = (self.consensus.node(), self.consensus.contacts());
        let table = &self.known;
        let last_ok = |node| contacts.last_ok(node);
        let others = standing.voters.union(&standing.learners).filter(|node| **node != own);
        let silent = silent_members(table, others, &mut leading.called, last_ok, now);
        let change = leading.voters.decide(own, standing, table, last_ok, now);
        for (node, incarnation) in silent {
            let down = Entry::NodeDown { node, incarnation };
            // If it fails, the next look proposes it again.
            let _ = self.consensus.propose(down, PROPOSE_LIMIT).await;
        }
        let Some(change) = change else { return };
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
        leading.voters.changed(Ticks::now());
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
}

/// A member goes on without the seeds that refuse it, but not silently: the clusters of both may
/// have been formed apart.
fn warn_of_refusals(seeds: &[Seed]) {
    for seed in seeds {
        if let Answer::Refused { reason } = &seed.answer {
            log::warn!(seed = seed.address.as_str(), reason = reason.as_str();
                "a seed refuses this node");
        }
    }
}

fn answer(probed: Probed) -> Answer {
    match probed.cluster {
        Some(cluster) => Answer::Member { node: probed.node, cluster },
        None => Answer::Blank { node: probed.node },
    }
}

/// Returns what a member has said of itself.
fn announced(member: &super::table::Member) -> Announcement {
    Announcement {
        incarnation: member.incarnation,
        addresses: member.addresses.clone(),
        zone: member.zone.clone(),
        weight: member.weight,
        role: member.role,
    }
}

/// Returns the members that the table takes for running, and that have not answered the leader's
/// calls for [`DOWN_AFTER`]. Who is not called yet is not judged. `others` are those that are
/// called now, and `called` remembers since when.
fn silent_members<'a>(
    table: &State,
    others: impl Iterator<Item = &'a NodeId>,
    called: &mut BTreeMap<NodeId, Ticks>,
    last_ok: impl Fn(NodeId) -> Option<Ticks>,
    now: Ticks,
) -> Vec<(NodeId, Incarnation)> {
    *called = others.map(|node| (*node, called.get(node).copied().unwrap_or(now))).collect();
    let mut silent = Vec::new();
    for (node, since) in called.iter() {
        let last = last_ok(*node).map_or(*since, |at| at.max(*since));
        let member = table.nodes.get(node).filter(|member| member.status.is_up());
        if let Some(member) = member.filter(|_| now.since(last) > DOWN_AFTER) {
            silent.push((*node, member.incarnation));
        }
    }
    silent
}

/// Returns a line for each change of membership between two tables.
fn differences(old: &State, new: &State) -> Vec<String> {
    let mut lines = Vec::new();
    for (node, member) in &new.nodes {
        let bus = &member.addresses.bus;
        let before = old.nodes.get(node);
        let status = match member.status {
            Status::Up => "is up",
            Status::Leaving => "is leaving",
            Status::Down { .. } => "is down",
        };
        match before {
            None => lines.push(format!("node {node} at {bus} has joined, and {status}")),
            Some(before) if before.status != member.status => {
                lines.push(format!("node {node} at {bus} {status}"));
            }
            Some(before) if before.incarnation != member.incarnation => {
                lines.push(format!("node {node} at {bus} has restarted"));
            }
            Some(before) if before.addresses != member.addresses => {
                lines.push(format!("node {node} is at {bus} now"));
            }
            Some(_) => {}
        }
    }
    for node in old.nodes.keys().filter(|node| !new.nodes.contains_key(node)) {
        lines.push(format!("node {node} is no member any more"));
    }
    lines
}

#[cfg(test)]
mod tests;
