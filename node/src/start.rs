//! From a configuration to a running node, and back to nothing.

use std::future::poll_fn;
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use actix_rt::{Arbiter, ArbiterHandle, System};
use distcache_recovery::raft_directory::RaftDirectory;
use distcache_recovery::{LogError, OpenMode, Replay};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::actors::oplog::LogHandle;
use crate::actors::shard::{Shard, ShardHandle};
use crate::clock;
use crate::cluster::addresses;
use crate::cluster::membership::Left;
use crate::cluster::run::{ClusterError, ClusterPart, Process};
use crate::cluster::table::{Incarnation, NodeId, State};
use crate::cluster::view::ClusterView;
use crate::config::{Config, LiveConfig};
use crate::http::serve::HttpServer;
use crate::keyspace::{Keyspace, ShardId};
use crate::limits::{LEFT_LINGER, LEFT_LINGER_CLIENTS_MAX};
use crate::node::{Node, NodeParts};
use crate::oplog::LogStatus;
use crate::server::listen::ListenError;
use crate::server::{self, off_thread, sweep};
use crate::shard::ShardState;
use crate::shard::memory::MemoryGate;
use crate::sockets::{Sockets, write_ports};
use crate::{actors, compaction, files, logger, oplog, process};

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be made or written.
    #[error("data directory {path}: {source}")]
    DataDirectory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system lets the process open too few files to serve any client.
    #[error(
        "the system's limit of open files is too low: the node itself needs {reserved}, and each \
         client one more; raise it (ulimit -n, LimitNOFILE), or lower --shards"
    )]
    OpenFiles {
        /// What is kept from clients.
        reserved: u64,
    },
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The log cannot be read, is another node's, or could not be closed in order.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The node has no part in a cluster, or lost it.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A thread or a signal handler was refused by the system.
    #[error("starting: {0}")]
    System(#[from] io::Error),
}

/// Runs a node until a signal or `SHUTDOWN` stops it, and every acknowledged write is safe.
///
/// # Errors
/// [`StartError`]; then nothing runs.
pub fn run(config: LiveConfig, warnings: &[String]) -> Result<(), StartError> {
    let config = Arc::new(config);
    logger::start(config.current().log_level);
    for warning in warnings {
        log::warn!("{warning}");
    }
    abort_on_panic();
    if config.current().disable_thp && !process::disable_huge_pages() {
        log::warn!("the system does not let a process do without huge pages");
    }
    let system = System::new();
    system.block_on(serve(config))
}

async fn serve(live: Arc<LiveConfig>) -> Result<(), StartError> {
    let mut signals = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
    allow_clients(&live)?;
    let config = live.current();
    let sockets = Sockets::open(&config)?;
    let ports = sockets.ports;
    let directory = open_raft(&config).await?;
    let incarnation = Incarnation(clock::random_seed());
    let process = Process {
        node: NodeId(directory.identity().node),
        announcement: addresses::announcement(&config, ports, sockets.bus_ip, incarnation),
        is_new: !directory.identity().is_accepted,
    };
    let arbiters = start_arbiters(config.shard_count())?;
    let log_arbiter = actors::arbiter("oplog")?;
    let handles: Vec<ArbiterHandle> = arbiters.iter().map(Arbiter::handle).collect();
    let view = ClusterView::new(process.node, State::new(), false);
    let parts = NodeParts::new(live, handles.len(), ports, view);
    let log = config.oplog.then(|| {
        let status = LogStatus::new(config.fsync);
        LogHandle::start(&log_arbiter.handle(), status, parts.monitor.clone())
    });
    let shards = start_shards(&parts, &handles, log.as_ref());
    let node = Arc::new(Node::new(parts, shards, log));
    // Until the node has its keys, and knows which of them are its own.
    node.loading.set_active(true);
    serve_operators(&node, sockets.http)?;
    let replay = open_log(&node, &config).await?;
    let starting =
        ClusterPart::start(node.clone(), process, directory, sockets.bus, handles.clone());
    let mut cluster = starting.await?;
    write_ports(&config, ports)?;
    let mut tasks = vec![actix_rt::spawn(sweep::run(node.clone()))];
    for (access, listener) in sockets.clients {
        let address = listener.local_addr()?.to_string();
        log::info!(address = address.as_str(), clients = access.name(); "listening");
        let accept = server::accept(listener, access, node.clone(), handles.clone());
        tasks.push(actix_rt::spawn(accept));
    }
    let ended = match begin(&node, &mut cluster, replay, &mut signals).await {
        Ok(None) => {
            tasks.push(actix_rt::spawn(compaction::run(node.clone())));
            tokio::select! {
                () = stop_requested(&node, &mut signals) => Ok(End::Asked),
                ended = cluster.ended() => ended.map(End::from).map_err(StartError::from),
            }
        }
        Ok(Some(end)) => Ok(end),
        Err(error) => Err(error),
    };
    if let Ok(End::Left) = ended {
        log::info!("the node has left the cluster, and ends");
        // If it hears of that at its start only, nobody has sent it anything.
        if !node.loading.is_active() {
            tokio::select! {
                () = stop_requested(&node, &mut signals) => {}
                () = linger(&node) => {}
            }
        }
    }
    node.stop.begin();
    tasks.iter().for_each(|task| task.abort());
    let patience = Duration::from_secs(config.shutdown_timeout_s.into());
    let stopped = stop(&node, cluster, patience).await;
    // Why the node ends says more than what that makes fail.
    ended.and(stopped)
}

