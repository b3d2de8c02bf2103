//! Histories of a pretended node with four partitions, and what must come back of them.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use distcache_recovery::state::Keyspace;
use distcache_recovery::{
    DeleteCause, Epoch, FrameBuilder, LogError, LogWriter, Operation, PartitionId, Record, Replay,
    SequenceNumber, StoredValue, TrimProgress, UnixMillis, VerifyReport,
};

pub const NOW: UnixMillis = UnixMillis(1_764_000_000_000);

/// A small generator of pseudo-random numbers: the same seed gives the same history.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

/// One step of a node.
#[derive(Clone, Debug)]
pub enum Step {
    /// A frame of records, given by their seeds.
    Append(Vec<u64>),
    Sync,
    /// The whole snapshot of a partition, in chunks of so many keys.
    Snapshot(u16, usize),
    /// A snapshot begun and given up.
    Abandon(u16),
    Trim,
}

/// A node's log and what its memory holds.
pub struct Model {
    pub log: LogWriter,
    pub state: Keyspace,
    /// The state after each record that was appended, from record 0 on; the oldest first.
    pub history: Vec<Keyspace>,
}

impl Model {
    pub fn new(log: LogWriter, state: Keyspace) -> Self {
        let history = vec![state.clone()];
        Self { log, state, history }
    }

    pub fn run(&mut self, step: &Step) -> Result<(), LogError> {
        match step {
            Step::Append(seeds) => self.append(seeds),
            Step::Sync => self.log.sync(),
            Step::Snapshot(partition, chunk) => self.snapshot(PartitionId(*partition), *chunk),
            Step::Abandon(partition) => {
                let mut chunk = self.chunks(PartitionId(*partition), 1);
                if let Some(chunk) = chunk.first_mut() {
                    self.log.write_chunk(PartitionId(*partition), chunk, NOW)?;
                }
                self.log.abandon_snapshot(PartitionId(*partition))
            }
            Step::Trim => {
                while self.log.trim(3, NOW)? == TrimProgress::More {}
                Ok(())
            }
        }
    }

    fn append(&mut self, seeds: &[u64]) -> Result<(), LogError> {
        let mut frame = FrameBuilder::new();
        let mut states = Vec::new();
        let mut state = self.state.clone();
        for seed in seeds {
            with_record(*seed, |record| {
                frame.push(record);
                state.apply(record).unwrap();
            });
            states.push(state.clone());
        }
        // Before it is known to be stored: a refused frame may be there after a crash.
        self.history.extend(states);
        self.log.append(&mut frame, NOW)?;
        self.state = state;
        Ok(())
    }

    fn snapshot(&mut self, partition: PartitionId, chunk: usize) -> Result<(), LogError> {
        for mut chunk in self.chunks(partition, chunk) {
            self.log.write_chunk(partition, &mut chunk, NOW)?;
        }
        self.log.commit_snapshot(partition, Epoch(1), NOW).map(|_| ())
    }

    fn chunks(&self, partition: PartitionId, size: usize) -> Vec<FrameBuilder> {
        let mut chunks = vec![];
        // That it is not served yet must be known without the records before the cut.
        if self.state.is_received(partition) {
            let operation = Operation::MoveIn { epoch: 1, from: 1 };
            let mut chunk = FrameBuilder::new();
            chunk.push(&Record { partition, database: 0, operation });
            chunks.push(chunk);
        }
        for (database, found, key, item) in self.state.iter() {
            if found != partition {
                continue;
            }
            let value = item.value.to_bytes();
            let value = StoredValue::String(&value);
            let operation = Operation::Put { key, value, deadline: item.deadline };
            if chunks.last().is_none_or(|last: &FrameBuilder| last.count() as usize >= size) {
                chunks.push(FrameBuilder::new());
            }
            chunks.last_mut().unwrap().push(&Record { partition, database, operation });
        }
        chunks
    }
}

/// Makes the record of a seed.
pub fn with_record(seed: u64, mut take: impl FnMut(&Record<'_>)) {
    let mut random = Random::new(seed);
    let partition = PartitionId(random.below(4) as u16 * 341);
    let database = random.below(2) as u8;
    let key = format!("key:{}:{}", partition.0, random.below(12));
    let len = if random.below(40) == 0 { 40_000 } else { random.below(80) };
    let bytes: Vec<u8> = (0..len).map(|_| random.below(256) as u8).collect();
    let key = key.as_bytes();
    let deadline = (random.below(3) == 0).then_some(UnixMillis(random.below(1 << 50)));
    let (epoch, node) = (seed >> 8, seed);
    let operation = match random.below(43) {
        0..=17 => Operation::Put { key, value: StoredValue::String(&bytes), deadline },
        18..=22 => {
            let value = StoredValue::Integer(random.below(u64::MAX / 2) as i64);
            Operation::Put { key, value, deadline }
        }
        23..=27 => Operation::Delete { key, cause: DeleteCause::Expired },
        28..=30 => Operation::SetDeadline { key, deadline },
        31..=33 => Operation::Append { key, bytes: &bytes },
        34..=37 => Operation::WriteRange { key, offset: random.below(100), bytes: &bytes },
        38 => Operation::Flush,
        39 => Operation::MoveIn { epoch, from: node },
        40 => Operation::Own { epoch, from: node },
        41 => Operation::MoveOut { epoch, to: node },
        _ => Operation::Swap { other: 1 - database },
    };
    let database = if operation.is_move() { 0 } else { database };
    take(&Record { partition, database, operation });
}

/// Makes a random step; appends are the most of them.
pub fn random_step(random: &mut Random) -> Step {
    match random.below(20) {
        0..=12 => {
            let count = 1 + random.below(12);
            Step::Append((0..count).map(|_| random.below(1 << 40)).collect())
        }
        13..=14 => Step::Sync,
        15..=16 => Step::Snapshot(random.below(4) as u16 * 341, 1 + random.below(9) as usize),
        17 => Step::Abandon(random.below(4) as u16 * 341),
        _ => Step::Trim,
    }
}

/// Reads a log to its end and returns what a node would then hold.
pub fn recover(mut replay: Replay) -> Result<(LogWriter, VerifyReport, Keyspace), Box<LogError>> {
    let mut state = Keyspace::default();
    let cuts = Box::new(*replay.cuts());
    while let Some(block) = replay.next() {
        let block = block?;
        state
            .apply_block(&block, &cuts)
            .map_err(|(index, error)| replay.record_error(block.kind, index, &error))?;
    }
    let (log, report) = replay.finish()?;
    Ok((log, report, state))
}

/// Compares two states by what clients see.
pub fn assert_same_state(found: &Keyspace, expected: &Keyspace, context: &str) {
    let list = |state: &Keyspace| -> Vec<_> {
        let items = state.iter().map(|(database, partition, key, item)| {
            (database, partition, key.to_vec(), item.value.to_bytes(), item.deadline)
        });
        items.collect()
    };
    assert!(list(found) == list(expected), "{context}: the states differ");
    assert!(found.received().eq(expected.received()), "{context}: others are received");
}

/// Returns the number of records in the log of a model.
pub fn sequence(model: &Model) -> SequenceNumber {
    model.log.next_sequence()
}
