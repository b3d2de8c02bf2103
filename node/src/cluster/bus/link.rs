//! The calling side: one connection a peer and class, dialled when it is needed.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use distcache_protocol::peer::{Class, Frame, Kind, Role};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::{coop, yield_now};

use super::backoff::BackOff;
use super::dial::{Dialled, dial};
use super::limits::{
    CALL_EXTENSIONS_MAX, CALLS_MAX, LINK_LINGER, call_bytes_max, collecting_turns,
};
use super::open::Direction;
use super::wire::{FrameReader, MessageWriter};
use super::{BusError, Shared, locked};
use crate::clock::{self, Ticks};
use crate::cluster::table::NodeId;

/// The way to one peer in one class.
pub(super) struct Link {
    peer: NodeId,
    class: Class,
    calls: Semaphore,
    bytes: Arc<Semaphore>,
    next_id: AtomicU64,
    queue: mpsc::Sender<Call>,
    waiting: Arc<Waiting>,
    /// Parts of long messages that were written or have come.
    parts: Arc<AtomicUsize>,
}

type Waiting = Mutex<HashMap<u64, Answer>>;

/// A request that is not written yet.
struct Call {
    id: u64,
    kind: Kind,
    body: Bytes,
    answer: Answer,
}

/// Where the reply goes, and the room that the request takes until then.
struct Answer {
    sender: oneshot::Sender<Result<Bytes, BusError>>,
    _held: OwnedSemaphorePermit,
}

/// Removes a call from those that wait, however it ends.
struct Forget<'a>(&'a Waiting, u64);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        locked(self.0).remove(&self.1);
    }
}

impl Link {
    /// Returns a link, and starts the task that dials `address` for it. It ends when the link is
    /// dropped, or who tells the address.
    pub(super) fn start(
        peer: NodeId,
        class: Class,
        address: watch::Receiver<Arc<str>>,
        shared: Arc<Shared>,
    ) -> Arc<Self> {
        let (queue, calls) = mpsc::channel(CALLS_MAX);
        let waiting = Arc::<Waiting>::default();
        let parts = Arc::<AtomicUsize>::default();
        let runtime = shared.runtime_of(class).clone();
        let task =
            Task { peer, class, shared, waiting: waiting.clone(), parts: parts.clone(), address };
        runtime.spawn(task.run(calls));
        Arc::new(Link {
            peer,
            class,
            calls: Semaphore::new(CALLS_MAX),
            bytes: Arc::new(Semaphore::new(call_bytes_max(class))),
            next_id: AtomicU64::new(1),
            queue,
            waiting,
            parts,
        })
    }

