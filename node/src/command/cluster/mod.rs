//! `CLUSTER` and what belongs to it: the cluster as clients that know the slots see it, in the
//! replies of Redis Cluster.
//!
//! They read the table and change nothing: who is a member and who owns which slot is decided by
//! the cluster itself, so commands that assign slots by hand answer what to do instead.
//!
//! - [`map`]: who serves which slots, as clients ask for it;
//! - [`keys`]: the keys of a slot on this node.

mod keys;
mod map;

use distcache_protocol::resp::ReplyBuffer;
use distcache_protocol::slot::slot_of;

use super::row::{Docs, container, reply_help, row};
use super::{Args, CommandError, CommandResult, CommandSpec, Flags, Group, Run, help};
use crate::cluster::table::NodeId;
use crate::server::session::Session;
pub(super) use map::summary;
pub(crate) use map::{Parts, parts};

/// Returns a node's name as Redis Cluster writes one: 40 hexadecimal digits.
fn name_of(node: NodeId) -> String {
    format!("{:040x}", node.0)
}

/// Finds the member that an argument names.
fn member(session: &Session, name: &[u8]) -> Result<NodeId, CommandError> {
    let mut nodes = session.view.table.nodes.keys().copied();
    let found = nodes.find(|node| name.eq_ignore_ascii_case(name_of(*node).as_bytes()));
    found.ok_or_else(|| CommandError::Bytes([b"ERR Unknown node ", name].concat()))
}

/// `CLUSTER HELP`
fn cluster_help(_: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply_help(reply, "CLUSTER", help::CLUSTER)
}

/// `CLUSTER MYID`; also `MYSHARDID`: a node and what it is the primary of are one shard.
fn myid(session: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply.bulk(name_of(session.view.myself).as_bytes());
    Ok(())
}

/// `CLUSTER KEYSLOT key`
fn keyslot(_: &mut Session, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply.integer(slot_of(args.at(2)).into());
    Ok(())
}

/// `CLUSTER COUNT-FAILURE-REPORTS node-id`: consensus knows one opinion, not many.
fn failure_reports(
    session: &mut Session,
    args: Args<'_>,
    reply: &mut ReplyBuffer,
) -> CommandResult {
    let node = member(session, args.at(2))?;
    reply.integer(i64::from(!session.view.table.is_up(node)));
    Ok(())
}

/// `READONLY`, `READWRITE` and `ASKING`: no other copy is read, and no slot is asked for while it
/// moves, so there is nothing to remember; but clients send them to every node of a cluster.
fn accepted(_: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply.ok();
    Ok(())
}

/// Subcommands that assign slots.
fn refuse_slots(_: &mut Session, _: Args<'_>, _: &mut ReplyBuffer) -> CommandResult {
    Err(CommandError::err(
        "slots are not assigned by hand here: they move by themselves when nodes join or leave",
    ))
}

/// Subcommands that make members.
fn refuse_members(_: &mut Session, _: Args<'_>, _: &mut ReplyBuffer) -> CommandResult {
    Err(CommandError::err(
        "members are not made by hand here: start a node with --seeds naming one of the cluster, \
         and it joins by itself; 'distcache-node cluster remove NODE' moves its keys away first",
    ))
}

/// Subcommands that say which copy is the primary, or number the states of the cluster.
fn refuse_roles(_: &mut Session, _: Args<'_>, _: &mut ReplyBuffer) -> CommandResult {
    Err(CommandError::err(
        "primaries and epochs are not set by hand here: the nodes agree on them, and keep them on \
         disk",
    ))
}

