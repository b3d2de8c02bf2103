//! The same commands to our node and to a real `redis-server`: the replies must be equal.
//!
//! Random sequences come from a seed that is printed and taken from `DISTCACHE_TEST_SEED`;
//! `DISTCACHE_TEST_CASES` sets how many. `DISTCACHE_TEST_ADDR=host:port` tests a server that
//! runs already (all its keys are flushed). What may differ, and why, is one table:
//! `differences.rs`.

#![allow(clippy::unwrap_used, reason = "a test")]

mod compare;
mod differences;
mod fixed;
mod grammar;
mod introspection;
mod options;
mod run;
mod step;
#[path = "../support/mod.rs"]
mod support;

use run::Pair;
use support::server::Server;

/// Sequences of one test unless `DISTCACHE_TEST_CASES` says otherwise: a few seconds.
const SEQUENCES: u64 = 2_000;

fn check(pair: &Pair, name: &str) {
    pair.check_fixed();
    pair.check_raw();
    pair.check_random(name, SEQUENCES);
}

/// The same for our node, which is built without optimization here.
const NODE_SEQUENCES: u64 = 200;

/// The two tables and the generator cry no wolf: Redis differs from itself nowhere.
#[test]
fn a_real_redis_equals_itself() {
    let pair = Pair::new(Server::redis(&[]), Server::redis(&[]));
    check(&pair, "redis and redis");
    pair.check_info();
    pair.check_client_fields();
    pair.check_command_table();
}

/// The harness can fail: a Redis with fewer databases is told apart, and the report is short.
#[test]
fn a_planted_difference_is_found_and_shrunk() {
    let pair = Pair::new(Server::redis(&["--databases", "3"]), Server::redis(&[]));
    let found = pair.random_differences("a planted difference", SEQUENCES);
    assert!(!found.is_empty(), "a server with 3 databases passed for one with 16");
    for difference in &found {
        assert!(difference.steps.len() <= 4, "not shrunk:\n{difference}");
        assert!(difference.to_string().contains("15"), "not about the database:\n{difference}");
    }
}

/// Our node answers as a real Redis does, with one shard and with several.
#[test]
fn our_node_equals_a_real_redis() {
    for shards in ["1", "3"] {
        let node = Server::node(&["--shards", shards, "--enable-debug-command", "yes"]);
        let pair = Pair::new(node, Server::redis(&[]));
        pair.check_info();
        pair.check_client_fields();
        pair.check_command_table();
        pair.check_fixed();
        pair.check_raw();
        pair.check_random(&format!("our node with {shards} shards"), NODE_SEQUENCES);
    }
}
