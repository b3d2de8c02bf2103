//! `distcache-node cluster` against real processes: what it shows, that it drains a node, and what
//! it says when it cannot.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may unwrap and read the clock"
)]

mod support;

use std::net::TcpListener;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::cluster::{Node, start};
use support::process::until;

/// Longer than anything here takes, on a machine busy with a build.
const LIMIT: Duration = Duration::from_secs(120);

/// Longer than a node that has left waits for clients that have not come yet.
const PAST_LINGER: Duration = Duration::from_secs(5);

const KEYS: usize = 1000;

fn cluster(args: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_distcache-node");
    Command::new(program).arg("cluster").args(args).output().unwrap()
}

/// What it printed, if it succeeded.
fn done(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The one line that it ended with, if it failed with this exit code.
fn failed(output: &Output, code: i32) -> String {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    assert!(said.starts_with("distcache-node: "), "{said}");
    said
}

/// Asks until all members serve and nothing moves.
fn settled(seed: &Node, members: usize) -> Value {
    let deadline = Instant::now() + LIMIT;
    loop {
        let output = cluster(&["status", "--seeds", &seed.bus(), "--format", "json"]);
        let status: Option<Value> = serde_json::from_slice(&output.stdout).ok();
        if let Some(status) = status {
            let nodes = status["nodes"].as_array().unwrap();
            let serves = |node: &Value| node["is_leased"] == true && node["partitions"] != 0;
            let is_quiet = status["moves_left"] == 0 && status["moves"] == Value::Array(vec![]);
            if nodes.len() == members && nodes.iter().all(serves) && is_quiet {
                return status;
            }
        }
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(Instant::now() < deadline, "the cluster is not ready: {said}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

fn sum(status: &Value, field: &str) -> u64 {
    status["nodes"].as_array().unwrap().iter().map(|node| node[field].as_u64().unwrap()).sum()
}

fn key(at: usize) -> String {
    format!("key:{at}")
}

fn check_keys(node: &Node) {
    let mut wire = node.connect();
    for at in 0..KEYS {
        let reply = wire.call(&["GET", &key(at)]);
        let expected = format!("${}\r\n{at}\r\n", at.to_string().len());
        assert_eq!(String::from_utf8(reply.raw).unwrap(), expected, "{}", key(at));
    }
}

/// Waits until the process of a drained node has ended.
fn exit_code(node: &mut Node) -> Option<i32> {
    until(LIMIT, "the end of the drained process", || node.child.try_wait().unwrap()).code()
}

#[test]
fn nodes_are_shown_and_drained_and_keep_every_key() {
    let mut nodes = start(3, &[]);
    let status = settled(&nodes[1], 3);
    assert_eq!((sum(&status, "partitions"), &status["unserved"]), (1024, &Value::from(0)));
    let mut wire = nodes[0].connect();
    for at in 0..KEYS {
        assert_eq!(wire.call(&["SET", &key(at), &at.to_string()]).raw, b"+OK\r\n");
    }
    let info = wire.call(&["INFO", "cluster"]);
    let info = String::from_utf8(info.raw).unwrap();
    for line in ["cluster_state:ok\r\n", "cluster_members:3\r\n", "cluster_leased:yes\r\n"] {
        assert!(info.contains(line), "{info}");
    }
    drop(wire);
    assert_eq!(sum(&settled(&nodes[2], 3), "keys"), KEYS as u64);

    let mut direct = nodes[0].connect_direct();
    // The only seed is the node that leaves: it is asked who the others are.
    let first = nodes[0].client();
    let removed = cluster(&["remove", &first, "--seeds", &nodes[0].bus()]);
    let said = done(&removed);
    assert!(said.contains("draining") && said.contains("has left the cluster"), "{said}");
    // For a moment it answers still, with what is true now.
    check_keys(&nodes[0]);
    // And for longer, to a client that may have it on its map of the slots.
    std::thread::park_timeout(PAST_LINGER);
    let told = direct.call(&["GET", &key(0)]).raw;
    assert!(told.starts_with(b"-MOVED "), "{}", told.escape_ascii());
    drop(direct);
    assert_eq!(exit_code(&mut nodes[0]), Some(0));
    let status = settled(&nodes[1], 2);
    assert_eq!((sum(&status, "partitions"), sum(&status, "keys")), (1024, KEYS as u64));
    check_keys(&nodes[1]);
    check_keys(&nodes[2]);
    // The one that left hears so when somebody starts it once more; it aborted of that once.
    nodes[0].start_again();
    assert_eq!(exit_code(&mut nodes[0]), Some(0));
    assert!(nodes[0].said().contains("has left the cluster"), "{}", nodes[0].said());

    // By its id, and for programs.
    let is_last = |node: &&Value| node["client"] == nodes[2].client();
    let id = status["nodes"].as_array().unwrap().iter().find(is_last).unwrap()["id"].clone();
    let seeds = [nodes[1].bus(), nodes[2].bus()].join(",");
    let removed = cluster(&["remove", id.as_str().unwrap(), "--seeds", &seeds, "--format", "json"]);
    let said = done(&removed);
    let last: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!((&last["node"], &last["removed"]), (&id, &Value::from(true)));
    assert_eq!(exit_code(&mut nodes[2]), Some(0));
    assert_eq!(sum(&settled(&nodes[1], 1), "keys"), KEYS as u64);
    check_keys(&nodes[1]);

    let refused = cluster(&["remove", &nodes[1].client(), "--seeds", &nodes[1].bus()]);
    assert!(failed(&refused, 1).contains("the last one that can hold data"));
    check_keys(&nodes[1]);
}

#[test]
fn what_goes_wrong_is_said_in_one_line() {
    let nodes = start(1, &["--cluster-secret", "what-all-nodes-know"]);
    let (node, bus) = (&nodes[0], nodes[0].bus());
    let secret = ["--cluster-secret", "what-all-nodes-know"];
    let ask = |args: &[&str]| cluster(&[args, &["--seeds", bus.as_str()]].concat());
    let deadline = Instant::now() + LIMIT;
    while !ask(&[&["status"][..], &secret].concat()).status.success() {
        assert!(Instant::now() < deadline, "the cluster is not ready");
    }
    let table = done(&ask(&[&["status"][..], &secret].concat()));
    assert!(table.contains(&node.client()) && table.contains("1024 of 1024"), "{table}");

    assert!(failed(&ask(&["status"]), 1).contains("the cluster has a secret"));
    let wrong = ask(&["status", "--cluster-secret", "something-else-instead"]);
    assert!(failed(&wrong, 1).contains("not the one that was given"));
    let unknown = ask(&[&["remove", "127.0.0.1:9"][..], &secret].concat());
    assert!(failed(&unknown, 1).contains("no node is 127.0.0.1:9"));

    // The port for clients is no bus.
    let client = cluster(&["status", "--seeds", &node.client()]);
    assert!(failed(&client, 1).contains("not the bus of a distcache node"));
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dead = cluster(&["remove", "1", "--seeds", &closed.to_string()]);
    assert!(failed(&dead, 1).contains("cannot be reached"));
    let nonsense = cluster(&["status", "--seeds", "no port:x"]);
    assert_eq!(nonsense.status.code(), Some(2));
    assert_eq!(cluster(&["leave"]).status.code(), Some(2));
}
