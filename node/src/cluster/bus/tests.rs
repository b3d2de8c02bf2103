//! Buses over real sockets on loopback.

use std::collections::HashMap;
use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use distcache_protocol::peer::frame::HEADER_BYTES;
use distcache_protocol::peer::{FORWARD_LINKS_MAX, Frame, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::coop;

use super::limits::{
    BODY_COLLECTED_BYTES_MAX, CALL_EXTENSIONS_MAX, CALLS_MAX, ERROR_TEXT_BYTES_MAX, call_bytes_max,
    handled_max,
};
use super::wire::FrameWriter;
use super::*;

const ECHO: Kind = Kind::new(1);
const FAIL: Kind = Kind::new(2);
/// Answered when the test opens the gate.
const WAIT: Kind = Kind::new(3);
/// Replies with as many bytes as the body says.
const MANY: Kind = Kind::new(4);
/// Replies with the name of the thread.
const WHERE: Kind = Kind::new(5);
const UNKNOWN: Kind = Kind::new(63);

/// Longer than any test takes on a machine that is not broken.
const PATIENCE: Duration = Duration::from_secs(60);
/// Short, for calls that cannot succeed.
const BRIEF: Duration = Duration::from_millis(50);

struct TestService {
    gate: Arc<Semaphore>,
    /// What began and ended, as (from, ended, first byte of the body).
    seen: Arc<Mutex<Vec<(NodeId, bool, u8)>>>,
}

impl Service for TestService {
    fn handle(&self, from: PeerIdentity, class: Class, kind: Kind, body: Bytes) -> Handling {
        let (gate, seen) = (self.gate.clone(), self.seen.clone());
        Box::pin(async move {
            let first = body.first().copied().unwrap_or(0);
            locked(&seen).push((from.node, false, first));
            if kind == WAIT {
                gate.acquire().await.unwrap().forget();
            }
            tokio::task::yield_now().await;
            locked(&seen).push((from.node, true, first));
            match kind {
                ECHO | WAIT => Ok(body),
                FAIL => Err("é".repeat(ERROR_TEXT_BYTES_MAX)),
                MANY => Ok(Bytes::from(vec![1; String::from_utf8_lossy(&body).parse().unwrap()])),
                WHERE => Ok(Bytes::from(thread::current().name().unwrap_or_default().to_owned())),
                kind => Err(unknown_kind(class, kind)),
            }
        })
    }
}

struct TestNode {
    bus: Bus,
    id: NodeId,
    address: SocketAddr,
    gate: Arc<Semaphore>,
    seen: Arc<Mutex<Vec<(NodeId, bool, u8)>>>,
}

fn config(id: u64, secret: &str) -> BusConfig {
    BusConfig {
        node: NodeId(id),
        incarnation: Incarnation(clock::random_seed()),
        cluster: Some(ClusterId(9)),
        secret: Secret::new(secret),
    }
}

fn start_at(config: BusConfig, address: SocketAddr) -> TestNode {
    start_with(config, address, Threads::here())
}

fn start_with(config: BusConfig, address: SocketAddr, threads: Threads) -> TestNode {
    let listener = std::net::TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    let (gate, seen) = (Arc::new(Semaphore::new(0)), Arc::default());
    let service = TestService { gate: gate.clone(), seen: Arc::clone(&seen) };
    let id = config.node;
    let bus = Bus::start(config, listener, Arc::new(service), threads).unwrap();
    TestNode { bus, id, address, gate, seen }
}

fn start(config: BusConfig) -> TestNode {
    start_at(config, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
}

impl TestNode {
    fn knows(&self, others: &[&TestNode]) {
        let address = |node: &&TestNode| (node.id, node.address.to_string());
        self.bus.set_peers(&others.iter().map(address).collect());
    }

    async fn ask(&self, to: &TestNode, class: Class, kind: Kind, body: &[u8]) -> BusResult {
        let body = Bytes::copy_from_slice(body);
        self.bus.call(to.id, class, kind, body, PATIENCE).await
    }

    async fn probe(&self, address: SocketAddr) -> Result<PeerIdentity, BusError> {
        self.bus.probe(&address.to_string(), PATIENCE).await
    }
}

type BusResult = Result<Bytes, BusError>;

/// Two nodes that know each other.
fn pair() -> (TestNode, TestNode) {
    let (a, b) = (start(config(1, "s")), start(config(2, "s")));
    a.knows(&[&b]);
    b.knows(&[&a]);
    (a, b)
}

/// Waits until something is so.
async fn until(mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            clock::sleep(Duration::from_millis(1)).await;
        }
    };
    clock::within(Some(PATIENCE), waiting).await.unwrap();
}

