//! The HTTP port of a real process: health, metrics, and what clients that behave badly get.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may unwrap and read the clock"
)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::exposition::Exposition;
use support::process::{Process, until};
use support::server::Server;

/// Longer than anything here takes, on a machine busy with a build.
const LIMIT: Duration = Duration::from_secs(60);

/// How long the node lets a client take to send a request.
const HEADER_TIMEOUT: Duration = distcache_node::limits::HTTP_HEADER_TIMEOUT;

struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&addr, LIMIT).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

/// All that comes until the node closes the connection, which it does after each request. A node
/// that closes with unread input resets the connection.
fn read_to_close(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => bytes,
    }
}

fn answer(bytes: &[u8]) -> Answer {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text:?}"));
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap();
    let status = status.strip_prefix("HTTP/1.1 ").unwrap_or_else(|| panic!("{status:?}"));
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_lowercase(), value.to_owned())
    };
    let (status, headers) = (status[..3].parse().unwrap(), lines.map(header).collect());
    Answer { status, headers, body: body.to_owned() }
}

fn ask(addr: SocketAddr, method: &str, path: &str) -> Answer {
    let mut stream = connect(addr);
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: node\r\n\r\n").unwrap();
    answer(&read_to_close(&mut stream))
}

fn get(addr: SocketAddr, path: &str) -> Answer {
    ask(addr, "GET", path)
}

fn scrape(addr: SocketAddr) -> Exposition {
    let answer = get(addr, "/metrics");
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    Exposition::parse(&answer.body).unwrap_or_else(|wrong| panic!("{wrong}"))
}

/// Asks whether the node is ready until it answers so.
fn wait_ready(addr: SocketAddr, status: u16, body: &str) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let answer = get(addr, "/health/ready");
        if (answer.status, &*answer.body) == (status, body) {
            return;
        }
        assert!(Instant::now() < deadline, "still {}: {}", answer.status, answer.body);
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// A ready node, and its HTTP port.
fn node(extra: &[&str]) -> (Server, SocketAddr) {
    let server = Server::node(&[&["--shards", "2"], extra].concat());
    let addr = server.http();
    wait_ready(addr, 200, "ready\n");
    (server, addr)
}

