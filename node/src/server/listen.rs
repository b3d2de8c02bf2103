//! The sockets that clients come to.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

use crate::config::BindAddress;

/// By which port a client comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The port for any client, which need not know that there are several nodes.
    Any,
    /// The direct port, for clients that know the slots: what belongs to another node is answered
    /// with its address, as in Redis Cluster.
    Direct,
    /// No port: another node sends on what its clients want, and is told as on the direct port
    /// what belongs to another node; but keys of several slots may go together.
    Node,
}

impl Access {
    /// What clients are told who ask in which mode the server is (`INFO`, `HELLO`).
    ///
    /// Clients that read it decide by it whether they must know the slots. One that is given the
    /// port for any client need not, so it hears what a lone Redis says: StackExchange.Redis would
    /// otherwise follow slots by itself and refuse all databases but 0. Those that are told by
    /// their users to know the slots (redis-py, redis-rs, go-redis, ioredis) ask `CLUSTER SLOTS`
    /// or `SHARDS` instead, which answer on both ports.
    pub fn redis_mode(self) -> &'static str {
        match self {
            Access::Any => "standalone",
            Access::Direct | Access::Node => "cluster",
        }
    }

    /// The word that log lines have for it.
    pub fn name(self) -> &'static str {
        match self {
            Access::Any => "any",
            Access::Direct => "direct",
            Access::Node => "node",
        }
    }
}

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("listening on {address}")]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

/// Binds all addresses; with port 0 the first takes a free one, and the others the same.
///
/// # Errors
/// [`ListenError`]; also where none of the addresses, all of them optional, is there.
pub fn listen(
    addresses: &[BindAddress],
    port: u16,
    backlog: u32,
) -> Result<Vec<TcpListener>, ListenError> {
    let mut port = port;
    let mut listeners = Vec::new();
    for bind in addresses {
        match listen_on(bind, port, backlog) {
            Ok((listener, bound)) => {
                port = bound;
                listeners.push(listener);
            }
            Err(source) if bind.optional && source.kind() == io::ErrorKind::AddrNotAvailable => {
                log::warn!(address = bind.ip.to_string().as_str(); "no such address here");
            }
            Err(source) => return Err(ListenError { address: (bind.ip, port).into(), source }),
        }
    }
    match addresses.first() {
        Some(bind) if listeners.is_empty() => {
            let source = io::ErrorKind::AddrNotAvailable.into();
            Err(ListenError { address: (bind.ip, port).into(), source })
        }
        _ => Ok(listeners),
    }
}

/// Binds all addresses to `port`, which nobody has asked for: if it is taken, to any free one, and
/// says so. `option` is the name of the option by which one can be asked for.
///
/// A port may be taken without any server on it, by a client that has just left another one.
///
/// # Errors
/// As [`listen`].
pub fn listen_near(
    addresses: &[BindAddress],
    port: u16,
    backlog: u32,
    option: &str,
) -> Result<Vec<TcpListener>, ListenError> {
    match listen(addresses, port, backlog) {
        Err(error) if error.source.kind() == io::ErrorKind::AddrInUse => {}
        other => return other,
    }
    let listeners = listen(addresses, 0, backlog)?;
    if let Ok(free) = port_of(&listeners) {
        log::warn!("port {port} is taken, so {free} stands in for it; --{option} chooses another");
    }
    Ok(listeners)
}

/// The port of listeners that [`listen`] has returned.
///
/// # Errors
/// What the system said; also if there is none.
pub fn port_of(listeners: &[TcpListener]) -> io::Result<u16> {
    let first = listeners.first().ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok(first.local_addr()?.port())
}

fn listen_on(bind: &BindAddress, port: u16, backlog: u32) -> io::Result<(TcpListener, u16)> {
    let socket = if bind.ip.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if bind.ip.is_ipv6() {
        // Otherwise `::` would take the IPv4 port too, which `*` beside it needs.
        socket2::SockRef::from(&socket).set_only_v6(true)?;
    }
    socket.set_reuseaddr(true)?;
    socket.bind((bind.ip, port).into())?;
    let listener = socket.listen(backlog)?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}
