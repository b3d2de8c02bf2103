//! Commands over all keys. They visit every shard, in bounded slices.

use std::sync::Arc;

use distcache_protocol::glob;
use distcache_protocol::resp::ReplyBuffer;
use distcache_protocol::resp::decode::parse_integer;
use distcache_protocol::slot::SLOTS;

use super::ROW;
use super::keys::type_name;
use crate::actors::shard::Stopped;
use crate::clock;
use crate::command::{Args, CommandError, CommandFuture, CommandSpec, Flags, Run};
use crate::keyspace::SLOTS_PER_PARTITION;
use crate::keyspace::entry::Entry;
use crate::keyspace::walk::{Position, WalkLimits, Walked};
use crate::limits::{SCANNED_PARTITIONS_MAX, WALK_SLICE};
use crate::node::Node;
use crate::server::listen::Access;
use crate::server::session::Session;
use crate::server::slots;

/// Keys that `SCAN` passes when its client does not say.
const SCAN_COUNT: usize = 10;

/// Which keys are wanted.
#[derive(Default)]
struct Filter {
    pattern: Option<Vec<u8>>,
    type_name: Option<Vec<u8>>,
}

impl Filter {
    fn accepts(&self, entry: &Entry) -> bool {
        let of_type =
            |name: &Vec<u8>| name.eq_ignore_ascii_case(type_name(entry.value()).as_bytes());
        self.pattern.as_ref().is_none_or(|pattern| glob::matches(pattern, entry.key()))
            && self.type_name.as_ref().is_none_or(of_type)
    }
}

/// Keys one behind the other: many keys in two allocations.
#[derive(Default)]
struct KeyList {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl KeyList {
    fn push(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
    }

    fn append(&mut self, other: &KeyList) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.ends.extend(other.ends.iter().map(|end| start + end));
    }

    fn write(&self, reply: &mut ReplyBuffer) {
        reply.array(self.ends.len());
        let mut start = 0;
        for &end in &self.ends {
            reply.bulk(&self.bytes[start..end]);
            start = end;
        }
    }
}

/// A walk over all shards, one visit a slice.
struct Walker<'a> {
    node: &'a Node,
    database: u8,
    filter: Arc<Filter>,
    found: KeyList,
}

impl Walker<'_> {
    /// Goes on from `position`, by about `keys` keys but at most one slice. Returns where the
    /// walk is then (`None`: at its end), and the keys it passed.
    async fn advance(
        &mut self,
        position: Position,
        keys: usize,
    ) -> Result<(Option<Position>, usize), Stopped> {
        let count = self.node.shards.len() as u16;
        let (shard, database, filter) = (position.shard(count), self.database, self.filter.clone());
        let limits = WalkLimits { keys: keys.min(WALK_SLICE.keys), slots: WALK_SLICE.slots };
        let visit = self.node.shards[shard as usize].visit(move |state| {
            state.keyspace.begin(clock::now(), database);
            let mut found = KeyList::default();
            let walked = state.keyspace.walk(position, limits, |entry| {
                if filter.accepts(entry) {
                    found.push(entry.key());
                }
            });
            (walked, found)
        });
        let (Walked { next, keys }, found) = visit.await?;
        self.found.append(&found);
        let next = next.or_else(|| (shard + 1 < count).then(|| Position::start_of(shard + 1)));
        Ok((next, keys))
    }
}

/// `KEYS pattern`: as of no single moment, but a key that is there all the while is found once.
fn keys<'a>(
    session: &'a mut Session,
    args: Args<'a>,
    reply: &'a mut ReplyBuffer,
) -> CommandFuture<'a> {
    let pattern = Some(args.at(1)).filter(|pattern| *pattern != b"*").map(<[u8]>::to_vec);
    let filter = Filter { pattern, type_name: None };
    Box::pin(async move {
        let mut walker = Walker::new(session, filter);
        let mut position = Some(Position::start_of(0));
        while let Some(from) = position {
            (position, _) = walker.advance(from, usize::MAX).await?;
        }
        walker.found.write(reply);
        Ok(())
    })
}

impl<'a> Walker<'a> {
    fn new(session: &'a Session, filter: Filter) -> Self {
        Walker {
            node: &session.node,
            database: session.database,
            filter: Arc::new(filter),
            found: KeyList::default(),
        }
    }
}

