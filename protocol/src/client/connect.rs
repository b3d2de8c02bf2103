//! Where and how to connect.

use std::fmt;
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, ConnectionInfo, IntoConnectionInfo, ProtocolVersion};

use super::ClientError;

/// The port of a cache node, where the address says none.
const PORT: u16 = 2050;

/// How to connect to a cache node. Start from [`ConnectOptions::default`].
#[derive(Clone)]
pub struct ConnectOptions {
    /// `host:port`, `host` (port 2050), `[ipv6]:port`, or a URL
    /// `redis://user:password@host:port/database` (there the port is 6379 if it says none).
    /// RESP3 is spoken, which shows a broken connection at once; a server older than Redis 6
    /// needs a URL that ends in `?protocol=resp2`.
    pub address: String,
    /// The user to log in as; the server's default user if `None`. Overrides the URL's.
    pub username: Option<String>,
    /// The password; none is sent if `None`. Overrides the URL's.
    pub password: Option<String>,
    /// The database, 0 to 15; the URL's, or else 0, if `None`.
    pub database: Option<u16>,
    /// The longest that one attempt to connect may take.
    pub connect_timeout: Duration,
    /// The longest that one command may take. Too short, and slow commands are reported as
    /// failed though they were carried out.
    pub response_timeout: Duration,
    /// How often a failed attempt to connect is repeated before the commands that wait for it
    /// fail. The next command begins anew.
    pub reconnect_attempts: usize,
    /// The pause before the second attempt; each further one is twice as long, with jitter.
    pub reconnect_delay: Duration,
    /// The longest pause between two attempts.
    pub reconnect_delay_max: Duration,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            address: format!("127.0.0.1:{PORT}"),
            username: None,
            password: None,
            database: None,
            connect_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_secs(5),
            reconnect_attempts: 6,
            reconnect_delay: Duration::from_millis(50),
            reconnect_delay_max: Duration::from_secs(2),
        }
    }
}

/// Shows everything but the secrets, which an address may hold too.
impl fmt::Debug for ConnectOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ConnectOptions")
            .field("address", &without_password(&self.address))
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .field("database", &self.database)
            .field("connect_timeout", &self.connect_timeout)
            .field("response_timeout", &self.response_timeout)
            .field("reconnect_attempts", &self.reconnect_attempts)
            .field("reconnect_delay", &self.reconnect_delay)
            .field("reconnect_delay_max", &self.reconnect_delay_max)
            .finish()
    }
}

impl ConnectOptions {
    /// Connects; returns also the address for error texts.
    pub(super) async fn open(&self) -> Result<(String, ConnectionManager), ClientError> {
        let info = self.connection_info()?;
        let address = info.addr().to_string();
        let error = |source| ClientError::from_redis(source, &address, b"");
        let client = Client::open(info).map_err(error)?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(Some(self.response_timeout))
            .set_number_of_retries(self.reconnect_attempts)
            .set_min_delay(self.reconnect_delay)
            .set_max_delay(self.reconnect_delay_max);
        let connection = ConnectionManager::new_with_config(client, config).await.map_err(error)?;
        Ok((address, connection))
    }

    fn connection_info(&self) -> Result<ConnectionInfo, ClientError> {
        let info = match self.address.contains("://") {
            true => self.address.as_str().into_connection_info(),
            false => split_host_port(&self.address).into_connection_info(),
        };
        let info = info.map_err(|error| ClientError::Address {
            address: without_password(&self.address),
            reason: error.to_string(),
        })?;
        let mut settings = info.redis_settings().clone();
        if !self.address.contains("protocol=") {
            settings = settings.set_protocol(ProtocolVersion::RESP3);
        }
        if let Some(username) = &self.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = &self.password {
            settings = settings.set_password(password);
        }
        if let Some(database) = self.database {
            settings = settings.set_db(database.into());
        }
        Ok(info.set_redis_settings(settings))
    }
}

/// Returns host and port of an address that is no URL.
fn split_host_port(address: &str) -> (String, u16) {
    let host_port = address.rsplit_once(':').and_then(|(host, port)| {
        // More colons without brackets are an IPv6 address without a port.
        let is_host = !host.contains(':') || host.ends_with(']');
        Some((host, port.parse().ok()?)).filter(|_| is_host)
    });
    let (host, port) = host_port.unwrap_or((address, PORT));
    (host.trim_matches(['[', ']']).to_owned(), port)
}

/// Returns the address without what stands before its `@`.
fn without_password(address: &str) -> String {
    match (address.split_once("://"), address.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        _ => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_address(address: &str) -> ConnectOptions {
        ConnectOptions { address: address.to_owned(), ..ConnectOptions::default() }
    }

    #[test]
    fn addresses_are_understood() {
        let cases = [
            ("127.0.0.1:7000", "127.0.0.1:7000"),
            ("cache.example", "cache.example:2050"),
            ("[::1]:7000", "::1:7000"),
            ("::1", "::1:2050"),
            ("redis://cache.example:7000/3", "cache.example:7000"),
        ];
        for (address, expected) in cases {
            let info = with_address(address).connection_info().unwrap();
            assert_eq!(info.addr().to_string(), expected, "{address}");
        }
    }

    #[test]
    fn options_override_the_url() {
        let mut options = with_address("redis://me:secret@cache.example/3?protocol=resp2");
        let settings = options.connection_info().unwrap();
        let settings = settings.redis_settings();
        assert_eq!((settings.username(), settings.password()), (Some("me"), Some("secret")));
        assert_eq!((settings.db(), settings.protocol()), (3, ProtocolVersion::RESP2));
        options.password = Some("other".to_owned());
        options.database = Some(4);
        let settings = options.connection_info().unwrap();
        let settings = settings.redis_settings();
        assert_eq!((settings.password(), settings.db()), (Some("other"), 4));
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut options = with_address("ftp://me:secret@cache.example");
        options.password = Some("secret".to_owned());
        let error = options.connection_info().map(|_| ()).unwrap_err();
        for text in [format!("{options:?}"), error.to_string()] {
            assert!(!text.contains("secret") && text.contains("cache.example"), "{text}");
        }
    }
}
