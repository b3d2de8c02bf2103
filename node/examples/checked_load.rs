//! Load whose every reply is checked: each key has one writer, which knows what the next reply must
//! be, so what is lost or done twice shows at once. For campaigns that need more operations a
//! second than a script makes; `scripts/cluster_moves.py` uses it.
//!
//! ```text
//! checked_load --nodes 127.0.0.1:2050,127.0.0.1:2060 --cluster-nodes 127.0.0.1:2051 --rate 20000
//! ```
//!
//! The keys come from standard input, a line each, up to an empty line. It writes all of them,
//! prints `ready`, and works until the input ends; a line there begins a phase of that name. Then
//! it reads all keys once more through every node, and prints one line of JSON.
//! Exits with 0 if all was right, 1 if a reply was wrong or there was none, 2 if it could not run.

#![allow(clippy::disallowed_methods, reason = "a client: it measures what a node answers")]
#![allow(clippy::print_stdout, reason = "its report")]

use std::io::BufRead;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use clap::Parser;
use redis::cluster::{ClusterClient, ClusterConnection};
use redis::{Client, Connection, RedisResult, Value};

/// A reply must come within this time.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Keys that are read at the end in one turn.
const CHECKED_AT_ONCE: usize = 200;

#[derive(Parser)]
struct Options {
    /// Nodes, host:port each: one plain client for each.
    #[arg(long, value_delimiter = ',', required = true)]
    nodes: Vec<String>,
    /// Direct ports, host:port each: one cluster client, which knows the slots, for each. These
    /// send one command after the other.
    #[arg(long, value_delimiter = ',')]
    cluster_nodes: Vec<String>,
    /// Commands that a plain client sends before it reads their replies.
    #[arg(long, default_value_t = 32)]
    pipeline: usize,
    /// Operations a second of all clients; 0 is as many as there can be.
    #[arg(long, default_value_t = 0)]
    rate: u32,
    /// Bytes of values, which the keys take in turn: these are set and read. A value of 0 bytes is
    /// a counter, which is incremented.
    #[arg(long, value_delimiter = ',', default_value = "0")]
    values: Vec<usize>,
}

/// A key, and what its one writer has done to it.
struct Key {
    name: String,
    /// Bytes of the value; 0 for a counter.
    bytes: usize,
    /// Number of its last write.
    serial: u64,
}

impl Key {
    /// The value after the last write.
    fn value(&self) -> Vec<u8> {
        let head = self.serial.to_string();
        if self.bytes == 0 {
            return head.into_bytes();
        }
        let unit = format!("{head} {} ", self.name);
        let mut value = unit.repeat(self.bytes.div_ceil(unit.len())).into_bytes();
        value.truncate(self.bytes.max(head.len() + 1));
        value
    }

    fn write(&mut self) -> redis::Cmd {
        self.serial += 1;
        match self.bytes {
            0 => redis::Cmd::incr(&self.name, 1),
            _ => redis::Cmd::set(&self.name, self.value()),
        }
    }

    /// What is wrong with the reply to the last command, if something is.
    fn fault(&self, wrote: bool, reply: &Value) -> Option<String> {
        let is_right = match (wrote, self.bytes, reply) {
            (true, 0, Value::Int(reply)) => u64::try_from(*reply) == Ok(self.serial),
            (true, 0, _) => false,
            (true, _, reply) => *reply == Value::Okay,
            (false, _, Value::BulkString(found)) => *found == self.value(),
            (false, ..) => false,
        };
        let (name, serial) = (&self.name, self.serial);
        let shown = || format!("{reply:?}").chars().take(120).collect::<String>();
        (!is_right).then(|| format!("{name} after write {serial}, wrote: {wrote}: {}", shown()))
    }
}

/// A client of either kind.
enum Asked {
    Plain(Connection),
    Cluster(Box<ClusterConnection>),
}

impl Asked {
    fn plain(node: &str) -> RedisResult<Self> {
        let connection = Client::open(format!("redis://{node}"))?.get_connection()?;
        connection.set_read_timeout(Some(TIMEOUT))?;
        Ok(Asked::Plain(connection))
    }

