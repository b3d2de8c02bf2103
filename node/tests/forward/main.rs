//! Three nodes in this process, and clients of the port for any client, who need not know which
//! node has which key.

#![allow(clippy::unwrap_used, reason = "a test")]

mod nodes;
#[path = "../support/mod.rs"]
mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use distcache_node::clock::Ticks;
use distcache_node::cluster::table::{
    Incarnation, Joining, MoveId, MovePhase, NodeId, PartitionId, Then,
};
use distcache_node::cluster::view::address;
use distcache_node::command::TABLE;
use distcache_node::limits::FOLLOW_ATTEMPTS_MAX;
use distcache_node::server::forward::{Forward, ForwardError, Replies, execute};
use distcache_node::shard::holds::Wanted;
use distcache_protocol::limits::PEER_REQUEST_BYTES_MAX;
use distcache_protocol::slot::slot_of;
use nodes::{Cluster, Manner, NODES};
use support::text::{parse_request, show_tree};
use support::wire::Wire;

fn call(wire: &mut Wire, request: &str) -> String {
    show_tree(&wire.try_call(&parse_request(request)).unwrap().tree)
}

#[test]
fn any_node_answers_for_any_key_in_request_order() {
    let cluster = Cluster::start();
    for round in 0..3 {
        let mut wire = cluster.connect(round + 1);
        call(&mut wire, if round == 1 { "HELLO 3" } else { "SELECT 3" });
        let mut requests = Vec::new();
        let mut expected = Vec::new();
        for i in 0..400 {
            let key = format!("{round}:{}", i % 97);
            requests.push(format!("SET {key} {i}"));
            requests.push(format!("INCR {key}"));
            requests.push(format!("GET {key}"));
            requests.push(format!("GETRANGE {key} x 1"));
            expected.extend(["+OK".to_owned(), format!(":{}", i + 1), format!("\"{}\"", i + 1)]);
            expected.push("-ERR value is not an integer or out of range".to_owned());
        }
        requests.extend(["PING".to_owned(), "GET none".to_owned()]);
        expected.extend(["+PONG".to_owned(), "nil".to_owned()]);
        let requests: Vec<_> = requests.iter().map(|request| parse_request(request)).collect();
        wire.send(&requests).unwrap();
        for (expected, request) in expected.iter().zip(&requests) {
            let reply = show_tree(&wire.read().unwrap().tree);
            assert_eq!(reply, *expected, "{}", String::from_utf8_lossy(&request.join(&b' ')));
        }
    }
}

#[test]
fn the_bus_is_a_way_to_other_nodes() {
    let cluster = Cluster::start();
    let buses = cluster.start_buses();
    let mut batch = vec![2, 0];
    batch.extend_from_slice(b"*2\r\n$4\r\nINCR\r\n$2\r\nk1\r\n*1\r\n$6\r\nDBSIZE\r\n");
    let bus = &buses.iter().find(|(node, _, _)| node.0 != cluster.owner("k1")).unwrap().2;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let owner = NodeId(cluster.owner("k1"));
    let replies = runtime.block_on(bus.forward(0, owner, batch.clone())).unwrap();
    assert!(replies.starts_with(b":1\r\n:1\r\n"), "{}", replies.escape_ascii());
    let error = runtime.block_on(bus.forward(0, NodeId(99), batch)).unwrap_err();
    assert!(matches!(error, ForwardError::NotSent(_)), "{error}");
    let error = runtime.block_on(bus.forward(0, owner, vec![9])).unwrap_err();
    assert!(matches!(error, ForwardError::Unknown(_)), "{error}");
    let error =
        runtime.block_on(bus.forward(0, owner, vec![0; PEER_REQUEST_BYTES_MAX + 1])).unwrap_err();
    assert!(matches!(error, ForwardError::Unsendable(_)), "{error}");
}

