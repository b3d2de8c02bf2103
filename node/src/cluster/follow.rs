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
use super::moves::source::{Giving, Source};
use super::moves::{Assignment, Part};
use super::raft::Consensus;
use super::table::{Incarnation, MoveId, PartitionId, State};
use super::view::ClusterView;
use crate::actors::shard::Stopped;
use crate::clock::{self, Ticks};
use crate::keyspace::{SLOTS_PER_PARTITION, ShardId};
use crate::node::Node;

/// Why this node cannot have a part in its cluster.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// It is new in the cluster, and its log is not empty.
    #[error(
        "this node is new in the cluster, which has its keys elsewhere, but its data directory has \
         {0} keys: start with an empty directory; `distcache-log state --format resp` writes the \
         keys of this one for `redis-cli --pipe`"
    )]
    BringsKeys(u64),
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
    /// partitions that are others' are given up. `is_new` is whether the node joined just now.
    ///
    /// # Errors
    /// See [`FollowError`].
    pub async fn begin(&mut self, is_new: bool) -> Result<(), FollowError> {
        let mut table = self.consensus.table();
        let names_it = table.wait_for(|table| self.is_named(table)).await;
        // Consensus has stopped, and the node with it.
        let table = Arc::clone(&*names_it.map_err(|_| Stopped)?);
        if is_new && table.nodes.len() > 1 {
            let mut keys = 0;
            for shard in &self.node.shards {
                let sizes = shard.visit(|state| state.keyspace.sizes()).await?;
                keys += sizes.iter().map(|size| size.keys as u64).sum::<u64>();
            }
            if keys > 0 {
                return Err(FollowError::BringsKeys(keys));
            }
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
        if let Some(lease) = lease {
            cluster.ownership().set_lease(lease.until);
        }
        let view = ClusterView::new(myself, State::clone(table), is_leased);
        cluster.ownership().withdraw(&view);
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