    /// Asks the peer, and waits for its reply. The time begins anew, for a bounded number of times,
    /// if a part of a long message was written or has come meanwhile.
    pub(super) async fn call(
        &self,
        kind: Kind,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, BusError> {
        let busy = |_| BusError::Busy { peer: self.peer, class: self.class, calls: CALLS_MAX };
        let _call = self.calls.try_acquire().map_err(busy)?;
        let answer = while_moving(timeout, &self.parts, self.ask(kind, body)).await;
        answer.unwrap_or(Err(BusError::TimedOut { peer: self.peer, after: timeout }))
    }

    async fn ask(&self, kind: Kind, body: Bytes) -> Result<Bytes, BusError> {
        let id = self.next_id.fetch_add(1, Relaxed);
        // Before the channel: its end is dropped first, so who adds the call later sees that.
        let _forget = Forget(&self.waiting, id);
        let (sender, answer) = oneshot::channel();
        // The runtime makes a task wait that has done much in one turn: if that were here, the
        // task's next call could overtake this one.
        coop::unconstrained(self.enqueue(id, kind, body, sender)).await?;
        answer.await.unwrap_or_else(|_| Err(BusError::UnknownPeer(self.peer)))
    }

    /// Gives a call to the task that writes it, once there is room for it.
    async fn enqueue(
        &self,
        id: u64,
        kind: Kind,
        body: Bytes,
        sender: oneshot::Sender<Result<Bytes, BusError>>,
    ) -> Result<(), BusError> {
        // At least one, so that no call overtakes those that wait for room; one that goes in parts
        // counts as the longest frame, so that others pass.
        let bytes = body.len().clamp(1, self.class.body_bytes_max()) as u32;
        let held = self.bytes.clone().acquire_many_owned(bytes).await;
        let call =
            Call { id, kind, body, answer: Answer { sender, _held: held.expect("never closed") } };
        self.queue.send(call).await.map_err(|_| BusError::UnknownPeer(self.peer))
    }

    /// Waits until no call is under way.
    pub(super) async fn finish(&self) {
        let all = self.calls.acquire_many(CALLS_MAX as u32).await;
        drop(all.expect("never closed"));
    }
}

/// Waits for something that has this time, and has it anew, for a bounded number of times, where
/// the number of `parts` has changed meanwhile. `None`: its time is over.
pub(super) async fn while_moving<T>(
    time: Duration,
    parts: &AtomicUsize,
    waiting: impl Future<Output = T>,
) -> Option<T> {
    let mut waiting = pin!(waiting);
    for _ in 0..=CALL_EXTENSIONS_MAX {
        let before = parts.load(Relaxed);
        let done = clock::within(Some(time), waiting.as_mut()).await;
        if done.is_some() {
            return done;
        }
        if parts.load(Relaxed) == before {
            break;
        }
    }
    None
}

/// Why a connection is over.
enum End {
    /// It broke, or the peer closed it.
    Lost(String),
    /// The address is another one now.
    Moved,
    /// The link is not needed any more.
    Dropped,
}

/// What dials, writes requests and finds the call of each reply.
struct Task {
    peer: NodeId,
    class: Class,
    shared: Arc<Shared>,
    waiting: Arc<Waiting>,
    parts: Arc<AtomicUsize>,
    address: watch::Receiver<Arc<str>>,
}

impl Task {
    async fn run(mut self, mut calls: mpsc::Receiver<Call>) {
        let mut back_off = BackOff::default();
        let mut rest: Option<(Ticks, Duration, BusError)> = None;
        loop {
            let first = tokio::select! {
                // A call that comes after its address must not get an error of the one before.
                biased;
                changed = self.address.changed() => match changed {
                    Ok(()) => {
                        (back_off, rest) = (BackOff::default(), None);
                        continue;
                    }
                    Err(_) => return,
                },
                call = calls.recv() => call,
            };
            let Some(first) = first else { return };
            if let Some((since, pause, error)) = &rest
                && Ticks::now().since(*since) < *pause
            {
                first.fail(error.clone());
                continue;
            }
            let Some(dialled) = self.connect().await else { return };
            let ended = match dialled {
                Ok(dialled) => self.converse(dialled, first, &mut calls, &mut back_off).await,
                Err(error) => {
                    let pause = back_off.failed(clock::random_seed());
                    rest = Some((Ticks::now(), pause, error.clone()));
                    // Who came while it was tried has the same answer.
                    first.fail(error.clone());
                    while let Ok(call) = calls.try_recv() {
                        call.fail(error.clone());
                    }
                    continue;
                }
            };
            rest = None;
            if let End::Dropped = ended {
                return;
            }
        }
    }

    /// Dials, and begins anew whenever the address changes meanwhile. `None`: the link is not
    /// needed any more.
    async fn connect(&mut self) -> Option<Result<Dialled, BusError>> {
        loop {
            let address = self.address.borrow_and_update().clone();
            tokio::select! {
                changed = self.address.changed() => changed.ok()?,
                dialled = dial(&self.shared, &address, self.class, Some(self.peer.0)) => {
                    return Some(dialled);
                }
            }
        }
    }

