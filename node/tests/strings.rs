//! String commands run on a keyspace without a node around it: the digits of `INCRBYFLOAT`
//! against a real `redis-server`, and the state against the fold of its records.
//!
//! Random choices come from a seed that is printed and taken from `DISTCACHE_TEST_SEED`;
//! `DISTCACHE_TEST_CASES` sets how many cases there are.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use distcache_node::command::{Args, Run, TABLE};
use distcache_node::keyspace::entry::Value;
use distcache_node::keyspace::{KeyHasher, Keyspace, ShardId};
use distcache_node::records::{DeleteCause, Operation, UnixMillis};
use distcache_protocol::resp::{ArgRange, ReplyBuffer, RespVersion};
use distcache_recovery::{FrameBuilder, RecordCursor};
use support::random::{Random, number_from_env, seed};
use support::server::Server;
use support::text::show_request;
use support::wire::Request;

#[test]
fn incrbyfloat_has_the_digits_of_redis() {
    const PAIRS: u64 = 5_000;
    const PAIRS_OF_A_BATCH: u64 = 100;
    let redis = Server::redis(&[]);
    let mut wire = redis.connect();
    let mut keyspace = keyspace();
    let mut random = Random::new(seed("incrbyfloat"));
    for _ in 0..number_from_env("DISTCACHE_TEST_CASES", PAIRS) / PAIRS_OF_A_BATCH {
        let pair = |_| {
            let (old, added) = (float(&mut random), float(&mut random));
            [request(&["SET", "f", &old]), request(&["INCRBYFLOAT", "f", &added])]
        };
        let requests: Vec<Request> = (0..PAIRS_OF_A_BATCH).flat_map(pair).collect();
        wire.send(&requests).unwrap();
        for pair in requests.chunks(2) {
            for request in pair {
                let expected = wire.read().unwrap().raw;
                let got = run(&mut keyspace, request);
                let show = |reply: &[u8]| reply.escape_ascii().to_string();
                let shown = || pair.iter().map(|r| show_request(r)).collect::<Vec<_>>().join("\n");
                assert_eq!(show(&got), show(&expected), "after\n{}", shown());
            }
        }
    }
}

/// Returns a number as a person or a program may write it, at times one that is refused.
fn float(random: &mut Random) -> String {
    #[rustfmt::skip]
    const BORDERS: &[&str] = &[
        "0x1p-16445", "0x1p-16446", "0x1.8p-16446", "1e-4951", "1e-4950", "1e-5000", "0e-5000",
        "1e4932", "-1e4932", "1.18973149535723176502e4932", "1.18973149535723176508e4932",
        "1e4933", "inf", "-INF", "+Infinity", "nan", "nan(1)", "0x", "0x.p1", "1e", "1e+", ".",
        "-.", ".5", "5.", "0x.8", "0X1P4", "0x1p", "1p4", "\t1", "1\n", "+ 1", "--1", "1.2.3",
        "1\0", "1e99999999999999999999", "0e99999999999999999999", "1e-99999999999999999999",
        "0x1.ffffffffffffffff8p0", "0x1.00000000000000008p0", "0x1.000000000000000080000001p0",
        "9223372036854775807", "-9223372036854775808", "18446744073709551615", "", "abc", "-0",
    ];
    match random.below(20) {
        0..3 => return (*random.pick(BORDERS)).to_owned(),
        // As long as a number may be, or one byte longer.
        3 => return format!("{}7", "0".repeat(5_117 + random.below(3))),
        _ => {}
    }
    let hexadecimal = random.chance(30);
    let digits: &[u8] = if hexadecimal { b"0123456789abcdefABCDEF" } else { b"0123456789" };
    let count = *random.pick(&[1, 2, 3, 5, 10, 17, 19, 20, 21, 25, 40, 100]);
    let mut text: String = (0..count).map(|_| char::from(*random.pick(digits))).collect();
    if random.chance(60) {
        text.insert(random.below(count + 1), '.');
    }
    if random.chance(50) {
        let decimal = [0, 1, 5, 10, 16, 17, 18, 20, 30, 50, 300, 4_000, 4_900, 4_930, 4_951];
        let binary = [0, 1, 5, 63, 64, 65, 100, 1_000, 16_000, 16_445];
        let power = *if hexadecimal { random.pick(&binary) } else { random.pick(&decimal) };
        let sign = *random.pick(&["", "-", "+"]);
        text.push_str(&format!("{}{sign}{power}", if hexadecimal { 'p' } else { 'E' }));
    }
    let prefix = if hexadecimal { "0x" } else { "" };
    format!("{}{prefix}{text}", random.pick(&["", "-", "+", ""]))
}

/// Keys of the random histories: few, so that commands meet each other's effects.
const KEYS: [&str; 6] = ["a", "b", "c", "d", "{t}1", ""];

