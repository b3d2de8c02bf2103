//! Answers operators' requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::{
    LEAVE, Leave, LeaveAnswer, Message, REPORT, Report, STATUS, Sending, Status, TEXT_BYTES_MAX,
    decode, encode, status,
};
use crate::actors::shard::Stopped;
use crate::clock::{self, Ticks};
use crate::cluster::bus::{Bus, Class, Handling, Kind};
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
}

impl Admin {
    /// Returns what answers for a process of a node.
    pub fn new(
        node: Arc<Node>,
        incarnation: Incarnation,
        bus: Bus,
        consensus: Consensus,
    ) -> Arc<Self> {
        Arc::new(Admin { node, incarnation, bus, consensus })
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
        match self.consensus.propose(Entry::NodeLeaving { node }, LEAVE_LIMIT).await {
            Ok(Outcome::Applied | Outcome::AlreadyApplied) => LeaveAnswer::Leaving,
            Ok(Outcome::Refused(refusal)) => LeaveAnswer::Refused(cut(refusal.to_string())),
            Err(ProposeError::NotLeader { leader: None }) => {
                LeaveAnswer::Unknown("no node leads the cluster now".to_owned())
            }
            Err(error) => LeaveAnswer::Unknown(cut(error.to_string())),
        }
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
             again, and ask once more"
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
