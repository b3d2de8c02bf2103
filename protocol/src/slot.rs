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
    // Looks at all bytes, many at once: nearly no key has a tag, and few are long.
    if !key.iter().fold(false, |found, &b| found | (b == b'{')) {
        return key;
    }
    let Some(open) = key.iter().position(|&b| b == b'{') else { return key };
    let inner = &key[open + 1..];
    match inner.iter().position(|&b| b == b'}') {
        None | Some(0) => key,
        Some(close) => &inner[..close],
    }
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
}
