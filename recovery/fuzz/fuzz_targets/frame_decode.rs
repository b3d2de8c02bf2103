//! Any bytes as a piece: no panic, and no frame longer than its header's limits.

#![no_main]

use distcache_recovery::frame::{FrameAssembler, decode_piece, decode_piece_prefix};
use distcache_recovery::limits::PIECE_BYTES_MAX;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(piece) = decode_piece_prefix(data) {
        assert!(piece.body.len() < PIECE_BYTES_MAX);
    }
    if let Ok(piece) = decode_piece(data) {
        let _ = FrameAssembler::new(piece.header, data.to_vec()).finish();
    }
});