    /// Uses a connection to its end; then all calls that wait for a reply have failed.
    async fn converse(
        &mut self,
        dialled: Dialled,
        first: Call,
        calls: &mut mpsc::Receiver<Call>,
        back_off: &mut BackOff,
    ) -> End {
        let Dialled { reader, writer, version, .. } = dialled;
        let _open = self.shared.open.add(Direction::To, self.peer, writer.frames.sending());
        let on_part = || {
            self.parts.fetch_add(1, Relaxed);
        };
        let mut reading = pin!(read(reader, &self.waiting, back_off, on_part));
        let writing = Writing { writer, class: self.class, version, waiting: &self.waiting };
        let end = tokio::select! {
            // A call that comes after a new address must not go to the one before.
            biased;
            changed = self.address.changed() => match changed {
                Ok(()) => End::Moved,
                Err(_) => End::Dropped,
            },
            end = &mut reading => end,
            end = writing.run(first, calls, on_part) => end,
        };
        if let End::Dropped = end {
            // What was asked before is answered still.
            let answered = async {
                tokio::select! {
                    _ = reading => {}
                    () = all_answered(&self.waiting) => {}
                }
            };
            // Too late: those that wait hear below that nobody knows what became of it.
            let _ = clock::within(Some(LINK_LINGER), answered).await;
        }
        let why = match &end {
            End::Lost(why) => why.clone(),
            End::Moved => "its address has changed".to_owned(),
            End::Dropped => "it is not a peer any more".to_owned(),
        };
        let waiting = std::mem::take(&mut *locked(&self.waiting));
        for (_, answer) in waiting {
            let lost = BusError::Lost { peer: self.peer, why: why.clone() };
            // Who does not wait any more needs no answer.
            let _ = answer.sender.send(Err(lost));
        }
        end
    }
}

async fn all_answered(waiting: &Waiting) {
    while !locked(waiting).is_empty() {
        clock::sleep(LINK_LINGER / 100).await;
    }
}

impl Call {
    fn fail(self, error: BusError) {
        // Who does not wait any more needs no answer.
        let _ = self.answer.sender.send(Err(error));
    }
}

async fn read<R: AsyncRead + Unpin>(
    (mut reader, peer): (FrameReader<R>, NodeId),
    waiting: &Waiting,
    back_off: &mut BackOff,
    on_part: impl Fn() + Copy,
) -> End {
    loop {
        let frame = match reader.next(on_part).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return End::Lost("the peer closed it".to_owned()),
            Err(error) => return End::Lost(error.to_string()),
        };
        back_off.succeeded();
        // None: the call has timed out.
        let Some(answer) = locked(waiting).remove(&frame.id) else { continue };
        let result = match frame.role {
            Role::Error => {
                let text = String::from_utf8_lossy(&frame.body).into_owned();
                Err(BusError::Failed { peer, text })
            }
            Role::Reply | Role::Request | Role::Part => Ok(frame.body),
        };
        let _ = answer.sender.send(result);
    }
}

/// What writes the requests on a connection.
struct Writing<'a, W> {
    writer: MessageWriter<W, ()>,
    class: Class,
    version: u8,
    waiting: &'a Waiting,
}

impl<W: AsyncWrite + Unpin> Writing<'_, W> {
    /// Writes requests for ever, those that come together with one call of the system. Long ones
    /// go in parts, and others between these.
    async fn run(
        mut self,
        first: Call,
        calls: &mut mpsc::Receiver<Call>,
        on_part: impl Fn(),
    ) -> End {
        let mut next = Some(first);
        loop {
            let written = async {
                for turn in 0..=collecting_turns(self.class) {
                    if turn > 0 {
                        yield_now().await;
                    }
                    while let Some(call) = next.take().or_else(|| calls.try_recv().ok()) {
                        self.write_one(call).await?;
                    }
                }
                if self.writer.has_more() {
                    self.writer.write_part().await?;
                    on_part();
                }
                self.writer.frames.flush().await
            };
            if let Err(error) = written.await {
                return End::Lost(error.to_string());
            }
            if self.writer.has_more() {
                continue;
            }
            next = calls.recv().await;
            if next.is_none() {
                return End::Dropped;
            }
        }
    }

    async fn write_one(&mut self, call: Call) -> std::io::Result<()> {
        let (bytes, max) = (call.body.len(), self.class.request_bytes_max(self.version));
        if bytes > max {
            // The peer's build knows no parts.
            call.fail(BusError::TooLong { bytes, class: self.class, max });
            return Ok(());
        }
        let Call { id, kind, body, answer } = call;
        {
            // The reply may come before the writer is back.
            let mut waiting = locked(self.waiting);
            let answer = waiting.entry(id).insert_entry(answer);
            if answer.get().sender.is_closed() {
                answer.remove();
                return Ok(());
            }
        }
        let frame = Frame { role: Role::Request, kind, id, body };
        self.writer.write(frame, ()).await.map(|_| ())
    }
}
