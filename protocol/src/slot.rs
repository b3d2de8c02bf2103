//! Hash slots, exactly as in Redis Cluster: CRC16 (XMODEM) of the key, or of its hash tag.

use crc::{CRC_16_XMODEM, Crc, Table};

/// Number of hash slots.
pub const SLOTS: u16 = 16384;

static CRC16: Crc<u16, Table<16>> = Crc::<u16, Table<16>>::new(&CRC_16_XMODEM);

/// Returns the hash slot of `key`, in `0..SLOTS`.
///
/// Only what stands between the first `{` and the first `}` after it is hashed, unless that is
/// empty (Redis Cluster specification, "Hash tags").
#[inline]
pub fn slot_of(key: &[u8]) -> u16 {
    CRC16.checksum(hash_tag(key)) & (SLOTS - 1)
}

fn hash_tag(key: &[u8]) -> &[u8] {
    // Nearly no key has a tag.
    if !has_brace(key) {
        return key;
    }
    let Some(open) = key.iter().position(|&b| b == b'{') else { return key };
    let inner = &key[open + 1..];
    match inner.iter().position(|&b| b == b'}') {
        None | Some(0) => key,
        Some(close) => &inner[..close],
    }
}

/// Whether there is a `{`, looking at eight bytes at a time (H. Warren, Hacker's Delight, 6-1: the
/// subtraction borrows into the top bit of a byte only where that is zero, or one below it is).
#[inline]
fn has_brace(key: &[u8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let (words, rest) = key.as_chunks();
    let is_in = |word: &[u8; 8]| {
        let zero_at_brace = u64::from_le_bytes(*word) ^ (ONES * b'{' as u64);
        zero_at_brace.wrapping_sub(ONES) & !zero_at_brace & (ONES << 7) != 0
    };
    words.iter().fold(false, |found, word| found | is_in(word)) || rest.contains(&b'{')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_equal_those_of_redis_cluster() {
        // `CLUSTER KEYSLOT` of a Redis 7 cluster node.
        for (key, slot) in [
            ("", 0),
            ("foo", 12182),
            ("bar", 5061),
            ("123456789", 12739),
            ("{user1000}.following", 3443),
            ("{user1000}.followers", 3443),
            ("foo{}{bar}", 8363),
            ("foo{{bar}}zap", 4015),
            ("foo{bar}{zap}", 5061),
        ] {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
    }

    #[test]
    fn a_brace_is_found_wherever_it_stands() {
        for length in 0..40 {
            for filler in [0, b'z', b'{' ^ 0x80, 0xff] {
                let mut key = vec![filler; length];
                assert!(!has_brace(&key));
                for at in 0..length {
                    key[at] = b'{';
                    assert!(has_brace(&key), "{length} bytes, at {at}");
                    key[at] = filler;
                }
            }
        }
    }
}
