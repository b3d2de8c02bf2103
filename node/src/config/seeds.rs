//! The nodes to look for at a start: hosts with or without a port.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// A node to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    /// Its name or IP address, without brackets.
    pub host: String,
    /// Its port for other nodes; `None` is the same as this node's.
    pub port: Option<u16>,
}

impl fmt::Display for Seed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.port, self.host.contains(':')) {
            (None, _) => formatter.write_str(&self.host),
            (Some(port), true) => write!(formatter, "[{}]:{port}", self.host),
            (Some(port), false) => write!(formatter, "{}:{port}", self.host),
        }
    }
}

/// Parses `host[:port]`, several with commas or spaces between them. `None` if one of them is
/// none; a seed that is named twice counts once.
pub(super) fn parse(text: &str) -> Option<Vec<Seed>> {
    let mut seeds = Vec::new();
    let parts = text.split(|c: char| c == ',' || c.is_whitespace());
    for part in parts.filter(|part| !part.is_empty()) {
        let seed = parse_one(part)?;
        if !seeds.contains(&seed) {
            seeds.push(seed);
        }
    }
    Some(seeds)
}

fn parse_one(text: &str) -> Option<Seed> {
    if text.parse::<Ipv6Addr>().is_ok() {
        return Some(Seed { host: text.to_owned(), port: None });
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) };
            (host, port)
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        None => None,
        Some(port) => Some(port.parse().ok().filter(|port| *port > 0)?),
    };
    is_host(host).then(|| Seed { host: host.to_owned(), port })
}

/// Whether a text may be a name (RFC 1123; also with `_`, as containers have it) or an IP address.
pub(super) fn is_host(text: &str) -> bool {
    const NAME_BYTES_MAX: usize = 253;
    let is_label = |label: &str| {
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty() && !label.starts_with('-') && label.bytes().all(is_inner)
    };
    let is_name = text.len() <= NAME_BYTES_MAX && text.split('.').all(is_label);
    is_name || text.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_names_and_addresses_with_or_without_a_port() {
        for (text, shown) in [
            ("", ""),
            ("host1,host2 , host3", "host1,host2,host3"),
            ("host:12050 host:12050", "host:12050"),
            ("10.0.0.1:7,10.0.0.1", "10.0.0.1:7,10.0.0.1"),
            ("::1 [::1] [fe80::2]:9", "::1,[fe80::2]:9"),
        ] {
            let seeds = parse(text).unwrap();
            let texts: Vec<String> = seeds.iter().map(Seed::to_string).collect();
            assert_eq!(texts.join(","), shown, "{text}");
        }
        for wrong in ["host:", "host:0", "host:65536", "host:x", "a b:c:d", "[host]:1", "-a", "a/b"]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
