//! How a node ends: in order, also before it serves anything; in time; and not by every signal.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may unwrap and read the clock"
)]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use distcache_recovery::{
    FrameBuilder, InspectionCopy, OpenMode, Operation, PartitionId, Record, StoredValue,
    UnixMillis, VerifyReport, open, repair,
};
use support::cluster::{Node, start};
use support::process::{Process, signal, terminate, until};
use support::text::show_tree;
use support::wire::Wire;

/// Longer than anything here takes, on a machine busy with a build.
const LIMIT: Duration = Duration::from_secs(120);

/// Sends SIGTERM, and returns the exit code.
fn stopped(child: &mut Child) -> Option<i32> {
    terminate(child);
    until(LIMIT, "the process does not end", || child.try_wait().unwrap()).code()
}

/// What `distcache-log verify` finds.
fn verify(data: &Path) -> VerifyReport {
    let copy = InspectionCopy::new(data, |_, _| {}).unwrap();
    let report = copy.verify(|_| {}).unwrap();
    assert!(report.is_intact(), "{report:?}");
    report
}

#[test]
fn a_node_that_waits_for_a_cluster_is_stopped_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (data, output) = (dir.path().join("data"), dir.path().join("output"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_distcache-node"));
    // Nobody listens on port 1.
    command.args(["--port", "0", "--shards", "1", "--seeds", "127.0.0.1:1", "--data-dir"]);
    command.arg(&data).stdin(Stdio::null()).stdout(Stdio::null());
    let child = command.stderr(fs::File::create(&output).unwrap()).spawn().unwrap();
    let mut node = Process(child);
    let said = || fs::read_to_string(&output).unwrap();
    until(LIMIT, "the node does not wait", || {
        said().contains("waiting for a cluster").then_some(())
    });
    let port = fs::read_to_string(data.join("port")).unwrap().trim().parse().unwrap();
    let mut client = Wire::connect(([127, 0, 0, 1], port).into());
    assert!(show_tree(&client.call(&["GET", "key"]).tree).contains("LOADING"));

    assert_eq!(stopped(&mut node.0), Some(0), "{}", said());
    assert_eq!(client.read_to_close().unwrap(), b"");
    for line in ["a signal stops the node", "INFO  stopped"] {
        assert!(said().contains(line), "no {line:?} in:\n{}", said());
    }
    let report = verify(&data);
    assert!(report.is_clean_shutdown && report.marked.is_some(), "{report:?}");
}

fn info(node: &Node) -> String {
    show_tree(&node.connect().call(&["INFO", "cluster"]).tree)
}

#[test]
fn a_member_that_waits_for_the_others_is_stopped_in_order_with_its_keys() {
    const KEYS: usize = 200;
    let mut nodes = start(2, &[]);
    for node in &nodes {
        let addr = node.client().parse().unwrap();
        until(LIMIT, "no client is accepted", || Wire::try_connect(addr).ok());
        until(LIMIT, "the cluster is not ready", || {
            let info = info(node);
            let lines = ["cluster_state:ok", "cluster_size:2", "cluster_partitions_moving:0"];
            lines.iter().all(|line| info.contains(line)).then_some(())
        });
    }
    let mut client = nodes[0].connect();
    for at in 0..KEYS {
        assert_eq!(client.call(&["SET", &format!("key:{at}"), "value"]).raw, b"+OK\r\n");
    }
    for node in &mut nodes {
        assert_eq!(stopped(&mut node.child), Some(0));
    }

    // With two nodes one votes, the one that leads: the other one cannot go on without it.
    let is_waiting = |node: &Node| node.said().contains("rebuilt from the operation log");
    nodes[1].start_again();
    until(LIMIT, "the node does not load its log", || is_waiting(&nodes[1]).then_some(()));
    assert!(!nodes[1].said().contains("is up"), "{}", nodes[1].said());
    assert_eq!(stopped(&mut nodes[1].child), Some(0), "{}", nodes[1].said());
    assert!(nodes[1].said().contains("INFO  stopped"), "{}", nodes[1].said());
    let report = verify(&nodes[1].data());
    assert!(report.is_clean_shutdown && report.records > 0, "{report:?}");

    nodes.iter_mut().for_each(Node::start_again);
    let addr = nodes[1].client().parse().unwrap();
    until(LIMIT, "keys are missing", || {
        let mut client = Wire::try_connect(addr).ok()?;
        let values = (0..KEYS).map(|at| client.call(&["GET", &format!("key:{at}")]).raw);
        values.into_iter().all(|value| value == b"$5\r\nvalue\r\n").then_some(())
    });
}

/// Adds a record to the log of a directory, as a node that starts and stops.
fn add_record(data: &Path, key: &'static [u8]) {
    let mut replay = open(data, OpenMode::Create).unwrap();
    for block in replay.by_ref() {
        block.unwrap();
    }
    let (mut log, _) = replay.finish().unwrap();
    let mut frame = FrameBuilder::new();
    let operation = Operation::Put { key, value: StoredValue::Integer(1), deadline: None };
    frame.push(&Record { partition: PartitionId(5), database: 0, operation });
    log.append(&mut frame, UnixMillis(1)).unwrap();
    log.close().unwrap();
}

/// It ended with the text that the log is closed, which only said that there was nothing to close.
#[test]
fn a_node_that_refuses_its_log_says_what_is_lost() {
    let data = tempfile::tempdir().unwrap();
    let log = data.path().join("log");
    add_record(data.path(), b"a");
    let older = fs::read(log.join("db")).unwrap();
    add_record(data.path(), b"b");
    // The file as it was: sled drops what is missing without a word, and the mark tells.
    fs::write(log.join("db"), older).unwrap();
    for entry in fs::read_dir(&log).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("snap.") {
            fs::remove_file(path).unwrap();
        }
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_distcache-node"));
    command.args(["--port", "0", "--shards", "1", "--data-dir"]).arg(data.path());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let last = said.trim_end().lines().last().unwrap();
    assert!(last.starts_with("distcache-node: "), "{said}");
    assert!(last.contains("records 1 to 1 are lost"), "{said}");
    assert!(last.contains("distcache-log repair"), "{said}");
}

/// It started without a word, as the missing records were declared to be so.
#[test]
fn a_node_warns_of_what_a_repair_could_not_save() {
    let data = tempfile::tempdir().unwrap();
    for key in [b"first".as_slice(), b"a key to be lost", b"last"] {
        add_record(data.path(), key);
    }
    for name in ["log/db", "log/redo"] {
        let path = data.path().join(name);
        let mut bytes = fs::read(&path).unwrap();
        let places: Vec<usize> =
            (0..bytes.len()).filter(|&at| bytes[at..].starts_with(b"a key to be lost")).collect();
        places.iter().for_each(|&at| bytes[at] ^= 1);
        fs::write(&path, bytes).unwrap();
    }
    let parent = tempfile::tempdir().unwrap();
    let new = parent.path().join("new");
    let report = repair(data.path(), &new, UnixMillis(2), &mut |_, _, _| {}).unwrap();
    assert_eq!(report.lost.len(), 1, "{report:?}");
    let (mut node, said) = start_alone(&new, &parent.path().join("output"));
    assert_eq!(stopped(&mut node.0), Some(0), "{}", said());
    let said = said();
    let warning = said.lines().find(|line| line.contains("records 1 to 1 are missing"));
    assert!(warning.is_some_and(|line| line.contains("WARN")), "{said}");
}

/// The tool looked at the operation log only.
#[test]
fn a_node_that_refuses_its_part_in_raft_has_a_directory_that_is_called_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (mut node, said) = start_alone(&data, &dir.path().join("output"));
    assert_eq!(stopped(&mut node.0), Some(0), "{}", said());
    verify(&data);
    let redo = data.join("raft/log/redo");
    let mut bytes = fs::read(&redo).unwrap();
    bytes[9] ^= 1;
    fs::write(&redo, bytes).unwrap();
    let report = InspectionCopy::new(&data, |_, _| {}).unwrap().verify(|_| {}).unwrap();
    assert!(!report.is_intact() && report.damages.is_empty(), "{report:?}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_distcache-node"));
    command.args(["--port", "0", "--shards", "1", "--data-dir"]).arg(&data);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("raft's log"), "{said}");
}

