//! One shard: the commands of its keys, executed one batch after the other.
//!
//! [`ShardState`] is what the shard actor owns. It knows nothing of actors: a batch goes in, its
//! replies come out, and effects are left in the keyspace's journal.
//!
//! - [`batch`]: the commands of one connection for one shard, and their replies;
//! - [`holds`]: keys lent to a coordinator, for commands whose keys live on several shards;
//! - [`memory`]: what all shards use together, and the limit;
//! - [`moves`] and [`staging`]: partitions on their way to and from other nodes.

pub mod batch;
pub mod holds;
pub mod memory;
pub mod moves;
pub mod staging;

use std::collections::BTreeMap;
use std::sync::Arc;

use distcache_protocol::resp::ReplyBuffer;
use distcache_protocol::slot::slot_of;
use distcache_recovery::RecordCursor;

use crate::clock::{self, Ticks};
use crate::cluster::fault;
use crate::cluster::moves::Assignment;
use crate::cluster::table::PartitionId;
use crate::cluster::view::Ownership;
use crate::command::{Args, Command, CommandError, Flags, Run, TABLE};
use crate::keyspace::expiry::ExpirySlice;
use crate::keyspace::warm::Hint;
use crate::keyspace::{Keyspace, KeyspaceStats};
use crate::limits::{BATCH_REPLY_BYTES_MAX, JOURNAL_BYTES_MAX, WARMED_COMMANDS};
use crate::monitor::histogram::Histogram;
use crate::monitor::{Caller, Monitor};
use crate::oplog::LogStatus;
use crate::oplog::load::LoadBlock;
use crate::records::UnixMillis;
use crate::server::counters::count_error;
use batch::Batch;
use memory::MemoryGate;
use moves::ShardMoves;
use staging::Received;

/// Counters of one command, for `INFO commandstats`.
#[derive(Debug, Clone, Default)]
pub struct CommandStats {
    /// Times it was executed.
    pub calls: u64,
    /// Time it took, in steps of [`Ticks`].
    pub raw_ticks: u64,
    /// Times it was refused before it was executed.
    pub rejected: u64,
    /// Times it answered with an error.
    pub failed: u64,
    /// How its times are distributed.
    pub times: Histogram,
}

/// Why a shard has stopped executing a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paused {
    /// All its commands are executed.
    Done,
    /// Its replies are large enough to be written first.
    Replies,
    /// The journal is large enough to be handed over first.
    Journal,
    /// The next command must wait for the end of a hold.
    Blocked,
}

/// What a shard owns.
pub struct ShardState {
    /// The keys.
    pub keyspace: Keyspace,
    /// Counters by the command's index in the table.
    pub commands: Vec<CommandStats>,
    /// Error replies by code.
    pub errors: BTreeMap<String, u64>,
    /// Whether there is memory for more.
    pub memory: MemoryGate,
    monitor: Option<Arc<Monitor>>,
    log: Option<LogStatus>,
    ownership: Arc<Ownership>,
    /// Whether this node may serve anything in this turn.
    is_leased: bool,
    /// Partitions on their way.
    pub moves: ShardMoves,
    /// Time of this turn.
    now: UnixMillis,
    /// When the last command of this turn ended, and the next one begins.
    ticks: Ticks,
    /// Room for the hints of a turn.
    warmed: Vec<Hint>,
}

impl ShardState {
    /// Returns a shard with these keys; `log` is the state of the node's log, if it has one.
    pub fn new(mut keyspace: Keyspace, memory: MemoryGate, log: Option<LogStatus>) -> Self {
        keyspace.journal.set_enabled(log.is_some());
        let moves = ShardMoves::new(keyspace.shard());
        let commands = vec![CommandStats::default(); TABLE.len()];
        ShardState {
            keyspace,
            commands,
            errors: BTreeMap::new(),
            memory,
            monitor: None,
            log,
            ownership: Arc::default(),
            is_leased: true,
            moves,
            now: UnixMillis(0),
            ticks: Ticks::now(),
            warmed: Vec::new(),
        }
    }

    /// Tells the monitor what is slow from now on.
    pub fn set_monitor(&mut self, monitor: Arc<Monitor>) {
        self.memory.set_monitor(monitor.clone());
        self.monitor = Some(monitor);
    }