/// Why a node ends in order.
enum End {
    /// A signal or a command wants it.
    Asked,
    /// It is no member of its cluster any more.
    Left,
}

impl From<Left> for End {
    fn from(_: Left) -> Self {
        End::Left
    }
}

/// Waits until hardly anybody asks a node that has left for its keys any more.
async fn linger(node: &Node) {
    clock::sleep(LEFT_LINGER).await;
    let all_gone = async {
        while node.clients.are_any_at(node.ports.direct) {
            clock::sleep(LEFT_LINGER / 100).await;
        }
    };
    // Who is connected still may be one that never asks.
    let rest = LEFT_LINGER_CLIENTS_MAX.saturating_sub(LEFT_LINGER);
    let _ = clock::within(Some(rest), all_gone).await;
}

/// Answers operators, from here to the end of the process: also while the log is read, and while
/// the node stops.
fn serve_operators(node: &Arc<Node>, listeners: Vec<TcpListener>) -> io::Result<()> {
    let server = HttpServer::new(node.clone());
    for listener in listeners {
        let address = listener.local_addr()?.to_string();
        log::info!(address = address.as_str(); "listening for operators");
        actix_rt::spawn(server.clone().accept(listener));
    }
    Ok(())
}

/// Gets the node its keys and its place in the cluster, unless it has to end before.
async fn begin(
    node: &Node,
    cluster: &mut ClusterPart,
    replay: Option<Replay>,
    signals: &mut [Signal; 2],
) -> Result<Option<End>, StartError> {
    let mut stopping = pin!(stop_requested(node, signals));
    let loading = load_log(node, replay);
    let mut loading = pin!(loading);
    tokio::select! {
        loaded = &mut loading => loaded?,
        () = &mut stopping => {
            // Its thread ends before the process does, so it may as well be told.
            node.loading.give_up();
            return loading.await.map(|()| Some(End::Asked));
        }
    }
    let left = tokio::select! {
        left = cluster.join() => left?,
        () = stopping => return Ok(Some(End::Asked)),
    };
    node.loading.set_active(left.is_some());
    Ok(left.map(End::from))
}

/// Ends what runs: connections, then the cluster's part, then shards, then the log.
async fn stop(node: &Node, cluster: ClusterPart, patience: Duration) -> Result<(), StartError> {
    server::finish(node, patience).await;
    cluster.stop(patience).await;
    // A log that was not read to its end has no writer, and nothing to write.
    if let Some(log) = node.log.as_ref().filter(|log| log.status.is_open()) {
        for shard in &node.shards {
            // A shard that has stopped has nothing left to hand over.
            let _ = shard.hand_over().await;
        }
        log.close().await?;
    }
    log::info!("stopped");
    Ok(())
}

fn start_arbiters(count: usize) -> io::Result<Vec<Arbiter>> {
    (0..count).map(|index| actors::arbiter(&format!("shard-{index}"))).collect()
}