#[test]
fn metrics_are_well_formed_and_move_with_what_the_node_does() {
    let (server, addr) = node(&["--fsync", "always", "--maxmemory", "100mb"]);
    let before = scrape(addr);
    for name in before.types.keys() {
        assert!(name.starts_with("distcache_"), "{name}");
    }
    let mut wire = server.connect();
    wire.call(&["SET", "key", "value"]);
    wire.call(&["SET", "short", "value", "EX", "1000"]);
    for key in ["key", "key", "none"] {
        wire.call(&["GET", key]);
    }
    wire.call(&["INCR", "key"]);
    wire.call(&["GET"]);
    wire.call(&["CONFIG", "GET", "port"]);
    // What the log has done is told once a second.
    let records = "distcache_log_records_total";
    let mut after = scrape(addr);
    let deadline = Instant::now() + LIMIT;
    while after.value(records) < before.value(records) + 2.0 {
        assert!(Instant::now() < deadline, "the log has no records");
        std::thread::park_timeout(Duration::from_millis(50));
        after = scrape(addr);
    }
    let moved =
        |series: &str| after.value(series) - before.values.get(series).copied().unwrap_or_default();
    for (series, by) in [
        ("distcache_command_calls_total{command=\"set\"}", 2.0),
        ("distcache_command_calls_total{command=\"get\"}", 3.0),
        ("distcache_command_duration_seconds_count{command=\"get\"}", 3.0),
        ("distcache_command_rejected_total{command=\"get\"}", 1.0),
        ("distcache_command_failed_total{command=\"incr\"}", 1.0),
        ("distcache_command_calls_total{command=\"config|get\"}", 1.0),
        ("distcache_commands_processed_total", 8.0),
        ("distcache_connections_received_total", 1.0),
        ("distcache_error_replies_total{code=\"ERR\"}", 2.0),
        ("distcache_keyspace_hits_total", 2.0),
        ("distcache_keyspace_misses_total", 1.0),
        ("distcache_keyspace_writes_total", 2.0),
        ("distcache_keys{db=\"0\"}", 2.0),
        ("distcache_expiring_keys{db=\"0\"}", 1.0),
    ] {
        assert_eq!(moved(series), by, "{series}");
    }
    for series in [
        "distcache_command_seconds_total{command=\"get\"}",
        "distcache_network_input_bytes_total",
        "distcache_network_output_bytes_total",
        "distcache_memory_data_bytes",
        "distcache_log_syncs_total",
        "distcache_log_bytes{part=\"frames\"}",
    ] {
        assert!(moved(series) > 0.0, "{series}");
    }
    for (series, value) in [
        ("distcache_ready", 1.0),
        ("distcache_loading", 0.0),
        ("distcache_shards", 2.0),
        ("distcache_memory_max_bytes", 100.0 * 1024.0 * 1024.0),
        ("distcache_log_enabled", 1.0),
        ("distcache_log_failed", 0.0),
        ("distcache_log_fsync_policy{policy=\"always\"}", 1.0),
        ("distcache_log_fsync_policy{policy=\"everysec\"}", 0.0),
        ("distcache_cluster_members{state=\"up\"}", 1.0),
        ("distcache_cluster_partitions_served", 1024.0),
        ("distcache_cluster_partitions_unserved", 0.0),
        ("distcache_raft_is_leader", 1.0),
        ("distcache_raft_voters", 1.0),
        ("distcache_keys{db=\"15\"}", 0.0),
    ] {
        assert_eq!(after.value(series), value, "{series}");
    }
    let lease = after.value("distcache_cluster_lease_remaining_seconds");
    assert!(lease > 0.0 && lease <= 4.0, "{lease}");
    assert!(after.value("distcache_log_last_sync_timestamp_seconds") > 1.7e9);
    assert!(after.value("distcache_memory_resident_bytes") > 1e6);
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    let build = after.values.keys().find(|series| series.starts_with("distcache_build_info{"));
    assert!(build.unwrap().contains(&version));
    wire.call(&["CONFIG", "RESETSTAT"]);
    assert_eq!(scrape(addr).value("distcache_keyspace_hits_total"), 0.0);
}

#[test]
fn a_node_without_a_log_has_no_metrics_of_one() {
    let (_server, addr) = node(&["--oplog", "off"]);
    let metrics = scrape(addr);
    assert_eq!(metrics.value("distcache_log_enabled"), 0.0);
    assert!(!metrics.types.contains_key("distcache_log_queued_bytes"));
}

#[test]
fn pages_methods_and_what_is_not_there() {
    let (_server, addr) = node(&[]);
    assert_eq!(
        (get(addr, "/health/live").status, &*get(addr, "/health/live").body),
        (200, "live\n")
    );
    let index = get(addr, "/");
    assert_eq!((index.status, &*index.headers["content-type"]), (200, "text/plain; charset=utf-8"));
    for page in ["/health/live", "/health/ready", "/metrics"] {
        assert!(index.body.contains(page), "{}", index.body);
        // What follows the question mark is for others.
        assert_eq!(get(addr, &format!("{page}?verbose=1")).status, 200);
        let head = ask(addr, "HEAD", page);
        assert_eq!((head.status, &*head.body), (200, ""), "{page}");
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
            let refused = ask(addr, method, page);
            assert_eq!(
                (refused.status, &*refused.headers["allow"]),
                (405, "GET, HEAD"),
                "{method}"
            );
        }
    }
    assert_eq!(ask(addr, "HEAD", "/health/live").headers["content-length"], "5");
    for path in ["/nothing", "/metrics/", "/health", "/../metrics"] {
        assert_eq!(get(addr, path).status, 404, "{path}");
    }
    assert_eq!(ask(addr, "POST", "/nothing").status, 404);
}

