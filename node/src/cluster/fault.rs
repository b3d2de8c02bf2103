//! Fault points, for the campaigns in `scripts/`: places at which a debug build ends as if it were
//! killed, or goes on without one of its fences, when the environment says so. A release build has
//! none of it.
//!
//! - `DISTCACHE_FAULT_POINT=point` or `point@N`: the process kills itself when it gets there, or
//!   when it does for the Nth time;
//! - `DISTCACHE_FENCE_OFF=fence`: shows that the checks find what the fence prevents.

#[cfg(debug_assertions)]
use std::sync::LazyLock;
#[cfg(debug_assertions)]
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The point at which the process kills itself, and how often it still passes it.
#[cfg(debug_assertions)]
static POINT: LazyLock<Option<(String, AtomicU64)>> = LazyLock::new(|| {
    let said = std::env::var("DISTCACHE_FAULT_POINT").ok()?;
    let (point, times) = said.split_once('@').unwrap_or((&said, "1"));
    Some((point.to_owned(), AtomicU64::new(times.parse().ok()?)))
});

/// The fence that is off.
#[cfg(debug_assertions)]
static FENCE: LazyLock<Option<String>> =
    LazyLock::new(|| std::env::var("DISTCACHE_FENCE_OFF").ok());

/// Kills the process, with no chance to clean up, if this is the point to do so.
#[inline]
pub fn reach(point: &str) {
    #[cfg(debug_assertions)]
    if let Some((wanted, left)) = &*POINT
        && wanted == point
        && left.fetch_sub(1, Relaxed) <= 1
    {
        let own = rustix::process::getpid();
        // There is no way back from this signal.
        let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
    }
    #[cfg(not(debug_assertions))]
    let _ = point;
}

/// Whether a fence is off, to show that the checks find what it prevents.
#[inline]
pub fn is_off(fence: &str) -> bool {
    #[cfg(debug_assertions)]
    return FENCE.as_deref() == Some(fence);
    #[cfg(not(debug_assertions))]
    {
        let _ = fence;
        false
    }
}
