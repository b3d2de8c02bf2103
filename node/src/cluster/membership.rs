//! A node's membership: finds or creates its cluster, says that it runs and where, keeps its lease,
//! leads when it is its turn, and ends when the node has left.
//!
//! A thin shell around [`decide`] and `differences`, which hold the rules; what a holder of a lease
//! and a leader do is in `leases` and `leading`. It owns nothing that others use; it must run where
//! nothing blocks.

mod differences;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use self::differences::differences;
use super::bootstrap::{
    ASK_AGAIN, Announcer, Answer, Conflict, Decision, Own, SEEDS_MAX, Seed, Waiting, decide,
    for_leader,
};
use super::leading;
use super::lease::{Lease, LeaseRequest};
use super::leases::{Asking, Holding, Leases, Reports};
use super::raft::{Consensus, ConsensusError, ProposeError};
use super::table::{Announcement, ClusterId, Entry, Incarnation, NodeId, Outcome, Refusal, State};
use crate::clock::{self, Ticks};

/// How often a member looks whether there is something to do.
pub const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// How long a proposal of membership may take before it is made again.
pub const PROPOSE_LIMIT: Duration = Duration::from_secs(2);

/// How often a member that its cluster does not know as it runs now asks its seeds again.
pub const ASK_SEEDS_AGAIN: Duration = Duration::from_secs(1);

/// How long a seed has to answer.
pub const PROBE_LIMIT: Duration = Duration::from_secs(1);

/// What a seed says that it is, or why it is not known.
pub type Probing<'a> = Pin<Box<dyn Future<Output = Result<Probed, Unprobed>> + Send + 'a>>;

/// Who answered at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probed {
    /// The node, which may be this one.
    pub node: NodeId,
    /// Its process.
    pub incarnation: Incarnation,
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
}

/// What membership needs of the connections to other nodes.
pub trait Peers: Debug + Send + Sync + 'static {
    /// Asks who is at a bus address.
    fn probe<'a>(&'a self, address: &'a str, limit: Duration) -> Probing<'a>;

    /// Asks a member, which may lead, for a lease; `None` if it did not answer in time.
    fn ask_lease(&self, leader: NodeId, request: LeaseRequest, limit: Duration) -> Asking<'_>;

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
    /// The node is new, and has keys that the cluster has elsewhere, or lost.
    #[error(transparent)]
    BringsKeys(#[from] BringsKeys),
}

/// Keys that a new node has in its log. They are not touched, at this start or a later one: they
/// may be the only copies there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this node is new in the cluster, where no keys are its own yet, but its data directory has \
     {0} keys: start with an empty directory; `distcache-log state --format resp` writes the keys \
     of this one for `redis-cli --pipe`, and if it was a member that lost its raft directory, \
     `distcache-node cluster remove NODE --lost` gives that member up"
)]
pub struct BringsKeys(u64);

impl BringsKeys {
    /// Refuses a new node that has so many keys.
    ///
    /// # Errors
    ///
    /// It has any.
    pub fn check(keys: u64) -> Result<(), BringsKeys> {
        if keys == 0 { Ok(()) } else { Err(BringsKeys(keys)) }
    }
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
    announcer: Announcer,
    known: Arc<State>,
    leases: Leases,
    reports: Arc<dyn Reports>,
    lease: watch::Sender<Lease>,
}

/// How a membership ends in order: the node was asked to leave, has given up all that it had, and
/// is no member any more. Its process can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left;

impl Membership {
    /// Prepares the membership of a node that says this of itself. `leases` is what answers the
    /// requests of others. Of the seeds, at most [`SEEDS_MAX`] are asked.
    pub fn new(
        consensus: Consensus,
        leases: Leases,
        peers: Arc<dyn Peers>,
        reports: Arc<dyn Reports>,
        mut seeds: Vec<String>,
        announcement: Announcement,
    ) -> Self {
        seeds.truncate(SEEDS_MAX);
        let known = Arc::clone(&consensus.table().borrow());
        Membership {
            consensus,
            peers,
            seeds,
            announcement,
            found: BTreeMap::new(),
            announcer: Announcer::default(),
            known,
            leases,
            reports,
            lease: watch::Sender::default(),
        }
    }

    /// Returns the node's lease: what it may serve until when. Once it has ended it is published
    /// as ended, a moment later; who must not be late compares [`Lease::until`] itself.
    pub fn lease(&self) -> watch::Receiver<Lease> {
        self.lease.subscribe()
    }

