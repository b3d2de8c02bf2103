//! `SCAN` over all nodes, by partitions.
//!
//! A cursor is a slot and a place in the order of its keys, which each node has its own of; so it
//! also has the last bits of the partition's epoch, and where they differ the partition has moved,
//! and is gone through again from its start. So a key that is there during a whole iteration is
//! returned, whatever moves, once if its partition stays where it is.

use distcache_protocol::resp::ReplyBuffer;
use distcache_protocol::slot::SLOTS;

use super::spread::{Part, answer_or_refusal, line, send};
use crate::clock;
use crate::cluster::table::NodeId;
use crate::cluster::view::{ClusterView, Owner};
use crate::command::{Args, Command, CommandError, CommandResult, TABLE};
use crate::keyspace::walk::{PREFIX_BITS, Position};
use crate::keyspace::{SLOTS_PER_PARTITION, partition_of};
use crate::limits::{FOLLOW_ATTEMPTS_MAX, FOLLOW_PAUSE};
use crate::server::session::Session;
use crate::server::slots;

/// What a cursor of an iteration over all nodes has and one of a node's own has not. A cursor of
/// the other kind, as when a first node joins meanwhile, begins anew.
const OVER_NODES: u64 = 1 << 53;

/// Bits of an epoch in a cursor. Behind them is one that is always 0, so that the cursor, of 54
/// bits, is exact in a double too, in which some clients keep it.
const TAG_BITS: u32 = 11;

/// Low bits of a node's own cursor that have no room in this one.
const CUT_BITS: u32 = TAG_BITS + 1;

/// Whether a command is `SCAN`.
pub(super) fn is_scan(command: Command) -> bool {
    TABLE.full_name(command.index) == "scan"
}

/// Goes on with an iteration over all nodes, by what one node has in a row.
///
/// # Errors
/// The node's, and `CLUSTERDOWN` where nobody serves what comes next: the same cursor is good
/// later.
pub(super) async fn run(
    session: &mut Session,
    command: Command,
    args: Args<'_>,
    output: &mut ReplyBuffer,
) -> CommandResult {
    let cursor = std::str::from_utf8(args.at(1)).ok().and_then(|text| text.parse::<u64>().ok());
    let cursor = cursor.ok_or_else(|| CommandError::err("invalid cursor"))?;
    for attempt in 0..FOLLOW_ATTEMPTS_MAX {
        if attempt > 0 {
            clock::sleep(FOLLOW_PAUSE).await;
            session.refresh_view();
        }
        let view = session.view.clone();
        let from = place_of(cursor, &view);
        let asked = match view.owner(from.slot()) {
            Owner::Local => view.myself,
            Owner::Remote(node) => node,
            Owner::Nobody => return Err(slots::down()),
        };
        let mut request: Vec<Vec<u8>> = args.from(0).map(<[u8]>::to_vec).collect();
        request[1] = from.cursor().to_string().into_bytes();
        let node = (asked != view.myself).then_some(asked);
        let part = Part { node, args: request, keys: Vec::new() };
        let call = send(session, &part);
        let reply = match answer_or_refusal(session, command, &part, call).await {
            Ok(Some(reply)) => reply,
            Ok(None) => continue,
            Err(error) if error == slots::try_again() => continue,
            Err(error) => return Err(error),
        };
        if let Some(error) = reply.strip_prefix(b"-") {
            return Err(CommandError::Bytes(error.trim_ascii_end().to_vec()));
        }
        let (own, keys) =
            parse(&reply).ok_or_else(|| CommandError::err("a node's answer is no scan"))?;
        let next = match own {
            0 => 0,
            own => cursor_of(Position::from_cursor(own), asked, &view),
        };
        output.array(2);
        output.bulk(next.to_string().as_bytes());
        output.raw(keys);
        return Ok(());
    }
    Err(slots::try_again())
}

fn tag(view: &ClusterView, slot: u16) -> u64 {
    let epoch = view.table.partition(partition_of(slot)).map_or(0, |partition| partition.epoch.0);
    (epoch % (1 << TAG_BITS)) << 1
}