#[test]
fn commands_over_keys_of_several_nodes_are_gathered() {
    let cluster = Cluster::start();
    let mut wire = cluster.connect(2);
    let keys: Vec<String> = (0..60).map(|i| format!("key{i}")).collect();
    assert!((1..=NODES).all(|node| keys.iter().any(|key| cluster.owner(key) == node)));
    let pairs: Vec<String> = keys.iter().map(|key| format!("{key} of-{key}")).collect();
    assert_eq!(call(&mut wire, &format!("MSET {}", pairs.join(" "))), "+OK");
    let values: Vec<String> = keys.iter().map(|key| format!("\"of-{key}\"")).collect();
    let all = keys.join(" ");
    assert_eq!(call(&mut wire, &format!("MGET {all}")), format!("[{}]", values.join(", ")));
    assert_eq!(call(&mut wire, "MGET key1 none key2"), "[\"of-key1\", nil, \"of-key2\"]");
    for command in ["EXISTS", "TOUCH"] {
        assert_eq!(call(&mut wire, &format!("{command} {all} none key1")), ":61");
    }
    for node in 1..=NODES {
        let mut wire = cluster.connect(node);
        assert_eq!(call(&mut wire, "DBSIZE"), ":60");
        assert_eq!(call(&mut wire, "KEYS key1?").matches("key1").count(), 10);
        assert!(call(&mut wire, "RANDOMKEY").starts_with("\"key"));
        let mut found = Vec::new();
        let mut cursor = "0".to_owned();
        loop {
            let reply = call(&mut wire, &format!("SCAN {cursor} COUNT 7"));
            let words: Vec<&str> = reply.split('"').skip(1).step_by(2).collect();
            cursor = words[0].to_owned();
            found.extend(words[1..].iter().map(|key| (*key).to_owned()));
            if cursor == "0" {
                break;
            }
        }
        found.sort();
        let mut sorted = keys.clone();
        sorted.sort();
        assert_eq!(found, sorted);
    }
    let (here, there) = (cluster.key_of(2), cluster.key_of(3));
    let cross = "-CROSSSLOT Keys in request don't hash to the same slot";
    assert_eq!(call(&mut wire, &format!("RENAME {here} {there}")), cross);
    assert_eq!(call(&mut wire, "UNLINK key1 key2 key3 none"), ":3");
    assert_eq!(call(&mut wire, &format!("DEL {all}")), ":57");
    assert_eq!(call(&mut wire, "SET a 1"), "+OK");
    assert_eq!(call(&mut wire, "FLUSHALL"), "+OK");
    assert_eq!(call(&mut cluster.connect(1), "DBSIZE"), ":0");
    assert_eq!(call(&mut wire, "RANDOMKEY"), "nil");
    assert_eq!(call(&mut wire, "SCRIPT EXISTS a"), "[:0]");
}

#[test]
fn large_batches_and_replies_come_in_parts() {
    let cluster = Cluster::start();
    let mut wire = cluster.connect(1);
    let value = "x".repeat(300_000);
    let keys: Vec<String> = (0..40).map(|i| format!("large{i}")).collect();
    let set = |key: &String| parse_request(&format!("SET {key} {value}"));
    wire.send(&keys.iter().map(set).collect::<Vec<_>>()).unwrap();
    for _ in &keys {
        assert_eq!(wire.read().unwrap().raw, b"+OK\r\n");
    }
    let mut requests = Vec::new();
    for key in &keys {
        requests.push(parse_request(&format!("GET {key}")));
        requests.push(parse_request(&format!("SETRANGE {key} 0 y")));
        requests.push(parse_request(&format!("GETRANGE {key} 0 1")));
    }
    wire.send(&requests).unwrap();
    let stored = format!("$300000\r\n{value}\r\n");
    for key in &keys {
        assert!(wire.read().unwrap().raw == stored.as_bytes(), "{key}");
        assert_eq!(wire.read().unwrap().raw, b":300000\r\n");
        assert_eq!(wire.read().unwrap().raw, b"$2\r\nyx\r\n");
    }
}

#[test]
fn what_is_longer_than_a_frame_of_the_bus_goes_through_another_node() {
    let cluster = Cluster::start();
    cluster.go_by_bus();
    let key = cluster.key_of(2);
    let mut wire = cluster.connect(1);
    let value = vec![b'x'; 70 << 20];
    let words = |words: [&[u8]; 2]| words.map(<[u8]>::to_vec).to_vec();
    let set = [b"SET".to_vec(), key.clone().into_bytes(), value.clone()].to_vec();
    assert_eq!(wire.try_call(&set).unwrap().raw, b"+OK\r\n");
    let reply = wire.try_call(&words([b"GET", key.as_bytes()])).unwrap().raw;
    assert!(reply.ends_with(b"xx\r\n") && reply.len() > value.len(), "{}", reply.len());
    assert_eq!(call(&mut cluster.connect(2), &format!("STRLEN {key}")), format!(":{}", 70 << 20));
}

