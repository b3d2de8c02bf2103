//! Logs of every released format stay readable.
//!
//! `fixtures/v1/log.entries` holds the keys and values of a store, each behind its length (four
//! bytes, little-endian); `state.txt` is what a node must make of them.
//! `DISTCACHE_WRITE_FIXTURES=1` writes both anew, which is right only for a new format.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use common::{Model, NOW, Random, Step, recover, sequence};
use distcache_recovery::frame::{Compression, FrameKind, decode_piece};
use distcache_recovery::memory_store::MemoryDisk;
use distcache_recovery::state::Keyspace;
use distcache_recovery::{
    DamageKind, FrameBuilder, Mark, Operation, PartitionId, Record, Replay, SequenceNumber,
    StoredValue,
};

/// The end of the log in `fixtures/v1`.
const V1_END: SequenceNumber = SequenceNumber(111);

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1").join(name)
}

/// Returns the store of format 1 as it was released.
fn released() -> MemoryDisk {
    let bytes = fs::read(fixture("log.entries")).unwrap();
    let disk = MemoryDisk::default();
    let mut rest = bytes.as_slice();
    let mut next = || {
        let (len, after) = rest.split_first_chunk::<4>()?;
        let (item, after) = after.split_at(u32::from_le_bytes(*len) as usize);
        rest = after;
        Some(item.to_vec())
    };
    disk.corrupt(|image| {
        while let Some(key) = next() {
            image.insert(key, next().unwrap());
        }
    });
    disk
}

fn replay(disk: &MemoryDisk) -> Replay {
    let mark = Some(Mark { end: V1_END, is_clean: true });
    Replay::start(Box::new(disk.store()), "DIR".to_owned(), mark).unwrap()
}

fn text_of(state: &Keyspace) -> String {
    let mut text = String::new();
    for (database, partition, key, item) in state.iter() {
        let (key, value) = (key.escape_ascii(), item.value.to_bytes());
        let deadline = item.deadline.map_or("-".to_owned(), |at| at.to_string());
        let value = match value.len() {
            0..=100 => value.escape_ascii().to_string(),
            len => format!("{len} bytes, crc32c {:08x}", crc32c::crc32c(&value)),
        };
        writeln!(text, "{database} {partition} {key} {deadline} {value}").unwrap();
    }
    text
}

#[test]
fn format_1_is_still_read() {
    if std::env::var_os("DISTCACHE_WRITE_FIXTURES").is_some() {
        write_fixture();
    }
    let (log, report, state) = recover(replay(&released())).unwrap();
    assert_eq!(text_of(&state), fs::read_to_string(fixture("state.txt")).unwrap());
    assert_eq!(log.next_sequence(), V1_END);
    assert_eq!((report.snapshots, report.declared_gaps.len()), (4, 0));
    assert!(report.trimmed > SequenceNumber(0));
}

#[test]
fn the_released_log_has_every_kind_of_frame() {
    let mut kinds = Vec::new();
    let mut compressions = Vec::new();
    let mut pieces = 0;
    released().corrupt(|image| {
        for value in image.values() {
            let header = decode_piece(value).unwrap().header;
            kinds.push(header.kind);
            compressions.push(header.compression);
            pieces = pieces.max(header.pieces);
        }
    });
    for kind in
        [FrameKind::Records, FrameKind::SnapshotChunk, FrameKind::SnapshotCommit, FrameKind::Trim]
    {
        assert!(kinds.contains(&kind), "{kind:?}");
    }
    assert!(compressions.contains(&Compression::Lz4) && compressions.contains(&Compression::None));
    assert!(pieces > 1);
}

#[test]
fn a_damaged_log_of_format_1_is_still_refused_with_what_is_lost() {
    let disk = released();
    disk.corrupt(|image| {
        let second = image.keys().filter(|key| key[0] == b'f').nth(1).unwrap().clone();
        *image.get_mut(&second).unwrap().last_mut().unwrap() ^= 1;
    });
    let mark = Some(Mark { end: V1_END, is_clean: true });
    let mut survey = Replay::survey(Box::new(disk.store()), "DIR".to_owned(), mark).unwrap();
    for block in survey.by_ref() {
        block.unwrap();
    }
    let kinds: Vec<_> = survey.report().damages.iter().map(|damage| damage.kind).collect();
    assert!(matches!(kinds[..], [DamageKind::Records { .. }]), "{kinds:?}");
}

