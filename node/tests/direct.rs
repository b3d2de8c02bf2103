//! The direct port of a node alone, as clients of Redis Cluster see it, beside a real Redis in
//! cluster mode.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::process::Command;
use std::thread;
use std::time::Duration;

use support::server::Server;
use support::text::{parse_request, show_tree};
use support::wire::{Tree, Wire};

/// Which kinds of replies are where: what a client's parser depends on.
fn shape(tree: &Tree) -> String {
    match tree {
        Tree::Simple(_) => "simple".to_owned(),
        Tree::Error(text) => format!("-{}", String::from_utf8_lossy(text)),
        Tree::Integer(_) => "integer".to_owned(),
        Tree::Bulk(_) => "bulk".to_owned(),
        Tree::Null => "null".to_owned(),
        Tree::Other(_) => "other".to_owned(),
        Tree::Array(items) => {
            let shapes: Vec<String> = items.iter().map(shape).collect();
            format!("[{}]", shapes.join(", "))
        }
        Tree::Map(pairs) => {
            let shape =
                |(key, value): &(Tree, Tree)| format!("{}: {}", show_tree(key), shape(value));
            let shapes: Vec<String> = pairs.iter().map(shape).collect();
            format!("{{{}}}", shapes.join(", "))
        }
    }
}