#[test]
fn nothing_is_lost_of_replies_that_are_long_together() {
    let cluster = Cluster::start();
    cluster.go_by_bus();
    let keys = cluster.keys_by_shard(2);
    let mut wire = cluster.connect(1);
    let value = "x".repeat(40 << 20);
    for key in &keys {
        assert_eq!(call(&mut wire, &format!("SET {key} {value}")), "+OK");
    }
    wire.send(&keys.each_ref().map(|key| parse_request(&format!("GETDEL {key}")))).unwrap();
    for key in &keys {
        let reply = wire.read().unwrap().raw;
        assert!(
            reply.len() > value.len(),
            "{key}: {}",
            reply[..200.min(reply.len())].escape_ascii()
        );
    }
    assert_eq!(call(&mut wire, &format!("EXISTS {}", keys.join(" "))), ":0");
}

#[test]
fn replies_of_commands_over_shards_count_for_what_a_batch_may_have() {
    let cluster = Cluster::start();
    let keys = cluster.keys_by_shard(2);
    let mut wire = cluster.connect(1);
    let value = "x".repeat(1 << 20);
    for key in &keys {
        assert_eq!(call(&mut wire, &format!("SET {key} {value}")), "+OK");
    }
    let get = parse_request(&format!("MGET {}", keys.join(" ")));
    let mut batch = vec![2, 0];
    for _ in 0..20 {
        batch.extend(format!("*{}\r\n", get.len()).bytes());
        for word in &get {
            batch.extend(format!("${}\r\n", word.len()).bytes());
            batch.extend_from_slice(word);
            batch.extend_from_slice(b"\r\n");
        }
    }
    let node = cluster.network.nodes.lock().unwrap()[&NodeId(2)].0.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let replies = runtime.block_on(execute(&node, peer, batch.into())).unwrap();
    let replies = Replies::decode(Bytes::from(replies)).unwrap();
    let executed: Vec<bool> = (0..20).map(|at| !replies.get(at).unwrap().is_empty()).collect();
    assert_eq!(executed, [[true; 2].as_slice(), &[false; 18]].concat());
    // And all come, one way or the other.
    wire.send(&vec![get; 20]).unwrap();
    for _ in 0..20 {
        assert!(wire.read().unwrap().raw.len() > 2 << 20);
    }
}

#[test]
fn what_is_left_for_lack_of_room_comes_before_what_follows_on_the_same_key() {
    let cluster = Cluster::start();
    let [big, other] = cluster.keys_by_shard(2);
    let key = format!("{{{big}}}k");
    let mut wire = cluster.connect(1);
    assert_eq!(call(&mut wire, &format!("SET {big} {}", "x".repeat(300_000))), "+OK");
    let mut requests = vec![format!("GET {big}"); 20];
    requests.extend([format!("SET {key} 1"), format!("MSET {key} 2 {other} 2")]);
    requests.push(format!("GET {key}"));
    let requests: Vec<_> = requests.iter().map(|request| parse_request(request)).collect();
    wire.send(&requests).unwrap();
    let replies: Vec<_> = requests.iter().map(|_| wire.read().unwrap().raw).collect();
    assert!(replies[..20].iter().all(|reply| reply.len() > 300_000));
    assert_eq!(replies[20..], [b"+OK\r\n".as_slice(), b"+OK\r\n", b"$1\r\n2\r\n"]);
}

#[test]
fn everything_is_emptied_even_if_a_node_that_has_all_is_just_giving_some() {
    let mut cluster = Cluster::start();
    let key = cluster.key_of(2);
    assert_eq!(call(&mut cluster.connect(2), &format!("SET {key} 1")), "+OK");
    let before = cluster.table.clone();
    // Node 1 has not heard yet of the partition that node 2 has got.
    cluster.table.partitions.iter_mut().for_each(|now| now.primary = Some(NodeId(1)));
    cluster.tell(1);
    assert_eq!(call(&mut cluster.connect(1), "FLUSHALL"), "+OK");
    cluster.table = before;
    assert_eq!(call(&mut cluster.connect(2), &format!("EXISTS {key}")), ":0");
}

