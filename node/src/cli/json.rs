//! What is printed for programs.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::admin::{MoveStatus, NodeStatus, Status};
use crate::cluster::table::{NodeId, Role, Status as MemberStatus};

/// Returns a cluster's state.
pub(super) fn status(status: &Status, eta: Option<Duration>) -> Value {
    let voters: Vec<String> = status.voters.iter().map(NodeId::to_string).collect();
    json!({
        "cluster": status.cluster.map(|cluster| cluster.to_string()),
        "version": status.version,
        "told_by": status.told_by.to_string(),
        "leader": status.leader.map(|leader| leader.to_string()),
        "voters": voters,
        "unserved": status.unserved,
        "nodes": status.nodes.iter().map(|at| node(status, at)).collect::<Vec<Value>>(),
        "moves": status.moves.iter().map(move_under_way).collect::<Vec<Value>>(),
        "moves_left": status.moves_left,
        "bytes_left": status.bytes_left,
        "eta_s": eta.map(seconds),
    })
}

/// Returns how far a node is that leaves.
pub(super) fn draining(node: &NodeStatus, eta: Option<Duration>) -> Value {
    let report = node.report.as_ref();
    json!({
        "node": node.node.to_string(),
        "removed": false,
        "status": word(node.status),
        "partitions_left": node.partitions,
        "moving": node.giving,
        "keys_left": report.map(|report| report.keys),
        "bytes_left": report.map(|report| report.bytes),
        "eta_s": eta.map(seconds),
    })
}

/// Returns that a node has left.
pub(super) fn removed(node: NodeId, took: Duration) -> Value {
    json!({ "node": node.to_string(), "removed": true, "took_s": took.as_secs_f64() })
}

fn seconds(eta: Duration) -> u64 {
    eta.as_secs_f64().ceil() as u64
}

fn node(status: &Status, node: &NodeStatus) -> Value {
    let NodeStatus { addresses, report, .. } = node;
    let report = report.as_ref();
    json!({
        "id": node.node.to_string(),
        "bus": addresses.bus,
        "client": addresses.client,
        "direct": addresses.direct,
        "role": match node.role { Role::Data => "data", Role::Witness => "witness" },
        "status": word(node.status),
        "is_leader": status.leader == Some(node.node),
        "votes": status.voters.contains(&node.node),
        "partitions": node.partitions,
        "receiving": node.receiving,
        "giving": node.giving,
        "answers": report.is_some(),
        "is_leased": report.map(|report| report.is_leased),
        "keys": report.map(|report| report.keys),
        "bytes": report.map(|report| report.bytes),
        "clients": report.map(|report| report.clients),
        "uptime_s": report.map(|report| report.uptime_s),
        "version": report.map(|report| report.version.as_str()),
        "moves_given": report.map(|report| report.given),
        "moves_failed": report.map(|report| report.failed),
        "bytes_given": report.map(|report| report.given_bytes),
        "frozen_max_us": report.map(|report| report.frozen_max_us),
    })
}

fn move_under_way(at: &MoveStatus) -> Value {
    json!({
        "partition": at.partition.0,
        "from": at.from.map(|from| from.to_string()),
        "to": at.to.to_string(),
        "bytes_sent": at.progress.map(|progress| progress.sent),
        "bytes": at.progress.map(|progress| progress.bytes),
    })
}

/// The word for how a member stands.
pub(super) fn word(status: MemberStatus) -> &'static str {
    match status {
        MemberStatus::Up => "up",
        MemberStatus::Leaving => "leaving",
        MemberStatus::Down { leaving: false } => "down",
        MemberStatus::Down { leaving: true } => "down, leaving",
    }
}
