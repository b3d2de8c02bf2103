//! Sockets: accepting clients, and what is done with their requests.
//!
//! - [`dispatch`]: every rejection, and the route of what is admitted;
//! - [`connection`]: one task a client;
//! - [`listen`]: the sockets that clients come to;
//! - [`forward`]: commands on keys that another node serves;
//! - [`slots`]: which node a command's keys live on;
//! - [`coordinate`]: commands whose keys live on several shards;
//! - [`session`], [`socket`]: what is remembered of a client, and the way to it;
//! - [`registry`]: the clients as others see them;
//! - `arrival`: commands on keys that are just coming;
//! - [`blocked`]: clients that wait in a command;
//! - [`counters`], [`pause`], [`sweep`]: statistics, `CLIENT PAUSE`, closing those that must go.

mod arrival;
pub mod blocked;
pub mod connection;
pub mod coordinate;
pub mod counters;
pub mod dispatch;
pub mod forward;
mod input;
pub mod listen;
pub mod pause;
pub mod registry;
pub mod session;
pub mod slots;
pub mod socket;
pub mod sweep;

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix_rt::ArbiterHandle;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};

use crate::actors::shard::ShardHandle;
use crate::command::CommandError;
use crate::compaction;
use crate::limits::WARNING_PAUSE;
use crate::logger::Seldom;
use crate::node::Node;
use crate::shard::ShardState;
use crate::sockets::spare_congestion_control;
use connection::Connection;
use listen::Access;
use registry::Client;
use session::Session;
use socket::Socket;

/// How long accepting rests after an error, such as too many open files.
pub const ACCEPT_REST: Duration = Duration::from_millis(100);

/// How often [`finish`] looks whether all clients are gone.
const FINISH_INTERVAL: Duration = Duration::from_millis(5);

/// How often a scheduled compaction looks whether the one before has ended.
const COMPACTION_INTERVAL: Duration = Duration::from_millis(20);