/// What a visit of a part of a partition found.
type Visited = (Option<(Walked, KeyList)>, u16);

impl Walker<'_> {
    /// Goes through the partitions in their order, from a position on, as long as this node serves
    /// them: the part that a node has in an iteration over all nodes. Ends after about `keys` keys
    /// or [`SCANNED_PARTITIONS_MAX`].
    ///
    /// # Errors
    /// `TRYAGAIN` where the first of them is served elsewhere.
    async fn walk_partitions(
        &mut self,
        from: Option<Position>,
        keys: usize,
    ) -> Result<Option<Position>, CommandError> {
        let (mut position, mut left) = (from, keys);
        for passed in 0..SCANNED_PARTITIONS_MAX {
            let Some(from) = position.filter(|_| left > 0) else { break };
            let (visited, end) = self.visit_partition(from, left).await?;
            let Some((walked, found)) = visited else {
                if passed == 0 {
                    return Err(slots::try_again());
                }
                break;
            };
            self.found.append(&found);
            left = left.saturating_sub(walked.keys);
            let within = walked.next.filter(|next| next.slot() < end && next.slot() >= from.slot());
            position = within.or_else(|| (end < SLOTS).then(|| Position::start_of_slot(end)));
        }
        Ok(position)
    }

    /// Visits the rest of the partition that a position is in; `None` if it is served elsewhere.
    /// Also returns the first slot behind the partition.
    async fn visit_partition(&self, from: Position, keys: usize) -> Result<Visited, Stopped> {
        let shard = from.shard(self.node.shards.len() as u16);
        let (database, filter, slot) = (self.database, self.filter.clone(), from.slot());
        let end = (slot / SLOTS_PER_PARTITION + 1) * SLOTS_PER_PARTITION;
        let limits = WalkLimits { keys: keys.min(WALK_SLICE.keys), slots: usize::from(end - slot) };
        let visit = self.node.shards[usize::from(shard)].visit(move |state| {
            if !state.serves_slot(slot) {
                return None;
            }
            state.keyspace.begin(clock::now(), database);
            let mut found = KeyList::default();
            let walked = state.keyspace.walk(from, limits, |entry| {
                if filter.accepts(entry) {
                    found.push(entry.key());
                }
            });
            Some((walked, found))
        });
        Ok((visit.await?, end))
    }
}

/// Parses a cursor as C's `strtoul` does, but for leading spaces: that is what Redis takes.
fn parse_cursor(argument: &[u8]) -> Result<u64, CommandError> {
    let invalid = || CommandError::err("invalid cursor");
    let text = argument.split(|&byte| byte == 0).next().unwrap_or_default();
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if text.is_empty() {
        return Ok(0);
    }
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(invalid());
    }
    let value = digits.iter().try_fold(0_u64, |value, digit| {
        value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    });
    let value = value.ok_or_else(invalid)?;
    Ok(if negative { value.wrapping_neg() } else { value })
}

fn parse_options(args: Args<'_>) -> Result<(Filter, usize), CommandError> {
    let (mut filter, mut count) = (Filter::default(), SCAN_COUNT);
    let mut options = args.cursor(2);
    while options.remaining() > 1 {
        if options.take("count") {
            let given = parse_integer(options.operand()?).ok_or(CommandError::NotInteger)?;
            if given < 1 {
                return Err(CommandError::Syntax);
            }
            count = usize::try_from(given).unwrap_or(usize::MAX);
        } else if options.take("match") {
            filter.pattern = Some(options.operand()?.to_vec());
        } else if options.take("type") {
            filter.type_name = Some(options.operand()?.to_vec());
        } else {
            return Err(CommandError::Syntax);
        }
    }
    if options.remaining() > 0 {
        return Err(CommandError::Syntax);
    }
    Ok((filter, count))
}

/// `SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]`: a key that is there during a whole
/// iteration is returned exactly once.
fn scan<'a>(
    session: &'a mut Session,
    args: Args<'a>,
    reply: &'a mut ReplyBuffer,
) -> CommandFuture<'a> {
    Box::pin(async move {
        let mut position = Some(Position::from_cursor(parse_cursor(args.at(1))?));
        let (filter, mut count) = parse_options(args)?;
        let by_partition = session.access == Access::Node
            || session.access == Access::Any && !session.view.is_whole();
        let mut walker = Walker::new(session, filter);
        if by_partition {
            position = walker.walk_partitions(position, count).await?;
            count = 0;
        }
        while let Some(from) = position.filter(|_| count > 0) {
            let (next, passed) = walker.advance(from, count).await?;
            (position, count) = (next, count.saturating_sub(passed));
        }
        reply.array(2);
        reply.bulk(position.map_or(0, Position::cursor).to_string().as_bytes());
        walker.found.write(reply);
        Ok(())
    })
}