/// A Redis that is a cluster of one.
fn redis_cluster() -> Server {
    let server = Server::redis(&["--cluster-enabled", "yes"]);
    let mut wire = server.connect();
    wire.call(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    for _ in 0..500 {
        if show_tree(&wire.call(&["CLUSTER", "INFO"]).tree).contains("cluster_state:ok") {
            return server;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("Redis did not become a cluster");
}

fn text(wire: &mut Wire, words: &[&str]) -> String {
    match wire.call(words).tree {
        Tree::Bulk(text) | Tree::Simple(text) => String::from_utf8(text).unwrap(),
        other => panic!("{words:?}: no text: {}", show_tree(&other)),
    }
}

#[test]
fn replies_have_the_shapes_of_redis_cluster() {
    let (node, redis) = (Server::node(&["--shards", "2"]), redis_cluster());
    for version in ["2", "3"] {
        let mut wires = [Wire::connect(node.direct()), redis.connect()];
        for wire in &mut wires {
            wire.call(&["HELLO", version]);
        }
        for request in [
            "HELLO",
            "CLUSTER SLOTS",
            "CLUSTER SHARDS",
            "CLUSTER NODES",
            "CLUSTER INFO",
            "CLUSTER MYID",
            "CLUSTER LINKS",
            "CLUSTER KEYSLOT foo",
            "CLUSTER COUNTKEYSINSLOT 1",
            "CLUSTER COUNTKEYSINSLOT 16384",
            "CLUSTER GETKEYSINSLOT 1 1",
            "CLUSTER REPLICAS nobody",
            "CLUSTER NOSUCH",
            "READONLY",
            "READWRITE",
            "ASKING",
            "MSET a 1 b 2",
            "MSET {t}a 1 {t}b 2",
            "MGET {t}a {t}b",
            "RENAME {t}a b",
            "DEL {t}a {t}b",
            "INFO cluster",
        ] {
            let request = parse_request(request);
            let [ours, real] =
                wires.each_mut().map(|wire| shape(&wire.try_call(&request).unwrap().tree));
            let shown: Vec<_> = request.iter().map(|word| String::from_utf8_lossy(word)).collect();
            assert_eq!(ours, real, "RESP{version} {}", shown.join(" "));
        }
    }
}

#[test]
fn fields_are_those_of_redis_cluster() {
    let (node, redis) = (Server::node(&[]), redis_cluster());
    let mut wires = [Wire::connect(node.direct()), redis.connect()];
    let lines = |text: String| -> Vec<String> { text.lines().map(str::to_owned).collect() };
    let [ours, real] = wires.each_mut().map(|wire| lines(text(wire, &["CLUSTER", "INFO"])));
    for line in real.iter().filter(|line| !line.contains("epoch")) {
        assert!(ours.contains(line), "{line}: {ours:?}");
    }
    let [ours, real] = wires.each_mut().map(|wire| text(wire, &["CLUSTER", "NODES"]));
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let (ours, real) = (words(&ours), words(&real));
    assert_eq!(ours[2..6], real[2..6]);
    assert_eq!(ours[7..], real[7..]);
    assert_eq!(ours[0].len(), real[0].len());
    assert!(ours[1].starts_with(&format!("{}@", node.direct())), "{}", ours[1]);
    let modes = wires.each_mut().map(|wire| text(wire, &["INFO", "server"]));
    assert!(modes.iter().all(|info| info.contains("redis_mode:cluster\r\n")));
}

#[test]
fn slots_matter_on_the_direct_port_alone() {
    let node = Server::node(&["--shards", "3"]);
    let (mut direct, mut any) = (Wire::connect(node.direct()), node.connect());
    let cross = "-CROSSSLOT Keys in request don't hash to the same slot";
    assert_eq!(show_tree(&direct.call(&["MSET", "a", "1", "b", "2"]).tree), cross);
    assert_eq!(show_tree(&any.call(&["MSET", "a", "1", "b", "2"]).tree), "+OK");
    assert_eq!(show_tree(&direct.call(&["DEL", "a", "b"]).tree), cross);
    assert_eq!(show_tree(&direct.call(&["GET", "a"]).tree), "\"1\"");
    assert_eq!(show_tree(&direct.call(&["MGET", "a", "{a}x"]).tree), "[\"1\", nil]");
    assert_eq!(show_tree(&direct.call(&["SELECT", "1"]).tree), "+OK");
    assert_eq!(show_tree(&direct.call(&["GET", "a"]).tree), "nil");
    // Refusals among other commands leave the replies in order.
    let requests = ["SET k 1", "MGET k other", "INCR k", "DEL k a", "GET k"].map(parse_request);
    direct.send(&requests).unwrap();
    let replies = [(); 5].map(|()| show_tree(&direct.read().unwrap().tree));
    assert_eq!(replies.join(" "), format!("+OK {cross} :2 {cross} \"2\""));
    // Both ports name the direct one.
    for wire in [&mut direct, &mut any] {
        let slots = show_tree(&wire.call(&["CLUSTER", "SLOTS"]).tree);
        let expected = format!("[[:0, :16383, [\"127.0.0.1\", :{}, ", node.direct().port());
        assert!(slots.starts_with(&expected), "{slots}");
    }
    assert!(text(&mut any, &["INFO"]).contains("cluster_enabled:0\r\n"));
    assert!(text(&mut any, &["INFO"]).contains("redis_mode:standalone\r\n"));
    assert!(text(&mut direct, &["INFO"]).contains("cluster_enabled:1\r\n"));
}

#[test]
fn an_announced_name_is_what_clients_are_told() {
    let node = Server::node(&["--announce", "cache-1.example"]);
    let slots = show_tree(&node.connect().call(&["CLUSTER", "SLOTS"]).tree);
    assert!(slots.contains("\"cache-1.example\""), "{slots}");
    let everywhere = Server::node(&["--bind", "*", "--insecure"]);
    let slots = show_tree(&everywhere.connect().call(&["CLUSTER", "SLOTS"]).tree);
    assert!(slots.contains("\"127.0.0.1\""), "the address that the client has come to: {slots}");
}

#[test]
fn redis_cli_follows_slots_from_either_port() {
    let node = Server::node(&[]);
    for port in [node.addr.port(), node.direct().port()] {
        let cli = |words: &[&str]| {
            let port = port.to_string();
            let done = Command::new("redis-cli").args(["-c", "-p", &port]).args(words).output();
            String::from_utf8(done.unwrap().stdout).unwrap().trim().to_owned()
        };
        assert_eq!(cli(&["SET", "k", "v"]), "OK");
        assert_eq!(cli(&["GET", "k"]), "v");
    }
    let address = node.direct().to_string();
    let done = Command::new("redis-cli").args(["--cluster", "check", &address]).output().unwrap();
    let check = String::from_utf8(done.stdout).unwrap();
    assert!(check.contains("[OK] All 16384 slots covered."), "{check}");
}