/// Starts a shard on each arbiter.
fn start_shards(
    parts: &NodeParts,
    arbiters: &[ArbiterHandle],
    log: Option<&LogHandle>,
) -> Vec<ShardHandle> {
    let count = arbiters.len() as u16;
    let databases = parts.config.current().databases;
    let start = |(index, arbiter): (usize, &ArbiterHandle)| {
        let id = ShardId { index: index as u16, count };
        let hasher = parts.hasher.clone();
        let gate = MemoryGate::new(parts.memory.clone(), index, parts.config.clone());
        let (log, monitor) = (log.cloned(), parts.monitor.clone());
        let ownership = parts.cluster.ownership().clone();
        ShardHandle::start(arbiter, move |inbox| {
            let status = log.as_ref().map(|log| log.status.clone());
            let keyspace = Keyspace::new(id, databases, hasher);
            let mut state = ShardState::new(keyspace, gate, status);
            state.set_monitor(monitor);
            state.set_ownership(ownership);
            Shard::new(state, log, inbox)
        })
    };
    arbiters.iter().enumerate().map(start).collect()
}

/// Opens the node's part in consensus; it says who the node is.
async fn open_raft(config: &Config) -> Result<RaftDirectory, StartError> {
    let (directory, new_node) = (config.data_dir.clone(), clock::random_seed());
    let opened = off_thread(move || RaftDirectory::open(&directory, new_node)).await;
    let opened = opened.map_err(|_| io::Error::other("interrupted"))?;
    Ok(opened.map_err(ClusterError::from)?)
}

/// Opens the log for reading, if the node has one.
async fn open_log(node: &Node, config: &Config) -> Result<Option<Replay>, StartError> {
    if node.log.is_none() {
        return Ok(None);
    }
    // Half of the random bits do for a salt.
    let (directory, salt) = (config.data_dir.clone(), clock::random_seed() as u32);
    let open = move || distcache_recovery::open_salted(&directory, OpenMode::Create, salt);
    let replay = off_thread(open);
    Ok(Some(replay.await.map_err(|_| io::Error::other("interrupted"))??))
}

/// Rebuilds the shards from the log, while they refuse commands on keys, and opens it for writing
/// unless that was given up.
async fn load_log(node: &Node, replay: Option<Replay>) -> Result<(), StartError> {
    let (Some(log), Some(replay)) = (&node.log, replay) else { return Ok(()) };
    let senders: Vec<_> = node
        .shards
        .iter()
        .cloned()
        .map(|shard: ShardHandle| move |block| shard.load(block))
        .collect();
    let progress = node.loading.clone();
    let loaded = off_thread(move || oplog::load::load(replay, &senders, &progress));
    if let Some((writer, _)) = loaded.await.map_err(|_| io::Error::other("interrupted"))?? {
        log.open(writer).await?;
    }
    Ok(())
}

/// Makes room for as many sockets as there may be clients, or lets there be fewer.
fn allow_clients(live: &LiveConfig) -> Result<(), StartError> {
    let config = live.current();
    let reserved = files::reserved(config.shard_count(), files::peers(&config, 0));
    if files::make_room(config.maxclients, reserved) == 0 {
        return Err(StartError::OpenFiles { reserved });
    }
    files::fit_clients(live, reserved);
    Ok(())
}

/// Waits for a signal or for `SHUTDOWN`.
async fn stop_requested(node: &Node, signals: &mut [Signal; 2]) {
    let any_signal = poll_fn(|context| {
        let arrived = signals.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
        if arrived { Poll::Ready(()) } else { Poll::Pending }
    });
    tokio::select! {
        () = any_signal => log::info!("a signal stops the node"),
        () = node.stop.requested() => log::info!("a command stops the node"),
    }
}

/// Makes a panic on any thread the end of the process: a node that lost an actor but still
/// answers is worse than one that starts again from its log.
fn abort_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        // The store panics on some damage; that is caught there and becomes an error.
        if distcache_recovery::guard::is_guarded() {
            return;
        }
        print(info);
        log::error!("a bug stops the node; please report the lines above");
        std::process::abort();
    }));
}
