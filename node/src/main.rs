//! The node's program.

use std::sync::Arc;

use actix_rt::{Arbiter, System};
use distcache_node::actors::oplog::LogHandle;
use distcache_node::actors::shard::{Shard, ShardHandle};
use distcache_node::keyspace::{KeyHasher, Keyspace, ShardId};
use distcache_node::node::Node;
use distcache_node::oplog::LogStatus;
use distcache_node::oplog::load::{LoadProgress, load};
use distcache_node::shard::ShardState;
use distcache_node::shard::memory::{MemoryGate, MemoryUsage};
use distcache_node::{clock, server};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let system = System::new();
    system.block_on(async move {
        let distcache_node::config::Launch::Run { config, .. } =
            distcache_node::config::launch(std::env::args_os(), std::env::vars_os())?
        else {
            return Ok(());
        };
        let config = Arc::new(config);
        let shards = config.current().shard_count();
        let port = config.current().port;
        let hasher = KeyHasher::new(clock::random_seed());
        let arbiters: Vec<Arbiter> = (0..shards).map(|_| Arbiter::new()).collect();
        let log_arbiter = Arbiter::new();
        let log = config.current().oplog.then(|| {
            LogHandle::start(&log_arbiter.handle(), LogStatus::new(config.current().fsync))
        });
        let usage = Arc::new(MemoryUsage::new(shards));
        let addresses = arbiters
            .iter()
            .enumerate()
            .map(|(index, arbiter)| {
                let hasher = hasher.clone();
                let id = ShardId { index: index as u16, count: shards as u16 };
                let gate = MemoryGate::new(usage.clone(), index, config.clone());
                let log = log.clone();
                ShardHandle::start(&arbiter.handle(), move || {
                    let status = log.as_ref().map(|log| log.status.clone());
                    Shard::new(ShardState::new(Keyspace::new(id, 16, hasher), gate, status), log)
                })
            })
            .collect::<Vec<ShardHandle>>();
        if let Some(log) = &log {
            let dir = config.current().data_dir.clone();
            let replay = distcache_recovery::open(&dir, distcache_recovery::OpenMode::Create)?;
            let senders: Vec<_> = addresses
                .iter()
                .cloned()
                .map(|shard: ShardHandle| move |block| shard.load(block))
                .collect();
            let loaded =
                std::thread::spawn(move || load(replay, &senders, &LoadProgress::default()));
            let (writer, _) = loaded.join().expect("a panic aborts")?;
            log.open(writer).await?;
        }
        let node = Arc::new(Node::new(addresses, log, config, hasher));
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
        let handles = arbiters.iter().map(Arbiter::handle).collect();
        actix_rt::spawn(distcache_node::compaction::run(node.clone()));
        server::accept(listener, node, handles).await?;
        Ok(())
    })
}