    fn cluster(node: &str) -> RedisResult<Self> {
        let client = ClusterClient::builder([format!("redis://{node}")]).build()?;
        let connection = client.get_connection()?;
        connection.set_read_timeout(Some(TIMEOUT))?;
        Ok(Asked::Cluster(Box::new(connection)))
    }

    fn ask(&mut self, commands: Vec<redis::Cmd>) -> RedisResult<Vec<Value>> {
        match self {
            Asked::Plain(connection) => {
                let mut pipe = redis::pipe();
                commands.into_iter().for_each(|command| _ = pipe.add_command(command));
                pipe.query(connection)
            }
            // One by one: of a pipeline the library hands a MOVED on instead of following it.
            Asked::Cluster(connection) => {
                commands.iter().map(|command| command.query(connection)).collect()
            }
        }
    }
}

/// What all clients share.
struct Course {
    phase: AtomicUsize,
    stops: AtomicBool,
    preloaded: AtomicUsize,
}

/// Some commands that were sent together, and answered.
struct Turn {
    phase: usize,
    commands: usize,
    took: Duration,
}

/// What a client has done.
#[derive(Default)]
struct Done {
    keys: Vec<Key>,
    turns: Vec<Turn>,
    /// What was wrong, if something was, and when.
    fault: Option<(Instant, String)>,
}

impl Done {
    /// What was wrong, and how long into which phase.
    fn told_fault(&self, phases: &[(String, Instant)]) -> Option<String> {
        let (at, what) = self.fault.as_ref()?;
        let (phase, begun) = phases.iter().rfind(|(_, begun)| begun <= at).unwrap_or(&phases[0]);
        let seconds = at.saturating_duration_since(*begun).as_secs_f64();
        Some(format!("{phase}, {seconds:.1} s: {what}"))
    }

    /// Has some commands executed, and checks the replies: `true` are writes.
    fn turn(&mut self, asked: &mut Asked, turn: &[(usize, bool)]) -> Result<Duration, String> {
        let command = |&(key, writes): &(usize, bool)| match writes {
            true => self.keys[key].write(),
            false => redis::Cmd::get(&self.keys[key].name),
        };
        let commands = turn.iter().map(command).collect();
        let begun = Instant::now();
        let replies = asked.ask(commands).map_err(|error| error.to_string())?;
        let took = begun.elapsed();
        for (&(key, wrote), reply) in turn.iter().zip(&replies) {
            self.keys[key].fault(wrote, reply).map_or(Ok(()), Err)?;
        }
        Ok(took)
    }

