//! Commands that took long, with their arguments.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock;
use crate::command::{Args, Command, Flags, TABLE};

/// Arguments of an entry; of more, the last place says how many (Redis:
/// `SLOWLOG_ENTRY_MAX_ARGC`).
const ARGUMENTS_MAX: usize = 32;

/// Bytes of an argument; of more, the end says how many (Redis: `SLOWLOG_ENTRY_MAX_STRING`).
const ARGUMENT_BYTES_MAX: usize = 128;

/// One slow command.
#[derive(Debug, Clone, Default)]
pub struct SlowEntry {
    /// Its number, never used again.
    pub id: u64,
    /// When it ended, Unix seconds.
    pub time_s: u64,
    /// How long it took, in microseconds.
    pub micros: u64,
    /// Its arguments, shortened; secret ones are left out.
    pub args: Vec<Vec<u8>>,
    /// The client's address, or that of the node which has sent it on.
    pub address: String,
    /// The client's name, shortened as an argument.
    pub name: Vec<u8>,
}

/// The slow commands, the newest first.
#[derive(Debug, Default)]
pub struct SlowLog {
    entries: Mutex<VecDeque<SlowEntry>>,
    next_id: AtomicU64,
    limit: AtomicU64,
}

impl SlowLog {
    /// Sets how many entries are kept.
    pub fn set_limit(&self, entries: u64) {
        self.limit.store(entries, Ordering::Relaxed);
        self.lock().truncate(usize::try_from(entries).unwrap_or(usize::MAX));
    }

    /// Adds a command that has just ended; the entry's number and time follow from that.
    pub(super) fn add(&self, entry: SlowEntry) {
        let limit = usize::try_from(self.limit.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let entry = SlowEntry { id, time_s: clock::now().0 / 1000, ..entry };
        let mut entries = self.lock();
        entries.push_front(entry);
        entries.truncate(limit);
    }

    /// Returns the newest entries, `count` at most.
    pub fn newest(&self, count: usize) -> Vec<SlowEntry> {
        self.lock().iter().take(count).cloned().collect()
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Forgets all entries.
    pub fn reset(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<SlowEntry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn shortened(command: Command, args: Args<'_>) -> Vec<Vec<u8>> {
    // The name, and that of the subcommand.
    let names = 1 + usize::from(TABLE.full_name(command.index).contains('|'));
    let secret = command.spec.flags.has(Flags::SKIP_SLOWLOG);
    let shown = if args.len() > ARGUMENTS_MAX { ARGUMENTS_MAX - 1 } else { args.len() };
    let mut list: Vec<Vec<u8>> = (0..shown)
        .map(|at| if secret && at >= names { b"(redacted)".to_vec() } else { short(args.at(at)) })
        .collect();
    if shown < args.len() {
        list.push(format!("... ({} more arguments)", args.len() - shown).into_bytes());
    }
    list
}

pub(super) fn short(argument: &[u8]) -> Vec<u8> {
    match argument.split_at_checked(ARGUMENT_BYTES_MAX) {
        Some((start, rest)) if !rest.is_empty() => {
            [start, format!("... ({} more bytes)", rest.len()).as_bytes()].concat()
        }
        _ => argument.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use distcache_protocol::resp::ArgRange;

    use super::*;

    fn shown(name: &str, words: &[&[u8]]) -> Vec<String> {
        let mut commands = (0..TABLE.len() as u16).map(|index| TABLE.at(index));
        let command = commands.find(|c| TABLE.full_name(c.index) == name).unwrap();
        let mut start = 0;
        let ranges: Vec<ArgRange> = words
            .iter()
            .map(|word| {
                start += word.len() as u32;
                ArgRange { start: start - word.len() as u32, end: start }
            })
            .collect();
        let text = words.concat();
        let args = shortened(command, Args::new(&text, &ranges));
        args.into_iter().map(|arg| String::from_utf8(arg).unwrap()).collect()
    }

    #[test]
    fn arguments_are_shortened_as_redis_does() {
        let long = [b'x'; 130];
        let expected = format!("{}... (2 more bytes)", "x".repeat(128));
        assert_eq!(shown("get", &[b"GET", &long]), ["GET", &expected]);
        let many = [&b"a"[..]; 40];
        let list = shown("del", &many);
        assert_eq!((list.len(), list[31].as_str()), (32, "... (9 more arguments)"));
        assert_eq!(shown("del", &many[..32]).len(), 32);
    }

    #[test]
    fn secrets_are_left_out() {
        assert_eq!(shown("auth", &[b"AUTH", b"secret"]), ["AUTH", "(redacted)"]);
        let set = shown("config|set", &[b"CONFIG", b"SET", b"requirepass", b"secret"]);
        assert_eq!(set, ["CONFIG", "SET", "(redacted)", "(redacted)"]);
        let hello = shown("hello", &[b"HELLO", b"3", b"AUTH", b"default", b"secret"]);
        assert!(!hello.contains(&"secret".to_owned()));
    }
}