    /// Says where it stands which partitions this node serves; before that, it serves all.
    pub fn set_ownership(&mut self, ownership: Arc<Ownership>) {
        self.ownership = ownership;
    }

    /// Whether this node serves all of these keys.
    #[inline]
    pub fn serves<'a>(&self, mut keys: impl Iterator<Item = &'a [u8]>) -> bool {
        let serves = |key| self.ownership.serves(slot_of(key));
        self.is_leased && (self.ownership.is_whole() || keys.all(serves) || fault::is_off("owner"))
    }

    /// Whether this node serves a slot now.
    pub fn serves_slot(&self, slot: u16) -> bool {
        self.ownership.is_leased(Ticks::now()) && self.ownership.serves(slot)
    }

    /// Removes keys whose time is over, in a slice.
    pub fn expire_slice(&mut self) -> ExpirySlice {
        let start = Ticks::now();
        let slice = self.keyspace.expire_slice(clock::now());
        if let Some(monitor) = &self.monitor {
            monitor.note_event("expire-cycle", Ticks::now().since(start));
        }
        slice
    }

    #[cold]
    fn note_slow(&self, caller: Caller, command: Command, args: Args<'_>, raw_ticks: u64) {
        if let Some(monitor) = &self.monitor {
            monitor.note(caller, command, args, raw_ticks);
        }
    }

    /// Forgets what was counted (`CONFIG RESETSTAT`).
    pub fn reset_stats(&mut self) {
        self.commands.fill(CommandStats::default());
        self.errors.clear();
        // `writes` is no statistic: what changed since the last snapshot is told from it.
        let writes = self.keyspace.stats.writes;
        self.keyspace.stats = KeyspaceStats { writes, ..KeyspaceStats::default() };
    }

    /// Sets time, database and client of the commands that follow.
    pub fn begin(&mut self, database: u8, touching: bool) {
        self.keyspace.begin(clock::now(), database);
        self.keyspace.set_touching(touching);
        self.memory.refresh(&mut self.keyspace);
        self.is_leased = self.ownership.is_leased(Ticks::now());
    }

    /// Evicts some keys if memory is over its limit, which may have been lowered.
    pub fn relieve(&mut self) {
        self.memory.refresh(&mut self.keyspace);
        if self.memory.is_limited() {
            self.keyspace.begin(clock::now(), 0);
            self.memory.make_room(&mut self.keyspace);
        }
    }

    /// Sets the time of the batches that follow, and warms the cache for them all at once.
    pub fn begin_turn<'a>(&mut self, batches: impl Iterator<Item = &'a mut Batch>) {
        self.now = clock::now();
        self.memory.refresh(&mut self.keyspace);
        self.warm(batches, WARMED_COMMANDS);
        self.ticks = Ticks::now();
        self.is_leased = self.ownership.is_leased(self.ticks);
    }

    /// Warms the cache for the next commands of some batches, `most` at most of all together.
    fn warm<'a>(&mut self, batches: impl Iterator<Item = &'a mut Batch>, mut most: usize) {
        let mut warmed = std::mem::take(&mut self.warmed);
        warmed.clear();
        for batch in batches {
            let before = batch.hints.len();
            batch.add_hints(&self.keyspace, most);
            most -= batch.hints.len() - before;
            warmed.extend_from_slice(&batch.hints[before..]);
        }
        if warmed.len() > 1 {
            self.keyspace.warm(warmed.iter());
        }
        self.warmed = warmed;
    }

    /// Executes the commands of a batch that have not been executed yet, but for those whose keys
    /// this node does not serve, which get an empty reply; until all are done or something else
    /// must come first. `blocked` says whether the next one must wait.
    pub fn execute(
        &mut self,
        batch: &mut Batch,
        blocked: impl Fn(&Keyspace, &Batch) -> bool,
    ) -> Paused {
        self.keyspace.begin(self.now, batch.database);
        self.keyspace.set_touching(batch.touching);
        let slow = self.monitor.as_ref().map_or(u64::MAX, |monitor| monitor.threshold());
        let mut paused = Paused::Done;
        while let Some(&routed) = batch.commands.get(batch.executed) {
            if batch.replies.len() >= BATCH_REPLY_BYTES_MAX {
                paused = Paused::Replies;
                break;
            }
            if self.keyspace.journal.len() >= JOURNAL_BYTES_MAX {
                paused = Paused::Journal;
                break;
            }
            if batch.executed >= batch.hints.len() {
                self.warm(std::iter::once(&mut *batch), WARMED_COMMANDS);
            }
            if !self.serves(batch.next_keys()) {
                batch.ends.push(batch.replies.len());
                batch.executed += 1;
                batch.refused = true;
                continue;
            }
            if blocked(&self.keyspace, batch) {
                paused = Paused::Blocked;
                break;
            }
            let args = routed.args(&batch.requests);
            self.keyspace.expect(batch.hints.get(batch.executed).copied());
            let is_run = self.run(routed.command, args, &mut batch.replies);
            batch.ends.push(batch.replies.len());
            batch.executed += 1;
            if !is_run {
                continue;
            }
            let raw_ticks = self.account(routed.command);
            if raw_ticks >= slow {
                self.note_slow(batch.caller, routed.command, args, raw_ticks);
            }
        }
        self.keyspace.expect(None);
        self.publish_memory();
        paused
    }

    /// Runs a command, or refuses it, which is no run. Returns whether it was run.
    #[inline]
    fn run(&mut self, command: Command, args: Args<'_>, replies: &mut ReplyBuffer) -> bool {
        let Run::Keyspace(run) = command.spec.run else {
            unreachable!("only commands that run on keys are sent to shards")
        };
        if let Some(error) = self.refusal(command) {
            self.commands[command.index as usize].rejected += 1;
            error.write(replies);
            count_error(&mut self.errors, &error);
            self.ticks = Ticks::now();
            return false;
        }
        let before = replies.len();
        if let Err(error) = run(&mut self.keyspace, args, replies) {
            replies.truncate(before);
            error.write(replies);
            count_error(&mut self.errors, &error);
            self.commands[command.index as usize].failed += 1;
        }
        true
    }

    /// Why this shard may not execute a command now: a failed log, or a lack of memory.
    #[inline]
    pub fn refusal(&mut self, command: Command) -> Option<CommandError> {
        let flags = command.spec.flags;
        if !flags.has(Flags::WRITE) {
            return None;
        }
        if let Some(failure) = self.log.as_ref().and_then(LogStatus::failure) {
            return Some(CommandError::Refused(failure.into()));
        }
        if self.memory.is_limited() && !self.memory.make_room(&mut self.keyspace) {
            let denied = flags.has(Flags::DENY_OOM);
            return denied.then(|| CommandError::Refused(memory::OOM.into()));
        }
        None
    }

    /// Applies this shard's part of a block of the log.
    pub fn load(&mut self, block: LoadBlock) {
        self.tell_time();
        block.apply(&mut self.keyspace);
        self.free_removed();
        self.publish_memory();
    }

    /// Applies a coordinator's records that are about this shard's keys.
    pub fn apply_coordinated(&mut self, records: RecordCursor<'_>) {
        for record in records {
            let record = record.expect("this node encoded it a moment ago");
            if self.keyspace.owns(record.partition) {
                self.keyspace.apply_coordinated(&record);
            }
        }
        self.free_removed();
        self.publish_memory();
    }

    /// Takes over what the table says of some of this shard's partitions. Returns those whose
    /// commands need not wait any more.
    pub fn follow(&mut self, changes: &[(PartitionId, Assignment)]) -> Vec<PartitionId> {
        let followed = self.moves.follow(&mut self.keyspace, changes);
        free(followed.dropped);
        self.publish_memory();
        followed.thawed
    }

    /// Applies a chunk of a partition that this node receives.
    pub fn stage(&mut self, received: &Received) {
        self.tell_time();
        self.moves.staging.apply(received, &self.keyspace);
        self.publish_memory();
    }

    /// Keys that others' records bring count as used now.
    fn tell_time(&mut self) {
        self.memory.refresh(&mut self.keyspace);
        self.keyspace.begin(clock::now(), 0);
    }

    fn publish_memory(&mut self) {
        self.memory.set_staged(self.moves.staging.used_bytes());
        self.memory.publish(self.keyspace.used_bytes());
    }

    /// Lets another thread free what was flushed, so that nobody waits for it here.
    fn free_removed(&mut self) {
        free(self.keyspace.take_removed());
    }

    /// Counts a command that ends now, and returns the counter steps that it took.
    #[inline]
    fn account(&mut self, command: Command) -> u64 {
        let end = Ticks::now();
        let raw_ticks = end.raw_since(self.ticks);
        self.ticks = end;
        let stats = &mut self.commands[command.index as usize];
        stats.calls += 1;
        stats.raw_ticks += raw_ticks;
        if self.memory.config().latency_tracking {
            stats.times.add(raw_ticks);
        }
        raw_ticks
    }
}