#[test]
fn databases_are_not_swapped_if_a_partition_goes_while_the_shards_are_waited_for() {
    let mut cluster = Cluster::start();
    let before = cluster.table.clone();
    cluster.table.partitions.iter_mut().for_each(|now| now.primary = Some(NodeId(1)));
    cluster.tell(1);
    let node = cluster.network.nodes.lock().unwrap()[&NodeId(1)].0.clone();
    let mut wire = cluster.connect(1);
    assert_eq!(call(&mut wire, "SET a 1"), "+OK");
    assert_eq!(call(&mut wire, "SWAPDB 0 1"), "+OK");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (ticket, shard) = (node.next_ticket(), node.shard_of(slot_of(b"a")));
    let wanted = Wanted::Keys { keys: vec![b"a".to_vec()], values: false };
    let get = TABLE.find(b"get").unwrap();
    runtime.block_on(shard.hold(ticket, get, 0, wanted)).unwrap();
    let waiting = thread::spawn(move || call(&mut wire, "SWAPDB 0 1"));
    thread::sleep(Duration::from_millis(100));
    cluster.table = before;
    cluster.tell(1);
    runtime.block_on(shard.release(ticket, Arc::default(), Vec::new(), None)).unwrap();
    assert_eq!(waiting.join().unwrap(), "-ERR SWAPDB is not allowed in cluster mode");
}

#[test]
fn a_partition_that_moves_is_followed() {
    let mut cluster = Cluster::start();
    let key = cluster.key_of(2);
    let partition = usize::from(slot_of(key.as_bytes()) / 16);
    // Node 2 knows it first, the node that takes it next, and the one that is asked last.
    cluster.table.partitions[partition].primary = Some(NodeId(3));
    cluster.tell(2);
    let mut wires = [1, 2].map(|node| cluster.connect(node));
    for wire in &mut wires {
        let requests = [format!("SET {key} 5"), format!("INCR {key}"), format!("GET {key}")];
        wire.send(&requests.map(|request| parse_request(&request))).unwrap();
    }
    thread::sleep(Duration::from_millis(100));
    cluster.tell(3);
    thread::sleep(Duration::from_millis(100));
    cluster.tell(1);
    for wire in &mut wires {
        let replies = [(); 3].map(|()| show_tree(&wire.read().unwrap().tree));
        assert_eq!(replies[0], "+OK");
        assert!(replies[1].starts_with(':'), "{replies:?}");
    }
    assert_eq!(call(&mut cluster.connect(3), &format!("EXISTS {key}")), ":1");
    assert_eq!(
        call(&mut cluster.connect(1), &format!("MGET {key} none")).matches("nil").count(),
        1
    );
}

#[test]
fn while_a_partition_goes_to_and_fro_each_command_runs_once_and_in_order() {
    let mut cluster = Cluster::start();
    let key = cluster.key_of(1);
    let partition = usize::from(slot_of(key.as_bytes()) / 16);
    let writers: Vec<_> = (1..=NODES)
        .map(|node| {
            let (mut wire, key) = (cluster.connect(node), format!("{{{key}}}{node}"));
            thread::spawn(move || {
                let mut sent = 0;
                for _ in 0..25 {
                    let next = sent..sent + 50;
                    let append = |number| parse_request(&format!("APPEND {key} {number},"));
                    wire.send(&next.clone().map(append).collect::<Vec<_>>()).unwrap();
                    for number in next {
                        let reply = show_tree(&wire.read().unwrap().tree);
                        assert!(reply.starts_with(':'), "{number}: {reply}");
                    }
                    sent += 50;
                    thread::sleep(Duration::from_millis(2));
                }
                (key, sent)
            })
        })
        .collect();
    let mut owner = 1;
    while writers.iter().any(|writer| !writer.is_finished()) {
        let loser = owner;
        owner = 3 - owner;
        cluster.table.partitions[partition].primary = Some(NodeId(owner));
        // Never two owners: who loses it hears of it first, and who only sends on, last.
        for node in [loser, owner, 3] {
            cluster.tell(node);
            thread::sleep(Duration::from_millis(1));
        }
    }
    for writer in writers {
        let (key, sent) = writer.join().unwrap();
        let mut all = Vec::new();
        for node in [1, 2] {
            cluster.table.partitions[partition].primary = Some(NodeId(node));
            (1..=NODES).for_each(|node| cluster.tell(node));
            let text = call(&mut cluster.connect(node), &format!("GET {key}"));
            let digits = text.trim_matches('"').split(',').filter(|number| !number.is_empty());
            let numbers: Vec<u32> = digits.map(|number| number.parse().unwrap()).collect();
            assert!(numbers.is_sorted(), "in request order: {numbers:?}");
            assert!(!numbers.is_empty(), "both nodes have had it");
            all.extend(numbers);
        }
        all.sort_unstable();
        assert_eq!(all, (0..sent).collect::<Vec<u32>>(), "each once");
    }
}

