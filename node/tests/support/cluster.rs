//! Nodes that look for each other: processes with ports that each knows of the others.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::wire::Wire;

/// A process with free ports.
pub(crate) struct Node {
    /// The process.
    pub(crate) child: Child,
    args: Vec<String>,
    dir: tempfile::TempDir,
    client: u16,
    direct: u16,
    bus: u16,
}

impl Node {
    /// Starts a process on the directory of one that has ended.
    pub(crate) fn start_again(&mut self) {
        self.child = spawn(&self.args, &self.dir);
    }

    /// Where clients reach it.
    pub(crate) fn client(&self) -> String {
        format!("127.0.0.1:{}", self.client)
    }

    /// Where other nodes reach it.
    pub(crate) fn bus(&self) -> String {
        format!("127.0.0.1:{}", self.bus)
    }

    /// Returns a connection of a client.
    pub(crate) fn connect(&self) -> Wire {
        Wire::connect(SocketAddr::from(([127, 0, 0, 1], self.client)))
    }

    /// Returns a connection of a client that knows the slots.
    pub(crate) fn connect_direct(&self) -> Wire {
        Wire::connect(SocketAddr::from(([127, 0, 0, 1], self.direct)))
    }

    /// Its data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// What it has logged.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.dir.path().join("output")).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let said = self.said();
            let tail: Vec<&str> = said.lines().rev().take(20).collect();
            eprintln!("last lines of {}:", self.client());
            tail.iter().rev().for_each(|line| eprintln!("  {line}"));
        }
    }
}

/// Starts nodes that look for each other. The ports were free a moment ago: nodes must know each
/// other's before they listen.
pub(crate) fn start(count: usize, flags: &[&str]) -> Vec<Node> {
    let free = || TcpListener::bind("127.0.0.1:0").unwrap();
    let held: Vec<[TcpListener; 3]> = (0..count).map(|_| [free(), free(), free()]).collect();
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let ports: Vec<[u16; 3]> =
        held.iter().map(|[client, direct, bus]| [port(client), port(direct), port(bus)]).collect();
    drop(held);
    let seeds: Vec<String> = ports.iter().map(|[.., bus]| format!("127.0.0.1:{bus}")).collect();
    let start = |[client, direct, bus]: [u16; 3]| {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data").to_string_lossy().into_owned();
        let [client_port, direct_port, bus_port] =
            [client, direct, bus].map(|port| port.to_string());
        let own = ["--port", &client_port, "--direct-port", &direct_port, "--bus-port", &bus_port];
        let own = [&own[..], &["--http-port", "0"]].concat();
        let common = ["--shards", "1", "--seeds", &seeds.join(","), "--data-dir", &data];
        let args: Vec<String> =
            [&own[..], &common, flags].concat().into_iter().map(str::to_owned).collect();
        let child = spawn(&args, &dir);
        Node { child, args, dir, client, direct, bus }
    };
    ports.into_iter().map(start).collect()
}

fn spawn(args: &[String], dir: &tempfile::TempDir) -> Child {
    let output = fs::File::create(dir.path().join("output")).unwrap();
    Command::new(env!("CARGO_BIN_EXE_distcache-node"))
        .args(args)
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn()
        .unwrap()
}
