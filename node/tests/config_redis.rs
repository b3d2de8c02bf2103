//! `CONFIG SET` and `GET` of every option that a real Redis 7.0 has too, value by value.
//!
//! Each value is set on both; the answer and what `CONFIG GET` says after it must be the same.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use distcache_node::config::options::{self, Change, Named};
use distcache_node::config::{LiveConfig, RawConfig};
use support::server::Server;
use support::wire::{Tree, Wire};

/// Options that differ knowingly, each with the reason.
const DIFFERENT: &[(&str, &str)] = &[
    ("requirepass", "would shut the test out"),
    ("protected-mode", "would shut the test out"),
    ("replicaof", "starts replication"),
    ("slaveof", "starts replication"),
    ("activedefrag", "Redis refuses it or not by how it was built"),
    ("maxclients", "Redis compares with the limits of the machine"),
    ("oom-score-adj", "Redis answers `yes` for `relative`"),
    ("proc-title-template", "Redis checks its own variables"),
    ("repl-backlog-size", "Redis rounds it up to 16 KB"),
    ("shutdown-on-sigint", "Redis takes several words"),
    ("shutdown-on-sigterm", "Redis takes several words"),
    ("cluster-announce-hostname", "Redis checks that it may be a host"),
];

/// A value that is read differently: Redis takes hexadecimal fractions.
const DIFFERENT_VALUE: (&str, &str) = ("latency-tracking-info-percentiles", "0x10");

#[rustfmt::skip]
const VALUES: &[&str] = &[
    "", "yes", "NO", "on", "1", "0", "-1", "-2", "5", "01", "+1", " 1", "501", "600", "10",
    "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-2147483648",
    "2147483647", "2147483648", "4294967295", "4294967296", "1k", "1kb", "1KB", "2mb", "3g", "1gb",
    "1tb", "1b", "kb", "5%", "0%", "100%", "101%", "-5%", "x%", "%", "1.5", "0x10", "65535",
    "65536", "127", "128", "99", "100", "1000", "1001", "zzzz", "debug", "verbose", "notice",
    "warning", "error", "always", "everysec", "ALWAYS", "allkeys-lru", "volatile-ttl",
    "noeviction", "900 1", "900 1 300 10", "60 0", "0 1", "normal 1 2 3",
    "normal 1kb 1mb 10 pubsub 1 2 3", "NORMAL 0 0 0", "replica 1 2 3", "slave 1 2 3 x",
    "normal 1 1", "normal 1 2 3 ", "KEA", "Elg", "g$lshzxetdA", "AKEn", "nm", "d", "xyz", "save",
    "force", "swapdb", "disabled", "local", "hostname", "clients", "resetchannels",
];

fn ask(wire: &mut Wire, words: &[&str]) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match wire.call(words).tree {
        Tree::Simple(bytes) | Tree::Error(bytes) | Tree::Bulk(bytes) => vec![text(&bytes)],
        Tree::Array(items) => items
            .iter()
            .map(|item| match item {
                Tree::Bulk(bytes) => text(bytes),
                other => panic!("{words:?}: {other:?}"),
            })
            .collect(),
        other => panic!("{words:?}: {other:?}"),
    }
}

/// What our configuration answers to `CONFIG SET`, and then to `CONFIG GET`.
fn ours(config: &LiveConfig, name: &str, value: &str) -> (String, String) {
    let answer = config.set(&[(name, value)]);
    let answer = answer.map_or_else(|error| format!("ERR {error}"), |()| "OK".to_owned());
    (answer, config.get(&[name])[0].1.clone())
}

fn is_compared(named: &Named) -> bool {
    named.spec.change == Change::Live && DIFFERENT.iter().all(|(name, _)| *name != named.name)
}

#[test]
fn options_that_redis_has_answer_as_there() {
    let server = Server::redis(&[]);
    let mut wire = server.connect();
    let config = LiveConfig::new(RawConfig::default(), None).unwrap();
    let mut compared = 0;
    let mut differences = Vec::new();
    for name in options::names().filter(is_compared).map(|named| named.name) {
        let Some(default) = ask(&mut wire, &["CONFIG", "GET", name]).pop() else { continue };
        let our_default = config.get(&[name])[0].1.clone();
        // An alias comes after the name it stands for, which has been changed already.
        let is_alias = options::find(name).is_some_and(|named| named.spec.name != name);
        if default != our_default && !is_alias {
            differences.push(format!("{name}: default '{default}', ours '{our_default}'"));
        }
        for value in VALUES.iter().filter(|value| (name, **value) != DIFFERENT_VALUE) {
            let theirs = ask(&mut wire, &["CONFIG", "SET", name, value]).concat();
            let theirs = (theirs, ask(&mut wire, &["CONFIG", "GET", name])[1].clone());
            let ours = ours(&config, name, value);
            if theirs != ours {
                differences.push(format!("{name} '{value}': redis {theirs:?}, ours {ours:?}"));
            }
        }
        compared += 1;
    }
    assert!(compared >= 100, "only {compared} options have the name that Redis gives them");
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
