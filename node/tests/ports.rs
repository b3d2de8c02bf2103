//! Ports that are taken: one that was asked for stops the node, one that only follows from another
//! does not.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod support;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use support::process::{Process, terminate, until};
use support::text::show_tree;
use support::wire::Wire;

/// Longer than anything here takes, on a machine busy with a build.
const LIMIT: Duration = Duration::from_secs(120);

/// Distances of the ports of a node from that for all clients, and the options that choose them.
const BESIDE: [(u16, &str); 3] = [(1, "--direct-port"), (2, "--http-port"), (10_000, "--bus-port")];

/// A free port behind `from`, and listeners on all those that follow from it. No number here is one
/// that the system gives to clients.
fn taken(from: u16) -> (u16, Vec<TcpListener>) {
    for port in (from..from + 4_000).step_by(7) {
        let bind = |port| TcpListener::bind(("127.0.0.1", port));
        let beside = BESIDE.iter().map(|(distance, _)| bind(port + distance)).collect();
        if let (Ok(_), Ok(beside)) = (bind(port), beside) {
            return (port, beside);
        }
    }
    panic!("no such ports are free");
}

fn command(port: u16, directory: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_distcache-node"));
    command.args(["--port", &port.to_string(), "--shards", "1"]).args(args).arg("--data-dir");
    command.arg(directory.join("data")).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Runs a node until it answers `PING` on the port, and returns what it says in `INFO`.
fn run(port: u16, directory: &Path) -> (Process, String) {
    let mut command = command(port, directory, &[]);
    let output = fs::File::create(directory.join("output")).unwrap();
    let node = Process(command.stderr(output).spawn().unwrap());
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut wire = until(LIMIT, "the node does not listen", || Wire::try_connect(address).ok());
    until(LIMIT, "the node does not answer", || {
        (wire.call(&["PING"]).raw == b"+PONG\r\n").then_some(())
    });
    let info = show_tree(&wire.call(&["INFO", "everything"]).tree);
    (node, info)
}

fn refused(port: u16, directory: &Path, args: &[&str]) -> String {
    let Output { status, stderr, .. } = command(port, directory, args).output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{args:?}: {said}");
    said
}

#[test]
fn a_port_that_follows_from_another_one_and_is_taken_is_replaced_by_a_free_one() {
    let directory = tempfile::tempdir().unwrap();
    let (port, held) = taken(12_000);
    let (mut node, _) = run(port, directory.path());
    let said = fs::read_to_string(directory.path().join("output")).unwrap();
    let file = directory.path().join("data/ports");
    let ports = fs::read_to_string(&file).unwrap();
    for (distance, option) in BESIDE {
        let start = format!("port {} is taken, so ", port + distance);
        let line = said.lines().find(|line| line.contains(&start));
        let line = line.unwrap_or_else(|| panic!("{option} is not mentioned in:\n{said}"));
        assert!(line.ends_with(&format!(" stands in for it; {option} chooses another")), "{line}");
        let instead = line.split(&start).nth(1).unwrap().split(' ').next().unwrap();
        let name = option.trim_start_matches("--");
        assert!(ports.contains(&format!("{name} {instead}\n")), "{line}\n{ports}");
        let instead = SocketAddr::from(([127, 0, 0, 1], instead.parse().unwrap()));
        assert!(Wire::try_connect(instead).is_ok(), "{line}: nobody listens there");
    }

    // Once they are free, the node has its own ports again, and nothing tells of others.
    terminate(&node.0);
    assert_eq!(
        until(LIMIT, "the node does not end", || node.0.try_wait().unwrap()).code(),
        Some(0)
    );
    drop(held);
    let (_node, info) = run(port, directory.path());
    let said = fs::read_to_string(directory.path().join("output")).unwrap();
    assert!(!said.contains("is taken"), "{said}");
    assert!(info.contains(&format!("http_port:{}", port + 2)), "{info}");
    assert!(!file.exists());
}

#[test]
fn a_port_that_was_asked_for_and_is_taken_stops_the_node() {
    let directory = tempfile::tempdir().unwrap();
    let (port, held) = taken(16_000);
    for (distance, option) in BESIDE {
        let number = (port + distance).to_string();
        let said = refused(port, directory.path(), &[option, &number]);
        let wanted = format!("listening on 127.0.0.1:{number}: Address already in use");
        assert!(said.contains(&wanted), "{option}: {said}");
    }
    // That for other nodes is one that seeds are expected to have.
    let said = refused(port, directory.path(), &["--seeds", "127.0.0.1"]);
    assert!(said.contains(&format!("listening on 127.0.0.1:{}", port + 10_000)), "{said}");
    // That for all clients.
    let port = held[0].local_addr().unwrap().port();
    let said = refused(port, directory.path(), &[]);
    assert!(said.contains(&format!("listening on 127.0.0.1:{port}")), "{said}");
}
