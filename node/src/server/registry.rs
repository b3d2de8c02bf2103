//! The connected clients, as other connections see them (`CLIENT LIST`, `CLIENT KILL`).
//!
//! A connection tells about itself with a few relaxed stores a turn; everything else is read by
//! those who ask.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::blocked::Unblock;
use crate::clock::{self, SharedTicks};
use crate::limits::{IDLE_BUFFERS_KEPT, LARGE_BUFFER_BYTES};
use crate::records::UnixMillis;

/// No command yet, where an index of the command table stands.
pub const NO_COMMAND: u16 = u16::MAX;

/// What a client says about itself.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// `CLIENT SETNAME`.
    pub name: String,
    /// `CLIENT SETINFO LIB-NAME`.
    pub library: String,
    /// `CLIENT SETINFO LIB-VER`.
    pub library_version: String,
}

/// What is known of a connection when it comes.
#[derive(Debug, Clone, Copy)]
pub struct Socket {
    /// The client's end.
    pub address: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
    /// Number of the socket in this process.
    pub descriptor: i32,
}

/// The task that serves a client.
#[derive(Debug, Default)]
enum Task {
    /// It has not started yet.
    #[default]
    Awaited,
    Serves(AbortHandle),
    /// It has ended, or must as soon as it starts.
    Killed,
}

/// A connected client.
#[derive(Debug)]
pub struct Client {
    /// Number of the connection, never used again.
    pub id: u64,
    /// Its end of the connection.
    pub address: SocketAddr,
    /// Our end of the connection.
    pub local: SocketAddr,
    /// Number of its socket in this process, for those who look with system tools.
    pub descriptor: i32,
    /// When it came.
    pub connected: UnixMillis,
    /// When it last sent something, or took some of its replies.
    pub active: SharedTicks,
    /// Whether a turn is under way, from the first byte read to the last byte written.
    pub busy: AtomicBool,
    /// Whether it waits for `CLIENT PAUSE` to end, or in a blocking command.
    pub blocked: AtomicBool,
    /// Selected database.
    pub database: AtomicU8,
    /// Protocol version: 2 or 3.
    pub version: AtomicU8,
    /// Index in the table of its last command, or [`NO_COMMAND`].
    pub last_command: AtomicU16,
    /// `CLIENT NO-EVICT`.
    pub no_evict: AtomicBool,
    /// `CLIENT NO-TOUCH`.
    pub no_touch: AtomicBool,
    /// Bytes of requests in its buffer.
    pub input_bytes: AtomicUsize,
    /// Size of that buffer.
    pub input_capacity: AtomicUsize,
    /// Bytes of replies that the socket has not taken yet.
    pub output_bytes: AtomicUsize,
    /// How often the socket has taken all that there was.
    pub writes: AtomicU64,
    /// Whether its task is to give its buffers back.
    release: AtomicBool,
    names: Mutex<Names>,
    waiting: Mutex<Option<oneshot::Sender<Unblock>>>,
    task: Mutex<Task>,
    waker: OnceLock<Waker>,
}

impl Client {
    fn new(id: u64, socket: Socket) -> Self {
        let Socket { address, local, descriptor } = socket;
        Client {
            id,
            address,
            local,
            descriptor,
            connected: clock::now(),
            active: SharedTicks::now(),
            busy: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            database: AtomicU8::new(0),
            version: AtomicU8::new(2),
            last_command: AtomicU16::new(NO_COMMAND),
            no_evict: AtomicBool::new(false),
            no_touch: AtomicBool::new(false),
            input_bytes: AtomicUsize::new(0),
            input_capacity: AtomicUsize::new(0),
            output_bytes: AtomicUsize::new(0),
            writes: AtomicU64::new(0),
            release: AtomicBool::new(false),
            names: Mutex::default(),
            waiting: Mutex::default(),
            task: Mutex::default(),
            waker: OnceLock::new(),
        }
    }

    /// Another node that sends on what its clients want; it is in no registry.
    pub fn of_node(address: SocketAddr) -> Self {
        Client::new(0, Socket { address, local: address, descriptor: -1 })
    }

    /// What it says about itself.
    pub fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How `CLIENT UNBLOCK` reaches the command that the client waits in.
    pub(super) fn waiting(&self) -> MutexGuard<'_, Option<oneshot::Sender<Unblock>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a command of it is under way: the client waits for the node, and not the other way
    /// round.
    pub fn is_served(&self) -> bool {
        self.busy.load(Ordering::Relaxed) && self.output_bytes.load(Ordering::Relaxed) == 0
    }

    /// Whether nothing is done for it, or only waited.
    pub fn is_idle(&self) -> bool {
        !self.busy.load(Ordering::Relaxed) || self.blocked.load(Ordering::Relaxed)
    }

    /// Seconds since it last sent or took something.
    pub fn idle_seconds(&self) -> u64 {
        self.active.elapsed().as_secs()
    }

