//! `CLIENT PAUSE`: commands wait until a time is over or `CLIENT UNPAUSE` comes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock;
use crate::records::UnixMillis;

/// Which commands wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PauseMode {
    /// Those that change keys.
    Write,
    /// All.
    All,
}

/// The pause of a node.
#[derive(Debug, Default)]
pub struct Pause {
    /// Whether `state` must be looked at: all that the request path reads.
    active: AtomicBool,
    state: Mutex<Option<(PauseMode, UnixMillis)>>,
    over: Notify,
}

impl Pause {
    /// Pauses until `end`. Of two pauses the stricter mode and the later end hold, as in Redis.
    pub fn begin(&self, mode: PauseMode, end: UnixMillis) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (mode, end) = match *state {
            Some((before, old)) if old > clock::now() => (mode.max(before), end.max(old)),
            _ => (mode, end),
        };
        *state = Some((mode, end));
        self.active.store(true, Ordering::Relaxed);
    }

    /// Ends the pause.
    pub fn end(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.active.store(false, Ordering::Relaxed);
        self.over.notify_waiters();
    }

    /// Whether some commands may have to wait. Cost: one load.
    #[inline]
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed)
    }

    /// Whether a command must wait now.
    pub fn applies(&self, writes: bool) -> bool {
        self.remaining(writes).is_some()
    }

    /// Waits as long as a command must.
    pub async fn wait(&self, writes: bool) {
        loop {
            // Registered before the state is read, so that no end is missed.
            let over = self.over.notified();
            let Some(remaining) = self.remaining(writes) else { return };
            let _ = tokio::time::timeout(remaining, over).await;
        }
    }

    /// How long a command must wait still.
    fn remaining(&self, writes: bool) -> Option<Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (mode, end) = (*state)?;
        let left = end.0.saturating_sub(clock::now().0);
        if left == 0 {
            *state = None;
            self.active.store(false, Ordering::Relaxed);
            return None;
        }
        (mode == PauseMode::All || writes).then(|| Duration::from_millis(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(millis: u64) -> UnixMillis {
        UnixMillis(clock::now().0 + millis)
    }

    #[test]
    fn a_pause_of_writes_leaves_reads_alone() {
        let pause = Pause::default();
        assert!(!pause.applies(true));
        pause.begin(PauseMode::Write, after(60_000));
        assert!(pause.is_active() && pause.applies(true) && !pause.applies(false));
        pause.end();
        assert!(!pause.is_active() && !pause.applies(true));
    }

    #[test]
    fn the_stricter_mode_and_the_later_end_hold() {
        let pause = Pause::default();
        pause.begin(PauseMode::All, after(60_000));
        pause.begin(PauseMode::Write, after(1));
        assert!(pause.applies(false));
    }

    #[test]
    fn a_pause_whose_time_is_over_is_gone() {
        let pause = Pause::default();
        pause.begin(PauseMode::All, clock::now());
        assert!(!pause.applies(true));
        assert!(!pause.is_active());
    }

    #[tokio::test]
    async fn an_unpause_wakes_those_who_wait() {
        let pause = std::rc::Rc::new(Pause::default());
        pause.begin(PauseMode::All, after(60_000));
        let waiting = pause.clone();
        let wait = async move { waiting.wait(false).await };
        let end = async move { pause.end() };
        tokio::join!(wait, end);
    }
}
