//! `SCAN` over all nodes: one after the other, in the order of their names.
//!
//! A cursor's low 53 bits are the node's own cursor, the others say which node it is. So a key
//! that stays on its node is returned exactly once; one whose partition moves to another node
//! during the iteration may be returned twice, or not at all, and so may keys of later nodes when
//! a node joins or leaves.

use distcache_protocol::resp::ReplyBuffer;

use super::spread::{Part, answer, data_nodes, line, send};
use crate::command::{Args, Command, CommandError, CommandResult, TABLE};
use crate::server::session::Session;

/// Bits of a node's own cursor.
const CURSOR_BITS: u32 = 53;

/// Whether a command is `SCAN`.
pub(super) fn is_scan(command: Command) -> bool {
    TABLE.full_name(command.index) == "scan"
}

/// Runs `SCAN` on the node that the cursor names.
///
/// # Errors
/// The node's.
pub(super) async fn run(
    session: &mut Session,
    command: Command,
    args: Args<'_>,
    output: &mut ReplyBuffer,
) -> CommandResult {
    let cursor = std::str::from_utf8(args.at(1)).ok().and_then(|text| text.parse::<u64>().ok());
    let cursor = cursor.ok_or_else(|| CommandError::err("invalid cursor"))?;
    let (place, own) = ((cursor >> CURSOR_BITS) as usize, cursor % (1 << CURSOR_BITS));
    let nodes = data_nodes(session);
    let Some(&node) = nodes.get(place) else {
        // A node that is none any more was the last one.
        output.array(2);
        output.bulk(b"0");
        output.array(0);
        return Ok(());
    };
    let mut request: Vec<Vec<u8>> = args.from(0).map(<[u8]>::to_vec).collect();
    request[1] = own.to_string().into_bytes();
    let node = (node != session.view.myself).then_some(node);
    let part = Part { node, args: request, keys: Vec::new() };
    let call = send(session, &part);
    let reply = answer(session, command, &part, call).await?;
    if let Some(error) = reply.strip_prefix(b"-") {
        return Err(CommandError::Bytes(error.trim_ascii_end().to_vec()));
    }
    let (own, keys) =
        parse(&reply).ok_or_else(|| CommandError::err("a node's answer is no scan"))?;
    let next = match own {
        0 if place + 1 < nodes.len() => (place as u64 + 1) << CURSOR_BITS,
        0 => 0,
        own => (place as u64) << CURSOR_BITS | own,
    };
    output.array(2);
    output.bulk(next.to_string().as_bytes());
    output.raw(keys);
    Ok(())
}

/// The cursor in a reply, and the array of keys behind it. `None`: it is none.
fn parse(reply: &[u8]) -> Option<(u64, &[u8])> {
    let (length, rest) = line(reply.strip_prefix(b"*2\r\n$")?)?;
    let (cursor, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    let cursor = std::str::from_utf8(cursor).ok()?.parse().ok()?;
    Some((cursor, rest.strip_prefix(b"\r\n")?)).filter(|(cursor, _)| *cursor < 1 << CURSOR_BITS)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_reply_is_a_cursor_and_keys() {
        let reply = b"*2\r\n$2\r\n17\r\n*1\r\n$1\r\na\r\n";
        assert_eq!(parse(reply), Some((17, b"*1\r\n$1\r\na\r\n".as_slice())));
        for wrong in [b"".as_slice(), b"*2\r\n$9\r\n17\r\n", b"*2\r\n$1\r\nx\r\n", b":1\r\n"] {
            assert_eq!(parse(wrong), None);
        }
    }
}