type Function = fn(&mut Session, Args<'_>, &mut ReplyBuffer) -> CommandResult;

const fn sub(
    name: &'static str,
    arity: i16,
    flags: Flags,
    since: &'static str,
    docs: Docs,
    run: Function,
) -> CommandSpec {
    row(Group::Cluster, name, arity, flags, since, docs, Run::Connection(run))
}

/// A subcommand that is only there to say what to do instead.
const fn refused(
    name: &'static str,
    arity: i16,
    since: &'static str,
    run: Function,
) -> CommandSpec {
    let flags = STALE.and(Flags::ADMIN).and(Flags::HIDDEN);
    sub(name, arity, flags, since, ("Refused: the cluster does this by itself", ""), run)
}

const HELPFUL: Flags = Flags::LOADING.and(Flags::STALE);
const STALE: Flags = Flags::STALE;

#[rustfmt::skip]
pub(super) const SPECS: &[CommandSpec] = &[
    sub("asking", 1, Flags::FAST, "3.0.0",
        ("Sent by cluster clients after an -ASK redirect", ""), accepted),
    container(Group::Cluster, "cluster", "3.0.0", "A container for cluster commands", &[
        refused("addslots", -3, "3.0.0", refuse_slots),
        refused("addslotsrange", -4, "7.0.0", refuse_slots),
        refused("bumpepoch", 2, "3.0.0", refuse_roles),
        sub("count-failure-reports", 3, STALE.and(Flags::ADMIN), "3.0.0",
            ("Return the number of failure reports active for a given node", "node-id"),
            failure_reports),
        row(Group::Cluster, "countkeysinslot", 3, STALE, "3.0.0",
            ("Return the number of local keys in the specified hash slot", "slot"),
            Run::Node(keys::countkeysinslot)),
        refused("delslots", -3, "3.0.0", refuse_slots),
        refused("delslotsrange", -4, "7.0.0", refuse_slots),
        refused("failover", -2, "3.0.0", refuse_roles),
        refused("flushslots", 2, "3.0.0", refuse_slots),
        refused("forget", 3, "3.0.0", refuse_members),
        row(Group::Cluster, "getkeysinslot", 4, STALE, "3.0.0",
            ("Return local key names in the specified hash slot", "slot count"),
            Run::Node(keys::getkeysinslot)),
        sub("help", 2, HELPFUL, "5.0.0",
            ("Show helpful text about the different subcommands", ""), cluster_help),
        sub("info", 2, STALE, "3.0.0",
            ("Provides info about Redis Cluster node state", ""), map::info),
        sub("keyslot", 3, STALE, "3.0.0",
            ("Returns the hash slot of the specified key", "key"), keyslot),
        sub("links", 2, STALE, "7.0.0",
            ("Returns a list of all TCP links to and from peer nodes in cluster", ""), map::links),
        refused("meet", -4, "3.0.0", refuse_members),
        sub("myid", 2, STALE, "3.0.0", ("Return the node id", ""), myid),
        sub("myshardid", 2, STALE, "7.2.0", ("Return the node shard id", ""), myid),
        sub("nodes", 2, STALE, "3.0.0", ("Get Cluster config for the node", ""), map::nodes),
        sub("replicas", 3, STALE.and(Flags::ADMIN), "5.0.0",
            ("List replica nodes of the specified master node", "node-id"), map::replicas),
        refused("replicate", 3, "3.0.0", refuse_roles),
        refused("reset", -2, "3.0.0", refuse_members),
        refused("saveconfig", 2, "3.0.0", refuse_roles),
        refused("set-config-epoch", 3, "3.0.0", refuse_roles),
        refused("setslot", -4, "3.0.0", refuse_slots),
        sub("shards", 2, STALE, "7.0.0",
            ("Get array of cluster slots to node mappings", ""), map::shards),
        sub("slaves", 3, STALE.and(Flags::ADMIN), "3.0.0",
            ("List replica nodes of the specified master node", "node-id"), map::replicas),
        row(Group::Cluster, "slot-stats", -4, STALE, "8.2.0",
            ("Returns the number of local keys of hash slots",
             "SLOTSRANGE start-slot end-slot | ORDERBY key-count [LIMIT limit] [ASC | DESC]"),
            Run::Node(keys::slot_stats)),
        sub("slots", 2, STALE, "3.0.0",
            ("Get array of Cluster slot to node mappings", ""), map::slots),
    ]),
    sub("readonly", 1, HELPFUL.and(Flags::FAST), "3.0.0",
        ("Enables read queries for a connection to a cluster replica node", ""), accepted),
    sub("readwrite", 1, HELPFUL.and(Flags::FAST), "3.0.0",
        ("Disables read queries for a connection to a cluster replica node", ""), accepted),
];