#[test]
fn who_sends_too_much_or_nonsense_is_refused() {
    let (server, addr) = node(&[]);
    let long = "x".repeat(64 * 1024);
    for request in [format!("GET / HTTP/1.1\r\nlong: {long}\r\n\r\n"), "a: b\r\n".repeat(2000)] {
        let request = if request.starts_with("GET") {
            request
        } else {
            format!("GET / HTTP/1.1\r\n{request}\r\n")
        };
        let mut stream = connect(addr);
        // The node may close before all is written.
        let _ = stream.write_all(request.as_bytes());
        let bytes = read_to_close(&mut stream);
        assert!(bytes.is_empty() || answer(&bytes).status == 431, "{bytes:?}");
    }
    for nonsense in ["\0\0\0\0\r\n\r\n", "PING\r\n\r\n", "GET / HTTP/9.9\r\n\r\n"] {
        let mut stream = connect(addr);
        stream.write_all(nonsense.as_bytes()).unwrap();
        let bytes = read_to_close(&mut stream);
        assert!(bytes.is_empty() || answer(&bytes).status == 400, "{nonsense:?}: {bytes:?}");
    }
    // A body is not read, however long it is said to be.
    let mut stream = connect(addr);
    write!(stream, "POST /metrics HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n").unwrap();
    assert_eq!(answer(&read_to_close(&mut stream)).status, 405);
    assert_eq!(server.connect().call(&["PING"]).raw, b"+PONG\r\n");
    assert_eq!(get(addr, "/health/live").status, 200);
}

#[test]
fn slow_clients_are_cut_off_and_too_many_are_closed_at_once() {
    let (_server, addr) = node(&[]);
    let started = Instant::now();
    let places = distcache_node::limits::HTTP_CONNECTIONS_MAX;
    let mut slow: Vec<TcpStream> = (0..places).map(|_| connect(addr)).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /health/live HTTP/1.1\r\nhost:").unwrap();
    }
    // All places are taken by now, so the next one is closed, with what it has sent unread.
    let mut beyond = connect(addr);
    let _ = beyond.write_all(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(read_to_close(&mut beyond), b"");
    assert!(started.elapsed() < HEADER_TIMEOUT, "the machine is too busy for this test");
    for stream in &mut slow {
        assert_eq!(read_to_close(stream), b"");
    }
    assert!(started.elapsed() >= HEADER_TIMEOUT);
    // The places are free again.
    wait_ready(addr, 200, "ready\n");
}

#[test]
fn the_port_is_told_can_be_chosen_and_switched_off() {
    let (server, addr) = node(&[]);
    let mut wire = server.connect();
    let info = String::from_utf8(wire.call(&["INFO", "server"]).raw).unwrap();
    assert!(info.contains(&format!("http_port:{}\r\n", addr.port())), "{info}");
    let told = String::from_utf8(wire.call(&["CONFIG", "GET", "http-port"]).raw).unwrap();
    assert!(told.contains("http-port"), "{told}");

    let silent = Server::node(&["--http-port", "0"]);
    let ports = fs::read_to_string(silent.dir().unwrap().join("data/ports")).unwrap();
    assert!(!ports.contains("http-port"), "{ports}");
    let info = String::from_utf8(silent.connect().call(&["INFO", "server"]).raw).unwrap();
    assert!(info.contains("http_port:0\r\n"), "{info}");

    let taken = addr.port().to_string();
    let dir = tempfile::tempdir().unwrap();
    let args = ["--port", "0", "--http-port", &taken, "--data-dir"];
    let output = Command::new(env!("CARGO_BIN_EXE_distcache-node"))
        .args(args)
        .arg(dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("listening on 127.0.0.1:{taken}")), "{said}");
}

