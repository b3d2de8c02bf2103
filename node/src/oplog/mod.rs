//! The operation log as shards and connections see it.
//!
//! - [`LogStatus`]: shared state: the sync policy, how far behind the log is, whether it failed;
//! - [`commit`]: the pure part of the log actor: which frames are stored and synced when, and
//!   which replies that releases;
//! - [`gather`]: how long a sync waits for company;
//! - [`load`]: rebuilding the shards at a start.

pub mod commit;
pub mod gather;
pub mod load;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use distcache_recovery::{FrameBuilder, LogCounters};

use crate::config::FsyncPolicy;

/// Empty frame buffers kept for the shards.
const POOLED_FRAMES_MAX: usize = 64;

/// State of the log that every thread may read. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LogStatus(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    policy: AtomicU8,
    /// Bytes handed over and not stored yet.
    queued_bytes: AtomicUsize,
    /// Hand-overs that are not known to survive a power cut.
    unsynced: AtomicU64,
    /// Batches whose replies wait for the disk.
    waiting: AtomicUsize,
    /// Those of them that go with the next sync.
    gathered: AtomicUsize,
    gathering: AtomicBool,
    open: AtomicBool,
    failed: AtomicBool,
    failures: AtomicU64,
    failure: Mutex<Option<String>>,
    pool: Mutex<Vec<FrameBuilder>>,
    figures: Mutex<LogFigures>,
}

/// What `INFO persistence` says of the log.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogFigures {
    /// What the writer has done.
    pub counters: LogCounters,
    /// Stored bytes of frames.
    pub frame_bytes: u64,
    /// Stored bytes of snapshots.
    pub snapshot_bytes: u64,
    /// Stored bytes of frames and snapshots after the last compaction, or at the start.
    pub base_bytes: u64,
    /// Sequence of the next record.
    pub next_sequence: u64,
    /// First record that is not known to survive a power cut.
    pub synced_sequence: u64,
    /// When the last successful sync ended, Unix milliseconds; 0 = never.
    pub synced_at: u64,
    /// Longest sync so far, in microseconds.
    pub sync_longest_us: u64,
    /// The last sync, in microseconds.
    pub sync_last_us: u64,
    /// Whether records that were handed over are missing in the log, until a snapshot of every
    /// partition is made.
    pub is_behind: bool,
    /// Whether that snapshot can be made now.
    pub can_catch_up: bool,
    /// Whether partitions are being copied into snapshots.
    pub compacting: bool,
    /// When the last compaction ended, Unix seconds; 0 = never.
    pub compacted_at: u64,
    /// Whether the last compaction could not be completed.
    pub compaction_failed: bool,
    /// Changes of keys, counted since the start, when the last complete compaction began.
    pub writes_compacted: u64,
    /// When the compaction under way began, Unix milliseconds.
    pub compaction_began: u64,
    /// How long the last compaction took, in seconds; nothing before there was one.
    pub compaction_seconds: Option<u64>,
}

impl LogStatus {
    /// Returns the state of a log that works.
    pub fn new(policy: FsyncPolicy) -> Self {
        let status = LogStatus(Arc::new(Shared {
            policy: AtomicU8::new(0),
            queued_bytes: AtomicUsize::new(0),
            unsynced: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            gathered: AtomicUsize::new(0),
            gathering: AtomicBool::new(false),
            open: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            failures: AtomicU64::new(0),
            failure: Mutex::new(None),
            pool: Mutex::new(Vec::new()),
            figures: Mutex::new(LogFigures::default()),
        }));
        status.set_policy(policy);
        status
    }

    /// When replies wait for the disk.
    #[inline]
    pub fn policy(&self) -> FsyncPolicy {
        match self.0.policy.load(Ordering::Relaxed) {
            0 => FsyncPolicy::Always,
            1 => FsyncPolicy::EverySecond,
            _ => FsyncPolicy::No,
        }
    }

    /// Changes the policy for the batches that follow.
    pub fn set_policy(&self, policy: FsyncPolicy) {
        let code = match policy {
            FsyncPolicy::Always => 0,
            FsyncPolicy::EverySecond => 1,
            FsyncPolicy::No => 2,
        };
        self.0.policy.store(code, Ordering::Relaxed);
    }