#[test]
fn a_client_that_knows_the_slots_waits_for_keys_that_are_arriving_and_not_for_others() {
    let mut cluster = Cluster::start();
    let key = cluster.key_of(2);
    let partition = PartitionId(slot_of(key.as_bytes()) / 16);
    let at = usize::from(partition.0);
    cluster.table.partitions[at].joining = Some(Joining {
        node: NodeId(1),
        incarnation: Incarnation(1),
        move_id: MoveId(3),
        then: Then::BecomePrimary,
        drop: None,
        phase: MovePhase::Copying,
        had_copy: false,
    });
    cluster.tell(1);
    let target = cluster.network.nodes.lock().unwrap()[&NodeId(1)].0.clone();
    let mut wire = Wire::connect(cluster.directs[0]);
    let get = format!("GET {key}");
    assert!(call(&mut wire, &get).starts_with("-MOVED"), "its keys are on their way still");
    target.cluster.expect(partition);
    let begun = Ticks::now();
    assert!(call(&mut wire, &get).starts_with("-MOVED"), "nothing is decided");
    assert!(Ticks::now().since(begun) >= Duration::from_millis(990));
    let waiting = thread::spawn(move || call(&mut wire, &get));
    thread::sleep(Duration::from_millis(20));
    let now = &mut cluster.table.partitions[at];
    (now.primary, now.joining) = (Some(NodeId(1)), None);
    cluster.tell(1);
    assert_eq!(waiting.join().unwrap(), "nil");
    let told = call(&mut Wire::connect(cluster.directs[0]), "INFO commandstats");
    assert!(told.contains("cmdstat_get:calls=1,"), "{told}");
    assert!(told.contains("rejected_calls=2,failed_calls=0"), "each refusal once: {told}");
}

/// Waits until something is so, for longer than it can take.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if is_so() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{what}");
}

#[test]
fn commands_that_come_together_wait_for_a_node_together() {
    let cluster = Cluster::start();
    let (here, there) = (cluster.key_of(1), cluster.key_of(2));
    cluster.behave(2, Manner::IsNotReached);
    let mut wire = cluster.connect(1);
    let get = parse_request(&format!("GET {there}"));
    let mut requests = vec![get; 20];
    requests.push(parse_request(&format!("GET {here}")));
    wire.send(&requests).unwrap();
    for _ in 0..20 {
        let reply = show_tree(&wire.read().unwrap().tree);
        assert!(reply.starts_with("-CLUSTERDOWN The node that serves"), "{reply}");
    }
    assert_eq!(show_tree(&wire.read().unwrap().tree), "nil");
    let batches = cluster.network.batches.load(Relaxed);
    assert_eq!(batches, 1 + FOLLOW_ATTEMPTS_MAX, "the batch, and what one command has");
    // What comes later tries anew.
    cluster.behave(2, Manner::Answers);
    assert_eq!(call(&mut wire, &format!("GET {there}")), "nil");
}

#[test]
fn nothing_is_followed_for_a_client_that_has_left() {
    let cluster = Cluster::start();
    let there = cluster.key_of(2);
    cluster.behave(2, Manner::IsNotReached);
    let mut other = cluster.connect(1);
    let mut wire = cluster.connect(1);
    assert_eq!(call(&mut wire, "CLIENT SETNAME leaver"), "+OK");
    wire.send(&[parse_request(&format!("INCR {there}"))]).unwrap();
    until("it is followed", || cluster.network.batches.load(Relaxed) > 2);
    drop(wire);
    until("it is gone", || !call(&mut other, "CLIENT LIST").contains("name=leaver"));
    assert!(cluster.network.batches.load(Relaxed) < FOLLOW_ATTEMPTS_MAX);
}

