//! What an operator does with a running node, and what the node does with clients that are too
//! many, too silent, too greedy, or not to be trusted.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use distcache_recovery::InspectionCopy;
use support::process::{Process, terminate, until};
use support::server::Server;
use support::wire::{Tree, Wire};

/// How long anything may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

fn text(wire: &mut Wire, words: &[&str]) -> String {
    match wire.call(words).tree {
        Tree::Bulk(text) | Tree::Simple(text) => String::from_utf8(text).unwrap(),
        Tree::Error(text) => format!("-{}", String::from_utf8(text).unwrap()),
        other => panic!("{words:?}: no text: {other:?}"),
    }
}

/// A field of `INFO`.
fn info(wire: &mut Wire, field: &str) -> String {
    let all = text(wire, &["INFO", "everything"]);
    let value = all.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.unwrap_or_else(|| panic!("INFO has no {field}")).to_owned()
}

/// Whether the server has closed a connection that sends nothing.
fn is_closed(wire: &mut Wire) -> bool {
    wire.read_to_close().is_ok_and(|bytes| bytes.is_empty())
}

#[test]
fn a_new_connection_may_do_nothing_before_the_password() {
    let node = Server::node(&[]);
    let mut admin = node.connect();
    assert_eq!(text(&mut admin, &["CONFIG", "SET", "requirepass", "secret"]), "OK");
    let mut wire = node.connect();
    for words in
        [&["GET", "k"][..], &["PING"], &["INFO"], &["CLIENT", "LIST"], &["CONFIG", "GET", "*"]]
    {
        assert_eq!(text(&mut wire, words), "-NOAUTH Authentication required.", "{words:?}");
    }
    assert!(text(&mut wire, &["HELLO", "3"]).starts_with("-NOAUTH HELLO must be called"));
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.";
    assert_eq!(text(&mut wire, &["AUTH", "secre"]), wrong);
    assert_eq!(text(&mut wire, &["AUTH", "other", "secret"]), wrong);
    // Before the password, neither many nor long arguments are read.
    let mut greedy = node.connect();
    greedy.send_raw(b"*1000\r\n").unwrap();
    let answer = greedy.read_to_close().unwrap();
    assert_eq!(answer, b"-ERR Protocol error: unauthenticated multibulk length\r\n");
    assert_eq!(text(&mut wire, &["AUTH", "secret"]), "OK");
    assert_eq!(wire.call(&["GET", "k"]).tree, Tree::Null);
    assert_eq!(info(&mut wire, "errorstat_WRONGPASS"), "count=2");
    assert!(info(&mut wire, "cmdstat_get").contains("rejected_calls=1"));
}

#[test]
fn who_came_before_the_password_was_taken_back_may_go_on_until_there_is_one_again() {
    let node = Server::node(&[]);
    let mut admin = node.connect();
    let mut set = |password| {
        assert_eq!(text(&mut admin, &["CONFIG", "SET", "requirepass", password]), "OK");
    };
    set("secret");
    let mut wire = node.connect();
    assert_eq!(text(&mut wire, &["PING"]), "-NOAUTH Authentication required.");
    set("");
    assert_eq!(text(&mut wire, &["PING"]), "PONG");
    // Arguments may be many, too.
    let long = [vec!["DEL"], vec!["k"; 20]].concat();
    assert_eq!(wire.call(&long).tree, Tree::Integer(0));
    set("other");
    assert_eq!(text(&mut wire, &["PING"]), "-NOAUTH Authentication required.");
    assert_eq!(text(&mut admin, &["PING"]), "PONG");
}

#[test]
fn connections_beyond_maxclients_are_told_so_and_closed() {
    let node = Server::node(&["--maxclients", "2"]);
    // The connection that waited for the start may still be leaving: it takes a place.
    let connected = || {
        let mut wire = node.connect();
        let reply = wire.try_call(&[b"PING".to_vec()]).ok()?;
        (reply.raw == b"+PONG\r\n").then_some(wire)
    };
    let mut first = until(LIMIT, "a first client", connected);
    let second = until(LIMIT, "a second client", connected);
    let mut third = node.connect();
    let answer = third.read_to_close().unwrap();
    assert_eq!(answer, b"-ERR max number of clients reached\r\n");
    assert_ne!(info(&mut first, "rejected_connections"), "0");
    drop(second);
    until(LIMIT, "a place for another", connected);
}

