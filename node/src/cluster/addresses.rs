//! Where a node listens for others, and what it says of itself, as its options have it.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use super::table::{Announcement, Incarnation, NodeAddresses};
use super::view::address;
use crate::config::{BindAddress, Config};
use crate::node::Ports;

/// A node's share of the data relative to others', as the table has it: the usual one.
const WEIGHT: u32 = 100;

/// Returns the address that other nodes connect to. Strangers could take part in a cluster that
/// has no secret, so a node without one, and without seeds, listens for others on loopback only.
pub fn bus_bind(config: &Config) -> BindAddress {
    let is_open = config.cluster_secret.is_some() || config.insecure_cluster;
    let first =
        config.bind.first().filter(|first| is_open || first.ip.to_canonical().is_loopback());
    first.cloned().unwrap_or_else(|| BindAddress::new(Ipv4Addr::LOCALHOST.into()))
}

/// Returns the bus addresses to look for others at, as `host:port`.
pub fn seeds(config: &Config, bus_port: u16) -> Vec<String> {
    let seeds = config.seeds.iter();
    seeds.map(|seed| address(&seed.host, seed.port.unwrap_or(bus_port))).collect()
}

/// Returns what the node says of itself to others.
pub fn announcement(
    config: &Config,
    ports: Ports,
    bus: IpAddr,
    incarnation: Incarnation,
) -> Announcement {
    let client = config.announced_host().unwrap_or_default();
    let for_nodes = match &config.announce {
        Some(host) => host.clone(),
        None if !bus.is_unspecified() => bus.to_string(),
        None => own_address(&seeds(config, ports.bus)).unwrap_or_else(host_name),
    };
    // Who listens on all addresses, and is alone, tells clients the one that they connected to.
    let direct = if client.is_empty() && !config.seeds.is_empty() { &for_nodes } else { &client };
    let addresses = NodeAddresses {
        bus: address(&for_nodes, ports.bus),
        client: address(direct, ports.client),
        direct: address(direct, ports.direct),
        http: ports.http.map_or(String::new(), |port| address(direct, port)),
    };
    Announcement { incarnation, addresses, zone: String::new(), weight: WEIGHT, role: config.role }
}

/// Returns the address of this machine that lies on the way to one of the seeds. Nothing is sent.
fn own_address(seeds: &[String]) -> Option<String> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    let towards = |seed: &String| {
        socket.connect(seed.as_str()).ok()?;
        let ip = socket.local_addr().ok()?.ip();
        (!ip.is_loopback() && !ip.is_unspecified()).then(|| ip.to_string())
    };
    seeds.iter().find_map(towards)
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RawConfig;

    fn config(change: impl FnOnce(&mut Config)) -> Config {
        let live = crate::config::LiveConfig::new(RawConfig::default(), None).unwrap();
        let mut config = (*live.current()).clone();
        change(&mut config);
        config
    }

    const PORTS: Ports = Ports { client: 1, direct: 2, bus: 3, http: Some(4) };

    #[test]
    fn without_a_secret_the_bus_stays_on_this_machine() {
        let everywhere = BindAddress::new(Ipv4Addr::UNSPECIFIED.into());
        let open = config(|config| config.bind = vec![everywhere.clone()]);
        assert_eq!(bus_bind(&open).ip, Ipv4Addr::LOCALHOST);
        let allowed = config(|config| {
            config.bind = vec![everywhere];
            config.insecure_cluster = true;
        });
        assert_eq!(bus_bind(&allowed).ip, Ipv4Addr::UNSPECIFIED);
    }

    #[test]
    fn a_node_announces_what_leads_to_it() {
        let incarnation = Incarnation(1);
        let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
        let said = announcement(&config(|_| {}), PORTS, loopback, incarnation).addresses;
        assert_eq!((said.client.as_str(), said.bus.as_str()), ("127.0.0.1:1", "127.0.0.1:3"));
        assert_eq!(said.http, "127.0.0.1:4");
        let closed = Ports { http: None, ..PORTS };
        assert_eq!(announcement(&config(|_| {}), closed, loopback, incarnation).addresses.http, "");
        let named = config(|config| config.announce = Some("cache-1".to_owned()));
        let said = announcement(&named, PORTS, loopback, incarnation).addresses;
        assert_eq!((said.direct.as_str(), said.bus.as_str()), ("cache-1:2", "cache-1:3"));
    }

    #[test]
    fn a_seed_without_a_port_has_the_own_one() {
        let seed = |host: &str, port| crate::config::Seed { host: host.to_owned(), port };
        let listed = config(|config| config.seeds = vec![seed("a", None), seed("::1", Some(7))]);
        assert_eq!(seeds(&listed, 12050), ["a:12050", "[::1]:7"]);
    }
}
