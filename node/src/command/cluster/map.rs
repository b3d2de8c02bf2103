//! Who serves which slots, in the replies that cluster clients read. The ports are the direct ones,
//! whichever port is asked: so a client finds them by itself.

use std::fmt::Write;

use distcache_protocol::resp::ReplyBuffer;
use distcache_protocol::slot::SLOTS;

use super::{member, name_of};
use crate::cluster::bus::OpenLink;
use crate::cluster::table::{Epoch, NodeId, Partition, PartitionId, State, Status};
use crate::cluster::view::{self, ClusterView, Owner};
use crate::command::{Args, CommandResult};
use crate::keyspace::location::SLOTS_PER_PARTITION;
use crate::server::session::Session;

/// Consecutive slots with the same nodes.
struct SlotRange<'a> {
    first: u16,
    last: u16,
    primary: NodeId,
    /// Nodes with a copy, the primary included.
    isr: &'a [NodeId],
}

/// The ranges of all slots that have a primary, in ascending order; as long as possible, where
/// `joined` says of two partitions that nothing between them matters.
fn ranges<'a>(
    table: &'a State,
    joined: impl Fn(&SlotRange<'_>, &Partition) -> bool,
) -> Vec<SlotRange<'a>> {
    let mut ranges: Vec<SlotRange<'a>> = Vec::new();
    for (PartitionId(number), partition) in table.numbered() {
        let Some(primary) = partition.primary else { continue };
        let first = number * SLOTS_PER_PARTITION;
        let last = first + (SLOTS_PER_PARTITION - 1);
        match ranges.last_mut() {
            Some(range)
                if range.last + 1 == first
                    && range.primary == primary
                    && joined(range, partition) =>
            {
                range.last = last;
            }
            _ => ranges.push(SlotRange { first, last, primary, isr: &partition.isr }),
        }
    }
    ranges
}

/// The slots that a node is the primary of.
fn slots_of(table: &State, node: NodeId) -> Vec<(u16, u16)> {
    let ranges = ranges(table, |_, _| true);
    let own = ranges.iter().filter(|range| range.primary == node);
    own.map(|range| (range.first, range.last)).collect()
}

/// The greatest epoch of the partitions that a node is the primary of.
fn epoch_of(table: &State, node: NodeId) -> Epoch {
    let own = table.partitions.iter().filter(|partition| partition.primary == Some(node));
    own.map(|partition| partition.epoch).max().unwrap_or_default()
}

/// Where the client reaches a node.
fn address_of(session: &Session, node: NodeId) -> (String, u16) {
    session.view.direct(node, &session.client().local.ip().to_string())
}

/// `CLUSTER SLOTS`
pub(super) fn slots(session: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let table = &session.view.table;
    let ranges = ranges(table, |range, partition| range.isr == partition.isr);
    reply.array(ranges.len());
    for SlotRange { first, last, primary, isr } in ranges {
        let others = isr.iter().copied().filter(|node| *node != primary && table.is_up(*node));
        let nodes: Vec<NodeId> = std::iter::once(primary).chain(others).collect();
        reply.array(2 + nodes.len());
        reply.integer(first.into());
        reply.integer(last.into());
        for node in nodes {
            let (host, port) = address_of(session, node);
            reply.array(4);
            reply.bulk(host.as_bytes());
            reply.integer(port.into());
            reply.bulk(name_of(node).as_bytes());
            // Further names of the node: there is only the one.
            reply.map(0);
        }
    }
    Ok(())
}

