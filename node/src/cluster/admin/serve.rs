//! Answers operators' requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::{
    GIVE_UP, GiveUp, LEAVE, Leave, LeaveAnswer, Message, REPORT, Report, STATUS, Sending, Status,
    TEXT_BYTES_MAX, decode, encode, status,
};
use crate::actors::shard::Stopped;
use crate::clock::{self, Ticks};
use crate::cluster::bus::{Bus, Class, Handling, Kind};
use crate::cluster::leases::{CONFIRM_LIMIT, Leases};
use crate::cluster::planner::replace_lost;
use crate::cluster::raft::{Consensus, ProposeError};
use crate::cluster::table::{Entry, Incarnation, NodeId, Outcome, PartitionId, State};
use crate::node::Node;

/// How long the members have to report.
const REPORT_LIMIT: Duration = Duration::from_millis(700);

/// How long a majority has to agree that a node leaves.
const LEAVE_LIMIT: Duration = Duration::from_secs(3);

/// Answers for one node.
pub struct Admin {
    node: Arc<Node>,
    incarnation: Incarnation,
    bus: Bus,
    consensus: Consensus,
    leases: Leases,
}

impl Admin {
    /// Returns what answers for a process of a node.
    pub fn new(
        node: Arc<Node>,
        incarnation: Incarnation,
        bus: Bus,
        consensus: Consensus,
        leases: Leases,
    ) -> Arc<Self> {
        Arc::new(Admin { node, incarnation, bus, consensus, leases })
    }

    /// Answers a request of class control; `None` if its kind is none of an operator's.
    pub fn handle(self: &Arc<Self>, kind: Kind, body: Bytes) -> Option<Handling> {
        let admin = self.clone();
        Some(match kind {
            STATUS => Box::pin(async move { Ok(message(&admin.status().await)) }),
            REPORT => Box::pin(async move {
                let report = admin.report().await.map_err(|stopped| stopped.to_string())?;
                Ok(message(&report))
            }),
            LEAVE => Box::pin(async move {
                let leave = decode(&body).map_err(|error| error.to_string())?;
                Ok(message(&admin.leave(leave).await))
            }),
            GIVE_UP => Box::pin(async move {
                let give_up = decode(&body).map_err(|error| error.to_string())?;
                Ok(message(&admin.give_up(give_up).await))
            }),
            _ => return None,
        })
    }

    async fn status(&self) -> Status {
        let table = Arc::clone(&self.consensus.table().borrow());
        let reports = self.reports(&table).await;
        status(self.consensus.node(), &table, &self.consensus.standing(), reports)
    }

    /// Asks all members at once. Who does not answer in time has no report.
    async fn reports(&self, table: &State) -> BTreeMap<NodeId, Report> {
        let myself = self.consensus.node();
        let mut asking = JoinSet::new();
        for &node in table.nodes.keys().filter(|node| **node != myself) {
            let bus = self.bus.clone();
            asking.spawn(async move {
                let called = bus.call(node, Class::Control, REPORT, Bytes::new(), REPORT_LIMIT);
                Some((node, decode(&called.await.ok()?).ok()?))
            });
        }
        let own = clock::within(Some(REPORT_LIMIT), self.report()).await;
        let mut reports: BTreeMap<NodeId, Report> = BTreeMap::new();
        if let Some(Ok(own)) = own {
            reports.insert(myself, own);
        }
        while let Some(reported) = asking.join_next().await {
            // A node that does not answer is shown as such.
            reports.extend(reported.ok().flatten());
        }
        reports
    }

    async fn report(&self) -> Result<Report, Stopped> {
        let (node, moves) = (&self.node, &self.node.cluster.moves);
        let mut sent = moves.sent();
        let (mut keys, mut bytes, mut sending) = (0, 0, Vec::new());
        for shard in &node.shards {
            let visited = shard.visit(|state| {
                (state.keyspace.used_bytes() as u64, state.keyspace.partition_sizes())
            });
            let (used, sizes) = visited.await?;
            bytes += used;
            for (partition, size) in sizes {
                keys += size.keys;
                let sent = sent.remove(&partition);
                sending.extend(sent.map(|sent| Sending { partition, sent, bytes: size.bytes }));
            }
        }
        let empty = |(partition, sent): (PartitionId, u64)| Sending { partition, sent, bytes: 0 };
        sending.extend(sent.into_iter().map(empty));
        let [given, failed, given_bytes, frozen_max_us] = moves.read();
        Ok(Report {
            incarnation: self.incarnation,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: Ticks::now().since(node.started_ticks).as_secs(),
            is_leased: node.cluster.view().is_leased(),
            keys,
            bytes,
            clients: node.clients.len() as u32,
            given,
            failed,
            given_bytes,
            frozen_max_us,
            sending,
        })
    }

