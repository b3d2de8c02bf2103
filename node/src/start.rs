//! From a configuration to a running node, and back to nothing.

use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use actix_rt::{Arbiter, ArbiterHandle, System};
use distcache_recovery::raft_directory::RaftDirectory;
use distcache_recovery::{LogError, OpenMode, Replay};
use tokio::net::TcpListener;

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
use crate::limits::{LEFT_LINGER, LEFT_LINGER_CLIENTS_MAX, STOP_DISK_MIN};
use crate::node::{Node, NodeParts, Stop};
use crate::oplog::LogStatus;
use crate::server::listen::ListenError;
use crate::server::{self, off_thread, sweep};
use crate::shard::ShardState;
use crate::shard::memory::MemoryGate;
use crate::signals::Signals;
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
    /// The node has stopped, but the log could not be closed in the time there was; what was not
    /// synced is lost with the power, and may be lost with the process.
    #[error(
        "the operation log is not closed after {seconds} s (shutdown-timeout): records from \
         {synced} on are not known to be on the disk; a slow disk needs more time"
    )]
    NotClosed {
        /// The time there was.
        seconds: u64,
        /// Sequence of the first record that may be lost.
        synced: u64,
    },
    /// A stop was given up before the log was closed, as a second signal wanted; the log is as
    /// after a crash.
    #[error("a second signal ends the node at once: the operation log is not closed in order")]
    Insisted,
    /// A thread or a signal handler was refused by the system.
    #[error("starting: {0}")]
    System(#[from] io::Error),
}

/// Runs a node until a signal or `SHUTDOWN` stops it, and every acknowledged write is safe.
///
/// # Errors
/// [`StartError`]; then nothing runs, unless it says that the log is not closed: its thread may go
/// on until the process ends, which must be soon.
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
    let ended = system.block_on(async {
        let (signals, stop) = (Signals::listen()?, Arc::<Stop>::default());
        tokio::select! {
            ended = serve(config, stop.clone()) => ended,
            () = signals.heed(&stop) => Err(StartError::Insisted),
        }
    });
    if ended.is_err() {
        // Dropped, it waits for its threads, and what did not end in order may wait for the disk.
        std::mem::forget(system);
    }
    ended
}

async fn serve(live: Arc<LiveConfig>, stop: Arc<Stop>) -> Result<(), StartError> {
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
    let node = Arc::new(Node::new(parts, shards, log, stop));
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
    let ended = match begin(&node, &mut cluster, replay).await {
        Ok(None) => {
            tasks.push(actix_rt::spawn(compaction::run(node.clone())));
            tokio::select! {
                () = node.stop.requested() => Ok(End::Asked),
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
                () = node.stop.requested() => {}
                () = linger(&node) => {}
            }
        }
    }
    node.stop.begin();
    tasks.iter().for_each(|task| task.abort());
    let stopped = finish(&node, cluster).await;
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
) -> Result<Option<End>, StartError> {
    let mut stopping = pin!(node.stop.requested());
    let loading = load_log(node, replay);
    let mut loading = pin!(loading);
    tokio::select! {
        loaded = &mut loading => loaded?,
        () = &mut stopping => {
            // Its thread ends before the process does, so it may as well be told.
            node.loading.give_up();
            let loaded = clock::within(Some(StopTimes::of(node).log()), loading).await;
            let still_read = || io::Error::other("stopped while the log was still being read");
            return loaded.unwrap_or_else(|| Err(still_read().into())).map(|()| Some(End::Asked));
        }
    }
    let left = tokio::select! {
        left = cluster.join() => left?,
        () = stopping => return Ok(Some(End::Asked)),
    };
    node.loading.set_active(left.is_some());
    Ok(left.map(End::from))
}

/// The time that a stop has, as `shutdown-timeout` is now: all of it from the moment in which the
/// node was asked to stop.
struct StopTimes {
    all: Duration,
    passed: Duration,
}

impl StopTimes {
    fn of(node: &Node) -> Self {
        let all = Duration::from_secs(node.config.current().shutdown_timeout_s.into());
        StopTimes { all, passed: node.stop.elapsed() }
    }

    /// What clients may still take.
    fn clients(&self) -> Duration {
        (self.all / 2).saturating_sub(self.passed)
    }

    /// What other nodes may still take.
    fn nodes(&self) -> Duration {
        (self.all * 5 / 8).saturating_sub(self.passed)
    }

    /// What consensus may still take.
    fn consensus(&self) -> Duration {
        (self.all.max(STOP_DISK_MIN) * 3 / 4).saturating_sub(self.passed)
    }

    /// What the log may still take.
    fn log(&self) -> Duration {
        self.all.saturating_sub(self.passed).max(STOP_DISK_MIN)
    }
}

/// Ends what runs: connections, then the cluster's part, then shards, then the log; all that
/// within `shutdown-timeout`.
async fn finish(node: &Node, cluster: ClusterPart) -> Result<(), StartError> {
    server::finish(node, StopTimes::of(node).clients()).await;
    let times = StopTimes::of(node);
    let cluster_ends = cluster.stop(times.nodes());
    if clock::within(Some(times.consensus()), cluster_ends).await.is_none() {
        log::warn!("stopping although consensus has not ended: its disk is slow");
    }
    let closed = clock::within(Some(StopTimes::of(node).log()), close_log(node)).await;
    closed.unwrap_or_else(|| Err(not_closed(node)))?;
    log::info!("stopped");
    Ok(())
}

/// Stores what shards have not handed over yet, and closes the log in order.
async fn close_log(node: &Node) -> Result<(), StartError> {
    // A log that was not read to its end has no writer, and nothing to write.
    if let Some(log) = node.log.as_ref().filter(|log| log.status.is_open()) {
        for shard in &node.shards {
            // A shard that has stopped has nothing left to hand over.
            let _ = shard.hand_over().await;
        }
        log.close().await?;
    }
    Ok(())
}

fn not_closed(node: &Node) -> StartError {
    let synced = node.log.as_ref().map_or(0, |log| log.status.figures().synced_sequence);
    StartError::NotClosed { seconds: StopTimes::of(node).passed.as_secs(), synced }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_leaves_time_for_the_log_whatever_the_others_take() {
        let times = |all, passed_ms| {
            let all = Duration::from_secs(all);
            let times = StopTimes { all, passed: Duration::from_millis(passed_ms) };
            let parts = [times.clients(), times.nodes(), times.consensus(), times.log()];
            parts.map(|part| part.as_millis())
        };
        assert_eq!(times(10, 0), [5000, 6250, 7500, 10_000]);
        assert_eq!(times(10, 5000), [0, 1250, 2500, 5000]);
        assert_eq!(times(10, 20_000), [0, 0, 0, 1000]);
        assert_eq!(times(0, 0), [0, 0, 750, 1000]);
    }
}
