//! What the table says, carried out: which partitions the shards serve, receive and give, and
//! what connections know of the cluster.
//!
//! For each table: what is lost is refused first; then the shards take over what is gained and
//! give up what is lost; then connections see the new view; then the commands that waited are
//! looked at again. Tables may be skipped: everything goes by what the present one says.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;

use tokio::sync::watch;

use super::fault;
use super::lease::Lease;
use super::membership::BringsKeys;
use super::moves::source::{Giving, Source};
use super::moves::{Assignment, Part};
use super::raft::{Consensus, ConsensusError};
use super::table::{Incarnation, MoveId, PartitionId, State};
use super::view::ClusterView;
use crate::actors::shard::Stopped;
use crate::clock::{self, Ticks};
use crate::keyspace::{PartitionSize, SLOTS_PER_PARTITION, ShardId};
use crate::node::Node;

/// Why this node cannot have a part in its cluster.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// It is new in the cluster, and its log has keys that are others' there.
    #[error(transparent)]
    BringsKeys(#[from] BringsKeys),
    /// That its keys are the cluster's could not be noted.
    #[error(transparent)]
    Consensus(#[from] ConsensusError),
    /// A shard has stopped, and the node with it.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Follows the table for one node.
pub struct Follower {
    node: Arc<Node>,
    consensus: Consensus,
    source: Arc<Source>,
    /// This process.
    incarnation: Incarnation,
    /// What the shards have taken over; empty at first.
    known: Vec<Assignment>,
    /// Moves that are being carried out here.
    giving: BTreeSet<MoveId>,
}

impl Follower {
    /// Returns the follower of a process of a node.
    pub fn new(
        node: Arc<Node>,
        consensus: Consensus,
        source: Arc<Source>,
        of: Incarnation,
    ) -> Self {
        let (known, giving) = (Vec::new(), BTreeSet::new());
        Follower { node, consensus, source, incarnation: of, known, giving }
    }

    /// Waits until the table names this process, and carries out what it says then: keys of
    /// partitions that are others' are given up. Not so if the node is new in the cluster: then it
    /// does not begin with such keys, however often it is started.
    ///
    /// # Errors
    /// See [`FollowError`].
    pub async fn begin(&mut self, is_new: bool) -> Result<(), FollowError> {
        let mut table = self.consensus.table();
        let names_it = table.wait_for(|table| self.is_named(table)).await;
        // Consensus has stopped, and the node with it.
        let table = Arc::clone(&*names_it.map_err(|_| Stopped)?);
        if is_new {
            let own = Some(self.consensus.node());
            let primary = |id: PartitionId| table.partition(id).and_then(|at| at.primary);
            let sizes = partition_sizes(&self.node).await?;
            let others = sizes.iter().filter(|(id, _)| primary(*id) != own);
            let keys = others.map(|(_, size)| size.keys).sum();
            BringsKeys::check(keys)?;
            // Before anything is served or given up: from here on the log is the cluster's.
            self.consensus.note_accepted().await?;
        }
        self.follow(&table, None).await
    }

    /// Carries out what the table says now, with this lease.
    ///
    /// # Errors
    /// See [`FollowError`].
    pub async fn take_up(&mut self, lease: Lease) -> Result<(), FollowError> {
        let table = self.consensus.table().borrow().clone();
        self.follow(&table, Some(lease)).await
    }

    /// Goes on until the node stops.
    ///
    /// # Errors
    /// See [`FollowError`].
    pub async fn run(
        mut self,
        mut lease: watch::Receiver<Lease>,
    ) -> Result<Infallible, FollowError> {
        let mut table = self.consensus.table();
        let mut may_hold = true;
        loop {
            let (now_held, present) =
                (*lease.borrow_and_update(), table.borrow_and_update().clone());
            self.follow(&present, Some(now_held)).await?;
            let over = now_held.until.filter(|until| *until > Ticks::now());
            let ends = async {
                match over {
                    Some(until) => clock::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = table.changed() => changed.map_err(|_| Stopped)?,
                // A node that has left has no lease any more, but tells clients still where its
                // keys are now: it must not stop at the table before the last of them moved.
                changed = lease.changed(), if may_hold => may_hold = changed.is_ok(),
                () = ends => {}
            }
        }
    }

    fn is_named(&self, table: &State) -> bool {
        let member = table.nodes.get(&self.consensus.node());
        member.is_some_and(|member| member.incarnation == self.incarnation && member.status.is_up())
    }

    async fn follow(
        &mut self,
        table: &Arc<State>,
        lease: Option<Lease>,
    ) -> Result<(), FollowError> {
        let myself = self.consensus.node();
        let node = self.node.clone();
        let cluster = &node.cluster;
        let is_leased = self.is_named(table)
            && lease
                .is_some_and(|lease| lease.allows(table, myself, self.incarnation, Ticks::now()));
        let view = ClusterView::new(myself, State::clone(table), is_leased);
        // What is lost first: a lease that goes on is for the rest alone.
        cluster.ownership().withdraw(&view);
        if let Some(lease) = lease {
            cluster.ownership().set_lease(lease.until);
        }
        let has_changed = self.assign(table).await?;
        let was_leased = cluster.view().is_leased();
        cluster.publish(view);
        if has_changed || was_leased != is_leased {
            for shard in &node.shards {
                shard.wake().await?;
            }
        }
        Ok(())
    }

    /// Tells the shards what is new, and begins the moves that are.
    async fn assign(&mut self, table: &State) -> Result<bool, FollowError> {
        let myself = self.consensus.node();
        let shards = self.node.shards.len() as u16;
        let mut changes: Vec<Vec<(PartitionId, Assignment)>> = vec![Vec::new(); shards.into()];
        let mut begun = Vec::new();
        let assignments: Vec<Assignment> =
            table.partitions.iter().map(|partition| Assignment::of(partition, myself)).collect();
        for ((id, _), assignment) in table.numbered().zip(&assignments) {
            if self.known.get(usize::from(id.0)) == Some(assignment) {
                continue;
            }
            let shard = ShardId::owner_of(id.0 * SLOTS_PER_PARTITION, shards);
            changes[usize::from(shard)].push((id, *assignment));
            if let (Part::Serves { giving: Some(move_id), .. }, Some(target)) =
                (assignment.part, assignment.peer)
                && !self.giving.contains(&move_id)
            {
                let (epoch, version) = (assignment.epoch, table.version);
                begun.push(Giving { partition: id, epoch, move_id, target, version });
            }
        }
        let has_changed = changes.iter().any(|changes| !changes.is_empty());
        if changes.iter().flatten().any(|(_, now)| is_gained(now)) && !self.known.is_empty() {
            fault::reach("target.switched");
        }
        for (shard, changes) in self.node.shards.iter().zip(changes) {
            if !changes.is_empty() {
                shard.follow(changes).await?;
            }
        }
        self.giving = assignments.iter().filter_map(given_by).collect();
        self.known = assignments;
        for giving in begun {
            // Ends with the move: see [`Source::give`].
            tokio::task::spawn_local(self.source.clone().give(giving));
        }
        Ok(has_changed)
    }
}

/// Returns the sizes of all partitions of which a node has keys. Costs a visit to each shard.
///
/// # Errors
///
/// A shard has stopped.
pub(super) async fn partition_sizes(
    node: &Node,
) -> Result<Vec<(PartitionId, PartitionSize)>, Stopped> {
    let mut all = Vec::new();
    for shard in &node.shards {
        all.extend(shard.visit(|state| state.keyspace.partition_sizes()).await?);
    }
    Ok(all)
}

/// Whether a partition came by a move, which has just been decided where this is new.
fn is_gained(assignment: &Assignment) -> bool {
    matches!(assignment.part, Part::Serves { serve_from, giving: None } if serve_from.0 > 0)
}

fn given_by(assignment: &Assignment) -> Option<MoveId> {
    match assignment.part {
        Part::Serves { giving, .. } => giving,
        Part::None | Part::Receives(_) => None,
    }
}
