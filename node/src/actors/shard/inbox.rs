//! Where batches wait for a shard, and where they come back.
//!
//! For a small command, a message of its own and a channel for its reply would cost more than the
//! command. So batches queue in the shard's [`Inbox`], and only the first one in an empty inbox
//! tells the shard: all that have come when the shard gets to it are one turn. And each connection
//! has one [`ReplySlot`] a shard, which serves for all its batches.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

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
    pub fn new() -> Self {
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

/// What is in a [`ReplySlot`].
#[derive(Debug, Default)]
enum Content {
    /// Nothing, and nobody has looked.
    #[default]
    Empty,
    /// Nothing yet; this task waits.
    Awaited(Waker),
    /// The batch.
    Back(Box<Batch>),
    /// Nothing, for ever: the shard has dropped the batch.
    Lost,
}

/// Where a connection's batches come back from one shard, one at a time.
#[derive(Debug, Default)]
pub struct ReplySlot(Arc<Mutex<Content>>);

impl ReplySlot {
    /// Returns the way into the slot for the next batch.
    #[inline]
    pub fn reply(&self) -> Reply {
        Reply(Some(self.0.clone()))
    }

    /// Waits for the batch.
    ///
    /// # Errors
    /// [`Stopped`]: it will not come back.
    #[inline]
    pub async fn receive(&self) -> Result<Box<Batch>, Stopped> {
        poll_fn(|context| {
            let mut content = lock(&self.0);
            match std::mem::take(&mut *content) {
                Content::Back(batch) => Poll::Ready(Ok(batch)),
                Content::Lost => Poll::Ready(Err(Stopped)),
                Content::Empty | Content::Awaited(_) => {
                    *content = Content::Awaited(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

/// The way into a [`ReplySlot`] for one batch.
#[derive(Debug)]
pub struct Reply(Option<Arc<Mutex<Content>>>);

impl Reply {
    /// Gives the batch back.
    #[inline]
    pub fn send(mut self, batch: Box<Batch>) {
        self.put(Content::Back(batch));
    }

    #[inline]
    fn put(&mut self, content: Content) {
        let Some(slot) = self.0.take() else { return };
        let before = std::mem::replace(&mut *lock(&slot), content);
        if let Content::Awaited(waker) = before {
            waker.wake();
        }
    }
}

impl Drop for Reply {
    #[inline]
    fn drop(&mut self) {
        self.put(Content::Lost);
    }
}

/// Locks what is changed by one push, swap or assignment at a time, so that it is sound even if a
/// holder panicked.
#[inline]
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
