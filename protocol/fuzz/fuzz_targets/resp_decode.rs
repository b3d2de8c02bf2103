//! Any bytes on a socket: decoding never panics, and does not depend on how they are cut.
//!
//! `cargo +nightly fuzz run resp_decode` in `protocol/`.
#![no_main]

use distcache_protocol::error::ProtocolError;
use distcache_protocol::resp::{DecodeLimits, Decoded, RequestDecoder};
use libfuzzer_sys::fuzz_target;

/// Requests before the end or the first error, and that error.
type Outcome = (Vec<Vec<Vec<u8>>>, Option<ProtocolError>);

fn decode(input: &[u8], piece: usize) -> Outcome {
    let (mut decoder, limits) = (RequestDecoder::default(), DecodeLimits::default());
    let (mut buffer, mut base, mut requests) = (Vec::new(), 0, Vec::new());
    for bytes in input.chunks(piece) {
        buffer.extend_from_slice(bytes);
        loop {
            let mut args = Vec::new();
            match decoder.decode(&mut buffer, base, &mut args, &limits) {
                Ok(Decoded::Request { consumed }) => {
                    base += consumed;
                    if !args.is_empty() {
                        requests.push(args.iter().map(|arg| arg.of(&buffer).to_vec()).collect());
                    }
                }
                Ok(Decoded::Incomplete { missing }) => {
                    assert!(missing > 0);
                    break;
                }
                Err(error) => return (requests, Some(error)),
            }
        }
    }
    (requests, None)
}

fuzz_target!(|input: &[u8]| {
    let Some((&first, input)) = input.split_first() else { return };
    let piece = usize::from(first).max(1);
    assert_eq!(decode(input, input.len().max(1)), decode(input, piece));
});