#[tokio::test]
async fn replies_find_their_calls_in_every_class_and_size() {
    let (a, b) = pair();
    let forward = [Class::Forward(0), Class::Forward(FORWARD_LINKS_MAX - 1)];
    for class in [Class::Control, Class::Replication, Class::Bulk].into_iter().chain(forward) {
        let bodies = [0, 1, 5000, 100_000, class.body_bytes_max()].map(|bytes| vec![7; bytes]);
        for body in &bodies {
            assert!(a.ask(&b, class, ECHO, body).await.unwrap() == body[..]);
        }
        let BusError::Failed { peer, text } = a.ask(&b, class, FAIL, b"").await.unwrap_err() else {
            panic!("not an error reply");
        };
        assert_eq!((peer, text.len()), (b.id, ERROR_TEXT_BYTES_MAX));
        let unknown = a.ask(&b, class, UNKNOWN, b"").await.unwrap_err();
        assert!(unknown.to_string().contains("no request of kind 63"), "{unknown}");
        assert_eq!(a.ask(&b, class, ECHO, b"on").await.unwrap(), "on");
    }
}

/// The runtime of a thread with a name, which ends with the process.
fn thread_named(name: &str) -> Handle {
    let (sender, handle) = std::sync::mpsc::channel();
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        sender.send(runtime.handle().clone()).unwrap();
        runtime.block_on(std::future::pending::<()>());
    };
    thread::Builder::new().name(name.to_owned()).spawn(run).unwrap();
    handle.recv().unwrap()
}

#[tokio::test]
async fn a_request_is_handled_on_the_thread_of_its_connection() {
    let forward = ["first", "second"].map(thread_named).to_vec();
    let threads = Threads { control: thread_named("control"), forward };
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (a, b) = (start(config(1, "s")), start_with(config(2, "s"), local, threads));
    a.knows(&[&b]);
    for (class, name) in [
        (Class::Control, "control"),
        (Class::Forward(0), "first"),
        (Class::Forward(1), "second"),
        (Class::Forward(2), "first"),
        (Class::Replication, thread::current().name().unwrap()),
        (Class::Bulk, thread::current().name().unwrap()),
    ] {
        assert_eq!(a.ask(&b, class, WHERE, b"").await.unwrap(), name, "{class:?}");
    }
    // Several connections, which stay open.
    let forward = a.bus.links().len() - 3;
    assert_eq!(forward, 3, "{:?}", a.bus.links());
}

#[tokio::test]
async fn a_slow_request_does_not_hold_up_others() {
    let (a, b) = pair();
    let slow = a.ask(&b, Class::Control, WAIT, b"slow");
    let others = async {
        for at in 0..1000u32 {
            let body = at.to_be_bytes();
            assert_eq!(a.ask(&b, Class::Control, ECHO, &body).await.unwrap()[..], body);
        }
        b.gate.add_permits(1);
    };
    assert_eq!(tokio::join!(slow, others).0.unwrap(), "slow");
}

