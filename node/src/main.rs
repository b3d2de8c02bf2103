//! The node's program.

use std::sync::Arc;

use actix_rt::{Arbiter, System};
use distcache_node::actors::shard::{Shard, ShardHandle};
use distcache_node::keyspace::{KeyHasher, Keyspace, ShardId};
use distcache_node::node::Node;
use distcache_node::shard::ShardState;
use distcache_node::{clock, server};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let port: u16 =
        std::env::args().skip_while(|a| a != "--port").nth(1).unwrap_or("2050".into()).parse()?;
    let shards: u16 =
        std::env::args().skip_while(|a| a != "--shards").nth(1).unwrap_or("1".into()).parse()?;
    let system = System::new();
    system.block_on(async move {
        let hasher = KeyHasher::new(clock::random_seed());
        let arbiters: Vec<Arbiter> = (0..shards).map(|_| Arbiter::new()).collect();
        let addresses = arbiters
            .iter()
            .enumerate()
            .map(|(index, arbiter)| {
                let hasher = hasher.clone();
                let id = ShardId { index: index as u16, count: shards };
                ShardHandle::start(&arbiter.handle(), move || {
                    Shard::new(ShardState::new(Keyspace::new(id, 16, hasher)))
                })
            })
            .collect();
        let node = Arc::new(Node::new(addresses));
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
        let handles = arbiters.iter().map(Arbiter::handle).collect();
        server::accept(listener, node, handles).await?;
        Ok(())
    })
}