/// `RANDOMKEY`
fn randomkey<'a>(
    session: &'a mut Session,
    _: Args<'a>,
    reply: &'a mut ReplyBuffer,
) -> CommandFuture<'a> {
    Box::pin(async move {
        let database = session.database;
        let mut chosen: Option<Vec<u8>> = None;
        let mut total = 0;
        for shard in &session.node.shards {
            let visit = shard.visit(move |state| {
                state.keyspace.begin(clock::now(), database);
                let key = state.keyspace.random_key();
                let keys = state.keyspace.sizes()[usize::from(database)].keys as u64;
                (key, keys, state.keyspace.clock.random())
            });
            // Each shard's key takes the place with the probability of the shard's share so far.
            let (key, keys, dice) = visit.await?;
            if let Some(key) = key {
                total += keys;
                if chosen.is_none() || dice % total.max(1) < keys {
                    chosen = Some(key);
                }
            }
        }
        match chosen {
            Some(key) => reply.bulk(&key),
            None => reply.null(),
        }
        Ok(())
    })
}

/// `DBSIZE`
fn dbsize<'a>(
    session: &'a mut Session,
    _: Args<'a>,
    reply: &'a mut ReplyBuffer,
) -> CommandFuture<'a> {
    Box::pin(async move {
        let database = usize::from(session.database);
        let mut keys = 0;
        for shard in &session.node.shards {
            keys += shard.visit(move |state| state.keyspace.sizes()[database].keys).await?;
        }
        reply.integer(keys as i64);
        Ok(())
    })
}

pub(in crate::command) const SPECS: &[CommandSpec] = &[
    CommandSpec {
        name: "dbsize",
        arity: 1,
        flags: Flags::READONLY.and(Flags::FAST),
        group: crate::command::Group::Server,
        since: "1.0.0",
        summary: "Returns the number of keys in the database.",
        run: Run::Node(dbsize),
        ..ROW
    },
    CommandSpec {
        name: "keys",
        arity: 2,
        flags: Flags::READONLY,
        since: "1.0.0",
        complexity: "O(N) with N being the number of keys in the database, under the assumption \
                     that the key names in the database and the given pattern have limited \
                     length.",
        summary: "Returns all key names that match a pattern.",
        syntax: "pattern",
        run: Run::Node(keys),
        ..ROW
    },
    CommandSpec {
        name: "randomkey",
        arity: 1,
        flags: Flags::READONLY,
        since: "1.0.0",
        summary: "Returns a random key name from the database.",
        run: Run::Node(randomkey),
        ..ROW
    },
    CommandSpec {
        name: "scan",
        arity: -2,
        flags: Flags::READONLY,
        since: "2.8.0",
        complexity: "O(1) for every call. O(N) for a complete iteration, including enough \
                     command calls for the cursor to return back to 0. N is the number of \
                     elements inside the collection.",
        summary: "Iterates over the key names in the database.",
        syntax: "cursor [MATCH pattern] [COUNT count] [TYPE type]",
        run: Run::Node(scan),
        ..ROW
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_what_strtoul_takes() {
        for (text, value) in [("0", 0), ("", 0), ("+5", 5), ("007", 7), ("-1", u64::MAX)] {
            assert_eq!(parse_cursor(text.as_bytes()), Ok(value));
        }
        assert_eq!(parse_cursor(b"18446744073709551615"), Ok(u64::MAX));
        for text in ["abc", " 1", "1 ", "-", "1.5", "18446744073709551616"] {
            assert!(parse_cursor(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_list_gives_back_what_was_put_in() {
        let (mut list, mut other) = (KeyList::default(), KeyList::default());
        list.push(b"a");
        other.push(b"");
        other.push(b"bc");
        list.append(&other);
        let mut reply = ReplyBuffer::default();
        list.write(&mut reply);
        assert_eq!(reply.as_bytes(), b"*3\r\n$1\r\na\r\n$0\r\n\r\n$2\r\nbc\r\n");
    }
}
