//! Commands on keys of several nodes, or on all keys: each node does its part, and the replies
//! become one. Nothing is atomic over nodes.

use distcache_protocol::resp::ReplyBuffer;
use distcache_protocol::resp::decode::parse_integer;
use distcache_protocol::slot::slot_of;

use super::follow::{failure, follow, rest};
use super::outgoing::{Call, call, received};
use super::{Header, batch, scan};
use crate::clock;
use crate::cluster::table::{NodeId, Role};
use crate::cluster::view::Owner;
use crate::command::{Args, Command, CommandError, CommandResult, Keys, Run, TABLE};
use crate::limits::{FLUSH_ATTEMPTS_MAX, FLUSH_PAUSE, PAUSED_POLL};
use crate::server::coordinate::run_on_keys;
use crate::server::session::Session;
use crate::server::slots;

/// How the replies of the parts become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gather {
    /// Integers are added.
    Sum,
    /// All must be `OK`.
    Ok,
    /// Items of arrays take the places of the keys that they are about.
    ByKey,
    /// Arrays are put one behind the other.
    Concat,
    /// One that is not nothing.
    Any,
}

fn gather_of(command: Command) -> Option<Gather> {
    match TABLE.full_name(command.index) {
        "del" | "unlink" | "exists" | "touch" | "dbsize" => Some(Gather::Sum),
        "mset" | "flushall" | "flushdb" => Some(Gather::Ok),
        "mget" => Some(Gather::ByKey),
        "keys" => Some(Gather::Concat),
        "randomkey" => Some(Gather::Any),
        _ => None,
    }
}

/// Whether a command can be run on several nodes at once.
pub(in crate::server) fn is_spreadable(command: Command) -> bool {
    gather_of(command).is_some() || scan::is_scan(command)
}

/// Whether a command empties databases, whatever keys they have.
pub(in crate::server) fn empties(command: Command) -> bool {
    gather_of(command) == Some(Gather::Ok) && matches!(command.spec.keys, Keys::None)
}

/// A part of the command, for one node; `None` is this one.
pub(super) struct Part {
    pub(super) node: Option<NodeId>,
    pub(super) args: Vec<Vec<u8>>,
    /// Which of the command's keys it has.
    pub(super) keys: Vec<usize>,
}

/// Runs a command on all nodes that have keys of it, and adds its reply.
///
/// # Errors
/// The first that a node answers with; other nodes may have done their part.
pub(in crate::server) async fn run(
    session: &mut Session,
    command: Command,
    args: Args<'_>,
    output: &mut ReplyBuffer,
) -> CommandResult {
    if scan::is_scan(command) {
        return scan::run(session, command, args, output).await;
    }
    for attempt in 0.. {
        let before = places(session);
        let replies = run_parts(session, command, args).await?;
        session.refresh_view();
        // A partition may have gone from a node that had not done its part to one that had. What
        // empties everything can be done again, and is until nothing moves.
        let is_done = !empties(command)
            || attempt >= FLUSH_ATTEMPTS_MAX
            || before == places(session) && before.iter().all(|(_, moves)| !moves);
        if is_done {
            return gather(command, &replies, output);
        }
        clock::sleep(FLUSH_PAUSE).await;
    }
    Ok(())
}

/// Where each partition is, and whether it is on its way.
fn places(session: &Session) -> Vec<(u64, bool)> {
    let partitions = session.view.table.partitions.iter();
    partitions.map(|partition| (partition.epoch.0, partition.joining.is_some())).collect()
}

/// Runs all parts once, and returns them with their replies.
async fn run_parts(
    session: &mut Session,
    command: Command,
    args: Args<'_>,
) -> Result<Vec<(Part, Vec<u8>)>, CommandError> {
    let parts = match command.spec.keys {
        Keys::None => parts_of_all(session, args),
        Keys::Range { step, .. } => parts_by_key(session, command.spec.keys, step, args)?,
    };
    let calls: Vec<_> = parts.iter().map(|part| send(session, part)).collect();
    let mut replies = Vec::new();
    for (part, call) in parts.into_iter().zip(calls) {
        let reply = answer(session, command, &part, call).await?;
        replies.push((part, reply));
    }
    Ok(replies)
}

