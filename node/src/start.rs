//! From a configuration to a running node, and back to nothing.

use std::future::poll_fn;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use actix_rt::{Arbiter, ArbiterHandle, System};
use distcache_recovery::{LogError, OpenMode, Replay};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::actors::oplog::LogHandle;
use crate::actors::shard::{Shard, ShardHandle};
use crate::config::{Config, LiveConfig};
use crate::keyspace::{Keyspace, ShardId};
use crate::node::{Node, NodeParts, Ports};
use crate::oplog::LogStatus;
use crate::server::listen::{Access, ListenError, listen, port_of};
use crate::server::{self, off_thread, sweep};
use crate::shard::ShardState;
use crate::shard::memory::MemoryGate;
use crate::{compaction, logger, oplog, process};

/// Open files that are no clients: listeners, event queues, the log.
const FILES_RESERVED: u64 = 64;

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
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The log cannot be read, is another node's, or could not be closed in order.
    #[error(transparent)]
    Log(#[from] LogError),
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
    let config = live.current();
    let mut signals = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
    allow_clients(config.maxclients);
    let listeners = listen(&config.bind, config.port, config.tcp_backlog)?;
    let client = port_of(&listeners)?;
    let direct_port = config.direct_port(config.port);
    let direct_listeners = listen(&config.bind, direct_port, config.tcp_backlog)?;
    let ports = Ports { client, direct: port_of(&direct_listeners)? };
    let arbiters = start_arbiters(config.shard_count())?;
    let log_arbiter = Arbiter::try_new()?;
    let handles: Vec<ArbiterHandle> = arbiters.iter().map(Arbiter::handle).collect();
    let parts = NodeParts::new(live, handles.len(), ports);
    let log = config.oplog.then(|| {
        let status = LogStatus::new(config.fsync);
        LogHandle::start(&log_arbiter.handle(), status, parts.monitor.clone())
    });
    let shards = start_shards(&parts, &handles, log.as_ref());
    let node = Arc::new(Node::new(parts, shards, log));
    // Opened before anything is promised: it may be another node's directory.
    let replay = open_log(&node, &config).await?;
    write_ports(&config, ports)?;
    let mut tasks = vec![actix_rt::spawn(sweep::run(node.clone()))];
    for (access, listeners) in [(Access::Any, listeners), (Access::Direct, direct_listeners)] {
        for listener in listeners {
            let address = listener.local_addr()?.to_string();
            log::info!(address = address.as_str(), clients = access.name(); "listening");
            let accept = server::accept(listener, access, node.clone(), handles.clone());
            tasks.push(actix_rt::spawn(accept));
        }
    }
    let loaded = tokio::select! {
        loaded = load_log(&node, replay) => loaded,
        () = stop_requested(&node, &mut signals) => return Ok(()),
    };
    if loaded.is_ok() {
        tasks.push(actix_rt::spawn(compaction::run(node.clone())));
        stop_requested(&node, &mut signals).await;
    }
    tasks.iter().for_each(|task| task.abort());
    let patience = Duration::from_secs(config.shutdown_timeout_s.into());
    stop(&node, patience).await?;
    loaded
}

/// Ends what runs: connections, then shards, then the log.
async fn stop(node: &Node, patience: Duration) -> Result<(), StartError> {
    server::finish(node, patience).await;
    if let Some(log) = &node.log {
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
    (0..count).map(|_| Arbiter::try_new()).collect()
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

/// Opens the log for reading, if the node has one.
async fn open_log(node: &Node, config: &Config) -> Result<Option<Replay>, StartError> {
    if node.log.is_none() {
        return Ok(None);
    }
    let directory = config.data_dir.clone();
    let replay = off_thread(move || distcache_recovery::open(&directory, OpenMode::Create));
    node.loading.set_active(true);
    Ok(Some(replay.await.map_err(|_| io::Error::other("interrupted"))??))
}

/// Rebuilds the shards from the log, while they refuse commands on keys.
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
    let (writer, _) = loaded.await.map_err(|_| io::Error::other("interrupted"))??;
    log.open(writer).await?;
    node.loading.set_active(false);
    Ok(())
}

/// Makes room for as many sockets as there may be clients.
fn allow_clients(maxclients: u32) {
    let wanted = u64::from(maxclients) + FILES_RESERVED;
    let files = process::raise_open_files(wanted);
    if files < wanted {
        let clients = files.saturating_sub(FILES_RESERVED);
        log::warn!(maxclients, clients; "the system's limit of open files allows fewer clients");
    }
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

/// Tells the ports that the system chose, in files of the data directory: `port` has the one for
/// all clients, and `ports` all of them, under the names of their options.
fn write_ports(config: &Config, ports: Ports) -> Result<(), StartError> {
    let Ports { client, direct } = ports;
    let chosen = [config.port, config.direct_port(config.port)].contains(&0);
    let all = format!("port {client}\ndirect-port {direct}\n");
    let files = [
        ("ports", all, chosen),
        // The last one: who waits for it finds the other one too.
        ("port", format!("{client}\n"), config.port == 0),
    ];
    let write = |directory: &Path| {
        for (name, text, _) in files.iter().filter(|(_, _, wanted)| *wanted) {
            std::fs::create_dir_all(directory)?;
            // Renamed into place, so that nobody reads half a number.
            let temporary = directory.join(format!("{name}.new"));
            std::fs::write(&temporary, text)?;
            std::fs::rename(temporary, directory.join(name))?;
        }
        Ok(())
    };
    let path = config.data_dir.clone();
    write(&path).map_err(|source| StartError::DataDirectory { path, source })
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
