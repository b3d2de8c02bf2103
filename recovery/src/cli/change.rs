//! Records as text for people and as JSON for programs.

use distcache_recovery::state::Item;
use distcache_recovery::{Operation, SequenceNumber, UnixMillis};
use serde_json::{Map, Value as Json, json};

use super::format::{Style, bytes_json, quoted, stored};
use super::source::Located;
use super::time::Clock;

/// The operation that stands for a key of a snapshot.
pub(super) const SNAPSHOT: &str = "snapshot";

/// Prints changes of the log.
#[derive(Clone, Debug)]
pub(super) struct Printer {
    pub(super) style: Style,
    pub(super) clock: Clock,
}

impl Printer {
    /// Returns a record as a line of text, without its end.
    pub(super) fn text(&self, located: &Located<'_>) -> String {
        let record = &located.record;
        let mut line = self.place(located.sequence, located.written);
        let name = name(located);
        let database = match record.operation.is_move() {
            true => "    ".to_owned(),
            false => format!("db{:<2}", record.database),
        };
        line.push_str(&format!("  p{:<4} {database} {name:<12}", record.partition));
        if let Some(key) = record.operation.key() {
            line.push(' ');
            line.push_str(&quoted(key));
        }
        line.push_str(&self.detail(&record.operation));
        line.truncate(line.trim_end().len());
        line
    }

    /// Returns the columns that say where and when.
    pub(super) fn place(&self, sequence: Option<SequenceNumber>, written: UnixMillis) -> String {
        let sequence = sequence.map_or("-".to_owned(), |sequence| sequence.to_string());
        format!("{sequence:>10}  {}", self.clock.show(written))
    }

    /// Returns what an operation does, its key aside.
    pub(super) fn detail(&self, operation: &Operation<'_>) -> String {
        match *operation {
            Operation::Put { value, deadline, .. } => {
                let value = self.style.value_text(value);
                match deadline {
                    Some(_) => format!(" = {value}  expires {}", self.deadline(deadline)),
                    None => format!(" = {value}"),
                }
            }
            Operation::SetDeadline { deadline, .. } => {
                format!(" expires {}", self.deadline(deadline))
            }
            Operation::Append { bytes, .. } => format!(" + {}", self.style.bytes_text(bytes)),
            Operation::WriteRange { offset, bytes, .. } => {
                format!(" at {offset} {}", self.style.bytes_text(bytes))
            }
            Operation::Swap { other } => format!(" with db{other}"),
            Operation::MoveIn { epoch, from } | Operation::Own { epoch, from } => {
                format!(" from node {}  epoch {epoch}", node_id(from))
            }
            Operation::MoveOut { epoch, to } => {
                format!(" to node {}  epoch {epoch}", node_id(to))
            }
            Operation::Delete { .. } | Operation::Flush => String::new(),
        }
    }

    /// Returns a key's value and deadline as text.
    pub(super) fn item(&self, item: &Item) -> String {
        let value = self.style.value_text(stored(&item.value));
        match item.deadline {
            Some(_) => format!("{value}  expires {}", self.deadline(item.deadline)),
            None => value,
        }
    }

    fn deadline(&self, deadline: Option<UnixMillis>) -> String {
        deadline.map_or("never".to_owned(), |deadline| self.clock.show(deadline))
    }

    /// Returns a record as a JSON object.
    pub(super) fn json(&self, located: &Located<'_>) -> Map<String, Json> {
        let record = &located.record;
        let mut members = place_json(located.sequence, located.written);
        members.insert("partition".to_owned(), json!(record.partition));
        let database = (!record.operation.is_move()).then_some(record.database);
        members.insert("database".to_owned(), json!(database));
        members.insert("operation".to_owned(), json!(name(located)));
        if let Some(key) = record.operation.key() {
            members.insert("key".to_owned(), bytes_json(key));
        }
        let details = match record.operation {
            Operation::Put { value, deadline, .. } => {
                vec![("value", self.style.value_json(value)), ("deadline_ms", json!(deadline))]
            }
            Operation::SetDeadline { deadline, .. } => vec![("deadline_ms", json!(deadline))],
            Operation::Append { bytes, .. } => vec![("bytes", bytes_json(bytes))],
            Operation::WriteRange { offset, bytes, .. } => {
                vec![("offset", json!(offset)), ("bytes", bytes_json(bytes))]
            }
            Operation::Swap { other } => vec![("other", json!(other))],
            Operation::MoveIn { epoch, from } | Operation::Own { epoch, from } => {
                vec![("epoch", json!(epoch)), ("from", json!(node_id(from)))]
            }
            Operation::MoveOut { epoch, to } => {
                vec![("epoch", json!(epoch)), ("to", json!(node_id(to)))]
            }
            Operation::Delete { .. } | Operation::Flush => vec![],
        };
        members.extend(details.into_iter().map(|(name, value)| (name.to_owned(), value)));
        members
    }

    /// Returns a key's value and deadline as a JSON object.
    pub(super) fn item_json(&self, item: &Item) -> Json {
        let value = self.style.value_json(stored(&item.value));
        json!({ "value": value, "deadline_ms": item.deadline })
    }
}

/// Returns the members that say where and when.
pub(super) fn place_json(
    sequence: Option<SequenceNumber>,
    written: UnixMillis,
) -> Map<String, Json> {
    let mut members = Map::new();
    members.insert("sequence".to_owned(), json!(sequence));
    members.insert("time".to_owned(), time_json(written));
    members.insert("unix_ms".to_owned(), json!(written));
    members
}

/// Returns a time in the form of RFC 3339, in UTC; beyond year 9999 there is none.
pub(super) fn time_json(time: UnixMillis) -> Json {
    let millis = i64::try_from(time.0).ok();
    let timestamp = millis.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    json!(timestamp.map(|timestamp| format!("{timestamp:.3}")))
}

/// Returns a node's id in the form in which everything shows it.
pub(super) fn node_id(node: u64) -> String {
    format!("{node:016x}")
}

fn name(located: &Located<'_>) -> &'static str {
    // Beside the keys that were copied, a snapshot holds what changed behind the copy, pieces of
    // long values, and that a partition was received and not served yet.
    match (located.sequence, &located.record.operation) {
        (None, Operation::Put { .. }) => SNAPSHOT,
        (_, operation) => operation.name(),
    }
}
