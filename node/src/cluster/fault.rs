//! Fault points, for the campaigns in `scripts/`: places at which a debug build ends as if it were
//! killed, or goes on without one of its fences, when the environment says so. A release build has
//! none of it.

#[cfg(debug_assertions)]
use std::sync::LazyLock;

/// The point at which the process kills itself.
#[cfg(debug_assertions)]
static POINT: LazyLock<Option<String>> =
    LazyLock::new(|| std::env::var("DISTCACHE_FAULT_POINT").ok());

/// The fence that is off.
#[cfg(debug_assertions)]
static FENCE: LazyLock<Option<String>> =
    LazyLock::new(|| std::env::var("DISTCACHE_FENCE_OFF").ok());

/// Kills the process, with no chance to clean up, if this is the point to do so.
#[inline]
pub fn reach(point: &str) {
    #[cfg(debug_assertions)]
    if POINT.as_deref() == Some(point) {
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