/// They took all descriptors: of those that came later none was answered, nor was a health check.
#[test]
fn clients_beyond_the_limit_of_open_files_are_told_so_and_the_node_keeps_what_it_needs() {
    let node = Server::node_under("-n 200", &["--shards", "1", "--fsync", "always"]);
    let mut served = Vec::new();
    let mut refused = 0;
    for at in 0..300 {
        let mut wire = node.connect();
        // One that is refused may be closed before it has sent anything.
        let _ = wire.send_raw(b"PING\r\n");
        match wire.read().unwrap_or_else(|error| panic!("client {at}: {error}")).raw.as_slice() {
            b"+PONG\r\n" => served.push(wire),
            b"-ERR max number of clients reached\r\n" => refused += 1,
            other => panic!("client {at}: {}", other.escape_ascii()),
        }
    }
    assert!(served.len() > 20 && refused > 20, "{} served, {refused} refused", served.len());
    let limit: usize = info(&mut served[0], "maxclients").parse().unwrap();
    assert!((served.len()..=served.len() + 1).contains(&limit), "{limit} but {}", served.len());
    assert_ne!(info(&mut served[0], "used_memory_rss"), "0");
    assert_eq!(text(&mut served[0], &["SET", "key", "value"]), "OK");
    let mut health = TcpStream::connect(node.http()).unwrap();
    health.write_all(b"GET /health/live HTTP/1.1\r\nHost: here\r\n\r\n").unwrap();
    let mut answer = String::new();
    health.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");

    let config = |wire: &mut Wire, value| text(wire, &["CONFIG", "SET", "maxclients", value]);
    let said = config(&mut served[0], "5000");
    let expected = format!(
        "-ERR CONFIG SET failed (possibly related to argument 'maxclients') - The operating \
         system is not able to handle the specified number of clients, try with {limit}"
    );
    assert_eq!(said, expected);
    assert_eq!(config(&mut served[0], &limit.to_string()), "OK");
}