    /// Notes that the socket has taken all replies. Only its own task calls this.
    #[inline]
    pub fn written(&self) {
        self.output_bytes.store(0, Ordering::Relaxed);
        let writes = self.writes.load(Ordering::Relaxed);
        self.writes.store(writes.wrapping_add(1), Ordering::Relaxed);
    }

    /// Says which task serves the client; [`Client::kill`] ends that.
    pub fn served_by(&self, task: AbortHandle) {
        let mut served = self.task();
        match *served {
            Task::Killed => task.abort(),
            Task::Awaited | Task::Serves(_) => *served = Task::Serves(task),
        }
    }

    /// Says what wakes that task.
    pub fn woken_by(&self, waker: Waker) {
        // Set once, by the task itself.
        let _ = self.waker.set(waker);
    }

    /// Whether it has said nothing for so long that it needs no buffers.
    pub fn is_silent(&self) -> bool {
        self.active.elapsed() >= IDLE_BUFFERS_KEPT
    }

    /// Whether it holds a buffer that is large, or that it does not need while it is silent.
    pub fn may_waste_memory(&self) -> bool {
        let capacity = self.input_capacity.load(Ordering::Relaxed);
        capacity > self.input_bytes.load(Ordering::Relaxed)
            && !self.busy.load(Ordering::Relaxed)
            && (self.is_silent() || capacity > LARGE_BUFFER_BYTES)
    }

    /// Has the task give back what it does not need of its buffers, while it waits for the client.
    pub fn ask_to_release(&self) {
        self.release.store(true, Ordering::Release);
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }

    /// Whether the task was asked to give buffers back; only the client's own task asks.
    #[inline]
    pub fn must_release(&self) -> bool {
        self.release.load(Ordering::Relaxed) && self.release.swap(false, Ordering::Acquire)
    }

    /// Closes the connection, at the next point where its task waits; if that has not started yet,
    /// as soon as it does.
    pub fn kill(&self) {
        if let Task::Serves(task) = std::mem::replace(&mut *self.task(), Task::Killed) {
            task.abort();
        }
    }

    fn task(&self) -> MutexGuard<'_, Task> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All connected clients.
#[derive(Debug, Default)]
pub struct Registry {
    clients: Mutex<BTreeMap<u64, Arc<Client>>>,
    last_id: AtomicU64,
}

impl Registry {
    /// Adds a client unless there are `max` already.
    pub fn add(&self, socket: Socket, max: u32) -> Option<Arc<Client>> {
        let mut clients = self.lock();
        if clients.len() >= max as usize {
            return None;
        }
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let client = Arc::new(Client::new(id, socket));
        clients.insert(id, client.clone());
        Some(client)
    }

    /// Removes a client that is gone.
    pub fn remove(&self, id: u64) {
        self.lock().remove(&id);
    }

    /// The client of this number, if it is still there.
    pub fn get(&self, id: u64) -> Option<Arc<Client>> {
        self.lock().get(&id).cloned()
    }

    /// All clients in the order they came.
    pub fn all(&self) -> Vec<Arc<Client>> {
        self.lock().values().cloned().collect()
    }

    /// Whether there are clients that came to this port of ours.
    pub fn are_any_at(&self, port: u16) -> bool {
        self.lock().values().any(|client| client.local.port() == port)
    }

    /// Number of clients.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Client>>> {
        // Each change is one insertion or removal, so the map is sound even if a holder panicked.
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client's place in the registry; dropping it removes the client.
pub struct Registered {
    registry: Arc<Registry>,
    /// The client.
    pub client: Arc<Client>,
}

impl Registered {
    /// Binds the client's place to the value's life.
    pub fn new(registry: Arc<Registry>, client: Arc<Client>) -> Self {
        Registered { registry, client }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.remove(self.client.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(port: u16) -> Socket {
        let end = |port| ([127, 0, 0, 1], port).into();
        Socket { address: end(port), local: end(9), descriptor: port.into() }
    }

    #[test]
    fn a_full_registry_takes_no_more_until_one_leaves() {
        let registry = Arc::new(Registry::default());
        let first = registry.add(socket(1), 2).unwrap();
        let first = Registered::new(registry.clone(), first);
        let second = registry.add(socket(2), 2).unwrap();
        assert!(second.id > first.client.id);
        assert!(registry.add(socket(3), 2).is_none());
        drop(first);
        assert_eq!(registry.len(), 1);
        let third = registry.add(socket(3), 2).unwrap();
        assert!(third.id > second.id, "a number is never used again");
    }

    #[tokio::test]
    async fn a_client_that_is_killed_before_its_task_starts_is_not_served() {
        let registry = Arc::new(Registry::default());
        let client = registry.add(socket(1), 1).unwrap();
        client.kill();
        let task = tokio::spawn(std::future::pending::<()>());
        client.served_by(task.abort_handle());
        let limit = std::time::Duration::from_secs(60);
        let ended = tokio::time::timeout(limit, task).await.expect("it is not served");
        assert!(ended.unwrap_err().is_cancelled());
    }
}
