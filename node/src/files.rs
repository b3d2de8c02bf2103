//! Open files: how many the node itself needs, and how many clients there is room for beside them.

use crate::config::{Config, LiveConfig};
use crate::limits::{FILES_NODE, FILES_PER_SHARD, HTTP_CONNECTIONS_MAX, bus_connections_of_peer};
use crate::process;

/// Returns how many open files are kept from clients: what a node with so many shards needs that
/// is connected to so many others.
pub fn reserved(shards: usize, peers: usize) -> u64 {
    let (shards, peers) = (shards as u64, peers as u64);
    FILES_NODE
        + FILES_PER_SHARD * shards
        + HTTP_CONNECTIONS_MAX as u64
        + peers * bus_connections_of_peer(shards)
}

/// Returns how many other nodes there may be connections to: all that the table has (`members`,
/// this node included), or, before there is one, all that are looked for.
pub fn peers(config: &Config, members: usize) -> usize {
    // The list of seeds is the same on every node, so this one is among them.
    members.max(config.seeds.len()).saturating_sub(1)
}

/// Raises the system's limit, as far as it lets the node, so that `maxclients` clients and what is
/// `reserved` have open files. Returns how many clients there is room for, `maxclients` at most.
pub fn make_room(maxclients: u32, reserved: u64) -> u32 {
    fitting(maxclients, reserved, process::raise_open_files(u64::from(maxclients) + reserved))
}

fn fitting(maxclients: u32, reserved: u64, files: u64) -> u32 {
    u32::try_from(files.saturating_sub(reserved)).unwrap_or(u32::MAX).min(maxclients)
}

/// Lowers `maxclients` to what there is room for, but not below 1, and says so.
pub fn fit_clients(live: &LiveConfig, reserved: u64) {
    let wanted = live.current().maxclients;
    let clients = make_room(wanted, reserved);
    if clients < wanted {
        let lowered = clients.max(1);
        live.lower_maxclients(lowered);
        log::warn!(
            maxclients = lowered, wanted, reserved;
            "maxclients is lowered: the system's limit of open files (ulimit -n) allows no more"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RawConfig;

    #[test]
    fn clients_have_what_the_node_leaves() {
        assert_eq!(fitting(10_000, 140, 20_000), 10_000);
        assert_eq!(fitting(10_000, 140, 10_140), 10_000);
        assert_eq!(fitting(10_000, 140, 10_139), 9_999);
        assert_eq!(fitting(10_000, 140, 140), 0);
        assert_eq!(fitting(10_000, 140, 20), 0);
        assert_eq!(fitting(u32::MAX, 140, u64::MAX), u32::MAX);
    }

    #[test]
    fn every_peer_takes_connections_of_each_class_in_both_directions() {
        let alone = reserved(2, 0);
        assert_eq!(reserved(2, 3) - alone, 3 * 2 * (3 + 2));
        assert_eq!(reserved(500, 1) - reserved(500, 0), 2 * (3 + 16), "of threads, 16 at most");
        let config = Config::default();
        assert_eq!((peers(&config, 0), peers(&config, 1), peers(&config, 5)), (0, 0, 4));
    }

    #[test]
    fn a_lowered_maxclients_is_what_everybody_reads_and_no_setting_of_the_operator() {
        let live = LiveConfig::new(RawConfig::default(), None).unwrap();
        let generation = live.generation();
        live.lower_maxclients(72);
        assert_eq!(live.current().maxclients, 72);
        assert_eq!(live.get(&["maxclients"])[0].1, "72");
        assert_ne!(live.generation(), generation);
        live.lower_maxclients(100);
        assert_eq!(live.current().maxclients, 72, "it is only lowered");
    }
}
