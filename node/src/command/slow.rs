//! `SLOWLOG` and `LATENCY`: what took long.

use distcache_protocol::resp::ReplyBuffer;
use distcache_protocol::resp::decode::parse_integer;

use super::error::shown;
use super::info::Figures;
use super::row::{Docs, container, reply_help, row};
use super::{
    Args, CommandError, CommandFuture, CommandResult, CommandSpec, Flags, Group, Run, TABLE, help,
};
use crate::clock;
use crate::server::session::Session;

/// Entries that `SLOWLOG GET` returns when it is not told how many.
const ENTRIES_DEFAULT: usize = 10;

/// `SLOWLOG GET [count]`
fn get(session: &mut Session, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    if args.len() > 3 {
        return Err(CommandError::subcommand("SLOWLOG", args.at(1)));
    }
    let count = match args.get(2).map(parse_integer) {
        None => ENTRIES_DEFAULT,
        Some(Some(-1)) => usize::MAX,
        Some(Some(count)) if count >= 0 => usize::try_from(count).unwrap_or(usize::MAX),
        Some(_) => {
            let text = "count should be greater than or equal to -1";
            return Err(CommandError::err(text));
        }
    };
    let entries = session.node.monitor.slowlog.newest(count);
    reply.array(entries.len());
    for entry in entries {
        reply.array(6);
        reply.integer(entry.id as i64);
        reply.integer(entry.time_s as i64);
        reply.integer(entry.micros as i64);
        reply.array(entry.args.len());
        entry.args.iter().for_each(|arg| reply.bulk(arg));
        reply.bulk(entry.address.as_bytes());
        reply.bulk(&entry.name);
    }
    Ok(())
}

/// `SLOWLOG LEN`
fn len(session: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply.integer(session.node.monitor.slowlog.len() as i64);
    Ok(())
}

/// `SLOWLOG RESET`
fn reset(session: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    session.node.monitor.slowlog.reset();
    reply.ok();
    Ok(())
}

/// `SLOWLOG HELP`
fn slowlog_help(_: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply_help(reply, "SLOWLOG", help::SLOWLOG)
}

/// `LATENCY LATEST`
fn latest(session: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let events = session.node.monitor.latency.all();
    reply.array(events.len());
    for (event, series) in events {
        let last = series.samples.back().copied();
        reply.array(4);
        reply.bulk(event.as_bytes());
        reply.integer(last.map_or(0, |sample| sample.time_s as i64));
        reply.integer(last.map_or(0, |sample| sample.millis as i64));
        reply.integer(series.max_ms as i64);
    }
    Ok(())
}

/// `LATENCY HISTORY event`
fn history(session: &mut Session, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let event = String::from_utf8_lossy(args.at(2));
    let samples = session.node.monitor.latency.samples(&event);
    reply.array(samples.len());
    for sample in samples {
        reply.array(2);
        reply.integer(sample.time_s as i64);
        reply.integer(sample.millis as i64);
    }
    Ok(())
}

/// `LATENCY GRAPH event`
fn graph(session: &mut Session, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let event = String::from_utf8_lossy(args.at(2));
    let series = session.node.monitor.latency.series(&event).ok_or_else(|| {
        let event = shown(args.at(2), usize::MAX);
        CommandError::Bytes([b"ERR No samples available for event '", event, b"'"].concat())
    })?;
    reply.verbatim(series.graph(&event, clock::now().0 / 1000).as_bytes());
    Ok(())
}

/// `LATENCY HISTOGRAM [command [command ...]]`
fn histogram<'a>(
    session: &'a mut Session,
    args: Args<'a>,
    reply: &'a mut ReplyBuffer,
) -> CommandFuture<'a> {
    Box::pin(async move {
        let figures = Figures::gather(&session.node).await?;
        let wanted: Vec<String> =
            args.from(2).map(|name| String::from_utf8_lossy(name).to_ascii_lowercase()).collect();
        // A container's name stands for all its subcommands.
        let names = |name: &str| {
            let container = name.split('|').next();
            wanted.is_empty()
                || wanted.iter().any(|one| one == name || container == Some(one.as_str()))
        };
        let counted: Vec<_> = (0..)
            .zip(&figures.commands)
            .map(|(index, stats)| (TABLE.full_name(index), &stats.times))
            .filter(|(name, times)| times.count() > 0 && names(name))
            .collect();
        reply.map(counted.len());
        for (name, times) in counted {
            reply.bulk(name.as_bytes());
            reply.map(2);
            reply.bulk(b"calls");
            reply.integer(times.count() as i64);
            reply.bulk(b"histogram_usec");
            let cumulative = times.cumulative();
            reply.map(cumulative.len());
            for (micros, count) in cumulative {
                reply.integer(micros as i64);
                reply.integer(count as i64);
            }
        }
        Ok(())
    })
}