    /// Bytes handed over and not stored yet.
    #[inline]
    pub fn queued_bytes(&self) -> usize {
        self.0.queued_bytes.load(Ordering::Relaxed)
    }

    /// Notes a hand-over of so many bytes.
    pub fn queue(&self, bytes: usize) {
        self.0.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.0.unsynced.fetch_add(1, Ordering::AcqRel);
    }

    /// Notes that so many bytes are stored, or given up.
    pub fn unqueue(&self, bytes: usize) {
        self.0.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Notes that so many hand-overs survive a power cut now.
    pub fn settle(&self, handovers: u64) {
        self.0.unsynced.fetch_sub(handovers, Ordering::AcqRel);
    }

    /// Whether everything that was handed over survives a power cut.
    #[inline]
    pub fn is_settled(&self) -> bool {
        self.0.unsynced.load(Ordering::Acquire) == 0
    }

    /// Notes that a batch's replies wait for the disk.
    #[inline]
    pub fn wait(&self) {
        self.0.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that the replies of so many batches no longer wait.
    pub fn waited(&self, batches: usize) {
        self.0.waiting.fetch_sub(batches, Ordering::Relaxed);
    }

    /// Batches whose replies wait for the disk.
    pub fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::Relaxed)
    }

    /// Notes that so many of them are handed over.
    pub fn gather(&self, batches: usize) {
        self.0.gathered.fetch_add(batches, Ordering::Relaxed);
    }

    /// Batches that are handed over since the last sync began.
    pub fn gathered(&self) -> usize {
        self.0.gathered.load(Ordering::Relaxed)
    }

    /// Notes that a sync begins, with all that is gathered.
    pub fn begin_sync(&self) {
        self.0.gathered.store(0, Ordering::Relaxed);
        self.set_gathering(false);
    }

    /// Notes whether the next sync waits for company.
    pub fn set_gathering(&self, gathering: bool) {
        self.0.gathering.store(gathering, Ordering::Release);
    }

    /// Whether the next sync waits for company: what is handed over now goes with it.
    #[inline]
    pub fn is_gathering(&self) -> bool {
        self.0.gathering.load(Ordering::Acquire)
    }

    /// Notes that the log has been read, and takes new records.
    pub fn set_open(&self) {
        self.0.open.store(true, Ordering::Release);
    }

    /// Whether the log takes records: not while the node rebuilds itself from it.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.0.open.load(Ordering::Acquire)
    }

    /// Notes that writes cannot be logged, and why; `None` ends that.
    pub fn set_failure(&self, reason: Option<String>) {
        let mut failure = self.0.failure.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.failed.store(reason.is_some(), Ordering::Release);
        *failure = reason;
    }

    /// Notes that the log failed, or that it takes records again.
    pub fn count_failure(&self) {
        self.0.failures.fetch_add(1, Ordering::AcqRel);
    }

    /// How often the log has failed and worked again: odd while it drops what is handed over.
    /// What was handed over between two looks at the same even number was not dropped.
    #[inline]
    pub fn failures(&self) -> u64 {
        self.0.failures.load(Ordering::Acquire)
    }

    /// The refusal for writes while the log cannot take them.
    #[inline]
    pub fn failure(&self) -> Option<String> {
        if !self.0.failed.load(Ordering::Acquire) {
            return None;
        }
        let failure = self.0.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.as_ref().map(|reason| misconf(reason))
    }

    /// Returns an empty buffer, used before if there is one.
    pub fn pooled_frame(&self) -> FrameBuilder {
        let mut pool = self.0.pool.lock().unwrap_or_else(PoisonError::into_inner);
        pool.pop().unwrap_or_default()
    }

    /// Takes a buffer back.
    pub fn recycle(&self, mut frame: FrameBuilder) {
        frame.clear();
        let mut pool = self.0.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() < POOLED_FRAMES_MAX {
            pool.push(frame);
        }
    }

    /// What `INFO` says.
    pub fn figures(&self) -> LogFigures {
        *self.0.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what `INFO` says.
    pub fn update_figures(&self, update: impl FnOnce(&mut LogFigures)) {
        update(&mut self.0.figures.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The refusal of a write that cannot be logged; Redis's text for a failed AOF, and our reason.
pub fn misconf(reason: &str) -> String {
    format!("MISCONF Errors writing to the AOF file: {reason}")
}
