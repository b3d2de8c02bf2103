//! The buffer of what a client has sent: how it grows, and when it is given back.

use distcache_protocol::limits::QUERY_BUFFER_BYTES_HARD_MAX;

use crate::limits::{INPUT_BUFFER_KEPT_BYTES, READ_BUFFER_BYTES, READ_GROWTH_BYTES_MAX};
use crate::shard::batch::Requests;

/// Makes room for what is expected, in bounded steps: what a client announces costs nothing, and
/// what it has sent costs half as much again. A buffer that is large already grows by a quarter
/// at least, so that many small arguments do not copy it once each.
pub(super) fn reserve(input: &mut Vec<u8>, missing: usize) {
    let arrived = input.len();
    let room = input.capacity() - arrived;
    if arrived < READ_BUFFER_BYTES {
        // Half a command in the buffer is no reason to double it.
        if room < READ_BUFFER_BYTES / 4 {
            input.reserve_exact(READ_BUFFER_BYTES);
        }
    } else if room < missing.min(READ_BUFFER_BYTES) {
        let step = missing.clamp(arrived / 4, arrived / 2);
        input.reserve_exact(step.clamp(READ_BUFFER_BYTES, READ_GROWTH_BYTES_MAX));
    }
}

/// Whether more has arrived than `limit`, which is configured, or than can be decoded at all.
#[inline]
pub(super) fn is_too_much(arrived: usize, limit: u64) -> bool {
    arrived as u64 > limit.min(QUERY_BUFFER_BYTES_HARD_MAX)
}

/// Removes the requests, which are answered, and the first `consumed` bytes, which they took.
pub(super) fn forget(input: &mut Requests, consumed: usize) {
    input.args.clear();
    input.bytes.drain(..consumed);
    if input.bytes.is_empty() && input.bytes.capacity() > INPUT_BUFFER_KEPT_BYTES {
        input.bytes = Vec::new();
    }
}

/// Gives back what is not in use. Half a large argument stays where it is, as more of it may come.
pub(super) fn shrink(input: &mut Requests) {
    if input.bytes.len() < READ_BUFFER_BYTES {
        input.bytes.shrink_to_fit();
    }
    input.args.shrink_to_fit();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(bytes: usize) -> Requests {
        let mut input = Requests::default();
        reserve(&mut input.bytes, 1);
        input.bytes.resize(bytes, b'x');
        input
    }

    #[test]
    fn an_announced_argument_takes_memory_only_as_it_arrives() {
        let mut input = with(READ_BUFFER_BYTES);
        for arrived in [READ_BUFFER_BYTES, 1024 * 1024, 64 * 1024 * 1024] {
            input.bytes.resize(arrived, b'x');
            input.bytes.shrink_to_fit();
            reserve(&mut input.bytes, 512 * 1024 * 1024);
            let room = input.bytes.capacity() - arrived;
            assert!((READ_BUFFER_BYTES..=READ_GROWTH_BYTES_MAX).contains(&room), "{room}");
            assert!(room <= READ_BUFFER_BYTES.max(arrived / 2), "{room} behind {arrived}");
        }
    }

    #[test]
    fn many_small_arguments_copy_the_buffer_seldom() {
        let (total, mut copied, mut input) = (8 * 1024 * 1024, 0, Vec::new());
        while input.len() < total {
            let before = input.capacity();
            reserve(&mut input, 7);
            if input.capacity() != before {
                copied += input.len();
            }
            // As much as one read may bring.
            input.resize(input.capacity(), b'x');
        }
        assert!(copied <= 5 * total, "{copied}");
    }

    #[test]
    fn no_limit_allows_more_than_offsets_can_tell() {
        let most = u32::MAX as usize;
        for limit in [1024, most as u64, i64::MAX as u64] {
            let allowed = most.min(limit as usize);
            assert!(!is_too_much(allowed, limit) && is_too_much(allowed + 1, limit), "{limit}");
        }
    }

    #[test]
    fn an_idle_buffer_keeps_what_it_holds_and_no_more() {
        let mut idle = with(0);
        shrink(&mut idle);
        assert_eq!(idle.bytes.capacity(), 0);
        let mut half = with(5);
        shrink(&mut half);
        assert_eq!((half.bytes.as_slice(), half.bytes.capacity()), (&b"xxxxx"[..], 5));
        let mut large = with(READ_BUFFER_BYTES);
        reserve(&mut large.bytes, 512 * 1024 * 1024);
        let before = large.bytes.capacity();
        shrink(&mut large);
        assert_eq!(large.bytes.capacity(), before, "an argument under way is not copied");
    }

    #[test]
    fn a_large_buffer_goes_once_all_is_answered() {
        let mut input = with(INPUT_BUFFER_KEPT_BYTES + 1);
        forget(&mut input, INPUT_BUFFER_KEPT_BYTES);
        assert_eq!(input.bytes.len(), 1);
        assert!(input.bytes.capacity() > INPUT_BUFFER_KEPT_BYTES, "a request is under way");
        forget(&mut input, 1);
        assert_eq!(input.bytes.capacity(), 0);
    }
}
