//! The shard actor: owns the keys of its partitions, and executes batches on them one by one.
//!
//! It must never wait: what takes long is done in slices.

use actix::dev::SendError;
use actix::{Actor, Addr, Context, Handler, Message};
use actix_rt::ArbiterHandle;
use tokio::sync::oneshot;

use crate::limits::SHARD_MAILBOX;
use crate::shard::ShardState;
use crate::shard::batch::Batch;

/// Executes a batch; it comes back through `reply` with its replies.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Execute {
    /// The commands.
    pub batch: Box<Batch>,
    /// Where the batch goes when its replies may be seen.
    pub reply: oneshot::Sender<Box<Batch>>,
}

/// Runs a function on the shard's state, for what concerns all shards: sizes, scans, statistics.
#[derive(Message)]
#[rtype(result = "R")]
pub struct Visit<R: Send + 'static> {
    /// What to do there. It must be quick: the shard does nothing else meanwhile.
    pub visit: Box<dyn FnOnce(&mut ShardState) -> R + Send>,
}

/// The shard has stopped, and the node with it.
#[derive(Debug, thiserror::Error)]
#[error("the node is stopping")]
pub struct Stopped;

impl From<Stopped> for std::io::Error {
    fn from(stopped: Stopped) -> Self {
        std::io::Error::other(stopped)
    }
}

/// The way to a shard from any thread.
#[derive(Clone)]
pub struct ShardHandle(Addr<Shard>);

impl ShardHandle {
    /// Starts a shard on an arbiter; `make` runs there.
    pub fn start(arbiter: &ArbiterHandle, make: impl FnOnce() -> Shard + Send + 'static) -> Self {
        ShardHandle(Shard::start_in_arbiter(arbiter, move |_| make()))
    }

    /// Sends a batch, waiting for a place in the mailbox. Returns where it will come back.
    ///
    /// # Errors
    /// [`Stopped`].
    #[inline]
    pub async fn execute(
        &self,
        batch: Box<Batch>,
    ) -> Result<oneshot::Receiver<Box<Batch>>, Stopped> {
        let (reply, receiver) = oneshot::channel();
        match self.0.try_send(Execute { batch, reply }) {
            Ok(()) => Ok(receiver),
            Err(SendError::Full(message)) => {
                self.0.send(message).await.map_err(|_| Stopped)?;
                Ok(receiver)
            }
            Err(SendError::Closed(_)) => Err(Stopped),
        }
    }

    /// Runs a function on the shard's state and returns its result.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn visit<R: Send + 'static>(
        &self,
        visit: impl FnOnce(&mut ShardState) -> R + Send + 'static,
    ) -> Result<R, Stopped> {
        self.0.send(Visit { visit: Box::new(visit) }).await.map_err(|_| Stopped)
    }
}

/// One shard.
pub struct Shard {
    state: ShardState,
}

impl Shard {
    /// Returns the actor of this shard.
    pub fn new(state: ShardState) -> Self {
        Shard { state }
    }
}

impl Actor for Shard {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(SHARD_MAILBOX);
    }
}

impl Handler<Execute> for Shard {
    type Result = ();

    fn handle(&mut self, message: Execute, _: &mut Self::Context) {
        let Execute { mut batch, reply } = message;
        self.state.execute(&mut batch);
        // A connection that is gone needs no answer.
        let _ = reply.send(batch);
    }
}

impl<R: Send + 'static> Handler<Visit<R>> for Shard {
    type Result = actix::MessageResult<Visit<R>>;

    fn handle(&mut self, message: Visit<R>, _: &mut Self::Context) -> Self::Result {
        actix::MessageResult((message.visit)(&mut self.state))
    }
}