/// Where a cursor goes on, as far as this view knows.
fn place_of(cursor: u64, view: &ClusterView) -> Position {
    if cursor & OVER_NODES == 0 {
        return Position::start_of_slot(0);
    }
    let slot = (cursor >> PREFIX_BITS) as u16 % SLOTS;
    let start = Position::start_of_slot(slot / SLOTS_PER_PARTITION * SLOTS_PER_PARTITION);
    let tagged = cursor % (1 << CUT_BITS);
    let place = Position::from_cursor((cursor - tagged) % OVER_NODES);
    // At the start of a partition nobody's order matters yet.
    if place == start || tagged == tag(view, slot) { place } else { start }
}

/// The cursor for a place that the node `asked` gave, which was asked by what this view knows.
fn cursor_of(place: Position, asked: NodeId, view: &ClusterView) -> u64 {
    let own = match view.owner(place.slot()) {
        Owner::Local => asked == view.myself,
        Owner::Remote(node) => node == asked,
        Owner::Nobody => false,
    };
    if !own {
        // This view does not know how the node came to have it, so its order means nothing here.
        let first = place.slot() / SLOTS_PER_PARTITION * SLOTS_PER_PARTITION;
        return OVER_NODES | Position::start_of_slot(first).cursor();
    }
    // Some keys before the place are returned again.
    let cursor = place.cursor() >> CUT_BITS << CUT_BITS;
    OVER_NODES | cursor | tag(view, place.slot())
}

/// The cursor in a reply, and the array of keys behind it. `None`: it is none.
fn parse(reply: &[u8]) -> Option<(u64, &[u8])> {
    let (length, rest) = line(reply.strip_prefix(b"*2\r\n$")?)?;
    let (cursor, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    let cursor = std::str::from_utf8(cursor).ok()?.parse().ok()?;
    Some((cursor, rest.strip_prefix(b"\r\n")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::table::{Announcement, ClusterId, Epoch, Incarnation, Role};

    fn view() -> ClusterView {
        let announcement = Announcement {
            incarnation: Incarnation(1),
            addresses: Default::default(),
            zone: String::new(),
            weight: 100,
            role: Role::Data,
        };
        ClusterView::alone(ClusterId(1), NodeId(1), announcement)
    }

    #[test]
    fn a_reply_is_a_cursor_and_keys() {
        let reply = b"*2\r\n$2\r\n17\r\n*1\r\n$1\r\na\r\n";
        assert_eq!(parse(reply), Some((17, b"*1\r\n$1\r\na\r\n".as_slice())));
        for wrong in [b"".as_slice(), b"*2\r\n$9\r\n17\r\n", b"*2\r\n$1\r\nx\r\n", b":1\r\n"] {
            assert_eq!(parse(wrong), None);
        }
    }

    #[test]
    fn a_cursor_means_its_place_until_the_partition_moves() {
        let view = view();
        let place = Position::from_cursor(23 << PREFIX_BITS | 5 << CUT_BITS | 7);
        let cursor = cursor_of(place, NodeId(1), &view);
        assert!(cursor < 1 << 54 && cursor.is_multiple_of(2));
        // What has no room is passed again, not over.
        let before = Position::from_cursor(23 << PREFIX_BITS | 5 << CUT_BITS);
        assert_eq!(place_of(cursor, &view), before);
        let mut table = view.table.clone();
        table.partitions[1].epoch = Epoch(table.partitions[1].epoch.0 + 1);
        let moved = ClusterView::new(NodeId(1), table, true);
        assert_eq!(place_of(cursor, &moved), Position::start_of_slot(16));
        assert_eq!(
            place_of(cursor_of(place, NodeId(2), &view), &view),
            Position::start_of_slot(16)
        );
    }

    #[test]
    fn a_cursor_of_a_node_alone_begins_anew() {
        let alone = Position::from_cursor(99 << PREFIX_BITS | 5).cursor();
        assert_eq!(place_of(alone, &view()), Position::start_of_slot(0));
    }

    #[test]
    fn the_start_of_a_partition_is_the_same_for_all() {
        let view = view();
        for partition in [0, 1, 1023] {
            let start = Position::start_of_slot(partition * SLOTS_PER_PARTITION);
            assert_eq!(place_of(cursor_of(start, NodeId(1), &view), &view), start);
            assert_eq!(place_of(cursor_of(start, NodeId(2), &view), &view), start);
        }
    }
}