/// Accepts clients for ever, and gives them to the arbiters in turn.
pub async fn accept(
    listener: TcpListener,
    access: Access,
    node: Arc<Node>,
    arbiters: Vec<ArbiterHandle>,
) {
    let not_accepted = Seldom::new(WARNING_PAUSE);
    for (thread, arbiter) in arbiters.iter().enumerate().cycle() {
        match accept_one(&listener, &node).await {
            Ok(Some((stream, client))) => {
                let session = Session::new(node.clone(), client, access, thread);
                start(stream, session, arbiter);
            }
            Ok(None) => {}
            Err(error) => {
                let (level, error) = (not_accepted.level(), error.to_string());
                log::log!(level, error = error.as_str(); "accepting a client failed");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
}

/// Accepts one client. `None`: it was refused, or is gone already.
async fn accept_one(
    listener: &TcpListener,
    node: &Node,
) -> io::Result<Option<(std::net::TcpStream, Arc<Client>)>> {
    let (stream, address) = listener.accept().await?;
    let config = node.config.current();
    let Ok(local) = stream.local_addr() else { return Ok(None) };
    let socket = registry::Socket { address, local, descriptor: stream.as_raw_fd() };
    let Some(client) = node.clients.add(socket, config.maxclients) else {
        refuse(node, &stream, address);
        return Ok(None);
    };
    node.counters.connections.fetch_add(1, Ordering::Relaxed);
    spare_congestion_control(&stream, address);
    if let Err(error) = prepare(&stream, config.tcp_keepalive_s) {
        log::debug!(error = error.to_string().as_str(); "options of a new connection");
    }
    match stream.into_std() {
        Ok(stream) => Ok(Some((stream, client))),
        Err(error) => {
            node.clients.remove(client.id);
            Err(error)
        }
    }
}

fn refuse(node: &Node, stream: &TcpStream, address: SocketAddr) {
    node.counters.rejected_connections.fetch_add(1, Ordering::Relaxed);
    // A fresh socket has room for one line; a client that left needs no explanation.
    let _ = stream.try_write(b"-ERR max number of clients reached\r\n");
    log::debug!(address = address.to_string().as_str(); "refused a client: maxclients");
}

fn prepare(stream: &TcpStream, keepalive_s: u32) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if keepalive_s == 0 {
        return Ok(());
    }
    let time = Duration::from_secs(keepalive_s.into());
    // As Redis: probes of a silent peer come three times as often as the first one.
    let interval = (time / 3).max(Duration::from_secs(1));
    let keepalive = TcpKeepalive::new().with_time(time).with_interval(interval);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// Starts a client's task on its arbiter. Whatever happens to the task, the client leaves the
/// registry with its session.
fn start(stream: std::net::TcpStream, session: Session, arbiter: &ArbiterHandle) {
    arbiter.spawn_fn(move || {
        let Ok(socket) = Socket::new(stream) else { return };
        let client = session.client().clone();
        let task = actix_rt::spawn(async move {
            let id = session.id;
            if let Err(error) = Connection::new(socket, session).serve().await {
                log::debug!(client = id, error = error.to_string().as_str(); "connection ended");
            }
        });
        client.served_by(task.abort_handle());
    });
}

/// Closes all connections, those with a turn under way once it is done, but at the latest after
/// `patience`. Those that are blocked may be so for ever, and are not waited for.
pub async fn finish(node: &Node, patience: Duration) {
    let all_gone = async {
        let mut interval = tokio::time::interval(FINISH_INTERVAL);
        while !node.clients.is_empty() {
            let clients = node.clients.all();
            let idle = clients.iter().filter(|client| client.is_idle());
            idle.for_each(|client| client.kill());
            interval.tick().await;
        }
    };
    if tokio::time::timeout(patience, all_gone).await.is_err() {
        log::warn!(clients = node.clients.len(); "stopping although clients are not done");
    }
}

/// Runs a function on each shard, one after the other; returns the results in the shards' order.
///
/// # Errors
/// The node is stopping.
pub async fn for_all_shards<R: Send + 'static>(
    node: &Node,
    visit: impl Fn(&mut ShardState) -> R + Clone + Send + 'static,
) -> Result<Vec<R>, CommandError> {
    let mut results = Vec::with_capacity(node.shards.len());
    for shard in &node.shards {
        results.push(shard.visit(visit.clone()).await.map_err(CommandError::err)?);
    }
    Ok(results)
}

/// Runs a function that may block, on a thread of its own.
///
/// # Errors
/// The node is stopping.
pub async fn off_thread<R: Send + 'static>(
    work: impl FnOnce() -> R + Send + 'static,
) -> Result<R, CommandError> {
    tokio::task::spawn_blocking(work).await.map_err(CommandError::err)
}

/// Compacts the log, while the connection that asked for it goes on. A compaction that is under
/// way ends first; asking again meanwhile asks for nothing more.
pub fn compact_in_background(node: Arc<Node>) {
    if node.compaction_scheduled.swap(true, Ordering::Relaxed) {
        return;
    }
    actix_rt::spawn(async move {
        while node.is_compacting() {
            tokio::time::sleep(COMPACTION_INTERVAL).await;
        }
        node.compaction_scheduled.store(false, Ordering::Relaxed);
        if let Err(error) = compaction::compact(&node).await {
            log::error!(error = error.as_str(); "compaction failed; the log is whole, and grows");
        }
    });
}

/// Keeps every shard, and so all clients, from doing anything for a time (`DEBUG SLEEP`).
pub async fn freeze(node: &Node, time: Duration) {
    let freeze_one = |shard: &ShardHandle| {
        let shard = shard.clone();
        actix_rt::spawn(async move { shard.visit(move |_| std::thread::sleep(time)).await })
    };
    let frozen: Vec<_> = node.shards.iter().map(freeze_one).collect();
    for shard in frozen {
        // A shard that has stopped needs no freezing.
        let _ = shard.await;
    }
}
