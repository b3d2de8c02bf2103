//! Logs of every released format stay readable.
//!
//! In each folder of `fixtures`, `log.entries` holds the keys and values of a store, each behind
//! its length (four bytes, little-endian); `state.txt` is what a node must make of them.
//! `v1` is the first release's; `v1-moves` has the kinds of records that moves brought as well.
//! `DISTCACHE_WRITE_FIXTURES=1` writes the last of them anew, which is right only until it is
//! released: what was released stays as it is.

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

/// All fixtures and where their logs end, oldest first.
const FIXTURES: [(&str, SequenceNumber); 2] = [V1, V1_MOVES];
const V1: (&str, SequenceNumber) = ("v1", SequenceNumber(111));
const V1_MOVES: (&str, SequenceNumber) = ("v1-moves", SequenceNumber(119));

fn fixture(folder: &str, name: &str) -> PathBuf {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    fixtures.join(folder).join(name)
}

/// Returns a store as it was released.
fn released(folder: &str) -> MemoryDisk {
    let bytes = fs::read(fixture(folder, "log.entries")).unwrap();
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

fn replay((folder, end): (&str, SequenceNumber)) -> Replay {
    let disk = released(folder);
    let mark = Some(Mark { end, is_clean: true });
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
    for partition in state.received() {
        writeln!(text, "{partition} is received and not served yet").unwrap();
    }
    text
}

#[test]
fn format_1_is_still_read() {
    if std::env::var_os("DISTCACHE_WRITE_FIXTURES").is_some() {
        write_fixture();
    }
    for (folder, end) in FIXTURES {
        let (log, report, state) = recover(replay((folder, end))).unwrap();
        let expected = fs::read_to_string(fixture(folder, "state.txt")).unwrap();
        assert_eq!(text_of(&state), expected, "{folder}");
        assert_eq!(log.next_sequence(), end);
        assert_eq!((report.snapshots, report.declared_gaps.len()), (4, 0));
        assert!(report.trimmed > SequenceNumber(0));
    }
}

#[test]
fn the_log_with_moves_has_them_in_its_records_and_a_partition_that_is_not_served() {
    let mut found = Vec::new();
    for block in replay(V1_MOVES).by_ref() {
        let block = block.unwrap();
        let operations = block.records().map(|record| record.unwrap().operation);
        found.extend(operations.filter(Operation::is_move).map(|operation| operation.name()));
    }
    for name in ["move-in", "own", "move-out"] {
        assert!(found.contains(&name), "{name}");
    }
    let state = recover(replay(V1_MOVES)).unwrap().2;
    assert!(state.is_received(PartitionId(901)) && !state.is_received(PartitionId(900)));
}

#[test]
fn the_released_log_has_every_kind_of_frame() {
    let mut kinds = Vec::new();
    let mut compressions = Vec::new();
    let mut pieces = 0;
    released("v1").corrupt(|image| {
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
    let disk = released("v1");
    disk.corrupt(|image| {
        let second = image.keys().filter(|key| key[0] == b'f').nth(1).unwrap().clone();
        *image.get_mut(&second).unwrap().last_mut().unwrap() ^= 1;
    });
    let mark = Some(Mark { end: V1.1, is_clean: true });
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
    let mut random = Random::new(2027);
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
    append_moves(&mut model);
    model.log.sync().unwrap();
    let (folder, end) = V1_MOVES;
    assert_eq!(sequence(&model), end);
    let mut bytes = Vec::new();
    disk.corrupt(|image| {
        for item in image.iter().flat_map(|(key, value)| [key, value]) {
            bytes.extend_from_slice(&(item.len() as u32).to_le_bytes());
            bytes.extend_from_slice(item);
        }
    });
    fs::create_dir_all(fixture(folder, "")).unwrap();
    fs::write(fixture(folder, "log.entries"), bytes).unwrap();
    fs::write(fixture(folder, "state.txt"), text_of(&model.state)).unwrap();
}

/// One partition that comes and is served, one that comes, and one that goes.
fn append_moves(model: &mut Model) {
    let put = |key| Operation::Put { key, value: StoredValue::Integer(1), deadline: None };
    let (epoch, from) = (7, 0xfeed_0000_0000_0001);
    let mut frame = FrameBuilder::new();
    for (partition, database, operation) in [
        (900, 0, Operation::MoveIn { epoch, from }),
        (900, 1, put(b"came")),
        (900, 0, Operation::Own { epoch: epoch + 1, from }),
        (901, 0, Operation::MoveIn { epoch, from }),
        (901, 2, put(b"comes")),
        (902, 0, put(b"goes")),
        (902, 3, put(b"goes too")),
        (902, 0, Operation::MoveOut { epoch, to: from }),
    ] {
        let record = Record { partition: PartitionId(partition), database, operation };
        frame.push(&record);
        model.state.apply(&record).unwrap();
    }
    model.log.append(&mut frame, NOW).unwrap();
}