/// Starts a node that looks for no others, and waits until it is up.
fn start_alone(data: &Path, output: &Path) -> (Process, impl Fn() -> String + use<>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_distcache-node"));
    command.args(["--port", "0", "--shards", "1", "--data-dir"]).arg(data);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let child = command.stderr(fs::File::create(output).unwrap()).spawn().unwrap();
    let output = output.to_owned();
    let said = move || fs::read_to_string(&output).unwrap();
    until(LIMIT, "the node is not up", || said().contains("and is up").then_some(()));
    (Process(child), said)
}

/// It was waited for until the time for stopping was over.
#[test]
fn a_client_that_waits_for_ever_does_not_keep_a_node_from_stopping() {
    let dir = tempfile::tempdir().unwrap();
    let (data, output) = (dir.path().join("data"), dir.path().join("output"));
    let (mut node, said) = start_alone(&data, &output);
    let port = fs::read_to_string(data.join("port")).unwrap().trim().parse().unwrap();
    let addr = ([127, 0, 0, 1], port).into();
    let (mut admin, mut client) = (Wire::connect(addr), Wire::connect(addr));
    // It is up before it serves: until then it refuses to wait.
    until(LIMIT, "the node does not serve", || {
        (admin.call(&["GET", "key"]).raw == b"$-1\r\n").then_some(())
    });
    client.send_raw(b"WAIT 1 0\r\n").unwrap();
    until(LIMIT, "the client does not wait", || {
        let info = show_tree(&admin.call(&["INFO", "clients"]).tree);
        info.contains("blocked_clients:1").then_some(())
    });
    assert_eq!(stopped(&mut node.0), Some(0), "{}", said());
    assert!(!said().contains("although clients are not done"), "{}", said());
}