    async fn leave(&self, Leave { node }: Leave) -> LeaveAnswer {
        let table = Arc::clone(&self.consensus.table().borrow());
        if let Some(refusal) = stranded(&table, node) {
            return LeaveAnswer::Refused(refusal);
        }
        self.mark_leaving(node).await
    }

    async fn mark_leaving(&self, node: NodeId) -> LeaveAnswer {
        match self.consensus.propose(Entry::NodeLeaving { node }, LEAVE_LIMIT).await {
            Ok(Outcome::Applied | Outcome::AlreadyApplied) => LeaveAnswer::Leaving,
            Ok(Outcome::Refused(refusal)) => LeaveAnswer::Refused(cut(refusal.to_string())),
            Err(error) => unknown(&error),
        }
    }

    /// Goes on without a node: its partitions begin anew, empty, and the leader forgets it as one
    /// that has left. Only the leader knows whether the node may serve still, by its last lease.
    async fn give_up(&self, GiveUp { node, is_handed_on }: GiveUp) -> LeaveAnswer {
        match self.consensus.confirm(CONFIRM_LIMIT).await {
            Ok(_) => {}
            Err(ProposeError::NotLeader { leader: Some(leader) }) if !is_handed_on => {
                return self.hand_on(leader, GiveUp { node, is_handed_on: true }).await;
            }
            Err(error) => return unknown(&error),
        }
        // Read behind the confirmation, and before the lease is asked for: see
        // [`Leases::lease_over`].
        let table = Arc::clone(&self.consensus.table().borrow());
        let Some(member) = table.nodes.get(&node) else { return LeaveAnswer::Leaving };
        if member.status.is_up() {
            return LeaveAnswer::Refused(cut(format!(
                "node {node} at {} is not down: `cluster remove` without --lost moves its keys to \
                 the others",
                member.addresses.bus
            )));
        }
        if !self.leases.lease_over(node) {
            let text = "the node may serve still: its lease is not over yet";
            return LeaveAnswer::Unknown(text.to_owned());
        }
        match self.mark_leaving(node).await {
            LeaveAnswer::Leaving => self.replace(&table, node).await,
            answer => answer,
        }
    }

    /// Proposes what replaces the partitions that only this node had. If it is back meanwhile, its
    /// partitions are in another epoch, and stay as they are.
    async fn replace(&self, table: &State, node: NodeId) -> LeaveAnswer {
        let mut proposals = JoinSet::new();
        for entry in replace_lost(table, node) {
            let consensus = self.consensus.clone();
            proposals.spawn(async move { consensus.propose(entry, LEAVE_LIMIT).await });
        }
        let (mut replaced, mut failure) = (0_usize, None);
        while let Some(proposed) = proposals.join_next().await {
            match proposed {
                Ok(Ok(Outcome::Applied | Outcome::AlreadyApplied)) => replaced += 1,
                Ok(Ok(Outcome::Refused(refusal))) => failure = Some(refusal.to_string()),
                Ok(Err(error)) => failure = Some(error.to_string()),
                Err(_) => failure = Some("the node is stopping".to_owned()),
            }
        }
        log::warn!(node:%, partitions = replaced; "a lost node's partitions come back empty");
        failure.map_or(LeaveAnswer::Leaving, |text| LeaveAnswer::Unknown(cut(text)))
    }

    async fn hand_on(&self, leader: NodeId, give_up: GiveUp) -> LeaveAnswer {
        let body = message(&give_up);
        let called = self.bus.call(leader, Class::Control, GIVE_UP, body, LEAVE_LIMIT).await;
        let answer = called.map_err(|error| error.to_string());
        let answer = answer.and_then(|body| decode(&body).map_err(|error| error.to_string()));
        answer.unwrap_or_else(|text| LeaveAnswer::Unknown(cut(text)))
    }
}

fn unknown(error: &ProposeError) -> LeaveAnswer {
    match error {
        ProposeError::NotLeader { leader: None } => {
            LeaveAnswer::Unknown("no node leads the cluster now".to_owned())
        }
        error => LeaveAnswer::Unknown(cut(error.to_string())),
    }
}

/// Why a member that is down cannot leave: nobody but itself has its keys.
fn stranded(table: &State, node: NodeId) -> Option<String> {
    let member = table.nodes.get(&node).filter(|member| !member.status.is_up())?;
    let alone = table.partitions.iter().filter(|at| at.isr.as_slice() == [node]).count();
    let bus = &member.addresses.bus;
    (alone > 0).then(|| {
        cut(format!(
            "node {node} at {bus} is down, and nobody else has its {alone} partitions: start it \
             again, and ask once more; if its disk is lost, --lost gives its keys up"
        ))
    })
}

fn message(message: &impl Message) -> Bytes {
    Bytes::from(encode(message))
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}
