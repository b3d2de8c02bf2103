//! Any bytes under a key: decoding never panics, and what it accepts can be stored again.
//!
//! `cargo +nightly fuzz run value_decode` in `protocol/`.
#![no_main]

use distcache_protocol::value::Value;
use distcache_protocol::value::codec::{MAGIC, VERSION, decode, decode_value, encode_value};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let _ = decode::<Vec<(String, Option<u64>)>>(input.to_vec());
    // Most inputs would not find the magic by themselves.
    let encoded = [&MAGIC[..], &[VERSION], input].concat();
    if let Ok(value) = decode_value(encoded) {
        let list = Value::Tuple(vec![value]);
        // The list is one level deeper: at the limit, it cannot be stored.
        let Ok(bytes) = encode_value(&list) else { return };
        // Compared as text: not-a-number is not equal to itself.
        assert_eq!(format!("{:?}", decode_value(bytes)), format!("{:?}", Ok::<_, ()>(list)));
    }
});