/// Sends a part, if it is for another node.
pub(super) fn send(session: &Session, part: &Part) -> Option<Call> {
    let mut batch = batch::begin(Header::of(session));
    batch::push(&mut batch, part.args.iter().map(Vec::as_slice));
    part.node.and_then(|node| call(session, node, batch))
}

/// Returns the reply to a part: that of the call, or, where there is none, this node's own.
pub(super) async fn answer(
    session: &mut Session,
    command: Command,
    part: &Part,
    call: Option<Call>,
) -> Result<Vec<u8>, CommandError> {
    match answer_or_refusal(session, command, part, call).await? {
        Some(reply) => Ok(reply),
        None => Ok(again(session, command, &part.args).await),
    }
}

/// The same; `None` where the node does not serve what it was asked for (any more). One that is
/// paused is asked until it is not.
pub(super) async fn answer_or_refusal(
    session: &mut Session,
    command: Command,
    part: &Part,
    call: Option<Call>,
) -> Result<Option<Vec<u8>>, CommandError> {
    let Some(mut call) = call else { return here(session, command, &part.args).await.map(Some) };
    loop {
        let answer = received(call, 1).await.map_err(|error| failure(&error))?;
        let reply = answer.get(0).filter(|reply| !batch::is_refusal(reply));
        if answer.get(0) != Some(batch::PAUSED) {
            return Ok(reply.map(<[u8]>::to_vec));
        }
        rest(session, PAUSED_POLL).await;
        call = send(session, part).ok_or_else(slots::try_again)?;
    }
}

/// Nodes that own keys, or may, in an order that all nodes know.
pub(super) fn data_nodes(session: &Session) -> Vec<NodeId> {
    let members = session.view.table.nodes.iter();
    let with_data = members.filter(|(_, member)| member.role == Role::Data);
    with_data.map(|(node, _)| *node).collect()
}

/// One part for each node that may have keys. Those that are down have none that are served.
fn parts_of_all(session: &Session, args: Args<'_>) -> Vec<Part> {
    let view = &session.view;
    let mut nodes = data_nodes(session);
    nodes.retain(|node| view.table.is_up(*node));
    // Where one answer is enough, not always the same node's.
    let turn = clock::random_seed() as usize % nodes.len().max(1);
    nodes.rotate_left(turn);
    let part = |node| Part {
        node: (node != view.myself).then_some(node),
        args: args.from(0).map(<[u8]>::to_vec).collect(),
        keys: Vec::new(),
    };
    nodes.into_iter().map(part).collect()
}

/// One part for each node that serves some of the keys.
fn parts_by_key(
    session: &Session,
    keys: Keys,
    step: i8,
    args: Args<'_>,
) -> Result<Vec<Part>, CommandError> {
    let mut parts: Vec<Part> = Vec::new();
    for (place, index) in keys.indices(args.len()).enumerate() {
        let node = match session.view.owner(slot_of(args.at(index))) {
            Owner::Local => None,
            Owner::Remote(node) => Some(node),
            Owner::Nobody => return Err(crate::server::slots::down()),
        };
        let at = parts.iter().position(|part| part.node == node).unwrap_or_else(|| {
            parts.push(Part { node, args: vec![args.at(0).to_vec()], keys: Vec::new() });
            parts.len() - 1
        });
        let operands = (index..index + step as usize).filter_map(|index| args.get(index));
        parts[at].args.extend(operands.map(<[u8]>::to_vec));
        parts[at].keys.push(place);
    }
    Ok(parts)
}

/// Runs this node's part, whose reply may be an error too.
async fn here(
    session: &mut Session,
    command: Command,
    part: &[Vec<u8>],
) -> Result<Vec<u8>, CommandError> {
    let origin = session.origin();
    let (input, ranges) = joined(part);
    let args = Args::new(&input, &ranges);
    let mut reply = ReplyBuffer::new(session.version);
    match command.spec.run {
        Run::Keyspace(_) => {
            let done = run_on_keys(&session.node, origin, command, args, &mut reply).await;
            if done == Err(slots::try_again()) {
                return Ok(again(session, command, part).await);
            }
            done?;
        }
        Run::Node(run) => run(session, args, &mut reply).await?,
        Run::Connection(_) | Run::Subcommand => {}
    }
    Ok(reply.into_bytes())
}

/// Runs a part again, since its keys have moved.
async fn again(session: &mut Session, command: Command, part: &[Vec<u8>]) -> Vec<u8> {
    let (input, ranges) = joined(part);
    let mut reply = ReplyBuffer::new(session.version);
    follow(session, command, Args::new(&input, &ranges), &mut reply).await;
    reply.into_bytes()
}

