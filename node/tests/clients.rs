//! Clients that ask for much at once, that leave in the middle, and that say all in one packet.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use support::process::until;
use support::server::Server;
use support::wire::{Request, Tree, Wire};

/// How long anything may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

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

fn text(wire: &mut Wire, words: &[&str]) -> String {
    match wire.call(words).tree {
        Tree::Bulk(text) => String::from_utf8(text).unwrap(),
        other => panic!("{words:?}: no text: {other:?}"),
    }
}

/// Waits until so many clients are blocked, and so many there.
fn until_clients(admin: &mut Wire, blocked: usize, connected: usize) {
    let lines = [format!("blocked_clients:{blocked}"), format!("connected_clients:{connected}")];
    until(LIMIT, &lines.concat(), || {
        let info = text(admin, &["INFO", "clients"]);
        lines.iter().all(|line| info.lines().any(|other| other == line)).then_some(())
    });
}

fn id(wire: &mut Wire) -> String {
    match wire.call(&["CLIENT", "ID"]).tree {
        Tree::Integer(id) => id.to_string(),
        other => panic!("{other:?}"),
    }
}

/// A connection stayed until `CLIENT KILL`, with WAIT for ever.
#[test]
fn a_client_that_leaves_while_it_waits_is_gone() {
    let node = Server::node(&["--shards", "1"]);
    let mut admin = node.connect();
    until_clients(&mut admin, 0, 1);
    let waits: [&[u8]; 3] = [
        b"WAIT 1 0\r\n",
        b"WAITAOF 0 1 0\r\n",
        // With more behind it that is not read yet.
        b"PING\r\nWAIT 1 0\r\nPING\r\n",
    ];
    for wait in waits {
        let mut wire = node.connect();
        wire.send_raw(wait).unwrap();
        until_clients(&mut admin, 1, 2);
        wire.send_raw(b"PING\r\n").unwrap();
        drop(wire);
        until_clients(&mut admin, 0, 1);
    }
    assert_eq!(admin.call(&["CLIENT", "PAUSE", "600000", "WRITE"]).raw, b"+OK\r\n");
    let mut wire = node.connect();
    wire.send_raw(b"SET k v\r\n").unwrap();
    until_clients(&mut admin, 1, 2);
    drop(wire);
    until_clients(&mut admin, 0, 1);
}

#[test]
fn what_is_sent_during_a_wait_is_answered_behind_it() {
    let node = Server::node(&["--shards", "1"]);
    let (mut admin, mut wire) = (node.connect(), node.connect());
    let id = id(&mut wire);
    until_clients(&mut admin, 0, 2);
    assert_eq!(admin.call(&["CLIENT", "UNBLOCK", &id]).tree, Tree::Integer(0));
    wire.send(&[request(&["SET", "before", "x"]), request(&["WAIT", "1", "0"])]).unwrap();
    assert_eq!(wire.read().unwrap().raw, b"+OK\r\n", "what came before is answered at once");
    until_clients(&mut admin, 1, 2);
    assert_eq!(admin.call(&["CLIENT", "UNBLOCK", &id]).tree, Tree::Integer(1));
    assert_eq!(wire.read().unwrap().raw, b":0\r\n");
    // Larger than what is read at once.
    let large = "x".repeat(100_000);
    let later = [request(&["SET", "large", &large]), request(&["GET", "large"])];
    for (how, reply) in [
        ("TIMEOUT", b":0\r\n".as_slice()),
        ("ERROR", b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"),
    ] {
        wire.send(&[request(&["WAIT", "1", "0"])]).unwrap();
        until_clients(&mut admin, 1, 2);
        let line = text(&mut admin, &["CLIENT", "LIST", "ID", &id]);
        assert!(line.contains(" flags=b "), "{line}");
        wire.send(&later).unwrap();
        assert_eq!(admin.call(&["CLIENT", "UNBLOCK", &id, how]).tree, Tree::Integer(1));
        assert_eq!(wire.read().unwrap().raw, reply);
        assert_eq!(wire.read().unwrap().raw, b"+OK\r\n");
        assert_eq!(wire.read().unwrap().tree, Tree::Bulk(large.clone().into_bytes()));
        assert_eq!(wire.call(&["PING"]).raw, b"+PONG\r\n");
    }
}

/// It was the time since its last request, whatever happened since.
#[test]
fn a_client_that_is_served_or_reads_is_not_silent() {
    let node = Server::node(&["--shards", "2", "--enable-debug-command", "yes"]);
    let mut admin = node.connect();
    let value = "x".repeat(128 << 20);
    assert_eq!(admin.call(&["SET", "large", &value]).raw, b"+OK\r\n");
    assert_eq!(admin.call(&["CONFIG", "SET", "timeout", "2"]).raw, b"+OK\r\n");

    let mut reader = TcpStream::connect(node.addr).unwrap();
    reader.write_all(b"GET large\r\n").unwrap();
    let mut piece = vec![0; 8 << 20];
    for _ in 0..15 {
        thread::sleep(Duration::from_millis(400));
        reader.read_exact(&mut piece).unwrap();
    }

    assert_eq!(node.connect().call(&["DEBUG", "SLEEP", "5"]).raw, b"+OK\r\n");
    // One that takes nothing is silent all the same.
    let mut deaf = node.connect();
    deaf.send_raw(b"GET large\r\n").unwrap();
    let mut admin = node.connect();
    until(LIMIT, "the deaf client's end", || {
        let clients = text(&mut admin, &["CLIENT", "LIST"]);
        (clients.lines().count() == 1).then_some(())
    });
}