    /// Returns once the node is in a cluster: the one that its directory names, one that a seed
    /// is in, or a new one with the id `new_cluster`. Until it is clear that no other process has
    /// its id, and that its seeds are not of another cluster, it calls nobody but to ask who is
    /// there: neither its votes nor its connections reach others. It joins others only once `keys`
    /// says how many the node has, and that is none.
    ///
    /// # Errors
    ///
    /// Two clusters met, another process has this node's id, the node is new and has keys, the
    /// cluster refused the node, or consensus has stopped.
    pub async fn bootstrap(
        &mut self,
        new_cluster: ClusterId,
        mut keys: watch::Receiver<Option<u64>>,
    ) -> Result<ClusterId, MembershipError> {
        self.check_last_address().await?;
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
            let decision = decide(own, &seeds);
            if !matches!(decision, Decision::Refuse(_)) {
                self.update_peers();
            }
            let joined = match decision {
                Decision::Refuse(conflict) => return Err(conflict.into()),
                Decision::Resume => match own.cluster {
                    Some(cluster) => Some(cluster),
                    // It stopped before it had noted the cluster that it created or joined.
                    None => self.resume(new_cluster, &seeds).await?,
                },
                Decision::Create => self.create(new_cluster).await?,
                Decision::Join { cluster, .. } => {
                    // Before it asks: a node that is refused must be no member.
                    let loaded = keys.wait_for(Option::is_some).await.map(|keys| *keys);
                    let stopping = |_| ConsensusError::Stopped("the node is stopping".to_owned());
                    BringsKeys::check(loaded.map_err(stopping)?.unwrap_or(0))?;
                    self.join(cluster, &seeds).await?
                }
                Decision::Wait(waiting) => {
                    self.say_waiting(&waiting);
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

    /// Goes on until the node has left its cluster: says that it runs, keeps its lease, and leads
    /// when it is its turn.
    ///
    /// # Errors
    ///
    /// Consensus has stopped, or the cluster refuses the node.
    pub async fn run(self) -> Result<Left, MembershipError> {
        let holding = Holding {
            consensus: self.consensus.clone(),
            leases: self.leases.clone(),
            peers: Arc::clone(&self.peers),
            reports: Arc::clone(&self.reports),
            incarnation: self.announcement.incarnation,
            published: self.lease.clone(),
        };
        let (consensus, leases) = (self.consensus.clone(), self.leases.clone());
        let lease = self.lease.clone();
        let ended = tokio::select! {
            ended = self.stay() => ended,
            () = holding.hold() => Ok(Left),
            never = leading::lead(consensus, leases) => match never {},
        };
        lease.send_replace(Lease::default());
        ended
    }

    /// The node's own table says where it was reached last. A living process there that has its id
    /// is the one whose data directory was copied, or this one is: it must not be replaced.
    async fn check_last_address(&self) -> Result<(), Conflict> {
        let node = self.consensus.node();
        let Some(member) = self.known.nodes.get(&node) else { return Ok(()) };
        let address = &member.addresses.bus;
        if *address == self.announcement.addresses.bus {
            return Ok(());
        }
        match self.peers.probe(address, PROBE_LIMIT).await {
            Ok(probed) if probed.node == node && !self.is_this_process(&probed) => {
                Err(Conflict::SameId { address: address.clone(), node })
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn is_this_process(&self, probed: &Probed) -> bool {
        let own = (self.consensus.node(), self.announcement.incarnation);
        (probed.node, probed.incarnation) == own
    }

    /// Announces the node until it is no member any more.
    async fn stay(mut self) -> Result<Left, MembershipError> {
        let mut watch = self.consensus.watch_standing();
        let mut was_member = false;
        let mut well_or_asked = Ticks::now();
        loop {
            let standing = watch.standing();
            if let Some(failure) = standing.failure {
                return Err(ConsensusError::Stopped(failure).into());
            }
            self.follow_table();
            let own = self.known.nodes.get(&self.consensus.node());
            let is_named = own.is_some_and(|own| own.incarnation == self.announcement.incarnation);
            if was_member && own.is_none() {
                return Ok(Left);
            }
            was_member |= is_named;
            if is_named && standing.leader.is_some() {
                well_or_asked = Ticks::now();
            } else if Ticks::now().since(well_or_asked) >= ASK_SEEDS_AGAIN {
                self.ask_seeds_again().await;
                well_or_asked = Ticks::now();
            }
            self.announce().await?;
            let _ = clock::within(Some(LOOK_AGAIN), watch.changed()).await;
        }
    }

    /// The others may have moved while this node did not run, and none of them may know where it is
    /// now: then only the seeds can tell. Who they are is not judged any more; a call reaches the
    /// node that it is for, or fails.
    async fn ask_seeds_again(&mut self) {
        let seeds = self.probe_seeds(true).await;
        self.update_peers();
        self.say_waiting(&for_leader(&seeds));
    }

    fn say_waiting(&mut self, waiting: &Waiting) {
        if !self.announcer.is_due(waiting, Ticks::now()) {
            return;
        }
        let reason = waiting.to_string();
        match waiting {
            Waiting::ForLeader(_) => {
                log::info!(reason = reason.as_str(); "waiting for the cluster");
            }
            _ => log::info!(reason = reason.as_str(); "waiting for a cluster"),
        }
    }

    fn follow_table(&mut self) {
        let table = Arc::clone(&self.consensus.table().borrow());
        if Arc::ptr_eq(&table, &self.known) {
            return;
        }
        differences(&self.known, &table).iter().for_each(|line| log::info!("{line}"));
        let is_same = self.known.nodes == table.nodes;
        self.known = table;
        if !is_same {
            self.update_peers();
        }
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
                Ok(probed) if self.is_this_process(&probed) => Answer::Myself,
                Ok(probed) if probed.node == own => answer(probed),
                Ok(probed) => {
                    let table = self.known.nodes.get(&probed.node);
                    let address = seeds[place].address.clone();
                    let process = table.map(|member| member.incarnation);
                    self.found.insert(probed.node, (address, process));
                    answer(probed)
                }
                Err(Unprobed::Silent) => Answer::Silent,
                Err(Unprobed::Refused(reason)) => Answer::Refused { reason },
            };
        }
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
    async fn resume(
        &mut self,
        new: ClusterId,
        seeds: &[Seed],
    ) -> Result<Option<ClusterId>, MembershipError> {
        let known = self.consensus.table().borrow().cluster;
        if known.is_some() {
            return Ok(known);
        }
        let voters = self.consensus.standing().voters;
        let is_alone = voters.iter().eq([&self.consensus.node()]);
        if is_alone {
            return self.create(new).await;
        }
        self.say_waiting(&for_leader(seeds));
        Ok(None)
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

#[cfg(test)]
mod tests;