/// `CLUSTER SHARDS`: a shard is a node with what it is the primary of.
pub(super) fn shards(session: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let table = &session.view.table;
    reply.array(table.nodes.len());
    for &node in table.nodes.keys() {
        let slots = slots_of(table, node);
        let (host, port) = address_of(session, node);
        reply.map(2);
        reply.bulk(b"slots");
        reply.array(slots.len() * 2);
        for slot in slots.into_iter().flat_map(|(first, last)| [first, last]) {
            reply.integer(slot.into());
        }
        reply.bulk(b"nodes");
        reply.array(1);
        reply.map(7);
        reply.bulk(b"id");
        reply.bulk(name_of(node).as_bytes());
        reply.bulk(b"port");
        reply.integer(port.into());
        for name in ["ip", "endpoint"] {
            reply.bulk(name.as_bytes());
            reply.bulk(host.as_bytes());
        }
        reply.bulk(b"role");
        reply.bulk(b"master");
        reply.bulk(b"replication-offset");
        reply.integer(0);
        reply.bulk(b"health");
        reply.bulk(if table.is_up(node) { b"online".as_slice() } else { b"fail" });
    }
    Ok(())
}

/// A member's line in `CLUSTER NODES`; `primary` is the one that it is listed as a replica of.
fn line(session: &Session, node: NodeId, primary: Option<NodeId>) -> String {
    let ClusterView { table, myself, .. } = &*session.view;
    let (host, port) = address_of(session, node);
    let bus = table.nodes.get(&node).map_or("", |member| &member.addresses.bus);
    let bus_port = view::host_and_port(bus).1;
    let is_up = table.is_up(node);
    let of = primary.map_or("-".to_owned(), name_of);
    let mut line = format!(
        "{} {host}:{port}@{bus_port} {}{}{}{} {of} 0 0 {} {}",
        name_of(node),
        if node == *myself { "myself," } else { "" },
        if primary.is_some() { "slave" } else { "master" },
        if is_up { "" } else { ",fail" },
        if port == 0 { ",noaddr" } else { "" },
        epoch_of(table, primary.unwrap_or(node)),
        if is_up { "connected" } else { "disconnected" },
    );
    if primary.is_none() {
        for (first, last) in slots_of(table, node) {
            // Writing to a string does not fail.
            let _ = write!(line, " {first}-{last}");
        }
    }
    line
}

/// `CLUSTER NODES`
pub(super) fn nodes(session: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let nodes = session.view.table.nodes.keys();
    let lines: String = nodes.map(|node| line(session, *node, None) + "\n").collect();
    reply.verbatim(lines.as_bytes());
    Ok(())
}

/// `CLUSTER REPLICAS node-id`, and `CLUSTER SLAVES`: nodes with a copy of what the node serves.
pub(super) fn replicas(
    session: &mut Session,
    args: Args<'_>,
    reply: &mut ReplyBuffer,
) -> CommandResult {
    let primary = member(session, args.at(2))?;
    let table = &session.view.table;
    let has_copy = |node: NodeId| {
        let of = |partition: &&Partition| partition.primary == Some(primary);
        node != primary && table.partitions.iter().filter(of).any(|p| p.isr.contains(&node))
    };
    let nodes: Vec<NodeId> = table.nodes.keys().copied().filter(|node| has_copy(*node)).collect();
    reply.array(nodes.len());
    for node in nodes {
        reply.bulk(line(session, node, Some(primary)).as_bytes());
    }
    Ok(())
}

/// `CLUSTER LINKS`: the open connections of the bus. A node has up to three to each other one: for
/// consensus, for commands that are sent on, and for moves, each made when it is first needed.
pub(super) fn links(session: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let links = session.node.cluster.links();
    reply.array(links.len());
    for OpenLink { direction, peer, since, buffer_bytes, unsent_bytes } in links {
        reply.map(6);
        reply.bulk(b"direction");
        reply.bulk(direction.name().as_bytes());
        reply.bulk(b"node");
        reply.bulk(name_of(peer).as_bytes());
        reply.bulk(b"create-time");
        reply.integer(since.0 as i64);
        reply.bulk(b"events");
        reply.bulk(if unsent_bytes > 0 { b"rw".as_slice() } else { b"r" });
        reply.bulk(b"send-buffer-allocated");
        reply.integer(buffer_bytes as i64);
        reply.bulk(b"send-buffer-used");
        reply.integer(unsent_bytes as i64);
    }
    Ok(())
}