fn start(dir: &Path, args: &[String]) -> Process {
    let output = fs::File::create(dir.join("output")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_distcache-node"));
    command.args(args).arg("--data-dir").arg(dir.join("data")).stdin(Stdio::null());
    Process(command.stdout(Stdio::null()).stderr(output).spawn().unwrap())
}

/// Waits until a process listens on its HTTP port, which its directory tells.
fn http_of(dir: &Path) -> SocketAddr {
    until(LIMIT, "the node's HTTP port", || {
        let ports = fs::read_to_string(dir.join("data/ports")).ok()?;
        let port = ports.lines().find_map(|line| line.strip_prefix("http-port "))?;
        Some(SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap())))
    })
}

#[test]
fn a_node_is_ready_once_it_has_its_cluster_and_no_more_when_it_loses_it() {
    // The buses are free ports of a moment ago: nodes must know each other's before they listen.
    let free = || TcpListener::bind("127.0.0.1:0").unwrap();
    let held = [free(), free()];
    let buses = held.each_ref().map(|listener| listener.local_addr().unwrap().port());
    drop(held);
    let seeds = buses.map(|bus| format!("127.0.0.1:{bus}")).join(",");
    let args = |bus: u16| {
        let bus = bus.to_string();
        ["--port", "0", "--bus-port", &bus, "--shards", "1", "--seeds", &seeds]
            .map(str::to_owned)
            .to_vec()
    };
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let first = start(dirs[0].path(), &args(buses[0]));
    let first_http = http_of(dirs[0].path());
    // The first seed creates the cluster only when the other one has answered.
    wait_ready(first_http, 503, "waiting for its cluster\n");
    assert_eq!(get(first_http, "/health/live").status, 200);
    let metrics = scrape(first_http);
    assert_eq!(metrics.value("distcache_ready"), 0.0);
    assert_eq!(metrics.value("distcache_loading"), 1.0);
    assert_eq!(metrics.value("distcache_cluster_lease_remaining_seconds"), 0.0);

    let second = start(dirs[1].path(), &args(buses[1]));
    let second_http = http_of(dirs[1].path());
    for addr in [first_http, second_http] {
        wait_ready(addr, 200, "ready\n");
        let deadline = Instant::now() + LIMIT;
        let know_each_other = |metrics: Exposition| {
            let links = ["to", "from"].map(|direction| {
                metrics.value(&format!("distcache_cluster_links{{direction=\"{direction}\"}}"))
            });
            let up = metrics.value("distcache_cluster_members{state=\"up\"}");
            up == 2.0 && links.iter().all(|links| (1.0..=3.0).contains(links))
        };
        while !know_each_other(scrape(addr)) {
            assert!(Instant::now() < deadline, "the nodes do not know each other");
        }
    }
    let leaders =
        [first_http, second_http].map(|addr| scrape(addr).value("distcache_raft_is_leader"));
    assert_eq!(leaders.iter().sum::<f64>(), 1.0);

    // With two nodes, one votes: without it the other one loses its lease.
    let (voter, other) = match leaders[0] == 1.0 {
        true => (first, second_http),
        false => (second, first_http),
    };
    drop(voter);
    let lost = "no lease: the node is not in touch with a majority of its cluster\n";
    wait_ready(other, 503, lost);
    assert_eq!(get(other, "/health/live").status, 200);
    assert_eq!(scrape(other).value("distcache_cluster_lease_remaining_seconds"), 0.0);
}

#[test]
fn a_scrape_does_not_wait_for_shards_that_are_busy() {
    let (server, addr) = node(&["--enable-debug-command", "yes"]);
    let mut wire = server.connect();
    wire.send_raw(b"DEBUG SLEEP 8\r\n").unwrap();
    // Until the shards sleep.
    let deadline = Instant::now() + LIMIT;
    let late = loop {
        let answer = get(addr, "/metrics");
        if answer.status == 503 {
            break answer;
        }
        assert!(Instant::now() < deadline, "the shards do not sleep");
    };
    assert_eq!(late.body, "the shards have not answered within 5 s\n");
    // Whether the node lives does not depend on them.
    assert_eq!(get(addr, "/health/live").status, 200);
    assert_eq!(wire.read().unwrap().raw, b"+OK\r\n");
    assert_eq!(get(addr, "/metrics").status, 200);
}