/// Lets another thread drop what may be millions of keys.
fn free<T: Send + 'static>(removed: Vec<T>) {
    if !removed.is_empty() {
        // Where there can be no further thread, they are dropped at once.
        let _ = std::thread::Builder::new().name("free".to_owned()).spawn(move || drop(removed));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use distcache_protocol::resp::{DecodeLimits, Decoded, RequestDecoder, RespVersion};

    use distcache_recovery::{FrameBuilder, OpenMode, open};

    use super::batch::{Requests, Source};
    use super::memory::MemoryUsage;
    use super::*;
    use crate::cluster::moves::Part;
    use crate::cluster::table::{
        Announcement, ClusterId, Entry, Epoch, Incarnation, MoveId, NodeId, State, apply,
    };
    use crate::cluster::view::{Cluster, ClusterView};
    use crate::config::{LiveConfig, RawConfig};
    use crate::keyspace::{KeyHasher, ShardId, partition_of};
    use crate::oplog::load::{LoadProgress, load};
    use crate::records::{Operation, Record, StoredValue};

    /// A batch of these requests, none of which has a quoted argument.
    fn batch(requests: &[&str]) -> Batch {
        let mut batch = Batch::default();
        let mut input = Requests::default();
        let limits = DecodeLimits { bulk_bytes_max: 1 << 20, authenticated: true };
        for request in requests {
            let (base, first) = (input.bytes.len(), input.args.len());
            input.bytes.extend_from_slice(format!("{request}\r\n").as_bytes());
            let decoded = RequestDecoder::default()
                .decode(&mut input.bytes, base, &mut input.args, &limits)
                .unwrap();
            assert!(matches!(decoded, Decoded::Request { .. }));
            let command = TABLE.find(request.split(' ').next().unwrap().as_bytes()).unwrap();
            batch.push(command, first..input.args.len());
        }
        batch.replies.set_version(RespVersion::V2);
        batch.requests = Source::Own(input);
        batch
    }

    fn execute(state: &mut ShardState, requests: &[&str]) -> Vec<String> {
        let mut batch = batch(requests);
        state.begin_turn(std::iter::once(&mut batch));
        state.execute(&mut batch, |_, _| false);
        let mut start = 0;
        let reply = |end: &usize| {
            let reply = &batch.replies.as_bytes()[start..*end];
            start = *end;
            String::from_utf8_lossy(reply).trim_end().to_owned()
        };
        let replies: Vec<String> = batch.ends.iter().map(reply).collect();
        assert_eq!(batch.refused, replies.iter().any(String::is_empty));
        replies
    }

    fn state(usage: &Arc<MemoryUsage>) -> ShardState {
        let config = Arc::new(LiveConfig::new(RawConfig::default(), None).unwrap());
        let gate = MemoryGate::new(usage.clone(), 0, config);
        let keyspace = Keyspace::new(ShardId { index: 0, count: 1 }, 1, KeyHasher::new(1));
        ShardState::new(keyspace, gate, None)
    }

    fn table(owner_of_b: NodeId) -> State {
        let announcement = Announcement {
            incarnation: Incarnation(1),
            addresses: Default::default(),
            zone: String::new(),
            weight: 100,
            role: Default::default(),
        };
        let mut table = State::new();
        let (cluster, node) = (ClusterId(1), NodeId(1));
        let create = Entry::Create { cluster, node, announcement: announcement.clone() };
        apply(&mut table, 1, &create);
        apply(&mut table, 2, &Entry::NodeJoin { node: NodeId(2), announcement });
        table.partitions[usize::from(slot_of(b"b") / 16)].primary = Some(owner_of_b);
        table
    }

    #[test]
    fn a_journal_that_has_grown_is_handed_over_between_commands() {
        let mut state = state(&Arc::new(MemoryUsage::new(1)));
        state.keyspace.journal.set_enabled(true);
        let set = format!("SET k {}", "v".repeat(60_000));
        let mut batch = batch(&[&*set; 30]);
        state.begin_turn(std::iter::once(&mut batch));
        let mut handed_over = 0;
        while state.execute(&mut batch, |_, _| false) == Paused::Journal {
            let frame = state.keyspace.journal.take(Default::default());
            assert!((JOURNAL_BYTES_MAX..JOURNAL_BYTES_MAX + 61_000).contains(&frame.len()));
            handed_over += 1;
        }
        assert!(batch.is_done());
        assert_eq!((handed_over, batch.ends.len()), (3, 30));
    }

    #[test]
    fn loaded_keys_count_as_used_now() {
        let dir = tempfile::tempdir().unwrap();
        let load = |state: &RefCell<ShardState>| {
            let shards = [|block| state.borrow_mut().load(block)];
            let opened = open(dir.path(), OpenMode::Create).unwrap();
            load(opened, &shards, &LoadProgress::default()).unwrap().unwrap().0
        };
        let state = RefCell::new(state(&Arc::new(MemoryUsage::new(1))));
        let mut writer = load(&state);
        let mut frame = FrameBuilder::new();
        let (key, value) = (b"a".as_slice(), StoredValue::Integer(1));
        let operation = Operation::Put { key, value, deadline: None };
        let partition = partition_of(slot_of(key));
        frame.push(&Record { partition, database: 0, operation });
        writer.append(&mut frame, UnixMillis(1)).unwrap();
        writer.close().unwrap();

        load(&state);
        let keyspace = &mut state.borrow_mut().keyspace;
        assert_eq!(keyspace.inspect(key).unwrap().access(), keyspace.clock.fresh());
        assert_ne!(keyspace.clock.fresh(), 0);
    }

    #[test]
    fn what_is_received_counts_as_used_memory_also_when_room_is_made() {
        let usage = Arc::new(MemoryUsage::new(1));
        let mut state = state(&usage);
        let (partition, move_id, from) = (partition_of(slot_of(b"a")), MoveId(7), NodeId(2));
        let (epoch, owner, peer) = (Epoch(3), Some(from), Some(from));
        let assignment = Assignment { part: Part::Receives(move_id), epoch, owner, peer };
        state.follow(&[(partition, assignment)]);
        let mut frame = FrameBuilder::new();
        let value = StoredValue::String(&[0; 50_000]);
        let operation = Operation::Put { key: b"a", value, deadline: None };
        frame.push(&Record { partition, database: 0, operation });
        state.stage(&Received { partition, move_id, index: 0, from, log_failures: 0, frame });
        let used = usage.total();
        assert!(used > 50_000);
        state.memory.make_room(&mut state.keyspace);
        assert_eq!(usage.total(), used);
        state.follow(&[(partition, Assignment { part: Part::None, ..assignment })]);
        assert!(usage.total() < 50_000);
    }

    #[test]
    fn what_is_served_elsewhere_is_not_executed() {
        let view = |owner| ClusterView::new(NodeId(1), table(NodeId(owner)), true);
        let cluster = Cluster::new(view(1));
        let mut state = state(&Arc::new(MemoryUsage::new(1)));
        state.set_ownership(cluster.ownership().clone());

        assert_eq!(execute(&mut state, &["INCR a", "INCR b", "INCR a"]), [":1", ":1", ":2"]);
        cluster.publish(view(2));
        let refused = ["INCR a", "INCR b", "MSET a 7 b 7", "INCR a"];
        assert_eq!(execute(&mut state, &refused), [":3", "", "", ":4"]);
        cluster.publish(view(1));
        assert_eq!(execute(&mut state, &["GET b", "GET a"]), ["$1\r\n1", "$1\r\n4"]);
    }
}