/// The figures of `CLUSTER INFO`. The cluster's epoch is the index of the last entry of its log;
/// `leader` is who leads as far as this node knows.
pub(in crate::command) fn summary(
    view: &ClusterView,
    leader: Option<NodeId>,
) -> Vec<(&'static str, String)> {
    let table = &view.table;
    let slots = |partitions: usize| partitions as u64 * u64::from(SLOTS_PER_PARTITION);
    let assigned = table.partitions.iter().filter(|p| p.primary.is_some()).count();
    let served = (0..SLOTS)
        .step_by(SLOTS_PER_PARTITION.into())
        .filter(|slot| view.owner(*slot) != Owner::Nobody)
        .count();
    let owners = table
        .nodes
        .keys()
        .filter(|node| table.partitions.iter().any(|partition| partition.primary == Some(**node)));
    // A node without a lease may be cut off: what it takes for served by others may be so no more.
    let is_ok = view.is_leased() && served == table.partitions.len();
    let state = if is_ok { "ok" } else { "fail" };
    let leaving = table.nodes.values().filter(|member| member.status == Status::Leaving).count();
    let moving = table.partitions.iter().filter(|partition| partition.joining.is_some()).count();
    vec![
        ("cluster_state", state.to_owned()),
        ("cluster_slots_assigned", slots(assigned).to_string()),
        ("cluster_slots_ok", slots(served).to_string()),
        ("cluster_slots_pfail", "0".to_owned()),
        ("cluster_slots_fail", slots(assigned.saturating_sub(served)).to_string()),
        ("cluster_known_nodes", table.nodes.len().to_string()),
        ("cluster_size", owners.count().to_string()),
        ("cluster_current_epoch", table.version.to_string()),
        ("cluster_my_epoch", epoch_of(table, view.myself).to_string()),
        ("cluster_stats_messages_sent", "0".to_owned()),
        ("cluster_stats_messages_received", "0".to_owned()),
        ("total_cluster_links_buffer_limit_exceeded", "0".to_owned()),
        ("cluster_id", table.cluster.unwrap_or_default().to_string()),
        ("cluster_leader", leader.map_or_else(String::new, |node| node.to_string())),
        ("cluster_nodes_leaving", leaving.to_string()),
        ("cluster_partitions_moving", moving.to_string()),
    ]
}

/// What a node has to do with partitions.
pub(crate) struct Parts {
    /// Partitions that it serves.
    pub(crate) served: usize,
    /// Partitions on their way to it.
    pub(crate) receiving: usize,
    /// Partitions on their way from it.
    pub(crate) giving: usize,
}

/// Counts what this node has to do with partitions.
pub(crate) fn parts(view: &ClusterView) -> Parts {
    let first_slots = (0..SLOTS).step_by(SLOTS_PER_PARTITION.into());
    let served = first_slots.filter(|slot| view.owner(*slot) == Owner::Local).count();
    let moving = || view.table.partitions.iter().filter(|partition| partition.joining.is_some());
    let is_target = |partition: &&Partition| {
        partition.joining.is_some_and(|joining| joining.node == view.myself)
    };
    let receiving = moving().filter(is_target).count();
    let is_source =
        |partition: &&Partition| partition.primary == Some(view.myself) && !is_target(partition);
    let giving = moving().filter(is_source).count();
    Parts { served, receiving, giving }
}

/// `CLUSTER INFO`
pub(super) fn info(session: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let leader = session.node.cluster.standing().and_then(|standing| standing.leader);
    let lines = summary(&session.view, leader).into_iter();
    let text: String = lines.map(|(name, value)| format!("{name}:{value}\r\n")).collect();
    reply.verbatim(text.as_bytes());
    Ok(())
}