#[test]
fn a_piece_of_format_1_has_these_bytes() {
    let disk = MemoryDisk::default();
    let (mut log, _, _) = recover(start_empty(&disk)).unwrap();
    let mut frame = FrameBuilder::new();
    let value = StoredValue::String(b"football");
    let operation = Operation::Put { key: b"brazil", value, deadline: None };
    frame.push(&Record { partition: PartitionId(300), database: 1, operation });
    log.append(&mut frame, NOW).unwrap();
    let mut hex = String::new();
    disk.corrupt(|image| {
        let (key, value) = image.iter().next().unwrap();
        assert_eq!(key, b"f\0\0\0\0\0\0\0\0\0\0\0\0");
        value.iter().for_each(|byte| write!(hex, "{byte:02x}").unwrap());
    });
    let expected = concat!(
        "8f44434c4f470d0a",
        "0100",
        "01",
        "00",
        "CHECKSUM",
        "17000000",
        "00000000",
        "01000000",
        "01000000",
        "0000000000000000",
        "00e897b69a010000",
        "ffff",
        "0000",
        "00000000",
        "17000000",
        "00000000", // then the record
        "fb2c01",
        "01",
        "00",
        "06",
        "6272617a696c",
        "00",
        "08",
        "666f6f7462616c6c",
        "00",
    );
    let found = format!("{}CHECKSUM{}", &hex[..24], &hex[32..]);
    assert_eq!(found, expected);
}

fn start_empty(disk: &MemoryDisk) -> Replay {
    Replay::start(Box::new(disk.store()), "DIR".to_owned(), None).unwrap()
}

fn write_fixture() {
    let disk = MemoryDisk::default();
    let (log, _, state) = recover(start_empty(&disk)).unwrap();
    let mut model = Model::new(log, state);
    let mut random = Random::new(2026);
    for round in 0..2 {
        for _ in 0..4 {
            let seeds = (0..12).map(|_| random.below(1 << 40)).collect();
            model.run(&Step::Append(seeds)).unwrap();
        }
        if round == 0 {
            for partition in 0..4 {
                model.run(&Step::Snapshot(partition * 341, 3)).unwrap();
            }
            model.run(&Step::Trim).unwrap();
        }
    }
    // Records that compress, and one that takes several pieces. A new writer tries to compress.
    model.log = recover(start_empty(&disk)).unwrap().0;
    let mut frame = FrameBuilder::new();
    let noise: Vec<u8> = (0..20_000).map(|_| random.below(256) as u8).collect();
    for number in 0..15 {
        let key = format!("key:{number}");
        let value = if number == 14 { noise.clone() } else { vec![b'x'; 64] };
        let value = StoredValue::String(&value);
        let operation = Operation::Put { key: key.as_bytes(), value, deadline: None };
        let record = Record { partition: PartitionId(7), database: 15, operation };
        if number == 14 {
            model.log.append(&mut frame, NOW).unwrap();
        }
        frame.push(&record);
        model.state.apply(&record).unwrap();
    }
    model.log.append(&mut frame, NOW).unwrap();
    model.log.sync().unwrap();
    assert_eq!(sequence(&model), V1_END);
    let mut bytes = Vec::new();
    disk.corrupt(|image| {
        for item in image.iter().flat_map(|(key, value)| [key, value]) {
            bytes.extend_from_slice(&(item.len() as u32).to_le_bytes());
            bytes.extend_from_slice(item);
        }
    });
    fs::create_dir_all(fixture("")).unwrap();
    fs::write(fixture("log.entries"), bytes).unwrap();
    fs::write(fixture("state.txt"), text_of(&model.state)).unwrap();
}
