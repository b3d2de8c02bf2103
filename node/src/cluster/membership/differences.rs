//! The log lines of a change of membership.

use crate::cluster::table::{State, Status};

/// Returns a line for each change of membership between two tables.
pub(super) fn differences(old: &State, new: &State) -> Vec<String> {
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
