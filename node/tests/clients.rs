//! Clients that ask for much at once, that leave in the middle, and that say all in one packet.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod support;

use support::server::Server;
use support::wire::{Request, Tree};

fn request(words: &[&str]) -> Request {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

/// Each key was compared with all before it, which took minutes.
#[test]
fn a_command_with_very_many_keys_on_several_shards_is_run_at_once() {
    let node = Server::node(&["--shards", "2"]);
    let mut wire = node.connect();
    assert_eq!(wire.call(&["MSET", "key:7", "a", "key:8", "b"]).raw, b"+OK\r\n");
    let mut del = request(&["DEL"]);
    del.extend((0..300_000).map(|at| format!("key:{at}").into_bytes()));
    // What is named twice is there once.
    del.push(b"key:7".to_vec());
    assert_eq!(wire.try_call(&del).unwrap().tree, Tree::Integer(2));
}

/// They were collected until all of the turn's commands had been run.
#[test]
fn replies_of_commands_on_several_shards_are_written_as_they_come() {
    const COMMANDS: usize = 32;
    let node = Server::node(&["--shards", "2"]);
    let mut wire = node.connect();
    let value = "x".repeat(512 << 10);
    let keys = ["foo", "bar"];
    keys.iter().for_each(|key| assert_eq!(wire.call(&["SET", key, &value]).raw, b"+OK\r\n"));
    let limit = ["CONFIG", "SET", "client-output-buffer-limit", "normal 16mb 0 0"];
    assert_eq!(wire.call(&limit).raw, b"+OK\r\n");
    let mget = request(&["MGET", "foo", "bar", "foo", "bar"]);
    wire.send(&vec![mget; COMMANDS]).unwrap();
    for at in 0..COMMANDS {
        let Tree::Array(values) = wire.read().unwrap().tree else { panic!("reply {at}") };
        assert!(values.iter().all(|found| *found == Tree::Bulk(value.clone().into_bytes())));
    }
}

/// The limits of before the password were those of all that came in the same packet.
#[test]
fn what_comes_right_behind_the_password_may_be_large() {
    let node = Server::node(&[]);
    let mut admin = node.connect();
    assert_eq!(admin.call(&["CONFIG", "SET", "requirepass", "secret"]).raw, b"+OK\r\n");
    let mut wire = node.connect();
    let mut mset = request(&["MSET"]);
    mset.extend((0..40).map(|at| format!("{at}").into_bytes()));
    let large = "x".repeat(20 << 10);
    let requests = [request(&["AUTH", "secret"]), mset, request(&["SET", "large", &large])];
    wire.send(&requests).unwrap();
    for _ in requests {
        assert_eq!(wire.read().unwrap().raw, b"+OK\r\n");
    }
    // Not behind a wrong one.
    let mut greedy = node.connect();
    greedy.send_raw(b"AUTH wrong\r\n*1000\r\n").unwrap();
    let answer = String::from_utf8(greedy.read_to_close().unwrap()).unwrap();
    assert!(answer.starts_with("-WRONGPASS"), "{answer}");
    assert!(answer.ends_with("Protocol error: unauthenticated multibulk length\r\n"), "{answer}");
}

#[test]
fn what_comes_behind_quit_is_not_looked_at() {
    let node = Server::node(&[]);
    let mut wire = node.connect();
    wire.send_raw(b"QUIT\r\n*x\r\n").unwrap();
    assert_eq!(wire.read_to_close().unwrap(), b"+OK\r\n");
}
