//! Partitions that come from other nodes and go to them, and their epochs: a part of `summary`.

use std::collections::BTreeMap;
use std::io::Write;

use distcache_recovery::limits::PARTITIONS;
use distcache_recovery::{Epoch, Operation, PartitionId, SequenceNumber, SnapshotSummary};
use serde_json::{Value as Json, json};

use super::change::node_id;
use super::source::Located;

/// What the log says about moves. Every copy whose begin is in the log or in a snapshot counts
/// once: as received, as cancelled or as under way.
#[derive(Debug)]
pub(super) struct Moves {
    /// Copies that were served in the end.
    received: u64,
    /// Partitions that were this node's and became another's.
    given: u64,
    /// Copies that were given up or begun anew.
    cancelled: u64,
    partitions: BTreeMap<PartitionId, Standing>,
    /// What the snapshots say, until their place in the sequence has come.
    snapshots: BTreeMap<PartitionId, Standing>,
    cuts: Box<[SequenceNumber; PARTITIONS]>,
}

/// What became of a partition last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    epoch: Epoch,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// It is here, and nothing says where it came from.
    Here,
    /// It is being received from a node, and not served yet.
    Receiving(u64),
    /// It came from a node, and is served here.
    Served(u64),
    /// It is a node's.
    Gone(u64),
}

impl Moves {
    pub(super) fn new(snapshots: &[SnapshotSummary], cuts: &[SequenceNumber; PARTITIONS]) -> Self {
        let standing = |epoch| Standing { epoch, place: Place::Here };
        let known = snapshots.iter().map(|found| (found.partition, standing(found.epoch)));
        Self {
            received: 0,
            given: 0,
            cancelled: 0,
            partitions: BTreeMap::new(),
            snapshots: known.collect(),
            cuts: Box::new(*cuts),
        }
    }

    /// Takes a record, those of snapshots before those of the log.
    pub(super) fn take(&mut self, located: &Located<'_>) {
        let partition = located.record.partition;
        let Some(standing) = Standing::after(&located.record.operation) else { return };
        let Some(sequence) = located.sequence else {
            self.snapshots.insert(partition, standing);
            return;
        };
        if sequence >= self.cuts[usize::from(partition.0)] {
            self.pass_snapshot(partition);
        }
        let before = self.partitions.insert(partition, standing);
        let was_receiving =
            before.is_some_and(|before| matches!(before.place, Place::Receiving(_)));
        match standing.place {
            Place::Receiving(_) => self.cancelled += u64::from(was_receiving),
            Place::Served(_) => self.received += u64::from(was_receiving),
            Place::Gone(_) if was_receiving => self.cancelled += 1,
            Place::Gone(_) => self.given += 1,
            Place::Here => {}
        }
    }

    /// Lets the snapshots count that no record came after.
    pub(super) fn finish(&mut self) {
        while let Some((&partition, _)) = self.snapshots.first_key_value() {
            self.pass_snapshot(partition);
        }
    }

    fn pass_snapshot(&mut self, partition: PartitionId) {
        let Some(snapshot) = self.snapshots.remove(&partition) else { return };
        let known = self.partitions.entry(partition).or_insert(snapshot);
        let is_decided = matches!(known.place, Place::Receiving(_));
        if snapshot.place != Place::Here || is_decided {
            known.place = snapshot.place;
        }
        known.epoch = known.epoch.max(snapshot.epoch);
    }

    /// Returns the partitions about which there is something to say.
    fn listed(&self) -> impl Iterator<Item = (PartitionId, Standing)> {
        let all = self.partitions.iter().map(|(&partition, &standing)| (partition, standing));
        all.filter(|(_, standing)| *standing != Standing { epoch: Epoch(0), place: Place::Here })
    }

    fn under_way(&self) -> usize {
        self.listed().filter(|(_, found)| matches!(found.place, Place::Receiving(_))).count()
    }

    pub(super) fn json(&self) -> Json {
        let partitions: Vec<_> = self
            .listed()
            .map(|(partition, Standing { epoch, place })| {
                let (status, node) = match place {
                    Place::Here => ("here", None),
                    Place::Receiving(from) => ("receiving", Some(from)),
                    Place::Served(from) => ("served", Some(from)),
                    Place::Gone(to) => ("gone", Some(to)),
                };
                json!({
                    "partition": partition,
                    "epoch": epoch,
                    "status": status,
                    "node": node.map(node_id),
                })
            })
            .collect();
        json!({
            "in": self.received,
            "out": self.given,
            "cancelled": self.cancelled,
            "under_way": self.under_way(),
            "partitions": partitions,
        })
    }

    /// Prints a section; nothing about a node that was always alone. Returns how many partitions
    /// beyond `limit` were left out.
    pub(super) fn print(&self, limit: usize, out: &mut dyn Write) -> anyhow::Result<usize> {
        let total = self.listed().count();
        if total == 0 {
            return Ok(0);
        }
        let Self { received, given, cancelled, .. } = self;
        let under_way = self.under_way();
        write!(out, "\nmoves        {received} in, {given} out, {cancelled} cancelled")?;
        writeln!(out, ", {under_way} under way")?;
        let mut listed: Vec<_> = self.listed().collect();
        // What is not finished is what one looks for.
        listed.sort_by_key(|(_, found)| !matches!(found.place, Place::Receiving(_)));
        for (partition, Standing { epoch, place }) in listed.iter().take(limit) {
            let place = match *place {
                Place::Here => String::new(),
                Place::Receiving(from) => {
                    format!("  received from node {}, not served yet", node_id(from))
                }
                Place::Served(from) => format!("  served, came from node {}", node_id(from)),
                Place::Gone(to) => format!("  gone to node {}", node_id(to)),
            };
            writeln!(out, "  {partition:<12} epoch {epoch}{place}")?;
        }
        Ok(total.saturating_sub(limit))
    }
}

impl Standing {
    fn after(operation: &Operation<'_>) -> Option<Self> {
        let (epoch, place) = match *operation {
            Operation::MoveIn { epoch, from } => (epoch, Place::Receiving(from)),
            Operation::Own { epoch, from } => (epoch, Place::Served(from)),
            Operation::MoveOut { epoch, to } => (epoch, Place::Gone(to)),
            Operation::Put { .. }
            | Operation::Delete { .. }
            | Operation::SetDeadline { .. }
            | Operation::Append { .. }
            | Operation::WriteRange { .. }
            | Operation::Flush
            | Operation::Swap { .. } => return None,
        };
        Some(Self { epoch: Epoch(epoch), place })
    }
}