fn joined(part: &[Vec<u8>]) -> (Vec<u8>, Vec<distcache_protocol::resp::ArgRange>) {
    let mut input = Vec::new();
    let range = |arg: &Vec<u8>| {
        let start = input.len() as u32;
        input.extend_from_slice(arg);
        distcache_protocol::resp::ArgRange { start, end: input.len() as u32 }
    };
    let ranges = part.iter().map(range).collect();
    (input, ranges)
}

fn gather(
    command: Command,
    replies: &[(Part, Vec<u8>)],
    output: &mut ReplyBuffer,
) -> CommandResult {
    if let Some(error) = replies.iter().find_map(|(_, reply)| reply.strip_prefix(b"-")) {
        return Err(CommandError::Bytes(error.trim_ascii_end().to_vec()));
    }
    let unreadable = || CommandError::err("a node's answer cannot be read");
    match gather_of(command).ok_or_else(unreadable)? {
        Gather::Ok => output.ok(),
        Gather::Sum => {
            let integer = |(_, reply): &(Part, Vec<u8>)| {
                parse_integer(reply.strip_prefix(b":")?.trim_ascii_end())
            };
            let sum: Option<i64> = replies.iter().map(integer).sum();
            output.integer(sum.ok_or_else(unreadable)?);
        }
        Gather::Any => {
            let is_nothing = |reply: &[u8]| reply == b"$-1\r\n" || reply == b"_\r\n";
            match replies.iter().find(|(_, reply)| !is_nothing(reply)) {
                Some((_, reply)) => output.raw(reply),
                None => output.null(),
            }
        }
        Gather::Concat => {
            let items: Option<Vec<_>> = replies.iter().map(|(_, reply)| items(reply)).collect();
            let items = items.ok_or_else(unreadable)?.concat();
            output.array(items.len());
            items.into_iter().for_each(|item| output.raw(item));
        }
        Gather::ByKey => {
            let keys = replies.iter().map(|(part, _)| part.keys.len()).sum();
            let mut places: Vec<&[u8]> = vec![&[]; keys];
            for (part, reply) in replies {
                let items = items(reply).filter(|items| items.len() == part.keys.len());
                for (place, item) in part.keys.iter().zip(items.ok_or_else(unreadable)?) {
                    places[*place] = item;
                }
            }
            output.array(places.len());
            places.into_iter().for_each(|item| output.raw(item));
        }
    }
    Ok(())
}

/// The items of an array of bulk strings and nulls. `None`: the reply is none.
fn items(reply: &[u8]) -> Option<Vec<&[u8]>> {
    let (count, mut rest) = line(reply.strip_prefix(b"*")?)?;
    let mut items = Vec::new();
    for _ in 0..count {
        let length = match rest.strip_prefix(b"$") {
            None if rest.starts_with(b"_\r\n") => 3,
            None => return None,
            Some(bulk) => match line(bulk)? {
                (length, body) if length >= 0 => {
                    rest.len() - body.len() + usize::try_from(length).ok()?.checked_add(2)?
                }
                (_, body) => rest.len() - body.len(),
            },
        };
        let (item, others) = rest.split_at_checked(length)?;
        items.push(item);
        rest = others;
    }
    rest.is_empty().then_some(items)
}

/// Reads a number and the end of its line; returns what is behind.
pub(super) fn line(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    Some((parse_integer(&bytes[..end])?, &bytes[end + 2..]))
}

#[cfg(test)]
mod tests {
    use super::items;

    #[test]
    fn arrays_of_bulk_strings_and_nulls_are_taken_apart() {
        let found = items(b"*4\r\n$1\r\na\r\n$-1\r\n_\r\n$0\r\n\r\n").unwrap();
        assert_eq!(found, [b"$1\r\na\r\n".as_slice(), b"$-1\r\n", b"_\r\n", b"$0\r\n\r\n"]);
        assert_eq!(items(b"*0\r\n"), Some(vec![]));
        for wrong in [b"".as_slice(), b"*1\r\n", b"*1\r\n:1\r\n", b"*1\r\n$9\r\na\r\n", b"*0\r\nx"]
        {
            assert_eq!(items(wrong), None);
        }
    }
}
