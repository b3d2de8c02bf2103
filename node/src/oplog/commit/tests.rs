use distcache_recovery::memory_store::{Failure, MemoryDisk};
use distcache_recovery::{Operation, Record, Replay, StoredValue};

use super::*;
use crate::config::Config;

fn replay(disk: &MemoryDisk) -> (LogWriter, u64) {
    let mut replay = Replay::start(Box::new(disk.store()), "DIR".to_owned(), None).unwrap();
    assert!(replay.by_ref().all(|block| block.is_ok()));
    let (writer, report) = replay.finish().unwrap();
    (writer, report.records)
}

fn committer(disk: &MemoryDisk, policy: FsyncPolicy) -> Committer<u32> {
    let monitor = Arc::new(Monitor::new(Arc::default(), &Config::default()));
    Committer::new(replay(disk).0, LogStatus::new(policy), monitor)
}

/// Hands one record over, as a shard does.
fn append(committer: &mut Committer<u32>, waiter: Option<u32>) -> bool {
    let mut frame = FrameBuilder::new();
    let operation = Operation::Put { key: b"k", value: StoredValue::Integer(1), deadline: None };
    frame.push(&Record { partition: PartitionId(5), database: 0, operation });
    committer.status.queue(frame.len());
    committer.append(frame, waiter)
}

#[test]
fn whoever_is_released_finds_his_records_after_a_power_cut() {
    for policy in [FsyncPolicy::Always, FsyncPolicy::EverySecond, FsyncPolicy::No] {
        let commit = |committer: &mut Committer<u32>| committer.commit().0;
        for release in [commit, Committer::tick] {
            let disk = MemoryDisk::default();
            let mut committer = committer(&disk, policy);
            assert!(append(&mut committer, Some(7)), "somebody waits");
            assert_eq!(release(&mut committer), (vec![7], Ok(())));
            let (_, records) = replay(&disk.after_power_cut(0, None));
            assert_eq!(records, 1, "{policy:?}");
            assert!(committer.status.is_settled());
        }
    }
}

/// Two clients' writes, in one hand-over each.
fn two_writes(committer: &mut Committer<u32>) {
    for waiter in [1, 2] {
        committer.status.wait();
        committer.status.gather(1);
        assert!(append(committer, Some(waiter)));
    }
}

#[test]
fn a_slow_sync_waits_for_those_whom_the_last_one_released() {
    let disk = MemoryDisk::default();
    disk.set_sync_time(Duration::from_millis(20));
    let mut committer = committer(&disk, FsyncPolicy::Always);
    two_writes(&mut committer);
    assert!(committer.is_due(), "nothing is known of the disk");
    assert_eq!(committer.commit(), ((vec![1, 2], Ok(())), None));
    committer.status.waited(2);

    two_writes(&mut committer);
    // A third one comes while the disk works.
    committer.status.wait();
    let (released, company) = committer.commit();
    assert_eq!(released, (vec![1, 2], Ok(())));
    assert!(company.is_some_and(|most| most >= Duration::from_millis(10)));
    assert!(committer.status.is_gathering());
    committer.status.waited(2);
    committer.status.gather(1);
    append(&mut committer, Some(3));
    two_writes(&mut committer);
    assert!(committer.is_due(), "all have come back");
    assert_eq!(committer.commit().0, (vec![3, 1, 2], Ok(())));
}

fn chunk(committer: &mut Committer<u32>, partition: PartitionId) {
    let mut chunk = FrameBuilder::new();
    let operation = Operation::Put { key: b"k", value: StoredValue::Integer(1), deadline: None };
    chunk.push(&Record { partition, database: 0, operation });
    committer.status.queue(chunk.len());
    committer.write_chunk(partition, chunk);
}

#[test]
fn a_snapshot_that_lacks_a_chunk_does_not_replace_the_one_before() {
    let disk = MemoryDisk::default();
    let mut committer = committer(&disk, FsyncPolicy::EverySecond);
    let (first, second) = (PartitionId(5), PartitionId(6));
    for partition in [first, second] {
        chunk(&mut committer, partition);
        committer.commit_snapshot(partition, 1, Epoch(0)).unwrap();
    }
    // Of the next ones, as when space runs short, not all chunks are stored.
    for (partition, stored, sent) in [(first, 0, 1), (second, 1, 2)] {
        for _ in 0..stored {
            chunk(&mut committer, partition);
        }
        let ended = committer.commit_snapshot(partition, sent, Epoch(0));
        assert!(matches!(ended, Err(LogError::ChunksMissing { .. })), "{ended:?}");
    }
    committer.close().1.unwrap();
    assert_eq!(replay(&disk).1, 0, "no frame");
    let mut replay = Replay::start(Box::new(disk.store()), "DIR".to_owned(), None).unwrap();
    let records: u32 = replay.by_ref().map(|block| block.unwrap().count).sum();
    assert_eq!(records, 2, "one of each snapshot before");
}

#[test]
fn what_a_failed_log_drops_can_be_told_from_the_count_of_failures() {
    let disk = MemoryDisk::default();
    let mut committer = committer(&disk, FsyncPolicy::EverySecond);
    append(&mut committer, None);
    assert_eq!(committer.status.failures(), 0);
    disk.set_failure(Some(Failure { after: disk.operations(), torn_bytes: None, is_full: true }));
    append(&mut committer, None);
    append(&mut committer, None);
    assert_eq!(committer.status.failures(), 1);
    assert!(committer.status.failure().is_some_and(|reason| reason.contains("full")));
    // A log in memory does not heal.
    disk.set_failure(None);
    assert!(committer.tick().1.is_err());
    assert_eq!(committer.status.failures(), 1);
    let figures = committer.status.figures();
    assert!(figures.is_behind && !figures.can_catch_up);
    // Nor does a compaction that began before help, or one that begins now.
    committer.begin_compaction();
    committer.end_compaction();
    assert!(committer.status.figures().is_behind);
}
