//! Turns panics of the store into errors, and tells the panic hook which panics those are.
//!
//! sled 0.34 panics on some damaged files. A node that aborts on every panic asks
//! [`is_guarded`] in its panic hook and lets these unwind.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// How many threads are opening a store, which is when the store's own threads read damage.
static OPENING: AtomicUsize = AtomicUsize::new(0);

/// Prefix of the names of sled's threads.
const STORE_THREADS: &str = "sled-";

/// Returns whether a panic on this thread becomes an error instead of ending the process.
pub fn is_guarded() -> bool {
    if DEPTH.with(Cell::get) > 0 {
        return true;
    }
    let is_store_thread =
        std::thread::current().name().is_some_and(|name| name.starts_with(STORE_THREADS));
    is_store_thread && OPENING.load(Ordering::SeqCst) > 0
}

/// Runs `work`; a panic in it becomes its message.
///
/// What `work` touched must not be used after a panic: callers poison or drop it.
pub(crate) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let _inside = Inside::enter();
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "panic without a message".to_owned());
        text.lines().collect::<Vec<_>>().join(" ")
    })
}

/// Like [`guarded`], and covers the store's own threads as well while it runs.
pub(crate) fn guarded_opening<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    OPENING.fetch_add(1, Ordering::SeqCst);
    let result = guarded(work);
    OPENING.fetch_sub(1, Ordering::SeqCst);
    result
}

/// Counts this thread as guarded until dropped.
struct Inside;

impl Inside {
    fn enter() -> Self {
        DEPTH.with(|depth| depth.set(depth.get() + 1));
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        DEPTH.with(|depth| depth.set(depth.get() - 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_message_and_the_guard_ends() {
        assert!(!is_guarded());
        let result = guarded(|| -> u32 {
            assert!(is_guarded());
            panic!("page {} is bad", 7)
        });
        assert_eq!(result, Err("page 7 is bad".to_owned()));
        assert!(!is_guarded());
    }
}
