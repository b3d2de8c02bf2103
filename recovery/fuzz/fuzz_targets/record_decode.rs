//! Any bytes as a payload: no panic, and what decodes encodes to the bytes it came from.

#![no_main]

use distcache_recovery::RecordCursor;
use distcache_recovery::state::Keyspace;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut keyspace = Keyspace::default();
    for record in RecordCursor::new(data, u32::MAX) {
        let Ok(record) = record else { break };
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        let (again, used) = distcache_recovery::Record::decode(&bytes).expect("own bytes decode");
        assert_eq!((again, used), (record, bytes.len()));
        if data.len() < 4096 {
            let _ = keyspace.apply(&record);
        }
    }
});