#[test]
fn state_is_the_fold_of_its_records() {
    const HISTORIES: u64 = 500;
    const COMMANDS: usize = 60;
    let seed = seed("fold");
    for number in 0..number_from_env("DISTCACHE_TEST_CASES", HISTORIES) {
        let mut random = Random::new(seed ^ number << 32);
        let (mut live, mut replayed) = (keyspace(), keyspace());
        live.journal.set_enabled(true);
        // Low enough to be met by APPEND and SETRANGE.
        live.limits.string_bytes_max = 200;
        let mut now = 1_000_000;
        let mut history = Vec::new();
        for _ in 0..COMMANDS {
            now += random.below(800) as u64;
            live.begin(UnixMillis(now), 0);
            replayed.begin(UnixMillis(now), 0);
            let command = command(&mut random, now);
            history.push(show_request(&command));
            let reply = run(&mut live, &command);
            let records = live.journal.take(FrameBuilder::new());
            for record in RecordCursor::new(records.payload(), records.count()) {
                let record = record.unwrap();
                let is_expiry = matches!(
                    record.operation,
                    Operation::Delete { cause: DeleteCause::Expired, .. }
                );
                assert!(reply[0] != b'-' || is_expiry, "a refusal changed a key: {history:#?}");
                replayed.apply(&record);
            }
            assert_eq!(state(&live), state(&replayed), "number {number}, after {history:#?}");
        }
    }
}

/// All that a keyspace holds: sizes, and each key's value, representation and deadline.
fn state(keyspace: &Keyspace) -> (usize, usize, Vec<Option<String>>) {
    let size = keyspace.sizes()[0];
    let show = |key: &&str| {
        let entry = keyspace.inspect(key.as_bytes())?;
        let value = match entry.value() {
            Value::Integer(integer) => format!("integer {integer}"),
            Value::String(bytes) => format!("{:?}", bytes.escape_ascii().to_string()),
        };
        Some(format!("{value} growable {} until {:?}", entry.is_growable(), entry.deadline()))
    };
    (size.keys, size.volatile, KEYS.iter().map(show).collect())
}

fn command(random: &mut Random, now: u64) -> Request {
    #[rustfmt::skip]
    const VALUES: &[&str] = &[
        "", "0", "1", "-1", "007", "9223372036854775807", "3.14", "1e3", "abc", "hello world",
        "exactly-forty-four-bytes-of-text-in-a-value.",
        "a value that is long enough to meet the limit that this test sets, at its third piece",
    ];
    const NUMBERS: &[&str] = &["0", "1", "-1", "7", "100", "250", "9223372036854775807", "1.5"];
    let key = *random.pick(&KEYS);
    let (other, value) = (*random.pick(&KEYS), *random.pick(VALUES));
    let number = *random.pick(NUMBERS);
    let span = (random.below(3_000)).to_string();
    let point = (now + random.below(3_000) as u64 - 500).to_string();
    let seconds = random.below(3).to_string();
    match random.below(22) {
        0 => request(&["SET", key, value]),
        1 => request(&["SET", key, value, "PX", &span]),
        2 => request(&["SET", key, value, "PXAT", &point, *random.pick(&["NX", "XX", "GET"])]),
        3 => request(&["SET", key, value, "KEEPTTL", *random.pick(&["NX", "XX", "GET"])]),
        4 => request(&["SET", key, value, "EX", &seconds, "GET"]),
        5 => request(&["SETEX", key, &seconds, value]),
        6 => request(&["PSETEX", key, &span, value]),
        7 => request(&["SETNX", key, value]),
        8 => request(&["GETSET", key, value]),
        9 => request(&["GETEX", key, "PX", &span]),
        10 => request(&["GETEX", key, "PXAT", &point]),
        11 => request(&["GETEX", key, "PERSIST"]),
        12 => request(&["GETDEL", key]),
        13 => request(&["APPEND", key, value]),
        14 => request(&["SETRANGE", key, number, value]),
        15 => request(&["INCRBY", key, number]),
        16 => request(&["DECRBY", key, number]),
        17 => request(&["INCRBYFLOAT", key, number]),
        18 => request(&["MSET", key, value, other, number]),
        19 => request(&["MSETNX", key, value, other, number]),
        20 => request(&["MGET", key, other]),
        _ => request(&["LCS", key, other]),
    }
}

fn keyspace() -> Keyspace {
    Keyspace::new(ShardId { index: 0, count: 1 }, 1, KeyHasher::new(1))
}

fn request(words: &[&str]) -> Request {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

/// Runs a command as a shard does, and returns its reply.
fn run(keyspace: &mut Keyspace, request: &Request) -> Vec<u8> {
    let (mut buffer, mut ranges) = (Vec::new(), Vec::new());
    for argument in request {
        let start = buffer.len() as u32;
        buffer.extend_from_slice(argument);
        ranges.push(ArgRange { start, end: buffer.len() as u32 });
    }
    let command = TABLE.find(&request[0]).unwrap();
    assert!(command.spec.accepts(request.len()), "wrong number of arguments");
    let Run::Keyspace(function) = command.spec.run else { panic!("it runs on no keys") };
    let mut reply = ReplyBuffer::new(RespVersion::V2);
    if let Err(error) = function(keyspace, Args::new(&buffer, &ranges), &mut reply) {
        reply.truncate(0);
        error.write(&mut reply);
    }
    reply.into_bytes()
}
