//! Where batches wait for a shard, and where they come back.
//!
//! For a small command, a message of its own and a channel for its reply would cost more than the
//! command. So batches queue in the shard's [`Inbox`], and only the first one in an empty inbox
//! tells the shard: all that have come when the shard gets to it are one turn. And each connection
//! has one [`ReplySlot`] a shard, which serves for all its batches.

use std::future::poll_fn;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use crossbeam_utils::atomic::AtomicCell;

use super::Stopped;
use crate::shard::batch::Batch;

/// A batch to be executed; it comes back through `reply` when its replies may be seen.
pub struct Execute {
    /// The commands.
    pub batch: Box<Batch>,
    /// Where the batch goes.
    pub reply: Reply,
}

/// Whether the shard must be told of what was put into the inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Notice {
    /// Yes: it was empty.
    Needed,
    /// No: whoever filled it does so.
    Given,
}

/// Batches that wait for a shard: at most one of each connection.
pub struct Inbox {
    /// `None` when the shard has stopped.
    batches: Mutex<Option<Vec<Execute>>>,
}

impl Inbox {
    /// Returns an empty inbox.
    pub fn open() -> Self {
        Inbox { batches: Mutex::new(Some(Vec::new())) }
    }

    /// Adds a batch.
    ///
    /// # Errors
    /// [`Stopped`]: nobody will execute it.
    #[inline]
    pub fn put(&self, execute: Execute) -> Result<Notice, Stopped> {
        let mut batches = lock(&self.batches);
        let batches = batches.as_mut().ok_or(Stopped)?;
        batches.push(execute);
        Ok(if batches.len() == 1 { Notice::Needed } else { Notice::Given })
    }

    /// Takes all batches into `turn`, which is empty; its room serves for those to come.
    #[inline]
    pub fn take(&self, turn: &mut Vec<Execute>) {
        if let Some(batches) = lock(&self.batches).as_mut() {
            std::mem::swap(batches, turn);
        }
    }

    /// Refuses batches from now on, and those that wait too.
    pub fn close(&self) {
        let refused = lock(&self.batches).take();
        drop(refused);
    }
}

/// Where a connection's batches come back from one shard, one at a time.
pub struct ReplySlot(Arc<Slot>);

struct Slot {
    back: AtomicCell<Option<Box<Batch>>>,
    /// The shard has dropped the batch.
    is_lost: AtomicBool,
    /// The task that receives.
    receiver: Waker,
}

impl ReplySlot {
    /// Returns the slot of the task that this wakes.
    pub fn new(receiver: Waker) -> Self {
        let (back, is_lost) = (AtomicCell::new(None), AtomicBool::new(false));
        ReplySlot(Arc::new(Slot { back, is_lost, receiver }))
    }

    /// Returns the way into the slot for the next batch.
    #[inline]
    pub fn reply(&self) -> Reply {
        Reply(Some(self.0.clone()))
    }

    /// Waits for the batch; only the slot's own task may.
    ///
    /// # Errors
    /// [`Stopped`]: it will not come back.
    #[inline]
    pub async fn receive(&self) -> Result<Box<Batch>, Stopped> {
        poll_fn(|_| match self.0.back.take() {
            Some(batch) => Poll::Ready(Ok(batch)),
            None if self.0.is_lost.load(Acquire) => Poll::Ready(Err(Stopped)),
            None => Poll::Pending,
        })
        .await
    }
}

/// The way into a [`ReplySlot`] for one batch.
pub struct Reply(Option<Arc<Slot>>);

impl Reply {
    /// Gives the batch back.
    #[inline]
    pub fn send(mut self, batch: Box<Batch>) {
        if let Some(slot) = self.0.take() {
            slot.back.store(Some(batch));
            slot.receiver.wake_by_ref();
        }
    }
}

impl Drop for Reply {
    #[inline]
    fn drop(&mut self) {
        if let Some(slot) = self.0.take() {
            slot.is_lost.store(true, Release);
            slot.receiver.wake_by_ref();
        }
    }
}

/// Locks what is changed by one push, swap or assignment at a time, so that it is sound even if a
/// holder panicked.
#[inline]
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::task::{Context, Wake};

    use super::*;
    use crate::monitor::Caller;

    fn batch(client: u64) -> Box<Batch> {
        Box::new(Batch { caller: Caller::Client(client), ..Batch::default() })
    }

    fn slot() -> ReplySlot {
        ReplySlot::new(Waker::noop().clone())
    }

    fn execute(client: u64, slot: &ReplySlot) -> Execute {
        Execute { batch: batch(client), reply: slot.reply() }
    }

    /// Looks once whether the batch is back: its client, or nothing yet.
    fn look(slot: &ReplySlot) -> Option<Result<Caller, Stopped>> {
        let looked = pin!(slot.receive()).poll(&mut Context::from_waker(Waker::noop()));
        match looked {
            Poll::Ready(received) => Some(received.map(|batch| batch.caller)),
            Poll::Pending => None,
        }
    }

    #[test]
    fn only_the_first_batch_in_an_empty_inbox_needs_a_notice() {
        let (inbox, slot) = (Inbox::open(), slot());
        let mut turn = Vec::new();
        for _ in 0..2 {
            assert_eq!(inbox.put(execute(1, &slot)).unwrap(), Notice::Needed);
            assert_eq!(inbox.put(execute(2, &slot)).unwrap(), Notice::Given);
            inbox.take(&mut turn);
            let callers: Vec<_> = turn.drain(..).map(|execute| execute.batch.caller).collect();
            assert_eq!(callers, [1, 2].map(Caller::Client));
        }
        inbox.take(&mut turn);
        assert!(turn.is_empty());
    }

    #[test]
    fn a_slot_serves_for_one_batch_after_the_other() {
        let slot = slot();
        for client in 1..3 {
            let reply = slot.reply();
            assert!(look(&slot).is_none());
            reply.send(batch(client));
            assert_eq!(look(&slot).unwrap().unwrap(), Caller::Client(client));
            assert!(look(&slot).is_none());
        }
    }

    #[test]
    fn who_waits_for_a_batch_is_woken_when_it_comes_back() {
        #[derive(Default)]
        struct Woken(AtomicUsize);
        impl Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Relaxed);
            }
        }
        let woken = Arc::new(Woken::default());
        let slot = ReplySlot::new(Waker::from(woken.clone()));
        let reply = slot.reply();
        assert!(look(&slot).is_none());
        assert_eq!(woken.0.load(Relaxed), 0);
        reply.send(batch(7));
        assert_eq!(woken.0.load(Relaxed), 1);
        assert_eq!(look(&slot).unwrap().unwrap(), Caller::Client(7));
        drop(slot.reply());
        assert_eq!(woken.0.load(Relaxed), 2);
    }

    #[test]
    fn a_stopped_shard_loses_what_waits_and_takes_no_more() {
        let (inbox, slot) = (Inbox::open(), slot());
        assert_eq!(inbox.put(execute(1, &slot)).unwrap(), Notice::Needed);
        assert!(look(&slot).is_none());
        inbox.close();
        assert!(look(&slot).unwrap().is_err());
        assert!(inbox.put(execute(2, &slot)).is_err());
        assert!(look(&slot).unwrap().is_err());
    }
}
