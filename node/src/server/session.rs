//! What a node remembers of one connection.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use distcache_protocol::resp::RespVersion;

use super::coordinate::Origin;
use super::counters::ThreadCounters;
use super::forward::Unreached;
use super::listen::Access;
use super::registry::{Client, Registered};
use crate::clock::Ticks;
use crate::cluster::view::ClusterView;
use crate::command::{Args, Command};
use crate::config::Config;
use crate::monitor::Caller;
use crate::node::Node;

/// Which replies a client gets (`CLIENT REPLY`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Replies {
    /// All.
    #[default]
    On,
    /// None.
    Off,
    /// All but that to the next command.
    SkipNext,
    /// All but that to the command that runs now.
    Skip,
}

/// State of one connection, which its commands may change.
pub struct Session {
    /// The node it is connected to.
    pub node: Arc<Node>,
    /// Number of the connection, never used again.
    pub id: u64,
    /// The connection as others see it.
    registered: Registered,
    thread: usize,
    /// Configuration as of the last turn.
    pub config: Arc<Config>,
    generation: u64,
    /// Whether the client comes by the port for those that know the slots.
    pub access: Access,
    /// The cluster as of the last turn.
    pub view: Arc<ClusterView>,
    view_generation: u64,
    /// Whether a key may be another node's, or its slot matters otherwise. Where not, which is so
    /// on a node that has no others beside it, the request path knows nothing of slots.
    pub minds_slots: bool,
    /// Nodes that were not reached, of what the client has sent last.
    pub(super) unreached: Unreached,
    /// Protocol version of the replies.
    pub version: RespVersion,
    /// Selected database.
    pub database: u8,
    /// Whether the client has said the password, or came while none was asked for.
    pub authenticated: bool,
    /// Whether its commands update access clocks.
    pub touching: bool,
    /// Which replies the client gets.
    pub replies: Replies,
    /// Whether the connection ends once the replies so far are written.
    pub closing: bool,
    /// Whether the connection ends at once.
    pub aborted: bool,
}

impl Session {
    /// What a coordinator needs to know of this session.
    pub fn origin(&self) -> Origin {
        Origin { database: self.database, version: self.version, touching: self.touching }
    }

    /// Counts a command that was run here, since `start`, and notes it if it was slow.
    pub(super) fn note_run(&self, command: Command, args: Args<'_>, start: Ticks, failed: bool) {
        let raw_ticks = Ticks::now().raw_since(start);
        let tracked = self.config.latency_tracking;
        self.node.commands.executed(command.index, raw_ticks, failed, tracked);
        if raw_ticks >= self.node.monitor.threshold() {
            self.node.monitor.note(Caller::Client(self.id), command, args, raw_ticks);
        }
    }

    /// Returns the state of a new connection that thread `thread` serves.
    pub fn new(node: Arc<Node>, client: Arc<Client>, access: Access, thread: usize) -> Self {
        let generation = node.config.generation();
        let config = node.config.current();
        let authenticated = config.requirepass.is_none();
        let view_generation = node.cluster.generation();
        let view = node.cluster.view();
        Session {
            id: client.id,
            registered: Registered::new(node.clients.clone(), client),
            node,
            thread,
            config,
            generation,
            access,
            minds_slots: access != Access::Any || !view.is_alone(),
            view,
            view_generation,
            unreached: Unreached::default(),
            version: RespVersion::V2,
            database: 0,
            authenticated,
            touching: true,
            replies: Replies::On,
            closing: false,
            aborted: false,
        }
    }

    /// The connection as others see it.
    #[inline]
    pub fn client(&self) -> &Arc<Client> {
        &self.registered.client
    }

    /// Whether the client may run commands: all may while no password is asked for.
    #[inline]
    pub fn may_run(&self) -> bool {
        self.authenticated || self.config.requirepass.is_none()
    }

    /// Which thread serves the connection, by index.
    pub fn thread(&self) -> usize {
        self.thread
    }

    /// The counters of this connection's thread.
    #[inline]
    pub fn counters(&self) -> &ThreadCounters {
        self.node.parts.counters.of_thread(self.thread)
    }

    /// Takes over what `CONFIG SET`, and the cluster, changed since the last turn. Cost: two loads.
    #[inline]
    pub fn refresh(&mut self) {
        if self.generation != self.node.config.generation() {
            self.generation = self.node.config.generation();
            self.config = self.node.config.current();
        }
        if self.view_generation != self.node.cluster.generation() {
            self.refresh_view();
        }
    }

    /// Takes over what is known of the cluster now.
    #[cold]
    pub fn refresh_view(&mut self) {
        self.view_generation = self.node.cluster.generation();
        self.view = self.node.cluster.view();
        self.minds_slots = self.access != Access::Any || !self.view.is_alone();
    }

    /// Whether what is replied now is not for the client.
    #[inline]
    pub fn is_muted(&self) -> bool {
        matches!(self.replies, Replies::Off | Replies::Skip)
    }

    /// Selects a database.
    pub fn select(&mut self, database: u8) {
        self.database = database;
        self.client().database.store(database, Ordering::Relaxed);
    }

    /// Changes the protocol version.
    pub fn speak(&mut self, version: RespVersion) {
        self.version = version;
        let number = if version == RespVersion::V3 { 3 } else { 2 };
        self.client().version.store(number, Ordering::Relaxed);
    }

    /// Returns to the state of a new connection (`RESET`).
    pub fn reset(&mut self) {
        self.speak(RespVersion::V2);
        self.select(0);
        self.authenticated = self.config.requirepass.is_none();
        self.touching = true;
        self.replies = Replies::On;
        let client = self.client();
        client.names().name.clear();
        client.no_touch.store(false, Ordering::Relaxed);
        client.no_evict.store(false, Ordering::Relaxed);
    }
}