    /// Writes all keys, then some of them in turn until told to stop.
    fn work(
        &mut self,
        asked: &mut Asked,
        pipeline: usize,
        pause: Duration,
        course: &Course,
    ) -> Result<(), String> {
        let all: Vec<(usize, bool)> = (0..self.keys.len()).map(|key| (key, true)).collect();
        for part in all.chunks(pipeline) {
            self.turn(asked, part)?;
        }
        course.preloaded.fetch_add(1, Relaxed);
        let (mut next, mut due, half) = (0, Instant::now(), self.keys.len() / 2);
        while !course.stops.load(Relaxed) {
            // Writes and reads in turn, the reads of what was written half a round ago; no key
            // twice in a turn.
            let turn: Vec<(usize, bool)> = (next..next + pipeline.min(half))
                .map(|number| {
                    let (writes, key) = (number % 2 == 0, number / 2 + number % 2 * half);
                    let key = key % self.keys.len();
                    (key, writes || self.keys[key].bytes == 0)
                })
                .collect();
            next += turn.len();
            let phase = course.phase.load(Relaxed);
            let took = self.turn(asked, &turn)?;
            self.turns.push(Turn { phase, commands: turn.len(), took });
            due += pause * turn.len() as u32;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        Ok(())
    }
}

/// Compares all keys with what they must be, through one node.
fn check(node: &str, done: &[Done]) -> Result<(), String> {
    let mut asked = Asked::plain(node).map_err(|error| error.to_string())?;
    for keys in done.iter().flat_map(|done| done.keys.chunks(CHECKED_AT_ONCE)) {
        let commands = keys.iter().map(|key| redis::Cmd::get(&key.name)).collect();
        let found = asked.ask(commands).map_err(|error| error.to_string())?;
        for (key, found) in keys.iter().zip(&found) {
            key.fault(false, found).map_or(Ok(()), Err)?;
        }
    }
    Ok(())
}

/// A phase in numbers: milliseconds of the turns of all clients, and their operations a second.
fn summary(done: &[Done], phase: usize, lasted: Duration) -> serde_json::Value {
    let turns = || done.iter().flat_map(|done| &done.turns).filter(|turn| turn.phase == phase);
    let mut times: Vec<f64> = turns().map(|turn| turn.took.as_secs_f64() * 1000.0).collect();
    times.sort_unstable_by(f64::total_cmp);
    let at = |part: f64| {
        let place = (times.len() as f64 * part) as usize;
        times.get(place.min(times.len().saturating_sub(1))).copied().unwrap_or(0.0)
    };
    let operations: usize = turns().map(|turn| turn.commands).sum();
    let rate = operations as f64 / lasted.as_secs_f64();
    serde_json::json!({
        "operations": operations, "rate": rate, "p50": at(0.5), "p99": at(0.99), "max": at(1.0),
    })
}

fn main() -> ExitCode {
    let options = Options::parse();
    let mut lines = std::io::stdin().lock().lines().map_while(Result::ok);
    let names: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    let clients = options.nodes.len() + options.cluster_nodes.len();
    if names.len() < 2 * clients || options.pipeline == 0 || options.values.is_empty() {
        eprintln!("checked_load: too few keys, no pipeline or no values");
        return ExitCode::from(2);
    }
    let size = |at: usize| options.values[at / clients % options.values.len()];
    let mut done: Vec<Done> = (0..clients).map(|_| Done::default()).collect();
    for (at, name) in names.into_iter().enumerate() {
        done[at % clients].keys.push(Key { name, bytes: size(at), serial: 0 });
    }
    let pause = match options.rate {
        0 => Duration::ZERO,
        rate => Duration::from_secs(1) * clients as u32 / rate,
    };
    let course = Course {
        phase: AtomicUsize::new(0),
        stops: AtomicBool::new(false),
        preloaded: AtomicUsize::new(0),
    };
    let mut phases = vec![("before".to_owned(), Instant::now())];
    std::thread::scope(|scope| {
        let plain = options.nodes.iter().map(|node| (node, false));
        let all = plain.chain(options.cluster_nodes.iter().map(|node| (node, true)));
        for ((node, is_cluster), done) in all.zip(&mut done) {
            let (course, pipeline) = (&course, if is_cluster { 1 } else { options.pipeline });
            scope.spawn(move || {
                let asked = if is_cluster { Asked::cluster(node) } else { Asked::plain(node) };
                let worked = asked
                    .map_err(|error| error.to_string())
                    .and_then(|mut asked| done.work(&mut asked, pipeline, pause, course));
                done.fault = worked.err().map(|what| (Instant::now(), format!("{node}: {what}")));
                if done.fault.is_some() {
                    course.preloaded.fetch_add(clients, Relaxed);
                }
            });
        }
        while course.preloaded.load(Relaxed) < clients {
            std::thread::sleep(Duration::from_millis(5));
        }
        phases[0].1 = Instant::now();
        println!("ready");
        for line in lines {
            phases.push((line, Instant::now()));
            course.phase.store(phases.len() - 1, Relaxed);
        }
        course.stops.store(true, Relaxed);
    });
    let end = Instant::now();
    let mut faults: Vec<String> = done.iter().filter_map(|done| done.told_fault(&phases)).collect();
    if faults.is_empty() {
        let checked = options
            .nodes
            .iter()
            .map(|node| check(node, &done).map_err(|fault| format!("at the end, {node}: {fault}")));
        faults.extend(checked.filter_map(Result::err));
    }
    let mut report = serde_json::Map::new();
    for (number, (name, begun)) in phases.iter().enumerate() {
        let ended = phases.get(number + 1).map_or(end, |next| next.1);
        report.insert(name.clone(), summary(&done, number, ended.duration_since(*begun)));
    }
    println!("{}", serde_json::json!({ "phases": report, "faults": faults }));
    ExitCode::from(u8::from(!faults.is_empty()))
}