#[test]
fn the_pause_of_a_node_holds_what_others_send_there() {
    let cluster = Cluster::start();
    let (here, there) = (cluster.key_of(1), cluster.key_of(2));
    let (mut owner, mut other) = (cluster.connect(2), cluster.connect(1));
    assert_eq!(call(&mut owner, "CLIENT PAUSE 3600000 WRITE"), "+OK");
    let requests = ["GET", "INCR", "GET"].map(|name| parse_request(&format!("{name} {there}")));
    let mut alone = cluster.connect(1);
    alone.send(&requests).unwrap();
    let mut spread = cluster.connect(1);
    spread.send(&[parse_request(&format!("MSET {here} 7 {{{there}}}2 7"))]).unwrap();
    let are_held = || call(&mut other, "CLIENT LIST").matches("flags=b").count() == 2;
    until("both wait", are_held);
    assert_eq!(call(&mut other, &format!("EXISTS {there} {{{there}}}2")), ":0", "reads pass");
    assert_eq!(call(&mut owner, "CLIENT UNPAUSE"), "+OK");
    let replies = requests.map(|_| show_tree(&alone.read().unwrap().tree));
    assert_eq!(replies, ["nil", ":1", "\"1\""]);
    assert_eq!(show_tree(&spread.read().unwrap().tree), "+OK");
    assert_eq!(call(&mut other, &format!("GET {{{there}}}2")), "\"7\"");
}

#[test]
fn a_client_that_knows_the_slots_is_sent_to_an_ipv6_address_as_redis_does() {
    let mut cluster = Cluster::start();
    let key = cluster.key_of(2);
    let member = cluster.table.nodes.get_mut(&NodeId(2)).unwrap();
    member.addresses.direct = address("::1", 7742);
    cluster.tell(1);
    let told = call(&mut Wire::connect(cluster.directs[0]), &format!("GET {key}"));
    assert_eq!(told, format!("-MOVED {} ::1:7742", slot_of(key.as_bytes())));
}

#[test]
fn what_touches_no_access_clock_does_not_on_another_node_either() {
    let cluster = Cluster::start();
    let key = cluster.key_of(2);
    let mut wire = cluster.connect(1);
    assert_eq!(call(&mut wire, &format!("SET {key} 1")), "+OK");
    let dumped = wire.try_call(&parse_request(&format!("DUMP {key}"))).unwrap().raw;
    let begin = dumped.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let mut restore = parse_request(&format!("RESTORE {key} 0 value REPLACE IDLETIME 1000"));
    restore[3] = dumped[begin..dumped.len() - 2].to_vec();
    assert_eq!(wire.try_call(&restore).unwrap().raw, b"+OK\r\n");
    let reads = |wire: &mut Wire| {
        assert_eq!(call(wire, &format!("GET {key}")), "\"1\"");
        let idle = call(wire, &format!("OBJECT IDLETIME {key}"));
        idle.trim_start_matches(':').parse::<u64>().unwrap()
    };
    assert_eq!(call(&mut wire, "CLIENT NO-TOUCH ON"), "+OK");
    assert!(reads(&mut wire) >= 1000);
    assert_eq!(call(&mut wire, "CLIENT NO-TOUCH OFF"), "+OK");
    assert!(reads(&mut wire) < 1000);
}

#[test]
fn a_slow_command_shows_the_node_that_has_sent_it_on() {
    let cluster = Cluster::start();
    let key = cluster.key_of(2);
    let mut owner = cluster.connect(2);
    assert_eq!(call(&mut owner, "CONFIG SET slowlog-log-slower-than 0"), "+OK");
    assert_eq!(call(&mut cluster.connect(1), &format!("GET {key}")), "nil");
    let entries = call(&mut owner, "SLOWLOG GET");
    let of_get = format!("[\"GET\", \"{key}\"], \"127.0.0.1:1\", \"\"");
    assert!(entries.contains(&of_get), "{entries}");
}

#[test]
fn a_node_that_does_not_answer_is_told_of_and_nothing_is_repeated() {
    let cluster = Cluster::start();
    let (here, there) = (cluster.key_of(1), cluster.key_of(2));
    let mut wire = cluster.connect(1);
    cluster.behave(2, Manner::IsSilent);
    let reply = call(&mut wire, &format!("INCR {there}"));
    assert!(reply.starts_with("-ERR the node that serves the key gave no answer"), "{reply}");
    assert!(call(&mut wire, "DBSIZE").starts_with("-ERR the node"));
    assert_eq!(call(&mut wire, &format!("INCR {here}")), ":1");
    cluster.behave(2, Manner::IsTooNarrow);
    let reply = call(&mut wire, &format!("INCR {there}"));
    assert!(reply.starts_with("-ERR the command cannot be sent"), "{reply}");
    cluster.behave(2, Manner::IsNotReached);
    let reply = call(&mut wire, &format!("INCR {there}"));
    assert!(reply.starts_with("-CLUSTERDOWN The node that serves the key is not"), "{reply}");
    cluster.behave(2, Manner::Answers);
    assert_eq!(call(&mut wire, &format!("INCR {there}")), ":1");
}