/// `OK` was said, and the limit of the start stayed.
#[test]
fn more_clients_raise_the_soft_limit_of_open_files() {
    let node = Server::node_under("-S -n 300", &["--shards", "1", "--maxclients", "100"]);
    let mut wire = node.connect();
    let pid = info(&mut wire, "process_id");
    let soft = || {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        line.split_whitespace().nth(3).unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(soft(), 300);
    assert_eq!(text(&mut wire, &["CONFIG", "SET", "maxclients", "400"]), "OK");
    assert!(soft() > 400, "{}", soft());
}

/// Names of 50 MB were kept, uncounted, and again with each slow command.
#[test]
fn a_client_cannot_have_a_name_of_any_length() {
    let node = Server::node(&["--slowlog-log-slower-than", "0"]);
    let mut wire = node.connect();
    let (longest, long) = ("x".repeat(4096), "x".repeat(4097));
    let refused =
        |what: &str| format!("-ERR {what} cannot be longer than 4096 bytes, and this has 4097");
    assert_eq!(text(&mut wire, &["CLIENT", "SETNAME", &long]), refused("Client names"));
    assert_eq!(text(&mut wire, &["HELLO", "2", "SETNAME", &long]), refused("Client names"));
    for name in ["lib-name", "lib-ver"] {
        let said = text(&mut wire, &["CLIENT", "SETINFO", name, &long]);
        assert_eq!(said, refused(name));
    }
    assert_eq!(text(&mut wire, &["CLIENT", "SETNAME", &longest]), "OK");
    assert_eq!(text(&mut wire, &["CLIENT", "GETNAME"]), longest);
    text(&mut wire, &["PING"]);
    let entries = wire.call(&["SLOWLOG", "GET", "1"]);
    let shortened = format!("{}... ({} more bytes)", "x".repeat(128), 4096 - 128);
    let told = entries.raw.escape_ascii().to_string();
    assert!(told.contains(&shortened) && !told.contains(&"x".repeat(129)), "{told}");
}

/// It counted from the start on, whatever was saved.
#[test]
fn changes_are_counted_from_the_last_save_on() {
    let node = Server::node(&["--shards", "2"]);
    let mut wire = node.connect();
    let changes = |wire: &mut Wire| info(wire, "rdb_changes_since_last_save");
    for key in ["a", "b", "c"] {
        assert_eq!(text(&mut wire, &["SET", key, "value"]), "OK");
    }
    assert_eq!(changes(&mut wire), "3");
    assert_eq!(text(&mut wire, &["SAVE"]), "OK");
    assert_eq!(changes(&mut wire), "0");
    assert_eq!(text(&mut wire, &["SET", "a", "other"]), "OK");
    assert_eq!(text(&mut wire, &["CONFIG", "RESETSTAT"]), "OK");
    assert_eq!(changes(&mut wire), "1");
}

/// Each of them wrote a line, so anybody could fill the disk.
#[test]
fn clients_that_speak_http_are_warned_of_now_and_then() {
    let node = Server::node(&[]);
    for _ in 0..5 {
        let mut wire = node.connect();
        wire.send_raw(b"POST / HTTP/1.1\r\nHost: here\r\n\r\n").unwrap();
        assert!(is_closed(&mut wire));
    }
    let said = fs::read_to_string(node.dir().unwrap().join("output")).unwrap();
    assert_eq!(said.matches("speaks http").count(), 1, "{said}");
}

#[test]
fn a_silent_client_is_closed_after_the_timeout_and_a_busy_one_is_not() {
    let node = Server::node(&[]);
    let (mut silent, mut busy) = (node.connect(), node.connect());
    assert_eq!(text(&mut silent, &["PING"]), "PONG");
    assert_eq!(text(&mut busy, &["CONFIG", "SET", "timeout", "1"]), "OK");
    until(LIMIT, "the silent client's end", || {
        let clients = text(&mut busy, &["CLIENT", "LIST"]);
        (clients.lines().count() == 1).then_some(())
    });
    assert!(is_closed(&mut silent));
}

#[test]
fn a_silent_client_costs_no_buffer_and_half_a_request_outlives_that() {
    let node = Server::node(&[]);
    let (mut silent, mut admin) = (node.connect(), node.connect());
    let value = "x".repeat(300_000);
    assert_eq!(text(&mut silent, &["CLIENT", "SETNAME", "silent"]), "OK");
    assert_eq!(text(&mut silent, &["SET", "large", &value]), "OK");
    let mut buffer = |field: &str| {
        let clients = text(&mut admin, &["CLIENT", "LIST"]);
        let line = clients.lines().find(|line| line.contains(" name=silent ")).unwrap();
        let value = line.split(' ').find_map(|word| word.strip_prefix(field)?.strip_prefix('='));
        value.unwrap().parse::<usize>().unwrap()
    };
    until(LIMIT, "the end of the buffer", || (buffer("qbuf-free") == 0).then_some(()));
    let (first, second) = b"*2\r\n$6\r\nSTRLEN\r\n$5\r\nlarge\r\n".split_at(20);
    silent.send_raw(first).unwrap();
    until(LIMIT, "the first half", || (buffer("qbuf") == first.len()).then_some(()));
    until(LIMIT, "no room behind it", || (buffer("qbuf-free") == 0).then_some(()));
    silent.send_raw(second).unwrap();
    assert_eq!(silent.read().unwrap().raw, b":300000\r\n");
}

#[test]
fn buffers_of_clients_are_memory_too() {
    const LIMIT_BYTES: u64 = 2 << 20;
    let node = Server::node(&["--maxmemory", "2mb", "--maxmemory-policy", "allkeys-random"]);
    let (mut admin, mut large) = (node.connect(), node.connect());
    let used = |admin: &mut Wire| info(admin, "used_memory").parse::<u64>().unwrap();
    let value = "x".repeat(10_000);
    for number in 0..300 {
        assert_eq!(text(&mut admin, &["SET", &format!("key:{number}"), &value]), "OK");
    }
    assert!(used(&mut admin) <= LIMIT_BYTES + 20_000, "{}", used(&mut admin));
    let before = info(&mut admin, "evicted_keys").parse::<u64>().unwrap();
    // Half an argument: what has come of it stays in the buffer.
    let half = "x".repeat(1 << 20);
    large.send_raw(format!("*2\r\n$3\r\nGET\r\n$9000000\r\n{half}").as_bytes()).unwrap();
    until(LIMIT, "room for the buffer", || {
        let evicted = info(&mut admin, "evicted_keys").parse::<u64>().unwrap();
        (evicted >= before + 100 && used(&mut admin) <= LIMIT_BYTES).then_some(())
    });
    drop(large);
    until(LIMIT, "the buffer's end", || {
        (used(&mut admin) <= LIMIT_BYTES - (1 << 20)).then_some(())
    });
}

#[test]
fn a_command_that_finds_no_memory_is_refused_and_was_not_called() {
    let node = Server::node(&["--shards", "2"]);
    let mut wire = node.connect();
    assert_eq!(text(&mut wire, &["CONFIG", "SET", "maxmemory", "1"]), "OK");
    let oom = "-OOM command not allowed when used memory > 'maxmemory'.";
    assert_eq!(text(&mut wire, &["SET", "a", "1"]), oom);
    // Keys of two shards.
    assert_eq!(text(&mut wire, &["MSETNX", "a", "1", "b", "2", "c", "3", "d", "4"]), oom);
    for command in ["set", "msetnx"] {
        let stats = info(&mut wire, &format!("cmdstat_{command}"));
        assert!(stats.starts_with("calls=0,"), "{command}: {stats}");
        assert!(stats.ends_with("rejected_calls=1,failed_calls=0"), "{command}: {stats}");
    }
    assert_eq!(info(&mut wire, "errorstat_OOM"), "count=2");
}

#[test]
fn times_are_counted_while_they_are_tracked_and_told_at_the_percentiles_asked_for() {
    let node = Server::node(&["--latency-tracking", "no"]);
    let mut wire = node.connect();
    let told = |wire: &mut Wire| {
        let all = text(wire, &["INFO", "latencystats"]);
        let line = all.lines().find_map(|l| l.strip_prefix("latency_percentiles_usec_set:"));
        line.map(str::to_owned)
    };
    assert_eq!(text(&mut wire, &["SET", "k", "v"]), "OK");
    assert_eq!(told(&mut wire), None);
    assert_eq!(text(&mut wire, &["CONFIG", "SET", "latency-tracking", "yes"]), "OK");
    let percentiles = ["CONFIG", "SET", "latency-tracking-info-percentiles", "0 99.99"];
    assert_eq!(text(&mut wire, &percentiles), "OK");
    assert_eq!(text(&mut wire, &["SET", "k", "v"]), "OK");
    let line = told(&mut wire).unwrap();
    assert!(line.starts_with("p0=") && line.contains(",p99.99="), "{line}");
}

#[test]
fn a_client_that_does_not_take_its_replies_is_closed_at_the_limit() {
    let node = Server::node(&[]);
    let mut admin = node.connect();
    let value = "x".repeat(3 << 20);
    assert_eq!(text(&mut admin, &["SET", "large", &value]), "OK");
    let limit = ["CONFIG", "SET", "client-output-buffer-limit", "normal 1mb 0 0"];
    assert_eq!(text(&mut admin, &limit), "OK");
    let mut greedy = node.connect();
    assert!(greedy.try_call(&[b"GET".to_vec(), b"large".to_vec()]).is_err());
    assert_eq!(info(&mut admin, "client_output_buffer_limit_disconnections"), "1");
    // The soft limit: never reading, for a second, with more waiting than the socket takes.
    let limit = ["CONFIG", "SET", "client-output-buffer-limit", "normal 0 64kb 1"];
    assert_eq!(text(&mut admin, &limit), "OK");
    let mut deaf = node.connect();
    let get: Vec<Vec<u8>> = vec![b"GET".to_vec(), b"large".to_vec()];
    deaf.send(&vec![get; 16]).unwrap();
    until(LIMIT, "the deaf client's end", || {
        (info(&mut admin, "client_output_buffer_limit_disconnections") == "2").then_some(())
    });
    assert_eq!(info(&mut admin, "connected_clients"), "1");
}

#[test]
fn a_killed_client_is_gone_and_the_killer_stays() {
    let node = Server::node(&["--shards", "3"]);
    let mut killer = node.connect();
    let mut victims: Vec<Wire> = (0..6).map(|_| node.connect()).collect();
    for (number, victim) in victims.iter_mut().enumerate() {
        assert_eq!(text(victim, &["CLIENT", "SETNAME", &format!("victim{number}")]), "OK");
    }
    let Tree::Integer(id) = victims[0].call(&["CLIENT", "ID"]).tree else { panic!("no id") };
    let killed = killer.call(&["CLIENT", "KILL", "ID", &id.to_string()]);
    assert_eq!(killed.tree, Tree::Integer(1));
    assert!(is_closed(&mut victims[0]));
    let killed = killer.call(&["CLIENT", "KILL", "TYPE", "normal"]);
    assert!(matches!(killed.tree, Tree::Integer(5 | 6)), "{killed:?}");
    assert!(victims[1..].iter_mut().all(is_closed));
    assert_eq!(text(&mut killer, &["PING"]), "PONG");
    // Killing oneself is answered first.
    let reply = killer.call(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no"]);
    assert_eq!(reply.tree, Tree::Integer(1));
    assert!(is_closed(&mut killer));
}

#[test]
fn a_pause_of_writes_holds_writers_only_until_it_is_taken_back() {
    let node = Server::node(&["--shards", "2"]);
    let (mut admin, mut writer) = (node.connect(), node.connect());
    assert_eq!(text(&mut admin, &["CLIENT", "PAUSE", "60000", "WRITE"]), "OK");
    writer.send_raw(b"GET k\r\nSET k v\r\nGET k\r\n").unwrap();
    assert_eq!(writer.read().unwrap().tree, Tree::Null);
    until(LIMIT, "the writer waits", || (info(&mut admin, "blocked_clients") == "1").then_some(()));
    assert_eq!(admin.call(&["GET", "k"]).tree, Tree::Null);
    assert_eq!(text(&mut admin, &["CLIENT", "UNPAUSE"]), "OK");
    assert_eq!(writer.read().unwrap().raw, b"+OK\r\n");
    assert_eq!(writer.read().unwrap().tree, Tree::Bulk(b"v".to_vec()));
}

#[test]
fn slow_commands_are_kept_without_their_secrets() {
    let node = Server::node(&["--shards", "2", "--slowlog-log-slower-than", "0"]);
    let mut wire = node.connect();
    assert_eq!(text(&mut wire, &["CLIENT", "SETNAME", "slow"]), "OK");
    assert_eq!(text(&mut wire, &["SET", "key", &"x".repeat(200)]), "OK");
    assert_eq!(text(&mut wire, &["CONFIG", "SET", "requirepass", "hush"]), "OK");
    assert_eq!(text(&mut wire, &["AUTH", "hush"]), "OK");
    let entries = wire.call(&["SLOWLOG", "GET", "10"]);
    let shown = String::from_utf8(entries.raw).unwrap();
    assert!(!shown.contains("hush"), "{shown}");
    assert!(shown.contains("(redacted)") && shown.contains("... (72 more bytes)"), "{shown}");
    assert!(shown.contains("127.0.0.1:") && shown.contains("slow"), "{shown}");
}

#[test]
fn commands_on_several_shards_are_counted_as_all_others_are() {
    let node = Server::node(&["--shards", "3", "--slowlog-log-slower-than", "0"]);
    let mut wire = node.connect();
    for number in 0..8 {
        // Some of these pairs live on one shard, some on two.
        let (from, to) = (format!("from{number}"), format!("to{number}"));
        assert_eq!(text(&mut wire, &["MSET", &from, "v", &to, "w"]), "OK");
        assert_eq!(text(&mut wire, &["RENAME", "none", &to]), "-ERR no such key");
    }
    assert!(info(&mut wire, "cmdstat_mset").starts_with("calls=8,"));
    let renamed = info(&mut wire, "cmdstat_rename");
    assert!(renamed.starts_with("calls=8,") && renamed.ends_with("failed_calls=8"), "{renamed}");
    assert!(!renamed.contains("usec=0,"), "{renamed}");
    assert_eq!(info(&mut wire, "errorstat_ERR"), "count=8");
    let slow = String::from_utf8(wire.call(&["SLOWLOG", "GET", "-1"]).raw).unwrap();
    assert_eq!(slow.matches("MSET").count(), 8, "{slow}");
}

#[test]
fn figures_of_deadlines_and_of_compactions_are_measured() {
    let node = Server::node(&["--shards", "2"]);
    let mut wire = node.connect();
    for number in 0..8 {
        assert_eq!(text(&mut wire, &["SET", &format!("k{number}"), "v", "EX", "1000"]), "OK");
    }
    let mean = until(LIMIT, "the mean time to live is estimated", || {
        let size = info(&mut wire, "db0");
        let mean: u64 = size.strip_prefix("keys=8,expires=8,avg_ttl=")?.parse().ok()?;
        (mean > 900_000).then_some(mean)
    });
    assert!(mean <= 1_000_000, "{mean}");
    assert_eq!(info(&mut wire, "aof_last_rewrite_time_sec"), "-1");
    assert_eq!(info(&mut wire, "aof_current_rewrite_time_sec"), "-1");
    assert!(text(&mut wire, &["BGREWRITEAOF"]).contains("started"));
    until(LIMIT, "the log is compacted", || {
        (info(&mut wire, "aof_last_rewrite_time_sec") != "-1").then_some(())
    });
    assert_eq!(info(&mut wire, "aof_rewrite_in_progress"), "0");
}

#[test]
fn the_times_of_commands_are_told_as_histograms() {
    let options = ["--enable-debug-command", "yes", "--latency-monitor-threshold", "1"];
    let node = Server::node(&[&["--shards", "2"], &options[..]].concat());
    let mut wire = node.connect();
    for key in ["a", "b", "c", "d"] {
        assert_eq!(text(&mut wire, &["SET", key, "v"]), "OK");
    }
    assert_eq!(text(&mut wire, &["DEBUG", "SLEEP", "0.01"]), "OK");
    let asked = ["LATENCY", "HISTOGRAM", "set", "nosuch", "get"];
    let Tree::Array(reply) = wire.call(&asked).tree else { panic!("no array") };
    // Name, and calls with the cumulative counts; of commands that ran.
    assert_eq!(reply.len(), 2, "{reply:?}");
    assert_eq!(reply[0], Tree::Bulk(b"set".to_vec()));
    let Tree::Array(figures) = &reply[1] else { panic!("no array: {reply:?}") };
    assert_eq!(figures[..2], [Tree::Bulk(b"calls".to_vec()), Tree::Integer(4)]);
    let Tree::Array(counts) = &figures[3] else { panic!("no array: {reply:?}") };
    assert_eq!(counts.last(), Some(&Tree::Integer(4)));
    assert!(info(&mut wire, "latency_percentiles_usec_set").starts_with("p50="));
    let graph = text(&mut wire, &["LATENCY", "GRAPH", "command"]);
    assert!(graph.starts_with("command - high "), "{graph}");
    assert_eq!(text(&mut wire, &["CONFIG", "RESETSTAT"]), "OK");
    assert_eq!(wire.call(&["LATENCY", "HISTOGRAM", "set"]).raw, b"*0\r\n");
}

#[test]
fn counters_count_and_begin_again_after_a_reset() {
    let node = Server::node(&["--shards", "2"]);
    let mut wire = node.connect();
    for key in ["a", "b", "c"] {
        assert_eq!(text(&mut wire, &["SET", key, "v"]), "OK");
        wire.call(&["GET", key]);
        wire.call(&["GET", "none"]);
    }
    wire.call(&["INCR", "a"]);
    assert_eq!(info(&mut wire, "keyspace_hits"), "3");
    assert_eq!(info(&mut wire, "keyspace_misses"), "3");
    assert!(info(&mut wire, "cmdstat_get").starts_with("calls=6,"));
    assert!(info(&mut wire, "cmdstat_incr").ends_with("failed_calls=1"));
    assert_eq!(info(&mut wire, "errorstat_ERR"), "count=1");
    assert!(info(&mut wire, "total_commands_processed").parse::<u64>().unwrap() >= 10);
    assert_eq!(info(&mut wire, "db0"), "keys=3,expires=0,avg_ttl=0");
    assert_eq!(text(&mut wire, &["CONFIG", "RESETSTAT"]), "OK");
    assert_eq!(info(&mut wire, "keyspace_hits"), "0");
    let all = text(&mut wire, &["INFO", "commandstats", "errorstats"]);
    assert!(!all.contains("cmdstat_get") && !all.contains("errorstat_ERR"), "{all}");
}

/// Starts a node whose end is looked at.
fn start(directory: &Path) -> (Process, SocketAddr) {
    start_with(directory, &[])
}

fn start_with(directory: &Path, flags: &[&str]) -> (Process, SocketAddr) {
    let port = directory.join("port");
    let _ = fs::remove_file(&port);
    let mut command = Command::new(env!("CARGO_BIN_EXE_distcache-node"));
    command.args(["--port", "0", "--shards", "2", "--data-dir"]).arg(directory);
    command.args(flags);
    let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let port = until(LIMIT, "a port", || fs::read_to_string(&port).ok()?.trim().parse().ok());
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    until(LIMIT, "an answer", || {
        let reply = Wire::try_connect(address).ok()?.try_call(&[b"PING".to_vec()]).ok()?;
        (reply.raw == b"+PONG\r\n").then_some(())
    });
    (Process(child), address)
}

fn end(mut node: Process) -> ExitStatus {
    until(LIMIT, "the end of the node", || node.0.try_wait().unwrap())
}

#[test]
fn a_node_that_is_told_to_stop_keeps_its_data_and_ends_without_error() {
    let directory = tempfile::tempdir().unwrap();
    let (node, address) = start(directory.path());
    let (mut wire, mut idle) = (Wire::connect(address), Wire::connect(address));
    assert_eq!(text(&mut wire, &["SET", "key", "kept"]), "OK");
    terminate(&node.0);
    assert!(is_closed(&mut idle));
    assert_eq!(end(node).code(), Some(0));
    let (node, address) = start(directory.path());
    let mut wire = Wire::connect(address);
    assert_eq!(text(&mut wire, &["GET", "key"]), "kept");
    assert_eq!(text(&mut wire, &["SET", "key", "again"]), "OK");
    wire.send_raw(b"SHUTDOWN NOSAVE\r\n").unwrap();
    assert!(is_closed(&mut wire), "SHUTDOWN is not answered");
    assert_eq!(end(node).code(), Some(0));
    let (_node, address) = start(directory.path());
    assert_eq!(text(&mut Wire::connect(address), &["GET", "key"]), "again");
}

/// Rewrites the log, and waits until that is done.
fn compact(wire: &mut Wire) {
    text(wire, &["BGREWRITEAOF"]);
    until(LIMIT, "the end of a compaction", || {
        (info(wire, "aof_rewrite_in_progress") == "0").then_some(())
    });
    assert_eq!(info(wire, "aof_last_bgrewrite_status"), "ok");
}

/// Such a start ended with a panic.
#[test]
fn fewer_databases_than_before_hide_keys_and_lose_none() {
    let directory = tempfile::tempdir().unwrap();
    let (node, address) = start(directory.path());
    let mut wire = Wire::connect(address);
    for (number, key, value) in [("0", "key", "seen"), ("10", "key", "hidden"), ("12", "k", "far")]
    {
        text(&mut wire, &["SELECT", number]);
        assert_eq!(text(&mut wire, &["SET", key, value]), "OK");
    }
    assert_eq!(text(&mut wire, &["SWAPDB", "3", "12"]), "OK");
    assert_eq!(text(&mut wire, &["SWAPDB", "12", "11"]), "OK");
    terminate(&node.0);
    assert_eq!(end(node).code(), Some(0));

    let (node, address) = start_with(directory.path(), &["--databases", "4"]);
    let mut wire = Wire::connect(address);
    assert_eq!(text(&mut wire, &["GET", "key"]), "seen");
    assert_eq!(text(&mut wire, &["SELECT", "4"]), "-ERR DB index is out of range");
    assert_eq!(text(&mut wire, &["MOVE", "key", "10"]), "-ERR DB index is out of range");
    assert_eq!(wire.call(&["DBSIZE"]).raw, b":1\r\n");
    assert!(!text(&mut wire, &["INFO", "keyspace"]).contains("db10"));
    // From here on the hidden key is in a snapshot only.
    compact(&mut wire);
    terminate(&node.0);
    assert_eq!(end(node).code(), Some(0));

    let (node, address) = start(directory.path());
    let mut wire = Wire::connect(address);
    for (number, key, value) in [("0", "key", "seen"), ("10", "key", "hidden"), ("3", "k", "far")] {
        text(&mut wire, &["SELECT", number]);
        assert_eq!(text(&mut wire, &["GET", key]), value);
    }
    terminate(&node.0);
    assert_eq!(end(node).code(), Some(0));

    let (node, address) = start_with(directory.path(), &["--databases", "1"]);
    assert_eq!(text(&mut Wire::connect(address), &["FLUSHALL"]), "OK");
    terminate(&node.0);
    assert_eq!(end(node).code(), Some(0));
    let (_node, address) = start(directory.path());
    let mut wire = Wire::connect(address);
    for number in ["0", "3", "10"] {
        text(&mut wire, &["SELECT", number]);
        assert_eq!(wire.call(&["DBSIZE"]).raw, b":0\r\n", "{number}");
    }
}

/// `distcache-log summary` showed moves where there were none.
#[test]
fn the_snapshots_of_a_node_that_was_always_alone_state_no_epoch() {
    let directory = tempfile::tempdir().unwrap();
    // In the cluster's table each restart begins an epoch of its partitions.
    for key in ["one", "two"] {
        let (node, address) = start(directory.path());
        let mut wire = Wire::connect(address);
        assert_eq!(text(&mut wire, &["SET", key, "value"]), "OK");
        compact(&mut wire);
        terminate(&node.0);
        assert_eq!(end(node).code(), Some(0));
    }
    let copy = InspectionCopy::new(directory.path(), |_, _| {}).unwrap();
    let snapshots = copy.open().unwrap().snapshots();
    assert!(snapshots.iter().any(|found| found.records > 0));
    assert!(snapshots.iter().all(|found| found.epoch.0 == 0), "{snapshots:?}");
}

#[test]
fn a_second_node_on_the_same_data_says_so_and_ends() {
    let directory = tempfile::tempdir().unwrap();
    let (_node, _) = start(directory.path());
    let mut command = Command::new(env!("CARGO_BIN_EXE_distcache-node"));
    command.args(["--port", "0", "--data-dir"]).arg(directory.path());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("in use by another process"), "{said}");
}
