//! What a node looks after once a second: rates, memory, open files, clients that are silent or do
//! not read.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::registry::Client;
use crate::clock;
use crate::config::Config;
use crate::files;
use crate::node::Node;
use crate::records::UnixMillis;

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Looks for ever.
pub async fn run(node: Arc<Node>) {
    let mut interval = tokio::time::interval(INTERVAL);
    // What is counted between two looks is counted over a second at least.
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stalled = Stalled::default();
    let mut reserved = 0;
    loop {
        interval.tick().await;
        node.counters.measure();
        let wanted = node.files_reserved(&node.config.current());
        if wanted > reserved {
            // More nodes than ever before.
            reserved = wanted;
            files::fit_clients(&node.config, reserved);
        }
        let config = node.config.current();
        let now = clock::now();
        let clients = node.clients.all();
        stalled.update(&clients, now);
        for client in clients {
            if is_timed_out(&client, &config) {
                log::debug!(client = client.id; "closing a silent client");
                client.kill();
            } else if stalled.is_over(&client, &config, now) {
                node.counters.output_limit_closed.fetch_add(1, Ordering::Relaxed);
                log::warn!(client = client.id; "closing a client that does not read its replies");
                client.kill();
            } else if client.may_waste_memory() {
                client.ask_to_release();
            }
        }
        node.memory_peak.fetch_max(node.memory.total() as u64, Ordering::Relaxed);
    }
}

fn is_timed_out(client: &Client, config: &Config) -> bool {
    config.timeout_s > 0
        && !client.blocked.load(Ordering::Relaxed)
        && !client.is_served()
        && client.idle_seconds() > u64::from(config.timeout_s)
}

/// Clients whose sockets take nothing: how often each had taken all before, and since when.
///
/// Redis holds all replies of such a client. Here its requests are not read any more, so that what
/// waits for it stays small; but if that is as much as a soft limit, it goes after the limit's
/// time.
#[derive(Default)]
struct Stalled(HashMap<u64, (u64, UnixMillis)>);

impl Stalled {
    fn update(&mut self, clients: &[Arc<Client>], now: UnixMillis) {
        let before = std::mem::take(&mut self.0);
        for client in clients.iter().filter(|c| c.output_bytes.load(Ordering::Relaxed) > 0) {
            let writes = client.writes.load(Ordering::Relaxed);
            let same = before.get(&client.id).filter(|(old, _)| *old == writes);
            self.0.insert(client.id, *same.unwrap_or(&(writes, now)));
        }
    }

    fn is_over(&self, client: &Client, config: &Config, now: UnixMillis) -> bool {
        let limit = config.output_limits.normal;
        let since = self.0.get(&client.id).map_or(now, |(_, since)| *since);
        // A client that was only just seen to wait may be reading.
        let patience_ms = limit.soft_s.max(1).saturating_mul(1000);
        limit.soft_bytes > 0
            && client.output_bytes.load(Ordering::Relaxed) as u64 >= limit.soft_bytes
            && now.0.saturating_sub(since.0) >= patience_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::registry::{Registry, Socket};

    #[test]
    fn a_client_is_over_the_limit_once_its_socket_took_nothing_for_so_long() {
        let end = ([127, 0, 0, 1], 1).into();
        let socket = Socket { address: end, local: end, descriptor: 1 };
        let client = Registry::default().add(socket, 1).unwrap();
        let clients = [client.clone()];
        let mut config = Config::default();
        config.output_limits.normal.soft_bytes = 1;
        config.output_limits.normal.soft_s = 2;
        let mut stalled = Stalled::default();
        let mut look = |seconds: u64| {
            let now = UnixMillis(seconds * 1000);
            stalled.update(&clients, now);
            stalled.is_over(&client, &config, now)
        };
        assert!(!look(0));
        client.output_bytes.store(100, Ordering::Relaxed);
        assert!(!look(1) && !look(2) && look(3));
        // It took all, and there is more again.
        client.written();
        client.output_bytes.store(100, Ordering::Relaxed);
        assert!(!look(4) && !look(5) && look(6));
        client.written();
        assert!(!look(9));
    }

    /// Its bytes were not looked at: whoever paused in a reply of any length was cut off.
    #[test]
    fn a_client_for_which_less_than_the_limit_waits_may_take_its_time() {
        const MB: usize = 1 << 20;
        let end = ([127, 0, 0, 1], 1).into();
        let socket = Socket { address: end, local: end, descriptor: 1 };
        let client = Registry::default().add(socket, 1).unwrap();
        let mut config = Config::default();
        config.output_limits.normal.soft_bytes = 64 << 20;
        config.output_limits.normal.soft_s = 3;
        for (waiting, is_over) in [(4 * MB, false), (64 * MB - 1, false), (64 * MB, true)] {
            let mut stalled = Stalled::default();
            client.output_bytes.store(waiting, Ordering::Relaxed);
            stalled.update(std::slice::from_ref(&client), UnixMillis(0));
            assert_eq!(stalled.is_over(&client, &config, UnixMillis(7000)), is_over, "{waiting}");
        }
    }
}
