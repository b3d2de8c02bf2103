//! What a node looks after once a second: rates, memory, silent clients, clients that do not read.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::registry::Client;
use crate::clock;
use crate::config::Config;
use crate::node::Node;
use crate::records::UnixMillis;

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Looks for ever.
pub async fn run(node: Arc<Node>) {
    let mut interval = tokio::time::interval(INTERVAL);
    loop {
        interval.tick().await;
        node.counters.measure();
        let config = node.config.current();
        let now = clock::now();
        let mut bytes = node.memory.total();
        for client in node.clients.all() {
            bytes += client.buffer_bytes();
            if is_silent(&client, &config, now) {
                log::debug!(client = client.id; "closing a silent client");
                client.kill();
            } else if does_not_read(&client, &config, now) {
                node.counters.output_limit_closed.fetch_add(1, Ordering::Relaxed);
                log::warn!(client = client.id; "closing a client that does not read its replies");
                client.kill();
            }
        }
        node.memory_peak.fetch_max(bytes as u64, Ordering::Relaxed);
    }
}

fn is_silent(client: &Client, config: &Config, now: UnixMillis) -> bool {
    config.timeout_s > 0
        && !client.blocked.load(Ordering::Relaxed)
        && client.idle_seconds(now) > u64::from(config.timeout_s)
}

/// A client has one turn of replies under way at most, so what waits for it to read is bounded;
/// beyond the soft limit for too long it must go all the same.
fn does_not_read(client: &Client, config: &Config, now: UnixMillis) -> bool {
    let limit = config.output_limits.normal;
    let waiting = client.output_bytes.load(Ordering::Relaxed) as u64;
    limit.soft_bytes > 0 && waiting > limit.soft_bytes && client.idle_seconds(now) >= limit.soft_s
}