/// A node that is up, and what it says.
struct Running {
    node: Process,
    dir: tempfile::TempDir,
    addr: std::net::SocketAddr,
}

impl Running {
    fn start(extra: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (data, output) = (dir.path().join("data"), dir.path().join("output"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_distcache-node"));
        command.args(["--port", "0", "--shards", "1", "--data-dir"]).arg(&data).args(extra);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(fs::File::create(&output).unwrap()).spawn().unwrap();
        let node = Process(child);
        let pong = || {
            let port: u16 = fs::read_to_string(data.join("port")).ok()?.trim().parse().ok()?;
            let addr = ([127, 0, 0, 1], port).into();
            // Until its keys are there it answers that it is loading.
            let reply = Wire::try_connect(addr).ok()?.try_call(&[b"PING".to_vec()]).ok()?;
            (reply.raw == b"+PONG\r\n").then_some(addr)
        };
        let addr = until(LIMIT, "the node is not up", pong);
        Running { node, dir, addr }
    }

    fn said(&self) -> String {
        fs::read_to_string(self.dir.path().join("output")).unwrap()
    }

    fn wait_for(&self, line: &str) {
        let what = format!("it does not say {line:?}");
        until(LIMIT, &what, || self.said().contains(line).then_some(()));
    }

    /// Has the shard do nothing any more, as if a disk had stopped it.
    fn freeze(&self) -> Wire {
        let mut client = Wire::connect(self.addr);
        let value = "x".repeat(2 << 20);
        assert_eq!(client.call(&["SET", "large", &value]).raw, b"+OK\r\n");
        // Replies that are so long are written within the turn: what follows has begun by then.
        client.send_raw(format!("GET large\r\nDEBUG SLEEP {NEVER}\r\n").as_bytes()).unwrap();
        assert!(client.read().unwrap().raw.len() > value.len());
        client
    }

    /// Waits for the process to end, and returns its exit code.
    fn ended(&mut self) -> Option<i32> {
        let child = &mut self.node.0;
        until(LIMIT, "the process does not end", || child.try_wait().unwrap()).code()
    }
}

/// Longer than a test waits.
const NEVER: &str = "100000";

/// The time of the start counted, whatever `CONFIG SET` had said since.
#[test]
fn a_stop_takes_no_longer_than_shutdown_timeout_is_by_then() {
    let mut running = Running::start(&["--shutdown-timeout", NEVER]);
    let (mut admin, mut client) = (Wire::connect(running.addr), Wire::connect(running.addr));
    let value = "x".repeat(8 << 20);
    assert_eq!(admin.call(&["SET", "large", &value]).raw, b"+OK\r\n");
    assert_eq!(admin.call(&["CONFIG", "SET", "shutdown-timeout", "1"]).raw, b"+OK\r\n");
    // Replies that no socket has room for, to a client that reads none of them.
    client.send_raw("GET large\r\n".repeat(8).as_bytes()).unwrap();
    until(LIMIT, "nothing waits for the client", || {
        let clients = show_tree(&admin.call(&["CLIENT", "LIST"]).tree);
        clients.contains(" cmd=get ").then_some(())
    });
    terminate(&running.node.0);
    assert_eq!(running.ended(), Some(0), "{}", running.said());
    running.wait_for("stopping although clients are not done");
    assert!(verify(&running.dir.path().join("data")).is_clean_shutdown);
}

/// It waited for the log without end.
#[test]
fn a_stop_that_cannot_close_the_log_in_time_says_so_and_fails() {
    let flags = ["--shutdown-timeout", "2", "--enable-debug-command", "yes"];
    let mut running = Running::start(&flags);
    let _frozen = running.freeze();
    terminate(&running.node.0);
    assert_eq!(running.ended(), Some(1), "{}", running.said());
    for line in ["the operation log is not closed after ", "(shutdown-timeout): records from "] {
        running.wait_for(line);
    }
}

/// All signals after the first one were ignored.
#[test]
fn a_second_signal_ends_a_stop_at_once() {
    for second in ["TERM", "INT"] {
        let flags = ["--shutdown-timeout", NEVER, "--enable-debug-command", "yes"];
        let mut running = Running::start(&flags);
        let _frozen = running.freeze();
        terminate(&running.node.0);
        running.wait_for("a signal stops the node");
        signal(&running.node.0, second);
        assert_eq!(running.ended(), Some(1), "{}", running.said());
        running.wait_for("a second signal ends the node at once");
    }
}

/// It ended the node as a crash does.
#[test]
fn a_hang_up_is_ignored() {
    let mut running = Running::start(&[]);
    signal(&running.node.0, "HUP");
    running.wait_for("SIGHUP is ignored");
    assert_eq!(Wire::connect(running.addr).call(&["PING"]).raw, b"+PONG\r\n");
    terminate(&running.node.0);
    assert_eq!(running.ended(), Some(0), "{}", running.said());
}
