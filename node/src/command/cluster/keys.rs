//! The keys of slots on this node, of the selected database.

use distcache_protocol::resp::ReplyBuffer;
use distcache_protocol::resp::decode::parse_integer;
use distcache_protocol::slot::SLOTS;

use crate::clock;
use crate::command::{Args, CommandError, CommandFuture};
use crate::keyspace::walk::{Position, WalkLimits, Walked};
use crate::limits::WALK_SLICE;
use crate::server::for_all_shards;
use crate::server::session::Session;

/// An argument as a slot.
fn slot_at(args: Args<'_>, index: usize, refusal: &'static str) -> Result<u16, CommandError> {
    let number = args.integer(index)?;
    let slot = u16::try_from(number).ok().filter(|slot| *slot < SLOTS);
    slot.ok_or(CommandError::Other(refusal.into()))
}

/// `CLUSTER COUNTKEYSINSLOT slot`
pub(super) fn countkeysinslot<'a>(
    session: &'a mut Session,
    args: Args<'a>,
    reply: &'a mut ReplyBuffer,
) -> CommandFuture<'a> {
    Box::pin(async move {
        let slot = slot_at(args, 2, "ERR Invalid slot")?;
        let (shard, database) = (session.node.shard_of(slot), session.database);
        let visit = shard.visit(move |state| {
            state.keyspace.begin(clock::now(), database);
            state.keyspace.keys_in_slot(slot)
        });
        reply.integer(visit.await? as i64);
        Ok(())
    })
}

/// `CLUSTER GETKEYSINSLOT slot count`
pub(super) fn getkeysinslot<'a>(
    session: &'a mut Session,
    args: Args<'a>,
    reply: &'a mut ReplyBuffer,
) -> CommandFuture<'a> {
    const INVALID: &str = "ERR Invalid slot or number of keys";
    Box::pin(async move {
        let slot = slot_at(args, 2, INVALID)?;
        let count = usize::try_from(args.integer(3)?);
        let count = count.map_err(|_| CommandError::Other(INVALID.into()))?;
        let (shard, database) = (session.node.shard_of(slot), session.database);
        let mut keys: Vec<Vec<u8>> = Vec::new();
        let mut position = Some(Position::start_of_slot(slot));
        while let Some(from) = position.filter(|at| at.slot() == slot && keys.len() < count) {
            let most = (count - keys.len()).min(WALK_SLICE.keys);
            let visit = shard.visit(move |state| {
                state.keyspace.begin(clock::now(), database);
                let mut found = Vec::new();
                let limits = WalkLimits { keys: most, slots: 1 };
                let walked =
                    state.keyspace.walk(from, limits, |entry| found.push(entry.key().to_vec()));
                (walked, found)
            });
            let (Walked { next, .. }, found) = visit.await?;
            keys.extend(found);
            position = next;
        }
        // Keys that share their place in the order come together, so there may be too many.
        keys.truncate(count);
        reply.array(keys.len());
        keys.iter().for_each(|key| reply.bulk(key));
        Ok(())
    })
}

/// Which slots `CLUSTER SLOT-STATS` shows, and in which order.
enum Wanted {
    Range { first: u16, last: u16 },
    Order { limit: usize, ascending: bool },
}

fn parse(args: Args<'_>) -> Result<Wanted, CommandError> {
    const INVALID: &str = "ERR Invalid or out of range slot";
    const LIMIT: &str = "ERR Limit has to lie in between 1 and 16384 (maximum number of slots).";
    if args.is(2, "SLOTSRANGE") && args.len() == 5 {
        let (first, last) = (slot_at(args, 3, INVALID)?, slot_at(args, 4, INVALID)?);
        if first > last {
            let text = format!("Start slot number {first} is greater than end slot number {last}");
            return Err(CommandError::err(text));
        }
        return Ok(Wanted::Range { first, last });
    }
    if !args.is(2, "ORDERBY") {
        return Err(CommandError::Syntax);
    }
    if !args.is(3, "KEY-COUNT") {
        let text = "Unrecognized sort metric for ORDERBY: only key-count is known";
        return Err(CommandError::err(text));
    }
    let (mut limit, mut ascending) = (usize::from(SLOTS), false);
    let mut options = args.cursor(4);
    while options.remaining() > 0 {
        if options.take("LIMIT") {
            let given = parse_integer(options.operand()?).ok_or(CommandError::NotInteger)?;
            let allowed = usize::try_from(given).ok().filter(|n| (1..=limit).contains(n));
            limit = allowed.ok_or(CommandError::Other(LIMIT.into()))?;
        } else if options.take("ASC") {
            ascending = true;
        } else if options.take("DESC") {
            ascending = false;
        } else {
            return Err(CommandError::Syntax);
        }
    }
    Ok(Wanted::Order { limit, ascending })
}

/// `CLUSTER SLOT-STATS`: the slots that this node serves, with their numbers of keys.
pub(super) fn slot_stats<'a>(
    session: &'a mut Session,
    args: Args<'a>,
    reply: &'a mut ReplyBuffer,
) -> CommandFuture<'a> {
    Box::pin(async move {
        let wanted = parse(args)?;
        let database = session.database;
        let counted = for_all_shards(&session.node, move |state| {
            state.keyspace.begin(clock::now(), database);
            state.keyspace.keys_of_slots()
        });
        let mut slots: Vec<(u16, usize)> = counted.await?.into_iter().flatten().collect();
        let ownership = session.node.cluster.ownership();
        slots.retain(|(slot, _)| ownership.serves(*slot));
        match wanted {
            Wanted::Range { first, last } => {
                slots.retain(|(slot, _)| (first..=last).contains(slot));
                slots.sort_unstable();
            }
            Wanted::Order { limit, ascending } => {
                let place = |keys: usize| if ascending { keys } else { usize::MAX - keys };
                slots.sort_unstable_by_key(|(slot, keys)| (place(*keys), *slot));
                slots.truncate(limit);
            }
        }
        reply.array(slots.len());
        for (slot, keys) in slots {
            reply.array(2);
            reply.integer(slot.into());
            reply.map(1);
            reply.bulk(b"key-count");
            reply.integer(keys as i64);
        }
        Ok(())
    })
}
