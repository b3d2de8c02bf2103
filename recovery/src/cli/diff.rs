//! `diff`: how the keyspace differs between two points of the log.

use std::cmp::Ordering;
use std::io::{self, Write};

use clap::{Arg, ArgMatches, Command};
use distcache_recovery::state::{Item, Keyspace};
use serde_json::json;

use super::change::Printer;
use super::filter::KeyFilter;
use super::format::{bytes_json, quoted};
use super::rebuild::{Entry, Rebuild, live, locate};
use super::source::Source;
use super::{Format, Outcome, Session, ended, format_option, style_options};

const EXAMPLES: &str = "\
Examples:
  distcache-log diff ./distcache-data --from 1000 --to 2000
  distcache-log diff ./distcache-data --from 10:00 --to 10:15 --key 'user:*'
  distcache-log diff ./distcache-data --from -1h --format json

At a sequence number: right after that record. At a time: after all that was written until then.
Text begins with + for a new key, - for one that is gone, ~ for one that has changed.
A JSON object has the members database, partition, key, change (added, removed, changed), before
and after. A key whose deadline has passed counts as gone, and one that is received from another
node counts only from when its partition is served. The keyspace is held in memory twice.";

pub(super) fn command() -> Command {
    let point = |name: &'static str| {
        Arg::new(name).long(name).value_name("SEQ|TIME").allow_hyphen_values(true)
    };
    Command::new("diff")
        .about("Prints how the keys differ between two points of the log")
        .after_help(EXAMPLES)
        .arg(point("from").help("The earlier point").required(true))
        .arg(point("to").help("The later point; 'end' is the end of the log").default_value("end"))
        .args(KeyFilter::options())
        .arg(format_option(&["text", "json"]))
        .args(style_options())
}

pub(super) fn run(
    session: &Session,
    matches: &ArgMatches,
    out: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let point = |name| {
        let text = matches.get_one::<String>(name).expect("it is required or has a default");
        session.clock.parse_point(text)
    };
    let points = [point("from")?, point("to")?];
    let filter = KeyFilter::new(matches);
    let source = Source::open(session)?;
    let ([from, to], plan) = locate(&source, session, points)?;
    anyhow::ensure!(
        from.end <= to.end,
        "--from is record {} and so after --to, which is record {}",
        from.end,
        to.end
    );
    let mut rebuild = Rebuild::new(&source, plan)?;
    rebuild.advance(from)?;
    let before = rebuild.keyspace.clone();
    rebuild.advance(to)?;
    note_received(session, &before, &rebuild.keyspace);
    let printer = Printer { style: session.style, clock: session.clock.clone() };
    let mut wanted = changes(live(&before, from), live(&rebuild.keyspace, to)).filter(|change| {
        let (database, partition, key) = change.place;
        filter.takes(database, partition, Some(key))
    });
    let written = wanted.try_for_each(|change| match session.format {
        Format::Json => write_json(&printer, &change, out),
        Format::Text | Format::Resp => write_text(&printer, &change, out),
    });
    drop(wanted);
    let written = written.and_then(|()| out.flush());
    ended(written.map_err(Into::into), rebuild.finish())
}

fn note_received(session: &Session, before: &Keyspace, after: &Keyspace) {
    let [from, to] = [before, after].map(|keyspace| keyspace.received().count());
    if from + to > 0 {
        session.note(&format!(
            "partitions that were received and not served yet are left out: {from} at --from, \
             {to} at --to"
        ));
    }
}

/// A key that differs.
struct Change<'a> {
    place: (u8, distcache_recovery::PartitionId, &'a [u8]),
    before: Option<&'a Item>,
    after: Option<&'a Item>,
}

/// Merges two lists of keys in the same order and keeps what differs.
fn changes<'a>(
    before: impl Iterator<Item = Entry<'a>>,
    after: impl Iterator<Item = Entry<'a>>,
) -> impl Iterator<Item = Change<'a>> {
    let (mut before, mut after) = (before.peekable(), after.peekable());
    let place = |entry: &Entry<'a>| (entry.0, entry.1, entry.2);
    let merged = std::iter::from_fn(move || {
        let order = match (before.peek(), after.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => place(old).cmp(&place(new)),
        };
        let old = if order.is_le() { before.next() } else { None };
        let new = if order.is_ge() { after.next() } else { None };
        let place = place(old.as_ref().or(new.as_ref())?);
        Some(Change { place, before: old.map(|entry| entry.3), after: new.map(|entry| entry.3) })
    });
    merged.filter(|change| match (change.before, change.after) {
        (Some(old), Some(new)) => {
            // An integer and its text are the same to every client.
            old.deadline != new.deadline || old.value.to_bytes() != new.value.to_bytes()
        }
        _ => true,
    })
}

fn write_text(printer: &Printer, change: &Change<'_>, out: &mut dyn Write) -> io::Result<()> {
    let (database, partition, key) = change.place;
    let place = format!("p{partition:<4} db{database:<2} {}", quoted(key));
    match (change.before, change.after) {
        (None, Some(new)) => writeln!(out, "+ {place} = {}", printer.item(new)),
        (Some(old), None) => writeln!(out, "- {place} = {}", printer.item(old)),
        (Some(old), Some(new)) => {
            writeln!(out, "~ {place} = {}  ->  {}", printer.item(old), printer.item(new))
        }
        (None, None) => Ok(()),
    }
}

fn write_json(printer: &Printer, change: &Change<'_>, out: &mut dyn Write) -> io::Result<()> {
    let (database, partition, key) = change.place;
    let name = match (change.before, change.after) {
        (None, _) => "added",
        (_, None) => "removed",
        _ => "changed",
    };
    let item = |item: Option<&Item>| item.map(|item| printer.item_json(item));
    let object = json!({
        "database": database,
        "partition": partition,
        "key": bytes_json(key),
        "change": name,
        "before": item(change.before),
        "after": item(change.after),
    });
    writeln!(out, "{object}")
}
