//! Servers to test against: our node, a real `redis-server`, or one that already runs elsewhere.

use std::fs;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::wire::Wire;

/// How long a server may take to answer its first PING, on a machine busy with a build.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A server that is stopped, and its data removed, when the value is dropped.
pub(crate) struct Server {
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    /// What to call it in a report.
    pub(crate) name: String,
    child: Option<Child>,
    dir: Option<tempfile::TempDir>,
}

impl Server {
    /// Starts a real Redis without persistence; `extra` are further options of its command line.
    ///
    /// # Panics
    /// When `redis-server` (Debian package of that name) is not installed.
    pub(crate) fn redis(extra: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Redis has no "any free port": another process may take the one found here, so try again.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut command = Command::new("redis-server");
            command.args(["--port", &port.to_string(), "--save", "", "--appendonly", "no"]);
            command.args(["--enable-debug-command", "yes", "--bind", "127.0.0.1", "--dir"]);
            command.arg(dir.path()).args(extra);
            let mut child = spawn(command, &dir.path().join("output"));
            if let Some(addr) = wait_until_answering(&mut child, || Some(local(port))) {
                return Self { addr, name: "redis".to_owned(), child: Some(child), dir: Some(dir) };
            }
        }
        panic!("redis-server did not start: is the Debian package redis-server installed?");
    }

    /// Starts our node on a free port with an empty data directory; `extra` are further flags.
    pub(crate) fn node(extra: &[&str]) -> Self {
        Self::launch(Command::new(env!("CARGO_BIN_EXE_distcache-node")), extra)
    }

    /// As [`Server::node`], under what the shell's `ulimit` does with these arguments.
    pub(crate) fn node_under(ulimit: &str, extra: &[&str]) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit {ulimit} && exec \"$@\""), "sh"]);
        command.arg(env!("CARGO_BIN_EXE_distcache-node"));
        Self::launch(command, extra)
    }

    fn launch(mut command: Command, extra: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        command.args(["--port", "0", "--data-dir"]).arg(&data).args(extra);
        let output = dir.path().join("output");
        let mut child = spawn(command, &output);
        let port_file = data.join("port");
        let addr = wait_until_answering(&mut child, || {
            let port = fs::read_to_string(&port_file).ok()?.trim().parse().ok()?;
            Some(local(port))
        });
        let Some(addr) = addr else {
            let said = fs::read_to_string(&output).unwrap_or_default();
            panic!("distcache-node {} did not answer PING; it said:\n{said}", extra.join(" "));
        };
        let name = format!("distcache-node {}", extra.join(" "));
        Self { addr, name, child: Some(child), dir: Some(dir) }
    }

    /// Returns the server that `DISTCACHE_TEST_ADDR=host:port` names, if it is set.
    ///
    /// Its whole keyspace is flushed again and again by the tests.
    pub(crate) fn external() -> Option<Self> {
        let text = std::env::var("DISTCACHE_TEST_ADDR").ok()?;
        let addr = text.to_socket_addrs().ok().and_then(|mut all| all.next());
        let addr = addr.unwrap_or_else(|| panic!("DISTCACHE_TEST_ADDR is no address: {text}"));
        Some(Self { addr, name: format!("server {addr}"), child: None, dir: None })
    }

    /// Returns where our node listens for clients that know the slots.
    pub(crate) fn direct(&self) -> SocketAddr {
        self.port_of("direct-port")
    }

    /// Returns where our node listens for operators.
    pub(crate) fn http(&self) -> SocketAddr {
        self.port_of("http-port")
    }

    fn port_of(&self, option: &str) -> SocketAddr {
        let ports = fs::read_to_string(self.dir().unwrap().join("data/ports")).unwrap();
        let port = ports.lines().find_map(|line| line.strip_prefix(option)?.strip_prefix(' '));
        local(port.unwrap().parse().unwrap())
    }

    /// Takes back the settings that a sequence leaves behind when it stops in its middle.
    pub(crate) fn restore_settings(&self) {
        let mut wire = self.connect();
        // Refused where no password is set, which is as well.
        wire.call(&["AUTH", "secret"]);
        wire.call(&["CONFIG", "SET", "requirepass", ""]);
        wire.call(&["CONFIG", "SET", "maxmemory", "0", "maxmemory-policy", "noeviction"]);
    }

    /// Returns a new connection that speaks RESP2.
    pub(crate) fn connect(&self) -> Wire {
        Wire::connect(self.addr)
    }

    /// Returns the folder that holds the server's files, unless it runs elsewhere.
    pub(crate) fn dir(&self) -> Option<&Path> {
        self.dir.as_ref().map(|dir| dir.path())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking()
            && self.name != "redis"
            && let Some(dir) = &self.dir
            && let Ok(said) = fs::read_to_string(dir.path().join("output"))
        {
            let tail: Vec<&str> = said.lines().rev().take(20).collect();
            eprintln!("last lines of {}:", self.name);
            tail.iter().rev().for_each(|line| eprintln!("  {line}"));
        }
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn spawn(mut command: Command, output: &PathBuf) -> Child {
    let file = fs::File::create(output).unwrap();
    let errors = file.try_clone().unwrap();
    command.stdin(Stdio::null()).stdout(file).stderr(errors);
    let program = command.get_program().to_string_lossy().into_owned();
    command.spawn().unwrap_or_else(|error| panic!("cannot start {program}: {error}"))
}

/// Returns the address once it answers PING, or none when the process ended or time is over.
fn wait_until_answering(
    child: &mut Child,
    mut addr: impl FnMut() -> Option<SocketAddr>,
) -> Option<SocketAddr> {
    let deadline = Instant::now() + START_LIMIT;
    while Instant::now() < deadline {
        if let Some(addr) = addr()
            && let Ok(mut wire) = Wire::try_connect(addr)
            && wire.try_call(&[b"PING".to_vec()]).is_ok_and(|reply| reply.raw == b"+PONG\r\n")
        {
            // Another process may answer on a port that ours failed to take.
            return child.try_wait().ok()?.is_none().then_some(addr);
        }
        if child.try_wait().ok()?.is_some() {
            return None;
        }
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(10));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}