/// `LATENCY RESET [event [event ...]]`
fn latency_reset(session: &mut Session, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let latency = &session.node.monitor.latency;
    let count = if args.len() == 2 {
        latency.reset(None)
    } else {
        args.from(2).map(|event| latency.reset(Some(&String::from_utf8_lossy(event)))).sum()
    };
    reply.integer(count as i64);
    Ok(())
}

/// `LATENCY DOCTOR`
fn doctor(session: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    use std::fmt::Write;
    let events = session.node.monitor.latency.all();
    let mut text = String::new();
    if session.config.latency_threshold_ms == 0 {
        text.push_str(
            "Latency monitoring is off. CONFIG SET latency-monitor-threshold <milliseconds> \
             turns it on.\n",
        );
    } else if events.is_empty() {
        text.push_str("No event has taken longer than latency-monitor-threshold.\n");
    }
    for (event, series) in events {
        let count = series.samples.len();
        let sum: u64 = series.samples.iter().map(|sample| sample.millis).sum();
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{event}: {count} latency spikes (average {} ms), worst {} ms.",
            sum / count.max(1) as u64,
            series.max_ms
        );
    }
    reply.verbatim(text.as_bytes());
    Ok(())
}

/// `LATENCY HELP`
fn latency_help(_: &mut Session, _: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    reply_help(reply, "LATENCY", help::LATENCY)
}

type Function = fn(&mut Session, Args<'_>, &mut ReplyBuffer) -> CommandResult;

const HELPFUL: Flags = Flags::LOADING.and(Flags::STALE);
const BASE: Flags = HELPFUL.and(Flags::ADMIN);
const LATENCY: Flags = BASE.and(Flags::NOSCRIPT);

const fn sub(
    name: &'static str,
    arity: i16,
    flags: Flags,
    since: &'static str,
    docs: Docs,
    run: Function,
) -> CommandSpec {
    row(Group::Server, name, arity, flags, since, docs, Run::Connection(run))
}

#[rustfmt::skip]
pub(super) const SPECS: &[CommandSpec] = &[
    container(Group::Server, "latency", "2.8.13", "A container for latency diagnostics commands", &[
        sub("doctor", 2, LATENCY, "2.8.13",
            ("Return a human readable latency analysis report.", ""), doctor),
        sub("graph", 3, LATENCY, "2.8.13",
            ("Return a latency graph for the event.", "event"), graph),
        sub("help", 2, HELPFUL, "2.8.13",
            ("Show helpful text about the different subcommands.", ""), latency_help),
        row(Group::Server, "histogram", -2, LATENCY, "7.0.0",
            ("Return the cumulative distribution of latencies of a subset of commands or all.",
            "[command [command ...]]"), Run::Node(histogram)),
        sub("history", 3, LATENCY, "2.8.13",
            ("Return timestamp-latency samples for the event.", "event"), history),
        sub("latest", 2, LATENCY, "2.8.13",
            ("Return the latest latency samples for all events.", ""), latest),
        sub("reset", -2, LATENCY, "2.8.13",
            ("Reset latency data for one or more events.", "[event [event ...]]"), latency_reset),
    ]),
    container(Group::Server, "slowlog", "2.2.12", "A container for slow log commands", &[
        sub("get", -2, BASE, "2.2.12", ("Get the slow log's entries", "[count]"), get),
        sub("help", 2, HELPFUL, "6.2.0",
            ("Show helpful text about the different subcommands", ""), slowlog_help),
        sub("len", 2, BASE, "2.2.12", ("Get the slow log's length", ""), len),
        sub("reset", 2, BASE, "2.2.12", ("Clear all entries from the slow log", ""), reset),
    ]),
];
