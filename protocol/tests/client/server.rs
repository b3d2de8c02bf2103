//! A server to test against.

use std::hash::{BuildHasher, RandomState};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use distcache_protocol::client::{CacheClient, ConnectOptions};
use redis::aio::MultiplexedConnection;
use tokio::time::Instant;

/// How long anything may take before a test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// How often another free port is tried, should somebody else take the one that was found.
const START_ATTEMPTS: usize = 5;

/// A server, and a prefix that no other test uses on it.
pub(crate) struct Server {
    pub(crate) address: String,
    prefix: String,
    process: Option<Child>,
}

impl Server {
    /// Returns the server at `DISTCACHE_TEST_ADDR`, or else a new one.
    pub(crate) fn any() -> Self {
        match std::env::var("DISTCACHE_TEST_ADDR") {
            Ok(address) => Self { address, prefix: prefix(), process: None },
            Err(_) => Self::own(&[]),
        }
    }

    /// Starts a `redis-server` without persistence, which ends with the test.
    pub(crate) fn own(options: &[&str]) -> Self {
        for _ in 0..START_ATTEMPTS {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            drop(listener);
            if let Some(process) = start(port, options) {
                let address = format!("127.0.0.1:{port}");
                return Self { address, prefix: prefix(), process: Some(process) };
            }
        }
        panic!("redis-server did not start in {START_ATTEMPTS} attempts");
    }

    /// Kills the server as a crash does.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().expect("only one's own server can be killed");
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Starts a new server where the killed one was.
    pub(crate) fn restart(&mut self) {
        let port = self.address.rsplit_once(':').unwrap().1.parse().unwrap();
        self.process = Some(start(port, &[]).expect("redis-server starts on its former port"));
    }

    /// Returns the name of a key that no other test uses.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.prefix)
    }

    pub(crate) async fn client(&self) -> CacheClient {
        CacheClient::connect(&self.address).await.unwrap()
    }

    /// Returns a client that soon gives up connecting.
    pub(crate) fn impatient(&self) -> ConnectOptions {
        ConnectOptions {
            address: self.address.clone(),
            reconnect_attempts: 1,
            reconnect_delay: Duration::from_millis(5),
            ..ConnectOptions::default()
        }
    }

    /// Returns a connection of the client library itself: what other clients see.
    pub(crate) async fn raw(&self) -> MultiplexedConnection {
        let client = redis::Client::open(format!("redis://{}", self.address)).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.kill();
        }
    }
}

/// Starts `redis-server`; returns it once it answers, nothing if it ends before.
fn start(port: u16, options: &[&str]) -> Option<Child> {
    let mut process = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no"])
        .args(options)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is installed");
    let started = Instant::now();
    while started.elapsed() < DEADLINE {
        if process.try_wait().unwrap().is_some() {
            return None;
        }
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Some(process);
        }
        std::thread::yield_now();
    }
    process.kill().unwrap();
    process.wait().unwrap();
    panic!("redis-server does not answer on port {port} after {DEADLINE:?}");
}

fn prefix() -> String {
    format!("test:{:016x}", RandomState::new().hash_one(std::process::id()))
}
