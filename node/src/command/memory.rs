//! `MEMORY`: where the node's memory goes. `MEMORY USAGE` is with the commands on keys.

use distcache_protocol::resp::ReplyBuffer;

use super::generic::object::MEMORY_USAGE;
use super::info::Figures;
use super::row::{container, reply_help, row};
use super::{Args, CommandFuture, CommandResult, CommandSpec, Flags, Group, Run, help};
use crate::server::session::Session;

/// One figure of `MEMORY STATS`.
enum Figure {
    Bytes(u64),
    Ratio(f64),
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// `MEMORY STATS`
fn stats<'a>(
    session: &'a mut Session,
    _: Args<'a>,
    reply: &'a mut ReplyBuffer,
) -> CommandFuture<'a> {
    Box::pin(async move {
        let figures = Figures::gather(&session.node).await?;
        let (used, peak, resident) =
            (figures.used_bytes(), figures.peak_bytes(), figures.resident_bytes);
        let (keys, data) = (figures.keys() as u64, figures.data_bytes);
        let queued = figures.node.log.as_ref().map_or(0, |log| log.status.queued_bytes() as u64);
        let fragmentation = if used == 0 { 0.0 } else { resident as f64 / used as f64 };
        let list = [
            ("peak.allocated", Figure::Bytes(peak)),
            ("total.allocated", Figure::Bytes(used)),
            ("startup.allocated", Figure::Bytes(0)),
            ("replication.backlog", Figure::Bytes(0)),
            ("clients.slaves", Figure::Bytes(0)),
            ("clients.normal", Figure::Bytes(figures.client_bytes)),
            ("cluster.links", Figure::Bytes(figures.link_bytes() as u64)),
            ("aof.buffer", Figure::Bytes(queued)),
            ("lua.caches", Figure::Bytes(0)),
            ("functions.caches", Figure::Bytes(0)),
            ("overhead.total", Figure::Bytes(figures.client_bytes)),
            ("keys.count", Figure::Bytes(keys)),
            ("keys.bytes-per-key", Figure::Bytes(data.checked_div(keys).unwrap_or(0))),
            ("dataset.bytes", Figure::Bytes(data)),
            ("dataset.percentage", Figure::Ratio(percent(data, used))),
            ("peak.percentage", Figure::Ratio(percent(used, peak))),
            ("allocator.resident", Figure::Bytes(resident)),
            ("fragmentation", Figure::Ratio(fragmentation)),
            ("fragmentation.bytes", Figure::Bytes(resident.saturating_sub(used))),
        ];
        reply.map(list.len());
        for (name, figure) in list {
            reply.bulk(name.as_bytes());
            match figure {
                Figure::Bytes(bytes) => reply.integer(bytes as i64),
                Figure::Ratio(ratio) => reply.double(&format!("{ratio:.4}")),
            }
        }
        Ok(())
    })
}

/// `MEMORY DOCTOR`
fn doctor<'a>(
    session: &'a mut Session,
    _: Args<'a>,
    reply: &'a mut ReplyBuffer,
) -> CommandFuture<'a> {
    Box::pin(async move {
        let figures = Figures::gather(&session.node).await?;
        let (used, limit) = (figures.used_bytes(), figures.config.maxmemory_bytes);
        let text = if limit > 0 && used >= limit {
            "Memory has reached maxmemory: keys are evicted, or writes refused.\n"
        } else if figures.client_bytes > figures.data_bytes.max(64 << 20) {
            "Buffers of clients take more memory than the data: look for clients that send much \
             or read slowly (CLIENT LIST).\n"
        } else {
            "I can find no issue with this node's memory.\n"
        };
        reply.verbatim(text.as_bytes());
        Ok(())
    })
}

/// `MEMORY PURGE`: the allocator gives memory back by itself.
fn purge(_: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply.ok();
    Ok(())
}

/// `MEMORY MALLOC-STATS`
fn malloc_stats(_: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply.verbatim(b"Stats not supported for the current allocator");
    Ok(())
}

/// `MEMORY HELP`
fn help(_: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply_help(reply, "MEMORY", help::MEMORY)
}

const HELPFUL: Flags = Flags::LOADING.and(Flags::STALE);

/// The row of `MEMORY`.
#[rustfmt::skip]
pub(super) const CONTAINER: CommandSpec =
    container(Group::Server, "memory", "4.0.0", "A container for memory diagnostics commands", &[
        row(Group::Server, "doctor", 2, Flags::NONE, "4.0.0",
            ("Outputs memory problems report", ""), Run::Node(doctor)),
        row(Group::Server, "help", 2, HELPFUL, "4.0.0",
            ("Show helpful text about the different subcommands", ""), Run::Connection(help)),
        row(Group::Server, "malloc-stats", 2, Flags::NONE, "4.0.0",
            ("Show allocator internal stats", ""), Run::Connection(malloc_stats)),
        row(Group::Server, "purge", 2, Flags::NONE, "4.0.0",
            ("Ask the allocator to release memory", ""), Run::Connection(purge)),
        row(Group::Server, "stats", 2, Flags::NONE, "4.0.0",
            ("Show memory usage details", ""), Run::Node(stats)),
        MEMORY_USAGE,
    ]);
