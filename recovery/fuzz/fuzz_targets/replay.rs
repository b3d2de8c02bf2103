//! Any entries in a store: reading them ends, without a panic.
//!
//! Checksums would keep nearly all input out, so half of the values get a right one.

#![no_main]

use distcache_recovery::Replay;
use distcache_recovery::frame::HEADER_BYTES;
use distcache_recovery::memory_store::MemoryDisk;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|entries: Vec<(u8, Vec<u8>, Vec<u8>, bool)>| {
    let disk = MemoryDisk::default();
    disk.corrupt(|image| {
        for (place, key, mut value, seal) in entries {
            if seal && value.len() >= HEADER_BYTES {
                value[..8].copy_from_slice(b"\x8fDCLOG\r\n");
                value[8..10].copy_from_slice(&1_u16.to_le_bytes());
                let body = (value.len() - HEADER_BYTES) as u32;
                value[16..20].copy_from_slice(&body.to_le_bytes());
                let sum = crc32c::crc32c(&value[..12]);
                let sum = crc32c::crc32c_append(sum, &value[16..]);
                value[12..16].copy_from_slice(&sum.to_le_bytes());
            }
            image.insert([&b"cfgst"[usize::from(place % 5)..][..1], &key].concat(), value);
        }
    });
    let Ok(mut replay) = Replay::survey(Box::new(disk.store()), "DIR".to_owned(), None) else {
        return;
    };
    for block in replay.by_ref() {
        let Ok(block) = block else { return };
        block.records().for_each(drop);
    }
});