#[tokio::test]
async fn bulk_requests_are_handled_one_by_one_in_the_order_of_their_calls() {
    let (a, b) = pair();
    let a = Arc::new(a);
    let calls: Vec<_> = (0..100u8)
        .map(|at| {
            let (bus, to) = (a.bus.clone(), b.id);
            let body = Bytes::from(vec![at; usize::from(at) * 1000]);
            tokio::spawn(async move { bus.call(to, Class::Bulk, ECHO, body, PATIENCE).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let expected: Vec<_> = (0..100).flat_map(|at| [(a.id, false, at), (a.id, true, at)]).collect();
    assert_eq!(*locked(&b.seen), expected);
}

#[tokio::test]
async fn a_call_is_not_overtaken_by_the_next_one_of_a_task_that_has_done_much() {
    let (a, b) = pair();
    // The runtime makes a task wait then, whatever it asks for.
    while coop::has_budget_remaining() {
        coop::consume_budget().await;
    }
    let bodies = [[0], [1]];
    let mut calls = bodies.each_ref().map(|body| Box::pin(a.ask(&b, Class::Bulk, ECHO, body)));
    for call in &mut calls {
        poll_fn(|context| Poll::Ready(call.as_mut().poll(context).is_pending())).await;
        tokio::task::yield_now().await;
    }
    for call in calls {
        call.await.unwrap();
    }
    let seen: Vec<u8> = locked(&b.seen).iter().map(|(_, _, first)| *first).collect();
    assert_eq!(seen, [0, 0, 1, 1]);
}

#[tokio::test]
async fn requests_handled_at_once_are_bounded_and_the_others_follow() {
    let (a, b) = pair();
    let max = handled_max(Class::Control);
    let calls: Vec<_> = (0..2 * max)
        .map(|_| {
            let (bus, to) = (a.bus.clone(), b.id);
            tokio::spawn(bus_call(bus, to, WAIT))
        })
        .collect();
    until(|| locked(&b.seen).len() == max).await;
    // Nobody who is let in later was handled before.
    b.gate.add_permits(1);
    until(|| locked(&b.seen).len() == max + 2).await;
    b.gate.add_permits(2 * max - 1);
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

async fn bus_call(bus: Bus, to: NodeId, kind: Kind) -> BusResult {
    bus.call(to, Class::Control, kind, Bytes::from_static(b"x"), PATIENCE).await
}

#[tokio::test]
async fn more_calls_than_may_be_under_way_are_refused_at_once() {
    let (a, b) = pair();
    let calls: Vec<_> =
        (0..CALLS_MAX).map(|_| tokio::spawn(bus_call(a.bus.clone(), b.id, WAIT))).collect();
    until(|| !locked(&b.seen).is_empty()).await;
    let busy = bus_call(a.bus.clone(), b.id, ECHO).await.unwrap_err();
    assert!(matches!(busy, BusError::Busy { .. }), "{busy}");
    // Another class has room of its own.
    assert_eq!(a.ask(&b, Class::Bulk, ECHO, b"y").await.unwrap(), "y");
    b.gate.add_permits(CALLS_MAX);
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn calls_beyond_the_bytes_that_may_be_under_way_wait_for_room() {
    let (a, b) = pair();
    let body = vec![1; Class::Control.body_bytes_max()];
    let fitting = call_bytes_max(Class::Control) / body.len();
    let calls: Vec<_> = (0..2 * fitting)
        .map(|_| {
            let (bus, to, body) = (a.bus.clone(), b.id, Bytes::from(body.clone()));
            tokio::spawn(async move { bus.call(to, Class::Control, WAIT, body, PATIENCE).await })
        })
        .collect();
    until(|| locked(&b.seen).len() == fitting).await;
    let small = a.bus.call(b.id, Class::Control, ECHO, Bytes::new(), BRIEF).await.unwrap_err();
    assert!(matches!(small, BusError::TimedOut { .. }), "{small}");
    b.gate.add_permits(2 * fitting);
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().len(), body.len());
    }
}

#[tokio::test]
async fn too_long_requests_and_replies_are_errors_of_their_call_alone() {
    let (a, b) = pair();
    let max = Class::Control.body_bytes_max();
    let request = a.ask(&b, Class::Control, ECHO, &vec![0; max + 1]).await.unwrap_err();
    assert!(matches!(request, BusError::TooLong { .. }), "{request}");
    let many = (max + 1).to_string();
    let reply = a.ask(&b, Class::Control, MANY, many.as_bytes()).await.unwrap_err();
    assert!(reply.to_string().contains("ask for less"), "{reply}");
    assert_eq!(a.ask(&b, Class::Control, ECHO, b"on").await.unwrap(), "on");
}

#[tokio::test]
async fn what_is_longer_than_a_frame_goes_in_parts_and_others_pass() {
    let (a, b) = pair();
    let forward = Class::Forward(3);
    let long: Vec<u8> = (0..forward.body_bytes_max() + 5).map(|at| (at % 251) as u8).collect();
    // Longer than all that may be under way, so counted as less.
    let longest = vec![9; call_bytes_max(forward) + 1];
    let answered = Mutex::new(Vec::new());
    let ask = |name: &'static str, body: Vec<u8>| {
        let (a, b, answered) = (&a, &b, &answered);
        async move {
            let reply = a.ask(b, forward, ECHO, &body).await.unwrap();
            assert!(reply == body, "{name}");
            locked(answered).push(name);
        }
    };
    tokio::join!(ask("longest", longest), ask("short", vec![1]));
    ask("long", long).await;
    assert_eq!(*locked(&answered), ["short", "longest", "long"]);
    // No other class has it, and it is refused before it is sent.
    let bytes = Class::Bulk.body_bytes_max() + 1;
    let refused = a.ask(&b, Class::Bulk, ECHO, &vec![0; bytes]).await.unwrap_err();
    assert!(matches!(refused, BusError::TooLong { .. }), "{refused}");
}

#[tokio::test]
async fn a_call_has_time_while_parts_of_long_messages_move_and_not_for_ever() {
    // It is polled once or twice each time that it has.
    let most = 1 + CALL_EXTENSIONS_MAX;
    for (moves, polls) in [(0, 1..=2), (3, 4..=6), (usize::MAX, most..=2 * most)] {
        let (parts, mut polled) = (AtomicUsize::new(0), 0);
        let asking = poll_fn(|_| -> Poll<()> {
            parts.fetch_add(usize::from(polled < moves), Relaxed);
            polled += 1;
            Poll::Pending
        });
        assert_eq!(link::while_moving(BRIEF / 50, &parts, asking).await, None);
        assert!(polls.contains(&polled), "{polled} of {polls:?}");
    }
}

#[tokio::test]
async fn a_call_that_times_out_leaves_the_connection_to_others() {
    let (a, b) = pair();
    let late = a.bus.call(b.id, Class::Control, WAIT, Bytes::new(), BRIEF).await.unwrap_err();
    assert!(matches!(late, BusError::TimedOut { .. }) && late.is_outcome_unknown(), "{late}");
    // Its reply comes now, to nobody.
    b.gate.add_permits(1);
    assert_eq!(a.ask(&b, Class::Control, ECHO, b"on").await.unwrap(), "on");
}

/// Calls until there is an answer; the peer may be about to start.
async fn ask_until_answered(from: &TestNode, to: NodeId) {
    let asking = async {
        while from.bus.call(to, Class::Control, ECHO, Bytes::new(), PATIENCE).await.is_err() {
            clock::sleep(Duration::from_millis(5)).await;
        }
    };
    clock::within(Some(PATIENCE), asking).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_restarts_is_dialled_again_at_its_old_or_its_new_address() {
    let (a, b) = pair();
    a.ask(&b, Class::Control, ECHO, b"").await.unwrap();
    let lost = tokio::spawn(bus_call(a.bus.clone(), b.id, WAIT));
    until(|| locked(&b.seen).len() == 3).await;
    b.bus.stop(Duration::ZERO).await;
    let lost = lost.await.unwrap().unwrap_err();
    assert!(matches!(lost, BusError::Lost { .. }) && lost.is_outcome_unknown(), "{lost}");
    until(|| std::net::TcpListener::bind(b.address).is_ok()).await;
    let down = a.ask(&b, Class::Bulk, ECHO, b"").await.unwrap_err();
    assert!(matches!(down, BusError::Unreachable { .. }) && !down.is_outcome_unknown(), "{down}");

    let back = start_at(config(2, "s"), b.address);
    ask_until_answered(&a, back.id).await;
    let moved = start(config(2, "s"));
    a.knows(&[&moved]);
    a.ask(&moved, Class::Control, ECHO, b"").await.unwrap();
    assert_eq!(locked(&moved.seen).len(), 2);
    a.knows(&[]);
    let unknown = a.ask(&moved, Class::Control, ECHO, b"").await.unwrap_err();
    assert_eq!(unknown, BusError::UnknownPeer(moved.id));
}

#[tokio::test]
async fn a_stop_lets_requests_under_way_end() {
    let (a, b) = pair();
    let call = tokio::spawn(bus_call(a.bus.clone(), b.id, WAIT));
    until(|| !locked(&b.seen).is_empty()).await;
    b.gate.add_permits(1);
    b.bus.stop(PATIENCE).await;
    assert_eq!(call.await.unwrap().unwrap(), "x");
    let stopped = b.ask(&a, Class::Control, ECHO, b"").await.unwrap_err();
    assert_eq!(stopped, BusError::Stopped);
    std::net::TcpListener::bind(b.address).unwrap();
}

#[tokio::test]
async fn a_probe_tells_who_is_there() {
    let (a, b) = pair();
    a.ask(&b, Class::Control, ECHO, b"").await.unwrap();
    let found = a.probe(b.address).await.unwrap();
    assert_eq!((found.node, found.cluster), (b.id, Some(ClusterId(9))));
    assert_eq!(a.probe(a.address).await.unwrap().node, a.id);
    let blank = start(BusConfig { cluster: None, ..config(3, "s") });
    assert_eq!(a.probe(blank.address).await.unwrap().cluster, None);
    assert_eq!(blank.probe(a.address).await.unwrap().cluster, Some(ClusterId(9)));
    blank.bus.set_cluster(ClusterId(9));
    assert_eq!(a.probe(blank.address).await.unwrap().cluster, Some(ClusterId(9)));
    let foreign = start(BusConfig { cluster: Some(ClusterId(8)), ..config(3, "s") });
    assert_eq!(a.probe(foreign.address).await.unwrap().cluster, Some(ClusterId(8)));
    let copy = start(config(1, "s"));
    let found = a.probe(copy.address).await.unwrap();
    assert_eq!(found.node, a.id);
    assert_ne!(found.incarnation, a.probe(a.address).await.unwrap().incarnation);
    // It did not take the place of the connection that was there.
    assert_eq!(a.ask(&b, Class::Control, ECHO, b"on").await.unwrap(), "on");
}

#[tokio::test]
async fn what_was_asked_of_a_peer_that_is_none_any_more_is_answered_still() {
    let (a, b) = pair();
    let (asked, bus, to) = (Bytes::from("asked"), a.bus.clone(), b.id);
    let call =
        tokio::spawn(async move { bus.call(to, Class::Control, WAIT, asked, PATIENCE).await });
    until(|| !locked(&b.seen).is_empty()).await;
    a.knows(&[]);
    let error = a.ask(&b, Class::Control, ECHO, b"more").await.unwrap_err();
    assert!(matches!(error, BusError::UnknownPeer(_)), "{error}");
    b.gate.add_permits(1);
    assert_eq!(call.await.unwrap().unwrap(), "asked");

    // But not for ever.
    a.knows(&[&b]);
    let bus = a.bus.clone();
    let call =
        tokio::spawn(
            async move { bus.call(to, Class::Control, WAIT, Bytes::new(), PATIENCE).await },
        );
    until(|| locked(&b.seen).len() == 3).await;
    a.knows(&[]);
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, BusError::Lost { .. }) && error.is_outcome_unknown(), "{error}");
}

#[tokio::test]
async fn who_does_not_fit_is_refused_with_a_reason() {
    let a = start(config(1, "s"));
    let other_cluster = BusConfig { cluster: Some(ClusterId(8)), ..config(2, "s") };
    let cases = [
        (config(2, "t"), Reason::SecretWrong),
        (config(2, ""), Reason::SecretMissing),
        (other_cluster, Reason::Cluster),
        (config(3, "s"), Reason::PeerId),
        (config(1, "s"), Reason::DuplicateId),
    ];
    for (other, expected) in cases {
        let other = start(other);
        let address = other.address.to_string();
        a.bus.set_peers(&HashMap::from([(NodeId(2), address.clone())]));
        let call = a.bus.call(NodeId(2), Class::Control, ECHO, Bytes::new(), PATIENCE);
        let BusError::Refused { refusal, address: at } = call.await.unwrap_err() else {
            panic!("not refused: {expected:?}");
        };
        assert_eq!((refusal.reason, at), (expected, address));
        assert!(locked(&other.seen).is_empty());
    }
}

#[tokio::test]
async fn two_processes_with_one_id_are_told_apart_by_a_third() {
    let c = start(config(3, "s"));
    let (first, second) = (start(config(1, "s")), start(config(1, "s")));
    for node in [&first, &second] {
        node.knows(&[&c]);
        node.ask(&c, Class::Control, ECHO, b"").await.unwrap();
    }
    // Its connection was replaced; when it comes back, both are known to run.
    let asking = async {
        loop {
            match first.ask(&c, Class::Control, ECHO, b"").await {
                Err(BusError::Refused { refusal, .. }) => break refusal,
                Err(BusError::Lost { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    let refusal = clock::within(Some(PATIENCE), asking).await.unwrap();
    assert_eq!(refusal.reason, Reason::DuplicateId);
    second.ask(&c, Class::Control, ECHO, b"").await.unwrap();
}

#[tokio::test]
async fn what_is_not_a_distcache_is_told_so() {
    let a = start(config(1, "s"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"-ERR unknown command 'DCBUS1'\r\n").await.unwrap();
        // The connection stays until the other side closes it.
        let _ = stream.read(&mut [0; 64]).await;
        let (stream, _) = listener.accept().await.unwrap();
        drop(stream);
    });
    let error = a.probe(address).await.unwrap_err();
    assert!(matches!(error, BusError::NotDistcache { .. }), "{error}");
    assert!(error.to_string().contains("-ERR unknown"), "{error}");
    let error = a.probe(address).await.unwrap_err();
    assert!(matches!(error, BusError::Unreachable { .. }), "{error}");
}

/// Opens a connection to `to` as node 77 with the right secret, and writes `bytes` behind the
/// handshake.
async fn intrude(to: &TestNode, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(to.address).await.unwrap();
    let identity = Identity { node: 77, incarnation: 1, cluster: Some(9) };
    let local = Local { identity, secret: Secret::new("s"), nonce: clock::nonce().unwrap() };
    let expected = Some(to.id.0);
    let mut handshake = distcache_protocol::peer::Handshake::dial(local, Class::Control, expected);
    wire::greet(&mut stream, &mut handshake, &mut bytes::BytesMut::new()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

/// Waits until the other side has closed the connection.
async fn closed(mut stream: TcpStream) {
    let mut sink = Vec::new();
    // A reset is as good an end.
    let _ = clock::within(Some(PATIENCE), stream.read_to_end(&mut sink)).await.unwrap();
}

#[tokio::test]
async fn garbage_ends_its_own_connection_only() {
    let (a, b) = pair();
    a.ask(&b, Class::Control, ECHO, b"").await.unwrap();
    let length = |length: u32| length.to_be_bytes();
    let too_long = length(Class::Control.body_bytes_max() as u32 + HEADER_BYTES as u32);
    let cases: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &length(3),
        &too_long,
        &[0, 0, 0, 10, 99, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        &[0, 0, 0, 10, VERSION_MAX, 0x41, 0, 0, 0, 0, 0, 0, 0, 1],
    ];
    for case in cases {
        closed(intrude(&b, case).await).await;
    }
    let mut stranger = TcpStream::connect(b.address).await.unwrap();
    stranger.write_all(b"PING\r\n").await.unwrap();
    closed(stranger).await;
    // Half a frame, and then the end.
    let mut half = intrude(&b, &[0, 0, 0, 100, VERSION_MAX, 0]).await;
    half.shutdown().await.unwrap();
    closed(half).await;
    assert_eq!(a.ask(&b, Class::Control, ECHO, b"on").await.unwrap(), "on");
    assert_eq!(locked(&b.seen).iter().filter(|seen| seen.0 == NodeId(77)).count(), 0);
}

#[tokio::test]
async fn a_peer_that_floods_and_reads_nothing_is_not_read_any_further() {
    let (a, b) = pair();
    // Each reply is larger than what sockets hold, and nobody reads them.
    let many = (Class::Control.body_bytes_max()).to_string();
    let mut request = (10 + many.len() as u32).to_be_bytes().to_vec();
    request.extend([VERSION_MAX, MANY.number(), 0, 0, 0, 0, 0, 0, 0, 1]);
    request.extend(many.as_bytes());
    let requests = 4 * handled_max(Class::Control);
    let _stream = intrude(&b, &request.repeat(requests)).await;
    let max = 2 * handled_max(Class::Control);
    until(|| locked(&b.seen).len() >= max).await;
    for _ in 0..100 {
        assert_eq!(a.ask(&b, Class::Control, ECHO, b"on").await.unwrap(), "on");
    }
    let handled = locked(&b.seen).iter().filter(|seen| seen.0 == NodeId(77) && seen.1).count();
    assert!(handled < requests, "{handled} of {requests} requests were handled");
}

#[tokio::test]
async fn three_nodes_call_each_other_at_the_same_time() {
    let nodes = [1, 2, 3].map(|id| start(config(id, "s")));
    let everybody: Vec<&TestNode> = nodes.iter().collect();
    nodes.iter().for_each(|node| node.knows(&everybody));
    let mut calls = Vec::new();
    for from in &nodes {
        for to in nodes.iter().filter(|to| to.id != from.id) {
            for at in 0..300u64 {
                let (bus, to) = (from.bus.clone(), to.id);
                let class = Class::all().nth(at as usize % Class::COUNT).unwrap();
                let body = Bytes::from(at.to_be_bytes().repeat(1 + at as usize * 10));
                calls.push(tokio::spawn(async move {
                    let echo = bus.call(to, class, ECHO, body.clone(), PATIENCE).await.unwrap();
                    assert!(echo == body);
                }));
            }
        }
    }
    for call in calls {
        call.await.unwrap();
    }
}

#[tokio::test]
async fn what_a_peer_does_not_take_shows_as_unsent() {
    let (near, mut far) = tokio::io::duplex(64);
    let mut writer = FrameWriter::new(near, 1);
    let links = OpenLinks::default();
    let _open = links.add(Direction::To, NodeId(2), writer.sending());
    let body = Bytes::from(vec![7; BODY_COLLECTED_BYTES_MAX + 1]);
    let frame = Frame { role: Role::Request, kind: ECHO, id: 1, body: body.clone() };
    let writing = tokio::spawn(async move {
        writer.write(&frame).await.unwrap();
        writer.flush().await.unwrap();
        writer
    });
    let body_is_unsent = async {
        let mut arrived = [0; HEADER_BYTES];
        far.read_exact(&mut arrived).await.unwrap();
        while links.list()[0].unsent_bytes != body.len() {
            tokio::task::yield_now().await;
        }
    };
    clock::within(Some(PATIENCE), body_is_unsent).await.unwrap();
    let mut arrived = vec![0; body.len()];
    far.read_exact(&mut arrived).await.unwrap();
    assert_eq!(arrived, body);
    let _writer = writing.await.unwrap();
    let link = links.list()[0];
    assert_eq!(link.unsent_bytes, 0);
    assert!(link.buffer_bytes >= HEADER_BYTES);
}
