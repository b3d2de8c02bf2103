//! Any bytes on the bus port: neither handshake nor frames panic, and frames that are found can
//! be written again.
//!
//! `cargo +nightly fuzz run peer_decode` in `protocol/`.
#![no_main]

use bytes::BytesMut;
use distcache_protocol::peer::frame::Receives;
use distcache_protocol::peer::{Class, Decoder, Handshake, Identity, Local, Secret, VERSION_MAX};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let identity = Identity { node: 1, incarnation: 2, cluster: Some(3) };
    let local = Local { identity, secret: Secret::new("secret"), nonce: [4; 32] };
    let _ = Handshake::accept(local.clone()).receive(&mut BytesMut::from(input));
    let _ = Handshake::dial(local, Class::Bulk, None).receive(&mut BytesMut::from(input));

    for receives in [Receives::Requests, Receives::Replies] {
        let decoder = Decoder::new(VERSION_MAX, Class::Control, receives);
        let mut rest = BytesMut::from(input);
        let mut at = 0;
        while let Ok(Some(frame)) = decoder.decode(&mut rest) {
            let mut written = BytesMut::new();
            frame.put_header(VERSION_MAX, &mut written);
            written.extend_from_slice(&frame.body);
            assert_eq!(written, input[at..at + written.len()]);
            at += written.len();
        }
    }
});
