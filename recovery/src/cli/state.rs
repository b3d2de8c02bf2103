//! `state`: the keyspace as it stood at a point of the log.

use std::io::{self, Write};

use clap::{Arg, ArgMatches, Command};
use distcache_recovery::state::Keyspace;
use serde_json::json;

use super::change::Printer;
use super::filter::KeyFilter;
use super::format::{bytes_json, quoted};
use super::rebuild::{Entry, Moment, Rebuild, live, locate};
use super::source::Source;
use super::{Format, Outcome, Session, ended, format_option, style_options};

const EXAMPLES: &str = "\
Examples:
  distcache-log state ./distcache-data
  distcache-log state ./distcache-data --at 4711 --key 'user:*'
  distcache-log state ./distcache-data --at 2026-11-22T10:00:00Z --format json
  distcache-log state ./distcache-data --at -15m --format resp | redis-cli -p 2050 --pipe

At a sequence number: right after that record. At a time: after all that was written until then.
Left out are keys whose deadline had passed, and partitions that were received from another node
and not served yet. The keyspace is held in memory.
With --format resp the output is SELECT and SET commands, exact for all keys and values; deadlines
are given as PXAT, so that keys that have expired meanwhile do not come back.";

pub(super) fn command() -> Command {
    Command::new("state")
        .about("Prints all keys as they stood at a point of the log")
        .after_help(EXAMPLES)
        .arg(
            Arg::new("at")
                .long("at")
                .value_name("SEQ|TIME")
                .help("At which point; 'end' is the end of the log")
                .allow_hyphen_values(true)
                .default_value("end"),
        )
        .args(KeyFilter::options())
        .arg(format_option(&["text", "json", "resp"]))
        .args(style_options())
}

pub(super) fn run(
    session: &Session,
    matches: &ArgMatches,
    out: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let at = matches.get_one::<String>("at").expect("it has a default");
    let point = session.clock.parse_point(at)?;
    let filter = KeyFilter::new(matches);
    let source = Source::open(session)?;
    let ([moment], plan) = locate(&source, session, [point])?;
    let mut rebuild = Rebuild::new(&source, plan)?;
    rebuild.advance(moment)?;
    note_moment(session, moment, &rebuild.keyspace);
    let mut writer = Writer {
        printer: Printer { style: session.style, clock: session.clock.clone() },
        format: session.format,
        selected: None,
    };
    let mut wanted = live(&rebuild.keyspace, moment)
        .filter(|&(database, partition, key, _)| filter.takes(database, partition, Some(key)));
    let written = wanted.try_for_each(|entry| writer.write(&entry, out)).and_then(|()| out.flush());
    drop(wanted);
    ended(written.map_err(Into::into), rebuild.finish())
}

fn note_moment(session: &Session, moment: Moment, keyspace: &Keyspace) {
    let time = session.clock.show(moment.time);
    let served = keyspace.iter().filter(|(_, partition, _, _)| !keyspace.is_received(*partition));
    let live = live(keyspace, moment).count();
    let expired = match served.count() - live {
        0 => String::new(),
        expired => format!(", without {expired} whose deadline had passed"),
    };
    session.note(&format!("state before record {} ({time}): {live} keys{expired}", moment.end));
    let received = keyspace.received().count();
    if received > 0 {
        session.note(&format!(
            "partitions that were received and not served yet are left out: {received}"
        ));
    }
}

struct Writer {
    printer: Printer,
    format: Format,
    /// The database that the commands so far have selected.
    selected: Option<u8>,
}

impl Writer {
    fn write(&mut self, entry: &Entry<'_>, out: &mut dyn Write) -> io::Result<()> {
        let (database, partition, key, item) = *entry;
        match self.format {
            Format::Text => {
                let item = self.printer.item(item);
                writeln!(out, "p{partition:<4} db{database:<2} {} = {item}", quoted(key))
            }
            Format::Json => {
                let mut object = json!({
                    "database": database, "partition": partition, "key": bytes_json(key),
                });
                object["value"] = self.printer.item_json(item)["value"].take();
                object["deadline_ms"] = json!(item.deadline);
                writeln!(out, "{object}")
            }
            Format::Resp => {
                if self.selected != Some(database) {
                    write_command(&[b"SELECT", database.to_string().as_bytes()], out)?;
                    self.selected = Some(database);
                }
                let value = item.value.to_bytes();
                let deadline = item.deadline.map(|deadline| deadline.to_string());
                match &deadline {
                    None => write_command(&[b"SET", key, &value], out),
                    Some(deadline) => {
                        write_command(&[b"SET", key, &value, b"PXAT", deadline.as_bytes()], out)
                    }
                }
            }
        }
    }
}

/// Writes a command in the form of the Redis protocol: an array of bulk strings.
fn write_command(arguments: &[&[u8]], out: &mut dyn Write) -> io::Result<()> {
    write!(out, "*{}\r\n", arguments.len())?;
    for argument in arguments {
        write!(out, "${}\r\n", argument.len())?;
        out.write_all(argument)?;
        out.write_all(b"\r\n")?;
    }
    Ok(())
}
