//! Where a node listens, how it tells which ports these are, and what connections on one machine
//! have in common.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::{fs, io, slice};

use tokio::net::{TcpListener, TcpStream};

use crate::cluster::addresses;
use crate::config::Config;
use crate::node::Ports;
use crate::server::listen::{Access, listen, listen_near, port_of};
use crate::start::StartError;

/// Where the node listens.
pub struct Sockets {
    /// For clients, by the port that each of them is for.
    pub clients: Vec<(Access, TcpListener)>,
    /// For other nodes.
    pub bus: std::net::TcpListener,
    /// The address of `bus`.
    pub bus_ip: IpAddr,
    /// For operators; empty where there shall be none.
    pub http: Vec<TcpListener>,
    /// The numbers of all of them.
    pub ports: Ports,
}

impl Sockets {
    /// Binds them all, as the options say.
    ///
    /// # Errors
    /// [`StartError::Listen`]; what the system says of a socket that is bound.
    pub fn open(config: &Config) -> Result<Self, StartError> {
        let backlog = config.tcp_backlog;
        // Whoever looks for a seed looks at the port that everyone can work out.
        let is_sought = !config.seeds.is_empty();
        let open = |addresses: &[_], port, is_fixed, option| match is_fixed {
            true => listen(addresses, port, backlog),
            false => listen_near(addresses, port, backlog, option),
        };
        let any = listen(&config.bind, config.port, backlog)?;
        let port = config.direct_port(config.port);
        let direct = open(&config.bind, port, config.direct_port.is_some(), "direct-port")?;
        let bus_bind = addresses::bus_bind(config);
        let (port, is_fixed) = (config.bus_port(config.port), config.bus_port.is_some());
        let mut bus = open(slice::from_ref(&bus_bind), port, is_fixed || is_sought, "bus-port")?;
        let http = match config.http_port(config.port) {
            Some(port) => open(&config.bind, port, config.http_port.is_some(), "http-port")?,
            None => Vec::new(),
        };
        let http_port = if http.is_empty() { None } else { Some(port_of(&http)?) };
        let (client, direct_port) = (port_of(&any)?, port_of(&direct)?);
        let ports = Ports { client, direct: direct_port, bus: port_of(&bus)?, http: http_port };
        let bus = bus.pop().ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))?;
        let any = any.into_iter().map(|listener| (Access::Any, listener));
        let direct = direct.into_iter().map(|listener| (Access::Direct, listener));
        let clients = any.chain(direct).collect();
        Ok(Sockets { clients, bus: bus.into_std()?, bus_ip: bus_bind.ip, http, ports })
    }
}

/// Tells the ports that the system chose, in files of the data directory: `port` has the one for
/// all clients, and `ports` all of them, under the names of their options. Those that an earlier
/// process wrote, and that tell nothing now, are removed.
///
/// # Errors
/// [`StartError::DataDirectory`].
pub fn write_ports(config: &Config, ports: Ports) -> Result<(), StartError> {
    let Ports { client, direct, bus, http } = ports;
    let asked = Ports {
        client: config.port,
        direct: config.direct_port(config.port),
        bus: config.bus_port(config.port),
        http: config.http_port(config.port),
    };
    let http = http.map_or(String::new(), |port| format!("http-port {port}\n"));
    let all = format!("port {client}\ndirect-port {direct}\nbus-port {bus}\n{http}");
    let files = [
        ("ports", all, ports != asked),
        // The last one: who waits for it finds the other one too.
        ("port", format!("{client}\n"), client != config.port),
    ];
    let update = |directory: &Path| {
        for (name, text, is_wanted) in files {
            let path = directory.join(name);
            if is_wanted {
                fs::create_dir_all(directory)?;
                // Renamed into place, so that nobody reads half a number.
                let temporary = directory.join(format!("{name}.new"));
                fs::write(&temporary, text)?;
                fs::rename(temporary, path)?;
            } else if let Err(error) = fs::remove_file(path)
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(error);
            }
        }
        Ok(())
    };
    let path = config.data_dir.clone();
    update(&path).map_err(|source| StartError::DataDirectory { path, source })
}

/// Gives a connection to this machine itself, which no network can congest, the plainest congestion
/// control: others, such as BBR, which measures the rate and paces each packet, take 2 to 4 % of
/// the processor time of a small command.
pub fn spare_congestion_control(stream: &TcpStream, other_end: SocketAddr) {
    if other_end.ip().to_canonical().is_loopback() {
        // Where the system does not have it, its own choice stays.
        let _ = rustix::net::sockopt::set_tcp_congestion(stream, "reno");
    }
}
