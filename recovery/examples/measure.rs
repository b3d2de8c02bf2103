//! Measures the log on this machine: encoding, appending, memory, opening and reading.
//!
//! `cargo run --release -p distcache-recovery --example measure -- [MEGABYTES] [typical|random]`

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, reason = "a tool")]

use std::path::Path;
use std::time::Instant;

use distcache_recovery::limits::PARTITIONS;
use distcache_recovery::{
    FrameBuilder, LogWriter, OpenMode, Operation, PartitionId, Record, StoredValue, UnixMillis,
    open,
};

/// The node's allocator, so that time and memory are as there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NOW: UnixMillis = UnixMillis(1_764_000_000_000);

fn main() {
    let mut arguments = std::env::args().skip(1);
    let megabytes: usize = arguments.next().map_or(200, |text| text.parse().unwrap());
    let is_random = arguments.next().is_some_and(|text| text == "random");
    let dir = tempfile::tempdir_in(".").unwrap();
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let records = (megabytes << 20) / 90;
    let values: Vec<u8> =
        (0..1 << 20).map(|_| if is_random { (next() >> 32) as u8 } else { b'x' }).collect();
    let mut replay = open(dir.path(), OpenMode::Create).unwrap();
    assert!(replay.next().is_none());
    let (mut log, _) = replay.finish().unwrap();
    let mut frame = FrameBuilder::new();
    let (mut encoding, mut appending, mut since_sync) = (0.0, 0.0, 0);
    for chunk in 0..records / 300 {
        let keys: Vec<[u8; 16]> = (0..300).map(|_| key(next() % 1_000_000)).collect();
        let begin = Instant::now();
        for (index, key) in keys.iter().enumerate() {
            let number = chunk * 300 + index;
            let at = number * 64 % (values.len() - 64);
            let partition = PartitionId((number * 17 % PARTITIONS) as u16);
            let value = StoredValue::String(&values[at..at + 64]);
            let operation = Operation::Put { key, value, deadline: None };
            frame.push(&Record { partition, database: 0, operation });
        }
        encoding += begin.elapsed().as_secs_f64();
        let begin = cpu_seconds();
        since_sync += frame.len();
        log.append(&mut frame, NOW).unwrap();
        if since_sync > 30 << 20 {
            since_sync = 0;
            log.sync().unwrap();
        }
        appending += cpu_seconds() - begin;
    }
    log.close().unwrap();
    println!(
        "encode {:.0} ns a record, append {:.2} ns CPU a payload byte, {:.0} ns a record, \
         resident {} MB",
        encoding * 1e9 / records as f64,
        appending * 1e9 / (records * 90) as f64,
        appending * 1e9 / records as f64,
        resident_kilobytes() / 1024
    );
    compact(read_back(dir.path()));
}

/// Reads the whole log; returns it ready for writing.
fn read_back(dir: &Path) -> LogWriter {
    let (begin, cpu) = (Instant::now(), cpu_seconds());
    let mut replay = open(dir, OpenMode::Create).unwrap();
    println!("open {:.3} s, CPU {:.3} s", begin.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let (begin, mut read, mut bytes) = (Instant::now(), 0, 0);
    for block in &mut replay {
        let block = block.unwrap();
        read += u64::from(block.count);
        bytes += block.payload().len();
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "read {read} records in {seconds:.3} s: {:.1} M/s, {:.0} MB/s, resident {} MB, \
         stored {} MB",
        read as f64 / seconds / 1e6,
        bytes as f64 / seconds / 1e6,
        resident_kilobytes() / 1024,
        replay.report().stored_bytes >> 20,
    );
    let (log, _) = replay.finish().unwrap();
    println!("on disk {} MB for {} MB", log.disk_bytes().unwrap() >> 20, bytes >> 20);
    log
}

/// Commits an empty snapshot of every partition and removes all frames.
fn compact(mut log: LogWriter) {
    let begin = cpu_seconds();
    for partition in 0..PARTITIONS as u16 {
        log.commit_snapshot(PartitionId(partition), Default::default(), NOW).unwrap();
    }
    while log.trim(64, NOW).unwrap() == distcache_recovery::TrimProgress::More {}
    let seconds = cpu_seconds() - begin;
    println!("commit of all partitions and removal of all frames: {seconds:.3} s CPU");
    println!(
        "resident {} MB, on disk {} MB",
        resident_kilobytes() / 1024,
        log.disk_bytes().unwrap() >> 20
    );
}

fn key(number: u64) -> [u8; 16] {
    let text = format!("key:{number:012}");
    text.as_bytes().try_into().unwrap()
}

/// Returns the CPU seconds of all threads of this process.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn resident_kilobytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
