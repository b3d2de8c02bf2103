//! `CLUSTER LINKS` of two nodes, beside that of two real Redis.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may unwrap and read the clock"
)]

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use support::cluster::{Node, start};
use support::process::until;
use support::server::Server;
use support::text::show_tree;
use support::wire::{Tree, Wire};

/// Longer than anything here takes, on a machine busy with a build.
const LIMIT: Duration = Duration::from_secs(120);

/// One entry of the reply.
#[derive(Debug, Clone, PartialEq)]
struct Link {
    direction: String,
    node: String,
    created_ms: i64,
    events: String,
    /// Bytes of the buffer, and of what is in it.
    buffer: (i64, i64),
}

fn text(tree: &Tree) -> String {
    match tree {
        Tree::Bulk(text) => String::from_utf8(text.clone()).unwrap(),
        other => panic!("no text: {}", show_tree(other)),
    }
}

fn integer(tree: &Tree) -> i64 {
    match tree {
        Tree::Integer(number) => *number,
        other => panic!("no number: {}", show_tree(other)),
    }
}

/// The names and values of an entry: a map in RESP3, a flat array in RESP2.
fn fields(tree: &Tree) -> Vec<(String, Tree)> {
    match tree {
        Tree::Map(pairs) => pairs.iter().map(|(name, value)| (text(name), value.clone())).collect(),
        Tree::Array(items) => {
            let pairs = items.chunks_exact(2);
            assert!(pairs.remainder().is_empty());
            pairs.map(|pair| (text(&pair[0]), pair[1].clone())).collect()
        }
        other => panic!("no entry: {}", show_tree(other)),
    }
}

fn entries(wire: &mut Wire) -> Vec<Tree> {
    match wire.call(&["CLUSTER", "LINKS"]).tree {
        Tree::Array(entries) => entries,
        other => panic!("no list: {}", show_tree(&other)),
    }
}

/// The name of each field and the kind of its value.
fn shape(entry: &Tree) -> (bool, Vec<(String, &'static str)>) {
    let kind = |tree: &Tree| match tree {
        Tree::Bulk(_) => "bulk",
        Tree::Integer(_) => "integer",
        other => panic!("neither: {}", show_tree(other)),
    };
    let shapes = fields(entry).into_iter().map(|(name, value)| (name, kind(&value))).collect();
    (matches!(entry, Tree::Map(_)), shapes)
}

fn links(node: &Node) -> Vec<Link> {
    let link = |entry: &Tree| {
        let fields: BTreeMap<String, Tree> = fields(entry).into_iter().collect();
        Link {
            direction: text(&fields["direction"]),
            node: text(&fields["node"]),
            created_ms: integer(&fields["create-time"]),
            events: text(&fields["events"]),
            buffer: (
                integer(&fields["send-buffer-allocated"]),
                integer(&fields["send-buffer-used"]),
            ),
        }
    };
    entries(&mut node.connect()).iter().map(link).collect()
}

/// Two Redis that know each other.
fn two_redis() -> [Server; 2] {
    let servers = [(); 2].map(|()| Server::redis(&["--cluster-enabled", "yes"]));
    let port = servers[1].addr.port().to_string();
    let met = servers[0].connect().call(&["CLUSTER", "MEET", "127.0.0.1", &port]);
    assert_eq!(met.raw, b"+OK\r\n", "{}", show_tree(&met.tree));
    servers
}

/// Starts two nodes, and returns them with their ids once they know each other.
fn two_nodes() -> (Vec<Node>, [String; 2]) {
    let nodes = start(2, &[]);
    let id = |node: &Node| {
        until(LIMIT, "the nodes do not find each other", || {
            let mut wire = Wire::try_connect(node.client().parse().unwrap()).ok()?;
            // Refused while the node loads or waits for the other one.
            let Tree::Bulk(lines) = wire.call(&["CLUSTER", "NODES"]).tree else { return None };
            let is_whole = String::from_utf8(lines).unwrap().lines().count() == 2;
            is_whole.then(|| text(&wire.call(&["CLUSTER", "MYID"]).tree))
        })
    };
    let ids = [id(&nodes[0]), id(&nodes[1])];
    (nodes, ids)
}

#[test]
fn links_go_both_ways_while_both_nodes_run() {
    let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let (mut nodes, ids) = two_nodes();
    let directions = |links: &[Link]| {
        let of = |word: &str| links.iter().filter(|link| link.direction == word).count();
        (of("to"), of("from"))
    };
    let [first, second] = until(LIMIT, "no links in both directions", || {
        let found = [links(&nodes[0]), links(&nodes[1])];
        let (there, back) = (directions(&found[0]), directions(&found[1]));
        // What goes to one node comes from the other one.
        (there.0 > 0 && there.1 > 0 && there == (back.1, back.0)).then_some(found)
    });
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    for (found, peer) in [(&first, &ids[1]), (&second, &ids[0])] {
        assert!(found.len() <= 6, "one of each class and direction at most: {found:?}");
        for link in found {
            assert_eq!(link.node, *peer);
            assert!(["r", "rw"].contains(&&*link.events), "{link:?}");
            assert!((began..=now).contains(&link.created_ms), "{link:?}");
            let (allocated, used) = link.buffer;
            assert!(used >= 0 && (link.events == "rw") == (used > 0), "{link:?}");
            assert!(allocated >= 0, "{link:?}");
        }
    }
    // Heartbeats and requests for leases have gone through buffers.
    assert!(first.iter().chain(&second).any(|link| link.buffer.0 > 0));
    let mut wire = nodes[0].connect();
    let info = text(&wire.call(&["INFO", "clients"]).tree);
    assert!(!info.contains("cluster_connections:0\r\n"), "{info}");

    // A link that is lost is listed no more.
    let survivor = nodes.remove(0);
    nodes.clear();
    until(LIMIT, "the links of a node that is gone stay", || {
        links(&survivor).is_empty().then_some(())
    });
}

#[test]
fn the_reply_has_the_shape_of_redis_cluster() {
    let ((nodes, _), servers) = (two_nodes(), two_redis());
    for version in ["2", "3"] {
        let shapes = [nodes[0].connect(), servers[0].connect()].map(|mut wire| {
            wire.call(&["HELLO", version]);
            let entries = until(LIMIT, "no links", || {
                let entries = entries(&mut wire);
                (!entries.is_empty()).then_some(entries)
            });
            shape(&entries[0])
        });
        assert_eq!(shapes[0], shapes[1], "RESP{version}");
        assert_eq!(shapes[0].0, version == "3");
    }
}
